"""Decode masters to arrays and encode derivatives in their masters' image, through Pillow."""

import io
import re
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

DEFAULT_MAX_PIXELS = 250_000_000
DEFAULT_QUALITY = 95

_STRIP = 1 << 22  # pixels converted at a time, so that a large scan is not in memory three times


class CodecError(ValueError):
    """An image that cannot be decoded or encoded without losing something, and why."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format that masters come in and derivatives go out in.

    Attributes:
        extensions: in lower case, the usual one first.
        options: how Pillow is to save, from the master's form, the mode to save and the quality.
        deep: whether it holds 16-bit gray.
        alpha: whether it holds transparency.
    """

    extensions: tuple[str, ...]
    options: Callable[["Form", str, int], dict[str, Any]]
    deep: bool = False
    alpha: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a master was encoded, and what to write back beside the pixels.

    Attributes:
        format: key of `FORMATS`.
        mode: Pillow's mode of the master.
        icc, exif, xmp: metadata blocks, None where there are none; orientation already set to 1.
        dpi: resolution in dots per inch.
        notes: format-specific choices of the master, such as TIFF compression.
    """

    format: str
    mode: str
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as arrays: pixels [H, W, 1 or 3] uint8 or uint16, alpha [H, W] or None."""

    form: Form
    pixels: np.ndarray
    alpha: np.ndarray | None
    warnings: tuple[str, ...]


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
    with _opened(io.BytesIO(data)) as image:
        width, height = image.size
        _check_size(width, height, max_pixels)
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
        form, orientation = _form(image, data, turned, warnings)
        pixels, alpha = _arrays(image, form)
    turn = _TURNS.get(orientation, _TURNS[1])
    alpha = None if alpha is None else np.ascontiguousarray(turn(alpha))
    return Decoded(form, np.ascontiguousarray(turn(pixels)), alpha, tuple(warnings))


def form_of(pixels: np.ndarray, max_pixels: int = DEFAULT_MAX_PIXELS) -> Form:
    """Give the form of an image that came as pixels [H, W, 1 or 3]: it goes out as PNG.

    Raises:
        CodecError: there are more than `max_pixels`.
    """
    height, width = pixels.shape[:2]
    _check_size(width, height, max_pixels)
    gray = "L" if pixels.dtype == np.uint8 else "I;16"
    return Form(format="PNG", mode=gray if pixels.shape[-1] == 1 else "RGB")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise CodecError(
            f"{width} x {height} pixels are more than the {max_pixels:,} of --max_pixels"
        )


def encode(
    form: Form,
    pixels: np.ndarray,
    alpha: np.ndarray | None = None,
    *,
    name: str | None = None,
    quality: int = DEFAULT_QUALITY,
) -> bytes:
    """Encode a derivative as its master was, with the master's metadata.

    Args:
        form: of the master.
        pixels: uint8 or uint16 [H, W, 1 or 3]; three channels make a gray master's derivative RGB.
        alpha: [H, W] of the same type.
        name: the format, a key of `FORMATS`; None for the master's own.
        quality: of JPEG and lossy WebP, 1-100.

    Raises:
        CodecError: the format cannot hold these pixels.
    """
    name = name or form.format
    known = FORMATS[name]
    if pixels.dtype != np.uint8 and not known.deep:
        raise CodecError(f"{name} cannot hold 16 bits; choose another --image_format")
    if alpha is not None and not known.alpha:
        raise CodecError(f"{name} cannot hold transparency; choose another --image_format")
    image, icc = _image(form, pixels, alpha, name)
    options = known.options(form, image.mode, quality)
    metadata = {"icc_profile": icc, "exif": form.exif, "dpi": form.dpi}
    options |= {key: value for key, value in metadata.items() if value is not None}
    if form.xmp:
        options |= _XMP.get(name, _no_xmp)(form.xmp, form.exif)
    # In memory, libtiff leaves in the gaps between its blocks whatever was there before.
    with tempfile.TemporaryFile() if name == "TIFF" else io.BytesIO() as out:
        try:
            image.save(out, name, **options)
        except (OSError, ValueError, RuntimeError, struct.error) as error:
            raise CodecError(
                f"{name} cannot hold this {image.mode} image ({error}); "
                "choose another --image_format"
            ) from error
        out.seek(0)
        return out.read()


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


@dataclass(frozen=True, slots=True)
class Stated:
    """What an image file states of itself: a key of `FORMATS`, Pillow's mode, width and height."""

    format: str
    mode: str
    width: int
    height: int


def probe(file: BinaryIO) -> Stated | None:
    """Read what an image file states, without decoding; None if it is none."""
    try:
        with _opened(file) as image:
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
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    try:
        with _without_pillows_limit():
            image = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        raise CodecError(
            f"not a {', '.join(FORMATS)} file that we can read, or broken at its start"
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


def _form(image: Any, data: bytes, turned: bool, warnings: list[str]) -> tuple[Form, int]:
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
    form = Form(
        format=name,
        mode=_mode(image),
        icc=icc,
        exif=exif,
        xmp=_upright_xmp(xmp) if xmp else None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(dpi) else None,
        notes=_notes(image, data),
    )
    return form, orientation


def _mode(image: Image.Image) -> str:
    """Name the mode, telling transparency that Pillow keeps beside the pixels."""
    if "transparency" in image.info and image.mode in ("1", "L", "RGB", "P"):
        return "LA" if image.mode in ("1", "L") else "RGBA"
    return image.mode


def _notes(image: Any, data: bytes) -> dict[str, Any]:
    if image.format == "TIFF":
        return {
            "compression": image.info.get("compression", "raw"),
            "inverted": image.tag_v2.get(262) == 0,
        }
    if image.format == "WEBP":
        return {"lossless": b"VP8L" in data[:4096]}
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

# What EXIF orientations 1-8 ask of an array [H, W, ...] (EXIF 2.32, section 4.6.4 A).
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


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
        array = np.empty((height, width, len(target)), np.uint8)
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
        joined = np.concatenate([pixels, alpha[..., None]], axis=-1)
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


FORMATS: dict[str, Format] = {
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), _jpeg),
    "PNG": Format((".png",), _plain, deep=True, alpha=True),
    "TIFF": Format((".tif", ".tiff"), _tiff, deep=True, alpha=True),
    "WEBP": Format((".webp",), _webp, alpha=True),
    "GIF": Format((".gif",), _plain, alpha=True),
    "BMP": Format((".bmp",), _plain),
    "PPM": Format((".ppm", ".pgm", ".pbm", ".pnm"), _plain, deep=True),
}
_FORMATS = list(FORMATS)

EXTENSIONS: dict[str, str] = {
    extension: name for name, known in FORMATS.items() for extension in known.extensions
}
