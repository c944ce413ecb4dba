"""Time how a summary is made of a ledger of many rows, and measure its memory.

    python benchmarks/summary.py [--rows N ...] [--batch N] [--folder PATH] [--restore] [--beam]

A ledger is written of commit records as `evaluate` leaves them, 32 rows each of 1.8 kB (as
`restore` does, of 1.3 kB, with --restore): paths, digests, scores of the default set, values of
guards; 1 row in 1,000 has failed. A
process of its own makes metrics.parquet, failures.jsonl and summary.json of it, as it is done in
one process by `summarise`, or with --beam by the graph's `Summarise` on Beam's FnApiRunner with two
worker processes. Peak memory is the kernel's, of the largest process.

The exit code says whether 100,000 rows take less than 10 s and 1 GB, and 10,000,000 less than 15
minutes and 2 GB.
"""

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOALS = {100_000: (10.0, 1e9), 10_000_000: (900.0, 2e9)}
RECIPES = [
    f"{name}:{said}" for name, said in (("gaussian_noise", "sigma=25"), ("jpeg", "quality=15"))
]
MARK = "@digit"


def row_of(number: int, rng: random.Random, *, restore: bool) -> dict:
    """Make a row as `evaluate` leaves one, or `restore`."""
    key = f"box {number % 40:03}/folder {number % 1000:04}/scan {number:08}.tif"
    digests = [f"{rng.getrandbits(256):064x}" for _ in range(2)]
    failed = number % 1000 == 999
    compared = (("mse", 0.01), ("psnr_rgb", 40.0), ("ssim", 1.0))
    alone = (("colourfulness", 60.0), ("saturation", 1.0), ("contrast", 0.3))
    scores = {
        f"{metric}_{state}": scale * rng.random()
        for metric, scale in (() if restore else compared)
        for state in ("degraded", "restored", "gain")
    }
    scores |= {
        f"{metric}_{state}": scale * rng.random()
        for metric, scale in alone
        for state in ("original", *(() if restore else ("degraded",)), "restored")
    }
    row = {
        "key": key,
        "page": 1,
        "status": "failed" if failed else "restored",
        "source": f"/archives/photographs/{key}",
        "source_member": None,
        "source_bytes": rng.randrange(10**5, 10**8),
        "source_modified": 1.7e9 + rng.random(),
        "source_sha256": digests[0],
        "source_width": 6000,
        "source_height": 4000,
        "format": "TIFF",
        "mode": "RGB",
        "bits": 8,
        "orientation": 1,
        "icc_sha256": None,
        "dpi_x": 300.0,
        "dpi_y": 300.0,
        "conversions": [],
        "recipe": None if restore else RECIPES[number % len(RECIPES)],
        "tiles_down": 1,
        "tiles_across": 1,
        "mask": None,
        "mask_sha256": None,
        "mask_bytes": None,
        "mask_share": None,
        "derivative": None if failed else key,
        "derivative_bytes": None if failed else rng.randrange(10**5, 10**8),
        "derivative_sha256": None if failed else digests[1],
        "derivative_format": "TIFF",
        "derivative_compression": "deflate",
        "width": 6000,
        "height": 4000,
        "shard": None,
        "member": None,
        "signed": False,
        "warnings": [],
        "metrics": {} if failed else scores,
        "guards": {} if failed else {"identity": rng.random(), "seams": rng.random()},
    }
    if failed:
        row["failure"] = {"stage": "read", "error": "CodecError", "message": "it is cut short"}
    return row


def write_ledger(output: Path, rows: int, batch: int, *, restore: bool = False) -> int:
    """Write the ledger of a job of so many rows, and give its bytes."""
    from pipeline.ledger import Ledger

    rng = random.Random(0)
    ledger = Ledger(str(output))
    ledger.begin({"planned": rows}, [], anew=True)
    folder = output / "ledger" / "batches"
    folder.mkdir(parents=True, exist_ok=True)
    # Rows repeat but for what names them and digits of digests and scores, so that writing them
    # takes no longer than reading.
    templates = [
        re.sub(
            r"(?<=[0-9a-f]{6})[0-9]{6}(?=[0-9a-f]{2})",
            MARK,
            json.dumps(row_of(number, rng, restore=restore)),
        )
        for number in range(1000)
    ]
    written = 0
    for start in range(0, rows, batch):
        stop = min(start + batch, rows)
        lines = [
            templates[number % 1000]
            .replace(f"scan {number % 1000:08}", f"scan {number:08}")
            .replace(MARK, f"{number * 654435761 % 999983:06}")
            for number in range(start, stop)
        ]
        head = {"format": 1, "batch": f"{start:016x}", "counts": {"restored": stop - start}}
        head |= {"further": 0, "made": {}}
        text = f'{json.dumps(head)[:-1]}, "rows": [\n' + ",\n".join(lines) + '\n], "files": {}}\n'
        (folder / f"{start:016x}.json").write_text(text)
        written += len(text)
    return written


def with_beam(output: str) -> None:
    """Summarise as the graph does, with two worker processes."""
    import apache_beam as beam

    from pipeline.summary import Summarise
    from tests.jobs import IN_PROCESS

    options = beam.options.pipeline_options.PipelineOptions(
        [
            "--runner",
            IN_PROCESS[1],
            "--direct_num_workers=2",
            "--direct_running_mode=multi_processing",
        ]
    )
    with beam.Pipeline(options=options) as pipeline:
        _ = pipeline | beam.Create([1]) | Summarise(output)


def timed(output: Path, *, use_beam: bool) -> tuple[float, float, float]:
    """Summarise in a process of its own; give seconds of the clock and of all processes' CPU, and
    bytes of the peak of the largest one's memory.
    """
    call = "with_beam" if use_beam else "one_process"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path.cwd())]),
    }
    told = subprocess.run(
        [sys.executable, "-c", f"import summary; summary.report(summary.{call}, {str(output)!r})"],
        check=True,
        stdout=subprocess.PIPE,
        env=environment,
    ).stdout
    return tuple(json.loads(told.splitlines()[-1]))


def one_process(output: str) -> None:
    """Summarise in this process."""
    from pipeline.summary import summarise

    summarise(output)


def report(call, output: str) -> None:
    """Run one of the two, and print what it took."""
    import pipeline.summary  # noqa: F401  what it imports is not part of it

    started, before = time.perf_counter(), time.process_time()
    call(output)
    seconds = time.perf_counter() - started
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(one) for one in who]
    cpu = sum(one.ru_utime + one.ru_stime for one in used) - before
    print(json.dumps([seconds, cpu, max(one.ru_maxrss for one in used) * 1024]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--batch", type=int, default=32, help="rows of a commit record")
    parser.add_argument("--folder", help="where the ledgers are written; a temporary one")
    parser.add_argument("--restore", action="store_true", help="rows of restore, not evaluate")
    parser.add_argument("--beam", action="store_true", help="with the graph's transform")
    args = parser.parse_args()
    missed = False
    for rows in args.rows:
        with tempfile.TemporaryDirectory(prefix="heliograph-", dir=args.folder) as folder:
            size = write_ledger(Path(folder), rows, args.batch, restore=args.restore)
            seconds, cpu, peak = timed(Path(folder), use_beam=args.beam)
            results = {
                name: (Path(folder) / name).stat().st_size / 1e6
                for name in ("metrics.parquet", "failures.jsonl", "summary.json")
            }
        told = ", ".join(f"{name} {made:.1f} MB" for name, made in results.items())
        print(
            f"{rows:,} rows of {size / rows:.0f} bytes: {seconds:.1f} s, {cpu:.1f} s of CPU, "
            f"{1e6 * cpu / rows:.0f} us of it a row, peak {peak / 1e6:.0f} MB; {told}",
            flush=True,
        )
        time_goal, memory_goal = GOALS.get(rows, (float("inf"), float("inf")))
        missed |= seconds > time_goal or peak > memory_goal
    sys.exit(missed)


if __name__ == "__main__":
    main()
