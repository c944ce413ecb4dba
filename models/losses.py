"""Losses of training, on float tensors [N, H, W, C] of any Keras backend; white is 1."""

from collections.abc import Callable

import numpy as np
from keras import ops

from models.networks.colorizers import CHROMA_UNIT

Loss = Callable

SSIM_WINDOW, _SIGMA = 11, 1.5


def mse(truth, predicted):
    """Give the mean squared error."""
    return ops.mean(ops.square(predicted - truth))


def l1(truth, predicted):
    """Give the mean absolute error."""
    return ops.mean(ops.abs(predicted - truth))


def charbonnier(truth, predicted):
    """Give the mean of sqrt(d**2 + 0.001**2), an L1 that is smooth at 0.

    Charbonnier et al. 1994 (ICIP), with the constant of Lai et al. 2017 (LapSRN, arXiv:1704.03915).
    """
    return ops.mean(ops.sqrt(ops.square(predicted - truth) + 1e-6))


def huber(truth, predicted):
    """Give the mean length of the difference's vector, squared where it is short.

    sqrt(d**2 + 0.2**2) - 0.2 over the channels together (Charbonnier et al. 1994, ICIP): far from
    the truth it counts as L1 does, near it as the squared error does, whose best guess between
    colours is between them, where that of L1 is the commonest, mostly gray.
    """
    squares = ops.sum(ops.square(ops.cast(predicted - truth, "float32")), axis=-1)
    return ops.mean(ops.sqrt(squares + 0.04) - 0.2)


def ssim(truth, predicted):
    """Give 1 less the mean structural similarity of Wang et al. 2004, as our metric has it.

    An 11x11 Gaussian window of sigma 1.5 that stays inside the images, K1 = 0.01, K2 = 0.03; sides
    are at least 11 pixels.
    """
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).astype(np.float32)
    truth = ops.cast(truth, "float32")
    predicted = ops.cast(predicted, "float32")
    products = (truth, predicted, truth * truth, predicted * predicted, truth * predicted)
    stacked = ops.concatenate(products, axis=-1)
    count = stacked.shape[-1]
    for shape in ((SSIM_WINDOW, 1, 1, 1), (1, SSIM_WINDOW, 1, 1)):
        kernel = ops.convert_to_tensor(np.tile(weights.reshape(shape), (1, 1, count, 1)))
        stacked = ops.depthwise_conv(stacked, kernel, padding="valid")
    mean_t, mean_p, square_t, square_p, product = ops.split(stacked, 5, axis=-1)
    covariance = product - mean_t * mean_p
    variances = square_t - mean_t * mean_t + square_p - mean_p * mean_p
    similar = (2 * mean_t * mean_p + 0.01**2) * (2 * covariance + 0.03**2)
    similar = similar / ((mean_t * mean_t + mean_p * mean_p + 0.01**2) * (variances + 0.03**2))
    return 1 - ops.mean(similar)


def _length(*parts):
    # Of gradient that stays finite where all parts are 0.
    return ops.sqrt(sum(part * part for part in parts) + 1e-4)


def perceived_chroma(truth, predicted):
    """Give the mean difference of two chroma images as CIEDE2000 sees it.

    The formulas of Sharma, Wu and Dalal 2005 (Color Res. Appl. 30(1)) at equal lightness, but for
    what only tells blues apart (R_T and the hue weight T, taken for 0 and 1): differences count
    less between strong colours than near gray, red and green near gray more than blue and yellow.

    Args:
        truth: [N, H, W, 2], CIE a* and b* divided by `CHROMA_UNIT`.
        predicted: the same.
    """
    chroma, a, b = [], [], []
    for image in (truth, predicted):
        image = ops.cast(image, "float32") * CHROMA_UNIT
        a.append(image[..., 0])
        b.append(image[..., 1])
        chroma.append(_length(a[-1], b[-1]))
    seventh = ops.power((chroma[0] + chroma[1]) / 2, 7.0)
    stretch = 1.5 - 0.5 * ops.sqrt(seventh / (seventh + 25.0**7))
    stretch = ops.stop_gradient(stretch)
    a = [part * stretch for part in a]
    chroma = [_length(*parts) for parts in zip(a, b, strict=True)]
    mean = ops.stop_gradient((chroma[0] + chroma[1]) / 2)
    strength = chroma[1] - chroma[0]
    apart = (a[1] - a[0]) ** 2 + (b[1] - b[0]) ** 2
    hue = ops.maximum(apart - strength * strength, 0.0)
    weighted = (strength / (1 + 0.045 * mean)) ** 2 + hue / (1 + 0.015 * mean) ** 2
    return ops.mean(ops.sqrt(weighted + 1e-2))


class Rebalanced:
    """Cross-entropy of chroma in bins, in which rare colours count more.

    Section 2.2 of Zhang et al. 2016 (arXiv:1603.08511): the truth is spread over its 5 nearest
    bins by a Gaussian of sigma 5; each pixel is weighted by the inverse of how common its bin is,
    mixed half and half with a uniform distribution, so that the mean weight is 1.

    Args:
        bins: centres [Q, 2] in a* and b*.
        counts: how often photographs hold each, [Q].
    """

    NEIGHBOURS, SIGMA, UNIFORM = 5, 5.0, 0.5

    def __init__(self, bins: np.ndarray, counts: np.ndarray) -> None:
        self.bins = bins.astype(np.float32)
        share = counts / counts.sum()
        weights = 1 / ((1 - self.UNIFORM) * share + self.UNIFORM / len(bins))
        self.weights = (weights / (share * weights).sum()).astype(np.float32)

    def __call__(self, truth, logits):
        """Give the mean cross-entropy.

        Args:
            truth: [N, H, W, 2], a* and b* divided by `CHROMA_UNIT`.
            logits: [N, h, w, Q]; H and W are multiples of h and w.
        """
        shrink = truth.shape[1] // logits.shape[1]
        truth = ops.average_pool(ops.cast(truth, "float32"), shrink, shrink) * CHROMA_UNIT
        bins = ops.convert_to_tensor(self.bins)
        # |x - y|**2 as |x|**2 - 2 x y + |y|**2, which holds one number a bin and pixel, not two.
        squares = ops.sum(truth * truth, axis=-1, keepdims=True) + ops.sum(bins * bins, axis=-1)
        distances = squares - 2 * ops.matmul(truth, ops.transpose(bins))
        nearest, places = ops.top_k(-distances, self.NEIGHBOURS)
        shares = ops.softmax(nearest / (2 * self.SIGMA**2))
        chances = ops.take_along_axis(ops.log_softmax(logits), places, axis=-1)
        weights = ops.take(ops.convert_to_tensor(self.weights), places[..., 0])
        return ops.mean(-weights * ops.sum(shares * chances, axis=-1))

    @staticmethod
    def count(bins: np.ndarray, chroma: np.ndarray) -> np.ndarray:
        """Count how often [..., 2], a* and b*, falls into each of [Q, 2] bins, plus 1."""
        flat = chroma.reshape(-1, 2)
        nearest = np.empty(len(flat), np.intp)
        for start in range(0, len(flat), 1 << 14):
            part = flat[start : start + (1 << 14), None]
            nearest[start : start + (1 << 14)] = ((part - bins) ** 2).sum(-1).argmin(-1)
        return np.bincount(nearest, minlength=len(bins)) + 1


LOSSES: dict[str, Loss] = {
    "mse": mse,
    "l1": l1,
    "charbonnier": charbonnier,
    "huber": huber,
    "ssim": ssim,
    "ciede2000": perceived_chroma,
}


class LossError(ValueError):
    """A loss that cannot be read, and what would do."""


def parse_loss(text: str) -> Loss:
    """Read a loss: a name of `LOSSES`, or several with weights, such as `0.16*l1+0.84*ssim`.

    (That mix is near the one that Zhao et al. 2017, arXiv:1511.08861, found best to look at.)

    Raises:
        LossError: an unknown name or a weight that is none; the names are listed.
    """
    parts = []
    for part in text.split("+"):
        weight, star, name = part.rpartition("*")
        try:
            factor = float(weight) if star else 1.0
        except ValueError:
            factor = 0.0
        if name.strip() not in LOSSES or not 0 < factor < float("inf"):
            raise LossError(
                f"{part.strip()!r} is no loss: give {', '.join(LOSSES)}, "
                "or several of them with weights, such as 0.16*l1+0.84*ssim"
            )
        parts.append((factor, LOSSES[name.strip()]))

    def loss(truth, predicted):
        return sum(factor * one(truth, predicted) for factor, one in parts)

    return loss
