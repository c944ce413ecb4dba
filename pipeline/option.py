"""One command-line option, and the types that options are parsed with.

Neither Beam nor TensorFlow is imported here, so that `heliograph --help` answers at once.
"""

import argparse
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """One command-line option: its flags, what argparse needs to know, and its commands."""

    flags: tuple[str, ...]
    commands: frozenset[str]
    settings: Mapping[str, Any]

    @property
    def metavar(self) -> str:
        """What stands for its value in the help."""
        return self.settings.get("metavar", "")

    @property
    def name(self) -> str:
        """The attribute that holds its value."""
        return self.flags[0].removeprefix("--")


def option(*flags: str, commands: Iterable[str], **settings: Any) -> Option:
    """Make an option of argparse's settings."""
    return Option(flags, frozenset(commands), settings)


def whole(least: int, most: int | None = None):
    """Make an argparse type for whole numbers in a range, ends included."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            to = f" to {most}" if most is not None else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}{to}")
        return value

    return parse


def number(least: float, most: float = float("inf")):
    """Make an argparse type for numbers in a range, ends included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most or value == float("inf"):
            to = f" to {most:g}" if most < float("inf") else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g}{to}")
        return value

    return parse


def some_of(*choices: str):
    """Make an argparse type for some of several names, joined by commas."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(text.split(",")))
        if unknown := [name for name in names if name not in choices]:
            raise argparse.ArgumentTypeError(
                f"{unknown[0]!r} is none of {', '.join(choices)}; join several by commas"
            )
        return names

    return parse


def web_address(text: str) -> str:
    """Parse an address that others can be made of by adding to it; without a slash at its end."""
    parts = urllib.parse.urlsplit(text)
    beside = parts.query or parts.fragment or "@" in parts.netloc  # with a password, perhaps
    if parts.scheme not in ("http", "https") or not parts.netloc or beside:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address such as https://archive.example/restored"
        )
    return text.rstrip("/")
