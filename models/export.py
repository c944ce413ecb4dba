"""Export a Keras model as a SavedModel that carries its contract."""

from pathlib import Path

import keras

from models.contract import CHANNELS, CONTRACT_FILE, Contract


def export(model: keras.Model, path: str | Path, contract: Contract) -> None:
    """Write `model` as a SavedModel at `path`, with `contract` in its `assets.extra`.

    The serving signature takes float32 [N, H, W, C] as `image`, with the free dimensions that the
    contract leaves free, and gives float32 as `output`.

    Args:
        model: a model of one input and one output, on Keras' TensorFlow backend.
        path: a folder to create or replace.
        contract: what the model takes and gives.
    """
    import tensorflow as tf

    height, width = contract.size or (None, None)
    spec = tf.TensorSpec(
        (None, height, width, CHANNELS[contract.input_space]), tf.float32, name="image"
    )

    @tf.function(input_signature=[spec], autograph=False)
    def serve(image):
        return {"output": tf.cast(model(image, training=False), tf.float32)}

    module = tf.Module()
    module.variables_of_model = model.variables
    module.serve = serve
    tf.saved_model.save(module, str(path), signatures={contract.signature: serve})
    target = Path(path) / CONTRACT_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(contract.to_json(), encoding="utf-8")
