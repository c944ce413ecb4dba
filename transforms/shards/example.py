"""Examples and tensors: the protocol buffers that TFRecords hold, without TensorFlow.

The messages are those of tensorflow/core/example/example.proto and feature.proto, and of
tensorflow/core/framework/tensor.proto, tensor_shape.proto and types.proto.
"""

import contextlib
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from transforms.shards import fields
from transforms.shards.shard import ShardError

# The features of an image and its name, where others are not said.
IMAGE, NAME = "image/encoded", "image/filename"

_LISTED = 12  # names of features in a message

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


# -- reading ---------------------------------------------------------------------------------------


def features(record: bytes) -> Mapping[str, Any]:
    """Parse an Example: its features by name.

    Raises:
        ShardError: it is none.
    """
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


# By the kind of a feature.
TYPES = {
    "bytes": pa.list_(pa.binary()),
    "floats": pa.list_(pa.float32()),
    "integers": pa.list_(pa.int64()),
}


def scalar(feature: Any) -> pa.Scalar:
    """Give what a feature holds: a list, or a null of no type where it has no kind."""
    kind = feature.WhichOneof("kind")
    return pa.scalar(list(getattr(feature, kind).value), TYPES[kind]) if kind else pa.scalar(None)


def name(features: Mapping[str, Any], filename: str) -> str | None:
    """Give the name in a feature, if it is there and is one."""
    if filename in features:
        match _values(features[filename]):
            case [bytes(found)] if found:
                return found.decode("utf-8", "surrogateescape")
    return None


def image(features: Mapping[str, Any], encoded: str) -> bytes:
    """Give the image in a feature: a file, or a serialised tensor.

    Raises:
        ShardError: it is not there, or is none.
    """
    if encoded not in features:
        names = sorted(features)
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        there = f"has {', '.join(names[:_LISTED])}{more}" if names else "has none"
        raise ShardError(f"the Example has no feature {encoded}; it {there}")
    match _values(features[encoded]):
        case [bytes(found)] if found:
            return found
        case [] | [b""]:
            raise ShardError(f"the feature {encoded} is empty")
        case [bytes(), *_] as images:
            raise ShardError(f"the feature {encoded} has {len(images)} values instead of one image")
        case _:
            raise ShardError(f"the feature {encoded} holds numbers, not an image file or a tensor")


def tensor(image: bytes) -> np.ndarray | None:
    """Give the pixels of a serialised tensor, as [H, W, C]; None if the bytes are none.

    Raises:
        ShardError: a tensor that is no image.
    """
    if image[:1] != b"\x08":  # how tf.io.serialize_tensor begins, and no image file
        return None
    try:
        found = _TENSOR.FromString(image)
    except DecodeError:
        return None
    shape = [dimension.size for dimension in found.shape.dim]
    kind, dtype = _DTYPES.get(found.dtype, (f"type {found.dtype}", None))
    channels = shape[2] if len(shape) == 3 else 1
    if dtype is None or len(shape) not in (2, 3) or channels not in (1, 3) or min(shape) < 1:
        raise ShardError(
            f"a tensor of {kind} {shape}; images are uint8 or uint16 [H, W] or [H, W, 1 or 3]"
        )
    if prod(shape) * dtype.itemsize != len(found.content):
        raise ShardError(
            f"a tensor of {kind} {shape} needs {prod(shape) * dtype.itemsize:,} bytes of pixels "
            f"and has {len(found.content):,}"
        )
    pixels = np.frombuffer(found.content, dtype).reshape(shape[0], shape[1], channels)
    return pixels.astype(dtype.newbyteorder("="), copy=False)


# -- writing ---------------------------------------------------------------------------------------


_OWN = (IMAGE, NAME, fields.EXACT)


def written(encoded: bytes, name: str, others: fields.Fields) -> bytes:
    """Write an Example of an image, its name and its fields.

    Lists of bytes, floats (float32) and integers (int64) are features; other fields, too, as far
    as they can be, for other readers, and exactly in the feature `fields.EXACT`.
    """
    made = _EXAMPLE()
    into = made.features.feature
    into[IMAGE].bytes.value.append(encoded)
    into[NAME].bytes.value.append(name.encode("utf-8", "surrogateescape"))
    rest: dict[str, pa.Scalar] = {}
    for field, value in others.items():
        if not _is_feature(field, value):
            rest[field] = value
        if field not in _OWN:
            _put(into[field], value)
    if rest:
        into[fields.EXACT].bytes.value.append(fields.exact(rest, rest))
    return made.SerializeToString(deterministic=True)


def _is_feature(name: str, value: pa.Scalar) -> bool:
    """Tell whether a feature holds a field as it is."""
    if name in _OWN:
        return False
    if pa.types.is_null(value.type):
        return True
    return value.is_valid and value.type in TYPES.values() and value.values.null_count == 0


def _put(feature: Any, value: pa.Scalar) -> None:
    """Set a feature to the nearest that it can hold of a field, which may be nothing."""
    many = pa.types.is_list(value.type) or pa.types.is_large_list(value.type)
    kind = value.type.value_type if many else value.type
    if pa.types.is_null(value.type) or not value.is_valid:
        return
    found = next(((into, plain) for test, into, plain in _NEAREST if test(kind)), None)
    if found is None:
        return
    into, plain = found
    values = value.as_py() if many else [value.as_py()]
    target = getattr(feature, into)
    target.SetInParent()
    with contextlib.suppress(ValueError):  # an unsigned integer that int64 cannot hold
        target.value.extend([plain(one) for one in values if one is not None])


# By the type of a value: the kind of feature, and what makes it one of its values.
_NEAREST: tuple[tuple[Callable[[pa.DataType], bool], str, Callable[[Any], Any]], ...] = (
    (pa.types.is_boolean, "integers", int),
    (pa.types.is_integer, "integers", int),
    (pa.types.is_floating, "floats", float),
    (pa.types.is_binary, "bytes", bytes),
    (pa.types.is_large_binary, "bytes", bytes),
    (pa.types.is_string, "bytes", str.encode),
    (pa.types.is_large_string, "bytes", str.encode),
)
