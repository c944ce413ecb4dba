"""What a job can be told: the command-line options in one table, and the job they make.

Neither Beam nor TensorFlow is imported here, so that `heliograph --help` answers at once.
"""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transforms.metadata.provenance import SOURCE_TYPES

if TYPE_CHECKING:
    from models.contract import Contract
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
        contract: what the model takes and gives; None without one.
        model_sha256: the digest that workers must find.
        trust_model: whether a model is loaded that could do more than compute.
        masks: folder of the masks of missing pixels, for a model that takes them.
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
    contract: "Contract | None"
    model_sha256: str | None
    trust_model: bool
    masks: str | None
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
    def metavar(self) -> str:
        """What stands for its value in the help."""
        return self.settings.get("metavar", "")

    @property
    def name(self) -> str:
        """The attribute that holds its value."""
        return self.flags[0].removeprefix("--")


_ALL = ("restore", "evaluate", "degrade", "convert", "demo")
_ARCHIVES = ("restore", "evaluate", "degrade", "convert")
_MODEL = ("restore", "evaluate", "demo")
_CONTRACT = (*_MODEL, "models")
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


# Most images of a batch, where nothing is said: of files, and of an output's shard.
BATCH_SIZE, SHARD_SIZE = 32, 1000

FOLDER = "folder"
CONTAINERS = (FOLDER, "tfrecord", "webdataset", "parquet")


def _said(*flags: str, **settings: Any) -> Option:
    """Make an option that says a field of the model's contract: see `models.description`."""
    return _option(*flags, commands=_CONTRACT, **settings)


# The options that say fields of a contract, by the field.
SAID: Mapping[str, Option] = {
    "signature": _said("--signature", metavar="KEY", help="which signature of the model to serve"),
    "image_input": _said("--image_input", metavar="NAME", help="input that takes the image"),
    "image_output": _said("--image_output", metavar="NAME", help="output that is the image"),
    "mask_input": _said(
        "--mask_input", metavar="NAME", help="input that takes the mask of missing pixels"
    ),
    "mask_values": _said(
        "--mask_values",
        metavar="THERE,MISSING",
        help="values in the mask of a pixel that is there and of one that is missing, such as 0,1",
    ),
    "mask_fill": _said(
        "--mask_fill",
        metavar="VALUE",
        help="value of missing pixels in the image, in its range (default: as they are)",
    ),
    "layout": _said(
        "--layout", choices=("NHWC", "NCHW"), help="whether the model's channels are last or first"
    ),
    "input_space": _said(
        "--input_space", choices=("RGB", "gray", "L"), help="colour space of the model's input"
    ),
    "output_space": _said(
        "--output_space", choices=("RGB", "gray", "ab"), help="colour space of its output"
    ),
    "input_range": _said(
        "--input_range",
        metavar="LOW,HIGH",
        help="values of black and white in the input, such as 0,1 or -1,1 or 0,255; of L, of L* 0 "
        "and 100",
    ),
    "output_range": _said(
        "--output_range",
        metavar="LOW,HIGH",
        help="the same of the output; of ab, of -128 and 128, such as -128/110,128/110",
    ),
    "output": _said(
        "--output_kind",
        choices=("image", "residual"),
        help="whether the output is the image, or what to add to the input",
    ),
    "keep_luminance": _said(
        "--keep_luminance",
        action="store_true",
        default=None,
        help="take only the chroma of an RGB output, and join it to the master's own luminance",
    ),
    "size": _said(
        "--size", metavar="HEIGHT,WIDTH", help="the only size that the model takes, if it has one"
    ),
    "multiple": _said(
        "--size_multiple",
        type=whole(1),
        metavar="N",
        help="height and width must be multiples of this",
    ),
    "margin": _said(
        "--margin",
        type=whole(0),
        metavar="PIXELS",
        help="how far from an edge of its input the model's output is untouched by it (default: 0)",
    ),
}

SHARDS = ("tfrecord", "webdataset", "zip", "parquet", "idx", "npy", "npz", "list")

OPTIONS: tuple[Option, ...] = (
    _option(
        "--model",
        commands=_MODEL,
        default="denoise",
        help="name of a shipped model (see `heliograph models`), or path of a SavedModel or .keras "
        "file (default: %(default)s)",
    ),
    _option(
        "--contract",
        commands=_CONTRACT,
        metavar="FILE",
        help="JSON file that says what a SavedModel takes and gives, if it does not say so itself",
    ),
    *SAID.values(),
    _option(
        "--trust_model",
        commands=_CONTRACT,
        action="store_true",
        help="load a SavedModel even if its graph could touch files, the network or Python",
    ),
    _option(
        "--masks",
        commands=("restore",),
        metavar="FOLDER",
        help="masks of missing pixels, white on black, under the names of the masters, for a model "
        "that takes them",
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
        choices=("jpeg", "png", "tiff", "jp2", "webp", "gif", "bmp", "ppm"),
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
        "--digital_source_type",
        commands=("restore",),
        choices=SOURCE_TYPES,
        metavar="TERM",
        help="what derivatives call themselves in their metadata, a term of IPTC's vocabulary "
        "(default: algorithmicallyEnhanced, or compositeWithTrainedAlgorithmicMedia where colours "
        "or missing pixels are invented)",
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
        type=whole(0),
        metavar="N",
        help="processes that make crops; 0 makes them between the steps (default: one per core)",
    ),
    *(
        Option(option.flags, frozenset((TRAIN,)), option.settings)
        for option in OPTIONS
        if option.name in ("format", "image_column", "name_column", "max_pixels")
    ),
)


def said_of_contract(args: argparse.Namespace) -> dict[str, Any]:
    """Give what was said of the model's contract, by its fields; None is not said."""
    return {field: getattr(args, option.name, None) for field, option in SAID.items()}


def with_pairs_joined(argv: Iterable[str]) -> list[str]:
    """Join `--input_range -1,1` to `--input_range=-1,1`: argparse takes -1,1 for an option."""
    pairs = {flag for option in SAID.values() for flag in option.flags if "," in option.metavar}
    result: list[str] = []
    for argument in argv:
        if result and result[-1] in pairs:
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Add a command's own options to its parser."""
    said = parser.add_argument_group(
        "what a SavedModel takes and gives",
        "where neither its contract nor its signature tells, or to say otherwise;\n"
        "`heliograph models PATH` takes the same and prints what comes of it",
    )
    for option in (*OPTIONS, *TRAINING_OPTIONS):
        if command in option.commands:
            group = said if option in SAID.values() else parser
            group.add_argument(*option.flags, dest=option.name, **option.settings)
