"""Recipes: degradations in a row, written `name[:severity or key=value,...]` joined by `+`."""

import difflib
import hashlib
from dataclasses import dataclass

import numpy as np

from transforms.degradations import DEGRADATIONS, Damaged, Degradation
from transforms.degradations.registry import SEVERITIES, Value


class RecipeError(ValueError):
    """A recipe that cannot be read, and what would do."""


@dataclass(frozen=True, slots=True)
class Step:
    """One degradation with all its parameters.

    Attributes:
        name: key of `DEGRADATIONS`.
        parameters: name and value pairs, in the table's order.
    """

    name: str
    parameters: tuple[tuple[str, Value], ...]

    def __str__(self) -> str:
        said = ",".join(f"{name}={_written(value)}" for name, value in self.parameters)
        return f"{self.name}:{said}" if said else self.name


@dataclass(frozen=True, slots=True)
class Recipe:
    """Steps to apply from left to right. `str(recipe)` is its canonical text, with every parameter
    said: `parse_recipe` reads it back to an equal recipe, and it is what enters digests.
    """

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.steps))

    def apply(self, pixels: np.ndarray, *, seed: int, key: str) -> Damaged:
        """Degrade an image.

        The same seed, key and recipe give the same result in any batch, order and process.

        Args:
            pixels: uint8 or uint16 [H, W, 1 or 3].
            seed: of the job.
            key: of the record.

        Returns:
            The damaged pixels in the same type (a step may change the channels), and the union of
            the steps' masks.
        """
        missing = None
        for index, step in enumerate(self.steps):
            damage = DEGRADATIONS[step.name].function
            damaged = damage(
                pixels, generator(seed, key, index, step.name), **dict(step.parameters)
            )
            pixels = np.ascontiguousarray(damaged.pixels)
            if damaged.mask is not None:
                missing = damaged.mask if missing is None else missing | damaged.mask
        return Damaged(pixels, missing)


def generator(seed: int, key: str, index: int, name: str) -> np.random.Generator:
    """Make the random generator of one step on one record, from a digest of what names them."""
    text = f"{seed}\0{key}\0{index}\0{name}".encode("utf-8", "surrogateescape")
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(text).digest()[:16])))


def parse_recipe(text: str) -> Recipe:
    """Read a recipe such as `jpeg:3+gaussian_noise:sigma=25`.

    Raises:
        RecipeError: an unknown name (the nearest ones are listed), a severity or value out of
            range (the range is named), a parameter missing, unknown or said twice.
    """
    return Recipe(tuple(_step(part.strip()) for part in text.split("+")))


def _step(text: str) -> Step:
    name, colon, said = (part.strip() for part in text.partition(":"))
    if not name:
        raise RecipeError(
            "a recipe is name[:severity or key=value,...] joined by '+'; a name is missing"
        )
    if name not in DEGRADATIONS:
        near = difflib.get_close_matches(name, DEGRADATIONS, n=3, cutoff=0.4)
        names = ", ".join(near or DEGRADATIONS)
        raise RecipeError(
            f"unknown degradation {name!r}; {'did you mean' if near else 'known:'} {names}"
        )
    known = DEGRADATIONS[name]
    arguments = [argument.strip() for argument in said.split(",")] if colon else []
    if not all(arguments):
        raise RecipeError(f"{text}: a value is missing beside ':' or ','")
    values = dict(known.defaults)
    if arguments and "=" not in arguments[0]:
        values |= _severity(known, arguments.pop(0))
    values |= _named(known, arguments)
    if missing := [parameter for parameter in known.parameters if parameter not in values]:
        raise RecipeError(_advice(known, f"needs {' and '.join(missing)}"))
    return Step(name, tuple((parameter, values[parameter]) for parameter in known.parameters))


def _severity(known: Degradation, text: str) -> dict[str, Value]:
    if not known.has_severities:
        raise RecipeError(_advice(known, f"has no severities, but {text!r} was given"))
    if text not in map(str, SEVERITIES):
        raise RecipeError(_advice(known, f"has severities 1 to 5, not {text!r}"))
    return known.at_severity(int(text))


def _named(known: Degradation, arguments: list[str]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for pair in arguments:
        parameter, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or parameter not in known.parameters:
            raise RecipeError(_advice(known, f"has no parameter {parameter!r}"))
        if parameter in values:
            raise RecipeError(f"{known.name}: {parameter} is said twice")
        try:
            values[parameter] = known.parameters[parameter].parse(value)
        except ValueError as error:
            raise RecipeError(f"{known.name}: {parameter} must be {error}, not {value!r}") from None
    return values


def _advice(known: Degradation, problem: str) -> str:
    forms = [f"{known.name}:1 to {known.name}:5"] if known.has_severities else []
    forms += [f"{name}={parameter}" for name, parameter in known.parameters.items()]
    return f"{known.name} {problem}; it takes {'; '.join(forms) or 'no parameters'}"


def _written(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
