"""The repair of one job's results: ledger first, then files, then what is made of them.

A repair makes no image. It takes out of the ledger what is no longer true, and out of the output
what the ledger does not know; the next run of the same command does the rest, as if it had been
stopped before. Nothing is deleted but temporary files: what is taken out is set aside.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import packages, results, salvage
from pipeline.fixity import digest
from pipeline.ledger import LEDGER, Ledger, LedgerError, batch_of
from pipeline.packages import bag
from pipeline.packages.package import master
from pipeline.resume import numbered
from pipeline.summary import TABLES, summarise
from pipeline.verify import (
    Finding,
    check_record,
    expected_of,
    in_order,
    listed_in,
    stale_in,
)
from transforms import storage
from transforms.write import SCRATCH

# Where what is taken out goes: of the ledger, and of the rest of the output.
DAMAGED = "damaged"
ASIDE = "aside"

# Files of the ledger that a job can do without, and makes again.
_NOTES = ("pace.json", "packages.json", "masters.json")


@dataclass(frozen=True, slots=True)
class Mended:
    """One thing that was not as it should be.

    Attributes:
        path: of the file, below the output.
        reason: what was wrong, for a person.
        done: what was done about it; None where nothing can be.
        keys: of the images that have to be made again.
    """

    path: str
    reason: str
    done: str | None
    keys: tuple[str, ...] = ()


@dataclass(slots=True)
class _Looked:
    """What is kept of a commit record that has been looked at: its masters (in which cell, of a job
    that has several) and files, and what is wrong with these.
    """

    path: str
    cell: str | None = None
    masters: list[str] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    shared: bool = False
    findings: list[Finding] = field(default_factory=list)
    job: str | None = None
    flaw: str | None = None


class Mending:
    """The repair of one job's results.

    Args:
        root: the output folder.
        results: where in it the results are.
        dry: whether to do nothing.
        delete: whether what would be set aside is deleted.
    """

    def __init__(self, root: str, results: str, *, dry: bool, delete: bool) -> None:
        self.root = root
        self.results = results
        self.dry = dry
        self.delete = delete
        self.ledger = Ledger(results)
        self.mended: list[Mended] = []
        self.aside: str | None = None
        self.dropped: set[str] = set()  # files of what is to be made again
        self.reopened = False  # whether the next run is to look at every row

    def run(self, threads: int) -> dict[str, Any]:
        """Mend one thing after the other, from the ledger to what is made of it."""
        self._drop_temporary()
        job = self._read_job()
        self._check_notes()
        listed = listed_in(self.results)
        looked: list[_Looked] = []
        with ThreadPoolExecutor(threads) as pool:
            look = partial(self._look, listed)
            for one in in_order(pool, look, sorted(self.ledger.committed()), 4 * threads):
                looked.append(one)
        digests = {one.job for one in looked if one.job is not None}
        if job is not None and len(digests) == 1 and job.get("digest") not in digests:
            # It is likelier that one file is of another job than that all the others are.
            path = storage.join(self.results, LEDGER, "job.json")
            self._to_damaged(path, "it is of another job than all commit records")
            job = None
        if job is None:
            job = self._make_out_job([one for one in looked if one.flaw is None], digests)
        if job is None:  # whose work this is, nothing tells: nothing of it is touched
            return self._told({}, 0)
        for one in looked:
            if one.flaw is None and one.job not in (None, job.get("digest")):
                one.flaw = f"it is of another job, {one.job}"
            if one.flaw is not None:
                self._to_damaged(one.path, one.flaw)
        sound = self._without_twins([one for one in looked if one.flaw is None])
        again = self._retire(sound)
        left = job.get("planned", 0) - sum(len(one.masters) for one in sound)
        if left > 0 or self.reopened:
            committed = {batch_of(one.path) for one in sound if one.masters}
            lost = salvage.lost_batches(self.ledger, committed)
            self._write_ledger(job, {**lost, **again})
        # Not before: strays tell what the batches were that wrote them.
        self._clear_strays(listed, sound)
        self._make_results_again()
        self._check_packages()
        return self._told(job, max(left, 0))

    # -- what is done about it ---------------------------------------------------------------------

    def _note(self, path: str, reason: str, done: str | None, keys: Iterable[str] = ()) -> None:
        self.mended.append(Mended(path, reason, done, tuple(keys)))

    def _do(self, act: Callable[[], Any]) -> None:
        if not self.dry:
            act()

    def _to_damaged(self, path: str, reason: str) -> None:
        """Set a file of the ledger aside, within it."""
        name = path.rpartition("/")[-1]
        number = 1
        while storage.exists(target := self._damaged(f"{name}.{number}")):
            number += 1
        self.reopened = True
        told = f"set aside as {LEDGER}/{DAMAGED}/{name}.{number}"
        self._note(self._below(path), reason, told)
        self._do(lambda: storage.move(path, target))

    def _damaged(self, name: str) -> str:
        return storage.join(self.results, LEDGER, DAMAGED, name)

    def _below(self, path: str) -> str:
        return path.removeprefix(self.results.rstrip("/") + "/")

    def _put_aside(self, path: str) -> str:
        """Take a file out of the results; say what was done."""
        source = storage.join(self.results, path)
        if self.delete:
            self._do(lambda: storage.delete(source))
            return "deleted"
        if self.aside is None:
            number = 1
            while storage.exists(storage.join(self.root, ASIDE, str(number))):
                number += 1
            self.aside = f"{ASIDE}/{number}"
        target = storage.join(self.root, self.aside, path)
        self._do(lambda: storage.move(source, target))
        return f"set aside as {self.aside}/{path}"

    # -- the ledger --------------------------------------------------------------------------------

    def _drop_temporary(self) -> None:
        scratch = storage.join(self.results, SCRATCH)
        left = list(storage.list_if_there(scratch))
        for file in left:
            self._note(self._below(file.path), "a temporary file", "deleted")
        if left or storage.exists(scratch):
            self._do(lambda: storage.delete_folder(scratch))

    def _read_job(self) -> dict[str, Any] | None:
        path = storage.join(self.results, LEDGER, "job.json")
        try:
            job = self.ledger.job()
        except LedgerError as error:
            self._to_damaged(path, str(error))
            return None
        return job

    def _make_out_job(
        self, looked: Sequence[_Looked], digests: Collection[str]
    ) -> dict[str, Any] | None:
        rows = sum(len(one.masters) for one in looked)
        job = salvage.lost_job(self.ledger, digests, rows)
        name = f"{LEDGER}/job.json"
        if job is None:
            reason = "neither summary.json nor a commit record tells what the job was"
            self._note(name, reason, None)
        else:
            source = "summary.json" if job["job"] else "the commit records, which know its digest"
            self.reopened = True
            self._note(name, "what the job is was lost", f"made again from {source}")
        return job

    def _check_notes(self) -> None:
        for name in _NOTES:
            path = storage.join(self.results, LEDGER, name)
            if not storage.exists(path):
                continue
            try:
                if isinstance(json.loads(storage.read(path)), dict):
                    continue
                reason = "it is no object in JSON"
            except ValueError as error:
                reason = f"it is not JSON: {error}"
            self._to_damaged(path, reason)
        stop = storage.join(self.results, LEDGER, "stop")
        if storage.exists(stop):
            self._note(f"{LEDGER}/stop", "a job that was interrupted has left it", "deleted")
            self._do(lambda: storage.delete(stop))

    def _look(self, listed: Mapping[str, int], path: str) -> _Looked:
        looked = _Looked(path)
        try:
            record = self.ledger.record(path)
        except LedgerError as error:
            looked.flaw = str(error)
            return looked
        looked.flaw = salvage.flaw(record, batch_of(path))
        if looked.flaw is None:
            checked = check_record(self.ledger, record, listed, deep=False)
            looked.findings = checked.findings + stale_in(self.results, record)
            looked.files = checked.known
            looked.masters = [row["key"] for row in record["rows"] if row["page"] == 1]
            looked.cell = next((row.get("cell") for row in record["rows"]), None)
            looked.shared = bool(record["files"])
            looked.job = record.get("job")
        return looked

    def _without_twins(self, looked: Sequence[_Looked]) -> list[_Looked]:
        """Take out commit records of masters that others know as well: which of them is true,
        nothing tells.
        """
        counts = Counter((one.cell, key) for one in looked for key in set(one.masters))
        twins = [one for one in looked if any(counts[one.cell, key] > 1 for key in one.masters)]
        for one in twins:
            self._to_damaged(one.path, "another commit record knows some of its images as well")
        return [one for one in looked if one not in twins]

    def _retire(self, looked: Sequence[_Looked]) -> dict[str, list[str]]:
        """Make the ledger forget images whose files are not what was written; give the batches that
        are to be made again as they were.
        """
        again = {}
        for one in looked:
            if not one.findings:
                continue
            record = self.ledger.record(one.path)
            rows = record["rows"]
            wrong = {key for finding in one.findings for key in finding.keys}
            masters = {master(row) for row in rows if row["key"] in wrong}
            if one.shared:  # its files are of several images, and are made again as a whole
                masters = set(one.masters)
            dropped = [row for row in rows if master(row) in masters]
            if gone := _without_master(dropped):
                for finding in one.findings:
                    self._note(
                        finding.path,
                        f"{finding.reason}; {', '.join(gone[:5])} cannot be made again: no longer "
                        "in the archive",
                        None,
                        finding.keys,
                    )
                continue
            for finding in one.findings:
                self._note(finding.path, finding.reason, "to be made again", sorted(masters))
            self.reopened = True
            if one.shared:
                again[batch_of(one.path)] = one.masters
            kept = [row for row in numbered(record) if master(row) not in masters]
            self._do(partial(self.ledger.rewrite, record, kept))
            one.masters = [key for key in one.masters if key not in masters]
            # Where no row is kept, no commit record is, nor a file of several images.
            files = expected_of({**record, "rows": kept}) if kept else ()
            before, one.files = one.files, {file.path for file in files}
            self.dropped |= before - one.files
        return again

    def _clear_strays(self, listed: Mapping[str, int], looked: Iterable[_Looked]) -> None:
        known = {path for one in looked for path in one.files}
        damaged = {one.path for one in self.mended if one.keys}
        for path in sorted(listed.keys() - known):
            if path in damaged:
                reason = "it is not what was written"
            else:
                reason = "its image is made again" if path in self.dropped else _UNKNOWN
            self._note(path, reason, self._put_aside(path))

    def _write_ledger(self, job: Mapping[str, Any], again: dict[str, list[str]]) -> None:
        """Let the next run compare the archive with the ledger, row by row."""
        self._do(lambda: self.ledger.write_job({**job, "state": None}))
        if again:
            self._do(lambda: self.ledger.write_again({**self.ledger.again(), **again}))

    # -- what is made of the ledger ----------------------------------------------------------------

    def _make_results_again(self) -> None:
        """Make the table, the failures and the summary anew, if they are not what the ledger holds
        now.
        """
        before = _digests(self.results)
        if self.dry and self.reopened:
            return  # what they will be is known once it is mended
        now = self._made_beside() or {}
        # Of what is made of the tables and of pictures it is enough that it is there.
        gone = [
            name
            for name in results.names(self.ledger.job() or {})
            if name not in TABLES and not storage.exists(storage.join(self.results, name))
        ]
        if before == now and not gone:
            return
        if not self.dry:
            results.rebuild(self.results)
            self.ledger.finish()
            now = _digests(self.results)
        for name, sha256 in before.items():
            if sha256 != now[name]:
                reason = "it is not there" if sha256 is None else "it is not what the ledger says"
                self._note(name, reason, "made again from the ledger")
        for name in gone:
            self._note(name, "it is not there", "made again from the ledger")

    def _made_beside(self) -> dict[str, str | None] | None:
        """Give the digests of what is made of the ledger, without writing to the output; None where
        it is not on this machine.
        """
        if not storage.is_local(self.results):
            return _digests(self.results) if self.dry else None
        with tempfile.TemporaryDirectory(prefix="heliograph-") as folder:
            Path(folder, LEDGER).symlink_to(Path(self.results, LEDGER).resolve())
            summarise(folder)
            return _digests(folder)

    def _check_packages(self) -> None:
        """Forget packages of results that were mended, or that are not whole themselves: the next
        run makes them again.
        """
        try:
            made = self.ledger.packages()
        except ValueError:
            made = None
        declared = bag.is_declared(self.root)
        if not made and not declared:
            return
        reason = "it is of results that were mended" if self.mended else None
        if reason is None and declared:
            reason = bag.flaw(self.root)
        if reason is None and made and not packages.are_there(self.results, made["names"]):
            reason = "a package is not there"
        if reason is None:
            return
        path = storage.join(self.results, LEDGER, "packages.json")
        what = bag.DECLARATION if declared else self._below(path)
        self._note(what, reason, "undeclared; the next run makes packages again")
        self._do(lambda: bag.undeclare(self.root))
        self._do(lambda: storage.delete(path))

    def _told(self, job: Mapping[str, Any], left: int) -> dict[str, Any]:
        return {
            "output": self.results,
            "sound": not self.mended and left == 0,
            "mended": [plain(one) for one in self.mended if one.done is not None],
            "unmended": [plain(one) for one in self.mended if one.done is None],
            "left": left,
            "command": salvage.command_of(job),
        }


def _digests(results: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in TABLES:
        path = storage.join(results, name)
        found[name] = digest(path).sha256 if storage.exists(path) else None
    return found


_UNKNOWN = "no commit record knows it"


def plain(one: Mended) -> dict[str, Any]:
    """Give it as JSON has it."""
    return {"path": one.path, "reason": one.reason, "done": one.done, "keys": list(one.keys)}


def _without_master(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Give the keys of rows that have something to lose, and whose master is not there any more."""
    there: dict[str, bool] = {}

    def is_there(path: str) -> bool:
        if path not in there:
            there[path] = storage.exists(path)
        return there[path]

    return sorted(
        row["key"] for row in rows if row["derivative"] is not None and not is_there(row["source"])
    )
