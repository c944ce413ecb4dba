"""The table of degradations, and what their parameters may be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SEVERITIES = range(1, 6)


class Damaged(NamedTuple):
    """A degraded image, and where its pixels were taken away (bool [H, W]), if any were."""

    pixels: np.ndarray
    mask: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Number:
    """A real parameter: its range, ends included, and its value at severities 1 to 5."""

    low: float
    high: float
    severities: tuple[float, ...] | None = None

    def parse(self, text: str) -> float:
        """Read a value.

        Raises:
            ValueError: not a number, or out of range; the message is the range.
        """
        try:
            value = float(text)
        except ValueError:
            raise ValueError(str(self)) from None
        if not self.low <= value <= self.high:
            raise ValueError(str(self))
        return value

    def __str__(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole-number parameter: its range, ends included, and its value at severities 1 to 5."""

    low: int
    high: int
    severities: tuple[int, ...] | None = None

    def parse(self, text: str) -> int:
        """Read a value.

        Raises:
            ValueError: not a whole number, or out of range; the message is the range.
        """
        digits = text.removeprefix("-")
        if not digits.isascii() or not digits.isdigit():
            raise ValueError(str(self))
        if not self.low <= int(text) <= self.high:
            raise ValueError(str(self))
        return int(text)

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A parameter that is one of a few words."""

    words: tuple[str, ...]
    severities: tuple[str, ...] | None = None

    def parse(self, text: str) -> str:
        """Read a word.

        Raises:
            ValueError: not one of them; the message lists them.
        """
        if text not in self.words:
            raise ValueError(str(self))
        return text

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


Parameter = Number | Whole | Choice
Value = float | int | str


@dataclass(frozen=True, slots=True)
class Degradation:
    """One kind of damage: `function(pixels, rng, **parameters) -> Damaged`.

    Attributes:
        name: how recipes call it.
        function: pure; pixels are uint8 or uint16 [H, W, 1 or 3], and so is the result.
        parameters: by name.
        defaults: values of those that a recipe need not say.
        summary: the first line of the function's docstring.
    """

    name: str
    function: Callable[..., Damaged]
    parameters: Mapping[str, Parameter]
    defaults: Mapping[str, Value]
    summary: str

    @property
    def has_severities(self) -> bool:
        """Whether `name:1` to `name:5` mean something."""
        return any(parameter.severities for parameter in self.parameters.values())

    def at_severity(self, severity: int) -> dict[str, Value]:
        """Give the parameters that a severity stands for."""
        return {
            name: parameter.severities[severity - 1]
            for name, parameter in self.parameters.items()
            if parameter.severities
        }


DEGRADATIONS: dict[str, Degradation] = {}


def degradation(**parameters: Parameter) -> Callable[[Callable[..., Damaged]], Callable]:
    """Enter a function in the table under its own name; keyword defaults are the parameters'."""

    def enter(function: Callable[..., Damaged]) -> Callable[..., Damaged]:
        name = function.__name__
        defaults = function.__kwdefaults__ or {}
        summary = (function.__doc__ or "").partition("\n")[0]
        DEGRADATIONS[name] = Degradation(name, function, parameters, defaults, summary)
        return function

    return enter
