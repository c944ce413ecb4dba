"""EXIF blocks: what of them must change in a derivative, in place, so that all else stays put.

EXIF is a TIFF stream with offsets from its own beginning; maker notes have such offsets inside, in
formats of their own. So a block is patched where it stands, and directories that must grow are
written anew behind its end.
"""

import struct
from collections.abc import Iterable, Mapping
from fractions import Fraction

from transforms.metadata import directories
from transforms.metadata.blocks import MetadataError, Resolution
from transforms.metadata.directories import (
    EXIF,
    GPS,
    INTEROPERABILITY,
    LONG,
    MAKER_NOTE,
    RATIONAL,
    SHORT,
    Directory,
    Field,
    Layout,
    Tree,
    directory,
    field_of,
    layout_of,
    number,
    rational,
    stream,
    tree_of,
    value,
)

ORIENTATION = 274
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
IPTC, PHOTOSHOP = 33723, 34377

_WIDTH, _HEIGHT = 256, 257
_PIXEL_X_DIMENSION, _PIXEL_Y_DIMENSION = 40962, 40963
_STRIP_OFFSETS, _STRIP_BYTES = 273, 279
_THUMBNAIL, _THUMBNAIL_BYTES = 513, 514

_MOST = 0xFFFFFFFF
_NAMED = 5  # of what is left out, before the rest is counted
_KEPT = "and is carried over as it is"


def orientation(block: bytes) -> int | None:
    """Give the orientation that a block tells, 1-8; None where it tells none."""
    try:
        layout = layout_of(block)
        told = number(block, layout, directory(block, layout, layout.first).find(ORIENTATION))
    except MetadataError:
        return None
    return told if told is not None and 1 <= told <= 8 else None


def resolution(block: bytes) -> Resolution | None:
    """Give the resolution that a block tells, if it does."""
    try:
        layout = layout_of(block)
        return resolution_in(block, layout, directory(block, layout, layout.first))
    except MetadataError:
        return None


def resolution_in(block: directories.Buffer, layout: Layout, main: Directory) -> Resolution | None:
    """Give the resolution that a directory tells, if it does; inches where it names no unit."""
    x, y = (rational(block, layout, main.find(tag)) for tag in (X_RESOLUTION, Y_RESOLUTION))
    unit = number(block, layout, main.find(RESOLUTION_UNIT))
    return Resolution(x, y, unit if unit in (1, 2, 3) else 2) if x and y else None


def held(block: bytes, tag: int) -> bytes | None:
    """Give the value of a tag of the block's first directory, if it is there."""
    try:
        layout = layout_of(block)
        entry = directory(block, layout, layout.first).find(tag)
    except MetadataError:
        return None
    return value(block, entry) if entry else None


def amended(block: bytes, width: int, height: int) -> tuple[bytes, list[str]]:
    """Make a block true of an upright derivative, and leave all else where it is.

    Orientation becomes 1 and the pixel dimensions those given; the thumbnail, which shows the
    master, goes. A block that cannot be read tells nothing that could be wrong: it is kept, and
    said.

    Returns:
        The block, and what a person should know.
    """
    try:
        layout = layout_of(block)
        main = directory(block, layout, layout.first)
    except MetadataError as error:
        return block, [f"EXIF cannot be read ({error}) {_KEPT}"]
    if layout.big:
        return block, [f"EXIF cannot be read (it is BigTIFF) {_KEPT}"]
    patched, troubles = bytearray(block), list(main.troubles)
    _set(patched, layout, main, {ORIENTATION: 1, _WIDTH: width, _HEIGHT: height})
    found = [main]
    for tag in (EXIF, GPS):
        try:
            at = number(block, layout, main.find(tag))
            inner = None if at is None else directory(block, layout, at)
        except MetadataError as error:
            troubles.append(str(error))
            continue
        if inner is None:
            continue
        found.append(inner)
        troubles += inner.troubles
        if tag == EXIF:
            truth = {_PIXEL_X_DIMENSION: width, _PIXEL_Y_DIMENSION: height}
            _set(patched, layout, inner, truth)
            found += _interoperability(block, layout, inner)
    if main.next_at is not None and main.following:
        _drop_thumbnail(patched, layout, main, found)
    warnings = []
    if troubles:
        warnings.append(f"some of EXIF cannot be read ({troubles[0]}) {_KEPT}")
    return bytes(patched), warnings


def _interoperability(block: bytes, layout: Layout, inner: Directory) -> list[Directory]:
    at = number(block, layout, inner.find(INTEROPERABILITY))
    try:
        return [] if at is None else [directory(block, layout, at)]
    except MetadataError:
        return []


def _set(patched: bytearray, layout: Layout, found: Directory, truth: Mapping[int, int]) -> None:
    """Set whole numbers that are there, in their entries."""
    for entry in found.entries:
        if entry.tag not in truth:
            continue
        wanted = truth[entry.tag]
        if number(patched, layout, entry) == wanted and entry.count == 1:
            continue
        kind = SHORT if wanted < 1 << 16 and entry.type != LONG else LONG
        changed = field_of(entry.tag, kind, [wanted], layout.order)
        head = struct.pack(f"{layout.order}HHI", entry.tag, kind, 1)
        patched[entry.at : entry.at + 12] = head + changed.data.ljust(4, b"\0")


def _drop_thumbnail(
    patched: bytearray, layout: Layout, main: Directory, found: Iterable[Directory]
) -> None:
    """Unlink the second directory and blank what only it used; what ends the block is cut off."""
    assert main.next_at is not None, "there is a second directory"
    struct.pack_into(layout.offset, patched, main.next_at, 0)
    try:
        second = directory(patched, layout, main.following)
    except MetadataError:
        return
    used = [(0, 8), *(span for kept in found for span in _spans(layout, kept))]
    freed = _spans(layout, second) + _pictures(patched, layout, second)
    freed = [
        (start, stop)
        for start, stop in freed
        if all(stop <= other or start >= end for other, end in used)
    ]
    for start, stop in freed:
        patched[start:stop] = bytes(stop - start)
    # Only what is next to the end goes: something that nobody refers to may be between.
    end = len(patched)
    for start, stop in sorted(freed, key=lambda span: span[1], reverse=True):
        if stop < end - 1:  # a byte of padding makes no gap
            break
        end = min(end, start)
    del patched[max(end, max(stop for _, stop in used)) :]


def _spans(layout: Layout, found: Directory) -> list[tuple[int, int]]:
    """Where a directory and its values are."""
    head = struct.calcsize(layout.count)
    stop = found.at + head
    if found.entries:
        stop = max(entry.at for entry in found.entries) + layout.entry
    if found.next_at is not None:
        stop = found.next_at + layout.inline
    values = [
        (entry.start, entry.start + entry.size)
        for entry in found.entries
        if entry.size > layout.inline
    ]
    return [(found.at, stop), *values]


def _pictures(block: bytearray, layout: Layout, second: Directory) -> list[tuple[int, int]]:
    """Where the bytes of a thumbnail are, that is in one piece."""
    pieces = []
    for start, size in ((_THUMBNAIL, _THUMBNAIL_BYTES), (_STRIP_OFFSETS, _STRIP_BYTES)):
        at = number(block, layout, second.find(start))
        length = number(block, layout, second.find(size))
        if at is not None and length is not None and at + length <= len(block):
            pieces.append((at, at + length))
    return pieces


# -- making blocks ---------------------------------------------------------------------------------


def resolution_fields(told: Resolution, order: str) -> list[Field]:
    """Make the tags that tell a resolution."""
    return [
        field_of(X_RESOLUTION, RATIONAL, _ratio(told.x), order),
        field_of(Y_RESOLUTION, RATIONAL, _ratio(told.y), order),
        field_of(RESOLUTION_UNIT, SHORT, [told.unit], order),
    ]


def _ratio(part: Fraction) -> tuple[int, int]:
    """Give the nearest fraction of two numbers of 32 bits."""
    near = part.limit_denominator(max(1, min(10**6, int(_MOST / part))))
    return min(_MOST, max(1, near.numerator)), near.denominator


def with_fields(block: bytes | None, make: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Add tags to the first directory of a block, or make a block of them.

    Nothing of the block moves: its first directory is written anew behind its end.

    Args:
        block: to add to.
        make: tags to set, each with its type and its value in little-endian order.

    Raises:
        MetadataError: the block cannot be read.
    """
    added = Tree("<", {tag: Field(tag, kind, _count(kind, data), data) for tag, kind, data in make})
    if block is None:
        return stream(added)[0]
    layout = layout_of(block)
    main = directory(block, layout, layout.first)
    if layout.big or main.troubles:
        raise MetadataError("EXIF cannot be added to, as some of it cannot be read")
    grown = bytearray(block) + bytes(len(block) % 2)
    tags = added.turned(layout.order).fields
    kept = [entry for entry in main.entries if entry.tag not in tags]
    placed = {entry.tag: bytes(block[entry.at : entry.at + layout.entry]) for entry in kept}
    for tag, new in tags.items():
        held_at = new.data.ljust(4, b"\0")
        if len(new.data) > 4:
            held_at = struct.pack(layout.offset, len(grown))
            grown += new.data + bytes(len(new.data) % 2)
        placed[tag] = struct.pack(f"{layout.order}HHI", tag, new.type, new.count) + held_at
    struct.pack_into(layout.offset, grown, layout.first_at, len(grown))
    grown += struct.pack(layout.count, len(placed))
    for tag in sorted(placed):
        grown += placed[tag]
    grown += struct.pack(layout.offset, main.following)
    return bytes(grown)


def _count(kind: int, data: bytes) -> int:
    return len(data) // directories.SIZES[kind]


def fitted(block: bytes, most: int) -> tuple[bytes | None, list[str]]:
    """Make a block fit into so many bytes by leaving out its largest values.

    Returns:
        The block, None if nothing of it fits; and what was left out.
    """
    if len(block) <= most:
        return block, []
    try:
        layout = layout_of(block)
        tree, _ = tree_of(block, layout, directory(block, layout, layout.first))
    except MetadataError:
        return None, [f"EXIF of {len(block):,} bytes was left out: {most:,} can be held"]
    dropped: list[Field] = []
    by_size = sorted(_all(tree), key=lambda pair: len(pair[1].data))
    size = 8 + sum(6 + 12 * len(inner.nested) for inner in _trees(tree))
    size += sum(12 + _beside(kept) for _, kept in by_size)
    while size > most and by_size:
        held_in, largest = by_size.pop()
        del held_in.fields[largest.tag]
        size -= 12 + _beside(largest)
        dropped.append(largest)
    named = [
        "the maker note" if lost.tag == MAKER_NOTE else f"tag {lost.tag}"
        for lost in dropped[:_NAMED]
    ]
    if len(dropped) > _NAMED:
        named.append(f"{len(dropped) - _NAMED} more")
    total = sum(len(lost.data) for lost in dropped)
    warning = f"EXIF is too large: {', '.join(named)}, of {total:,} bytes, left out"
    made, said = stream(tree)
    return made, [warning, *said]


def _beside(kept: Field) -> int:
    """Bytes of a value that does not fit into its entry."""
    return len(kept.data) + len(kept.data) % 2 if len(kept.data) > 4 else 0


def _trees(tree: Tree) -> list[Tree]:
    return [tree, *(deeper for inner in tree.nested.values() for deeper in _trees(inner))]


def _all(tree: Tree) -> list[tuple[Tree, Field]]:
    return [(inner, kept) for inner in _trees(tree) for kept in inner.fields.values()]
