"""Zip files, comic books among them: images anywhere in the tree, by their extension.

- Left out: what has no image's extension, hidden files, and `__MACOSX/`, which holds notes about
  the other members.
- What the central directory says counts. Of a local header only its length is taken.
- A member is read if it is stored, deflated, or compressed with bzip2 or LZMA. The others, and
  encrypted ones, symbolic links, members that overlap, and those that promise more than 2 GiB
  are entries with trouble.
- What a member holds is never decompressed beyond the size that is promised.
- Names without the UTF-8 flag are taken for UTF-8 if they are valid as that, which those of a
  Macintosh are, and otherwise for code page 437, which is what the format asks for.
- Data before the zip, such as the program of one that extracts itself, is passed over.

Sources: PKWARE APPNOTE.TXT 6.3.10; Info-ZIP, "extrafld.txt" (the Unicode path, 0x7075).
"""

import bz2
import io
import lzma
import posixpath
import stat
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np

from transforms import codec
from transforms.shards import stream
from transforms.shards.shard import Content, Entry, Place, ShardError, ShardFormat

_LARGEST = 2 << 30
_BEYOND = 1 << 62  # an offset that no file has, and an int64 holds
_PIECE = 64 << 10

_LOCAL, _CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_SPLIT = b"PK\x07\x08"


def _looks_right(head: bytes) -> bool:
    # Those that extract themselves begin with a program: of Windows, of Linux, or a script.
    return head.startswith((_LOCAL, _END, _END64, _SPLIT, b"MZ", b"\x7fELF", b"#!"))


# -- entries ---------------------------------------------------------------------------------------


def _entries(file: BinaryIO) -> Iterator[Entry]:
    directory = _find_directory(file)
    # Eight bytes a member, which its record has six times over: an array, for hostile directories.
    starts = np.array(array("q", (record.offset for record in _records(file, directory))))
    starts.sort()
    shared: set[int] = set()
    at = directory.start
    for record in _records(file, directory):
        at = record.end
        if not _is_image(record.name):
            continue
        trouble = record.trouble()
        if trouble is None:
            trouble = _overlap(record, starts, shared, directory.start)
        yield Entry(record.name, record.place, record.size, trouble=trouble)
    # Before zip64, the number of members was kept modulo 65,536.
    missing = directory.count - len(starts)
    if missing % (1 << 64 if directory.is_64 else 1 << 16):
        yield Entry(
            f"damage-at-byte-{at}",
            (at, 0, 0, 0, 0),
            0,
            trouble=f"the central directory is damaged at byte {at}: it should list "
            f"{directory.count:,} members, and {len(starts):,} can be read",
        )


def _is_image(name: str) -> bool:
    base = posixpath.basename(name)
    if base.startswith(".") or name.startswith("__MACOSX/"):
        return False
    return posixpath.splitext(base)[1].lower() in codec.EXTENSIONS


def _overlap(record: "_Record", starts: np.ndarray, shared: set[int], end: int) -> str | None:
    """Say so if a member shares bytes with another, as the members of zip bombs do."""
    if record.offset < 0:
        return "it begins before the file does: the zip has lost its beginning"
    first, after = (int(np.searchsorted(starts, record.offset, side)) for side in ("left", "right"))
    if after - first > 1:
        if record.offset in shared:
            return f"its bytes, from byte {record.offset} on, are another member's as well"
        shared.add(record.offset)
    limit = min(int(starts[after]), end) if after < len(starts) else end
    if record.offset + _LOCAL_HEADER.size + record.packed > limit:
        return (
            f"it does not fit: it begins at byte {record.offset} and holds {record.packed:,} "
            f"bytes, and at byte {limit} something else begins"
        )
    return None


# -- the central directory -------------------------------------------------------------------------

_END_RECORD = struct.Struct("<4s4H2LH")
_END64_RECORD = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64_RECORD = struct.Struct("<4sLQL")
_CENTRAL_HEADER = struct.Struct("<4s6H3L5H2L")
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 0xFFFF
_IN_ZIP64 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the central directory is, and what is said of it.

    Attributes:
        start: its offset.
        end: the offset after it.
        shift: what to add to the offsets that it gives.
        count: of its records.
        is_64: whether the count is whole, or modulo 65,536.
    """

    start: int
    end: int
    shift: int
    count: int
    is_64: bool


def _find_directory(file: BinaryIO) -> _Directory:
    size = stream.seek(file, 0, io.SEEK_END)
    stream.seek(file, 0)
    head = stream.read(file, 4)
    tail_start = max(0, size - _END_RECORD.size - _LONGEST_COMMENT)
    stream.seek(file, tail_start)
    tail = stream.read(file, size - tail_start)
    at = _find_end(tail)
    if at is None:
        if head in (_LOCAL, _SPLIT):
            raise ShardError("the zip is cut: the central directory at its end is missing")
        raise ShardError("no zip: it has no central directory")
    _, disk, first_disk, _, count, length, offset, _ = _END_RECORD.unpack_from(tail, at)
    end = tail_start + at
    is_64 = False
    if found := _find_end64(file, end):
        end, (disk, first_disk, _, count, length, offset) = found
        is_64 = True
    if disk or first_disk:
        raise ShardError(f"this is part {disk + 1} of a zip that was split: join its parts first")
    return _Directory(*_place_directory(file, end, length, offset), count, is_64)


def _find_end(tail: bytes) -> int | None:
    """Find the record that ends a zip; the comment after it may hold anything."""
    candidates = []
    at = tail.rfind(_END)
    while at >= 0:
        if at + _END_RECORD.size <= len(tail):
            room = len(tail) - at - _END_RECORD.size
            comment = _END_RECORD.unpack_from(tail, at)[-1]
            if comment == room:
                return at
            candidates.append(at)
        at = tail.rfind(_END, 0, at + len(_END) - 1)
    return candidates[0] if candidates else None  # something was appended, or the comment is cut


def _find_end64(file: BinaryIO, end: int) -> tuple[int, tuple[int, ...]] | None:
    at = end - _LOCATOR64_RECORD.size
    if at < 0:
        return None
    stream.seek(file, at)
    signature, _, stated, _ = _LOCATOR64_RECORD.unpack(
        stream.read(file, _LOCATOR64_RECORD.size).ljust(_LOCATOR64_RECORD.size)
    )
    if signature != _LOCATOR64:
        return None
    # Where it is unless it is longer than usual, and where it says it is.
    for place in (at - _END64_RECORD.size, stated):
        if 0 <= place <= at - _END64_RECORD.size:
            stream.seek(file, place)
            record = _END64_RECORD.unpack(stream.read(file, _END64_RECORD.size))
            if record[0] == _END64:
                return place, record[4:]
    raise ShardError("the zip's end is damaged: its zip64 record is not where it should be")


def _place_directory(file: BinaryIO, end: int, length: int, offset: int) -> tuple[int, int, int]:
    """Give start, end and shift.

    If something was put before the zip, offsets count from the zip's own beginning, which is found
    from where the directory ends; unless they were put right, and then they are right as they are.
    """
    before = end - length
    # Info-ZIP 3.0 may write the mark of zip64 in place of the offset, and then no zip64 record.
    shift = 0 if offset == _IN_ZIP64 else before - offset
    for start, by in ((before, shift), (offset, 0)):
        if 0 <= start <= end - 4:
            stream.seek(file, start)
            if stream.read(file, 4) == _CENTRAL:
                return start, end, by
    return end, end, 0


@dataclass(frozen=True, slots=True)
class _Record:
    """What the central directory says of a member; `end` is the offset after the record itself."""

    name: str
    system: int
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int
    sound: bool
    end: int

    @property
    def place(self) -> Place:
        return self.offset, self.packed, self.size, self.method, self.crc

    def trouble(self) -> str | None:
        """Say why the member cannot be read, if that is known."""
        if not self.sound:
            return "its zip64 sizes are missing"
        if self.flags & _ENCRYPTED:
            return "it is encrypted"
        if self.flags & _PATCH:
            return "it is a patch to another file"
        if stat.S_ISLNK(self.mode):
            return "it is a symbolic link"
        if self.method not in _DECOMPRESSORS:
            name = _OTHER_METHODS.get(self.method, f"method {self.method}")
            return f"it is compressed with {name}, which is not supported"
        if self.size > _LARGEST:
            return f"it promises {self.size:,} bytes, more than the {_LARGEST:,} that are read"
        return None


_ENCRYPTED = 1 | 1 << 6 | 1 << 13  # in the usual way, strongly, with the directory
_PATCH = 1 << 5
_UTF8 = 1 << 11
_WITH_BACKSLASHES = {0, 10, 14}  # systems: DOS, NTFS, VFAT
_UNIX = {3, 19}  # and Darwin


def _records(file: BinaryIO, directory: _Directory) -> Iterator[_Record]:
    """Read the central directory, as far as it is sound, one record in memory at a time."""
    at = directory.start
    while at + _CENTRAL_HEADER.size <= directory.end:
        stream.seek(file, at)
        header = stream.read(file, _CENTRAL_HEADER.size)
        if header[:4] != _CENTRAL or len(header) < _CENTRAL_HEADER.size:
            return
        values = _CENTRAL_HEADER.unpack(header)
        lengths = values[10:13]
        rest = stream.read(file, sum(lengths))
        at += _CENTRAL_HEADER.size + sum(lengths)
        if at > directory.end:
            return
        yield _record(values, rest[: lengths[0]], rest[lengths[0] :][: lengths[1]], directory, at)


def _record(
    values: tuple[int, ...], raw: bytes, extra: bytes, directory: _Directory, end: int
) -> _Record:
    version, _, flags, method, _, _, crc, packed, size = values[1:10]
    attributes, offset = values[15:]
    system = version >> 8
    extras = dict(_extras(extra))
    wide = extras.get(_ZIP64, b"")
    sound = True
    numbers = []
    for number in (size, packed, offset):  # the order in which those that are too large are kept
        if number == _IN_ZIP64 and (len(wide) >= 8 or directory.is_64):
            sound = sound and len(wide) >= 8
            number, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        numbers.append(number)
    size, packed, offset = numbers
    name = _name(raw, flags, extras.get(_UNICODE_PATH, b""))
    return _Record(
        name=name.replace("\\", "/") if system in _WITH_BACKSLASHES else name,
        system=system,
        flags=flags,
        method=method,
        crc=crc,
        packed=packed,
        size=size,
        offset=max(-1, min(offset + directory.shift, _BEYOND)),
        mode=attributes >> 16 if system in _UNIX else 0,
        sound=sound,
        end=end,
    )


_ZIP64, _UNICODE_PATH = 0x0001, 0x7075


def _extras(extra: bytes) -> Iterator[tuple[int, bytes]]:
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        yield kind, extra[4 : 4 + length]
        extra = extra[4 + length :]


def _name(raw: bytes, flags: int, unicode_path: bytes) -> str:
    # The name in Unicode holds as long as nobody has changed the plain one, as its CRC shows.
    if unicode_path[:5] == b"\x01" + zlib.crc32(raw).to_bytes(4, "little"):
        return unicode_path[5:].decode("utf-8", "surrogateescape")
    if flags & _UTF8:
        return raw.decode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")


# -- contents --------------------------------------------------------------------------------------


class _Decompressor(Protocol):
    """What the decompressors of Python's modules have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Stored:
    """As the others, for what is not compressed."""

    eof = False

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Give what comes."""
        return data[:max_length]


class _Lzma:
    """LZMA with the zip's own header, which becomes that of an .lzma file (APPNOTE, 5.8.8)."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: lzma.LZMADecompressor | None = None

    @property
    def eof(self) -> bool:
        return self._inner is not None and self._inner.eof

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Decompress once the header is whole."""
        if self._inner is None:
            self._head += data
            if len(self._head) < 9:
                return b""
            if self._head[2:4] != b"\x05\x00":
                raise lzma.LZMAError("its properties are not those of LZMA")
            data = self._head[4:9] + _UNKNOWN_LENGTH + self._head[9:]
            self._inner = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY)
        return self._inner.decompress(data, max_length)


_LZMA_MEMORY = 1 << 30
_UNKNOWN_LENGTH = b"\xff" * 8

_DECOMPRESSORS: dict[int, Callable[[], _Decompressor]] = {
    0: _Stored,
    8: lambda: zlib.decompressobj(-zlib.MAX_WBITS),
    12: bz2.BZ2Decompressor,
    14: _Lzma,
}
_OTHER_METHODS = {
    1: "Shrink",
    **dict.fromkeys((2, 3, 4, 5), "Reduce"),
    6: "Implode",
    9: "Deflate64",
    10: "PKWARE DCL Implode",
    93: "Zstandard",
    95: "xz",
    96: "a JPEG variant",
    97: "WavPack",
    98: "PPMd",
}


def _contents(file: BinaryIO) -> Callable[[Place], Content]:
    def get(place: Place) -> Content:
        offset, packed, size, method, crc = map(int, place)
        stream.seek(file, offset)
        header = stream.read(file, _LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != _LOCAL:
            raise ShardError(f"the zip is damaged: there is no member at byte {offset}")
        names = sum(_LOCAL_HEADER.unpack(header)[-2:])
        stream.seek(file, offset + _LOCAL_HEADER.size + names)
        data = _decompressed(_pieces(file, packed), _DECOMPRESSORS[method](), size)
        if zlib.crc32(data) != crc:
            raise ShardError(f"the CRC-32 of what it holds is not {crc:08x}, as it should be")
        return Content(encoded=data)

    return get


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(file, min(size, _PIECE))
        if not piece:
            raise ShardError(f"the zip is cut: it ends {size:,} bytes before the member does")
        size -= len(piece)
        yield piece


def _decompressed(pieces: Iterator[bytes], decompressor: _Decompressor, size: int) -> bytes:
    got: list[bytes] = []
    room = size + 1  # one byte too many is enough to know
    for piece in pieces:
        try:
            got.append(decompressor.decompress(piece, room))
        except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
            raise ShardError(f"its compressed data is damaged: {error}") from error
        room -= len(got[-1])
        if not room:
            raise ShardError(f"it holds more than the {size:,} bytes that are promised")
        if decompressor.eof:
            break
    if room > 1:
        raise ShardError(f"it holds {size + 1 - room:,} bytes of the {size:,} that are promised")
    return b"".join(got)


FORMAT = ShardFormat(
    name="zip",
    extensions=(".zip", ".cbz"),
    looks_right=_looks_right,
    entries=_entries,
    contents=_contents,
)
