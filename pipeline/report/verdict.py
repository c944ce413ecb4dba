"""The verdict: what a person wants to know first, in a few plain sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.ledger import FAILED, QUARANTINED, RESTORED, SKIPPED, STATUSES
from pipeline.report.board import ALL_RECIPES
from pipeline.report.rows import Rows
from pipeline.report.scores import Mean, Score
from pipeline.report.words import images, joined, number, percent

Tone = Literal["good", "bad", "open"]

# What is done to images that come to a good end, by the command.
_DONE = {"restore": "restored", "evaluate": "restored", "demo": "restored", "degrade": "damaged"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a report begins with.

    Attributes:
        tone: whether it helped; open where nobody can say.
        headline: in one sentence.
        sentences: what else there is to know.
        done: what was done to the images that came to a good end: a participle.
    """

    tone: Tone
    headline: str
    sentences: tuple[str, ...]
    done: str


def verdict(
    summary: Mapping[str, Any],
    scores: Sequence[Score],
    rows: Rows,
    boards: Sequence[Mapping[str, Any]] = (),
) -> Verdict:
    """Give a job's verdict.

    Args:
        summary: of the job.
        scores: of it.
        rows: of its table.
        boards: its scoreboard, where it has several models or recipes: see `board.boards`. Means
            over all of them would say nothing of any.
    """
    job = summary.get("job", {})
    done = _DONE.get(job.get("command", ""), "passed on")
    counts = _counts(summary, done, len(job.get("cells", ())))
    compared = [score for score in scores if score.compares and score.change is not None]
    if boards and boards[0]["lines"]:
        tone, headline, more = _best(boards[0])
    elif compared:
        tone, headline, more = _gain(compared, rows)
    else:
        tone, headline, more = "open", counts, _changes(scores)
        counts = ""
    left = summary["planned"] - sum(summary[status] for status in STATUSES)
    unfinished = f"The job has not come to its end: {images(left)} are still to do." if left else ""
    changed = summary.get("masters", {}).get("changed", ())
    masters = (
        f"{images(len(changed)).capitalize()} of the archive changed while the job ran."
        if changed
        else ""
    )
    sentences = (unfinished, masters, counts, *more)
    return Verdict(tone, headline, tuple(filter(None, sentences)), done)


def _counts(summary: Mapping[str, Any], done: str, cells: int) -> str:
    accounted = sum(summary[status] for status in STATUSES)
    total = images(accounted)
    if cells:  # an image has a result in each
        total = f"{accounted:,} results of {images(-(-accounted // cells))}"
    if summary[RESTORED] == accounted:
        return f"All {total} were {done}." if accounted > 1 else f"{total} was {done}."
    parts = [f"{summary[RESTORED]:,} were {done}"]
    if summary[QUARANTINED]:
        parts.append(f"{summary[QUARANTINED]:,} held back by guards")
    if summary[SKIPPED]:
        parts.append(f"{summary[SKIPPED]:,} skipped")
    if summary[FAILED]:
        parts.append(f"{summary[FAILED]:,} failed")
    return f"Of {total}, {joined(parts)}."


def _gain(compared: Sequence[Score], rows: Rows) -> tuple[Tone, str, tuple[str, ...]]:
    """Say whether images are nearer to their originals than before, by the first of the scores."""
    first = compared[0]
    gain = first.change
    assert gain is not None, "these are compared"
    gains = first.changes(rows)
    known = gains[~np.isnan(gains)]
    better, worse = int(np.count_nonzero(known > 0)), int(np.count_nonzero(known < 0))
    by = _by(first, gain)
    if gain.low is None:
        tone: Tone = "open"
        headline = f"One image, {by}: that says nothing of others."
    elif not gain.differs:
        tone = "open"
        headline = f"Whether it helped cannot be told: {by}, which may well be chance."
    elif gain.mean > 0:
        tone, headline = "good", f"It helped: {by}."
    else:
        tone, headline = "bad", f"It did harm: {by}."
    sentences = []
    if len(known) > 1:
        came = [f"{percent(better / len(known))} of the images came nearer to their originals"]
        if worse:
            came.append(f"{worse:,} ({percent(worse / len(known))}) moved away from them")
        sentences.append(f"By {first.title}, {joined(came)}.")
    against = [
        score.title
        for score in compared[1:]
        if score.change is not None
        and score.change.differs
        and (score.change.mean > 0) != (gain.mean > 0)
    ]
    if gain.differs and against:
        verb = "says" if len(against) == 1 else "say"
        sentences.append(f"Not all scores agree: {joined(against)} {verb} otherwise.")
    return tone, headline, tuple(sentences)


def _best(board: Mapping[str, Any]) -> tuple[Tone, str, tuple[str, ...]]:
    """Say which model of a scoreboard did best over all its recipes, and what the others did."""
    score: Score = board["score"]
    over_all = [line for line in board["lines"] if line["recipe"] == ALL_RECIPES]
    lines = sorted(over_all or board["lines"], key=lambda line: (line["rank"], -line["gain"].mean))
    first, *others = lines
    tones: dict[bool, Tone] = {True: "good", False: "bad"}
    gain = first["gain"]
    tone: Tone = tones[gain.mean > 0] if gain.low is not None and gain.differs else "open"
    told = _went(score, first["before"], first["after"], gain)
    if not others:
        words = {"good": "It helped", "bad": "It did harm", "open": "Whether it helped is open"}
        return tone, f"{words[tone]}: {told}.", ()
    ties = [line["model"] for line in others if line["rank"] == 1]
    if ties:
        names = joined([first["model"], *ties])
        headline = f"No one model is best: by {score.title}, {names} cannot be told apart."
        others = lines
    else:
        headline = f"{first['model']} did best: {told}."
    more = (
        f"{line['model']}: {_went(score, line['before'], line['after'], line['gain'])}."
        for line in others
    )
    return ("open" if ties else tone), headline, tuple(more)


def _by(score: Score, gain: Mean) -> str:
    assert score.before is not None, "there is no gain without it"
    assert score.after is not None, "nor without this"
    return _went(score, score.before.mean, score.after.mean, gain)


def _went(score: Score, before: float, after: float, gain: Mean) -> str:
    metric = score.metric
    unit = f" {metric.unit}" if metric.unit else ""
    said = (
        f"{score.title} went from {number(before, metric.digits)} to "
        f"{number(after, metric.digits)}{unit} on average"
    )
    if gain.low is None or gain.high is None:
        return said
    sign = 1 if gain.mean >= 0 else -1
    low, high = sorted((sign * gain.low, sign * gain.high))
    way = "better" if sign > 0 else "worse"
    return (
        f"{said}, {way} by {number(abs(gain.mean), metric.digits)} (95\u202f% interval "
        f"{number(low, metric.digits)} to {number(high, metric.digits)})"
    )


def _changes(scores: Sequence[Score]) -> tuple[str, ...]:
    """Say what became of images that there is nothing to compare with."""
    moved = []
    for score in scores:
        change = score.change
        if not score.compares and change is not None and change.differs:
            way = "rose" if change.mean > 0 else "fell"
            size = number(abs(change.mean), score.metric.digits)
            if any(digit in size for digit in "123456789"):
                moved.append(f"{score.title} {way} by {size}")
    sentences = []
    if not any(score.compares for score in scores):
        sentences.append(
            "There is no original to compare with, so no score says whether they are better."
        )
    if moved:
        sentences.append(f"On average {joined(moved[:4])}.")
    elif any(score.change for score in scores):
        sentences.append("On average, nothing that was measured changed beyond chance.")
    return tuple(sentences)
