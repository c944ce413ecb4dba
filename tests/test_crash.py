"""A job that is killed at random moments, and run again until it is done, loses nothing.

`make torture` kills 25 times over 300 images, `make test` a few times over fewer.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.jobs import children
from tests.photographs import shifted
from tests.shards import tar, tfrecord
from tests.test_resume import commits, files

KILLS = int(os.environ.get("HELIOGRAPH_KILLS", "3"))
IMAGES = int(os.environ.get("HELIOGRAPH_CRASH_IMAGES", "60"))
SEED = int(os.environ.get("HELIOGRAPH_SEED", time.time_ns() % 10**6))

WORKER = Path(__file__).parents[1] / "pipeline" / "worker.py"

# Slow for its size, so that there is a middle to be killed in.
JOB = ("--recipe", "snow:4+frost:3", "--seed", 7, "--batch_size", 3, "--workers", 2)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Images in files, in a tar and in a TFRecord."""
    folder = tmp_path_factory.mktemp("archive")
    third = IMAGES // 3
    for number in range(third):
        (folder / f"{number:03}.jpg").write_bytes(shifted(number, "JPEG"))
    tar(folder / "a.tar", {f"{n:03}.png": shifted(n, "PNG") for n in range(third)})
    tfrecord(folder / "b.tfrecord", {f"{n:03}.png": shifted(n, "PNG") for n in range(third)})
    return folder


def start(archive, out):
    command = [sys.executable, "-m", "heliograph", "degrade", archive, out, *JOB]
    return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)


def moment(rng, before, batches, left):
    """Choose when to kill: how many batches are to be committed by then, and how long after it.

    Any time from a run's first second to its last file, such that about as many runs are to come as
    kills are left.
    """
    kind = rng.choices(["early", "between", "late"], [2, 8, left == 1])[0]
    if kind == "early":
        return kind, 0, rng.uniform(0, 4)
    if kind == "late":
        return kind, batches, rng.uniform(0, 0.5)
    share = 2 * (batches - before) // (left + 1)
    return kind, before + 1 + rng.randrange(max(1, share)), rng.uniform(0, 0.03)


def committed(out):
    return commits(out) if (out / "ledger/batches").is_dir() else {}


def killed(archive, out, when, rng):
    """Run the job, and kill its driver or a worker at a moment; tell which, and when."""
    kind, goal, wait = when
    job = start(archive, out)
    while job.poll() is None and len(committed(out)) < goal:
        time.sleep(0.002)
    time.sleep(wait)
    workers = children(job.pid)
    victim = rng.choice(["driver", "worker"]) if workers else "driver"
    if job.poll() is None:
        try:
            os.kill(job.pid if victim == "driver" else rng.choice(workers), signal.SIGKILL)
        except ProcessLookupError:
            victim = "nobody"
    began = time.monotonic()
    said = job.communicate(timeout=120)[1]
    for worker in workers:  # none outlives its driver, or it would write beside the next run's
        while os.path.isdir(f"/proc/{worker}") and time.monotonic() < began + 60:
            time.sleep(0.05)
    assert time.monotonic() - began < 60, f"{victim} was killed, and the job hung"
    assert "Traceback" not in said, said
    if victim == "worker":
        assert job.returncode in (0, 1), said
        assert job.returncode == 0 or "a worker process was killed" in said
    return f"{victim} {kind}" if job.returncode else "nobody"


def test_a_job_killed_at_random_moments_ends_as_if_it_had_not_been(archive, tmp_path):
    print(f"HELIOGRAPH_SEED={SEED}")
    rng = random.Random(SEED)
    whole = tmp_path / "whole"
    undisturbed = start(archive, whole)
    said = undisturbed.communicate()[1]
    assert undisturbed.returncode == 0, said
    victims, outputs = [], 0
    while len(victims) < KILLS:  # a job that came to its end first is begun anew elsewhere
        out, outputs = tmp_path / f"out {outputs}", outputs + 1
        kept, last = {}, None
        while len(victims) < KILLS and last != "nobody":
            before, left = len(committed(out)), KILLS - len(victims)
            last = killed(archive, out, moment(rng, before, len(commits(whole)), left), rng)
            print(f"{last} after {len(committed(out))} batches", flush=True)
            if last != "nobody":
                victims.append(last)
            written = committed(out)
            assert kept.items() <= written.items(), "what was committed has been done again"
            kept = written
        if last != "nobody":
            final = start(archive, out)
            said = final.communicate()[1]
            assert final.returncode == 0, said
        assert kept.items() <= commits(out).items()
        require_same(out, whole)
    print(f"{len(victims)} kills of {outputs} outputs: {', '.join(victims)}")


def require_same(out, whole):
    assert files(out) == files(whole)
    assert commits(out).keys() == commits(whole).keys()
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    for folder in (out, whole):
        left = {path.name for path in (folder / "ledger").iterdir()}
        assert left == {"batches", "job.json", "plan.jsonl", "pace.json"}


def test_a_worker_whose_driver_is_gone_before_it_has_imported_anything_ends(tmp_path):
    """It would wait for ever, with nobody to speak to but a port that does not answer."""
    driver = subprocess.Popen([sys.executable, "-c", ""])
    driver.wait()
    with socket.create_server(("localhost", 0)) as silent:
        there = f'url: "localhost:{silent.getsockname()[1]}"'
        told = {f"{name}_API_SERVICE_DESCRIPTOR": there for name in ("CONTROL", "LOGGING")}
        worker = subprocess.Popen(
            [sys.executable, "-P", WORKER, tmp_path, str(driver.pid)],
            env={**os.environ, **told, "WORKER_ID": "1", "PIPELINE_OPTIONS": "{}"},
            stderr=subprocess.PIPE,
        )
        said = worker.communicate(timeout=60)[1]
    assert worker.returncode == 1 and b"Error" not in said, said
