"""Which records a report shows: the best, the worst, some drawn at random, and those held back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.ledger import FAILED, QUARANTINED, RESTORED
from pipeline.report.rows import Rows, extremes
from pipeline.report.scores import Score


@dataclass(frozen=True, slots=True)
class Pick:
    """Some records, and why just these.

    Attributes:
        name: for links.
        title: what they are called.
        indices: of their rows.
    """

    name: str
    title: str
    indices: tuple[int, ...]


def ranking(scores: Sequence[Score], rows: Rows) -> tuple[np.ndarray, str, tuple[str, str]]:
    """Rank the records of a job by the first of its scores.

    Returns:
        A number for each row, NaN where there is none: the larger the better; what it is; and what
        the records with the smallest and with the largest are called.
    """
    if not scores:
        return np.full(len(rows), np.nan), "", ("", "")
    first = scores[0]
    if first.compares and first.change is not None:
        names = ("Helped least, or harmed", "Helped most")
        return first.changes(rows), f"gain in {first.title}", names
    if first.compares:
        values = rows.numbers(first.columns[0])
        sign = 1 if first.metric.better == "more" else -1
        return sign * values, first.title, ("Damaged most", "Damaged least")
    return (
        -np.abs(first.changes(rows)),
        f"change in {first.title}",
        (
            "Changed most",
            "Changed least",
        ),
    )


def picks(scores: Sequence[Score], rows: Rows, count: int) -> list[Pick]:
    """Choose the records to show, none of them twice.

    Args:
        scores: of the job.
        rows: its table.
        count: how many of each kind.
    """
    if not count:
        return []
    values, by, (low, high) = ranking(scores, rows)
    sound = rows.equals("status", RESTORED)
    values = np.where(sound, values, np.nan)
    smallest, largest = extremes(values, count)
    taken: set[int] = set()
    found = []
    for name, title, indices in (
        ("worst", f"{low}, by {by}", smallest),
        ("best", f"{high}, by {by}", largest),
    ):
        # Of few records, the upper half is the best.
        fresh = [index for index in indices if index not in taken]
        fresh = fresh[: max(1, int(np.count_nonzero(~np.isnan(values))) // 2)]
        taken.update(fresh)
        found.append(Pick(name, title, tuple(fresh)))
    rest = sound.copy()
    rest[list(taken)] = False
    found.append(Pick("random", "Drawn at random", tuple(rows.drawn(count, rest))))
    held = rows.drawn(count, rows.equals("status", QUARANTINED))
    found.append(Pick("held", "Held back by a guard", tuple(held)))
    return [pick for pick in found if pick.indices]


def listed(scores: Sequence[Score], rows: Rows, count: int) -> list[int]:
    """Choose the rows of the table of records, in their order: all, if they are no more than three
    times so many; else so many of the worst, of the best and at random, and of those that failed
    or were held back.
    """
    if len(rows) <= 3 * count:
        return list(range(len(rows)))
    values, _, _ = ranking(scores, rows)
    smallest, largest = extremes(values, count)
    chosen = {*smallest, *largest}
    bad = rows.equals("status", FAILED) | rows.equals("status", QUARANTINED)
    chosen.update(np.flatnonzero(bad)[:count].tolist())
    rest = np.ones(len(rows), bool)
    rest[list(chosen)] = False
    chosen.update(rows.drawn(count, rest))
    return sorted(chosen)
