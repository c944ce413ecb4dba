"""One job at a time on one output."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import lock
from pipeline.lock import CLAIMS, Lock, LockedError, LostError

HOLD = """
import sys, time
from pipeline.lock import Lock, LockedError
try:
    with Lock(sys.argv[1]):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
except LockedError as error:
    print("locked", error, flush=True)
"""


def hold(output, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def test_of_many_jobs_started_together_just_one_holds_the_output(tmp_path):
    jobs = [hold(tmp_path, 3) for _ in range(4)]
    said = sorted(job.communicate()[0].split()[0] for job in jobs)
    assert said == ["held", "locked", "locked", "locked"]


def test_a_job_that_was_killed_holds_nothing(tmp_path, caplog):
    job = hold(tmp_path, 60)
    assert job.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=f"process {job.pid} of .* on {socket.gethostname()}"):
        Lock(str(tmp_path)).__enter__()
    job.kill()
    job.communicate()
    with Lock(str(tmp_path)):
        assert f"taken over: process {job.pid}" in caplog.text


def test_nothing_is_left_of_a_lock(tmp_path):
    with Lock(str(tmp_path)):
        assert len(list((tmp_path / CLAIMS).iterdir())) == 2
    assert not (tmp_path / CLAIMS).exists()


def test_a_heartbeat_without_a_claim_is_dropped_once_it_is_silent(tmp_path):
    folder = tmp_path / CLAIMS
    folder.mkdir()
    for name, silent in {"old": 90, "young": 5}.items():
        (folder / f"{name}.alive").write_text("{}")
        os.utime(folder / f"{name}.alive", (time.time() - silent,) * 2)
    with Lock(str(tmp_path)):
        pass
    assert [path.name for path in folder.iterdir()] == ["young.alive"]


def test_nothing_is_left_of_a_lock_that_could_not_be_claimed(tmp_path, monkeypatch):
    real = lock.storage.write

    def full(path, data, scratch):
        if path.endswith(".claim.json"):
            raise lock.storage.StorageError("no room")
        real(path, data, scratch)

    monkeypatch.setattr(lock.storage, "write", full)
    with pytest.raises(lock.storage.StorageError), Lock(str(tmp_path)):
        raise AssertionError("the lock is held")
    assert list((tmp_path / CLAIMS).iterdir()) == []


def claim_of_another_machine(output, silent):
    """Write what a job on another machine does, whose last heartbeat was so many seconds ago."""
    folder = output / CLAIMS
    folder.mkdir(parents=True)
    owner = {"user": "anna", "host": "elsewhere", "pid": 1, "born": "1"}
    then = time.time() - silent
    for name, text in (("1.claim.json", json.dumps(owner)), ("1.alive", "{}")):
        (folder / name).write_text(text)
        os.utime(folder / name, (then, then))


def test_a_job_of_another_machine_lives_as_long_as_its_heart_beats(tmp_path):
    claim_of_another_machine(tmp_path, lock.SILENCE / 2)
    with pytest.raises(LockedError, match="process 1 of anna on elsewhere"), Lock(str(tmp_path)):
        pass
    assert sorted(path.name for path in (tmp_path / CLAIMS).iterdir()) == [
        "1.alive",
        "1.claim.json",
    ]


def test_a_job_of_another_machine_whose_heart_is_silent_is_dead(tmp_path):
    claim_of_another_machine(tmp_path, lock.SILENCE * 2)
    with Lock(str(tmp_path)):
        assert not (tmp_path / CLAIMS / "1.claim.json").exists()


def test_a_job_that_was_taken_for_dead_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    began = time.monotonic()
    with pytest.raises(LostError, match="taken for dead"), Lock(str(tmp_path)):
        for path in (tmp_path / CLAIMS).iterdir():
            path.unlink()
        while time.monotonic() - began < 30:
            time.sleep(0.01)
    assert time.monotonic() - began < 10


def test_the_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with Lock(str(tmp_path)):
        (alive,) = (tmp_path / CLAIMS).glob("*.alive")
        (claim,) = (tmp_path / CLAIMS).glob("*.claim.json")
        before = alive.stat().st_mtime_ns, claim.stat().st_mtime_ns
        time.sleep(0.5)
        after = alive.stat().st_mtime_ns, claim.stat().st_mtime_ns
    assert after[0] > before[0]
    assert after[1] == before[1]


def test_a_lock_is_told_from_the_folder_it_is_in(tmp_path):
    with Lock(str(tmp_path / "one")), Lock(str(tmp_path / "two")):
        assert Path(tmp_path / "one" / CLAIMS).is_dir()
