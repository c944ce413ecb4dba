"""Hold an evaluation to an earlier scoreboard: is any model significantly worse at anything?

Where the earlier `metrics.parquet` still lies beside its scoreboard, gains are compared image by
image (paired t test); else means are, from the scoreboard alone (Welch's t test).
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.fixity import digest
from pipeline.scoreboard.board import FORMAT, JSON, METRICS_FILE, Plan, name_key
from pipeline.scoreboard.figures import (
    Differences,
    Json,
    holm,
    is_significant,
    rounded,
    welch,
)
from pipeline.scoreboard.grids import ROWS, Score, read_grids, read_scores, scores_in
from pipeline.statistics import hashes_of
from transforms import storage

log = logging.getLogger("heliograph")

PAIRED, WELCH = "paired by image", "Welch"


class ScoreboardError(ValueError):
    """A scoreboard that an evaluation cannot be held to, and why."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier scoreboard.

    Attributes:
        path: of its file.
        board: what it says.
    """

    path: str
    board: Mapping[str, Any]

    @property
    def metrics(self) -> str:
        """The table that it was made of."""
        folder, slash, _ = self.path.rpartition("/")
        return storage.join(folder if slash else ".", METRICS_FILE)


def read_scoreboard(path: str) -> Earlier:
    """Read an earlier scoreboard, by its path or that of the output that it lies in.

    Raises:
        ScoreboardError: it is none.
        StorageError: it cannot be read.
    """
    if storage.exists(inside := storage.join(path, JSON)):
        path = inside
    try:
        board = json.loads(storage.read(path))
        if board["format"] == FORMAT and board["results"]:
            return Earlier(path, board)
        reason = f"its format is {board['format']}, not {FORMAT}"
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise ScoreboardError(f"--gate {path} is no {JSON} of an evaluation: {reason}")


def check_scoreboard(gate: Earlier, facts: Mapping[str, Any], scores: Iterable[str]) -> None:
    """Make sure that a job can be held to a gate, before it is run.

    Args:
        gate: the earlier scoreboard.
        facts: of the job, as the ledger will have them.
        scores: names of the scores that it can have, as columns.

    Raises:
        ScoreboardError: its recipes, seed, models or metrics are others; the message says which.
    """
    plan, board = Plan.of(facts), gate.board
    now = dict(plan.recipes)
    before = {one["recipe"]: one["text"] for one in board["recipes"]}
    told = []
    if missing := [text for recipe, text in before.items() if recipe not in now]:
        told.append(f"it has recipes that are not evaluated now: {', '.join(missing)}")
    if more := [text for recipe, text in now.items() if recipe not in before]:
        told.append(f"it does not have the recipes {', '.join(more)}")
    if board["seed"] != facts["seed"]:
        told.append(f"its seed is {board['seed']}, not {facts['seed']}")
    names, others = [name for name, _ in plan.models], [one["name"] for one in board["models"]]
    if not _pairs(names, others):
        told.append(f"its models are {', '.join(others)}, not {', '.join(names)}")
    taken = {score.name for score in scores_in(list(scores))}
    if taken.isdisjoint(board["metrics"]):
        told.append(f"none of its metrics is taken now: {', '.join(board['metrics']) or 'none'}")
    if told:
        raise ScoreboardError(f"--gate {gate.path} is of another evaluation: {'; '.join(told)}")


def check_archive(gate: Earlier, keys: Sequence[str]) -> None:
    """Make sure that a gate is of images of the same names.

    Raises:
        ScoreboardError: it is of others.
    """
    total = hashlib.sha256()
    for key in sorted(keys):
        name_key(total, key)
    _check_keys(gate, len(keys), total.hexdigest())


def _check_keys(gate: Earlier, count: int, keys_sha256: str) -> None:
    archive = gate.board["archive"]
    if archive["keys_sha256"] == keys_sha256:
        return
    other = f"{archive['masters']}" if archive["masters"] != count else f"{count} others"
    raise ScoreboardError(
        f"--gate {gate.path} is of another archive: of {other}, not of these {count}"
    )


def _pairs(names: Sequence[str], others: Sequence[str]) -> list[tuple[int, int]]:
    """Say which model is to be held to which: to that of its name, or of its place, where as many
    have other names. None for no way to tell.
    """
    if set(names) <= set(others):
        return [(place, others.index(name)) for place, name in enumerate(names)]
    if len(names) == len(others):
        return [(place, place) for place in range(len(names))]
    return []


def hold(gate: Earlier, output: str, rows: int = ROWS) -> Json:
    """Compare an evaluation that has come to its end with an earlier one.

    Args:
        gate: the earlier scoreboard.
        output: the folder of the results.
        rows: of tables, how many are in memory at a time.

    Returns:
        Whether it `passed`, and what was compared: for JSON.

    Raises:
        ScoreboardError: it is of other images.
        StorageError: a file cannot be read.
    """
    board = json.loads(storage.read(storage.join(output, JSON)))
    _check_keys(gate, board["archive"]["masters"], board["archive"]["keys_sha256"])
    how = PAIRED if _has_table(gate) else WELCH
    told = {
        "scoreboard": gate.path,
        "method": how,
        "same_masters": board["archive"]["masters_sha256"]
        == gate.board["archive"]["masters_sha256"],
    }
    compared = list(
        _by_image(gate, board, output, rows) if how == PAIRED else _by_mean(gate, board)
    )
    for metric in {one["metric"] for one in compared}:
        some = [one for one in compared if one["metric"] == metric]
        for one, p in zip(some, holm([one["p"] for one in some]), strict=True):
            one["p_holm"] = rounded(p)
            one["lost"] = is_significant(one) and one["difference"] < 0
    return {**told, "passed": not any(one["lost"] for one in compared), "compared": compared}


def _has_table(gate: Earlier) -> bool:
    """Tell whether the table of an earlier scoreboard is there, and still what it was."""
    path = gate.metrics
    return storage.exists(path) and digest(path).sha256 == gate.board["metrics_sha256"]


def _matching(gate: Earlier, board: Json) -> list[tuple[Json, Json]]:
    """Give the results that are of one recipe and of models that are held to each other."""
    names = [one["name"] for one in board["models"]]
    others = [one["name"] for one in gate.board["models"]]
    held = {names[now]: others[before] for now, before in _pairs(names, others)}
    before = {(one["recipe"], one["model"]): one for one in gate.board["results"]}
    places = ((one, (one["recipe"], held[one["model"]])) for one in board["results"])
    return [(one, before[place]) for one, place in places if one["recipe"] is not None]


def _shared(gate: Earlier, board: Json) -> list[str]:
    return [name for name in board["metrics"] if name in gate.board["metrics"]]


def _entry(now: Json, before: Json, metric: str) -> Json:
    return {
        "metric": metric,
        "recipe": now["recipe"],
        "model": now["model"],
        "against": before["model"],
        "now": now["scores"][metric]["gain"]["mean"],
        "before": before["scores"][metric]["gain"]["mean"],
    }


def _by_mean(gate: Earlier, board: Json) -> list[Json]:
    found = []
    for now, before in _matching(gate, board):
        for metric in _shared(gate, board):
            one, other = (result["scores"][metric] for result in (now, before))
            tested = welch(one["gain"], other["gain"], (one["n"], other["n"]))
            entry = _entry(now, before, metric)
            if tested is None:
                difference, ends, p = None, None, None
            else:
                difference = rounded(one["gain"]["mean"] - other["gain"]["mean"])
                ends, p = [rounded(end) for end in tested[0]], tested[1]
            found.append(
                {**entry, "n": one["n"], "difference": difference, "ci95": ends, "p": rounded(p)}
            )
    return found


def _by_image(gate: Earlier, board: Json, output: str, rows: int) -> list[Json]:
    """Compare the gains of the images of which the masters are the same."""
    held = _matching(gate, board)
    cells = [one["cell"] for one in board["results"] if one["recipe"] is not None]
    earlier = [one["cell"] for one in gate.board["results"] if one["recipe"] is not None]
    path = storage.join(output, METRICS_FILE)
    known = {score.name: score for score in read_scores(path)}
    found = []
    for metric in _shared(gate, board):  # one at a time, so that as much is in memory
        now = _column(path, cells, known[metric], rows)
        before = _column(gate.metrics, earlier, known[metric], rows)
        _, here, there = np.intersect1d(now[0], before[0], return_indices=True)
        for one, other in held:
            mine = now[1][here, cells.index(one["cell"])]
            theirs = before[1][there, earlier.index(other["cell"])]
            differences = Differences()
            differences.add(mine - theirs)
            told = differences.to_json()
            found.append(
                {
                    **_entry(one, other, metric),
                    "n": differences.values.count,
                    "difference": told["mean"],
                    "ci95": told["ci95"],
                    "p": rounded(differences.p),
                    "better": differences.better,
                    "worse": differences.worse,
                    "missing": int(np.count_nonzero(np.isfinite(theirs) & ~np.isfinite(mine))),
                }
            )
    return found


def _column(
    path: str, cells: Sequence[str | None], score: Score, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read one metric's gains: hashes of keys and masters, uint64 [N], and float64 [N, cells]."""
    hashes, gains = [np.empty(0, np.uint64)], [np.empty((0, len(cells)))]
    for grid in read_grids(path, cells, [score], rows):
        named = zip(grid.keys, grid.masters, strict=True)
        hashes.append(
            hashes_of(f"{key}\0{master}".encode("utf-8", "surrogatepass") for key, master in named)
        )
        gains.append(grid.gain[score.name])
    return np.concatenate(hashes), np.concatenate(gains)


def tell(verdict: Json) -> None:
    """Print how a gate was passed to the log."""
    name = f"gate {verdict['scoreboard']}"
    if not verdict["same_masters"]:
        log.warning("%s: some masters have other bytes than they had", name)
    if not verdict["compared"]:
        log.warning("%s: there is nothing to compare", name)
    for one in verdict["compared"]:
        if one.get("missing"):
            told = (one["model"], one["recipe"], one["missing"], one["metric"])
            log.warning("%s: %s on %s: %d images that had %s have none now", name, *told)
        if one["difference"] is None or not is_significant(one):
            continue
        low, high = one["ci95"]
        log.log(
            logging.ERROR if one["lost"] else logging.INFO,
            "%s: %s on %s is %s: its gain of %s is %.6g, and was %.6g (%+.3g, from %.3g to %.3g, "
            "of %d images, p = %.2g)",
            *(name, one["model"], one["recipe"], "worse" if one["lost"] else "better"),
            *(one["metric"], one["now"], one["before"], one["difference"], low, high),
            *(one["n"], one["p_holm"]),
        )
    if verdict["passed"]:
        log.info("%s: passed, nothing is significantly worse (%s)", name, verdict["method"])
