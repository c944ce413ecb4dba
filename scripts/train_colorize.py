"""Train the shipped `colorize` model: chroma for photographs without colour.

    python scripts/train_colorize.py PHOTOS models/zoo/colorize

PHOTOS is any folder of photographs (searched recursively). Progress goes to standard error; the
averaged weights are kept as WORK/colorize.weights.h5 whenever they are scored. The schedule goes by
the clock: it is the time that is given, and steps are what it holds.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import keras
import numpy as np
from skimage.color import deltaE_ciede2000, lab2rgb

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.losses import huber
from models.networks.colorizers import CHROMA_UNIT, cnn_colorizer, finished
from scripts.score_colorize import colourfulness
from scripts.train_denoise import held_out, load_photographs, prefetched

SIDE = 128
MULTIPLE = 32


def to_lab(pixels: np.ndarray) -> np.ndarray:
    """Give uint8 [H, W, 3]: L* from 0-100 to 0-255, a* and b* plus 128."""
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return np.rint(lab * (2.55, 1, 1) + (0, 128, 128)).clip(0, 255).astype(np.uint8)


def batches(images, *, seed: int, count: int):
    """Yield (lightness [N, 128, 128, 1], chroma [N, 64, 64, 2]) of random crops of photographs."""
    rng = np.random.default_rng(seed)
    while True:
        lightness = np.empty((count, SIDE, SIDE, 1), np.float32)
        chroma = np.empty((count, SIDE // 2, SIDE // 2, 2), np.float32)
        for index in range(count):
            lab = crop(rng, images[rng.integers(len(images))])
            light = cv2.resize(lab[..., 0], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            light = light.astype(np.float32) / 255
            if rng.random() < 0.3:  # other exposures and papers
                light = light ** np.float32(np.exp(rng.uniform(-0.35, 0.35)))
                low, high = rng.uniform(0, 0.12), rng.uniform(0.88, 1)
                light = low + light * np.float32(high - low)
            if rng.random() < 0.2:  # grain
                light += rng.normal(0, rng.uniform(0, 0.03), light.shape).astype(np.float32)
            lightness[index, ..., 0] = 2 * light - 1
            half = (SIDE // 2, SIDE // 2)
            chroma[index] = cv2.resize(lab[..., 1:], half, interpolation=cv2.INTER_AREA)
        yield lightness, (chroma - 128) / np.float32(CHROMA_UNIT)


def crop(rng: np.random.Generator, lab: np.ndarray) -> np.ndarray:
    """Cut a random window, of a quarter of the largest square up, a little squeezed; mirror it."""
    height, width = lab.shape[:2]
    side = min(height, width) * np.sqrt(rng.uniform(0.25, 1.0))
    squeeze = np.exp(rng.uniform(-0.3, 0.3))
    rows, columns = (
        int(min(n, max(32, side * s))) for n, s in ((height, squeeze), (width, 1 / squeeze))
    )
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    window = lab[top : top + rows, left : left + columns]
    return window[:, ::-1].copy() if rng.random() < 0.5 else window


def validation_set(images):
    """Give (lightness, lab) of whole photographs, shortest side 128 and both multiples of 32."""
    result = []
    for lab in images:
        scale = SIDE / min(lab.shape[:2])
        rows, columns = (max(1, round(n * scale / MULTIPLE)) * MULTIPLE for n in lab.shape[:2])
        small = cv2.resize(lab, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
        small = (small - (0, 128, 128)) / (2.55, 1, 1)
        result.append(small.astype(np.float32))
    return result


def predictions(model, references) -> list[np.ndarray]:
    """Give the chroma of validation photographs, averaged with that of their mirror images."""
    found = []
    for lab in references:
        light = lab[..., :1] / 50 - 1
        both = np.asarray(model(np.stack([light, light[:, ::-1]]), training=False)) * CHROMA_UNIT
        chroma = (both[0] + both[1][:, ::-1]) / 2
        found.append(cv2.resize(chroma, lab.shape[1::-1], interpolation=cv2.INTER_LINEAR))
    return found


def scores(references, chromas, curve) -> tuple[float, float]:
    """Give mean CIEDE2000 and colourfulness of what a curve makes of predictions."""
    totals = np.zeros(2)
    for lab, chroma in zip(references, chromas, strict=True):
        strength = np.hypot(chroma[..., :1], chroma[..., 1:])
        image = np.concatenate([lab[..., :1], chroma * curve(strength)], axis=-1)
        rgb = np.clip(lab2rgb(image), 0, 1) * 255
        totals += deltaE_ciede2000(lab, image).mean(), colourfulness(rgb)
    return tuple(totals / len(references))


def curve_of(knee: float, power: float, least: float, most: float):
    """Give the factor of `models.networks.colorizers.finished`."""
    return lambda strength: np.clip((strength / knee) ** power, least, most)


CURVES = tuple(
    {"knee": knee, "power": power, "least": 0.0, "most": most}
    for knee in (8.0, 9.0, 10.0, 11.0, 12.0)
    for power in (1.0, 1.5, 2.0)
    for most in (1.5, 1.8)
)


def best_curve(model, references, colour: float, truth: float) -> dict[str, float]:
    """Choose the curve of least CIEDE2000 that is colourful enough, on the held-out photographs.

    Args:
        model: trained.
        references: held-out photographs; a quarter of their pixels is looked at.
        colour: share of the photographs' own colourfulness to reach.
        truth: their own colourfulness.
    """
    chromas = [chroma[::2, ::2] for chroma in predictions(model, references)]
    references = [lab[::2, ::2] for lab in references]
    found = []
    for curve in CURVES:
        error, reached = scores(references, chromas, curve_of(**curve))
        if reached >= colour * truth:
            found.append((error, curve))
    return min(found, key=lambda pair: pair[0])[1]


def colour_of(references) -> float:
    """Give the mean colourfulness of photographs as they are."""
    return float(np.mean([colourfulness(np.clip(lab2rgb(lab), 0, 1) * 255) for lab in references]))


def train(args, training, references) -> keras.Model:
    """Train with AdamW at a rate that holds, then falls in the last quarter; averaged weights."""
    keras.utils.set_random_seed(args.seed)
    truth = colour_of(references)
    say(f"{len(training)} photographs to train on, {len(references)} held out, colour {truth:.1f}")
    model = cnn_colorizer(full_size=False, dropout=args.dropout)
    if args.weights:
        model.load_weights(args.weights)
    say(f"{model.count_params():,} parameters")
    optimizer = keras.optimizers.AdamW(args.rate, weight_decay=args.decay, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, loss=huber)
    data = prefetched(batches(training, seed=args.seed, count=args.batch))
    # Averaged here, every tenth step: inside of the optimizer it takes as long as the network.
    average = model.get_weights()
    started, losses, step, due = time.monotonic(), [], 0, 0.0
    done = False
    while not done:
        elapsed = (time.monotonic() - started) / 60 / args.minutes
        done = elapsed >= 1
        step += 1
        warm = min(1.0, step / 300)
        optimizer.learning_rate = args.rate * warm * min(1.0, max(0.0, 1 - elapsed) / 0.25 + 0.01)
        model.reset_metrics()
        losses.append(float(model.train_on_batch(*next(data))))
        if step % 10 == 0:
            hold = min(args.hold, step / (step + 100))
            for held, now in zip(average, model.get_weights(), strict=True):
                held *= hold
                held += (1 - hold) * now
        if elapsed * args.minutes >= due + args.every or done:
            due = elapsed * args.minutes
            raw = model.get_weights()
            model.set_weights(average)
            model.save_weights(args.work / "colorize.weights.h5")
            error, colour = scores(references, predictions(model, references), np.ones_like)
            gray, _ = scores(references, [0 * lab[..., 1:] for lab in references], np.ones_like)
            say(
                f"step {step}  {due:.1f} min  loss {np.mean(losses):.3f}  "
                f"CIEDE2000 {error:.2f}, gray {gray:.2f} ({error / gray - 1:+.1%})  "
                f"colourfulness {colour / truth:.0%}"
            )
            losses.clear()
            if not done:
                model.set_weights(raw)
    return model


def say(text: str) -> None:
    """Print to standard error at once."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Train, export, and print what a model card needs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("savedmodel", type=Path, help="folder to export to")
    parser.add_argument("--work", type=Path, default=Path(), help="where weights are kept")
    parser.add_argument("--minutes", type=float, default=60, help="time to train; 0 only exports")
    parser.add_argument("--weights", type=Path, help="weights to start from")
    parser.add_argument("--colour", type=float, default=0.42, help="colourfulness to reach")
    parser.add_argument("--batch", type=int, default=64, help="crops a step")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--decay", type=float, default=0.05, help="of the weights")
    parser.add_argument("--dropout", type=float, default=0.1, help="of the coarser scales")
    parser.add_argument("--hold", type=float, default=0.99, help="of averages, every tenth step")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--every", type=float, default=5, help="minutes between validations")
    args = parser.parse_args()
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    photographs, digest = load_photographs(args.photos)
    if not photographs:
        parser.error(f"no photographs under {args.photos}")
    training = [to_lab(p) for key, p in photographs if not held_out(key, 0.04)]
    references = validation_set([to_lab(p) for key, p in photographs if held_out(key, 0.04)])
    if args.minutes:
        model = train(args, training, references)
    else:
        model = cnn_colorizer(full_size=False)
        model.load_weights(args.weights)
    curve = best_curve(model, references, args.colour, colour_of(references))
    whole = cnn_colorizer()
    whole.set_weights(model.get_weights())

    from models.contract import Contract
    from models.export import export  # TensorFlow is needed only from here on

    contract = Contract(
        name="colorize",
        input_space="L",
        output_space="ab",
        input_range=(-1, 1),
        output_range=(-128 / CHROMA_UNIT, 128 / CHROMA_UNIT),
        multiple=MULTIPLE,
        shortest_side=SIDE,
    )
    export(finished(whole, **curve), args.savedmodel, contract)
    facts = {
        "curve": curve,
        "parameters": model.count_params(),
        "photographs": len(photographs),
        "data_sha256": digest,
        **{k: v for k, v in vars(args).items() if not isinstance(v, Path)},
    }
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
