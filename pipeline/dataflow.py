"""Google Cloud Dataflow: what a job needs to run there, how it is watched, and what has become of
one that nobody watches.
"""

import dataclasses
import importlib
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult, DataflowRunner
from apache_beam.runners.runner import PipelineResult, PipelineState

from models import zoo
from pipeline.job import JobCrashedError, JobError
from pipeline.job_server import one_line
from pipeline.ledger import Ledger
from pipeline.options import Job
from transforms import storage, stores

log = logging.getLogger("heliograph")

# What nobody has said. Four processes of 0.9 GB, the 1 GB that Dataflow has for itself, and room
# for large masters; a disk for the image of the container and for what is mapped; and an end to
# what a job may cost.
MACHINE, DISK_GB, MOST_MACHINES = "n2-standard-4", 50, 10

_ANSWERS_WITHIN = 30.0  # seconds, of one call of Dataflow's interface
_ASK_EVERY = 5.0  # while somebody waits
_SILENCE = 600.0  # for which it may not be heard of before its job is given up
_ENDED = {"DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED"}
# Where the launcher of a Flex Template is to put down its job, and what Dataflow calls that.
_LAUNCH = re.compile(r"/template_launches/([^/]+)/")
_ONE_PROCESS = "no_use_multiple_sdk_containers"


def prepare(job: Job, options: PipelineOptions) -> Job:
    """Make sure that Dataflow can run a job, set what nobody has set, and tell the job how many
    workers it has.

    Raises:
        JobError: something is missing or out of the workers' reach, and what to do.
        StorageError: the bucket for temporary files is not there, or not ours to list.
    """
    try:
        importlib.import_module("google.cloud.dataflow")
    except ImportError as error:
        raise JobError(
            f"DataflowRunner needs Google's client: pip install 'heliograph[gcp]' ({error})"
        ) from error
    _check_place(options)
    _check_reach(job)
    _check_code(options)
    if template := options.view_as(GoogleCloudOptions).template_location:
        _check_template(job, template)
    _check_buckets(options)
    # What workers run is in their image; the main module of this process is no part of it.
    options.view_as(SetupOptions).save_main_session = False
    return dataclasses.replace(job, workers=_choose_machines(options))


def _check_place(options: PipelineOptions) -> None:
    """Make sure of project, region and the folder for staging."""
    cloud, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    cloud.region = cloud.region or DataflowRunner().get_default_gcp_region()
    # Flex Templates say the second alone; and without the first, Beam would make a bucket.
    cloud.temp_location = cloud.temp_location or cloud.staging_location
    cloud.staging_location = cloud.staging_location or cloud.temp_location
    needed = {
        "--project PROJECT": cloud.project,
        "--region REGION": cloud.region,
        "--temp_location gs://BUCKET/FOLDER": cloud.temp_location,
    }
    if missing := [option for option, said in needed.items() if not said]:
        raise JobError(f"DataflowRunner needs {', '.join(missing)}")
    # Its check as a whole would ask the network, too, and takes no server of this machine.
    validator = PipelineOptionsValidator(options, None)
    patterns = {"project": validator.PROJECT_ID_PATTERN, "job_name": validator.JOB_PATTERN}
    errors = [
        *(
            f"--{name} {said} is none: it must match {pattern}"
            for name, pattern in patterns.items()
            if (said := getattr(cloud, name)) and not re.fullmatch(pattern, said)
        ),
        *validator.validate_gcs_path(cloud, "temp_location"),
        *validator.validate_gcs_path(cloud, "staging_location"),
        *validator.validate_num_workers(worker),
        *validator.validate_worker_region_zone(worker),
    ]
    if errors:
        raise JobError(f"DataflowRunner: {'; '.join(errors)}")
    if options.view_as(StandardOptions).streaming:
        raise JobError("an archive has an end, and --streaming jobs have none: leave it out")


def _check_buckets(options: PipelineOptions) -> None:
    """Look for the folders for staging: a bucket that is not there would be tried for minutes once
    all is planned.

    Raises:
        StorageError: it is not, or not ours to list.
    """
    cloud = options.view_as(GoogleCloudOptions)
    for folder in dict.fromkeys((cloud.temp_location, cloud.staging_location)):
        next(storage.list_folder(folder), None)


def _check_reach(job: Job) -> None:
    """Refuse what workers cannot reach; say what must be in their image."""
    places = {"OUTPUT": [job.packaging.root], "ARCHIVE": job.archives, "--masks": [job.masks]}
    for what, paths in places.items():
        for path in paths:
            if path is not None and storage.is_local(path):
                raise JobError(
                    f"{what} {path} is a path of this machine, which Dataflow's workers cannot "
                    "reach: put it into a bucket and say gs://BUCKET/FOLDER"
                )
    for what, path in _in_image(job):
        log.warning(
            "%s %s is a path of this machine: the workers' image must hold the same there",
            what,
            path,
        )


def _in_image(job: Job) -> Iterator[tuple[str, str]]:
    models = [one.model for one in job.matrix.models] if job.matrix else [job.model]
    named = [("--model", model) for model in models if model not in zoo.names()]
    named += [("--lpips", job.lpips.path)] if job.lpips else []
    if job.signing:
        named += [("--sign", job.signing.certificate), ("--sign", job.signing.key)]
    yield from ((what, path) for what, path in named if path and storage.is_local(path))


def _check_code(options: PipelineOptions) -> None:
    """Make sure that workers are told where Heliograph is: Beam's own image has none."""
    worker, setup = options.view_as(WorkerOptions), options.view_as(SetupOptions)
    images = (worker.sdk_container_image, worker.worker_harness_container_image)
    if not any((*images, setup.setup_file, setup.extra_packages)):
        raise JobError(
            "Dataflow's workers need Heliograph: make an image of it (deploy/dataflow/Dockerfile) "
            "and name it by --sdk_container_image"
        )


def _check_template(job: Job, template: str) -> None:
    if not _LAUNCH.search(template):
        raise JobError(
            "--template_location is for the launcher of a Flex Template (deploy/dataflow): a "
            "classic template would hold the plan of an archive as it is now"
        )
    if not job.no_wait:
        raise JobError("--template_location puts a job down, and nothing runs: say --no_wait, too")


def _choose_machines(options: PipelineOptions) -> int:
    """Say on which and how many machines, where nobody has; give the processes of all of them."""
    worker, debug = options.view_as(WorkerOptions), options.view_as(DebugOptions)
    worker.machine_type = worker.machine_type or MACHINE
    worker.disk_size_gb = worker.disk_size_gb or DISK_GB
    if worker.max_num_workers is None:
        worker.max_num_workers = max(MOST_MACHINES, worker.num_workers or 0)
        log.info(
            "on at most %d machines of %s: --max_num_workers, --machine_type",
            worker.max_num_workers,
            worker.machine_type,
        )
    processes = 1 if debug.lookup_experiment(_ONE_PROCESS) else cores_of(worker.machine_type)
    return worker.max_num_workers * processes


def cores_of(machine: str) -> int:
    """Count the virtual cores of a type of machine by its name; 1 where that does not say."""
    found = re.search(r"custom-(\d+)-\d+|-(\d+)(?:-[a-z]+)?$", machine)
    return int(found[1] or found[2]) if found else 1


@contextmanager
def started(options: PipelineOptions) -> Iterator[DataflowRunner]:
    """Give the runner, and say why a job was not taken.

    Raises:
        JobCrashedError: it was not, or it has failed.
    """
    try:
        yield DataflowRunner()
    except (JobCrashedError, storage.StorageError):
        raise
    except Exception as error:  # of many kinds: Google's clients, credentials, Beam's staging
        raise JobCrashedError(
            f"Dataflow did not take the job: {one_line(error)}\nrun the same command again"
        ) from error


def submit_as(output: str, options: PipelineOptions) -> None:
    """Name the run that is about to be submitted, and keep where to find it."""
    cloud, ledger = options.view_as(GoogleCloudOptions), Ledger(output)
    where = {
        "runner": "DataflowRunner",
        "master": f"Dataflow in {cloud.region}, project {cloud.project}",
        "project": cloud.project,
        "region": cloud.region,
    }
    if cloud.job_name is None:  # one that somebody has chosen may be that of other jobs as well
        cloud.job_name = where["name"] = f"heliograph-{ledger.run()}"
    ledger.write_remote(where)


def accepted(result: PipelineResult, output: str, options: PipelineOptions) -> str:
    """Give the id by which Dataflow knows a job that was submitted, or put down for a launch."""
    if template := options.view_as(GoogleCloudOptions).template_location:
        launch = _LAUNCH.search(template)
        assert launch is not None, "prepare has seen to that"
        return launch[1]
    assert isinstance(result, DataflowPipelineResult), "the runner's own"
    return result.job_id()


def wait(result: PipelineResult, output: str, options: PipelineOptions) -> None:
    """Wait until a job has ended.

    Raises:
        JobCrashedError: it failed, was cancelled, or cannot be asked after any more.
        KeyboardInterrupt: as it came; the job is cancelled.
    """
    assert isinstance(result, DataflowPipelineResult), "the runner's own"
    ledger = Ledger(output)
    ledger.write_remote({**(ledger.remote() or {}), "job": result.job_id()})
    cloud = options.view_as(GoogleCloudOptions)
    log.info(
        "https://console.cloud.google.com/dataflow/jobs/%s/%s?project=%s",
        *(cloud.region, result.job_id(), cloud.project),
    )
    jobs, identity = Jobs(ledger.remote() or {}), result.job_id()
    try:
        state = _await_end(jobs, identity)
    except KeyboardInterrupt:
        log.warning("cancelling the job on Dataflow")
        end_earlier(ledger)
        raise
    if state != PipelineState.DONE:
        why = _last_line(_last_error(jobs, identity))
        raise JobCrashedError(
            f"the job stopped before its end: {state} on Dataflow{why}\n"
            "run the same command again to redo it"
        )
    ledger.forget_remote()


def _await_end(jobs: "Jobs", identity: str) -> str:
    """Give the state that a job ends in.

    Not by Beam's own waiting, which goes on in a thread when nobody waits any more.
    """
    heard = time.monotonic()
    while True:
        try:
            state = jobs.state(identity)
            heard = time.monotonic()
            if not _goes_on(state):
                return state or "forgotten"
        except OSError as error:
            if time.monotonic() - heard > _SILENCE:
                raise JobCrashedError(
                    f"Dataflow does not say how job {identity} is ({error}); once it does, the "
                    "same command ends it there and goes on"
                ) from error
        time.sleep(_ASK_EVERY)


def _last_error(jobs: "Jobs", identity: str) -> str | None:
    try:
        return jobs.last_error(identity)
    except (OSError, LookupError) as error:
        return f"it does not say why ({error})"


def _last_line(said: str | None) -> str:
    """Give the last line of what Dataflow says of a failure, where Python says what it was."""
    lines = [line.strip() for line in (said or "").splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""


class Jobs:
    """Dataflow's interface for the jobs of a project in a region.

    Args:
        where: what `remote.json` tells of a run: `project`, `region`, and its id or a name that no
            other has.
    """

    def __init__(self, where: Mapping[str, Any]) -> None:
        from apache_beam.internal.gcp.auth import get_service_credentials
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import dataflow

        self._api = dataflow
        self._where = where
        said = stores.current_options()
        options = PipelineOptions.from_dictionary(said) if isinstance(said, dict) else said
        cloud = (options or PipelineOptions([])).view_as(GoogleCloudOptions)
        found = None if cloud.no_auth else get_service_credentials(cloud)
        settings: dict[str, Any] = {
            "credentials": found.get_google_auth_credentials() if found else AnonymousCredentials(),
            "client_options": ClientOptions(api_endpoint=cloud.dataflow_endpoint.rstrip("/")),
            "transport": "rest",
        }
        self._jobs = dataflow.JobsV1Beta3Client(**settings)
        self._messages = dataflow.MessagesV1Beta3Client(**settings)

    def state(self, identity: str) -> str | None:
        """Give the state of a job, such as RUNNING or QUEUED; None where there is no such job.

        Raises:
            OSError: Dataflow does not answer.
        """
        request = self._api.GetJobRequest(**self._place(), job_id=identity)
        try:
            found = self._asked(self._jobs.get_job, request)
        except LookupError:
            return None
        return _state_of(found)

    def alive(self) -> Sequence[str]:
        """Give the ids of the run's jobs that have not ended.

        Raises:
            OSError: Dataflow does not answer.
        """
        identity = self._where.get("id") or self._where.get("job")
        if identity is not None:
            return [identity] if _goes_on(self.state(identity)) else []
        name = self._where.get("name")
        if name is None:
            return []
        active = self._api.ListJobsRequest.Filter.ACTIVE
        request = self._api.ListJobsRequest(**self._place(), filter=active)
        found = self._asked(self._jobs.list_jobs, request)
        return [one.id for one in found if one.name == name and _goes_on(_state_of(one))]

    def cancel(self, identity: str) -> None:
        """Ask a job to stop.

        Raises:
            LookupError: there is none.
            OSError: Dataflow does not answer.
        """
        wanted = self._api.Job(requested_state=self._api.JobState.JOB_STATE_CANCELLED)
        request = self._api.UpdateJobRequest(**self._place(), job_id=identity, job=wanted)
        self._asked(self._jobs.update_job, request)

    def last_error(self, identity: str) -> str | None:
        """Give what a job has said last of what went wrong.

        Raises:
            LookupError: there is none.
            OSError: Dataflow does not answer.
        """
        errors = self._api.JobMessageImportance.JOB_MESSAGE_ERROR
        request = self._api.ListJobMessagesRequest(
            **self._place(), job_id=identity, minimum_importance=errors
        )
        said = [one.message_text for one in self._asked(self._messages.list_job_messages, request)]
        # After what went wrong comes how often it did.
        traces = [text for text in said if "Traceback" in text]
        return (traces or said or [None])[-1]

    def _place(self) -> dict[str, str]:
        return {"project_id": self._where["project"], "location": self._where["region"]}

    def _asked(self, call: Any, request: Any) -> Any:
        from google.api_core.exceptions import GoogleAPICallError, NotFound
        from google.auth.exceptions import GoogleAuthError

        try:
            return call(request=request, timeout=_ANSWERS_WITHIN)
        except NotFound as error:
            raise LookupError(one_line(error)) from error
        except (GoogleAPICallError, GoogleAuthError) as error:
            raise OSError(one_line(error)) from error


def _state_of(job: Any) -> str:
    return job.current_state.name.removeprefix("JOB_STATE_")


def _goes_on(state: str | None) -> bool:
    return state is not None and state not in _ENDED


def running(left: Mapping[str, Any]) -> str | None:
    """Say in which state a run is, by what `remote.json` tells of it; None where it has ended.

    Raises:
        OSError: Dataflow does not answer.
    """
    state = Jobs(left).state(left["id"])
    return state if _goes_on(state) else None


def ending(left: Mapping[str, Any]) -> str:
    """Say how a run has ended, by what `remote.json` tells of it, and why.

    Raises:
        OSError: Dataflow does not answer.
    """
    jobs = Jobs(left)
    state = jobs.state(left["id"])
    if state is None:
        return "forgotten there"
    return state + (_last_line(jobs.last_error(left["id"])) if state == "FAILED" else "")


def end_earlier(ledger: Ledger) -> None:
    """Cancel what an earlier run of a job has left running on Dataflow: its driver was killed.

    Its workers commit nothing from the moment that the next run begins, so nobody waits for it.
    """
    left = ledger.remote()
    if left is None:
        return
    try:
        jobs = Jobs(left)
        for identity in jobs.alive():
            jobs.cancel(identity)
            log.warning("cancelled the earlier run of this job, %s at %s", identity, left["master"])
    except (OSError, LookupError) as error:
        log.warning(
            "a run of this job was at %s, which does not answer (%s)", left["master"], error
        )
    ledger.forget_remote()
