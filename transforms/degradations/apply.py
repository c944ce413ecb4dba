"""How a function on float arrays becomes one on pixels, without a float copy of a whole scan."""

from collections.abc import Callable, Sequence

import numpy as np

from transforms import scratch
from transforms.colour import from_unit, to_unit

_SAMPLES = 1 << 20  # of float32 in flight


def by_rows(pixels: np.ndarray, function: Callable[[np.ndarray, slice], np.ndarray]) -> np.ndarray:
    """Run a function on a few rows at a time, from the top down.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        function: takes float32 [h, W, C], 0 black to 1 white, which it may write to, and the
            slice of rows they are; gives float [h, W, C'], clipped to [0, 1] and rounded here.
            Random draws of the shape of its rows are the same as if drawn for the whole image.

    Returns:
        The type of `pixels`, [H, W, C'].
    """
    result: np.ndarray | None = None
    for rows in _strips(pixels):
        part = from_unit(function(to_unit(pixels[rows]), rows), pixels.dtype)
        if len(part) == len(pixels):
            return part
        if result is None:
            result = scratch.empty((len(pixels), *part.shape[1:]), part.dtype)
        result[rows] = part
    assert result is not None, "an image has rows"
    return result


def by_level(pixels: np.ndarray, tables: Sequence[np.ndarray]) -> np.ndarray:
    """Look every level up.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        tables: what becomes of each level, in the type of `pixels`; one for each channel.

    Returns:
        The type and shape of `pixels`.
    """
    result = scratch.empty_like(pixels)
    for rows in _strips(pixels):
        for channel, table in enumerate(tables):
            result[rows, :, channel] = table[pixels[rows, :, channel]]
    return result


def _strips(pixels: np.ndarray) -> list[slice]:
    height, width, channels = pixels.shape
    step = max(1, _SAMPLES // (width * channels))
    return [slice(top, min(top + step, height)) for top in range(0, height, step)]


def by_channel(pixels: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Run a function on one channel at a time, for what looks at a pixel's neighbours.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        function: takes float32 [H, W], 0 black to 1 white, which it may write to, and gives the
            same; clipped to [0, 1] and rounded here.

    Returns:
        The type and shape of `pixels`.
    """
    result = scratch.empty_like(pixels)
    unit = scratch.empty(pixels.shape[:2], np.float32)
    strips = _strips(pixels)
    for channel in range(pixels.shape[-1]):
        for rows in strips:
            unit[rows] = to_unit(pixels[rows, :, channel])
        done = function(unit)
        for rows in strips:
            result[rows, :, channel] = from_unit(done[rows], pixels.dtype)
    return result
