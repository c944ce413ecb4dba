"""Evaluation matrices: several models on several recipes in one job, each image decoded once."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.contract import Contract
from transforms import storage
from transforms.cells import Cell
from transforms.recipe import Recipe
from transforms.write import Encoding

_LONGEST = 60  # letters of a folder's name


class MatrixError(ValueError):
    """Models or recipes that make no matrix, and what would."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A model as a job applies it.

    Attributes:
        name: what it is called in rows; no two of a job have the same.
        model: a zoo name or the path of a SavedModel.
        contract: what it takes and gives.
        sha256: the digest that workers must find.
        encoding: of the derivatives, which say what made them.
        given_sha256: the digest of what was named, which may be a .keras file.
    """

    name: str
    model: str
    contract: Contract
    sha256: str
    encoding: Encoding
    given_sha256: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """Models and recipes.

    Attributes:
        models: in the order in which they were named.
        recipes: likewise.
        cells: each recipe with each model, recipe by recipe.
    """

    models: tuple[Applied, ...]
    recipes: tuple[Recipe, ...]
    cells: tuple[Cell, ...]


def split_models(text: str) -> list[str]:
    """Split what --model was told: names and paths, joined by commas.

    A path that is there is one model, whatever commas it has.

    Raises:
        MatrixError: a model is named twice, or a name is missing.
    """
    if storage.is_local(text) and os.path.exists(text):
        return [text]
    models = [name.strip() for name in text.split(",")]
    if not all(models):
        raise MatrixError(f"--model {text}: a name is missing beside a comma")
    if len(set(models)) < len(models):
        raise MatrixError(f"--model {text} names a model twice")
    return models


def make_matrix(models: Sequence[Applied], recipes: Sequence[Recipe]) -> Matrix:
    """Lay out models and recipes."""
    named = _slugs(model.name for model in models)
    damaged = _slugs(str(recipe) for recipe in recipes)
    cells = tuple(
        Cell(f"{model_folder}/{recipe_folder}", model.name, recipe.canonical, str(recipe))
        for recipe, recipe_folder in zip(recipes, damaged, strict=True)
        for model, model_folder in zip(models, named, strict=True)
    )
    return Matrix(tuple(models), tuple(recipes), cells)


def distinct(names: Iterable[str]) -> list[str]:
    """Tell names apart: the second of one name ends in ~2. Cases that differ do not tell them."""
    taken: set[str] = set()
    result = []
    for name in names:
        told, number = name, 1
        while told.casefold() in taken:
            number += 1
            told = f"{name}~{number}"
        taken.add(told.casefold())
        result.append(told)
    return result


def _slugs(names: Iterable[str]) -> list[str]:
    """Make folders' names that can be read and that every file system and address takes."""
    return distinct(_slug(name) for name in names)


def _slug(name: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9._+=~-]+", "-", name).strip("-.")
    return slug[:_LONGEST].rstrip("-.") or "model"
