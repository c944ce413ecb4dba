"""The rows of the ledger: what is kept of each record, in one table.

docs/ledger.md says what each column means.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from transforms.record import Derivative, MaskFile, Record

RESTORED, SKIPPED, QUARANTINED, FAILED = STATUSES = (
    "restored",
    "skipped",
    "quarantined",
    "failed",
)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `metrics.parquet`: its type there, and its value of a record, or None."""

    name: str
    kind: pa.DataType
    of: Callable[[Record], Any]


def _status(record: Record) -> str:
    if record.failure:
        return FAILED
    return QUARANTINED if record.tripped else RESTORED


def _source(name: str, kind: pa.DataType, attribute: str) -> Column:
    return Column(name, kind, lambda record: getattr(record.source, attribute))


def _form(name: str, kind: pa.DataType, of: Callable[[Any], Any]) -> Column:
    return Column(name, kind, lambda record: None if record.form is None else of(record.form))


def _derivative(name: str, kind: pa.DataType, of: Callable[[Derivative], Any]) -> Column:
    return Column(
        name, kind, lambda record: None if record.derivative is None else of(record.derivative)
    )


def _mask(name: str, kind: pa.DataType, of: Callable[[MaskFile], Any]) -> Column:
    return Column(
        name, kind, lambda record: None if record.mask_file is None else of(record.mask_file)
    )


@lru_cache(64)  # an archive has few profiles, and many images of each
def _sha256(block: bytes | None) -> str | None:
    return None if block is None else hashlib.sha256(block).hexdigest()


_text, _whole, _real = pa.string(), pa.int64(), pa.float64()
_texts = pa.list_(_text)

COLUMNS: tuple[Column, ...] = (
    Column("key", _text, lambda record: record.key),
    Column("page", _whole, lambda record: record.page),
    Column("status", _text, _status),
    # The master, as it was found.
    _source("source", _text, "path"),
    Column(
        "source_member",
        _text,
        lambda record: record.source.member.name if record.source.member else None,
    ),
    _source("source_bytes", _whole, "size"),
    _source("source_modified", _real, "modified"),
    Column("source_sha256", _text, lambda record: record.sha256),
    Column("source_width", _whole, lambda record: record.size[0] if record.size else None),
    Column("source_height", _whole, lambda record: record.size[1] if record.size else None),
    _form("format", _text, lambda form: form.format),
    _form("mode", _text, lambda form: form.mode),
    _form("bits", _whole, lambda form: form.bits),
    _form("orientation", _whole, lambda form: form.orientation),
    _form("icc_sha256", _text, lambda form: _sha256(form.icc)),
    _form("dpi_x", _real, lambda form: form.dpi[0] if form.dpi else None),
    _form("dpi_y", _real, lambda form: form.dpi[1] if form.dpi else None),
    _form("conversions", _texts, lambda form: list(form.conversions)),
    # What was done.
    Column("recipe", _text, lambda record: record.recipe),
    Column("model", _text, lambda record: record.model),
    Column("cell", _text, lambda record: record.cell),
    Column("tiles_down", _whole, lambda record: _count(record, 0)),
    Column("tiles_across", _whole, lambda record: _count(record, 1)),
    _mask("mask", _text, lambda mask: mask.path),
    _mask("mask_sha256", _text, lambda mask: mask.sha256),
    _mask("mask_bytes", _whole, lambda mask: mask.size),
    _mask("mask_share", _real, lambda mask: mask.share),
    # What came of it.
    _derivative("derivative", _text, lambda one: one.path),
    _derivative("derivative_bytes", _whole, lambda one: one.size),
    _derivative("derivative_sha256", _text, lambda one: one.sha256),
    _derivative("derivative_format", _text, lambda one: one.format),
    _derivative("derivative_compression", _text, lambda one: one.compression),
    _derivative("width", _whole, lambda one: one.width),
    _derivative("height", _whole, lambda one: one.height),
    _derivative("shard", _text, lambda one: one.shard),
    _derivative("member", _text, lambda one: one.member),
    _derivative("signed", pa.bool_(), lambda one: one.signed),
    Column("warnings", _texts, lambda record: list(record.warnings)),
)


def _count(record: Record, axis: int) -> int | None:
    """Count the tiles of one side, of an image that a model has seen."""
    return len(record.seams[axis]) + 1 if record.seams is not None else None


def row(record: Record) -> Row:
    """Give what the ledger keeps of a record. It depends on the record alone, not on when or where
    it was made, so the same job writes the same rows.
    """
    result: Row = {column.name: column.of(record) for column in COLUMNS}
    result |= {"metrics": dict(record.metrics), "guards": dict(record.guards)}
    if (member := record.source.member) is not None:
        # Where to find the master again.
        result["source_place"] = [getattr(member, name) for name in member.__slots__]
    if (reason := _reason(record)) is not None:
        result["failure"] = reason
    return result


def _reason(record: Record) -> dict[str, Any] | None:
    """Say why a record has no derivative, or why it is no result."""
    if (failure := record.failure) is not None:
        return {"stage": failure.stage, "error": failure.error, "message": failure.message}
    if not record.tripped:
        return None
    return {
        "stage": "guard",
        "error": ", ".join(one.guard for one in record.tripped),
        "message": "; ".join(one.message for one in record.tripped),
        "tripped": [
            {"guard": one.guard, "value": one.value, "threshold": one.threshold}
            for one in record.tripped
        ],
    }
