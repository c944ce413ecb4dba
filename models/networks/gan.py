"""The conditional GAN of pix2pix: a generator of chroma, and a judge of patches of it."""

from collections.abc import Sequence

import keras

from models.networks.autoencoders import BOTTLENECK
from models.networks.layers import Doubled

_GROUPS = 8
# Chroma beyond 110 is outside sRGB; the output is in units of 50, as of all colorizers.
_MOST = 110 / 50


def _halved(x, filters: int, norm: bool = True, name: str | None = None):
    x = keras.layers.Conv2D(filters, 4, strides=2, padding="same", use_bias=not norm)(x)
    if norm:
        x = keras.layers.GroupNormalization(_GROUPS)(x)
    return keras.layers.LeakyReLU(0.2, name=name)(x)


def generator(
    *, widths: Sequence[int] = (48, 96, 160, 192), name: str = "gan_colorizer"
) -> keras.Model:
    """Build the U-Net generator of pix2pix (Isola et al. 2017, arXiv:1611.07004).

    With group normalisation for that of batches, and without dropout for noise, of which the
    authors found that the network ignores it.

    Args:
        widths: channels at 1/2, 1/4, 1/8 … of the image's size.
        name: of the Keras model.

    Returns:
        A model from float32 [N, H, W, 1], CIE L* scaled to [-1, 1] (H and W multiples of
        2**len(widths)), to float32 [N, H, W, 2], CIE a* and b* divided by 50.
    """
    image = keras.Input((None, None, 1), name="image")
    x, skips = image, []
    for scale, width in enumerate(widths):
        last = scale == len(widths) - 1
        x = _halved(x, width, norm=scale > 0, name=BOTTLENECK if last else None)
        skips.append(x)
    for width, skip in zip(widths[-2::-1], skips[-2::-1], strict=True):
        x = Doubled()(x)
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.GroupNormalization(_GROUPS)(x))
        x = keras.layers.Concatenate()([x, skip])
    x = Doubled()(x)
    x = keras.layers.Conv2D(2, 3, padding="same", activation="tanh", dtype="float32")(x)
    return keras.Model(image, keras.layers.Rescaling(_MOST, dtype="float32")(x), name=name)


def discriminator(
    *, widths: Sequence[int] = (48, 96, 192), name: str = "patch_discriminator"
) -> keras.Model:
    """Build the PatchGAN discriminator of Isola et al. 2017 (arXiv:1611.07004).

    Args:
        widths: channels of the layers; all but the last halve the size.
        name: of the Keras model.

    Returns:
        A model from lightness [N, H, W, 1] and chroma [N, H, W, 2], as the generator has them, to
        float32 logits [N, h, w, 1]: which patches are of photographs.
    """
    lightness = keras.Input((None, None, 1), name="lightness")
    chroma = keras.Input((None, None, 2), name="chroma")
    x = keras.layers.Concatenate()([lightness, chroma])
    for scale, width in enumerate(widths[:-1]):
        x = _halved(x, width, norm=scale > 0)
    x = keras.layers.Conv2D(widths[-1], 4, padding="same", use_bias=False)(x)
    x = keras.layers.LeakyReLU(0.2)(keras.layers.GroupNormalization(_GROUPS)(x))
    logits = keras.layers.Conv2D(1, 4, padding="same", dtype="float32")(x)
    return keras.Model([lightness, chroma], logits, name=name)
