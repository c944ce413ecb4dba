"""The ledger: a commit record per batch, which is the truth about what a job has done."""

import hashlib
import json
import math
import posixpath
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from pipeline.environment import moment, worker
from pipeline.packed import Specs
from pipeline.rows import FAILED, QUARANTINED, RESTORED, SKIPPED, STATUSES, Row, row
from pipeline.sealed import as_json, sealed, unsealed
from transforms import storage
from transforms.deadline import Limit, Mark, read_marks, suspect
from transforms.record import Batch, BatchSpec, commits_of
from transforms.scratch import Buffer, Pieces, contents
from transforms.stores import File
from transforms.write import SCRATCH

__all__ = [
    "FAILED",
    "LEDGER",
    "QUARANTINED",
    "RESTORED",
    "SKIPPED",
    "STATUSES",
    "Ledger",
    "LedgerError",
    "Row",
    "batch_of",
]

LEDGER = "ledger"
FORMAT = 1
# Between the head of a commit record, which is a line, and its rows, which are one each.
_ROWS = ', "rows": [\n'
_LONGEST_HEAD = 2000


def batch_of(path: str) -> str:
    """Give the id of the batch that a commit record is of, by its name."""
    return posixpath.basename(path).removesuffix(".json")


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
        self._open = storage.join(output, LEDGER, "open")
        self._pace = storage.join(output, LEDGER, "pace.json")
        self._packages = storage.join(output, LEDGER, "packages.json")
        self._again = storage.join(output, LEDGER, "again.json")
        self._remote = storage.join(output, LEDGER, "remote.json")
        self._marks = storage.join(output, LEDGER, "marks")
        self._scratch = storage.join(output, SCRATCH)

    def job(self) -> dict[str, Any] | None:
        """Read what the job was; None where there was none.

        Raises:
            LedgerError: the file is not ours, or damaged.
        """
        if not storage.exists(self._job):
            return None
        try:
            job = unsealed(storage.read(self._job))
        except ValueError as error:
            raise LedgerError(
                f"{self._job} is not a ledger: {error}; `heliograph repair` may make it one again"
            ) from error
        if job.get("format") != FORMAT:
            raise LedgerError(f"{self._job} is not a ledger of format {FORMAT}")
        return job

    def write_job(self, job: dict[str, Any]) -> None:
        """Write what a job is."""
        self._write(self._job, sealed(as_json({**job, "format": FORMAT})))

    def begin(self, job: dict[str, Any], specs: Iterable[BatchSpec], *, anew: bool) -> list[str]:
        """Write what a job is and its plan, and give for each spec a reference by which `spec`
        finds it.

        Args:
            job: what it is.
            specs: what is left to do.
            anew: whether to forget what was committed before.
        """
        for path in (self._stop, self._masters, self._packages):
            storage.delete(path)
        if anew:
            storage.delete_folder(self._folder)
        self._write(self._open, "")
        # The plan first: where a job stops between the two, its digest tells that they are not one.
        references, digest = self._write_plan(specs)
        self.write_job({**job, "plan_sha256": digest})
        # Now that workers of an earlier run, if any are left, commit nothing: see `run`.
        storage.delete_folder(self._scratch)
        if job.get("state") is not None:  # which is so of a plan that covers all that is left
            storage.delete(self._again)
        return references

    def close(self) -> None:
        """Say that all that is made from the ledger is made of what it now holds."""
        if not self.is_stopping:
            storage.delete(self._open)

    @property
    def is_open(self) -> bool:
        """Whether a run has begun that has not come to its `close`."""
        return storage.exists(self._open)

    def run(self) -> str | None:
        """Give the id of the run that began last. Workers of another one are to do nothing more:
        its driver is gone, and on a cluster that is not the end of them.
        """
        return (self.job() or {}).get("environment", {}).get("id")

    def write_again(self, batches: dict[str, list[str]]) -> None:
        """Keep which batches, by their ids, are to be made again of which masters, by their keys:
        files of several images are then what they were.
        """
        self._write(self._again, sealed(as_json({"batches": batches})))

    def again(self) -> dict[str, list[str]]:
        """Read what `write_again` kept: a hint for cutting batches, and nothing more."""
        if not storage.exists(self._again):
            return {}
        try:
            return unsealed(storage.read(self._again))["batches"]
        except (ValueError, LookupError):
            return {}

    def write_masters(self, found: dict[str, Any]) -> None:
        """Keep what hashing the masters again has shown."""
        self._write(self._masters, as_json(found))

    def masters(self) -> dict[str, Any] | None:
        """Read what `write_masters` kept; None where they have not been hashed again."""
        return self._read(self._masters)

    def write_packages(self, made: dict[str, Any]) -> None:
        """Keep which packages have been made."""
        self._write(self._packages, as_json(made))

    def packages(self) -> dict[str, Any] | None:
        """Read what `write_packages` kept; None where none have been made."""
        return self._read(self._packages)

    def write_remote(self, where: dict[str, Any]) -> None:
        """Keep where a run goes on, on a cluster, even if its driver is killed."""
        self._write(self._remote, as_json(where))

    def remote(self) -> dict[str, Any] | None:
        """Read what `write_remote` kept; None where no run is known to be on a cluster."""
        return self._read(self._remote)

    def forget_remote(self) -> None:
        """Say that it has ended there."""
        storage.delete(self._remote)

    def _read(self, path: str) -> dict[str, Any] | None:
        return json.loads(storage.read(path)) if storage.exists(path) else None

    def _write_plan(self, specs: Iterable[BatchSpec]) -> tuple[list[str], str]:
        packed = specs if isinstance(specs, Specs) else Specs(specs)
        digest, references, start = hashlib.sha256(), [], 0
        with tempfile.TemporaryFile(prefix="heliograph-") as file:
            for text in packed.lines():
                line = f"{text}\n".encode()
                file.write(line)
                digest.update(line)
                references.append(f"{start} {len(line)}")
                start += len(line)
            self._keep(self._plan, file)
        return references, digest.hexdigest()

    def plan(self) -> Iterator[str] | None:
        """Read the plan that was written last, a spec as its line of JSON at a time; None where
        there is none that is the job's.
        """
        job = self.job()
        if job is None or not storage.exists(self._plan):
            return None
        digest = hashlib.sha256()
        for data in storage.chunks(self._plan):
            digest.update(data)
        return self._lines() if digest.hexdigest() == job.get("plan_sha256") else None

    def _lines(self) -> Iterator[str]:
        rest = b""
        for data in storage.chunks(self._plan):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode()
        if rest:
            yield rest.decode()

    def write_pace(self) -> None:
        """Keep how long the run took that is ending, for estimates, unless it was stopped."""
        job = self.job() or {}
        if "begun" in job and not self.is_stopping:
            seconds = round(time.time() - job["begun"], 3)
            done = {name: job[name] for name in ("images", "pixels")}
            self._write(self._pace, as_json({**done, "seconds": seconds}))

    def pace(self) -> float | None:
        """Give the pixels a second of the last run; None where there was none."""
        return self.paces().get("pixels")

    def paces(self) -> dict[str, float]:
        """Give the images and the pixels a second of the last run; nothing where there was none."""
        last = self._read(self._pace) or {"seconds": 0}
        seconds = max(last.pop("seconds"), 0.001)
        return {name: done / seconds for name, done in last.items()}

    def stop(self) -> None:
        """Ask the workers of this job to begin no other batch."""
        self._write(self._stop, "")

    @property
    def is_stopping(self) -> bool:
        """Whether they have been asked to."""
        return storage.exists(self._stop)

    def limit(self, seconds: float) -> Limit:
        """Give how long an image may take, with where it is marked if it takes longer; 0 for as
        long as it likes.
        """
        return Limit(seconds or math.inf, self._marks, self._scratch)

    def marks(self) -> set[Mark]:
        """Read the marks of images that a worker has died over, in batches not yet committed."""
        return set(read_marks(self._marks))

    def suspect(self, stage: str, keys: Sequence[str]) -> None:
        """Mark images that a worker was at when it crashed."""
        suspect(self.limit(0), stage, keys)

    def forget_marks(self) -> None:
        """Drop all marks."""
        storage.delete_folder(self._marks)

    def spec(self, reference: str) -> str:
        """Read one spec of the plan, as its line of JSON."""
        start, length = map(int, reference.split())
        with storage.opened(self._plan) as file:
            file.seek(start)
            return file.read(length).decode()

    def commit(self, batch: Batch, job: str | None = None) -> list[Row]:
        """Write a batch's commit record, and give its rows.

        Args:
            batch: what was written.
            job: the digest of the job that it is of.
        """
        rows = [row(record) for record in batch.records]
        files = {file.path: {"bytes": file.size, "sha256": file.sha256} for file in batch.files}
        self._write_record(batch.id, rows, files, self._made(batch), job)
        return rows

    def rewrite(self, record: dict[str, Any], rows: Sequence[Row]) -> None:
        """Write a commit record, as `record` gives it, with other rows; for none, delete it."""
        if rows:
            of_job = record.get("job")
            self._write_record(record["batch"], rows, record["files"], record["made"], of_job)
        else:
            storage.delete(self._path(record["batch"]))

    def _write_record(
        self,
        batch: str,
        rows: Sequence[Row],
        files: dict[str, Any],
        made_of: dict[str, Any],
        job: str | None,
    ) -> None:
        path = self._path(batch)
        counts = Counter(made["status"] for made in rows)
        head = {
            "format": FORMAT,
            "batch": batch,
            "job": job,
            "counts": counts,
            "further": sum(made["page"] > 1 for made in rows),
            "made": made_of,
        }
        lines = ",\n".join(map(as_json, rows))
        text = f'{as_json(head)[:-1]}{_ROWS}{lines}\n], "files": {as_json(files)}}}'
        self._write(path, f"{sealed(text)}\n")

    def _path(self, batch: str) -> str:
        return storage.join(self._folder, f"{batch}.json")

    def is_committed(self, spec: str) -> bool:
        """Say whether all batches of a spec, given as its line of JSON, are committed."""
        return all(storage.exists(self._path(identity)) for identity in commits_of(spec))

    def committed_ids(self) -> set[str]:
        """List the ids under which batches are committed."""
        return set(map(batch_of, self.committed()))

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

    @property
    def is_empty(self) -> bool:
        """Whether nothing is committed."""
        return next(iter(self.commits()), None) is None

    def of_masters(self) -> set[str]:
        """List the paths of commit records in which every master is once: of cells, the first."""
        others = re.compile(r"-(?!000)\d+\.json$")
        return {path for path in self.committed() if not others.search(path)}

    def record(self, path: str) -> dict[str, Any]:
        """Read one commit record: its head, its `rows`, and its `files`, which are several images'.

        Raises:
            LedgerError: it is damaged.
            StorageError: it cannot be read.
        """
        data = storage.read(path)
        try:
            found = unsealed(data)
            if isinstance(found["rows"], list):
                return found
            reason = "its rows are none"
        except (ValueError, KeyError) as error:
            reason = str(error)
        raise LedgerError(
            f"{path} is no commit record: {reason}; `heliograph repair` sets it aside, and the "
            "same command does its images again"
        )

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

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read all commit records, by their paths."""
        for path in sorted(self.committed()):
            yield path, self.record(path)

    def batches(self) -> Iterator[tuple[str, list[Row]]]:
        """Read all commit records: the id of each batch, and its rows."""
        for path, record in self.records():
            yield batch_of(path), record["rows"]

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

    def _keep(self, path: str, file: BinaryIO) -> None:
        # The pages of a mapped file count as memory of the process; a store's client needs one.
        data = Pieces(file) if storage.is_local(path) else contents(file)
        storage.write(path, data, scratch=self._scratch)

    def write_result(self, name: str, data: Buffer | Sequence[Buffer]) -> None:
        """Write one of the files that are made from the ledger into the output folder."""
        storage.write(storage.join(self.output, name), data, scratch=self._scratch)

    def write_file(self, name: str, file: BinaryIO) -> None:
        """Write one of them of what a temporary file holds."""
        self._keep(storage.join(self.output, name), file)

    def _write(self, path: str, text: str) -> None:
        storage.write(path, text.encode(), scratch=self._scratch)
