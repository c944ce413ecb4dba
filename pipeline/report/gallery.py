"""The gallery of a report: the records that are picked, as pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.ledger import Row
from pipeline.report import picks
from pipeline.report.pictures import Picture, Pictures, picture
from pipeline.report.rows import Rows
from pipeline.report.scores import Score
from pipeline.report.words import number, plain

# Characters of all pictures, and pixels of all masters that are read for them. The first of each
# kind is shown in any case.
MOST_CHARACTERS = 12_000_000
MOST_PIXELS = 400_000_000

_NOTHING, _TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, slots=True)
class Shown:
    """A record with its pictures, or the reason why there are none.

    Attributes:
        row: of `metrics.parquet`.
        scores: what to say of it: names and values.
        picture: what it looks like; None where `reason` says why not.
        reason: why not.
        sides: which of the layers are compared at first.
    """

    row: Row
    scores: tuple[tuple[str, str], ...]
    picture: Picture | None
    reason: str
    sides: tuple[int, int]


def shown_of(
    output: str, job: Mapping[str, Any], rows: Rows, scores: Sequence[Score], count: int
) -> list[dict[str, Any]]:
    """Make the pictures of the records that are picked, kind by kind in turn, as far as room and
    time for them go.
    """
    if job.get("command") == "convert":
        return []  # which touches no pixel
    chosen = picks.picks(scores, rows, count)
    places = [
        (kind, rank)
        for rank in range(count)
        for kind, pick in enumerate(chosen)
        if rank < len(pick.indices)
    ]
    held = rows.take([chosen[kind].indices[rank] for kind, rank in places])
    done: list[list[Shown]] = [[] for _ in chosen]
    left_out = [0] * len(chosen)
    characters = pixels = 0
    with Pictures(output, job, held) as reader:
        for (kind, rank), row in zip(places, held, strict=True):
            size = (row["source_width"] or 0) * (row["source_height"] or 0)
            full = characters > MOST_CHARACTERS or pixels + size > MOST_PIXELS
            if rank and full:
                left_out[kind] += 1
                continue
            shown = _show(reader, job, row, scores)
            pixels += size
            characters += shown.picture.nbytes if shown.picture else 0
            done[kind].append(shown)
    return [
        {"name": pick.name, "title": pick.title, "records": records, "left_out": missing}
        for pick, records, missing in zip(chosen, done, left_out, strict=True)
    ]


def _show(reader: Pictures, job: Mapping[str, Any], row: Row, scores: Sequence[Score]) -> Shown:
    views: list[tuple[str, np.ndarray | str]] = [("Original", had(reader.original, row))]
    original = views[0][1]
    if job.get("command") == "degrade":
        views.append(("Damaged", had(reader.result, row)))
    else:
        if row.get("recipe"):
            made = (
                original
                if isinstance(original, str)
                else had(lambda one: reader.damaged(one, original), row)
            )
            views.append(("Damaged", made))
        views.append(("Restored", had(reader.result, row)))
    drawn = picture(views, (0, len(views) - 1))
    said = tuple(_said(row, scores))
    labels = [layer.label for layer in drawn.layers]
    if not labels:
        return Shown(row, said, None, "; ".join(drawn.trouble), (0, 0))
    # What was put in on the left, what came out on the right.
    right = len(labels) - 1
    left = labels.index("Damaged") if "Damaged" in labels[:right] else 0
    return Shown(row, said, drawn, "", (left, right))


def had(read: Callable[[Row], np.ndarray], row: Row) -> np.ndarray | str:
    """Read an image, or say why it cannot be had."""
    try:
        return read(row)
    except Exception as error:  # whatever a decoder raises: said in the page, in its place
        return plain(" ".join(str(error).split())) or type(error).__name__


def _said(row: Row, scores: Sequence[Score]) -> Iterator[tuple[str, str]]:
    for score in scores[:2]:
        before, after, _ = score.columns
        digits = score.metric.digits
        values = [row.get(column) for column in (before, after) if column]
        if any(value is not None for value in values):
            unit = f" {score.metric.unit}" if score.metric.unit else ""
            told = " → ".join(number(value, digits) or _NOTHING for value in values)
            yield score.title, f"{told}{unit}"
    if row["source_width"]:
        yield "Size", f"{row['source_width']:,} {_TIMES} {row['source_height']:,} pixels"
    if row.get("model"):
        yield "Model", row["model"]
    if row.get("recipe"):
        yield "Damage", row["recipe"].replace("+", " + ")
    if row.get("warnings"):
        yield "Warnings", "; ".join(row["warnings"])
