"""What encoding takes away."""

import cv2
import numpy as np

from transforms.degradations.registry import Damaged, Whole, degradation


@degradation(quality=Whole(1, 100, (25, 18, 15, 10, 7)))
def jpeg(pixels: np.ndarray, rng: np.random.Generator, *, quality: int) -> Damaged:
    """A round trip through baseline JPEG, with 4:2:0 chroma.

    Severities are those of ImageNet-C (Hendrycks & Dietterich 2019, arXiv:1903.12261). JPEG holds
    8 bits: 16-bit images lose the rest here, as they do in a JPEG.
    """
    eight = pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257).astype(np.uint8)
    done, data = cv2.imencode(".jpg", eight[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"JPEG cannot hold an image of shape {pixels.shape}")
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)
    decoded = decoded.reshape(pixels.shape)[..., ::-1]
    return Damaged(decoded if pixels.dtype == np.uint8 else decoded.astype(np.uint16) * 257)
