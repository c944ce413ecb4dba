"""Time how a scoreboard is made of many rows, and how one is held to another; measure the memory.

    python benchmarks/scoreboard.py [--rows N ...] [--models M] [--recipes R]

A `metrics.parquet` is written as an evaluation of M models on R recipes leaves it, with three
scores that have a gain; 1 row in 1,000 has failed. Peak memory is the kernel's, of a process that
does just that. The exit code says whether 1,000,000 rows take less than 60 s and 1 GB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GOALS = {1_000_000: (60.0, 1e9)}
METRICS = (("mse", 0.01), ("psnr_rgb", 30.0), ("ssim", 0.8))

_TIMED = """
import json, resource, sys, time
from pipeline.scoreboard import board, gate
out = sys.argv[1]
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
start = time.perf_counter()
board.make(out)
made, memory = time.perf_counter() - start, peak()
earlier = gate.read_scoreboard(out)
start = time.perf_counter()
assert gate.hold(earlier, out)["method"] == gate.PAIRED
print(json.dumps([made, memory, time.perf_counter() - start, peak(), before]))
"""


def write_output(folder: Path, images: int, models: int, recipes: int) -> None:
    """Write what a scoreboard is made of."""
    cells = [
        {"name": f"m{m}/r{r}", "model": f"m{m}", "recipe": f"snow:{r}", "text": f"snow:{r}"}
        for r in range(recipes)
        for m in range(models)
    ]
    named = [{"name": f"m{m}", "model_sha256": "0" * 64} for m in range(models)]
    job = {"format": 1, "digest": "0", "job": {"seed": 0, "models": named, "cells": cells}}
    (folder / "ledger").mkdir()
    (folder / "ledger" / "job.json").write_text(json.dumps(job))
    rng = np.random.default_rng(0)
    writer = None
    step = max(1, (1 << 16) // len(cells))
    for start in range(0, images, step):
        numbers = np.arange(start, min(start + step, images))
        rows = len(numbers) * len(cells)
        failed = rng.random(rows) < 0.001
        table = {
            "key": [f"box/scan {n:08}.tif" for n in numbers for _ in cells],
            "page": np.ones(rows, np.int64),
            "status": np.where(failed, "failed", "restored"),
            "source_sha256": [f"{n:064x}" for n in numbers for _ in cells],
            "cell": [cell["name"] for cell in cells] * len(numbers),
        }
        for name, scale in METRICS:
            before, gain = scale * rng.random(rows), scale * rng.normal(0.1, 0.2, rows)
            for state, values in (
                ("degraded", before),
                ("restored", before + gain),
                ("gain", gain),
            ):
                table[f"{name}_{state}"] = pa.array(values, mask=failed)
        writer = writer or pq.ParquetWriter(folder / "metrics.parquet", pa.table(table).schema)
        writer.write_table(pa.table(table))
    assert writer is not None
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--recipes", type=int, default=5)
    args = parser.parse_args()
    missed = False
    for rows in args.rows:
        with tempfile.TemporaryDirectory(prefix="heliograph-") as folder:
            images = rows // (args.models * args.recipes)
            write_output(Path(folder), images, args.models, args.recipes)
            done = subprocess.run(
                [sys.executable, "-c", _TIMED, folder], check=True, capture_output=True, text=True
            )
        made, memory, held, most, before = json.loads(done.stdout)
        print(
            f"{rows:,} rows of {images:,} images: made in {made:.1f} s, peak {memory / 1e6:.0f} MB "
            f"({before / 1e6:.0f} MB before it began); held to another in {held:.1f} s, peak "
            f"{most / 1e6:.0f} MB",
            flush=True,
        )
        time_goal, memory_goal = GOALS.get(rows, (float("inf"), float("inf")))
        missed |= made + held > time_goal or most > memory_goal
    sys.exit(missed)


if __name__ == "__main__":
    main()
