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
from pipeline.rows import COLUMNS

_SCHEMA = pa.schema([(column.name, column.kind) for column in COLUMNS])


RESULTS = ("metrics.parquet", "failures.jsonl", "summary.json", "report.html")


def summarise(output: str) -> dict[str, Any]:
    """Rebuild the three files from the ledger, and give the summary.

    The order of the rows is that of their keys, so the same job writes the same bytes.
    """
    ledger = Ledger(output)
    rows = sorted(ledger.rows(), key=lambda row: row["key"])
    table, failures, whole, _ = RESULTS
    ledger.write_result(table, _parquet(rows))
    ledger.write_result(failures, _failures(rows))
    summary = _summary(ledger.job() or {}, rows)
    if (masters := ledger.masters()) is not None:
        summary["masters"] = masters
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)
    ledger.write_result(whole, text.encode("utf-8", "backslashreplace") + b"\n")
    return summary


def _summary(job: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    counts = Counter(row["status"] for row in rows)
    further = sum(row["page"] > 1 for row in rows)  # which no plan knows of
    return {
        # How many pages a file has is known once it has been read.
        "planned": job.get("planned", 0) + further,
        "further_pages": further,
        **{status: counts[status] for status in STATUSES},
        "gone": job.get("gone", 0),
        "warnings": sum(bool(row["warnings"]) for row in rows),
        "left_out": job.get("left_out", {}),
        "failures": dict(
            sorted(Counter(row["failure"]["stage"] for row in rows if "failure" in row).items())
        ),
        "metrics": _means(rows),
        "job": job.get("job", {}),
        "digest": job.get("digest"),
        "versions": job.get("versions", {}),
        "environment": job.get("environment", {}),
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
    columns = [_column([row.get(field.name) for row in rows], field.type) for field in _SCHEMA]
    schema = _SCHEMA
    for group, prefix in (("metrics", ""), ("guards", "guard_")):
        for name in sorted({name for row in rows for name in row.get(group, {})}):
            columns.append(_column([row.get(group, {}).get(name) for row in rows], pa.float64()))
            schema = schema.append(pa.field(f"{prefix}{name}", pa.float64()))
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
            Ledger(output).write_pace()
            return total

        return counts | beam.CombineGlobally(sum) | beam.Map(write)
