"""The groups that summaries tell apart: what was done to an image, and where it comes from."""

from collections.abc import Callable
from functools import lru_cache

from pipeline.rows import Row
from transforms.degradations import DEGRADATIONS, SEVERITIES
from transforms.recipe import RecipeError, parse_recipe

HERE = "."  # the folder of what lies in the archive itself


def degradation(row: Row) -> str | None:
    """Name what damaged an image, joined by + where it was several; None where nothing did."""
    return _damage(row["recipe"])[0]


def severity(row: Row) -> str | None:
    """Give the severity of all the damage, 1 to 5; None where it is of none, or of different
    ones.
    """
    return _damage(row["recipe"])[1]


def model(row: Row) -> str | None:
    """Name the model that was applied; None without."""
    return row.get("model")


def folder(row: Row) -> str:
    """Give the first folder of the archive that an image is in; shards are folders."""
    path, member = row["key"], row["source_member"]
    shard, inside, _ = path.rpartition(f"#{member}") if member is not None else ("", "", "")
    first, inside, _ = f"{shard}/".partition("/") if inside else path.partition("/")
    return first if inside else HERE


def file_format(row: Row) -> str | None:
    """Give the master's file format; None where it could not be told."""
    return row["format"]


KINDS: dict[str, Callable[[Row], str | None]] = {
    "degradation": degradation,
    "severity": severity,
    "model": model,
    "folder": folder,
    "format": file_format,
}


@lru_cache(1 << 12)  # a job has few recipes, but where they are drawn for every image
def _damage(recipe: str | None) -> tuple[str | None, str | None]:
    """Read names and severity off a recipe with all its parameters said."""
    if recipe is None:
        return None, None
    try:
        steps = parse_recipe(recipe).steps
    except RecipeError:  # of another version
        return recipe.partition(":")[0], None
    found = {_severity(str(step)) for step in steps}
    return "+".join(step.name for step in steps), found.pop() if len(found) == 1 else None


@lru_cache(1 << 12)
def _severity(step: str) -> str | None:
    name = step.partition(":")[0]
    if not DEGRADATIONS[name].has_severities:
        return None
    said = (str(level) for level in SEVERITIES)
    return next((at for at in said if parse_recipe(f"{name}:{at}").canonical == step), None)
