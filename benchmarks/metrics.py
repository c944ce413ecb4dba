"""Time metrics on one core beside scikit-image and TensorFlow, and beside a job that restores.

    python benchmarks/metrics.py [--side PIXELS] [--repeats N] [--job PHOTOS]

CPU nanoseconds per pixel (milliseconds per megapixel), the least of the repeats, ours and theirs in
turn, on a photograph of stereo_motorcycle (scikit-image) with noise. CIEDE2000 is timed from pixels
to the mean, conversion to Lab included, and on Lab alone. With `--job`, a folder of photographs is
restored by `denoise` in a job of one worker with the default metrics, and what measuring takes is
given as a share of the CPU time of the whole rest of the job. The exit code says whether SSIM and
CIEDE2000 are at least 5 times as fast as scikit-image's, or whether the share is at most 15 %.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

LEAST_SPEED_UP = 5.0
MOST_SHARE = 0.15
RECIPE = "gaussian_noise:sigma=25"


def cpu_time(work: Callable[[], Any]) -> tuple[float, Any]:
    """Give the CPU seconds of one call, and what it gives."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def least(works: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, Any]]:
    """Give the least CPU seconds of each, taken in turn, and what each gives."""
    found: dict[str, tuple[float, Any]] = {}
    for _ in range(repeats):
        for name, work in works.items():
            taken, result = cpu_time(work)
            found[name] = (min(taken, found.get(name, (math.inf,))[0]), result)
    return found


def compare(side: int, repeats: int) -> bool:
    """Time all metrics; say whether those with a goal reach it."""
    import cv2
    import numpy as np
    import tensorflow as tf
    from skimage import color, data
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    from transforms.metrics import METRICS, Pair, Picture
    from transforms.metrics.colour_difference import ciede2000_of_lab

    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    photograph = data.stereo_motorcycle()[0]
    reference = cv2.resize(photograph, (side, side), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 25, reference.shape)
    image = np.clip(np.rint(reference + noise), 0, 255).astype(np.uint8)
    tensors = [tf.constant(pixels / 255, tf.float32) for pixels in (image, reference)]
    labs = [color.rgb2lab(pixels) for pixels in (image, reference)]
    shallow = [
        tuple(np.ascontiguousarray(plane, np.float32) for plane in np.moveaxis(lab, -1, 0))
        for lab in labs
    ]

    def ours_on_lab() -> float:
        one, two = ([plane.ravel() for plane in planes] for planes in shallow)
        total = 0.0
        for start in range(0, side * side, 1 << 14):
            part = slice(start, start + (1 << 14))
            block = ciede2000_of_lab(*(tuple(plane[part] for plane in ps) for ps in (one, two)))
            total += float(block.sum(dtype=np.float64))
        return total / side / side

    def skimage_ssim() -> float:
        return structural_similarity(
            image,
            reference,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=-1,
        )

    theirs: dict[str, dict[str, Callable[[], Any]]] = {
        "psnr_rgb": {
            "scikit-image": lambda: peak_signal_noise_ratio(reference, image),
            "tf.image": lambda: tf.image.psnr(*tensors, 1.0),
        },
        "ssim": {
            "scikit-image": skimage_ssim,
            "tf.image": lambda: tf.image.ssim(*tensors, 1.0),
        },
        "ms_ssim": {"tf.image": lambda: tf.image.ssim_multiscale(*tensors, 1.0)},
        "ciede2000": {
            "scikit-image": lambda: color.deltaE_ciede2000(
                color.rgb2lab(image), color.rgb2lab(reference)
            ).mean(),
        },
        "ciede2000 of Lab": {"scikit-image": lambda: color.deltaE_ciede2000(*labs).mean()},
    }
    ours: dict[str, Callable[[], Any]] = {"ciede2000 of Lab": ours_on_lab}
    for name, metric in METRICS.items():
        made = (lambda: Pair(image, reference)) if metric.reference else lambda: Picture(image)
        ours[name] = lambda function=metric.function, made=made: function(made())
    deep = [pixels.astype(np.uint16) * 257 for pixels in (image, reference)]
    for name in ("ssim", "ciede2000"):
        ours[f"{name}, 16 bits"] = lambda f=METRICS[name].function: f(Pair(*deep))

    print(f"{'':26}{'ours':>8}{'scikit-image':>16}{'tf.image':>16}   ns per pixel, one core")
    reached = True
    pixels = side * side / 1e9
    for name, work in ours.items():
        others = theirs.get(name, {})
        found = least({"ours": work, **others}, repeats)
        taken = found["ours"][0]
        line = f"{name:26}{taken / pixels:8.1f}"
        for library in ("scikit-image", "tf.image"):
            cell = ""
            if library in found:
                cell = f"{found[library][0] / pixels:.0f} ({found[library][0] / taken:.1f}x)"
            line += f"{cell:>16}"
        print(line)
        if name in ("ssim", "ciede2000", "ciede2000 of Lab"):
            reached &= found["scikit-image"][0] >= LEAST_SPEED_UP * taken
    return reached


def share_of_job(photos: Path) -> bool:
    """Restore photographs, and say what their scores cost."""
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for library in ("OPENCV_FOR_THREADS_NUM", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(library, "1")
    from transforms.stage import StageDoFn

    spent: dict[str, float] = {}
    plain = StageDoFn.run

    def timed(self, batch, functions, *rest, **more):
        started = time.process_time()
        try:
            return plain(self, batch, functions, *rest, **more)
        finally:
            (name,) = list(functions)[-1:] or ["together"]
            spent[name] = spent.get(name, 0.0) + time.process_time() - started

    StageDoFn.run = timed
    from tests.jobs import run

    reached = True
    for command, *recipe in (("evaluate", "--recipe", RECIPE), ("restore",)):
        with tempfile.TemporaryDirectory(prefix="heliograph-metrics-") as folder:
            run(command, photos, Path(folder) / "warm", *recipe, "--metrics", "none")
            spent.clear()
            taken, _ = cpu_time(partial(run, command, photos, Path(folder) / "out", *recipe))
        share = spent["measure"] / (taken - spent["measure"])
        reached &= share <= MOST_SHARE
        print(
            f"{command}: {taken:.1f} CPU s, of which the default metrics take "
            f"{spent['measure']:.2f}: {100 * share:.1f} % more"
        )
    return reached


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1024, help="default: %(default)s pixels")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--job", type=Path, metavar="PHOTOS", help="photographs to restore")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    reached = share_of_job(args.job) if args.job else compare(args.side, args.repeats)
    raise SystemExit(0 if reached else 1)


if __name__ == "__main__":
    main()
