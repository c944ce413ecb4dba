"""Runs that are left to a cluster, without a driver that waits for them: `--no_wait`.

`ledger/remote.json` tells of one. While its cluster says that it goes on, nobody begins another run
on its output: the lock ended with who submitted it. Once it has ended, the same command collects
it: what it was asked for is then not done again.
"""

import logging
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline import packages, runner
from pipeline.ledger import LEDGER, STATUSES, Ledger, batch_of
from pipeline.lock import LockedError
from pipeline.options import Job
from pipeline.packages import bag
from transforms import storage
from transforms.record import commits_of

log = logging.getLogger("heliograph")


class StillRunningError(LockedError):
    """An output that a run is working on which was left to a cluster."""


def submit(ledger: Ledger, job: Job, options: PipelineOptions, references: Sequence[str]) -> str:
    """Submit a run that the ledger has begun, and keep that nobody waits for it; give its id.

    Raises:
        JobCrashedError: the cluster did not take it.
    """
    identity = runner.submit(job, options, references)
    # Until now it was a run like any other, which the next one ends if its driver was killed.
    left = {**(ledger.remote() or {}), "id": identity, "asked": _asked(job)}
    ledger.write_remote(left)
    log.info("submitted as %s; the same command again collects it", _where(left))
    return identity


def refuse_while_running(root: str) -> None:
    """Make sure that no run which was left to a cluster works on an output.

    Args:
        root: the output, a generation of one, or a bag that holds one.

    Raises:
        StillRunningError: one does, or its cluster cannot be asked.
    """
    ledger = Ledger(bag.results_in(root) or root)
    left = _left(ledger)
    if left is None:
        return
    try:
        state = runner.REMOTE[left["runner"]].running(left)
    except OSError as error:
        raise StillRunningError(
            f"{root} was left to {_where(left)}, and nobody answers there "
            f"({getattr(error, 'reason', None) or error}): try again later; or, if that is gone "
            f"for good, delete {storage.join(ledger.output, LEDGER, 'remote.json')} and run the "
            "same command again"
        ) from error
    if state is not None:
        raise StillRunningError(
            f"{root} is being worked on by {_where(left)}, which is {state}: try again later, or "
            "end it there and run the same command again"
        )


def is_complete(ledger: Ledger, job: Job, summary: dict[str, Any]) -> bool:
    """Tell whether a job was left to a cluster, which has done all that it was asked for: then that
    is what there is to tell of, and nothing is begun.

    Args:
        ledger: whose run has ended.
        job: what is asked for now.
        summary: that is there.
    """
    left = _left(ledger)
    if left is None or left["asked"] != _asked(job) or ledger.is_open:
        return False
    plan = ledger.plan()
    if plan is None or not packages.are_made(job.packaging):
        return False
    committed = {batch_of(path) for path in ledger.committed()}
    if not committed.issuperset(identity for spec in plan for identity in commits_of(spec)):
        return False
    if summary["planned"] != sum(summary[status] for status in STATUSES):
        return False
    log.info("%s has come to its end; what is new since is for the next run", _where(left))
    return True


def say_ending(ledger: Ledger) -> None:
    """Say how a run has ended that was left to a cluster, and has not done all there is to do."""
    left = _left(ledger)
    if left is not None:
        try:
            how = runner.REMOTE[left["runner"]].ending(left)
        except (OSError, LookupError) as error:
            how = f"nobody knows how ({error})"
        log.warning("%s has ended: %s; going on from what it has committed", _where(left), how)


def _left(ledger: Ledger) -> dict[str, Any] | None:
    """Read what is known of a run that nobody waits for; None where there is none."""
    left = ledger.remote()
    return left if left is not None and "id" in left else None


def _asked(job: Job) -> dict[str, Any]:
    """Give what a run was asked for beside what its job is, as JSON has it."""
    return {
        "archives": list(job.archives),
        "retry": sorted(set(job.retry)),
        "only": sorted(set(job.only)),
        "limit": job.limit,
        "verify_masters": job.verify_masters,
    }


def _where(left: dict[str, Any]) -> str:
    return f"the run {left['id']} at {left['master']}"
