"""What the scores of a job say: before and after, the difference, and how sure it is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from pipeline.report.rows import Rows
from transforms.measure import DEGRADED, GAIN, ORIGINAL, REGIONS, RESTORED, column_name
from transforms.metrics import METRICS, Metric
from transforms.metrics.perceptual import LPIPS, Lpips

TABLE: Mapping[str, Metric] = {**METRICS, LPIPS: Lpips("", "").metric}

# What a report speaks of first, where it was measured.
_FIRST = (
    *("psnr_rgb", "ssim", "psnr_y", "ms_ssim", "ciede2000", LPIPS, "gmsd", "mae", "rmse", "mse"),
    *("contrast", "noise_sigma", "sharpness", "colourfulness", "saturation", "entropy", "clipped"),
)
_FIRST_OF_COLOUR = ("ciede2000", "chroma_error", "colourfulness")
_BINS = 48
# Values among which a single one at the end does not count.
_MANY = 1000


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over images: over how many, and its 95 % confidence interval, if there is one."""

    mean: float
    count: int
    low: float | None = None
    high: float | None = None

    @classmethod
    def of_summary(cls, said: Mapping[str, Any] | None) -> "Mean | None":
        """Read one of `summary.json`."""
        if not said or not said["count"]:
            return None
        low, high = said.get("ci95") or (None, None)
        return cls(said["mean"], said["count"], low, high)

    @classmethod
    def of_values(cls, values: np.ndarray) -> "Mean | None":
        """Take it of values [N]; NaN are not among them.

        The interval is Student's, t(0.975, N - 1) standard errors to either side.
        """
        known = values[~np.isnan(values)]
        count = len(known)
        if not count:
            return None
        mean = math.fsum(known) / count
        if count == 1:
            return cls(mean, 1)
        variance = math.fsum(np.square(known - mean)) / (count - 1)
        reach = float(stdtrit(count - 1, 0.975)) * math.sqrt(variance / count)
        return cls(mean, count, mean - reach, mean + reach)

    @property
    def differs(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of a job.

    Attributes:
        name: of the metric, with the region of a mask if it is of one.
        title: what people call it.
        metric: its entry in the table.
        before_state, after_state: what is compared, one of `measure.STATES`; after may be None.
        before, after: means; None where nothing was measured.
        change: by how much the images are better; where no more and no less is better, after less
            before.
        columns: of `metrics.parquet`: before, after, and the gain, if there is one.
    """

    name: str
    title: str
    metric: Metric
    before_state: str
    after_state: str | None
    before: Mean | None
    after: Mean | None
    change: Mean | None
    columns: tuple[str, str | None, str | None]

    @property
    def compares(self) -> bool:
        """Whether it is of results against originals."""
        return self.metric.reference

    def changes(self, rows: Rows) -> np.ndarray:
        """Read by how much each image has changed: float64 [rows]; NaN where that is not known."""
        before, after, gain = self.columns
        if gain is not None:
            return rows.numbers(gain)
        if after is None:
            return np.full(len(rows), np.nan)
        return rows.numbers(after) - rows.numbers(before)


def scores_of(summary: Mapping[str, Any], rows: Rows) -> list[Score]:
    """Give the scores of a job, those first that tell most of it."""
    found = []
    for name, metric in TABLE.items():
        for region in ("", *REGIONS):
            score = _score(summary["metrics"], rows, name, metric, region)
            if score is not None:
                found.append(score)
    ranks = {name: rank for rank, name in enumerate(_first(summary))}
    return sorted(found, key=lambda score: (ranks.get(score.name, len(ranks)), score.name))


def _first(summary: Mapping[str, Any]) -> tuple[str, ...]:
    contract = summary.get("job", {}).get("contract") or {}
    chroma = contract.get("output_space") == "ab" or contract.get("keep_luminance")
    coloured = contract.get("input_space", "RGB") != "RGB" and contract["output_space"] != "gray"
    order = (*_FIRST_OF_COLOUR, *_FIRST) if chroma or coloured else _FIRST
    return tuple(dict.fromkeys(order))


def _score(
    means: Mapping[str, Any], rows: Rows, name: str, metric: Metric, region: str
) -> Score | None:
    def there(state: str) -> str | None:
        column = column_name(name, state, region)
        return column if column in means else None

    original, degraded, restored = there(ORIGINAL), there(DEGRADED), there(RESTORED)
    if metric.reference:
        before, before_state = degraded, DEGRADED
        after, after_state = restored, RESTORED
    else:
        before, before_state = original, ORIGINAL
        after, after_state = (restored, RESTORED) if restored else (degraded, DEGRADED)
    if before is None:
        return None
    gain = there(GAIN) if after else None
    if gain is not None:
        change = Mean.of_summary(means[gain])
        if change is not None and change.low is None:  # of a summary from before it told intervals
            change = Mean.of_values(rows.numbers(gain))
    elif after is not None:
        change = Mean.of_values(rows.numbers(after) - rows.numbers(before))
    else:
        change = None
    return Score(
        name=column_name(name, region) if region else name,
        title=f"{metric.label} {region} the mask" if region else metric.label,
        metric=metric,
        before_state=before_state,
        after_state=after_state if after else None,
        before=Mean.of_summary(means[before]),
        after=Mean.of_summary(means[after]) if after else None,
        change=change,
        columns=(before, after, gain),
    )


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values are where: bins of equal width.

    Attributes:
        edges: of the bins [N + 1].
        counts: by series [N]; values beyond the edges are in the outermost bins.
        beyond: how many values that are.
    """

    edges: np.ndarray
    counts: tuple[np.ndarray, ...]
    beyond: int


def histogram(series: Sequence[np.ndarray], *, around_zero: bool = False) -> Histogram | None:
    """Count values in bins that several series share; None where there are no values.

    Of many values, one in two hundred at either end may lie beyond the bins, so that a single odd
    image does not press all others into one.

    Args:
        series: float64 [N] each; NaN are not counted.
        around_zero: whether an edge is to be at 0.
    """
    known = [values[~np.isnan(values)] for values in series]
    together = np.concatenate(known) if known else np.empty(0)
    if not together.size:
        return None
    ends = (0.005, 0.995) if together.size > _MANY else (0.0, 1.0)
    low, high = np.quantile(together, ends, method="nearest")
    if low == high:
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    bins = int(np.clip(round(2 * together.size ** (1 / 3) * 1.5), 8, _BINS))
    width = (high - low) / bins
    if around_zero and low < 0 < high:
        low = -math.ceil(-low / width) * width
        bins = math.ceil((high - low) / width)
        high = low + bins * width
    edges = np.linspace(low, high, bins + 1)
    counts = tuple(np.histogram(np.clip(values, low, high), edges)[0] for values in known)
    beyond = int(np.count_nonzero((together < low) | (together > high)))
    return Histogram(edges, counts, beyond)
