"""Scores against a reference: pure functions of two images of one shape and type."""

from collections.abc import Callable

import cv2
import numpy as np

from transforms.colour import to_unit, white

_WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03
_ROWS = 1 << 20  # pixels scored at a time, so that a large scan needs no float copy of itself


def mse(image: np.ndarray, reference: np.ndarray) -> float:
    """Mean squared error over all samples, with white as 1.

    Args:
        image: uint8 or uint16 [H, W, C].
        reference: of the same shape and type.

    Raises:
        ValueError: they differ in shape or type.
    """
    _check(image, reference)
    total = 0  # in whole numbers: exact, and the same in any order
    for rows in _strips(image):
        difference = image[rows].astype(np.int64) - reference[rows]
        total += int(np.square(difference).sum())
    return total / image.size / white(image.dtype) ** 2


def psnr(image: np.ndarray, reference: np.ndarray) -> float | None:
    """Peak signal-to-noise ratio in dB over all samples (all channels together), or None if equal.

    10 log10(white**2 / MSE); infinite for equal images, which JSON has no word for.
    """
    error = mse(image, reference)
    return -10 * float(np.log10(error)) if error else None


def ssim(image: np.ndarray, reference: np.ndarray) -> float | None:
    """Structural similarity of Wang et al. 2004 (doi:10.1109/TIP.2003.819861), mean of channels.

    An 11x11 Gaussian window of sigma 1.5 that stays inside the image, population covariances,
    K1 = 0.01, K2 = 0.03. None where a side is shorter than the window.
    """
    _check(image, reference)
    height, width, channels = image.shape
    if min(height, width) < _WINDOW:
        return None
    edge = _WINDOW // 2
    total = 0.0
    step = max(1, _ROWS // width)
    for top in range(0, height - 2 * edge, step):
        rows = slice(top, min(top + step, height - 2 * edge) + 2 * edge)
        for channel in range(channels):
            total += float(_ssim_map(image[rows, :, channel], reference[rows, :, channel]).sum())
    return total / channels / (height - 2 * edge) / (width - 2 * edge)


def _ssim_map(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    kernel = cv2.getGaussianKernel(_WINDOW, _SIGMA, cv2.CV_32F)
    edge = _WINDOW // 2

    def local_mean(values: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(values, cv2.CV_32F, kernel, kernel)[edge:-edge, edge:-edge]

    x, y = to_unit(image), to_unit(reference)
    # Variances do not change with an offset, but lose fewer digits near zero.
    offset = y.mean(dtype=np.float64).astype(np.float32)
    x -= offset
    y -= offset
    mean_x, mean_y = local_mean(x), local_mean(y)
    covariance = local_mean(x * y) - mean_x * mean_y
    variances = local_mean(x * x + y * y) - mean_x**2 - mean_y**2
    mean_x, mean_y = mean_x + offset, mean_y + offset
    c1, c2 = np.float32(_K1**2), np.float32(_K2**2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).astype(np.float64)


def _check(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape or image.dtype != reference.dtype or image.ndim != 3:
        raise ValueError(
            f"cannot compare {image.dtype} {image.shape} with {reference.dtype} {reference.shape}: "
            "both must be [H, W, C] of one shape and type"
        )


def _strips(image: np.ndarray) -> list[slice]:
    step = max(1, _ROWS // image.shape[1])
    return [slice(top, top + step) for top in range(0, image.shape[0], step)]


FULL_REFERENCE: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
    "mse": mse,
    "psnr": psnr,
    "ssim": ssim,
}
