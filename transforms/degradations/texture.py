"""Random fields that damage is made of. Sizes are in pixels; callers scale them to the image."""

import math

import cv2
import numpy as np


def smooth_noise(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    cell: float,
    octaves: int = 4,
    persistence: float = 0.5,
) -> np.ndarray:
    """Give a random field without direction, as a sum of octaves of value noise.

    Args:
        height: in pixels.
        width: in pixels.
        rng: the source of all randomness; how much is drawn depends on the sizes alone.
        cell: pixels between the random values of the coarsest octave; each next one halves it.
        octaves: at most; those of cells below a pixel are left out.
        persistence: amplitude of an octave relative to the one before.

    Returns:
        float32 [height, width], of mean 0 and about unit variance where many cells fit.
    """
    total = np.zeros((height, width), np.float32)
    power = 0.0
    for octave in range(octaves):
        size = cell / 2**octave
        if octave and size < 1:
            break
        size = max(size, 1.0)
        total += np.float32(persistence**octave) * _value_noise(height, width, rng, size)
        power += persistence ** (2 * octave)
    total *= np.float32(1 / math.sqrt(power))
    return total


def _value_noise(height: int, width: int, rng: np.random.Generator, cell: float) -> np.ndarray:
    """Interpolate unit normal values on a grid of one cell's pitch, keeping about unit variance."""
    rows, columns = math.ceil(height / cell) + 3, math.ceil(width / cell) + 3
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    if cell <= 1:
        return grid[:height, :width]
    full = cv2.resize(
        grid,
        (math.ceil(columns * cell), math.ceil(rows * cell)),
        interpolation=cv2.INTER_CUBIC,
    )
    # Away from the border, where the interpolation repeats the outermost values.
    top, left = int(cell), int(cell)
    # 0.74: what cubic interpolation leaves of a unit variance, on average over a cell.
    return full[top : top + height, left : left + width] * np.float32(1 / math.sqrt(0.74))


def line_noise(
    at: np.ndarray,
    rng: np.random.Generator,
    *,
    knots: int,
    octaves: int = 6,
    persistence: float = 0.5,
) -> np.ndarray:
    """Give a random curve over a line, as a sum of octaves of value noise.

    The curve is the same however densely it is read: it belongs to the line, not to its pixels.

    Args:
        at: float [N], where to read it; the line runs from 0 to 1, and beyond it the ends repeat.
        rng: the source of all randomness; how much is drawn depends on knots and octaves alone.
        knots: intervals between the random values of the coarsest octave; each next one doubles
            them.
        octaves: how many.
        persistence: amplitude of an octave relative to the one before.

    Returns:
        float32 [N], of mean 0 and about unit variance.
    """
    total = np.zeros(len(at), np.float32)
    power = 0.0
    for octave in range(octaves):
        count = knots * 2**octave
        values = rng.standard_normal(count + 3, dtype=np.float32)
        place = np.clip(at, 0, 1) * count
        before = np.minimum(place.astype(np.intp), count - 1)
        total += np.float32(persistence**octave) * _cubic(values, before, place - before)
        power += persistence ** (2 * octave)
    # 0.81: what the interpolation leaves of a unit variance, on average over an interval.
    return total * np.float32(1 / math.sqrt(0.81 * power))


def _cubic(values: np.ndarray, before: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate between values[before + 1] and the next, by a Catmull-Rom spline."""
    t = share.astype(np.float32)
    p, q, r, s = (values[before + step] for step in range(4))
    return q + t / 2 * (r - p + t * (2 * p - 5 * q + 4 * r - s + t * (3 * (q - r) + s - p)))


def stretched(field: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Read a field on a grid of rows and columns, bilinearly, as `read_field` does for points.

    Args:
        field: float32 [h, w].
        across: float [W], columns of the field to read.
        down: float [H], rows likewise.

    Returns:
        float32 [H, W].
    """
    return _blended(_blended(field, down).T, across).T


def _blended(field: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Blend neighbouring rows."""
    last = len(field) - 1
    at = np.clip(at, 0, last)
    before = at.astype(np.intp)
    share = (at - before).astype(np.float32)[:, None]
    first, second = field[before], field[np.minimum(before + 1, last)]
    return first + share * (second - first)


def read_field(field: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Read a field between its values, bilinearly; beyond its border the outermost ones repeat.

    Args:
        field: float32 [h, w].
        across: float [...], columns; 0 and w - 1 are the outermost values.
        down: float [...], rows likewise; the two are broadcast.

    Returns:
        float32 [...].
    """
    height, width = field.shape
    across, down = np.clip(across, 0, width - 1), np.clip(down, 0, height - 1)
    left, top = across.astype(np.intp), down.astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    x, y = (across - left).astype(np.float32), (down - top).astype(np.float32)
    upper = field[top, left] * (1 - x) + field[top, right] * x
    lower = field[bottom, left] * (1 - x) + field[bottom, right] * x
    return upper * (1 - y) + lower * y
