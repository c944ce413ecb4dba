"""Read masters, and decode them."""

import hashlib

import apache_beam as beam

from transforms import codec, storage
from transforms.record import Batch, BatchSpec, Record
from transforms.stage import Stage


def read_record(record: Record) -> Record:
    """Read the master's bytes and take their digest. The master is only ever opened for reading.

    Raises:
        StorageError: it cannot be read.
    """
    data = storage.read(record.source.path)
    return record.replace(encoded=data, sha256=hashlib.sha256(data).hexdigest())


def decode_record(record: Record, max_pixels: int = codec.DEFAULT_MAX_PIXELS) -> Record:
    """Decode the master and let its bytes go.

    Raises:
        CodecError: it is not an image, is broken, too large, or of a depth that would be cut.
    """
    assert record.encoded is not None, f"{record.key} has not been read"
    decoded = codec.decode(record.encoded, max_pixels=max_pixels)
    return record.replace(
        encoded=None,
        form=decoded.form,
        pixels=decoded.pixels,
        alpha=decoded.alpha,
        warnings=record.warnings + decoded.warnings,
    )


class Read(beam.PTransform):
    """Turn batch specs (JSON lines, see `BatchSpec`) into batches of decoded records.

    Each master is read and decoded before the next one, so that the encoded masters of a batch are
    not in memory together, nor for longer than it takes.

    Args:
        max_pixels: an image of more is a failure, not a memory error.
    """

    def __init__(self, max_pixels: int = codec.DEFAULT_MAX_PIXELS) -> None:
        super().__init__()
        self.max_pixels = max_pixels

    def expand(self, specs: beam.PCollection[str]) -> beam.PCollection[Batch]:
        """Read and decode."""
        max_pixels = self.max_pixels
        batches = specs | "Open" >> beam.Map(_open).with_output_types(Batch)
        return batches | Stage(
            read=read_record, decode=lambda record: decode_record(record, max_pixels)
        )


def _open(spec: str) -> Batch:
    return BatchSpec.from_json(spec).batch()
