import shutil
from pathlib import Path

import numpy as np
import pytest

from models import saved_model, zoo
from models.contract import Contract, ContractError
from models.export import export
from models.networks.unet import unet, unet_margin
from tests import saved_models


@pytest.fixture(scope="module")
def denoise():
    return saved_model.load("denoise", precision="float32")


def test_a_model_is_found_by_name_or_path(models):
    assert saved_model.locate("denoise") == zoo.path("denoise")
    assert saved_model.locate(str(models / "identity")) == models / "identity"


@pytest.mark.parametrize("folder", [None, "empty"])
def test_an_unknown_model_is_told_with_the_zoo(tmp_path, folder):
    path = tmp_path / (folder or "missing")
    if folder:
        path.mkdir()
    with pytest.raises(ContractError, match=r"unknown model.*denoise"):
        saved_model.locate(str(path))


def test_a_file_that_is_no_model_is_told(tmp_path):
    weights = tmp_path / "weights.h5"
    weights.write_bytes(b"\x89HDF")
    with pytest.raises(ContractError, match=r"neither the folder of a SavedModel nor a \.keras"):
        saved_model.locate(str(weights))


def test_a_model_elsewhere_is_told_to_be_fetched():
    with pytest.raises(ContractError, match=r"s3://bucket/model.*`fetch`"):
        saved_model.locate("s3://bucket/model")


def test_a_model_that_is_not_the_one_asked_for_is_refused(models, tmp_path):
    asked = saved_model.digest(models / "identity")
    saved_model.load(str(models / "identity"), sha256=asked)
    other = shutil.copytree(models / "identity", tmp_path / "other")
    with (other / "saved_model.pb").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ContractError, match="not the one that was asked for"):
        saved_model.load(str(other), sha256=asked)


def test_a_model_without_a_contract_says_how_to_give_one(models, tmp_path):
    bare = shutil.copytree(models / "identity", tmp_path / "bare")
    shutil.rmtree(bare / "assets.extra")
    with pytest.raises(ContractError, match=r"--input_range=LOW,HIGH[^$]*--contract"):
        saved_model.read_contract(bare)
    told = tmp_path / "told.json"
    told.write_text(Contract(name="told").to_json())
    assert saved_model.read_contract(bare, str(told)).name == "told"
    assert saved_model.load(str(bare), contract_file=str(told)).contract.name == "told"


def test_a_contract_against_the_signature_is_refused(models, tmp_path):
    told = tmp_path / "gray.json"
    told.write_text(Contract(name="gray", input_space="gray", output_space="gray").to_json())
    with pytest.raises(ContractError, match=r"float32 \(None, None, None, 3\)"):
        saved_model.load(str(models / "identity"), contract_file=str(told))


def test_a_signature_that_is_not_there_is_named_beside_those_that_are(models, tmp_path):
    told = tmp_path / "other.json"
    told.write_text(Contract(name="other", signature="restore").to_json())
    with pytest.raises(ContractError, match="'restore'; it has 'serving_default'"):
        saved_model.load(str(models / "identity"), contract_file=str(told))


def test_a_broken_saved_model_is_named(tmp_path, models):
    broken = shutil.copytree(models / "identity", tmp_path / "broken")
    (broken / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(ContractError, match=f"cannot load the SavedModel {broken}"):
        saved_model.load(str(broken))


def test_the_digest_follows_every_byte_and_name(models, tmp_path):
    copy = shutil.copytree(models / "identity", tmp_path / "copy")
    assert saved_model.digest(copy) == saved_model.digest(models / "identity")
    (copy / "assets.extra" / "note.txt").write_text("")
    changed = saved_model.digest(copy)
    assert changed != saved_model.digest(models / "identity")
    (copy / "assets.extra" / "note.txt").write_text("1")
    assert saved_model.digest(copy) != changed


def test_an_output_of_the_wrong_channels_is_refused(tmp_path):
    def one_channel(tf, image):
        return image[..., : tf.size(image) // tf.size(image)]  # which the signature cannot tell

    wrong = saved_models.save(tmp_path / "w", Contract(name="w"), one_channel)
    with pytest.raises(ContractError, match=r"gave \(1, 8, 8, 1\) for \(1, 8, 8, 3\)"):
        saved_model.load(str(wrong))(np.zeros((1, 8, 8, 3), np.float32))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stacking_changes_no_bit(photographs, precision):
    # What byte-identical derivatives on any plan rest on.
    model = saved_model.load("denoise", precision=precision)
    tiles = [
        photo[top : top + 96, left : left + 96].astype(np.float32) / 255
        for photo in photographs.values()
        for top, left in ((0, 0), (60, 80))
    ]
    alone = [model(tile[None])[0] for tile in tiles]
    for count in (2, 3, 5, 8):
        np.testing.assert_array_equal(model(np.stack(tiles[:count])), alone[:count])


def test_two_precisions_live_in_one_process(photographs):
    image = photographs["coffee"][None, :96, :96].astype(np.float32) / 255
    exact, fast = (
        saved_model.load("denoise", precision=precision) for precision in ("float32", "bfloat16")
    )
    first = exact(image)
    rough = fast(image)
    np.testing.assert_array_equal(exact(image), first)
    assert np.abs(rough - first).max() < 1 / 255
    if saved_model.has_bfloat16():
        assert not np.array_equal(rough, first)


def test_an_exported_network_gives_what_the_keras_model_gives(tmp_path, photographs):
    network = unet(widths=(8, 12), blocks=(1, 1))
    contract = Contract(name="small", output="residual", multiple=4, margin=unet_margin((1, 1)))
    export(network, tmp_path / "small", contract)
    image = photographs["rocket"][None, :64, :96].astype(np.float32) / 255
    served = saved_model.load(str(tmp_path / "small"), precision="float32")
    assert served.contract == contract
    np.testing.assert_allclose(served(image), np.asarray(network(image)), atol=1e-5)


def test_no_pixel_of_the_denoiser_sees_further_than_its_margin(denoise):
    contract = denoise.contract
    side = 4 * contract.margin // contract.multiple * contract.multiple
    rng = np.random.default_rng(0)
    image = rng.random((1, side, side, 3), np.float32)
    for row in range(side // 2, side // 2 + contract.multiple):
        touched = image.copy()
        touched[0, row, side // 2] = 1 - touched[0, row, side // 2]
        changed = np.argwhere(np.abs(denoise(touched) - denoise(image))[0].max(-1) > 0)
        reach = np.abs(changed - (row, side // 2)).max()
        assert 0 < reach <= contract.margin


def test_the_zoo_is_small_and_described():
    assert "denoise" in zoo.names()
    for name in zoo.names():
        assert zoo.summary(name)
        size = sum(f.stat().st_size for f in zoo.path(name).rglob("*") if f.is_file())
        assert size < 20e6


def test_the_denoiser_has_at_most_600_000_parameters():
    tf = saved_model.import_tensorflow()
    variables = tf.train.list_variables(str(zoo.path("denoise") / "variables" / "variables"))
    weights = [shape for name, shape in variables if "OBJECT_GRAPH" not in name]
    assert 100_000 < sum(int(np.prod(shape)) for shape in weights) <= 600_000
    assert (Path(zoo.path("denoise")) / "README.md").is_file()
