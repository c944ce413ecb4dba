"""Images to be scored: in bands of rows, and with what was worked out of them so far."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import numpy as np

from transforms.colour import with_channels

Region = Literal["whole", "inside", "outside"]

# Samples of a band: what is worked out of one stays in the processor's cache, and no scan is ever
# whole in float.
_SAMPLES = 1 << 16
# Of a band with overlap, so that not most of it is overlap however wide the image is.
_FEWEST_ROWS = 48

Result = TypeVar("Result")


class Scored:
    """What is scored. Metrics that need the same sums share them through `once`."""

    def __init__(self) -> None:
        self._known: dict[Callable[..., Any], Any] = {}

    def once(self, work: Callable[[Any], Result]) -> Result:
        """Give `work(self)`, worked out the first time only."""
        if work not in self._known:
            self._known[work] = work(self)
        return self._known[work]


class Picture(Scored):
    """One image to be scored.

    Args:
        pixels: uint8 or uint16 [H, W, 1 or 3], gamma-encoded sRGB or gray; white is the largest
            value of the type, whatever the largest value in the image is.

    Raises:
        ValueError: it is something else, or empty.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        super().__init__()
        sound = pixels.ndim == 3 and pixels.shape[-1] in (1, 3) and pixels.size
        if not sound or pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"cannot score {pixels.dtype} {pixels.shape}: an image must be uint8 or uint16 "
                "[H, W, 1 or 3]"
            )
        self.pixels = pixels

    def bands(self, overlap: int = 0) -> Iterator[np.ndarray]:
        """Give the image from top to bottom, each band with the last `overlap` rows before it."""
        for rows in _bands(self.pixels, overlap):
            yield self.pixels[rows]


class Pair(Scored):
    """An image to be scored against a reference.

    Args:
        image: a picture, or its pixels.
        reference: of the same height, width and type; if one has colour and the other has not,
            gray stands for three equal channels.
        mask: bool [H, W]: where pixels were missing.

    Raises:
        ValueError: the two cannot be compared.
    """

    def __init__(
        self,
        image: Picture | np.ndarray,
        reference: Picture | np.ndarray,
        mask: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.image = image if isinstance(image, Picture) else Picture(image)
        self.reference = reference if isinstance(reference, Picture) else Picture(reference)
        self.mask = mask
        one, two = self.image.pixels, self.reference.pixels
        if one.shape[:2] != two.shape[:2] or one.dtype != two.dtype:
            raise ValueError(
                f"cannot compare {one.dtype} {one.shape} with {two.dtype} {two.shape}: "
                "both must be of one height, width and type"
            )
        if mask is not None and (mask.shape != one.shape[:2] or mask.dtype != bool):
            raise ValueError(f"cannot use {mask.dtype} {mask.shape} as the mask of {one.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels that are compared."""
        height, width, channels = self.image.pixels.shape
        return height, width, max(channels, self.reference.pixels.shape[-1])

    def bands(self, overlap: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """Give both, with equal channels, and the mask, as `Picture.bands` does."""
        one, two = self.image.pixels, self.reference.pixels
        channels = self.shape[-1]
        for rows in _bands(one if one.shape[-1] == channels else two, overlap):
            mask = None if self.mask is None else self.mask[rows]
            yield with_channels(one[rows], channels), with_channels(two[rows], channels), mask


def regions(values: np.ndarray, mask: np.ndarray | None) -> Iterator[tuple[Region, np.ndarray]]:
    """Give the values [H, W, ...] inside and outside a mask, or, without one, all of them.

    What is summed over the first two and added up is the sum over all: see `with_whole`.
    """
    if mask is None:
        yield "whole", values
    else:
        yield "inside", values[mask]
        yield "outside", values[~mask]


def with_whole(sums: dict[Region, Result]) -> dict[Region, Result]:
    """Add the sums over the whole image to those inside and outside the mask."""
    if "inside" not in sums:
        return sums
    return {"whole": sums["inside"] + sums["outside"], **sums}  # type: ignore[operator]


def _bands(pixels: np.ndarray, overlap: int) -> Iterator[slice]:
    height, width, channels = pixels.shape
    # Filters, which need the overlap, go through the channels one by one.
    step = max(_SAMPLES // width, _FEWEST_ROWS) if overlap else _SAMPLES // (width * channels) or 1
    for top in range(0, max(height - overlap, 1), step):
        yield slice(top, min(top + step + overlap, height))
