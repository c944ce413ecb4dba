"""Run the graph of a job: on the local runner with worker processes of our own, or on any other."""

import logging
import os
import shlex
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

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
from apache_beam.runners.runner import PipelineResult, PipelineRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipeline import flink, graph, prism
from pipeline.job import ExitCode, JobCrashedError, JobError
from pipeline.options import Job
from pipeline.worker import ONE_THREAD
from transforms import storage

log = logging.getLogger("heliograph")


def execute(job: Job, options: PipelineOptions, references: Sequence[str]) -> None:
    """Run the graph of a job to its end, on the batch specs that are referred to.

    Raises:
        JobError: the runner cannot do what is asked.
        JobCrashedError: it stopped before its end.
    """
    name = options.view_as(StandardOptions).runner
    options.view_as(DirectOptions).direct_num_workers = job.workers
    if name == FLINK:
        flink.submit_as(job.output, options)
    with _started(name, options) as runner:
        pipeline = beam.Pipeline(runner=runner, options=options)
        graph.build(pipeline, job, references)
        result = pipeline.run()
        if name == FLINK:
            flink.wait(result, job.output, options)
        else:
            result.wait_until_finish()
        _say_retries(result)


LOCAL = (None, "DirectRunner", "FnApiRunner")
FLINK = "FlinkRunner"
# What makes sure of a runner, and starts what it needs; of one that is not here, Beam does.
_OTHERS: Mapping[str | None, ModuleType] = {FLINK: flink, "PrismRunner": prism}


def prepare(job: Job, options: PipelineOptions) -> Job:
    """Make sure that the runner that was asked for can run a job, and tell the job how many
    workers it has there.

    Raises:
        JobError: it cannot, and what to do.
    """
    name = options.view_as(StandardOptions).runner
    if name not in LOCAL and str(job.facts.get("model")).endswith(".keras"):
        raise JobError(f"{name} cannot run a .keras file: export it to a SavedModel first")
    return _OTHERS[name].prepare(job, options) if name in _OTHERS else job


def _started(
    name: str | None, options: PipelineOptions
) -> AbstractContextManager[PipelineRunner | str | None]:
    if name in LOCAL:
        return _local_runner(options)
    return _OTHERS[name].started(options) if name in _OTHERS else nullcontext(name)


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
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    folder = Path(tempfile.mkdtemp(prefix="heliograph-"))
    chatter = folder / "workers.log"
    # Beam's own multi_processing mode breaks on a path of Python with a space in it. exec leaves
    # no shell between the runner and its worker, so that $$ is the worker's number.
    command = (
        f"touch {shlex.quote(str(folder))}/$$; exec {shlex.quote(sys.executable)} "
        f"-m pipeline.worker {shlex.quote(str(folder))} 2>>{shlex.quote(str(chatter))}"
    )
    try:
        with _watched(folder, chatter):
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


# Seconds that a job has to end by itself once a worker has died.
_GRACE = 20.0


@contextmanager
def _watched(folder: Path, chatter: Path) -> Iterator[None]:
    """End this process if a worker dies and the runner does not notice: it waits for ever for one
    that was killed between two of its calls.

    Args:
        folder: holds a file for each worker that has not ended by itself, named by its number.
        chatter: what they have said.
    """
    ended = threading.Event()

    def watch() -> None:
        died = None
        while not ended.wait(1.0):
            if not any(_is_gone(path) for path in folder.glob("[0-9]*")):
                continue
            died = died or time.monotonic()
            if time.monotonic() - died > _GRACE:
                said = chatter.read_text(errors="replace") if chatter.exists() else ""
                log.error("%s", _obituary(RuntimeError("Channel closed"), said))
                shutil.rmtree(folder, ignore_errors=True)
                os._exit(ExitCode.CRASHED)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _is_gone(path: Path) -> bool:
    try:
        os.kill(int(path.name), 0)
    except ProcessLookupError:
        return path.exists()
    return False


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
