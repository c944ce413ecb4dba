"""Loss of colour."""

import numpy as np

from transforms.degradations.registry import Damaged, degradation, to_pixels, to_unit

# Weights of gamma-encoded R, G, B in luma Y' (ITU-R BT.601-7, section 2.5.1).
BT601 = np.array([0.299, 0.587, 0.114], np.float32)


@degradation()
def grayscale(pixels: np.ndarray, rng: np.random.Generator) -> Damaged:
    """Colour to one channel of luma, by the weights of ITU-R BT.601."""
    if pixels.shape[-1] == 1:
        return Damaged(pixels)
    return Damaged(to_pixels(to_unit(pixels) @ BT601, pixels)[..., None])
