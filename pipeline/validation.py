"""How good a network is while it trains: restored as `heliograph restore` would, and scored."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from models.contract import Contract
from pipeline.contact_sheet import Row, contact_sheet
from pipeline.examples import Example
from transforms import colour
from transforms.metrics import Pair, psnr_rgb, ssim
from transforms.restore import restore_images

_TOGETHER = 16  # images
_SHOWN = 8  # rows of the side-by-side picture


class Validation:
    """The images that a network is never trained on, and what it makes of them.

    Args:
        examples: damaged and as they were.
        serve: runs the network as its SavedModel will (see `models.export.served`).
        contract: of the network.
    """

    def __init__(
        self, examples: Sequence[Example], serve: Callable[..., np.ndarray], contract: Contract
    ) -> None:
        self._examples, self._serve, self._contract = examples, serve, contract

    def scores(self) -> dict[str, float]:
        """Give means over all images: `psnr` and `psnr_degraded` in dB, and `ssim`.

        Raises:
            ValueError: the network gives NaN.
        """
        found: dict[str, list[float | None]] = {"psnr": [], "psnr_degraded": [], "ssim": []}
        for start in range(0, len(self._examples), _TOGETHER):
            for group in _of_one_shape(self._examples[start : start + _TOGETHER]):
                for example, restored in zip(group, self._restored(group), strict=True):
                    reference, image = example.reference, _like(example.image, example.reference)
                    restored = _like(restored, reference)
                    pair = Pair(restored, reference)
                    found["psnr"].append(psnr_rgb(pair))
                    found["psnr_degraded"].append(psnr_rgb(Pair(image, reference)))
                    found["ssim"].append(ssim(pair))
        return {name: _mean(values) for name, values in found.items()}

    def sheet(self, title: str) -> bytes:
        """Draw input, output and original of the first images side by side, as a JPEG file."""
        rows = []
        for example in self._examples[:_SHOWN]:
            (restored,) = self._restored([example])
            before = psnr_rgb(Pair(_like(example.image, example.reference), example.reference))
            after = psnr_rgb(Pair(_like(restored, example.reference), example.reference))
            rows.append(
                Row(
                    example.key,
                    (
                        (example.image, f"input: {_decibels(before)}"),
                        (restored, f"output: {_decibels(after)}"),
                        (example.reference, "original"),
                    ),
                )
            )
        return contact_sheet(rows, title, side=256)

    def _restored(self, examples: Sequence[Example]) -> list[np.ndarray]:
        masks = None
        if self._contract.mask_input is not None:
            masks = [example.mask > 0 for example in examples]
        images = [example.image for example in examples]
        return restore_images(images, self._serve, self._contract, masks=masks)


def _of_one_shape(examples: Sequence[Example]) -> Iterator[list[Example]]:
    groups: dict[tuple, list[Example]] = {}
    for example in examples:
        groups.setdefault((example.image.shape, example.image.dtype), []).append(example)
    yield from groups.values()


def _like(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Give a gray image as many channels as its reference has, or the other way round."""
    if image.shape == reference.shape:
        return image
    unit = colour.with_channels(colour.to_unit(image), reference.shape[-1])
    return colour.from_unit(unit, reference.dtype)


def _mean(scores: list[float | None]) -> float:
    """Give the mean of those that are defined; infinity where all images are equal."""
    defined = [score for score in scores if score is not None]
    return float(np.mean(defined)) if defined else math.inf


def _decibels(score: float | None) -> str:
    return "equal" if score is None else f"{score:.2f} dB"
