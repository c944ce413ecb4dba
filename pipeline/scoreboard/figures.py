"""What a scoreboard says of differences: means, intervals, and which of them are significant.

Differences are paired: of the scores of the same image, so that how hard an image is takes no part.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from pipeline.statistics import Accumulator

ALPHA = 0.05

Json = dict[str, Any]


def rounded(value: float | None) -> float | None:
    """Round to 12 digits: what is beyond them may be another on another processor."""
    return None if value is None else float(f"{value:.12g}")


@dataclass(slots=True)
class Differences:
    """Values of images of which the mean is asked, against zero: gains, or differences of gains.

    Attributes:
        values: the statistics of them.
        better: how many are above zero.
        worse: how many are below.
    """

    # The mean and its interval are exact without a sample; one value is the least it can keep.
    values: Accumulator = field(default_factory=lambda: Accumulator(1))
    better: int = 0
    worse: int = 0

    def add(self, values: np.ndarray) -> None:
        """Take in values, float64 [N]; NaN is passed over."""
        values = values[np.isfinite(values)]
        self.values.add(values, np.arange(len(values), dtype=np.uint64))
        self.better += int(np.count_nonzero(values > 0))
        self.worse += int(np.count_nonzero(values < 0))

    @property
    def p(self) -> float | None:
        """The p value of Student's t test of their mean against zero, two-sided: for differences,
        the paired t test. None of fewer than two.
        """
        return student_p(self.values.mean, self.values.std, self.values.count)

    def to_json(self) -> Json:
        """Give mean, standard deviation and 95 % interval."""
        return summed(self.values)


def summed(values: Accumulator) -> Json:
    """Give mean, standard deviation and 95 % interval of the mean for JSON."""
    interval = values.ci95
    return {
        "mean": rounded(values.mean),
        "std": rounded(values.std),
        "ci95": None if interval is None else [rounded(end) for end in interval],
    }


def student_p(mean: float | None, std: float | None, count: int) -> float | None:
    """Give the p value of a mean against zero."""
    if mean is None or std is None:
        return None
    if std == 0:
        return 1.0 if mean == 0 else 0.0  # the limits
    return float(2 * stdtr(count - 1, -abs(mean) * math.sqrt(count) / std))


def welch(one: Json, other: Json, counts: tuple[int, int]) -> tuple[list[float], float] | None:
    """Compare two means by Welch's t test (1947), doi:10.1093/biomet/34.1-2.28.

    Args:
        one: mean and standard deviation, as `summed` gives them.
        other: the same, which is taken from the first.
        counts: of how many values each is.

    Returns:
        The 95 % interval of the difference, and its p value; None of fewer than two values.
    """
    if one["std"] is None or other["std"] is None:
        return None
    shares = [part["std"] ** 2 / count for part, count in zip((one, other), counts, strict=True)]
    difference, error = one["mean"] - other["mean"], math.sqrt(sum(shares))
    if error == 0:
        return [difference, difference], 1.0 if difference == 0 else 0.0
    freedom = sum(shares) ** 2 / sum(
        share**2 / (count - 1) for share, count in zip(shares, counts, strict=True)
    )
    reach = float(stdtrit(freedom, 0.975)) * error
    p = float(2 * stdtr(freedom, -abs(difference) / error))
    return [difference - reach, difference + reach], p


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Correct p values for their number by Holm's method (1979), https://www.jstor.org/stable/4615733.

    The chance that any of the true hypotheses is rejected at a level is at most that level, however
    they depend on each other. None is no test and counts for none.
    """
    order = sorted((value, place) for place, value in enumerate(values) if value is not None)
    result: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, min(1.0, value * (len(order) - rank)))
        result[place] = highest
    return result


def over_recipes(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Average values of images over recipes, where they are defined: float64 [N] each, and so the
    result, NaN where there is none. Images are what is drawn from the world, recipes are not.
    """
    total: np.ndarray | None = None
    count: np.ndarray | None = None
    for values in parts:
        defined = np.isfinite(values)
        filled = np.where(defined, values, 0.0)
        total = filled if total is None else total + filled
        count = defined.astype(np.int64) if count is None else count + defined
    assert total is not None and count is not None, "there is a recipe"
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def is_significant(entry: Json) -> bool:
    """Tell whether a difference of a scoreboard is, at the level of 5 %, after correction."""
    return entry["p_holm"] is not None and entry["p_holm"] < ALPHA
