"""What a job can be told: the command-line options in one table, and the job they make.

Neither Beam nor TensorFlow is imported here, so that `heliograph --help` answers at once.
"""

import argparse
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transforms.metadata.provenance import SOURCE_TYPES

if TYPE_CHECKING:
    from models.contract import Contract
    from models.saved_model import Precision
    from pipeline.packages import Packaging
    from pipeline.plan import Budget
    from transforms.metrics.perceptual import Lpips
    from transforms.recipe import Recipe
    from transforms.shards import Columns
    from transforms.sign import Signing
    from transforms.write import Encoding

VERIFY = "verify"

# What --retry can be told beside statuses of records.
DAMAGED = "damaged"

Command = Literal["restore", "evaluate", "degrade", "convert"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job, checked and ready to run: see `pipeline.job.make_job`.

    Attributes:
        command: what kind of job it is.
        archives: folders, globs and earlier outputs.
        output: the folder for the results: that which was named, or the payload of a bag in it.
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
        guards: thresholds of the guards that restored images are held to, by name.
        metrics: names of the scores to take.
        lpips: a model for LPIPS, to take that as well.
        encoding: of the derivatives.
        container: what they are written into, a key of `shards.writers.WRITERS`; None for a folder.
        shards: the kind of shards that all files are taken for; None to go by their names.
        columns: of shards that hold images and names.
        max_pixels: an image of more is a failure.
        budget: of one batch.
        workers: worker processes of the local runner.
        operator: who runs it, for the ledger.
        verify_masters: whether all masters are hashed again in the end.
        overwrite: whether another job's results in `output` may be replaced.
        packaging: which packages to make of the output, and how.
        signing: how derivatives are signed with content credentials; None if they are not.
        retry: statuses whose records are done again.
        only: keys, or globs of keys, that the run is confined to; none for all.
        limit: most images of the run.
        dry_run: whether to tell the plan alone.
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
    guards: Mapping[str, float]
    metrics: tuple[str, ...]
    lpips: "Lpips | None"
    encoding: "Encoding"
    container: str | None
    shards: str | None
    columns: "Columns"
    max_pixels: int
    budget: "Budget"
    workers: int
    overwrite: bool
    operator: str | None
    verify_masters: bool
    packaging: "Packaging"
    signing: "Signing | None"
    digest: str
    facts: Mapping[str, Any]
    retry: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    limit: int | None = None
    dry_run: bool = False


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


def some_of(*choices: str):
    """Make an argparse type for some of several names, joined by commas."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(text.split(",")))
        if unknown := [name for name in names if name not in choices]:
            raise argparse.ArgumentTypeError(
                f"{unknown[0]!r} is none of {', '.join(choices)}; join several by commas"
            )
        return names

    return parse


def web_address(text: str) -> str:
    """Parse an address that others can be made of by adding to it; without a slash at its end."""
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address such as https://archive.example/restored"
        )
    return text.rstrip("/")


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

PACKAGES = ("bagit", "iiif", "premis")
# What `python -m http.server` serves the folder by in which it is started.
IIIF_BASE = "http://localhost:8000"

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
        "--guard",
        commands=_MODEL,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="threshold beyond which a restored image is quarantined, or NAME=none; repeated or "
        "joined by commas; none alone switches all off. The names are form, finite, unchanged, "
        "changed, clipping, luminance, gray and seams (see docs/guards.md)",
    ),
    _option(
        "--metrics",
        commands=("restore", "evaluate", "degrade"),
        default="default",
        metavar="NAMES",
        help="scores to take, joined by commas: names of docs/metrics.md, or default, colour, all "
        "or none (default: %(default)s)",
    ),
    _option(
        "--lpips",
        commands=RECIPE_COMMANDS,
        metavar="PATH",
        help="SavedModel that computes LPIPS, to take that as well: two float32 images "
        "(1, height, width, 3) from 0 to 1 in, one number out",
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
        "--masters",
        commands=(VERIFY,),
        action="store_true",
        help="hash the masters as well, wherever they are",
    ),
    _option(
        "--deep",
        commands=(VERIFY,),
        action="store_true",
        help="decode every derivative and mask as well, and look into every shard",
    ),
    _option(
        "--json",
        commands=(VERIFY,),
        metavar="FILE",
        help="write what was found to a file, not to standard output",
    ),
    _option(
        "--parallel",
        commands=(VERIFY,),
        type=whole(1),
        default=8,
        metavar="N",
        help="files that are read at a time (default: %(default)s)",
    ),
    _option(
        "--verify_masters",
        action="store_true",
        help="read all masters once more in the end; if one is not what it was when it was "
        "restored, the job fails with exit code 4 and names it",
    ),
    _option(
        "--operator",
        metavar="NAME",
        help="who runs the job: a person or an agent, for the ledger and for packages",
    ),
    _option(
        "--package",
        commands=_ARCHIVES,
        type=some_of(*PACKAGES),
        default=(),
        metavar="NAMES",
        help="make OUTPUT a BagIt bag (bagit), add IIIF manifests of masters and derivatives "
        "(iiif), add PREMIS events (premis), or several of these, joined by commas",
    ),
    _option(
        "--iiif_base",
        commands=_ARCHIVES,
        type=web_address,
        metavar="URL",
        help=f"address at which OUTPUT is served, for --package iiif (default: {IIIF_BASE})",
    ),
    _option(
        "--iiif_masters",
        commands=_ARCHIVES,
        type=web_address,
        metavar="URL",
        help="address below which masters are served by their paths in the archive (default: "
        "masters below that of --iiif_base)",
    ),
    _option(
        "--sign",
        commands=("restore",),
        nargs=2,
        metavar=("CERT", "KEY"),
        help="sign derivatives with C2PA content credentials, by a certificate and its private "
        "key, two files in PEM",
    ),
    _option(
        "--retry",
        commands=_ARCHIVES,
        action="append",
        choices=("failed", "quarantined", DAMAGED),
        help="do images again that failed, were quarantined, or whose derivatives are not what was "
        "written (see verify); may be given several times",
    ),
    _option(
        "--only",
        commands=_ARCHIVES,
        action="append",
        metavar="KEY",
        help="do just this image, or those that a glob matches; may be given several times",
    ),
    _option(
        "--limit",
        commands=_ARCHIVES,
        type=whole(1),
        metavar="N",
        help="do at most so many of the images that are left",
    ),
    _option(
        "--dry_run",
        commands=_ARCHIVES,
        action="store_true",
        help="tell what is done and what is left, and do nothing",
    ),
    _option(
        "--overwrite",
        action="store_true",
        help="replace another job's results in OUTPUT; without it they are an error",
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


def add_options(
    parser: argparse.ArgumentParser, command: str, options: Iterable[Option] = OPTIONS
) -> None:
    """Add a command's own options, of a table of them, to its parser."""
    said = parser.add_argument_group(
        "what a SavedModel takes and gives",
        "where neither its contract nor its signature tells, or to say otherwise;\n"
        "`heliograph models PATH` takes the same and prints what comes of it",
    )
    for option in options:
        if command in option.commands:
            group = said if option in SAID.values() else parser
            group.add_argument(*option.flags, dest=option.name, **option.settings)
