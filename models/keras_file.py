"""`.keras` files as models: looked through, loaded by plain Keras, and exported to a SavedModel.

A `.keras` file names Python classes by module and name, and Keras imports what it names. Its safe
mode refuses Lambda layers, but ways round it have been found and closed from version to version
(CVE-2025-1550, CVE-2025-8747), so what a file names is held to Keras' own layers and operations
before Keras sees it.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.contract import ContractError

# Where Keras writes that its classes are from. Not keras.utils or keras.saving: functions there
# fetch and open files.
_MODULES = (
    "keras.layers",
    "keras.models",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.activations",
    "keras.src.models.functional",
    "keras.src.models.sequential",
    "keras.src.ops.",
)
# Layers that hold programs of their own, or read files that they are told of.
_REFUSED = (
    "Lambda",
    "__lambda__",
    "TFSMLayer",
    "TorchModuleWrapper",
    "JaxLayer",
    "FlaxLayer",
    "StringLookup",
    "IntegerLookup",
    "TextVectorization",
)
_PLAIN = ("DTypePolicy", "DTypePolicyMap", "QuantizedDTypePolicy")

_REMEDY = (
    "load the model in Python where you trust it, and give us what its export() writes: a "
    "SavedModel, whose graph can be searched"
)


def is_keras_file(model: str) -> bool:
    """Say whether a model is named like a `.keras` file."""
    return model.rstrip("/").endswith(".keras")


def export_keras_file(path: Path, folder: Path) -> None:
    """Export a `.keras` file to a SavedModel. TensorFlow is imported for it.

    Args:
        path: the file.
        folder: for the SavedModel; created.

    Raises:
        ContractError: no such file, none of Keras 3, or one with a Lambda layer, a class that is
            not Keras' own, or anything else that Keras does not load in its safe mode.
    """
    _require_plain(path)
    from models.saved_model import import_tensorflow

    import_tensorflow()
    import keras

    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        model.export(str(folder), format="tf_saved_model", verbose=False)
    except Exception as error:  # Keras raises many types; the remedy is the same
        reason = str(error).strip().partition("\n")[0]
        raise ContractError(f"Keras cannot load and export {path}: {reason}; {_REMEDY}") from error


def _require_plain(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            config = json.loads(file.read("config.json"))
    except FileNotFoundError as error:
        raise ContractError(f"there is no model {path}") from error
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise ContractError(
            f"{path} is not a .keras file of Keras 3 ({error}): save it anew with "
            "model.save('NAME.keras'), or export it to a SavedModel"
        ) from error
    for node in _classes(config):
        kind, module = node["class_name"], node.get("module")
        if kind in _REFUSED:
            settings = node.get("config")
            name = settings.get("name", "") if isinstance(settings, dict) else ""
            raise ContractError(
                f"{path} is refused: its layer {name or kind!r} ({kind}) could run any program or "
                f"read any file; {_REMEDY}"
            )
        plain = module is None or (module == "keras" and kind in _PLAIN)
        if not plain and not _is_kerass_own(module):
            raise ContractError(
                f"{path} is refused: it names {module}.{kind}, which is not one of Keras' own "
                f"layers; {_REMEDY}"
            )


def _is_kerass_own(module: Any) -> bool:
    return isinstance(module, str) and any(
        module == own or (own.endswith(".") and module.startswith(own)) for own in _MODULES
    )


def _classes(config: Any) -> Iterator[dict[str, Any]]:
    """Give every object in a configuration that names a class, but for what compiling would use."""
    waiting = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "class_name" in node:
                yield node
            waiting += [value for key, value in node.items() if key != "compile_config"]
        elif isinstance(node, list):
            waiting += node
