"""Export a Keras model as a SavedModel that carries its contract."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.contract import CHANNELS, CONTRACT_FILE, Contract


def export(
    model: keras.Model, path: str | Path, contract: Contract, space: str | None = None
) -> None:
    """Write `model` as a SavedModel at `path`, with `contract` in its `assets.extra`.

    The serving signature takes float32 [N, H, W, C] as `image`, with the free dimensions that the
    contract leaves free, and gives float32 as `output`. A model of two inputs takes float32
    [N, H, W, 1] as `mask` as well.

    Args:
        model: a model of one output, on Keras' TensorFlow backend.
        path: a folder to create or replace.
        contract: what the SavedModel takes and gives.
        space: colour space of the Keras model's output, where it is not the contract's: YUV, HSV or
            RGB, which the serving graph converts to a*b*.

    Raises:
        RuntimeError: Keras runs on another backend.
    """
    if keras.config.backend() != "tensorflow":
        raise RuntimeError(
            f"SavedModels are written by TensorFlow, but Keras runs on {keras.config.backend()}: "
            "save the weights, and export with KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    height, width = contract.size or (None, None)
    names = ["image", "mask"][: len(model.inputs)]
    channels = {"image": CHANNELS[contract.input_space], "mask": 1}
    specs = [tf.TensorSpec((None, height, width, channels[n]), tf.float32, name=n) for n in names]

    @tf.function(input_signature=specs, autograph=False)
    def serve(image: Any, mask: Any = None) -> Any:
        given = image if mask is None else [image, mask]
        output = tf.cast(model(given, training=False), tf.float32)
        return {"output": _converted(image, output, contract, space)}

    module = tf.Module()
    module.variables_of_model = model.variables
    module.serve = serve
    tf.saved_model.save(module, str(path), signatures={contract.signature: serve})
    target = Path(path) / CONTRACT_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(contract.to_json(), encoding="utf-8")


def served(
    model: keras.Model, contract: Contract, space: str | None = None
) -> Callable[[Any], np.ndarray]:
    """Give what `export` would: a function from arrays to float32 arrays, as it serves them."""

    def run(given: Any) -> np.ndarray:
        output = model.predict_on_batch(given)
        image = given[0] if isinstance(given, list) else given
        return np.asarray(_converted(image, output, contract, space), np.float32)

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
