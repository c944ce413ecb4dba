"""What the parameters of degradations may be."""

import re
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeGuard

Value = float | int | str

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)


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
        if not _NUMBER.fullmatch(text):
            raise ValueError(str(self))
        return self.check(float(text))

    def check(self, value: Value) -> float:
        """Take a value.

        Raises:
            ValueError: not a number, or out of range; the message is the range.
        """
        if not _is_number(value) or not self.low <= value <= self.high:
            raise ValueError(str(self))
        return float(value) + 0.0  # there is but one zero

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
        # Python refuses to read thousands of digits, and nothing here is as large.
        if not _WHOLE.fullmatch(text) or len(text) > 20:
            raise ValueError(str(self))
        return self.check(int(text))

    def check(self, value: Value) -> int:
        """Take a value.

        Raises:
            ValueError: not a whole number, or out of range; the message is the range.
        """
        if not _is_number(value) or not self.low <= value <= self.high or value != int(value):
            raise ValueError(str(self))
        return int(value)

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
        return self.check(text)

    def check(self, value: Value) -> str:
        """Take a word.

        Raises:
            ValueError: not one of them; the message lists them.
        """
        if not isinstance(value, str) or value not in self.words:
            raise ValueError(str(self))
        return value

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


Parameter = Number | Whole | Choice
