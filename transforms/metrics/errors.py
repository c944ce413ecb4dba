"""Errors of samples against a reference, with white as 1: MSE, RMSE, MAE and PSNR."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from transforms.colour import luma, to_unit, white
from transforms.metrics.pair import Pair, Region, regions, with_whole

# Y of ITU-R BT.601-7, section 2.5.3: 219 of 255 levels from black to white.
_STUDIO_SWING = 219 / 255


def mse(pair: Pair, region: Region = "whole") -> float | None:
    """Mean squared error over all samples, with white as 1."""
    sums = pair.once(_sums)[region]
    scale = white(pair.image.pixels.dtype) ** 2
    return sums.squared / sums.count / scale if sums.count else None


def rmse(pair: Pair, region: Region = "whole") -> float | None:
    """Root of the mean squared error over all samples, with white as 1."""
    error = mse(pair, region)
    return None if error is None else math.sqrt(error)


def mae(pair: Pair, region: Region = "whole") -> float | None:
    """Mean absolute error over all samples, with white as 1."""
    sums = pair.once(_sums)[region]
    return sums.absolute / sums.count / white(pair.image.pixels.dtype) if sums.count else None


def psnr_rgb(pair: Pair, region: Region = "whole") -> float | None:
    """Peak signal-to-noise ratio in dB over all samples, those of all channels together.

    10 log10(white**2 / MSE), or None where there is no error: JSON has no word for infinity. Gray
    images have the same PSNR as they have as RGB.
    """
    return _decibels(mse(pair, region))


def psnr_y(pair: Pair, region: Region = "whole") -> float | None:
    """Peak signal-to-noise ratio in dB of Y of ITU-R BT.601, as papers on super-resolution have it.

    Y goes from 16 to 235 and is not rounded, the peak is 255 all the same (MATLAB's rgb2ycbcr and
    psnr): 1.32 dB more than that of luma from black to white. None where there is no error.
    """
    sums = pair.once(_luma_sums)[region]
    return _decibels(sums.squared / sums.count * _STUDIO_SWING**2) if sums.count else None


def _decibels(error: float | None) -> float | None:
    return -10 * math.log10(error) if error else None


@dataclass(frozen=True, slots=True)
class _Sums:
    count: int = 0
    absolute: float = 0
    squared: float = 0

    def __add__(self, other: "_Sums") -> "_Sums":
        return _Sums(
            self.count + other.count,
            self.absolute + other.absolute,
            self.squared + other.squared,
        )


def _sums(pair: Pair) -> dict[Region, _Sums]:
    sums: dict[Region, _Sums] = {}
    for image, reference, mask in pair.bands():
        difference = cv2.absdiff(image, reference).reshape(image.shape)
        for region, found in regions(difference, mask):
            # Whole numbers, which float64 adds without rounding; Python's have no largest.
            errors = found.astype(np.float64).ravel()
            squared = int(np.einsum("i,i->", errors, errors))
            total = _Sums(errors.size, int(errors.sum()), squared)
            sums[region] = sums.get(region, _Sums()) + total
    return with_whole(sums)


def _luma_sums(pair: Pair) -> dict[Region, _Sums]:
    sums: dict[Region, _Sums] = {}
    for image, reference, mask in pair.bands():
        difference = to_unit(image) - to_unit(reference)
        error = luma(difference) if image.shape[-1] == 3 else difference[..., 0]
        for region, found in regions(error, mask):
            squared = np.square(found).sum(dtype=np.float64)
            sums[region] = sums.get(region, _Sums()) + _Sums(found.size, squared=float(squared))
    return with_whole(sums)
