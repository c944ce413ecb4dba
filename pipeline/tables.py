"""Rows of the ledger as columns, as `metrics.parquet` has them."""

import itertools
import json
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import pyarrow as pa

from pipeline.rows import COLUMNS, FAILED, QUARANTINED, Row
from pipeline.sorting import ORDER

# Lines of failures.jsonl, beside the columns; empty where all is well.
FAILURE = "_failure"
GUARD = "guard_"

_SCHEMA = pa.schema([(column.name, column.kind) for column in COLUMNS])
_REAL = pa.float64()


def schema_of(metrics: Iterable[str], guards: Iterable[str]) -> pa.Schema:
    """Give the columns of `metrics.parquet`, of a job with these metrics and guards."""
    names = [*sorted(metrics), *(f"{GUARD}{name}" for name in sorted(guards))]
    return pa.schema([*_SCHEMA, *(pa.field(name, _REAL) for name in names)])


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Make a table of rows: the columns that they have, `ORDER` and `FAILURE`."""
    columns = {
        ORDER: pa.array([order_of(row) for row in rows], pa.binary()),
        FAILURE: pa.array([_failure(row) for row in rows], pa.string()),
    }
    for field, values in zip(_SCHEMA, _transposed(rows), strict=True):
        columns[field.name] = _column(values, field.type)
    for group, prefix in (("metrics", ""), ("guards", GUARD)):
        scores = [row.get(group, {}) for row in rows]
        names = list(dict.fromkeys(itertools.chain.from_iterable(scores)))
        values = pa.array(scores, pa.struct([(name, _REAL) for name in names])).flatten()
        columns |= {f"{prefix}{name}": of for name, of in zip(names, values, strict=True)}
    return pa.table(columns)


def _transposed(rows: Sequence[Row]) -> Iterable[tuple[Any, ...]]:
    """Give the values of the columns of `_SCHEMA`."""
    try:
        values = list(map(itemgetter(*_SCHEMA.names), rows))
    except KeyError:  # rows of a version that had fewer
        values = [tuple(map(row.get, _SCHEMA.names)) for row in rows]
    return zip(*values, strict=True)


def order_of(row: Row) -> bytes:
    """Give what rows are sorted by: key, then page, recipe and model. It names a row, too."""
    parts = (
        *(row["key"], f"{row['page']:09}", row["recipe"] or "", row.get("model") or ""),
        row["derivative"] or "",  # recipes that were drawn may be the same
    )
    # UTF-8 is in the order of code points; a name that is no text keeps its place among them.
    return "\0".join(parts).encode("utf-8", "surrogatepass")


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table the columns of a schema, in its order; those that it lacks are empty."""
    here = set(table.column_names)
    return pa.table(
        [
            table[field.name] if field.name in here else pa.nulls(len(table), field.type)
            for field in schema
        ],
        schema=schema,
    )


def _failure(row: Row) -> str | None:
    if row["status"] not in (FAILED, QUARANTINED):
        return None
    return json.dumps({"key": row["key"], "status": row["status"], **row["failure"]})  # in ASCII


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # a file name on Linux is bytes and need not be text, as these must
        return pa.array([_text(value) for value in values], kind)


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(one) for one in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
