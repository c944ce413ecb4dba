"""Score a colorizer on colour photographs, beside leaving them gray.

    python scripts/score_colorize.py PHOTOS [--model colorize] [--sheet SHEET.jpg]

Every photograph is made gray (its CIE L* is kept), colorized as `heliograph restore` does, and
shown at 160 pixels on its shorter side, where it is compared with the photograph shown at the same
size: CIEDE2000 by scikit-image, and the colourfulness M of Hasler and Suesstrunk 2003 ("Measuring
colourfulness in natural images", SPIE 5007).
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.color import deltaE_ciede2000, lab2rgb, rgb2lab

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.saved_model import load
from pipeline.contact_sheet import Row, contact_sheet
from transforms.restore import restore_images

SHOWN = 160
ACROSS = 3  # photographs in a row of the sheet


def colourfulness(pixels: np.ndarray) -> float:
    """Give M of Hasler and Suesstrunk 2003 for sRGB 0-255 [H, W, 3]."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    first, second = red - green, (red + green) / 2 - blue
    return float(np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean()))


def without_colour(pixels: np.ndarray) -> np.ndarray:
    """Give the uint8 gray [H, W, 1] of the same CIE L*."""
    lab = rgb2lab(pixels)
    lab[..., 1:] = 0
    return np.rint(lab2rgb(lab)[..., :1] * 255).astype(np.uint8)


def shown(pixels: np.ndarray) -> np.ndarray:
    """Shrink to 160 pixels on the shorter side."""
    height, width = pixels.shape[:2]
    scale = SHOWN / min(height, width)
    size = round(width * scale), round(height * scale)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)


def main() -> None:
    """Print the means, and write a contact sheet if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of colour photographs")
    parser.add_argument("--model", default="colorize")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--sheet", type=Path, help="JPEG to write: gray, colorized, original")
    args = parser.parse_args()
    model = load(args.model, precision=args.precision)
    scores, pictures, drift = [], [], []
    for path in sorted(p for p in args.photos.rglob("*") if p.suffix.lower() in (".png", ".jpg")):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        gray = without_colour(pixels)
        (colorized,) = restore_images([gray], model, model.contract)
        kept = rgb2lab(np.repeat(gray, 3, axis=-1))[..., 0]
        drift.append(np.abs(rgb2lab(colorized)[..., 0] - kept).mean())
        views = [shown(view) for view in (np.repeat(gray, 3, axis=-1), colorized, pixels)]
        original = rgb2lab(views[2])
        errors = [deltaE_ciede2000(original, rgb2lab(view)).mean() for view in views[:2]]
        scores.append([*errors, *map(colourfulness, views[1:])])
        pictures += zip(views, ("gray", "colorized", "original"), strict=True)
    before, after, found, wanted = np.mean(scores, axis=0)
    print(f"{len(scores)} photographs, shown at {SHOWN} pixels")
    print(
        f"mean CIEDE2000: gray {before:.2f}, {args.model} {after:.2f} ({after / before - 1:+.1%})"
    )
    print(f"mean colourfulness: {found:.1f} of {wanted:.1f} ({found / wanted:.0%})")
    print(f"mean change of L*: {np.mean(drift):.3f}")
    if args.sheet:
        across = 3 * ACROSS
        rows = [
            Row("", tuple(pictures[start : start + across]))
            for start in range(0, len(pictures), across)
        ]
        args.sheet.write_bytes(contact_sheet(rows, f"{args.model}: gray, colorized, original", 160))


if __name__ == "__main__":
    main()
