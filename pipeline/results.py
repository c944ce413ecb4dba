"""What is made from an output's ledger, made anew at once; a job's graph makes it in steps."""

from collections.abc import Mapping
from typing import Any

from pipeline.ledger import Ledger
from pipeline.options import PICTURES
from pipeline.report import page
from pipeline.scoreboard import board
from pipeline.summary import TABLES, summarise

# All that there may be of them.
RESULTS = (*TABLES, *board.FILES, page.REPORT)


def names(job: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the files that are made from the ledger of a job, as its `job.json` is."""
    return (*TABLES, *(board.FILES if _is_evaluation(job) else ()), page.REPORT)


def rebuild(output: str) -> None:
    """Make them all anew.

    Args:
        output: the folder of the job's results.

    Raises:
        LedgerError: a commit record is damaged.
        StorageError: a file cannot be read or written.
    """
    rebuild_tables(output)
    page.write(output, PICTURES)


def rebuild_tables(output: str) -> None:
    """Make all but the report anew: see `rebuild`."""
    summarise(output)
    if _is_evaluation(Ledger(output).job() or {}):
        board.make(output)


def _is_evaluation(job: Mapping[str, Any]) -> bool:
    facts = job.get("job", {})
    return facts.get("command") == "evaluate" and bool(facts.get("model"))
