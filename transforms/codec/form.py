"""What is known of a master beside its pixels, and what all codecs share."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from transforms import scratch

DEFAULT_MAX_PIXELS = 250_000_000
DEFAULT_QUALITY = 95


class CodecError(ValueError):
    """An image that cannot be decoded or encoded without losing something, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a master was encoded, and what to write back beside the pixels.

    Attributes:
        format: key of `FORMATS`.
        mode: Pillow's mode of the master.
        bits: of each sample, as the file stores them: 1 of a bilevel image, 12, 16, 32.
        orientation: as EXIF numbers them, 1-8, that the file was found with.
        icc, exif, xmp, iptc: metadata blocks, None where there are none; orientation is set to 1 in
            them. IPTC is the bare IIM datasets.
        dpi: resolution in dots per inch, whatever the unit that the file states it in.
        resolution_unit: that unit, as EXIF and TIFF number them: 2 inch, 3 centimetre, 1 none
            (there is no `dpi` then); None where the file names no unit.
        conversions: what decoding did to the samples to make them gray or RGB, a sentence each.
        notes: format-specific choices of the master, such as TIFF compression.
    """

    format: str
    mode: str
    bits: int = 8
    orientation: int = 1
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    resolution_unit: int | None = None
    conversions: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as arrays: pixels [H, W, 1 or 3] uint8 or uint16, alpha [H, W] or None."""

    form: Form
    pixels: np.ndarray
    alpha: np.ndarray | None
    warnings: tuple[str, ...]


class Page(NamedTuple):
    """A page to encode.

    Attributes:
        form: of its master.
        pixels: uint8 or uint16 [H, W, 1 or 3]; three channels make a gray master's derivative RGB.
        alpha: [H, W] of the same type.
    """

    form: Form
    pixels: np.ndarray
    alpha: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Stated:
    """What an image file states of itself.

    Attributes:
        format: a key of `FORMATS`.
        mode: Pillow's.
        width, height: of the first page.
        more: pixels of all other pages together.
    """

    format: str
    mode: str
    width: int
    height: int
    more: int = 0


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image of too many pixels, before any memory is taken for them.

    Raises:
        CodecError: there are more than `max_pixels`.
    """
    if width * height > max_pixels:
        raise CodecError(
            f"{width} x {height} pixels are more than the {max_pixels:,} of --max_pixels"
        )


# What EXIF orientations 1-8 ask of an array [H, W, ...] (EXIF 2.32, section 4.6.4 A).
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array [H, W, ...] that is stored with an EXIF orientation; an unknown one is 1."""
    return scratch.contiguous(TURNS.get(orientation, TURNS[1])(pixels))


def upright_xmp(xmp: bytes) -> bytes:
    """Say in an XMP packet, where it says anything of it, that the image is upright."""
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)
