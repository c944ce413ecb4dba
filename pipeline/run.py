"""Run a job: what is left of it, one job at a time on one output, and say how it ended."""

import json
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    StandardOptions,
)

from pipeline import gates, generations, packages, resume, submission
from pipeline.archive import ArchiveError, find_sources
from pipeline.clearing import clear, drop_strays
from pipeline.environment import environment, versions
from pipeline.garbage import no_garbage
from pipeline.generations import Chosen
from pipeline.job import ExitCode, JobCrashedError, JobError
from pipeline.ledger import FAILED, QUARANTINED, STATUSES, Ledger, LedgerError
from pipeline.links import link_in
from pipeline.lock import Lock
from pipeline.options import Job
from pipeline.packages import bag
from pipeline.packed import Specs, packed_sources
from pipeline.plan import slice_in_cells, without
from pipeline.progress import Progress
from pipeline.resume import Left, State, find_left, selected, settle
from pipeline.runner import end_earlier, execute, prepare
from pipeline.scoreboard.gate import ScoreboardError, check_archive
from pipeline.workers import end_all
from transforms import storage
from transforms.record import Source
from transforms.write import Encoding

log = logging.getLogger("heliograph")


@dataclass(frozen=True, slots=True)
class Result:
    """How a job ended: its summary and exit code, the folder of its results, and how these passed
    their gates, if they have any. Of one that was only submitted, the id that its cluster knows it
    by, and no summary.
    """

    summary: dict[str, Any]
    code: ExitCode
    output: str
    verdict: gates.Verdict | None = None
    submitted: str | None = None


def run(job: Job, options: PipelineOptions) -> Result:
    """Plan what is left of a job and run it to its end.

    Raises:
        JobError: the archive is missing or empty, or the output is not ours to write to.
        JobCrashedError: a worker died, or records are unaccounted for.
        LockedError: another job is working on the output, or one that was submitted goes on.
    """
    try:
        job = prepare(job, options)
        chosen = _choose(job)
        found = _find(job)
        if job.gates.scoreboard and job.limit is None:
            check_archive(job.gates.scoreboard, [source.key for source in found.sources])
        if job.dry_run:
            generations.say(chosen)
            return _tell_plan(chosen.job, _prepare(chosen, found))
        # The whole output, with its generations, and not just the payload of a bag; and nothing is
        # written before it is held.
        with Lock(chosen.lock):
            chosen = _choose(job)  # asked again, now that nobody else writes
            generations.say(chosen)
            try:
                return _run(chosen, found, options)
            except storage.StorageError as error:
                raise JobCrashedError(f"{error}\nrun the same command again to go on") from error
    except (ArchiveError, LedgerError, ScoreboardError) as error:
        raise JobError(str(error)) from error
    except storage.StorageError as error:
        elsewhere = "; or choose another output folder" if "cannot write" in str(error) else ""
        raise JobError(f"{error}{elsewhere}") from error


def _choose(job: Job) -> Chosen:
    """Find the place of a job's results, by which nothing is written elsewhere."""
    _refuse_links(job)
    chosen = generations.choose(job)
    _refuse_links(chosen.job)
    return chosen


def _refuse_links(job: Job) -> None:
    for folder in dict.fromkeys((job.packaging.root, job.output)):
        if link := link_in(folder):
            raise LedgerError(
                f"the output holds a symbolic link, {link}, by which files would be written or "
                "deleted elsewhere: put a folder in its place, or choose another output"
            )


@dataclass(frozen=True, slots=True)
class _Found:
    """The images that are asked for, files that are no images, counted by extension, and the
    digest of what planning saw, where the whole archive is asked for.
    """

    sources: Sequence[Source]
    left_out: Mapping[str, int]
    state: str | None


@no_garbage()
def _find(job: Job) -> _Found:
    found, left_out = find_sources(job.archives, job.shards, job.columns, job.bounds)
    sources = selected(found, job.only)
    if not sources:
        raise ArchiveError(
            f"--only {' '.join(job.only)} is none of the {len(found)} images of "
            f"{', '.join(job.archives)}: give keys as metrics.parquet has them, or globs of them"
        )
    state = State()
    # Ten million images are gone through no oftener than need be.
    seen = state.seeing(_outside(sources, job.packaging.root))
    _check_names(seen, sources, job.encoding)
    whole = not job.only and job.limit is None
    return _Found(sources, left_out, state.hexdigest() if whole else None)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """What a run is to do.

    Attributes:
        sources: all images asked for.
        left_out: files that are no images, counted by extension.
        left: what is left of the images.
        specs: its batches.
        state: digest of what planning saw, where the run covers the whole archive.
        gone: how many images of the ledger are no longer in the archive.
        settles: whether the ledger is to be brought in line with what is left.
    """

    sources: Sequence[Source]
    left_out: Mapping[str, int]
    left: Left
    specs: Specs
    state: str | None
    settles: bool
    gone: int

    @property
    def planned(self) -> int:
        """How many records there are to be in the ledger at the end."""
        return self.left.planned

    @property
    def pixels(self) -> int:
        """How many there are to restore, roughly."""
        return self.specs.pixels


@no_garbage()
def _prepare(chosen: Chosen, found: _Found) -> _Prepared:
    """Compare what is asked for with the ledger; nothing is written."""
    job, ledger = chosen.job, Ledger(chosen.job.output)
    sources, left_out, state = found.sources, found.left_out, found.state
    whole = state is not None
    before = None if chosen.replacing else ledger.job()
    if before and whole and not job.retry and before.get("state") == state:
        planned = ledger.plan()
        if planned is not None:  # the same archive as the last time: go on with the same plan
            specs = without(planned, ledger.committed_ids())
            todo = packed_sources(source for spec in specs for source in spec.sources)
            cells = {}
            if len(job.cells) > 1:
                cells = {source.key: spec.cells for spec in specs for source in spec.sources}
            records = sum(map(len, cells.values())) if cells else len(todo)
            left = Left(
                sources=todo,
                # With those of masters that are gone from the archive, whose rows stay.
                kept=before["planned"] - records,
                counts=+Counter(new=len(todo)),
                cells=cells,
                of=len(job.cells),
            )
            return _Prepared(
                sources=sources,
                left_out=left_out,
                left=left,
                specs=specs,
                state=state,
                settles=False,
                gone=before.get("gone", 0),
            )
    left = Left(sources=sources, kept=0, counts=Counter(new=len(sources)), of=len(job.cells))
    # What is committed counts, though the job's description may be lost.
    if before or not (chosen.replacing or ledger.is_empty):
        left = find_left(
            ledger,
            sources,
            retry=job.retry,
            columns=job.columns,
            whole=not job.only,
            cells=job.cells,
        )
    if job.limit is not None:
        left = left.limited(job.limit)
    specs = slice_in_cells(
        left.sources,
        left.cells,
        left.usual,
        job.budget,
        job.workers,
        sharded=job.container is not None,
        groups=left.groups,
    )
    # Where the ledger is asked for the very same archive and nothing is left, it is in line.
    same = before is not None and whole and before.get("state") == state and not left.sources
    return _Prepared(
        sources=sources,
        left_out=left_out,
        left=left,
        specs=specs,
        state=state,
        settles=not same,
        gone=len(left.gone),
    )


def _run(chosen: Chosen, found: _Found, options: PipelineOptions) -> Result:
    job, ledger = chosen.job, Ledger(chosen.job.output)
    submission.refuse_while_running(job.packaging.root)
    summary = None if chosen.replacing else _summary(ledger)
    if summary is None or not submission.is_complete(ledger, job, summary):
        submitted = _do_what_is_left(chosen, found, options, summary)
        if submitted is not None:
            return Result({}, ExitCode.OK, job.output, submitted=submitted)
        summary = _summary(ledger)
        assert summary is not None, "the graph ends with it"
    return _end(ledger, job, summary)


def _do_what_is_left(
    chosen: Chosen, found: _Found, options: PipelineOptions, summary: dict[str, Any] | None
) -> str | None:
    """Do all that there is to do, if anything; or submit it, and give the id of that."""
    job, ledger, replacing = chosen.job, Ledger(chosen.job.output), chosen.replacing
    submission.say_ending(ledger)
    end_earlier(ledger)
    todo = _prepare(chosen, found)
    _say_left_out(todo.left_out)
    resume.say(todo.left)
    if summary is None or not _is_done(ledger, job, todo, summary):
        bag.undeclare(job.packaging.root)
        gates.forget(job.packaging.root)
        for folder in packages.FOLDERS:
            storage.delete_folder(storage.join(job.output, folder))
        if replacing:
            clear(job)
        elif todo.settles:
            settle(ledger, todo.left)
            drop_strays(ledger, job)
        if job.retry or replacing:
            ledger.forget_marks()
        facts = _facts(job, todo, options)
        references = ledger.begin(facts, todo.specs, anew=replacing)
        if job.no_wait:
            return submission.submit(ledger, job, options, references)
        with Progress(ledger, todo.planned), _stopping_at_first_interrupt(ledger):
            _execute(ledger, job, options, facts, todo.specs, references)
    return None


def _end(ledger: Ledger, job: Job, summary: dict[str, Any]) -> Result:
    """Hold what a run has left to what it was to leave."""
    accounted = sum(summary[status] for status in STATUSES)
    verdict = None
    if summary["planned"] == accounted and not ledger.is_stopping:
        verdict = gates.hold(job.packaging.root, job.output, job.gates)
    ledger.finish()
    if ledger.is_stopping:
        left = summary["planned"] - accounted
        log.error("interrupted: %d images are left; run the same command again", left)
        return Result(summary, ExitCode.INTERRUPTED, job.output)
    if summary["planned"] != accounted:
        raise JobCrashedError(
            f"{summary['planned']} images were planned but {accounted} are accounted for in "
            f"{job.output}; run the same command again"
        )
    ledger.forget_marks()
    ledger.forget_remote()
    return Result(summary, _code(summary, verdict), job.output, verdict)


def _execute(
    ledger: Ledger,
    job: Job,
    options: PipelineOptions,
    facts: dict[str, Any],
    specs: Specs,
    references: Sequence[str],
) -> None:
    """Run the graph to its end, and again without what was done where a worker has died over an
    image; now that it is marked, it goes alone, or fails.
    """
    while True:
        before = ledger.marks()
        try:
            execute(job, options, references)
            return
        except JobCrashedError:
            marks = ledger.marks() - before
            if not marks or ledger.is_stopping:
                raise
        for mark in sorted(marks, key=lambda mark: mark.key):
            log.warning("%s; going on", mark)
        left = without(specs.lines(), ledger.committed_ids())
        references = ledger.begin(facts, left, anew=False)


def _facts(job: Job, todo: _Prepared, options: PipelineOptions) -> dict[str, Any]:
    """Give what the ledger is to say of a job."""
    return {
        "digest": job.digest,
        "job": {**job.facts, "archives": list(job.archives)},
        "planned": todo.planned,
        "gone": todo.gone,
        "left_out": todo.left_out,
        "versions": versions(),
        "environment": {
            **environment(options.view_as(StandardOptions).runner, job.operator),
            "command": list(job.said),
            "folder": str(Path.cwd()),
        },
        "state": todo.state,
        "begun": time.time(),
        "images": len(todo.left.sources),
        "pixels": todo.pixels,
    }


def _is_done(ledger: Ledger, job: Job, todo: _Prepared, summary: dict[str, Any]) -> bool:
    """Tell whether there is nothing to do: all is committed, summed up and packed."""
    accounted = sum(summary[status] for status in STATUSES)
    return (
        not (todo.left.sources or todo.settles or job.verify_masters or ledger.is_open)
        and summary["planned"] == accounted == todo.planned + summary["further_pages"]
        and packages.are_made(job.packaging)
    )


def _code(summary: dict[str, Any], verdict: gates.Verdict | None) -> ExitCode:
    if summary.get("masters", {}).get("changed") or (verdict and not verdict["passed"]):
        return ExitCode.FIXITY
    clean = summary[FAILED] == summary[QUARANTINED] == 0
    return ExitCode.OK if clean else ExitCode.INCOMPLETE


def _summary(ledger: Ledger) -> dict[str, Any] | None:
    """Read the summary that was written last; None where there is none."""
    path = storage.join(ledger.output, "summary.json")
    if not storage.exists(path):
        return None
    try:
        return json.loads(storage.read(path))
    except ValueError:
        return None


@contextmanager
def _stopping_at_first_interrupt(ledger: Ledger) -> Iterator[None]:
    """At a first Ctrl-C finish the batches under way, at a second end at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        end_all()
        raise KeyboardInterrupt

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, end)
        log.warning("stopping once the batches under way are done; once more, and it is at once")
        ledger.stop()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tell_plan(job: Job, todo: _Prepared) -> Result:
    """Tell what a run would do, on standard output."""
    ledger, left = Ledger(job.output), todo.left
    lines = {
        "images in the archive": len(todo.sources),
        **({"results of each": left.of} if left.of > 1 else {}),
        "done already": left.kept,
        **{f"to do: {reason}": count for reason, count in left.counts.items()},
        "gone from the archive": len(left.gone),
        "batches to do": todo.specs.batches,
        "bytes to read": sum(source.held for source in left.sources),
        "pixels to restore, roughly": todo.pixels,
    }
    width = max(map(len, lines))
    for name, count in lines.items():
        print(f"{name:{width}}  {count:,}")
    if pace := ledger.pace():
        print(f"{'at the last pace':{width}}  {timedelta(seconds=round(todo.pixels / pace))}")
    print(f"{'results':{width}}  {job.output}")
    return Result({}, ExitCode.OK, job.output)


def _check_names(checked: Iterable[Source], again: Iterable[Source], encoding: Encoding) -> None:
    """Refuse an archive in which two masters' derivatives would have one name.

    Args:
        checked: the masters.
        again: the same, to go through once more where need be.
        encoding: that names derivatives.
    """
    # Of all names at first no more than a number: ten million of them would be 1.5 GB.
    numbers = np.fromiter((hash(encoding.name(source)) for source in checked), np.int64)
    numbers.sort()
    twice = set(numbers[1:][numbers[1:] == numbers[:-1]].tolist())
    if not twice:
        return
    taken: dict[str, str] = {}
    for source in again:
        name = encoding.name(source)
        if hash(name) not in twice:
            continue
        if name in taken:
            raise ArchiveError(
                f"{taken[name]} and {source.key} would both be written as {name}: "
                "choose another --image_format"
            )
        taken[name] = source.key


def _outside(sources: Iterable[Source], output: str) -> Iterator[Source]:
    """Pass masters on; refuse such as are inside the output, where a list may lead."""
    inside = output.rstrip("/") + "/"
    for source in sources:
        if source.path.startswith(inside):
            raise ArchiveError(
                f"{source.path} lies inside the output {output}; masters are never written "
                "to: choose a folder outside it"
            )
        yield source


def _say_left_out(left_out: Mapping[str, int]) -> None:
    if left_out:
        listed = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
        log.warning("left out, being no images we read: %s", listed)
