"""LPIPS, by a SavedModel that somebody has: none is shipped."""

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from models.comparison import Compare, load
from transforms import storage
from transforms.colour import to_unit, with_channels
from transforms.metrics.pair import Pair
from transforms.metrics.table import Metric

LPIPS = "lpips"  # its name among the metrics

# Larger images are compared in pieces of at most this side, which the model's memory allows.
_SIDE = 1024


@dataclass(frozen=True, slots=True)
class Lpips:
    """Learned perceptual image patch similarity (Zhang et al. 2018,
    doi:10.1109/CVPR.2018.00068), as a SavedModel computes it; of equal images 0.

    Images with a side over 1,024 pixels are cut into equal pieces, of which it is the mean by area.
    None where the model gives no finite number.

    Attributes:
        path: of the SavedModel, loaded once in each process when it is first needed.
        sha256: its digest.
        trust: whether it is loaded if its graph could do more than compute.
    """

    path: str
    sha256: str
    trust: bool = False

    def __call__(self, pair: Pair) -> float | None:
        """Compare; see the class."""
        compare = _loaded(self.path, self.sha256, self.trust)
        height, width, _ = pair.shape
        total = 0.0
        for rows in _pieces(height):
            for columns in _pieces(width):
                images = (one.pixels[rows, columns] for one in (pair.image, pair.reference))
                image, reference = (to_unit(with_channels(pixels, 3)) for pixels in images)
                total += compare(image, reference) * image.shape[0] * image.shape[1]
        return total / height / width if math.isfinite(total) else None

    @property
    def metric(self) -> Metric:
        """What the table of metrics would say of it."""
        return Metric(self, "LPIPS", 4, better="less")


def _pieces(length: int) -> list[slice]:
    count = -(-length // _SIDE)
    ends = np.linspace(0, length, count + 1).round().astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(ends)]


@cache
def _loaded(path: str, sha256: str, trust: bool) -> Compare:
    with storage.local_folder(path) as folder:
        return load(Path(folder), sha256=sha256, trust=trust)
