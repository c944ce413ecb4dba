"""Likeness of structure to a reference: SSIM, MS-SSIM and GMSD."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from transforms.colour import luma, to_unit, white
from transforms.metrics.pair import Pair, Region, regions, with_whole

WINDOW = 11
_SIGMA = 1.5
_EDGE = WINDOW // 2
_K1, _K2 = 0.01, 0.03

# Exponents of the five scales: Wang et al. 2003, section 3.2.
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# The shortest side that has a window at the fifth scale, halved four times with odd rows kept.
SMALLEST_MS_SSIM = ((WINDOW - 1) << (len(_WEIGHTS) - 1)) + 1

# Xue et al. 2014, section III: 170 for levels of 0 to 255.
_GMSD_CONSTANT = np.float32(170 / 255**2)
SMALLEST_GMSD = 6


def ssim(pair: Pair, region: Region = "whole") -> float | None:
    """Structural similarity of Wang et al. 2004 (doi:10.1109/TIP.2003.819861), mean of channels.

    An 11x11 Gaussian window of sigma 1.5 that stays inside the image, population covariances,
    K1 = 0.01, K2 = 0.03. None where a side is shorter than the window.

    Inside a mask it is the mean over the windows whose middle pixel the mask has, outside over the
    others; a window at the mask's border sees pixels of both.
    """
    if min(pair.shape[:2]) < WINDOW:
        return None
    sums = pair.once(_similarities)[region]
    return sums.total / sums.count if sums.count else None


def ms_ssim(pair: Pair) -> float | None:
    """Multi-scale structural similarity of Wang et al. 2003 (doi:10.1109/ACSSC.2003.1292216).

    Five scales, each the mean of 2x2 pixels of the one before, with SSIM's window and constants;
    negative means count as 0, channels are averaged at the end. None where a side is shorter than
    161 pixels.
    """
    if min(pair.shape[:2]) < SMALLEST_MS_SSIM:
        return None
    first = _Scale(len(_WEIGHTS), white(pair.image.pixels.dtype))
    for image, reference, _ in pair.bands():
        first.add(image.astype(np.float32), reference.astype(np.float32))
    first.end()
    product = np.ones(pair.shape[-1])
    for mean, weight in zip(first.means(), _WEIGHTS, strict=True):
        product *= np.maximum(mean, 0) ** weight
    return float(product.mean())


def gmsd(pair: Pair) -> float | None:
    """Gradient magnitude similarity deviation of Xue et al. 2014 (doi:10.1109/TIP.2013.2293423).

    Of luma at half size (means of 2x2 pixels), by Prewitt's gradients, with what lies outside the
    image as black; 0 for equal images. None where a side is shorter than 6 pixels.
    """
    if min(pair.shape[:2]) < SMALLEST_GMSD:
        return None
    count, total, squared = 0, 0.0, 0.0
    for image, reference in _half_size(pair):
        one, two = _gradients(image), _gradients(reference)
        unlike = 1 - (2 * np.sqrt(one * two) + _GMSD_CONSTANT) / (one + two + _GMSD_CONSTANT)
        count += unlike.size
        total += float(unlike.sum(dtype=np.float64))
        squared += float(np.square(unlike).sum(dtype=np.float64))
    return math.sqrt(max(squared / count - (total / count) ** 2, 0))


# -- SSIM ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sums:
    count: int = 0
    total: float = 0.0

    def __add__(self, other: "_Sums") -> "_Sums":
        return _Sums(self.count + other.count, self.total + other.total)


def _similarities(pair: Pair) -> dict[Region, _Sums]:
    sums: dict[Region, _Sums] = {}
    scale = white(pair.image.pixels.dtype)
    for image, reference, mask in pair.bands(overlap=2 * _EDGE):
        middle = None if mask is None else mask[_EDGE:-_EDGE, _EDGE:-_EDGE]
        # A channel at a time: what is worked out of one fits into the processor's cache.
        for x, y in zip(cv2.split(image), cv2.split(reference), strict=True):
            luminance, contrast = _maps(x.astype(np.float32), y.astype(np.float32), scale)
            luminance *= contrast
            for region, found in regions(luminance, middle):
                total = _Sums(found.size, float(found.sum(dtype=np.float64)))
                sums[region] = sums.get(region, _Sums()) + total
    return with_whole(sums)


def _maps(x: np.ndarray, y: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Compare luminance, and contrast with structure, of two float32 [H, W, ...], which are spent.

    Args:
        x: levels from 0 to `scale`.
        y: likewise.
        scale: of white.

    Returns:
        Two float32 [H - 10, W - 10, ...].
    """
    # Variances do not change with an offset, but lose fewer digits near zero.
    offset = np.float32(y[::8, ::8].mean(dtype=np.float64))
    x -= offset
    y -= offset
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    products = _local_mean(x * y)
    x *= x
    y *= y
    x += y
    squares = _local_mean(x)
    between, within = mean_x * mean_y, mean_x * mean_x
    within += mean_y * mean_y
    products -= between
    squares -= within
    inner = (slice(_EDGE, -_EDGE),) * 2  # cut out last: whole arrays are gone through faster
    contrast = _ratio(products, squares, np.float32((_K2 * scale) ** 2))[inner]
    mean_x += offset
    mean_y += offset
    np.multiply(mean_x, mean_y, out=between)
    np.square(mean_x, out=within)
    within += np.square(mean_y, out=mean_y)
    luminance = _ratio(between, within, np.float32((_K1 * scale) ** 2))[inner]
    return luminance, contrast


def _ratio(product: np.ndarray, squares: np.ndarray, constant: np.float32) -> np.ndarray:
    """Give (2 product + constant) / (squares + constant) in the place of `product`."""
    product *= 2
    product += constant
    squares += constant
    product /= squares
    return product


def _local_mean(values: np.ndarray) -> np.ndarray:
    kernel = cv2.getGaussianKernel(WINDOW, _SIGMA, cv2.CV_32F)
    return cv2.sepFilter2D(values, cv2.CV_32F, kernel, kernel).reshape(values.shape)


class _Scale:
    """One scale of MS-SSIM and those below it, fed with rows from top to bottom."""

    def __init__(self, scales: int, white: int) -> None:
        self.white = white
        self.last = scales == 1
        self.below = None if self.last else _Scale(scales - 1, white)
        self.total: np.ndarray | None = None  # float64 [C]
        self.count = 0
        self._kept: _Rows | None = None  # that windows of the next rows reach back to
        self._odd: _Rows | None = None  # that waits for the other row of its pair

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take float32 [H, W, C] of both images."""
        if self.below is not None:
            self._halve(_joined(self._odd, (x, y)))
        x, y = _joined(self._kept, (x, y))
        edge = 2 * _EDGE
        self._kept = x[-edge:].copy(), y[-edge:].copy()
        if len(x) <= edge:
            return
        luminance, contrast = _maps(x.copy(), y.copy(), self.white)
        if self.last:
            contrast *= luminance
        channels = np.moveaxis(contrast, -1, 0)
        total = np.array([channel.sum(dtype=np.float64) for channel in channels])
        self.total = total if self.total is None else self.total + total
        self.count += contrast.shape[0] * contrast.shape[1]

    def _halve(self, rows: "_Rows") -> None:
        even = len(rows[0]) // 2 * 2
        self._odd = rows[0][even:], rows[1][even:]
        if even and self.below is not None:
            self.below.add(*(_halved(values[:even]) for values in rows))

    def end(self) -> None:
        """Say that these were all rows."""
        if self.below is None:
            return
        if self._odd is not None and len(self._odd[0]):
            self._halve(_joined(self._odd, self._odd))
        self.below.end()

    def means(self) -> Iterator[np.ndarray]:
        """Give the mean of each scale, float64 [C]."""
        assert self.total is not None, "an image this small has no MS-SSIM"
        yield self.total / self.count
        if self.below is not None:
            yield from self.below.means()


_Rows = tuple[np.ndarray, np.ndarray]


def _joined(before: _Rows | None, rows: _Rows) -> _Rows:
    if before is None:
        return rows
    return np.concatenate((before[0], rows[0])), np.concatenate((before[1], rows[1]))


def _halved(values: np.ndarray) -> np.ndarray:
    """Give the means of 2x2 samples of float32 [even, W, C]; an odd column counts twice."""
    if values.shape[1] % 2:
        values = np.concatenate((values, values[:, -1:]), axis=1)
    height, width, channels = values.shape
    size = width // 2, height // 2
    halved = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return halved.reshape(height // 2, width // 2, channels)


# -- GMSD ------------------------------------------------------------------------------------------


def _half_size(pair: Pair) -> Iterator[_Rows]:
    """Give luma of both images at half size in bands, with a row more above and below."""
    border: _Rows | None = None  # the last two rows of the band before
    odd: _Rows | None = None
    for image, reference, _ in pair.bands():
        rows = _joined(odd, (_luma(image), _luma(reference)))
        even = len(rows[0]) // 2 * 2
        odd = rows[0][even:], rows[1][even:]
        if not even:  # the last row of all, or one of a very wide image
            continue
        half = _halved_dark(rows[0][:even]), _halved_dark(rows[1][:even])
        half = _joined(border or _black(half), half)
        border = half[0][-2:], half[1][-2:]
        if len(half[0]) > 2:
            yield half
    assert border is not None and odd is not None, "an image has rows"
    if len(odd[0]):
        last = _joined(odd, _black(odd))
        border = _joined(border, (_halved_dark(last[0]), _halved_dark(last[1])))
    yield _joined(border, _black(border))


def _black(rows: _Rows) -> _Rows:
    black = np.zeros((1, rows[0].shape[1]), np.float32)
    return black, black


def _luma(pixels: np.ndarray) -> np.ndarray:
    unit = to_unit(pixels)
    return luma(unit) if unit.shape[-1] == 3 else unit[..., 0]


def _halved_dark(values: np.ndarray) -> np.ndarray:
    """Give the means of 2x2 samples of float32 [even, W]; beside an odd column it is black."""
    if values.shape[1] % 2:
        values = np.pad(values, ((0, 0), (0, 1)))
    return _halved(values[..., None])[..., 0]


def _gradients(values: np.ndarray) -> np.ndarray:
    """Give the squared gradient magnitude (Prewitt) of all but the first and last row."""
    third, slope = np.full(3, 1 / 3, np.float32), np.array([-1, 0, 1], np.float32)
    black = cv2.BORDER_CONSTANT
    across = cv2.sepFilter2D(values, cv2.CV_32F, slope, third, borderType=black)[1:-1]
    down = cv2.sepFilter2D(values, cv2.CV_32F, third, slope, borderType=black)[1:-1]
    return across * across + down * down
