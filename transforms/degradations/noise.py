"""Noise of sensors and transmission (ImageNet-C).

Definitions and severities are those of Hendrycks & Dietterich 2019, arXiv:1903.12261. Every sample
has its own noise: the channels of a pixel are not alike.
"""

import numpy as np

from transforms.colour import white
from transforms.degradations.apply import by_rows
from transforms.degradations.parameters import Number
from transforms.degradations.registry import Damaged, degradation


@degradation(sigma=Number(0, 255, (20.4, 30.6, 45.9, 66.3, 96.9)))
def gaussian_noise(pixels: np.ndarray, rng: np.random.Generator, *, sigma: float) -> Damaged:
    """Additive Gaussian noise of one sigma on a scale of 0-255, clipped and rounded.

    What electronics add to every sample alike, in low light above all.
    """
    scale = np.float32(sigma / 255)

    def noisy(unit: np.ndarray, rows: slice) -> np.ndarray:
        return unit + scale * rng.standard_normal(unit.shape, dtype=np.float32)

    return Damaged(by_rows(pixels, noisy))


@degradation(photons=Number(0.1, 100_000, (60, 25, 12, 5, 3)))
def shot_noise(pixels: np.ndarray, rng: np.random.Generator, *, photons: float) -> Damaged:
    """Poisson noise of counting few photons: a sample of white has counted this many on average.

    Light comes in whole photons, so the variance of a count is its mean: highlights are noisier
    than shadows, but less so for what they are. Each severity counts its own photons.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        photons: expected at white; the fewer, the noisier.
    """
    levels = white(pixels.dtype)

    def noisy(unit: np.ndarray, rows: slice) -> np.ndarray:
        # In float64, as a count may turn on the last digit of its expectation.
        exact = np.divide(pixels[rows], levels, dtype=np.float64)
        return (rng.poisson(exact * photons) / photons).astype(np.float32)

    return Damaged(by_rows(pixels, noisy))


@degradation(amount=Number(0, 1, (0.03, 0.06, 0.09, 0.17, 0.27)))
def impulse_noise(pixels: np.ndarray, rng: np.random.Generator, *, amount: float) -> Damaged:
    """Salt and pepper: a share of the samples is set to black or white, with even odds.

    What dead and hot cells of a sensor and errors of transmission leave. Whatever a lower severity
    hits, a higher one hits too.
    """
    odds = amount / 2

    def noisy(unit: np.ndarray, rows: slice) -> np.ndarray:
        draw = rng.random(unit.shape, dtype=np.float32)
        unit[draw < odds] = 0
        unit[draw >= 1 - odds] = 1
        return unit

    return Damaged(by_rows(pixels, noisy))


@degradation(sigma=Number(0, 10, (0.15, 0.2, 0.35, 0.45, 0.6)))
def speckle_noise(pixels: np.ndarray, rng: np.random.Generator, *, sigma: float) -> Damaged:
    """Gaussian noise in proportion to each sample: black stays black, and white suffers most.

    What coherent light adds, and uneven gain from sample to sample.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        sigma: standard deviation, as a share of the sample's own value.
    """
    scale = np.float32(sigma)

    def noisy(unit: np.ndarray, rows: slice) -> np.ndarray:
        return unit + unit * (scale * rng.standard_normal(unit.shape, dtype=np.float32))

    return Damaged(by_rows(pixels, noisy))
