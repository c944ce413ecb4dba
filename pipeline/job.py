"""Run a job: check what was asked, plan it, run the graph, and say how it ended."""

import argparse
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import (
    AzureOptions,
    DirectOptions,
    GoogleCloudOptions,
    HadoopFileSystemOptions,
    PipelineOptions,
    S3Options,
    StandardOptions,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from models.contract import ContractError
from models.description import flag
from models.saved_model import resolve_precision
from pipeline import graph
from pipeline.archive import ArchiveError, archive_root
from pipeline.ledger import FAILED, QUARANTINED, STATUSES, Ledger, LedgerError
from pipeline.options import BATCH_SIZE, FOLDER, SHARD_SIZE, Job
from pipeline.plan import Budget, Plan, make_plan
from pipeline.progress import Progress
from pipeline.provenance import tool_of
from pipeline.serving import Served, serve
from transforms import storage
from transforms.codec import DEFAULT_MAX_PIXELS, DEFAULT_QUALITY
from transforms.metadata import Tool
from transforms.recipe import RecipeError, parse_recipe
from transforms.restore import check_tile
from transforms.shards import Columns
from transforms.write import FIELDS, FOLDERS, SHARED, Encoding

log = logging.getLogger("heliograph")

# Raised whenever the same job would write other bytes than before.
ALGORITHM = 2


class ExitCode(IntEnum):
    """How a job ended, for the shell and the scheduler."""

    OK = 0
    CRASHED = 1
    USAGE = 2
    INCOMPLETE = 3
    INTERRUPTED = 130


class JobError(ValueError):
    """A job that cannot be run as it was asked for, and what to do: nothing has been done yet."""


class JobCrashedError(RuntimeError):
    """A job that did not come to its end, and what is known of it."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a job ended: its summary and exit code."""

    summary: dict[str, Any]
    code: ExitCode


def make_job(args: argparse.Namespace) -> Job:
    """Check what was asked for and make a job of it.

    Raises:
        JobError: an unknown model, recipe or option value, or an output that would touch masters.
    """
    try:
        recipe = parse_recipe(args.recipe) if getattr(args, "recipe", None) else None
        model = getattr(args, "model", None)
        image_format = getattr(args, "image_format", None)
        encoding = Encoding(
            image_format.upper() if image_format else None,
            getattr(args, "quality", DEFAULT_QUALITY),
            untouched=args.command == "convert",
        )
        output_format = getattr(args, "output_format", FOLDER)
        container = None if output_format == FOLDER else output_format
        budget = Budget(
            args.batch_size or (SHARD_SIZE if container else BATCH_SIZE),
            args.batch_bytes,
            getattr(args, "batch_pixels", sys.maxsize),  # `convert` decodes none
        )
        precision = resolve_precision(getattr(args, "precision", "auto"))
        max_pixels = getattr(args, "max_pixels", DEFAULT_MAX_PIXELS)
        columns = Columns(args.image_column, args.name_column)
        facts: dict[str, Any] = {
            "command": args.command,
            "algorithm": ALGORITHM,
            "recipe": None if recipe is None else recipe.canonical,
            "seed": getattr(args, "seed", 0) if recipe else None,
            "image_format": encoding.format,
            "quality": encoding.quality,
            "max_pixels": max_pixels,
            "columns": dataclasses.asdict(columns),
            "output_format": output_format,
        }
        if container:
            facts["budget"] = dataclasses.asdict(budget)  # which cuts the output's shards
        served = None if model is None else serve(model, args)
        if served is not None:
            facts |= _model_facts(served, args) | {"precision": precision}
        tool = _tool(args, served, facts)
        if tool is not None:
            encoding = dataclasses.replace(encoding, tool=tool)
            facts["provenance"] = dataclasses.asdict(tool)
    except (RecipeError, ContractError, storage.StorageError) as error:
        raise JobError(str(error)) from error
    output = os.path.abspath(args.output) if storage.is_local(args.output) else args.output
    for archive in args.archive:
        _keep_apart(archive, output)
    return Job(
        command=args.command,
        archives=tuple(args.archive),
        output=output,
        model=served.model if served else None,
        contract=served.description.contract if served else None,
        model_sha256=served.sha256 if served else None,
        trust_model=getattr(args, "trust_model", False),
        masks=getattr(args, "masks", None),
        precision=precision,
        threads=getattr(args, "threads", 1),
        tile=getattr(args, "tile", 0),
        recipe=recipe,
        seed=getattr(args, "seed", 0),
        encoding=encoding,
        container=container,
        shards=args.format,
        columns=columns,
        max_pixels=max_pixels,
        budget=budget,
        workers=args.workers or _cores(),
        overwrite=args.overwrite,
        digest=_digest(facts),
        facts=facts,
    )


def _tool(args: argparse.Namespace, served: Served | None, facts: dict[str, Any]) -> Tool | None:
    """Say what makes the derivatives, in words that are the same wherever the model is kept."""
    contract = served.description.contract if served else None
    told = {
        "model": contract.name if contract else None,
        "model_sha256": served.given_sha256 if served else None,
        "precision": facts.get("precision"),
        "seed": facts["seed"],
    }
    return tool_of(args, contract, {name: str(v) for name, v in told.items() if v is not None})


def _digest(facts: dict[str, Any]) -> str:
    """Give the SHA-256 of what decides the derivatives, which a model's folder name does not."""
    deciding = {name: fact for name, fact in facts.items() if name != "model"}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _model_facts(served: Served, args: argparse.Namespace) -> dict[str, Any]:
    """Check how a model is to be run; give what the job's digest is to know of it."""
    contract = served.description.contract
    if assumed := served.description.assumed:
        values = ((flag(field), getattr(contract, field)) for field in assumed)
        taken = (f"no {name}" if value is None else f"{name}={value}" for name, value in values)
        log.info("%s has no contract; assumed: %s", contract.name, ", ".join(taken))
    try:
        check_tile(contract, args.tile)
    except ValueError as error:
        raise ContractError(
            f"--tile {args.tile} is too small for {contract.name}: {error}"
        ) from error
    masks = getattr(args, "masks", None)
    if masks is not None and contract.mask_input is None:
        raise ContractError(f"--masks is for models that take masks; {contract.name} takes none")
    if args.command == "restore" and masks is None and contract.mask_input is not None:
        raise ContractError(
            f"{contract.name} takes the mask of missing pixels with each image: name a folder of "
            "them with --masks"
        )
    return {
        "model": served.given,
        "model_sha256": served.given_sha256,
        "contract": json.loads(contract.to_json()),
        "tile": args.tile,
        "masks": masks,
    }


def _keep_apart(archive: str, output: str) -> None:
    """Refuse an output among the masters, and masters inside the output."""
    root = archive_root(archive)
    masters, derivatives = (
        (os.path.realpath(path) if storage.is_local(path) else path).rstrip("/").split("/")
        for path in (root, output)
    )
    shared = min(len(masters), len(derivatives))
    if masters[:shared] != derivatives[:shared]:
        return
    if len(masters) == len(derivatives):
        relation = "is the archive itself"
    elif len(masters) < len(derivatives):
        relation = "lies inside the archive"
    else:
        relation = "holds the archive"
    raise JobError(
        f"the output {output} {relation} ({archive}); masters are never written to: "
        "choose a folder outside it"
    )


def run(job: Job, options: PipelineOptions) -> Result:
    """Plan a job and run it to its end.

    Raises:
        JobError: the archive is missing or empty, or the output is not ours to write to.
        JobCrashedError: a worker died, or records are unaccounted for.
    """
    ledger = Ledger(job.output)
    try:
        replacing = _may_write(ledger, job)
        plan = make_plan(
            job.archives,
            job.budget,
            job.workers,
            job.shards,
            job.columns,
            sharded=job.container is not None,
        )
        _check_names(plan, job.encoding)
        _check_places(plan, job.output)
    except (ArchiveError, LedgerError, storage.StorageError) as error:
        raise JobError(str(error)) from error
    _say_left_out(plan)
    try:
        # Which images are in which shard depends on all of them, so shards are made anew.
        for folder in FOLDERS if replacing else SHARED if job.container else (FIELDS,):
            storage.delete_folder(storage.join(job.output, folder))
        ledger.begin(
            {
                "digest": job.digest,
                "job": {**job.facts, "archives": list(job.archives)},
                "planned": plan.records,
                "batches": plan.batches,
                "left_out": plan.left_out,
                "versions": versions(),
            }
        )
        references = ledger.write_plan(plan.specs)
    except storage.StorageError as error:
        raise JobError(f"{error}; choose an output folder that can be written to") from error
    with Progress(ledger, plan.records):
        _execute(job, options, references)
    ledger.finish()
    summary = json.loads(storage.read(storage.join(job.output, "summary.json")))
    accounted = sum(summary[status] for status in STATUSES)
    if summary["planned"] != accounted:
        raise JobCrashedError(
            f"{summary['planned']} images were planned but {accounted} are accounted for in "
            f"{job.output}; run the same command again"
        )
    clean = summary[FAILED] == summary[QUARANTINED] == 0
    return Result(summary, ExitCode.OK if clean else ExitCode.INCOMPLETE)


def versions() -> dict[str, str]:
    """Name the versions of what decides the result."""
    packages = (
        "heliograph",
        "apache-beam",
        "tensorflow",
        "numpy",
        "pillow",
        "opencv-python-headless",
    )
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _may_write(ledger: Ledger, job: Job) -> bool:
    """Make sure that what is in the output may be written over; say whether it must go first."""
    before = ledger.job()
    if before is None:
        if storage.is_local(job.output):
            taken = os.path.isdir(job.output) and bool(os.listdir(job.output))
        else:
            taken = any(True for _ in storage.list_folder(job.output))
        if taken:
            raise LedgerError(
                f"the output {job.output} is not empty and no earlier job of ours: "
                "choose a new or empty folder"
            )
        return False
    if before.get("digest") == job.digest:
        return False  # the same job writes the same bytes to the same places
    a_demo_again = before.get("job", {}).get("command") == job.command == "demo"
    if not job.overwrite and not a_demo_again:
        raise LedgerError(
            f"the output {job.output} holds the results of another job "
            "(other model, recipe, seed or encoding): choose another folder, or say --overwrite"
        )
    return True


def _check_names(plan: Plan, encoding: Encoding) -> None:
    """Refuse a plan in which two masters' derivatives would have one name."""
    taken: dict[str, str] = {}
    for spec in plan.specs:
        for source in spec.sources:
            name = encoding.name(source)
            if name in taken:
                raise ArchiveError(
                    f"{taken[name]} and {source.key} would both be written as {name}: "
                    "choose another --image_format"
                )
            taken[name] = source.key


def _check_places(plan: Plan, output: str) -> None:
    """Refuse masters inside the output, where a list may lead."""
    inside = output.rstrip("/") + "/"
    for spec in plan.specs:
        for source in spec.sources:
            if source.path.startswith(inside):
                raise ArchiveError(
                    f"{source.path} lies inside the output {output}; masters are never written "
                    "to: choose a folder outside it"
                )


def _say_left_out(plan: Plan) -> None:
    if plan.left_out:
        listed = ", ".join(f"{count} {kind}" for kind, count in plan.left_out.items())
        log.warning("left out, being no images we read: %s", listed)


def _execute(job: Job, options: PipelineOptions, references: Sequence[str]) -> None:
    name = options.view_as(StandardOptions).runner
    local = name in (None, "DirectRunner", "FnApiRunner")
    if not local and str(job.facts.get("model")).endswith(".keras"):
        raise JobError(f"{name} cannot run a .keras file: export it to a SavedModel first")
    options.view_as(DirectOptions).direct_num_workers = job.workers
    with _local_runner(options) if local else nullcontext(name) as runner:
        pipeline = beam.Pipeline(runner=runner, options=options)
        graph.build(pipeline, job, references)
        result = pipeline.run()
        result.wait_until_finish()
        _say_retries(result)


def _say_retries(result: PipelineResult) -> None:
    """Say how often workers had to try again, which only their own logs tell."""
    wanted = MetricsFilter().with_namespace("heliograph").with_name(storage.RETRIES_NAME)
    counters = result.metrics().query(wanted)["counters"]
    retries = sum(counter.committed or 0 for counter in counters)
    if retries:
        log.warning("storage: %d calls were tried again", retries)


@contextmanager
def _local_runner(options: PipelineOptions) -> Iterator[FnApiRunner]:
    """Give the FnApiRunner with worker processes whose chatter goes to a file until they crash."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for library in ("OPENCV_FOR_THREADS_NUM", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        # A worker has one core; libraries that think otherwise spend it on waiting for each other.
        os.environ.setdefault(library, "1")
    folder = Path(tempfile.mkdtemp(prefix="heliograph-"))
    chatter = folder / "workers.log"
    # Beam's own multi_processing mode breaks on a path of Python with a space in it. exec leaves
    # no shell between the runner and its worker.
    command = (
        f"exec {shlex.quote(sys.executable)} -m apache_beam.runners.worker.sdk_worker_main "
        f"2>>{shlex.quote(str(chatter))}"
    )
    try:
        yield FnApiRunner(
            SubprocessSDKEnvironment.from_command_string(command),
            provision_info=_provision(options),
        )
    except Exception as error:
        said = chatter.read_text(errors="replace") if chatter.exists() else ""
        log.debug("the workers said:\n%s", said)
        raise JobCrashedError(_obituary(error, said)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Beam's options that storage goes by.
_OF_STORAGE = (S3Options, GoogleCloudOptions, AzureOptions, HadoopFileSystemOptions)


def _provision(options: PipelineOptions) -> ExtendedProvisionInfo:
    """Hand the options of storage on to local workers, which Beam does on every other runner."""
    info = beam_provision_api_pb2.ProvisionInfo(retrieval_token="none")  # noqa: S106
    for kind in _OF_STORAGE:
        chosen = options.view_as(kind).get_all_options(drop_default=True, current_only=True)
        for name, value in chosen.items():
            # A number would arrive as a float, which options do not parse.
            told = str(value) if type(value) is int else value
            info.pipeline_options.update({f"beam:option:{name}:v1": told})
    return ExtendedProvisionInfo(info)


# How the lines begin that Beam's and TensorFlow's loggers write on any good day.
_CHATTER = ("INFO:", "WARNING:", "I0000", "W0000", "E0000")


def _obituary(error: BaseException, said: str) -> str:
    """Say why a job stopped, with the last of what its workers said that is not chatter."""
    # Beam hands on a worker's exception as its whole traceback, in text; the last line says what.
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    reason = lines[-1].strip() if lines else type(error).__name__
    if "Channel closed" in reason:
        reason = "a worker process was killed, perhaps for want of memory (see --workers)"
    words = [line for line in said.splitlines() if line and not line.startswith(_CHATTER)]
    last = "\nlast words of the workers:\n" + "\n".join(words[-5:]) if words else ""
    return f"the job stopped before its end: {reason}{last}\nrun the same command again to redo it"
