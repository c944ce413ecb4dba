"""The whole Beam graph of a job, on one page.

    plan - Reshuffle - Read - Degrade? - Mask? - Restore? - Measure - Guard? - Write - Commit -
    (specs: tiny)         one fused stage: pixels never leave it

         - Verify masters? - Summarise - Scoreboard? - Report - Package?
           (counts and statistics: small)

Only references to batch specs, counts and statistics are ever shuffled. A record that fails carries
its failure on to the ledger; a batch is read, written and committed as one.

With several recipes or models, what has been read goes through one recipe after the other, and of
each through one model after the other, as a batch that is committed for itself:

    … Read - Measure - Vary - Degrade - Measure - Enter - Restore - … - Commit (of each model) …
"""

from collections.abc import Sequence

import apache_beam as beam

from models.contract import Contract
from models.handler import SavedModelHandler
from pipeline.committing import Commit, FetchSpecs
from pipeline.ledger import Ledger
from pipeline.masters import VerifyMasters
from pipeline.matrix import Matrix
from pipeline.options import Job
from pipeline.packages import MakePackages
from pipeline.report import Report
from pipeline.scoreboard.board import Scoreboard
from pipeline.summary import Summarise
from transforms import storage
from transforms.cells import DegradeEach, Enter, Vary
from transforms.degrade import Degrade
from transforms.guards import Guards
from transforms.masks import ReadMasks
from transforms.measure import Measure
from transforms.read import Read
from transforms.record import Batch
from transforms.restore import Restore
from transforms.write import Encoding, Write

Batches = beam.PCollection[Batch]


def build(pipeline: beam.Pipeline, job: Job, references: Sequence[str]) -> None:
    """Add a job's whole graph to a pipeline.

    Args:
        pipeline: to add it to.
        job: what to do.
        references: to the specs of its plan, as `Ledger.write_plan` gave them.
    """
    ledger = Ledger(job.output)
    run = ledger.run()
    batches = (
        pipeline
        | "Plan" >> beam.Create(list(references), reshuffle=False)
        | "Reshuffle" >> beam.Reshuffle()
        | "Fetch" >> FetchSpecs(job.output, run)
        | "Read"
        >> Read(
            job.max_pixels,
            job.columns,
            decode=not job.encoding.untouched,
            bounds=job.bounds,
            limit=ledger.limit(job.record_timeout),
        )
    )
    counts = _one(batches, job, run) if job.matrix is None else _each(batches, job, job.matrix, run)
    if job.verify_masters:
        counts |= "Verify masters" >> VerifyMasters(job.output, job.columns)
    done = counts | "Summarise" >> Summarise(job.output)
    if job.command == "evaluate":
        done |= "Scoreboard" >> Scoreboard(job.output)
    done |= "Report" >> Report(job.output, job.pictures)
    if job.packaging.names:
        _ = done | "Package" >> MakePackages(job.packaging)


def _one(batches: Batches, job: Job, run: str | None) -> beam.PCollection[int]:
    """Take batches through at most one recipe and one model."""
    if job.recipe is not None:
        batches |= "Degrade" >> Degrade(job.recipe, job.seed)
    if job.masks is not None:
        batches |= "Mask" >> ReadMasks(job.masks, job.max_pixels)
    if job.model is not None:
        handler = _handler(job, job.model, job.contract, job.model_sha256)
        batches |= "Restore" >> Restore(handler, job.tile)
    return _committed(batches, job, run, job.contract, job.encoding)


def _each(batches: Batches, job: Job, matrix: Matrix, run: str | None) -> beam.PCollection[int]:
    """Take batches through each cell of a matrix; what models share is done, and scored, once."""
    count = len(matrix.models)
    damaged = (
        batches
        | "Measure originals" >> Measure(job.metrics)
        | "Vary" >> Vary(count)
        | "Degrade" >> DegradeEach(matrix.recipes, job.seed, count)
        | "Measure damaged" >> Measure(job.metrics, job.lpips)
    )
    # No flattening before the counts: runners would write pixels down for it.
    counts = [
        _committed(
            damaged
            | f"Enter {one.name}" >> Enter(number, matrix.cells, count)
            | f"Restore {one.name}"
            >> Restore(_handler(job, one.model, one.contract, one.sha256), job.tile, one.name),
            job,
            run,
            one.contract,
            one.encoding,
            f" {one.name}",
        )
        for number, one in enumerate(matrix.models)
    ]
    return counts | "Gather" >> beam.Flatten()


def _handler(
    job: Job, model: str, contract: Contract | None, sha256: str | None
) -> SavedModelHandler:
    return SavedModelHandler(
        model,
        precision=job.precision,
        threads=job.threads,
        contract=contract,
        fetch=storage.local_folder,
        sha256=sha256,
        trust=job.trust_model,
    )


def _committed(
    batches: Batches,
    job: Job,
    run: str | None,
    contract: Contract | None,
    encoding: Encoding,
    of: str = "",
) -> beam.PCollection[int]:
    """Score, guard, write and commit batches."""
    batches |= f"Measure{of}" >> Measure(job.metrics, job.lpips)
    if contract is not None:
        colours = contract.predicts_chroma or contract.colorizes
        batches |= f"Guard{of}" >> Guards(job.guards, colours=colours)
    return (
        batches
        | f"Write{of}" >> Write(job.output, encoding, job.container, job.signing)
        | f"Commit{of}" >> Commit(job.output, job.digest, run)
    )
