"""From the samples that files hold to gray or RGB at full range, and back; large scans by strips.

All functions take and give arrays [H, W, C] or [H, W] of uint8 or uint16, unless they say more.
"""

from collections.abc import Callable

import numpy as np
from PIL import ImageCms

from transforms import scratch
from transforms.codec.form import CodecError

STRIP = 1 << 20  # pixels converted at a time, so that a large scan is not in memory three times

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def by_strips(
    samples: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    channels: int,
    dtype: np.dtype | type,
) -> np.ndarray:
    """Convert [H, W, ...] by strips of rows to [H, W, channels]."""
    height, width = samples.shape[:2]
    result = scratch.empty((height, width, channels), dtype)
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
    result = scratch.empty(pixels.shape, pixels.dtype)
    rows = max(1, STRIP // max(1, width))
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        result[part] = function(np.dstack([pixels[part], alpha[part]]))
    return result


# -- colour ----------------------------------------------------------------------------------------


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


def from_lab(samples: np.ndarray, *, signed: bool) -> np.ndarray:
    """Bring CIE L*a*b* of a TIFF to ICC's encoding, the one that `profiles.working` takes, and in
    which `to_lab` finds each sample again.

    Args:
        samples: uint8 or uint16 [H, W, 3], as they are stored.
        signed: whether a* and b* are signed numbers (TIFF 6.0, section 23), or have an offset, as
            ICC's have (Adobe Photoshop TIFF Technical Notes); which in 16 bits differ by 256/257
            from ICC's own of today (ICC.1:2022, tables 12 and 13). That ends at 127: of signed
            numbers of 16 bits, the last unit before 128 is cut to it.
    """
    if samples.dtype == np.uint8:
        return by_strips(samples, lambda strip: strip ^ _SIGN_8 if signed else strip, 3, np.uint8)
    offset, factors = _lab_scale(signed)

    def convert(strip: np.ndarray) -> np.ndarray:
        return np.minimum(np.rint((strip ^ offset) * factors), 65535)

    return by_strips(samples, convert, 3, np.uint16)


def to_lab(samples: np.ndarray, *, signed: bool) -> np.ndarray:
    """Undo `from_lab`."""
    if samples.dtype == np.uint8:
        return by_strips(samples, lambda strip: strip ^ _SIGN_8 if signed else strip, 3, np.uint8)
    offset, factors = _lab_scale(signed)
    return by_strips(
        samples, lambda strip: np.rint(strip / factors).astype(np.uint16) ^ offset, 3, np.uint16
    )


_SIGN_8 = np.array([0, 0x80, 0x80], np.uint8)
_SIGN_16 = np.array([0, 0x8000, 0x8000], np.uint16)


def _lab_scale(signed: bool) -> tuple[np.ndarray, np.ndarray]:
    if signed:
        return _SIGN_16, np.array([1, 257 / 256, 257 / 256])
    return np.zeros_like(_SIGN_16), np.full(3, 65535 / 65280)
