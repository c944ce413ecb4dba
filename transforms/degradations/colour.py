"""Loss of colour."""

import numpy as np

from transforms.colour import from_unit, luma, to_unit
from transforms.degradations.registry import Damaged, degradation


@degradation()
def grayscale(pixels: np.ndarray, rng: np.random.Generator) -> Damaged:
    """Colour to one channel of luma, by the weights of ITU-R BT.601."""
    if pixels.shape[-1] == 1:
        return Damaged(pixels)
    return Damaged(from_unit(luma(to_unit(pixels)), pixels.dtype)[..., None])
