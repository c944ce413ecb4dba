"""Compare how fast shards are read and restored with loops over `webdataset` and `tf.data`.

    python benchmarks/reading.py PHOTOS [--count N] [--rounds N] [--side N]

A tar and a TFRecord are made of the same photographs, by `tarfile` and `tf.io`. Of each, the
pipeline runs Read and Restore with a SavedModel that gives back what it is given; a loop takes the
encoded images from the library's own iterator (`webdataset.WebDataset`, or
`tf.data.TFRecordDataset(...).as_numpy_iterator()`), decodes them with the same `codec.decode`,
calls the same SavedModel on the images of one size of every 32, together up to as many pixels as
the pipeline takes (more is slower), and turns the results to uint8. The loop is the least that
would do: it takes no digests, keeps no names, and does not pad.

All run in this process, on one thread of TensorFlow, by turns. Timed is what lies between the
first spec that is read (or the making of the library's iterator) and the last image: not the
planning, nor the start of Beam and TensorFlow. The ratios are the pipeline's images/s divided by
the loop's, medians over the rounds: of CPU seconds of all threads, which other processes hardly
stretch, and of the clock. The exit code says whether those of CPU seconds reach the goal.

    --side N    cut squares of N pixels out of the photographs, as PNG: the overhead of tiny images
"""

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from throughput import find_photos

GOAL = 0.8
BATCH = 32  # images, of both
STACK = 64 * 64 * 16  # pixels that go through the model together, of both


@dataclass
class Clock:
    """When something began and ended, by the clock and in CPU seconds of this process."""

    images: int = 0
    marks: list[tuple[float, float]] = field(default_factory=list)

    def mark(self) -> None:
        """Note the time."""
        self.marks.append((time.perf_counter(), time.process_time()))

    @property
    def seconds(self) -> tuple[float, float]:
        """What passed between the first mark and the last: of the clock, and of the CPU."""
        (wall, cpu), (wall_end, cpu_end) = self.marks[0], self.marks[-1]
        return wall_end - wall, cpu_end - cpu


# The steps of a pipeline that runs in this process find it here.
_clock = Clock()


def run_pipeline(specs: list[str], model: str) -> Clock:
    """Read and restore what is planned, with nothing written."""
    global _clock
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from models.handler import SavedModelHandler
    from transforms.read import Read
    from transforms.restore import Restore

    _clock = Clock()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.Create(specs, reshuffle=False)
            | beam.Reshuffle()
            | "Start" >> beam.Map(_started)
            | Read()
            | Restore(SavedModelHandler(model, threads=1))
            | "Count" >> beam.Map(_counted)
        )
    return _clock


def _started(spec: str) -> str:
    if not _clock.marks:
        _clock.mark()
    return spec


def _counted(batch: Any) -> int:
    assert not batch.failures, batch.records[0].failure
    _clock.images += len(batch)
    _clock.mark()
    return len(batch)


def run_loop(samples: Callable[[], Iterator[bytes]], model: Callable) -> Clock:
    """Decode and restore what a library's iterator gives."""
    from transforms import codec

    clock = Clock()
    clock.mark()
    held: dict[tuple[int, ...], list] = {}
    for number, data in enumerate(samples(), 1):
        pixels = codec.decode(data).pixels
        held.setdefault(pixels.shape, []).append(pixels)
        if number % BATCH == 0:
            clock.images += _restored(held, model)
            held = {}
    clock.images += _restored(held, model)
    clock.mark()
    return clock


def _restored(held: dict[tuple[int, ...], list], model: Callable) -> int:
    import numpy as np

    count = 0
    for (height, width, channels), images in held.items():
        step = max(1, STACK // (height * width))
        for start in range(0, len(images), step):
            stack = np.stack(images[start : start + step]).astype(np.float32) / np.float32(255)
            if channels == 1:
                stack = np.repeat(stack, 3, axis=-1)
            outputs = model(stack)
            count += len(np.rint(np.clip(outputs, 0, 1) * np.float32(255)).astype(np.uint8))
    return count


def from_webdataset(shard: Path) -> Iterator[bytes]:
    """Give the encoded images of a tar."""
    import webdataset

    for sample in webdataset.WebDataset(str(shard), shardshuffle=False):
        yield next(data for name, data in sample.items() if not name.startswith("__"))


def from_tf_data(shard: Path) -> Iterator[bytes]:
    """Give the encoded images of a TFRecord."""
    import tensorflow as tf

    wanted = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
    examples = tf.data.TFRecordDataset(str(shard)).map(
        lambda record: tf.io.parse_single_example(record, wanted)["image/encoded"]
    )
    yield from examples.as_numpy_iterator()


LIBRARIES = {"tar": from_webdataset, "tfrecord": from_tf_data}


def encoded_photos(photos: list[Path], side: int | None) -> dict[str, bytes]:
    """Give names and files: the photographs' own, or squares cut out of them."""
    if side is None:
        return {f"{n:06}{path.suffix.lower()}": path.read_bytes() for n, path in enumerate(photos)}
    return {f"{number:06}.png": data for number, data in enumerate(squares(photos, side))}


def squares(photos: list[Path], side: int, mode: str = "RGB") -> Iterator[bytes]:
    """Cut photographs into squares, as PNG; what is left over at their edges falls away."""
    from PIL import Image

    for path in photos:
        with Image.open(path) as opened:
            image = opened.convert(mode)
        for top in range(0, image.height - side + 1, side):
            for left in range(0, image.width - side + 1, side):
                out = io.BytesIO()
                image.crop((left, top, left + side, top + side)).save(out, "PNG")
                yield out.getvalue()


def compare(shard: Path, model: str, rounds: int) -> bool:
    """Run both by turns, print the table, and say whether the goal is reached."""
    from models.saved_model import load
    from pipeline.plan import Budget, make_plan

    specs = [spec.to_json() for spec in make_plan([str(shard)], Budget(BATCH)).specs]
    loaded = load(model, threads=1)
    library = LIBRARIES[shard.suffix[1:]]
    runs: dict[str, list[Clock]] = {"pipeline": [], library.__name__: []}
    for number in range(rounds + 1):
        turn = {
            "pipeline": run_pipeline(specs, model),
            library.__name__: run_loop(lambda: library(shard), loaded),
        }
        if number:  # the first warms up
            for name, clock in turn.items():
                runs[name].append(clock)
    ours, theirs = runs.values()
    assert {clock.images for clock in (*ours, *theirs)} == {ours[0].images}, "all read all of it"
    for name, clocks in runs.items():
        wall, cpu = (
            statistics.median(clock.seconds[which] for clock in clocks) for which in (0, 1)
        )
        speeds = f"{ours[0].images / wall:10.1f}{ours[0].images / cpu:12.1f}"
        print(f"{shard.suffix[1:]:10}{name:18}{speeds}")
    wall, cpu = (
        statistics.median(
            loop.seconds[which] / run.seconds[which] for run, loop in zip(ours, theirs, strict=True)
        )
        for which in (0, 1)
    )
    print(f"{'':10}{'ratio':18}{wall:10.2f}{cpu:12.2f}  (goal: {GOAL:g})", flush=True)
    return cpu >= GOAL


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of photographs")
    parser.add_argument("--count", type=int, default=500, metavar="N", help="default: 500")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--side", type=int, metavar="N", help="default: whole photographs")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for library in ("OPENCV_FOR_THREADS_NUM", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(library, "1")
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for what tests make shards and models with
    from tests import saved_models, shards

    photos = find_photos(args.photos, args.count if args.side is None else None)
    images = encoded_photos(photos[: args.count], args.side)
    with tempfile.TemporaryDirectory(prefix="heliograph-reading-") as folder:
        model = str(saved_models.identity(Path(folder, "identity")))
        written = {"tar": shards.tar, "tfrecord": shards.tfrecord}
        for kind, write in written.items():
            write(Path(folder, f"photos.{kind}"), images)
        print(f"{len(images)} images, median of {args.rounds} rounds")
        print(f"{'shard':10}{'':18}{'images/s':>10}{'per CPU s':>12}")
        reached = [compare(Path(folder, f"photos.{kind}"), model, args.rounds) for kind in written]
    print("reached" if all(reached) else "NOT REACHED")
    return 0 if all(reached) else 1


if __name__ == "__main__":
    # By its name, so that Beam finds its functions here, with their clock, and does not copy them.
    import reading

    raise SystemExit(reading.main())
