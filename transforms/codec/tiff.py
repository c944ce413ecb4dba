"""Read TIFF: its chain of pages within bounds, their strips and tiles through tifffile's decoders.

TIFF 6.0 (https://www.adobe.io/open/standards/TIFF.html) and its supplements. The chain of pages is
walked by ourselves, and every size is checked before memory is taken for it: a file may claim
anything. What tifffile cannot decode at all is left to Pillow, where that would cut no depth.
"""

import logging
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tifffile import COMPRESSION, TiffFile, TiffPage

from transforms import scratch
from transforms.codec import carried, jpeg, pillow
from transforms.codec import samples as convert
from transforms.codec.form import (
    CodecError,
    Decoded,
    Form,
    Stated,
    check_size,
    upright,
)
from transforms.metadata import directories
from transforms.metadata.blocks import MetadataError
from transforms.metadata.directories import Directory, Layout
from transforms.metadata.tiff import of_page
from transforms.scratch import Buffer

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it would tell, errors tell here

MOST_PAGES = 4096
_MOST_SAMPLES = 8  # a pixel: four inks and four more
_MOST_PARTS = 4_000_000  # strips and tiles of all pages: of 16 by 16 pixels, a billion pixels
_MOST_NUMBERS = 16 << 20  # bytes of numbers in a directory: they become Python's, twelve times that

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_LARGE_TILE = 1 << 24  # pixels
_BYTES = {1, 2, 6, 7, 129}  # types whose values stay bytes
_FORMAT = 339
_SAMPLES, _SUBFILE, _OLD_SUBFILE, _TILE_WIDTH, _TILE_HEIGHT = 277, 254, 255, 322, 323
_XMP, _IPTC, _ICC, _SUBIFDS, _ORIENTATION = 700, 33723, 34675, 330, 274
_PLACES = (273, 324)  # StripOffsets, TileOffsets
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType

# Compressions whose decoders are told how much they may give, or are checked before.
_KNOWN = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 34926, 50000}
_JPEG = 7


@dataclass(slots=True)
class _Page:
    """A page: where its directory is, and what is to be known of its file."""

    data: Any
    layout: Layout
    directory: Directory
    index: int
    number: int = 0
    warnings: list[str] = field(default_factory=list)

    def number_of(self, tag: int) -> int | None:
        return directories.number(self.data, self.layout, self.directory.find(tag))

    def count_of(self, tag: int) -> int:
        entry = self.directory.find(tag)
        return entry.count if entry else 0

    def value(self, tag: int) -> bytes | None:
        entry = self.directory.find(tag)
        return directories.value(self.data, entry) if entry and entry.size else None


def decode(data: Buffer, max_pixels: int) -> list[Decoded]:
    """Decode all pages of a TIFF, upright; previews and masks among them are none.

    Raises:
        CodecError: it is broken, of a kind that would lose something, or its pages have more than
            `max_pixels` together.
    """
    pages = _pages(data)
    decoded: list[Decoded] = []
    total = parts = 0
    for page in pages:
        width, height = _check_claims(page, max_pixels)
        total += width * height
        parts += max((page.count_of(tag) for tag in _PLACES), default=0)
    if parts > _MOST_PARTS:
        raise CodecError(
            f"it is cut into {parts:,} strips or tiles, more than the {_MOST_PARTS:,} that are read"
        )
    if total > max_pixels:
        raise CodecError(
            f"{len(pages)} pages of {total:,} pixels together are more than the {max_pixels:,} of "
            "--max_pixels"
        )
    with _opened(data) as file:
        for page in pages:
            try:
                decoded.append(_decode(file, page, max_pixels))
            except CodecError as error:
                if len(pages) == 1:
                    raise
                raise CodecError(f"page {page.number}: {error}") from None
    return decoded


def probe(data: Buffer) -> Stated | None:
    """Read what the pages state, without decoding; None where that cannot be read."""
    try:
        pages = _pages(data)
        sizes = [_size(page) for page in pages]
    except CodecError:
        return None
    more = sum(width * height for width, height in sizes[1:])
    return Stated("TIFF", _stated_mode(pages[0]), *sizes[0], more)


# -- the chain of pages ----------------------------------------------------------------------------


def _pages(data: Buffer) -> list[_Page]:
    """Find the pages. A chain that leads in a circle or outside of the file ends there, and the
    first page tells.
    """
    try:
        layout = directories.layout_of(data)
        found, warnings = _chain(data, layout)
    except MetadataError as error:
        raise CodecError(f"broken TIFF: {error}") from None
    all_pages = [_Page(data, layout, one, index) for index, one in enumerate(found)]
    pages = [page for page in all_pages if not _is_no_page(page)] or all_pages[:1]
    for number, page in enumerate(pages, 1):
        page.number = number
    if others := len(all_pages) - len(pages):
        warnings.append(f"{others} previews or masks among its pages are not carried over")
    pages[0].warnings += warnings
    return pages


def _chain(data: Buffer, layout: Layout) -> tuple[list[Directory], list[str]]:
    found = [directories.directory(data, layout, layout.first)]
    seen = {layout.first}
    while at := found[-1].following:
        if at in seen:
            said = f"its chain of pages leads in a circle after page {len(found)}"
            return found, [f"{said}; each is restored once"]
        if len(found) == MOST_PAGES:
            raise MetadataError(f"it has more than {MOST_PAGES} pages")
        try:
            found.append(directories.directory(data, layout, at))
        except MetadataError as error:
            said = f"its chain of pages breaks off after page {len(found)}: {error}"
            return found, [f"{said}; what may have followed is lost"]
        seen.add(at)
    return found, []


def _is_no_page(page: _Page) -> bool:
    kind = page.number_of(_SUBFILE)
    if kind is None:
        return page.number_of(_OLD_SUBFILE) == 2  # SubfileType: reduced-resolution image
    return bool(kind & (_REDUCED | _MASK))


# -- one page --------------------------------------------------------------------------------------


def _opened(data: Buffer) -> TiffFile:
    try:
        return TiffFile(scratch.opened(data))
    except Exception as error:  # its parsers of broken files raise whatever they meet
        raise CodecError(f"broken TIFF: {error}") from error


def _decode(file: TiffFile, page: _Page, max_pixels: int) -> Decoded:
    tiff = _parsed(file, page)
    form = _form(page, tiff)
    try:
        stored = _stored(tiff, page)
    except _UnknownToTifffileError as beyond:
        return _through_pillow(page, form, str(beyond), max_pixels)
    pixels, alpha, done = _interpreted(stored, tiff, page, form)
    form = replace(form, conversions=tuple(done))
    alpha = None if alpha is None else upright(alpha, form.orientation)
    return Decoded(form, upright(pixels, form.orientation), alpha, tuple(page.warnings))


class _UnknownToTifffileError(Exception):
    """What tifffile does not decode."""


def _through_pillow(page: _Page, form: Form, reason: str, max_pixels: int) -> Decoded:
    try:
        decoded = pillow.decode(page.data, ["TIFF"], max_pixels, frame=page.index)
    except CodecError as error:
        raise CodecError(f"{reason}; nor by Pillow: {error}") from None
    done = (*decoded.form.conversions, f"decoded by Pillow: {reason}")
    form = replace(form, conversions=done, notes={**form.notes, "compression": "adobe_deflate"})
    return Decoded(form, decoded.pixels, decoded.alpha, tuple(page.warnings))


def _size(page: _Page) -> tuple[int, int]:
    width, height = page.number_of(_WIDTH), page.number_of(_HEIGHT)
    if not width or not height:
        raise CodecError("broken TIFF: it does not say how large it is")
    return width, height


def _check_claims(page: _Page, max_pixels: int) -> tuple[int, int]:
    """Refuse what would take memory or time out of proportion, before anything takes it.

    Returns:
        Width and height.
    """
    width, height = _size(page)
    check_size(width, height, max_pixels)
    count = page.number_of(_SAMPLES) or 1
    if count > _MOST_SAMPLES:
        raise CodecError(f"it has {count} samples a pixel, of which more than 8 are no photograph")
    tile = (page.number_of(_TILE_WIDTH) or 0) * (page.number_of(_TILE_HEIGHT) or 0)
    if tile > max(4 * width * height, _LARGE_TILE):
        raise CodecError(f"broken TIFF: its tiles of {tile} pixels are larger than the image")
    entries = page.directory.entries
    numbers = sum(entry.size for entry in entries if entry.type not in _BYTES)
    if numbers > _MOST_NUMBERS or sum(entry.size for entry in entries) > len(page.data):
        raise CodecError("broken TIFF: its tags claim more values than there can be")
    return width, height


# Attributes of tifffile's pages that are what a file has, and so need not be numbers.
_WHOLE = (
    *("compression", "photometric", "planarconfig", "predictor", "sampleformat"),
    *("fillorder", "rowsperstrip", "tilelength", "tilewidth", "samplesperpixel"),
)


def _parsed(file: TiffFile, page: _Page) -> Any:
    try:
        file.filehandle.seek(page.directory.at)
        tiff = TiffPage(file, index=page.index)
        planes, depth, height, width, _ = tiff.shaped
        whole = all(isinstance(getattr(tiff, name), int) for name in _WHOLE)
        if not whole or not math.prod(tiff.chunked):
            raise ValueError("its tags tell of no picture that there can be")
    except Exception as error:  # its parsers of broken files raise whatever they meet
        raise CodecError(f"broken TIFF: {error}") from error
    if (width, height) != _size(page) or depth != 1 or planes > _MOST_SAMPLES:
        raise CodecError("it is a volume or a film in one page, which is no photograph")
    return tiff


def _stored(tiff: Any, page: _Page) -> np.ndarray:
    """Decode all strips or tiles to [H, W, samples], as they are stored."""
    _check_kind(tiff)
    planes, _, height, width, contiguous = tiff.shaped
    dtype = np.dtype(np.uint8) if tiff.dtype.kind == "b" else tiff.dtype
    result = scratch.empty((height, width, planes * contiguous), dtype)
    count = math.prod(tiff.chunked)
    unit = "tile" if tiff.is_tiled else "strip"
    for index, part in enumerate(_parts(tiff, page.data, count, unit)):
        try:
            if tiff.compression == _JPEG:
                _check_jpeg(part, tiff)
            values, (plane, top, left) = _decoded(tiff, part, index)
        except _UnknownToTifffileError:
            raise
        except NotImplementedError as error:
            raise _UnknownToTifffileError(f"tifffile cannot decode it: {error}") from error
        except Exception as error:  # decoders of broken data raise whatever they meet
            raise CodecError(
                f"broken TIFF: {unit} {index + 1} of {count} cannot be decoded: {error}"
            ) from error
        place = result[top : top + values.shape[0], left : left + values.shape[1]]
        channels = slice(plane * contiguous, (plane + 1) * contiguous)
        place[..., channels] = values[: place.shape[0], : place.shape[1]]
    return result


def _decoded(tiff: Any, part: memoryview, index: int) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Decode a strip or tile to [h, w, samples], and tell its plane, first row and first column."""
    plain = tiff.compression == 1 and not tiff.is_tiled and tiff.fillorder == 1
    if plain and tiff.bitspersample == 8 * tiff.dtype.itemsize:
        # One strip may be all of a large scan, of which tifffile makes a copy to turn its bytes.
        _, _, height, width, contiguous = tiff.shaped
        plane, strip = divmod(index, -(-height // tiff.rowsperstrip))
        values = np.frombuffer(part, tiff.dtype.newbyteorder(tiff.parent.byteorder))
        return values.reshape(-1, width, contiguous), (plane, strip * tiff.rowsperstrip, 0)
    values, (plane, _, top, left, _), _ = tiff.decode(part, index, jpegtables=tiff.jpegtables)
    return values[0], (plane, top, left)


def _check_kind(tiff: Any) -> None:
    if tiff.compression not in _KNOWN:
        try:
            name = COMPRESSION(tiff.compression).name
        except ValueError:
            name = str(tiff.compression)
        raise _UnknownToTifffileError(
            f"TIFF compression {name} is not decoded by tifffile within bounds"
        )
    if tiff.is_subsampled and tiff.compression != _JPEG:
        raise _UnknownToTifffileError("tifffile does not decode subsampled YCbCr without JPEG")
    if tiff.dtype is None or tiff.dtype.kind not in "buif":
        raise CodecError(
            f"{tiff.bitspersample}-bit samples of format {tiff.sampleformat} are no photograph"
        )


def _parts(tiff: Any, data: Buffer, count: int, unit: str) -> Iterator[memoryview]:
    """Give the bytes of each strip or tile, all of which are there."""
    offsets, sizes = tuple(tiff.dataoffsets), tuple(tiff.databytecounts)
    if len(offsets) < count:
        raise CodecError(f"broken TIFF: {len(offsets)} of its {count} {unit}s are there")
    if not sizes and count == 1 and isinstance(offsets[0], int):
        sizes = (max(0, len(data) - offsets[0]),)
    if len(sizes) < count:
        raise CodecError(f"broken TIFF: the sizes of {len(sizes)} of its {count} {unit}s are there")
    if not all(isinstance(number, int) for number in (*offsets[:count], *sizes[:count])):
        raise CodecError(f"broken TIFF: where its {unit}s are is not said in whole numbers")
    view = memoryview(data)
    for index in range(count):
        start, size = offsets[index], sizes[index]
        if tiff.compression == 1:
            wanted = _plain_size(tiff, index, size)
            if size < wanted and not tiff.is_tiled:  # of tiles, those at the edge may be cut
                raise CodecError(
                    f"broken TIFF: {unit} {index + 1} of {count} has {size} bytes of the {wanted} "
                    "that it needs"
                )
            size = min(size, wanted)
        if size < 1 or start < 8 or start + size > len(data):
            raise CodecError(
                f"broken TIFF: {unit} {index + 1} of {count} is said to be {size} bytes at byte "
                f"{start} of {len(data)}"
            )
        yield view[start : start + size]


def _plain_size(tiff: Any, index: int, size: int) -> int:
    """Give the bytes that an uncompressed strip or tile needs, or its own where not known."""
    if not isinstance(tiff.bitspersample, int):
        return size
    _, _, height, width, contiguous = tiff.shaped
    if tiff.is_tiled:
        rows, width = tiff.tilelength, tiff.tilewidth
    else:
        strips = -(-height // tiff.rowsperstrip)
        rows = min(tiff.rowsperstrip, height - index % strips * tiff.rowsperstrip)
    return rows * -(-width * contiguous * tiff.bitspersample // 8)


def _check_jpeg(part: memoryview, tiff: Any) -> None:
    """Refuse a JPEG strip that claims to be far larger than the strip."""
    size = jpeg_size(part)
    if size is None:
        raise CodecError("it has no JPEG header")
    height, width = (tiff.tilelength, tiff.tilewidth) if tiff.is_tiled else tiff.shaped[2:4]
    if size[0] > width + 64 or size[1] > height + 64:
        raise CodecError(f"its JPEG header claims {size[0]} x {size[1]} pixels")
    jpeg.check_scans(part)


def jpeg_size(data: Buffer) -> tuple[int, int] | None:
    """Read width and height from the frame header of a JPEG stream (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


# -- meaning ---------------------------------------------------------------------------------------


def _interpreted(
    stored: np.ndarray, tiff: Any, page: _Page, form: Form
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Make gray or RGB, and alpha, of samples as they are stored; and say how."""
    kind = _KINDS.get(tiff.photometric)
    if kind is None:
        raise CodecError(
            f"photometric interpretation {int(tiff.photometric)} is not for photographs: camera "
            "raw and scientific data are to be developed first"
        )
    if stored.shape[-1] < kind.channels:
        raise CodecError(f"broken TIFF: {stored.shape[-1]} samples a pixel are too few")
    done: list[str] = []
    colour = stored[..., : kind.channels]
    if tiff.photometric != _PALETTE:
        colour = _full_range(colour, tiff, done)
    pixels = kind.convert(colour, tiff, page, form, done)
    if stored.shape[-1] == kind.channels:
        return pixels, None, done
    if stored.shape[-1] > kind.channels + 1:
        lost = stored.shape[-1] - kind.channels - 1
        page.warnings.append(f"{lost} of its extra samples are not carried over")
    alpha = _full_range(stored[..., kind.channels : kind.channels + 1], tiff, [])[..., 0]
    if alpha.dtype != pixels.dtype:  # beside a palette
        alpha = alpha // 257 if pixels.dtype == np.uint8 else alpha * np.uint16(257)
    if form.notes["extra"] == 1:
        pixels = convert.divided(pixels, alpha)
        done.append("premultiplied alpha divided out")
    return pixels, scratch.contiguous(alpha), done


def _full_range(samples: np.ndarray, tiff: Any, done: list[str]) -> np.ndarray:
    """Bring samples to uint8 or uint16."""
    if samples.dtype.kind == "f":
        done.append(f"{samples.dtype} samples of 0 to 1 to 16-bit integers")
        return convert.from_float(samples)
    bits = tiff.bitspersample
    if not isinstance(bits, int):
        raise CodecError(f"samples of {', '.join(map(str, bits))} bits are no photograph")
    if bits > 16:
        raise CodecError(
            f"{bits}-bit integers would be cut to 16 bits; scale them to 16-bit integers or to "
            "floats of 0 to 1 first"
        )
    if samples.dtype.kind == "i":
        if samples.min() < 0:
            raise CodecError("its samples are signed and some are negative: no photograph is")
        done.append("signed samples, of which none is negative, taken for unsigned")
        return samples.view(samples.dtype.str.replace("i", "u"))
    if bits not in (8, 16):
        done.append(f"{bits}-bit samples scaled to {8 if bits < 8 else 16} bits")
    return convert.widened(samples, bits)


_Convert = Callable[[np.ndarray, Any, _Page, Form, list[str]], np.ndarray]


def _gray(samples: np.ndarray, tiff: Any, page: _Page, form: Form, done: list[str]) -> np.ndarray:
    samples = scratch.contiguous(samples)
    if tiff.photometric == 0:
        done.append("white-is-zero inverted")
        np.subtract(convert.white(samples.dtype), samples, out=samples)
    return samples


def _rgb(samples: np.ndarray, tiff: Any, page: _Page, form: Form, done: list[str]) -> np.ndarray:
    return scratch.contiguous(samples)


def _palette(
    samples: np.ndarray, tiff: Any, page: _Page, form: Form, done: list[str]
) -> np.ndarray:
    colours = tiff.colormap
    known = isinstance(colours, np.ndarray) and colours.ndim == 2 and len(colours) == 3
    if samples.dtype.kind != "u" or not known or samples.max() >= colours.shape[1]:
        raise CodecError("broken TIFF: it points outside of its palette")
    pixels, bits = convert.through_palette(samples, colours)
    done.append(f"palette to {bits}-bit RGB")
    return pixels


def _cmyk(samples: np.ndarray, tiff: Any, page: _Page, form: Form, done: list[str]) -> np.ndarray:
    return np.ascontiguousarray(samples)


def _ycbcr(samples: np.ndarray, tiff: Any, page: _Page, form: Form, done: list[str]) -> np.ndarray:
    done.append("YCbCr to RGB")
    if tiff.compression == _JPEG:
        return scratch.contiguous(samples)  # its decoder does so
    half = convert.white(samples.dtype) // 2 + 1
    top = convert.white(samples.dtype)
    usual = (0.0, top, half, top, half, top)
    stated = tiff.tags.valueof(532)
    reference = usual
    if isinstance(stated, tuple) and len(stated) == 12 and all(stated[1::2]):
        reference = tuple(above / below for above, below in zip(*[iter(stated)] * 2, strict=True))
    return convert.from_ycbcr(samples, reference)


def _lab(samples: np.ndarray, tiff: Any, page: _Page, form: Form, done: list[str]) -> np.ndarray:
    return convert.from_lab(samples, signed=tiff.photometric == SIGNED_LAB)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a photometric interpretation means: Pillow's mode, channels, and how to convert them."""

    mode: str
    channels: int
    convert: _Convert


_PALETTE = 3
SIGNED_LAB = 8
_KINDS: dict[int, _Kind] = {
    0: _Kind("L", 1, _gray),
    1: _Kind("L", 1, _gray),
    2: _Kind("RGB", 3, _rgb),
    _PALETTE: _Kind("P", 1, _palette),
    5: _Kind("CMYK", 4, _cmyk),
    6: _Kind("YCbCr", 3, _ycbcr),
    SIGNED_LAB: _Kind("LAB", 3, _lab),
    9: _Kind("LAB", 3, _lab),
}


# -- form ------------------------------------------------------------------------------------------


def _stated_mode(page: _Page) -> str:
    """Name the mode in Pillow's words, with ;16 where it has none for 16 bits; F for floats."""
    photometric, bits = page.number_of(_PHOTOMETRIC), page.number_of(_BITS) or 1
    kind = _KINDS.get(photometric if photometric is not None else 1)
    if kind is None:
        return "L"
    if page.number_of(_FORMAT) == 3:
        return "F"
    extra = (page.number_of(_SAMPLES) or 1) > kind.channels
    if kind.mode == "L":
        if extra:
            return "LA" if bits <= 8 else "LA;16"
        return "1" if bits == 1 else "L" if bits <= 8 else "I;16"
    mode = {"RGB": "RGBA", "P": "PA"}.get(kind.mode, kind.mode) if extra else kind.mode
    return mode if bits <= 8 or kind.mode == "P" else f"{mode};16"


def _form(page: _Page, tiff: Any) -> Form:
    found = of_page(page.data, page.layout, page.directory)
    told = carried.described(found, _size(page), page.value(_ICC), page.warnings)
    bits = tiff.bitspersample
    return Form(
        format="TIFF",
        mode=_stated_mode(page),
        bits=bits if isinstance(bits, int) else max(bits),
        space="LAB" if tiff.photometric in (SIGNED_LAB, 9) else None,
        notes=_notes(tiff, page.layout),
        **told,
    )


def _notes(tiff: Any, layout: Layout) -> dict[str, Any]:
    try:
        compression = COMPRESSION(tiff.compression).name.lower()
    except ValueError:
        compression = str(tiff.compression)
    extra = tiff.extrasamples[0] if tiff.extrasamples else None
    return {
        "byteorder": layout.order,
        "bigtiff": layout.big,
        "compression": compression,
        "predictor": int(tiff.predictor),
        "tile": (tiff.tilelength, tiff.tilewidth) if tiff.is_tiled else None,
        "rows": None if tiff.is_tiled else tiff.rowsperstrip,
        "planar": tiff.planarconfig == 2,
        "lab": int(tiff.photometric) if tiff.photometric in (SIGNED_LAB, 9) else None,
        "extra": None if extra is None else int(extra),
        "float": tiff.dtype.name if tiff.dtype is not None and tiff.dtype.kind == "f" else None,
    }
