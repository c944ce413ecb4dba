"""What a job needs on Flink, without a cluster: tests/flink/ has the whole jobs on a real one."""

import contextlib
import json
import os
import subprocess
import sys
import zipfile
from concurrent import futures
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PortableOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from apache_beam.runners.portability.portable_runner import PortableRunner
from google.protobuf import json_format

from pipeline import beam_options, cli, cluster_worker, flink, graph, job, job_server, runner
from pipeline.beam_options import FlinkTuning
from pipeline.ledger import Ledger


@pytest.fixture
def java(tmp_path):
    return script(tmp_path / "java", 'echo openjdk version \\"17.0.15\\" 2025-04-15 >&2')


def script(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def jar(tmp_path):
    return jar_of(tmp_path / "server.jar", "1.19.0")


def jar_of(path, version):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(flink._STATED, f"artifactId=flink-core\nversion={version}\n")
    return str(path)


def prepare(tmp_path, *said, archive=None):
    """Make a job of a command line and prepare it; give both."""
    parser, commands = cli._parser()
    own = beam_options.add_to(commands["convert"])
    words = ("convert", archive or tmp_path / "archive", tmp_path / "out", *said)
    args = parser.parse_args([*map(str, words), "--runner", "FlinkRunner"])
    options = beam_options.make(args, own)
    return runner.prepare(job.make_job(args), options), options


@pytest.fixture
def line(rest, java, jar):
    """The options of a job that can be run."""
    return (
        *("--flink_master", rest.master, "--flink_job_server_jar", jar),
        *("--job_server_java_launcher", java),
    )


def test_what_nobody_has_said_is_fitted_to_the_cluster(tmp_path, line, rest):
    ready, options = prepare(tmp_path, *line)
    chosen = options.view_as(FlinkRunnerOptions)
    assert chosen.flink_master == f"http://{rest.master}"
    assert chosen.flink_version == "1.19"
    assert chosen.parallelism == ready.workers == 3  # those that are free
    portable = options.view_as(PortableOptions)
    assert portable.sdk_worker_parallelism == 2  # a process for each slot of a TaskManager
    assert portable.environment_type == "PROCESS"
    told = json.loads(portable.environment_config)
    assert os.access(told["command"], os.X_OK)
    first = told["env"]["PATH"].split(os.pathsep)[0]
    assert Path(first, "python3").samefile(sys.executable)
    assert options.view_as(FlinkTuning).number_of_execution_retries == 3


def test_what_is_said_is_left_as_it_is(tmp_path, line, rest):
    rest.config.append({"key": "restart-strategy.type", "value": "failure-rate"})
    pool = ("--environment_type", "EXTERNAL", "--environment_config", "here:50000")
    ready, options = prepare(
        tmp_path, *line, *pool, "--parallelism", 2, "--sdk_worker_parallelism", 4
    )
    portable = options.view_as(PortableOptions)
    assert ready.workers == 2
    assert portable.environment_config == "here:50000"
    assert int(portable.sdk_worker_parallelism) == 4
    assert options.view_as(FlinkTuning).number_of_execution_retries == -1  # the cluster says


def test_workers_elsewhere_are_in_a_pool_beside_each_taskmanager(tmp_path, line):
    options = prepare(tmp_path, *line)[1]
    options.view_as(FlinkRunnerOptions).flink_master = "https://flink.example:8081"
    options.view_as(PortableOptions).environment_type = None
    flink._choose_environment(options, 1)
    portable = options.view_as(PortableOptions)
    assert (portable.environment_type, portable.environment_config) == (
        "EXTERNAL",
        "localhost:50000",
    )


def without(line, name, *instead):
    place = line.index(name)
    return (*line[:place], *instead, *line[place + 2 :])


@pytest.mark.parametrize(
    ("change", "reason", "remedy"),
    [
        ({"flink-version": "1.17.2"}, "is Flink 1.17.2", "1.19, 1.20"),
        ({"slots-total": 0, "taskmanagers": 0}, "has no TaskManager", "--parallelism"),
    ],
)
def test_a_cluster_that_does_not_fit(tmp_path, line, rest, change, reason, remedy):
    rest.overview |= change
    with pytest.raises(job.JobError, match=reason) as raised:
        prepare(tmp_path, *line)
    assert remedy in str(raised.value)


def test_more_slots_than_there_are(tmp_path, line):
    with pytest.raises(job.JobError, match="has 4 slots, fewer than --parallelism 5"):
        prepare(tmp_path, *line, "--parallelism", 5)


def test_slots_that_are_started_on_demand(tmp_path, line, rest):
    rest.overview |= {"slots-total": 0, "slots-available": 0, "taskmanagers": 0}
    assert prepare(tmp_path, *line, "--parallelism", 5)[0].workers == 5


def test_no_cluster(tmp_path, line):
    with pytest.raises(job.JobError, match=r"no Flink cluster answers at .*:1 .*refu"):
        prepare(tmp_path, *without(line, "--flink_master", "--flink_master", "127.0.0.1:1"))


def test_something_else_at_its_address(tmp_path, line, rest):
    rest.overview.clear()
    with pytest.raises(job.JobError, match="no Flink cluster answers"):
        prepare(tmp_path, *line)


def test_no_java(tmp_path, line):
    missing = without(line, "--job_server_java_launcher", "--job_server_java_launcher", "/no/java")
    with pytest.raises(job.JobError, match=r"/no/java does not run: install Java 11 or newer"):
        prepare(tmp_path, *missing)


def test_java_of_long_ago(tmp_path, line):
    old = script(tmp_path / "java8", 'echo java version \\"1.8.0_392\\" >&2')
    with pytest.raises(job.JobError, match="a newer Java than 8"):
        prepare(tmp_path, *without(line, "--job_server_java_launcher"), *_java(old))


def _java(path):
    return ("--job_server_java_launcher", path)


def test_no_job_server(tmp_path, line):
    gone = without(line, "--flink_job_server_jar", "--flink_job_server_jar", tmp_path / "gone.jar")
    with pytest.raises(job.JobError, match=r"is not to be had .*gone\.jar") as raised:
        prepare(tmp_path, *gone)
    assert "cluster.py fetch" in str(raised.value)


def test_a_job_server_that_is_none(tmp_path, line, jar):
    Path(jar).write_text("not a jar")
    with pytest.raises(job.JobError, match="is no job server"):
        prepare(tmp_path, *line)


def test_a_job_server_for_another_flink(tmp_path, line, jar):
    jar_of(jar, "1.20.1")
    with pytest.raises(job.JobError, match=r"is of Flink 1\.20, and the cluster of 1\.19"):
        prepare(tmp_path, *line)


def test_it_is_wrong_configuration_and_nothing_is_done(tmp_path, archive):
    out = tmp_path / "out"
    command = (sys.executable, "-m", "heliograph", "convert", archive, out)
    done = subprocess.run(
        [*map(str, command), "--runner", "FlinkRunner", "--flink_master", "127.0.0.1:1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "python deploy/flink/cluster.py start" in done.stderr
    assert not out.exists()


def test_what_an_earlier_run_left_on_a_cluster_is_ended(tmp_path, rest):
    ledger = Ledger(str(tmp_path))
    flink.end_earlier(ledger)  # nothing is known of any
    rest.jobs = [
        {"jid": "a", "name": "heliograph-1", "state": "RUNNING"},
        {"jid": "b", "name": "heliograph-1", "state": "FAILED"},
        {"jid": "c", "name": "somebody's", "state": "RUNNING"},
    ]
    ledger.write_remote({"master": f"http://{rest.master}", "name": "heliograph-1"})
    flink.end_earlier(ledger)
    assert rest.cancelled == ["a"]
    assert ledger.remote() is None


def test_an_earlier_run_on_a_cluster_that_is_gone_holds_nobody_up(tmp_path, caplog):
    ledger = Ledger(str(tmp_path))
    ledger.write_remote({"master": "http://127.0.0.1:1", "name": "heliograph-1"})
    flink.end_earlier(ledger)
    assert "does not answer" in caplog.text
    assert ledger.remote() is None


TRACE = """\
Pipeline job_1 failed in state FAILED: org.apache.flink.client.program.ProgramInvocationException: \
Job failed (JobID: 7c1)
	at org.apache.flink.client.deployment.ClusterClientJobClientAdapter.x(Adapter.java:130)
Caused by: org.apache.flink.runtime.client.JobExecutionException: Job execution failed.
	... 1 more
Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 3: Traceback
  File "ledger.py", line 9, in process
    raise OSError(28, "No space left on device")
OSError: [Errno 28] No space left on device [while running 'Commit']
	at java.base/java.util.concurrent.CompletableFuture.reportGet(CompletableFuture.java:396)
"""


def test_why_a_job_stopped_is_told_by_the_last_cause():
    said = job_server.obituary(TRACE)
    assert "its end: OSError: [Errno 28] No space left on device [while running 'Commit']" in said
    assert "run the same command again" in said


def test_pixels_never_cross_a_shuffle(tmp_path, archive, line):
    ready, options = prepare(tmp_path, *line, archive=archive)
    pipeline = beam.Pipeline(runner=PortableRunner(), options=options)
    graph.build(pipeline, ready, ["0 1"])
    proto = PortableRunner._optimize_pipeline(pipeline.to_runner_api(), options)
    shuffles = {
        common_urns.composites.RESHUFFLE.urn,
        common_urns.primitives.GROUP_BY_KEY.urn,
    }
    crossed = {
        name
        for transform in proto.components.transforms.values()
        if transform.spec.urn in shuffles
        for name in transform.inputs.values()
    }
    assert crossed
    producers = {
        output: transform.unique_name.split("/")[0]
        for transform in proto.components.transforms.values()
        for output in transform.outputs.values()
        if not transform.subtransforms
    }
    # What is shuffled comes from before pixels are read, or from after they are written.
    assert {producers[name].split("_")[0] for name in crossed} <= {"Plan", "Reshuffle", "Summarise"}


class Provision(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
    def __init__(self):
        self.asked = []

    def GetProvisionInfo(self, request, context):  # noqa: N802  as the protocol calls it
        self.asked.append(dict(context.invocation_metadata())["worker_id"])
        info = beam_provision_api_pb2.ProvisionInfo(
            control_endpoint=endpoints_pb2.ApiServiceDescriptor(url="localhost:1"),
            logging_endpoint=endpoints_pb2.ApiServiceDescriptor(url="localhost:2"),
            runner_capabilities=["a", "b"],
        )
        json_format.ParseDict({"beam:option:s3_region_name:v1": "eu"}, info.pipeline_options)
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=info)


@contextlib.contextmanager
def serving(service):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_a_worker_asks_its_runner_for_what_it_needs():
    service = Provision()
    with serving(service) as endpoint:
        told = cluster_worker.settings("7-1", endpoint)
    assert service.asked == ["7-1"]
    assert json.loads(told.pop("PIPELINE_OPTIONS")) == {"beam:option:s3_region_name:v1": "eu"}
    assert told == {
        "WORKER_ID": "7-1",
        "RUNNER_CAPABILITIES": "a b",
        "CONTROL_API_SERVICE_DESCRIPTOR": 'url: "localhost:1"\n',
        "LOGGING_API_SERVICE_DESCRIPTOR": 'url: "localhost:2"\n',
    }
