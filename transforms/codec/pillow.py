"""Decode masters and encode derivatives through Pillow."""

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from transforms import metadata, scratch
from transforms.codec import carried, jpeg
from transforms.codec import samples as convert
from transforms.codec.form import CodecError, Decoded, Form, Stated, check_size, upright
from transforms.icc import SRGB
from transforms.metadata import Blocks, Found, Resolution
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
        if _format(image) == "JPEG":
            jpeg.check_scans(data)
        _refuse_cut_depth(image, data)
        warnings: list[str] = []
        stated = dict(image.info)
        try:
            frames = getattr(image, "n_frames", 1)
            if frame:
                image.seek(frame)
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
        form = _form(image, data, (width, height), warnings)
        pixels, alpha = _arrays(image, form)
    turn = 1 if image.format == "TIFF" else form.orientation  # Pillow turns a TIFF as it loads it
    alpha = None if alpha is None else upright(alpha, turn)
    return Decoded(form, upright(pixels, turn), alpha, tuple(warnings))


def encode(
    form: Form, pixels: np.ndarray, alpha: np.ndarray | None, name: str, quality: int
) -> Buffer:
    """Encode an image that the format can hold, with its profile alone; see `codec.encode`.

    Raises:
        CodecError: the format cannot hold these pixels after all.
    """
    image, icc = _image(form, pixels, alpha, name)
    options = _OPTIONS.get(name, _plain)(form, image.mode, quality)
    if icc is not None:
        options["icc_profile"] = icc
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


_AVIF_HEAD = 1 << 20  # bytes in which what describes an image comes before it


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
        head = bytes(data[:_AVIF_HEAD])
        at = head.find(b"av1C") + 4
        deep |= at >= 4 and len(head) > at + 2 and bool(head[at + 2] & 0x40)
    if image.mode in ("I", "F") or (deep and not image.mode.startswith("I;16")):
        depth = "32" if image.mode in "IF" else "more than 8"
        raise CodecError(
            f"{depth} bits a sample of {image.format} would be cut to 8; convert it to TIFF or PNG "
            "of 16 bits"
        )


def _form(image: Any, data: Buffer, size: tuple[int, int], warnings: list[str]) -> Form:
    name = _format(image)
    icc = image.info.get("icc_profile") or None
    found = metadata.read(data, name) if name in metadata.HOLDING else _told(image)
    told = carried.described(found, size, icc, warnings)
    if name == "GIF":
        warnings.append("GIF holds 256 colours; --image_format png keeps all of them")
    mode = _mode(image)
    return Form(
        format=name,
        mode=mode,
        bits=_BITS.get(image.mode, 8),
        conversions=_SAID.get(image.mode, ()),
        notes=_notes(image, data),
        **told,
    )


def _told(image: Any) -> Found:
    """Give what Pillow tells of the metadata of formats that we read none of ourselves."""
    exif, xmp, dpi = (image.info.get(name) for name in ("exif", "xmp", "dpi"))
    resolution = None
    if dpi and all(dpi):
        x, y = (Fraction(float(dots)).limit_denominator(10**4) for dots in dpi)
        resolution = Resolution(x, y, 2)
    exif = exif.removeprefix(b"Exif\0\0") if exif else None
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    return Found(Blocks(exif=exif or None, xmp=xmp or None, resolution=resolution))


_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16}


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
        return Image.fromarray(joined, "LA" if joined.shape[-1] == 2 else "RGBA"), icc
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


def _bmp(form: Form, mode: str, quality: int) -> dict[str, Any]:
    return {"dpi": form.dpi} if form.dpi else {}


def _plain(form: Form, mode: str, quality: int) -> dict[str, Any]:
    return {}


# How Pillow is told to save, by the master's form, the mode to save and the quality.
_OPTIONS: dict[str, Callable[[Form, str, int], dict[str, Any]]] = {
    "BMP": _bmp,
    "JPEG": _jpeg,
    "WEBP": _webp,
}
