"""The local runner does not wait for workers that are dead."""

import ast
import signal
import subprocess
import sys

import pytest

A_JPG = ("a.jpg", "decode")

WATCH = """
import sys, time
from pathlib import Path
from pipeline import workers
from pipeline.ledger import Ledger

workers._GRACE = workers._UNTIL_TOLD = 0.5
said = Path(sys.argv[1], "workers.log")
with workers.watched(Path(sys.argv[1]), lambda error: f"{error} {said.read_text()}", Ledger("out")):
    time.sleep(float(sys.argv[2]))
"""


def watch(folder, seconds):
    return subprocess.run(
        [sys.executable, "-c", WATCH, str(folder), str(seconds)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_worker_that_was_killed_ends_a_job_that_does_not_notice(tmp_path):
    dead = subprocess.Popen(["sleep", "60"])
    (tmp_path / str(dead.pid)).touch()
    dead.kill()
    dead.wait()
    (tmp_path / "workers.log").write_text("Killed by hand\n")
    done = watch(tmp_path, 50)
    assert done.returncode == 1
    assert "Channel closed" in done.stderr
    assert "Killed by hand" in done.stderr
    assert not tmp_path.exists()


def test_a_worker_that_is_alive_or_has_ended_ends_no_job_and_does_not_outlive_it(tmp_path):
    with subprocess.Popen(["sleep", "300"]) as alive:
        (tmp_path / str(alive.pid)).touch()
        done = watch(tmp_path, 4)
        assert done.returncode == 0, done.stderr
        assert alive.wait() == -signal.SIGKILL


def test_a_process_of_somebody_else_is_left_alone(tmp_path):
    # It has the number that a worker once had.
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as other:
        (tmp_path / str(other.pid)).touch()
        assert watch(tmp_path, 0).returncode == 0
        assert other.poll() is None
        other.kill()


CRASH = """
import ctypes, os, subprocess, sys, threading, time
from pathlib import Path
from pipeline import workers
from pipeline.ledger import Ledger

folder, how = Path(sys.argv[1]), sys.argv[2]
died = "import ctypes, os, time; time.sleep(0.3); " + {
    "crashes": "ctypes.string_at(0)", "is killed": "os.kill(os.getpid(), 9)"
}[how]

def run():  # as Beam's thread that waits for a worker does
    process = subprocess.Popen([sys.executable, "-c", died])
    (folder / str(process.pid)).write_bytes(b"00000012decode\\0a.jpg and what was longer")
    raise RuntimeError(f"Worker subprocess exited with return code {process.wait()}")

ledger = Ledger(str(folder / "out"))
for _ in range(2):
    try:
        with workers.watched(folder, str, ledger):
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            raise RuntimeError("Channel closed")
    except RuntimeError:
        print(sorted((mark.key, mark.stage, mark.alone) for mark in ledger.marks()))
"""


@pytest.mark.parametrize(
    ("how", "blamed"),
    [
        ("crashes", [[(*A_JPG, False)], [(*A_JPG, False), (*A_JPG, True)]]),
        ("is killed", [[], []]),
    ],
)
def test_who_crashes_twice_over_an_image_blames_it_and_who_is_killed_does_not(
    tmp_path, how, blamed
):
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path), how], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert list(map(ast.literal_eval, done.stdout.splitlines())) == blamed
