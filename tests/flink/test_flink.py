"""Whole jobs on a real cluster: the bytes of the local runner, whatever is killed meanwhile."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.jobs import children, held
from tests.photographs import shifted
from tests.shards import tar, tfrecord
from tests.test_resume import commits, files

IMAGES = int(os.environ.get("HELIOGRAPH_FLINK_IMAGES", "300"))
JOB = ("--recipe", "snow:4+frost:3", "--seed", 7, "--batch_size", 10)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Images in files, in a tar and in a TFRecord; of each, one is broken."""
    folder = tmp_path_factory.mktemp("archive")
    third = IMAGES // 3
    broken = shifted(0, "PNG")[:200]
    for number in range(third):
        whole = shifted(number, "JPEG") if number else b"no JPEG"
        (folder / f"{number:03}.jpg").write_bytes(whole)
    images = {f"{n:03}.png": shifted(n, "PNG") if n else broken for n in range(third)}
    tar(folder / "a.tar", images)
    tfrecord(folder / "b.tfrecord", images)
    return folder


@pytest.fixture(scope="module")
def whole(archive, tmp_path_factory):
    """What the local runner makes of it."""
    out = tmp_path_factory.mktemp("whole") / "out"
    job = start(archive, out, "--workers", 2)
    said = job.communicate()[1]
    assert job.returncode == 3, said
    return out


def start(archive, out, *options, stdout=None):
    command = [sys.executable, "-m", "heliograph", "evaluate", archive, out, *JOB, *options]
    return subprocess.Popen([*map(str, command)], stdout=stdout, stderr=subprocess.PIPE, text=True)


def started(archive, out, cluster, *options, commit_records=2):
    """Start a job on the cluster, and wait until it has committed something."""
    job = start(archive, out, *cluster.options, *options)
    folder = out / "ledger" / "batches"
    ends = time.monotonic() + 600
    while not folder.is_dir() or len(os.listdir(folder)) < commit_records:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < ends, "nothing is committed"
        time.sleep(0.05)
    return job


def ended(job, code, within=1500):
    said = job.communicate(timeout=within)[1]
    assert job.returncode == code, said
    return said


def workers(cluster):
    """Give the process numbers of the workers of both TaskManagers."""
    return children(*(cluster.pid(f"taskmanager-{number}") for number in (1, 2)))


def heard(job, words):
    """Wait until a job has said something."""
    while words not in job.stderr.readline():
        assert job.poll() is None


def get(cluster, path):
    with urllib.request.urlopen(cluster.address + path) as answer:
        return json.load(answer)


def jobs(cluster, out):
    """Flink's states of all runs on an output that it knows, by its numbers of them."""
    run = json.loads((out / "ledger" / "job.json").read_text())["environment"]["id"]
    known = get(cluster, "/jobs/overview")["jobs"]
    return {
        job["jid"]: job["state"] for job in known if job["name"].startswith(f"heliograph-{run}")
    }


def accounted(out):
    summary = json.loads((out / "summary.json").read_text())
    assert summary["planned"] == IMAGES
    assert summary["restored"] == IMAGES - 3
    assert summary["failed"] == 3


def same(out, whole):
    """Derivatives, masks, metrics and failures, byte for byte; and as many of each as planned."""
    accounted(out)
    assert files(out) == files(whole)
    left = {path.name for path in (out / "ledger").iterdir()}
    assert left <= {"batches", "job.json", "plan.jsonl", "pace.json"}


def test_the_same_bytes_and_no_pixels_shuffled(archive, whole, cluster, tmp_path):
    out = tmp_path / "out"
    ended(start(archive, out, *cluster.options), 3)
    same(out, whole)
    ((job, state),) = jobs(cluster, out).items()
    assert state == "FINISHED"
    vertices = get(cluster, f"/jobs/{job}")["vertices"]
    shuffled = sum(vertex["metrics"]["write-bytes"] for vertex in vertices)
    print(f"shuffled: {shuffled} bytes, {shuffled / IMAGES:.1f} an image")
    assert 0 < shuffled < 2000 * IMAGES


def test_workers_of_a_pool(archive, whole, cluster, tmp_path):
    """As in a pod, where they are beside each TaskManager in a container of their own."""
    out = tmp_path / "out"
    pool = f"127.0.0.1:{cluster.ports['pool_port']}"
    job = started(
        archive, out, cluster, "--environment_type", "EXTERNAL", "--environment_config", pool
    )
    assert len(children(cluster.pid("pool"))) == 2
    ended(job, 3)
    same(out, whole)


def test_the_flink_inside_the_job_server(archive, whole, cluster, tmp_path):
    out = tmp_path / "out"
    ended(start(archive, out, *cluster.embedded), 3)
    same(out, whole)


def test_a_taskmanager_killed_in_the_middle(archive, whole, cluster, tmp_path):
    out = tmp_path / "out"
    job = started(archive, out, cluster)
    before = cluster.pid("taskmanager-1")
    kept = commits(out)
    os.kill(before, signal.SIGKILL)
    began = time.monotonic()
    ended(job, 3)
    print(f"ended {time.monotonic() - began:.0f} s after the kill")
    same(out, whole)
    assert cluster.pid("taskmanager-1") != before
    assert kept.items() <= commits(out).items(), "what was committed has been done again"


def test_a_worker_killed_in_the_middle(archive, whole, cluster, tmp_path):
    out = tmp_path / "out"
    job = started(archive, out, cluster)
    os.kill(workers(cluster)[-1], signal.SIGKILL)
    ended(job, 3)
    same(out, whole)


def test_a_driver_killed_in_the_middle(archive, whole, cluster, tmp_path):
    out = tmp_path / "out"
    job = started(archive, out, cluster)
    first = jobs(cluster, out)
    job.kill()
    job.communicate()
    with held(workers(cluster)):  # or they might be done before the next driver is up
        again = start(archive, out, *cluster.options)
        heard(again, "is taken over")
    assert "cancelled the earlier run of this job" in ended(again, 3)
    same(out, whole)
    (number,) = first
    assert get(cluster, f"/jobs/{number}")["state"] == "CANCELED"


def test_left_to_the_cluster_and_collected(archive, whole, cluster, tmp_path):
    out = tmp_path / "out"
    submitted, said = submit(archive, out, cluster)
    assert list(jobs(cluster, out)) == [submitted]
    held = committing(out, cluster)
    refused = start(archive, out, *cluster.options, "--no_wait")
    assert f"the run {submitted} at {cluster.address}, which is RUNNING" in ended(refused, 75)
    report = subprocess.run(
        [sys.executable, "-m", "heliograph", "report", out], capture_output=True, text=True
    )
    assert report.returncode == 75, report.stderr
    assert jobs(cluster, out) == {submitted: "RUNNING"}, "it was cancelled"
    kept = commits(out)
    os.kill(cluster.pid("taskmanager-1"), signal.SIGKILL)  # with nobody there who waits
    resume(held)
    assert finished(cluster, out) == {submitted: "FINISHED"}
    made = commits(out)
    assert kept.items() <= made.items()
    gate = ("--max_failed", 1, "--metrics_file", tmp_path / "job.prom")
    said = ended(start(archive, out, *cluster.options, "--no_wait", *gate), 4)
    assert "--max_failed 1: not passed" in said
    assert "last_run_exit_code{" in (tmp_path / "job.prom").read_text()
    assert list(jobs(cluster, out)) == [submitted]
    assert commits(out) == made, "something has been done again"
    (out / "gates.json").unlink()
    same(out, whole)


def test_left_to_the_cluster_and_ended_there(archive, whole, cluster, tmp_path):
    out = tmp_path / "out"
    first, _ = submit(archive, out, cluster)
    held = committing(out, cluster)
    kept = commits(out)
    request = urllib.request.Request(f"{cluster.address}/jobs/{first}?mode=cancel", method="PATCH")
    with urllib.request.urlopen(request):
        resume(held)
    assert finished(cluster, out) == {first: "CANCELED"}
    second, said = submit(archive, out, cluster)
    assert f"the run {first} at {cluster.address} has ended: CANCELED" in said
    assert finished(cluster, out) == {second: "FINISHED"}
    ended(start(archive, out, *cluster.options), 3)
    same(out, whole)
    assert kept.items() <= commits(out).items(), "what was committed has been done again"


def submit(archive, out, cluster):
    """Leave a job to the cluster; give its number there, and what was said."""
    job = start(archive, out, *cluster.options, "--no_wait", stdout=subprocess.PIPE)
    printed, said = job.communicate(timeout=600)
    assert job.returncode == 0, said
    assert re.fullmatch(r"[0-9a-f]{32}\n", printed)
    return printed.strip(), said


def committing(out, cluster):
    """Wait until something is committed, and hold the workers up; give their numbers."""
    ends = time.monotonic() + 600
    folder = out / "ledger" / "batches"
    while not folder.is_dir() or len(os.listdir(folder)) < 2:
        assert time.monotonic() < ends, "nothing is committed"
        time.sleep(0.05)
    held = workers(cluster)
    for worker in held:
        os.kill(worker, signal.SIGSTOP)
    return held


def resume(held):
    for worker in held:
        with contextlib.suppress(ProcessLookupError):  # it went with its TaskManager
            os.kill(worker, signal.SIGCONT)


def finished(cluster, out):
    """Wait until the runs on an output have ended; give Flink's states of them."""
    ends = time.monotonic() + 900
    while (states := jobs(cluster, out)) and not {"FINISHED", "CANCELED", "FAILED"} >= {
        *states.values()
    }:
        assert time.monotonic() < ends, states
        time.sleep(0.5)
    return states


def test_interrupted_once_it_finishes_what_is_under_way(archive, whole, cluster, tmp_path):
    out = tmp_path / "out"
    job = started(archive, out, cluster)
    job.send_signal(signal.SIGINT)
    said = ended(job, 130)
    assert "images are left" in said
    assert list(jobs(cluster, out).values()) == ["FINISHED"]
    summary = json.loads((out / "summary.json").read_text())
    assert 0 < summary["restored"] < IMAGES - 3
    ended(start(archive, out, *cluster.options), 3)
    same(out, whole)


def test_interrupted_twice_it_ends_at_once(archive, whole, cluster, tmp_path):
    out = tmp_path / "out"
    job = started(archive, out, cluster)
    with held(workers(cluster)):  # or what is under way might be done between the two
        job.send_signal(signal.SIGINT)
        heard(job, "stopping")
        job.send_signal(signal.SIGINT)
        heard(job, "cancelling the job on Flink")
    ended(job, 130, within=90)
    assert list(jobs(cluster, out).values()) == ["CANCELED"]
    ended(start(archive, out, *cluster.options), 3)
    same(out, whole)


def test_the_jobmanager_killed_in_the_middle(archive, whole, cluster, tmp_path):
    out = tmp_path / "out"
    job = started(archive, out, cluster)
    os.kill(cluster.pid("jobmanager"), signal.SIGKILL)
    began = time.monotonic()
    said = ended(job, 1, within=150)
    print(f"given up {time.monotonic() - began:.0f} s after the kill")
    assert f"the Flink cluster at {cluster.address} is gone" in said
    assert "run the same command again" in said
    cluster.run("stop")
    cluster.run("start")
    ended(start(archive, out, *cluster.options), 3)
    same(out, whole)
