"""The worker processes of the local runner: who of them has died, of what, and over which image.

Each has a file named by its number, which goes when it ends by itself, and holds what it is at.
"""

import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.job import ExitCode
from pipeline.ledger import Ledger
from transforms.deadline import noted
from transforms.storage import StorageError

log = logging.getLogger("heliograph")

_LOOK_EVERY = 1.0  # seconds
# Seconds that a job has to end by itself once a worker has died and the others were ended.
_GRACE = 20.0
# Seconds in which the system tells of what a worker died.
_UNTIL_TOLD = 2.0

# What a process dies of by its own doing. One that is killed may be innocent.
_OWN_DOING = frozenset(
    -number
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
)
# What Beam says of a worker that is gone.
DIED = "Channel closed"
# Beam's threads that wait for a worker.
_WAITING = "run_worker"
_RETURNED = re.compile(r"exited with return code (-?\d+)")


@contextmanager
def watched(
    folder: Path, obituary: Callable[[BaseException], str], ledger: Ledger
) -> Iterator[None]:
    """Watch workers while the block runs.

    Once one has died, the others are ended: the runner would wait for them to do all that is
    theirs, which may be hours. If it died of its own doing, what it was at is marked in the ledger.
    This process is ended if the runner does not notice: it waits for ever for a worker that was
    killed between two of its calls.

    Args:
        folder: of the workers' files.
        obituary: what to say of an error.
        ledger: of the job.
    """
    watch = _Watch(folder, obituary, ledger)
    _watched.add(folder)
    # Beam's threads that speak with a worker would print a traceback each of its death.
    before, threading.excepthook = threading.excepthook, watch.note
    watch.start()
    try:
        yield
    except Exception as error:
        if DIED in str(error):
            watch.examine()
        raise
    finally:
        _watched.discard(folder)
        watch.stop()
        end_workers(folder)
        for thread in threading.enumerate():
            if thread.name == _WAITING:
                thread.join(_UNTIL_TOLD)
        threading.excepthook = before


_watched: set[Path] = set()


def end_all() -> None:
    """Kill the workers of this process, for which its runner would wait until their batch is done,
    or for ever.
    """
    for folder in tuple(_watched):
        end_workers(folder)


class _Watch:
    def __init__(
        self, folder: Path, obituary: Callable[[BaseException], str], ledger: Ledger
    ) -> None:
        self._folder, self._obituary, self._ledger = folder, obituary, ledger
        self._codes: list[int] = []
        self._ended = threading.Event()
        self._examined = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        died = None
        while not self._ended.wait(_LOOK_EVERY):
            if not self._gone():
                continue
            if died is None:
                died = time.monotonic()
                self.examine()
                end_workers(self._folder)
            if time.monotonic() - died > _GRACE:
                log.error("%s", self._obituary(RuntimeError(DIED)))
                shutil.rmtree(self._folder, ignore_errors=True)
                os._exit(ExitCode.CRASHED)

    def _gone(self) -> list[Path]:
        return [path for path in self._folder.glob("[0-9]*") if _is_gone(path)]

    def note(self, told: threading.ExceptHookArgs) -> None:
        """Take down what a thread has ended with."""
        name = told.thread.name if told.thread else "a thread"
        log.debug("%s ended with %s", name, told.exc_value)
        if returned := _RETURNED.search(str(told.exc_value)):
            self._codes.append(int(returned[1]))

    def examine(self) -> None:
        """Mark what a worker was at that has died of its own doing; at most once."""
        if not self._examined.acquire(blocking=False):
            return
        patience = time.monotonic() + _UNTIL_TOLD
        while not (self._codes and self._gone()) and time.monotonic() < patience:
            time.sleep(0.05)
        if _OWN_DOING.isdisjoint(self._codes):
            return
        for path in self._gone():
            if (note := noted(path)) is None:
                continue  # between two images
            stage, keys = note
            log.error("a worker crashed in %s over %s", stage, ", ".join(keys))
            try:
                self._ledger.suspect(stage, keys)
            except StorageError as error:
                log.error("%s", error)


def end_workers(folder: Path) -> None:
    """Kill what workers there are. What they were at is not committed, and is done again."""
    for path in folder.glob("[0-9]*"):
        pid = int(path.name)
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == os.getpgrp():  # not somebody else's that has its number now
                os.kill(pid, signal.SIGKILL)


def _is_gone(path: Path) -> bool:
    try:
        os.kill(int(path.name), 0)
    except ProcessLookupError:
        return path.exists()
    return False
