"""Score degraded and restored pixels against the reference."""

import apache_beam as beam
import numpy as np

from transforms.metrics import FULL_REFERENCE
from transforms.record import Batch, Record
from transforms.stage import Stage

# Scores of which more is better, so that a gain means something.
GAINS = ("psnr", "ssim")


def measure_record(record: Record) -> Record:
    """Score a record's pixels as they will be encoded, before any lossy encoding.

    Adds `<metric>_degraded` and, where there is a result, `<metric>_restored`, and for PSNR and
    SSIM `<metric>_gain`. A record with no reference stays as it is.
    """
    if record.reference is None:
        return record
    scores: dict[str, float | None] = {}
    for state, pixels in (("degraded", record.pixels), ("restored", record.restored)):
        if pixels is not None:
            image, reference = _comparable(pixels, record.reference)
            for name, metric in FULL_REFERENCE.items():
                scores[f"{name}_{state}"] = metric(image, reference)
    for name in GAINS:
        before, after = scores[f"{name}_degraded"], scores.get(f"{name}_restored")
        if before is not None and after is not None:
            scores[f"{name}_gain"] = after - before
    return record.replace(metrics={**record.metrics, **scores})


def _comparable(image: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring gray and RGB together: gray is RGB with equal channels, which are one in memory."""
    channels = max(image.shape[-1], reference.shape[-1])
    one, other = (
        np.broadcast_to(pixels, (*pixels.shape[:2], channels)) for pixels in (image, reference)
    )
    return one, other


class Measure(beam.PTransform):
    """Score the records of batches against their references."""

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        return batches | Stage(measure=measure_record)
