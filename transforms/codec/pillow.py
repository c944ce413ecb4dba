"""Decode masters and encode derivatives through Pillow."""

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from transforms import scratch
from transforms.codec import samples as convert
from transforms.codec.form import (
    CodecError,
    Decoded,
    Form,
    Stated,
    check_size,
    upright,
    upright_xmp,
)
from transforms.icc import SRGB
from transforms.scratch import Buffer


def decode(data: Buffer, formats: list[str], max_pixels: int, frame: int = 0) -> Decoded:
    """Decode an image of one of these formats; see `codec.decode`.

    Raises:
        CodecError: not such an image, a broken one, one with more than `max_pixels` pixels, or one
            of a depth that would be cut.
    """
    with _opened(scratch.opened(data), formats) as image:
        width, height = image.size
        check_size(width, height, max_pixels)
        _refuse_cut_depth(image, data)
        warnings: list[str] = []
        stated = dict(image.info)
        try:
            frames = getattr(image, "n_frames", 1)
            if frame:
                image.seek(frame)
            # Before anything more is asked: PNG may hold metadata after its pixels. TIFF Pillow
            # turns upright itself.
            with _without_pillows_limit():
                image.load()
            image.info |= stated
        except Exception as error:  # Pillow's parsers of broken files raise whatever they meet
            raise CodecError(f"broken {image.format} data: {error}") from error
        if image.format == "PSD":
            if frames > 1:
                warnings.append("its layers are not carried over, only what they show together")
        elif frames > 1 and image.format != "TIFF":
            warnings.append(f"only the first of {frames} frames is restored")
        form = _form(image, data, warnings)
        pixels, alpha = _arrays(image, form)
    alpha = None if alpha is None else upright(alpha, form.orientation)
    return Decoded(form, upright(pixels, form.orientation), alpha, tuple(warnings))


def encode(
    form: Form, pixels: np.ndarray, alpha: np.ndarray | None, name: str, quality: int
) -> Buffer:
    """Encode an image that the format can hold, with the master's metadata; see `codec.encode`.

    Raises:
        CodecError: the format cannot hold these pixels after all.
    """
    image, icc = _image(form, pixels, alpha, name)
    options = _OPTIONS.get(name, _plain)(form, image.mode, quality)
    metadata = {"icc_profile": icc, "exif": form.exif, "dpi": form.dpi}
    options |= {key: value for key, value in metadata.items() if value is not None}
    if form.xmp:
        options |= _XMP.get(name, _no_xmp)(form.xmp, form.exif)
    with scratch.spool(pixels.nbytes) as out:
        try:
            if name == "BMP" and image.mode == "RGBA":
                return _bmp_with_alpha(image, form.dpi)
            image.save(out, name, **options)
        except (OSError, ValueError, RuntimeError, struct.error) as error:
            raise CodecError(
                f"{name} cannot hold this {image.mode} image ({error}); "
                "choose another --image_format"
            ) from error
        return scratch.contents(out)


def probe(file: BinaryIO, formats: list[str]) -> Stated | None:
    """Read what an image file states, without decoding; None if it is none of these formats."""
    try:
        with _opened(file, formats) as image:
            return Stated(_format(image), _mode(image), *image.size)
    except CodecError:
        return None


def _format(image: Any) -> str:
    return "JPEG" if image.format == "MPO" else image.format


# -- opening ---------------------------------------------------------------------------------------

_limit = threading.Lock()


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Lift Pillow's limit of pixels, which is one for the whole process; ours is an argument."""
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _opened(file: BinaryIO, formats: list[str]) -> Iterator[Image.Image]:
    try:
        with _without_pillows_limit():
            image = Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise CodecError(
            "not an image of a format that we can read, or broken at its start"
        ) from None
    except Exception as error:  # Pillow's parsers of broken files raise whatever they meet
        raise CodecError(f"broken image: {error}") from error
    with image:
        yield image


def _refuse_cut_depth(image: Any, data: Buffer) -> None:
    # Pillow opens 16-bit colour as 8-bit without a word; only the raw mode of its tiles tells.
    raw = [tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in image.tile]
    deep = any(isinstance(arg, str) and ";16" in arg for args in raw for arg in args)
    if image.format == "TIFF":
        deep |= max(image.tag_v2.get(258, (8,))) > 8  # BitsPerSample; planes have raw modes of 8
    elif image.format == "PPM":
        deep |= any(isinstance(arg, int) and arg > 255 for args in raw for arg in args)  # maxval
    elif image.format == "SGI":
        deep |= any(tile.codec_name == "SGI16" for tile in image.tile)
    elif image.format == "AVIF":
        # High bit depth in the box of the codec's configuration (AV1-ISOBMFF, section 2.3.3).
        at = bytes(data).find(b"av1C") + 4
        deep |= at >= 4 and len(data) > at + 2 and bool(data[at + 2] & 0x40)
    if image.mode in ("I", "F") or (deep and not image.mode.startswith("I;16")):
        depth = "32" if image.mode in "IF" else "more than 8"
        raise CodecError(
            f"{depth} bits a sample of {image.format} would be cut to 8; convert it to TIFF or PNG "
            "of 16 bits"
        )


def _form(image: Any, data: Buffer, warnings: list[str]) -> Form:
    name = _format(image)
    orientation, exif = 1, None
    try:
        tags = image.getexif()
        orientation = int(tags.get(_ORIENTATION, 1))
        if tags:
            if _ORIENTATION in tags:
                tags[_ORIENTATION] = 1
            exif = tags.tobytes()
    except Exception as error:  # whatever a parser meets in hostile EXIF; said on the record
        warnings.append(f"EXIF is broken and was not carried over: {error}")
    if name == "GIF":
        warnings.append("GIF holds 256 colours; --image_format png keeps all of them")
    xmp = image.info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8")
    dpi = image.info.get("dpi")
    mode = _mode(image)
    return Form(
        format=name,
        mode=mode,
        bits=_BITS.get(image.mode, 8),
        orientation=orientation,
        icc=image.info.get("icc_profile") or None,
        exif=exif,
        xmp=upright_xmp(xmp) if xmp else None,
        iptc=_iptc(image),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(dpi) else None,
        resolution_unit=_resolution_unit(image),
        conversions=_SAID.get(image.mode, ()),
        notes=_notes(image, data),
    )


_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16}


def _iptc(image: Any) -> bytes | None:
    block = image.info.get("photoshop", {}).get(0x0404)  # Photoshop's resource of IPTC-NAA
    return block if isinstance(block, bytes) else None


def _resolution_unit(image: Any) -> int | None:
    if image.format in ("JPEG", "MPO"):
        # JFIF counts from 0, no unit, to 2, centimetre.
        return {0: 1, 1: 2, 2: 3}.get(image.info.get("jfif_unit", -1))
    return None


# What `_arrays` does to the samples, by Pillow's mode.
_SAID: dict[str, tuple[str, ...]] = {
    "1": ("bilevel to 8-bit gray",),
    "P": ("palette to 8-bit RGB",),
    "PA": ("palette to 8-bit RGB with alpha",),
    "YCbCr": ("YCbCr to RGB",),
    "La": ("premultiplied alpha divided out",),
    "RGBa": ("premultiplied alpha divided out",),
}


def _mode(image: Image.Image) -> str:
    """Name the mode, telling transparency that Pillow keeps beside the pixels."""
    if "transparency" in image.info and image.mode in ("1", "L", "RGB", "P"):
        return "LA" if image.mode in ("1", "L") else "RGBA"
    return image.mode


def _notes(image: Any, data: Buffer) -> dict[str, Any]:
    if image.format == "WEBP":
        return {"lossless": b"VP8L" in bytes(data[:4096])}
    return {}


_ORIENTATION = int(ExifTags.Base.Orientation)

# -- modes -----------------------------------------------------------------------------------------


def _arrays(image: Image.Image, form: Form) -> tuple[np.ndarray, np.ndarray | None]:
    deep = form.mode.startswith("I;16")
    if form.mode not in _TO_ARRAY and not deep:
        raise CodecError(f"images of Pillow mode {form.mode} are not supported")
    target = "I" if deep else _TO_ARRAY[form.mode]
    width, height = image.size
    rows = max(1, convert.STRIP // width)
    array = scratch.empty((height, width, len(target)), np.uint16 if deep else np.uint8)
    for top in range(0, height, rows):
        strip = image
        if height > rows:  # transparency of a palette sits in `info`, which crop() passes on
            strip = image.crop((0, top, width, min(top + rows, height)))
        samples = np.asarray(strip if deep or strip.mode == target else strip.convert(target))
        array[top : top + rows] = samples.reshape(-1, width, len(target))
    if target in ("LA", "RGBA"):
        return array[..., :-1], array[..., -1]
    return array, None


# Pillow modes by what they are turned into: L, LA, RGB, RGBA or CMYK.
_TO_ARRAY = {
    **dict.fromkeys(("1", "L"), "L"),
    **dict.fromkeys(("LA", "La"), "LA"),
    **dict.fromkeys(("RGB", "RGBX", "P", "YCbCr", "HSV"), "RGB"),
    "CMYK": "CMYK",
    **dict.fromkeys(("RGBA", "RGBa", "PA"), "RGBA"),
}


def _image(
    form: Form, pixels: np.ndarray, alpha: np.ndarray | None, name: str
) -> tuple[Image.Image, bytes | None]:
    """Give the image to save, and the profile that describes it."""
    gray = pixels.shape[-1] == 1
    icc = form.profile_of(pixels)
    if gray and icc and name == "WEBP":
        icc = SRGB  # it has no gray, and R = G = B is gray with this curve
    if alpha is not None:
        if gray and name == "BMP":
            pixels = np.repeat(pixels, 3, axis=-1)
        joined = scratch.empty((*alpha.shape, pixels.shape[-1] + 1), alpha.dtype)
        np.concatenate([pixels, alpha[..., None]], axis=-1, out=joined)
        return Image.fromarray(joined), icc
    if gray:
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
        if form.mode == "1":
            image = image.point(lambda level: 255 * (level >= 128), "1")
        return image, icc
    return Image.fromarray(pixels, "CMYK" if pixels.shape[-1] == 4 else "RGB"), icc


# -- formats ---------------------------------------------------------------------------------------


def _jpeg(form: Form, mode: str, quality: int) -> dict[str, Any]:
    return {"quality": quality, "subsampling": "4:4:4"}


def _webp(form: Form, mode: str, quality: int) -> dict[str, Any]:
    if form.notes.get("lossless", form.format != "WEBP" and form.format != "JPEG"):
        return {"lossless": True, "exact": True}
    return {"quality": quality}


def _png_xmp(xmp: bytes, exif: bytes | None) -> dict[str, Any]:
    chunks = PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return {"pnginfo": chunks}


def _just_xmp(xmp: bytes, exif: bytes | None) -> dict[str, Any]:
    return {"xmp": xmp}


def _no_xmp(xmp: bytes, exif: bytes | None) -> dict[str, Any]:
    return {}


# How Pillow is told the XMP packet, for the formats that can hold one.
_XMP: dict[str, Callable[[bytes, bytes | None], dict[str, Any]]] = {
    "JPEG": _just_xmp,
    "PNG": _png_xmp,
    "WEBP": _just_xmp,
}


def _bmp_with_alpha(image: Image.Image, dpi: tuple[float, float] | None) -> bytes:
    """Write a BMP whose header tells that it has alpha (BITMAPV4HEADER), which Pillow does not."""
    pixels = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGRA")
    per_metre = [round(dots / 0.0254) for dots in dpi or (0, 0)]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    srgb = b"BGRs" + bytes(48)
    head = struct.pack(
        "<IiiHHIIiiII4I", 108, *image.size, 1, 32, 3, len(pixels), *per_metre, 0, 0, *masks
    )
    start = 14 + len(head) + len(srgb)
    return struct.pack("<2sIII", b"BM", start + len(pixels), 0, start) + head + srgb + pixels


def _plain(form: Form, mode: str, quality: int) -> dict[str, Any]:
    return {}


# How Pillow is told to save, by the master's form, the mode to save and the quality.
_OPTIONS: dict[str, Callable[[Form, str, int], dict[str, Any]]] = {
    "JPEG": _jpeg,
    "WEBP": _webp,
}
