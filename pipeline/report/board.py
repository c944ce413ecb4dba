"""The scoreboard of several models on several recipes, as a report shows it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report import charts
from pipeline.report.scores import Mean, Score
from transforms import storage

FILE = "scoreboard.json"
# What stands for them where a line is of all.
ALL_RECIPES = "all recipes"
# Scores of which a report shows the board; all are in the file.
_SHOWN = 2


def boards(output: str, job: Mapping[str, Any], scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Lay the scoreboard of an evaluation out as tables, one for each of the first scores.

    Args:
        output: where the results are.
        job: what the ledger says the job was.
        scores: of the job.

    Returns:
        Nothing where there is no scoreboard, or none of this job.

    Raises:
        StorageError: it cannot be read.
    """
    path = storage.join(output, FILE)
    if "cells" not in job or not storage.exists(path):
        return []
    board = json.loads(storage.read(path))
    texts = {one["recipe"]: one["text"] for one in board["recipes"]}
    shown = [score for score in scores if score.name in board["metrics"]][:_SHOWN]
    return [_board(board["results"], texts, score) for score in shown]


def _board(
    results: Sequence[Mapping[str, Any]], texts: Mapping[str, str], score: Score
) -> dict[str, Any]:
    held = [(result, result["scores"][score.name]) for result in results]
    known = [(result, said) for result, said in held if said["n"]]
    means = [(said["before"]["mean"], *_ends(said["after"])) for _, said in known]
    span = charts.Span([end for ends in means for end in ends])
    lines = []
    for (result, said), (before, after, *interval) in zip(known, means, strict=True):
        low, high = said["gain"]["ci95"] or (None, None)
        lines.append(
            {
                "recipe": texts.get(result["recipe"], ALL_RECIPES),
                "model": result["model"],
                "before": before,
                "after": after,
                "gain": Mean(said["gain"]["mean"], said["n"], low, high),
                "better": said["better"],
                "rank": said["rank"],
                "chart": span.line(before, after, (interval[0], interval[1]) if interval else None),
            }
        )
    return {"score": score, "axis": span.head(), "lines": lines}


def _ends(said: Mapping[str, Any]) -> list[float]:
    return [said["mean"], *(said["ci95"] or ())]
