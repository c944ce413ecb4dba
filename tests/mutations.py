"""Seeded mutations of real files: what accidents, and people who mean it, make of them.

A case is told by a seed and a number alone. Some mutations are blind; others know the fields of a
format (sizes, offsets, counts, dimensions) and its pieces (segments, chunks, directories, members),
and put its checksums right again, so that what is mutated is read and not just refused.
"""

import gzip
import io
import random
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass

import google_crc32c
import pyarrow.parquet as pq

from tests import specimens

# What fields are set to, by their size in bytes; positions in the file come on top.
_EXTREMES = {
    1: (0, 1, 2, 7, 8, 16, 127, 128, 255),
    2: (0, 1, 2, 255, 256, 32767, 32768, 65535),
    4: (0, 1, 2, 255, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1),
    8: (0, 1, 65536, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
}

MOST_PIXELS = 2_000_000  # that images may claim to have before they are refused

HOSTILE = (
    "../../outside.jpg",
    "/outside.jpg",
    "..\\..\\outside.jpg",
    "C:\\outside.jpg",
    "a/../../../outside.png",
    "./././c.jpg",
    "zero\0.jpg",
    "\x1b[2J\x1b]0;owned\x07.jpg",
    "line\nheliograph: all is well.jpg",
    "\u202egpj.exe.jpg",
    "x" * 300 + ".jpg",
    "/".join("d" * 90 for _ in range(40)) + "/deep.jpg",
    "CON.jpg",
    "trailing dots....jpg",
    "a.jpg ",
    "A.JPG",
    "a.jpg",
    "e\u0301.jpg",
    "\u00e9.jpg",
    "\udcff\udcfe.jpg",
    "<script>alert(1)</script>.jpg",
    "'; DROP TABLE images;--.jpg",
    "~/.ssh/id.jpg",
    "images#page=2.jpg",
    ".jpg",
    "",
)


@dataclass(frozen=True, slots=True)
class Case:
    """A mutated file.

    Attributes:
        kind, variant: of the specimen: keys of `specimens.IMAGES` or `specimens.CONTAINERS`.
        how: names of the mutations.
        data: bytes of the file.
    """

    kind: str
    variant: str
    how: tuple[str, ...]
    data: bytes

    @property
    def is_container(self):
        return self.kind in specimens.CONTAINERS

    @property
    def ending(self):
        return specimens.name_of(self.kind, self.variant)


_SPECIMENS = [
    (kind, variant)
    for table in (specimens.IMAGES, specimens.CONTAINERS)
    for kind, variants in table.items()
    for variant in variants
]


def case(seed, number):
    """Give a case; every specimen comes round in turn."""
    rng = random.Random(f"{seed}/{number}")
    kind, variant = _SPECIMENS[number % len(_SPECIMENS)]
    if kind in ("tfrecord", "webdataset", "zip", "parquet") and rng.random() < 0.2:
        return Case(kind, variant, ("names",), _with_hostile_names(rng, kind, variant))
    table = specimens.container if kind in specimens.CONTAINERS else specimens.image
    data = table(kind, variant)
    packed = variant == "zlib" or data[:2] == b"\x1f\x8b"
    inside = packed and rng.random() < 0.6
    if inside:
        data = zlib.decompress(data) if variant == "zlib" else gzip.decompress(data)
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(_WEIGHTED)
        changed = _MUTATIONS[name](rng, bytearray(data), kind)
        if changed is not None:
            names.append(name)
            data = bytes(changed)
    if rng.random() < 0.7:
        data = corrected(data, kind)
    if inside:
        data = zlib.compress(data) if variant == "zlib" else gzip.compress(data, mtime=0)
    return Case(kind, variant, tuple(names), data)


def _with_hostile_names(rng, kind, variant):
    images = list(specimens.held().values())
    names = rng.sample(HOSTILE, len(images))
    if rng.random() < 0.3:
        names[1] = names[0]
    made = dict(zip(names, images, strict=True))
    return specimens.CONTAINERS[kind][variant](made)


# -- blind mutations -------------------------------------------------------------------------------


def _place(rng, data):
    """A place in a file, mostly near its head or its end, where its structure is."""
    near = min(len(data), 256)
    where = rng.random()
    if where < 0.4:
        return rng.randrange(near)
    if where < 0.6:
        return len(data) - 1 - rng.randrange(near)
    return rng.randrange(len(data))


def _flip(rng, data, kind):
    for _ in range(rng.choice((1, 2, 4, 16))):
        data[_place(rng, data)] ^= 1 << rng.randrange(8)
    return data


def _overwrite(rng, data, kind):
    at, size = _place(rng, data), rng.choice((1, 4, 16, 64, 512))
    held = rng.choice((b"\0" * size, b"\xff" * size, rng.randbytes(size)))
    data[at : at + size] = held[: len(data) - at]
    return data


def _truncate(rng, data, kind):
    return data[: rng.choice((_place(rng, data), len(data) - 1, rng.randrange(16)))] or b"\0"


def _insert(rng, data, kind):
    at, start = _place(rng, data), _place(rng, data)
    held = rng.choice((rng.randbytes(rng.choice((1, 2, 8, 100))), data[start : start + 64]))
    data[at:at] = held
    return data


def _delete(rng, data, kind):
    at = _place(rng, data)
    del data[at : at + rng.choice((1, 2, 4, 32, 256))]
    return data or None


def _splice(rng, data, kind):
    """The head of one file and the tail of another."""
    variants = (specimens.IMAGES | specimens.CONTAINERS)[kind]
    table = specimens.container if kind in specimens.CONTAINERS else specimens.image
    other = table(kind, rng.choice(list(variants)))
    return data[: _place(rng, data)] + other[_place(rng, other) :]


# -- mutations that know the format ----------------------------------------------------------------


def _fields(rng, data, kind):
    """Set some of the numbers of its structure to what no honest writer would."""
    known = list(FIELDS[kind](bytes(data))) if kind in FIELDS else []
    if not known:
        return None
    for at, size, order in rng.sample(known, min(len(known), rng.choice((1, 1, 2, 4)))):
        if at + size > len(data):
            continue
        old = int.from_bytes(data[at : at + size], order)
        other = rng.choice(known)
        held = int.from_bytes(data[other[0] : other[0] + other[1]], other[2])
        value = rng.choice(
            (*_EXTREMES[size], old + 1, old - 1, old * 2, len(data), at, other[0], held)
        )
        data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, order)
    return data


def _pieces(rng, data, kind):
    """Leave a piece out, repeat it, or put pieces in another order."""
    found = list(PIECES[kind](bytes(data))) if kind in PIECES else []
    if len(found) < 2:
        return None
    head, tail = bytes(data[: found[0][0]]), bytes(data[found[-1][1] :])
    held = [bytes(data[start:stop]) for start, stop in found]
    one, other = rng.randrange(len(held)), rng.randrange(len(held))
    what = rng.randrange(4)
    if what == 0:
        del held[one]
    elif what == 1:
        held[one:one] = [held[other]] * rng.choice((1, 3, 200))
    elif what == 2:
        held[one], held[other] = held[other], held[one]
    else:
        rng.shuffle(held)
    return bytearray(head + b"".join(held) + tail)


_MUTATIONS = {
    "flip": _flip,
    "overwrite": _overwrite,
    "truncate": _truncate,
    "insert": _insert,
    "delete": _delete,
    "splice": _splice,
    "fields": _fields,
    "pieces": _pieces,
}
_WEIGHTED = (
    ("flip", "flip", "overwrite", "truncate", "insert", "delete", "splice")
    + ("fields",) * 6
    + ("pieces",) * 3
)


# -- structure: numbers as (offset, bytes, byte order), pieces as (start, stop) --------------------


def _png_chunks(data):
    at = 8
    while at + 12 <= len(data):
        stop = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if stop > len(data):
            return
        yield at, stop
        at = stop


def _png_fields(data):
    for at, stop in _png_chunks(data):
        yield at, 4, "big"
        kind = data[at + 4 : at + 8]
        if kind == b"IHDR":
            yield from ((at + 8, 4, "big"), (at + 12, 4, "big"))
            yield from ((at + place, 1, "big") for place in range(16, 21))
        elif kind in (b"acTL", b"fcTL", b"pHYs"):
            yield from ((place, 4, "big") for place in range(at + 8, stop - 4, 4))
        elif kind == b"eXIf":
            yield from _shifted(_tiff_fields(data[at + 8 : stop - 4]), at + 8)
        elif kind == b"iCCP" or kind == b"IDAT":
            yield from ((place, 1, "big") for place in range(at + 8, min(stop, at + 24)))


def _shifted(found, by):
    return ((at + by, size, order) for at, size, order in found)


def _jpeg_segments(data):
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if stop > len(data):
            return
        yield at, stop
        at = stop


def _jpeg_fields(data):
    for at, stop in _jpeg_segments(data):
        yield at + 2, 2, "big"
        marker = data[at + 1]
        if marker in (0xC0, 0xC1, 0xC2):
            yield from ((at + 4, 1, "big"), (at + 5, 2, "big"), (at + 7, 2, "big"))
            yield from ((place, 1, "big") for place in range(at + 9, stop))
        elif marker in (0xC4, 0xDB, 0xDD, 0xE0):
            yield from ((place, 1, "big") for place in range(at + 4, min(stop, at + 24)))
        elif marker == 0xE1 and data[at + 4 : at + 8] == b"Exif":
            yield from _shifted(_tiff_fields(data[at + 10 : stop]), at + 10)
        elif marker in (0xE2, 0xED):
            yield from ((place, 4, "big") for place in range(at + 4, min(stop - 4, at + 180), 4))
    scan = data.find(b"\xff\xda")
    if scan > 0:
        yield from ((place, 1, "big") for place in range(scan + 2, min(scan + 14, len(data))))


def _tiff_directories(data):
    """Offsets of directories, with what order and layout they are in."""
    if len(data) < 16 or data[:2] not in (b"II", b"MM"):
        return
    order = "little" if data[:2] == b"II" else "big"
    big = int.from_bytes(data[2:4], order) == 43
    wide, entry, head = (8, 20, 8) if big else (4, 12, 2)
    todo, seen = [int.from_bytes(data[8:16] if big else data[4:8], order)], set()
    while todo:
        at = todo.pop(0)
        count = int.from_bytes(data[at : at + head], order)
        if at in seen or not 8 <= at <= len(data) - head or count > 200:
            continue
        seen.add(at)
        yield at, count, order, big
        for index in range(count):
            place = at + head + index * entry
            if int.from_bytes(data[place : place + 2], order) in (330, 34665, 34853, 40965):
                value = place + 4 + wide
                todo.append(int.from_bytes(data[value : value + wide], order))
        last = at + head + count * entry
        todo.append(int.from_bytes(data[last : last + wide], order))


def _tiff_fields(data):
    for at, count, order, big in _tiff_directories(data):
        wide, entry, head = (8, 20, 8) if big else (4, 12, 2)
        yield (8 if big else 4), wide, order
        yield at, head, order
        for index in range(count):
            place = at + head + index * entry
            yield place, 2, order
            yield place + 2, 2, order
            yield place + 4, wide, order
            yield place + 4 + wide, wide, order
            yield place + 4 + wide, 2, order
            # Values elsewhere: offsets and sizes of strips, bits of samples.
            kind = int.from_bytes(data[place + 2 : place + 4], order)
            size = {3: 2, 4: 4, 16: 8}.get(kind, 0)
            many = int.from_bytes(data[place + 4 : place + 4 + wide], order)
            where = int.from_bytes(data[place + 4 + wide : place + 4 + 2 * wide], order)
            if size and size * many > wide and where + size * many <= len(data):
                yield from ((where + size * one, size, order) for one in range(min(many, 20)))
        yield at + head + count * entry, wide, order


def _tiff_entries(data):
    for at, count, _, big in _tiff_directories(data):
        entry, head = (20, 8) if big else (12, 2)
        yield from (
            (at + head + index * entry, at + head + (index + 1) * entry) for index in range(count)
        )
        return


def _riff_chunks(data):
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        stop = at + 8 + size + size % 2
        if stop > len(data):
            return
        yield at, stop
        at = stop


def _riff_fields(data):
    yield 4, 4, "little"
    for at, stop in _riff_chunks(data):
        yield at + 4, 4, "little"
        kind = data[at : at + 4]
        if kind == b"EXIF":
            yield from _shifted(_tiff_fields(data[at + 8 : stop]), at + 8)
        else:
            yield from ((place, 1, "little") for place in range(at + 8, min(stop, at + 32)))
            yield from ((place, 2, "little") for place in range(at + 8, min(stop - 2, at + 24), 2))


def _boxes(data, at=0, end=None):
    end = len(data) if end is None else end
    while at + 8 <= end:
        size = int.from_bytes(data[at : at + 4], "big") or end - at
        if size < 8 or at + size > end:
            return
        yield at, at + size
        at += size


def _jp2_fields(data):
    codestream = data.find(b"\xff\x4f\xff\x51")
    if data[:2] != b"\xff\x4f":
        for at, stop in _boxes(data):
            yield at, 4, "big"
            if data[at + 4 : at + 8] in (b"jp2h", b"ftyp"):
                for inner, inner_stop in _boxes(data, at + 8, stop):
                    yield inner, 4, "big"
                    for place in range(inner + 8, min(inner_stop - 1, inner + 30)):
                        yield place, 1, "big"
    if codestream >= 0:
        at = codestream + 2
        while at + 4 <= len(data) and data[at : at + 2] != b"\xff\x93":
            yield at + 2, 2, "big"
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            wide = 4 if data[at + 1] == 0x51 else 1
            start = at + (6 if wide == 4 else 4)
            yield from ((p, wide, "big") for p in range(start, min(at + 2 + size, at + 48), wide))
            if not size:
                return
            at += 2 + size


def _zip_places(data):
    return [
        found.start()
        for found in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06|\x06[\x06\x07])", data)
    ]


# Of each record of a zip, by its mark: where its numbers are.
_ZIP_FIELDS = {
    b"\3\4": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"\1\2": (
        *((4, 2), (6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2)),
        *((34, 2), (38, 4), (42, 4)),
    ),
    b"\5\6": ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
    b"\6\6": ((4, 8), (24, 8), (32, 8), (40, 8), (48, 8)),
    b"\6\7": ((4, 4), (8, 8), (16, 4)),
}


def _zip_fields(data):
    for at in _zip_places(data):
        for place, size in _ZIP_FIELDS[data[at + 2 : at + 4]]:
            yield at + place, size, "little"


def _zip_pieces(data):
    places = _zip_places(data)
    return zip(places, [*places[1:], len(data)], strict=False)


def _arrays_fields(data):
    if data[:2] == b"PK":
        yield from _zip_fields(data)
    elif data[:1] == b"\0":
        yield from ((2, 1, "big"), (3, 1, "big"), (4, 4, "big"), (8, 4, "big"), (12, 4, "big"))
    else:
        yield from ((8, 2, "little"), (6, 1, "little"), (7, 1, "little"))
        yield from ((place, 1, "little") for place in range(10, 100))


def _tar_blocks(data):
    return ((at, min(at + 512, len(data))) for at in range(0, len(data), 512))


def _tar_headers(data):
    return [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]


def _tar_fields(data):
    for at in _tar_headers(data):
        yield from ((at + place, 1, "big") for place in (0, 1, 100, 124, 125, 130, 134, 156, 345))
        yield at + 124, 8, "big"
        kind = data[at + 156 : at + 157]
        if kind in (b"x", b"g"):
            yield from ((place, 1, "big") for place in range(at + 512, min(at + 560, len(data))))


def _records(data):
    at = 0
    while at + 12 <= len(data):
        stop = at + 16 + int.from_bytes(data[at : at + 8], "little")
        if stop > len(data):
            return
        yield at, stop
        at = stop


def _tfrecord_fields(data):
    for at, stop in _records(data):
        yield at, 8, "little"
        yield at + 8, 4, "little"
        yield stop - 4, 4, "little"
        yield from ((place, 1, "little") for place in range(at + 12, min(at + 40, stop)))
        yield from ((place, 1, "little") for place in range(max(at + 12, stop - 60), stop - 4))


def _parquet_fields(data):
    length = int.from_bytes(data[-8:-4], "little")
    yield len(data) - 8, 4, "little"
    for place in range(max(4, len(data) - 8 - length), len(data) - 8):
        yield place, 1, "little"
    try:
        metadata = pq.ParquetFile(io.BytesIO(data)).metadata
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                chunk = metadata.row_group(group).column(column)
                starts = (chunk.data_page_offset, chunk.dictionary_page_offset)
                for start in filter(None, starts):
                    yield from ((place, 1, "little") for place in range(start, start + 48))
    except Exception:
        return  # already mutated


FIELDS = {
    "PNG": _png_fields,
    "JPEG": _jpeg_fields,
    "TIFF": _tiff_fields,
    "WEBP": _riff_fields,
    "JP2": _jp2_fields,
    "other": lambda data: ((at, 1, "little") for at in range(min(64, len(data)))),
    "zip": _zip_fields,
    "arrays": _arrays_fields,
    "webdataset": _tar_fields,
    "tfrecord": _tfrecord_fields,
    "parquet": _parquet_fields,
}
PIECES = {
    "PNG": _png_chunks,
    "JPEG": _jpeg_segments,
    "TIFF": _tiff_entries,
    "WEBP": _riff_chunks,
    "JP2": _boxes,
    "zip": _zip_pieces,
    "arrays": _zip_pieces,
    "webdataset": _tar_blocks,
    "tfrecord": _records,
}


# -- checksums -------------------------------------------------------------------------------------


def corrected(data, kind):
    """Put right the checksums of a file, so that what is wrong with it is read."""
    return bytes(_CORRECTED.get(kind, bytearray)(bytearray(data)))


def _correct_png(data):
    for at, stop in list(_png_chunks(data)):
        data[stop - 4 : stop] = struct.pack(">I", zlib.crc32(data[at + 4 : stop - 4]))
    return data


def masked(data):
    crc = google_crc32c.value(bytes(data))
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _correct_tfrecord(data):
    at = 0
    while at + 12 <= len(data):
        data[at + 8 : at + 12] = masked(data[at : at + 8])
        stop = at + 16 + int.from_bytes(data[at : at + 8], "little")
        if stop > len(data):
            break
        data[stop - 4 : stop] = masked(data[at + 12 : stop - 4])
        at = stop
    return data


def _correct_tar(data):
    for at in _tar_headers(data):
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return data


def _correct_zip(data):
    """CRC-32 in the central directory, of what the members hold now, where they can be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(bytes(data))) as file:
            members = file.infolist()
    except Exception:
        return data
    places = [at for at in _zip_places(data) if data[at + 2 : at + 4] == b"\1\2"]
    for member, at in zip(members, places, strict=False):
        start = member.header_offset
        names = sum(struct.unpack("<HH", data[start + 26 : start + 30].ljust(4, b"\0")))
        packed = bytes(data[start + 30 + names :][: member.compress_size])
        try:
            held = (
                zlib.decompressobj(-15).decompress(packed, 1 << 20)
                if member.compress_type
                else packed
            )
        except zlib.error:
            continue
        data[at + 16 : at + 20] = struct.pack("<I", zlib.crc32(held))
    return data


_CORRECTED = {
    "PNG": _correct_png,
    "tfrecord": _correct_tfrecord,
    "webdataset": _correct_tar,
    "zip": _correct_zip,
}
