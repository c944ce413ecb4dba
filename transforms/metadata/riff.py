"""Metadata in WebP: chunks of RIFF (RFC 9649, section 2.7).

There is none for IPTC or a resolution: they go into EXIF, whose directory is one of TIFF and knows
tags for both.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from transforms.metadata import exif, photoshop
from transforms.metadata.blocks import Blocks, Found, MetadataError
from transforms.metadata.directories import UNDEFINED

_HEAD = 12
_EXIF_FLAG, _XMP_FLAG, _ALPHA_FLAG = 0x08, 0x04, 0x10


class _Chunk(NamedTuple):
    type: bytes
    start: int  # of its data
    stop: int


def _chunks(data: bytes | memoryview) -> Iterator[_Chunk]:
    at = _HEAD
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        stop = at + 8 + size
        if stop > len(data):
            return
        yield _Chunk(bytes(data[at : at + 4]), at + 8, stop)
        at = stop + size % 2


def read(data: bytes | memoryview) -> Found:
    """Read the blocks of a WebP."""
    blocks = Blocks()
    for kind, start, stop in _chunks(data):
        if kind == b"EXIF" and blocks.exif is None:
            block = bytes(data[start:stop]).removeprefix(b"Exif\0\0")
            iptc, resources = exif.held(block, exif.IPTC), exif.held(block, exif.PHOTOSHOP)
            blocks = replace(blocks, exif=block, iptc=iptc, photoshop=resources)
        elif kind == b"XMP " and blocks.xmp is None:
            blocks = replace(blocks, xmp=bytes(data[start:stop]))
    return Found(blocks)


def insert(data: bytes | memoryview, blocks: Blocks) -> tuple[bytes, list[str]]:
    """Put blocks into a WebP that has none, and say what it cannot hold."""
    warnings: list[str] = []
    block = blocks.exif
    fields = []
    resources, datasets = photoshop.apart(blocks.photoshop)
    for tag, held in ((exif.IPTC, blocks.iptc or datasets), (exif.PHOTOSHOP, resources)):
        if held and (block is None or exif.held(block, tag) != held):
            fields.append((tag, UNDEFINED, held))
    if blocks.resolution and (block is None or exif.resolution(block) is None):
        made = exif.resolution_fields(blocks.resolution, "<")
        fields += [(field.tag, field.type, field.data) for field in made]
    if fields:
        try:
            block = exif.with_fields(block, fields)
        except MetadataError as error:
            names = {exif.IPTC: "IPTC", exif.PHOTOSHOP: "Photoshop's resources"}
            lost = dict.fromkeys(names.get(tag, "the resolution") for tag, *_ in fields)
            warnings.append(f"{' and '.join(lost)} were left out: {error}")
    if blocks.remarks:
        warnings.append(f"WebP holds no comments: {len(blocks.remarks)} were left out")
    added = b"".join(
        _chunk(kind, held) for kind, held in ((b"EXIF", block), (b"XMP ", blocks.xmp)) if held
    )
    if not added:
        return bytes(data), warnings
    flags = (_EXIF_FLAG if block else 0) | (_XMP_FLAG if blocks.xmp else 0)
    first = next(_chunks(data))
    if first.type == b"VP8X":
        head = bytearray(data[_HEAD : first.stop])
        head[8] |= flags
        rest = data[first.stop :]
    else:
        head = bytearray(_extended_head(data, first, flags))
        rest = data[_HEAD:]
    padding = bytes(len(rest) % 2)
    size = 4 + len(head) + len(rest) + len(padding) + len(added)
    start = b"RIFF" + struct.pack("<I", size) + b"WEBP"
    return b"".join((start, head, rest, padding, added)), warnings


def _chunk(kind: bytes, held: bytes) -> bytes:
    return kind + struct.pack("<I", len(held)) + held + bytes(len(held) % 2)


def _extended_head(data: bytes | memoryview, first: _Chunk, flags: int) -> bytes:
    """Make the chunk that a file with metadata begins with, from the picture's own head."""
    picture = bytes(data[first.start : first.start + 10])
    if first.type == b"VP8L":  # RFC 9649, section 3.4
        bits = int.from_bytes(picture[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags |= _ALPHA_FLAG if bits >> 28 & 1 else 0
    else:  # RFC 6386, section 9.1
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", picture, 6))
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _chunk(b"VP8X", bytes((flags, 0, 0, 0)) + sides)
