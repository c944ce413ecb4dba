"""Tell a person which degradations there are."""

import sys

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from transforms.degradations import DEGRADATIONS, Degradation, families, family_docs
from transforms.recipe import find_degradation, written


def list_degradations() -> None:
    """Print all of them, by family, with a line each."""
    console = _console()
    widest = max(map(len, DEGRADATIONS))
    for family, entries in families().items():
        console.print(family_docs(family).partition("\n")[0], style="bold", highlight=False)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(min_width=widest)
        for entry in entries:
            table.add_row(entry.name, "1-5" if entry.has_severities else "", entry.summary)
        console.print(Padding(table, (0, 0, 1, 2)))
    console.print(
        "NAME:SEVERITY or NAME:PARAMETER=VALUE,... is a step of a recipe; --list NAME says what "
        "it does and takes.\noneof(A,B,...) and random(N,severity=1-5) draw anew for every image.",
        highlight=False,
    )


def describe_degradation(name: str) -> None:
    """Print all there is to say of one.

    Raises:
        RecipeError: there is none of that name; the nearest are listed.
    """
    entry = find_degradation(name)
    console = _console()
    console.print(f"{entry.name}: {entry.summary}", style="bold", highlight=False, markup=False)
    if entry.description:
        for paragraph in entry.description.split("\n\n"):
            text = " ".join(paragraph.split())
            console.print(Padding(text, (1, 0, 0, 0)), highlight=False, markup=False)
    if entry.parameters:
        console.print()
        console.print(parameters(entry))


def parameters(entry: Degradation) -> Table:
    """Make a table of what a degradation takes."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("parameter", "takes", "at severities 1 to 5", "default", "meaning"):
        table.add_column(heading)
    for name, parameter in entry.parameters.items():
        at_severities = " ".join(map(written, parameter.severities or ()))
        default = written(entry.defaults[name]) if name in entry.defaults else ""
        meaning = entry.meanings.get(name, "")
        table.add_row(name, str(parameter), at_severities, default, meaning)
    return table


def _console() -> Console:
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console.width = 160  # a line each, for grep
    return console
