"""One job at a time on one output."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
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
        assert len(list((tmp_path / CLAIMS).iterdir())) == 3
    assert not (tmp_path / CLAIMS).exists()


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


def claim_of(output, name, since=None, alive=None, **owner):
    """Write what a job does that claims an output, each file as of so many seconds ago."""
    folder = output / CLAIMS
    folder.mkdir(parents=True, exist_ok=True)
    for kind, ago in ((".claim.json", since), (".alive", alive)):
        if ago is not None:
            path = folder / f"{name}{kind}"
            path.write_text(json.dumps({"user": "anna", **owner}))
            os.utime(path, (time.time() - ago,) * 2)


def test_a_container_of_the_same_name_counts_its_processes_by_itself(tmp_path):
    """Number 1 there is another process than number 1 here, and that is no death."""
    place = "another-boot pid:[4026532000]"
    host = socket.gethostname()
    claim_of(tmp_path, "1", 5, 5, host=host, pid=1, born="1", place=place)
    with pytest.raises(LockedError, match="process 1 of anna"), Lock(str(tmp_path)):
        pass


def test_a_process_of_this_machine_lives_until_it_is_gone(tmp_path):
    """One that is stopped, or waits for a disk, is silent; and goes on to write."""
    with Lock(str(tmp_path)):
        for path in (tmp_path / CLAIMS).iterdir():
            then = time.time() - 10 * lock.SILENCE
            os.utime(path, (then, then))
        with pytest.raises(LockedError, match=f"process {os.getpid()}"), Lock(str(tmp_path)):
            pass


def test_what_is_left_of_a_process_is_no_process(tmp_path, caplog):
    job = hold(tmp_path, 60)
    assert job.stdout.readline() == "held\n"
    job.kill()
    os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has asked for it
    try:
        with Lock(str(tmp_path)):
            assert f"taken over: process {job.pid}" in caplog.text
    finally:
        job.communicate()


def test_a_clock_that_is_set_back_gives_nobody_a_lock_that_is_held(tmp_path):
    with Lock(str(tmp_path)):
        (claim,) = (tmp_path / CLAIMS).glob("*.claim.json")
        then = time.time() + 3600  # by the clock that was
        os.utime(claim, (then, then))
        with pytest.raises(LockedError), Lock(str(tmp_path)):
            pass


class Slow(Lock):
    """Whose claim is a while on its way to the disk, under the time at which it set out."""

    def _write(self, kind):
        if kind != ".claim.json":
            return super()._write(kind)
        path = Path(self._folder) / "on its way"
        path.write_text(json.dumps(self._owner))
        time.sleep(1)
        return path.rename(path.with_name(self._name + kind))


def test_a_claim_that_is_slow_to_show_is_waited_for(tmp_path):
    held, together = [], []

    def job(kind):
        try:
            with kind(str(tmp_path)):
                held.append(kind)
                together.append(len(held))
                time.sleep(3)
                held.remove(kind)
        except LockedError:
            pass

    slow, quick = (threading.Thread(target=job, args=(kind,)) for kind in (Slow, Lock))
    slow.start()
    time.sleep(0.5)
    quick.start()
    for thread in (slow, quick):
        thread.join()
    assert together == [1]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_who_died_before_it_had_a_claim_is_not_waited_for_long(tmp_path, monkeypatch, where):
    if where == "here":
        job = subprocess.Popen(["true"])
        job.wait()
        claim_of(tmp_path, "1", alive=1, pid=job.pid, born="1", place=lock._place())
    else:
        monkeypatch.setattr(lock, "SILENCE", 1.0)
        claim_of(tmp_path, "1", alive=0.5, pid=1, born="1", place="elsewhere")
    began = time.monotonic()
    with Lock(str(tmp_path)):
        assert not (tmp_path / CLAIMS / "1.alive").exists()
    assert time.monotonic() - began < 10


def test_jobs_that_come_and_go_never_hold_it_together(tmp_path):
    code = """
import sys, time
from pathlib import Path
from pipeline.lock import Lock, LockedError
held = 0
until = time.monotonic() + 2
while time.monotonic() < until:
    try:
        with Lock(sys.argv[1]):
            with Path(sys.argv[1], "inside").open("x"):
                held += 1
            Path(sys.argv[1], "inside").unlink()
    except LockedError:
        pass
print(held)
"""
    jobs = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [job.communicate()[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 3
    assert sum(map(int, said)) > 5


def test_a_folder_that_the_last_job_takes_away_as_it_leaves_is_made_anew(tmp_path, monkeypatch):
    taken, make = [], os.makedirs

    def make_and_lose(path, **options):
        make(path, **options)
        if not taken:
            taken.append(path)
            Path(path).rmdir()

    monkeypatch.setattr(os, "makedirs", make_and_lose)
    with Lock(str(tmp_path)):
        assert taken == [str(tmp_path / CLAIMS)]


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["", "deaf"])
def test_a_job_that_was_taken_for_dead_ends(tmp_path, monkeypatch, handler):
    """Also one that a shell has begun in the background, which is to ignore SIGINT."""
    monkeypatch.setattr(lock, "BEAT", 0.05)
    before = signal.signal(signal.SIGINT, handler)
    began = time.monotonic()
    try:
        with pytest.raises(LostError, match="taken for dead"), Lock(str(tmp_path)):
            for path in (tmp_path / CLAIMS).iterdir():
                path.unlink()
            while time.monotonic() - began < 30:
                time.sleep(0.01)
        assert time.monotonic() - began < 10
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


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
