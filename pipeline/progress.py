"""Show how far a job is, read from the ledger's commit records on whatever runner there is."""

import logging
import sys
import threading
import time
from types import TracebackType

from pipeline.ledger import FAILED, Ledger

log = logging.getLogger("heliograph")

_LOOK_EVERY = 0.5  # seconds
_SAY_EVERY = 5.0
_SHARE = 0.05  # of the time, at most, that is spent on listing a large ledger


class Progress:
    """A progress bar on a terminal, a line every few seconds elsewhere, while the block runs.

    Args:
        ledger: of the job's output.
        planned: how many records it has.
    """

    def __init__(self, ledger: Ledger, planned: int) -> None:
        self._ledger = ledger
        self._planned = planned
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._seen: set[str] = set()
        self._done = self._failed = self._before = 0
        self._next = 0.0  # when to look again

    def __enter__(self) -> "Progress":
        self._look()
        self._before = self._done  # by earlier runs, which say nothing of how fast this one is
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        (self._draw if sys.stderr.isatty() else self._tell)()

    def _look(self) -> None:
        started = time.monotonic()
        try:
            for path in self._ledger.committed() - self._seen:
                counts, further = self._ledger.counts(path)
                self._seen.add(path)
                self._done += sum(counts.values()) - further
                self._failed += counts.get(FAILED, 0)
        except (OSError, ValueError) as error:
            log.debug("the ledger could not be read for progress, next time it may: %s", error)
        # All commit records are listed each time, however many have come since.
        now = time.monotonic()
        self._next = now + (now - started) / _SHARE

    def _tell(self) -> None:
        started = said = time.monotonic()
        while not self._stop.wait(_LOOK_EVERY):
            now = time.monotonic()
            if now - said >= _SAY_EVERY and now >= self._next:
                said = now
                self._look()
                rate = (self._done - self._before) / (now - started)
                log.info(
                    "%d of %d images, %d failed, %.1f images/s",
                    self._done,
                    self._planned,
                    self._failed,
                    rate,
                )

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images, {task.fields[failed]} failed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=self._planned, failed=0)
            while True:
                stopped = self._stop.wait(_LOOK_EVERY)
                if stopped or time.monotonic() >= self._next:
                    self._look()
                bar.update(task, completed=self._done, failed=self._failed)
                if stopped:
                    return
