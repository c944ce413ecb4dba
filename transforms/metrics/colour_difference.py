"""Differences of colour to a reference: CIEDE2000, chroma error and colourfulness."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np

from transforms.colour import lab_planes, linear, white
from transforms.metrics.no_reference import colourfulness
from transforms.metrics.pair import Pair, Region, regions, with_whole

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]

# Pixels worked on at a time: some fifty arrays of them fit into the processor's cache.
_PIXELS = 1 << 15
# A percentile is that of differences rounded to so small a part of 1.
_LEVELS = 1024
_TINY = 1e-30


def ciede2000(pair: Pair, region: Region = "whole") -> float | None:
    """Mean colour difference CIEDE2000 (CIE 142-2001), of sRGB under D65; k_L = k_C = k_H = 1."""
    sums = pair.once(_differences)[region]
    return sums.difference / sums.count if sums.count else None


def ciede2000_p95(pair: Pair, region: Region = "whole") -> float | None:
    """The CIEDE2000 that 95 % of the pixels do not exceed, rounded to 1/1024."""
    sums = pair.once(_differences)[region]
    if not sums.count:
        return None
    up_to = np.cumsum(sums.levels)
    rank = -(-sums.count * 95 // 100)  # the nearest rank
    return int(np.searchsorted(up_to, rank)) / _LEVELS


def chroma_error(pair: Pair, region: Region = "whole") -> float | None:
    """Mean distance of a* and b* (CIE 15): CIE76's colour difference without lightness."""
    sums = pair.once(_differences)[region]
    return sums.chroma / sums.count if sums.count else None


def colourfulness_difference(pair: Pair) -> float:
    """Colourfulness of the image less that of the reference: below 0 the image is paler."""
    return colourfulness(pair.image) - colourfulness(pair.reference)


def ciede2000_of_lab(one: Planes, two: Planes) -> np.ndarray:
    """CIEDE2000 of CIE L*, a*, b* each, arrays of one floating type and shape.

    After Sharma, Wu and Dalal 2005 (doi:10.1002/col.20070), equations 2-22, but with sines and
    cosines of hues from a' and b' themselves, so that no hue need be worked out: the mean hue is
    the direction halfway between the two, and of equal ones the same.
    """
    lightness1, a1, b1 = one
    lightness2, a2, b2 = two
    kind = a1.dtype.type

    b1b1, b2b2 = b1 * b1, b2 * b2
    chroma = np.sqrt(a1 * a1 + b1b1)
    chroma += np.sqrt(a2 * a2 + b2b2)
    chroma *= kind(0.5)
    stretch = kind(1.5) - kind(0.5) * _near_gray(chroma)  # 1 + G
    a1, a2 = a1 * stretch, a2 * stretch
    chroma1, chroma2 = np.sqrt(a1 * a1 + b1b1), np.sqrt(a2 * a2 + b2b2)
    chroma = (chroma1 + chroma2) * kind(0.5)

    # Twice the root of C1' C2' times the sine of half the angle between the hues. By the cross
    # product, near 0, and by the dot product, near 180 degrees, no digits are lost.
    dot, cross = a1 * a2 + b1 * b2, a1 * b2 - b1 * a2
    opposed = np.flatnonzero(dot < 0)
    sizes = chroma1 * chroma2 + np.abs(dot)
    sine = cross / (sizes + kind(_TINY))
    # Towards the mean hue. Of opposite hues, where these sums vanish, it is at right angles to
    # either; which way it points, when they are exactly opposite, hue h2' - h1' decides.
    x, y = a1 * chroma2 + a2 * chroma1, b1 * chroma2 + b2 * chroma1
    if opposed.size:
        flat = [values.ravel()[opposed] for values in (a1, b1, chroma1, a2, b2, chroma2, cross)]
        turn, *away = _halfway_between_opposed(*flat)
        for values, found in zip((sine, x, y), (turn, *away), strict=True):
            values.ravel()[opposed] = found
    hue = np.sqrt(kind(2) * sizes)
    hue *= sine

    length = kind(1) / (np.sqrt(x * x + y * y) + kind(_TINY))
    cos, sin = x * length, y * length
    t = _polynomial(cos, _T_OF_SINE)
    t *= sin
    t += _polynomial(cos, _T)

    middle = (lightness1 + lightness2) * kind(0.5) - kind(50)
    middle *= middle
    lightness = (lightness2 - lightness1) / (
        kind(1) + kind(0.015) * middle / np.sqrt(middle + kind(20))
    )
    weighted = kind(0.015) * chroma
    hue /= kind(1) + weighted * t
    saturation = (chroma2 - chroma1) / (kind(1) + kind(3) * weighted)
    rotation = _rotation(kind(_cos(275)) * cos + kind(_sin(275)) * sin) * _near_gray(chroma)
    squared = lightness * lightness + saturation * saturation + hue * hue
    squared -= kind(2) * rotation * saturation * hue
    return np.sqrt(np.maximum(squared, 0))


def _near_gray(chroma: np.ndarray) -> np.ndarray:
    """Give the root of C^7 / (C^7 + 25^7)."""
    scaled = chroma * chroma.dtype.type(1 / 25)
    square = scaled * scaled
    seventh = square * square * square * scaled
    return np.sqrt(seventh / (seventh + chroma.dtype.type(1)))


def _cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def _sin(degrees: float) -> float:
    return math.sin(math.radians(degrees))


# T of a mean hue is the first polynomial in its cosine, and its sine times the second: equation 15
# with the cosines of 2h, 3h and 4h, and the sines of 3h and 4h, written out.
_T = (
    1 - 0.24 - 0.20 * _cos(63),
    -0.17 * _cos(30) - 0.32 * 3 * _cos(6),
    0.24 * 2 + 0.20 * 8 * _cos(63),
    0.32 * 4 * _cos(6),
    -0.20 * 8 * _cos(63),
)
_T_OF_SINE = (
    -0.17 * _sin(30) + 0.32 * _sin(6),
    0.20 * 4 * _sin(63),
    -0.32 * 4 * _sin(6),
    -0.20 * 8 * _sin(63),
)


def _polynomial(x: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """Give the sum of factors[n] * x**n."""
    kind = x.dtype.type
    total = x * kind(factors[-1])
    for factor in factors[-2:0:-1]:
        total += kind(factor)
        total *= x
    total += kind(factors[0])
    return total


# Taylor's series of arccos(1 - w)**2 about w = 0, from w upwards; 25 degrees are its unit. Where it
# is cut off to be seen, next to nothing of the rotation is left: CIEDE2000 is right to 5 in 10**6.
_SERIES = [0.0] + [
    2 * 2**n / (n**2 * math.comb(2 * n, n)) / math.radians(25) ** 2 for n in range(1, 11)
]


def _rotation(cos: np.ndarray) -> np.ndarray:
    """Give sin(2 * 30 degrees * exp(-((h - 275) / 25)**2)) by the cosine of h - 275 degrees."""
    kind = cos.dtype.type
    squared = _polynomial(kind(1) - cos, _SERIES)
    return np.sin(kind(np.pi / 3) * np.exp(-squared))


def _halfway_between_opposed(
    a1: np.ndarray,
    b1: np.ndarray,
    chroma1: np.ndarray,
    a2: np.ndarray,
    b2: np.ndarray,
    chroma2: np.ndarray,
    cross: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the turn from the first to the second of hues more than 90 degrees apart, 1 or -1, and
    their mean's direction, which is at right angles to the difference of theirs.
    """
    upper = (b1 > 0) | ((b1 == 0) & (a1 > 0))  # its hue is below 180 degrees
    turn = np.where((cross > 0) | ((cross == 0) & upper), 1, -1).astype(a1.dtype)
    x, y = b2 * chroma1 - b1 * chroma2, a1 * chroma2 - a2 * chroma1
    return turn, x * turn, y * turn


# -- of pixels -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sums:
    count: int = 0
    difference: float = 0.0
    chroma: float = 0.0
    levels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __add__(self, other: "_Sums") -> "_Sums":
        few, many = sorted((self.levels, other.levels), key=len)
        levels = many.copy()
        levels[: len(few)] += few
        return _Sums(
            self.count + other.count,
            self.difference + other.difference,
            self.chroma + other.chroma,
            levels,
        )


def _differences(pair: Pair) -> dict[Region, _Sums]:
    sums: dict[Region, _Sums] = {}
    for one, two, mask in _blocks(pair):
        difference = ciede2000_of_lab(one, two)
        red_green, yellow_blue = one[1] - two[1], one[2] - two[2]
        chroma = np.sqrt(red_green * red_green + yellow_blue * yellow_blue)
        for (region, found), (_, of_chroma) in zip(
            regions(difference, mask), regions(chroma, mask), strict=True
        ):
            total = _Sums(
                found.size,
                float(found.sum(dtype=np.float64)),
                float(of_chroma.sum(dtype=np.float64)),
                np.bincount(np.rint(found * np.float32(_LEVELS)).astype(np.int64)),
            )
            sums[region] = sums.get(region, _Sums()) + total
    return with_whole(sums)


def _blocks(pair: Pair) -> Iterator[tuple[Planes, Planes, np.ndarray | None]]:
    """Give L*, a* and b* of both images, float32 [N], and the mask of these pixels."""
    for image, reference, mask in pair.bands():
        one, two = image.reshape(-1, image.shape[-1]), reference.reshape(-1, reference.shape[-1])
        chosen = None if mask is None else mask.ravel()
        for start in range(0, len(one), _PIXELS):
            part = slice(start, start + _PIXELS)
            yield _lab(one[part]), _lab(two[part]), None if chosen is None else chosen[part]


def _lab(pixels: np.ndarray) -> Planes:
    """Give L*, a* and b*, float32 [N], of sRGB or gray pixels [N, C]."""
    light = [_light(pixels[:, channel]) for channel in range(pixels.shape[1])]
    return lab_planes(*(light if len(light) == 3 else light * 3))


def _light(levels: np.ndarray) -> np.ndarray:
    table = _light_of_levels(levels.dtype)
    if levels.dtype == np.uint8:
        return cv2.LUT(np.ascontiguousarray(levels), table).ravel()
    return np.take(table, levels)


@cache
def _light_of_levels(dtype: np.dtype) -> np.ndarray:
    return linear(np.arange(white(dtype) + 1) / white(dtype))
