"""Run the graph of a job: on the local runner with worker processes of our own, or on any other."""

import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
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
    SetupOptions,
    StandardOptions,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.runner import PipelineResult, PipelineRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from pipeline import dataflow, flink, graph, prism
from pipeline.job import JobCrashedError, JobError
from pipeline.ledger import Ledger
from pipeline.options import Job
from pipeline.worker import ONE_THREAD
from pipeline.workers import DIED, watched
from transforms import storage

log = logging.getLogger("heliograph")


def execute(job: Job, options: PipelineOptions, references: Sequence[str]) -> None:
    """Run the graph of a job to its end, on the batch specs that are referred to.

    Raises:
        JobError: the runner cannot do what is asked.
        JobCrashedError: it stopped before its end.
    """
    remote = REMOTE.get(options.view_as(StandardOptions).runner)
    with _begun(job, options, references) as result:
        if remote is not None:
            remote.wait(result, job.output, options)
        else:
            result.wait_until_finish()
        _say_retries(result)


def submit(job: Job, options: PipelineOptions, references: Sequence[str]) -> str:
    """Hand the graph of a job over to a cluster; give the id that the cluster knows it by.

    Raises:
        JobCrashedError: it did not take it.
    """
    remote = REMOTE[options.view_as(StandardOptions).runner]
    with _begun(job, options, references) as result:
        return remote.accepted(result, job.output, options)


@contextmanager
def _begun(
    job: Job, options: PipelineOptions, references: Sequence[str]
) -> Iterator[PipelineResult]:
    """Begin to run the graph of a job; what its runner needs of this machine ends with this."""
    name = options.view_as(StandardOptions).runner
    options.view_as(DirectOptions).direct_num_workers = job.workers
    remote = REMOTE.get(name)
    if remote is not None:
        remote.submit_as(job.output, options)
    with _started(name, options, Ledger(job.output)) as runner:
        pipeline = beam.Pipeline(runner=runner, options=options)
        graph.build(pipeline, job, references)
        yield pipeline.run()


LOCAL = (None, "DirectRunner", "FnApiRunner")
# Clusters, on which a run goes on when its driver is gone: a job can be left to them, and they are
# asked what has become of it.
REMOTE: Mapping[str | None, ModuleType] = {"FlinkRunner": flink, "DataflowRunner": dataflow}
# What makes sure of a runner, and starts what it needs; of one that is not here, Beam does.
_OTHERS: Mapping[str | None, ModuleType] = {**REMOTE, "PrismRunner": prism}


def prepare(job: Job, options: PipelineOptions) -> Job:
    """Make sure that the runner that was asked for can run a job, and tell the job how many
    workers it has there.

    Raises:
        JobError: it cannot, and what to do.
    """
    name = options.view_as(StandardOptions).runner
    models = str(job.facts.get("model")).split(",")
    if name not in LOCAL and any(model.endswith(".keras") for model in models):
        raise JobError(f"{name} cannot run a .keras file: export it to a SavedModel first")
    if job.no_wait and name not in REMOTE:
        raise JobError(
            f"--no_wait leaves a job to a cluster, and {name or 'the local runner'} ends with this "
            f"command: say --runner {' or '.join(map(str, REMOTE))}, or wait"
        )
    return _OTHERS[name].prepare(job, options) if name in _OTHERS else job


def _started(
    name: str | None, options: PipelineOptions, ledger: Ledger
) -> AbstractContextManager[PipelineRunner | str | None]:
    if name in LOCAL:
        return _local_runner(options, ledger)
    return _OTHERS[name].started(options) if name in _OTHERS else _other_runner(name)


def end_earlier(ledger: Ledger) -> None:
    """Cancel what an earlier run of a job has left running on a cluster: its driver was killed."""
    left = ledger.remote()
    if left is not None:
        REMOTE[left["runner"]].end_earlier(ledger)


def _say_retries(result: PipelineResult) -> None:
    """Say how often workers had to try again, which only their own logs tell."""
    wanted = MetricsFilter().with_namespace("heliograph").with_name(storage.RETRIES_NAME)
    try:
        counters = result.metrics().query(wanted)["counters"]
    except Exception as error:  # of any type; the job has ended, and this decides nothing of it
        log.warning("how often storage was tried again is not known: %s", error)
        return
    retries = sum(counter.committed or 0 for counter in counters)
    if retries:
        log.warning("storage: %d calls were tried again", retries)


_WORKER = str(Path(__file__).resolve().with_name("worker.py"))


@contextmanager
def _other_runner(name: str) -> Iterator[str]:
    try:
        yield name
    except Exception as error:  # of any type: a runner hands on what it was told by workers
        raise JobCrashedError(_obituary(error, "")) from error


@contextmanager
def _local_runner(options: PipelineOptions, ledger: Ledger) -> Iterator[FnApiRunner]:
    """Give the FnApiRunner with worker processes whose chatter goes to a file until they crash."""
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    folder = Path(tempfile.mkdtemp(prefix="heliograph-"))
    chatter = folder / "workers.log"
    # Beam's own multi_processing mode breaks on a path of Python with a space in it. exec leaves
    # no shell between the runner and its worker, so that $$ is the worker's number. -P and a path,
    # not -m: a folder called pipeline where the job is started is not ours.
    command = (
        f"touch {shlex.quote(str(folder))}/$$; exec {shlex.quote(sys.executable)} -P "
        f"{shlex.quote(_WORKER)} {shlex.quote(str(folder))} {os.getpid()} "
        f"2>>{shlex.quote(str(chatter))}"
    )

    def obituary(error: BaseException) -> str:
        said = chatter.read_text(errors="replace") if chatter.exists() else ""
        log.debug("the workers said:\n%s", said)
        return _obituary(error, said)

    try:
        with watched(folder, obituary, ledger):
            yield FnApiRunner(
                SubprocessSDKEnvironment.from_command_string(command),
                provision_info=_provision(options),
            )
    except Exception as error:
        raise JobCrashedError(obituary(error)) from error
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
    if plugins := options.view_as(SetupOptions).beam_plugins:
        info.pipeline_options.update({"beam:option:beam_plugins:v1": plugins})
    return ExtendedProvisionInfo(info)


# How the lines begin that Beam's and TensorFlow's loggers write on any good day.
_CHATTER = ("INFO:", "WARNING:", "I0000", "W0000", "E0000")

# What Beam puts around the words of an error of ours.
_OURS = re.compile(r"^(?:(?:transforms|models|pipeline)(?:\.\w+)+: )+")
_WHERE = re.compile(r" \[while running '[^']*'\]$")


def _obituary(error: BaseException, said: str) -> str:
    """Say why a job stopped, with the last of what its workers said that is not chatter."""
    # Beam hands on a worker's exception as its whole traceback, in text; the last line says what.
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    reason = _WHERE.sub("", lines[-1].strip()) if lines else type(error).__name__
    if (ours := _OURS.sub("", reason)) != reason:
        said, reason = "", ours
    if DIED in reason:
        reason = "a worker process was killed, perhaps for want of memory (see --workers)"
    words = [line for line in said.splitlines() if line and not line.startswith(_CHATTER)]
    last = "\nlast words of the workers:\n" + "\n".join(words[-5:]) if words else ""
    return f"the job stopped before its end: {reason}{last}\nrun the same command again to redo it"
