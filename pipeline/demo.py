"""The demonstration: the main job on photographs that ship inside scikit-image's wheel."""

import argparse
import importlib.util
import logging
from pathlib import Path

from pipeline.contact_sheet import Row, contact_sheet
from pipeline.ledger import QUARANTINED, Ledger
from pipeline.options import Job
from pipeline.report.page import REPORT
from transforms import codec, storage
from transforms.metrics import DEFAULT
from transforms.write import IMAGES, QUARANTINE

log = logging.getLogger("heliograph")

RECIPE = "gaussian_noise:sigma=25"
# Photographs of scikit-image's package, public domain or CC0 by the docstrings of skimage.data.
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
SHEET = "contact_sheet.jpg"


def prepare(args: argparse.Namespace) -> None:
    """Fill in what a demo does not ask: archive, recipe and encoding."""
    found = importlib.util.find_spec("skimage")
    assert found is not None and found.origin is not None, "scikit-image is a dependency"
    folder = Path(found.origin).parent / "data"
    args.archive = [str(folder / name) for name in PHOTOGRAPHS]
    args.recipe = RECIPE
    args.image_format = "png"
    args.metrics = DEFAULT
    args.quality = codec.DEFAULT_QUALITY


def finish(job: Job) -> None:
    """Write the contact sheet: original, damaged and restored side by side."""
    ledger, rows = Ledger(job.output), []
    for row in ledger.rows():
        if row["derivative"] is None:
            continue
        original = codec.decode(storage.read(row["source"])).pixels
        assert job.recipe is not None
        damaged = job.recipe.apply(original, seed=job.seed, key=row["key"]).pixels
        folder = QUARANTINE if row["status"] == QUARANTINED else IMAGES
        derivative = storage.join(job.output, folder, row["derivative"])
        restored = codec.decode(storage.read(derivative)).pixels
        scores = row["metrics"]
        rows.append(
            Row(
                row["key"],
                (
                    (original, "original"),
                    (damaged, f"damaged: {scores['psnr_rgb_degraded']:.2f} dB"),
                    (restored, f"restored: {scores['psnr_rgb_restored']:.2f} dB"),
                ),
            )
        )
    rows.sort(key=lambda row: row.name)
    sheet = contact_sheet(rows, title=f"{job.model} on {job.recipe}")
    ledger.write_result(SHEET, sheet)
    ledger.finish()
    log.info("look at it: %s", storage.join(job.output, REPORT))
