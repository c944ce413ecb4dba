"""Autoencoders: an encoder z = f(x) to a narrow code, a decoder that makes an image of it."""

from collections.abc import Sequence

import keras
from keras import ops

# Of every layer from whose output the rest of a network is computed: what is before it, and itself,
# is the encoder.
BOTTLENECK = "bottleneck"


def encoder(model: keras.Model) -> keras.Model:
    """Give the part of a network that ends in its bottleneck; the layers are the network's own."""
    return keras.Model(inputs_of(model), model.get_layer(BOTTLENECK).output, name="encoder")


def inputs_of(model: keras.Model):
    """Give a model's input, or the list of them where there are several, as it is called with."""
    return model.inputs if len(model.inputs) > 1 else model.inputs[0]


def dense_autoencoder(
    *,
    side: int = 28,
    widths: Sequence[int] = (128, 64),
    name: str = "dense_autoencoder",
) -> keras.Model:
    """Build the classic autoencoder of dense layers, such as 784-128-64-64-128-784.

    After Hinton and Salakhutdinov 2006 (Science 313(5786)), with ReLU and a sigmoid at the end;
    trained to undo damage as by Vincent et al. 2008 (ICML, "Extracting and composing robust
    features with denoising autoencoders").

    Args:
        side: of the images, in pixels.
        widths: units of the encoder's layers, of which the last is the code; the decoder has the
            same in reverse.
        name: of the Keras model.

    Returns:
        A model of float32 [N, side, side, 1] with values in [0, 1], in and out.
    """
    image = keras.Input((side, side, 1), name="image")
    x = keras.layers.Flatten()(image)
    for width in widths[:-1]:
        x = keras.layers.Dense(width, "relu")(x)
    x = keras.layers.Dense(widths[-1], "relu", name=BOTTLENECK)(x)
    for width in reversed(widths):
        x = keras.layers.Dense(width, "relu")(x)
    x = keras.layers.Dense(side * side, "sigmoid", dtype="float32")(x)
    return keras.Model(image, keras.layers.Reshape((side, side, 1))(x), name=name)


class Sampling(keras.layers.Layer):
    """Draw a code from the normal distribution that an encoder gives; its mean once trained.

    The reparametrisation and the divergence from the standard normal distribution, added to the
    loss, are those of Kingma and Welling 2014 (arXiv:1312.6114).

    Args:
        weight: of the divergence, per number of the code and image, beside a loss that is a mean
            over pixels.
        seed: of the draws.
    """

    def __init__(self, weight: float = 1e-4, seed: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.weight = weight
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, mean, log_variance, training=False):
        """Give the mean, with noise of the variance while training."""
        log_variance = ops.clip(log_variance, -10.0, 10.0)
        # Written so that no tensor has more than two gradients: of three, TensorFlow adds first to
        # the one whose memory is free by then, and the last bit is chance.
        deviation = ops.exp(0.5 * log_variance)
        divergence = 0.5 * (ops.square(deviation) + ops.square(mean) - 1.0 - log_variance)
        self.add_loss(self.weight * ops.mean(divergence))
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator)
        return mean + deviation * noise

    def get_config(self) -> dict:
        """Give what the layer was made with."""
        return {**super().get_config(), "weight": self.weight}


# Digits and other dark images are nearly black, and first steps towards black killed ReLUs and
# saturated a sigmoid for good: on MNIST nothing was learnt.
_ACTIVATION = "leaky_relu"


def _conv(filters: int, size: int = 3, strides: int = 1) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        activation=_ACTIVATION,
        kernel_initializer="he_normal",
    )


def _encoded(x, widths: Sequence[int], code: int, variational: bool):
    """Halve the image for each width, and give the code; `conv_margin` follows."""
    for width in widths:
        x = _conv(width)(_conv(width, strides=2)(x))
    if not variational:
        return keras.layers.Conv2D(code, 1, name=BOTTLENECK)(x)
    mean = keras.layers.Conv2D(code, 1, name="mean")(x)
    log_variance = keras.layers.Conv2D(code, 1, name="log_variance")(x)
    return Sampling(name=BOTTLENECK)(mean, log_variance)


def _decoded(x, widths: Sequence[int]):
    for width in reversed(widths):
        x = _conv(width)(_conv(width)(x))
        x = keras.layers.Conv2DTranspose(width, 2, strides=2, activation=_ACTIVATION)(x)
    return x


def conv_autoencoder(
    *,
    channels: int = 3,
    widths: Sequence[int] = (48, 96, 128),
    code: int | None = None,
    variational: bool = False,
    name: str = "conv_autoencoder",
) -> keras.Model:
    """Build a convolutional autoencoder: all that the decoder knows has gone through the code.

    After Masci et al. 2011 (ICANN, "Stacked convolutional auto-encoders"), with strides for
    pooling; variational as in Kingma and Welling 2014 (arXiv:1312.6114).

    Args:
        channels: of the image, in and out.
        widths: channels at 1/2, 1/4, 1/8 … of the image's size.
        code: channels of the code at the smallest of these; by default as many as make it a
            quarter of the image's numbers.
        variational: encode to a distribution, and draw from it while training.
        name: of the Keras model.

    Returns:
        A model of float32 [N, H, W, channels], in with values in [0, 1] and out with values about
        there, not clipped; H and W are multiples of 2**len(widths).
    """
    code = code or max(1, channels * 4 ** len(widths) // 4)
    image = keras.Input((None, None, channels), name="image")
    x = _decoded(_encoded(image, widths, code, variational), widths)
    x = keras.layers.Conv2D(channels, 3, padding="same", dtype="float32")(x)
    return keras.Model(image, x, name=name)


def conv_margin(scales: int) -> int:
    """Give the receptive margin in pixels of `conv_autoencoder` with as many widths.

    Two 3x3 convolutions on the way down from 1/2**s of the size, of which the first is strided, and
    two on the way up before it is doubled again; one at the end. Cells of the coarsest scale are
    seen whole.
    """
    down = sum(2**scale + 2 ** (scale + 1) for scale in range(scales))
    up = sum(2 * 2 ** (scale + 1) for scale in range(scales))
    return down + up + 1 + 2**scales


# Of the colour spaces that `autoencoder_colorizer` predicts: how many numbers a pixel.
COLOUR_SPACES: dict[str, int] = {"Lab": 2, "YUV": 2, "HSV": 3, "RGB": 3}


def autoencoder_colorizer(
    *,
    colour_space: str = "Lab",
    widths: Sequence[int] = (48, 96, 128),
    code: int = 64,
    name: str = "autoencoder_colorizer",
) -> keras.Model:
    """Build an autoencoder from gray to colour; detail that its code loses, the luminance keeps.

    After the encoder-decoder of Cheng, Yang and Sheng 2015 ("Deep Colorization",
    arXiv:1605.00075), which predicts chroma in YUV, made convolutional.

    Args:
        colour_space: of the output: Lab (a* and b* divided by 50), YUV (U and V of BT.601, of
            R'G'B' in [0, 1]), HSV (saturation times cosine and sine of the hue, and value: a hue
            alone jumps at red), RGB.
        widths: channels at 1/2, 1/4, 1/8 … of the image's size.
        code: channels of the code at the smallest of these.
        name: of the Keras model.

    Returns:
        A model from float32 [N, H, W, 1], CIE L* scaled to [-1, 1] (H and W multiples of
        2**len(widths)), to float32 [N, H, W, 2 or 3].
    """
    image = keras.Input((None, None, 1), name="image")
    x = _decoded(_encoded(image, widths, code, variational=False), widths)
    last = keras.layers.Conv2D(
        COLOUR_SPACES[colour_space], 3, padding="same", kernel_initializer="zeros", dtype="float32"
    )
    return keras.Model(image, last(x), name=name)
