"""Whole jobs, as processes, that are started on one output in the same second.

`make torture` does so many times.
"""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pipeline.job import ExitCode
from tests.jobs import run
from tests.photographs import saved, small
from tests.test_resume import files

ROUNDS = int(os.environ.get("HELIOGRAPH_LOCK_ROUNDS", "1"))

# Slow for its size, so that one is at work while another starts.
JOB = ("--recipe", "snow:4+frost:3", "--seed", 7, "--batch_size", 2, "--workers", 1)


def an_archive(folder, images):
    folder.mkdir()
    for number in range(images):
        pixels = np.roll(small(height=160, width=160), number, axis=(0, 1))
        (folder / f"{number:03}.png").write_bytes(saved(pixels, "PNG"))
    return folder


def start(archive, out):
    command = [sys.executable, "-m", "heliograph", "degrade", archive, out, *JOB]
    return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)


def one_works(archive, out, jobs=2):
    """Start jobs together; give the one that works, once the others have said that they do not, and
    what those said.
    """
    started = [start(archive, out) for _ in range(jobs)]
    until = time.monotonic() + 300
    while sum(job.poll() is None for job in started) > 1 and time.monotonic() < until:
        time.sleep(0.02)
    at_work = [job for job in started if job.returncode is None]
    refused = [job for job in started if job.returncode is not None]
    assert len(at_work) == 1, [job.communicate()[1] for job in refused]
    told = [job.communicate()[1] for job in refused]
    for job, said in zip(refused, told, strict=True):
        assert job.returncode == ExitCode.LOCKED, said
        assert f"another job holds {out}: process {at_work[0].pid}" in said
    return at_work[0], "".join(told)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_of_two_jobs_one_works_and_one_says_so_also_when_the_first_is_killed(tmp_path, round_):
    archive, whole, out = tmp_path / "archive", tmp_path / "whole", tmp_path / "out"
    an_archive(archive, 40 + 20 * (round_ % 3))
    run("degrade", archive, whole, *JOB, code=ExitCode.OK)
    first, _ = one_works(archive, out, jobs=2 + round_ % 2)
    batches = out / "ledger" / "batches"
    while not (batches.is_dir() and any(batches.iterdir())):
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second, told = one_works(archive, out)
    said = second.communicate(timeout=300)[1]
    assert second.returncode == ExitCode.OK, said
    # Whichever of the two comes first upon what the dead one has left.
    assert f"the lock of a job that has died is taken over: process {first.pid}" in said + told
    assert files(out) == files(whole)
    assert len(list((out / "images").iterdir())) == len(list(archive.iterdir()))
    assert not (out / ".lock").exists()
