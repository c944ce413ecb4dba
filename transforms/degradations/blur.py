"""Blur of lenses, glass and motion (ImageNet-C).

Severities are those of Hendrycks & Dietterich 2019, arXiv:1903.12261, whose lengths are in pixels
and do not grow with the image; images of any size are done as in the package `imagecorruptions`
1.1.2 (Michaelis et al. 2019, arXiv:1907.07484), but rounded to whole levels where it cuts.
"""

import math

import cv2
import numpy as np

from transforms.degradations.apply import by_channel
from transforms.degradations.parameters import Number, Whole
from transforms.degradations.registry import Damaged, degradation

_TILE = 256  # pixels a side of what is resampled at a time: it fits the processor's cache
_DRAWN = 1 << 18  # swaps drawn at a time


@degradation(sigma=Number(0, 100, (1, 2, 3, 4, 6)))
def gaussian_blur(pixels: np.ndarray, rng: np.random.Generator, *, sigma: float) -> Damaged:
    """A Gaussian blur of one sigma.

    The common stand-in for anything that is not quite sharp: an enlarger out of focus, a scan out
    of the plane, a copy of a copy. It is cut off at four sigmas, and pixels beyond the edge are
    those on it.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        sigma: standard deviation, in pixels.
    """
    return Damaged(by_channel(pixels, lambda unit: smoothed(unit, sigma)))


@degradation(
    radius=Whole(0, 100, (3, 4, 6, 8, 10)),
    alias=Number(0, 5, (0.1, 0.5, 0.5, 0.5, 0.5)),
)
def defocus_blur(
    pixels: np.ndarray, rng: np.random.Generator, *, radius: int, alias: float
) -> Damaged:
    """A lens out of focus: every point becomes a disk.

    The disk is the picture of a round aperture. Pixels beyond the edge mirror those within. As
    published, disks that fill their kernel lose none of their light to smoothing and gain some:
    severities 4 and 5 (radius 8 and 10) are brighter by one percent than what they blur.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        radius: of the disk, in pixels.
        alias: sigma of the Gaussian that smooths the disk's stairs, in pixels.
    """
    kernel = _disk(radius, alias)

    def blurred(unit: np.ndarray) -> np.ndarray:
        return cv2.filter2D(unit, -1, kernel, borderType=cv2.BORDER_REFLECT_101)

    return Damaged(by_channel(pixels, blurred))


@degradation(
    sigma=Number(0, 20, (0.7, 0.9, 1, 1.1, 1.5)),
    delta=Whole(1, 32, (1, 2, 2, 3, 4)),
    iterations=Whole(0, 10, (2, 1, 3, 2, 2)),
)
def glass_blur(
    pixels: np.ndarray,
    rng: np.random.Generator,
    *,
    sigma: float,
    delta: int,
    iterations: int,
) -> Damaged:
    """Frosted glass: pixels change places with near ones, between two slight Gaussian blurs.

    One after the other, from the last to the first, each pixel is swapped with one that is up to
    `delta` before or `delta - 1` behind it in both directions. Rows are the longer sides, so that
    an image and its quarter turn cost the same. Sources differ in what a swap is: in the code
    published, one pixel of the two was lost and the other doubled; here none is lost.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        sigma: standard deviation of both blurs, in pixels.
        delta: how far a pixel goes in one swap, in pixels along each axis.
        iterations: how many times every pixel is swapped.
    """
    soft = by_channel(pixels, lambda unit: smoothed(unit, sigma))
    if pixels.shape[0] > pixels.shape[1]:
        soft = _shuffled(soft.swapaxes(0, 1), rng, delta, iterations).swapaxes(0, 1)
    else:
        soft = _shuffled(soft, rng, delta, iterations)
    return Damaged(by_channel(soft, lambda unit: smoothed(unit, sigma)))


@degradation(
    radius=Whole(0, 100, (10, 15, 15, 15, 20)),
    sigma=Number(0.1, 100, (3, 5, 8, 12, 15)),
    angle=Number(-180, 180),
    spread=Number(0, 180),
)
def motion_blur(
    pixels: np.ndarray,
    rng: np.random.Generator,
    *,
    radius: int,
    sigma: float,
    angle: float = 0.0,
    spread: float = 45.0,
) -> Damaged:
    """Camera or subject moving in a straight line, fading out along the way.

    The trace is one half of a Gaussian, to one side of each point, with taps at whole pixels.
    Pixels beyond the edge are those on it.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of the angle.
        radius: half the length of the trace, in pixels.
        sigma: standard deviation of the Gaussian, in pixels.
        angle: mean direction of the trace in degrees, 0 to the left and 90 upwards.
        spread: the angle drawn is within so many degrees of `angle`, evenly distributed.
    """
    drawn = angle + spread * rng.uniform(-1, 1)
    return Damaged(by_channel(pixels, lambda unit: moved(unit, radius, sigma, drawn)))


@degradation(
    limit=Number(1, 2, (1.11, 1.16, 1.21, 1.26, 1.31)),
    step=Number(0.005, 1, (0.01, 0.01, 0.02, 0.02, 0.03)),
)
def zoom_blur(
    pixels: np.ndarray, rng: np.random.Generator, *, limit: float, step: float
) -> Damaged:
    """A zoom during the exposure: the mean of the image and of ever larger ones about its centre.

    What lies in the middle stays sharp, and the rest is drawn out along rays from it. The image
    itself counts once more than each of its enlargements, of which the first is not enlarged.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        limit: enlargements are less than this.
        step: from 1 on, each enlargement is so much larger than the one before.
    """
    # As published, with what rounding does to its length: 1.11 is among those below 1.11.
    zooms = np.arange(1, limit, step)

    def blurred(unit: np.ndarray) -> np.ndarray:
        total = unit.copy()
        for zoom in zooms:
            total += zoomed(unit, float(zoom))[: total.shape[0], : total.shape[1]]
        total /= len(zooms) + 1
        return total

    return Damaged(by_channel(pixels, blurred))


def smoothed(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Blur float32 [H, W] by a Gaussian cut off at four sigmas, edges repeated."""
    side = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(plane, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)


def moved(plane: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Blur float32 [H, W] along a line, as `motion_blur` says, at an angle in degrees."""
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    across, down = (
        np.ceil(taps * direction - 0.5).astype(int)
        for direction in (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    )
    left, top = int(across.min()), int(down.min())
    kernel = np.zeros((int(down.max()) - top + 1, int(across.max()) - left + 1), np.float32)
    np.add.at(kernel, (down - top, across - left), weights / weights.sum())
    return cv2.filter2D(plane, -1, kernel, anchor=(-left, -top), borderType=cv2.BORDER_REPLICATE)


def zoomed(plane: np.ndarray, zoom: float) -> np.ndarray:
    """Enlarge the centre of float32 [H, W] bilinearly, corners to corners, to H x W or just more.

    Just more is `zoom` pixels at most; the enlargement is to be cut at the bottom and on the right.
    """
    rows, columns = (_zoomed_axis(side, zoom) for side in plane.shape)
    return resampled(plane, rows, columns)


def resampled(plane: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate float32 [H, W] bilinearly, at ascending fractional rows and columns of it."""
    # Not cv2.remap: up to OpenCV 4.13 it knows but 32 places between two pixels.
    result = np.empty((len(rows), len(columns)), np.float32)
    for top in range(0, len(rows), _TILE):
        for left in range(0, len(columns), _TILE):
            y, x = rows[top : top + _TILE], columns[left : left + _TILE]
            above, before = int(y[0]), int(x[0])
            source = plane[above : int(y[-1]) + 2, before : int(x[-1]) + 2]
            lines = _between(source, y - above, axis=0)
            result[top : top + _TILE, left : left + _TILE] = _between(lines, x - before, axis=1)
    return result


def _between(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    first = places.astype(np.intp)
    share = (places - first).astype(np.float32)
    low = values.take(first, axis)
    high = values.take(np.minimum(first + 1, values.shape[axis] - 1), axis)
    high -= low
    high *= share[:, None] if axis == 0 else share
    high += low
    return high


def _zoomed_axis(side: int, zoom: float) -> np.ndarray:
    """Give where along an axis of the original each pixel of the enlargement comes from."""
    centre = math.ceil(side / zoom)
    enlarged = round(centre * zoom)
    step = (centre - 1) / (enlarged - 1) if enlarged > 1 else 0.0
    return (side - centre) // 2 + step * np.arange(enlarged)


def _disk(radius: int, alias: float) -> np.ndarray:
    reach = max(8, radius)
    along = np.arange(-reach, reach + 1)
    disk = (along**2 + along[:, None] ** 2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    side = 3 if radius <= 8 else 5
    return cv2.GaussianBlur(disk, (side, side), alias) if alias else disk


def _shuffled(
    pixels: np.ndarray, rng: np.random.Generator, delta: int, iterations: int
) -> np.ndarray:
    """Swap every pixel of [H, W, C] with a near one, in the order that `glass_blur` says."""
    height, width, channels = pixels.shape
    if min(height, width) <= 2 * delta:
        return pixels
    source = np.arange(height * width, dtype=np.int32)
    for _ in range(iterations):
        _swap(source, _targets(height, width, rng, delta), height, width, delta)
    return pixels.reshape(-1, channels)[source].reshape(pixels.shape)


def _targets(height: int, width: int, rng: np.random.Generator, delta: int) -> np.ndarray:
    """Draw for each pixel, by its number in reading order, which one it is swapped with."""
    targets = np.empty((height, width), np.int32)
    step = max(1, _DRAWN // width)
    for top in range(0, height, step):
        rows = np.arange(top, min(top + step, height), dtype=np.int32)
        # The same draws whatever delta is, so that more of it is more of the same.
        drawn = rng.integers(0, 1 << 16, (len(rows), width, 2), dtype=np.uint16)
        shift = (drawn.astype(np.int32) * (2 * delta) >> 16) - delta
        here = rows[:, None] * width + np.arange(width, dtype=np.int32)
        targets[rows] = here + shift[..., 0] * width + shift[..., 1]
    return targets.ravel()


def _swap(source: np.ndarray, targets: np.ndarray, height: int, width: int, delta: int) -> None:
    """Swap in place, with the result of going through the pixels one by one from the last on.

    Pixels that lie `2 * delta` columns apart for every row between them cannot reach the same
    places, and all that come before one of them in reading order and can reach its places lie on
    earlier such lines. So a line at a time is swapped at once; in memory its pixels are evenly
    spaced.
    """
    pitch = 2 * delta
    rows, columns = height - pitch, width - pitch  # that have room for a whole neighbourhood
    last = (height - delta) * width + width - delta
    for line in range(pitch * (rows - 1) + columns):
        lowest = max(0, -((columns - 1 - line) // pitch))
        highest = min(rows - 1, line // pitch)
        if lowest > highest:
            continue
        stop, start = (last - line - row * columns for row in (lowest, highest))
        here = slice(start, stop + 1, columns)
        there = targets[here]
        taken = source[there]
        source[there] = source[here]
        source[here] = taken
