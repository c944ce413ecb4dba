"""The local runner does not wait for workers that are dead."""

import os
import subprocess
import sys

WATCH = """
import sys, time
from pathlib import Path
from pipeline import runner

runner._GRACE = 0.5
with runner._watched(Path(sys.argv[1]), Path(sys.argv[1], "workers.log")):
    time.sleep(float(sys.argv[2]))
"""


def watch(folder, seconds):
    return subprocess.run(
        [sys.executable, "-c", WATCH, str(folder), str(seconds)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_worker_that_was_killed_ends_a_job_that_does_not_notice(tmp_path):
    dead = subprocess.Popen(["sleep", "60"])
    (tmp_path / str(dead.pid)).touch()
    dead.kill()
    dead.wait()
    (tmp_path / "workers.log").write_text("Killed by hand\n")
    done = watch(tmp_path, 50)
    assert done.returncode == 1
    assert "a worker process was killed" in done.stderr
    assert "Killed by hand" in done.stderr
    assert not tmp_path.exists()


def test_a_worker_that_is_alive_or_has_ended_ends_no_job(tmp_path):
    (tmp_path / str(os.getpid())).touch()
    done = watch(tmp_path, 4)
    assert done.returncode == 0, done.stderr
