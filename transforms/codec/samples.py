"""From the samples that files hold to gray or RGB at full range, and back; large scans by strips.

All functions take and give arrays [H, W, C] or [H, W] of uint8 or uint16, unless they say more.
"""

import io
from collections.abc import Callable

import imagecodecs
import numpy as np
from PIL import ImageCms

from transforms.codec.form import CodecError

STRIP = 1 << 22  # pixels converted at a time, so that a large scan is not in memory three times

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _empty(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    return np.empty(shape, dtype)


def by_strips(
    samples: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    channels: int,
    dtype: np.dtype | type,
) -> np.ndarray:
    """Convert [H, W, ...] by strips of rows to [H, W, channels]."""
    height, width = samples.shape[:2]
    result = _empty((height, width, channels), dtype)
    rows = max(1, STRIP // max(1, width))
    for top in range(0, height, rows):
        strip = function(samples[top : top + rows])
        result[top : top + rows] = strip.reshape(len(strip), width, channels)
    return result


def white(dtype: np.dtype) -> int:
    """Give the largest value of an unsigned type."""
    return int(np.iinfo(dtype).max)


def widened(samples: np.ndarray, bits: int) -> np.ndarray:
    """Scale samples of 1-15 bits to the full range of uint8, or of uint16 from 9 bits on.

    The widths between are kept apart: scaling back and rounding gives the samples again.

    Raises:
        CodecError: there are larger ones.
    """
    if bits < 8 * samples.itemsize and samples.max(initial=0) >> bits:
        raise CodecError(f"broken data: its samples have more than the {bits} bits that it claims")
    dtype = np.uint8 if bits <= 8 else np.uint16
    if bits in (8, 16):
        return samples.astype(dtype, copy=False)
    top = (1 << bits) - 1
    levels = np.arange(top + 1, dtype=np.uint32)
    table = ((levels * white(np.dtype(dtype)) + top // 2) // top).astype(dtype)
    return by_strips(samples, lambda strip: table[strip], samples.shape[-1], dtype)


def from_float(samples: np.ndarray) -> np.ndarray:
    """Round floats of 0 to 1 to uint16.

    Raises:
        CodecError: there are others, or NaN: nothing tells which of them is white.
    """
    low, high = samples.min(), samples.max()
    if not (low >= 0 and high <= 1):
        raise CodecError(
            f"its {samples.dtype} samples go from {low:g} to {high:g}, and nothing tells which is "
            "white; scale them to 0 to 1, or to 16-bit integers"
        )
    return by_strips(
        samples,
        lambda strip: np.rint(strip.astype(np.float64) * 65535),
        samples.shape[-1],
        np.uint16,
    )


def through_palette(indices: np.ndarray, palette: np.ndarray) -> tuple[np.ndarray, int]:
    """Look indices [H, W, 1] up in a TIFF's palette uint16 [3, N]; give RGB and its bits.

    TIFF has 16 bits for each entry, of which most writers fill 8, by repeating them, by leaving the
    others empty, or by not scaling at all.
    """
    high, low = palette >> 8, palette & 255
    if not high.any():
        narrow = low
    elif np.array_equal(high, low) or not low.any():
        narrow = high
    else:
        table = np.ascontiguousarray(palette.T)
        return by_strips(indices, lambda strip: table[strip[..., 0]], 3, np.uint16), 16
    table = np.ascontiguousarray(narrow.T.astype(np.uint8))
    return by_strips(indices, lambda strip: table[strip[..., 0]], 3, np.uint8), 8


def divided(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Divide premultiplied alpha out; `multiplied` gives back what was there, to the last level.

    What is brighter than its alpha allows is cut, as in every viewer.
    """
    top = white(pixels.dtype)

    def divide(strip: np.ndarray) -> np.ndarray:
        held = np.maximum(strip[..., -1:], 1)
        return np.minimum((strip[..., :-1] * np.uint32(top) + held // 2) // held, top)

    return _beside(pixels, alpha, divide)


def multiplied(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Multiply pixels by their alpha."""
    top = white(pixels.dtype)

    def multiply(strip: np.ndarray) -> np.ndarray:
        return (strip[..., :-1].astype(np.uint64) * strip[..., -1:] + top // 2) // top

    return _beside(pixels, alpha, multiply)


def _beside(
    pixels: np.ndarray, alpha: np.ndarray, function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    height, width = pixels.shape[:2]
    result = _empty(pixels.shape, pixels.dtype)
    rows = max(1, STRIP // max(1, width))
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        result[part] = function(np.dstack([pixels[part], alpha[part]]))
    return result


# -- colour ----------------------------------------------------------------------------------------


def profile(icc: bytes | None, space: str) -> ImageCms.ImageCmsProfile | None:
    """Open an ICC profile if it is sound and for this colour space: RGB, GRAY, CMYK or Lab."""
    if not icc:
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except (ImageCms.PyCMSError, OSError):
        return None
    return opened if opened.profile.xcolor_space.strip() == space else None


def is_sound(icc: bytes) -> bool:
    """Tell whether a profile is one, of a space that images come in."""
    return any(profile(icc, space) for space in ("RGB", "GRAY", "CMYK", "Lab"))


def describes(icc: bytes | None, *, gray: bool) -> bool:
    """Say whether a profile is for the colours we write: a wrong one shows wrong colours."""
    return profile(icc, "GRAY" if gray else "RGB") is not None


def cmyk_said(icc: bytes | None) -> str:
    """Say how `from_cmyk` converts."""
    if profile(icc, "CMYK"):
        return "CMYK to sRGB through its ICC profile"
    return "CMYK without a profile to RGB: R = (1-C)(1-K)"


def from_cmyk(inks: np.ndarray, icc: bytes | None) -> np.ndarray:
    """Convert inks [H, W, 4] to sRGB of the same depth."""
    if icc and profile(icc, "CMYK"):
        return by_strips(
            inks,
            lambda strip: imagecodecs.cms_transform(
                np.ascontiguousarray(strip), icc, _SRGB, colorspace="cmyk", outcolorspace="rgb"
            ),
            3,
            inks.dtype,
        )
    top = white(inks.dtype)

    def plain(strip: np.ndarray) -> np.ndarray:
        left = top - strip.astype(np.uint64)
        return (left[..., :3] * left[..., 3:] + top // 2) // top

    return by_strips(inks, plain, 3, inks.dtype)


def to_cmyk(pixels: np.ndarray, icc: bytes | None) -> np.ndarray:
    """Convert sRGB to inks [H, W, 4] of the same depth, as `from_cmyk` came from them."""
    if icc and profile(icc, "CMYK"):
        return by_strips(
            pixels,
            lambda strip: imagecodecs.cms_transform(
                np.ascontiguousarray(strip), _SRGB, icc, colorspace="rgb", outcolorspace="cmyk"
            ),
            4,
            pixels.dtype,
        )
    inks = np.zeros((*pixels.shape[:2], 4), pixels.dtype)
    np.subtract(white(pixels.dtype), pixels, out=inks[..., :3])
    return inks


def from_ycbcr(samples: np.ndarray, reference: tuple[float, ...]) -> np.ndarray:
    """Convert Y, Cb, Cr to RGB (TIFF 6.0, section 21) with the coefficients of BT.601.

    Args:
        samples: uint8 or uint16 [H, W, 3].
        reference: black and white of each of the three, as tag 532 has them.
    """
    top = white(samples.dtype)
    low, high = np.array(reference[::2], np.float32), np.array(reference[1::2], np.float32)
    scale = np.array([top, top // 2, top // 2], np.float32) / np.maximum(high - low, 1)

    def convert(strip: np.ndarray) -> np.ndarray:
        luma, blue, red = np.moveaxis((strip.astype(np.float32) - low) * scale, -1, 0)
        r = luma + np.float32(1.402) * red
        b = luma + np.float32(1.772) * blue
        g = (luma - np.float32(0.299) * r - np.float32(0.114) * b) / np.float32(0.587)
        return np.rint(np.clip(np.stack([r, g, b], -1), 0, top))

    return by_strips(samples, convert, 3, samples.dtype)


# CIE XYZ under D50 to linear sRGB: the inverse of sRGB's matrix, adapted to D50 by Bradford, as in
# http://www.brucelindbloom.com/Eqn_RGB_XYZ_Matrix.html.
_FROM_D50 = np.linalg.inv(
    np.array(
        [
            [0.4360747, 0.3850649, 0.1430804],
            [0.2225045, 0.7168786, 0.0606169],
            [0.0139322, 0.0971045, 0.7141733],
        ]
    )
)
_D50 = np.array([0.9642, 1.0, 0.8249])


def from_lab(samples: np.ndarray, *, offset: bool) -> np.ndarray:
    """Convert CIE L*a*b* under D50 to sRGB of the same depth (TIFF 6.0, section 23).

    Args:
        samples: uint8 or uint16 [H, W, 3], as they are stored.
        offset: whether a* and b* are stored with an offset, as ICC's are, or as signed numbers.
    """
    deep = samples.dtype == np.uint16
    signed = np.int16 if deep else np.int8
    top = white(samples.dtype)
    unit = 256 if deep else 1
    # ICC's white is FF00 in 16 bits (ICC.1:2004-10, table 12); TIFF's own is the largest value.
    full = 65280 if deep and offset else top

    def convert(strip: np.ndarray) -> np.ndarray:
        light = strip[..., 0] * (100 / full)
        chroma = (strip if offset else strip.view(signed))[..., 1:].astype(np.float64) / unit
        if offset:
            chroma -= 128
        y = (light + 16) / 116
        curve = np.stack([y + chroma[..., 0] / 500, y, y - chroma[..., 1] / 200], -1)
        xyz = np.where(curve > 6 / 29, curve**3, (curve - 4 / 29) * (3 * (6 / 29) ** 2)) * _D50
        # Not as a matrix product: those round as the processor's library likes.
        linear = sum(xyz[..., index, None] * _FROM_D50[:, index] for index in range(3))
        linear = np.clip(linear, 0, 1)
        encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        return np.rint(encoded * top)

    return by_strips(samples, convert, 3, samples.dtype)
