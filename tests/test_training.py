"""`heliograph train`: real trainings on a small set, and what comes of them."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from models import saved_model
from pipeline import checkpoint, cli
from tests import jobs
from tests.photographs import gray
from tests.test_checkpoint import files_of_at_most

SIDE = 96


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    """Parts of the photographs that ship with scikit-image."""
    folder = tmp_path_factory.mktemp("album")
    for name in ("astronaut", "chelsea", "coffee", "rocket", "retina"):
        pixels = getattr(skimage.data, name)()
        for place, top in enumerate(range(0, pixels.shape[0] - SIDE, 100)):
            left = (37 * place) % (pixels.shape[1] - SIDE)
            part = pixels[top : top + SIDE, left : left + SIDE]
            Image.fromarray(part).save(folder / f"{name}{place}.png")
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """Small gray images of one size: details of a page of text."""
    folder = tmp_path_factory.mktemp("digits")
    page = skimage.data.page()[20:, 20:]
    for top in range(0, 140, 28):
        for left in range(0, 336, 28):
            part = Image.fromarray(page[top : top + 28, left : left + 28])
            part.save(folder / f"{top}-{left}.png")
    return folder


def arguments(archive: Path, target: Path, *more: object) -> argparse.Namespace:
    parser, _ = cli._parser()
    said = ["train", str(archive), str(target), "--precision", "float32", "--validation_share"]
    said += ["0.2", "--workers", "0", *map(str, more)]
    return parser.parse_args(said, argparse.Namespace(said=said))


@pytest.fixture(scope="module")
def train():
    """Train in this process."""
    from pipeline import training

    def run(archive: Path, target: Path, *more: object) -> training.Trainer:
        args = arguments(archive, target, *more)
        trainer = training.Trainer(args)
        trainer.run()
        return trainer

    return run


# Every network: what is said of it, the steps, and the recipe it is evaluated with.
TRAININGS = {
    "dense-autoencoder": ("dense-autoencoder", (), 150, "mask:amount=0.5"),
    "conv-autoencoder": ("conv-autoencoder", ("--crop", 32), 40, "gaussian_noise:sigma=60"),
    "conv-autoencoder variational": (
        "conv-autoencoder",
        ("--crop", 32, "--variational"),
        40,
        "gaussian_noise:sigma=60",
    ),
    "unet": ("unet", ("--crop", 32), 40, "gaussian_noise:sigma=60"),
    "unet with a mask": ("unet", ("--crop", 32, "--masked"), 40, "mask:amount=0.3"),
    "cnn-colorizer": ("cnn-colorizer", ("--crop", 32), 20, "grayscale"),
    "cnn-colorizer by classes": (
        "cnn-colorizer",
        ("--crop", 32, "--classification", "--rate", 3e-3),
        20,
        "grayscale",
    ),
    "autoencoder-colorizer": (
        "autoencoder-colorizer",
        ("--crop", 32, "--colour_space", "YUV", "--rate", 3e-3),
        60,
        "grayscale",
    ),
    "gan-colorizer": ("gan-colorizer", ("--crop", 32, "--rate", 2e-4), 30, "grayscale"),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_network_trains_exports_and_runs(name, album, digits, tmp_path, train):
    network, more, steps, recipe = TRAININGS[name]
    archive = digits if network == "dense-autoencoder" else album
    target = tmp_path / "model"
    every = ["--steps", steps, "--every", steps, "--batch", 4, "--validation_images", 4]
    trainer = train(archive, target, "--network", network, "--recipe", recipe, *every, *more)

    losses = scalars(target.with_name("model.training") / "logs", "loss")
    assert losses[-1] < 0.97 * losses[0]

    # What is exported is what was trained.
    loaded = saved_model.load(str(target), precision="float32")
    inputs, _ = trainer.sampler.batch(0)
    given = [inputs] if isinstance(inputs, np.ndarray) else [inputs[0], inputs[1][..., 0] > 0]
    np.testing.assert_allclose(loaded(*given), trainer.serve(*given), atol=1e-5)

    # It restores and is evaluated as any model is.
    some = tmp_path / "some"
    some.mkdir()
    for path in sorted(archive.iterdir())[:2]:
        (some / path.name).write_bytes(path.read_bytes())
    precisely = ["--model", target, "--precision", "float32"]
    found = jobs.run("evaluate", some, tmp_path / "scored", *precisely, "--recipe", recipe).summary
    assert found["restored"] == found["planned"] == 2
    assert found["metrics"]["psnr_rgb_restored"]["count"] == 2
    if loaded.contract.mask_input:
        precisely += ["--masks", tmp_path / "scored" / "masks"]
    assert jobs.run("restore", some, tmp_path / "restored", *precisely).summary["restored"] == 2
    if loaded.contract.predicts_chroma:
        master = np.asarray(Image.open(some / "astronaut0.png"))
        colours = np.asarray(Image.open(tmp_path / "restored/images/astronaut0.png"))
        assert np.abs(colours.astype(int) - gray(colours)).max() > 0
        assert np.abs(gray(colours).astype(int) - gray(master)).mean() < 12  # luma, not L*

    # And it tells of itself.
    card = (target / "README.md").read_text()
    for fact in (network, recipe, trainer.facts["data"], f"{trainer.facts['parameters']:,}"):
        assert fact in card
    with Image.open(tmp_path / "model-validation.jpg") as sheet:
        assert sheet.width > 3 * 256
    assert not (tmp_path / "model.training" / "originals.bin").exists()


def scalars(folder: Path, tag: str) -> list[float]:
    """Read what TensorBoard would show."""
    tf = saved_model.import_tensorflow()
    found = []
    for path in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset([str(path)]):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.tag == tag:
                    assert value.metadata.plugin_data.plugin_name == "scalars" or found
                    found.append(float(tf.make_ndarray(value.tensor)))
    return found


QUICK = ("--network", "dense-autoencoder", "--batch", 16, "--every", 20, "--rate", 1e-3)


def command(*said: object) -> list[str]:
    return [sys.executable, "-m", "heliograph", *map(str, said)]


def test_a_training_that_is_killed_and_resumed_ends_with_the_same_weights(digits, tmp_path):
    often = [*QUICK, "--steps", 600, "--every", 20, "--validation_share", 0.2, "--workers", 0]
    killed = subprocess.Popen(
        command("train", digits, tmp_path / "killed", *often),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    kept = tmp_path / "killed.training" / "checkpoint.npz"
    until = time.monotonic() + 120
    while not kept.exists() and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)  # some steps further than the checkpoint, and nobody knows how many
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    reached = checkpoint.read(kept)[1]["progress"]["step"]
    assert 0 < reached < 600
    assert not (tmp_path / "killed").exists()

    resumed = subprocess.run(
        command("train", digits, tmp_path / "killed", *often, "--resume"),
        capture_output=True,
        text=True,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed at step {reached}" in resumed.stderr
    whole = subprocess.run(
        command("train", digits, tmp_path / "whole", *often), capture_output=True, text=True
    )
    assert whole.returncode == 0, whole.stderr
    ended, never = (
        checkpoint.read(tmp_path / f"{name}.training" / "checkpoint.npz")[0]
        for name in ("killed", "whole")
    )
    for one, other in zip(ended, never, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_can_be_started_from_and_their_encoder_frozen(digits, tmp_path, train):
    first = train(digits, tmp_path / "first", *QUICK, "--steps", 20)
    before = [variable.numpy() for variable in first.built.model.variables]
    more = ("--steps", 20, "--recipe", "gaussian_noise:sigma=40", "--freeze_encoder")
    tuned = train(digits, tmp_path / "tuned", *QUICK, *more, "--initial", tmp_path / "first")
    after = [variable.numpy() for variable in tuned.built.model.variables]
    same = [np.array_equal(one, other) for one, other in zip(before, after, strict=True)]
    # Kernels and biases of two layers of the encoder, and of three of the decoder.
    assert same == [True] * 4 + [False] * 6
    kept = tmp_path / "first.training" / "best.npz"
    again = train(digits, tmp_path / "again", *QUICK, "--steps", 1, "--rate", 0, "--initial", kept)
    for one, other in zip(before, again.built.model.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


def test_a_training_without_gains_stops_early_and_keeps_the_best(digits, tmp_path, train):
    more = ("--every", 5, "--steps", 200, "--patience", 2, "--rate", 0)
    trainer = train(digits, tmp_path / "model", *QUICK, *more)
    assert trainer.progress.step == 15  # the first is the best, and two do not gain on it
    assert trainer.progress.best_step == 5
    assert "The weights are those of step 5." in (tmp_path / "model" / "README.md").read_text()


def test_the_same_seed_gives_the_same_weights_and_another_others(digits, tmp_path, train):
    weights = []
    for place, seed in enumerate((1, 1, 2)):
        more = ("--steps", 3, "--seed", seed)
        trainer = train(digits, tmp_path / str(place), *QUICK, *more)
        weights.append(trainer.built.model.variables[0].numpy())
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--crop", 64), r"too few images: 0 to train on.*60 smaller than the crop of 64 pixels"),
        (("--validation_share", 0), "0 to validate with"),
        (("--loss", "l3"), "'l3' is no loss"),
        (("--augment", "flop"), "'flop'"),
        (("--recipe", "nois"), "unknown degradation"),
        (("--colour_space", "Lab"), "no choice of colour_space"),
        (("--initial", "nowhere"), "no weights that TensorFlow can read"),
        (("--resume",), "no checkpoint"),
        (("--network", "cnn-colorizer", "--crop", 32), "too few images"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_error(more, message, digits, tmp_path):
    from pipeline.training import TrainingError
    from pipeline.training import train as run

    with pytest.raises(TrainingError, match=message):
        run(arguments(digits, tmp_path / "model", *QUICK, "--steps", 2, *more))
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "model.training" / "originals.bin").exists()


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(digits, tmp_path, train):
    from pipeline.training import DivergedError

    more = ("--every", 2, "--steps", 400, "--loss", "mse", "--optimizer", "sgd", "--rate", 1e38)
    with pytest.raises(DivergedError, match=r"no number any more at step \d+"):
        train(digits, tmp_path / "model", *QUICK, *more)
    assert not (tmp_path / "model").exists()
    assert not list((tmp_path / "model.training").glob("*.bin"))


def test_a_checkpoint_of_another_network_is_refused(digits, tmp_path, train):
    from pipeline.checkpoint import CheckpointError

    train(digits, tmp_path / "model", *QUICK, "--steps", 2)
    with pytest.raises(CheckpointError, match="loss was 'mse', not 'l1'"):
        train(digits, tmp_path / "model", *QUICK, "--steps", 2, "--loss", "l1", "--resume")
    other = ("--network", "conv-autoencoder", "--crop", 28, "--steps", 2)
    with pytest.raises(CheckpointError, match="of another network"):
        train(digits, tmp_path / "other", *other, "--initial", tmp_path / "model")


def test_an_earlier_result_is_replaced_only_when_told(digits, tmp_path, train):
    from pipeline.training import TrainingError

    train(digits, tmp_path / "model", *QUICK, "--steps", 1)
    before = saved_model.digest(tmp_path / "model")
    with pytest.raises(TrainingError, match="--overwrite"):
        train(digits, tmp_path / "model", *QUICK, "--steps", 2)
    assert saved_model.digest(tmp_path / "model") == before
    train(digits, tmp_path / "model", *QUICK, "--steps", 2, "--overwrite")
    assert saved_model.digest(tmp_path / "model") != before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"dear")
    with pytest.raises(TrainingError, match="no SavedModel, and is not replaced"):
        train(digits, tmp_path / "mine", *QUICK, "--steps", 2, "--overwrite")


def test_a_disk_that_fills_while_images_are_decoded_is_told(digits, tmp_path, train):
    from pipeline.training import TrainingError

    with files_of_at_most(20_000), pytest.raises(TrainingError, match="make room"):
        train(digits, tmp_path / "model", *QUICK, "--steps", 2)
    assert not (tmp_path / "model").exists()


def test_help_of_train_imports_neither_keras_nor_beam():
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        "try: main(['train', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'apache_beam', 'tensorflow', 'keras', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--network" in done.stdout
