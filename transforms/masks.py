"""Read the masks of missing pixels that somebody made for an archive."""

import posixpath

import apache_beam as beam
import numpy as np

from transforms import codec, storage
from transforms.colour import luma, white
from transforms.record import Batch, Record
from transforms.stage import Stage


class MaskError(ValueError):
    """A mask that is not there, or does not fit its image."""


def read_mask(record: Record, folder: str, max_pixels: int = codec.DEFAULT_MAX_PIXELS) -> Record:
    """Read the mask of a decoded record: white is missing, black is there.

    It has the master's path below `folder`, with `.png` added (as jobs write their own masks), with
    `.png` for the extension, or as it is.

    Raises:
        MaskError: there is none, or it is not of the image's size.
        StorageError: it cannot be read.
        CodecError: it is no image.
    """
    mirror = record.mirror
    names = (f"{mirror}.png", f"{posixpath.splitext(mirror)[0]}.png", mirror)
    paths = [storage.join(folder, name) for name in dict.fromkeys(names)]
    path = next(filter(storage.exists, paths), None)
    if path is None:
        raise MaskError(f"there is no mask for it; looked for {', '.join(paths)}")
    pixels = codec.decode(storage.read(path), max_pixels=max_pixels).pixels
    if pixels.shape[:2] != record.image.shape[:2]:
        raise MaskError(
            f"the mask {path} has {pixels.shape[1]} x {pixels.shape[0]} pixels, and its image "
            f"{record.image.shape[1]} x {record.image.shape[0]}"
        )
    values = pixels[..., 0] if pixels.shape[-1] == 1 else luma(pixels.astype(np.float32))
    return record.replace(mask=values > white(pixels.dtype) / 2)


class ReadMasks(beam.PTransform):
    """Read the masks of the records of batches.

    Args:
        folder: of the masks, whose paths are those of the masters in the archive.
        max_pixels: a mask of more is a failure.
    """

    def __init__(self, folder: str, max_pixels: int = codec.DEFAULT_MAX_PIXELS) -> None:
        super().__init__()
        self.folder = folder
        self.max_pixels = max_pixels

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        folder, most = self.folder, self.max_pixels
        return batches | Stage(mask=lambda record: read_mask(record, folder, most))
