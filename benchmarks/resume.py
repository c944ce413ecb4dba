"""Measure what a second run costs: planning, memory, and how little is done again.

    python benchmarks/resume.py [--count N] [--shards] [--work FOLDER]

Makes an archive of 100,000 small photographs, hard links to some dozens of files, and their output:
a job is run over those dozens, and its rows and derivatives are given to all others of the same
bytes, in commit records that the ledger itself writes. With --shards, as many images in TFRecord
files of 5,000, and the job is run over all of them. Then whole commands are run again: with nothing
changed, asked for their plan, with one image more, one changed, one gone, and with --retry.
Each line of the table has the seconds of the command, the processor's seconds of its driver (which
a busy machine stretches less), the seconds until it knew what to do, the peak of the driver's RSS
as the kernel counts it, the worker processes that it started, and the commit records that it wrote.
A goal that is missed is said, and ends the whole with an error: a second run knows what to do in
15 s and 500 MB, starts no worker and writes nothing; one image more is one commit record more.

The same machine does a plain os.walk and os.stat of the archive before and after, which nothing
that looks at an archive of files can be faster than; `ratio` is to it.
"""

import argparse
import dataclasses
import functools
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
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
    cpu: float
    knew: float | None
    peak: int
    workers: int
    written: int
    said: str


@functools.cache
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
    archive.mkdir()
    for start in range(0, count, A_SHARD):
        images = of_shard(start, min(A_SHARD, count - start))
        write_shard(archive / f"{start:06}.tfrecord", images)


def of_shard(start: int, count: int) -> list[tuple[str, bytes]]:
    """Give the images of one shard, by name."""
    held = encodings()
    numbers = range(start, start + count)
    return [(f"{n:06}.{held[n % DOZENS][0]}", held[n % DOZENS][1]) for n in numbers]


def write_shard(path: Path, images: list[tuple[str, bytes]]) -> None:
    """Write a TFRecord file."""
    from transforms.shards.writers import WRITERS, Sample

    samples = [Sample(name, encoded, {}, {}, None) for name, encoded in images]
    path.write_bytes(b"".join(WRITERS["tfrecord"].pack(samples).parts))


def one_new(archive: Path) -> None:
    """Add an image to an archive, or a shard with one image."""
    extension, encoded = encodings()[0]
    if is_sharded(archive):
        write_shard(archive / "new.tfrecord", [(f"new.{extension}", encoded)])
    else:
        (archive / f"new.{extension}").write_bytes(encoded)


def one_changed(archive: Path) -> None:
    """Give one image other bytes, and of a shard that holds it, all others another time."""
    if is_sharded(archive):
        images = of_shard(A_SHARD, A_SHARD)
        images[7] = (images[7][0], encodings()[8][1])
        write_shard(archive / f"{A_SHARD:06}.tfrecord", images)
        return
    path = next(path for path in sorted((archive / "box 0001").iterdir()))
    other = encodings()[(int(path.stem) + 3) % DOZENS][1]  # of the same format
    path.unlink()  # it is a link to what others are links to
    path.write_bytes(other)


def one_gone(archive: Path) -> None:
    """Delete one image, or one shard."""
    if is_sharded(archive):
        (archive / "000000.tfrecord").unlink()
    else:
        next(iter(sorted((archive / "box 0000").iterdir()))).unlink()


def make_output(archive: Path, output: Path) -> None:
    """Commit all images of an archive as a job has done those that they are links to."""
    from pipeline import beam_options, cli, generations, job
    from pipeline import run as runs
    from pipeline.ledger import Ledger
    from pipeline.results import rebuild

    few = archive.parent / "few"
    run(archive.parent / "originals", few)
    known = {row["key"].partition(".")[0]: row for row in Ledger(str(few)).rows()}
    parser, commands = cli._parser()
    own = beam_options.add_to(commands["degrade"])
    args = parser.parse_args(["degrade", str(archive), str(output), *JOB])
    made = job.make_job(args)
    todo = runs._prepare(generations.choose(made), runs._find(made))
    ledger = Ledger(str(output))
    facts = runs._facts(made, todo, beam_options.make(args, own))
    ledger.begin(facts, todo.specs, anew=False)
    head = next(record for _, record in Ledger(str(few)).records())
    for spec in todo.specs:
        for batch in spec.batches():
            rows = []
            for record in batch.records:
                source = record.source
                like = known[str(int(Path(source.key).stem) % DOZENS)]
                target = output / "images" / source.key
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(few / "images" / like["derivative"], target)
                rows.append(
                    {
                        **like,
                        "key": source.key,
                        "source": source.path,
                        "source_modified": source.modified,
                        "derivative": source.key,
                    }
                )
            ledger.rewrite({**head, "batch": batch.id, "job": made.digest, "files": {}}, rows)
    rebuild(str(output))
    ledger.close()
    ledger.finish()


def is_sharded(archive: Path) -> bool:
    """Tell which kind of archive it is."""
    return any(archive.glob("*.tfrecord"))


def walk(archive: Path) -> float:
    """Time a plain walk over the archive's files, with what is known of each."""
    started = time.perf_counter()
    for folder, _, names in os.walk(archive):
        for name in names:
            os.stat(os.path.join(folder, name))
    return time.perf_counter() - started


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
    return Ran(seconds, driver.cpu, knew, driver.resident, len(workers), written, text)


def _read(job: subprocess.Popen, started: float, said: list[tuple[float, str]]) -> None:
    assert job.stderr is not None and job.stdout is not None
    for line in job.stderr:
        said.append((time.perf_counter() - started, line))
    said.append((time.perf_counter() - started, job.stdout.read()))


def nothing(archive: Path) -> None:
    """Leave an archive as it is."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is done to an archive, how the command is said then, and what it may cost."""

    name: str
    change: Callable[[Path], None]
    options: tuple[str, ...] = ()
    idle: bool = False  # it starts no worker and writes nothing
    most_written: int | None = None


CASES = (
    Case("nothing new", nothing, idle=True),
    Case("its plan", nothing, ("--dry_run",), idle=True),
    Case("--retry failed", nothing, ("--retry", "failed"), idle=True),
    Case("one new", one_new, most_written=1),
    Case("nothing new", nothing, idle=True),
    Case("one changed", one_changed, most_written=2),
    Case("one gone", one_gone, most_written=0),
    Case("nothing new", nothing, idle=True),
)


def measure(count: int, sharded: bool, work: Path) -> bool:
    """Make an archive and its output; print the table; tell whether all goals are reached."""
    archive, output = work / "archive", work / "output"
    (make_shards if sharded else make_files)(archive, count)
    options = ("--output_format", "tfrecord") if sharded else ()
    print(f"{count:,} images in {'shards' if sharded else 'files'}", flush=True)
    print(
        f"{'':16}{'seconds':>9}{'CPU s':>8}{'planned in':>12}{'ratio':>8}{'peak':>9}{'workers':>9}"
        f"{'commits':>9}"
    )
    bare = None if sharded else walk(archive)  # of a few files, there is nothing to compare with
    if sharded:
        show("first run", run(archive, output, *options), None)
    else:
        make_output(archive, output)
    reached = True
    for case in CASES:
        if sharded and case.change is one_changed:
            # Every image of the shard has another time, and the rows of all are rewritten.
            case = dataclasses.replace(case, most_written=A_SHARD // 1000)
        case.change(archive)
        ran = run(archive, output, *options, *case.options)
        show(case.name, ran, bare)
        missed = missing(case, ran)
        reached &= not missed
        for one in missed:
            print(f"  goal missed: {one}")
    if bare is not None:
        print(f"a plain walk with os.stat: {bare:.2f} s before, {walk(archive):.2f} s after")
    return reached


def show(name: str, ran: Ran, bare: float | None) -> None:
    """Print a line of the table."""
    knew = "" if ran.knew is None else f"{ran.knew:.1f}"
    ratio = "" if ran.knew is None or bare is None else f"{ran.knew / bare:.1f}"
    print(
        f"{name:16}{ran.seconds:9.1f}{ran.cpu:8.1f}{knew:>12}{ratio:>8}{ran.peak / 1e6:6.0f} MB"
        f"{ran.workers:9}{ran.written:9}",
        flush=True,
    )


def missing(case: Case, ran: Ran) -> list[str]:
    """Say which goals a run has missed."""
    found = []
    if case.idle and (ran.workers or ran.written):
        found.append("a run with nothing to do starts no worker and commits nothing")
    if case.idle and (ran.knew or ran.seconds) > MOST_SECONDS:
        found.append(f"what is left is known in {MOST_SECONDS:.0f} s")
    if case.idle and ran.peak > MOST_MEMORY:
        found.append(f"a run with nothing to do takes {MOST_MEMORY / 1e6:.0f} MB")
    if case.most_written is not None and ran.written > case.most_written:
        found.append(f"{case.most_written} commit records are written")
    return found


def main() -> int:
    """Read the command line; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=COUNT, metavar="N")
    parser.add_argument("--shards", action="store_true", help="the images are in TFRecord files")
    parser.add_argument("--work", metavar="FOLDER", help="where there is room (default: $TMPDIR)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heliograph-resume-", dir=args.work) as work:
        return 0 if measure(args.count, args.shards, Path(work)) else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    raise SystemExit(main())
