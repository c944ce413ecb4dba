"""The U-Net behind `denoise`: a convolutional autoencoder with skip connections."""

from collections.abc import Sequence

import keras

from models.networks.autoencoders import BOTTLENECK
from models.networks.layers import quiet


def _conv(filters: int, size: int = 3, **kwargs) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        filters,
        size,
        padding="same",
        use_bias=False,
        **{"kernel_initializer": "he_normal", **kwargs},
    )


def _residual(x, filters: int, name: str | None = None):
    branch = _conv(filters, activation="relu")(x)
    branch = _conv(filters, kernel_initializer=quiet())(branch)
    return keras.layers.Add(name=name)([x, branch])


def unet(
    *,
    channels: int = 3,
    widths: Sequence[int] = (48, 72, 96),
    blocks: Sequence[int] = (1, 1, 1),
    mask: bool = False,
    name: str = "unet",
) -> keras.Model:
    """Build a bias-free residual U-Net that predicts what to add to a damaged image.

    Encoder and decoder of Ronneberger et al. 2015 ("U-Net", arXiv:1505.04597) with residual blocks,
    on 2x2-strided features as FFDNet uses them (Zhang et al. 2018, arXiv:1710.04026), and no
    additive constants anywhere: a network without biases scales with its input and so carries over
    to noise levels it was not trained on (Mohan et al. 2020, arXiv:1906.05478).

    Args:
        channels: image channels, in and out.
        widths: channels at 1/2, 1/4, 1/8 … of the image's size.
        blocks: residual blocks per scale, on the way down and again on the way up; at least one at
            the coarsest.
        mask: take the mask of missing pixels beside the image, for inpainting.
        name: of the Keras model.

    Returns:
        A model from float32 [N, H, W, channels] (values of an image in [0, 1]; H and W multiples
        of 2**len(widths)) to the float32 residual of the same shape: restored = input + output.
        With `mask`, from a list of these and float32 [N, H, W, 1], 1 where pixels are missing.
    """
    image = keras.Input((None, None, channels), name="image")
    missing = keras.Input((None, None, 1), name="mask") if mask else None
    x = image if missing is None else keras.layers.Concatenate()([image, missing])
    x = _conv(widths[0], 2, strides=2)(x)
    skips = []
    for scale, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        if scale:
            x = _conv(width, 2, strides=2)(x)
        for block in range(count):
            last = scale == len(widths) - 1 and block == count - 1
            x = _residual(x, width, BOTTLENECK if last else None)
        skips.append(x)
    for scale in reversed(range(len(widths) - 1)):
        x = keras.layers.Conv2DTranspose(widths[scale], 2, strides=2, use_bias=False)(x)
        x = keras.layers.Add()([x, skips[scale]])
        for _ in range(blocks[scale]):
            x = _residual(x, widths[scale])
    residual = keras.layers.Conv2DTranspose(
        channels, 2, strides=2, use_bias=False, kernel_initializer=quiet(), dtype="float32"
    )(x)
    return keras.Model(image if missing is None else [image, missing], residual, name=name)


def unet_margin(blocks: Sequence[int]) -> int:
    """Give the receptive margin in pixels of `unet` with these residual blocks per scale.

    Every 3x3 convolution at scale s reaches 2**(s+1) pixels further; a block has two. Strided and
    transposed 2x2 convolutions stay inside the cell of the coarsest scale that they belong to.
    """
    passes = [2] * (len(blocks) - 1) + [1]  # down and up again, but once at the bottom
    reach = sum(
        2 * count * times * 2 ** (scale + 1)
        for scale, (count, times) in enumerate(zip(blocks, passes, strict=True))
    )
    return reach + 2 ** len(blocks)
