"""Colour management: masters to the working space that models see, and what changed back again.

The working space is sRGB, and sRGB's curve for gray, at the master's own depth. All conversions are
littleCMS', in 16 bits, relative colorimetric with black point compensation.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import imagecodecs
import numpy as np

from transforms import icc, scratch
from transforms.colour import white
from transforms.icc import ProfileError

_STRIP = 1 << 20  # pixels converted at a time

# A profile that moves no colour of the grid by more than this, of 65535, is sRGB in effect: half a
# level of 8 bits. With primaries of four digits and a curve of 1024 points, as the most common sRGB
# profile has them, saturated colours near black are up to 80 off.
_SAME = 128

_RELATIVE = int(imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC)
# Without NOOPTIMIZE littleCMS takes 16-bit colours through a cube of 33 points a side: on Adobe RGB
# that is up to 5,339 levels of 65535 off, and as fast as it is wrong.
_FLAGS = int(imagecodecs.CMS.FLAGS.NOOPTIMIZE | imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION)

_WORKING = {"GRAY": (icc.GRAY, "GRAY"), **dict.fromkeys(("RGB", "CMYK", "LAB"), (icc.SRGB, "RGB"))}
_CHANNELS = {"GRAY": 1, "RGB": 3, "CMYK": 4, "LAB": 3}

Convert = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Managed:
    """A master's pixels as models see them.

    Attributes:
        pixels: sRGB, or gray with sRGB's curve, [H, W, 1 or 3], at the master's depth.
        native: the master's own, [H, W, C], where these are others.
        icc: what the derivative is to carry, if it keeps the master's kind of colour.
        conversion: what was done, in words, if anything was.
        warnings: what a person should know.
    """

    pixels: np.ndarray
    native: np.ndarray | None
    icc: bytes | None
    conversion: str | None = None
    warnings: tuple[str, ...] = ()


def working(pixels: np.ndarray, profile: bytes | None, space: str) -> Managed:
    """Take a master's samples to the working space.

    A profile that is sRGB in effect, and no profile, cost nothing and change no sample of gray and
    RGB images. CMYK without a profile is taken for R = (1 - C)(1 - K) and so on; Lab is Lab. A
    profile that is broken, or for another kind of colour, is left out with a warning.

    Args:
        pixels: uint8 or uint16 [H, W, C]; CMYK with 0 for no ink; Lab as ICC encodes it: all levels
            for L* from 0 to 100, a* and b* with 128 added, and times 257 in 16 bits.
        profile: that came with it.
        space: GRAY, RGB, CMYK or LAB.
    """
    warnings: tuple[str, ...] = ()
    effect = _Effect(same=space in ("GRAY", "RGB"))
    if profile is not None:
        try:
            profile = icc.sound(profile, space)
            effect = _effect(profile, space)
        except ProfileError as error:
            warnings = (f"the ICC profile was not used, and not carried over: {error}",)
            profile = None
    if effect.same:
        return Managed(pixels, None, profile, None, warnings)
    target, kind = _WORKING[space]
    through = "its ICC profile" if profile else "no profile" if space == "CMYK" else "CIE L*a*b*"
    done = f"{space} to {'sRGB' if kind == 'RGB' else 'the curve of sRGB'} through {through}"
    convert = _to_working(profile, space, pixels.dtype)
    converted = _converted(pixels, convert, _CHANNELS[kind])
    if not effect.returns:
        warning = "the ICC profile converts one way only: the derivative is sRGB, and says so"
        return Managed(converted, None, target, done, (*warnings, warning))
    return Managed(converted, pixels, profile, done, warnings)


def native(
    result: np.ndarray,
    before: np.ndarray,
    own: np.ndarray | None,
    profile: bytes | None,
    space: str,
) -> tuple[np.ndarray, bytes | None]:
    """Take a result to the master's own colours: the change travels, what is unchanged stays.

    A pixel that is as it was before is the master's in every sample, whatever sRGB can hold. Others
    are the master's plus the change, converted; CMYK is converted anew, since how much a change of
    ink does depends on the other inks. A result of another kind of colour than the master's, such
    as a colorized gray one, stays in the working space.

    Args:
        result: uint8 or uint16 [H, W, 1 or 3] in the working space.
        before: what the master was there, `Managed.pixels`.
        own: `Managed.native`.
        profile: `Managed.icc`.
        space: of the master: GRAY, RGB, CMYK or LAB.

    Returns:
        What to write, and the profile that describes it; none where the master had none.
    """
    kind = "GRAY" if result.shape[-1] == 1 else "RGB"
    if own is None and kind == space:
        return result, profile
    if own is None or kind != _WORKING[space][1]:
        return result, of_working(result, profile)
    back = _from_working(profile, space, own)
    written = scratch.empty_like(own)
    for rows in _strips(own):
        strip = written[rows]
        strip[:] = own[rows]
        changed = (result[rows] != before[rows]).any(axis=-1)
        if changed.any():
            strip[changed] = back(result[rows][changed], before[rows][changed], strip[changed])
    return written, profile


def of_working(result: np.ndarray, profile: bytes | None) -> bytes | None:
    """Give the profile of a result that stays in the working space: none if the master had none."""
    return profile and _WORKING["GRAY" if result.shape[-1] == 1 else "RGB"][0]


# -- what a profile does ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Effect:
    """What converting with a profile comes to: nothing at all; and whether it can be undone."""

    same: bool
    returns: bool = True


@lru_cache(maxsize=16)  # an archive has few, and each is kept
def _effect(profile: bytes, space: str) -> _Effect:
    target, kind = _WORKING[space]
    channels = _CHANNELS[space]
    steps = np.linspace(0, 65535, 256 if channels == 1 else 9).astype(np.uint16)
    grid = np.stack(np.meshgrid(*[steps] * channels, indexing="ij"), axis=-1)
    grid = grid.reshape(1, -1, channels)
    try:
        there = _transform(grid, profile, space, target, kind)
    except imagecodecs.CmsError as error:
        raise ProfileError("it is broken: littleCMS can make no conversion of it") from error
    try:
        _transform(there[:, :1], target, kind, profile, space)
    except imagecodecs.CmsError:
        return _Effect(same=False, returns=False)
    same = space == kind and np.abs(there.astype(int) - grid).max() <= _SAME
    return _Effect(same=bool(same))


def _transform(
    pixels: np.ndarray,
    profile: bytes,
    space: str,
    target: bytes,
    kind: str,
    dtype: np.dtype | type | None = None,
) -> np.ndarray:
    """Convert [H, W, C] with littleCMS.

    Raises:
        CmsError: one of the profiles cannot do it.
    """
    out = np.empty((*pixels.shape[:2], _CHANNELS[kind]), dtype or pixels.dtype)
    imagecodecs.cms_transform(
        pixels,
        profile,
        target,
        colorspace=space.lower(),
        outcolorspace=kind.lower(),
        planar=False if pixels.shape[-1] > 1 else None,
        outplanar=False if out.shape[-1] > 1 else None,
        intent=_RELATIVE,
        flags=_FLAGS,
        out=out,  # type: ignore[arg-type]  # its stubs leave arrays out
    )
    return out


def _strips(pixels: np.ndarray) -> Iterator[slice]:
    height, width = pixels.shape[:2]
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def _converted(pixels: np.ndarray, convert: Convert, channels: int) -> np.ndarray:
    result = scratch.empty((*pixels.shape[:2], channels), pixels.dtype)
    for rows in _strips(pixels):
        result[rows] = convert(pixels[rows])
    return result


# -- kinds of colour, there and back ---------------------------------------------------------------


def _to_working(profile: bytes | None, space: str, dtype: np.dtype) -> Convert:
    """Give what takes [H, W, C] to the working space, in the same type."""
    if space == "CMYK" and profile is None:
        return _without_inks
    source = profile or _lab_profile()
    target, kind = _WORKING[space]
    if space == "GRAY":
        table = _transform(_levels(dtype), source, space, target, kind)[0, :, 0]
        return lambda pixels: table[pixels]
    return lambda pixels: _transform(pixels, source, space, target, kind)


Back = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _from_working(profile: bytes | None, space: str, own: np.ndarray) -> Back:
    """Give what takes results [N, C], what they were before, and the master's own samples [N, C']
    to those of the derivative.
    """
    if space == "CMYK" and profile is None:
        return _inks
    source, kind = _WORKING[space]
    target = profile or _lab_profile()
    scale = 65535 // white(own.dtype)

    def deep(pixels: np.ndarray) -> np.ndarray:
        converted = _transform(pixels[None], source, kind, target, space, np.uint16)
        return converted[0].astype(np.int32)

    if space == "GRAY":
        table = deep(_levels(own.dtype)[0])[:, 0]
        return lambda new, before, own: _rounded(
            own.astype(np.int32) * scale + table[new] - table[before], scale, own.dtype
        )
    if space == "CMYK":
        return lambda new, before, own: _rounded(deep(new), scale, own.dtype)
    return lambda new, before, own: _rounded(
        own.astype(np.int32) * scale + deep(new) - deep(before), scale, own.dtype
    )


def _rounded(deep: np.ndarray, scale: int, dtype: np.dtype) -> np.ndarray:
    """Bring values of 16 bits to those of the type."""
    return np.clip((deep + scale // 2) // scale, 0, white(dtype)).astype(dtype)


def _levels(dtype: np.dtype) -> np.ndarray:
    return np.arange(white(dtype) + 1, dtype=dtype).reshape(1, -1, 1)


@lru_cache(maxsize=1)
def _lab_profile() -> bytes:
    return imagecodecs.cms_profile("lab4")


def _without_inks(pixels: np.ndarray) -> np.ndarray:
    """Give R = (1 - C)(1 - K), and G and B likewise, of CMYK."""
    most = white(pixels.dtype)
    paper = most - pixels.astype(np.uint32)
    light = paper[..., :3] * paper[..., 3:]
    return ((light + most // 2) // most).astype(pixels.dtype)


def _inks(new: np.ndarray, before: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Undo `_without_inks` with the master's own black, as far as the colour leaves room for it."""
    most = white(own.dtype)
    black = np.minimum(own[:, 3], most - new.max(axis=-1))
    room = np.maximum(most - black.astype(np.float64), 1)[:, None]
    inks = np.clip(np.rint(most * (1 - new / room)), 0, most)
    return np.concatenate([inks, black[:, None]], axis=-1).astype(own.dtype)
