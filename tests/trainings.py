"""Trainings in the test's own process, and small archives of real images for them."""

import argparse
from pathlib import Path

import skimage.data
from PIL import Image

from pipeline import cli

QUICK = ("--network", "dense-autoencoder", "--batch", 16, "--every", 20, "--rate", 1e-3)

_SIDE = 96


def save_album(folder: Path) -> None:
    """Save parts of the photographs that ship with scikit-image."""
    for name in ("astronaut", "chelsea", "coffee", "rocket", "retina"):
        pixels = getattr(skimage.data, name)()
        for place, top in enumerate(range(0, pixels.shape[0] - _SIDE, 100)):
            left = (37 * place) % (pixels.shape[1] - _SIDE)
            part = pixels[top : top + _SIDE, left : left + _SIDE]
            Image.fromarray(part).save(folder / f"{name}{place}.png")


def save_digits(folder: Path) -> None:
    """Save 60 small gray images of one size: details of a page of text."""
    page = skimage.data.page()[20:, 20:]
    for top in range(0, 140, 28):
        for left in range(0, 336, 28):
            part = Image.fromarray(page[top : top + 28, left : left + 28])
            part.save(folder / f"{top}-{left}.png")


def arguments(archive: Path, target: Path, *more: object) -> argparse.Namespace:
    parser, _ = cli._parser()
    said = ["train", str(archive), str(target), "--precision", "float32", "--validation_share"]
    said += ["0.2", "--workers", "0", *map(str, more)]
    return parser.parse_args(said, argparse.Namespace(said=said))


def train(archive: Path, target: Path, *more: object):
    """Train, and give the `pipeline.training.Trainer` that did it."""
    from pipeline.training import Trainer

    trainer = Trainer(arguments(archive, target, *more))
    trainer.run()
    return trainer
