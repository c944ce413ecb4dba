"""Tell a person how a job ended."""

import logging
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.ledger import FAILED, QUARANTINED, RESTORED, SKIPPED
from pipeline.report.scores import TABLE
from transforms import storage
from transforms.measure import GAIN, REGIONS, STATES, column_name

log = logging.getLogger("heliograph")


def tell(summary: dict[str, Any], output: str) -> None:
    """Print the scores to standard output, and the counts to the log."""
    if summary["metrics"]:
        Console(file=sys.stdout).print(scores(summary))
    log.info(
        "%d planned = %d restored + %d skipped + %d quarantined + %d failed",
        summary["planned"],
        *(summary[status] for status in (RESTORED, SKIPPED, QUARANTINED, FAILED)),
    )
    if summary["warnings"]:
        log.warning("%d images have warnings: see metrics.parquet", summary["warnings"])
    if (masters := summary.get("masters")) is not None:
        log.info("%d masters are what they were", masters["unchanged"])
        for changed in masters["changed"]:
            log.error("the master %s has changed: %s", changed["key"], changed["reason"])
    if summary[FAILED] or summary[QUARANTINED]:
        log.error("what failed, and why: %s", storage.join(output, "failures.jsonl"))
    log.info("results: %s; look at report.html in it", output)


def scores(summary: dict[str, Any]) -> Table:
    """Make a table of the mean scores before and after."""
    means = summary["metrics"]
    images = max(score["count"] for score in means.values())
    table = Table(title=f"mean of {images} images")
    columns = [state for state in (*STATES, GAIN) if any(f"_{state}" in name for name in means)]
    for heading in ("", *columns):
        table.add_column(heading, justify="right")
    for name, metric in TABLE.items():
        for region in ("", *REGIONS):
            found = [means.get(column_name(name, state, region)) for state in columns]
            if any(found):
                title = f"{metric.title} {region} the mask" if region else metric.title
                cells = [
                    _cell(score, metric.digits, signed=state == GAIN)
                    for state, score in zip(columns, found, strict=True)
                ]
                table.add_row(title, *cells)
    return table


def _cell(score: dict[str, float] | None, digits: int, *, signed: bool) -> str:
    if score is None:
        return ""
    return f"{score['mean']:{'+' if signed else ''}.{digits}f}"
