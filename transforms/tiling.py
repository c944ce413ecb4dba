"""Cut an image into overlapping windows, and blend what comes back without a seam."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from transforms import scratch

BLEND = 16

# Pixels handed back at a time, so that what is made of them is small beside the image.
_PART = 1 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """One window along one side.

    Attributes:
        start, stop: what the model sees, in pixels of the padded image.
        first, last: what of it is used, in pixels of the padded image.
        weights: float32 [last - first], how much of this window is in the result.
    """

    start: int
    stop: int
    first: int
    last: int
    weights: np.ndarray


def padded(length: int, multiple: int, least: int = 1) -> int:
    """Give the next length from `length` and `least` up that is a multiple."""
    return -(-max(length, least) // multiple) * multiple


def spans(
    length: int, window: int, *, margin: int, multiple: int, exact: bool = False
) -> list[Span]:
    """Cover one side of an image with windows whose weights sum to 1 everywhere.

    Windows start at multiples, so that a strided network sees the grid it sees in the whole image,
    and none is used closer than `margin` to an edge that is not the image's own. Neighbours give
    way to each other over `BLEND` pixels in the middle of what they share.

    Args:
        length: of the padded side, a multiple.
        window: the largest side of the model's input, a multiple.
        margin: receptive margin of the model.
        multiple: of the model's input size.
        exact: whether every window must be of that size; otherwise they are cut evenly.

    Raises:
        ValueError: the window leaves nothing between its margins.
    """
    if length <= window:
        return [Span(0, length, 0, length, np.ones(length, np.float32))]
    shared = 2 * margin + BLEND
    step = (window - shared) // multiple * multiple
    if step < 2 * (BLEND + multiple):  # or the seams of three neighbours would meet
        least = padded(shared + padded(2 * (BLEND + multiple), multiple), multiple)
        raise ValueError(
            f"windows of {window} pixels leave no room between margins of {margin} pixels; "
            f"they must be {least} or more"
        )
    count = 1 - (window - length) // step
    if not exact:
        even = -(-(length + (count - 1) * shared) // count)
        window = min(window, padded(even + multiple, multiple))
    starts = [
        index * (length - window) // (count - 1) // multiple * multiple for index in range(count)
    ]
    seams = [(second + first + window) // 2 for first, second in pairwise(starts)]
    half = BLEND // 2
    result = []
    for index, start in enumerate(starts):
        first = seams[index - 1] - half if index else 0
        last = seams[index] + half if index < len(seams) else length
        weights = np.ones(last - first, np.float32)
        if index:
            weights[:BLEND] = _RISE
        if index < len(seams):
            weights[-BLEND:] = 1 - _RISE
        result.append(Span(start, start + window, first, last, weights))
    return result


_RISE = ((np.arange(BLEND) + 0.5) / BLEND).astype(np.float32)


def cut(pixels: np.ndarray, rows: Span, columns: Span) -> np.ndarray:
    """Give one window of an image [H, W, C], or of each of [N, H, W, C], mirrored at its bottom and
    right where it is padded.
    """
    return _cut(_cut(pixels, rows, -3), columns, -2)


def _cut(pixels: np.ndarray, span: Span, axis: int) -> np.ndarray:
    length = pixels.shape[axis]
    lines = slice(span.start, span.stop)
    inside = pixels[..., lines, :, :] if axis == -3 else pixels[..., lines, :]
    if span.stop <= length:
        return inside
    # Mirroring takes its pixels from the image, of which the window may hold too little.
    beyond = _mirrored(np.arange(max(span.start, length), span.stop), length)
    return np.concatenate([inside, pixels.take(beyond, axis)], axis)


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
    index = index % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


class Canvas:
    """Gather windows row by row, blended, in the memory of one row of windows.

    Args:
        height, width: of the image; what lies beyond is padding and dropped.
        channels: of the windows.
        columns: the spans of every row.
    """

    def __init__(self, height: int, width: int, channels: int, columns: list[Span]) -> None:
        self._height, self._width, self._channels = height, width, channels
        self._columns = columns
        self._carried: np.ndarray | None = None

    def row(self, rows: Span, windows: Iterator[np.ndarray]) -> Iterator[tuple[slice, np.ndarray]]:
        """Take the windows of one row; give the finished lines of the image and where they go.

        Args:
            rows: the row's span; rows come from top to bottom.
            windows: float32 [window, window, channels], one for each column span.
        """
        width = self._columns[-1].last
        strip = scratch.empty((rows.last - rows.first, width, self._channels), np.float32)
        strip.fill(0)
        top = rows.first - rows.start
        for column, window in zip(self._columns, windows, strict=True):
            left = column.first - column.start
            used = window[
                top : top + rows.last - rows.first, left : left + column.last - column.first
            ]
            strip[:, column.first : column.last] += used * column.weights[:, None]
        if self._carried is not None or rows.weights[-1] != 1:
            strip *= rows.weights[:, None, None]
        if self._carried is not None:
            strip[: len(self._carried)] += self._carried
        done = len(strip) - (BLEND if rows.weights[-1] != 1 else 0)
        self._carried = strip[done:].copy() if done < len(strip) else None
        last = min(rows.first + done, self._height)
        lines = max(1, _PART // self._width)
        for first in range(rows.first, last, lines):
            part = slice(first, min(first + lines, last))
            start, stop = part.start - rows.first, part.stop - rows.first
            yield part, strip[start:stop, : self._width]
