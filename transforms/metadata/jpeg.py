"""Metadata in JPEG: segments before the picture, of at most 65,533 bytes each.

EXIF 2.32, section 4.7; JFIF 1.02; XMP specification, part 3, section 1.1.3.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from transforms.metadata import exif, extended_xmp, photoshop, png
from transforms.metadata.blocks import (
    CREDENTIALS_LEFT_OUT,
    NO_UNIT,
    Blocks,
    Found,
    MetadataError,
    Remark,
    Resolution,
)

_LARGEST = 65533  # bytes of a segment, beside its marker and its length

_JFIF, _EXIF, _XMP = b"JFIF\0", b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED, _PHOTOSHOP = b"http://ns.adobe.com/xmp/extension/\0", b"Photoshop 3.0\0"
_APP0, _APP1, _APP11, _APP13, _COMMENT = 0xE0, 0xE1, 0xEB, 0xED, 0xFE
_START_OF_SCAN, _END = 0xDA, 0xD9
# Markers without a length: fill, TEM and restarts.
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})


class _Segment(NamedTuple):
    marker: int
    start: int  # of its data
    stop: int


def _segments(data: bytes | memoryview) -> Iterator[_Segment]:
    """Give the segments before the picture, as far as there are any."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # what stands between segments is skipped, as decoders do
            found = bytes(data[at : at + 65536]).find(0xFF)
            at += found if found >= 0 else 65536
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        if marker in (_START_OF_SCAN, _END):
            return
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if not at + 4 <= stop <= len(data):
            return
        yield _Segment(marker, at + 4, stop)
        at = stop


def read(data: bytes | memoryview) -> Found:
    """Read the blocks of a JPEG."""
    blocks, resources = Blocks(), []
    remarks: list[Remark] = []
    pieces: list[bytes] = []  # of EXIF
    extended: list[bytes] = []
    warnings: list[str] = []
    for marker, start, stop in _segments(data):
        head = bytes(data[start : min(stop, start + 40)])
        if marker == _APP0 and head.startswith(_JFIF) and blocks.resolution is None:
            blocks = replace(blocks, resolution=_density(head))
        elif marker == _APP1 and head.startswith(_EXIF):
            if not pieces or bytes(data[start + 6 : start + 10]) not in (b"II*\0", b"MM\0*"):
                pieces.append(bytes(data[start + 6 : stop]))  # it goes on where the last one ended
            else:
                warnings.append("a second EXIF block was left out")
        elif marker == _APP1 and head.startswith(_XMP):
            if blocks.xmp is None:
                blocks = replace(blocks, xmp=bytes(data[start + len(_XMP) : stop]))
            else:
                warnings.append("a second XMP packet was left out")
        elif marker == _APP1 and head.startswith(_EXTENDED):
            extended.append(bytes(data[start + len(_EXTENDED) : stop]))
        elif marker == _APP13 and head.startswith(_PHOTOSHOP):
            resources.append(bytes(data[start + len(_PHOTOSHOP) : stop]))
        elif marker == _APP11 and b"c2pa" in bytes(data[start : min(stop, start + 64)]):
            warnings.append(CREDENTIALS_LEFT_OUT)
        elif marker == _COMMENT:
            remarks.append(Remark(b"COM", bytes(data[start:stop])))
    rest, datasets = photoshop.apart(b"".join(resources))
    if extended:
        packet, said = extended_xmp.joined(blocks.xmp, extended)
        blocks = replace(blocks, xmp=packet)
        warnings += said
    blocks = replace(
        blocks,
        exif=b"".join(pieces) if pieces else None,
        photoshop=rest,
        iptc=datasets,
        remarks=tuple(remarks),
    )
    return Found(blocks, tuple(dict.fromkeys(warnings)))


def _density(head: bytes) -> Resolution | None:
    if len(head) < 12:
        return None
    unit, x, y = struct.unpack_from(">BHH", head, 7)
    if unit > 2 or not x or not y or (unit == 0 and x == y):
        return None
    return Resolution(Fraction(x), Fraction(y), unit + 1)


def insert(data: bytes | memoryview, blocks: Blocks) -> tuple[bytes, list[str]]:
    """Put blocks into a JPEG that has none, and say what it cannot hold."""
    warnings: list[str] = []
    made: list[tuple[int, bytes]] = []
    exif_block = blocks.exif
    first = next(_segments(data), None)
    has_jfif = first is not None and bytes(data[first.start : first.start + 5]) == _JFIF
    if blocks.resolution and not has_jfif and (not exif_block or not exif.resolution(exif_block)):
        exif_block, said = _with_resolution(exif_block, blocks.resolution)
        warnings += said
    if exif_block:
        held, said = exif.fitted(exif_block, _LARGEST - 6)
        warnings += said
        if held:
            made.append((_APP1, _EXIF + b"\0" + held))
    if blocks.xmp:
        try:
            main, parts = extended_xmp.split(blocks.xmp, _LARGEST - len(_XMP))
        except MetadataError as error:
            warnings.append(f"XMP of {len(blocks.xmp):,} bytes was left out: {error}")
        else:
            made.append((_APP1, _XMP + main))
            made += [(_APP1, _EXTENDED + part) for part in parts]
    resources = photoshop.joined(blocks.photoshop, blocks.iptc) or b""
    room = _LARGEST - len(_PHOTOSHOP)
    made += [
        (_APP13, _PHOTOSHOP + resources[at : at + room]) for at in range(0, len(resources), room)
    ]
    for remark in blocks.remarks:
        comment, said = _comment(remark)
        warnings += said
        if comment is not None:
            made.append((_COMMENT, comment))
    at = first.stop if has_jfif and first else 2
    head = bytearray(data[:at])
    if has_jfif and first and blocks.resolution:
        struct.pack_into(">BHH", head, first.start + 7, *_as_density(blocks.resolution))
    inserted = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(held) + 2) + held for marker, held in made
    )
    return b"".join((head, inserted, data[at:])), warnings


def _with_resolution(block: bytes | None, told: Resolution) -> tuple[bytes | None, list[str]]:
    fields = ((f.tag, f.type, f.data) for f in exif.resolution_fields(told, "<"))
    try:
        return exif.with_fields(block, fields), []
    except MetadataError as error:
        return block, [f"the resolution was left out: {error}"]


def _as_density(told: Resolution) -> tuple[int, int, int]:
    """Give JFIF's unit and whole numbers; what it cannot hold exactly is rounded per inch."""
    if told.unit == NO_UNIT:
        ratio = (told.x / told.y).limit_denominator(65535)
        return 0, min(65535, max(1, ratio.numerator)), ratio.denominator
    whole = told.x.denominator == told.y.denominator == 1
    said = told if whole else told.per(2)
    x, y = (min(65535, max(1, round(part))) for part in (said.x, said.y))
    return said.unit - 1, x, y


def _comment(remark: Remark) -> tuple[bytes | None, list[str]]:
    text = remark.data
    if remark.type != b"COM":
        try:
            text = ": ".join(png.text(remark, _LARGEST)).encode()
        except MetadataError as error:
            return None, [f"a text chunk was left out: {error}"]
    if len(text) > _LARGEST:
        return None, [f"a comment of {len(text):,} bytes was left out: JPEG holds 65,533"]
    return text, []
