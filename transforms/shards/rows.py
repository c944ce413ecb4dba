"""Images in arrays: one after the other, all of one shape.

What is an image: the values are uint8 or uint16, and the shape is

- [N, H, W, 1 or 3]: N images;
- [H, W, 1 or 3]: one image, since channels are likelier than images one or three pixels wide;
- [N, H, W] otherwise: N gray images;
- [H, W]: one gray image.
"""

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import BinaryIO, Literal

import numpy as np

from transforms.shards import stream
from transforms.shards.shard import Content, Entry, Place, ShardError, ShardFormat

WANTED = "images are uint8 or uint16 of shape [H, W], [N, H, W] or [N, H, W, 1 or 3]"

_PIECE = 1 << 20

# What reading raises in a stream, or a member of a zip, that is cut or damaged.
DAMAGE = (stream.StreamError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class Array:
    """What the header of an array says: the shape and type, and where the values start."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool = False

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"

    def rows(self) -> "Rows":
        """Cut the array along its first dimension.

        Raises:
            ShardError: its rows cannot be read one by one.
        """
        if self.fortran and len(self.shape) > 1:
            raise ShardError(
                f"it is in Fortran order ({self}), which scatters each row over the file; save it "
                "through numpy.ascontiguousarray"
            )
        return Rows(self.start, self.shape[0], self.shape[1:], self.dtype)


@dataclass(frozen=True, slots=True)
class Rows:
    """Parts of one shape and type that follow each other in a file.

    Attributes:
        start: where the first one is.
        count: how many are promised.
        shape: of one.
        dtype: of their values, in the byte order of the file.
        order: of the values of one, as NumPy calls it.
    """

    start: int
    count: int
    shape: tuple[int, ...]
    dtype: np.dtype
    order: Literal["C", "F"] = "C"

    @property
    def size(self) -> int:
        """Bytes of one."""
        return prod(self.shape) * self.dtype.itemsize

    def read(self, file: BinaryIO, index: int) -> np.ndarray:
        """Read one, in the byte order of this machine.

        Raises:
            ShardError: the file ends before it does.
        """
        size = self.size
        start = self.start + index * size
        stream.seek(file, start)
        data = stream.read(file, size)
        if len(data) < size:
            raise ShardError(
                f"the file holds {len(data):,} of the {size:,} bytes of number {index:,}, which "
                f"begins at byte {start:,}"
            )
        values: np.ndarray = np.ndarray(self.shape, self.dtype, data, order=self.order)
        return values.astype(self.dtype.newbyteorder("="), order="C", copy=False)


def images_of(array: Array) -> Rows | None:
    """Find the images of an array, each as [H, W, C]; None if it holds something else.

    Raises:
        ShardError: it may hold images, but they cannot be read.
    """
    if array.dtype.hasobject:
        raise ShardError("it holds pickled Python objects, which could run any program when loaded")
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        return None
    match array.shape:
        case (height, width, (1 | 3) as channels):
            count = 1
        case (count, height, width, (1 | 3) as channels):
            pass
        case (height, width):
            count, channels = 1, 1
        case (count, height, width):
            channels = 1
        case _:
            return None
    if height == 0 or width == 0:
        raise ShardError(f"its images have no pixels ({array})")
    shape = (height, width, channels)
    if count == 1:
        order: Literal["C", "F"] = "F" if array.fortran else "C"
        return Rows(array.start, 1, shape, array.dtype, order)
    return replace(array.rows(), shape=shape)


def survey(file: BinaryIO, rows: Rows) -> tuple[int, str | None]:
    """Tell how many of the promised rows a file holds, and what is wrong with it."""
    try:
        size = stream.seek(file, 0, os.SEEK_END)
    except DAMAGE as error:
        held = readable(file, rows)
        return held, f"after {held:,} of {rows.count:,} images {error}"
    return held_in(size, rows)


def held_in(size: int, rows: Rows) -> tuple[int, str | None]:
    """Tell as `survey` does, of a file of `size` bytes."""
    held = min(rows.count, max(0, size - rows.start) // rows.size)
    extra = size - rows.start - rows.count * rows.size
    if extra < 0:
        return held, f"the file ends at byte {size:,}, after {held:,} of {rows.count:,} images"
    if extra > 0:
        return held, f"{extra:,} bytes follow the last image, and nothing says what they are"
    return held, None


def readable(file: BinaryIO, rows: Rows) -> int:
    """Count the rows before the damage of a compressed stream, by reading them one by one."""
    with suppress(*DAMAGE):
        # After a seek that failed, io.BufferedReader still takes what it had read before for what
        # the stream goes on with; reading more than it can hold makes it forget.
        stream.read(file, _PIECE)
    count = 0
    try:
        stream.seek(file, rows.start)
        while count < rows.count and len(stream.read(file, rows.size)) == rows.size:
            count += 1
    except DAMAGE:
        pass
    return count


def listed(
    images: Rows, held: int, trouble: str | None, prefix: str = "", where: Place = ()
) -> Iterator[Entry]:
    """List the images that are held, then what is wrong with the rest, as one entry.

    Args:
        images: that are promised.
        held: how many of them the file holds.
        trouble: what is wrong with it.
        prefix: of their names, which are numbers of equal length.
        where: what their places hold besides their number.
    """
    digits = max(5, len(str(images.count - 1)))
    size, pixels = images.size, images.shape[0] * images.shape[1]
    for index in range(held):
        yield Entry(f"{prefix}{index:0{digits}}", (index, *where), size, pixels)
    if trouble:
        yield Entry(f"{prefix}{held:0{digits}}", (held, *where), 0, trouble=trouble)


def one_array(
    name: str,
    extensions: tuple[str, ...],
    looks_right: Callable[[bytes], bool],
    find: Callable[[BinaryIO], Rows],
) -> ShardFormat:
    """Describe a format whose files are a header and the images.

    All is as `ShardFormat` has it, but for `find`, which reads the header and finds the images
    behind it, or raises ShardError.
    """
    return ShardFormat(
        name, extensions, looks_right, partial(_entries, find=find), partial(_contents, find=find)
    )


def _entries(file: BinaryIO, *, find: Callable[[BinaryIO], Rows]) -> Iterator[Entry]:
    images = find(file)
    yield from listed(images, *survey(file, images))


def _contents(file: BinaryIO, *, find: Callable[[BinaryIO], Rows]) -> Callable[[Place], Content]:
    images = find(file)

    def get(place: Place) -> Content:
        return Content(pixels=images.read(file, int(place[0])))

    return get
