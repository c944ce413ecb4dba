"""TFRecord files of `tf.train.Example`, read without TensorFlow.

A record is the length of its data (uint64, little-endian), the masked CRC-32C of the length, the
data, and the masked CRC-32C of the data (tensorflow/core/lib/io/record_writer.h, and
lib/hash/crc32c.h for the mask).
"""

import io
import itertools
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

import google_crc32c

from transforms import codec
from transforms.shards import example, stream
from transforms.shards.shard import Content, Entry, Place, ShardError, ShardFormat

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LARGEST = (1 << 31) - 1  # bytes of a protocol buffer, so no Example is larger
_PIECE = 1 << 16  # bytes read at a time where they are not kept


def tfrecord_format(encoded: str | None = None, filename: str | None = None) -> ShardFormat:
    """Describe TFRecords whose Examples hold an image and its name in these features.

    The image is an image file, or a serialised uint8 or uint16 tensor [H, W] or [H, W, 1 or 3]. An
    Example without a name is called by its position. All other features pass through as lists of
    bytes, floats or integers, or as nulls of no type where a feature has no kind.

    Planning reads every record whole, since its name may stand anywhere in it, and so checks every
    checksum as well.

    Args:
        encoded: the feature that holds the image; None for image/encoded.
        filename: the feature that holds its name; None for image/filename.
    """
    encoded, filename = encoded or example.IMAGE, filename or example.NAME
    return ShardFormat(
        name="tfrecord",
        extensions=(".tfrecord", ".tfrecords", ".tfrec"),
        looks_right=_looks_right,
        entries=partial(_entries, encoded=encoded, filename=filename),
        contents=partial(_contents, encoded=encoded, filename=filename),
    )


def _entries(file: BinaryIO, *, encoded: str, filename: str) -> Iterator[Entry]:
    _refuse_others(file)
    for number in itertools.count():
        offset = file.tell()
        position = f"{number:08}"
        try:
            record = _record(file, offset)
            if record is None:
                return
            entry = _entry(record, position, (offset,), encoded, filename)
        except _NothingMoreError as error:
            yield Entry(position, (offset,), 0, trouble=str(error))
            return
        except ShardError as error:
            size = max(0, file.tell() - offset - _HEADER.size - _FOOTER.size)
            entry = Entry(position, (offset,), size, trouble=str(error))
        yield entry


def _refuse_others(file: BinaryIO) -> None:
    try:
        head = stream.read(file, _HEADER.size)
    except stream.StreamError:
        head = b""  # it is cut or damaged at once: reading the first record will say so
    if head and not _looks_right(head):
        raise ShardError(
            "not a TFRecord, or damaged in its first bytes: they are no length with its checksum"
        )
    file.seek(0)


def _entry(record: bytes, position: str, place: Place, encoded: str, filename: str) -> Entry:
    features = example.features(record)
    name = example.name(features, filename)
    try:
        image = example.image(features, encoded)
        pixels = example.tensor(image)
    except ShardError as error:
        return Entry(name or position, place, len(record), trouble=str(error))
    if name is None:
        known = codec.format_of(image)
        name = position + (codec.FORMATS[known].extensions[0] if known else "")
    area = 0 if pixels is None else pixels.shape[0] * pixels.shape[1]
    return Entry(name, place, len(image), area, beside=len(record) - len(image))


def _contents(file: BinaryIO, *, encoded: str, filename: str) -> Callable[[Place], Content]:
    def get(place: Place) -> Content:
        offset = int(place[0])
        stream.seek(file, offset)
        record = _record(file, offset)
        if record is None:
            raise ShardError(f"the file ends before byte {offset:,}, where the record should be")
        features = example.features(record)
        image = example.image(features, encoded)
        pixels = example.tensor(image)
        used = {encoded} if example.name(features, filename) is None else {encoded, filename}
        fields = {
            name: example.scalar(features[name]) for name in sorted(features) if name not in used
        }
        return Content(image if pixels is None else None, pixels, fields)

    return get


# -- records ---------------------------------------------------------------------------------------


class _NothingMoreError(ShardError):
    """Damage behind which the next record cannot be found."""


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    """Make a record of its data."""
    length = struct.pack("<Q", len(data))
    head = length + _FOOTER.pack(_masked_crc(length))
    return b"".join((head, data, _FOOTER.pack(_masked_crc(data))))


def _looks_right(head: bytes) -> bool:
    if len(head) < _HEADER.size:
        return False
    return bool(_HEADER.unpack_from(head)[1] == _masked_crc(head[:8]))


def _record(file: BinaryIO, offset: int) -> bytes | None:
    """Read the record at `offset`, where the file stands; None at the end of the file."""
    try:
        header = stream.read(file, _HEADER.size)
        return _data(file, offset, header) if header else None
    except stream.StreamError as error:
        raise _NothingMoreError(f"in the record at byte {offset:,} {error}") from error


def _data(file: BinaryIO, offset: int, header: bytes) -> bytes:
    if len(header) < _HEADER.size:
        raise _NothingMoreError(f"the file ends within the header of the record at byte {offset:,}")
    if not _looks_right(header):
        raise _NothingMoreError(
            f"the length of the record at byte {offset:,} does not match its checksum: neither the "
            "record nor what follows it can be found"
        )
    length = _HEADER.unpack(header)[0]
    data = stream.read(file, min(length, _LARGEST))
    found = len(data)
    while found < length and (piece := stream.read(file, min(length - found, _PIECE))):
        found += len(piece)
    footer = stream.read(file, _FOOTER.size)
    if len(footer) < _FOOTER.size:
        raise _NothingMoreError(
            f"the file ends within the record at byte {offset:,}, of which {found:,} of "
            f"{length:,} bytes are there"
        )
    if length > _LARGEST:
        raise ShardError(
            f"the record at byte {offset:,} has {length:,} bytes, more than an Example can have"
        )
    if _FOOTER.unpack(footer)[0] != _masked_crc(data):
        raise ShardError(f"the record at byte {offset:,} does not match its checksum")
    return data


# -- zlib ------------------------------------------------------------------------------------------


def is_zlib(head: bytes) -> bool:
    """Tell by its first bytes whether a file is a TFRecord compressed with zlib as a whole."""
    try:
        return _looks_right(zlib.decompressobj().decompress(head, _HEADER.size))
    except zlib.error:
        return False


class ZlibFile(io.BufferedReader):
    """What a file compressed with zlib holds; it seeks forward by reading, backward from the start.

    It does not close the file it reads from. Like `gzip.GzipFile` it raises EOFError where the file
    ends early, and zlib.error where it is damaged.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(_Inflated(file), _PIECE)


class _Inflated(io.RawIOBase):
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rewind()

    def _rewind(self) -> None:
        self._file.seek(0)
        self._inflater = zlib.decompressobj()
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            while self.read(_PIECE):
                pass
        target = max(0, offset + (0 if whence == os.SEEK_SET else self._position))
        if target < self._position:
            self._rewind()
        while self._position < target and self.read(min(target - self._position, _PIECE)):
            pass
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._inflate(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _inflate(self, size: int) -> bytes:
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._file.read(_PIECE)
            data = self._inflater.decompress(packed, size)
            if data:
                return data
            if not packed and not self._inflater.eof:
                raise EOFError("the file ends before the compressed stream does")
        if self._inflater.unused_data or self._file.read(1):
            raise zlib.error("something follows the end of the compressed stream")
        return b""


FORMAT = tfrecord_format()
