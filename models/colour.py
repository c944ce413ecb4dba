"""Colour spaces inside serving graphs, by tensorflow-io: the only module that imports it.

Of tensorflow-io only `tfio.experimental.color` is used: TensorFlow operations and nothing native,
so that a SavedModel made with it runs where tensorflow-io is not.
"""

import warnings
from typing import Any

from models.networks.autoencoders import COLOUR_SPACES


def _color() -> Any:
    with warnings.catch_warnings():
        # It tells that its native libraries were built for TensorFlow 2.16: none of them is used.
        warnings.simplefilter("ignore")
        import tensorflow_io as tfio

        return tfio.experimental.color


def gray_of_lightness(lightness: Any) -> Any:
    """Give sRGB-encoded gray [N, H, W, 1] in [0, 1] of CIE L* [N, H, W, 1] in 0-100."""
    import tensorflow as tf

    neutral = tf.zeros_like(lightness)
    return _color().lab_to_rgb(tf.concat([lightness, neutral, neutral], axis=-1))[..., :1]


def chroma_of_rgb(rgb: Any) -> Any:
    """Give CIE a*b* (D65) [N, H, W, 2] of sRGB [N, H, W, 3] in [0, 1]."""
    import tensorflow as tf

    return _color().rgb_to_lab(tf.clip_by_value(rgb, 0.0, 1.0))[..., 1:]


def chroma(colour: Any, lightness: Any, space: str) -> Any:
    """Give CIE a*b* [N, H, W, 2] of what a network gave in another colour space.

    Args:
        colour: [N, H, W, 2 or 3], as `networks.autoencoders.autoencoder_colorizer` gives it.
        lightness: CIE L* in 0-100 [N, H, W, 1], of which luma or value is taken where the space
            holds none.
        space: YUV, HSV or RGB.

    Raises:
        ValueError: another space.
    """
    import tensorflow as tf

    if space == "RGB":
        return chroma_of_rgb(colour)
    if space == "YUV":
        luma = gray_of_lightness(lightness)
        return chroma_of_rgb(_color().yuv_to_rgb(tf.concat([luma, colour], axis=-1)))
    if space == "HSV":
        cosine, sine, value = tf.split(colour, 3, axis=-1)
        hue = tf.math.floormod(tf.atan2(sine, cosine) / (2 * 3.141592653589793), 1.0)
        saturation = tf.minimum(tf.sqrt(cosine * cosine + sine * sine), 1.0)
        value = tf.clip_by_value(value, 0.0, 1.0)
        return chroma_of_rgb(_color().hsv_to_rgb(tf.concat([hue, saturation, value], axis=-1)))
    raise ValueError(f"{space!r} is no colour space to convert; there are {list(COLOUR_SPACES)}")
