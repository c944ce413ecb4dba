"""The report of one job as a page: `report.html`."""

import base64
import functools
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pipeline.ledger import FAILED, QUARANTINED, RESTORED, SKIPPED, STATUSES, Ledger
from pipeline.options import PICTURES
from pipeline.report import charts, facts, picks, reasons
from pipeline.report.board import boards
from pipeline.report.gallery import shown_of
from pipeline.report.pictures import BRIGHTEST, PIECE
from pipeline.report.rows import Rows
from pipeline.report.scores import Mean, Score, histogram, scores_of
from pipeline.report.verdict import verdict
from pipeline.report.words import images, number, percent, plain
from transforms import storage
from transforms.measure import DEGRADED, ORIGINAL
from transforms.measure import RESTORED as AFTER

REPORT = "report.html"
# Rows of the table of records, of each kind.
LISTED = 1000
_CHARTED = 6
# What people call what `measure.STATES` calls so.
STATE_WORDS = {ORIGINAL: "original", DEGRADED: "damaged", AFTER: "restored"}
_MOST_GROUPS = 60


def build(output: str, count: int = PICTURES) -> bytes:
    """Make the report of a job from its summary, its table and its pictures.

    It depends on the job alone: not on when, where or in which order it was done.

    Args:
        output: where the results are, `metrics.parquet` and `summary.json` among them.
        count: how many pictures of each kind of record: the best, the worst and so on.

    Raises:
        StorageError: they cannot be read.
    """
    summary = json.loads(storage.read(storage.join(output, "summary.json")))
    with Rows(storage.join(output, "metrics.parquet")) as rows:
        scores = scores_of(summary, rows)
        grouped = reasons.failures(storage.join(output, "failures.jsonl"))
        job = summary.get("job", {})
        scoreboard = boards(output, job, scores)
        context = {
            "title": title_of(job),
            "eyebrow": _eyebrow(job),
            "summary": summary,
            "verdict": verdict(summary, scores, rows, scoreboard),
            "tiles": _tiles(summary),
            "scores": scores,
            "shares": {score.name: _better(score, rows) for score in scores if score.compares},
            "charts": [_chart(score, rows) for score in scores[:_CHARTED]],
            "groups": _groups(summary, scores),
            "boards": scoreboard,
            "shown": shown_of(output, job, rows, scores, count),
            "failed": grouped[FAILED],
            "held": grouped[QUARANTINED],
            "warned": reasons.warnings(rows),
            "guards": facts.guards(summary, rows),
            "facts": facts.facts(summary),
            "table": _table(rows, scores),
            "words": STATE_WORDS,
            "piece": PIECE,
            "brightest": BRIGHTEST,
        }
    return render("report.html", context)


def write(output: str, count: int = PICTURES) -> None:
    """Make the report of a job, and write it into its output."""
    Ledger(output).write_result(REPORT, build(output, count))


def title_of(job: Mapping[str, Any]) -> str:
    """Name a job by its archives."""
    names = [posixpath.basename(str(one).rstrip("/")) for one in job.get("archives", ())]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return plain(", ".join(names[:3]) + more) or "Archive"


def _eyebrow(job: Mapping[str, Any]) -> str:
    """Say what kind of job it is, in a line."""
    models = [one["name"] for one in job.get("models", ())]
    model = (job.get("contract") or {}).get("name") or ", ".join(models)
    return " \N{MIDDLE DOT} ".join(filter(None, (job.get("command"), model, job.get("recipe"))))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Our own, and nobody's input.
    environment.globals |= {
        "style": Markup(_asset("style.css")),  # noqa: S704
        "script": Markup(_asset("report.js")),  # noqa: S704
    }
    environment.filters |= {"number": number, "percent": percent, "images": images}
    return environment


def render(template: str, context: Mapping[str, Any]) -> bytes:
    """Render a page, with its styles and its script in it.

    The page itself forbids whatever it is not to do: to load anything, or to run a script that is
    not its own.
    """
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = _environment().get_template(template).render(**context, script_digest=digest)
    return plain(text).encode()


@functools.cache
def _asset(name: str) -> str:
    return resources.files("pipeline.report").joinpath("templates", name).read_text("utf-8").strip()


def _tiles(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Count the images by what became of them."""
    total = max(1, sum(summary[status] for status in STATUSES))
    names = {
        RESTORED: "Restored",
        SKIPPED: "Skipped",
        QUARANTINED: "Held back",
        FAILED: "Failed",
    }
    return [
        {"status": status, "name": name, "count": summary[status], "share": summary[status] / total}
        for status, name in names.items()
    ]


def _better(score: Score, rows: Rows) -> float | None:
    """Give the share of the images that are better by a score."""
    changes = score.changes(rows)
    known = changes[~np.isnan(changes)]
    return float(np.count_nonzero(known > 0) / known.size) if known.size else None


def _chart(score: Score, rows: Rows) -> dict[str, Any]:
    """Draw the distributions of a score: before and after, and of the change."""
    before, after, _ = score.columns
    series = [rows.numbers(column) for column in (before, after) if column is not None]
    counted = histogram(series)
    said = [
        f"{state}: mean {number(mean.mean, score.metric.digits)}"
        for state, mean in ((score.before_state, score.before), (score.after_state, score.after))
        if mean is not None
    ]
    classes = ("before", "after")[: len(series)]
    drawn: dict[str, Any] = {"score": score, "before": None, "change": None, "beyond": 0}
    if counted is not None:
        means = [mean.mean if mean else None for mean in (score.before, score.after)]
        drawn["before"] = charts.histogram_chart(
            counted,
            classes,
            means[: len(series)],
            f"Distribution of {score.title}; {'; '.join(said)}.",
        )
        drawn["beyond"] = counted.beyond
    if score.change is not None:
        changes = score.changes(rows)
        counted = histogram([changes], around_zero=True)
        if counted is not None:
            words = f"Distribution of the change in {score.title}, image by image"
            digits = score.metric.digits
            drawn["change"] = charts.histogram_chart(
                counted,
                ["change"],
                [score.change.mean],
                f"{words}: mean {number(score.change.mean, digits, signed=True)}.",
            )
    return drawn


_GROUPED = {
    "degradation": "By degradation",
    "severity": "By severity",
    "model": "By model",
    "folder": "By folder",
    "format": "By format",
}


def _groups(summary: Mapping[str, Any], scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Give the scores of groups of images, where there are several groups of a kind."""
    found = []
    for kind, groups in summary.get("groups", {}).items():
        if len(groups) < 2 or not scores:
            continue
        names = sorted(groups, key=_in_order)
        drawn = [
            charted for score in scores[:2] if (charted := _grouped(groups, names, score))["lines"]
        ]
        if drawn:
            title = _GROUPED.get(kind, f"By {kind}")
            found.append({"name": kind, "title": title, "more": len(names), "scores": drawn})
            found[-1]["more"] = max(0, len(names) - _MOST_GROUPS)
    order = list(_GROUPED)
    return sorted(found, key=lambda one: order.index(one["name"]) if one["name"] in order else 99)


def _in_order(name: str) -> tuple[float, str]:
    """Sort numbers as numbers, and behind them words as words."""
    return (float(name), "") if re.fullmatch(r"\d+(\.\d+)?", name) else (np.inf, name)


def _grouped(groups: Mapping[str, Any], names: Sequence[str], score: Score) -> dict[str, Any]:
    before, after, gain = score.columns
    found = []
    for name in names[:_MOST_GROUPS]:
        first, second, gain_of = (
            Mean.of_summary(groups[name].get(column)) if column else None
            for column in (before, after, gain)
        )
        if first is not None:
            found.append((name, first, second, gain_of))
    span = charts.Span([end for _, first, second, _ in found for end in _ends(first, second)])
    lines = []
    for name, first, second, gain_of in found:
        interval = None
        if second is not None and second.low is not None and second.high is not None:
            interval = (second.low, second.high)
        chart = span.line(first.mean, second.mean if second else None, interval)
        lines.append(
            {"name": name, "before": first, "after": second, "gain": gain_of, "chart": chart}
        )
    return {"score": score, "axis": span.head(), "lines": lines}


def _ends(first: Mean, second: Mean | None) -> list[float]:
    """Give what is to be on the axis of two means: both, and the interval of the latter."""
    ends = [first.mean]
    if second is not None:
        ends += [end for end in (second.mean, second.low, second.high) if end is not None]
    return ends


def _table(rows: Rows, scores: Sequence[Score]) -> dict[str, Any]:
    """Give the table of records: its columns, and of each row their values."""
    chosen = picks.listed(scores, rows, LISTED)
    columns: list[dict[str, Any]] = [
        {"name": "key", "label": "Image", "kind": "text"},
        {"name": "status", "label": "Status", "kind": "text"},
    ]
    for name, label in (("model", "Model"), ("recipe", "Damage")):
        if rows.varies(name):
            columns.append({"name": name, "label": label, "kind": "text"})
    for score in scores[:2]:
        before, after, gain = score.columns
        states = [(before, score.before_state), (after, score.after_state), (gain, "gain")]
        columns += [
            {
                "name": column,
                "label": f"{score.title}, {STATE_WORDS.get(state or '', state)}",
                "kind": "number",
                "digits": score.metric.digits,
            }
            for column, state in states
            if column
        ]
    columns += [
        {"name": "source_width", "label": "Width", "kind": "number", "digits": 0},
        {"name": "source_height", "label": "Height", "kind": "number", "digits": 0},
        {"name": "warnings", "label": "Warnings", "kind": "text"},
    ]
    names = [column["name"] for column in columns]
    if not any(row["warnings"] for row in rows.take(chosen, ["warnings"])):
        names.pop()
        columns.pop()
    values = [[_cell(row[name]) for name in names] for row in rows.take(chosen, names)]
    return {
        "columns": columns,
        "rows": values,
        "total": len(rows),
        "listed": LISTED,
        "statuses": [status for status in STATUSES if any(row[1] == status for row in values)],
    }


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return "; ".join(value) if isinstance(value, list) else value
