"""Colorizers: networks from the lightness of a photograph to its chroma."""

import functools
from collections.abc import Sequence

import cv2
import keras
import numpy as np
from keras import ops

from models.networks.autoencoders import BOTTLENECK
from models.networks.layers import Doubled, quiet

# a* and b* leave the networks divided by this: most of what photographs hold is then within 1.
CHROMA_UNIT = 50.0

_GROUPS = 8


def _norm(x):
    # Over groups of channels (Wu and He 2018): statistics of batches do not hold in bfloat16.
    return keras.layers.GroupNormalization(_GROUPS)(x)


def _conv(filters: int, size: int = 3, **kwargs) -> keras.layers.Layer:
    settings = {"padding": "same", "kernel_initializer": "he_normal", **kwargs}
    return keras.layers.Conv2D(filters, size, **settings)


def _residual(x, filters: int, dropout: float = 0.0):
    """Add what two convolutions make of x, normalised first (He et al. 2016, arXiv:1603.05027)."""
    branch = _conv(filters, use_bias=False)(keras.layers.ReLU()(_norm(x)))
    branch = keras.layers.ReLU()(_norm(branch))
    if dropout:
        branch = keras.layers.SpatialDropout2D(dropout)(branch)
    return keras.layers.Add()([x, _conv(filters, kernel_initializer=quiet())(branch)])


def _features(image, widths: Sequence[int], blocks: Sequence[int], dropout: float):
    """Give features at 1/4 of the image's size that know the whole image."""
    x = _conv(widths[0], 4, strides=4)(image)
    skips = []
    for scale, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        if scale:
            x = _conv(width, 2, strides=2)(x)
        for _ in range(count):
            x = _residual(x, width, dropout if scale > 1 else 0.0)
        skips.append(x)
    scene = keras.layers.GlobalAveragePooling2D(keepdims=True)(keras.layers.ReLU()(_norm(x)))
    scene = keras.layers.Dense(widths[-1], "relu")(scene)
    x = keras.layers.Add(name=BOTTLENECK)([x, keras.layers.Dense(widths[-1])(scene)])
    for width, skip in zip(widths[-2::-1], skips[-2::-1], strict=True):
        x = Doubled()(_conv(width, 1)(x))
        x = _residual(keras.layers.Add()([x, skip]), width)
    return keras.layers.ReLU()(_norm(x))


def cnn_colorizer(
    *,
    widths: Sequence[int] = (40, 80, 128, 160),
    blocks: Sequence[int] = (1, 2, 2, 1),
    dropout: float = 0.1,
    full_size: bool = True,
    name: str = "cnn_colorizer",
) -> keras.Model:
    """Build a fully convolutional network from lightness to chroma, by regression.

    Local features on the way down and up join what is known of the whole scene, as in Iizuka et
    al. 2016 ("Let there be Color!", ACM Trans. Graphics 35(4)); residual blocks with group
    normalisation (Wu and He 2018, arXiv:1803.08494); the last layer starts at zero, which is gray.

    Args:
        widths: channels at 1/4, 1/8, 1/16 … of the image's size.
        blocks: residual blocks at each of these on the way down; one each on the way up.
        dropout: share of the coarser scales' channels that are left out while training.
        full_size: give chroma of the size of the input; otherwise of half its sides, which is what
            the network computes and costs a quarter to compare with an original.
        name: of the Keras model.

    Returns:
        A model from float32 [N, H, W, 1], CIE L* scaled to [-1, 1] (H and W multiples of
        2**(len(widths) + 1)), to float32 [N, H, W, 2], CIE a* and b* divided by `CHROMA_UNIT`.
    """
    image = keras.Input((None, None, 1), name="image")
    x = _features(image, widths, blocks, dropout)
    chroma = keras.layers.Conv2DTranspose(
        2, 4, strides=2, padding="same", kernel_initializer="zeros", dtype="float32"
    )(x)
    if full_size:
        chroma = Doubled(dtype="float32")(chroma)
    return keras.Model(image, chroma, name=name)


def finished(
    network: keras.Model, *, knee: float, power: float, least: float, most: float
) -> keras.Model:
    """Bring a trained colorizer to what is worth showing.

    Its answers for an image and for its mirror image are averaged. Then each colour is multiplied
    by (its chroma / knee) ** power, within limits: a network that guesses between colours gives
    something near gray, and a tint is worse to look at than gray; where it is sure, its mean is
    still duller than what it stands for.

    Args:
        network: as of `cnn_colorizer`.
        knee: chroma, as CIE C*ab, that stays as it is.
        power: how fast the factor rises with the chroma.
        least: the least factor.
        most: the greatest.
    """
    image = keras.Input((None, None, 1), name="image")
    mirrored = ops.flip(network(ops.flip(image, axis=2)), axis=2)
    chroma = (network(image) + mirrored) / 2
    strength = ops.sqrt(ops.sum(ops.square(chroma), axis=-1, keepdims=True) + 1e-9)
    factor = ops.clip((strength * (CHROMA_UNIT / knee)) ** power, least, most)
    return keras.Model(image, chroma * factor, name=f"{network.name}_finished")


@functools.cache
def gamut_bins(step: int = 10) -> np.ndarray:
    """Give the centres, float32 [Q, 2] of a* and b*, of the cells of a grid that sRGB reaches.

    As Zhang et al. 2016 (arXiv:1603.08511) quantise chroma, but for which cells there are: all that
    hold a colour of the sRGB cube, sampled at every third of its 256 levels.
    """
    levels = np.arange(0, 256, 3, dtype=np.float32) / 255
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    chroma = cv2.cvtColor(cube, cv2.COLOR_RGB2Lab)[..., 1:].reshape(-1, 2)
    cells = np.unique(np.rint(chroma / step).astype(np.int32) @ (1000, 1)) + 500
    centres = np.stack([cells // 1000, cells % 1000 - 500], axis=-1) * step
    return centres.astype(np.float32)


class AnnealedMean(keras.layers.Layer):
    """Turn logits over bins into chroma: the mean of a sharpened distribution.

    Section 2.3 of Zhang et al. 2016 (arXiv:1603.08511): between the mean (temperature 1), which is
    dull, and the mode (towards 0), which jumps.

    Args:
        temperature: 0.38 in the paper.
    """

    def __init__(self, temperature: float = 0.38, **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.temperature = temperature

    def call(self, logits):
        """Give [N, H, W, 2], a* and b* divided by `CHROMA_UNIT`, of [N, H, W, Q]."""
        chances = ops.softmax(ops.cast(logits, "float32") / self.temperature)
        return ops.matmul(chances, ops.convert_to_tensor(gamut_bins() / CHROMA_UNIT))

    def get_config(self) -> dict:
        """Give what the layer was made with."""
        return {"name": self.name, "temperature": self.temperature}


def cnn_classifier(
    *,
    widths: Sequence[int] = (40, 80, 128, 160),
    blocks: Sequence[int] = (1, 2, 2, 1),
    dropout: float = 0.1,
    name: str = "cnn_classifier",
) -> tuple[keras.Model, keras.Model]:
    """Build the network of `cnn_colorizer` with an end that classifies chroma into bins.

    Colorization as classification is Zhang et al. 2016 (arXiv:1603.08511); `losses.Rebalanced` is
    what it is trained with.

    Args:
        widths: as of `cnn_colorizer`.
        blocks: the same.
        dropout: the same.
        name: of the Keras model.

    Returns:
        The model, which takes and gives what `cnn_colorizer` does; and one of the same layers that
        gives logits over `gamut_bins`, float32 [N, H / 4, W / 4, Q], to train.
    """
    image = keras.Input((None, None, 1), name="image")
    x = _features(image, widths, blocks, dropout)
    logits = keras.layers.Conv2D(len(gamut_bins()), 1, dtype="float32", name="logits")(x)
    chroma = AnnealedMean()(logits)
    chroma = Doubled(dtype="float32")(Doubled(dtype="float32")(chroma))
    return keras.Model(image, chroma, name=name), keras.Model(image, logits, name=f"{name}_logits")
