"""Drift: what has changed since an earlier run, beyond chance and beyond what matters.

Means of scores are compared by Welch's t-test, the shares of failed and quarantined images by
Fisher's exact test; the level holds for all comparisons of a run together (Holm 1979). What is
significant must also be large enough to matter, for of a million images every difference is
significant.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.special import gammaln, logsumexp, stdtr

from pipeline.packages import bag
from pipeline.rows import FAILED, QUARANTINED
from transforms import storage
from transforms.measure import GAIN, REGIONS, RESTORED, column_name
from transforms.metrics import METRICS
from transforms.metrics.perceptual import LPIPS, Lpips

Summary = dict[str, Any]

# Chance of a false alarm in any of the comparisons of a run.
LEVEL = 0.01

# Digits of what tests give, which the last bit of a processor's logarithm must not decide.
_DIGITS = 6

SUMMARY, TABLE = "summary.json", "metrics.parquet"


class BaselineError(ValueError):
    """An earlier run that nothing can be compared with, and what to do."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier run, as it was when the later one began.

    Attributes:
        path: as it was named.
        sha256: of its summary.
        summary: with a standard deviation for each mean.
    """

    path: str
    sha256: str
    summary: Summary


def read_baseline(path: str) -> Baseline:
    """Read the summary of an earlier run.

    Args:
        path: of a summary.json, or of the output (or bag) that holds one.

    Raises:
        BaselineError: there is none, or it lacks what comparisons need.
        StorageError: it cannot be read.
    """
    file = path
    if not path.endswith(".json"):
        file = storage.join(bag.results_in(path) or path, SUMMARY)
    if not storage.exists(file):
        raise BaselineError(
            f"--baseline {path}: there is no {file}; name the output of a job that has ended, or "
            "its summary.json"
        )
    data = storage.read(file)
    try:
        summary = json.loads(data)
        _check(summary)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaselineError(f"--baseline {path}: {file} is no summary of a job: {error}") from error
    try:
        summary = with_deviations(summary, file.rpartition("/")[0])
    except BaselineError as error:
        raise BaselineError(
            f"--baseline {path}: {error}; it is of an older version. Keep its {TABLE} beside it, "
            "or name a run of this version"
        ) from error
    return Baseline(path, hashlib.sha256(data).hexdigest(), summary)


def _check(summary: Any) -> None:
    """Make sure of all that comparisons read."""
    for name in ("planned", FAILED, QUARANTINED):
        if not isinstance(summary[name], int):
            raise ValueError(f"{name} is no number")
    for name, score in summary["metrics"].items():
        if not math.isfinite(score["mean"]) or score["count"] < 1:
            raise ValueError(f"{name} has no mean")


def with_deviations(summary: Summary, folder: str) -> Summary:
    """Give a summary in which each mean has its standard deviation, `std`; None of one value.

    Summaries of older versions have none: theirs are taken from the table beside them.

    Raises:
        BaselineError: there is none.
    """
    lacking = [name for name, score in summary["metrics"].items() if "std" not in score]
    if not lacking:
        return summary
    table = storage.join(folder, TABLE) if folder else TABLE
    if not storage.exists(table):
        raise BaselineError(
            f"it has means without standard deviations, and there is no {table} to take them from"
        )
    metrics = dict(summary["metrics"])
    with storage.opened(table) as file, pq.ParquetFile(file) as columns:
        for name in lacking:
            if name not in columns.schema_arrow.names:
                raise BaselineError(f"{table} has no column {name}")
            # One at a time: of ten million images, each is 80 MB.
            std = pc.stddev(columns.read([name]).column(name), ddof=1).as_py()
            metrics[name] = {**metrics[name], "std": std}
    return {**summary, "metrics": metrics}


def compare(now: Summary, before: Baseline, least: float) -> dict[str, Any]:
    """Compare a run with an earlier one.

    Args:
        now: its summary, with deviations.
        before: the earlier one.
        least: how far a mean may be from that of the baseline, in standard deviations of it.

    Returns:
        `passed`, what was `compared` and how, the scores that are in one of the two alone
        (`apart`), and the options in which the two jobs differ (`differs`).
    """
    found = [*_shares(now, before.summary), *_scores(now, before.summary)]
    chances = [one["p"] for one in found]
    for one, significant in zip(found, _rejected(chances, LEVEL), strict=True):
        spread = one["before"]["std"] or 0.0
        one["significant"] = significant
        drifted = significant and abs(one["difference"]) > least * spread
        one["verdict"] = _verdict(one["name"], one) if drifted else "same"
        one["passed"] = one["verdict"] not in ("worse", "changed")
    return {
        "baseline": before.path,
        "sha256": before.sha256,
        "digest": before.summary.get("digest"),
        "differs": _differences(now.get("job", {}), before.summary.get("job", {})),
        "level": LEVEL,
        "max_drift": least,
        "passed": all(one["passed"] for one in found),
        "compared": found,
        "apart": sorted(now["metrics"].keys() ^ before.summary["metrics"].keys()),
    }


def _differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    told_by_others = {"provenance"}
    return sorted(
        name
        for name in {**now, **before}.keys() - told_by_others
        if now.get(name) != before.get(name)
    )


def _shares(now: Summary, before: Summary) -> Iterator[dict[str, Any]]:
    for status in (FAILED, QUARANTINED):
        p = fisher(before[status], before["planned"], now[status], now["planned"])
        yield _compared(status, _share(before, status), _share(now, status), p)


def _share(summary: Summary, status: str) -> dict[str, Any]:
    """Give a share as the mean of ones and noughts."""
    planned = summary["planned"]
    share = summary[status] / planned if planned else 0.0
    spread = math.sqrt(share * (1 - share) * planned / max(planned - 1, 1))
    return {"mean": share, "std": spread, "count": planned}


def _scores(now: Summary, before: Summary) -> Iterator[dict[str, Any]]:
    for name in sorted(now["metrics"].keys() & before["metrics"].keys()):
        earlier, later = _score(before, name), _score(now, name)
        yield _compared(name, earlier, later, welch(earlier, later))


def _score(summary: Summary, name: str) -> dict[str, Any]:
    score = summary["metrics"][name]
    return {key: score[key] for key in ("mean", "std", "count")}


def _compared(
    name: str, before: dict[str, Any], now: dict[str, Any], p: float | None
) -> dict[str, Any]:
    difference = now["mean"] - before["mean"]
    return {
        "name": name,
        "before": before,
        "now": now,
        "difference": difference,
        "deviations": _rounded(difference / before["std"]) if before["std"] else None,
        "p": None if p is None else _rounded(p),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def welch(before: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
    """Give the two-sided p-value of Welch's t-test (1947, doi:10.1093/biomet/34.1-2.28).

    Args:
        before: `mean`, `std` (of a sample, n - 1) and `count`.
        now: the same.

    Returns:
        None where there are fewer than two values on a side, which say nothing of their spread.
    """
    if before["std"] is None or now["std"] is None:
        return None
    difference = now["mean"] - before["mean"]
    # What summing leaves of equal values is no difference.
    if abs(difference) <= 1e-12 * max(abs(now["mean"]), abs(before["mean"])):
        return 1.0
    parts = [side["std"] ** 2 / side["count"] for side in (before, now)]
    if not sum(parts):
        return 0.0
    shares = [part / sum(parts) for part in parts]
    freedom = 1 / sum(
        share**2 / (side["count"] - 1) for share, side in zip(shares, (before, now), strict=True)
    )
    return float(2 * stdtr(freedom, -abs(difference) / math.sqrt(sum(parts))))


def fisher(failed_before: int, of_before: int, failed_now: int, of_now: int) -> float:
    """Give the p-value of Fisher's exact test that a share has grown: one-sided.

    It is the chance that, of all that failed in both runs, at least so many are in the later one
    by chance: a hypergeometric tail, exact for any counts.
    """
    failed = failed_before + failed_now
    counts = np.arange(failed_now, min(failed, of_now) + 1, dtype=np.float64)
    if not len(counts):
        return 1.0
    ways = (
        _log_choose(of_now, counts)
        + _log_choose(of_before, failed - counts)
        - _log_choose(of_now + of_before, np.float64(failed))
    )
    return min(1.0, float(np.exp(logsumexp(ways))))


def _log_choose(of: int, some: np.ndarray | np.float64) -> Any:
    return gammaln(of + 1) - gammaln(some + 1) - gammaln(of - some + 1)


def _rejected(chances: list[float | None], level: float) -> list[bool]:
    """Say which of several p-values are significant together: Holm (1979), a step-down test.

    None is no test, and never significant.
    """
    ranked = sorted((p, place) for place, p in enumerate(chances) if p is not None)
    rejected = [False] * len(chances)
    for rank, (p, place) in enumerate(ranked):
        if p > level / (len(ranked) - rank):
            break
        rejected[place] = True
    return rejected


def _directions() -> dict[str, str]:
    """Say of each column which way is worse; of those that are not here, none is."""
    ways = {FAILED: "more", QUARANTINED: "more"}
    worse = {"more": "less", "less": "more", "zero": "farther"}
    for name, metric in {**METRICS, LPIPS: Lpips("", "").metric}.items():
        if metric.better is None:
            continue
        for region in ("", *REGIONS):
            ways[column_name(name, RESTORED, region)] = worse[metric.better]
            ways[column_name(name, GAIN, region)] = "less"
    return ways


_WORSE = _directions()


def _verdict(name: str, one: Mapping[str, Any]) -> str:
    """Say what a difference that counts is: worse, better, or neither by itself: changed."""
    now, before = one["now"]["mean"], one["before"]["mean"]
    is_worse = {
        "more": now > before,
        "less": now < before,
        "farther": abs(now) > abs(before),
    }
    way = _WORSE.get(name)
    if way is None:
        return "changed"
    return "worse" if is_worse[way] else "better"
