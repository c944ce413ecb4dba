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
import mmap
import os
import threading
import time
from collections.abc import Mapping, Sequence
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


class Working:
    """Hold work on images to a limit while the block runs.

    It costs a few microseconds: small images take no more than some hundred in all.

    Args:
        limit: to hold it to.
        stage: what is done.
        keys: of the images, which are worked on together.
        spent: seconds on any of them so far, at the most.
    """

    __slots__ = ("before", "keys", "limit", "since", "spent", "stage")

    def __init__(self, limit: Limit, stage: str, keys: Sequence[str], spent: float) -> None:
        self.limit, self.stage, self.keys, self.spent = limit, stage, keys, spent
        self.since = time.monotonic()
        self.before: Working | None = None

    def __enter__(self) -> "Working":
        thread = threading.get_ident()
        self.before = _works.get(thread)
        _works[thread] = self
        _watchdog.start()
        _note(self)
        return self

    def __exit__(self, *_: object) -> None:
        _note(self.before)
        _works[threading.get_ident()] = self.before

    @property
    def seconds(self) -> float:
        """What the images have taken so far, with what was spent before."""
        return self.spent + time.monotonic() - self.since


# What each thread is at. A dictionary is changed and copied in one go each.
_works: dict[int, Working | None] = {}


def check() -> None:
    """Break off the work of this thread if it has taken too long.

    Raises:
        RecordTimeoutError: it has.
    """
    work = _works.get(threading.get_ident())
    if work and work.seconds > work.limit.seconds:
        raise too_long(work.limit.seconds)


# Mapped: to write to it is no call of the system, and what was written outlives the process. It is
# the length of what follows in decimal digits, the stage, and the keys, with NUL between them.
_notes: mmap.mmap | None = None
_LENGTH = 8
_ROOM = 1 << 16


def note_in(path: Path) -> None:
    """Keep in a file what this process is at, for whoever finds it dead."""
    global _notes
    with path.open("w+b") as file:
        file.truncate(_ROOM)
        _notes = mmap.mmap(file.fileno(), _ROOM)
    _note(None)


def noted(path: Path) -> tuple[str, list[str]] | None:
    """Read the stage and the images that a process was at; None where it was at none."""
    data = path.read_bytes()
    length = int(data[:_LENGTH] or b"0")
    stage, *keys = data[_LENGTH : _LENGTH + length].decode("utf-8", "surrogateescape").split("\0")
    return (stage, keys) if stage else None


def _note(work: Working | None) -> None:
    if _notes is None:
        return
    _notes[:_LENGTH] = b"0" * _LENGTH
    if work is not None:
        said = "\0".join((work.stage, *work.keys)).encode("utf-8", "surrogateescape")
        if len(said) <= _ROOM - _LENGTH:
            _notes[_LENGTH : _LENGTH + len(said)] = said
            _notes[:_LENGTH] = b"%08d" % len(said)


class _Watchdog:
    """Ends the process if a thread stays at something for too long."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY)
            late = [work for work in _works.copy().values() if work and _is_late(work)]
            if late:
                for work in late:
                    _mark(work)
                os._exit(1)


_watchdog = _Watchdog()


def _is_late(work: Working) -> bool:
    seconds = work.limit.seconds
    return work.seconds > seconds + max(_MORE * seconds, _AT_LEAST)


def _mark(work: Working) -> None:
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
