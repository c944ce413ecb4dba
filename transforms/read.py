"""Read masters, and decode them."""

import dataclasses
import hashlib
import time
from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms import codec, scratch, storage
from transforms.bounds import USUAL_BOUNDS, Bounds, check_bytes
from transforms.deadline import Limit
from transforms.pages import unfold
from transforms.record import Batch, BatchSpec, Record, Source
from transforms.scratch import Buffer
from transforms.shards import USUAL_COLUMNS, Columns, OpenShard
from transforms.shards.shard import Content
from transforms.stage import StageDoFn


def read_record(record: Record, shard: OpenShard, bounds: Bounds = USUAL_BOUNDS) -> Record:
    """Read the master's bytes and take their digest. The master is only ever opened for reading.

    Args:
        record: with its source.
        shard: that images of shards are read from.
        bounds: how large it may be.

    Raises:
        BoundsError: it is larger.
        StorageError: it cannot be read.
        ShardError: it cannot be had from its shard.
    """
    source = record.source
    if source.member is None or not source.member.trouble:
        check_bytes(source.size, bounds)
    if source.member is None:
        beside = shard.row(*source.table) if source.table else {}
        content = Content(encoded=_file(source), fields=beside)
    else:
        content = shard.get(source.path, source.member)
    pixels = None if content.pixels is None else np.ascontiguousarray(content.pixels)
    held = content.encoded if pixels is None else pixels.data
    assert held is not None, f"{record.key} is neither encoded nor pixels"
    check_bytes(memoryview(held).nbytes, bounds)  # which not every list or shard tells before
    return record.replace(
        encoded=content.encoded,
        pixels=pixels,
        fields={**{name: pa.scalar(text) for name, text in source.fields}, **content.fields},
        features=content.features,
        sha256=hashlib.sha256(held).hexdigest(),
    )


def _file(source: Source) -> Buffer:
    if source.size > scratch.LIMIT:
        return scratch.gathered(storage.chunks(source.path), source.size)
    return storage.read(source.path)


def decode_record(record: Record, max_pixels: int = codec.DEFAULT_MAX_PIXELS) -> Record:
    """Decode the master and let its bytes go. Its further pages are records inside its own.

    Raises:
        CodecError: it is not an image, is broken, too large, or of a depth that would be cut.
    """
    if record.pixels is not None:
        form = codec.form_of(record.pixels, max_pixels)
        return record.replace(form=form, size=_size(record.pixels))
    assert record.encoded is not None, f"{record.key} has not been read"
    first, *others = codec.decode_pages(record.encoded, max_pixels=max_pixels)
    further = tuple(
        _decoded(record.replace(fields={}, features={}, page=page), decoded)
        for page, decoded in enumerate(others, 2)
    )
    return _decoded(record, first).replace(further=further)


def _decoded(record: Record, decoded: codec.Decoded) -> Record:
    return record.replace(
        encoded=None,
        form=decoded.form,
        pixels=decoded.pixels,
        native=decoded.native,
        size=_size(decoded.pixels),
        alpha=decoded.alpha,
        warnings=record.warnings + decoded.warnings,
    )


def _size(pixels: np.ndarray) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


class Read(beam.PTransform):
    """Turn batch specs (JSON lines, see `BatchSpec`) into batches of records, decoded if asked.

    Each master is read and decoded before the next one, so that the encoded masters of a batch are
    not in memory together, nor for longer than it takes. Each page of a master is a record.

    Args:
        max_pixels: an image of more is a failure, not a memory error.
        columns: of shards that hold images and names.
        decode: whether the pixels are wanted, or just the bytes.
        bounds: how large an encoded master may be.
        limit: how long an image may take, from here on to its being written.
    """

    def __init__(
        self,
        max_pixels: int = codec.DEFAULT_MAX_PIXELS,
        columns: Columns = USUAL_COLUMNS,
        *,
        decode: bool = True,
        bounds: Bounds = USUAL_BOUNDS,
        limit: Limit | None = None,
    ) -> None:
        super().__init__()
        self.max_pixels = max_pixels
        self.columns = columns
        self.decode = decode
        self.bounds = bounds
        self.limit = limit

    def expand(self, specs: beam.PCollection[str]) -> beam.PCollection[Batch]:
        """Read and decode."""
        read = _ReadDoFn(self.max_pixels, self.columns, self.decode, self.bounds, self.limit)
        return specs | beam.ParDo(read).with_output_types(Batch)


class _ReadDoFn(StageDoFn):
    def __init__(
        self,
        max_pixels: int,
        columns: Columns,
        decode: bool,
        bounds: Bounds,
        limit: Limit | None,
    ) -> None:
        super().__init__("decode" if decode else "read")
        self.max_pixels = max_pixels
        self.columns = columns
        self.decode = decode
        self.bounds = bounds
        self.limit = limit

    def process(self, spec: str) -> Iterable[Batch]:
        with OpenShard(self.columns) as shard:
            functions = {"read": lambda record: read_record(record, shard, self.bounds)}
            if self.decode:
                functions["decode"] = lambda record: decode_record(record, self.max_pixels)
            for batch in BatchSpec.from_json(spec).batches():
                limit = self.limit and self.limit.looked_up()
                begun = dataclasses.replace(batch, started=time.time(), limit=limit)
                yield self.run(begun, functions, unfold)
