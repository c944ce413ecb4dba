"""The ledger: a commit record per batch, which is the truth about what a job has done."""

import itertools
import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms import storage
from transforms.record import Batch, BatchSpec, Record
from transforms.write import SCRATCH

LEDGER = "ledger"
FORMAT = 1
RESTORED, SKIPPED, QUARANTINED, FAILED = STATUSES = (
    "restored",
    "skipped",
    "quarantined",
    "failed",
)

# Between the head of a commit record, which is a line, and its rows, which are one each.
_ROWS = ', "rows": [\n'
_LONGEST_HEAD = 1000

Row = dict[str, Any]


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

    def begin(self, job: dict[str, Any]) -> None:
        """Start a job anew: forget earlier commit records, and write what it is."""
        storage.delete_folder(self._folder)
        storage.delete_folder(self._scratch)
        self._write(self._job, _json({"format": FORMAT, **job}))

    def write_plan(self, specs: Iterable[BatchSpec]) -> list[str]:
        """Write the plan, and give for each spec a reference by which `spec` finds it."""
        lines = [f"{spec.to_json()}\n".encode() for spec in specs]
        starts = itertools.accumulate(map(len, lines), initial=0)
        storage.write(self._plan, lines, scratch=self._scratch)
        return [f"{start} {len(line)}" for start, line in zip(starts, lines, strict=False)]

    def spec(self, reference: str) -> str:
        """Read one spec of the plan, as its line of JSON."""
        start, length = map(int, reference.split())
        with storage.opened(self._plan) as file:
            file.seek(start)
            return file.read(length).decode()

    def commit(self, batch: Batch) -> list[Row]:
        """Write a batch's commit record, and give its rows."""
        rows = [row(record) for record in batch.records]
        path = storage.join(self._folder, f"{batch.id}.json")
        counts = Counter(made["status"] for made in rows)
        further = sum(made["page"] > 1 for made in rows)
        head = _json(
            {"format": FORMAT, "batch": batch.id, "counts": counts, "further": further}
        ).removesuffix("}")
        lines = ",\n".join(map(_json, rows))
        self._write(path, f"{head}{_ROWS}{lines}\n]}}")
        return rows

    def committed(self) -> set[str]:
        """List the paths of the commit records so far."""
        return {file.path for file in storage.list_if_there(self._folder)}

    def read(self, path: str) -> list[Row]:
        """Read the rows of one commit record."""
        return json.loads(storage.read(path))["rows"]

    def counts(self, path: str) -> tuple[dict[str, int], int]:
        """Read how many rows of each status one commit record has, and no more of it; and how many
        of all are of further pages, which no plan knows of.
        """
        with storage.opened(path) as file:
            head = file.readline(_LONGEST_HEAD).decode()
        head = json.loads(head.removesuffix(_ROWS) + "}")
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

    def write_result(self, name: str, data: bytes) -> None:
        """Write one of the files that are made from the ledger into the output folder."""
        storage.write(storage.join(self.output, name), data, scratch=self._scratch)

    def _write(self, path: str, text: str) -> None:
        storage.write(path, text.encode(), scratch=self._scratch)


_json = json.JSONEncoder(allow_nan=False).encode  # in ASCII


def row(record: Record) -> Row:
    """Give what the ledger keeps of a record. It depends on the record alone, not on when or where
    it was made, so the same job writes the same rows.
    """
    source, form, derivative = record.source, record.form, record.derivative
    mask = record.mask_file
    result: Row = {
        "key": record.key,
        "page": record.page,
        "status": FAILED if record.failure else RESTORED,
        "source": source.path,
        "source_bytes": source.size,
        "source_modified": source.modified,
        "source_sha256": record.sha256,
        "format": form.format if form else None,
        "mode": form.mode if form else None,
        "width": derivative.width if derivative else None,
        "height": derivative.height if derivative else None,
        "derivative": derivative.path if derivative else None,
        "derivative_bytes": derivative.size if derivative else None,
        "derivative_sha256": derivative.sha256 if derivative else None,
        "shard": derivative.shard if derivative else None,
        "member": derivative.member if derivative else None,
        "recipe": record.recipe,
        "mask": mask.path if mask else None,
        "mask_sha256": mask.sha256 if mask else None,
        "mask_share": mask.share if mask else None,
        "warnings": list(record.warnings),
        "metrics": dict(record.metrics),
    }
    if failure := record.failure:
        result["failure"] = {
            "stage": failure.stage,
            "error": failure.error,
            "message": failure.message,
        }
    return result


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
        return references | beam.Map(ledger.spec).with_output_types(str)


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
