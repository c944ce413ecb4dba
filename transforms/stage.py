"""One stage of the graph: count, time and call a pure function on every record of a batch."""

import pickle
import time
from collections.abc import Callable, Iterable

import apache_beam as beam
from apache_beam.coders import Coder, registry
from apache_beam.metrics import Metrics

from transforms.record import Batch, Record


class BatchCoder(Coder):
    """Tell Beam the size of a batch without encoding it.

    Beam samples the size of what passes between fused steps, and would pickle whole scans for it.
    Batches are encoded only by a runner that does not fuse.
    """

    def encode(self, batch: Batch) -> bytes:
        """Pickle a batch."""
        return pickle.dumps(batch, protocol=pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Batch:
        """Give back what `encode` was given."""
        return pickle.loads(encoded)  # noqa: S301  written by `encode` in this job

    def estimate_size(self, batch: Batch) -> int:
        """Count the bytes of encoded masters and arrays."""
        return batch.nbytes

    def is_deterministic(self) -> bool:
        """Say that batches are no keys."""
        return False

    def to_type_hint(self) -> type:
        """Name the type."""
        return Batch


registry.register_coder(Batch, BatchCoder)


class Stage(beam.PTransform):
    """Map `function` over the records of batches; a record that raises carries its failure on.

    Counters, in the namespace `heliograph`: `<name>_records`, `<name>_failures`, and the
    distribution `<name>_milliseconds` for a batch.

    Args:
        name: of the stage, as failures tell it.
        function: Record to Record; it must travel to the workers.
    """

    def __init__(self, name: str, function: Callable[[Record], Record]) -> None:
        super().__init__(name.capitalize())
        self.name = name
        self.function = function

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        stage = beam.ParDo(_StageDoFn(self.name, self.function))
        return batches | stage.with_output_types(Batch)


class _StageDoFn(beam.DoFn):
    def __init__(self, name: str, function: Callable[[Record], Record]) -> None:
        self.name = name
        self.function = function
        self.records = Metrics.counter("heliograph", f"{name}_records")
        self.failures = Metrics.counter("heliograph", f"{name}_failures")
        self.milliseconds = Metrics.distribution("heliograph", f"{name}_milliseconds")

    def process(self, batch: Batch) -> Iterable[Batch]:
        started = time.monotonic()
        failed_before = batch.failures
        result = batch.map(self.name, self.function)
        self.milliseconds.update(int(1000 * (time.monotonic() - started)))
        self.records.inc(len(batch) - failed_before)
        self.failures.inc(result.failures - failed_before)
        yield result
