"""NumPy's `.npy` files (the format: numpy.lib.format); `rows` says which arrays are images."""

import io
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from numpy.lib import format as numpy_format

from transforms.shards import rows, stream
from transforms.shards.shard import ShardError

_MAGIC = numpy_format.MAGIC_LEN  # bytes of the magic string and the version
_LARGEST = 1 << 16  # bytes of a header; that of an array of images has 128

_LONG = re.compile(rb"(?<=\d)L")  # that Python 2 wrote behind a number

# By version: how the length of the header is stored, and what reads it. Version 3 is for arrays
# with named columns only.
_VERSIONS: dict[bytes, tuple[struct.Struct, Callable[[BinaryIO], Any]]] = {
    b"\1\0": (struct.Struct("<H"), numpy_format.read_array_header_1_0),
    b"\2\0": (struct.Struct("<I"), numpy_format.read_array_header_2_0),
}


def looks_right(head: bytes) -> bool:
    """Tell by its first bytes whether a file may be an array."""
    return head.startswith(numpy_format.MAGIC_PREFIX)


def header(file: BinaryIO) -> rows.Array:
    """Read the header of the array at whose start the file stands.

    Raises:
        ShardError: it is no array, or its header is broken.
    """
    magic = stream.read(file, _MAGIC)
    if not looks_right(magic):
        raise ShardError("not a NumPy array")
    if magic[-2:] not in _VERSIONS:
        raise ShardError(f"the array is in version {magic[-2]}, which is not for images")
    length, parse = _VERSIONS[magic[-2:]]
    stated = stream.read(file, length.size)
    if len(stated) < length.size:
        raise ShardError("the array ends within its header")
    size = length.unpack(stated)[0]
    if size > _LARGEST:
        raise ShardError(f"the array has a header of {size:,} bytes, too long for that of images")
    text = _LONG.sub(b" ", stream.read(file, size))
    try:
        shape, fortran, dtype = parse(io.BytesIO(stated + text))
    except Exception as error:  # NumPy gives the header to Python's own parser, which raises much
        raise ShardError(f"the array has a broken header: {error}") from error
    if any(side < 0 for side in shape):
        raise ShardError(f"the array has a broken header: its shape is {list(shape)}")
    return rows.Array(_MAGIC + len(stated) + len(text), shape, dtype, fortran)


def _find(file: BinaryIO) -> rows.Rows:
    array = header(file)
    images = rows.images_of(array)
    if images is None:
        raise ShardError(f"the array is {array}; {rows.WANTED}")
    return images


FORMAT = rows.one_array("npy", (".npy",), looks_right, _find)
