"""TFRecord files of `tf.train.Example`, read without TensorFlow.

A record is the length of its data (uint64, little-endian), the masked CRC-32C of the length, the
data, and the masked CRC-32C of the data (tensorflow/core/lib/io/record_writer.h, and
lib/hash/crc32c.h for the mask). The messages are those of tensorflow/core/example/example.proto and
feature.proto, and of tensorflow/core/framework/tensor.proto, tensor_shape.proto and types.proto.
"""

import io
import itertools
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import prod
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from transforms.shards import stream
from transforms.shards.shard import Content, Entry, Place, ShardError, ShardFormat

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LARGEST = (1 << 31) - 1  # bytes of a protocol buffer, so no Example is larger
_PIECE = 1 << 16  # bytes read at a time where they are not kept
_LISTED = 12  # names of features in a message


def tfrecord_format(encoded: str | None = None, filename: str | None = None) -> ShardFormat:
    """Describe TFRecords whose Examples hold an image and its name in these features.

    The image is an image file, or a serialised uint8 or uint16 tensor [H, W] or [H, W, 1 or 3]. An
    Example without a name is called by its position. All other features pass through as lists of
    bytes, floats or integers.

    Planning reads every record whole, since its name may stand anywhere in it, and so checks every
    checksum as well.

    Args:
        encoded: the feature that holds the image; None for image/encoded.
        filename: the feature that holds its name; None for image/filename.
    """
    encoded, filename = encoded or "image/encoded", filename or "image/filename"
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
    features = _features(record)
    name = _name(features, filename)
    try:
        image = _image(features, encoded)
        pixels = _tensor(image)
    except ShardError as error:
        return Entry(name or position, place, len(record), trouble=str(error))
    if name is None:
        known = _MAGIC.match(image)
        name = f"{position}.{known.lastgroup}" if known else position
    area = 0 if pixels is None else pixels.shape[0] * pixels.shape[1]
    return Entry(name, place, len(image), area)


def _contents(file: BinaryIO, *, encoded: str, filename: str) -> Callable[[Place], Content]:
    def get(place: Place) -> Content:
        offset = int(place[0])
        stream.seek(file, offset)
        record = _record(file, offset)
        if record is None:
            raise ShardError(f"the file ends before byte {offset:,}, where the record should be")
        features = _features(record)
        image = _image(features, encoded)
        pixels = _tensor(image)
        used = {encoded} if _name(features, filename) is None else {encoded, filename}
        fields = {name: _values(features[name]) for name in sorted(features) if name not in used}
        return Content(image if pixels is None else None, pixels, fields)

    return get


# -- records ---------------------------------------------------------------------------------------


class _NothingMoreError(ShardError):
    """Damage behind which the next record cannot be found."""


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


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


# -- messages --------------------------------------------------------------------------------------

# What we read of them, in a pool of its own: TensorFlow may register the originals beside it.
_MESSAGES = """
name: "heliograph/example.proto" package: "heliograph" syntax: "proto3"
message_type { name: "BytesList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature"
  oneof_decl { name: "kind" }
  field { name: "bytes" number: 1 type: TYPE_MESSAGE type_name: "BytesList" oneof_index: 0 }
  field { name: "floats" number: 2 type: TYPE_MESSAGE type_name: "FloatList" oneof_index: 0 }
  field { name: "integers" number: 3 type: TYPE_MESSAGE type_name: "Int64List" oneof_index: 0 } }
message_type { name: "Features"
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: "Feature" } }
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE
    type_name: "Features.FeatureEntry" } }
message_type { name: "Example"
  field { name: "features" number: 1 type: TYPE_MESSAGE type_name: "Features" }
  field { name: "feature_lists" number: 2 type: TYPE_BYTES } }
message_type { name: "Dimension"
  field { name: "size" number: 1 type: TYPE_INT64 } }
message_type { name: "Shape"
  field { name: "dim" number: 2 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: "Dimension" } }
message_type { name: "Tensor"
  field { name: "dtype" number: 1 type: TYPE_INT32 }
  field { name: "shape" number: 2 type: TYPE_MESSAGE type_name: "Shape" }
  field { name: "content" number: 4 type: TYPE_BYTES } }
"""


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"heliograph.{name}"))


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(text_format.Parse(_MESSAGES, descriptor_pb2.FileDescriptorProto()))
_EXAMPLE, _TENSOR = _message("Example"), _message("Tensor")

# By the number that a tensor states: its name, and how its values are stored where we read them.
_DTYPES: dict[int, tuple[str, np.dtype | None]] = {
    1: ("float32", None),
    2: ("float64", None),
    3: ("int32", None),
    4: ("uint8", np.dtype("u1")),
    5: ("int16", None),
    6: ("int8", None),
    7: ("string", None),
    9: ("int64", None),
    10: ("bool", None),
    14: ("bfloat16", None),
    17: ("uint16", np.dtype("<u2")),
    19: ("float16", None),
    22: ("uint32", None),
    23: ("uint64", None),
}

_MAGIC = re.compile(
    rb"(?P<jpg>\xff\xd8\xff)|(?P<png>\x89PNG\r\n\x1a\n)|(?P<webp>RIFF....WEBP)"
    rb"|(?P<tif>II[*+]\0|MM\0[*+])|(?P<gif>GIF8[79]a)|(?P<bmp>BM)",
    re.DOTALL,
)


def _features(record: bytes) -> Mapping[str, Any]:
    try:
        example = _EXAMPLE.FromString(record)
    except DecodeError as error:
        raise ShardError("the record is no tf.train.Example") from error
    if example.feature_lists:
        raise ShardError("the record is a tf.train.SequenceExample, which is not supported")
    return example.features.feature


def _values(feature: Any) -> list[Any]:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []


def _name(features: Mapping[str, Any], filename: str) -> str | None:
    if filename in features:
        match _values(features[filename]):
            case [bytes(name)] if name:
                return name.decode("utf-8", "surrogateescape")
    return None


def _image(features: Mapping[str, Any], encoded: str) -> bytes:
    if encoded not in features:
        names = sorted(features)
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        there = f"has {', '.join(names[:_LISTED])}{more}" if names else "has none"
        raise ShardError(f"the Example has no feature {encoded}; it {there}")
    match _values(features[encoded]):
        case [bytes(image)] if image:
            return image
        case [] | [b""]:
            raise ShardError(f"the feature {encoded} is empty")
        case [bytes(), *_] as images:
            raise ShardError(f"the feature {encoded} has {len(images)} values instead of one image")
        case _:
            raise ShardError(f"the feature {encoded} holds numbers, not an image file or a tensor")


def _tensor(image: bytes) -> np.ndarray | None:
    """Give the pixels of a serialised tensor, as [H, W, C]; None if the bytes are none.

    Raises:
        ShardError: a tensor that is no image.
    """
    if image[:1] != b"\x08":  # how tf.io.serialize_tensor begins, and no image file
        return None
    try:
        tensor = _TENSOR.FromString(image)
    except DecodeError:
        return None
    shape = [dimension.size for dimension in tensor.shape.dim]
    name, dtype = _DTYPES.get(tensor.dtype, (f"type {tensor.dtype}", None))
    channels = shape[2] if len(shape) == 3 else 1
    if dtype is None or len(shape) not in (2, 3) or channels not in (1, 3) or min(shape) < 1:
        raise ShardError(
            f"a tensor of {name} {shape}; images are uint8 or uint16 [H, W] or [H, W, 1 or 3]"
        )
    if prod(shape) * dtype.itemsize != len(tensor.content):
        raise ShardError(
            f"a tensor of {name} {shape} needs {prod(shape) * dtype.itemsize:,} bytes of pixels "
            f"and has {len(tensor.content):,}"
        )
    pixels = np.frombuffer(tensor.content, dtype).reshape(shape[0], shape[1], channels)
    return pixels.astype(dtype.newbyteorder("="), copy=False)


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
