"""Make a scoreboard of an output's `metrics.parquet`, as JSON, CSV and Markdown."""

import csv
import hashlib
import io
import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np

from pipeline.fixity import digest
from pipeline.ledger import Ledger
from pipeline.rows import STATUSES
from pipeline.scoreboard.figures import (
    Differences,
    Json,
    holm,
    is_significant,
    over_recipes,
    rounded,
    summed,
)
from pipeline.scoreboard.grids import ROWS, Grid, Score, read_grids, read_scores
from pipeline.scoreboard.markdown import write_markdown
from pipeline.statistics import Accumulator
from transforms import storage

log = logging.getLogger("heliograph")

FORMAT = 1
METRICS_FILE = "metrics.parquet"
JSON, CSV, MARKDOWN = FILES = ("scoreboard.json", "scoreboard.csv", "scoreboard.md")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the cells of a job are.

    Attributes:
        models: name and SHA-256 of each.
        recipes: canonical text of each, and as it was written.
        cells: names, recipe by recipe; None alone of a job of one.
    """

    models: tuple[tuple[str, str], ...]
    recipes: tuple[tuple[str, str], ...]
    cells: tuple[str | None, ...]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Plan":
        """Read them from the facts of a job."""
        if "cells" not in facts:
            model = facts["contract"]["name"], facts["model_sha256"]
            return cls((model,), ((facts["recipe"], facts["recipe"]),), (None,))
        models = tuple((one["name"], one["model_sha256"]) for one in facts["models"])
        recipes = {cell["recipe"]: cell["text"] for cell in facts["cells"]}
        cells = tuple(cell["name"] for cell in facts["cells"])
        return cls(models, tuple(recipes.items()), cells)

    def cell(self, recipe: int, model: int) -> int:
        """Give the number of a cell."""
        return recipe * len(self.models) + model


@dataclass(slots=True)
class _Scores:
    """The scores of one model on one recipe, or on all."""

    before: Accumulator = field(default_factory=lambda: Accumulator(1))
    after: Accumulator = field(default_factory=lambda: Accumulator(1))
    gain: Differences = field(default_factory=Differences)

    def add(self, before: np.ndarray, after: np.ndarray, gain: np.ndarray) -> None:
        hashes = np.arange(len(gain), dtype=np.uint64)
        self.before.add(before, hashes)
        self.after.add(after, hashes)
        self.gain.add(gain)

    def to_json(self) -> Json:
        count = self.gain.values.count
        return {
            "n": count,
            "before": summed(self.before),
            "after": summed(self.after),
            "gain": self.gain.to_json(),
            "p": rounded(self.gain.p),
            "better": rounded(self.gain.better / count) if count else None,
            "worse": rounded(self.gain.worse / count) if count else None,
        }


# A recipe's number, or None for all of them together.
_Recipe = int | None


class _Tally:
    """All that is added up while the rows go by."""

    def __init__(self, plan: Plan, scores: Sequence[Score]) -> None:
        self.plan = plan
        self.names = [score.name for score in scores]
        # All recipes of one are that one.
        self.recipes: list[_Recipe] = [*range(len(plan.recipes))]
        self.recipes += [None] if len(plan.recipes) > 1 else []
        self.pairs = list(itertools.combinations(range(len(plan.models)), 2))
        places = list(itertools.product(self.names, self.recipes))
        self.scores = {
            (*place, model): _Scores() for place in places for model in range(len(plan.models))
        }
        self.pairings = {(*place, pair): Differences() for place in places for pair in self.pairs}
        self.statuses = np.zeros((len(plan.cells), len(STATUSES)), np.int64)
        self.images = 0
        self.masters = 0
        self.keys, self.digests = hashlib.sha256(), hashlib.sha256()

    def add(self, grid: Grid) -> None:
        self.statuses += grid.statuses
        self.images += len(grid.keys)
        self.masters += int(grid.first.sum())
        for key, master, first in zip(grid.keys, grid.masters, grid.first, strict=True):
            if first:
                name_key(self.keys, key)
                name_key(self.digests, f"{key}\0{master}")
        for name in self.names:
            for recipe in self.recipes:
                for model in range(len(self.plan.models)):
                    self.scores[name, recipe, model].add(
                        *(
                            self._of(values[name], recipe, model)
                            for values in (grid.before, grid.after, grid.gain)
                        )
                    )
                for one, other in self.pairs:
                    parts = [
                        self._column(grid.gain[name], number, one)
                        - self._column(grid.gain[name], number, other)
                        for number in self._numbers(recipe)
                    ]
                    values = parts[0] if recipe is not None else over_recipes(parts)
                    self.pairings[name, recipe, (one, other)].add(values)

    def _numbers(self, recipe: _Recipe) -> Sequence[int]:
        return range(len(self.plan.recipes)) if recipe is None else (recipe,)

    def _column(self, values: np.ndarray, recipe: int, model: int) -> np.ndarray:
        return values[:, self.plan.cell(recipe, model)]

    def _of(self, values: np.ndarray, recipe: _Recipe, model: int) -> np.ndarray:
        parts = (self._column(values, number, model) for number in self._numbers(recipe))
        return next(parts) if recipe is not None else over_recipes(parts)


def name_key(digest_: Any, key: str) -> None:
    """Add a key to a digest, as text, whatever bytes it is of."""
    digest_.update(key.encode("utf-8", "backslashreplace") + b"\n")


def make(output: str, rows: int = ROWS) -> Json:
    """Make the scoreboard of an evaluation and write it beside its summary.

    Args:
        output: the folder of its results.
        rows: of the table, how many are in memory at a time.

    Raises:
        StorageError: the table cannot be read, or nothing be written.
    """
    ledger = Ledger(output)
    job = ledger.job() or {}
    plan = Plan.of(job["job"])
    path = storage.join(output, METRICS_FILE)
    scores = read_scores(path)
    tally = _Tally(plan, scores)
    for grid in read_grids(path, plan.cells, scores, rows):
        tally.add(grid)
    board = {
        "format": FORMAT,
        "digest": job.get("digest"),
        "seed": job["job"].get("seed"),
        "archive": {
            "masters": tally.masters,
            "images": tally.images,
            "keys_sha256": tally.keys.hexdigest(),
            "masters_sha256": tally.digests.hexdigest(),
        },
        "metrics_sha256": digest(path).sha256,
        "models": [{"name": name, "sha256": sha256} for name, sha256 in plan.models],
        "recipes": [{"recipe": recipe, "text": text} for recipe, text in plan.recipes],
        "metrics": {score.name: _described(score) for score in scores},
        "results": list(_results(tally)),
        "comparisons": list(_comparisons(tally)),
    }
    _rank(board)
    text = json.dumps(board, indent=1, ensure_ascii=False, allow_nan=False)
    ledger.write_result(JSON, text.encode("utf-8", "backslashreplace") + b"\n")
    ledger.write_result(CSV, _csv(board))
    ledger.write_result(MARKDOWN, write_markdown(board))
    return board


def _described(score: Score) -> Json:
    metric = score.metric
    return {"title": score.title, "digits": metric.digits, "better": metric.better}


def _results(tally: _Tally) -> Iterator[Json]:
    """Give what came of each model on each recipe, and on all."""
    plan = tally.plan
    corrected: dict[tuple, float | None] = {}
    for name in tally.names:
        for family in (tally.recipes[: len(plan.recipes)], tally.recipes[len(plan.recipes) :]):
            places = [(name, recipe, m) for recipe in family for m in range(len(plan.models))]
            ps = holm([tally.scores[place].gain.p for place in places])
            corrected |= dict(zip(places, ps, strict=True))
    for recipe in tally.recipes:
        for model, (title, _) in enumerate(plan.models):
            cells = [plan.cell(number, model) for number in tally._numbers(recipe)]
            counts = tally.statuses[cells].sum(axis=0).tolist()
            yield {
                "recipe": None if recipe is None else plan.recipes[recipe][0],
                "model": title,
                "cell": None if recipe is None else plan.cells[cells[0]],
                **dict(zip(STATUSES, counts, strict=True)),
                "scores": {
                    name: {
                        **tally.scores[name, recipe, model].to_json(),
                        "p_holm": rounded(corrected[name, recipe, model]),
                    }
                    for name in tally.names
                },
            }


def _comparisons(tally: _Tally) -> Iterator[Json]:
    """Give what tells each model from each other, on each recipe and on all."""
    plan = tally.plan
    for name in tally.names:
        for family in (tally.recipes[: len(plan.recipes)], tally.recipes[len(plan.recipes) :]):
            places = list(itertools.product([name], family, tally.pairs))
            ps = [tally.pairings[place].p for place in places]
            for (_, recipe, (one, other)), p, p_holm in zip(places, ps, holm(ps), strict=True):
                found = tally.pairings[name, recipe, (one, other)]
                yield {
                    "metric": name,
                    "recipe": None if recipe is None else plan.recipes[recipe][0],
                    "first": plan.models[one][0],
                    "second": plan.models[other][0],
                    "n": found.values.count,
                    "difference": found.to_json(),
                    "p": rounded(p),
                    "p_holm": rounded(p_holm),
                    "first_better": found.better,
                    "second_better": found.worse,
                }


def _rank(board: Json) -> None:
    """Give each result its rank: one more than the models that are significantly better."""
    beaten: dict[tuple, int] = {}
    for one in board["comparisons"]:
        if is_significant(one):
            loser = "second" if one["difference"]["mean"] > 0 else "first"
            place = one["metric"], one["recipe"], one[loser]
            beaten[place] = beaten.get(place, 0) + 1
    for result in board["results"]:
        for name, score in result["scores"].items():
            rank = 1 + beaten.get((name, result["recipe"], result["model"]), 0)
            score["rank"] = rank if score["n"] else None


_COLUMNS = (
    *("recipe", "model", "cell", "metric", "n", "before", "after", "gain"),
    *("gain_std", "gain_low", "gain_high", "p", "p_holm", "better", "worse", "rank"),
)


def _csv(board: Json) -> bytes:
    """Write a line for each model, recipe and metric; the recipe is empty for all of them."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\r\n")
    table.writerow(_COLUMNS)
    for result in board["results"]:
        for name, score in result["scores"].items():
            low, high = score["gain"]["ci95"] or (None, None)
            table.writerow(
                [
                    *(result["recipe"], result["model"], result["cell"], name, score["n"]),
                    *(score[state]["mean"] for state in ("before", "after", "gain")),
                    *(score["gain"]["std"], low, high),
                    *(score[column] for column in ("p", "p_holm", "better", "worse", "rank")),
                ]
            )
    return out.getvalue().encode("utf-8", "backslashreplace")


def tell(output: str) -> None:
    """Print the scoreboard."""
    print(storage.read(storage.join(output, MARKDOWN)).decode())


class Scoreboard(beam.PTransform):
    """Write the scoreboard once the summary is there.

    Args:
        output: the output folder.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def expand(self, summarised: beam.PCollection[int]) -> beam.PCollection[int]:
        """Wait for the one number that says so, and give it on."""
        output = self.output

        def write(total: int) -> int:
            make(output)
            return total

        return summarised | beam.Map(write).with_output_types(int)
