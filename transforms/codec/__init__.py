"""Decode masters to arrays and encode derivatives in their masters' image."""

import io
import mmap
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from PIL import Image

from transforms import metadata, profiles, scratch
from transforms.codec import jp2, pillow, png, ppm, tiff, tiff_write
from transforms.codec.form import (
    DEFAULT_MAX_PIXELS,
    DEFAULT_QUALITY,
    CodecError,
    Decoded,
    Form,
    Page,
    Stated,
    check_size,
)
from transforms.scratch import Buffer

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "DEFAULT_QUALITY",
    "EXTENSIONS",
    "FORMATS",
    "OF_PAGES",
    "READ_ONLY",
    "CodecError",
    "Decoded",
    "Form",
    "Format",
    "Page",
    "Stated",
    "decode",
    "decode_pages",
    "encode",
    "encode_mask",
    "encode_pages",
    "form_of",
    "format_of",
    "own_colours",
    "probe",
]


@dataclass(frozen=True, slots=True)
class Format:
    """A file format that masters come in and derivatives go out in.

    Attributes:
        extensions: in lower case, the usual one first.
        deep: whether it holds 16 bits.
        alpha: whether it holds transparency.
        spaces: the kinds of colour of which it holds samples and a profile that tells what they
            are; what else there is goes into it as sRGB.
    """

    extensions: tuple[str, ...]
    deep: bool = False
    alpha: bool = False
    spaces: frozenset[str] = frozenset({"GRAY", "RGB"})


_INKS = frozenset({"GRAY", "RGB", "CMYK"})
_NONE: frozenset[str] = frozenset()

FORMATS: dict[str, Format] = {
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), spaces=_INKS),
    "PNG": Format((".png",), deep=True, alpha=True),
    "TIFF": Format((".tif", ".tiff"), deep=True, alpha=True, spaces=_INKS | {"LAB"}),
    "JP2": Format((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), deep=True, alpha=True),
    "WEBP": Format((".webp",), alpha=True, spaces=frozenset({"RGB"})),
    "GIF": Format((".gif",), alpha=True, spaces=_NONE),
    "BMP": Format((".bmp",), alpha=True, spaces=_NONE),
    "PPM": Format((".ppm", ".pgm", ".pbm", ".pnm"), deep=True, spaces=_NONE),
}
OF_PAGES = frozenset({"TIFF"})  # formats whose files hold any number of pages
# Formats that masters come in and derivatives do not go out in, by their extensions: PNG instead.
READ_ONLY: dict[str, tuple[str, ...]] = {
    "AVIF": (".avif",),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "PCX": (".pcx",),
    "DIB": (".dib",),
    "IM": (".im",),
    "MSP": (".msp",),
    "XBM": (".xbm",),
    "ICO": (".ico",),
    "CUR": (".cur",),
    "TGA": (".tga",),  # the last that is tried, for it has no mark
}
# Those that Pillow decodes; of PNG and PPM, what has 8 bits.
_PILLOWS = [name for name in (*FORMATS, *READ_ONLY) if name not in ("TIFF", "JP2")]

EXTENSIONS: dict[str, str] = {
    **{extension: name for name, known in FORMATS.items() for extension in known.extensions},
    **{extension: name for name, known in READ_ONLY.items() for extension in known},
}


def decode(data: Buffer, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Decoded:
    """Decode a master, upright, to gray or sRGB at its own depth, with alpha kept aside.

    Palettes become RGB; colours are managed as `profiles.working` says. A profile that cannot be
    used is not in the form, and a warning tells.

    Raises:
        CodecError: not an image, a broken one, one with more than `max_pixels` pixels, or one of
            a depth that would be cut.
    """
    return decode_pages(data, max_pixels=max_pixels)[0]


def decode_pages(data: Buffer, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> list[Decoded]:
    """Decode all pages of a master, as `decode` does the first; all formats but TIFF have one.

    Raises:
        CodecError: as `decode`, for any of them, or they have more pixels together.
    """
    return [_managed(page) for page in _stored(data, max_pixels)]


def _managed(page: Decoded) -> Decoded:
    form = page.form
    space = form.space_of(page.pixels)
    managed = profiles.working(page.pixels, form.icc, space)
    done = (
        form.conversions if managed.conversion is None else (*form.conversions, managed.conversion)
    )
    form = replace(form, icc=managed.icc, space=space, conversions=done)
    warnings = page.warnings + managed.warnings
    return Decoded(form, managed.pixels, page.alpha, warnings, managed.native)


def _stored(data: Buffer, max_pixels: int) -> list[Decoded]:
    """Decode all pages to the master's own samples, at full range."""
    if not data:
        raise CodecError("the file is empty")
    name = format_of(bytes(data[:16]))
    if name == "TIFF":
        return tiff.decode(data, max_pixels)
    if name == "JP2":
        return [jp2.decode(data, max_pixels)]
    if name == "PNG" and png.is_deep(data):
        return [png.decode(data, max_pixels)]
    if name == "PPM" and ppm.is_deep(data):
        return [ppm.decode(data, max_pixels)]
    warnings: list[str] = []
    if name == "PNG":
        data, warnings = png.without_bombs(data)
    decoded = pillow.decode(data, _PILLOWS, max_pixels)
    return [replace(decoded, warnings=(*decoded.warnings, *warnings))]


def form_of(pixels: np.ndarray, max_pixels: int = DEFAULT_MAX_PIXELS) -> Form:
    """Give the form of an image that came as pixels [H, W, 1 or 3]: it goes out as PNG.

    Raises:
        CodecError: there are more than `max_pixels`.
    """
    height, width = pixels.shape[:2]
    check_size(width, height, max_pixels)
    gray = "L" if pixels.dtype == np.uint8 else "I;16"
    mode = gray if pixels.shape[-1] == 1 else "RGB"
    return Form(format="PNG", mode=mode, bits=8 * pixels.dtype.itemsize)


def encode(
    form: Form,
    pixels: np.ndarray,
    alpha: np.ndarray | None = None,
    *,
    name: str | None = None,
    quality: int = DEFAULT_QUALITY,
    warnings: list[str] | None = None,
) -> Buffer:
    """Encode a derivative of one page; see `Page` and `encode_pages`."""
    page = Page(form, pixels, alpha)
    return encode_pages([page], name=name, quality=quality, warnings=warnings)


def encode_pages(
    pages: Sequence[Page],
    *,
    name: str | None = None,
    quality: int = DEFAULT_QUALITY,
    warnings: list[str] | None = None,
) -> Buffer:
    """Encode a derivative as its master was, with the master's metadata.

    Args:
        pages: in their order; more than one where the format is one of `OF_PAGES`.
        name: the format, a key of `FORMATS`; None for the master's own.
        quality: of JPEG and lossy WebP, 1-100.
        warnings: a list to which is added what of the metadata cannot be held.

    Raises:
        CodecError: the format cannot hold them.
    """
    name = name or pages[0].form.format
    known = _format(name)
    if any(page.pixels.dtype != np.uint8 for page in pages) and not known.deep:
        raise CodecError(f"{name} cannot hold 16 bits; choose another --image_format")
    if any(page.alpha is not None for page in pages) and not known.alpha:
        raise CodecError(f"{name} cannot hold transparency; choose another --image_format")
    said: list[str] = [] if warnings is None else warnings
    if name == "TIFF":
        return tiff_write.encode(pages, said)
    form, pixels, alpha = pages[0]
    data: Buffer
    if name == "JP2":
        data = jp2.encode(form, pixels, alpha)
    elif name == "PNG" and pixels.dtype != np.uint8:
        data = png.encode(form, pixels, alpha)
    elif name == "PPM" and pixels.dtype != np.uint8:
        data = ppm.encode(pixels)
    else:
        data = pillow.encode(form, pixels, alpha, name, quality)
    data, lost = metadata.insert(data, name, form.metadata)
    said += lost
    return data


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise CodecError(f"{name} is not written; choose an --image_format")
    return FORMATS[name]


def own_colours(
    form: Form,
    result: np.ndarray,
    before: np.ndarray,
    native: np.ndarray | None,
    name: str | None = None,
) -> tuple[Form, np.ndarray]:
    """Take a result back to the master's own colours, if the format can hold them.

    Args:
        form: of the master.
        result: uint8 or uint16 [H, W, 1 or 3] in the working space.
        before: what the master was decoded to, `Decoded.pixels`.
        native: the master's own samples, `Decoded.native`.
        name: the format, a key of `FORMATS`; None for the master's own.

    Returns:
        Form and samples for `encode`.
    """
    space = form.space or form.space_of(before)
    if native is not None and space not in _format(name or form.format).spaces:
        return replace(form, icc=profiles.of_working(result, form.icc), space=None), result
    samples, icc = profiles.native(result, before, native, form.icc, space)
    return replace(form, icc=icc, space=None if samples is result else space), samples


def encode_mask(mask: np.ndarray) -> bytes:
    """Encode bool [H, W] as a bilevel PNG, True as white."""
    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG")
    return out.getvalue()


def format_of(head: bytes) -> str | None:
    """Tell by its first bytes which of `FORMATS` an image file is of; None for none of them."""
    found = _MARKS.match(head)
    return found.lastgroup if found else None


_MARKS = re.compile(
    rb"(?P<JPEG>\xff\xd8\xff)|(?P<PNG>\x89PNG\r\n\x1a\n)|(?P<TIFF>II[*+]\0|MM\0[*+])"
    rb"|(?P<JP2>\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51)"
    rb"|(?P<WEBP>RIFF....WEBP)|(?P<GIF>GIF8)|(?P<BMP>BM)|(?P<PPM>P[1-6]\s)",
    re.DOTALL,
)


def probe(data: BinaryIO | Buffer) -> Stated | None:
    """Read what an image file, open or read, states, without decoding; None if it is none."""
    file = scratch.opened(data) if isinstance(data, Buffer) else data
    start = file.tell()
    head = file.read(16)
    file.seek(start)
    prober = _PROBERS.get(format_of(head) or "")
    if prober is None:
        return pillow.probe(file, _PILLOWS)
    return prober(data if isinstance(data, Buffer) else _buffer(data))


_PROBERS: dict[str, Callable[[Buffer], Stated | None]] = {"TIFF": tiff.probe, "JP2": jp2.probe}


def _buffer(file: BinaryIO) -> Buffer:
    """Give the bytes of a file, of which only those that are looked at need be read."""
    try:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):
        return file.read()
