"""A job that is killed at random moments, and run again until it is done, loses nothing.

`make torture` kills 25 times over 300 images, `make test` a few times over fewer.
"""

import io
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.photographs import small
from tests.shards import tar, tfrecord
from tests.test_resume import commits, files

KILLS = int(os.environ.get("HELIOGRAPH_KILLS", "3"))
IMAGES = int(os.environ.get("HELIOGRAPH_CRASH_IMAGES", "60"))
SEED = int(os.environ.get("HELIOGRAPH_SEED", time.time_ns() % 10**6))

# Slow for its size, so that there is a middle to be killed in.
JOB = ("--recipe", "snow:4+frost:3", "--seed", 7, "--batch_size", 3, "--workers", 2)


def encoded(number, kind):
    out = io.BytesIO()
    pixels = np.roll(small(height=128, width=128), number, axis=(0, 1))
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Images in files, in a tar and in a TFRecord."""
    folder = tmp_path_factory.mktemp("archive")
    third = IMAGES // 3
    for number in range(third):
        (folder / f"{number:03}.jpg").write_bytes(encoded(number, "JPEG"))
    tar(folder / "a.tar", {f"{n:03}.png": encoded(n, "PNG") for n in range(third)})
    tfrecord(folder / "b.tfrecord", {f"{n:03}.png": encoded(n, "PNG") for n in range(third)})
    return folder


def start(archive, out):
    command = [sys.executable, "-m", "heliograph", "degrade", archive, out, *JOB]
    return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)


def workers_of(job):
    told = subprocess.run(["ps", "--ppid", str(job.pid), "-o", "pid="], capture_output=True)
    return [int(pid) for pid in told.stdout.split()]


def killed(archive, out, rng):
    """Run the job, and kill its driver or a worker some time after another commit; tell which."""
    folder = out / "ledger" / "batches"
    before = len(os.listdir(folder)) if folder.is_dir() else 0
    job = start(archive, out)
    after, wait = rng.randrange(3), rng.uniform(0, 0.5)
    while job.poll() is None and (not folder.is_dir() or len(os.listdir(folder)) <= before + after):
        time.sleep(0.01)
    time.sleep(wait)
    workers = workers_of(job)
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
    if victim == "worker":
        assert job.returncode in (0, 1), said
        assert job.returncode == 0 or "a worker process was killed" in said
    return victim if job.returncode else "nobody"


def test_a_job_killed_at_random_moments_ends_as_if_it_had_not_been(archive, tmp_path):
    print(f"HELIOGRAPH_SEED={SEED}")
    rng = random.Random(SEED)
    whole, out = tmp_path / "whole", tmp_path / "out"
    undisturbed = start(archive, whole)
    said = undisturbed.communicate()[1]
    assert undisturbed.returncode == 0, said
    victims = []
    kept = {}
    while len(victims) < KILLS:
        victims.append(killed(archive, out, rng))
        written = commits(out)
        assert kept.items() <= written.items(), "what was committed has been done again"
        kept = written
        if victims[-1] == "nobody":
            break
    print("killed:", *victims)
    last = start(archive, out)
    said = last.communicate()[1]
    assert last.returncode == 0, said
    assert kept.items() <= commits(out).items()
    assert set(victims) & {"driver", "worker"}
    assert files(out) == files(whole)
    assert sorted(p.name for p in (out / "ledger/batches").iterdir()) == sorted(
        p.name for p in (whole / "ledger/batches").iterdir()
    )
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    for folder in (out, whole):
        left = {path.name for path in (folder / "ledger").iterdir()}
        assert left == {"batches", "job.json", "plan.jsonl", "pace.json"}
