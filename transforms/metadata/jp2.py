"""Metadata in JPEG 2000 files: boxes (ISO/IEC 15444-1, annex I).

EXIF, IPTC and XMP are in boxes with an identifier of their own each, as Adobe and the JPEG
committee's own reference software write them.
"""

import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

from transforms.metadata import photoshop
from transforms.metadata.blocks import CENTIMETRE, NO_UNIT, Blocks, Found, Resolution

_EXIF = b"JpgTiffExif->JP2"
_IPTC = UUID("33c7a4d2-b81d-4723-a0ba-f1a3e097ad38").bytes
_XMP = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
_PHOTOSHOP = UUID("2c4c0100-8504-40b9-a03e-562148d6dfeb").bytes


class _Box(NamedTuple):
    type: bytes
    at: int
    start: int  # of its contents
    stop: int


def _boxes(data: bytes | memoryview, at: int, end: int) -> Iterator[_Box]:
    while at + 8 <= end:
        size, start = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        stop = end if size == 0 else at + size
        if not start <= stop <= end:
            return
        yield _Box(bytes(data[at + 4 : at + 8]), at, start, stop)
        at = stop


def is_file(data: bytes | memoryview) -> bool:
    """Say whether this is a file of boxes, not a bare codestream."""
    return bytes(data[4:8]) == b"jP  "


def read(data: bytes | memoryview) -> Found:
    """Read the blocks of a JP2; a bare codestream has none."""
    blocks = Blocks()
    if not is_file(data):
        return Found(blocks)
    for kind, _, start, stop in _boxes(data, 0, len(data)):
        if kind == b"jp2h":
            blocks = replace(blocks, resolution=_resolution(data, start, stop))
        elif kind == b"uuid":
            held = bytes(data[start + 16 : stop])
            match bytes(data[start : start + 16]):
                case mark if mark == _EXIF:
                    blocks = replace(blocks, exif=held.removeprefix(b"Exif\0\0"))
                case mark if mark == _IPTC:
                    blocks = replace(blocks, iptc=held)
                case mark if mark == _XMP:
                    blocks = replace(blocks, xmp=held)
                case mark if mark == _PHOTOSHOP:
                    blocks = replace(blocks, photoshop=held)
    return Found(blocks)


def _resolution(data: bytes | memoryview, start: int, stop: int) -> Resolution | None:
    """Read how fine the picture was captured, or else is to be shown."""
    told = {
        inner.type: bytes(data[inner.start : inner.stop])
        for outer in _boxes(data, start, stop)
        if outer.type == b"res "
        for inner in _boxes(data, outer.start, outer.stop)
        if inner.stop - inner.start == 10
    }
    held = told.get(b"resc", told.get(b"resd"))
    if held is None:
        return None
    down, down_by, across, across_by, down_ten, across_ten = struct.unpack(">HHHHbb", held)
    if not (down and down_by and across and across_by):
        return None
    x, y = (
        Fraction(above, below) * Fraction(10) ** ten / 100
        for above, below, ten in ((across, across_by, across_ten), (down, down_by, down_ten))
    )
    return Resolution(x, y, CENTIMETRE)


def insert(data: bytes | memoryview, blocks: Blocks) -> tuple[bytes, list[str]]:
    """Put blocks into a JP2 that has none, and say what it cannot hold."""
    warnings: list[str] = []
    if not is_file(data):
        if blocks != Blocks():
            warnings.append("a bare JPEG 2000 codestream holds no metadata: all was left out")
        return bytes(data), warnings
    if blocks.remarks:
        warnings.append(f"JP2 holds no comments: {len(blocks.remarks)} were left out")
    boxes = list(_boxes(data, 0, len(data)))
    header = next(box for box in boxes if box.type == b"jp2h")
    stream = next(box for box in boxes if box.type == b"jp2c")
    resources, datasets = photoshop.apart(blocks.photoshop)
    marked = (
        (_EXIF, blocks.exif),
        (_IPTC, blocks.iptc or datasets),
        (_PHOTOSHOP, resources),
        (_XMP, blocks.xmp),
    )
    added = b"".join(_box(b"uuid", mark + held) for mark, held in marked if held)
    inner = bytes(data[header.start : header.stop])
    if blocks.resolution and blocks.resolution.unit != NO_UNIT:
        x, y = map(_as_density, blocks.resolution.per_metre)
        held = struct.pack(">HHHHbb", y[0], y[1], x[0], x[1], y[2], x[2])
        inner += _box(b"res ", _box(b"resc", held))
    pieces = (data[: header.at], _box(b"jp2h", inner), data[header.stop : stream.at])
    return b"".join((*pieces, added, data[stream.at :])), warnings


def _box(kind: bytes, held: bytes) -> bytes:
    return struct.pack(">I", len(held) + 8) + kind + held


def _as_density(per_metre: Fraction) -> tuple[int, int, int]:
    """Give the nearest of the fractions of 16 bits with a power of ten."""
    best = min(
        (_near(per_metre / Fraction(10) ** ten, ten) for ten in range(7)),
        key=lambda told: abs(Fraction(told[0], told[1]) * 10 ** told[2] - per_metre),
    )
    return best


def _near(scaled: Fraction, ten: int) -> tuple[int, int, int]:
    limit = 65535 if scaled <= 1 else max(1, int(65535 / scaled))
    near = scaled.limit_denominator(limit)
    return min(65535, max(1, near.numerator)), near.denominator, ten
