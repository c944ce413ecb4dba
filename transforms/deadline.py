"""How long one image may take, and what becomes of one that takes longer.

Its time is what the stages spend on it, not what it waits for its neighbours. Once that is over the
limit, the image fails at the next point where it can be looked at: before a stage, or between two
windows of the model. A call that comes to no such point in a quarter more cannot be broken off from
inside the process, so the process is ended: a watchdog marks the image in the output and exits. Its
batch is not committed; whoever does it next finds the mark, and the image fails there at once. Of
several that went through the model together nobody knows which it was: they are marked as suspects,
and each then goes alone. So is an image that a process crashed over, and if that happens again, it
fails.
"""

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from transforms import storage

log = logging.getLogger("heliograph")

_MORE, _AT_LEAST = 0.25, 2.0  # of the limit, and seconds, until the process is ended
_LOOK_EVERY = 0.5  # seconds


class RecordTimeoutError(RuntimeError):
    """An image that took longer than it may, and what to do."""


class RecordCrashError(RuntimeError):
    """An image that brought its process down, twice."""


@dataclass(frozen=True, slots=True)
class Mark:
    """That a process was ended over an image, or crashed.

    Attributes:
        key: of the image.
        stage: in which it was.
        alone: whether it is known to be to blame; a suspect otherwise.
        seconds: the limit that it did not keep; None where the process crashed.
    """

    key: str
    stage: str
    alone: bool
    seconds: float | None

    def __str__(self) -> str:
        what = (
            "crashed its worker"
            if self.seconds is None
            else f"took longer than {self.seconds:g} s, and its worker was ended"
        )
        then = "it fails" if self.alone else "it is tried once more, alone"
        return f"{self.key} {what} (in {self.stage}): {then}"

    def error(self) -> Exception:
        """Say it of the image."""
        if self.seconds is not None:
            return too_long(self.seconds)
        return RecordCrashError(
            "the process that worked on it crashed, and again when it was tried once more: please "
            "report it with the image; --retry failed to try again"
        )


def too_long(seconds: float) -> RecordTimeoutError:
    """Say that an image took too long, without how long, which would differ from run to run."""
    return RecordTimeoutError(
        f"it took longer than {seconds:g} s: say a longer --record_timeout and --retry failed to "
        "try again"
    )


@dataclass(frozen=True, slots=True)
class Limit:
    """How long one image may take.

    Attributes:
        seconds: of work on it.
        folder: where marks are.
        scratch: a folder on the same storage for files that are not whole.
        marks: of images that did not keep to this limit or a longer one, by key, as of `looked_up`.
    """

    seconds: float
    folder: str
    scratch: str
    marks: Mapping[str, Mark] = field(default_factory=dict)

    def looked_up(self) -> "Limit":
        """Give the limit with the marks that there are now."""
        known: dict[str, Mark] = {}
        for mark in read_marks(self.folder):
            before = known.get(mark.key)
            counts = mark.seconds is None or mark.seconds >= self.seconds
            if counts and not (before and before.alone):
                known[mark.key] = mark
        return replace(self, marks=known)

    def is_suspect(self, key: str) -> bool:
        """Tell whether an image must go through the model alone."""
        return key in self.marks

    def check(self, key: str, stage: str, spent: float) -> None:
        """Make sure that an image may enter a stage.

        Args:
            key: of the image.
            stage: its name.
            spent: seconds on it so far.

        Raises:
            RecordTimeoutError: it has taken too long, or did so before.
            RecordCrashError: it is known to crash the process.
        """
        if spent > self.seconds:
            raise too_long(self.seconds)
        mark = self.marks.get(key)
        if mark and mark.alone and mark.stage == stage:
            raise mark.error()


def read_marks(folder: str) -> list[Mark]:
    """Read the marks in a folder; one that is no mark is none."""
    found = []
    for file in storage.list_if_there(folder):
        try:
            found.append(Mark(**json.loads(storage.read(file.path))))
        except (ValueError, TypeError, storage.StorageError) as error:
            log.warning("%s is passed over: %s", file.path, error)
    return found


@dataclass(eq=False, slots=True)
class _Work:
    """What a thread is at: images in a stage, since when, and how much time they had had before."""

    limit: Limit
    stage: str
    keys: Sequence[str]
    spent: float
    since: float


_mine = threading.local()


@contextmanager
def working(limit: Limit, stage: str, keys: Sequence[str], spent: float) -> Iterator[None]:
    """Hold work on images to a limit while the block runs.

    Args:
        limit: to hold it to.
        stage: what is done.
        keys: of the images, which are worked on together.
        spent: seconds on any of them so far, at the most.
    """
    work = _Work(limit, stage, keys, spent, time.monotonic())
    before, _mine.work = getattr(_mine, "work", None), work
    _watchdog.watch(work)
    _note(work)
    try:
        yield
    finally:
        _note(before)
        _watchdog.forget(work)
        _mine.work = before


def check() -> None:
    """Break off the work of this thread if it has taken too long.

    Raises:
        RecordTimeoutError: it has.
    """
    work: _Work | None = getattr(_mine, "work", None)
    if work and work.spent + time.monotonic() - work.since > work.limit.seconds:
        raise too_long(work.limit.seconds)


_notes: int | None = None


def note_in(path: Path) -> None:
    """Keep in a file what this process is at, for whoever finds it dead."""
    global _notes
    _notes = os.open(path, os.O_WRONLY | os.O_CREAT)


def _note(work: _Work | None) -> None:
    if _notes is None:
        return
    said = b""
    if work is not None:
        said = json.dumps({"stage": work.stage, "keys": list(work.keys)}).encode()
    os.ftruncate(_notes, 0)
    os.pwrite(_notes, said, 0)


class _Watchdog:
    """Ends the process if a thread stays at something for too long."""

    def __init__(self) -> None:
        self._works: set[_Work] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, work: _Work) -> None:
        with self._lock:
            self._works.add(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, daemon=True)
                self._thread.start()

    def forget(self, work: _Work) -> None:
        with self._lock:
            self._works.discard(work)

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY)
            now = time.monotonic()
            with self._lock:
                late = [work for work in self._works if _is_late(work, now)]
            if late:
                for work in late:
                    _mark(work)
                os._exit(1)


_watchdog = _Watchdog()


def _is_late(work: _Work, now: float) -> bool:
    seconds = work.limit.seconds
    return work.spent + now - work.since > seconds + max(_MORE * seconds, _AT_LEAST)


def _mark(work: _Work) -> None:
    log.error(
        "%s took longer than %g s in %s: the process that worked on it is ended",
        ", ".join(work.keys),
        work.limit.seconds,
        work.stage,
    )
    alone = len(work.keys) == 1
    for key in work.keys:
        try:
            _write(work.limit, Mark(key, work.stage, alone, work.limit.seconds))
        except storage.StorageError as error:
            log.error("%s", error)


def suspect(limit: Limit, stage: str, keys: Sequence[str]) -> None:
    """Mark images over which a process crashed; one that was a suspect before is to blame.

    Raises:
        StorageError: they cannot be marked.
    """
    known = {mark.key for mark in read_marks(limit.folder) if mark.seconds is None}
    for key in keys:
        _write(limit, Mark(key, stage, len(keys) == 1 and key in known, None))


def _write(limit: Limit, mark: Mark) -> None:
    digest = hashlib.sha256(f"{mark.key}\0{mark.alone}".encode("utf-8", "surrogateescape"))
    path = storage.join(limit.folder, f"{digest.hexdigest()[:32]}.json")
    storage.write(path, json.dumps(asdict(mark)).encode(), limit.scratch)
