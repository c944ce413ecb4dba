"""Missing pixels.

The mask stays on the record, for models that take one and for metrics, and is written beside it.
"""

import math
from collections.abc import Callable, Iterator
from itertools import islice

import cv2
import numpy as np

from transforms.colour import white
from transforms.degradations.parameters import Choice, Number
from transforms.degradations.registry import Damaged, degradation

_BLOCK = 16  # pixels: a macroblock of MPEG, and what JPEG codes as one where its chroma is halved
_BRUSHED = 1000  # segments of strokes, after which what is left wears away from their edges


def _single(shape: tuple[int, int], rng: np.random.Generator, amount: float) -> np.ndarray:
    return rng.random(shape, dtype=np.float32) < amount


def _rectangles(shape: tuple[int, int], rng: np.random.Generator, amount: float) -> np.ndarray:
    missing = np.zeros(shape, bool)
    covered = 0
    while covered / missing.size < amount:
        spans = []
        for side in shape:
            length = int(rng.integers(max(1, side // 8), max(1, side // 4) + 1))
            start = int(rng.integers(1 - length, side))
            spans.append(slice(max(0, start), start + length))
        rectangle = missing[tuple(spans)]
        covered += rectangle.size - int(np.count_nonzero(rectangle))
        rectangle[...] = True
    return missing


def _strokes(shape: tuple[int, int], rng: np.random.Generator, amount: float) -> np.ndarray:
    missing = np.zeros(shape, np.uint8)
    covered = 0
    for start, end, width in islice(_segments(shape, rng), _BRUSHED):
        if covered / missing.size >= amount:
            return missing.view(bool)
        covered += _brush(missing, start, end, width)
    return _worn(missing, amount)


def _segments(
    shape: tuple[int, int], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Give start and end, as pixels (x, y), and width of segments, stroke after stroke."""
    last = np.array(shape[::-1]) - 1
    reach = math.hypot(*shape) / 8
    while True:
        width = max(1, round(rng.uniform(12, 40) / 256 * min(shape)))
        at = rng.uniform(0, 1, 2) * last
        heading = rng.uniform(0, 2 * math.pi)
        for vertex in range(rng.integers(4, 13)):
            turn = rng.uniform(4 / 15, 8 / 15) * math.pi  # 2 pi / 5, give or take 2 pi / 15
            length = np.clip(rng.normal(reach, reach / 2), 0, 2 * reach)
            angle = heading + (turn if vertex % 2 else -turn)
            step = length * np.array([math.cos(angle), math.sin(angle)])
            beyond = np.clip(at + step, 0, last)
            yield np.rint(at).astype(int), np.rint(beyond).astype(int), width
            at = beyond


def _brush(missing: np.ndarray, start: np.ndarray, end: np.ndarray, width: int) -> int:
    """Draw a line with round ends, and count the pixels that it was the first to touch."""
    # Only what the line may touch is looked at: an archive's scan is large, and lines are many.
    left, top = np.maximum(np.minimum(start, end) - width, 0)
    right, bottom = np.maximum(start, end) + width + 1
    region = missing[top:bottom, left:right]
    before = cv2.countNonZero(region)
    corner = np.array([left, top])
    cv2.line(region, (start - corner).tolist(), (end - corner).tolist(), 1, width)
    return cv2.countNonZero(region) - before


def _worn(missing: np.ndarray, amount: float) -> np.ndarray:
    """Let what is missing grow from its edges until it is the amount."""
    short = math.ceil(amount * missing.size) - cv2.countNonZero(missing)
    if short <= 0:
        return missing.view(bool)
    distance = cv2.distanceTransform(1 - missing, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    left = distance[distance > 0]
    return distance <= np.partition(left, short - 1)[short - 1]


def _blocks(shape: tuple[int, int], rng: np.random.Generator, amount: float) -> np.ndarray:
    height, width = shape
    lost = rng.random((-(-height // _BLOCK), -(-width // _BLOCK)), dtype=np.float32) < amount
    return lost.repeat(_BLOCK, 0)[:height].repeat(_BLOCK, 1)[:, :width]


def _lines(shape: tuple[int, int], rng: np.random.Generator, amount: float) -> np.ndarray:
    return np.repeat(rng.random((shape[0], 1), dtype=np.float32) < amount, shape[1], axis=1)


def _columns(shape: tuple[int, int], rng: np.random.Generator, amount: float) -> np.ndarray:
    return np.repeat(rng.random((1, shape[1]), dtype=np.float32) < amount, shape[0], axis=0)


# A greater amount takes the same pixels and more, for the same random numbers.
_MASKS: dict[str, Callable[[tuple[int, int], np.random.Generator, float], np.ndarray]] = {
    "pixels": _single,
    "rectangles": _rectangles,
    "strokes": _strokes,
    "blocks": _blocks,
    "lines": _lines,
    "columns": _columns,
}


@degradation(
    amount=Number(0, 1, (0.1, 0.25, 0.4, 0.55, 0.7)),
    shape=Choice(tuple(_MASKS)),
    fill=Number(0, 1),
)
def mask(
    pixels: np.ndarray,
    rng: np.random.Generator,
    *,
    amount: float = 0.5,
    shape: str = "pixels",
    fill: float = 0.0,
) -> Damaged:
    """Pixels, rectangles, brush strokes, blocks or lines painted over with one gray level.

    What inpainting is measured on, and what transmission loses: "strokes" are the free-form masks
    of Yu et al. 2019, arXiv:1806.03589 (4 to 12 vertices, turning by 2 pi / 5 to either side,
    widths of 12 to 40 in 256 of the short side), here of any heading; "blocks" are macroblocks of
    16 x 16 pixels on the grid of a JPEG or MPEG decoder; "lines" and "columns" are scan lines and
    sensor columns, one pixel wide. Irregular masks of up to 60 % are those of Liu et al. 2018,
    arXiv:1804.07723. Severity 1 takes a tenth of the picture, severity 5 seven tenths.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        amount: share of the pixels to take away: for single pixels, blocks, lines and columns as
            the odds of each; for rectangles and strokes as what they cover together at least, and
            at most one rectangle, or one segment of a stroke, more. After a thousand segments, when
            little is left, what is missing grows from its edges, to the amount exactly or to 1.
        shape: rectangles have sides of an eighth to a quarter of the image's.
        fill: gray level, 0 black to 1 white.
    """
    missing = np.ascontiguousarray(_MASKS[shape](pixels.shape[:2], rng, amount))
    level = np.array(round(fill * white(pixels.dtype)), pixels.dtype)
    return Damaged(np.where(missing[..., None], level, pixels), missing)
