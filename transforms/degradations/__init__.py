"""Synthetic damage: one pure function each, all in one table."""

from transforms.degradations import colour, compression, masks, noise  # noqa: F401  they register
from transforms.degradations.registry import (
    DEGRADATIONS,
    Choice,
    Damaged,
    Degradation,
    Number,
    Whole,
    degradation,
)

__all__ = ["DEGRADATIONS", "Choice", "Damaged", "Degradation", "Number", "Whole", "degradation"]
