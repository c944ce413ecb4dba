"""Recipes: degradations in a row, `name[:severity or key=value,...]` joined by `+`.

A part may also be drawn anew for every record, for training: `oneof(a,b,c)` takes one of several
recipes, `random(n, severity=1-5)` takes n different degradations.

Several recipes are a list: `a:3,quality=30, b:1-5`. After a comma, `key=value` goes on with the
recipe before it, and anything else begins the next one; `b:1-5` is `b` at each of five severities.
"""

import difflib
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transforms.degradations import ALIASES, DEGRADATIONS, SEVERITIES, Damaged, Degradation, Value

_DEEPEST = 8
_MOST = 1000  # recipes of one list


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
        said = ",".join(f"{name}={written(value)}" for name, value in self.parameters)
        return f"{self.name}:{said}" if said else self.name

    def draw(self, seed: int, key: str, place: str) -> tuple["Step", ...]:
        """Give itself: there is nothing to draw."""
        return (self,)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several recipes, each as likely, drawn for every record."""

    recipes: tuple["Recipe", ...]

    def __str__(self) -> str:
        return f"oneof({','.join(recipe.canonical for recipe in self.recipes)})"

    def draw(self, seed: int, key: str, place: str) -> tuple[Step, ...]:
        """Choose for one record."""
        chosen = int(generator(seed, key, place, "oneof").integers(len(self.recipes)))
        return self.recipes[chosen].draw(seed, key, f"{place}.{chosen}.").steps


@dataclass(frozen=True, slots=True)
class RandomSteps:
    """Several different degradations in any order, drawn for every record.

    Attributes:
        count: how many.
        lowest: the least severity.
        highest: the worst; all between are as likely.
        names: what to choose from.
    """

    count: int
    lowest: int
    highest: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        severity = f"severity={self.lowest}-{self.highest}"
        return f"random({','.join([str(self.count), severity, *self.names])})"

    def draw(self, seed: int, key: str, place: str) -> tuple[Step, ...]:
        """Choose for one record."""
        rng = generator(seed, key, place, "random")
        chosen = rng.permutation(len(self.names))[: self.count]
        severities = rng.integers(self.lowest, self.highest + 1, size=self.count)
        return tuple(
            _at_severity(DEGRADATIONS[self.names[index]], int(severity))
            for index, severity in zip(chosen, severities, strict=True)
        )


Part = Step | OneOf | RandomSteps


@dataclass(frozen=True, slots=True)
class Recipe:
    """Parts to apply from left to right.

    `str(recipe)` is the text that it was read from. Recipes that mean the same are equal.

    Attributes:
        parts: steps, and what is drawn for every record.
        text: as it was written.
    """

    parts: tuple[Part, ...]
    text: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.canonical if self.text is None else self.text

    @property
    def canonical(self) -> str:
        """The text with every parameter said: `parse_recipe` reads it back to an equal recipe, and
        it is what enters digests.
        """
        return "+".join(map(str, self.parts))

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps, of a recipe in which nothing is left to draw."""
        assert all(isinstance(part, Step) for part in self.parts), f"draw {self.canonical} first"
        return tuple(part for part in self.parts if isinstance(part, Step))

    def draw(self, seed: int, key: str, place: str = "") -> "Recipe":
        """Give what the recipe is for one record: `oneof` and `random` replaced by their choices.

        Applied with the same seed and key, the result does just what the recipe does.
        """
        drawn = (
            step
            for index, part in enumerate(self.parts)
            for step in part.draw(seed, key, f"{place}{index}")
        )
        return Recipe(tuple(drawn))

    def apply(self, pixels: np.ndarray, *, seed: int, key: str) -> Damaged:
        """Degrade an image.

        The same seed, key and recipe give the same result in any batch, order and process.

        Args:
            pixels: uint8 or uint16 [H, W, C]: gray, RGB, or these and alpha, which stays.
            seed: of the job.
            key: of the record.

        Returns:
            The damaged pixels in the same type (a step may change the channels), and the union of
            the steps' masks.

        Raises:
            ValueError: pixels of another type or shape.
        """
        missing = None
        for index, step in enumerate(self.draw(seed, key).steps):
            rng = generator(seed, key, str(index), step.name)
            values: dict[str, Any] = dict(step.parameters)
            damaged = DEGRADATIONS[step.name](pixels, rng, **values)
            pixels = damaged.pixels
            if damaged.mask is not None:
                missing = damaged.mask if missing is None else missing | damaged.mask
        return Damaged(pixels, missing)


def generator(seed: int, key: str, place: str, name: str) -> np.random.Generator:
    """Make the random generator of one step on one record, from a digest of what names them."""
    text = f"{seed}\0{key}\0{place}\0{name}".encode("utf-8", "surrogateescape")
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(text).digest()[:16])))


def parse_recipe(text: str) -> Recipe:
    """Read a recipe such as `jpeg:3+oneof(scratches:2,dust:2)+gaussian_noise:sigma=25`.

    Raises:
        RecipeError: an unknown name (the nearest ones are listed), a severity or value out of
            range (the range is named), a parameter missing, unknown or said twice, a bracket that
            is not closed.
    """
    return Recipe(_parts(text, 0), text)


def parse_recipes(text: str) -> tuple[Recipe, ...]:
    """Read a list of recipes such as `gaussian_noise:1-5, jpeg:quality=30,subsampling=2`.

    A recipe without a range in it is a list of one, and the same as `parse_recipe` reads.

    Raises:
        RecipeError: as of `parse_recipe`; a range that is none, more recipes than anybody wants, or
            one of them twice.
    """
    recipes: list[Recipe] = []
    for one in _listed(text):
        for said in _ranged(one):
            recipe = parse_recipe(said)
            if recipe in recipes:
                raise RecipeError(f"{said} is in the list twice, here as {recipe.canonical}")
            recipes.append(recipe)
            if len(recipes) > _MOST:
                raise RecipeError(f"that is more than {_MOST} recipes: run several jobs")
    return tuple(recipes)


def _listed(text: str) -> list[str]:
    """Split a list of recipes."""
    recipes: list[str] = []
    for piece in _split(text, ","):
        # `mask:2,shape=rectangles` is one recipe, not two: `key=value` goes on with what is before.
        if recipes and re.match(r"\s*\w+\s*=", piece):
            recipes[-1] += f",{piece}"
        else:
            recipes.append(piece)
    return [recipe.strip() for recipe in recipes]


def _ranged(text: str) -> Iterator[str]:
    """Give a recipe at each severity of its ranges; of several, in each combination."""
    choices = [list(_at_severities(part.strip())) for part in _split(text, "+")]
    for chosen in itertools.islice(itertools.product(*choices), _MOST + 1):
        yield "+".join(chosen)


def _at_severities(part: str) -> Iterator[str]:
    found = re.fullmatch(r"([^:()]+):\s*(\d+)\s*-\s*(\d+)\s*(,.*)?", part, re.ASCII | re.DOTALL)
    if found is None:
        yield part
        return
    name, lowest, highest, rest = found[1], int(found[2]), int(found[3]), found[4] or ""
    if not SEVERITIES[0] <= lowest <= highest <= SEVERITIES[-1]:
        raise RecipeError(
            f"{part}: a range of severities is from {SEVERITIES[0]} to {SEVERITIES[-1]}, lowest "
            f"first, such as {name}:{SEVERITIES[0]}-{SEVERITIES[-1]}"
        )
    for severity in range(lowest, highest + 1):
        yield f"{name}:{severity}{rest}"


def find_degradation(name: str) -> Degradation:
    """Look a degradation up by its name or alias.

    Raises:
        RecipeError: there is none; the nearest names are listed.
    """
    name = ALIASES.get(name, name)
    if name in _DRAWN:
        raise RecipeError(f"{name} takes brackets: oneof(a,b,c), random(n,severity=1-5)")
    if name not in DEGRADATIONS:
        near = difflib.get_close_matches(name, [*DEGRADATIONS, *_DRAWN], n=3, cutoff=0.4)
        names = ", ".join(near or DEGRADATIONS)
        raise RecipeError(
            f"unknown degradation {name!r}; {'did you mean' if near else 'known:'} {names}"
        )
    return DEGRADATIONS[name]


def _parts(text: str, depth: int) -> tuple[Part, ...]:
    if depth > _DEEPEST:
        raise RecipeError(f"a recipe has at most {_DEEPEST} brackets inside each other")
    return tuple(_part(part.strip(), depth) for part in _split(text, "+"))


def _split(text: str, separator: str) -> Iterator[str]:
    """Split at a separator that is not inside brackets."""
    start = depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == separator and not depth:
            yield text[start:index]
            start = index + 1
    if depth:
        raise RecipeError(f"{text}: a bracket is not {'closed' if depth > 0 else 'opened'}")
    yield text[start:]


def _part(text: str, depth: int) -> Part:
    name, bracket, rest = text.partition("(")
    if not bracket or ":" in name:
        return _step(text)
    inside, bracket, after = rest.rpartition(")")
    if name.strip() not in _DRAWN or not bracket or after:
        raise RecipeError(f"{text}: only {' and '.join(_DRAWN)} have brackets")
    return _DRAWN[name.strip()](inside, depth)


def _one_of(text: str, depth: int) -> OneOf:
    return OneOf(tuple(Recipe(_parts(recipe, depth + 1)) for recipe in _listed(text)))


def _random(text: str, depth: int) -> RandomSteps:
    first, *rest = (piece.strip() for piece in _split(text, ","))
    lowest, highest = SEVERITIES[0], SEVERITIES[-1]
    names = []
    for piece in rest:
        if piece.startswith("severity"):
            lowest, highest = _severities(piece)
        else:
            names.append(find_degradation(piece).name)
    if not names:
        names = [name for name, known in DEGRADATIONS.items() if known.has_severities]
    if len(set(names)) < len(names):
        raise RecipeError(f"random({text}): a degradation is named twice")
    if not re.fullmatch(r"\d{1,4}", first, re.ASCII) or not 1 <= int(first) <= len(names):
        raise RecipeError(
            f"random({text}): how many must be a whole number from 1 to {len(names)}, not {first!r}"
        )
    for name in names:
        _at_severity(DEGRADATIONS[name], lowest)  # so that what it needs is known now
    return RandomSteps(int(first), lowest, highest, tuple(names))


def _severities(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"severity\s*=\s*(\d)(?:\s*-\s*(\d))?", text, re.ASCII)
    lowest, highest = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not SEVERITIES[0] <= lowest <= highest <= SEVERITIES[-1]:
        raise RecipeError(
            f"random: severity must be from 1 to 5, such as severity=1-5, not {text!r}"
        )
    return lowest, highest


_DRAWN: dict[str, Callable[[str, int], Part]] = {"oneof": _one_of, "random": _random}


def _step(text: str) -> Step:
    name, colon, said = (part.strip() for part in text.partition(":"))
    if not name:
        raise RecipeError(
            "a recipe is name[:severity or key=value,...] joined by '+'; a name is missing"
        )
    known = find_degradation(name)
    arguments = [argument.strip() for argument in said.split(",")] if colon else []
    if not all(arguments):
        raise RecipeError(f"{text}: a value is missing beside ':' or ','")
    severity = None
    if arguments and "=" not in arguments[0]:
        severity = _severity(known, arguments.pop(0))
    return _completed(known, severity, _named(known, arguments))


def _at_severity(known: Degradation, severity: int) -> Step:
    return _completed(known, severity if known.has_severities else None, {})


def _completed(known: Degradation, severity: int | None, values: dict[str, Value]) -> Step:
    try:
        return Step(known.name, tuple(known.complete(severity, values).items()))
    except ValueError as error:
        raise RecipeError(str(error)) from None


def _severity(known: Degradation, text: str) -> int:
    if known.has_severities and text not in map(str, SEVERITIES):
        raise RecipeError(known.advice(f"has severities 1 to 5, not {text!r}"))
    if not known.has_severities:
        raise RecipeError(known.advice(f"has no severities, but {text!r} was given"))
    return int(text)


def _named(known: Degradation, arguments: Sequence[str]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for pair in arguments:
        parameter, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or parameter not in known.parameters:
            raise RecipeError(known.advice(f"has no parameter {parameter!r}"))
        if parameter in values:
            raise RecipeError(f"{known.name}: {parameter} is said twice")
        try:
            values[parameter] = known.parameters[parameter].parse(value)
        except ValueError as error:
            raise RecipeError(f"{known.name}: {parameter} must be {error}, not {value!r}") from None
    return values


def written(value: Value) -> str:
    """Write a parameter's value as recipes do."""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return text.replace("e+", "e")  # a plus is what joins steps
