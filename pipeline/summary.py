"""What is made from the ledger: metrics.parquet, failures.jsonl and summary.json.

Commit records are shared out in groups. A worker folds a group into a `Part`: statistics, which are
small, and the group's rows, sorted, in a file of their own. Parts are merged, then the files, a
slice at a time. So nothing holds all rows, none is shuffled, and how they were shared out leaves no
trace.
"""

import itertools
import json
import posixpath
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.garbage import no_garbage
from pipeline.groups import KINDS
from pipeline.ledger import STATUSES, Ledger, Row
from pipeline.sorting import ORDER, merged, regrouped, write_run
from pipeline.statistics import Statistics, hashes_of
from pipeline.tables import FAILURE, conformed, schema_of, table_of
from transforms import storage

TABLES = ("metrics.parquet", "failures.jsonl", "summary.json")

# Rows of a row group of metrics.parquet.
ROW_GROUP = 1 << 16

# Bytes of the commit records of a group: the fewest that are worth a worker's while, and those that
# fold within some hundred megabytes. There are more where `_MOST_GROUPS` groups would not do: of
# each, a batch is in memory in the end.
_LEAST, _USUAL = 4 << 20, 64 << 20
_FEWEST_GROUPS, _MOST_GROUPS = 8, 256

_AT_A_TIME = 1 << 13  # rows that are Python objects at a time
_READERS = 8  # commit records that are fetched from a store at a time


@dataclass
class Part:
    """What is known of some of the rows, without the rows.

    Attributes:
        counts: of rows, by status.
        further: rows of further pages, which no plan knows of.
        warnings: rows with any.
        failures: by the stage they failed in.
        metrics: names of all scores.
        guards: names of all that guards measured.
        statistics: of the scores.
        runs: files of the sorted rows.
    """

    counts: Counter[str] = field(default_factory=Counter)
    further: int = 0
    warnings: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    metrics: set[str] = field(default_factory=set)
    guards: set[str] = field(default_factory=set)
    statistics: Statistics = field(default_factory=Statistics)
    runs: list[str] = field(default_factory=list)

    def count(self, rows: Sequence[Row]) -> None:
        """Count rows; their scores are taken in by `statistics`."""
        self.counts.update(row["status"] for row in rows)
        self.further += sum(row["page"] > 1 for row in rows)
        self.warnings += sum(map(bool, (row["warnings"] for row in rows)))
        self.failures.update(row["failure"]["stage"] for row in rows if "failure" in row)
        self.metrics.update(*(row["metrics"] for row in rows))
        self.guards.update(*(row.get("guards", ()) for row in rows))

    def merge(self, other: "Part") -> None:
        """Take in what another knows; that one stays as it is."""
        self.counts += other.counts
        self.further += other.further
        self.warnings += other.warnings
        self.failures += other.failures
        self.metrics |= other.metrics
        self.guards |= other.guards
        self.statistics.merge(other.statistics)
        self.runs += other.runs


class MergeParts(beam.CombineFn):
    """Merge parts; in which order and grouping does not matter."""

    def create_accumulator(self) -> Part:
        """Begin with nothing."""
        return Part()

    def add_input(self, mutable_accumulator: Part, element: Part) -> Part:
        """Take in a part."""
        mutable_accumulator.merge(element)
        return mutable_accumulator

    def merge_accumulators(self, accumulators: Iterable[Part]) -> Part:
        """Take in all that others have taken in."""
        whole = Part()
        for part in accumulators:
            whole.merge(part)
        return whole

    def extract_output(self, accumulator: Part) -> Part:
        """Give it."""
        return accumulator


def summarise(output: str) -> dict[str, Any]:
    """Rebuild the three files from the ledger, here and now, and give the summary.

    The same rows give the same bytes. Rows are sorted in files in the folder for temporary ones
    ($TMPDIR, else /tmp): about half as many bytes as there are commit records.

    Raises:
        LedgerError: a commit record is damaged.
        StorageError: a file cannot be read or written.
    """
    ledger = Ledger(output)
    whole = Part()
    with tempfile.TemporaryDirectory(prefix="heliograph-") as folder:
        for batches in shared_out(ledger):
            whole.merge(fold(ledger, batches, folder, scratch=folder))
        return finish(ledger, whole)


def shared_out(ledger: Ledger) -> list[list[str]]:
    """Share the commit records out in groups of about as many bytes: one group, if of none."""
    commits = sorted(ledger.commits(), key=lambda file: file.path)
    size = sum(file.size for file in commits)
    most = max(min(_USUAL, size // _FEWEST_GROUPS), _LEAST, size // _MOST_GROUPS)
    starts = itertools.accumulate((file.size for file in commits), initial=0)
    groups: dict[int, list[str]] = {}
    for file, start in zip(commits, starts, strict=False):
        name = posixpath.basename(file.path).removesuffix(".json")
        groups.setdefault(start // most, []).append(name)
    return list(groups.values()) or [[]]


def fold(ledger: Ledger, batches: Sequence[str], folder: str, scratch: str) -> Part:
    """Fold a group of commit records. The same group writes the same file.

    Args:
        ledger: that they are in.
        batches: their ids.
        folder: for the sorted rows.
        scratch: a folder on the same storage.

    Raises:
        LedgerError: one is damaged.
        StorageError: one cannot be read, or the rows not be written.
    """
    part = Part()
    tables = []
    labels: dict[str, list[str | None]] = {kind: [] for kind in KINDS}
    with no_garbage():
        for rows in _chunks(_read(ledger, batches)):
            part.count(rows)
            tables.append(table_of(rows))
            for kind, label in KINDS.items():
                labels[kind] += map(label, rows)
    if tables:
        table = pa.concat_tables(tables, promote_options="default")
        scores = {name: _values(table[name]) for name in sorted(part.metrics)}
        part.statistics.add(hashes_of(table[ORDER].to_pylist()), scores, labels)
        run = storage.join(folder, f"{batches[0]}.arrow")
        write_run(table, run, scratch)
        part.runs.append(run)
    return part


def _values(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(np.float64, copy=False)  # with NaN for what is empty


def _read(ledger: Ledger, batches: Sequence[str]) -> Iterator[list[Row]]:
    if storage.is_local(ledger.output) or len(batches) <= _READERS:  # a thread is a client
        yield from map(ledger.batch, batches)
        return
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(batches), 4 * _READERS):
            yield from pool.map(ledger.batch, batches[start : start + 4 * _READERS])


def _chunks(batches: Iterable[list[Row]]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for rows in batches:
        chunk += rows
        if len(chunk) >= _AT_A_TIME:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def finish(ledger: Ledger, whole: Part) -> dict[str, Any]:
    """Write the three files, of all parts merged, and give the summary.

    Raises:
        StorageError: one cannot be written.
    """
    schema = schema_of(whole.metrics, whole.guards)
    table, failures, summary = TABLES
    with (
        tempfile.TemporaryFile(prefix="heliograph-") as columns,
        tempfile.TemporaryFile(prefix="heliograph-") as lines,
        merged(whole.runs) as tables,
    ):
        with pq.ParquetWriter(columns, schema) as writer:
            seen = _noting_failures(tables, lines)
            for group in regrouped((conformed(one, schema) for one in seen), ROW_GROUP):
                writer.write_table(group, row_group_size=ROW_GROUP)
        ledger.write_file(table, columns)
        ledger.write_file(failures, lines)
    told = _summary(ledger.job() or {}, whole)
    if (masters := ledger.masters()) is not None:
        told["masters"] = masters
    text = json.dumps(told, indent=1, allow_nan=False)  # in ASCII, which no terminal obeys
    ledger.write_result(summary, text.encode() + b"\n")
    return told


def _noting_failures(tables: Iterable[pa.Table], file: BinaryIO) -> Iterator[pa.Table]:
    """Pass tables on, and write their lines of failures.jsonl."""
    for table in tables:
        lines = table[FAILURE].drop_null().to_pylist()
        file.writelines(f"{line}\n".encode() for line in lines)
        yield table


def _summary(job: dict[str, Any], whole: Part) -> dict[str, Any]:
    return {
        # How many pages a file has is known once it has been read.
        "planned": job.get("planned", 0) + whole.further,
        "further_pages": whole.further,
        **{status: whole.counts[status] for status in STATUSES},
        "gone": job.get("gone", 0),
        "warnings": whole.warnings,
        "left_out": job.get("left_out", {}),
        "failures": dict(sorted(whole.failures.items())),
        **whole.statistics.to_json(KINDS),
        "job": job.get("job", {}),
        "digest": job.get("digest"),
        "versions": job.get("versions", {}),
        "environment": job.get("environment", {}),
    }


class Summarise(beam.PTransform):
    """Write the summary once every batch is committed, on whatever runner there is.

    Gives one number: the rows committed.

    Args:
        output: the output folder.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def expand(self, counts: beam.PCollection[int]) -> beam.PCollection[int]:
        """Wait for the last commit, fold groups of commit records, merge, and write the files."""
        ledger = Ledger(self.output)
        folder = storage.join(ledger.scratch, "runs")

        def write(whole: Part) -> int:
            finish(ledger, whole)
            ledger.write_pace()
            return whole.counts.total()

        return (
            counts
            | "Await" >> beam.CombineGlobally(sum)
            | "Share out" >> beam.FlatMap(lambda _: shared_out(ledger))
            | beam.Reshuffle()
            | "Fold" >> beam.Map(lambda batches: fold(ledger, batches, folder, ledger.scratch))
            # There is a part at the least. A default would be one more shuffle of them.
            | "Merge" >> beam.CombineGlobally(MergeParts()).without_defaults()
            # The files of sorted rows stay until the job has ended: this may be done twice.
            | "Write" >> beam.Map(write).with_output_types(int)
        )
