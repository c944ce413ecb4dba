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

Command = Literal["restore", "evaluate", "degrade", "convert"]


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
        container: what they are written into, a key of `shards.writers.WRITERS`; None for a folder.
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
    container: str | None
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


_ALL = ("restore", "evaluate", "degrade", "convert", "demo")
_ARCHIVES = ("restore", "evaluate", "degrade", "convert")
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


# Most images of a batch, where nothing is said: of files, and of an output's shard.
BATCH_SIZE, SHARD_SIZE = 32, 1000

FOLDER = "folder"
CONTAINERS = (FOLDER, "tfrecord", "webdataset", "parquet")
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
        "--output_format",
        commands=_ARCHIVES,
        choices=CONTAINERS,
        default=FOLDER,
        help="what to write images into: files below OUTPUT/images, or a shard for each batch "
        "below OUTPUT/shards (default: %(default)s)",
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
        commands=("restore", "evaluate", "degrade", "demo"),
        type=whole(1),
        default=250_000_000,
        metavar="N",
        help="an image of more pixels is a failure, not a memory error (default: %(default)s)",
    ),
    _option(
        "--batch_size",
        type=whole(1),
        metavar="N",
        help="most images of one batch, the unit of work and an output shard (default: "
        f"{BATCH_SIZE}, or {SHARD_SIZE} where shards are written)",
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
        commands=("restore", "evaluate", "degrade", "demo"),
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


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Add a command's own options to its parser."""
    for option in OPTIONS:
        if command in option.commands:
            parser.add_argument(*option.flags, dest=option.name, **option.settings)
