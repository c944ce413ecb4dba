"""The ledger's part in the graph: batch specs are fetched from its plan, and batches committed."""

from collections import Counter
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline.ledger import Ledger
from pipeline.rows import STATUSES
from transforms.record import Batch


class FetchSpecs(beam.PTransform):
    """Turn references to the specs of the plan into the specs, as lines of JSON.

    The graph of a job and what it shuffles stay small that way, however many images there are:
    Beam compresses all that a graph holds, slowly, and runners limit its size.

    Args:
        output: the output folder.
        run: the id of this run; when another one has begun, there is nothing to do for this.
    """

    def __init__(self, output: str, run: str | None = None) -> None:
        super().__init__()
        self.output = output
        self.run = run

    def expand(self, references: beam.PCollection[str]) -> beam.PCollection[str]:
        """Read them."""
        ledger, run = Ledger(self.output), self.run

        def fetch(reference: str) -> list[str]:
            # What is left out now is not committed, and the next run of the job will do it.
            if ledger.is_stopping or ledger.run() != run:
                return []
            spec = ledger.spec(reference)
            # A plan holds nothing that is: then the runner has begun anew, having lost a worker.
            return [] if ledger.is_committed(spec) else [spec]

        return references | beam.FlatMap(fetch).with_output_types(str)


class Commit(beam.PTransform):
    """Commit batches to the ledger; give one number for each: its rows.

    Args:
        output: the output folder.
        job: the digest of the job, for the records.
        run: the id of this run; when another one has begun, its batches are not committed.
    """

    def __init__(self, output: str, job: str | None = None, run: str | None = None) -> None:
        super().__init__()
        self.output = output
        self.job = job
        self.run = run

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[int]:
        """Write the records."""
        commit = CommitDoFn(self.output, self.job, self.run)
        return batches | beam.ParDo(commit).with_output_types(int)


class CommitDoFn(beam.DoFn):
    """Commit a batch, unless another run has begun; arguments as those of `Commit`."""

    def __init__(self, output: str, job: str | None, run: str | None) -> None:
        self.output = output
        self.job = job
        self.run = run
        self.counters = {status: Metrics.counter("heliograph", status) for status in STATUSES}
        self.superseded = Metrics.counter("heliograph", "superseded")

    def process(self, batch: Batch) -> Iterable[int]:
        """Write its record, and give its rows."""
        ledger = Ledger(self.output)
        if ledger.run() != self.run:
            self.superseded.inc(len(batch))
            return
        rows = ledger.commit(batch, self.job)
        for status, count in Counter(committed["status"] for committed in rows).items():
            self.counters[status].inc(count)
        yield len(rows)
