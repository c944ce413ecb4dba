"""A job that is run again does what is left, and ends as if it had been run once."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.job import ExitCode, JobError
from pipeline.ledger import Ledger
from tests.jobs import children, run
from tests.photographs import small
from tests.shards import tar

DEGRADE = ("--recipe", "gaussian_noise:sigma=20", "--batch_size", 2)


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def a_photo(number):
    return np.roll(small(height=24, width=20), number, axis=1)


@pytest.fixture
def archive(tmp_path):
    """Nine image files, a tar of three more, and a file that is no image."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(9):
        (folder / f"{number}.png").write_bytes(png(a_photo(number)))
    tar(folder / "more.tar", {f"{number}.png": png(a_photo(number)) for number in range(10, 13)})
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n is all there is")
    return folder


@pytest.fixture(autouse=True)
def all_that_is_said(caplog):
    caplog.set_level("INFO")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def degrade(archive, out, *more, code=ExitCode.INCOMPLETE):
    return run("degrade", archive, out, *DEGRADE, *more, code=code).summary


def files(folder):
    """All that a job has written and that is to be the same however it came about."""
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "ledger" not in path.relative_to(folder).parts
    }
    summary = json.loads(found["summary.json"])
    assert summary.pop("environment")  # when it was begun, and by whom
    return found | {"summary.json": summary}


def commits(out):
    """The commit records, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "ledger/batches").iterdir()}


def statuses(out):
    table = pq.read_table(out / "metrics.parquet")
    return dict(zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True))


def test_a_second_run_does_nothing(archive, out, caplog):
    first = degrade(archive, out)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert degrade(archive, out) == first
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == written
    assert "13 images are done already; to do: none" in caplog.text


def test_one_new_image_costs_its_own_batch_alone(archive, out):
    degrade(archive, out)
    before = commits(out)
    (archive / "0a.png").write_bytes(png(a_photo(30)))
    summary = degrade(archive, out)
    assert (summary["planned"], summary["restored"], summary["failed"]) == (14, 13, 1)
    after = commits(out)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1
    assert statuses(out)["0a.png"] == "restored"


def test_a_master_with_other_bytes_is_done_again(archive, out, tmp_path):
    degrade(archive, out)
    (archive / "3.png").write_bytes(png(a_photo(40)))
    touched = archive / "4.png"
    os.utime(touched, (1e9, 1e9))
    before = files(out)
    derivative = (out / "images/4.png").stat().st_mtime_ns
    degrade(archive, out)
    after = files(out)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"images/3.png", "metrics.parquet", "summary.json", "report.html"}
    assert (out / "images/4.png").stat().st_mtime_ns == derivative
    # And it is as if it had been so from the beginning.
    degrade(archive, tmp_path / "anew")
    assert files(tmp_path / "anew") == after


def test_a_touched_master_is_read_once(archive, out, caplog):
    degrade(archive, out)
    os.utime(archive / "4.png", (1e9, 1e9))
    degrade(archive, out)
    assert "1 masters have another size or time" in caplog.text
    caplog.clear()
    degrade(archive, out)
    assert "another size or time" not in caplog.text


def test_masters_that_are_gone_are_told_and_their_derivatives_stay(archive, out, caplog):
    degrade(archive, out)
    (archive / "5.png").unlink()
    summary = degrade(archive, out)
    assert (summary["planned"], summary["gone"]) == (13, 1)
    assert (out / "images/5.png").exists()
    assert "1 images that are done are no longer in the archive" in caplog.text
    assert "5.png" in caplog.text
    written = commits(out)
    assert degrade(archive, out) == summary, "and it stays so"
    assert commits(out) == written


def test_what_failed_is_done_again_when_asked(archive, out):
    degrade(archive, out)
    broken = archive / "broken.png"
    then = broken.stat()
    good = png(a_photo(50))
    # Of the size and time of before, as a disk that could not be read for a while gives it.
    broken.write_bytes(good)
    os.utime(broken, ns=(then.st_atime_ns, then.st_mtime_ns))
    ledger = Ledger(str(out))
    for _, record in ledger.records():
        rows = [
            {**row, "source_bytes": 1} if row["key"] == "broken.png" else row
            for row in record["rows"]
        ]
        if rows != record["rows"]:
            ledger.rewrite(record, rows)
    before = commits(out)
    assert degrade(archive, out, "--retry", "failed", code=ExitCode.OK)["failed"] == 0
    assert (out / "images/broken.png").exists()
    assert len(before.items() - commits(out).items()) == 1


def test_what_is_damaged_is_done_again_when_asked(archive, out, caplog):
    degrade(archive, out)
    before, written = files(out), commits(out)
    (out / "images/2.png").write_bytes(b"eaten by moths")
    (out / "images/more.tar/11.png").unlink()
    degrade(archive, out)
    assert "to do: none" in caplog.text  # a job does not read what it has written before
    degrade(archive, out, "--retry", "damaged")
    assert files(out) == before
    assert len(written.items() - commits(out).items()) == 2


def test_only_what_is_named_is_done(archive, out):
    summary = degrade(archive, out, "--only", "1.png", "--only", "more*", code=ExitCode.OK)
    assert summary["planned"] == 4
    assert set(statuses(out)) == {"1.png", *(f"more.tar#{n}.png" for n in (10, 11, 12))}
    assert degrade(archive, out)["planned"] == 13


def test_a_key_that_is_not_there_is_said(archive, out):
    with pytest.raises(JobError, match=r"--only nothing\.png is none of the 13 images"):
        degrade(archive, out, "--only", "nothing.png")


def test_an_archive_is_done_in_pieces(archive, out, tmp_path):
    for done in (5, 10):
        summary = degrade(archive, out, "--limit", 5, code=None)
        assert summary["planned"] == done
    degrade(archive, out, "--limit", 5)
    degrade(archive, tmp_path / "at once")
    assert files(out) == files(tmp_path / "at once")


def test_a_plan_can_be_looked_at(archive, out, capsys):
    run("degrade", archive, out, *DEGRADE, "--dry_run", code=ExitCode.OK)
    assert not out.exists()
    told = capsys.readouterr().out
    assert "images in the archive" in told
    assert [int(n) for n in told.split() if n.isdigit()][:3] == [13, 0, 13]
    degrade(archive, out, "--limit", 4, code=None)
    capsys.readouterr()
    run("degrade", archive, out, *DEGRADE, "--dry_run", code=ExitCode.OK)
    told = capsys.readouterr().out
    assert [int(n) for n in told.split() if n.isdigit()][:3] == [13, 4, 9]
    assert "at the last pace" in told


@pytest.mark.parametrize("container", ["folder", "tfrecord", "parquet"])
@pytest.mark.parametrize("planned", [True, False])
def test_what_a_crash_leaves_is_gone_on_with(archive, out, tmp_path, container, planned):
    whole = tmp_path / "whole"
    degrade(archive, whole, "--output_format", container)
    shutil.copytree(whole, out)
    # As a job leaves it that was killed: some batches are not committed, of some of those the
    # images are written, and there is half of a temporary file.
    for number, path in enumerate(sorted((out / "ledger/batches").iterdir())):
        if number % 2:
            path.unlink()
    written = sorted(path for path in out.rglob("*") if path.suffix in (".png", ".tfrecord"))
    for path in written[::3]:
        if not any(
            path.name in commit.read_text() for commit in (out / "ledger/batches").iterdir()
        ):
            path.unlink()
    (out / ".tmp").mkdir()
    (out / ".tmp/1234").write_bytes(b"half")
    (out / "summary.json").unlink()
    (out / "metrics.parquet").unlink()
    if not planned:
        (out / "ledger/plan.jsonl").unlink()
    before = commits(out)
    degrade(archive, out, "--output_format", container)
    assert before.items() <= commits(out).items()  # nothing is done twice
    left, right = files(out), files(whole)
    if not planned and container != "folder":  # shards are cut anew
        left, right = ({n: d for n, d in f.items() if "shards" not in n} for f in (left, right))
        left.pop("metrics.parquet"), right.pop("metrics.parquet")
        assert statuses(out) == statuses(whole)
    assert left == right


SLOW = ("--recipe", "snow:5+frost:5+fog:5", "--batch_size", "1")


def begun(archive, out, *options, **more):
    """Start a job of 173 images, and wait until it has committed three."""
    for number in range(100, 260):
        (archive / f"{number}.png").write_bytes(png(small(height=96, width=96)))
    command = [sys.executable, "-m", "heliograph", "degrade", archive, out, *SLOW, *options]
    words = [*map(str, command), "--workers", "1"]
    job = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True, **more)
    folder = out / "ledger/batches"
    deadline = time.monotonic() + 120
    while not folder.is_dir() or len(os.listdir(folder)) < 3:
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.05)
    return job


def test_ctrl_c_ends_a_job_between_two_batches(archive, tmp_path, out):
    job = begun(archive, out, "--max_failed", "0", "--metrics_file", tmp_path / "job.prom")
    folder = out / "ledger/batches"
    os.killpg(job.pid, signal.SIGINT)
    said = job.communicate(timeout=120)[1]
    assert job.returncode == ExitCode.INTERRUPTED, said
    done = len(os.listdir(folder))
    assert 3 <= done < 173
    assert f"interrupted: {173 - done} images are left" in said
    summary = json.loads((out / "summary.json").read_text())
    assert summary["restored"] + summary["failed"] == done
    assert not (out / "gates.json").exists()  # of half a job nothing is told
    told = (tmp_path / "job.prom").read_text()
    assert f'heliograph_last_run_exit_code{{output="{out}"}} 130.0\n' in told
    assert f'heliograph_last_completion_timestamp_seconds{{output="{out}"}} 0.0\n' in told
    before = commits(out)
    ended = run("degrade", archive, out, *SLOW, code=ExitCode.INCOMPLETE)
    assert ended.summary["planned"] == 173
    assert before.items() <= commits(out).items()
    assert not (out / ".tmp").exists()


def test_a_second_ctrl_c_ends_a_job_at_once(archive, out):
    # As a shell does with what it runs in the background.
    ignoring = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    job = begun(archive, out, preexec_fn=ignoring)
    workers = children(job.pid)
    for worker in workers:  # or the batch under way might be done between the two
        os.kill(worker, signal.SIGSTOP)
    job.send_signal(signal.SIGINT)
    while "stopping once the batches under way are done" not in job.stderr.readline():
        assert job.poll() is None
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=60)
    assert job.returncode == ExitCode.INTERRUPTED
    assert workers and not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert not (out / "summary.json").exists()
    before = commits(out)
    run("degrade", archive, out, *SLOW, code=ExitCode.INCOMPLETE)
    assert before.items() <= commits(out).items()
