"""Score the pixels of records: by themselves, and against what they were before the damage."""

from collections.abc import Mapping, Sequence
from functools import partial

import apache_beam as beam

from transforms.metrics import METRICS, SETS, Metric, Pair, Picture
from transforms.metrics.pair import Region
from transforms.metrics.perceptual import LPIPS, Lpips
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


def measure_record(
    record: Record, metrics: Sequence[str] = SETS["default"], lpips: Lpips | None = None
) -> Record:
    """Score a record's pixels as they will be encoded, before any lossy encoding.

    Adds `<metric>_<state>`; the state is `original` for the master's pixels, `degraded` for these
    with damage, `restored` for the model's result. Metrics with a reference compare the latter two
    with the first, where there was damage, and add `<metric>_gain`: by how much the result is
    better. Where there is a mask, some add `…_inside` and `…_outside`, as `ssim_restored_inside`.
    `lpips` is a model for LPIPS, to take that as well. A score that the record has already, of an
    earlier stage of its way, is not taken again.
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
    known = record.metrics
    scores: Scores = {}
    if lpips is not None:
        scores |= _compared(LPIPS, lpips.metric, pairs, known)
    for name in metrics:
        if METRICS[name].reference:
            scores |= _compared(name, METRICS[name], pairs, known)
        else:
            function = METRICS[name].function
            wanted = {column_name(name, state): one for state, one in pictures.items()}
            scores |= {name: function(one) for name, one in wanted.items() if name not in known}
    return record.replace(metrics={**known, **scores})


def _compared(
    name: str, metric: Metric, pairs: dict[str, Pair], known: Mapping[str, float | None]
) -> Scores:
    def score(state: str, pair: Pair, region: str) -> float | None:
        column = column_name(name, state, region)
        if column in known:
            return known[column]
        return metric.function(pair, region) if region else metric.function(pair)

    scores: Scores = {}
    for region in ("", *REGIONS):
        found = {
            state: score(state, pair, region)
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
        lpips: a model for LPIPS, to take that as well.
    """

    def __init__(
        self, metrics: Sequence[str] = SETS["default"], lpips: Lpips | None = None
    ) -> None:
        super().__init__()
        self.metrics = tuple(metrics)
        self.lpips = lpips

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        return batches | Stage(
            measure=partial(measure_record, metrics=self.metrics, lpips=self.lpips)
        )
