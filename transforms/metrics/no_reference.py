"""Measures of an image by itself: of its colour, its contrast, its noise and its sharpness."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from transforms.colour import white
from transforms.metrics.pair import Picture

# Weights of luma, ITU-R BT.601-7, section 2.5.1, in thousandths.
_LUMA = (299, 587, 114)
_LEVELS = 256  # of gray that entropy tells apart, whatever the depth
SMALLEST_FILTERED = 3


def colourfulness(picture: Picture) -> float:
    """Colourfulness M3 of Hasler and Süsstrunk 2003 (doi:10.1117/12.477378); 0 for gray.

    Of gamma-encoded R, G, B from 0 to 255, with rg = R - G and yb = (R + G) / 2 - B: the root of
    the sum of their variances, and 0.3 times that of the sum of their squared means. Their table
    calls 15 slightly, 33 moderately and 59 quite colourful, and 109 extremely so.
    """
    moments = picture.once(_moments)
    spreads = moments.variance((1, -1, 0)) + moments.variance((1, 1, -2)) / 4
    means = moments.mean((1, -1, 0)) ** 2 + moments.mean((1, 1, -2)) ** 2 / 4
    return (math.sqrt(spreads) + 0.3 * math.sqrt(means)) * 255 / white(picture.pixels.dtype)


def contrast(picture: Picture) -> float:
    """RMS contrast of Peli 1990 (doi:10.1364/JOSAA.7.002032): the standard deviation of luma."""
    variance = picture.once(_moments).variance(_LUMA)
    return math.sqrt(variance) / sum(_LUMA) / white(picture.pixels.dtype)


def saturation(picture: Picture) -> float:
    """Mean saturation of HSV (Smith 1978, doi:10.1145/965139.807361).

    That of a pixel is (max - min) / max of its R, G and B; black has none.
    """
    total = 0.0
    for band in picture.bands():
        if band.shape[-1] == 3:
            red, green, blue = cv2.split(band)
            most = cv2.max(cv2.max(red, green), blue)
            spread = (most - cv2.min(cv2.min(red, green), blue)).astype(np.float32)
            spread /= np.maximum(most, 1)
            total += float(spread.sum(dtype=np.float64))
    return total / picture.pixels[..., 0].size


def entropy(picture: Picture) -> float:
    """Shannon entropy in bits of luma in 256 levels: 0 of one level, 8 of all equally often."""
    counts = np.zeros(_LEVELS, np.int64)
    for band in picture.bands():
        gray = band if band.shape[-1] == 1 else np.asarray(cv2.cvtColor(band, cv2.COLOR_RGB2GRAY))
        levels = gray if gray.dtype == np.uint8 else (gray.astype(np.uint32) + 128) // 257
        counts += np.bincount(levels.ravel(), minlength=_LEVELS)
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, -float(np.sum(shares * np.log2(shares))))


def clipped(picture: Picture) -> float:
    """Share of the samples that are at either end of the scale, 0 or white."""
    pixels = picture.pixels
    ends = (0, white(pixels.dtype))
    found = sum(int(np.count_nonzero(band == end)) for band in picture.bands() for end in ends)
    return found / pixels.size


def sharpness(picture: Picture) -> float | None:
    """Variance of the Laplacian of luma from 0 to 255 (Pech-Pacheco et al. 2000,
    doi:10.1109/ICPR.2000.903548). Noise raises it too. None where a side is shorter than 3 pixels.
    """
    if min(picture.pixels.shape[:2]) < SMALLEST_FILTERED:
        return None
    count, total, squared = 0, 0.0, 0.0
    for band in picture.bands(overlap=2):
        # Of each channel, in which it is a whole number: of a flat image it is exactly 0.
        edges = cv2.Laplacian(band, cv2.CV_32F, ksize=1).reshape(band.shape)[1:-1, 1:-1]
        values = edges[..., 0]
        if edges.shape[-1] == 3:
            parts = (edges[..., i] * np.float32(w / sum(_LUMA)) for i, w in enumerate(_LUMA))
            values = sum(parts)  # type: ignore[assignment]
        count += values.size
        total += float(values.sum(dtype=np.float64))
        squared += float(np.square(values).sum(dtype=np.float64))
    variance = max(squared / count - (total / count) ** 2, 0)
    return variance * (255 / white(picture.pixels.dtype)) ** 2


def noise_sigma(picture: Picture) -> float | None:
    """Standard deviation of noise by Immerkær 1996 (doi:10.1006/cviu.1996.0060), mean of channels.

    On the scale of 0 to 255 that recipes speak of. Fine texture counts as noise. None where a side
    is shorter than 3 pixels.
    """
    if min(picture.pixels.shape[:2]) < SMALLEST_FILTERED:
        return None
    height, width, channels = picture.pixels.shape
    kernel = np.array([1, -2, 1], np.float32)
    depth = cv2.CV_16S if picture.pixels.dtype == np.uint8 else cv2.CV_32F
    total = 0
    for band in picture.bands(overlap=2):
        left = cv2.sepFilter2D(band, depth, kernel, kernel).reshape(band.shape)[1:-1, 1:-1]
        total += int(np.abs(left).sum(dtype=np.float64))
    mean = total / ((height - 2) * (width - 2) * channels)
    return mean * math.sqrt(math.pi / 2) / 6 * 255 / white(picture.pixels.dtype)


# -- moments ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Moments:
    """Sums over the pixels of R, G and B, and of their products, in whole numbers."""

    count: int
    first: list[int]
    second: list[list[int]]

    def mean(self, weights: tuple[int, int, int]) -> float:
        """Give the mean of the weighted sum of R, G and B."""
        return self._sum(weights) / self.count

    def variance(self, weights: tuple[int, int, int]) -> float:
        """Give the variance of the weighted sum of R, G and B, exactly 0 where it is."""
        squares = sum(
            one * two * self.second[i][j]
            for i, one in enumerate(weights)
            for j, two in enumerate(weights)
        )
        return (self.count * squares - self._sum(weights) ** 2) / self.count**2

    def _sum(self, weights: tuple[int, int, int]) -> int:
        return sum(weight * total for weight, total in zip(weights, self.first, strict=True))


def _moments(picture: Picture) -> _Moments:
    channels = picture.pixels.shape[-1]
    first, second = [0] * channels, [[0] * channels for _ in range(channels)]
    for band in picture.bands():
        # Whole numbers, which float64 adds without rounding.
        planes = [plane.ravel().astype(np.float64) for plane in cv2.split(band)]
        for i, one in enumerate(planes):
            first[i] += int(one.sum())
            for j, two in enumerate(planes[: i + 1]):
                second[i][j] += int(np.einsum("i,i->", one, two))
                second[j][i] = second[i][j]
    if channels == 1:
        first, second = first * 3, [second[0] * 3] * 3
    return _Moments(picture.pixels[..., 0].size, first, second)
