"""Write TIFF: pages as their masters were laid out, in a file that holds nothing else.

Written by ourselves, since tifffile can neither store EXIF's directories nor leave the resolution
out; strips and tiles are compressed by the encoders that tifffile uses.
"""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL import Image

from transforms import scratch
from transforms.codec import samples as convert
from transforms.codec.form import CodecError, Form, Page
from transforms.codec.tiff import DESCRIPTIVE, SIGNED_LAB
from transforms.metadata import directories
from transforms.metadata.blocks import MetadataError
from transforms.metadata.directories import (
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Field,
    Layout,
    Tree,
    field_of,
)
from transforms.scratch import Buffer

_STRIP = 1 << 18  # bytes of a strip, where the master has none
_LARGEST = 1 << 26  # bytes of a strip that is compressed, which is in memory twice
_PIECE = 1 << 22  # bytes that are written at a time
_CLASSIC = (1 << 32) - (1 << 24)  # bytes that the offsets of a TIFF reach, with room for tags
_BYTE = 1
_TOLD = DESCRIPTIVE | {282, 283, 296}  # the last of which formats without a place of their own have
_DEFLATE = 8


def encode(pages: Sequence[Page]) -> Buffer:
    """Encode pages, in their order, each as its own master was.

    Byte order and BigTIFF are those of the first; what needs BigTIFF becomes one. What cannot hold
    continuous tone, or is lossy, gives way to deflate, which is lossless.

    Raises:
        CodecError: a page cannot be held.
    """
    notes = pages[0].form.notes
    size = sum(page.pixels.nbytes * (1 if page.alpha is None else 2) for page in pages)
    order = notes.get("byteorder", "<")
    layout = Layout(order, bool(notes.get("bigtiff")) or 2 * size > _CLASSIC, 0)
    with scratch.spool(size) as out:
        mark = "II" if order == "<" else "MM"
        if layout.big:
            out.write(mark.encode() + struct.pack(f"{order}HHHQ", 43, 8, 0, 0))
        else:
            out.write(mark.encode() + struct.pack(f"{order}HI", 42, 0))
        pointer = layout.first_at
        for page in pages:
            try:
                pointer = _write(out, layout, page, pointer)
            except MetadataError as error:
                raise CodecError(f"TIFF cannot hold this image: {error}") from error
        return scratch.contents(out)


def _write(out: BinaryIO, layout: Layout, page: Page, pointer: int) -> int:
    """Write a page; give the place of its pointer to the next one."""
    samples, tags = _stored(page)
    notes = page.form.notes if page.form.format == "TIFF" else {}
    compression, predictor = _compression(page.form, samples, tags)
    tile = notes.get("tile")
    planar = bool(notes.get("planar")) and samples.shape[-1] > 1
    height, width, channels = samples.shape
    rows = notes.get("rows") or max(1, _STRIP // max(1, samples.nbytes // height))
    rows = min(rows, height)
    if compression != 1:  # which writes them piece by piece
        rows = min(rows, max(1, _LARGEST // max(1, samples.nbytes // height)))
    planes = np.split(samples, channels, axis=-1) if planar else [samples]
    blocks = _tiles(planes, *tile) if tile else _strips(planes, rows)
    offsets, sizes = [], []
    for block in blocks:
        out.write(bytes(out.tell() % 2))
        offsets.append(out.tell())
        for piece in _pieces(block) if compression == 1 else (block,):
            if predictor == 2:
                piece = imagecodecs.delta_encode(np.ascontiguousarray(piece), axis=-2)
            if piece.dtype.itemsize > 1:
                piece = piece.astype(f"{layout.order}{piece.dtype.kind}{piece.dtype.itemsize}")
            out.write(_COMPRESSORS[compression](piece))
        sizes.append(out.tell() - offsets[-1])
    out.write(bytes(out.tell() % 2))
    long = LONG8 if layout.big else LONG
    tags |= {
        256: (LONG, [width]),
        257: (LONG, [height]),
        259: (SHORT, [compression]),
        277: (SHORT, [channels]),
        284: (SHORT, [2 if planar else 1]),
    }
    if predictor > 1:
        tags[317] = (SHORT, [predictor])
    if tile:
        tags |= {322: (LONG, [tile[1]]), 323: (LONG, [tile[0]])}
        tags |= {324: (long, offsets), 325: (long, sizes)}
    else:
        tags |= {278: (LONG, [rows]), 273: (long, offsets), 279: (long, sizes)}
    tree = beside(page.form, layout.order, page.form.profile_of(page.pixels))
    for tag, (kind, values) in tags.items():
        tree.fields[tag] = field_of(tag, kind, values, layout.order)
    data, where, _ = directories.packed(tree, layout, out.tell())
    out.write(data)
    here = out.tell()
    out.seek(pointer)
    out.write(struct.pack(layout.offset, where))
    out.seek(here)
    count = len(tree.fields) + len(tree.nested)
    return where + struct.calcsize(layout.count) + count * layout.entry


# -- samples ---------------------------------------------------------------------------------------

_Tags = dict[int, tuple[int, list[int]]]

_PHOTOMETRIC = {"GRAY": 1, "RGB": 2, "CMYK": 5, "LAB": SIGNED_LAB}


def _stored(page: Page) -> tuple[np.ndarray, _Tags]:
    """Give the samples to store, as [H, W, C], and the tags that tell what they are."""
    form, pixels, alpha = page
    gray = pixels.shape[-1] == 1
    extra = form.notes.get("extra") if form.format == "TIFF" else None
    if alpha is not None and extra == 1:
        pixels = convert.multiplied(pixels, alpha)
    space = form.space_of(pixels)
    photometric, colour = _PHOTOMETRIC[space], pixels
    if space == "LAB":
        photometric = form.notes.get("lab") or photometric
        colour = convert.to_lab(pixels, signed=photometric == SIGNED_LAB)
    if form.mode == "1" and gray and alpha is None and pixels.dtype == np.uint8:
        return colour >= 128, {258: (SHORT, [1]), 262: (SHORT, [1])}
    if alpha is not None:
        joined = scratch.empty((*alpha.shape, colour.shape[-1] + 1), colour.dtype)
        colour = np.concatenate([colour, alpha[..., None]], axis=-1, out=joined)
    held = form.notes.get("float") if form.format == "TIFF" else None
    tags: _Tags = {262: (SHORT, [photometric])}
    if held:
        white = convert.white(colour.dtype)
        colour = convert.by_strips(colour, lambda strip: strip / white, colour.shape[-1], held)
    count = colour.shape[-1]
    tags[258] = (SHORT, [8 * colour.dtype.itemsize] * count)
    if held:
        tags[339] = (SHORT, [3] * count)
    if alpha is not None:
        tags[338] = (SHORT, [2 if extra is None else extra])
    return colour, tags


def _strips(planes: Sequence[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    for plane in planes:
        for top in range(0, len(plane), rows):
            yield plane[top : top + rows]


def _pieces(block: np.ndarray) -> Iterator[np.ndarray]:
    """Cut a block, which may be all of a page, into some rows each."""
    rows = max(1, _PIECE // max(1, block.nbytes // len(block)))
    for top in range(0, len(block), rows):
        yield block[top : top + rows]


def _tiles(planes: Sequence[np.ndarray], length: int, width: int) -> Iterator[np.ndarray]:
    """Cut planes into tiles; what is beyond the image repeats its edge, which costs least."""
    for plane in planes:
        for top in range(0, plane.shape[0], length):
            for left in range(0, plane.shape[1], width):
                tile = plane[top : top + length, left : left + width]
                missing = [(0, length - tile.shape[0]), (0, width - tile.shape[1]), (0, 0)]
                yield np.pad(tile, missing, mode="edge")


# -- compression -----------------------------------------------------------------------------------


def _plain(block: np.ndarray) -> bytes:
    return _packed(block).tobytes()


def _packed(block: np.ndarray) -> np.ndarray:
    """Give rows of bytes: eight bilevel pixels in each, or the samples as they are."""
    if block.dtype == bool:
        return np.packbits(block[..., 0], axis=1)
    return np.ascontiguousarray(block)


def _packbits(block: np.ndarray) -> bytes:
    rows = _packed(block)
    rows = rows.view(np.uint8).reshape(len(rows), -1)
    return b"".join(bytes(imagecodecs.packbits_encode(row.tobytes())) for row in rows)


def _fax(block: np.ndarray) -> bytes:
    """Compress by Group 4 (ITU-T T.6), as libtiff does, in one strip; black is one there."""
    file = io.BytesIO()
    image = Image.fromarray(~block[..., 0])
    image.encoderinfo = {}
    image.save(file, "TIFF", compression="group4", strip_size=1 << 30)
    with Image.open(io.BytesIO(file.getvalue())) as opened:
        (offset,), (size,) = opened.tag_v2[273], opened.tag_v2[279]  # type: ignore[attr-defined]
    return file.getvalue()[offset : offset + size]


def _with(encoder: Callable[..., Any]) -> Callable[[np.ndarray], bytes]:
    return lambda block: bytes(encoder(_plain(block)))


_COMPRESSORS: dict[int, Callable[[np.ndarray], bytes]] = {
    1: _plain,
    4: _fax,
    5: _with(imagecodecs.lzw_encode),
    _DEFLATE: _with(imagecodecs.deflate_encode),
    32773: _packbits,
    32946: _with(imagecodecs.deflate_encode),
    34925: _with(imagecodecs.lzma_encode),
    50000: _with(imagecodecs.zstd_encode),
}
_LOSSLESS = {
    "none": 1,
    "lzw": 5,
    "adobe_deflate": _DEFLATE,
    "deflate": 32946,
    "packbits": 32773,
    "lzma": 34925,
    "zstd": 50000,
}
_FAX = {"ccittrle", "ccittfax3", "ccittfax4"}
_PREDICTED = {5, _DEFLATE, 32946, 34925, 50000}


def _compression(form: Form, samples: np.ndarray, tags: _Tags) -> tuple[int, int]:
    """Choose compression and predictor: the master's, where they lose nothing."""
    notes = form.notes if form.format == "TIFF" else {}
    name = notes.get("compression", "adobe_deflate")
    whole = samples.dtype.kind == "u"
    if name in _FAX and samples.dtype == bool and not notes.get("tile"):
        tags[262] = (SHORT, [0])  # Group 4 counts on white paper
        return 4, 1
    known = _LOSSLESS.get(name)
    if known is None:
        return _DEFLATE, 2 if whole else 1
    usual = notes.get("predictor", 2)
    return known, 2 if usual == 2 and whole and known in _PREDICTED else 1


# -- what stands beside the pixels -----------------------------------------------------------------


def beside(form: Form, order: str, icc: bytes | None) -> Tree:
    """Give the tags that say something of the photograph: EXIF, XMP, IPTC, ICC, resolution."""
    tree = Tree(order)
    private = form.notes.get("private") if form.format == "TIFF" else None
    if private is not None:
        tree.fields.update(private.turned(order).fields)
    if form.exif:
        block = form.exif.removeprefix(b"Exif\0\0")
        layout = directories.layout_of(block)
        main = directories.directory(block, layout, layout.first)
        told, _ = directories.tree_of(block, layout, main)
        told = told.turned(order)
        tree.nested.update(told.nested)
        tree.fields.update({tag: told.fields[tag] for tag in _TOLD & told.fields.keys()})
    blocks = (
        (700, _BYTE, form.xmp),
        (33723, UNDEFINED, form.iptc),
        (34675, UNDEFINED, icc),
    )
    for tag, kind, held in blocks:
        if held:
            tree.fields[tag] = Field(tag, kind, len(held), held)
    if resolution := _resolution(form):
        *values, unit = resolution
        for tag, value in zip((282, 283), values, strict=True):
            parts = (value.numerator, value.denominator)
            tree.fields[tag] = field_of(tag, RATIONAL, parts, order)
        tree.fields[296] = field_of(296, SHORT, [unit], order)
    return tree


def _resolution(form: Form) -> tuple[Fraction, Fraction, int] | None:
    if exact := form.notes.get("resolution"):
        return exact
    if form.dpi is None:
        return None
    unit = 3 if form.resolution_unit == 3 else 2
    scale = 1 if unit == 2 else 2.54
    x, y = (Fraction(dots / scale).limit_denominator(10**6) for dots in form.dpi)
    return x, y, unit
