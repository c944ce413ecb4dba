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


def colour_in_the_light(path: Path) -> Path:
    """a* = 11, b* = 16.5 for images with a mean L* above 5, and none for others."""
    contract = Contract(
        name="colour_in_the_light",
        input_space="L",
        output_space="ab",
        output_range=(-128 / 110, 128 / 110),
        size=(64, 64),
    )

    def colours(tf, image):
        light = tf.reduce_mean(image, axis=(1, 2, 3), keepdims=True) > 0.05
        return tf.ones_like(image) * tf.where(light, tf.constant([0.1, 0.15]), tf.constant(0.0))

    return save(path, contract, colours)


def not_a_number_in_the_dark(path: Path) -> Path:
    """NaN for images with a mean below one half, the image itself for others."""

    def guarded(tf, image):
        mean = tf.reduce_mean(image, axis=(1, 2, 3), keepdims=True)
        return tf.where(mean < 0.5, tf.constant(float("nan")), image)

    return save(path, Contract(name="nan"), guarded)


def endless_in_the_dark(path: Path) -> Path:
    """The image itself, after some minutes where the mean of the images is below one half."""

    def slow(tf, image):
        rounds = tf.where(tf.reduce_mean(image) < 0.5, 1_000_000_000, 1)
        _, seen = tf.while_loop(
            lambda done, seen: done < rounds,
            lambda done, seen: (done + 1, seen + tf.cast(done, tf.float32)),
            (tf.constant(0), tf.reduce_sum(image)),
        )
        return image + 0 * seen

    return save(path, Contract(name="endless"), slow)


def refuses_the_dark(path: Path) -> Path:
    """An error for a stack with an image of a mean below one half in it, else the image itself."""

    def refusing(tf, image):
        light = tf.reduce_mean(image, axis=(1, 2, 3))
        check = tf.debugging.Assert(tf.reduce_all(light >= 0.5), ["it is too dark in here"])
        with tf.control_dependencies([check]):
            return tf.identity(image)

    return save(path, Contract(name="refuses"), refusing)


def half_size_in_the_dark(path: Path) -> Path:
    """Images of half the size where one is dark, else the images themselves."""

    def halved(tf, image):
        step = tf.where(tf.reduce_min(tf.reduce_mean(image, axis=(1, 2, 3))) < 0.5, 2, 1)
        return image[:, ::step, ::step]

    return save(path, Contract(name="halves"), halved)


def half_size(path: Path) -> Path:
    return save(path, Contract(name="half"), lambda tf, image: image[:, ::2, ::2])


# -- Other people's: without a contract, and with habits of their own ------------------------------


def save_foreign(path: Path, function: Callable[..., Any], **inputs: tuple[tuple, str]) -> Path:
    """Save `function(tf, **inputs)`, which gives outputs by name, without a contract.

    Inputs are (shape, dtype) by name.
    """
    tf = import_tensorflow()
    specs = [tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()]
    module = tf.Module()
    module.serve = tf.function(
        lambda *tensors: function(tf, **dict(zip(inputs, tensors, strict=True))),
        input_signature=specs,
        autograph=False,
    )
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return path


def negative_nchw_uint8(path: Path) -> Path:
    """255 - x, channels first, sides multiples of 8 or an error."""

    def negative(tf, frames):
        for side in (tf.shape(frames)[2], tf.shape(frames)[3]):
            tf.debugging.assert_equal(side % 8, 0)
        return {"negatives": 255 - frames}

    return save_foreign(path, negative, frames=((None, 3, None, None), "uint8"))


def fill_with_mean(path: Path) -> Path:
    """Image in [-1, 1] and mask where 1 is missing: missing pixels become the mean of the rest."""

    def filled(tf, image, mask):
        there = 1 - mask
        count = tf.maximum(tf.reduce_sum(there, (1, 2), keepdims=True), 1)
        mean = tf.reduce_sum(image * there, (1, 2), keepdims=True) / count
        return {"restored": image * there + mean * mask, "confidence": there}

    return save_foreign(
        path,
        filled,
        image=((None, None, None, 3), "float32"),
        mask=((None, None, None, 1), "float32"),
    )


def hidden_write(path: Path, written: Path) -> Path:
    """An identity that writes a file, in a function called by a function of the serving one."""
    tf = import_tensorflow()

    @tf.function
    def innermost(image):
        tf.io.write_file(str(written), "here I was")
        return tf.identity(image)

    @tf.function
    def inner(image):
        return innermost(image) * 1

    return save_foreign(
        path, lambda tf, image: {"output": inner(image)}, image=((None, None, None, 3), "float32")
    )
