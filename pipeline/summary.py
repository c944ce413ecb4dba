"""What is made from the ledger: metrics.parquet, failures.jsonl and summary.json."""

import io
import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ledger import FAILED, QUARANTINED, STATUSES, Ledger, Row

_COLUMNS = pa.schema(
    [
        ("key", pa.string()),
        ("page", pa.int64()),
        ("status", pa.string()),
        ("source", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_modified", pa.float64()),
        ("source_sha256", pa.string()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("derivative", pa.string()),
        ("derivative_bytes", pa.int64()),
        ("derivative_sha256", pa.string()),
        ("shard", pa.string()),
        ("member", pa.string()),
        ("recipe", pa.string()),
        ("mask", pa.string()),
        ("mask_sha256", pa.string()),
        ("mask_share", pa.float64()),
        ("warnings", pa.list_(pa.string())),
    ]
)


def summarise(output: str) -> dict[str, Any]:
    """Rebuild the three files from the ledger, and give the summary.

    The order of the rows is that of their keys, so the same job writes the same bytes.
    """
    ledger = Ledger(output)
    rows = sorted(ledger.rows(), key=lambda row: row["key"])
    ledger.write_result("metrics.parquet", _parquet(rows))
    ledger.write_result("failures.jsonl", _failures(rows))
    summary = _summary(ledger.job() or {}, rows)
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)
    ledger.write_result("summary.json", text.encode("utf-8", "backslashreplace") + b"\n")
    return summary


def _summary(job: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    counts = Counter(row["status"] for row in rows)
    return {
        # How many pages a file has is known once it has been read.
        "planned": job.get("planned", 0) + sum(row["page"] > 1 for row in rows),
        **{status: counts[status] for status in STATUSES},
        "warnings": sum(bool(row["warnings"]) for row in rows),
        "left_out": job.get("left_out", {}),
        "failures": dict(
            sorted(Counter(row["failure"]["stage"] for row in rows if "failure" in row).items())
        ),
        "metrics": _means(rows),
        "job": job.get("job", {}),
        "digest": job.get("digest"),
        "versions": job.get("versions", {}),
    }


def _means(rows: Iterable[Row]) -> dict[str, dict[str, float | int]]:
    """Average every metric over the records for which it is defined, and say over how many."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row["metrics"].items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {
        name: {"mean": math.fsum(found) / len(found), "count": len(found)}
        for name, found in sorted(values.items())
    }


def _parquet(rows: list[Row]) -> bytes:
    names = sorted({name for row in rows for name in row["metrics"]})
    columns = [_column([row[field.name] for row in rows], field.type) for field in _COLUMNS]
    schema = _COLUMNS
    for name in names:
        columns.append(_column([row["metrics"].get(name) for row in rows], pa.float64()))
        schema = schema.append(pa.field(name, pa.float64()))
    out = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), out)
    return out.getvalue()


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # a file name on Linux is bytes and need not be text, as these must
        return pa.array([_text(value) for value in values], kind)


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(one) for one in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _failures(rows: list[Row]) -> bytes:
    lines = [
        json.dumps({"key": row["key"], "status": row["status"], **row["failure"]})
        for row in rows
        if row["status"] in (FAILED, QUARANTINED)
    ]
    return "".join(f"{line}\n" for line in lines).encode()


class Summarise(beam.PTransform):
    """Write the summary once every batch is committed, on whatever runner there is.

    Args:
        output: the output folder.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def expand(self, counts: beam.PCollection[int]) -> beam.PCollection[int]:
        """Wait for the last commit, and rebuild the files from the ledger."""
        output = self.output

        def write(total: int) -> int:
            summarise(output)
            return total

        return counts | beam.CombineGlobally(sum) | beam.Map(write)
