"""Degrade decoded records, keeping what they were as the reference."""

import apache_beam as beam

from transforms.recipe import Recipe
from transforms.record import Batch, Record
from transforms.stage import Stage


def degrade_record(record: Record, recipe: Recipe, seed: int) -> Record:
    """Damage a record by a recipe; alpha stays as it is."""
    drawn = recipe.draw(seed, record.key)
    damaged = drawn.apply(record.image, seed=seed, key=record.key)
    return record.replace(
        pixels=damaged.pixels,
        mask=damaged.mask,
        reference=record.image,
        recipe=drawn.canonical,
    )


class Degrade(beam.PTransform):
    """Damage the records of batches.

    Args:
        recipe: what to do to them.
        seed: of the job; with a record's key it decides all randomness.
    """

    def __init__(self, recipe: Recipe, seed: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        self.seed = seed

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        recipe, seed = self.recipe, self.seed
        return batches | Stage(degrade=lambda record: degrade_record(record, recipe, seed))
