"""Time every degradation on one core, beside ImageNet-C's own implementation where it has one.

    python benchmarks/degradations.py [NAME ...] [--repeats N] [--json FILE]

Each is given the same photograph in colour, of one megapixel, at severity 5 (or with its defaults,
where it has no severities). Times are CPU seconds per megapixel, the median of the repeats, ours
and theirs in turn; what takes them more than a few seconds is run once. Theirs is
`imagecorruptions` 1.1.2, mended to run today as tests/imagenet_c.py says; it draws from NumPy's
new generator, which is faster than the one it was written for. The last line says whether the
slowest of ours and the median speed-up reach their goals, and so does the exit code.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

SEVERITY = 5
SEED = 0
ONCE = 3.0  # CPU seconds, beyond which theirs is not run again
MOST_SECONDS = 1.0  # per megapixel, of the slowest of ours
LEAST_SPEED_UP = 2.0  # the median of theirs to ours


@dataclass(frozen=True)
class Row:
    """What one type took, in CPU seconds per megapixel; `theirs` and `ratio` where they have it."""

    name: str
    family: str
    ours: float
    theirs: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as fast ours is."""
        return None if self.theirs is None else self.theirs / self.ours


def one_core() -> None:
    """Keep this process, and the libraries that it is yet to load, to one core."""
    for library in ("OPENCV_FOR_THREADS_NUM", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[library] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import cv2

    cv2.setNumThreads(1)


def photograph():
    """Lay a photograph that ships with scikit-image in tiles, uint8 [800, 1250, 3]."""
    import numpy as np
    from skimage import data

    return np.ascontiguousarray(np.tile(data.coffee(), (2, 3, 1))[:800, :1250])


def our_call(name: str, pixels) -> Callable[[], object]:
    """Give a call of an entry of our table."""
    import numpy as np

    from transforms.degradations import DEGRADATIONS

    known = DEGRADATIONS[name]
    severity = SEVERITY if known.has_severities else None
    return lambda: known(pixels, np.random.default_rng(SEED), severity=severity)


def their_call(name: str, pixels) -> Callable[[], object] | None:
    """Give a call of the reference as its own `corrupt` would, or None if it has no such type."""
    import numpy as np
    from PIL import Image

    from tests.imagenet_c import NAMES, mended
    from transforms.degradations import ALIASES

    known = [theirs for theirs in NAMES if ALIASES.get(theirs, theirs) == name]
    if not known:
        return None
    image = Image.fromarray(pixels)

    def call():
        function = getattr(mended(np.random.default_rng(SEED)), known[0])
        return np.uint8(function(image, SEVERITY))

    return call


def measure(name: str, family: str, pixels, repeats: int) -> Row:
    """Time ours and theirs in turn."""
    calls = {"ours": our_call, "theirs": their_call}
    # What is loaded or filled in once is so by a small image.
    small = pixels[:64, :64].copy()
    seconds: dict[str, list[float]] = {}
    ready = {}
    for whose, prepare in calls.items():
        if warm_up := prepare(name, small):
            warm_up()
            ready[whose] = prepare(name, pixels)
            seconds[whose] = []
    for _ in range(repeats):
        for whose, call in ready.items():
            taken = seconds[whose]
            if not taken or whose == "ours" or taken[0] <= ONCE:
                taken.append(timed(call))
    megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
    return Row(
        name,
        family,
        **{whose: statistics.median(taken) / megapixels for whose, taken in seconds.items()},
    )


def timed(call: Callable[[], object]) -> float:
    """Give the CPU seconds of a call, which other processes do not stretch as they do its time."""
    started = time.process_time()
    call()
    return time.process_time() - started


def show(row: Row) -> None:
    """Print a line of the table."""
    beside = "" if row.theirs is None else f"{row.theirs:15.3f}{row.ratio:10.1f}"
    print(f"{row.name:24}{row.family:14}{row.ours:8.3f}{beside}", flush=True)


def summarise(rows: list[Row]) -> dict:
    """Hold the table against the goals."""
    slowest = max(rows, key=lambda row: row.ours)
    ratios = [row.ratio for row in rows if row.ratio is not None]
    median = statistics.median(ratios) if ratios else None
    return {
        "slowest": slowest.name,
        "slowest_seconds": slowest.ours,
        "most_seconds": MOST_SECONDS,
        "compared": len(ratios),
        "median_ratio": median,
        "least_median_ratio": LEAST_SPEED_UP,
        "reached": slowest.ours <= MOST_SECONDS and (median is None or median >= LEAST_SPEED_UP),
    }


def verdict(summary: dict) -> str:
    """Say it in a line."""
    line = (
        f"slowest: {summary['slowest']}, {summary['slowest_seconds']:.3f} s/MP "
        f"(goal: at most {MOST_SECONDS:g}); "
    )
    if summary["compared"]:
        line += (
            f"median of {summary['compared']} speed-ups: {summary['median_ratio']:.1f} "
            f"(goal: at least {LEAST_SPEED_UP:g}); "
        )
    return line + ("reached" if summary["reached"] else "NOT REACHED")


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all of the table")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error("--repeats must be 1 or more")
    one_core()
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for the reference, among the tests

    from transforms.degradations import ALIASES, DEGRADATIONS

    names = [ALIASES.get(name, name) for name in args.names or DEGRADATIONS]
    if unknown := [name for name in names if name not in DEGRADATIONS]:
        parser.error(f"no such degradation: {', '.join(unknown)}; known: {', '.join(DEGRADATIONS)}")
    pixels = photograph()
    print(f"CPU seconds per megapixel on one core, severity {SEVERITY}, median of {args.repeats}")
    print(f"{'':24}{'':14}{'ours':>8}{'ImageNet-C':>15}{'speed-up':>10}")
    rows = []
    for name in names:
        rows.append(measure(name, DEGRADATIONS[name].family, pixels, args.repeats))
        show(rows[-1])
    summary = summarise(rows)
    print(verdict(summary))
    if args.json:
        table = [asdict(row) | {"ratio": row.ratio} for row in rows]
        args.json.write_text(json.dumps({"types": table, **summary}, indent=2) + "\n")
    return 0 if summary["reached"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
