"""Tar files, plain or as WebDataset writes them: samples of members that share a key.

A sample is consecutive members of one path up to the first dot of the base name; what follows
that dot is a member's extension. `a/b.jpg`, `a/b.seg.png` and `a/b.json` are one sample. Members
that are no images are passed on with each image of their sample, under their extensions. Where
names say more than the key does, they are heeded: `b.left.json` belongs to `b.left.png` alone if
that is in the sample. A tar of plain images is samples of one.

- An image is a regular member whose last extension is an image's; a sample may have several.
- Left out: members without an extension, hidden ones (`._b.jpg`), directories, devices, pipes.
- Links and sparse members that are images, or belong to one, are entries with trouble.
- A sample ends where the key changes, where an extension comes again, and at 1,024 members.
- After a header that cannot be read, reading goes on at the next block with a valid header. What
  lies between is one entry with trouble, whatever it was; it may be listed before the sample that
  it lies in. Should a tar have been stored there as a member, its members are taken for ours.
- Zero blocks are passed over, so tars that were joined end to end are read to their end, and so
  is one in which a header was wiped out. What follows them and is no header is damage.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual,
"Basic Tar Format" and "Storing Sparse Files"; the WebDataset format specification (2020).
"""

import posixpath
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import pyarrow as pa

from transforms import codec
from transforms.shards import stream
from transforms.shards.shard import Content, Entry, Place, ShardError, ShardFormat

_BLOCK = 512
_ZEROS = bytes(_BLOCK)

_LARGEST_MEMBER = 1 << 40  # a header that claims more is wrong, and no file system seeks that far
_LARGEST_EXTENDED_HEADER = 8 << 20
_LARGEST_SAMPLE = 2 << 30  # that is read into memory: an image and what belongs to it
_MOST_MEMBERS = 1024  # of a sample, all of which are known before the first image is listed
_WINDOW = 64 << 20


def _looks_right(head: bytes) -> bool:
    # An empty tar is all zeros. A header whose checksum is wrong still has its magic.
    return head == _ZEROS or head[257:262] == b"ustar" or _header(head) is not None


# -- entries ---------------------------------------------------------------------------------------


def _entries(file: BinaryIO) -> Iterator[Entry]:
    sample = _Sample("")
    for member in _Tape(file).members():
        if member.hides:
            yield _entry(member)
            continue
        key, extension = split(member.name)
        if not key:
            continue
        if not sample.takes(key, extension):
            yield from sample.entries()
            sample = _Sample(key)
        sample.members[extension] = member
    yield from sample.entries()


def split(name: str) -> tuple[str, str]:
    """Tell by its name which sample a member is in, and what it is there.

    Give key and extension; the key is empty if a member can be in no sample.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (folder + slash + stem, extension) if stem and dot else ("", "")


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of a tar, or damage.

    Attributes:
        name: of the member.
        offset: where its data begins.
        size: of its data.
        trouble: why it cannot be read.
        hides: whether it may be an image, or other members may be lost with it, whatever its name.
    """

    name: str
    offset: int
    size: int
    trouble: str | None = None
    hides: bool = False

    @property
    def is_image(self) -> bool:
        return posixpath.splitext(self.name)[1].lower() in codec.EXTENSIONS


@dataclass(slots=True)
class _Sample:
    """Members of one key, by their extensions."""

    key: str
    members: dict[str, _Member] = field(default_factory=dict)

    def takes(self, key: str, extension: str) -> bool:
        """Say whether a member may be added."""
        known = key == self.key and extension not in self.members
        return known and len(self.members) < _MOST_MEMBERS

    def entries(self) -> Iterator[Entry]:
        """List the images, each with what belongs to it; and what belongs to them and is lost."""
        images = [member for member in self.members.values() if member.is_image]
        if not images:
            return
        others = {name: other for name, other in self.members.items() if not other.is_image}
        yield from (_entry(other) for other in others.values() if other.trouble)
        sound = {name: other for name, other in others.items() if not other.trouble}
        stems = {_stem(image) for image in images} - {self.key}
        for image in images:
            fields = {
                name: other
                for name, other in sound.items()
                if _stem(other) == _stem(image) or _stem(other) not in stems
            }
            yield _entry(image, fields)


def _stem(member: _Member) -> str:
    return posixpath.splitext(member.name)[0]


def _entry(member: _Member, fields: dict[str, _Member] | None = None) -> Entry:
    place: Place = (member.offset, member.size)
    total = member.size
    for name, other in (fields or {}).items():
        place = (*place, name, other.offset, other.size)
        total += other.size
    trouble = member.trouble
    if trouble is None and total > _LARGEST_SAMPLE:
        trouble = f"the image and what belongs to it are {total:,} bytes, more than are read"
    return Entry(member.name, place, member.size, trouble=trouble, beside=total - member.size)


# -- members ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Said:
    """What extended headers say of the member that comes next."""

    name: str | None = None
    size: int | None = None
    trouble: str | None = None
    damage: str | None = None  # the name may be another, so it may be an image whatever the name


class _Tape:
    """The blocks of a tar, read forwards."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0
        self._said = _Said()
        self._damage: int | None = None  # where the first block is that should be a header
        self._broken = ""
        self._ended = False  # nothing that follows can be found
        stream.seek(file, 0)

    def members(self) -> Iterator[_Member]:
        """Find the members, and damage between them.

        Raises:
            ShardError: there is not one header.
        """
        found = False
        while len(block := self._read(_BLOCK)) == _BLOCK:
            if block == _ZEROS:
                continue
            start = self._at - _BLOCK
            if not (header := _header(block)):
                self._damage = start if self._damage is None else self._damage
                self._said = _Said()
                continue
            yield from self._damage_before(start)
            found = True
            yield from self._heed(header, block)
            if self._ended:
                return
        if self._damage is None and (block.strip(b"\0") or self._said != _Said()):
            self._damage = self._at - len(block)
        if self._at < _BLOCK or (self._damage is not None and not found):
            raise ShardError(f"no tar: {self._broken or f'no header in {self._at:,} bytes'}")
        yield from self._damage_before(self._at)
        if self._broken:
            yield _lost(self._at, f"at or before byte {self._at} {self._broken}")

    def _damage_before(self, end: int) -> Iterator[_Member]:
        if self._damage is not None:
            yield _lost(
                self._damage,
                f"no header can be read between byte {self._damage} and byte {end}: what was "
                "stored there is lost",
            )
        self._damage = None

    def _heed(self, header: "_Header", block: bytes) -> Iterator[_Member]:
        extend = _EXTENDED.get(header.kind)
        if extend is None:
            yield from self._member(header, block)
            self._said = _Said()
        elif header.size > _LARGEST_EXTENDED_HEADER:
            damage = f"its extended header, before byte {self._at}, claims {header.size:,} bytes"
            if cut := self._skip(header.size):
                yield _lost(self._at, cut)
            self._said = replace(self._said, damage=damage)
        else:
            data = self._read(header.size + -header.size % _BLOCK)
            if len(data) < header.size:
                self._ended = True
                reason = self._broken or "the tar is cut"
                yield _lost(self._at, f"{reason}: it ends in an extended header, at {self._at}")
            self._said = extend(self._said, data[: header.size])

    def _member(self, header: "_Header", block: bytes) -> Iterator[_Member]:
        said, kind = self._said, header.kind
        name = header.name if said.name is None else said.name
        size = header.size if said.size is None else said.size
        trouble = said.trouble
        if kind not in _REGULAR:
            trouble = _TROUBLE.get(kind, f"it is of the type {kind!r}, which is not known")
        if kind == tarfile.GNUTYPE_SPARSE:
            self._skip_sparse_map(block)
        if kind in _WITHOUT_DATA:
            size = 0
        offset = self._at
        if cut := self._skip(size):
            yield _Member(name, offset, size, cut, hides=True)
        elif said.damage:
            yield _Member(name, offset, size, said.damage, hides=True)
        elif kind not in _NO_FILES:
            yield _Member(name, offset, size, trouble)

    def _skip_sparse_map(self, block: bytes) -> None:
        more = block[482]
        while more and len(block := self._read(_BLOCK)) == _BLOCK:
            more = block[504]

    def _skip(self, size: int) -> str | None:
        """Pass over data. If it is not all there, say so, and that is the end."""
        start = self._at
        if size == 0:
            return None
        self._ended = True
        if size > _LARGEST_MEMBER:
            return f"its header, before byte {start}, claims {size:,} bytes"
        try:
            # That the last byte is there shows that all are, without a look at the others.
            stream.seek(self._file, start + size - 1)
            last = stream.read(self._file, 1 + -size % _BLOCK)
        except stream.StreamError as error:
            return f"{error}: it ends in the {size:,} bytes from byte {start} on"
        if not last:
            return f"the tar is cut: it ends in the {size:,} bytes from byte {start} on"
        self._at = start + size - 1 + len(last)
        self._ended = False
        return None

    def _read(self, size: int) -> bytes:
        """Read, as if the file ended where it cannot be decompressed."""
        try:
            data = stream.read(self._file, size)
        except stream.StreamError as error:
            self._broken = str(error)
            return b""
        self._at += len(data)
        return data


def _lost(offset: int, trouble: str) -> _Member:
    return _Member(f"damage-at-byte-{offset}", offset, 0, trouble, hides=True)


_REGULAR = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
_WITHOUT_DATA = {
    *(tarfile.LNKTYPE, tarfile.SYMTYPE),
    *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE),
}
# The last are GNU's directory of an incremental backup, its list of renamed files, and its label.
_NO_FILES = _WITHOUT_DATA - {tarfile.LNKTYPE, tarfile.SYMTYPE} | {b"D", b"N", b"V"}
_SPARSE = "it is stored as a sparse file, which is not supported"
_TROUBLE = {
    tarfile.LNKTYPE: "it is a hard link: what it holds is stored under another name",
    tarfile.SYMTYPE: "it is a symbolic link: what it holds is stored under another name, or not",
    tarfile.GNUTYPE_SPARSE: _SPARSE,
    b"M": "it is the rest of a file that begins in another volume",
}


# -- headers ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Header:
    """What is needed of a header block. Other fields may hold what they like."""

    name: str
    size: int
    kind: bytes


def _header(block: bytes) -> _Header | None:
    # Most blocks that are no headers show it here; this is what makes going on after damage fast.
    if not _CHECKSUM.fullmatch(block, 148, 156):
        return None
    checksum, size = _number(block[148:156]), _number(block[124:136])
    if size is None or not _adds_up(block, checksum):
        return None
    name = block[:100].partition(b"\0")[0]
    # GNU tar and the tar of Version 7 have other things where ustar has a prefix.
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return _Header(_text(name), size, block[156:157])


_CHECKSUM = re.compile(rb"[ \0]*[0-7]+[ \0]*")
_OCTAL = re.compile(rb"[ \0]*([0-7]*)(?:[ \0].*)?", re.DOTALL)


def _number(field: bytes) -> int | None:
    if field[0] == 0x80:  # GNU's way to hold more than 8 GiB
        return int.from_bytes(field[1:], "big")
    number = _OCTAL.fullmatch(field)
    return int(number[1] or b"0", 8) if number else None


def _adds_up(block: bytes, checksum: int | None) -> bool:
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")  # blanks stand for the checksum itself
    if total == checksum:
        return True
    high = sum(byte > 127 for byte in block[:148] + block[156:])
    return total - 256 * high == checksum  # some old tars added up signed bytes


def _long_name(said: _Said, data: bytes) -> _Said:
    return replace(said, name=_text(data.partition(b"\0")[0]))


def _pax(said: _Said, data: bytes) -> _Said:
    records: dict[bytes, bytes] = {}
    at = 0
    while record := _PAX_RECORD.match(data, at):
        at += int(record[1])
        if at <= record.end() or data[at - 1 : at] != b"\n":
            return replace(said, damage="the extended header before it is damaged")
        records[record[2]] = data[record.end() : at - 1]
    # An empty value takes back what an earlier header said.
    name = records.get(b"GNU.sparse.name") or records.get(b"path")
    size = records.get(b"size")
    if data[at:].strip(b"\0") or (size and not _PAX_SIZE.fullmatch(size)):
        return replace(said, damage="the extended header before it is damaged")
    return _Said(
        _text(name) if name else said.name,
        int(size) if size else said.size,
        _SPARSE if any(key.startswith(b"GNU.sparse.") for key in records) else said.trouble,
    )


_PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=]+)=")
_PAX_SIZE = re.compile(rb"\d{1,20}")


def _nothing(said: _Said, data: bytes) -> _Said:
    return said


# Global headers hold comments and times in practice, not names.
_EXTENDED: dict[bytes, Callable[[_Said, bytes], _Said]] = {
    tarfile.XHDTYPE: _pax,
    tarfile.SOLARIS_XHDTYPE: _pax,
    tarfile.XGLTYPE: _nothing,
    tarfile.GNUTYPE_LONGNAME: _long_name,
    tarfile.GNUTYPE_LONGLINK: _nothing,
}


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


# -- contents --------------------------------------------------------------------------------------


def _contents(file: BinaryIO) -> Callable[[Place], Content]:
    window = _Window(file)

    def get(place: Place) -> Content:
        places = [("", *place[:2]), *(place[at : at + 3] for at in range(2, len(place), 3))]
        spans = [(str(name), int(offset), int(size)) for name, offset, size in places]
        data = window.read_all([(offset, size) for _, offset, size in spans])
        fields = {
            _unicode(name): pa.scalar(data[offset, size], pa.binary())
            for name, offset, size in spans[1:]
        }
        return Content(encoded=data[spans[0][1:]], fields=fields)

    return get


def _unicode(name: str) -> str:
    """Make a name of a field of what may be no UTF-8, which no other kind of shard takes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class _Window:
    """The stretch of a file that was read last.

    The images of a sample share its other members, which may come before or after them. With the
    stretch from the first to the last of them at hand, a compressed stream need not go back.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = 0
        self._data = b""

    def read_all(self, spans: list[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """Read spans of (offset, size), in the order of the file.

        Raises:
            ShardError: the file ends before them.
        """
        start = min(offset for offset, _ in spans)
        end = max(offset + size for offset, size in spans)
        if end - start > _WINDOW:
            return {span: self._read(*span) for span in sorted(spans)}
        self._cover(start, end)
        return {span: self._held(*span) for span in spans}

    def _cover(self, start: int, end: int) -> None:
        reached = self._start + len(self._data)
        kept = self._data[start - self._start :] if self._start <= start <= reached else b""
        missing = start + len(kept)
        if missing < end:
            kept += self._read(missing, end - missing)
        self._start, self._data = start, kept

    def _held(self, offset: int, size: int) -> bytes:
        return self._data[offset - self._start : offset - self._start + size]

    def _read(self, offset: int, size: int) -> bytes:
        stream.seek(self._file, offset)
        data = stream.read(self._file, size)
        if len(data) < size:
            raise ShardError(f"the tar ends at byte {offset + len(data)}, before this image does")
        return data


FORMAT = ShardFormat(
    name="webdataset",
    extensions=(".tar",),
    looks_right=_looks_right,
    entries=_entries,
    contents=_contents,
    sample=lambda name: split(name)[0] or name,
)
