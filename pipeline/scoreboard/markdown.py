"""A scoreboard as a table that people want to read."""

import re
from collections.abc import Iterator

from pipeline.scoreboard.figures import Json, is_significant

_ALL = "all recipes"


def write_markdown(board: Json) -> bytes:
    """Write a scoreboard as Markdown: of each metric the results, and what tells models apart."""
    return "".join(f"{line}\n" for line in _lines(board)).encode("utf-8", "backslashreplace")


def _lines(board: Json) -> Iterator[str]:
    models, recipes = board["models"], board["recipes"]
    yield "# Scoreboard"
    yield ""
    yield (
        f"{_counted(board['archive']['images'], 'image')}, {_counted(len(recipes), 'recipe')}, "
        f"{_counted(len(models), 'model')}, seed {board['seed']}."
    )
    if missing := list(_missing(board)):
        yield ""
        yield " ".join(missing)
    if not board["metrics"]:
        yield ""
        yield "No score was taken that says what is better (`--metrics`)."
        return
    yield ""
    yield (
        "Mean scores, and by how much they are better than with nothing done, ± the half of its "
        "95 % interval; ° where that may be chance."
    )
    if len(models) > 1:
        yield (
            "**Bold** is the best, with all that are not significantly worse: paired by image, "
            "p < 0.05 after Holm's correction."
        )
    for name, metric in board["metrics"].items():
        yield ""
        yield f"## {metric['title']}"
        yield ""
        yield from _results(board, name, metric)
        if len(models) > 1:
            yield ""
            yield from _comparisons(board, name, metric)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _missing(board: Json) -> Iterator[str]:
    """Say where results are missing, or held back."""
    for result in board["results"]:
        told = [f"{result[kind]} {kind}" for kind in ("failed", "quarantined") if result[kind]]
        if told and result["recipe"] is not None:
            model, recipe = _inline(result["model"]), _recipe(board, result["recipe"])
            yield f"{model} on {recipe}: {', '.join(told)}."


def _results(board: Json, name: str, metric: Json) -> Iterator[str]:
    models = [model["name"] for model in board["models"]]
    found = {(one["recipe"], one["model"]): one["scores"][name] for one in board["results"]}
    yield _row(["recipe", "nothing done", *map(_inline, models), "images"])
    yield _row(["---", *["---:"] * (len(models) + 2)])
    for recipe in dict.fromkeys(one["recipe"] for one in board["results"]):
        scores = [found[recipe, model] for model in models]
        if not any(score["n"] for score in scores):
            continue
        best = len(models) > 1
        images = {score["n"] for score in scores}
        counts = str(min(images)) if len(images) == 1 else f"{min(images)} to {max(images)}"
        yield _row(
            [
                _recipe(board, recipe),
                _before(scores, metric),
                *(_cell(score, metric, best and score["rank"] == 1) for score in scores),
                counts,
            ]
        )


def _before(scores: list[Json], metric: Json) -> str:
    """Give the score of doing nothing: of the model with most images, should they differ."""
    most = max(scores, key=lambda score: score["n"])
    return _number(most["before"]["mean"], metric)


def _cell(score: Json, metric: Json, best: bool) -> str:
    if not score["n"]:
        return ""
    after = _number(score["after"]["mean"], metric)
    gain = _number(score["gain"]["mean"], metric, signed=True)
    chance = "" if is_significant(score) else "°"
    return f"{f'**{after}**' if best else after} ({gain}{_reach(score['gain'], metric)}{chance})"


def _comparisons(board: Json, name: str, metric: Json) -> Iterator[str]:
    some = [one for one in board["comparisons"] if one["metric"] == name and one["n"]]
    yield _row(["recipe", "model", "against", "difference of gains", "p", "better : worse"])
    yield _row(["---", "---", "---", "---:", "---:", "---:"])
    for one in some:
        difference = _number(one["difference"]["mean"], metric, signed=True)
        difference += _reach(one["difference"], metric)
        yield _row(
            [
                _recipe(board, one["recipe"]),
                _inline(one["first"]),
                _inline(one["second"]),
                f"**{difference}**" if is_significant(one) else f"{difference}°",
                "" if one["p_holm"] is None else f"{one['p_holm']:.2g}",
                f"{one['first_better']} : {one['second_better']}",
            ]
        )


def _reach(values: Json, metric: Json) -> str:
    if values["ci95"] is None:
        return ""
    low, high = values["ci95"]
    return f" ± {_number((high - low) / 2, metric)}"


def _number(value: float, metric: Json, *, signed: bool = False) -> str:
    return f"{value:{'+' if signed else ''}.{metric['digits']}f}"


def _recipe(board: Json, recipe: str | None) -> str:
    if recipe is None:
        return _ALL
    return _inline(next(one["text"] for one in board["recipes"] if one["recipe"] == recipe))


def _inline(text: str) -> str:
    """Write a name so that it stays one, whatever is in it."""
    text = re.sub(r"[\x00-\x1f\x7f]", " ", text).replace("|", "\\|")
    ticks = max(map(len, re.findall("`+", text)), default=0) + 1
    space = " " * (ticks > 1)
    return f"{'`' * ticks}{space}{text}{space}{'`' * ticks}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
