"""Metadata in PNG: chunks (PNG, third edition, sections 11.3.3 to 11.3.5).

IPTC has no chunk of its own; ImageMagick's "raw profiles" in text chunks are what others read.
"""

import binascii
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from transforms.metadata import photoshop
from transforms.metadata.blocks import (
    CENTIMETRE,
    CREDENTIALS_LEFT_OUT,
    NO_UNIT,
    Blocks,
    Found,
    MetadataError,
    Remark,
    Resolution,
)

_SIGNATURE = 8
_XMP = b"XML:com.adobe.xmp"
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_RAW = b"Raw profile type "
_PROFILES = frozenset({b"exif", b"app1", b"iptc", b"8bim", b"xmp"})
# Text is kept compressed as it is; unpacked is only what must be read, and of a file no more than
# this together.
_LARGEST = 64 << 20


class _Chunk(NamedTuple):
    type: bytes
    start: int  # of its data
    stop: int


def _chunks(data: bytes | memoryview) -> Iterator[_Chunk]:
    """Give the chunks, as far as there are any."""
    at = _SIGNATURE
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + size > len(data):
            return
        yield _Chunk(bytes(data[at + 4 : at + 8]), at + 8, at + 8 + size)
        at += 12 + size


def read(data: bytes | memoryview) -> Found:
    """Read the blocks of a PNG."""
    blocks = Blocks()
    remarks: list[Remark] = []
    warnings: list[str] = []
    room = _LARGEST
    for kind, start, stop in _chunks(data):
        if kind == b"eXIf":
            blocks = replace(blocks, exif=bytes(data[start:stop]).removeprefix(b"Exif\0\0"))
        elif kind == b"pHYs" and stop - start == 9:
            blocks = replace(blocks, resolution=_density(bytes(data[start:stop])))
        elif kind == b"caBX":
            warnings.append(CREDENTIALS_LEFT_OUT)
        elif kind in _TEXTS:
            remark = Remark(kind, bytes(data[start:stop]))
            try:
                taken, room = _taken(remark, blocks, room)
            except MetadataError as error:
                warnings.append(f"a text chunk of the PNG was kept unread: {error}")
                taken = None
            if taken is None:
                remarks.append(remark)
            else:
                blocks = taken
    return Found(replace(blocks, remarks=tuple(remarks)), tuple(warnings))


def _taken(remark: Remark, blocks: Blocks, room: int) -> tuple[Blocks | None, int]:
    """Give the blocks with what a text chunk holds of them, None for a remark; and the bytes that
    may still be unpacked of the file.
    """
    keyword = remark.data[:80].partition(b"\0")[0]
    if keyword == _XMP:
        packet = _text(remark, room)
        return replace(blocks, xmp=packet), room - len(packet)
    kind = keyword.removeprefix(_RAW).lower()
    if not keyword.startswith(_RAW) or kind not in _PROFILES:
        return None, room
    profile = _text(remark, room)
    return _profile(kind, _unraw(profile), blocks), room - len(profile)


def _profile(kind: bytes, held: bytes, blocks: Blocks) -> Blocks:
    if held.startswith(b"Exif\0\0"):
        return replace(blocks, exif=blocks.exif or held[6:])
    if kind == b"xmp" or held.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
        return replace(blocks, xmp=blocks.xmp or held.rpartition(b"/1.0/\0")[2])
    if kind in (b"exif", b"app1"):
        return replace(blocks, exif=blocks.exif or held)
    held = held.removeprefix(b"Photoshop 3.0\0")
    if not held.startswith(b"8BIM"):
        return replace(blocks, iptc=held)
    rest, datasets = photoshop.apart(held)
    return replace(blocks, photoshop=rest, iptc=datasets)


def _density(held: bytes) -> Resolution | None:
    x, y, unit = struct.unpack(">IIB", held)
    if not x or not y or (unit != 1 and x == y):
        return None
    if unit != 1:
        return Resolution(Fraction(x), Fraction(y), NO_UNIT)
    return Resolution(Fraction(x, 100), Fraction(y, 100), CENTIMETRE)


def text(remark: Remark, most: int) -> tuple[str, str]:
    """Give the keyword of a text chunk and what it says.

    Raises:
        MetadataError: it cannot be unpacked, or has more than so many bytes.
    """
    keyword = remark.data.partition(b"\0")[0].decode("latin-1")
    encoding = "utf-8" if remark.type == b"iTXt" else "latin-1"
    return keyword, _text(remark, most).decode(encoding, "replace")


def _text(remark: Remark, most: int) -> bytes:
    _, _, rest = remark.data.partition(b"\0")
    packed = remark.type == b"zTXt"
    if packed:
        rest = rest[1:]
    elif remark.type == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if not packed:
        return rest
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(rest, max(1, most))
    except zlib.error as error:
        raise MetadataError(f"it cannot be unpacked: {error}") from error
    if unpacker.unconsumed_tail:
        raise MetadataError(f"it has more than {most:,} bytes")
    return unpacked


def _unraw(profile: bytes) -> bytes:
    """Give the bytes of a raw profile: a name, a length and hexadecimal digits, in lines."""
    lines = profile.strip().split(b"\n", 2)
    try:
        return binascii.unhexlify(b"".join(lines[-1].split()))
    except (binascii.Error, ValueError) as error:
        raise MetadataError(f"its raw profile is broken: {error}") from error


def insert(data: bytes | memoryview, blocks: Blocks) -> tuple[bytes, list[str]]:
    """Put blocks into a PNG that has none."""
    made = []
    if blocks.resolution:
        made.append(_chunk(b"pHYs", _as_density(blocks.resolution)))
    if blocks.exif:
        made.append(_chunk(b"eXIf", blocks.exif))
    resources = photoshop.joined(blocks.photoshop, blocks.iptc)
    if resources:
        made.append(_chunk(b"zTXt", _raw(b"iptc", resources)))
    if blocks.xmp:
        made.append(_chunk(b"iTXt", _XMP + b"\0\0\0\0\0" + blocks.xmp))
    for remark in blocks.remarks:
        if remark.type == b"COM":
            comment = remark.data.rstrip(b"\0").decode("utf-8", "replace").encode()
            made.append(_chunk(b"iTXt", b"Comment\0\0\0\0\0" + comment))
        else:
            made.append(_chunk(*remark))
    at = next(chunk.start - 8 for chunk in _chunks(data) if chunk.type == b"IDAT")
    return b"".join((data[:at], *made, data[at:])), []


def _chunk(kind: bytes, held: bytes) -> bytes:
    return struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))


def _as_density(told: Resolution) -> bytes:
    if told.unit == NO_UNIT:
        ratio = (told.x / told.y).limit_denominator(1 << 20)
        return struct.pack(">IIB", *map(_counted, (ratio.numerator, ratio.denominator)), 0)
    return struct.pack(">IIB", *map(_counted, told.per_metre), 1)


def _counted(part: Fraction | int) -> int:
    """Give the nearest number that PNG can hold."""
    return min(0x7FFFFFFF, max(1, round(part)))


def _raw(kind: bytes, held: bytes) -> bytes:
    digits = binascii.hexlify(held)
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    profile = b"\n%b\n%8d\n%b\n" % (kind, len(held), lines)
    return _RAW + kind + b"\0\0" + zlib.compress(profile)
