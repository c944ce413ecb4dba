"""Reading an open shard in bounds, whether it is being decompressed or not."""

import gzip
import io
import zlib
from typing import BinaryIO

from transforms.shards.shard import ShardError

_PIECE = 16 << 20

# What a decompressing file raises where it is cut or damaged. Any other OSError is the storage's
# own, which may pass, and is for the caller.
BROKEN = (EOFError, gzip.BadGzipFile, zlib.error)


class StreamError(ShardError):
    """A compressed stream that is cut or damaged."""


def read(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, or fewer at the end of the file.

    Memory follows what the file holds, not what was asked for: `file.read(size)` would allocate
    all that a hostile header claims.

    Raises:
        StreamError: the file is a compressed stream that is cut or damaged.
    """
    pieces = []
    try:
        while size > 0 and (piece := file.read(min(size, _PIECE))):
            pieces.append(piece)
            size -= len(piece)
    except BROKEN as error:
        raise StreamError(f"the compressed stream is damaged: {error}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def seek(file: BinaryIO, offset: int, whence: int = io.SEEK_SET) -> int:
    """Go to an offset, and give it; past the end, reading gives nothing.

    Raises:
        StreamError: the file is a compressed stream that is cut or damaged.
    """
    try:
        return file.seek(offset, whence)
    except BROKEN as error:
        raise StreamError(f"the compressed stream is damaged: {error}") from error
