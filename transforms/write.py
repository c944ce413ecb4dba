"""Encode derivatives and write them, each whole or not at all."""

import hashlib
import posixpath
from dataclasses import dataclass

import apache_beam as beam
import numpy as np

from transforms import codec, storage
from transforms.record import Batch, Derivative, MaskFile, Record, Source
from transforms.stage import Stage

IMAGES = "images"
MASKS = "masks"
SCRATCH = ".tmp"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How derivatives are written.

    Attributes:
        format: a key of `codec.FORMATS`, or None for each master's own.
        quality: of JPEG and lossy WebP, 1-100.
    """

    format: str | None = None
    quality: int = codec.DEFAULT_QUALITY

    def name(self, source: Source) -> str:
        """Give the derivative's path below `images/`: the master's, with a second extension where
        the first is another format's, so that a.png and a.jpg cannot meet.
        """
        name, known = source.mirror, self.format_for(source)
        if known is None:
            return name
        extensions = codec.FORMATS[known].extensions
        return name if posixpath.splitext(name)[1].lower() in extensions else name + extensions[0]

    def format_for(self, source: Source) -> str | None:
        """Give the format to write, or None for the master's own.

        Images whose names do not tell their format, as in shards, go out as PNG, so that names are
        known before the images are.
        """
        named = posixpath.splitext(source.mirror)[1].lower() in codec.EXTENSIONS
        return self.format or (None if named else "PNG")


def write_record(record: Record, output: str, encoding: Encoding) -> Record:
    """Write a record's restored pixels, or its degraded ones where nothing was to be restored,
    and the mask of its degradation, if it has one, as a bilevel PNG: white is missing.

    Raises:
        CodecError: the format cannot hold them.
        StorageError: they could not be written; nothing new is left under the name.
    """
    pixels = record.image if record.restored is None else record.restored
    assert record.form is not None, f"{record.key} has not been decoded"
    data = codec.encode(
        record.form,
        pixels,
        record.alpha,
        name=encoding.format_for(record.source),
        quality=encoding.quality,
    )
    name = encoding.name(record.source)
    storage.write(storage.join(output, IMAGES, name), data, scratch=storage.join(output, SCRATCH))
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(data).hexdigest()
    return record.replace(
        derivative=Derivative(name, len(data), digest, width, height),
        mask_file=None
        if record.mask is None
        else _write_mask(record.source.mirror, record.mask, output),
    )


def _write_mask(mirror: str, mask: np.ndarray, output: str) -> MaskFile:
    data = codec.encode_mask(mask)
    name = f"{mirror}.png"  # always one more extension, so that no two can meet
    storage.write(storage.join(output, MASKS, name), data, scratch=storage.join(output, SCRATCH))
    return MaskFile(name, hashlib.sha256(data).hexdigest(), float(mask.mean()))


class Write(beam.PTransform):
    """Write the derivatives of batches to OUTPUT/images, and masks to OUTPUT/masks.

    Args:
        output: the output folder.
        encoding: format and quality.
    """

    def __init__(self, output: str, encoding: Encoding) -> None:
        super().__init__()
        self.output = output
        self.encoding = encoding

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        output, encoding = self.output, self.encoding
        return batches | Stage(write=lambda record: write_record(record, output, encoding))
