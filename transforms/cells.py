"""Cells of an evaluation matrix: each of several recipes with each of several models.

A batch is decoded once. Of each recipe it is then a variant: the same decoded records until they
are damaged, one recipe after the other. So beside the originals no more than two variants are in
memory, however many recipes there are: the one at work and the last one, which Beam holds on to. A
variant goes through each model as a batch of its own, which is committed for itself.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import apache_beam as beam

from transforms.degrade import degrade_record
from transforms.recipe import Recipe
from transforms.record import Batch, Record, id_in_cell
from transforms.stage import StageDoFn


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one recipe.

    Attributes:
        name: the folder below those of the output that its files are in: `model/recipe`.
        model: the model's name.
        recipe: the recipe's canonical text.
        text: the recipe as it was written.
    """

    name: str
    model: str
    recipe: str
    text: str


class Vary(beam.PTransform):
    """Give each batch once for each recipe that some cell that is left needs, undamaged still.

    Cells are numbered recipe by recipe: number = recipe * models + model.

    Args:
        models: how many there are.
    """

    def __init__(self, models: int) -> None:
        super().__init__()
        self.models = models

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Name the cells."""
        models = self.models

        def variants(batch: Batch) -> Iterable[Batch]:
            for recipe in sorted({cell // models for cell in batch.cells}):
                cells = tuple(cell for cell in batch.cells if cell // models == recipe)
                yield dataclasses.replace(batch, cells=cells)

        return batches | beam.FlatMap(variants).with_output_types(Batch)


class DegradeEach(beam.PTransform):
    """Damage each variant by its recipe.

    Args:
        recipes: in the order of the cells.
        seed: of the job.
        models: how many there are.
    """

    def __init__(self, recipes: Sequence[Recipe], seed: int, models: int) -> None:
        super().__init__()
        self.recipes = tuple(recipes)
        self.seed = seed
        self.models = models

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        degrade = _DegradeEachDoFn(self.recipes, self.seed, self.models)
        return batches | beam.ParDo(degrade).with_output_types(Batch)


class _DegradeEachDoFn(StageDoFn):
    def __init__(self, recipes: Sequence[Recipe], seed: int, models: int) -> None:
        super().__init__("degrade")
        self.recipes = recipes
        self.seed = seed
        self.models = models

    def process(self, batch: Batch) -> Iterable[Batch]:
        recipe = self.recipes[batch.cells[0] // self.models]
        yield self.run(batch, {"degrade": lambda record: degrade_record(record, recipe, self.seed)})


class Enter(beam.PTransform):
    """Give the variants that a model is still to be run on, as batches of their cells.

    Args:
        model: its number.
        cells: all of the job.
        models: how many models there are.
    """

    def __init__(self, model: int, cells: Sequence[Cell], models: int) -> None:
        super().__init__()
        self.model = model
        self.cells = tuple(cells)
        self.models = models

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Choose, and name."""

        def entered(batch: Batch) -> Iterable[Batch]:
            for number in batch.cells:
                if number % self.models == self.model:
                    yield _in_cell(batch, number, self.cells[number])

        return batches | beam.FlatMap(entered).with_output_types(Batch)


def _in_cell(batch: Batch, number: int, cell: Cell) -> Batch:
    def placed(record: Record) -> Record:
        path = f"{cell.name}/{record.source.mirror}"
        source = dataclasses.replace(record.source, mirrored=path)
        return record.replace(source=source, cell=cell.name, model=cell.model)

    return dataclasses.replace(
        batch,
        id=id_in_cell(batch.id, number),
        records=tuple(map(placed, batch.records)),
        cells=(number,),
    )
