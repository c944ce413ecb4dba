"""`heliograph report`: rebuild a report from the ledger, or compare several runs."""

import logging
import os
from collections.abc import Sequence

from pipeline import submission
from pipeline.generations import root_of
from pipeline.ledger import LEDGER, LedgerError
from pipeline.lock import Lock
from pipeline.packages import bag
from pipeline.report import compare, page
from pipeline.results import rebuild_tables
from pipeline.summary import summarise
from transforms import storage

log = logging.getLogger("heliograph")

COMPARISON = "comparison.html"


def report(outputs: Sequence[str], to: str | None, pictures: int) -> str:
    """Make the page of one or several outputs; give where it is.

    Of one, the summary is made anew as well, and the page goes into it if nothing else is said.

    Args:
        outputs: of jobs; bags are known.
        to: where the page goes.
        pictures: how many records of each kind are shown as pictures.

    Raises:
        LedgerError: one is no output of a job, or is a bag that this would make untrue.
        LockedError: a job is working on it.
        StorageError: it cannot be read or written.
    """
    results = [_results(output) for output in outputs]
    if len(results) > 1:
        for output, found in zip(outputs, results, strict=True):
            if not all(storage.exists(storage.join(found, name)) for name in _NEEDED):
                with Lock(root_of(output)):
                    submission.refuse_while_running(output)
                    summarise(found)
        return _put(to or COMPARISON, compare.build(results, pictures))
    with Lock(root_of(outputs[0])):
        submission.refuse_while_running(outputs[0])
        return _rebuild(outputs[0], results[0], to, pictures)


_NEEDED = ("summary.json", "metrics.parquet")


def _results(output: str) -> str:
    found = bag.results_in(output)
    if found is None:
        raise LedgerError(f"{output} is no output of a job: it has no {LEDGER}/job.json")
    return found


def _rebuild(output: str, results: str, to: str | None, pictures: int) -> str:
    path = storage.join(results, page.REPORT)
    if not bag.is_declared(output):
        rebuild_tables(results)
        if to is None:
            page.write(results, pictures)
            return path
    made = page.build(results, pictures)
    if to is not None:
        return _put(to, made)
    if not storage.exists(path) or storage.read(path) != made:
        raise LedgerError(
            f"{output} is a bag, and another report would make its manifests untrue: say --to FILE"
        )
    return path


def _put(path: str, made: bytes) -> str:
    folder = os.path.dirname(path) if storage.is_local(path) else path.rpartition("/")[0]
    storage.write(path, made, scratch=folder or ".")
    return path
