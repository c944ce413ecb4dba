"""Tell a person how a job ended."""

import logging
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.ledger import FAILED, QUARANTINED, RESTORED, SKIPPED
from transforms import storage
from transforms.metrics import FULL_REFERENCE

log = logging.getLogger("heliograph")

# What a metric is called and how many digits it deserves.
_LABELS = {"mse": ("MSE", 5), "psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 4)}


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
    log.info("results: %s", output)


def scores(summary: dict[str, Any]) -> Table:
    """Make a table of the mean scores before and after."""
    means = summary["metrics"]
    images = max(score["count"] for score in means.values())
    table = Table(title=f"mean of {images} images")
    states = [
        state for state in ("degraded", "restored", "gain") if any(n.endswith(state) for n in means)
    ]
    for heading in ("", *states):
        table.add_column(heading, justify="right")
    for metric in FULL_REFERENCE:
        label, digits = _LABELS[metric]
        cells = [
            _cell(means.get(f"{metric}_{state}"), digits, signed=state == "gain")
            for state in states
        ]
        table.add_row(label, *cells)
    return table


def _cell(score: dict[str, float] | None, digits: int, *, signed: bool) -> str:
    if score is None:
        return ""
    return f"{score['mean']:{'+' if signed else ''}.{digits}f}"
