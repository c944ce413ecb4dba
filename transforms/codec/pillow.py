"""Decode masters and encode derivatives through Pillow."""

import io
import re
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from transforms import scratch
from transforms.codec.form import CodecError, Decoded, Form, Stated, check_size, upright
from transforms.scratch import Buffer

_STRIP = 1 << 22  # pixels converted at a time, so that a large scan is not in memory three times


def decode(data: Buffer, formats: list[str], max_pixels: int) -> Decoded:
    """Decode an image of one of these formats; see `codec.decode`.

    Raises:
        CodecError: not such an image, a broken one, one with more than `max_pixels` pixels, or one
            of a depth that would be cut.
    """
    with _opened(scratch.opened(data), formats) as image:
        width, height = image.size
        check_size(width, height, max_pixels)
        _refuse_cut_depth(image)
        warnings: list[str] = []
        stated = dict(image.info)
        turned = _ORIENTATION in getattr(image, "tag_v2", {})
        try:
            frames = getattr(image, "n_frames", 1)
            # Before anything more is asked: PNG may hold metadata after its pixels. On loading a
            # TIFF Pillow turns it upright itself, and rewrites its XMP.
            with _without_pillows_limit():
                image.load()
            image.info |= stated
        except Exception as error:  # Pillow's parsers of broken files raise whatever they meet
            raise CodecError(f"broken {image.format} data: {error}") from error
        if frames > 1:
            warnings.append(f"only the first of {frames} frames or pages is restored")
        form = _form(image, data, turned, warnings)
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
    # In memory, libtiff leaves in the gaps between its blocks whatever was there before.
    with tempfile.TemporaryFile() if name == "TIFF" else scratch.spool(pixels.nbytes) as out:
        try:
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
            f"not a {', '.join(formats)} file that we can read, or broken at its start"
        ) from None
    except Exception as error:  # Pillow's parsers of broken files raise whatever they meet
        raise CodecError(f"broken image: {error}") from error
    with image:
        yield image


def _refuse_cut_depth(image: Any) -> None:
    # Pillow opens 16-bit colour as 8-bit without a word; only the raw mode of its tiles tells.
    raw = [tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in image.tile]
    deep = any(isinstance(arg, str) and ";16" in arg for args in raw for arg in args)
    if image.format == "TIFF":
        deep |= max(image.tag_v2.get(258, (8,))) > 8  # BitsPerSample; planes have raw modes of 8
    elif image.format == "PPM":
        deep |= any(isinstance(arg, int) and arg > 255 for args in raw for arg in args)  # maxval
    if image.mode in ("I", "F") or (deep and not image.mode.startswith("I;16")):
        raise CodecError(
            f"{'32-bit' if image.mode in 'IF' else '16-bit colour'} images are not supported yet: "
            "they would be cut to 8 bits"
        )


def _form(image: Any, data: Buffer, turned: bool, warnings: list[str]) -> Form:
    name = _format(image)
    orientation, exif = 1, None
    try:
        tags = image.getexif()
        orientation = int(tags.get(_ORIENTATION, 1))
        if name == "TIFF":
            tags = _descriptive(tags)
        if tags or turned:
            if turned or _ORIENTATION in tags:
                tags[_ORIENTATION] = 1
            exif = tags.tobytes()
    except Exception as error:  # whatever a parser meets in hostile EXIF; said on the record
        warnings.append(f"EXIF is broken and was not carried over: {error}")
    icc = image.info.get("icc_profile") or None
    if icc and not any(_profile(icc, space) for space in ("RGB", "GRAY", "CMYK", "Lab")):
        warnings.append("the ICC profile is broken and was not carried over")
        icc = None
    if name == "GIF":
        warnings.append("GIF holds 256 colours; --image_format png keeps all of them")
    xmp = image.info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8")
    dpi = image.info.get("dpi")
    if name == "TIFF" and 282 not in image.tag_v2:
        dpi = None  # Pillow's own invention of 1 dot per inch
    mode = _mode(image)
    return Form(
        format=name,
        mode=mode,
        bits=_BITS.get(image.mode, 8),
        orientation=orientation,
        icc=icc,
        exif=exif,
        xmp=_upright_xmp(xmp) if xmp else None,
        iptc=_iptc(image),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(dpi) else None,
        resolution_unit=_resolution_unit(image),
        conversions=_conversions(image, icc),
        notes=_notes(image, data),
    )


_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16}


def _iptc(image: Any) -> bytes | None:
    if image.format == "TIFF":
        block = image.tag_v2.get(33723)
    else:
        block = image.info.get("photoshop", {}).get(0x0404)  # Photoshop's resource of IPTC-NAA
    return block if isinstance(block, bytes) else None


def _resolution_unit(image: Any) -> int | None:
    if image.format == "TIFF":
        return image.tag_v2.get(296, 2) if 282 in image.tag_v2 else None  # inches unless said
    if image.format in ("JPEG", "MPO"):
        # JFIF counts from 0, no unit, to 2, centimetre.
        return {0: 1, 1: 2, 2: 3}.get(image.info.get("jfif_unit", -1))
    return None


def _conversions(image: Any, icc: bytes | None) -> tuple[str, ...]:
    """Say what `_arrays` does to the samples."""
    done = _SAID.get(image.mode, ())
    if image.mode == "CMYK":
        through = "its ICC profile" if _profile(icc, "CMYK") else "no profile: R = 1 - C - K"
        done = (f"CMYK to sRGB through {through}",)
    return done


_SAID: dict[str, tuple[str, ...]] = {
    "1": ("bilevel to 8-bit gray",),
    "P": ("palette to 8-bit RGB",),
    "PA": ("palette to 8-bit RGB with alpha",),
    "LAB": ("8-bit CIE L*a*b* to sRGB",),
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
    if image.format == "TIFF":
        return {
            "compression": image.info.get("compression", "raw"),
            "inverted": image.tag_v2.get(262) == 0,
        }
    if image.format == "WEBP":
        return {"lossless": b"VP8L" in bytes(data[:4096])}
    return {}


# What a TIFF says of the photograph, as against of its own layout in the file.
_NESTED = {int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo)}
_DESCRIPTIVE = _NESTED | {269, 270, 271, 272, 274, 285, 305, 306, 315, 316, 33432, 33723, 34377}


def _descriptive(tags: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    for tag in sorted(_DESCRIPTIVE & set(tags)):
        value = tags.get_ifd(tag) if tag in _NESTED else tags[tag]
        if value:
            kept[tag] = value
    return kept


def _exif(data: bytes | None) -> Image.Exif:
    tags = Image.Exif()
    tags.load(data or b"")
    return tags


def _upright_xmp(xmp: bytes) -> bytes:
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)


_ORIENTATION = int(ExifTags.Base.Orientation)

# -- modes -----------------------------------------------------------------------------------------


def _arrays(image: Image.Image, form: Form) -> tuple[np.ndarray, np.ndarray | None]:
    if form.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16, copy=False)[..., None]
        # Pillow inverts white-is-zero images of 8 bits only, and always writes black-is-zero.
        return (65535 - pixels if form.notes.get("inverted") else pixels), None
    if form.mode not in _TO_ARRAY:
        raise CodecError(f"images of Pillow mode {form.mode} are not supported")
    target = _TO_ARRAY[form.mode]
    width, height = image.size
    convert = _converter(image, form, target)
    rows = max(1, _STRIP // width)
    if height <= rows:
        data = convert(image).tobytes()
        array = np.frombuffer(data, np.uint8).reshape(height, width, len(target))
    else:
        array = scratch.empty((height, width, len(target)), np.uint8)
        for top in range(0, height, rows):
            strip = convert(image.crop((0, top, width, min(top + rows, height))))
            array[top : top + rows] = np.asarray(strip).reshape(-1, width, len(target))
    if target in ("LA", "RGBA"):
        return array[..., :-1], array[..., -1]
    return array, None


# Pillow modes by what they are turned into: L, LA, RGB or RGBA.
_TO_ARRAY = {
    **dict.fromkeys(("1", "L"), "L"),
    **dict.fromkeys(("LA", "La"), "LA"),
    **dict.fromkeys(("RGB", "RGBX", "P", "CMYK", "YCbCr", "LAB", "HSV"), "RGB"),
    **dict.fromkeys(("RGBA", "RGBa", "PA"), "RGBA"),
}

_LAB = ImageCms.createProfile("LAB")
_SRGB = ImageCms.createProfile("sRGB")


def _converter(image: Image.Image, form: Form, target: str):
    if image.mode == "LAB":
        transform = ImageCms.buildTransform(_LAB, _SRGB, "LAB", "RGB")
    elif image.mode == "CMYK" and (profile := _profile(form.icc, "CMYK")):
        transform = ImageCms.buildTransform(profile, _SRGB, "CMYK", "RGB")
    else:
        # Transparency of a palette or of one colour sits in `info`, which crop() passes on.
        return lambda strip: strip if strip.mode == target else strip.convert(target)
    return lambda strip: ImageCms.applyTransform(strip, transform)


def _profile(icc: bytes | None, space: str) -> ImageCms.ImageCmsProfile | None:
    """Open an embedded profile if it is sound and for this colour space."""
    if not icc:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except (ImageCms.PyCMSError, OSError):
        return None
    return profile if profile.profile.xcolor_space.strip() == space else None


def _image(
    form: Form, pixels: np.ndarray, alpha: np.ndarray | None, name: str
) -> tuple[Image.Image, bytes | None]:
    """Give the image to save, and the profile that describes it."""
    gray = pixels.shape[-1] == 1
    icc = form.icc if _describes(form.icc, gray) else None
    if alpha is not None:
        joined = scratch.empty((*alpha.shape, pixels.shape[-1] + 1), alpha.dtype)
        np.concatenate([pixels, alpha[..., None]], axis=-1, out=joined)
        return Image.fromarray(joined, "LA" if gray else "RGBA"), icc
    if gray:
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
        if form.mode == "1" and pixels.dtype == np.uint8:
            image = image.point(lambda level: 255 * (level >= 128), "1")
        return image, icc
    if pixels.dtype != np.uint8:
        raise CodecError("16-bit colour cannot be written yet")
    image = Image.fromarray(pixels)
    if form.mode == "CMYK" and name in ("JPEG", "TIFF"):
        if profile := _profile(form.icc, "CMYK"):
            transform = ImageCms.buildTransform(_SRGB, profile, "RGB", "CMYK")
            converted = ImageCms.applyTransform(image, transform)
            assert converted is not None, "a transform that is not in place gives an image"
            return converted, form.icc
        return image.convert("CMYK"), None
    return image, icc


def _describes(icc: bytes | None, gray: bool) -> bool:
    """Say whether a profile is for the colours we write: a wrong one shows wrong colours."""
    return _profile(icc, "GRAY" if gray else "RGB") is not None


# -- formats ---------------------------------------------------------------------------------------


def _jpeg(form: Form, mode: str, quality: int) -> dict[str, Any]:
    return {"quality": quality, "subsampling": "4:4:4"}


def _webp(form: Form, mode: str, quality: int) -> dict[str, Any]:
    if form.notes.get("lossless", form.format != "WEBP" and form.format != "JPEG"):
        return {"lossless": True, "exact": True}
    return {"quality": quality}


def _tiff(form: Form, mode: str, quality: int) -> dict[str, Any]:
    # What cannot hold continuous tone, or is lossy, gives way to deflate, which is lossless.
    if _NESTED & set(_exif(form.exif)):
        return {"compression": "raw"}  # Pillow's compressing writer cannot store an EXIF directory
    kept = {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"}
    compression = form.notes.get("compression", "tiff_adobe_deflate")
    bilevel = mode == "1" and compression in {"group3", "group4", "tiff_ccitt"}
    return {"compression": compression if compression in kept or bilevel else "tiff_adobe_deflate"}


def _png_xmp(xmp: bytes, exif: bytes | None) -> dict[str, Any]:
    chunks = PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return {"pnginfo": chunks}


def _tiff_xmp(xmp: bytes, exif: bytes | None) -> dict[str, Any]:
    tags = _exif(exif)
    tags[700] = xmp
    return {"exif": tags.tobytes()}


def _just_xmp(xmp: bytes, exif: bytes | None) -> dict[str, Any]:
    return {"xmp": xmp}


def _no_xmp(xmp: bytes, exif: bytes | None) -> dict[str, Any]:
    return {}


# How Pillow is told the XMP packet, for the formats that can hold one.
_XMP: dict[str, Callable[[bytes, bytes | None], dict[str, Any]]] = {
    "JPEG": _just_xmp,
    "PNG": _png_xmp,
    "TIFF": _tiff_xmp,
    "WEBP": _just_xmp,
}


def _plain(form: Form, mode: str, quality: int) -> dict[str, Any]:
    return {}


# How Pillow is told to save, by the master's form, the mode to save and the quality.
_OPTIONS: dict[str, Callable[[Form, str, int], dict[str, Any]]] = {
    "JPEG": _jpeg,
    "TIFF": _tiff,
    "WEBP": _webp,
}
