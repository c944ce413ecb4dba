"""Measure large shards: planning, memory, two workers against one, and tiny images.

    python benchmarks/sharding.py --large PHOTOS [--count N]   a tar of 20,000 small images, 2 GB
    python benchmarks/sharding.py --tiny PHOTOS [--count N]    100,000 images of 28 x 28 pixels

Both run whole commands with a SavedModel that gives back what it is given, so that what is measured
is all but the model: a real one only makes the share of everything else smaller.

--large cuts squares of 240 pixels out of the photographs, as PNG of about 100 kB each, and writes
them as JPEG, for PNG would spend most of the time in zlib's compressor. Images/s are given twice:
of the whole command, and between the first and the last commit record, without the start of Python,
Beam and TensorFlow. Since a busy machine slows two workers more than one, the table also has the
CPU seconds of each worker: those of one, divided by the most that one of two has taken, both less
what a worker takes that has next to nothing to do, are the speed-up on an idle machine.

--tiny reads gray PNG from a TFRecord, and pixels from an IDX file, and writes TFRecords; one
worker. CPU seconds are those of all processes, less those of the same command on 1,000 images,
which is the start-up. The goal is 5,000 images for each CPU second.
"""

import argparse
import io
import itertools
import os
import struct
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from memory import Usage, measure
from reading import squares
from throughput import children_cpu, find_photos

SIDE, COUNT = 240, 20_000
TINY_SIDE, TINY_COUNT, FEW = 28, 100_000, 1_000
MOST_SECONDS = 10.0  # of planning
MOST_GROWTH = 1.1  # of a worker's peak, from a quarter of the tar to all of it
LEAST_SPEED_UP = 1.8
LEAST_SPEED = 5_000.0  # images for each CPU second


# -- a large tar -----------------------------------------------------------------------------------


def large(photos: list[Path], count: int, work: Path) -> bool:
    """Plan and restore a large tar, and a quarter of it."""
    from tests import saved_models

    model = str(saved_models.identity(work / "identity"))
    whole, part, next_to_none = work / "whole.tar", work / "part.tar", work / "few.tar"
    for shard, images in ((whole, count), (part, count // 4), (next_to_none, 8)):
        write_tar(shard, photos, images)
    planning = plan_seconds(whole)
    print(f"{count:,} images, {whole.stat().st_size / 1e9:.2f} GB: planned in {planning:.1f} s")
    print(f"{'':22}{'images/s':>10}{'committing':>12}{'peak of a worker':>18}{'CPU s':>16}")
    runs = {}
    for name, shard, images, workers in (
        ("start-up", next_to_none, 8, 1),
        ("a quarter, 2 workers", part, count // 4, 2),
        ("all of it, 2 workers", whole, count, 2),
        ("all of it, 1 worker", whole, count, 1),
    ):
        output = work / name.replace(" ", "-").replace(",", "")
        arguments = ["restore", str(shard), str(output), "--model", model]
        usage = measure([*arguments, "--workers", str(workers), "--image_format", "jpeg"])
        if usage.code:
            raise SystemExit(f"heliograph ended with {usage.code}")
        committing = commit_speed(output)
        runs[name] = usage, committing
        cpus = " ".join(f"{peak.cpu:.1f}" for peak in usage.workers.values())
        print(
            f"{name:22}{images / usage.seconds:10.1f}{committing:12.1f}"
            f"{usage.worker_peak / 1e6:15.0f} MB{cpus:>16}",
            flush=True,
        )
    (start, _), (quarter, _), (two, two_speed), (one, one_speed) = runs.values()
    growth = two.worker_peak / quarter.worker_peak
    started, longest, alone = (
        max(peak.cpu for peak in usage.workers.values()) for usage in (start, two, one)
    )
    idle = (alone - started) / (longest - started)
    print(f"memory of all of it to that of a quarter: {growth:.2f} (goal: {MOST_GROWTH:g})")
    print(
        f"two workers to one: {one.seconds / two.seconds:.2f} by the clock, "
        f"{two_speed / one_speed:.2f} without the start, {idle:.2f} by CPU seconds "
        f"(goal: {LEAST_SPEED_UP:g})"
    )
    return planning < MOST_SECONDS and growth <= MOST_GROWTH and idle >= LEAST_SPEED_UP


def write_tar(path: Path, photos: list[Path], count: int) -> None:
    """Write squares of photographs; when there are no more, the same again."""
    images = repeated(photos, SIDE, count)
    with tarfile.open(path, "w") as file:
        for number, data in enumerate(images):
            member = tarfile.TarInfo(f"{number:06}.png")
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))


def repeated(photos: list[Path], side: int, count: int, mode: str = "RGB") -> Iterator[bytes]:
    """Give that many squares of photographs, each a few times if need be."""
    held = list(itertools.islice(squares(photos, side, mode), count))
    return itertools.islice(itertools.cycle(held), count)


def plan_seconds(shard: Path) -> float:
    """Time planning, by the clock."""
    from pipeline.plan import Budget, make_plan

    started = time.perf_counter()
    make_plan([str(shard)], Budget(), workers=2)
    return time.perf_counter() - started


def commit_speed(output: Path) -> float:
    """Give the images a second between the first and the last commit record."""
    from pipeline.ledger import Ledger

    ledger = Ledger(str(output))
    first, *rest = sorted(ledger.committed(), key=os.path.getmtime)
    images = sum(sum(ledger.counts(path).values()) for path in rest)
    return images / (os.path.getmtime(rest[-1]) - os.path.getmtime(first))


# -- tiny images -----------------------------------------------------------------------------------


def tiny(photos: list[Path], count: int, work: Path) -> bool:
    """Restore tiny images from and to a shard."""
    from tests import saved_models

    model = str(saved_models.identity(work / "identity"))
    images = list(repeated(photos, TINY_SIDE, count, "L"))
    print(f"{'':12}{'images':>10}{'seconds':>10}{'CPU s':>10}{'start-up':>10}{'images/CPU s':>14}")
    reached = True
    for name, write in (("tfrecord", write_tfrecord), ("idx", write_idx)):
        taken = {}
        for number in (FEW, count):
            shard = work / f"tiny-{number}.{name}"
            write(shard, images[:number])
            taken[number] = restored(shard, work / f"{name}-{number}", model)
        (_, start_up), (usage, cpu) = taken[FEW], taken[count]
        speed = (count - FEW) / (cpu - start_up)
        print(
            f"{name:12}{count:10,}{usage.seconds:10.1f}{cpu:10.1f}{start_up:10.1f}{speed:14,.0f}",
            flush=True,
        )
        reached &= speed >= LEAST_SPEED
    print(f"goal: {LEAST_SPEED:,.0f} images for each CPU second")
    return reached


def restored(shard: Path, output: Path, model: str) -> tuple[Usage, float]:
    """Run the command, and give what it took and the CPU seconds of all its processes."""
    before = children_cpu()
    arguments = ["restore", str(shard), str(output), "--model", model, "--workers", "1"]
    usage = measure([*arguments, "--output_format", "tfrecord"])
    if usage.code:
        raise SystemExit(f"heliograph ended with {usage.code}")
    return usage, children_cpu() - before


def write_tfrecord(path: Path, images: list[bytes]) -> None:
    """Write encoded images."""
    from tests import shards

    shards.tfrecord(path, {f"{number:06}.png": data for number, data in enumerate(images)})


def write_idx(path: Path, images: list[bytes]) -> None:
    """Write the pixels of images as MNIST has them."""
    from transforms import codec

    with path.open("wb") as file:
        file.write(struct.pack(">IIII", 0x803, len(images), TINY_SIDE, TINY_SIDE))
        for data in images:
            file.write(codec.decode(data).pixels.tobytes())


def main() -> int:
    """Read the command line; the exit code says whether the goals are reached."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--large", type=Path, metavar="PHOTOS")
    mode.add_argument("--tiny", type=Path, metavar="PHOTOS")
    parser.add_argument(
        "--count", type=int, metavar="N", help="fewer images than the goals are for"
    )
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for what tests make shards and models with
    photos = find_photos(args.large or args.tiny, None)
    with tempfile.TemporaryDirectory(prefix="heliograph-sharding-") as folder:
        if args.large:
            reached = large(photos, args.count or COUNT, Path(folder))
        else:
            reached = tiny(photos, args.count or TINY_COUNT, Path(folder))
    print("reached" if reached else "NOT REACHED")
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
