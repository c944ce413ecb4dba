"""Beam's job servers, which take a job to a runner: processes of our own while the job runs."""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from apache_beam.options.pipeline_options import JobServerOptions, PipelineOptions, PortableOptions
from apache_beam.utils.subprocess_server import pick_port

from pipeline import process
from pipeline.job import JobCrashedError

log = logging.getLogger("heliograph")

_STARTS_WITHIN = 300.0  # seconds
_ENDS_WITHIN = 10.0


@contextmanager
def serving(
    options: PipelineOptions, command: Callable[[int, Path], Sequence[str]]
) -> Iterator[None]:
    """Run a job server while the block runs, and let Beam's runners use it; where the options name
    one that runs already, that.

    Not by Beam's own classes, which end the server at the first Ctrl-C; nor in the session of this
    terminal, which would send it one.

    Args:
        options: of the job.
        command: gives the words that start one, from the port to serve at and a folder of its own.

    Raises:
        JobCrashedError: it does not start, or the block fails.
    """
    portable = options.view_as(PortableOptions)
    if portable.job_endpoint is not None:
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="heliograph-"))
    said = folder / "server.log"
    (port,) = pick_port(options.view_as(JobServerOptions).job_port or None)
    try:
        with _running(command(port, folder), said) as running:
            portable.job_endpoint = f"localhost:{port}"
            _await(running, portable.job_endpoint, said)
            yield
    except (RuntimeError, grpc.RpcError) as error:
        if isinstance(error, JobCrashedError):
            raise
        log.debug("the job server said:\n%s", said.read_text(errors="replace"))
        raise JobCrashedError(obituary(str(error))) from error
    finally:
        portable.job_endpoint = None
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(command: Sequence[str], said: Path) -> Iterator[subprocess.Popen]:
    with said.open("wb") as log_file:
        running = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
            preexec_fn=process.die_with_parent,
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _await(running: subprocess.Popen, endpoint: str, said: Path) -> None:
    ends = time.monotonic() + _STARTS_WITHIN
    with grpc.insecure_channel(endpoint) as channel:
        ready = grpc.channel_ready_future(channel)
        while True:
            try:
                ready.result(timeout=0.2)
                return
            except grpc.FutureTimeoutError:
                if running.poll() is None and time.monotonic() < ends:
                    continue
            words = "\n".join(said.read_text(errors="replace").splitlines()[-5:])
            raise JobCrashedError(f"Beam's job server did not start; it said:\n{words}")


def process_here() -> Mapping[str, Any]:
    """Tell how a runner on this machine starts a worker, as the environment type PROCESS has it:
    with this Python and this code.
    """
    command = Path(__file__).with_name("cluster_worker.py")
    # Its first line asks for python3, which is to be this one.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return {"command": str(command), "env": {"PATH": path}}


# How the lines of a Java trace begin that say what went wrong.
_CAUSE = re.compile(r"^(?:Caused by: )?((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception)\b.*)$")


def obituary(trace: str) -> str:
    """Say why a job stopped, by Java's trace, and what to do."""
    return f"the job stopped before its end: {cause(trace)}\nrun the same command again to redo it"


def cause(trace: str) -> str:
    """Give the last cause in Java's trace, or in the worker's inside it."""
    causes = [found[1] for line in trace.splitlines() if (found := _CAUSE.match(line.strip()))]
    return causes[-1] if causes else one_line(trace)


def one_line(said: object) -> str:
    """Give the beginning of what something says of itself, as one line."""
    return " ".join(str(said).split())[:300] or type(said).__name__
