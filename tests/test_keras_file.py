"""What a `.keras` file may name, held against files made by hand."""

import json
import zipfile

import pytest

from models.contract import ContractError
from models.keras_file import export_keras_file


def layer(module, kind, **config):
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def keras_file(path, *layers):
    config = {
        "module": "keras.models",
        "class_name": "Sequential",
        "config": {"name": "model", "layers": list(layers)},
        "registered_name": "Sequential",
    }
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", "{}")
    return path


GET_FILE = {"fname": "x", "origin": "http://127.0.0.1:9/x"}


@pytest.mark.parametrize(
    ("hostile", "named"),
    [
        (layer("keras.layers", "Lambda", name="trick"), "'trick' (Lambda)"),
        (layer("keras.layers", "TFSMLayer", filepath="/model", name="m"), "'m' (TFSMLayer)"),
        (layer("keras.layers", "StringLookup", vocabulary="/etc/passwd"), "(StringLookup)"),
        (layer("os", "system", command="true"), "os.system"),
        (layer("keras.utils", "get_file", **GET_FILE), "keras.utils.get_file"),
        (layer("keras.src.utils.file_utils", "get_file", **GET_FILE), "file_utils.get_file"),
        (layer("keras", "config", name="enable_unsafe_deserialization"), "keras.config"),
        (layer("builtins", "function", name="eval"), "builtins.function"),
        (layer("company.layers", "Special"), "company.layers.Special"),
        (layer(["keras.layers"], "Dense"), "one of Keras' own"),
        (
            layer("keras.layers", "Bidirectional", layer=layer("keras.layers", "Lambda")),
            "'Lambda' (Lambda)",
        ),
        (
            layer("keras.layers", "Activation", activation={"a": [[layer("os", "abort")]]}),
            "os.abort",
        ),
        ({"class_name": "__lambda__", "config": {"value": "eA=="}}, "__lambda__"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_keras_own_is_refused_before_keras_sees_it(tmp_path, hostile, named):
    path = keras_file(tmp_path / "model.keras", hostile)
    with pytest.raises(ContractError, match=r"model\.keras is refused: ") as error:
        export_keras_file(path, tmp_path / "exported")
    assert named in str(error.value)
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\x89HDF\r\n", "is not a .keras file of Keras 3"), (None, "there is no model")],
    ids=["h5", "missing"],
)
def test_what_is_no_keras_file_is_named(tmp_path, content, said):
    path = tmp_path / "model.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ContractError, match=said):
        export_keras_file(path, tmp_path / "exported")


def test_a_zip_without_a_configuration_is_no_keras_file(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.json", "{}")
    with pytest.raises(ContractError, match=r"not a \.keras file of Keras 3 .*config\.json"):
        export_keras_file(path, tmp_path / "exported")


def test_what_keras_cannot_load_is_told_with_its_reason(tmp_path):
    path = keras_file(tmp_path / "model.keras", layer("keras.layers", "NoSuchLayer"))
    with pytest.raises(ContractError, match=r"Keras cannot load and export .*model\.keras"):
        export_keras_file(path, tmp_path / "exported")
