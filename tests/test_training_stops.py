"""Trainings that cannot be begun or gone on with: one clear error each, nothing half-written."""

import re
from pathlib import Path

import numpy as np
import pytest

from models import saved_model
from pipeline import checkpoint
from tests.test_checkpoint import files_of_at_most
from tests.trainings import QUICK, arguments, save_digits, train


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    save_digits(folder)
    return folder


@pytest.fixture(scope="module")
def training():
    """The module, which imports TensorFlow."""
    from pipeline import training

    return training


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--crop", 64), r"too few images: 0 to train on.*60 smaller than the crop of 64 pixels"),
        (("--validation_share", 0), "0 to validate with"),
        (("--loss", "l3"), "'l3' is no loss"),
        (("--loss", "l1+ciede2000"), r"ciede2000 is for networks that give a\*b\*"),
        (("--loss", "ssim", "--crop", 8), "ssim takes crops of 11 pixels"),
        (("--network", "gan-colorizer", "--loss", "ssim", "--crop", 32), "losses of its own"),
        (("--augment", "flop"), "'flop'"),
        (("--recipe", "nois"), "unknown degradation"),
        (("--colour_space", "Lab"), "no choice of colour_space"),
        (("--initial", "nowhere"), "no weights that TensorFlow can read"),
        (("--resume",), "no checkpoint"),
        (("--network", "cnn-colorizer", "--crop", 32), "too few images"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_error(more, message, digits, tmp_path, training):
    with pytest.raises(training.TrainingError, match=message):
        training.train(arguments(digits, tmp_path / "model", *QUICK, "--steps", 2, *more))
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    digits, tmp_path, training
):
    # Each step turns the weights into about minus twice themselves, until they overflow.
    grow = ("--optimizer", "adamw", "--rate", 3, "--weight_decay", 1, "--schedule", "constant")
    with pytest.raises(training.StoppedError, match=r"no number|NaN") as told:
        train(digits, tmp_path / "model", *QUICK, *grow, "--every", 5, "--steps", 400)
    step, kept = map(
        int, re.search(r"at step (\d+) .* checkpoint, of step (\d+),", str(told.value)).groups()
    )
    assert kept == (step - 1) // 5 * 5 > 0
    arrays, facts = checkpoint.read(tmp_path / "model.training" / "checkpoint.npz")
    assert facts["progress"]["step"] == kept
    best, _ = checkpoint.read(tmp_path / "model.training" / "best.npz")
    for array in (*arrays, *best):
        assert np.isfinite(array).all()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file())[:2] == [
        "best.npz",
        "checkpoint.npz",
    ]
    assert not (tmp_path / "model").exists()


def test_a_network_that_breaks_in_its_first_step_leaves_no_checkpoint(digits, tmp_path, training):
    # The loss of this step is still a number: what it makes of the weights is not.
    broken = ("--optimizer", "sgd", "--rate", 1e38, "--every", 1, "--steps", 9)
    with pytest.raises(training.StoppedError, match=r"at step 1 .*NaN.*there is no checkpoint yet"):
        train(digits, tmp_path / "model", *QUICK, *broken)
    assert not list(tmp_path.rglob("*.npz"))


def test_a_checkpoint_of_another_network_is_refused(digits, tmp_path, training):
    train(digits, tmp_path / "model", *QUICK, "--steps", 2)
    kept = (tmp_path / "model.training" / "checkpoint.npz").read_bytes()
    with pytest.raises(training.TrainingError, match="loss was 'mse', not 'l1'"):
        train(digits, tmp_path / "model", *QUICK, "--steps", 2, "--loss", "l1", "--resume")
    other = ("--network", "conv-autoencoder", "--crop", 28, "--steps", 2)
    with pytest.raises(training.TrainingError, match="network was 'dense-autoencoder', not 'conv"):
        train(digits, tmp_path / "model", *QUICK, *other, "--resume")
    for initial in ("model", "model.training/best.npz"):
        with pytest.raises(training.TrainingError, match="of another network"):
            train(digits, tmp_path / "other", *other, "--initial", tmp_path / initial)
    assert (tmp_path / "model.training" / "checkpoint.npz").read_bytes() == kept
    assert not (tmp_path / "other.training").exists()


def test_an_earlier_result_is_replaced_only_when_told(digits, tmp_path, training):
    train(digits, tmp_path / "model", *QUICK, "--steps", 1)
    before = saved_model.digest(tmp_path / "model")
    with pytest.raises(training.TrainingError, match="--overwrite"):
        train(digits, tmp_path / "model", *QUICK, "--steps", 2)
    assert saved_model.digest(tmp_path / "model") == before
    train(digits, tmp_path / "model", *QUICK, "--steps", 2, "--overwrite")
    assert saved_model.digest(tmp_path / "model") != before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.jpg").write_bytes(b"dear")
    with pytest.raises(training.TrainingError, match="no SavedModel, and is not replaced"):
        train(digits, mine, *QUICK, "--steps", 2, "--overwrite")
    with pytest.raises(training.TrainingError, match="is a file"):
        train(digits, mine / "photo.jpg", *QUICK, "--steps", 2, "--overwrite")


def test_what_else_is_in_the_folder_that_is_worked_in_stays(digits, tmp_path, training):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.jpg").write_bytes(b"dear")
    again = ("--steps", 1, "--work", mine, "--overwrite")
    for _ in range(2):
        train(digits, tmp_path / "model", *QUICK, *again)
    assert (mine / "photo.jpg").read_bytes() == b"dear"
    # An earlier training is let go of only once there is another to begin.
    with pytest.raises(training.TrainingError, match="too few"):
        train(digits, tmp_path / "model", *QUICK, *again, "--crop", 64)
    assert (mine / "checkpoint.npz").exists()


def test_a_disk_that_fills_is_told_and_leaves_nothing_by_halves(digits, tmp_path, training):
    model, work = tmp_path / "model", tmp_path / "model.training"
    more = (*QUICK, "--steps", 2)
    with (
        files_of_at_most(20_000),
        pytest.raises(training.TrainingError, match=r"cannot store .*make room"),
    ):
        train(digits, model, *more)
    assert not list(tmp_path.iterdir())

    with (
        files_of_at_most(1_000_000),  # the weights alone fit in, but not with the optimizer's
        pytest.raises(training.StoppedError, match=r"cannot save .*checkpoint\.npz .*make room$"),
    ):
        train(digits, model, *more)
    assert sorted(path.name for path in work.iterdir()) == ["best.npz", "logs"]

    train(digits, model, *more)
    before = saved_model.digest(model)
    with (
        files_of_at_most(500_000),
        pytest.raises(
            training.StoppedError,
            match=r"cannot write .*model \(.*large\): make room; --resume goes on from step 2",
        ),
    ):
        train(digits, model, *more, "--resume")
    assert saved_model.digest(model) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model",
        "model-validation.jpg",
        "model.training",
    ]


def test_logs_that_cannot_be_written_are_told(digits, tmp_path, training):
    (tmp_path / "model.training").mkdir()
    (tmp_path / "model.training" / "logs").symlink_to("/dev/full")
    with pytest.raises(training.StoppedError, match="cannot write TensorBoard's files"):
        train(digits, tmp_path / "model", *QUICK, "--steps", 2)
    assert not (tmp_path / "model").exists()
