"""Export a Keras model as a SavedModel that carries its contract."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.contract import CHANNELS, CONTRACT_FILE, Contract, ContractError


def export(
    model: keras.Model, path: str | Path, contract: Contract, space: str | None = None
) -> None:
    """Write `model` as a SavedModel at `path`, with `contract` in its `assets.extra`.

    The serving signature takes float32 [N, H, W, C] as `image`, with the free dimensions that the
    contract leaves free, and float32 [N, H, W, 1] as `mask_input` says where the contract has a
    mask; it gives float32 as `output`. Other names are those of the contract.

    Args:
        model: a model of one input, or of image and mask, and one output, on Keras' TensorFlow
            backend.
        path: a folder to create or replace.
        contract: what the SavedModel takes and gives; NHWC and float32.
        space: colour space of the Keras model's output, where it is not the contract's: YUV, HSV or
            RGB, which the serving graph converts to a*b*.

    Raises:
        ContractError: another layout or type, or Keras runs on another backend.
        OSError: it cannot be written; what is written of it stays.
    """
    if (contract.layout, contract.dtype) != ("NHWC", "float32"):
        raise ContractError(f"{contract.name}: export writes NHWC and float32")
    if keras.config.backend() != "tensorflow":
        raise ContractError(
            f"SavedModels are written by TensorFlow, but Keras runs on {keras.config.backend()}: "
            "save the weights, and export with KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    side = contract.size or (None, None)
    image = contract.image_input or "image"
    specs = {image: tf.TensorSpec((None, *side, CHANNELS[contract.input_space]), tf.float32, image)}
    if contract.mask_input is not None:
        specs[contract.mask_input] = tf.TensorSpec(
            (None, *side, 1), tf.float32, contract.mask_input
        )

    @tf.function(input_signature=list(specs.values()), autograph=False)
    def serve(*tensors):
        output = model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)
        output = _converted(tensors[0], tf.cast(output, tf.float32), contract, space)
        return {contract.image_output or "output": output}

    module = tf.Module()
    module.variables_of_model = model.variables
    module.serve = serve
    try:
        tf.saved_model.save(module, str(path), signatures={contract.signature: serve})
    except tf.errors.OpError as error:  # as which TensorFlow tells of full disks
        raise OSError(reason(error)) from error
    target = Path(path) / CONTRACT_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(contract.to_json(), encoding="utf-8")


def reason(error: Any) -> str:
    """Give what the system said of a file, of TensorFlow's error that wraps it."""
    first, *_ = error.message.splitlines()
    return first.rpartition("; ")[2].partition(" [Op:")[0]


def served(
    model: keras.Model, contract: Contract, space: str | None = None
) -> Callable[..., np.ndarray]:
    """Give what `export` would serve, without exporting.

    Returns:
        A function of float32 [N, H, W, C], and of bool [N, H, W] masks where the contract has them,
        as `models.saved_model.LoadedModel` is.
    """

    def run(images: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        given = images if masks is None else [images, masks[..., None].astype(np.float32)]
        output = model.predict_on_batch(given)
        return np.asarray(_converted(images, output, contract, space), np.float32)

    return run


def _converted(image: Any, output: Any, contract: Contract, space: str | None) -> Any:
    """Bring what a network gives in another colour space to the contract's a*b*."""
    if space in (None, contract.output_space):
        return output
    from models import colour

    low, high = contract.input_range
    chroma = colour.chroma(output, (image - low) * (100 / (high - low)), space)
    low, high = contract.output_range
    return (chroma + 128) * ((high - low) / 256) + low


def weights_of(path: str | Path) -> list[Any]:
    """Read the weights of a SavedModel that `export` wrote, as arrays in the model's order.

    Raises:
        ValueError: it is none of these.
    """
    import tensorflow as tf

    prefix = str(Path(path) / "variables" / "variables")
    try:
        reader = tf.train.load_checkpoint(prefix)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"{path} has no weights that TensorFlow can read: {error}") from error
    found: list[Any] = []
    while reader.has_tensor(key := f"variables_of_model/{len(found)}/.ATTRIBUTES/VARIABLE_VALUE"):
        found.append(reader.get_tensor(key))
    if not found:
        raise ValueError(
            f"the SavedModel {path} was not made by `heliograph train`: which of its variables is "
            "which layer's is not known"
        )
    return found
