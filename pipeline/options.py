"""What a job can be told: the command-line options in one table, and the job they make.

Neither Beam nor TensorFlow is imported here, so that `heliograph --help` answers at once.
"""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from models.saved_model import Precision
    from pipeline.plan import Budget
    from transforms.recipe import Recipe
    from transforms.shards import Columns
    from transforms.write import Encoding

Command = Literal["restore", "evaluate", "degrade"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job, checked and ready to run: see `pipeline.job.make_job`.

    Attributes:
        command: what kind of job it is.
        archives: folders, globs and earlier outputs.
        output: the output folder.
        model: a zoo name or the path of a SavedModel; None to restore nothing.
        contract: a contract file for a model without one inside.
        precision: float32 or bfloat16, decided once for all workers.
        threads: TensorFlow threads of each worker process.
        tile: side in pixels of the largest window that the model is run on.
        recipe: what to damage the images by, if anything.
        seed: of the recipe's randomness.
        encoding: of the derivatives.
        shards: the kind of shards that all files are taken for; None to go by their names.
        columns: of shards that hold images and names.
        max_pixels: an image of more is a failure.
        budget: of one batch.
        workers: worker processes of the local runner.
        overwrite: whether another job's results in `output` may be replaced.
        digest: of everything that decides what the derivatives are.
        facts: what enters the digest, for people to read.
    """

    command: Command
    archives: tuple[str, ...]
    output: str
    model: str | None
    contract: str | None
    precision: "Precision"
    threads: int
    tile: int
    recipe: "Recipe | None"
    seed: int
    encoding: "Encoding"
    shards: str | None
    columns: "Columns"
    max_pixels: int
    budget: "Budget"
    workers: int
    overwrite: bool
    digest: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Option:
    """One command-line option: its flags, what argparse needs to know, and its commands."""

    flags: tuple[str, ...]
    commands: frozenset[str]
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The attribute that holds its value."""
        return self.flags[0].removeprefix("--")


_ALL = ("restore", "evaluate", "degrade", "demo")
_MODEL = ("restore", "evaluate", "demo")
RECIPE_COMMANDS = ("evaluate", "degrade")


def _option(*flags: str, commands: Iterable[str] = _ALL, **settings: Any) -> Option:
    return Option(flags, frozenset(commands), settings)


def whole(least: int, most: int | None = None):
    """Make an argparse type for whole numbers in a range, ends included."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            to = f" to {most}" if most is not None else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}{to}")
        return value

    return parse


def number(least: float, most: float = float("inf")):
    """Make an argparse type for numbers in a range, ends included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most or value == float("inf"):
            to = f" to {most:g}" if most < float("inf") else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g}{to}")
        return value

    return parse


SHARDS = ("tfrecord", "webdataset", "zip", "parquet", "idx", "npy", "npz", "list")

OPTIONS: tuple[Option, ...] = (
    _option(
        "--model",
        commands=_MODEL,
        default="denoise",
        help="name of a shipped model (see `heliograph models`) or path of a SavedModel "
        "(default: %(default)s)",
    ),
    _option(
        "--contract",
        commands=_MODEL,
        metavar="FILE",
        help="JSON file that says what a SavedModel takes and gives, if it does not say so itself",
    ),
    _option(
        "--precision",
        commands=_MODEL,
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="arithmetic of the model; auto is bfloat16 where this processor has it, "
        "else float32 (default: %(default)s)",
    ),
    _option(
        "--tile",
        commands=_MODEL,
        type=whole(32),
        default=640,
        metavar="PIXELS",
        help="largest window that the model is run on; larger images are tiled "
        "(default: %(default)s)",
    ),
    _option(
        "--threads",
        commands=_MODEL,
        type=whole(1),
        default=1,
        help="TensorFlow threads of each worker process (default: %(default)s)",
    ),
    _option(
        "--recipe",
        commands=RECIPE_COMMANDS,
        required=True,
        help="damage to apply: name[:severity or key=value,...] joined by +, such as "
        "jpeg:3+gaussian_noise:sigma=25 (see --list)",
    ),
    _option(
        "--seed",
        commands=(*RECIPE_COMMANDS, "demo"),
        type=whole(0),
        default=0,
        help="of all randomness of the recipe (default: %(default)s)",
    ),
    _option(
        "--image_format",
        commands=("restore", "evaluate", "degrade"),
        choices=("jpeg", "png", "tiff", "webp", "gif", "bmp", "ppm"),
        help="format of the derivatives (default: each master's own)",
    ),
    _option(
        "--quality",
        commands=("restore", "evaluate", "degrade"),
        type=whole(1, 100),
        default=95,
        help="of JPEG and lossy WebP derivatives, 1-100 (default: %(default)s)",
    ),
    _option(
        "--format",
        choices=SHARDS,
        help="take all files of ARCHIVE for shards of this kind (default: by their names)",
    ),
    _option(
        "--image_column",
        metavar="NAME",
        help="feature of TFRecord Examples, or column of Parquet files, that holds the image "
        "(default: image/encoded, or the column that is known or looks like it)",
    ),
    _option(
        "--name_column",
        metavar="NAME",
        help="feature or column that holds the image's name (default: image/filename, or the "
        "column that looks like it)",
    ),
    _option(
        "--max_pixels",
        type=whole(1),
        default=250_000_000,
        metavar="N",
        help="an image of more pixels is a failure, not a memory error (default: %(default)s)",
    ),
    _option(
        "--batch_size",
        type=whole(1),
        default=32,
        metavar="N",
        help="most images of one batch, the unit of work (default: %(default)s)",
    ),
    _option(
        "--batch_bytes",
        type=whole(1),
        default=128 << 20,
        metavar="N",
        help="most bytes of one batch's files (default: %(default)s)",
    ),
    _option(
        "--batch_pixels",
        type=whole(1),
        default=32_000_000,
        metavar="N",
        help="most pixels of one batch (default: %(default)s)",
    ),
    _option(
        "--workers",
        type=whole(1),
        metavar="N",
        help="worker processes on this machine (default: one per core)",
    ),
    _option(
        "--overwrite",
        action="store_true",
        help="replace another job's results in OUTPUT; without it they are an error",
    ),
)

TRAIN = "train"

# The names in the tables of networks, optimizers and schedules, which are Keras' to import.
NETWORKS = (
    "dense-autoencoder",
    "conv-autoencoder",
    "unet",
    "cnn-colorizer",
    "autoencoder-colorizer",
    "gan-colorizer",
)
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SCHEDULES = ("constant", "cosine", "linear", "exponential", "steps")


def _training(*flags: str, **settings: Any) -> Option:
    return _option(*flags, commands=(TRAIN,), **settings)


# Of `train`, which runs no pipeline: some mean the same as a job's, few of Beam's are among them.
TRAINING_OPTIONS: tuple[Option, ...] = (
    _training("--network", required=True, choices=NETWORKS, help="what to train"),
    _training(
        "--recipe",
        help="damage to learn to undo, as of `heliograph evaluate` (default: the network's own)",
    ),
    _training(
        "--colour_space",
        choices=("RGB", "gray", "Lab", "YUV", "HSV"),
        help="RGB or gray, of the images of conv-autoencoder and unet; Lab, YUV, HSV or RGB, of "
        "what autoencoder-colorizer predicts (default: the first)",
    ),
    _training(
        "--variational", action="store_true", help="conv-autoencoder: encode to a distribution"
    ),
    _training(
        "--classification",
        action="store_true",
        help="cnn-colorizer: predict classes of colours, rare ones weighted up, instead of a mean",
    ),
    _training(
        "--masked", action="store_true", help="unet: take the mask of missing pixels as well"
    ),
    _training(
        "--initial",
        metavar="PATH",
        help="SavedModel of an earlier training, or its best.npz, to start from",
    ),
    _training(
        "--freeze_encoder",
        action="store_true",
        help="leave the layers up to the network's bottleneck as they are",
    ),
    _training("--steps", type=whole(1), default=10_000, metavar="N", help="(default: %(default)s)"),
    _training(
        "--batch",
        type=whole(1),
        default=32,
        metavar="N",
        help="crops a step (default: %(default)s)",
    ),
    _training(
        "--crop",
        type=whole(8),
        metavar="PIXELS",
        help="side of the crops (default: the network's own)",
    ),
    _training(
        "--augment",
        metavar="NAMES",
        help="how crops are varied: zoom, flip, turn and tone, joined by commas, or none "
        "(default: the network's own)",
    ),
    _training(
        "--loss",
        help="mse, l1, charbonnier, huber, ssim or ciede2000, or several with weights, such as "
        "0.16*l1+0.84*ssim (default: the network's own)",
    ),
    _training("--optimizer", choices=OPTIMIZERS, default="adam", help="(default: %(default)s)"),
    _training(
        "--rate",
        type=number(0),
        default=1e-3,
        help="highest learning rate (default: %(default)s)",
    ),
    _training(
        "--schedule",
        choices=SCHEDULES,
        default="cosine",
        help="how the rate goes down (default: %(default)s)",
    ),
    _training(
        "--warmup",
        type=whole(0),
        default=0,
        metavar="STEPS",
        help="in which the rate rises to its highest (default: %(default)s)",
    ),
    _training("--weight_decay", type=number(0, 1), default=0.0, help="(default: %(default)s)"),
    _training(
        "--clip_norm",
        type=number(0),
        metavar="NORM",
        help="shorten gradients of a greater norm to it (default: none is)",
    ),
    _training(
        "--every",
        type=whole(1),
        default=500,
        metavar="STEPS",
        help="between validations, each with a checkpoint (default: %(default)s)",
    ),
    _training(
        "--patience",
        type=whole(0),
        default=0,
        metavar="N",
        help="stop after as many validations without a gain, and keep the best weights "
        "(default: 0, go on to the end and keep the last)",
    ),
    _training(
        "--validation_share",
        type=number(0, 0.9),
        default=0.05,
        metavar="SHARE",
        help="of the images that are held out, by their keys (default: %(default)s)",
    ),
    _training(
        "--validation_images",
        type=whole(1),
        default=64,
        metavar="N",
        help="most of them that are scored (default: %(default)s)",
    ),
    _training(
        "--seed",
        type=whole(0),
        default=0,
        help="of weights, crops, damage and all else (default: %(default)s)",
    ),
    _training(
        "--work",
        metavar="FOLDER",
        help="for checkpoints, TensorBoard's logs and decoded images (default: "
        "SAVEDMODEL.training)",
    ),
    _training("--resume", action="store_true", help="go on from the last checkpoint"),
    _training(
        "--overwrite", action="store_true", help="replace SAVEDMODEL and an earlier training of it"
    ),
    _training(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="arithmetic: weights are float32 in any case (default: %(default)s)",
    ),
    _training(
        "--threads",
        type=whole(1),
        metavar="N",
        help="of TensorFlow, for the network (default: one per core)",
    ),
    _training(
        "--workers",
        type=whole(1),
        metavar="N",
        help="processes that make crops (default: one per core)",
    ),
    *(
        Option(option.flags, frozenset((TRAIN,)), option.settings)
        for option in OPTIONS
        if option.name in ("format", "image_column", "name_column", "max_pixels")
    ),
)


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Add a command's own options to its parser."""
    for option in (*OPTIONS, *TRAINING_OPTIONS):
        if command in option.commands:
            parser.add_argument(*option.flags, dest=option.name, **option.settings)
