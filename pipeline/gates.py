"""Quality gates: what the results of a job must reach, held to its summary once it has ended.

They are no part of the job: the same output can be held to others, and nothing is done again.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pipeline.drift import SUMMARY, Baseline, compare, with_deviations
from pipeline.gate_options import COUNTED, MAX_DRIFT, Requirement
from pipeline.scoreboard import gate
from pipeline.scoreboard.gate import Earlier
from transforms import storage
from transforms.measure import DEGRADED, GAIN, ORIGINAL, REGIONS, RESTORED, column_name
from transforms.metrics import METRICS
from transforms.metrics.perceptual import LPIPS
from transforms.write import SCRATCH

log = logging.getLogger("heliograph")

GATES = "gates.json"
FORMAT = 1

Verdict = dict[str, Any]


class GateError(ValueError):
    """A gate that a job can never reach, and what to do."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What the results of a job must reach; false where that is nothing.

    Attributes:
        requirements: of single figures.
        baseline: an earlier run that they must not be worse than.
        max_drift: how far from it a mean may be, in standard deviations of the baseline.
        scoreboard: of an earlier evaluation, which no model must be significantly worse than.
    """

    requirements: tuple[Requirement, ...] = ()
    baseline: Baseline | None = None
    max_drift: float = MAX_DRIFT
    scoreboard: Earlier | None = None

    def __bool__(self) -> bool:
        return bool(self.requirements or self.baseline or self.scoreboard)


def scores_of(metrics: Iterable[str], *, damages: bool, restores: bool, lpips: bool) -> set[str]:
    """Name the scores that a job can have in its summary.

    Args:
        metrics: that it takes.
        damages: whether there is an original to compare with.
        restores: whether there is a model.
        lpips: whether that is taken as well.
    """
    after = (RESTORED,) if restores else ()
    plain = (ORIGINAL, *((DEGRADED,) if damages else ()), *after)
    compared = (DEGRADED, *after, *((GAIN,) if restores else ())) if damages else ()
    names: set[str] = set()
    for name in metrics:
        metric = METRICS[name]
        regions = ("", *REGIONS) if metric.regional else ("",)
        states = compared if metric.reference else plain
        names |= {column_name(name, state, region) for state in states for region in regions}
    if lpips:
        names |= {column_name(LPIPS, state) for state in compared}
    return names


def check(requirements: Iterable[Requirement], scores: set[str], command: str) -> None:
    """Make sure that a job takes the scores that it is held to.

    Raises:
        GateError: it does not.
    """
    for one in requirements:
        if one.name in COUNTED or one.name in scores:
            continue
        metric = next(
            (name for name in (*METRICS, LPIPS) if one.name.startswith(f"{name}_")), one.name
        )
        compares = metric == LPIPS or (metric in METRICS and METRICS[metric].reference)
        if command in ("restore", "convert") and compares:
            why = "compares with an original, and there is none: that is for `heliograph evaluate`"
        elif command == "convert":
            why = "is a score, and `convert` takes none"
        elif metric in METRICS and not any(name.startswith(f"{metric}_") for name in scores):
            why = f"is not taken: add {metric} to --metrics"
        elif metric in METRICS or metric == LPIPS:
            why = "is nothing that this job scores: " + _some(scores, metric)
        else:
            why = "is no figure of a summary: " + ", ".join((*COUNTED, *sorted(scores)))
        raise GateError(f"{one.said}: {one.name} {why}")


def _some(scores: set[str], metric: str) -> str:
    own = sorted(name for name in scores if name.startswith(f"{metric}_"))
    return "there are " + ", ".join(own) if own else f"{metric} needs its model, --lpips"


def judge(output: str, gates: Gates) -> Verdict:
    """Hold the results in an output to gates, by its summary alone.

    Args:
        output: the folder that holds them; of a bag, its payload.
        gates: what they must reach.

    Returns:
        What is written to gates.json.

    Raises:
        StorageError: there is no summary, or it cannot be read.
        BaselineError: its means cannot be compared.
        ScoreboardError: an earlier scoreboard is of other images.
    """
    summary = json.loads(storage.read(storage.join(output, SUMMARY)))
    held = [_hold(one, summary) for one in gates.requirements]
    verdict: Verdict = {
        "format": FORMAT,
        "digest": summary.get("digest"),
        "passed": all(one["passed"] for one in held),
        "planned": summary["planned"],
        "gates": held,
    }
    if gates.baseline is not None:
        drift = compare(with_deviations(summary, output), gates.baseline, gates.max_drift)
        verdict |= {"passed": verdict["passed"] and drift["passed"], "drift": drift}
    if gates.scoreboard is not None:
        found = gate.hold(gates.scoreboard, output)
        verdict |= {"passed": verdict["passed"] and found["passed"], "scoreboard": found}
    return verdict


def _hold(one: Requirement, summary: Mapping[str, Any]) -> dict[str, Any]:
    value: Any  # exact, so that a share is met which is the limit
    if one.name in COUNTED:
        value, of = summary[one.name], summary["planned"]
        limit: Any = one.limit
        if one.is_share:
            value = Fraction(value, of) if of else Fraction()
    else:
        score = summary["metrics"].get(one.name, {"mean": None, "count": 0})
        value, of, limit = score["mean"], score["count"], float(one.limit)
    if value is None:  # of no image: identical ones have no PSNR, small ones no SSIM
        passed = False
    else:
        passed = value <= limit if one.bound == "at most" else value >= limit
    return {
        "gate": one.said,
        "name": one.name,
        "bound": one.bound,
        "limit": float(limit) if one.is_share or one.name not in COUNTED else int(limit),
        "value": value if value is None or isinstance(value, int) else float(value),
        "is_share": one.is_share,
        "images": of,
        "passed": passed,
    }


def write(folder: str, verdict: Verdict, scratch: str) -> None:
    """Write gates.json into a folder, unless it says the same already.

    Args:
        folder: the output folder that was named: a bag's payload is not to be touched any more.
        verdict: what `judge` gave.
        scratch: a folder on the same storage for temporary files.
    """
    path = storage.join(folder, GATES)
    data = json.dumps(verdict, indent=1, allow_nan=False).encode() + b"\n"
    if not (storage.exists(path) and storage.read(path) == data):
        storage.write(path, data, scratch=scratch)


def forget(folder: str) -> None:
    """Delete gates.json, which tells of results that are about to be others."""
    storage.delete(storage.join(folder, GATES))


def hold(root: str, output: str, gates: Gates) -> Verdict | None:
    """Judge the results of a job that has come to its end, and write gates.json; None for none."""
    if not gates:
        return None
    verdict = judge(output, gates)
    write(root, verdict, storage.join(output, SCRATCH))
    return verdict


def tell(verdict: Verdict | None) -> None:
    """Print how the gates were passed to the log: a line each, failures as errors."""
    if verdict is None:
        return
    for one in verdict["gates"]:
        level = logging.INFO if one["passed"] else logging.ERROR
        log.log(level, "gate %s: %s: %s", *_told(one))
    drift = verdict.get("drift")
    if drift is not None:
        _tell_drift(drift)
    if "scoreboard" in verdict:
        gate.tell(verdict["scoreboard"])


def _told(one: Mapping[str, Any]) -> tuple[str, str, str]:
    if one["value"] is None:
        return one["gate"], "not passed", f"no image has {one['name']}"
    if one["is_share"]:
        figure = f"{100 * one['value']:.4g} % of {one['images']} images are {one['name']}"
        limit = f"{100 * one['limit']:.4g} %"
    elif one["name"] in COUNTED:
        figure = f"{one['name']}: {one['value']} of {one['images']} images"
        limit = str(one["limit"])
    else:
        figure = f"{one['name']} is {one['value']:.6g} on average of {one['images']} images"
        limit = f"{one['limit']:g}"
    if one["passed"]:
        return one["gate"], "passed", figure
    return one["gate"], "not passed", f"{figure}, not {one['bound']} {limit}"


def _tell_drift(drift: Mapping[str, Any]) -> None:
    name = f"--baseline {drift['baseline']}"
    if drift["differs"]:
        log.warning("%s is of a job with other %s", name, ", ".join(drift["differs"]))
    if drift["apart"]:
        log.warning("%s: in one of the two alone: %s", name, ", ".join(drift["apart"]))
    for one in drift["compared"]:
        if one["verdict"] == "same":
            continue
        deviations = "" if one["deviations"] is None else f", {one['deviations']:+.3g} deviations"
        log.log(
            logging.INFO if one["passed"] else logging.ERROR,
            "gate %s: %s is %s: %.6g, and was %.6g (%+.3g%s, p = %.2g)",
            *(name, one["name"], one["verdict"], one["now"]["mean"], one["before"]["mean"]),
            *(one["difference"], deviations, one["p"]),
        )
    if drift["passed"]:
        log.info("gate %s: passed: %d figures are no worse", name, len(drift["compared"]))
