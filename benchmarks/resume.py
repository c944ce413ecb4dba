"""Measure what a second run costs: planning, memory, and how little is done again.

    python benchmarks/resume.py [--count N] [--shards] [--work FOLDER]

Makes an archive of 100,000 small photographs, hard links to some dozens of files (with --shards, as
many in TFRecord files of 5,000), runs a whole job over it, and then whole commands again: with
nothing changed, asked for its plan, with one image more, one changed, one gone, and with --retry.
Each line of the table has the seconds of the command, the seconds until it knew what to do, the
peak of its driver's RSS as the kernel counts it, the worker processes that it started, and the
commit records that it wrote. A goal that is missed is said, and ends the whole with an error: a
second run knows what to do in 15 s and 500 MB, starts no worker and writes nothing; one image more
is one commit record more.

The same machine does a plain os.walk and os.stat of the archive before and after, which nothing
that looks at an archive of files can be faster than; `ratio` is to it.
"""

import io
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from memory import Peak, sample, workers_of

COUNT, DOZENS, A_FOLDER, A_SHARD = 100_000, 60, 1000, 5_000
HEIGHT, WIDTH = 48, 64
MOST_SECONDS, MOST_MEMORY = 15.0, 500e6
JOB = ("--recipe", "grayscale", "--workers", "2")
# What a run says when it knows what is left.
KNOWS = "images are done already"


@dataclass(frozen=True, slots=True)
class Ran:
    """What one command took."""

    seconds: float
    knew: float | None
    peak: int
    workers: int
    written: int
    said: str


def encodings() -> list[tuple[str, bytes]]:
    """Give crops of photographs as JPEG, PNG and TIFF files."""
    import numpy as np
    from PIL import Image
    from skimage import data

    photographs = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    kinds = [("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF")]
    found = []
    for number in range(DOZENS):
        pixels = photographs[number % 4]
        top, left = (number * 37) % (pixels.shape[0] - HEIGHT), (number * 61) % 300
        crop = np.ascontiguousarray(pixels[top : top + HEIGHT, left : left + WIDTH])
        extension, kind = kinds[number % 3]
        out = io.BytesIO()
        Image.fromarray(crop).save(out, kind)
        found.append((extension, out.getvalue()))
    return found


def make_files(archive: Path, count: int) -> None:
    """Link images into folders of a thousand."""
    originals = archive.parent / "originals"
    originals.mkdir()
    paths = []
    for number, (extension, encoded) in enumerate(encodings()):
        paths.append(originals / f"{number}.{extension}")
        paths[-1].write_bytes(encoded)
    for number in range(count):
        folder = archive / f"box {number // A_FOLDER:04}"
        if number % A_FOLDER == 0:
            folder.mkdir(parents=True)
        original = paths[number % len(paths)]
        os.link(original, folder / f"{number:06}{original.suffix}")


def make_shards(archive: Path, count: int) -> None:
    """Write TFRecord files of Examples."""
    from transforms.shards.writers import WRITERS, Sample

    archive.mkdir()
    held = encodings()
    for start in range(0, count, A_SHARD):
        samples = []
        for number in range(start, min(start + A_SHARD, count)):
            extension, encoded = held[number % len(held)]
            samples.append(Sample(f"{number:06}.{extension}", encoded, {}, {}, None))
        packed = WRITERS["tfrecord"].pack(samples)
        (archive / f"{start:06}.tfrecord").write_bytes(b"".join(packed.parts))


def commits(output: Path) -> dict[str, int]:
    """Tell when each commit record was written."""
    folder = output / "ledger/batches"
    return {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(folder)}


def run(archive: Path, output: Path, *options: str) -> Ran:
    """Run the command, and watch it."""
    before = commits(output) if output.exists() else {}
    command = [sys.executable, "-m", "heliograph", "degrade", str(archive), str(output)]
    started = time.perf_counter()
    job = subprocess.Popen(
        [*command, *JOB, *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    said: list[tuple[float, str]] = []
    reader = threading.Thread(target=_read, args=(job, started, said))
    reader.start()
    driver, workers = Peak(), set[int]()
    while job.poll() is None:
        sample(job.pid, driver)
        workers |= set(workers_of(job.pid))
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    reader.join()
    text = "".join(line for _, line in said)
    if job.returncode:
        raise SystemExit(f"{' '.join(options)} ended with {job.returncode}:\n{text}")
    knew = next((when for when, line in said if KNOWS in line), None)
    written = len(commits(output).items() - before.items())
    return Ran(seconds, knew, driver.resident, len(workers), written, text)


def _read(job: subprocess.Popen, started: float, said: list[tuple[float, str]]) -> None:
    assert job.stderr is not None and job.stdout is not None
    for line in job.stderr:
        said.append((time.perf_counter() - started, line))
    said.append((time.perf_counter() - started, job.stdout.read()))
