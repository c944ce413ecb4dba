"""The ledger: a commit record per batch, which is the truth about what a job has done."""

import hashlib
import itertools
import json
import posixpath
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import orjson
from apache_beam.metrics import Metrics

from pipeline.environment import moment, worker
from pipeline.rows import FAILED, QUARANTINED, RESTORED, SKIPPED, STATUSES, Row, row
from transforms import storage
from transforms.record import Batch, BatchSpec
from transforms.scratch import Buffer
from transforms.stores import File
from transforms.write import SCRATCH

__all__ = [
    "FAILED",
    "LEDGER",
    "QUARANTINED",
    "RESTORED",
    "SKIPPED",
    "STATUSES",
    "Commit",
    "FetchSpecs",
    "Ledger",
    "LedgerError",
    "Row",
]

LEDGER = "ledger"
FORMAT = 1
# Between the head of a commit record, which is a line, and its rows, which are one each.
_ROWS = ', "rows": [\n'
_LONGEST_HEAD = 2000


class LedgerError(ValueError):
    """A ledger that does not fit what is asked, and what to do."""


class Ledger:
    """The ledger of one output folder.

    OUTPUT/ledger/job.json says what the job is; OUTPUT/ledger/plan.jsonl what it is to do, a batch
    spec a line; OUTPUT/ledger/batches/<id>.json is the commit record of a batch, written after its
    derivatives are.

    Args:
        output: the output folder.
    """

    def __init__(self, output: str) -> None:
        self.output = output
        self._folder = storage.join(output, LEDGER, "batches")
        self._job = storage.join(output, LEDGER, "job.json")
        self._plan = storage.join(output, LEDGER, "plan.jsonl")
        self._masters = storage.join(output, LEDGER, "masters.json")
        self._stop = storage.join(output, LEDGER, "stop")
        self._pace = storage.join(output, LEDGER, "pace.json")
        self._packages = storage.join(output, LEDGER, "packages.json")
        self._scratch = storage.join(output, SCRATCH)

    def job(self) -> dict[str, Any] | None:
        """Read what the job was; None where there was none.

        Raises:
            LedgerError: the file is not ours.
        """
        if not storage.exists(self._job):
            return None
        try:
            job = json.loads(storage.read(self._job))
        except ValueError as error:
            raise LedgerError(f"{self._job} is not a ledger: {error}") from error
        if not isinstance(job, dict) or job.get("format") != FORMAT:
            raise LedgerError(f"{self._job} is not a ledger of format {FORMAT}")
        return job

    def begin(self, job: dict[str, Any], specs: Iterable[BatchSpec], *, anew: bool) -> list[str]:
        """Write what a job is and its plan, and give for each spec a reference by which `spec`
        finds it.

        Args:
            job: what it is.
            specs: what is left to do.
            anew: whether to forget what was committed before.
        """
        storage.delete_folder(self._scratch)
        for path in (self._stop, self._masters, self._packages):
            storage.delete(path)
        if anew:
            storage.delete_folder(self._folder)
        # The plan first: where a job stops between the two, its digest tells that they are not one.
        references, digest = self._write_plan(specs)
        self._write(self._job, _json({"format": FORMAT, **job, "plan_sha256": digest}))
        return references

    def write_masters(self, found: dict[str, Any]) -> None:
        """Keep what hashing the masters again has shown."""
        self._write(self._masters, _json(found))

    def masters(self) -> dict[str, Any] | None:
        """Read what `write_masters` kept; None where they have not been hashed again."""
        return self._read(self._masters)

    def write_packages(self, made: dict[str, Any]) -> None:
        """Keep which packages have been made."""
        self._write(self._packages, _json(made))

    def packages(self) -> dict[str, Any] | None:
        """Read what `write_packages` kept; None where none have been made."""
        return self._read(self._packages)

    def _read(self, path: str) -> dict[str, Any] | None:
        return json.loads(storage.read(path)) if storage.exists(path) else None

    def _write_plan(self, specs: Iterable[BatchSpec]) -> tuple[list[str], str]:
        lines = [f"{spec.to_json()}\n".encode() for spec in specs]
        starts = itertools.accumulate(map(len, lines), initial=0)
        storage.write(self._plan, lines, scratch=self._scratch)
        references = [f"{start} {len(line)}" for start, line in zip(starts, lines, strict=False)]
        return references, hashlib.sha256(b"".join(lines)).hexdigest()

    def plan(self) -> list[BatchSpec] | None:
        """Read the plan that was written last; None where there is none that is the job's."""
        job = self.job()
        if job is None or not storage.exists(self._plan):
            return None
        data = storage.read(self._plan)
        if hashlib.sha256(data).hexdigest() != job.get("plan_sha256"):
            return None
        return [BatchSpec.from_json(line.decode()) for line in data.splitlines()]

    def write_pace(self) -> None:
        """Keep how long the run took that is ending, for estimates."""
        job = self.job() or {}
        if "begun" in job:
            seconds = round(time.time() - job["begun"], 3)
            self._write(self._pace, _json({"pixels": job["pixels"], "seconds": seconds}))

    def pace(self) -> float | None:
        """Give the pixels a second of the last run; None where there was none."""
        last = self._read(self._pace)
        return None if last is None else last["pixels"] / max(last["seconds"], 0.001)

    def stop(self) -> None:
        """Ask the workers of this job to begin no other batch."""
        self._write(self._stop, "")

    @property
    def is_stopping(self) -> bool:
        """Whether they have been asked to."""
        return storage.exists(self._stop)

    def spec(self, reference: str) -> str:
        """Read one spec of the plan, as its line of JSON."""
        start, length = map(int, reference.split())
        with storage.opened(self._plan) as file:
            file.seek(start)
            return file.read(length).decode()

    def commit(self, batch: Batch) -> list[Row]:
        """Write a batch's commit record, and give its rows."""
        rows = [row(record) for record in batch.records]
        files = {file.path: {"bytes": file.size, "sha256": file.sha256} for file in batch.files}
        self._write_record(batch.id, rows, files, self._made(batch))
        return rows

    def rewrite(self, record: dict[str, Any], rows: Sequence[Row]) -> None:
        """Write a commit record, as `record` gives it, with other rows; for none, delete it."""
        if rows:
            self._write_record(record["batch"], rows, record["files"], record["made"])
        else:
            storage.delete(self._path(record["batch"]))

    def _write_record(
        self, batch: str, rows: Sequence[Row], files: dict[str, Any], made_of: dict[str, Any]
    ) -> None:
        path = self._path(batch)
        counts = Counter(made["status"] for made in rows)
        head = {
            "format": FORMAT,
            "batch": batch,
            "counts": counts,
            "further": sum(made["page"] > 1 for made in rows),
            "made": made_of,
        }
        lines = ",\n".join(map(_json, rows))
        text = f'{_json(head)[:-1]}{_ROWS}{lines}\n], "files": {_json(files)}}}\n'
        self._write(path, text)

    def _path(self, batch: str) -> str:
        return storage.join(self._folder, f"{batch}.json")

    def has_committed(self, batches: Iterable[str]) -> set[str]:
        """Say which of several batches, by their ids, are committed."""
        paths = self.committed()
        return {batch for batch in batches if self._path(batch) in paths}

    def _made(self, batch: Batch) -> dict[str, Any]:
        """Tell when and where a batch was made, which is no part of any row."""
        now = time.time()
        path = self._path(batch.id)
        before = self.head(path).get("made", {}) if storage.exists(path) else {}
        return {
            "started": moment(now if batch.started is None else batch.started),
            "ended": moment(now),
            "attempt": before.get("attempt", 0) + 1,
            **worker(),
        }

    def committed(self) -> set[str]:
        """List the paths of the commit records so far."""
        return {file.path for file in self.commits()}

    def commits(self) -> Iterator[File]:
        """List the commit records so far, in any order."""
        return storage.list_if_there(self._folder)

    def record(self, path: str) -> dict[str, Any]:
        """Read one commit record: its head, its `rows`, and its `files`, which are several images'.

        Raises:
            LedgerError: it is damaged.
            StorageError: it cannot be read.
        """
        data = storage.read(path)
        try:
            found = _parsed(data)
            if isinstance(found["rows"], list):
                return found
            reason = "its rows are none"
        except (ValueError, KeyError, TypeError) as error:
            reason = str(error)
        raise LedgerError(f"{path} is no commit record: {reason}")

    def batch(self, batch: str) -> list[Row]:
        """Read the rows of one batch, by its id."""
        return self.read(self._path(batch))

    def read(self, path: str) -> list[Row]:
        """Read the rows of one commit record."""
        return self.record(path)["rows"]

    def head(self, path: str) -> dict[str, Any]:
        """Read the head of one commit record, and no more of it."""
        with storage.opened(path) as file:
            head = file.readline(_LONGEST_HEAD).decode()
        return json.loads(head.removesuffix(_ROWS) + "}")

    def counts(self, path: str) -> tuple[dict[str, int], int]:
        """Read how many rows of each status one commit record has, and no more of it; and how many
        of all are of further pages, which no plan knows of.
        """
        head = self.head(path)
        return head["counts"], head["further"]

    def batches(self) -> Iterator[tuple[str, list[Row]]]:
        """Read all commit records: the id of each batch, and its rows."""
        for path in sorted(self.committed()):
            yield posixpath.basename(path).removesuffix(".json"), self.read(path)

    def rows(self) -> Iterator[Row]:
        """Read all rows, batch by batch."""
        for _, rows in self.batches():
            yield from rows

    def finish(self) -> None:
        """Drop the folder of temporary files."""
        storage.delete_folder(self._scratch)

    @property
    def scratch(self) -> str:
        """The folder of temporary files."""
        return self._scratch

    def write_result(self, name: str, data: Buffer | Sequence[Buffer]) -> None:
        """Write one of the files that are made from the ledger into the output folder."""
        storage.write(storage.join(self.output, name), data, scratch=self._scratch)

    def _write(self, path: str, text: str) -> None:
        storage.write(path, text.encode(), scratch=self._scratch)


_json = json.JSONEncoder(allow_nan=False).encode  # in ASCII


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)  # in a third of the time
    except ValueError:  # orjson takes no name that is no text, which JSON can hold
        return json.loads(data)


class FetchSpecs(beam.PTransform):
    """Turn references to the specs of the plan into the specs, as lines of JSON.

    The graph of a job and what it shuffles stay small that way, however many images there are:
    Beam compresses all that a graph holds, slowly, and runners limit its size.

    Args:
        output: the output folder.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def expand(self, references: beam.PCollection[str]) -> beam.PCollection[str]:
        """Read them."""
        ledger = Ledger(self.output)

        def fetch(reference: str) -> list[str]:
            # What is left out now is not committed, and the next run of the job will do it.
            return [] if ledger.is_stopping else [ledger.spec(reference)]

        return references | beam.FlatMap(fetch).with_output_types(str)


class Commit(beam.PTransform):
    """Commit batches to the ledger; give one number for each: its rows.

    Args:
        output: the output folder.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[int]:
        """Write the records."""
        return batches | beam.ParDo(_CommitDoFn(self.output)).with_output_types(int)


class _CommitDoFn(beam.DoFn):
    def __init__(self, output: str) -> None:
        self.output = output
        self.counters = {status: Metrics.counter("heliograph", status) for status in STATUSES}

    def process(self, batch: Batch) -> Iterable[int]:
        rows = Ledger(self.output).commit(batch)
        for status, count in Counter(committed["status"] for committed in rows).items():
            self.counters[status].inc(count)
        yield len(rows)
