"""Score the pixels of records: by themselves, and against what they were before the damage."""

from collections.abc import Sequence
from functools import partial

import apache_beam as beam

from transforms.metrics import METRICS, SETS, Pair, Picture
from transforms.metrics.pair import Region
from transforms.record import Batch, Record
from transforms.stage import Stage

# What pixels can be, in the order of what happens to them.
ORIGINAL, DEGRADED, RESTORED = STATES = ("original", "degraded", "restored")
GAIN = "gain"
REGIONS: tuple[Region, ...] = ("inside", "outside")  # of a mask

Scores = dict[str, float | None]


def column_name(metric: str, state: str, region: str = "") -> str:
    """Name a score: `ssim_restored`, or `ssim_restored_inside`."""
    return "_".join(filter(None, (metric, state, region)))


def measure_record(record: Record, metrics: Sequence[str] = SETS["default"]) -> Record:
    """Score a record's pixels as they will be encoded, before any lossy encoding.

    Adds `<metric>_<state>`; the state is `original` for the master's pixels, `degraded` for these
    with damage, `restored` for the model's result. Metrics with a reference compare the latter two
    with the first, where there was damage, and add `<metric>_gain`: by how much the result is
    better. Where there is a mask, some add `…_inside` and `…_outside`, as `ssim_restored_inside`.
    """
    if record.pixels is None:
        return record
    states = {ORIGINAL: record.pixels, RESTORED: record.restored}
    if record.reference is not None:
        states = {ORIGINAL: record.reference, DEGRADED: record.pixels, RESTORED: record.restored}
    pictures = {state: Picture(pixels) for state, pixels in states.items() if pixels is not None}
    pairs = {}
    if record.reference is not None:
        original = pictures[ORIGINAL]
        pairs = {
            state: Pair(picture, original, record.mask)
            for state, picture in pictures.items()
            if state != ORIGINAL
        }
    scores: Scores = {}
    for name in metrics:
        if METRICS[name].reference:
            scores |= _compared(name, pairs)
        else:
            function = METRICS[name].function
            scores |= {column_name(name, state): function(one) for state, one in pictures.items()}
    return record.replace(metrics={**record.metrics, **scores})


def _compared(name: str, pairs: dict[str, Pair]) -> Scores:
    metric = METRICS[name]
    scores: Scores = {}
    for region in ("", *REGIONS):
        found = {
            state: metric.function(pair, region) if region else metric.function(pair)
            for state, pair in pairs.items()
            if not region or (metric.regional and pair.mask is not None)
        }
        gain = metric.gain(found.get(DEGRADED), found.get(RESTORED))
        if gain is not None:
            found[GAIN] = gain
        scores |= {column_name(name, state, region): score for state, score in found.items()}
    return scores


class Measure(beam.PTransform):
    """Score the records of batches.

    Args:
        metrics: names of the table `METRICS`.
    """

    def __init__(self, metrics: Sequence[str] = SETS["default"]) -> None:
        super().__init__()
        self.metrics = tuple(metrics)

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        return batches | Stage(measure=partial(measure_record, metrics=self.metrics))
