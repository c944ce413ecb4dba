"""Score a denoiser as the published tables do: colour Gaussian noise that is not clipped.

    python scripts/score_denoise.py PHOTOS [--model denoise] [--precision float32]

The noise is added to the [0, 1] image in float and left there, the output is rounded to 8 bits, and
the PSNR of all channels together is averaged over the images (as for CBSD68 in Zhang et al. 2018,
arXiv:1710.04026). `heliograph evaluate` scores what an archive holds: noise in 8 bits.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.saved_model import load
from transforms.metrics import Pair, psnr_rgb
from transforms.recipe import generator


def main() -> None:
    """Print mean PSNR in dB at sigma 15, 25 and 50."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of clean photographs")
    parser.add_argument("--model", default="denoise")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    args = parser.parse_args()
    paths = sorted(p for p in args.photos.rglob("*") if p.suffix.lower() in (".png", ".jpg"))
    model = load(args.model, precision=args.precision)
    multiple = model.contract.multiple
    for sigma in (15, 25, 50):
        scores = []
        for path in paths:
            with Image.open(path) as image:
                clean = np.asarray(image.convert("RGB"))
            rng = generator(0, path.name, 0, "gaussian_noise")
            noise = rng.standard_normal(clean.shape, dtype=np.float32) * np.float32(sigma / 255)
            noisy = clean / np.float32(255) + noise
            height, width = clean.shape[:2]
            padding = [(0, -height % multiple), (0, -width % multiple), (0, 0)]
            residual = model(np.pad(noisy, padding, "symmetric")[None])[0, :height, :width]
            restored = np.rint(np.clip(noisy + residual, 0, 1) * 255).astype(np.uint8)
            scores.append(psnr_rgb(Pair(restored, clean)))
        print(f"sigma {sigma}: {np.mean(scores):.2f} dB over {len(scores)} images")


if __name__ == "__main__":
    main()
