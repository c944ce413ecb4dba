"""`heliograph repair`: bring all that an output holds in line with its ledgers.

The same command can then make what is missing. `mending` does it for one job's results.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pipeline import generations, submission
from pipeline.job import ExitCode
from pipeline.ledger import LEDGER, LedgerError
from pipeline.lock import CLAIMS, Lock
from pipeline.mending import Mended, Mending, plain
from pipeline.packages import bag
from pipeline.verify import THREADS
from transforms import storage

log = logging.getLogger("heliograph")


def repair(
    output: str, *, dry: bool = False, delete: bool = False, threads: int = THREADS
) -> dict[str, Any]:
    """Repair all that an output holds: its own results, and those of its generations.

    Args:
        output: the output folder of a job, the bag that it is, or one of its generations.
        dry: whether to tell what would be done, and do nothing; then no lock is taken, so no job
            should be at work.
        delete: whether strays and derivatives that are not what was written are deleted, where
            they would be set aside.
        threads: files that are read at a time.

    Returns:
        For JSON: of each that was repaired, what was mended, what cannot be, how many images are
        left to do, and the command that does them.

    Raises:
        LedgerError: there is no ledger.
        LockedError: a job is at work.
        StorageError: the output cannot be read, or not be written to.
    """
    if _results(output) is None and not generations.names(output):
        raise LedgerError(f"{output} is no output of a job: it has no {LEDGER}")
    mend = partial(_repair_one, dry=dry, delete=delete, threads=threads)
    if dry:
        return _together(output, [], mend)
    with Lock(generations.root_of(output)) as lock:
        for _, folder in generations.all_of(output):
            submission.refuse_while_running(folder)
        swept = [
            Mended(f"{CLAIMS}/{name}", "a job that has died has left it", "deleted")
            for name in lock.sweep()
        ]
        return _together(output, swept, mend)


def _together(
    output: str, swept: Sequence[Mended], mend: Callable[[str], dict[str, Any]]
) -> dict[str, Any]:
    found = [
        mend(folder) for _, folder in generations.all_of(output) if _results(folder) is not None
    ]
    if swept:
        found[0]["mended"] = [*map(plain, swept), *found[0]["mended"]]
        found[0]["sound"] = False
    return {"output": output, "sound": all(one["sound"] for one in found), "results": found}


def _results(root: str) -> str | None:
    """Find the folder that a ledger is in, or was: of an output, or of the payload of a bag."""
    for folder in (root, storage.join(root, bag.PAYLOAD)):
        if storage.exists(storage.join(folder, LEDGER)):
            return folder
    return None


def _repair_one(root: str, *, dry: bool, delete: bool, threads: int) -> dict[str, Any]:
    results = _results(root)
    assert results is not None, "it has been looked for"
    return Mending(root, results, dry=dry, delete=delete).run(threads)


def tell(found: Mapping[str, Any], *, dry: bool) -> Iterator[str]:
    """Say to the log what was mended; give the commands to run next."""
    for one in found["results"]:
        for mended in one["mended"]:
            log.warning("%s: %s: %s", mended["path"], mended["reason"], mended["done"])
        for unmended in one["unmended"]:
            log.error("%s: %s: this cannot be mended", unmended["path"], unmended["reason"])
        if one["sound"]:
            log.info("%s is sound", one["output"])
            continue
        things = len(one["mended"])
        log.info("%s: %d things %s", one["output"], things, "to mend" if dry else "mended")
        if one["left"] or _to_run(one):
            images = f"{one['left']} images are left to do" if one["left"] else "packages are left"
            log.info("%s: run the same command again", images)
            if one["command"] is None:
                log.warning("the ledger does not know the command; give the same as before")
            else:
                yield one["command"]


def _to_run(one: Mapping[str, Any]) -> bool:
    return any("the next run" in mended["done"] for mended in one["mended"])


def code(found: Mapping[str, Any], *, dry: bool) -> ExitCode:
    """Say how a repair ended, for the shell."""
    if any(one["unmended"] for one in found["results"]) or (dry and not found["sound"]):
        return ExitCode.FIXITY
    left = any(one["left"] or _to_run(one) for one in found["results"])
    return ExitCode.INCOMPLETE if left else ExitCode.OK
