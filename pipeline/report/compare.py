"""Several runs side by side: `comparison.html`."""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.ledger import STATUSES, Row
from pipeline.options import PICTURES
from pipeline.report import charts, facts, gallery, page
from pipeline.report.pictures import BRIGHTEST, PIECE, Pictures, picture
from pipeline.report.rows import Rows, extremes
from pipeline.report.scores import Mean, Score, histogram, scores_of
from pipeline.report.words import number, plain
from transforms import storage

# Runs that a chart tells apart.
_DRAWN = 6
_NAMES = (("key",), ("key", "recipe"), ("key", "recipe", "model"))


@dataclass(frozen=True, slots=True)
class Run:
    """One of the runs.

    Attributes:
        name: what it is called in the page.
        output: where its results are.
        summary: its `summary.json`.
        rows: its table.
        scores: of it, by name.
    """

    name: str
    output: str
    summary: Mapping[str, Any]
    rows: Rows
    scores: Mapping[str, Score]

    def values(self, name: str) -> np.ndarray:
        """Read what a score came to, image by image: after, where there is an after."""
        before, after, _ = self.scores[name].columns
        return self.rows.numbers(after or before)


def build(outputs: Sequence[str], count: int = PICTURES) -> bytes:
    """Compare several runs, each with the first.

    Images are compared with the same images, by their keys.

    Args:
        outputs: where their results are.
        count: how many pictures of each kind.

    Raises:
        StorageError: they cannot be read.
    """
    with ExitStack() as stack:
        runs = [
            _opened(stack, name, path) for name, path in zip(_named(outputs), outputs, strict=True)
        ]
        first, *others = runs
        common = [name for name in first.scores if all(name in run.scores for run in others)]
        shared = _shared(runs)
        lines = [_line(runs, shared, name) for name in common]
        context = {
            "title": f"{len(runs)} runs",
            "runs": runs,
            "counts": _counts(runs),
            "facts": _facts(runs),
            "lines": lines,
            "verdicts": _verdicts(runs, lines),
            "shared": len(shared[0]),
            "charts": [_chart(runs, line) for line in lines[:4]],
            "shown": _shown(runs, shared, common, count) if common else [],
            "table": _table(runs, shared, common[:1]),
            "piece": PIECE,
            "brightest": BRIGHTEST,
        }
        return page.render("compare.html", context)


def _opened(stack: ExitStack, name: str, output: str) -> Run:
    summary = json.loads(storage.read(storage.join(output, "summary.json")))
    rows = stack.enter_context(Rows(storage.join(output, "metrics.parquet")))
    scores = {score.name: score for score in scores_of(summary, rows)}
    return Run(name, output, summary, rows, scores)


def _named(outputs: Sequence[str]) -> list[str]:
    """Name runs by the last parts of their paths, as many as tell them apart."""
    parts = [output.rstrip("/").split("/") for output in outputs]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return [plain(name) for name in names]
    return [f"{place}: {plain(output)}" for place, output in enumerate(outputs, 1)]


def _shared(runs: Sequence[Run]) -> list[np.ndarray]:
    """Find the rows that all runs have: for each run int64 [N], in the same order.

    By their keys; where a key has several rows, by recipe and model as well.
    """
    for names in _NAMES:
        digests = [np.fromiter(_digests(run.rows, names), np.uint64) for run in runs]
        if all(len(np.unique(one)) == len(one) for one in digests):
            break
    both = functools.reduce(np.intersect1d, digests)
    found = []
    for one in digests:
        order = np.argsort(one, kind="stable")
        found.append(order[np.searchsorted(one[order], both)])
    order = np.argsort(found[0])  # as in the table of the first, which is that of the keys
    return [one[order] for one in found]


def _digests(rows: Rows, names: Sequence[str]) -> Iterator[int]:
    for values in zip(*(rows.values(name) for name in names if name in rows.names), strict=True):
        text = "\0".join(value or "" for value in values)
        yield int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _improvements(score: Score, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Give by how much the second values are better; where none is better, how they differ."""
    better = score.metric.better
    if better == "less":
        return before - after
    return np.abs(before) - np.abs(after) if better == "zero" else after - before


def _line(runs: Sequence[Run], shared: Sequence[np.ndarray], name: str) -> dict[str, Any]:
    """Give one score of all runs, and how it differs from that of the first."""
    score = runs[0].scores[name]
    base = runs[0].values(name)[shared[0]]
    differences = [
        Mean.of_values(_improvements(score, base, run.values(name)[same]))
        for run, same in zip(runs[1:], shared[1:], strict=True)
    ]
    return {
        "score": score,
        "means": [run.scores[name].after or run.scores[name].before for run in runs],
        "differences": differences,
    }


def _verdicts(runs: Sequence[Run], lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in a sentence for each other run how it compares with the first, by the first score."""
    if not lines:
        return ["The runs have no score in common."]
    score, said = lines[0]["score"], []
    for run, difference in zip(runs[1:], lines[0]["differences"], strict=True):
        if difference is None:
            said.append(f"{run.name} has no image in common with {runs[0].name}.")
            continue
        size = number(abs(difference.mean), score.metric.digits)
        unit = f" {score.metric.unit}" if score.metric.unit else ""
        if not difference.differs:
            said.append(
                f"{run.name} and {runs[0].name} cannot be told apart by {score.title}: they "
                f"differ by {size}{unit} on average, which may well be chance."
            )
            continue
        way = (
            ("better" if difference.mean > 0 else "worse")
            if score.metric.better
            else ("more" if difference.mean > 0 else "less")
        )
        ends = sorted(abs(end) for end in (difference.low, difference.high))
        low, high = (number(end, score.metric.digits) for end in ends)
        said.append(
            f"By {score.title}, {run.name} is {size}{unit} {way} than {runs[0].name} on the same "
            f"images (95\u202f% interval {low} to {high})."
        )
    return said


def _counts(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    return [
        (name.capitalize(), [f"{run.summary[name]:,}" for run in runs])
        for name in ("planned", *STATUSES, "warnings")
    ]


def _facts(runs: Sequence[Run]) -> dict[str, list[tuple[str, list[str]]]]:
    """Part the facts of the runs into what differs and what is the same."""
    each = [
        {
            f"{heading}: {name}": value
            for heading, pairs in facts.facts(run.summary).items()
            for name, value in pairs
        }
        for run in runs
    ]
    names = list(dict.fromkeys(name for one in each for name in one))
    found: dict[str, list[tuple[str, list[str]]]] = {"What differs": [], "What is the same": []}
    for name in names:
        values = [one.get(name, "") for one in each]
        same = len(set(values)) == 1
        found["What is the same" if same else "What differs"].append((name, values))
    return found


def _chart(runs: Sequence[Run], line: Mapping[str, Any]) -> dict[str, Any]:
    score = line["score"]
    drawn = runs[:_DRAWN]
    counted = histogram([run.values(score.name) for run in drawn])
    said = [
        f"{run.name}: mean {number(mean.mean, score.metric.digits)}"
        for run, mean in zip(drawn, line["means"], strict=False)
        if mean
    ]
    chart = counted and charts.histogram_chart(
        counted,
        [f"run-{place}" for place in range(len(drawn))],
        [mean and mean.mean for mean in line["means"][: len(drawn)]],
        f"Distribution of {score.title}; {'; '.join(said)}.",
    )
    return {"score": score, "chart": chart}


def _chosen(
    runs: Sequence[Run], shared: Sequence[np.ndarray], name: str, count: int
) -> tuple[list[int], list[int]]:
    """Find where the last run is worst and best against the first: places in `shared`."""
    score = runs[0].scores[name]
    values = _improvements(
        score, runs[0].values(name)[shared[0]], runs[-1].values(name)[shared[-1]]
    )
    return extremes(values, count)


def _shown(
    runs: Sequence[Run], shared: Sequence[np.ndarray], names: Sequence[str], count: int
) -> list[dict[str, Any]]:
    """Make the pictures of the images on which the last run is worst and best against the first."""
    if not count:
        return []
    worst, best = _chosen(runs, shared, names[0], count)
    best = [place for place in best if place not in worst[: max(1, len(shared[0]) // 2)]]
    worst = [place for place in worst if place not in best]
    title = runs[0].scores[names[0]].title
    found = []
    characters = pixels = 0
    for kind, words, places in (
        ("worst", f"{runs[-1].name} against {runs[0].name}: worst by {title}", worst),
        ("best", f"{runs[-1].name} against {runs[0].name}: best by {title}", best),
    ):
        held = [
            run.rows.take([int(same[place]) for place in places])
            for run, same in zip(runs, shared, strict=True)
        ]
        records = []
        left_out = 0
        with ExitStack() as stack:
            readers = [
                stack.enter_context(Pictures(run.output, run.summary["job"], rows))
                for run, rows in zip(runs, held, strict=True)
            ]
            for rank, rows in enumerate(zip(*held, strict=True)):
                size = len(runs) * (rows[0]["source_width"] or 0) * (rows[0]["source_height"] or 0)
                full = characters > gallery.MOST_CHARACTERS or pixels + size > gallery.MOST_PIXELS
                if rank and full:
                    left_out += 1
                    continue
                shown = _show(runs, readers, rows, names)
                characters += shown.picture.nbytes if shown.picture else 0
                pixels += size
                records.append(shown)
        if records:
            found.append({"name": kind, "title": words, "records": records, "left_out": left_out})
    return found


def _show(
    runs: Sequence[Run],
    readers: Sequence[Pictures],
    rows: Sequence[Row],
    names: Sequence[str],
) -> gallery.Shown:
    views = [("Original", gallery.had(readers[0].original, rows[0]))]
    views += [
        (run.name, gallery.had(reader.result, row))
        for run, reader, row in zip(runs, readers, rows, strict=True)
    ]
    drawn = picture(views, (1, len(views) - 1))
    said = []
    for name in names[:2]:
        score = runs[0].scores[name]
        values = []
        for run, row in zip(runs, rows, strict=True):
            before, after, _ = run.scores[name].columns
            values.append(number(row.get(after or before), score.metric.digits) or "\u2013")
        said.append((score.title, " · ".join(values)))
    labels = [layer.label for layer in drawn.layers]
    if not labels:
        return gallery.Shown(rows[0], tuple(said), None, "; ".join(drawn.trouble), (0, 0))
    left = labels.index(runs[0].name) if runs[0].name in labels else 0
    return gallery.Shown(rows[0], tuple(said), drawn, "", (left, len(labels) - 1))


def _table(
    runs: Sequence[Run], shared: Sequence[np.ndarray], names: Sequence[str]
) -> dict[str, Any]:
    """Give the table of the images that all runs have."""
    total = len(shared[0])
    places = list(range(total))
    if total > 3 * page.LISTED:
        places = list(range(page.LISTED)) if not names else []
        for name in names:
            worst, best = _chosen(runs, shared, name, page.LISTED)
            places = sorted({*worst, *best})
    columns: list[dict[str, Any]] = [{"name": "key", "label": "Image", "kind": "text"}]
    held = runs[0].rows.take([int(shared[0][place]) for place in places], ["key"])
    values: list[list[Any]] = [[row["key"]] for row in held]
    for name in names:
        score = runs[0].scores[name]
        settings = {"kind": "number", "digits": score.metric.digits}
        taken = [run.values(name)[same][places] for run, same in zip(runs, shared, strict=True)]
        added = [(f"{score.title}, {run.name}", one) for run, one in zip(runs, taken, strict=True)]
        added += [
            (f"{run.name} against {runs[0].name}", _improvements(score, taken[0], one))
            for run, one in zip(runs[1:], taken[1:], strict=True)
        ]
        for label, numbers in added:
            columns.append({"name": label, "label": label, **settings})
            for row, value in zip(values, numbers.tolist(), strict=True):
                row.append(None if np.isnan(value) else float(f"{value:.6g}"))
    return {
        "columns": columns,
        "rows": values,
        "total": total,
        "listed": page.LISTED,
        "statuses": [],
    }
