"""The directories of TIFF, of which EXIF is made as well: read leniently, in bounds, and written.

TIFF 6.0, section 2; BigTIFF as https://www.awaresystems.be/imaging/tiff/bigtiff.html has it.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from transforms.metadata import maker_notes
from transforms.metadata.blocks import MetadataError


class Buffer(Protocol):
    """What holds a TIFF stream and is sliced like bytes."""

    def __len__(self) -> int: ...
    def __getitem__(self, piece: slice, /) -> bytes | bytearray | memoryview: ...


def _unpacked(form: str, data: Buffer, at: int) -> tuple[Any, ...]:
    return struct.unpack(form, data[at : at + struct.calcsize(form)])


# Bytes of one value by type; 129 is EXIF 3.0's UTF-8.
SIZES = {
    **{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8},
    **{13: 4, 16: 8, 17: 8, 18: 8, 129: 1},
}
# How a value is made of numbers that a byte order turns, by type; all others are single bytes.
_PARTS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNSIGNED = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 3, 4, 5, 7, 16

EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
MAKER_NOTE = 37500
# The directories that a directory may hold, by their tags.
NESTED: Mapping[int, frozenset[int]] = {
    EXIF: frozenset({INTEROPERABILITY}),
    GPS: frozenset(),
    INTEROPERABILITY: frozenset(),
}

# Of one directory. Real ones have fewer than 200.
MOST_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """How a TIFF stream stores numbers.

    Attributes:
        order: "<" or ">", as `struct` has them.
        big: whether it is BigTIFF, with offsets of 8 bytes.
        first: where its first directory is.
    """

    order: str
    big: bool
    first: int

    @property
    def entry(self) -> int:
        """Bytes of an entry."""
        return 20 if self.big else 12

    @property
    def inline(self) -> int:
        """Bytes of an offset, and of a value that is kept in its place."""
        return 8 if self.big else 4

    @property
    def offset(self) -> str:
        """The `struct` format of an offset."""
        return f"{self.order}{'Q' if self.big else 'I'}"

    @property
    def count(self) -> str:
        """The `struct` format of the number of entries before a directory."""
        return f"{self.order}{'Q' if self.big else 'H'}"

    @property
    def first_at(self) -> int:
        """Where the offset of the first directory is."""
        return 8 if self.big else 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a directory, where it was found.

    Attributes:
        tag, type, count: as the entry has them.
        at: where the entry is.
        start: where its value is.
        size: bytes of its value, all of which are there.
    """

    tag: int
    type: int
    count: int
    at: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory as it was found.

    Attributes:
        at: where its number of entries is.
        entries: those that could be read.
        next_at: where the offset of the next directory is; None where the stream ends before it.
        following: that offset; 0 for none.
        troubles: what could not be read.
    """

    at: int
    entries: tuple[Entry, ...]
    next_at: int | None
    following: int
    troubles: tuple[str, ...]

    def find(self, tag: int) -> Entry | None:
        """Give the first entry of a tag."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


def layout_of(data: Buffer) -> Layout:
    """Read the head of a TIFF stream.

    Raises:
        MetadataError: it is none.
    """
    head = bytes(data[:16])
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise MetadataError("it does not begin like TIFF")
    magic = struct.unpack_from(f"{order}H", head, 2)[0]
    if magic == 43 and len(head) == 16:
        return Layout(order, True, struct.unpack_from(f"{order}Q", head, 8)[0])
    if magic != 42:
        raise MetadataError("it does not begin like TIFF")
    return Layout(order, False, struct.unpack_from(f"{order}I", head, 4)[0])


def directory(data: Buffer, layout: Layout, at: int) -> Directory:
    """Read a directory, as far as it can be read.

    Raises:
        MetadataError: there is none at this place.
    """
    head = struct.calcsize(layout.count)
    if not 8 <= at <= len(data) - head:
        raise MetadataError(f"its directory is said to be at byte {at} of {len(data)}")
    count = _unpacked(layout.count, data, at)[0]
    troubles: list[str] = []
    room = (len(data) - at - head) // layout.entry
    whole = count <= min(room, MOST_ENTRIES)
    if not whole:
        troubles.append(f"a directory claims {count} entries and can have {min(room, 4096)}")
    entries = []
    start = at + head
    table = data[start : start + min(count, room, MOST_ENTRIES) * layout.entry]
    for place in range(0, len(table), layout.entry):
        entry = _entry(table, layout, place, start, len(data))
        if entry is None:
            tag = struct.unpack_from(f"{layout.order}H", table, place)[0]
            troubles.append(f"tag {tag} points outside of it or has no known type")
        else:
            entries.append(entry)
    next_at = start + count * layout.entry if whole else None
    if next_at is None or next_at + layout.inline > len(data):
        return Directory(at, tuple(entries), None, 0, tuple(troubles))
    following = _unpacked(layout.offset, data, next_at)[0]
    return Directory(at, tuple(entries), next_at, following, tuple(troubles))


def _entry(
    table: bytes | bytearray | memoryview, layout: Layout, place: int, start: int, end: int
) -> Entry | None:
    """Read an entry of a table that stands at `start` of a stream that ends at `end`."""
    tag, kind = struct.unpack_from(f"{layout.order}HH", table, place)
    count = struct.unpack_from(layout.offset, table, place + 4)[0]
    if kind not in SIZES:
        return None
    size, held_at = SIZES[kind] * count, place + 4 + layout.inline
    if size <= layout.inline:
        return Entry(tag, kind, count, start + place, start + held_at, size)
    at = struct.unpack_from(layout.offset, table, held_at)[0]
    return Entry(tag, kind, count, start + place, at, size) if at + size <= end else None


def value(data: Buffer, entry: Entry) -> bytes:
    """Give the bytes of an entry's value."""
    return bytes(data[entry.start : entry.start + entry.size])


def number(data: Buffer, layout: Layout, entry: Entry | None) -> int | None:
    """Give an entry's value that is one whole number; None where it is not, or there is none."""
    if entry is None or entry.type not in _UNSIGNED or entry.count < 1:
        return None
    return _unpacked(layout.order + _UNSIGNED[entry.type], data, entry.start)[0]


def rational(data: Buffer, layout: Layout, entry: Entry | None) -> Fraction | None:
    """Give an entry's value that is a positive number; None where it is not, or there is none."""
    if entry is None or entry.type != RATIONAL or entry.count < 1:
        whole = number(data, layout, entry)
        return Fraction(whole) if whole else None
    above, below = _unpacked(f"{layout.order}II", data, entry.start)
    return Fraction(above, below) if above and below else None


# -- trees -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """A tag and its value, apart from any file.

    Attributes:
        tag, type, count: as an entry has them.
        data: the value, in the byte order of its tree.
        origin: where it was, of a maker note, whose offsets may depend on it.
    """

    tag: int
    type: int
    count: int
    data: bytes
    origin: int | None = None


@dataclass(slots=True)
class Tree:
    """A directory and those within it, apart from any file.

    Attributes:
        order: byte order of the values.
        fields: by tag.
        nested: directories by the tags that point to them.
    """

    order: str
    fields: dict[int, Field] = field(default_factory=dict)
    nested: dict[int, "Tree"] = field(default_factory=dict)

    def turned(self, order: str) -> "Tree":
        """Give the same in another byte order. Undefined values stay as they are."""
        if order == self.order:
            return self
        fields = {
            tag: Field(tag, kept.type, kept.count, _swapped(kept), kept.origin)
            for tag, kept in self.fields.items()
        }
        return Tree(order, fields, {tag: tree.turned(order) for tag, tree in self.nested.items()})


def _swapped(kept: Field) -> bytes:
    part = _PARTS.get(kept.type, 1)
    if part == 1:
        return kept.data
    whole = len(kept.data) // part * part
    swapped = bytearray(whole)
    for place in range(part):
        swapped[place::part] = kept.data[part - 1 - place : whole : part]
    return bytes(swapped)


def field_of(tag: int, kind: int, values: Iterable[int], order: str) -> Field:
    """Make a field of whole numbers; a rational's are its numerator and its denominator."""
    values = tuple(values)
    code = "I" if kind == RATIONAL else _UNSIGNED[kind]
    data = struct.pack(f"{order}{len(values)}{code}", *values)
    return Field(tag, kind, len(data) // SIZES[kind], data)


def tree_of(
    data: Buffer,
    layout: Layout,
    found: Directory,
    *,
    without: frozenset[int] = frozenset(),
    nested: frozenset[int] = frozenset({EXIF, GPS}),
) -> tuple[Tree, list[str]]:
    """Take the fields out of a directory and those within it.

    Values together are never more than the stream, whatever entries claim.

    Args:
        data: the stream.
        layout: of it.
        found: the directory.
        without: tags to leave out.
        nested: tags of directories to take as well.

    Returns:
        The tree, and what could not be read.
    """
    budget = [len(data)]
    seen = {found.at}
    return _tree(data, layout, found, without, nested, budget, seen)


def _tree(
    data: Buffer,
    layout: Layout,
    found: Directory,
    without: frozenset[int],
    nested: frozenset[int],
    budget: list[int],
    seen: set[int],
) -> tuple[Tree, list[str]]:
    tree, troubles = Tree(layout.order), list(found.troubles)
    for entry in found.entries:
        if entry.tag in without or entry.tag in tree.fields or entry.tag in tree.nested:
            continue
        if entry.tag in nested:
            at = number(data, layout, entry) or 0
            if at in seen:
                troubles.append(f"tag {entry.tag} leads in a circle")
                continue
            seen.add(at)
            try:
                inner = directory(data, layout, at)
            except MetadataError as error:
                troubles.append(f"tag {entry.tag}: {error}")
                continue
            below = NESTED[entry.tag]
            tree.nested[entry.tag], more = _tree(data, layout, inner, without, below, budget, seen)
            troubles += more
            continue
        budget[0] -= entry.size
        if budget[0] < 0:
            troubles.append("its values overlap, and only some of them are kept")
            break
        origin = entry.start if entry.tag == MAKER_NOTE else None
        kept = Field(entry.tag, entry.type, entry.count, value(data, entry), origin)
        tree.fields[entry.tag] = kept
    return tree, troubles


def packed(
    tree: Tree, layout: Layout, at: int, *, following: int = 0
) -> tuple[bytes, int, list[str]]:
    """Write a tree as directories and values, as they are to stand at a place of a stream.

    Args:
        tree: in the byte order of the layout.
        layout: of the stream.
        at: where in the stream they will begin; even.
        following: offset of the directory after the first.

    Returns:
        The bytes, where among them the first directory is, counted from the stream's beginning,
        and what a person should know.

    Raises:
        MetadataError: there are too many for the stream's offsets.
    """
    out = bytearray()
    warnings: list[str] = []
    pointers = {}
    for tag, inner in tree.nested.items():
        data, where, more = packed(inner, layout, at + len(out))
        out += data
        warnings += more
        kind = LONG8 if layout.big else LONG
        pointers[tag] = Field(tag, kind, 1, struct.pack(layout.offset, where))
    fields = {**tree.fields, **pointers}
    entries = bytearray(struct.pack(layout.count, len(fields)))
    for tag in sorted(fields):
        kept = fields[tag]
        entries += struct.pack(f"{layout.order}HH", tag, kept.type)
        entries += struct.pack(layout.offset, kept.count)
        if len(kept.data) <= layout.inline:
            entries += kept.data.ljust(layout.inline, b"\0")
            continue
        start = at + len(out)
        entries += _offset(layout, start)
        held, said = maker_notes.moved(kept.data, kept.origin, start, layout.order)
        warnings += said
        out += held + bytes(len(held) % 2)
    where = at + len(out)
    out += entries + _offset(layout, following)
    return bytes(out + bytes(len(out) % 2)), where, warnings


def _offset(layout: Layout, to: int) -> bytes:
    try:
        return struct.pack(layout.offset, to)
    except struct.error:
        raise MetadataError(f"no offset reaches byte {to} of a TIFF that is not BigTIFF") from None


def stream(tree: Tree) -> tuple[bytes, list[str]]:
    """Write a tree as a TIFF stream of its own, as EXIF blocks are; and what should be known."""
    layout = Layout(tree.order, False, 0)
    data, where, warnings = packed(tree, layout, 8)
    mark = b"II*\0" if tree.order == "<" else b"MM\0*"
    return mark + struct.pack(layout.offset, where) + data, warnings
