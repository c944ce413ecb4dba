"""The whole Beam graph of a job, on one page.

    plan - Reshuffle - Read - Degrade? - Mask? - Restore? - Measure - Guard? - Write - Commit -
    (specs: tiny)         one fused stage: pixels never leave it

         - Verify masters? - Summarise - Report - Package?
           (counts and statistics: small)

Only references to batch specs, counts and statistics are ever shuffled. A record that fails carries
its failure on to the ledger; a batch is read, written and committed as one.
"""

from collections.abc import Sequence

import apache_beam as beam

from models.handler import SavedModelHandler
from pipeline.ledger import Commit, FetchSpecs
from pipeline.masters import VerifyMasters
from pipeline.options import Job
from pipeline.packages import MakePackages
from pipeline.report import Report
from pipeline.summary import Summarise
from transforms import storage
from transforms.degrade import Degrade
from transforms.guards import Guards
from transforms.masks import ReadMasks
from transforms.measure import Measure
from transforms.read import Read
from transforms.restore import Restore
from transforms.write import Write


def build(pipeline: beam.Pipeline, job: Job, references: Sequence[str]) -> None:
    """Add a job's whole graph to a pipeline.

    Args:
        pipeline: to add it to.
        job: what to do.
        references: to the specs of its plan, as `Ledger.write_plan` gave them.
    """
    batches = (
        pipeline
        | "Plan" >> beam.Create(list(references), reshuffle=False)
        | "Reshuffle" >> beam.Reshuffle()
        | "Fetch" >> FetchSpecs(job.output)
        | "Read" >> Read(job.max_pixels, job.columns, decode=not job.encoding.untouched)
    )
    if job.recipe is not None:
        batches |= "Degrade" >> Degrade(job.recipe, job.seed)
    if job.masks is not None:
        batches |= "Mask" >> ReadMasks(job.masks, job.max_pixels)
    if job.model is not None:
        handler = SavedModelHandler(
            job.model,
            precision=job.precision,
            threads=job.threads,
            contract=job.contract,
            fetch=storage.local_folder,
            sha256=job.model_sha256,
            trust=job.trust_model,
        )
        batches |= "Restore" >> Restore(handler, job.tile)
    batches |= "Measure" >> Measure(job.metrics, job.lpips)
    if job.contract is not None:
        colours = job.contract.predicts_chroma or job.contract.colorizes
        batches |= "Guard" >> Guards(job.guards, colours=colours)
    counts = (
        batches
        | "Write" >> Write(job.output, job.encoding, job.container, job.signing)
        | "Commit" >> Commit(job.output)
    )
    if job.verify_masters:
        counts |= "Verify masters" >> VerifyMasters(job.output, job.columns)
    done = (
        counts | "Summarise" >> Summarise(job.output) | "Report" >> Report(job.output, job.pictures)
    )
    if job.packaging.names:
        _ = done | "Package" >> MakePackages(job.packaging)
