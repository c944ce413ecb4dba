"""The table of degradations."""

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from transforms.degradations.parameters import Parameter, Value

SEVERITIES = range(1, 6)


class Damaged(NamedTuple):
    """A degraded image, and where its pixels were taken away (bool [H, W]), if any were."""

    pixels: np.ndarray
    mask: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Degradation:
    """One kind of damage, to be called on an image.

    Attributes:
        name: how recipes call it.
        family: the module it is in.
        function: pure, `function(pixels, rng, **parameters) -> Damaged`; pixels are uint8 or
            uint16 [H, W, 1 or 3] of any size and contiguous, and so is the result; the input is
            left as it is; `rng` is the only source of randomness.
        parameters: by name.
        defaults: values of those that need not be said.
    """

    name: str
    family: str
    function: Callable[..., Damaged]
    parameters: Mapping[str, Parameter]
    defaults: Mapping[str, Value]

    def __call__(
        self,
        pixels: np.ndarray,
        rng: np.random.Generator,
        *,
        severity: int | None = None,
        **values: Value,
    ) -> Damaged:
        """Degrade an image; the input stays as it is.

        Args:
            pixels: uint8 or uint16 [H, W, C]; C is 1 (gray) or 3 (RGB), or 2 or 4, of which the
                last is alpha and comes back untouched.
            rng: the source of all randomness.
            severity: 1 to 5; values given beside it count more.
            values: parameters by name.

        Returns:
            Pixels of the same type, height and width, and the mask of those taken away, if any.

        Raises:
            ValueError: another type or shape of pixels, which the message holds; a severity or
                parameter that is unknown, missing or out of range, which the message names.
        """
        _check(pixels)
        chosen = self.complete(severity, values)
        if pixels.shape[-1] in (1, 3):
            return self._damage(pixels, rng, chosen)
        damaged = self._damage(pixels[..., :-1], rng, chosen)
        return Damaged(np.dstack([damaged.pixels, pixels[..., -1:]]), damaged.mask)

    def _damage(
        self, pixels: np.ndarray, rng: np.random.Generator, values: Mapping[str, Value]
    ) -> Damaged:
        damaged = self.function(np.ascontiguousarray(pixels), rng, **values)
        return Damaged(np.ascontiguousarray(damaged.pixels), damaged.mask)

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """The docstring's text between its first line and its arguments."""
        text = inspect.cleandoc(self.function.__doc__ or "").partition("\n")[2]
        return text.partition("Args:\n")[0].strip()

    @property
    def meanings(self) -> dict[str, str]:
        """What the docstring says of the arguments, by name."""
        block = inspect.cleandoc(self.function.__doc__ or "").partition("Args:\n")[2]
        found: dict[str, list[str]] = {}
        for line in re.split(r"\n\S", block)[0].splitlines():
            if start := re.match(r"    (\w+): (.*)", line):
                found[start[1]] = [start[2]]
            elif found and line.strip():
                found[list(found)[-1]].append(line.strip())
        return {name: " ".join(words) for name, words in found.items()}

    @property
    def has_severities(self) -> bool:
        """Whether `name:1` to `name:5` mean something."""
        return any(parameter.severities for parameter in self.parameters.values())

    def at_severity(self, severity: int) -> dict[str, Value]:
        """Give the parameters that a severity stands for.

        Raises:
            ValueError: there is no such severity.
        """
        if not self.has_severities:
            raise ValueError(self.advice(f"has no severities, but {severity!r} was given"))
        if isinstance(severity, bool) or severity not in SEVERITIES:
            raise ValueError(self.advice(f"has severities 1 to 5, not {severity!r}"))
        return {
            name: parameter.severities[severity - 1]
            for name, parameter in self.parameters.items()
            if parameter.severities
        }

    def complete(
        self, severity: int | None = None, values: Mapping[str, Value] | None = None
    ) -> dict[str, Value]:
        """Give the value of every parameter, in the table's order.

        Raises:
            ValueError: one is unknown, missing or out of range.
        """
        given: dict[str, Value] = dict(self.defaults)
        if severity is not None:
            given |= self.at_severity(severity)
        for name, value in (values or {}).items():
            if name not in self.parameters:
                raise ValueError(self.advice(f"has no parameter {name!r}"))
            given[name] = value
        if missing := [name for name in self.parameters if name not in given]:
            raise ValueError(self.advice(f"needs {' and '.join(missing)}"))
        return {name: self._checked(name, given[name]) for name in self.parameters}

    def _checked(self, name: str, value: Value) -> Value:
        try:
            return self.parameters[name].check(value)
        except ValueError as error:
            raise ValueError(f"{self.name}: {name} must be {error}, not {value!r}") from None

    def advice(self, problem: str) -> str:
        """Say what is wrong with a use of it, and what it takes."""
        forms = [f"{self.name}:1 to {self.name}:5"] if self.has_severities else []
        forms += [f"{name}={parameter}" for name, parameter in self.parameters.items()]
        return f"{self.name} {problem}; it takes {'; '.join(forms) or 'no parameters'}"


DEGRADATIONS: dict[str, Degradation] = {}
ALIASES: dict[str, str] = {}


def degradation(
    *aliases: str, **parameters: Parameter
) -> Callable[[Callable[..., Damaged]], Degradation]:
    """Enter a function in the table under its own name; keyword defaults are the parameters'.

    Args:
        aliases: other names that recipes may use.
        parameters: what each keyword argument of the function may be.
    """

    def enter(function: Callable[..., Damaged]) -> Degradation:
        name = function.__name__
        family = function.__module__.rpartition(".")[2]
        entry = Degradation(name, family, function, parameters, function.__kwdefaults__ or {})
        DEGRADATIONS[name] = entry
        ALIASES.update(dict.fromkeys(aliases, name))
        return entry

    return enter


def families() -> dict[str, list[Degradation]]:
    """Group the table by family."""
    grouped: dict[str, list[Degradation]] = {}
    for entry in DEGRADATIONS.values():
        grouped.setdefault(entry.family, []).append(entry)
    return grouped


def family_docs(family: str) -> str:
    """Give the docstring of a family's module."""
    return inspect.cleandoc(sys.modules[f"{__package__}.{family}"].__doc__ or "")


def _check(pixels: np.ndarray) -> None:
    if not isinstance(pixels, np.ndarray):
        raise ValueError(f"pixels must be an array, not {type(pixels).__name__}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"pixels must be uint8 or uint16, not {pixels.dtype} of shape {pixels.shape}"
        )
    if pixels.ndim != 3 or not 1 <= pixels.shape[-1] <= 4 or not pixels.size:
        raise ValueError(
            "pixels must be [height, width, 1 to 4 channels] and not empty, "
            f"not of shape {pixels.shape}"
        )
