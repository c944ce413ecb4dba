"""Colour spaces of models on whole arrays: to a model's input, and its chroma back to a master."""

from collections.abc import Callable, Iterator
from functools import cache

import cv2
import numpy as np

from transforms import scratch

_STRIP = 1 << 16  # pixels converted at a time, so that a large scan needs no float copy of itself


def white(dtype: np.dtype) -> int:
    """Give the value of white in uint8 or uint16 pixels: 255 or 65535."""
    return int(np.iinfo(dtype).max)


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """Scale uint8 or uint16 pixels to float32 [0, 1]."""
    unit = pixels.astype(np.float32)
    unit /= np.float32(white(pixels.dtype))
    return unit


def from_unit(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Clip and round float [0, 1] to uint8 or uint16."""
    scaled = np.clip(values, 0, 1)
    scaled *= np.float32(white(dtype))
    return np.rint(scaled, out=scaled).astype(dtype)


def with_channels(values: np.ndarray, channels: int) -> np.ndarray:
    """Turn [..., 1] into [..., 3] by repeating, and [..., 3] into [..., 1] by BT.601 luma."""
    if values.shape[-1] == channels:
        return values
    if channels == 3:
        return np.repeat(values, 3, axis=-1)
    return luma(values)[..., None]


def luma(values: np.ndarray) -> np.ndarray:
    """Give luma Y' of gamma-encoded float32 [..., 3] R, G, B (ITU-R BT.601-7, section 2.5.1)."""
    # Not as a matrix product: those round as the processor's library likes.
    red, green, blue = np.moveaxis(values, -1, 0)
    return np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue


def linear(unit: np.ndarray) -> np.ndarray:
    """Decode sRGB [0, 1] to linear light, by the curve of IEC 61966-2-1."""
    # OpenCV's own RGB2Lab reads this curve from a table, which leaves 513 levels of lightness.
    return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


def encoded(light: np.ndarray) -> np.ndarray:
    """Encode linear light as sRGB [0, 1], clipping what sRGB cannot hold."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def lightness(unit: np.ndarray) -> np.ndarray:
    """Give CIE L* (0-100, D65) as float32 [H, W] of sRGB or gray float32 [0, 1] [H, W, 1 or 3]."""
    light = linear(with_channels(unit, 3))
    return cv2.cvtColor(light, cv2.COLOR_LRGB2Lab)[..., 0]


def luminance(unit: np.ndarray) -> np.ndarray:
    """Give relative luminance Y (IEC 61966-2-1), float32 [...], of sRGB float32 [0, 1] [..., 3]."""
    red, green, blue = np.moveaxis(linear(unit), -1, 0)
    return _weighted(_TO_XYZ[1], red, green, blue)


def lab(unit: np.ndarray) -> np.ndarray:
    """Give CIE L*a*b* (D65, as in CIE 15) as float32 of sRGB float32 [0, 1], both [..., 3].

    By the formulas and without tables, for what needs 16 bits.
    """
    return np.stack(lab_planes(*np.moveaxis(linear(unit), -1, 0)), axis=-1)


def lab_planes(
    red: np.ndarray, green: np.ndarray, blue: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give CIE L*, a* and b* (D65, as in CIE 15) of linear light, as float32 of one shape."""
    x, y, z = (_root(_weighted(weights, red, green, blue)) for weights in _TO_XYZ)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def from_lab(values: np.ndarray) -> np.ndarray:
    """Give linear light, float32 [..., 3] R, G, B, of CIE L*a*b*; what is outside sRGB is beyond
    0 and 1, and `encoded` clips it.
    """
    lightness, red_green, yellow_blue = np.moveaxis(values, -1, 0)
    y = (lightness + 16) / 116
    xyz = [_cube(root) for root in (y + red_green / 500, y, y - yellow_blue / 200)]
    return np.stack([_weighted(weights, *xyz) for weights in _FROM_XYZ], axis=-1)


# IEC 61966-2-1, each row divided by the white point's X, Y or Z; and the inverse.
_TO_XYZ = (
    (0.433876907, 0.376223041, 0.189900053),
    (0.212600000, 0.715200000, 0.072200000),
    (0.017722681, 0.109458219, 0.872819100),
)
_FROM_XYZ = (
    (3.080214516, -1.537207972, -0.543006544),
    (-0.920968644, 1.875756061, 0.045212583),
    (0.052952469, -0.204021051, 1.151068581),
)


def _weighted(
    weights: tuple[float, ...], one: np.ndarray, two: np.ndarray, three: np.ndarray
) -> np.ndarray:
    first, second, third = map(np.float32, weights)
    return first * one + second * two + third * three


def _root(light: np.ndarray) -> np.ndarray:
    """Give f(t) of CIE 15: the cube root, and a straight line near black."""
    # The line touches the root where they meet, from above: no branch is needed.
    line = np.minimum(light, np.float32(216 / 24389)) * np.float32(841 / 108)
    return np.maximum(np.cbrt(light), line + np.float32(4 / 29))


def _cube(root: np.ndarray) -> np.ndarray:
    return np.where(root > 6 / 29, root * root * root, (root - 4 / 29) * (108 / 841))


def shrunken_lightness(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Give CIE L* as float32 [height, width, 1] of an image of any size, by area averaging."""
    # The average is taken before L*.
    return lightness(shrunken(pixels, height, width))[..., None]


def shrunken(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Give float32 [0, 1] [height, width, C] of an image of any size, by area averaging."""
    # In the type of the pixels: no scan is ever whole in float.
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return to_unit(small.reshape(height, width, -1))


def join_chroma(pixels: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Give the master's lightness at full resolution the chroma that a model predicted.

    Luminance is the master's to half a level of its type. A colour that sRGB cannot hold at this
    luminance is mixed with as much gray of the same luminance as it takes.

    Args:
        pixels: uint8 or uint16 [H, W, 1 or 3], sRGB, of which luminance is kept.
        chroma: float32 [h, w, 2], CIE a*b*, of any size; resampled bilinearly.

    Returns:
        RGB of the type of `pixels`, [H, W, 3].
    """
    height, width = pixels.shape[:2]
    result = scratch.empty((height, width, 3), pixels.dtype)
    top_level = np.float32(white(pixels.dtype))
    luminances = _luminances(pixels.dtype)
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        y = luminances(pixels[rows])
        a, b = np.moveaxis(_resampled_rows(chroma, rows, height, width), -1, 0)
        for channel, light in enumerate(_inside(y, *_coloured(y, a, b))):
            levels = _interpolated(_ENCODED(), light)
            levels *= top_level
            result[rows, :, channel] = np.rint(levels, out=levels)
    return result


def _coloured(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """Give linear R, G and B of luminance Y and CIE a*b*, all [H, W]."""
    root = _interpolated(_ROOTS(), y)
    x, z = _cube(root + a / np.float32(500)), _cube(root - b / np.float32(200))
    return (_weighted(weights, x, y, z) for weights in _FROM_XYZ)


def _inside(y: np.ndarray, *colour: np.ndarray) -> tuple[np.ndarray, ...]:
    """Bring linear R, G, B of luminance Y into 0 to 1, along the line to gray of this luminance."""
    lowest, highest = np.minimum.reduce(colour), np.maximum.reduce(colour)
    outside = np.flatnonzero((lowest < 0) | (highest > 1))
    gray = y.take(outside)
    below = gray / np.maximum(gray - lowest.take(outside), _LEAST)
    above = (1 - gray) / np.maximum(highest.take(outside) - gray, _LEAST)
    share = np.minimum(np.minimum(below, above), 1)
    for light in colour:
        light.put(outside, gray + share * (light.take(outside) - gray))
    return colour


_LEAST = np.float32(1e-12)  # what is divided by instead of nothing: gray itself is never outside


def _luminances(dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """Give what takes pixels [H, W, 1 or 3] of a type to relative luminance, float32 [H, W]."""
    light = linear(np.arange(white(dtype) + 1) / white(dtype))

    def luminances(pixels: np.ndarray) -> np.ndarray:
        if pixels.shape[-1] == 1:
            return light[pixels[..., 0]]
        return _weighted(_TO_XYZ[1], *(light[pixels[..., channel]] for channel in range(3)))

    return luminances


# Powers and roots come from tables, filled in double precision and interpolated linearly, which is
# exact to 1e-8: those of arrays in single precision differ from processor to processor, and so
# would the last level of 16 bits. Tables are faster as well.
_STEPS = 1 << 16


def _table(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[], np.ndarray]:
    """Tabulate a function of [0, 1] when it is first needed: its values, and the steps to the next,
    float32 [2, _STEPS + 1].
    """

    def filled() -> np.ndarray:
        values = function(np.arange(_STEPS + 1) / _STEPS)
        return np.stack([values, np.diff(values, append=values[-1])]).astype(np.float32)

    return cache(filled)


_ROOTS, _ENCODED = _table(_root), _table(encoded)


def _interpolated(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give a tabulated function of float32 values, which are clipped to [0, 1]."""
    places = np.clip(values, 0, 1)
    places *= np.float32(_STEPS)
    below = places.astype(np.int32)
    places -= below
    places *= table[1].take(below, mode="clip")
    places += table[0].take(below, mode="clip")
    return places


def _resampled_rows(chroma: np.ndarray, rows: slice, height: int, width: int) -> np.ndarray:
    """Resample some rows of [h, w, 2] to [len(rows), width, 2], pixel centres aligned."""
    last = chroma.shape[0] - 1
    at = (np.arange(rows.start, rows.stop) + 0.5) * (chroma.shape[0] / height) - 0.5
    at = np.clip(at, 0, last).astype(np.float32)
    above = np.floor(at).astype(np.intp)
    share = (at - above)[:, None, None]
    lines = chroma[above] * (1 - share) + chroma[np.minimum(above + 1, last)] * share
    return cv2.resize(lines, (width, len(lines)), interpolation=cv2.INTER_LINEAR)
