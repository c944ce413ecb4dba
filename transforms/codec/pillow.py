"""Decode masters and encode derivatives through Pillow."""

import io
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from transforms import metadata
from transforms.codec.form import CodecError, Decoded, Form, Stated, check_size, upright
from transforms.metadata import exif

_STRIP = 1 << 22  # pixels converted at a time, so that a large scan is not in memory three times


def decode(data: bytes, formats: list[str], max_pixels: int) -> Decoded:
    """Decode an image of one of these formats; see `codec.decode`.

    Raises:
        CodecError: not such an image, a broken one, one with more than `max_pixels` pixels, or one
            of a depth that would be cut.
    """
    with _opened(io.BytesIO(data), formats) as image:
        width, height = image.size
        check_size(width, height, max_pixels)
        _refuse_cut_depth(image)
        warnings: list[str] = []
        stated = dict(image.info)
        try:
            frames = getattr(image, "n_frames", 1)
            with _without_pillows_limit():
                image.load()
            image.info |= stated
        except Exception as error:  # Pillow's parsers of broken files raise whatever they meet
            raise CodecError(f"broken {image.format} data: {error}") from error
        if frames > 1:
            warnings.append(f"only the first of {frames} frames or pages is restored")
        form = _form(image, data, warnings)
        pixels, alpha = _arrays(image, form)
    turn = 1 if image.format == "TIFF" else form.orientation  # Pillow turns a TIFF as it loads it
    alpha = None if alpha is None else upright(alpha, turn)
    return Decoded(form, upright(pixels, turn), alpha, tuple(warnings))


def encode(
    form: Form,
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    name: str,
    quality: int,
    warnings: list[str],
) -> bytes:
    """Encode an image that the format can hold, with metadata; see `codec.encode`.

    Raises:
        CodecError: the format cannot hold these pixels after all.
    """
    image, icc = _image(form, pixels, alpha, name)
    options = _OPTIONS.get(name, _plain)(form, image.mode, quality)
    if icc is not None:
        options["icc_profile"] = icc
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
        data = out.read()
    data, said = metadata.insert(data, name, form.metadata)
    warnings += said
    return data


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


def _form(image: Any, data: bytes, warnings: list[str]) -> Form:
    name = _format(image)
    blocks, troubles = metadata.read(data, name)
    warnings += troubles
    orientation = metadata.orientation(blocks)
    icc = image.info.get("icc_profile") or None
    if icc and not any(_profile(icc, space) for space in ("RGB", "GRAY", "CMYK", "Lab")):
        warnings.append("the ICC profile is broken and was not carried over")
        icc = None
    if name == "GIF":
        warnings.append("GIF holds 256 colours; --image_format png keeps all of them")
    told = blocks.resolution or (exif.resolution(blocks.exif) if blocks.exif else None)
    mode = _mode(image)
    return Form(
        format=name,
        mode=mode,
        bits=_BITS.get(image.mode, 8),
        orientation=orientation,
        icc=icc,
        metadata=blocks,
        dpi=told.dpi if told else None,
        resolution_unit=told.unit if told else None,
        conversions=_conversions(image, icc),
        notes=_notes(image, data),
    )


_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I;16L": 16}


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


def _notes(image: Any, data: bytes) -> dict[str, Any]:
    if image.format == "TIFF":
        return {
            "compression": image.info.get("compression", "raw"),
            "inverted": image.tag_v2.get(262) == 0,
        }
    if image.format == "WEBP":
        return {"lossless": b"VP8L" in data[:4096]}
    return {}


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
    kept = {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"}
    compression = form.notes.get("compression", "tiff_adobe_deflate")
    bilevel = mode == "1" and compression in {"group3", "group4", "tiff_ccitt"}
    return {"compression": compression if compression in kept or bilevel else "tiff_adobe_deflate"}


def _plain(form: Form, mode: str, quality: int) -> dict[str, Any]:
    return {}


# How Pillow is told to save, by the master's form, the mode to save and the quality.
_OPTIONS: dict[str, Callable[[Form, str, int], dict[str, Any]]] = {
    "JPEG": _jpeg,
    "TIFF": _tiff,
    "WEBP": _webp,
}
