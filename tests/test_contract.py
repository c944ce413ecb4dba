import json

import pytest

from models.contract import Contract, ContractError


def test_a_contract_reads_back_as_it_was_written():
    contract = Contract(
        name="colour",
        input_space="L",
        output_space="ab",
        input_range=(0, 100),
        output_range=(-128, 128),
        size=(256, 256),
        multiple=32,
        margin=7,
    )
    assert Contract.from_json(contract.to_json(), "here") == contract


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input_space": "CMYK"}, "'input_space' must be RGB, gray or L, not 'CMYK'"),
        ({"output": "delta"}, "'output' must be image or residual"),
        ({"input_range": (1, 0)}, "'input_range' must be two numbers, low then high, not (1, 0)"),
        ({"multiple": 0}, "'multiple' must be a whole number from 1, not 0"),
        ({"margin": -1}, "'margin' must be a whole number from 0, not -1"),
        ({"size": (64,)}, "'size' must be null or [height, width]"),
        ({"output_space": "ab"}, "RGB to ab is not a combination"),
        ({"output_space": "gray", "output": "residual"}, "a residual has its input's colour space"),
        ({"layout": "CHWN"}, "'layout' must be NHWC or NCHW"),
        ({"dtype": "float64"}, "'dtype' must be float32, float16 or uint8"),
        ({"mask_values": (1, 1)}, "'mask_values' must be two different numbers"),
        ({"mask_fill": float("nan")}, "'mask_fill' must be null or a number"),
        ({"image_input": ""}, "'image_input' must be null or a name"),
        ({"keep_luminance": 1}, "'keep_luminance' must be true or false"),
        ({"keep_luminance": True, "output": "residual"}, "models that give RGB images"),
        ({"size": (60, 64), "multiple": 8}, "the size 60 x 64 is no multiple of 8"),
        ({"image_input": "x", "mask_input": "x"}, "cannot both be 'x'"),
        ({"mask_input": "mask", "keep_luminance": True}, "predicts chroma cannot take a mask"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_field_out_of_range_is_named_with_what_it_may_be(changes, said):
    with pytest.raises(ContractError) as error:
        Contract(name="wrong", **changes)
    assert said in str(error.value)
    assert "wrong" in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a contract of format 1 or 2"),
        ('{"format": 3, "name": "new"}', "is not a contract of format 1 or 2"),
        ('{"format": 1, "name": "a", "colour": 1}', "has unknown fields colour"),
        ('{"format": 1}', "name"),
    ],
    ids=["broken", "list", "newer", "unknown", "nameless"],
)
def test_a_file_that_is_no_contract_is_named(text, said):
    with pytest.raises(ContractError, match=r"^model/heliograph\.json") as error:
        Contract.from_json(text, "model/heliograph.json")
    assert said in str(error.value)


def test_json_holds_every_field():
    fields = json.loads(Contract(name="plain").to_json())
    assert fields["format"] == 2
    assert fields["input_range"] == [0.0, 1.0]
    assert fields["size"] is None


def test_a_contract_of_format_1_means_what_it_meant():
    text = '{"format": 1, "name": "old", "input_range": [-1, 1], "size": [64, 96], "margin": 3}'
    assert Contract.from_json(text, "old.json") == Contract(
        name="old", input_range=(-1, 1), size=(64, 96), margin=3, layout="NHWC", dtype="float32"
    )
