"""Measure the memory of a job's driver and of each of its workers.

    python benchmarks/memory.py -- restore IN OUT --workers 1   any heliograph command
    python benchmarks/memory.py --growth PHOTOS                 50 photographs against 500
    python benchmarks/memory.py --large 100                     one JPEG of that many megapixels
    python benchmarks/memory.py --large 300 --deep --model colorize    a 48-bit TIFF of 1.8 GB

Peaks are in MB of a million bytes. RSS is the kernel's own high-water mark, which no sampling
misses, and counts the pages of mapped files (transforms/scratch.py) that happen to be in memory and
can be written out. Private memory is what no file stands behind (RssAnon and swap): the largest of
a sample every 0.1 s of a process, and of all processes together.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from throughput import RECIPE, find_photos, link

if TYPE_CHECKING:
    import numpy as np

INTERVAL = 0.1
WORKER = "pipeline.worker"
FEW, MANY = 50, 500


@dataclass
class Peak:
    """The most memory that one process has held, in bytes, and its CPU seconds so far."""

    resident: int = 0
    private: int = 0
    cpu: float = 0.0


@dataclass
class Usage:
    """What a command took."""

    seconds: float = 0.0
    code: int = 0
    together: int = 0  # the most private memory of driver and workers at one time, in bytes
    driver: Peak = field(default_factory=Peak)
    workers: dict[int, Peak] = field(default_factory=dict)  # by process id

    @property
    def worker_peak(self) -> int:
        """The peak RSS of the largest worker, in bytes."""
        return max((peak.resident for peak in self.workers.values()), default=0)


def measure(arguments: list[str]) -> Usage:
    """Run a heliograph command, sampling until it ends."""
    usage = Usage()
    started = time.perf_counter()
    driver = subprocess.Popen([sys.executable, "-m", "heliograph", *arguments])
    while driver.poll() is None:
        private = sample(driver.pid, usage.driver)
        for pid in workers_of(driver.pid):
            private += sample(pid, usage.workers.setdefault(pid, Peak()))
        usage.together = max(usage.together, private)
        time.sleep(INTERVAL)
    usage.seconds = time.perf_counter() - started
    usage.code = driver.returncode
    return usage


def sample(pid: int, peak: Peak) -> int:
    """Raise a process's peak to what it holds now, and give its private memory."""
    try:
        status = fields(pid, "status")
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0  # it has just ended
    peak.resident = max(peak.resident, status.get("VmHWM", 0))
    private = status.get("RssAnon", 0) + status.get("VmSwap", 0)
    peak.private = max(peak.private, private)
    user, system = map(int, ticks[11:13])  # the 14th and 15th of all, by proc(5)
    peak.cpu = (user + system) / os.sysconf("SC_CLK_TCK")
    return private


def fields(pid: int, name: str) -> dict[str, int]:
    """Read the `Name: number kB` lines of a file in /proc, in bytes."""
    lines = (line.split() for line in Path(f"/proc/{pid}/{name}").read_text().splitlines())
    return {
        words[0].rstrip(":"): int(words[1]) * 1024
        for words in lines
        if len(words) == 3 and words[2] == "kB"
    }


def workers_of(driver: int) -> Iterator[int]:
    """Find the driver's worker processes."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if WORKER not in (process / "cmdline").read_text(errors="replace"):
                continue
            status = (process / "status").read_text()
        except OSError:
            continue  # it has just ended
        if f"\nPPid:\t{driver}\n" in status:
            yield int(process.name)


def show(usage: Usage) -> None:
    """Print the peaks."""
    named = [("driver", usage.driver)]
    named += [(f"worker {n}", usage.workers[pid]) for n, pid in enumerate(sorted(usage.workers), 1)]
    print(f"{'':10}{'peak RSS':>12}{'peak private':>15}")
    for name, peak in named:
        print(f"{name:10}{peak.resident / 1e6:9.0f} MB{peak.private / 1e6:12.0f} MB")
    print(f"{'together':10}{'':12}{usage.together / 1e6:15.0f} MB")
    print(f"{usage.seconds:.1f} seconds, exit code {usage.code}")


def growth(folder: Path, work: Path) -> int:
    """Evaluate few photographs, then many; print how much larger the largest worker has got."""
    photos = find_photos(folder, MANY)
    peaks, codes = [], []
    for count in (FEW, MANY):
        archive = link(photos[:count], folder, work / f"photos-{count}")
        output = work / f"output-{count}"
        arguments = ["evaluate", str(archive), str(output), "--recipe", RECIPE, "--workers", "2"]
        usage = measure(arguments)
        print(f"{count} photographs")
        show(usage)
        peaks.append(usage.worker_peak)
        codes.append(usage.code)
    print(f"ratio {peaks[1] / peaks[0]:.2f}")
    return max(codes)


def large(megapixels: float, work: Path, model: str, *, deep: bool) -> int:
    """Restore one large JPEG, or TIFF of 48 bits."""
    archive = work / "photos"
    archive.mkdir()
    height = round(math.sqrt(megapixels * 1e6 * 16 / 25))
    width = round(megapixels * 1e6 / height)
    master = archive / ("large.tif" if deep else "large.jpg")
    (make_tiff if deep else make_jpeg)(master, width, height)
    size = master.stat().st_size / 1e6
    options = ["--model", model, "--workers", "1", "--max_pixels", str(width * height)]
    usage = measure(["restore", str(archive), str(work / "output"), *options])
    print(f"{model}: {master.suffix[1:]} of {width} x {height} pixels, {size:.0f} MB")
    show(usage)
    cpu = sum(peak.cpu for peak in usage.workers.values())
    print(
        f"a megapixel took {usage.seconds / megapixels:.2f} seconds, start-up included, and the "
        f"worker's processor {cpu / megapixels:.2f}"
    )
    return usage.code


def make_jpeg(path: Path, width: int, height: int) -> None:
    """Tile a photograph that ships with scikit-image."""
    import numpy as np
    from PIL import Image

    pixels = np.concatenate(list(rows_of(width, height)))
    Image.fromarray(pixels).save(path, quality=95)


def make_tiff(path: Path, width: int, height: int, rows: int = 64) -> None:
    """Write the same photograph as 16-bit RGB in strips, without ever holding it."""
    import numpy as np
    import tifffile

    random = np.random.default_rng(1)

    def strips() -> "Iterator[np.ndarray]":
        waiting = np.empty((0, width, 3), np.uint16)
        for part in rows_of(width, height):
            # The lower eight bits are noise, as they are in a scan.
            part = part * np.uint16(256) + random.integers(0, 256, part.shape, np.uint16)
            waiting = np.concatenate([waiting, part])
            while len(waiting) >= rows:
                yield waiting[:rows]
                waiting = waiting[rows:]
        if len(waiting):
            yield waiting

    shape = (height, width, 3)
    tifffile.imwrite(
        path, strips(), shape=shape, dtype=np.uint16, photometric="rgb", rowsperstrip=rows
    )


def rows_of(width: int, height: int) -> "Iterator[np.ndarray]":
    """Give an image from the top down, uint8 [h, width, 3] at a time."""
    import numpy as np
    from skimage import data

    photograph = data.coffee()
    across = -(-width // photograph.shape[1])
    band = np.tile(photograph, (1, across, 1))[:, :width]
    for top in range(0, height, len(band)):
        yield band[: height - top]


def main() -> int:
    """Read the command line; the exit code is the measured command's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--growth", type=Path, metavar="PHOTOS", help=f"at least {MANY} photographs")
    mode.add_argument("--large", type=float, metavar="MEGAPIXELS")
    mode.add_argument("command", nargs="*", default=[], help="after --: what to tell heliograph")
    parser.add_argument("--deep", action="store_true", help="--large: a TIFF of 48 bits")
    parser.add_argument("--model", default="denoise", help="--large: which to run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heliograph-memory-") as folder:
        if args.growth:
            return growth(args.growth, Path(folder))
        if args.large:
            return large(args.large, Path(folder), args.model, deep=args.deep)
    usage = measure(args.command)
    show(usage)
    return usage.code


if __name__ == "__main__":
    raise SystemExit(main())
