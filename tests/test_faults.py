"""Storage that fails under a job: what passes is tried again, what lasts ends the job, and the run
after it ends as if nothing had happened. No image is blamed for it.
"""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from pipeline.job import JobCrashedError, JobError
from tests import faulty_files
from tests.jobs import run
from tests.photographs import shifted
from tests.shards import tar
from tests.test_resume import commits, files, statuses
from transforms import storage

IMAGES = int(os.environ.get("HELIOGRAPH_FAULT_IMAGES", "24"))
ROUNDS = int(os.environ.get("HELIOGRAPH_FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("HELIOGRAPH_SEED", "5"))
TORTURE = "HELIOGRAPH_FAULT_ROUNDS" in os.environ

JOB = ("--recipe", "gaussian_noise:sigma=20+mask", "--seed", 3, "--batch_size", 3)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Images in files and in a tar, and one that is broken, which is its own fault."""
    folder = tmp_path_factory.mktemp("masters")
    for number in range(IMAGES // 2):
        (folder / f"{number:03}.jpg").write_bytes(shifted(number, "JPEG", 40, 32))
    tar(folder / "a.tar", {f"{n:03}.png": shifted(n, "PNG", 40, 32) for n in range(IMAGES // 2)})
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n is all there is")
    return folder


@pytest.fixture(scope="module")
def whole(archive, tmp_path_factory):
    """What the job comes to where nothing is in its way."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run("degrade", archive, out, *JOB, code=3)
    return out


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(storage, "FIRST_WAIT", 0.0001)


def until_done(once, out, most=200):
    """Run a job until it comes to its end; tell what it said each time that it did not.

    What was committed once is never done again.
    """
    crashes, kept = [], {}
    while len(crashes) < most:
        said = once()
        written = commits(out) if (out / "ledger/batches").is_dir() else {}
        assert kept.items() <= written.items(), "what was committed has been done again"
        kept = written
        if said is None:
            return crashes
        crashes.append(said)
    raise AssertionError(f"the job has crashed {most} times, the last time of {crashes[-1]}")


def in_process(archive, out, *more):
    def once():
        try:
            run("degrade", archive, out, *JOB, *more, code=3)
        except JobCrashedError as error:
            return str(error)
        except JobError as error:  # before anything was begun
            return str(error)
        return None

    return once


def leftovers(out):
    """Files that no output of a job that has ended holds."""
    hidden = [path for path in out.rglob("*") if path.is_file() and ".tmp" in path.parts]
    locks = [path for path in out.rglob("*") if path.is_file() and ".lock" in path.parts]
    return hidden + locks + list((out / "ledger").glob("stop"))


@pytest.fixture
def faulty(monkeypatch, tmp_path):
    """Let files of faulty:// fail, and count how."""
    log = tmp_path / "faults.log"

    def begin(rate, seed, **more):
        monkeypatch.setenv(faulty_files.VARIABLE, f"{rate} {seed} {log}")

    begin.log = log
    begin(0, 0)
    return begin


def test_a_file_system_that_fails_one_call_in_twenty_loses_nothing(archive, tmp_path, faulty):
    there, whole = f"{faulty_files.SCHEME}://{archive}", tmp_path / "whole"
    run("degrade", there, whole, *JOB, code=3)
    crashes, needed = [], {"create", "write", "close", "rename", "exists"}
    operations = set()
    for number in range(ROUNDS + 5):
        if number >= ROUNDS and operations >= needed:
            break  # chance has hit all of them
        out = tmp_path / f"out {number}"
        faulty(0.05, SEED + number)
        crashes += until_done(in_process(there, f"{faulty_files.SCHEME}://{out}"), out)
        assert files(out) == files(whole)
        assert leftovers(out) == []
        operations = {fault.split()[0] for fault in faulty_files.counted(faulty.log)}
    tell(crashes, faulty.log)
    assert operations >= needed


def test_a_job_that_gives_up_at_the_first_fault_ends_as_if_it_had_not(
    archive, tmp_path, faulty, monkeypatch
):
    monkeypatch.setattr(storage, "TRIES", 1)
    run("degrade", archive, tmp_path / "plain", *JOB, "--pictures", 0, code=3)
    plain = files(tmp_path / "plain")
    crashes = []
    for number in range(ROUNDS):
        out = tmp_path / f"out {number}"
        faulty(0.006, SEED + number)
        # A picture that cannot be read is said in the report, which would be another one.
        once = in_process(archive, f"{faulty_files.SCHEME}://{out}", "--pictures", 0)

        def and_dies(once=once, out=out):
            said = once()
            # A lock that cannot be let go is taken over from the dead, and this process lives on.
            shutil.rmtree(out / ".lock", ignore_errors=True)
            return said

        crashes += until_done(and_dies, out)
        assert files(out) == plain
    tell(crashes, faulty.log)
    assert crashes
    assert all("cannot " in said for said in crashes)


def tell(crashes, log):
    faults = faulty_files.counted(log)
    print(f"{len(crashes)} crashes; {sum(faults.values())} faults: {dict(sorted(faults.items()))}")


# -- A disk that is full, or read-only


class Disk:
    """A disk that holds so many bytes below a folder, as far as the job's writes go, or none."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.room, self.code = folder, None, errno.ENOSPC
        monkeypatch.setattr(storage, "open", self.open, raising=False)

    def open(self, path, mode):
        if mode != "wb" or self.room is None:
            return open(path, mode)
        if self.code == errno.EROFS and self.held() > self.room:
            raise OSError(errno.EROFS, "Read-only file system", path)
        disk = self

        class Raw(io.FileIO):
            def write(self, data):
                free = disk.room - disk.held()
                if disk.code == errno.ENOSPC and len(data) > free:
                    super().write(data[: max(free, 0)])
                    raise OSError(errno.ENOSPC, "No space left on device")
                return super().write(data)

        return io.BufferedWriter(Raw(path, "w"))

    def held(self):
        # Claims and heartbeats come and go.
        files = [path for path in self.folder.rglob("*") if ".lock" not in path.parts]
        return sum(path.stat().st_size for path in files if path.is_file())


@pytest.mark.parametrize(
    ("code", "share"),
    [(errno.ENOSPC, 0.4), (errno.ENOSPC, 0.97), (errno.EROFS, 0.4)],
    ids=["full", "full at the end", "read-only"],
)
def test_a_disk_that_fills_up_or_turns_read_only_ends_the_job_and_blames_no_image(
    archive, whole, tmp_path, monkeypatch, code, share
):
    out = tmp_path / "out"
    disk = Disk(out, monkeypatch)
    disk.code = code
    disk.room = int(share * sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()))
    for _ in range(2):  # no better the second time
        said = in_process(archive, out, "--workers", 1)()
        assert "Read-only" in said or "No space left on device" in said
        remedy = f"bytes are free in {out}" if code == errno.ENOSPC else f"make {out}"
        assert remedy in said
        statuses = Counter(
            json.loads(line[:-1] if line.endswith(",") else line)["status"]
            for path in out.glob("ledger/batches/*.json")
            for line in path.read_text().splitlines()[1:-1]
        )
        assert statuses["failed"] <= 1  # the one that is broken
    disk.room = None
    assert until_done(in_process(archive, out), out) == []
    assert files(out) == files(whole)
    assert leftovers(out) == []


def test_a_name_that_the_disk_cannot_hold_is_the_images_own_fault(archive, tmp_path):
    masters = tmp_path / "masters"
    masters.mkdir()
    for name in ("short.png", "x" * 249 + ".png"):
        (masters / name).write_bytes(shifted(1, "PNG", 40, 32))
    out = tmp_path / "out"
    run("degrade", masters, out, *JOB, "--image_format", "webp", code=3)
    assert statuses(out) == {"short.png": "restored", "x" * 249 + ".png": "failed"}


def test_a_pipe_among_the_masters_is_never_opened(tmp_path):
    masters = tmp_path / "masters"
    masters.mkdir()
    (masters / "a.png").write_bytes(shifted(1, "PNG", 40, 32))
    for name in ("pipe.png", "pipe.tar"):
        os.mkfifo(masters / name)  # to read it would wait for ever
    out = tmp_path / "out"
    run("degrade", masters, out, *JOB, code=3)
    assert Counter(statuses(out).values()) == {"restored": 1, "failed": 2}
    lines = map(json.loads, (out / "failures.jsonl").read_text().splitlines())
    assert all("is not a regular file" in line["message"] for line in lines)


# -- The same with worker processes, and a real disk: `make torture`


def by_command(archive, out, *more):
    """Run the job as a user does; 3 is for the image that is broken."""
    done = subprocess.run(
        [sys.executable, "-m", "heliograph", "degrade", *map(str, (archive, out, *JOB, *more))],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode in (1, 2, 3), done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def command_until_done(archive, out, *more):
    def once():
        code, said = by_command(archive, out, *more)
        return None if code == 3 else said

    return once


def worker_processes_on_a_file_system_that_fails(archive, whole, tmp_path, monkeypatch):
    log = tmp_path / "faults.log"
    crashes = []
    for number in range(ROUNDS):
        out = tmp_path / f"out {number}"
        monkeypatch.setenv(faulty_files.VARIABLE, f"0.05 {SEED + number} {log} 0.01")
        there = f"{faulty_files.SCHEME}://{out}"
        once = command_until_done(archive, there, "--beam_plugin", faulty_files.PLUGIN)
        crashes += until_done(once, out)
        assert files(out) == files(whole)
        assert leftovers(out) == []
    tell(crashes, log)


@contextmanager
def tmpfs(folder, size):
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def worker_processes_on_a_disk_that_is_full(archive, whole, tmp_path):
    disk = tmp_path / "disk"
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        with tmpfs(disk, int(share * size) + (1 << 16)):
            out = disk / "out"
            code, said = by_command(archive, out)
            print(f"{share:.0%} of the room: {said.splitlines()[-3:]}")
            assert code == 1
            assert f"bytes are free in {disk}" in said
            subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
            assert until_done(command_until_done(archive, out), out) == []
            assert files(out) == files(whole)
            assert leftovers(out) == []
        disk.rmdir()


def worker_processes_on_a_disk_that_turns_read_only(archive, whole, tmp_path):
    disk = tmp_path / "disk"
    with tmpfs(disk, "1g"):
        out = disk / "out"
        for after in range(3):
            job = subprocess.Popen(
                [sys.executable, "-m", "heliograph", "degrade", *map(str, (archive, out, *JOB))],
                stderr=subprocess.PIPE,
                text=True,
            )
            batches = out / "ledger" / "batches"
            before = len(list(batches.iterdir())) if after else 0
            while not batches.is_dir() or len(list(batches.iterdir())) <= before:
                time.sleep(0.002)
            while subprocess.run(["mount", "-o", "remount,ro", disk]).returncode:
                time.sleep(0.001)  # somebody was writing
            said = job.communicate(timeout=120)[1]
            print(said.splitlines()[-3:])
            assert job.returncode == 1
            assert "Read-only file system" in said
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert until_done(command_until_done(archive, out), out) == []
        assert files(out) == files(whole)
        assert leftovers(out) == []


if TORTURE:
    test_worker_processes_on_faulty_files = worker_processes_on_a_file_system_that_fails
    if os.geteuid() == 0:  # who may mount
        test_worker_processes_on_a_full_disk = worker_processes_on_a_disk_that_is_full
        test_worker_processes_on_a_closed_disk = worker_processes_on_a_disk_that_turns_read_only
