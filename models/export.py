"""Export a Keras model as a SavedModel that carries its contract."""

from pathlib import Path

import keras

from models.contract import CHANNELS, CONTRACT_FILE, Contract, ContractError


def export(model: keras.Model, path: str | Path, contract: Contract) -> None:
    """Write `model` as a SavedModel at `path`, with `contract` in its `assets.extra`.

    The serving signature takes float32 [N, H, W, C] as `image`, with the free dimensions that the
    contract leaves free, and float32 [N, H, W, 1] as `mask_input` says where the contract has a
    mask; it gives float32 as `output`. Other names are those of the contract.

    Args:
        model: a model of one input, or of image and mask, and one output, on Keras' TensorFlow
            backend.
        path: a folder to create or replace.
        contract: what the model takes and gives; NHWC and float32.
    """
    if (contract.layout, contract.dtype) != ("NHWC", "float32"):
        raise ContractError(f"{contract.name}: export writes NHWC and float32")
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
        return {contract.image_output or "output": tf.cast(output, tf.float32)}

    module = tf.Module()
    module.variables_of_model = model.variables
    module.serve = serve
    tf.saved_model.save(module, str(path), signatures={contract.signature: serve})
    target = Path(path) / CONTRACT_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(contract.to_json(), encoding="utf-8")
