"""Contracts put together from signatures, files and what is said."""

import json
import re

import pytest

from models.contract import CONTRACT_FILE, ContractError
from models.description import describe
from models.saved_model import import_tensorflow

FREE = (None, None, None, 3)


@pytest.fixture
def signed(tmp_path):
    """Write a saved_model.pb that has signatures and nothing else."""
    import_tensorflow()
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    def write(inputs, outputs, key="serving_default", model=None):
        model = model or saved_model_pb2.SavedModel()
        graph = model.meta_graphs[0] if model.meta_graphs else model.meta_graphs.add()
        signature = graph.signature_def[key]
        for tensors, target in ((inputs, signature.inputs), (outputs, signature.outputs)):
            for name, (dtype, shape) in tensors.items():
                target[name].dtype = tf.as_dtype(dtype).as_datatype_enum
                target[name].tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
        (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
        write.model = model
        return tmp_path

    return write


def of(path, **said):
    description = describe(path, said)
    contract = description.contract
    told = {field for field, origin in description.origins.items() if origin == "signature"}
    return contract, told


RANGES = {"input_range": "0,1", "output_range": "0,1"}
COLOUR = {"input_space": "RGB", "output_space": "RGB"}


@pytest.mark.parametrize(
    ("taken", "given", "said", "expected"),
    [
        (
            ("uint8", (None, 3, None, None)),
            ("uint8", (None, 3, None, None)),
            {},
            {"layout": "NCHW", "dtype": "uint8", "input_range": (0, 255), "output_range": (0, 255)},
        ),
        (("float32", FREE), ("float32", FREE), RANGES, {"layout": "NHWC", "input_space": "RGB"}),
        (
            ("float16", (None, 64, 96, 1)),
            ("float32", (None, 64, 96, 3)),
            RANGES,
            {"dtype": "float16", "size": (64, 96), "input_space": "gray", "output_space": "RGB"},
        ),
        (
            ("float32", (1, 3, 128, 128)),
            ("float32", None),
            {**RANGES, "output_space": "gray"},
            {"layout": "NCHW", "size": (128, 128), "output_space": "gray"},
        ),
        (
            ("float32", (None, None, None, 1)),
            ("float32", (None, None, None, 2)),
            {"input_space": "gray", "input_range": "0,1", "output_range": "-128/110,128/110"},
            {"input_space": "gray", "output_space": "ab", "output_range": (-128 / 110, 128 / 110)},
        ),
        (
            ("float32", None),
            ("float32", None),
            {**RANGES, "layout": "NCHW", "input_space": "RGB", "output_space": "RGB"},
            {"layout": "NCHW", "size": None},
        ),
        (
            ("float32", FREE),
            ("float32", FREE),
            {"input_range": "[-1, 1]", "output": "residual", "multiple": 8, "size": "64,128"},
            {"output": "residual", "multiple": 8, "size": (64, 128), "input_range": (-1, 1)},
        ),
    ],
    ids=["uint8", "float32", "gray to RGB", "batch of one", "ab", "no shape", "residual"],
)
def test_the_signature_tells_what_it_can(signed, tmp_path, taken, given, said, expected):
    contract, told = of(signed({"x": taken}, {"y": given}), **said)
    for field, value in expected.items():
        assert getattr(contract, field) == value, field
    assert (contract.image_input, contract.image_output) == ("x", "y")
    assumed = describe(tmp_path, said).assumed
    untold = {"output", "multiple"} | ({"margin"} if not contract.predicts_chroma else set())
    assert set(assumed) == untold - set(said)
    assert contract.signature == "serving_default"
    assert not told & set(said)


def test_each_line_says_where_it_is_from(signed, tmp_path):
    path = signed({"x": ("float32", FREE)}, {"y": ("float32", FREE)})
    (path / CONTRACT_FILE).parent.mkdir()
    (path / CONTRACT_FILE).write_text(
        '{"format": 2, "name": "told", "input_range": [-1, 1], "margin": 4}'
    )
    found = describe(path, {"margin": 9, "output_range": None})
    assert found.contract.margin == 9
    assert found.origins["margin"] == "command line"
    assert found.origins["input_range"] == CONTRACT_FILE
    assert found.origins["output_range"] == "default"  # of the format
    assert found.origins["layout"] == found.origins["size"] == "signature"
    assert found.assumed == ()
    # null is the only one; what else the signature tells of it stays told.
    (path / CONTRACT_FILE).write_text('{"format": 2, "name": "told", "image_input": null}')
    found = describe(path)
    assert (found.contract.image_input, found.origins["image_input"]) == (None, CONTRACT_FILE)
    assert found.origins["layout"] == "signature"
    beside = tmp_path / "beside.json"
    beside.write_text('{"format": 1, "name": "beside"}')
    found = describe(path, contract_file=str(beside))
    assert found.contract.input_range == (0, 1)
    assert found.origins["name"] == f"contract file {beside}"


@pytest.mark.parametrize(
    ("inputs", "outputs", "said", "asked"),
    [
        (
            {"x": ("float32", FREE)},
            {"y": ("float32", FREE)},
            {},
            {"input_range", "output_range"},
        ),
        (
            {"x": ("float32", FREE)},
            {"y": ("float32", FREE)},
            {"input_range": "0,255", "output": "residual"},
            set(),
        ),
        (
            {"x": ("uint8", (None, None, None, 1))},
            {"y": ("float32", (None, None, None, 2))},
            {},
            {"input_space", "output_range"},
        ),
        (
            {"x": ("uint8", (None, 3, 3, 3))},
            {"y": ("uint8", None)},
            {},
            {"layout"},
        ),
        (
            {"x": ("uint8", (None, None, None, None))},
            {"y": ("uint8", FREE)},
            {},
            {"input_space"},
        ),
        (
            {"image": ("uint8", FREE), "mask": ("uint8", (None, None, None, 1))},
            {"a": ("uint8", FREE), "b": ("uint8", FREE)},
            {},
            {"mask_input", "mask_values", "image_output", "input_range", "output_range"},
        ),
        (
            {"image": ("uint8", FREE), "mask": ("bool", (None, None, None))},
            {"a": ("uint8", FREE), "b": ("uint8", FREE)},
            {"mask_input": "mask", "image_output": "a", "mask_values": "1,0"},
            set(),
        ),
    ],
    ids=["ranges", "residual", "ab", "3x3", "channels", "mask", "mask said"],
)
def test_what_it_cannot_tell_is_asked_for_and_nothing_else(signed, inputs, outputs, said, asked):
    path = signed(inputs, outputs)
    if not asked:
        of(path, **said)
        return
    with pytest.raises(ContractError) as error:
        of(path, **said)
    assert set(re.findall(r"^  --(\w+)=", str(error.value), re.M)) == asked


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"input_range": "0-1"}, "--input_range takes LOW,HIGH, such as 0,1 or -1,1 or 0,255"),
        ({"input_range": "0,1/0"}, "--input_range takes LOW,HIGH"),
        ({"input_range": "1,0"}, "'input_range' must be two numbers, low then high"),
        ({"size": "64"}, "--size takes HEIGHT,WIDTH"),
        ({"mask_fill": "gray"}, "--mask_fill takes a number"),
        ({"image_input": "z"}, "there is no 'z' (image_input), only x"),
        ({"image_output": "z"}, "there is no 'z' (image_output), only y"),
        ({"mask_input": "z", "mask_values": "0,1"}, "there is no 'z' (mask_input), only x"),
        ({"signature": "train"}, "no signature 'train'; it has 'serving_default'"),
        (
            {"layout": "NCHW", **COLOUR},
            "input 'x' is float32 (None, None, None, 3), but the contract says",
        ),
        ({"input_space": "gray"}, "the contract says float32 (None, None, None, 1)"),
        ({"output_space": "gray"}, "output 'y' is float32"),
        ({"input_space": "L"}, "L to RGB is not a combination we run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_is_said_wrongly_is_one_clear_error(signed, said, reason):
    path = signed({"x": ("float32", FREE)}, {"y": ("float32", FREE)})
    with pytest.raises(ContractError) as error:
        of(path, **{**RANGES, **said})
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("taken", "reason"),
    [
        (("float64", FREE), "is float64 (None, None, None, 3), but the contract says float32"),
        (("float32", (4, None, None, 3)), "is float32 (4, None, None, 3)"),
        (("float32", (None, 64, None, 3)), "is float32 (None, 64, None, 3)"),
        (("string", (None,)), "is string (None)"),
    ],
    ids=["float64", "batch of four", "one side fixed", "files"],
)
def test_a_signature_that_we_cannot_serve_is_shown(signed, taken, reason):
    path = signed({"x": taken}, {"y": ("float32", FREE)})
    with pytest.raises(ContractError) as error:
        of(path, **RANGES, layout="NHWC", input_space="RGB")
    assert reason in str(error.value)


def test_of_several_signatures_one_is_to_be_named(signed):
    tensors = {"x": ("uint8", FREE)}, {"y": ("uint8", FREE)}
    path = signed(*tensors, key="restore")
    assert of(path)[0].signature == "restore"
    signed(*tensors, key="train", model=signed.model)
    with pytest.raises(ContractError, match="'serving_default'; it has 'restore', 'train'"):
        of(path)
    assert of(path, signature="train")[0].signature == "train"


def test_a_third_input_is_not_passed_over(signed):
    inputs = {"x": ("uint8", FREE), "m": ("uint8", (None, None, None, 1)), "noise": ("float32", ())}
    path = signed(inputs, {"y": ("uint8", FREE)})
    with pytest.raises(ContractError, match="does not say what the input 'noise' is"):
        of(path, image_input="x", mask_input="m", mask_values="0,1")


def test_a_contract_inside_that_is_broken_is_named(signed):
    path = signed({"x": ("uint8", FREE)}, {"y": ("uint8", FREE)})
    (path / CONTRACT_FILE).parent.mkdir()
    (path / CONTRACT_FILE).write_text(json.dumps({"format": 2, "name": "a", "colour": 1}))
    with pytest.raises(ContractError, match=r"heliograph\.json has unknown fields colour"):
        describe(path)
