"""Noise."""

import numpy as np

from transforms.colour import from_unit, to_unit
from transforms.degradations.registry import Damaged, Number, degradation


@degradation(sigma=Number(0, 255, (20.4, 30.6, 45.9, 66.3, 96.9)))
def gaussian_noise(pixels: np.ndarray, rng: np.random.Generator, *, sigma: float) -> Damaged:
    """Additive Gaussian noise of one sigma on a scale of 0-255, clipped and rounded.

    Severities are those of ImageNet-C (Hendrycks & Dietterich 2019, arXiv:1903.12261).
    """
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    noisy = to_unit(pixels) + noise * np.float32(sigma / 255)
    return Damaged(from_unit(noisy, pixels.dtype))
