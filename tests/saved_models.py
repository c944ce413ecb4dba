"""Small SavedModels whose outputs can be worked out by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.contract import CHANNELS, CONTRACT_FILE, Contract
from models.saved_model import import_tensorflow


def save(path: Path, contract: Contract, function: Callable[[Any, Any], Any]) -> Path:
    """Save `function(tf, images)` as a SavedModel with its contract."""
    tf = import_tensorflow()
    height, width = contract.size or (None, None)
    spec = tf.TensorSpec((None, height, width, CHANNELS[contract.input_space]), tf.float32, "image")
    module = tf.Module()
    module.serve = tf.function(
        lambda image: {"output": function(tf, image)}, input_signature=[spec], autograph=False
    )
    tf.saved_model.save(module, str(path), signatures={contract.signature: module.serve})
    target = path / CONTRACT_FILE
    target.parent.mkdir(exist_ok=True)
    target.write_text(contract.to_json())
    return path


def identity(path: Path) -> Path:
    return save(path, Contract(name="identity"), lambda tf, image: tf.identity(image))


def invert(path: Path) -> Path:
    """Takes and gives [-1, 1], where the negative of an image is its sign turned."""
    contract = Contract(name="invert", input_range=(-1, 1), output_range=(-1, 1))
    return save(path, contract, lambda tf, image: -image)


def blur(path: Path) -> Path:
    """A 5x5 box filter after a 2x2 average: receptive margin 6, sides multiples of 2."""

    def filtered(tf, image):
        small = tf.nn.avg_pool2d(image, 2, 2, "VALID")
        kernel = tf.reshape(tf.eye(3), (1, 1, 3, 3)) * tf.ones((5, 5, 1, 1)) / 25
        return tf.repeat(tf.repeat(tf.nn.conv2d(small, kernel, 1, "SAME"), 2, 1), 2, 2)

    return save(path, Contract(name="blur", multiple=2, margin=6), filtered)


def constant_chroma(path: Path) -> Path:
    """L* scaled to [-1, 1] at 64x64 in; a* = 22, b* = 33 out, divided by 110."""
    contract = Contract(
        name="constant_chroma",
        input_space="L",
        output_space="ab",
        input_range=(-1, 1),
        output_range=(-128 / 110, 128 / 110),
        size=(64, 64),
    )

    def colours(tf, image):
        return tf.ones_like(image) * tf.constant([0.2, 0.3])

    return save(path, contract, colours)


def not_a_number_in_the_dark(path: Path) -> Path:
    """NaN for images with a mean below one half, the image itself for others."""

    def guarded(tf, image):
        mean = tf.reduce_mean(image, axis=(1, 2, 3), keepdims=True)
        return tf.where(mean < 0.5, tf.constant(float("nan")), image)

    return save(path, Contract(name="nan"), guarded)


def half_size(path: Path) -> Path:
    return save(path, Contract(name="half"), lambda tf, image: image[:, ::2, ::2])
