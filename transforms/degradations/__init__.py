"""Synthetic damage: one pure function each, all in one table."""

from transforms.degradations import (  # noqa: F401, I001  they register, in the order of the docs
    noise,
    blur,
    weather,
    digital,
    surface,
    stains,
    ageing,
    capture,
    missing,
    colour,
)
from transforms.degradations.parameters import Choice, Number, Parameter, Value, Whole
from transforms.degradations.registry import (
    ALIASES,
    DEGRADATIONS,
    SEVERITIES,
    Damaged,
    Degradation,
    degradation,
    families,
    family_docs,
)

__all__ = [
    "ALIASES",
    "DEGRADATIONS",
    "SEVERITIES",
    "Choice",
    "Damaged",
    "Degradation",
    "Number",
    "Parameter",
    "Value",
    "Whole",
    "degradation",
    "families",
    "family_docs",
]
