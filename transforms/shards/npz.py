"""NumPy's `.npz` files: a zip of arrays, stored or deflated, some of them images.

`rows` says which arrays are images. The other arrays that are as long as a stack of images, such as
labels, are fields of each of its images, by name; so is a [N, W] that could be an image of its own.
Arrays that are neither are passed over.

Where the bytes of a stored member begin: PKWARE's APPNOTE.TXT, 4.3.7.
"""

import gzip
import io
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, cast

import numpy as np

from transforms.shards import npy, rows, stream
from transforms.shards.fields import from_numpy
from transforms.shards.shard import Content, Entry, Place, ShardError, ShardFormat

_PIECE = 1 << 16  # bytes read at a time
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, bytes of the name and of the extra field
_ENCRYPTED = 1  # flag
_LISTED = 12  # arrays in a message


def _looks_right(head: bytes) -> bool:
    if len(head) < _LOCAL_HEADER.size:
        return False
    signature, length, _ = _LOCAL_HEADER.unpack_from(head)
    name = head[_LOCAL_HEADER.size : _LOCAL_HEADER.size + length]
    return bool(signature == b"PK\3\4" and name.endswith(b".npy"))


def _entries(file: BinaryIO) -> Iterator[Entry]:
    npz = _Npz(file)
    arrays, broken = npz.headers()
    images = _images(arrays, broken)
    if not images and not broken:
        names = [f"{npz.name(number)} {array}" for number, array in arrays.items()]
        there = ", ".join(names[:_LISTED] + ["…"] * (len(names) > _LISTED))
        raise ShardError(f"no images among its arrays ({there or 'it has none'}); {rows.WANTED}")
    fields = _fields(arrays, images, broken)
    for number, found in images.items():
        where = (number, *fields[number])
        yield from rows.listed(found, *npz.survey(number, found), f"{npz.name(number)}/", where)
    for number in sorted({field for names in fields.values() for field in names}):
        if fault := npz.fault(number):
            broken[number] = fault
    for number, reason in broken.items():
        name = npz.name(number)
        yield Entry(name, (0, number), npz.size(number), trouble=f"the array {name}: {reason}")


def _images(arrays: Mapping[int, rows.Array], broken: dict[int, str]) -> dict[int, rows.Rows]:
    """Find the arrays that are images, and say of others why they are none that can be read."""
    images: dict[int, rows.Rows] = {}
    for number, array in arrays.items():
        try:
            if found := rows.images_of(array):
                images[number] = found
        except ShardError as error:
            broken[number] = str(error)
    lengths = _stacks(arrays, images)
    return {
        number: found
        for number, found in images.items()
        if len(arrays[number].shape) > 2 or arrays[number].shape[0] not in lengths
    }


def _stacks(
    arrays: Mapping[int, rows.Array], images: Mapping[int, rows.Rows]
) -> dict[int, list[int]]:
    """Find the arrays of several images, by how many; an array of one image may be such a stack."""
    stacks: dict[int, list[int]] = {}
    for number, found in images.items():
        shape = arrays[number].shape
        if len(shape) > 2 and shape[0] == found.count:
            stacks.setdefault(found.count, []).append(number)
    return stacks


def _fields(
    arrays: Mapping[int, rows.Array], images: Mapping[int, rows.Rows], broken: dict[int, str]
) -> dict[int, list[int]]:
    """Find the fields of each array of images, and say of others why they cannot be read."""
    fields: dict[int, list[int]] = {number: [] for number in images}
    stacks = _stacks(arrays, images)
    for number, array in arrays.items():
        if number in images or number in broken or not array.shape or array.shape[0] not in stacks:
            continue
        try:
            array.rows()
        except ShardError as error:
            broken[number] = str(error)
        else:
            for one in stacks[array.shape[0]]:
                fields[one].append(number)
    return fields


def _contents(file: BinaryIO) -> Callable[[Place], Content]:
    npz = _Npz(file)
    opened: dict[int, tuple[BinaryIO, rows.Rows]] = {}  # of one stack of images at a time

    def read(number: int, index: int, cut: Callable[[rows.Array], rows.Rows | None]) -> np.ndarray:
        if number not in opened:
            member = npz.open(number)
            found = cut(npy.header(member))
            if found is None:
                raise ShardError("it holds no images")
            opened[number] = member, found
        member, found = opened[number]
        return found.read(member, index)

    def get(place: Place) -> Content:
        index, number, *fields = map(int, place)
        if number not in opened:
            opened.clear()
        one = number
        try:
            pixels = read(number, index, rows.images_of)
            values = {}
            for one in fields:
                values[npz.name(one)] = from_numpy(read(one, index, rows.Array.rows))
        except (ShardError, zipfile.BadZipFile) as error:
            opened.clear()  # who knows where in its stream it stands
            raise ShardError(f"the array {npz.name(one)}: {error}") from error
        return Content(pixels=pixels, fields=values)

    return get


FORMAT = ShardFormat(
    "npz", (".npz",), _looks_right, _entries, _contents, part=lambda place: place[1]
)


class _Npz:
    """The arrays of an open NPZ, by the position of their member among all members."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        head = stream.read(file, _LOCAL_HEADER.size)
        try:
            self._zip = zipfile.ZipFile(file)
        except Exception as error:  # zipfile hands on whatever it meets in a hostile directory
            if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
                raise  # the storage's own, which may pass
            what = "an NPZ that is cut or damaged" if head[:2] == b"PK" else "not an NPZ"
            raise ShardError(f"{what}: {error}") from error
        self._members = self._zip.infolist()

    def name(self, number: int) -> str:
        """Give the name of an array."""
        return self._members[number].filename.removesuffix(".npy")

    def size(self, number: int) -> int:
        """Give the bytes of an array with its header, as the NPZ states them."""
        return self._members[number].file_size

    def headers(self) -> tuple[dict[int, rows.Array], dict[int, str]]:
        """Read the headers of all arrays, and say of others why they cannot be read."""
        arrays, broken = {}, {}
        for number, member in enumerate(self._members):
            if member.filename.endswith(".npy"):
                try:
                    with self.open(number) as file:
                        arrays[number] = npy.header(file)
                except (ShardError, zipfile.BadZipFile) as error:
                    broken[number] = str(error)
        return arrays, broken

    def open(self, number: int) -> BinaryIO:
        """Open an array for reading; in one that is stored, seeking costs nothing.

        Raises:
            ShardError: it cannot be read.
        """
        member = self._members[number]
        if member.flag_bits & _ENCRYPTED:
            raise ShardError("it is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ShardError(f"it is compressed by method {member.compress_type} of zip")
        if member.header_offset < 0:
            raise ShardError("it begins before the file")
        try:
            inflated: Any = self._zip.open(member)  # which checks the header before the bytes
        except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
            raise ShardError(str(error)) from error
        if member.compress_type == zipfile.ZIP_DEFLATED:
            return io.BufferedReader(inflated, _PIECE)
        inflated.close()
        stream.seek(self._file, member.header_offset)
        _, name, extra = _LOCAL_HEADER.unpack(stream.read(self._file, _LOCAL_HEADER.size))
        start = member.header_offset + _LOCAL_HEADER.size + name + extra
        return io.BufferedReader(_Part(self._file, start, member.file_size), _PIECE)

    def fault(self, number: int) -> str | None:
        """Read an array through, since its checksum covers all of it, and say what is wrong."""
        try:
            with self._zip.open(self._members[number]) as file:
                while stream.read(cast(BinaryIO, file), _PIECE):
                    pass
        except rows.DAMAGE as error:
            return str(error)
        return None

    def survey(self, number: int, images: rows.Rows) -> tuple[int, str | None]:
        """Tell how many of the promised images an array holds, and what is wrong with it."""
        fault = self.fault(number)
        if fault is None:
            return rows.held_in(self.size(number), images)
        with self.open(number) as file:
            held = rows.readable(file, images)
        return held, (
            f"the array {self.name(number)} is damaged; {held:,} of its {images.count:,} images "
            f"can be read, though they may be wrong: {fault}"
        )


class _Part(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        stream.seek(self._file, self._start + self._position)
        data = stream.read(self._file, min(len(buffer), self._size - self._position))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
