"""Decode masters to arrays and encode derivatives in their masters' image."""

import io
import re
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from PIL import Image

from transforms import metadata
from transforms.codec import pillow
from transforms.codec.form import (
    DEFAULT_MAX_PIXELS,
    DEFAULT_QUALITY,
    CodecError,
    Decoded,
    Form,
    Stated,
    check_size,
)
from transforms.metadata import Provenance

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "DEFAULT_QUALITY",
    "EXTENSIONS",
    "FORMATS",
    "CodecError",
    "Decoded",
    "Form",
    "Format",
    "Stated",
    "decode",
    "encode",
    "encode_mask",
    "form_of",
    "format_of",
    "probe",
]


@dataclass(frozen=True, slots=True)
class Format:
    """A file format that masters come in and derivatives go out in.

    Attributes:
        extensions: in lower case, the usual one first.
        deep: whether it holds 16-bit gray.
        alpha: whether it holds transparency.
    """

    extensions: tuple[str, ...]
    deep: bool = False
    alpha: bool = False


FORMATS: dict[str, Format] = {
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    "PNG": Format((".png",), deep=True, alpha=True),
    "TIFF": Format((".tif", ".tiff"), deep=True, alpha=True),
    "WEBP": Format((".webp",), alpha=True),
    "GIF": Format((".gif",), alpha=True),
    "BMP": Format((".bmp",)),
    "PPM": Format((".ppm", ".pgm", ".pbm", ".pnm"), deep=True),
}

EXTENSIONS: dict[str, str] = {
    extension: name for name, known in FORMATS.items() for extension in known.extensions
}


def decode(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Decoded:
    """Decode a master, upright, to gray or RGB at its own depth, with alpha kept aside.

    Palettes become RGB, CMYK and Lab become sRGB (through the embedded profile where there is
    one); `encode` takes CMYK and bilevel images back to what they were.

    Raises:
        CodecError: not an image, a broken one, one with more than `max_pixels` pixels, or one of
            a depth that would be cut.
    """
    if not data:
        raise CodecError("the file is empty")
    return pillow.decode(data, list(FORMATS), max_pixels)


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
    made: Provenance | None = None,
    warnings: list[str] | None = None,
) -> bytes:
    """Encode a derivative as its master was, with the master's metadata made true of it.

    Args:
        form: of the master.
        pixels: uint8 or uint16 [H, W, 1 or 3]; three channels make a gray master's derivative RGB.
        alpha: [H, W] of the same type.
        name: the format, a key of `FORMATS`; None for the master's own.
        quality: of JPEG and lossy WebP, 1-100.
        made: how it was made, to be said in its XMP where the format holds any.
        warnings: a list to add to what of the metadata cannot be read or held.

    Raises:
        CodecError: the format cannot hold these pixels.
    """
    name = name or form.format
    known = FORMATS[name]
    if pixels.dtype != np.uint8 and not known.deep:
        raise CodecError(f"{name} cannot hold 16 bits; choose another --image_format")
    if alpha is not None and not known.alpha:
        raise CodecError(f"{name} cannot hold transparency; choose another --image_format")
    height, width = pixels.shape[:2]
    said: list[str] = [] if warnings is None else warnings
    blocks, troubles = metadata.amended(
        form.metadata, width, height, made if name in metadata.HOLDING else None
    )
    said += troubles
    return pillow.encode(replace(form, metadata=blocks), pixels, alpha, name, quality, said)


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
    rb"|(?P<WEBP>RIFF....WEBP)|(?P<GIF>GIF8)|(?P<BMP>BM)|(?P<PPM>P[1-6]\s)",
    re.DOTALL,
)


def probe(file: BinaryIO) -> Stated | None:
    """Read what an image file states, without decoding; None if it is none."""
    return pillow.probe(file, list(FORMATS))
