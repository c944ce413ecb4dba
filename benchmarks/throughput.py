"""Compare the pipeline with a hand-written multiprocessing loop over the same photographs.

    python benchmarks/throughput.py PHOTOS [--count N] [--workers N] [--order pipeline-first]

Both damage, restore, score and write the same photographs with the same SavedModel, and both are
timed as a process of their own, start-up included. Image work is shared code; what differs is who
hands it out. The loop keeps no ledger, digests or temporary files: it is the least that would do.
The last line is the pipeline's images/s divided by the loop's.
"""

import argparse
import filecmp
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

RECIPE = "gaussian_noise:sigma=25"
SEED = 0
TILE = 640  # the pipeline cuts larger images into overlapping windows, which the loop does not
STEP = 64  # both pad sides to multiples of this; with 8, the loop takes a third longer
CHUNK = 4  # images handed to a worker at a time: few, so that none waits long for the last one
MOST_DIFFERENCE = 0.01  # dB between the mean PSNRs
MOST_DISTURBED = 0.05  # CPU seconds of other processes, to those of a run


# -- the hand-written loop -------------------------------------------------------------------------


@dataclass(frozen=True)
class Worker:
    """What each process of the loop keeps from image to image."""

    photos: Path
    output: Path
    recipe: Any
    model: Any
    input_name: str


_worker: Worker


def run_loop(photos: Path, output: Path, model: str, precision: str, workers: int) -> None:
    """Restore every photograph below `photos` and write `rows.json` beside the images."""
    keys = sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*") if p.is_file())
    for folder in {(output / "images" / key).parent for key in keys}:
        folder.mkdir(parents=True, exist_ok=True)
    for library in ("OPENCV_FOR_THREADS_NUM", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(library, "1")  # or idle threads take half the processor
    # TensorFlow does not survive a fork.
    pool = multiprocessing.get_context("spawn").Pool(
        workers, start_worker, (photos, output, model, precision)
    )
    with pool:
        rows = list(pool.imap_unordered(restore_photo, keys, chunksize=CHUNK))
    (output / "rows.json").write_text(json.dumps(rows))


def start_worker(photos: Path, output: Path, model: str, precision: str) -> None:
    """Load the model, once for each process. Only workers pay for these imports."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import cv2
    import tensorflow as tf

    from models.saved_model import locate, read_contract
    from transforms.recipe import parse_recipe

    global _worker
    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.optimizer.set_experimental_options(
        {"auto_mixed_precision_onednn_bfloat16": precision == "bfloat16"}
    )
    path = locate(model)
    contract = read_contract(path)
    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures[contract.signature]
    signature.keeps = loaded  # a signature does not hold its variables
    (input_name,) = signature.structured_input_signature[1]
    _worker = Worker(photos, output, parse_recipe(RECIPE), signature, input_name)


def restore_photo(key: str) -> dict[str, Any]:
    """Damage, restore, score and write one photograph; give its scores."""
    from transforms import codec
    from transforms.measure import measure_record
    from transforms.record import Record, Source

    decoded = codec.decode((_worker.photos / key).read_bytes())
    damaged = _worker.recipe.apply(decoded.pixels, seed=SEED, key=key).pixels
    restored = denoise(damaged)
    record = Record(
        source=Source(key, key, 0, 0.0),
        reference=decoded.pixels,
        pixels=damaged,
        restored=restored,
    )
    row = {"key": key, **measure_record(record).metrics}
    data = codec.encode(decoded.form, restored, decoded.alpha)
    (_worker.output / "images" / key).write_bytes(data)
    return row


def denoise(pixels):
    """Add to an image what the model, seeing it padded to even steps, says is missing."""
    import numpy as np
    import tensorflow as tf

    from transforms import colour

    height, width, channels = pixels.shape
    unit = colour.to_unit(pixels)
    padding = ((0, -height % STEP), (0, -width % STEP), (0, 0))
    inputs = np.pad(colour.with_channels(unit, 3), padding, mode="symmetric")
    (output,) = _worker.model(**{_worker.input_name: tf.constant(inputs[None])}).values()
    residual = output.numpy()[0, :height, :width]
    return colour.from_unit(unit + colour.with_channels(residual, channels), pixels.dtype)


# -- the comparison --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Time:
    """What a command took: seconds, its CPU seconds, and those that others took meanwhile."""

    seconds: float
    cpu: float
    others: float


@dataclass(frozen=True)
class Run:
    """What one of the two did."""

    name: str
    time: Time
    images: int
    psnr: float

    @property
    def speed(self) -> float:
        """Images a second."""
        return self.images / self.time.seconds


def find_photos(folder: Path, count: int | None, largest_side: int | None = None) -> list[Path]:
    """List the first photographs below a folder, by path.

    Args:
        folder: searched recursively.
        count: how many; None for all.
        largest_side: leave out larger ones; None for no limit.
    """
    from transforms import codec

    found: list[Path] = []
    too_large = 0
    for path in sorted(folder.rglob("*")):
        if len(found) == count:
            break
        if path.suffix.lower() not in codec.EXTENSIONS or path.name.startswith("."):
            continue
        if largest_side is not None:
            with path.open("rb") as file:
                size = codec.probe(file)
            if size and max(size) > largest_side:
                too_large += 1
                continue
        found.append(path)
    if too_large:
        print(f"left out {too_large} photographs of more than {largest_side} pixels a side")
    if not found:
        raise SystemExit(f"no photographs in {folder}")
    if count is not None and len(found) < count:
        raise SystemExit(f"only {len(found)} photographs of the {count} asked for in {folder}")
    return found


def link(photos: list[Path], root: Path, folder: Path) -> Path:
    """Make a folder of links to photographs below `root`: an archive of just these."""
    for photo in photos:
        target = folder / photo.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(photo.resolve())
    return folder


def timed(command: list[str]) -> Time:
    """Run a command to its end."""
    started, own, all_of_it = time.perf_counter(), children_cpu(), machine_cpu()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds, cpu = time.perf_counter() - started, children_cpu() - own
    others = max(0.0, machine_cpu() - all_of_it - cpu)
    if done.returncode:
        said = "\n".join(done.stderr.splitlines()[-20:])
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
    return Time(seconds, cpu, others)


def children_cpu() -> float:
    """Give the CPU seconds of all processes that this one has waited for, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def machine_cpu() -> float:
    """Give the CPU seconds that were not idle since the machine started, on Linux."""
    user, nice, system, _idle, _wait, *rest = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def loop(photos: Path, output: Path, args: argparse.Namespace) -> Run:
    """Time the loop."""
    command = [sys.executable, __file__, str(photos), "--loop-output", str(output)]
    taken = timed([*command, *shared_options(args)])
    rows = json.loads((output / "rows.json").read_text())
    psnr = statistics.fmean(row["psnr_rgb_restored"] for row in rows)
    return Run("loop", taken, count_images(output), psnr)


def pipeline(photos: Path, output: Path, args: argparse.Namespace) -> Run:
    """Time the pipeline."""
    command = [sys.executable, "-m", "heliograph", "evaluate", str(photos), str(output)]
    command += ["--recipe", RECIPE, "--seed", str(SEED), "--tile", str(TILE)]
    taken = timed([*command, *shared_options(args)])
    summary = json.loads((output / "summary.json").read_text())
    psnr = summary["metrics"]["psnr_rgb_restored"]["mean"]
    return Run("pipeline", taken, count_images(output), psnr)


def shared_options(args: argparse.Namespace) -> list[str]:
    """Say what both commands are told alike."""
    options = ["--model", args.model, "--precision", args.precision]
    return [*options, "--workers", str(args.workers)]


def images_below(output: Path) -> list[Path]:
    """List the images that a run wrote."""
    return sorted(path for path in (output / "images").rglob("*") if path.is_file())


def count_images(output: Path) -> int:
    """Count the images that a run wrote."""
    return len(images_below(output))


def count_identical(first: Path, second: Path) -> int:
    """Count the images that two runs wrote alike, byte for byte."""
    pairs = ((path, second / path.relative_to(first)) for path in images_below(first))
    return sum(b.is_file() and filecmp.cmp(a, b, shallow=False) for a, b in pairs)


def check_model(args: argparse.Namespace) -> None:
    """Settle the precision for both, and refuse a model that the loop is not written for."""
    from models.contract import ContractError
    from models.saved_model import locate, read_contract, resolve_precision

    try:
        contract = read_contract(locate(args.model))
    except ContractError as error:
        raise SystemExit(str(error)) from error
    asked = (contract.input_space, contract.output, contract.input_range, contract.size)
    if asked != ("RGB", "residual", (0.0, 1.0), None):
        raise SystemExit(
            f"{args.model} takes and gives {asked}; the loop is written for RGB residuals on a "
            "scale of 0 to 1 at any size"
        )
    args.precision = resolve_precision(args.precision)


def warm_up(photos: list[Path]) -> None:
    """Bring photographs and libraries into the file cache, where the second run finds them."""
    for photo in photos:
        photo.read_bytes()
    timed([sys.executable, "-c", "import apache_beam, cv2, tensorflow"])


def compare(args: argparse.Namespace) -> None:
    """Run both, check that they did the same work, and print the table."""
    check_model(args)
    photos = find_photos(args.photos, args.count, TILE)
    with tempfile.TemporaryDirectory(prefix="heliograph-throughput-") as folder:
        work = Path(folder)
        archive = link(photos, args.photos, work / "photos")
        warm_up(photos)
        contenders = [
            partial(loop, archive, work / "loop", args),
            partial(pipeline, archive, work / "pipeline", args),
        ]
        if args.order == "pipeline-first":
            contenders.reverse()
        runs = {run.name: run for run in (contender() for contender in contenders)}
        identical = count_identical(work / "loop", work / "pipeline")
    by_hand, ours = runs["loop"], runs["pipeline"]
    print(f"{args.workers} workers, {args.precision}, {args.order}")
    print(f"{'':10}{'images':>8}{'seconds':>10}{'images/s':>10}{'CPU s':>8}{'PSNR (dB)':>11}")
    for run in runs.values():
        took = run.time
        print(
            f"{run.name:10}{run.images:8}{took.seconds:10.1f}{run.speed:10.2f}{took.cpu:8.1f}"
            f"{run.psnr:11.3f}"
        )
    print(f"byte-identical images: {identical} of {by_hand.images}")
    for run in runs.values():
        if run.time.others > MOST_DISTURBED * run.time.cpu:
            print(
                f"disturbed: others took {run.time.others:.1f} CPU seconds during the {run.name}; "
                "measure again on an idle machine"
            )
    if not by_hand.images == ours.images == len(photos):
        raise SystemExit(f"of {len(photos)} photographs not all were written: no comparison")
    if abs(by_hand.psnr - ours.psnr) > MOST_DIFFERENCE:
        raise SystemExit(f"mean PSNRs differ by more than {MOST_DIFFERENCE} dB: no comparison")
    print(f"ratio {ours.speed / by_hand.speed:.2f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of photographs")
    parser.add_argument("--count", type=int, metavar="N", help="use the first N (default: all)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="default: one per core")
    parser.add_argument("--order", choices=("loop-first", "pipeline-first"), default="loop-first")
    parser.add_argument("--model", default="denoise", help="zoo name or SavedModel")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--loop-output", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop_output:
        run_loop(args.photos, args.loop_output, args.model, args.precision, args.workers)
    else:
        compare(args)


if __name__ == "__main__":
    main()
