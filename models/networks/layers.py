"""Layers that networks share."""

import keras
from keras import ops


def quiet() -> keras.initializers.Initializer:
    """Give an initializer of weights so small that a residual branch starts as nearly nothing."""
    # Made anew each time: an initializer draws its seed when it is made.
    return keras.initializers.VarianceScaling(0.1)


class Doubled(keras.layers.Layer):
    """Double the height and width of [N, H, W, C] bilinearly, pixel centres aligned.

    What `keras.layers.UpSampling2D` does, which cannot be traced for images of any size.
    """

    def call(self, x):
        """Give [N, 2 H, 2 W, C]."""
        for axis in (1, 2):
            count, height, width, channels = ops.shape(x)
            first, start, rest, last = (
                x[:, part] if axis == 1 else x[:, :, part]
                for part in (slice(1), slice(-1), slice(1, None), slice(-1, None))
            )
            before = ops.concatenate([first, start], axis=axis)
            after = ops.concatenate([rest, last], axis=axis)
            pairs = ops.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
            height, width = (2 * height, width) if axis == 1 else (height, 2 * width)
            x = ops.reshape(pairs, (count, height, width, channels))
        return x

    def compute_output_shape(self, shape):
        """Give the shape of the output; unknown sides stay so."""
        height, width = (side and 2 * side for side in shape[1:3])
        return (shape[0], height, width, shape[3])

    def compute_output_spec(self, x):
        """Give the shape and type of the output."""
        return keras.KerasTensor(self.compute_output_shape(x.shape), x.dtype)
