"""Train the shipped `denoise` model: blind Gaussian denoising of colour photographs.

    python scripts/train_denoise.py PHOTOS models/zoo/denoise

PHOTOS is any folder of photographs (searched recursively). Progress goes to standard error; the
weights are kept beside the target as WORK/denoise.weights.h5 while training runs.
"""

import argparse
import hashlib
import io
import json
import queue
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.networks.unet import unet, unet_margin

WIDTHS, BLOCKS = (64, 64, 64), (2, 1, 1)
SUFFIXES = {".jpg", ".jpeg", ".png"}


def load_photographs(folder: Path) -> tuple[list[tuple[str, np.ndarray]], str]:
    """Read every photograph under `folder` as uint8 RGB, and a digest of all their bytes."""
    digest, photographs = hashlib.sha256(), []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        data = path.read_bytes()
        digest.update(hashlib.sha256(data).digest())
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        photographs.append((path.relative_to(folder).as_posix(), pixels))
    return photographs, digest.hexdigest()


def held_out(key: str, share: float = 0.02) -> bool:
    """Say whether a photograph is for validation: decided by its key alone."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32 < share


def add_noise(rng: np.random.Generator, clean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Add Gaussian noise of `sigma` (0-255 scale) to [0, 1] images; half are stored as 8 bits.

    Scans hold clipped, rounded noise; the published tables (BM3D, DnCNN, FFDNet) do not.
    """
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    noisy = clean + noise * (sigma[:, None, None, None] / 255).astype(np.float32)
    stored = rng.random(len(clean)) < 0.5
    noisy[stored] = np.round(np.clip(noisy[stored], 0, 1) * 255) / 255
    return noisy


def batches(photographs, *, seed: int, count: int, size: int, max_sigma: float):
    """Yield (noisy, clean - noisy) float32 batches of random crops, flipped and turned."""
    rng = np.random.default_rng(seed)
    while True:
        clean = np.empty((count, size, size, 3), np.float32)
        for patch in clean:
            pixels = photographs[rng.integers(len(photographs))][1]
            top, left = (rng.integers(side - size + 1) for side in pixels.shape[:2])
            crop = np.rot90(pixels[top : top + size, left : left + size], rng.integers(4))
            patch[:] = (crop[:, ::-1] if rng.integers(2) else crop) / np.float32(255)
        noisy = add_noise(rng, clean, rng.uniform(0, max_sigma, count))
        yield noisy, clean - noisy


def prefetched(iterator, depth: int = 8):
    """Run `iterator` in a thread, so that batches are made while the network computes."""
    ready: queue.Queue = queue.Queue(depth)

    def fill():
        for item in iterator:
            ready.put(item)

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()


def mean_psnr(model, photographs, sigma: float, seed: int = 0, *, clip: bool = False) -> float:
    """Mean PSNR in dB over whole photographs (cut to multiples of 8), output rounded to 8 bits.

    The noise is left unclipped, as in the published tables, unless `clip` stores it as 8 bits.
    """
    scores = []
    for key, pixels in photographs:
        pixels = pixels[: pixels.shape[0] // 8 * 8, : pixels.shape[1] // 8 * 8]
        clean = pixels.astype(np.float32) / 255
        rng = np.random.default_rng([seed, int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)])
        noisy = clean + rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(sigma / 255)
        if clip:
            noisy = np.round(np.clip(noisy, 0, 1) * 255) / 255
        residual = np.asarray(model(noisy[None], training=False))[0]
        restored = np.round(np.clip(noisy + residual, 0, 1) * 255)
        scores.append(10 * np.log10(255**2 / np.mean((restored - pixels) ** 2)))
    return float(np.mean(scores))


def train(args, photographs) -> keras.Model:
    """Train the U-Net with an L1 loss, Adam, a cosine rate and averaged weights."""
    keras.utils.set_random_seed(args.seed)
    training = [p for p in photographs if not held_out(p[0]) and min(p[1].shape[:2]) >= args.patch]
    validation = [p for p in photographs if held_out(p[0])]
    print(f"{len(training)} photographs to train on, {len(validation)} held out", file=sys.stderr)
    model = unet(widths=WIDTHS, blocks=BLOCKS)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, args.steps, warmup_target=args.rate, warmup_steps=500, alpha=1e-3
    )
    optimizer = keras.optimizers.Adam(
        schedule, global_clipnorm=1.0, use_ema=True, ema_momentum=0.999
    )
    model.compile(optimizer, loss="mae")
    data = prefetched(
        batches(training, seed=args.seed, count=args.batch, size=args.patch, max_sigma=args.sigma)
    )
    started, losses = time.monotonic(), []
    for step, (noisy, residual) in zip(range(1, args.steps + 1), data, strict=False):
        losses.append(float(model.train_on_batch(noisy, residual)))
        if step % args.every == 0 or step == args.steps:
            if step == args.steps:
                optimizer.finalize_variable_values(model.trainable_variables)
            score = mean_psnr(model, validation, 25)
            print(
                f"step {step}/{args.steps}  {time.monotonic() - started:.0f} s  "
                f"loss {np.mean(losses):.5f}  validation PSNR at sigma 25: {score:.2f} dB",
                file=sys.stderr,
                flush=True,
            )
            losses.clear()
            model.save_weights(args.work / "denoise.weights.h5")
    return model


def main() -> None:
    """Train, export, and print what a model card needs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("savedmodel", type=Path, help="folder to export to")
    parser.add_argument("--work", type=Path, default=Path(), help="where weights are kept")
    parser.add_argument("--steps", type=int, default=24_000)
    parser.add_argument("--batch", type=int, default=32, help="patches a step")
    parser.add_argument("--patch", type=int, default=64, help="pixels a side")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--sigma", type=float, default=55.0, help="largest noise, 0-255 scale")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--every", type=int, default=1000, help="steps between validations")
    args = parser.parse_args()
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    photographs, digest = load_photographs(args.photos)
    if not photographs:
        parser.error(f"no photographs under {args.photos}")
    started = time.monotonic()
    model = train(args, photographs)
    minutes = (time.monotonic() - started) / 60

    from models.contract import Contract
    from models.export import export  # TensorFlow is needed only from here on

    contract = Contract(
        name="denoise", output="residual", multiple=2 ** len(BLOCKS), margin=unet_margin(BLOCKS)
    )
    export(model, args.savedmodel, contract)
    facts = {
        "parameters": model.count_params(),
        "photographs": len(photographs),
        "data_sha256": digest,
        "minutes": round(minutes, 1),
        **{k: v for k, v in vars(args).items() if not isinstance(v, Path)},
    }
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
