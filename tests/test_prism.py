"""What Prism needs: tests/prism/ has whole jobs on it."""

import json

import pytest
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
)

from pipeline import job, prism


def test_no_prism(tmp_path):
    options = PipelineOptions(["--prism_location", str(tmp_path / "none")])
    with pytest.raises(job.JobError, match=r"is no program: build Prism .*--prism_location"):
        prism.prepare(None, options)


def test_workers_are_processes_of_ours(tmp_path):
    binary = tmp_path / "prism"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    options = PipelineOptions(["--prism_location", str(binary)])
    prism.prepare(None, options)
    assert options.view_as(PrismRunnerOptions).prism_location == str(binary)
    portable = options.view_as(PortableOptions)
    assert portable.environment_type == "PROCESS"
    assert json.loads(portable.environment_config)["command"].endswith("cluster_worker.py")


def test_a_prism_that_does_not_start_says_why(tmp_path):
    binary = tmp_path / "prism"
    binary.write_text("#!/bin/sh\necho it is Tuesday >&2\nexit 1\n")
    binary.chmod(0o755)
    options = PipelineOptions(["--prism_location", str(binary)])
    with pytest.raises(job.JobCrashedError, match="it is Tuesday"), prism.started(options):
        pass
    assert options.view_as(PortableOptions).job_endpoint is None
