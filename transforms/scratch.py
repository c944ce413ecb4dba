"""Room for what is large: arrays and encoded files of more than `LIMIT` bytes are memory-mapped.

What is mapped lies in files without a name, in the folder that Python's `tempfile` takes ($TMPDIR,
else /tmp): the system writes its pages out where memory is short, and the space is free again once
the last array or view of them is gone, or the process is. Code that uses it has one path for images
of any size.
"""

import io
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

# An 8-bit colour image of 22 megapixels.
LIMIT = 64 << 20

_BLOCK = 1024  # side of what is copied at a time: few pages of either array are in use

_PIECE = 8 << 20  # bytes of a file

# An encoded file: in memory, or a view of a mapped one.
Buffer = bytes | memoryview


class ScratchError(OSError):
    """There is no room for an image that is too large for memory alone, and what to do."""


def empty(shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray:
    """Give an array of any content, in C order, as `np.empty` does; a large one is mapped.

    Raises:
        ScratchError: there is no room for it.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size <= LIMIT:
        return np.empty(shape, kind)
    with _file(size) as file:
        # Without blocks of its own, a page for which the disk has no room would kill the process.
        _allocate(file, size)
        return np.frombuffer(mmap.mmap(file.fileno(), size), kind).reshape(shape)


def empty_like(array: np.ndarray) -> np.ndarray:
    """Give an array of any content and of the shape and type of another."""
    return empty(array.shape, array.dtype)


def copied(array: np.ndarray) -> np.ndarray:
    """Give a copy of an array, in C order.

    Raises:
        ScratchError: there is no room for it.
    """
    copy = empty_like(array)
    copy[...] = array
    return copy


def contiguous(array: np.ndarray) -> np.ndarray:
    """Give an image [H, W, ...] in C order: itself, or a copy.

    Raises:
        ScratchError: there is no room for it.
    """
    if array.flags.c_contiguous:
        return array
    copy = empty_like(array)
    for top in range(0, array.shape[0], _BLOCK):
        for left in range(0, array.shape[1], _BLOCK):
            block = np.s_[top : top + _BLOCK, left : left + _BLOCK]
            copy[block] = array[block]
    return copy


def spool(size: int) -> BinaryIO:
    """Give a file to write an encoded image to: in memory, or on disk without a name.

    Args:
        size: bytes that it may come to, roughly.

    Raises:
        ScratchError: there is no room for that.
    """
    if size <= LIMIT:
        return io.BytesIO()
    file = _file(size)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < size:
        file.close()
        raise _no_room(size, f"{free / 1e9:.1f} GB are free")
    return file


def contents(file: BinaryIO) -> Buffer:
    """Give all that was written to a `spool` or a temporary file, which may be closed after it."""
    if isinstance(file, io.BytesIO):
        return file.getvalue()
    size = file.seek(0, os.SEEK_END)
    if size > LIMIT:
        return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
    file.seek(0)
    return file.read()


class Pieces(Sequence[bytes]):
    """What was written to a file, a piece at a time, whenever one is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)

    def __len__(self) -> int:
        return -(-self._size // _PIECE)

    def __getitem__(self, place: Any) -> Any:  # no slices
        if not 0 <= place < len(self):
            raise IndexError(place)
        self._file.seek(place * _PIECE)
        return self._file.read(_PIECE)


def gathered(parts: Iterable[bytes], size: int) -> Buffer:
    """Put the parts of a file together.

    Args:
        parts: from first to last.
        size: bytes that they may come to, roughly.

    Raises:
        ScratchError: there is no room for them.
    """
    with spool(size) as file:
        for part in parts:
            try:
                file.write(part)
            except OSError as error:
                raise _no_room(size, error.strerror) from error
        return contents(file)


def opened(data: Buffer) -> BinaryIO:
    """Give an encoded image as a file to read, without a copy of it."""
    return io.BytesIO(data) if isinstance(data, bytes) else io.BufferedReader(_View(data))


class _View(io.RawIOBase):
    """A view of memory as a file."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._position = 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self._view[self._position : self._position + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._view)}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the beginning")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _file(size: int) -> BinaryIO:
    try:
        return tempfile.TemporaryFile(prefix="heliograph-")
    except OSError as error:
        raise _no_room(size, error.strerror) from error


def _allocate(file: BinaryIO, size: int) -> None:
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:  # macOS
            for start in range(0, size, LIMIT):
                file.write(bytes(min(LIMIT, size - start)))
            file.flush()
    except OSError as error:
        raise _no_room(size, error.strerror) from error


def _no_room(size: int, reason: str | None) -> ScratchError:
    return ScratchError(
        f"no room for {size / 1e9:.1f} GB of scratch in {tempfile.gettempdir()}: {reason}; "
        "set TMPDIR to a folder with more of it"
    )
