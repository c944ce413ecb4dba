"""What comes with an image in its shard: fields, whose values know their types.

A value is a pyarrow scalar, because a plain one does not say what it is (int32 or int64? a null of
what? a list of nothing). Each kind of shard holds some types itself: a tar bytes, a TFRecord lists
of bytes, floats and integers, a Parquet file all of them, though it cannot tell a null from a
field that is not there. What a shard cannot hold as it is, it holds as well as it can for other
readers, and exactly in one more field, `EXACT`: an Arrow IPC stream of one row, which goes before
what else the shard has by those names.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from math import prod

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Fields = Mapping[str, pa.Scalar]

# The name of the field that holds others exactly, and of its own note on which are not there.
EXACT = "heliograph.arrow"
_WITHOUT = b"heliograph.without"

# Of tables of the fields of many images: the column of their names, and how the files end.
NAME = "file_name"
EXTENSION = ".parquet"


def column(value: pa.Scalar) -> pa.Array:
    """Give an array of one value, of just its type."""
    return pa.repeat(value, 1)


def from_numpy(value: np.ndarray) -> pa.Scalar:
    """Give an array [...] as lists in lists, and one of no dimensions as its value.

    What Arrow has no type for, such as complex numbers, becomes text.
    """
    flat = np.asarray(value).reshape(-1)
    text = {"U": pa.string(), "S": pa.binary()}.get(flat.dtype.kind)
    try:
        made = pa.array(flat.tolist(), text) if text else pa.array(flat)
    except pa.ArrowException:
        made = pa.array([str(one) for one in flat], pa.string())
    for depth in reversed(range(value.ndim)):
        starts = np.arange(prod(value.shape[:depth]) + 1) * value.shape[depth]
        made = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), made)
    return made[0]


def exact(values: Fields, without: Iterable[str] = ()) -> bytes:
    """Write fields as what `EXACT` holds.

    Args:
        values: the fields that the shard cannot hold as they are.
        without: names that the shard holds though the image has no such fields.
    """
    arrays = [column(value) for value in values.values()]
    schema = pa.schema(
        [(name, array.type) for name, array in zip(values, arrays, strict=True)],
        metadata={_WITHOUT: json.dumps(sorted(without))},
    )
    # Of no columns a batch has no rows, and there is nothing to read.
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as stream:
        if arrays:
            stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return sink.getvalue()


def restored(fields: Fields) -> Fields:
    """Give fields as they were before their shard was written, if it has a field `EXACT` of ours.

    Whatever else is called so is a field like any other.
    """
    held = fields.get(EXACT)
    if held is None:
        return fields
    found = {name: value for name, value in fields.items() if name != EXACT}
    data = held.as_py()
    if isinstance(data, list) and len(data) == 1:
        data = data[0]  # a feature of an Example is always a list
    if data is None:
        return found
    try:
        values, without = _read(data)
    except (pa.ArrowException, TypeError, ValueError, LookupError, OSError):
        return fields
    return {name: value for name, value in found.items() if name not in without} | values


def _read(data: bytes) -> tuple[dict[str, pa.Scalar], set[str]]:
    with pa.ipc.open_stream(data) as stream:
        without = set(json.loads(stream.schema.metadata[_WITHOUT]))
        values: dict[str, pa.Scalar] = {}
        for batch in stream:
            batch.validate(full=True)
            values |= {name: batch.column(name)[0] for name in batch.schema.names}
        return values, without


# -- tables ----------------------------------------------------------------------------------------


def columns(rows: Sequence[Fields], taken: Iterable[str] = ()) -> dict[str, pa.Array]:
    """Make columns of the fields of several images, with what does not fit into `EXACT`.

    Args:
        rows: the fields of each.
        taken: names that the table needs for itself.
    """
    types: dict[str, set[pa.DataType]] = {}
    for row in rows:
        for name, value in row.items():
            types.setdefault(name, set()).add(value.type)
    kinds = {
        name: found.pop()
        for name, found in types.items()
        if len(found) == 1 and name not in {EXACT, *taken}
    }
    for name, kind in list(kinds.items()):
        # pyarrow writes a null among lists of a fixed size, and cannot read it.
        whole = all(name in row and row[name].is_valid for row in rows)
        inside = kind.value_type if whole and pa.types.is_fixed_size_list(kind) else kind
        if _has_fixed_lists(inside):
            del kinds[name]
    made = {
        name: pa.concat_arrays(
            [column(row[name]) if name in row else pa.nulls(1, kind) for row in rows]
        )
        for name, kind in kinds.items()
    }
    rest = []
    for row in rows:
        others = {name: value for name, value in row.items() if name not in kinds}
        without = [name for name in kinds if name not in row]
        rest.append(exact(others, without) if others or without else None)
    if any(rest):
        made[EXACT] = pa.array(rest, pa.large_binary())
    return made


def _has_fixed_lists(kind: pa.DataType) -> bool:
    if pa.types.is_fixed_size_list(kind):
        return True
    inside = range(kind.num_fields)
    return any(_has_fixed_lists(kind.field(index).type) for index in inside)


def row_of(columns: Mapping[str, pa.Array | pa.ChunkedArray], index: int) -> Fields:
    """Give the fields of one image again."""
    return restored({name: values[index] for name, values in columns.items()})


def write_table(names: Sequence[str], rows: Sequence[Fields]) -> bytes:
    """Write the fields of images that are files of their own as a Parquet file.

    Its column `file_name` says which row is whose.
    """
    # Names of files need not be Unicode, which Parquet's strings are.
    known = [name.encode("utf-8", "backslashreplace").decode() for name in names]
    made = {NAME: pa.array(known, pa.string()), **columns(rows, taken=[NAME])}
    out = io.BytesIO()
    pq.write_table(pa.table(made), out, write_page_checksum=True)
    return out.getvalue()


def read_table(data: bytes) -> dict[str, pa.ChunkedArray]:
    """Read what `write_table` wrote, as columns for `row_of`.

    Raises:
        pa.ArrowException: it is broken.
    """
    table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    return {name: table.column(name) for name in table.column_names if name != NAME}
