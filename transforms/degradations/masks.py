"""Missing pixels. The mask stays on the record, for models that take one and for metrics."""

import numpy as np

from transforms.colour import white
from transforms.degradations.registry import Choice, Damaged, Number, degradation


@degradation(
    amount=Number(0, 1, (0.1, 0.25, 0.4, 0.55, 0.7)),
    shape=Choice(("pixels", "rectangles")),
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
    """Random pixels or rectangles painted over with one gray level.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        amount: share of the pixels to take away: for single pixels as the odds of each, for
            rectangles as what they cover together at least, and at most one rectangle more.
        shape: "pixels" or "rectangles" (each side an eighth to a quarter of the image's).
        fill: gray level, 0 black to 1 white.
    """
    missing = _MASKS[shape](pixels.shape[:2], rng, amount)
    level = np.array(round(fill * white(pixels.dtype)), pixels.dtype)
    return Damaged(np.where(missing[..., None], level, pixels), missing)


def _single(shape: tuple[int, int], rng: np.random.Generator, amount: float) -> np.ndarray:
    return rng.random(shape, dtype=np.float32) < amount


def _rectangles(shape: tuple[int, int], rng: np.random.Generator, amount: float) -> np.ndarray:
    missing = np.zeros(shape, bool)
    while missing.mean() < amount:
        spans = []
        for side in shape:
            length = int(rng.integers(max(1, side // 8), max(1, side // 4) + 1))
            start = int(rng.integers(1 - length, side))
            spans.append(slice(max(0, start), start + length))
        missing[tuple(spans)] = True
    return missing


_MASKS = {"pixels": _single, "rectangles": _rectangles}
