"""A SavedModel that compares two images scores them, if it is what it should be."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from models import comparison
from models.contract import ContractError
from models.safety import UnsafeModelError
from models.saved_model import digest, import_tensorflow
from pipeline.job import JobError
from tests.jobs import run
from tests.photographs import gray, noisy, photo, saved, sixteen, small
from transforms.metrics import Pair, mae
from transforms.metrics.perceptual import Lpips


def save(path, function, shapes=((None, None, None, 3),) * 2, dtype="float32"):
    tf = import_tensorflow()
    names = ("distorted", "pristine", "third")
    specs = [tf.TensorSpec(shape, dtype, name) for shape, name in zip(shapes, names, strict=False)]
    module = tf.Module()
    module.weight = tf.Variable(1.0)
    module.serve = tf.function(
        lambda *images: {"distance": function(tf, module.weight, *images)},
        input_signature=specs,
        autograph=False,
    )
    tf.saved_model.save(module, str(path), signatures=module.serve)
    return path


def mean_difference(tf, weight, distorted, pristine):
    return weight * tf.reduce_mean(tf.abs(distorted - pristine), axis=(1, 2, 3), keepdims=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """What LPIPS would be if its network did nothing: the mean absolute difference."""
    return save(tmp_path_factory.mktemp("models") / "distance", mean_difference)


@pytest.mark.parametrize("change", [lambda p: p, sixteen, gray])
def test_the_number_is_the_models(model, change):
    reference = change(small())
    pair = Pair(noisy(reference), reference)
    lpips = Lpips(str(model), digest(model))
    assert lpips(pair) == pytest.approx(mae(pair), rel=1e-5)
    assert lpips(Pair(reference, reference)) == 0


@pytest.mark.parametrize("size", [(1, 1), (3, 1024), (5, 1025), (2050, 7)])
def test_large_images_are_the_mean_of_their_pieces_by_area(model, size):
    reference = np.resize(photo("coffee"), (*size, 3))
    pair = Pair(noisy(reference), reference)
    assert Lpips(str(model), digest(model))(pair) == pytest.approx(mae(pair), rel=1e-5)


def test_what_is_not_a_number_is_none(tmp_path):
    path = save(tmp_path / "nan", lambda tf, weight, one, two: weight * float("nan"))
    assert Lpips(str(path), digest(path))(Pair(small(), small())) is None


@pytest.mark.parametrize(
    ("shapes", "dtype"),
    [
        (((None, None, None, 3),), "float32"),
        (((None, None, None, 3),) * 3, "float32"),
        (((None, 3, None, None),) * 2, "float32"),
        (((None, None, None, 3),) * 2, "uint8"),
    ],
    ids=["one", "three", "channels-first", "uint8"],
)
def test_a_model_that_takes_something_else_is_refused(tmp_path, shapes, dtype):
    path = save(tmp_path / "other", lambda tf, weight, *images: weight * len(images), shapes, dtype)
    with pytest.raises(ContractError, match=r"does not compare images: .*serving_default"):
        comparison.describe(path)


def test_a_model_that_could_write_files_is_refused(tmp_path):
    def sly(tf, weight, one, two):
        with tf.control_dependencies([tf.io.write_file("x", "y")]):
            return mean_difference(tf, weight, one, two)

    path = save(tmp_path / "sly", sly)
    with pytest.raises(UnsafeModelError, match="WriteFile"):
        comparison.describe(path)
    assert comparison.describe(path, trust=True).inputs == ("distorted", "pristine")


def test_another_digest_is_refused(model):
    with pytest.raises(ContractError, match="not the one that was asked for"):
        comparison.load(model, sha256="0" * 64)


def test_a_job_takes_it_beside_the_others(model, tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    for name in ("coffee", "chelsea"):
        (archive / f"{name}.png").write_bytes(saved(photo(name)[:96, :120], "PNG"))
    asked = ("--recipe", "jpeg:3", "--metrics", "mae", "--lpips", model)
    ended = run("degrade", archive, tmp_path / "out", *asked, code=0)
    for row in pq.read_table(tmp_path / "out" / "metrics.parquet").to_pylist():
        assert row["lpips_degraded"] == pytest.approx(row["mae_degraded"], rel=1e-4)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["job"]["lpips_sha256"]
    assert ended.summary["metrics"]["lpips_degraded"]["count"] == 2


def test_no_model_there_is_an_error_before_anything_is_done(tmp_path):
    asked = ("--recipe", "jpeg:3", "--lpips", tmp_path / "nothing")
    with pytest.raises(JobError, match="nothing is not the folder of a SavedModel"):
        run("degrade", tmp_path, tmp_path.parent / "out", *asked)
    assert not (tmp_path.parent / "out").exists()
