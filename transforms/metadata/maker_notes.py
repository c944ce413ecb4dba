"""Maker notes: what cameras add to EXIF, in formats of their own, with offsets in them.

Many are a directory like those of TIFF whose offsets count from the beginning of the whole EXIF
block. Where a block is kept whole they hold true; where a maker note comes to stand elsewhere, as
in a TIFF, they are moved with it.
"""

import struct

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_LONGEST_HEAD = 16  # that makers put before the directory, such as "SONY DSC \0\0\0"
_MOST_ENTRIES = 1024


def moved(note: bytes, origin: int | None, to: int, order: str) -> tuple[bytes, list[str]]:
    """Move a maker note to another place of its EXIF block or TIFF.

    Args:
        note: its bytes.
        origin: where it was; None for what is no maker note.
        to: where it will be.
        order: byte order of the block, "<" or ">".

    Returns:
        The note, with offsets that count from the beginning of the block set right, and a warning
        where they could not be told.
    """
    if origin is None or origin == to or len(note) < 14:
        return note, []
    for turn in (order, "<" if order == ">" else ">"):
        for head in range(0, _LONGEST_HEAD + 1):
            places = _offsets(note, head, turn)
            if places is None:
                continue
            if all(_inside(offset - origin, size, note) for _, offset, size in places):
                if to + len(note) > 0xFFFFFFFF:
                    return note, ["the maker note's offsets do not reach where it is now"]
                return _patched(note, places, to - origin, turn), []
            if all(_inside(offset, size, note) for _, offset, size in places) or all(
                _inside(offset + head, size, note) for _, offset, size in places
            ):
                return note, []  # they count from the note itself
            return note, [
                "the maker note was moved, and some of its offsets may count from where it was"
            ]
    return note, []  # no directory: its own format, carried as it is


def _offsets(note: bytes, head: int, order: str) -> list[tuple[int, int, int]] | None:
    """Read a directory behind a head of so many bytes: where its offsets are, each offset, and the
    size of what is there; None if there is no directory.
    """
    if head + 2 > len(note):
        return None
    count = struct.unpack_from(f"{order}H", note, head)[0]
    if not 1 <= count <= _MOST_ENTRIES or head + 2 + 12 * count > len(note):
        return None
    places = []
    for at in range(head + 2, head + 2 + 12 * count, 12):
        _, kind, number, offset = struct.unpack_from(f"{order}HHII", note, at)
        if kind not in _SIZES:
            return None
        size = _SIZES[kind] * number
        if size > 4:
            places.append((at + 8, offset, size))
    return places


def _inside(offset: int, size: int, note: bytes) -> bool:
    return offset >= 0 and offset + size <= len(note)


def _patched(note: bytes, places: list[tuple[int, int, int]], distance: int, order: str) -> bytes:
    patched = bytearray(note)
    for at, offset, _ in places:
        struct.pack_into(f"{order}I", patched, at, offset + distance)
    if note[-8:-4] in (b"II*\0", b"MM\0*"):  # Canon's foot says where the note was
        place = struct.unpack_from(f"{order}I", note, len(note) - 4)[0]
        struct.pack_into(f"{order}I", patched, len(note) - 4, (place + distance) & 0xFFFFFFFF)
    return bytes(patched)
