"""Apache Flink: what a job needs to run there, and how it is watched until its end."""

import dataclasses
import json
import logging
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
)
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer, FlinkRunner
from apache_beam.runners.runner import PipelineResult, PipelineState

from pipeline.beam_options import FlinkTuning
from pipeline.job import JobCrashedError, JobError
from pipeline.job_server import cause, one_line, process_here, serving
from pipeline.ledger import Ledger
from pipeline.options import Job
from transforms import storage

log = logging.getLogger("heliograph")

# Beam's words for a cluster of its own inside the job server.
_EMBEDDED = ("[auto]", "[local]")
_HERE = ("localhost", "127.0.0.1", "::1")
# Where a pool of workers is expected beside each TaskManager of a cluster elsewhere.
_POOL = "localhost:50000"
_OLDEST_JAVA = 11
_HEAP = "-Xmx384m"  # of the job server, which holds the graph and little else

_ANSWERS_WITHIN = 10.0  # seconds, of one call of the cluster's REST interface
_SILENCE = 30.0  # for which a cluster may not be heard of before its job is given up
_LOOK_EVERY = 2.0
_ASK_EVERY = 0.3  # where somebody waits for the answer
_CANCELS_WITHIN = 30.0
_ENDED = {"FINISHED", "CANCELED", "FAILED"}

# How often a job begins anew, where the cluster says nothing of it: what is committed is not
# done again.
_RESTARTS, _RESTART_DELAY = 3, 3000


class Cluster:
    """The REST interface of a cluster.

    Args:
        address: http://HOST:PORT.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def get(self, path: str) -> Any:
        """Ask for something.

        Raises:
            OSError: there is no such cluster, or no such thing.
        """
        return self._call(path, "GET")

    def cancel(self, job: str) -> None:
        """Ask a job, by Flink's own number of it, to stop at once."""
        self._call(f"/jobs/{job}?mode=cancel", "PATCH")

    def jobs(self, name: str) -> dict[str, str]:
        """Give the states of the jobs of one name, by Flink's own numbers of them."""
        found = self.get("/jobs/overview")["jobs"]
        return {job["jid"]: job["state"] for job in found if job["name"].startswith(name)}

    def _call(self, path: str, method: str) -> Any:
        request = urllib.request.Request(self.address + path, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_ANSWERS_WITHIN) as answer:  # noqa: S310
                return json.load(answer)
        except ValueError as error:
            raise OSError(f"{self.address} is no Flink: {error}") from error


def prepare(job: Job, options: PipelineOptions) -> Job:
    """Make sure of Java, the job server and the cluster; set what nobody has set; and tell the job
    how many workers it has.

    Raises:
        JobError: one of them is missing or does not fit, and what to do.
    """
    flink = options.view_as(FlinkRunnerOptions)
    flink.flink_master = FlinkRunner.add_http_scheme(flink.flink_master)
    slots = 1
    if flink.flink_master in _EMBEDDED:
        if job.no_wait:
            raise JobError(
                "--no_wait leaves a job to a cluster, and without --flink_master HOST:PORT Flink "
                "ends with this command: name a cluster, or wait"
            )
        if flink.parallelism < 1:
            flink.parallelism = job.workers
        slots = flink.parallelism
    else:
        slots = _fit(Cluster(flink.flink_master), options)
    if options.view_as(PortableOptions).job_endpoint is None:
        _check_java(options.view_as(JobServerOptions).job_server_java_launcher)
        flink.flink_job_server_jar = _job_server(options)
    _choose_environment(options, slots)
    if not _is_here(flink.flink_master) and storage.is_local(job.output):
        log.warning(
            "%s is elsewhere: its workers must find %s under the same path",
            flink.flink_master,
            job.output,
        )
    return dataclasses.replace(job, workers=flink.parallelism)


def _fit(cluster: Cluster, options: PipelineOptions) -> int:
    """Fit options to a cluster; give the slots of its largest TaskManager."""
    flink, tuning = options.view_as(FlinkRunnerOptions), options.view_as(FlinkTuning)
    try:
        overview = cluster.get("/overview")
        managers = cluster.get("/taskmanagers")["taskmanagers"]
        config = {one["key"] for one in cluster.get("/jobmanager/config")}
        version, slots = overview["flink-version"], overview["slots-total"]
    except (OSError, KeyError, TypeError) as error:
        raise JobError(
            f"no Flink cluster answers at {cluster.address} ({_reason(error)}): start one "
            "(python deploy/flink/cluster.py start), or say where it is with --flink_master"
        ) from error
    series = ".".join(version.split(".")[:2])
    if series not in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS:
        raise JobError(
            f"the cluster at {cluster.address} is Flink {version}, which Beam does not support: "
            f"it runs on {', '.join(FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS)}"
        )
    flink.flink_version = series
    if flink.parallelism < 1:
        if not slots:
            raise JobError(
                f"the cluster at {cluster.address} has no TaskManager: start some, or, where they "
                "are started on demand, say how many slots to use with --parallelism"
            )
        flink.parallelism = overview["slots-available"] or slots
    elif 0 < slots < flink.parallelism:
        raise JobError(
            f"the cluster at {cluster.address} has {slots} slots, fewer than --parallelism "
            f"{flink.parallelism}: ask for fewer, or start more TaskManagers"
        )
    if tuning.number_of_execution_retries < 0 and not _restarts(config):
        tuning.number_of_execution_retries = _RESTARTS
        tuning.execution_retry_delay = _RESTART_DELAY
    return max((one["slotsNumber"] for one in managers), default=1)


def _restarts(config: set[str]) -> bool:
    """Tell whether a cluster says how jobs are begun anew, from the names of what it says."""
    return not config.isdisjoint(("restart-strategy", "restart-strategy.type"))


def _check_java(launcher: str) -> None:
    remedy = f"install Java {_OLDEST_JAVA} or newer, or name it with --job_server_java_launcher"
    try:
        done = subprocess.run(  # noqa: S603
            (launcher, "-version"), capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise JobError(f"Flink needs Java, and {launcher} does not run: {remedy}") from error
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    if found and int(found[1]) < _OLDEST_JAVA:
        raise JobError(f"Flink needs a newer Java than {found[1]}: {remedy}")


def _job_server(options: PipelineOptions) -> str:
    """Give the path of the job server's jar, fetched where it is not here."""
    flink = options.view_as(FlinkRunnerOptions)
    said = flink.flink_job_server_jar
    remedy = (
        "fetch it (python deploy/flink/cluster.py fetch) and say where it is with "
        "--flink_job_server_jar"
    )
    server = FlinkJarJobServer(options)
    try:
        path = server.local_jar(
            server.path_to_jar(), options.view_as(JobServerOptions).jar_cache_dir
        )
    except Exception as error:  # of many kinds: urllib's, OSError, ValueError, RuntimeError
        raise JobError(
            f"Beam's job server for Flink {flink.flink_version} is not to be had "
            f"({said or 'from Maven Central'}: {one_line(error)}): {remedy}"
        ) from error
    try:
        with zipfile.ZipFile(path) as jar:
            built_for = _flink_of(jar)
    except (OSError, zipfile.BadZipFile) as error:
        raise JobError(f"{path} is no job server: {error}; {remedy}") from error
    on_cluster = flink.flink_master not in _EMBEDDED
    if on_cluster and built_for and built_for != flink.flink_version:
        raise JobError(
            f"{path} is of Flink {built_for}, and the cluster of {flink.flink_version}: "
            f"take beam-runners-flink-{flink.flink_version}-job-server"
        )
    return path


# Where a jar that holds Flink says of which version.
_STATED = "META-INF/maven/org.apache.flink/flink-core/pom.properties"


def _flink_of(jar: zipfile.ZipFile) -> str | None:
    if _STATED not in jar.namelist():
        return None
    found = re.search(rb"^version=(\d+\.\d+)", jar.read(_STATED), re.MULTILINE)
    return found[1].decode() if found else None


def _choose_environment(options: PipelineOptions, slots: int) -> None:
    """Say how workers are started, where nobody has said it: a process per slot."""
    portable = options.view_as(PortableOptions)
    if int(portable.sdk_worker_parallelism) == 1:
        portable.sdk_worker_parallelism = slots
    if portable.environment_type is not None:
        return
    if _is_here(options.view_as(FlinkRunnerOptions).flink_master):
        portable.environment_type = "PROCESS"
        portable.environment_config = json.dumps(process_here())
    else:
        portable.environment_type = "EXTERNAL"
        portable.environment_config = _POOL
        log.info("workers are expected in a pool at %s beside each TaskManager", _POOL)


def _is_here(master: str) -> bool:
    return master in _EMBEDDED or urllib.parse.urlsplit(master).hostname in _HERE


@contextmanager
def started(options: PipelineOptions) -> Iterator[FlinkRunner]:
    """Run Beam's job server while the block runs; give the runner that uses it.

    Raises:
        JobCrashedError: it does not start, or the job fails.
    """
    flink, server = options.view_as(FlinkRunnerOptions), options.view_as(JobServerOptions)
    java = (server.job_server_java_launcher, _HEAP, *server.job_server_jvm_properties)

    def command(port: int, folder: Path) -> list[str]:
        return [
            *(*java, "-jar", str(flink.flink_job_server_jar), "--flink-master", flink.flink_master),
            *("--job-port", str(port), "--artifact-port", str(server.artifact_port)),
            *("--expansion-port", "-1"),
            *("--artifacts-dir", server.artifacts_dir or str(folder / "artifacts")),
        ]

    with serving(options, command):
        yield FlinkRunner()


def name_of(output: str) -> str:
    """Give the name that Flink is to know the run by that the ledger of an output tells of."""
    return f"heliograph-{Ledger(output).run()}"


def submit_as(output: str, options: PipelineOptions) -> None:
    """Name the run that is about to be submitted, and keep where to find it."""
    name = name_of(output)
    options.view_as(GoogleCloudOptions).job_name = name
    master = options.view_as(FlinkRunnerOptions).flink_master
    if master not in _EMBEDDED:
        Ledger(output).write_remote({"runner": "FlinkRunner", "master": master, "name": name})


def accepted(result: PipelineResult, output: str, options: PipelineOptions) -> str:
    """Wait until the cluster has taken over a job that was submitted; give Flink's number of it.

    Raises:
        JobCrashedError: it has not, or is gone.
        KeyboardInterrupt: as it came; the job is cancelled.
    """
    cluster, name = Cluster(options.view_as(FlinkRunnerOptions).flink_master), name_of(output)
    heard = time.monotonic()
    try:
        while True:
            try:
                known = cluster.jobs(name)
                heard = time.monotonic()
            except OSError as error:
                known = {}
                _give_up_on(cluster, heard, error)
            if known:
                return next(iter(known))
            if PipelineState.is_terminal(result.state):
                result.wait_until_finish()  # which tells why
                raise JobCrashedError(f"{cluster.address} knows of no job {name}")
            time.sleep(_ASK_EVERY)
    except KeyboardInterrupt:
        end_earlier(Ledger(output))
        raise


def wait(result: PipelineResult, output: str, options: PipelineOptions) -> None:
    """Wait until a job has ended.

    Raises:
        JobCrashedError: it failed, or its cluster is gone.
        KeyboardInterrupt: as it came; the job is cancelled.
    """
    master = options.view_as(FlinkRunnerOptions).flink_master
    cluster = None if master in _EMBEDDED else Cluster(master)
    failed: list[BaseException] = []

    def follow() -> None:
        try:
            result.wait_until_finish()
        except BaseException as error:  # raised again where somebody waits for it
            failed.append(error)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        _watch(follower, cluster)
    except KeyboardInterrupt:
        log.warning("cancelling the job on Flink")
        if cluster is not None:
            end_earlier(Ledger(output))
        raise
    if failed:
        raise failed[0]
    Ledger(output).forget_remote()


def _watch(follower: threading.Thread, cluster: Cluster | None) -> None:
    heard = looked = time.monotonic()
    while follower.is_alive():
        follower.join(0.2)
        now = time.monotonic()
        if cluster is None or now - looked < _LOOK_EVERY:
            continue
        looked = now
        try:
            cluster.get("/config")
            heard = time.monotonic()
        except OSError as error:
            _give_up_on(cluster, heard, error)


def _give_up_on(cluster: Cluster, heard: float, error: OSError) -> None:
    """Take a cluster for gone that has not been heard of for too long.

    Raises:
        JobCrashedError: it has not.
    """
    if time.monotonic() - heard > _SILENCE:
        raise JobCrashedError(
            f"the Flink cluster at {cluster.address} is gone ({_reason(error)}); once it is back, "
            "run the same command again: what is committed stays"
        ) from error


def _reason(error: Exception) -> object:
    return getattr(error, "reason", None) or error


def end_on(cluster: Cluster, name: str) -> int:
    """Cancel the jobs of one name that have not ended, and wait until they have; count them.

    Raises:
        OSError: the cluster does not answer.
        TimeoutError: they do not end.
    """
    ends = time.monotonic() + _CANCELS_WITHIN
    cancelled: set[str] = set()
    while alive := [job for job, state in cluster.jobs(name).items() if state not in _ENDED]:
        for job in alive:
            if job not in cancelled:
                cluster.cancel(job)
                cancelled.add(job)
        if time.monotonic() > ends:
            raise TimeoutError(f"the jobs {', '.join(alive)} do not end")
        time.sleep(_ASK_EVERY)
    return len(cancelled)


def running(left: Mapping[str, Any]) -> str | None:
    """Say in which state a run is, by what `remote.json` tells of it; None where it has ended.

    Raises:
        OSError: its cluster does not answer.
    """
    states = Cluster(left["master"]).jobs(left["name"]).values()
    return next((state for state in states if state not in _ENDED), None)


def ending(left: Mapping[str, Any]) -> str:
    """Say how a run has ended, by what `remote.json` tells of it, and why.

    Raises:
        OSError: its cluster does not answer.
    """
    cluster = Cluster(left["master"])
    state = cluster.jobs(left["name"]).get(left["id"])
    if state is None:
        return "forgotten there"
    if state != "FAILED":
        return state
    failures = cluster.get(f"/jobs/{left['id']}/exceptions")["exceptionHistory"]["entries"]
    return ": ".join([state, *(cause(one["stacktrace"]) for one in failures[:1])])


def end_earlier(ledger: Ledger) -> None:
    """Cancel what an earlier run of a job has left running on a cluster: its driver was killed."""
    left = ledger.remote()
    if left is None:
        return
    try:
        if end_on(Cluster(left["master"]), left["name"]):
            log.warning(
                "cancelled the earlier run of this job, which went on at %s", left["master"]
            )
    except OSError as error:
        log.warning(
            "a run of this job was on the cluster at %s, which does not answer (%s)",
            left["master"],
            _reason(error),
        )
    ledger.forget_remote()
