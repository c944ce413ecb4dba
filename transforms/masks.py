"""Read the masks of missing pixels that somebody made for an archive."""

import posixpath

import apache_beam as beam
import numpy as np

from transforms import codec, scratch, storage
from transforms.colour import luma, white
from transforms.record import Batch, Record
from transforms.stage import Stage

_ROWS = 1 << 20  # pixels looked at together


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
    return record.replace(mask=_bright(pixels))


def _bright(pixels: np.ndarray) -> np.ndarray:
    """Tell, bool [H, W], where pixels [H, W, 1 or 3] are nearer to white than to black."""
    height, width, channels = pixels.shape
    result = scratch.empty((height, width), bool)
    step = max(1, _ROWS // width)
    for top in range(0, height, step):
        part = pixels[top : top + step]
        values = part[..., 0] if channels == 1 else luma(part.astype(np.float32))
        result[top : top + step] = values > white(pixels.dtype) / 2
    return result


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
