"""What a job can be told: the command-line options in one table, and the job they make.

Neither Beam nor TensorFlow is imported here, so that `heliograph --help` answers at once.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.contract_options import CONTRACT, MODEL, SAID
from pipeline.gate_options import GATE_OPTIONS
from pipeline.option import Option, option, some_of, web_address, whole
from transforms.metadata.provenance import SOURCE_TYPES

if TYPE_CHECKING:
    from models.contract import Contract
    from models.saved_model import Precision
    from pipeline.gates import Gates
    from pipeline.matrix import Matrix
    from pipeline.packages import Packaging
    from pipeline.plan import Budget
    from transforms.bounds import Bounds
    from transforms.metrics.perceptual import Lpips
    from transforms.recipe import Recipe
    from transforms.shards import Columns
    from transforms.sign import Signing
    from transforms.write import Encoding

VERIFY, REPAIR, REPORT = "verify", "repair", "report"
# Records of each kind (best, worst, …) that a report shows as pictures, where nothing is said.
PICTURES = 6

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
        matrix: models and recipes, of a job that has several; then there is none of the others.
        seed: of the recipe's randomness.
        guards: thresholds of the guards that restored images are held to, by name.
        metrics: names of the scores to take.
        lpips: a model for LPIPS, to take that as well.
        encoding: of the derivatives.
        container: what they are written into, a key of `shards.writers.WRITERS`; None for a folder.
        shards: the kind of shards that all files are taken for; None to go by their names.
        columns: of shards that hold images and names.
        max_pixels: an image of more is a failure.
        bounds: how far the archives are gone into.
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
        no_wait: whether to hand the run over to a cluster and wait no longer than that takes.
        gates: what the results must reach, which decides none of them.
        record_timeout: seconds that an image may take; 0 for any.
        pictures: how many records of each kind the report shows as pictures.
        digest: of everything that decides what the derivatives are.
        facts: what enters the digest, for people to read.
        said: the words of its command, but for Beam's options, which may hold credentials.
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
    bounds: "Bounds"
    budget: "Budget"
    workers: int
    overwrite: bool
    operator: str | None
    verify_masters: bool
    packaging: "Packaging"
    signing: "Signing | None"
    digest: str
    facts: Mapping[str, Any]
    gates: "Gates"
    retry: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    limit: int | None = None
    dry_run: bool = False
    no_wait: bool = False
    pictures: int = PICTURES
    said: tuple[str, ...] = ()
    record_timeout: float = 0
    matrix: "Matrix | None" = None

    @property
    def cells(self) -> Sequence[str | None]:
        """The names of its cells; of one that has no matrix, None alone."""
        return [cell.name for cell in self.matrix.cells] if self.matrix else [None]


_ALL = ("restore", "evaluate", "degrade", "convert", "demo")
_ARCHIVES = ("restore", "evaluate", "degrade", "convert")
RECIPE_COMMANDS = ("evaluate", "degrade")


def _option(*flags: str, commands: Iterable[str] = _ALL, **settings: Any) -> Option:
    return option(*flags, commands=commands, **settings)


# Most images of a batch, where nothing is said: of files, and of an output's shard.
BATCH_SIZE, SHARD_SIZE = 32, 1000

FOLDER = "folder"
CONTAINERS = (FOLDER, "tfrecord", "webdataset", "parquet")


PACKAGES = ("bagit", "iiif", "premis")
# What `python -m http.server` serves the folder by in which it is started.
IIIF_BASE = "http://localhost:8000"

SHARDS = ("tfrecord", "webdataset", "zip", "parquet", "idx", "npy", "npz", "list")

OPTIONS: tuple[Option, ...] = (
    _option(
        "--model",
        commands=MODEL,
        default="denoise",
        help="name of a shipped model (see `heliograph models`), or path of a SavedModel or .keras "
        "file; to evaluate several, join them by commas (default: %(default)s)",
    ),
    _option(
        "--contract",
        commands=CONTRACT,
        metavar="FILE",
        help="JSON file that says what a SavedModel takes and gives, if it does not say so itself",
    ),
    *SAID.values(),
    _option(
        "--trust_model",
        commands=CONTRACT,
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
        commands=MODEL,
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="arithmetic of the model; auto is bfloat16 where this processor has it, "
        "else float32 (default: %(default)s)",
    ),
    _option(
        "--tile",
        commands=MODEL,
        type=whole(32),
        default=640,
        metavar="PIXELS",
        help="largest window that the model is run on; larger images are tiled "
        "(default: %(default)s)",
    ),
    _option(
        "--threads",
        commands=MODEL,
        type=whole(1),
        default=1,
        help="TensorFlow threads of each worker process (default: %(default)s)",
    ),
    _option(
        "--recipe",
        commands=RECIPE_COMMANDS,
        required=True,
        help="damage to apply: name[:severity or key=value,...] joined by +, such as "
        "jpeg:3+gaussian_noise:sigma=25 (see --list); to evaluate several, join them by commas, or "
        "give a range of severities, such as 'gaussian_noise:1-5, jpeg:1-5'",
    ),
    _option(
        "--no_images",
        commands=("evaluate",),
        action="store_true",
        help="score restored images, and write neither them nor masks",
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
        commands=MODEL,
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
        "--max_bytes",
        type=whole(1),
        default=4 << 30,
        metavar="N",
        help="an encoded image of more bytes, a file or in a shard, is a failure (default: "
        "%(default)s)",
    ),
    _option(
        "--max_members",
        type=whole(1),
        default=2_000_000,
        metavar="N",
        help="of a shard of more images, those beyond are one failure (default: %(default)s)",
    ),
    _option(
        "--follow_symlinks",
        action="store_true",
        help="follow symbolic links of ARCHIVE that lead out of it, or to folders; without it they "
        "are left out and counted",
    ),
    _option(
        "--record_timeout",
        type=whole(0),
        default=3600,
        metavar="SECONDS",
        help="an image that takes longer is a failure, whatever it hangs in; 0 for no limit "
        "(default: %(default)s)",
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
        commands=(VERIFY, REPAIR),
        metavar="FILE",
        help="write what was found to a file as JSON (verify without it: to standard output)",
    ),
    _option(
        "--pictures",
        commands=("restore", "evaluate", "degrade", "demo", REPORT),
        type=whole(0, 100),
        default=PICTURES,
        metavar="N",
        help="images that report.html shows of each kind: the best, the worst, some at random and "
        "those held back; 0 for none (default: %(default)s)",
    ),
    _option(
        "--to",
        commands=(REPORT,),
        metavar="FILE",
        help="write the page there (default: OUTPUT/report.html, or comparison.html in this folder "
        "where there are several)",
    ),
    _option(
        "--parallel",
        commands=(VERIFY, REPAIR),
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
    *GATE_OPTIONS,
    _option(
        "--metrics_file",
        commands=_ARCHIVES,
        metavar="FILE.prom",
        help="write how the job ended and what is in OUTPUT for Prometheus, into the folder of "
        "node_exporter's textfile collector; also when it fails (see docs/monitoring.md)",
    ),
    _option(
        "--dry_run",
        commands=(*_ARCHIVES, REPAIR),
        action="store_true",
        help="tell what is done and what is left, and do nothing",
    ),
    _option(
        "--no_wait",
        commands=_ARCHIVES,
        action="store_true",
        help="submit the job to the cluster of --runner, print its id there, and end; the same "
        "command again ends with exit code 75 while it runs, and then collects it (see "
        "docs/schedules.md)",
    ),
    _option(
        "--delete_strays",
        commands=(REPAIR,),
        action="store_true",
        help="delete files that no commit record knows, and those that are not what was written, "
        "where they would be set aside in OUTPUT/aside",
    ),
    _option(
        "--overwrite",
        action="store_true",
        help="replace another job's results in OUTPUT; without it they stay, and those of this job "
        "go to a generation of their own, OUTPUT/generations/DIGEST",
    ),
)


def add_options(
    parser: argparse.ArgumentParser, command: str, options: Iterable[Option] = OPTIONS
) -> None:
    """Add a command's own options, of a table of them, to its parser."""
    said = parser.add_argument_group(
        "what a SavedModel takes and gives",
        "where neither its contract nor its signature tells, or to say otherwise;\n"
        "`heliograph models PATH` takes the same and prints what comes of it",
    )
    for one in options:
        if command in one.commands:
            group = said if one in SAID.values() else parser
            group.add_argument(*one.flags, dest=one.name, **one.settings)
