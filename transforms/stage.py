"""One stage of the graph: count, time and call a pure function on every record of a batch."""

import copyreg
import io
import pickle
import time
from collections.abc import Callable, Iterable, Mapping

import apache_beam as beam
from apache_beam.coders import Coder, registry
from apache_beam.metrics import Metrics

from transforms.record import Batch, Record

# Beam adds sizes up as C's int, and fails beyond that.
_MOST_ESTIMATED = 1 << 30


class BatchCoder(Coder):
    """Tell Beam the size of a batch without encoding it.

    Beam samples the size of what passes between fused steps, and would pickle whole scans for it.
    Batches are encoded only by a runner that does not fuse.
    """

    def encode(self, batch: Batch) -> bytes:
        """Pickle a batch; what is mapped is taken into memory."""
        file = io.BytesIO()
        pickler = pickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
        pickler.dispatch_table = copyreg.dispatch_table | {memoryview: _as_bytes}
        pickler.dump(batch)
        return file.getvalue()

    def decode(self, encoded: bytes) -> Batch:
        """Give back what `encode` was given."""
        return pickle.loads(encoded)  # noqa: S301  written by `encode` in this job

    def estimate_size(self, batch: Batch) -> int:
        """Count the bytes of encoded masters and arrays, as far as Beam can."""
        return min(batch.nbytes, _MOST_ESTIMATED)

    def is_deterministic(self) -> bool:
        """Say that batches are no keys."""
        return False

    def to_type_hint(self) -> type:
        """Name the type."""
        return Batch


def _as_bytes(view: memoryview) -> tuple[type[bytes], tuple[pickle.PickleBuffer]]:
    return bytes, (pickle.PickleBuffer(view),)


registry.register_coder(Batch, BatchCoder)


class Stage(beam.PTransform):
    """Take the records of batches through functions; one that raises carries its failure on.

    Counters, in the namespace `heliograph`: `<name>_records`, `<name>_failures`, and the
    distribution `<name>_milliseconds` for a batch; the name is that of the last function.

    Args:
        functions: Record to Record, by the names that failures tell. Each record goes through all
            of them before the next one does, and what is between them is in memory once, not once
            for each record of the batch. They must travel to the workers.
    """

    def __init__(self, **functions: Callable[[Record], Record]) -> None:
        self.name = list(functions)[-1]
        super().__init__(self.name.capitalize())
        self.functions = functions

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        stage = beam.ParDo(_FunctionsDoFn(self.name, self.functions))
        return batches | stage.with_output_types(Batch)


class StageDoFn(beam.DoFn):
    """What counts and times the functions of a stage."""

    def __init__(self, name: str) -> None:
        self.records = Metrics.counter("heliograph", f"{name}_records")
        self.failures = Metrics.counter("heliograph", f"{name}_failures")
        self.milliseconds = Metrics.distribution("heliograph", f"{name}_milliseconds")

    def run(
        self,
        batch: Batch,
        functions: Mapping[str, Callable[[Record], Record]],
        finish: Callable[[Batch], Batch] = lambda batch: batch,
    ) -> Batch:
        """Take the records of a batch through functions one by one, then the batch as a whole."""
        started = time.monotonic()
        result = finish(batch.map(functions))
        self.milliseconds.update(int(1000 * (time.monotonic() - started)))
        self.records.inc(len(batch) - batch.failures)
        self.failures.inc(result.failures - batch.failures)
        return result


class _FunctionsDoFn(StageDoFn):
    def __init__(self, name: str, functions: dict[str, Callable[[Record], Record]]) -> None:
        super().__init__(name)
        self.functions = functions

    def process(self, batch: Batch) -> Iterable[Batch]:
        yield self.run(batch, self.functions)
