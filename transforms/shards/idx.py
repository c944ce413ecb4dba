"""IDX files, in which MNIST and its kin are published.

Two zero bytes, a byte for the type of the values, a byte for the number of dimensions, each
dimension as a big-endian uint32, then the values, the last dimension running fastest
(yann.lecun.com/exdb/mnist). Images are uint8 [N, H, W] or [N, H, W, 1 or 3].
"""

import struct
from typing import BinaryIO

import numpy as np

from transforms.shards import rows, stream
from transforms.shards.shard import ShardError

_TYPES = {
    0x08: "uint8",
    0x09: "int8",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}
_MAGIC = 4  # bytes before the dimensions
_WANTED = "images are uint8 [N, H, W] or [N, H, W, 1 or 3]"


def _looks_right(head: bytes) -> bool:
    return len(head) >= _MAGIC and head[:2] == b"\0\0" and head[2] in _TYPES and 0 < head[3] < 9


def _find(file: BinaryIO) -> rows.Rows:
    head = stream.read(file, _MAGIC)
    if not _looks_right(head):
        raise ShardError("not an IDX file")
    kind, dimensions = _TYPES[head[2]], head[3]
    sizes = stream.read(file, 4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ShardError("the IDX file ends within its header")
    shape = struct.unpack(f">{dimensions}I", sizes)
    match kind, shape:
        case "uint8", (count, height, width) if height and width:
            channels = 1
        case "uint8", (count, height, width, (1 | 3) as channels) if height and width:
            pass
        case _, (count,):
            raise ShardError(f"the IDX file holds {count:,} labels, not images")
        case _:
            raise ShardError(f"the IDX file holds {kind} {list(shape)}; {_WANTED}")
    return rows.Rows(_MAGIC + len(sizes), count, (height, width, channels), np.dtype(np.uint8))


FORMAT = rows.one_array(
    "idx",
    ("-idx3-ubyte", ".idx3-ubyte", "-idx4-ubyte", ".idx4-ubyte", ".idx"),
    _looks_right,
    _find,
)
