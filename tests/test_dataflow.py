"""Jobs on Dataflow, by the real runner, up to what it is sent. Cloud Storage and Dataflow's
interface are served by this machine, and nothing leaves it.
"""

import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

import google.cloud.storage
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from google.cloud import dataflow as api

from models import zoo
from pipeline import beam_options, cli, dataflow, job, lock, runner
from pipeline.ledger import Ledger
from tests.dataflow_service import (
    PROJECT,
    REGION,
    State,
    carry_out,
    dataflow_server,
    graph_of,
    options_of,
    steps_of,
)
from tests.jobs import run
from tests.object_stores import gcs_server
from tests.photographs import saved, small
from transforms import storage

DEPLOY = Path(__file__).parents[1] / "deploy" / "dataflow"
BUCKET = "gs://negatives"
IMAGE = "europe-west1-docker.pkg.dev/archive-1/images/heliograph:1"
PLACE = (
    *("--runner", "DataflowRunner", "--project", PROJECT, "--region", REGION),
    *("--temp_location", f"{BUCKET}/tmp"),
)
# Without asking pip each time what is installed here, which is for the logs.
QUICKLY = "disable_logging_submission_environment"
IMAGES = ("a/1.png", "a/2.png", "b.jpg")


@pytest.fixture(scope="module", autouse=True)
def store():
    """Cloud Storage on this machine, with an archive in it; and no way to any other machine."""
    fresh = FileSystems._pipeline_options
    connect = socket.socket.connect

    def connect_here(self, address):
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), address
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch, gcs_server() as address:
        patch.setattr(socket.socket, "connect", connect_here)
        patch.setenv("STORAGE_EMULATOR_HOST", address)
        patch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        google.cloud.storage.Client.create_anonymous_client().create_bucket("negatives")
        FileSystems.set_options(PipelineOptions([]))
        patch.setattr(lock, "_SETTLE_THERE", 0.0)  # nobody else is here
        for name in IMAGES:
            kind = "PNG" if name.endswith("png") else "JPEG"
            put(f"masters/{name}", saved(small(), kind))
        yield BUCKET
        FileSystems.set_options(fresh)


def put(name, data):
    storage.write(f"{BUCKET}/{name}", data, scratch=f"{BUCKET}/.tmp")


@pytest.fixture(autouse=True)
def log(caplog, monkeypatch):
    """What a command says goes to the tests, and not to a terminal."""
    monkeypatch.setattr(cli, "_log_to_stderr", lambda verbose: None)
    monkeypatch.setattr(logging.getLogger("heliograph"), "propagate", True)
    caplog.set_level(logging.INFO, "heliograph")


@pytest.fixture
def service(store):
    """Dataflow on this machine, which carries out what it is sent."""
    with dataflow_server() as server:
        server.carry_out = carry_out
        yield server
    for folder in ("out", "tmp", "local"):
        storage.delete_folder(f"{BUCKET}/{folder}")


@pytest.fixture
def line(service):
    """What is said of Dataflow on a command line that leads to the one on this machine."""
    return (
        *PLACE,
        *("--no_auth", "--dataflow_endpoint", service.url, "--sdk_container_image", IMAGE),
        *("--experiments", QUICKLY),
    )


def content(folder):
    """Give the bytes of an output that must not depend on who made it."""
    kept = re.compile("images/|shards/|metrics.parquet$|failures.jsonl$")
    names = {
        file.path.removeprefix(f"{folder}/"): file.path for file in storage.list_folder(folder)
    }
    return {name: storage.read(path) for name, path in names.items() if kept.match(name)}


def prepare(*words, command="restore", archive=f"{BUCKET}/masters", output=f"{BUCKET}/out"):
    """Make a job of a command line and prepare it; give both."""
    parser, commands = cli._parser()
    own = beam_options.add_to(commands[command])
    args = parser.parse_args([command, archive, output, *map(str, words)])
    options = beam_options.make(args, own)
    return runner.prepare(job.make_job(args), options), options


def test_what_is_staged_gives_the_same_bytes_as_the_local_runner(service, line):
    said = (f"{BUCKET}/masters", "--recipe", "jpeg:3", "--pictures", "1")
    assert cli.main(["degrade", said[0], f"{BUCKET}/out", *said[1:], *line]) == job.ExitCode.OK
    run("degrade", said[0], f"{BUCKET}/local", *said[1:], code=job.ExitCode.OK)
    ours = content(f"{BUCKET}/out")
    assert set(ours) == {
        *(f"images/{name}" for name in IMAGES),
        *("metrics.parquet", "failures.jsonl"),
    }
    assert ours == content(f"{BUCKET}/local")
    assert Ledger(f"{BUCKET}/out").remote() is None  # it has ended, and its driver has seen that
    (sent,) = service.jobs.values()
    assert sent.type_ == api.JobType.JOB_TYPE_BATCH
    # All in one image, of which Beam stages no code.
    (pool,) = sent.environment.worker_pools
    assert [one.container_image for one in pool.sdk_harness_container_images] == [IMAGE]
    assert not pool.packages
    assert sent.name == f"heliograph-{Ledger(f'{BUCKET}/out').run()}"


def test_a_second_run_submits_nothing(service, line):
    said = ["convert", f"{BUCKET}/masters", f"{BUCKET}/out", *line]
    assert cli.main(said) == cli.main(said) == job.ExitCode.OK
    assert len(service.jobs) == 1


def test_failures_say_why_and_the_same_command_goes_on(service, line, caplog):
    def fail(sent):
        sent.current_state = State.JOB_STATE_FAILED
        service.words = [
            "Traceback (most recent call last):\n  File ...\nRuntimeError: no such thing",
            "Workflow failed. Causes: work item was attempted 4 times without success.",
        ]

    service.carry_out = fail
    said = ["convert", f"{BUCKET}/masters", f"{BUCKET}/out", *line]
    assert cli.main(said) == job.ExitCode.CRASHED
    assert "FAILED on Dataflow: RuntimeError: no such thing" in caplog.text
    assert "run the same command again" in caplog.text
    service.carry_out = carry_out
    assert cli.main(said) == job.ExitCode.OK
    assert set(content(f"{BUCKET}/out")) >= {f"images/{name}" for name in IMAGES}


def test_a_bucket_that_is_not_there_is_said_before_anything_is_done(service, line, caplog):
    said = ["convert", f"{BUCKET}/masters", f"{BUCKET}/out", *line]
    assert cli.main([*said, "--staging_location", "gs://nobodys/tmp"]) == job.ExitCode.USAGE
    assert "cannot list gs://nobodys/tmp/" in caplog.text
    assert not service.jobs
    assert not list(storage.list_folder(f"{BUCKET}/out"))


def test_a_refusal_is_told(service, line, caplog):
    service.refuses = True
    said = ["convert", f"{BUCKET}/masters", f"{BUCKET}/out", *line]
    assert cli.main(said) == job.ExitCode.CRASHED
    assert "Dataflow did not take the job: 403" in caplog.text
    assert "no right to create jobs" in caplog.text


def test_a_second_interrupt_cancels_the_job(service, line, caplog):
    def interrupt(sent):
        for wait in (0.5, 1.0):
            threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()

    service.carry_out = interrupt
    code = cli.main(["convert", f"{BUCKET}/masters", f"{BUCKET}/out", *line])
    assert code == job.ExitCode.INTERRUPTED
    (sent,) = service.jobs.values()
    assert sent.current_state == State.JOB_STATE_CANCELLED
    assert "stopping once the batches under way are done" in caplog.text
    assert "cancelling the job on Dataflow" in caplog.text


def test_what_a_killed_driver_has_left_is_cancelled_and_nothing_else(service, line):
    """By its id where the driver had it, else by a name that no other job has."""
    service.carry_out = lambda sent: None
    for name in ("mine", "other", "mine", "mine"):
        service.create(json.dumps({"name": name}))
    ids = list(service.jobs)
    service.jobs[ids[3]].current_state = State.JOB_STATE_DONE
    FileSystems.set_options(prepare(*line)[1])
    ledger = Ledger(f"{BUCKET}/out")
    where = {"runner": "DataflowRunner", "master": "there", "project": PROJECT, "region": REGION}

    def cancelled(**left):
        ledger.write_remote({**where, **left})
        runner.end_earlier(ledger)
        assert ledger.remote() is None
        wanted = State.JOB_STATE_CANCELLED
        return [name for name in ids if service.jobs[name].current_state == wanted]

    assert cancelled() == []  # it died before the job was known
    assert cancelled(job=ids[3]) == cancelled(job="never") == []
    assert cancelled(job=ids[2]) == [ids[2]]
    assert cancelled(name="mine") == [ids[0], ids[2]]
    runner.end_earlier(ledger)  # nothing is known of any


def test_a_dataflow_that_does_not_answer_is_said(service, line, caplog):
    FileSystems.set_options(prepare(*line, "--dataflow_endpoint", "http://localhost:9")[1])
    ledger = Ledger(f"{BUCKET}/out")
    where = {"runner": "DataflowRunner", "master": "there", "project": PROJECT, "region": REGION}
    ledger.write_remote({**where, "job": "1"})
    runner.end_earlier(ledger)
    assert "a run of this job was at there, which does not answer" in caplog.text


def test_a_dataflow_that_falls_silent_is_waited_for(service, line, monkeypatch):
    monkeypatch.setattr(dataflow, "_ASK_EVERY", 0.01)
    service.silent = 3
    assert cli.main(["convert", f"{BUCKET}/masters", f"{BUCKET}/out", *line]) == job.ExitCode.OK
    assert service.silent == 0


def test_a_dataflow_that_stays_silent_ends_the_wait(service, line, caplog, monkeypatch):
    monkeypatch.setattr(dataflow, "_ASK_EVERY", 0.01)
    monkeypatch.setattr(dataflow, "_SILENCE", 0.05)
    service.carry_out = lambda sent: None
    service.silent = sys.maxsize
    said = ["convert", f"{BUCKET}/masters", f"{BUCKET}/out", *line]
    assert cli.main(said) == job.ExitCode.CRASHED
    assert "does not say how job 2026-11-22_00_00_00-123456789 is (503" in caplog.text


def pool_of(service, line, *said):
    """Submit a job that says something, and give the machines that are asked for."""
    service.carry_out = lambda sent: None
    cli.main(["convert", f"{BUCKET}/masters", f"{BUCKET}/out", "--no_wait", *line, *said])
    (sent,) = service.jobs.values()
    (pool,) = sent.environment.worker_pools
    return pool, sent


def test_machines_are_chosen_where_nobody_has(service, line):
    pool, sent = pool_of(service, line)
    assert pool.machine_type == dataflow.MACHINE
    assert pool.disk_size_gb == dataflow.DISK_GB
    assert pool.autoscaling_settings.max_num_workers == dataflow.MOST_MACHINES
    assert pool.num_workers == pool.num_threads_per_worker == 0  # as Dataflow thinks fit
    assert {"use_runner_v2", "use_multiple_sdk_containers"} <= set(sent.environment.experiments)
    assert options_of(sent)["save_main_session"] is False


def test_what_is_said_of_machines_is_what_is_asked_for(service, line):
    pool, sent = pool_of(
        *(service, line, "--machine_type", "c3-highmem-8", "--disk_size_gb", "200"),
        *("--num_workers", "20", "--number_of_worker_harness_threads", "1"),
        *("--experiments", "no_use_multiple_sdk_containers", "--job_name", "nightly"),
        *("--min_cpu_platform", "Intel Ice Lake", "--worker_zone", "europe-west1-b"),
    )
    assert (pool.machine_type, pool.disk_size_gb) == ("c3-highmem-8", 200)
    assert pool.num_workers == pool.autoscaling_settings.max_num_workers == 20
    assert pool.num_threads_per_worker == 1
    assert sent.name == "nightly"
    assert sent.environment.worker_zone == "europe-west1-b"
    experiments = set(sent.environment.experiments)
    assert {"no_use_multiple_sdk_containers", "min_cpu_platform=Intel Ice Lake"} <= experiments
    assert "use_multiple_sdk_containers" not in experiments


@pytest.mark.parametrize(
    ("machine", "cores"),
    [
        *(("n2-standard-4", 4), ("c3-highmem-176", 176), ("e2-custom-6-8192", 6)),
        *(("custom-2-6656", 2), ("n2-custom-8-65536-ext", 8), ("c3-standard-22-lssd", 22)),
        *(("f1-micro", 1), ("unheard-of", 1)),
    ],
)
def test_cores_are_counted_by_the_names_of_machines(machine, cores):
    assert dataflow.cores_of(machine) == cores


def test_batches_are_cut_for_all_processes_of_all_machines():
    said = (*PLACE, "--sdk_container_image", IMAGE, "--max_num_workers", 5)
    assert prepare(*said, "--machine_type", "n2-standard-8")[0].workers == 5 * 8
    alone = ("--experiments", "no_use_multiple_sdk_containers")
    assert prepare(*said, "--machine_type", "n2-standard-8", *alone)[0].workers == 5


def launch(identity):
    """Give the place where Dataflow has the launcher of a Flex Template put down its job."""
    return f"{BUCKET}/tmp/staging/template_launches/{identity}/job_object"


def said_without(*flags):
    words = [*PLACE, "--sdk_container_image", IMAGE]
    for flag in flags:
        at = words.index(flag)
        del words[at : at + 2]
    return words


@pytest.fixture
def no_gcloud(monkeypatch, tmp_path):
    """A machine that knows of no region of its own."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLOUDSDK_COMPUTE_REGION", raising=False)


@pytest.mark.parametrize(
    ("words", "places", "reason"),
    [
        (said_without("--project"), {}, "needs --project PROJECT$"),
        (said_without("--region"), {}, "needs --region REGION$"),
        (said_without("--temp_location"), {}, "needs --temp_location gs://BUCKET/FOLDER$"),
        (said_without("--project", "--region"), {}, "needs --project PROJECT, --region REGION$"),
        ([*PLACE, "--project", "Archive 1"], {}, "--project Archive 1 is none"),
        ([*PLACE, "--job_name", "My job"], {}, "--job_name My job is none"),
        ([*PLACE, "--temp_location", "/tmp/here"], {}, "Invalid GCS path .*temp_location"),
        ([*PLACE, "--staging_location", "s3://b/c"], {}, "Invalid GCS path .*staging_location"),
        ([*PLACE, "--num_workers", "9", "--max_num_workers", "8"], {}, "cannot exceed"),
        ([*PLACE, "--streaming"], {}, "an archive has an end"),
        (
            [*PLACE],
            {},
            "need Heliograph.*deploy/dataflow/Dockerfile.*--sdk_container_image",
        ),
        (said_without(), {"output": "out"}, r"OUTPUT /\S+/out is a path of this machine"),
        (said_without(), {"archive": "masters"}, "ARCHIVE masters is a path of this machine"),
        ([*said_without(), "--masks", "m"], {}, "--masks"),
        (
            [*said_without(), "--template_location", f"{BUCKET}/template.json", "--no_wait"],
            {},
            "for the launcher of a Flex Template",
        ),
        (
            [*said_without(), "--template_location", launch("1")],
            {},
            "puts a job down, and nothing runs: say --no_wait",
        ),
    ],
)
def test_what_cannot_run_there_is_said_before_anything_is_done(no_gcloud, words, places, reason):
    with pytest.raises(job.JobError, match=reason):
        prepare(*words, **places)


def test_wrong_usage_ends_with_2_and_leaves_no_trace(store, caplog):
    said = ["convert", f"{BUCKET}/masters", f"{BUCKET}/out", "--runner", "DataflowRunner"]
    assert cli.main([*said, "--project", PROJECT, "--region", REGION]) == job.ExitCode.USAGE
    assert "DataflowRunner needs --temp_location" in caplog.text
    assert not list(storage.list_folder(f"{BUCKET}/out"))


def test_without_googles_client_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud.dataflow", None)
    with pytest.raises(job.JobError, match=r"pip install 'heliograph\[gcp\]'"):
        prepare(*said_without())


def test_the_region_may_be_that_of_the_machine(monkeypatch):
    monkeypatch.setenv("CLOUDSDK_COMPUTE_REGION", "europe-north1")
    _, options = prepare(*said_without("--region"))
    assert options.get_all_options()["region"] == "europe-north1"


def test_one_folder_for_temporary_files_is_enough():
    words = said_without("--temp_location")
    _, options = prepare(*words, "--staging_location", f"{BUCKET}/staging")
    assert options.get_all_options()["temp_location"] == f"{BUCKET}/staging"


def test_models_of_this_machine_must_be_in_the_image(tmp_path, caplog):
    mine = shutil.copytree(zoo.path("denoise"), tmp_path / "mine")
    prepare(*said_without(), "--model", mine)
    assert f"--model {mine} is a path of this machine" in caplog.text
    caplog.clear()
    prepare(*said_without())
    assert "is a path of this machine" not in caplog.text


def test_a_job_is_left_to_dataflow_and_collected(service, line, capsys, caplog):
    service.carry_out = lambda sent: None
    said = ["convert", f"{BUCKET}/masters", f"{BUCKET}/out", *line]
    assert cli.main([*said, "--no_wait"]) == job.ExitCode.OK
    ((identity, sent),) = service.jobs.items()
    assert capsys.readouterr().out == f"{identity}\n"
    assert cli.main(said) == cli.main([*said, "--no_wait"]) == job.ExitCode.LOCKED
    assert f"{identity} at Dataflow in {REGION}, project {PROJECT}" in caplog.text
    carry_out(sent)
    assert cli.main(said) == job.ExitCode.OK
    assert Ledger(f"{BUCKET}/out").remote() is None
    assert len(service.jobs) == 1
    assert set(content(f"{BUCKET}/out")) >= {f"images/{name}" for name in IMAGES}


def test_a_job_that_was_left_and_failed_is_done_by_the_same_command(service, line, caplog):
    service.carry_out = lambda sent: None
    said = ["convert", f"{BUCKET}/masters", f"{BUCKET}/out", *line]
    cli.main([*said, "--no_wait"])
    ((_, sent),) = service.jobs.items()
    sent.current_state = State.JOB_STATE_FAILED
    service.words = ["Traceback (most recent call last):\nMemoryError: no room"]
    service.carry_out = carry_out
    assert cli.main(said) == job.ExitCode.OK
    assert "FAILED: MemoryError: no room" in caplog.text
    assert len(service.jobs) == 2


def loaded():
    spec = importlib.util.spec_from_file_location("deploy_launcher", DEPLOY / "launcher.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def launcher(service, line, monkeypatch):
    """Launch the template as Dataflow does: parameters and its own options as options, the place of
    the job said. What is put down there is given.
    """
    module = loaded()
    monkeypatch.setenv("HELIOGRAPH_SDK_IMAGE", IMAGE)
    theirs = [f"{name}={value}" for name, value in zip(PLACE[:-2:2], PLACE[1:-2:2], strict=True)]
    theirs += [f"--staging_location={BUCKET}/tmp", "--job_name=nightly", "--no_auth"]
    theirs += [f"--experiments={QUICKLY}"]
    theirs += [f"--dataflow_endpoint={service.url}", '--labels={\n "goog-template" : "flex"\n}\n']

    def run(identity, **parameters):
        place = launch(identity)
        said = {"archive": f"{BUCKET}/masters", "output": f"{BUCKET}/out", **parameters}
        words = [f"--{name}={value}" for name, value in said.items()]
        code = module.main([*theirs, f"--template_location={place}", *words])
        if not storage.exists(place):
            return code, None
        put_down = api.Job.from_json(storage.read(place).decode(), ignore_unknown_fields=True)
        put_down.id, put_down.current_state = identity, State.JOB_STATE_QUEUED
        service.jobs[identity] = put_down  # as Dataflow starts it once the launcher has ended
        return code, put_down

    return run


def test_a_launch_puts_down_a_job_and_does_not_wait(service, launcher, capsys):
    code, put_down = launcher("2026-11-22_1", command="degrade", recipe="jpeg:3", pictures="")
    assert code == job.ExitCode.OK
    assert capsys.readouterr().out == "2026-11-22_1\n"
    assert put_down.name == "nightly"
    assert dict(put_down.labels) == {"goog-template": "flex"}
    (pool,) = put_down.environment.worker_pools
    assert [one.container_image for one in pool.sdk_harness_container_images] == [IMAGE]
    assert "images/a/1.png" not in content(f"{BUCKET}/out")  # only planned
    carry_out(put_down)
    done = content(f"{BUCKET}/out")
    assert set(done) >= {f"images/{name}" for name in IMAGES}
    run("degrade", f"{BUCKET}/masters", f"{BUCKET}/local", "--recipe", "jpeg:3")
    assert done == content(f"{BUCKET}/local")


def test_launches_by_the_clock_do_what_is_new(service, launcher, capsys):
    """One collects what the one before it began, and begins what is new."""
    _, first = launcher("2026-11-22_1", command="convert")
    # While it runs, and nobody holds the lock.
    assert launcher("2026-11-22_2", command="convert") == (job.ExitCode.LOCKED, None)
    carry_out(first)
    # Nothing is new. Dataflow takes a launch without a job for a failure.
    before = {file.path: file.modified for file in storage.list_folder(f"{BUCKET}/out/images")}
    code, second = launcher("2026-11-22_3", command="convert")
    assert code == job.ExitCode.OK
    assert "nothing is left to do" in capsys.readouterr().out
    assert {name.split("/")[0] for name in steps_of(graph_of(second))} == {"Nothing is left to do"}
    carry_out(second)
    after = {file.path: file.modified for file in storage.list_folder(f"{BUCKET}/out/images")}
    assert before == after
    put("masters/broken.zip", b"this is no zip")
    try:
        code, third = launcher("2026-11-22_4", command="convert")
        assert code == job.ExitCode.OK
        carry_out(third)
        # Nothing is new, and not all is well with what was there: that is a failure.
        code, none = launcher("2026-11-22_5", command="convert")
        assert (code, none) == (job.ExitCode.INCOMPLETE, None)
    finally:
        storage.delete(f"{BUCKET}/masters/broken.zip")


def test_a_launch_of_what_cannot_be_fails(service, launcher, caplog):
    code, none = launcher("2026-11-22_1", command="convert", archive=f"{BUCKET}/nothing")
    assert (code, none) == (job.ExitCode.USAGE, None)
    assert f"{BUCKET}/nothing" in caplog.text


def test_the_launcher_makes_a_command_of_parameters(monkeypatch, capsys):
    module = loaded()
    monkeypatch.delenv("HELIOGRAPH_SDK_IMAGE", raising=False)
    places = ["--archive=gs://a/b", "--output=gs://a/c"]

    def command(*words):
        return module.command_line([*words, *places])

    end = ["--no_wait", "gs://a/b", "gs://a/c"]
    assert command("--command=convert", "--overwrite=true", "--limit=5", "--operator=") == [
        *("convert", "--limit=5", "--overwrite", *end),
    ]
    # What this machine's processor has decides nothing.
    assert command("--command=restore") == ["restore", "--precision=float32", *end]
    chosen = "--precision=bfloat16"
    recipe = "--recipe=jpeg:1"
    assert command("--command=evaluate", chosen, recipe) == ["evaluate", chosen, recipe, *end]
    assert command("--command=degrade", recipe, "--overwrite=false") == ["degrade", recipe, *end]
    monkeypatch.setenv("HELIOGRAPH_SDK_IMAGE", "theirs")
    image = "--sdk_container_image=theirs"
    assert command("--command=convert") == ["convert", image, *end]
    own = "--sdk_container_image=mine"
    assert command("--command=convert", own) == ["convert", own, *end]
    # Which Dataflow may add one day.
    assert command("--command=convert", own, "--dataflow_novelty=1") == ["convert", own, *end]
    assert "--dataflow_novelty=1" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        command("--command=convert", "--limit=none")
    assert ended.value.code == job.ExitCode.USAGE


GRAPHS = {
    "restore": ("--model", "colorize", "--verify_masters", "--package", "bagit,iiif,premis"),
    "evaluate": ("--model", "denoise,colorize", "--recipe", "jpeg:1-2, snow:3"),
    "degrade": ("--recipe", "grayscale", "--output_format", "webdataset"),
}


@pytest.mark.parametrize("command", GRAPHS)
def test_pixels_never_leave_the_worker_that_reads_them(service, line, command):
    """Neither grouped, nor flattened, nor a side input: between Reading and Commit there are steps
    alone that run on each element, which Dataflow fuses; and all in the same image.
    """
    service.carry_out = lambda sent: None
    said = [command, f"{BUCKET}/masters", f"{BUCKET}/out", *GRAPHS[command]]
    assert cli.main([*said, *line, "--no_wait"]) == job.ExitCode.OK
    (sent,) = service.jobs.values()
    graph = graph_of(sent)
    parts = graph.components
    batches = {name for name, one in parts.pcollections.items() if holds_batches(one, parts)}
    steps = steps_of(graph)
    makers = {one.unique_name for one in steps.values() if batches & set(one.outputs.values())}
    firsts = {name.partition("/")[0].split()[0] for name in makers}
    wanted = {"Read", "Measure", "Write"}
    wanted |= {"Degrade"} if command != "restore" else set()
    wanted |= {"Restore", "Guard"} if command != "degrade" else set()
    wanted |= {"Vary", "Enter"} if command == "evaluate" else set()
    assert firsts == wanted
    for one in steps.values():
        if batches & set(one.inputs.values()):
            assert one.spec.urn == "beam:transform:pardo:v1", one.unique_name
            payload = beam_runner_api_pb2.ParDoPayload.FromString(one.spec.payload)
            assert not payload.side_inputs, one.unique_name
            assert not payload.state_specs, one.unique_name
    grouped = {one.unique_name for one in steps.values() if "group_by_key" in one.spec.urn}
    assert "Reshuffle/ReshufflePerKey/GroupByKey" in grouped  # of references to the plan
    (environment,) = parts.environments.values()
    payload = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
    assert payload.container_image == IMAGE


def holds_batches(collection, parts):
    """Tell whether the elements of a collection are batches, or hold some."""
    coders, left = [], [collection.coder_id]
    while left:
        coder = parts.coders[left.pop()]
        coders.append(coder)
        left.extend(coder.component_coder_ids)
    return any(b"BatchCoder" in coder.spec.payload for coder in coders)
