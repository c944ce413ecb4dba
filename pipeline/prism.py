"""Prism, Beam's own portable runner for one machine, written in Go."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apache_beam
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
)
from apache_beam.runners.portability.prism_runner import PrismRunner

from pipeline.job import JobError
from pipeline.job_server import process_here, serving
from pipeline.options import Job


def prepare(job: Job, options: PipelineOptions) -> Job:
    """Make sure that Prism is here, and say how its workers are started, where nobody has.

    Raises:
        JobError: it is not, and what to do.
    """
    prism, portable = options.view_as(PrismRunnerOptions), options.view_as(PortableOptions)
    if portable.job_endpoint is None:
        said = prism.prism_location or "prism"
        found = shutil.which(said)
        if found is None:
            raise JobError(
                f"{said} is no program: build Prism (go install "
                f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{apache_beam.__version__}), and say "
                "where it is with --prism_location"
            )
        prism.prism_location = found
    if portable.environment_type is None:
        portable.environment_type = "PROCESS"
        portable.environment_config = json.dumps(process_here())
    return job


@contextmanager
def started(options: PipelineOptions) -> Iterator[PrismRunner]:
    """Run Prism while the block runs; give the runner that uses it.

    Raises:
        JobCrashedError: it does not start, or the job fails.
    """
    prism = options.view_as(PrismRunnerOptions)

    def command(port: int, folder: Path) -> list[str]:
        level = ("--log_level", prism.prism_log_level)
        return [prism.prism_location, "--job_port", str(port), "--serve_http=false", *level]

    with serving(options, command):
        yield PrismRunner()
