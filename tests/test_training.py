"""`heliograph train`: real trainings on a small set, and what comes of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import numpy as np
import pytest
from PIL import Image

from models import saved_model
from models.export import weights_of
from models.losses import LOSSES, parse_loss
from models.optimizers import OPTIMIZERS, SCHEDULES, Schedule
from pipeline import checkpoint
from tests import jobs
from tests.object_stores import s3_server
from tests.photographs import gray
from tests.trainings import QUICK, arguments, save_album, save_digits, train


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    save_album(folder)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    save_digits(folder)
    return folder


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
    "autoencoder-colorizer by CIEDE2000": (
        "autoencoder-colorizer",
        ("--crop", 32, "--loss", "ciede2000", "--rate", 3e-3),
        60,
        "grayscale",
    ),
    "gan-colorizer": ("gan-colorizer", ("--crop", 32, "--rate", 2e-4), 30, "grayscale"),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_network_trains_exports_and_runs(name, album, digits, tmp_path):
    network, more, steps, recipe = TRAININGS[name]
    archive = digits if network == "dense-autoencoder" else album
    target = tmp_path / "model"
    every = ["--steps", steps, "--every", steps, "--batch", 4, "--validation_images", 4]
    trainer = train(archive, target, "--network", network, "--recipe", recipe, *every, *more)

    losses = scalars(target.with_name("model.training") / "logs", "loss")
    assert losses[-1] < 0.97 * losses[0]

    if network == "gan-colorizer":
        for tag in ("adversarial", "l1", "discriminator"):
            assert len(scalars(target.with_name("model.training") / "logs", tag)) == len(losses)
    scored = scalars(target.with_name("model.training") / "logs", "validation/psnr")
    assert scored == pytest.approx([line["psnr"] for line in trainer.progress.history])

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
    # So short a training makes results that a guard may hold back.
    precisely = ["--model", target, "--precision", "float32", "--guard", "none"]
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


def command(*said: object) -> list[str]:
    return [sys.executable, "-m", "heliograph", *map(str, said)]


def test_a_training_that_is_killed_and_resumed_ends_with_the_same_weights(digits, tmp_path):
    # Codes that are drawn, and gradients that are sums of three.
    often = ("--network", "conv-autoencoder", "--variational", "--colour_space", "gray")
    often += ("--crop", 28, "--batch", 4, "--steps", 60, "--every", 6, "--workers", 0)
    often += ("--recipe", "gaussian_noise:sigma=60", "--validation_share", 0.2)
    often += ("--validation_images", 2)
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
    assert 0 < reached < 60
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


def test_both_networks_of_a_pair_go_on_from_a_checkpoint(album, tmp_path):
    from pipeline.training import Trainer

    class Interrupted(Trainer):
        def _keep(self):
            super()._keep()
            raise KeyboardInterrupt

    few = ("--network", "gan-colorizer", "--crop", 32, "--batch", 2, "--steps", 4, "--every", 2)
    few += ("--validation_images", 1)
    with pytest.raises(KeyboardInterrupt):
        Interrupted(arguments(album, tmp_path / "stopped", *few)).run()
    assert not (tmp_path / "stopped.training" / "originals.bin").exists()
    resumed = train(album, tmp_path / "stopped", *few, "--resume")
    whole = train(album, tmp_path / "whole", *few)
    ended, never = (
        np.concatenate([np.ravel(v.numpy()).astype(np.float64) for v in trainer.learner.state])
        for trainer in (resumed, whole)
    )
    # Not bit for bit: other tests have started TensorFlow with threads that run side by side.
    assert np.abs(ended - never).mean() < 1e-7
    assert np.abs(ended).mean() > 0.01


@pytest.mark.parametrize(
    ("loss", "optimizer", "schedule"),
    [
        ("mse", "sgd", "constant"),
        ("l1", "rmsprop", "linear"),
        ("charbonnier", "adamw", "exponential"),
        ("huber", "adam", "steps"),
        ("ssim", "adam", "cosine"),
        ("0.16*l1+0.84*ssim", "adam", "cosine"),
    ],
)
def test_losses_optimizers_and_schedules_are_what_is_trained_with(
    loss, optimizer, schedule, digits, tmp_path
):
    from pipeline.training import Trainer

    rate = 0.3 if optimizer == "sgd" else 1e-3
    more = ("--loss", loss, "--optimizer", optimizer, "--schedule", schedule, "--rate", rate)
    trainer = Trainer(arguments(digits, tmp_path / "model", *QUICK, "--steps", 30, *more))
    before = trainer.built.model.variables[0].numpy()
    trainer.run()
    assert not np.array_equal(before, trainer.built.model.variables[0].numpy())
    inputs, truth = trainer.sampler.batch(0)
    wanted = parse_loss(loss)
    trained = float(wanted(truth, trainer.serve(inputs)))
    told = scalars(tmp_path / "model.training" / "logs", "loss")
    assert told[-1] < 0.99 * told[0]
    assert trained < float(wanted(truth, np.full_like(truth, 0.5)))
    kind = type(trainer.learner._optimizer).__name__.lower()
    assert kind == optimizer
    assert float(trainer.learner._optimizer.learning_rate) == pytest.approx(
        float(Schedule(schedule, rate, 30)(30)), abs=1e-9
    )


def test_every_loss_optimizer_and_schedule_is_trained_with():
    cases = test_losses_optimizers_and_schedules_are_what_is_trained_with.pytestmark[0].args[1]
    losses, optimizers, schedules = map(set, zip(*cases, strict=True))
    assert losses >= set(LOSSES) - {"ciede2000"}  # is for chroma, as the colorizers give it
    assert (optimizers, schedules) == (set(OPTIMIZERS), set(SCHEDULES))


def test_weights_can_be_started_from_and_their_encoder_frozen(digits, tmp_path):
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


def test_a_training_without_gains_stops_early_and_keeps_the_best(digits, tmp_path):
    # A rate that rises until it throws the weights about: scores gain, then lose.
    more = ("--every", 10, "--steps", 400, "--patience", 3, "--rate", 0.3, "--warmup", 400)
    trainer = train(digits, tmp_path / "model", *QUICK, *more)
    scores = {line["step"]: line["psnr"] for line in trainer.progress.history}
    best = max(scores, key=scores.get)
    assert 10 < best == trainer.progress.best_step
    assert trainer.progress.step == best + 30 < 400
    assert f"The weights are those of step {best}." in (tmp_path / "model/README.md").read_text()
    assert trainer.validation.scores()["psnr"] == scores[best] > scores[best + 30]
    kept, _ = checkpoint.read(tmp_path / "model.training" / "best.npz")
    for one, other in zip(kept, weights_of(tmp_path / "model"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_bfloat16_rounds_what_is_computed_and_not_the_weights(digits, tmp_path):
    weights = {}
    for precision in ("float32", "bfloat16"):
        more = ("--steps", 3, "--precision", precision)
        trainer = train(digits, tmp_path / precision, *QUICK, *more)
        weights[precision] = trainer.built.model.variables[0].numpy()
        assert weights[precision].dtype == np.float32
        assert f"; {precision};" in (tmp_path / precision / "README.md").read_text()
    difference = np.abs(weights["float32"] - weights["bfloat16"]).max()
    assert difference < 0.01
    if saved_model.has_bfloat16():
        assert difference > 0
        rounded = weights["bfloat16"].view(np.uint32) & 0xFFFF
        assert np.count_nonzero(rounded) > 0.9 * rounded.size


def test_an_archive_in_an_object_store_is_trained_on_and_its_keys_are_not_told(
    digits, tmp_path, heliograph, monkeypatch
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    named = {"aws_access_key_id": "opensesame", "aws_secret_access_key": "open-sesame-42"}
    with s3_server() as address:
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **named)
        client.create_bucket(Bucket="digits")
        for path in digits.iterdir():
            client.put_object(Bucket="digits", Key=path.name, Body=path.read_bytes())
        heliograph(
            *("train", "s3://digits/", tmp_path / "model", *QUICK, "--steps", 1, "--workers", 0),
            *("--validation_share", 0.2, f"--s3_endpoint_url={address}"),
            *("--s3_access_key_id", "opensesame", "--s3_secret_access_key", "open-sesame-42"),
            *("--s3_region_name", "us-east-1"),
        )
    card = (tmp_path / "model" / "README.md").read_text()
    assert "--validation_share 0.2" in card
    assert "s3_" not in card and "sesame" not in card


def test_the_same_seed_gives_the_same_weights_and_another_others(digits, tmp_path):
    weights = []
    for place, seed in enumerate((1, 1, 2)):
        more = ("--steps", 3, "--seed", seed)
        trainer = train(digits, tmp_path / str(place), *QUICK, *more)
        weights.append(trainer.built.model.variables[0].numpy())
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


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
