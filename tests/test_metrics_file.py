"""The file for Prometheus, held to Prometheus' own parser."""

import json
import os
import re
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import cli
from pipeline.job import ExitCode
from pipeline.lock import Lock
from pipeline.metrics_file import FAMILIES, MetricsFile, MetricsFileError
from tests.jobs import IN_PROCESS
from tests.photographs import saved, small

ROOT = Path(__file__).parents[1]
NOISE = ("--recipe", "gaussian_noise:sigma=25")


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(3):
        pixels = np.roll(small(height=30, width=40), number, axis=1)
        (folder / f"{number}.png").write_bytes(saved(pixels, "PNG"))
    return folder


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "textfiles"
    folder.mkdir()
    return folder / "job.prom"


def job(archive, out, file, *options, command="degrade"):
    """Run a command as its line says, with the file for Prometheus; give its exit code."""
    parser, commands = cli._parser()
    argv = [command, archive, out, *NOISE, "--metrics_file", file, *options, *IN_PROCESS]
    return cli._job(parser, commands, list(map(str, argv)))


def told(file, output):
    """Give all that the file tells of an output: values by name and the other labels."""
    found = {}
    for family in text_string_to_metric_families(file.read_text("utf-8")):
        assert family.type == "gauge"
        assert family.documentation == FAMILIES[family.name.removeprefix("heliograph_")]
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("output") == str(output)
            name = sample.name.removeprefix("heliograph_")
            found[(name, *labels.values()) if labels else name] = sample.value
    return found


def test_a_job_that_went_well_tells_what_is_in_its_summary_and_its_files(archive, tmp_path, file):
    out = tmp_path / "out"
    began = time.time()
    assert job(archive, out, file, "--at_most", "gone=0", "--max_failed", "50%") == ExitCode.OK
    found, summary = told(file, out), json.loads((out / "summary.json").read_text())
    assert found["last_run_exit_code"] == 0
    assert began <= found["last_run_timestamp_seconds"] <= time.time()
    assert 0 < found["last_run_duration_seconds"] <= time.time() - began
    for when in ("last_success", "last_completion"):
        assert found[f"{when}_timestamp_seconds"] == found["last_run_timestamp_seconds"]
    assert {status: found["images", status] for status in ("restored", "failed")} == {
        "restored": 3,
        "failed": 0,
    }
    assert (found["images_planned"], found["source_pixels"]) == (3, 3 * 30 * 40)
    assert found["source_bytes"] == sum(path.stat().st_size for path in archive.iterdir())
    assert found["derivative_bytes"] == sum(
        path.stat().st_size for path in (out / "images").iterdir()
    )
    pace = json.loads((out / "ledger" / "pace.json").read_text())
    assert found["images_per_second"] == pytest.approx(3 / pace["seconds"])
    psnr = pq.read_table(out / "metrics.parquet").column("psnr_rgb_degraded").to_numpy()
    assert found["score_mean", "psnr_rgb_degraded"] == pytest.approx(psnr.mean(), rel=1e-12)
    assert found["score_images", "psnr_rgb_degraded"] == 3
    assert found["score_stddev", "psnr_rgb_degraded"] == pytest.approx(psnr.std(ddof=1))
    assert found["score_quantile", "0.5", "psnr_rgb_degraded"] == np.median(psnr)
    assert found["gate_passed", "--max_failed 50%"] == found["gates_passed"] == 1
    assert (found["gate_value", "--max_failed 50%"], found["gate_limit", "--max_failed 50%"]) == (
        0,
        0.5,
    )
    (info,) = (key for key in found if key[0] == "job_info")
    assert {"degrade", summary["digest"][:12]} <= set(info)


def test_failed_runs_keep_what_was_known_and_when_all_was_well(archive, tmp_path, file):
    out = tmp_path / "out"
    assert job(archive, out, file) == ExitCode.OK
    before = told(file, out)

    with Lock(str(out)):
        assert job(archive, out, file) == ExitCode.LOCKED
    locked = told(file, out)
    changed = {name for name in before if locked[name] != before[name]}
    assert locked.keys() == before.keys()
    assert changed == {
        "last_run_exit_code",
        "last_run_timestamp_seconds",
        "last_run_duration_seconds",
    }
    assert locked["last_run_exit_code"] == 75

    assert job(tmp_path / "nowhere", out, file) == ExitCode.USAGE
    assert told(file, out)["last_run_exit_code"] == 2
    assert told(file, out)["images", "restored"] == 3

    (archive / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n is all there is")
    assert job(archive, out, file) == ExitCode.INCOMPLETE
    found = told(file, out)
    assert (found["images", "failed"], found["failures", "decode"]) == (1, 1)
    assert found["last_completion_timestamp_seconds"] == found["last_run_timestamp_seconds"]
    assert found["last_success_timestamp_seconds"] == before["last_success_timestamp_seconds"]

    assert job(archive, out, file, "--max_failed", "0", "--baseline", out) == ExitCode.FIXITY
    found = told(file, out)
    assert found["gate_passed", "--max_failed 0"] == found["gates_passed"] == 0
    assert found["drift_passed", "failed"] == 1
    assert found["last_success_timestamp_seconds"] == before["last_success_timestamp_seconds"]

    written = file.read_bytes()
    assert job(archive, out, file, "--dry_run") == ExitCode.OK
    assert file.read_bytes() == written


def test_a_job_that_has_never_been_well_says_so(tmp_path, file):
    assert job(tmp_path / "nowhere", tmp_path / "out", file) == ExitCode.USAGE
    found = told(file, tmp_path / "out")
    assert found["last_success_timestamp_seconds"] == 0
    assert found["last_completion_timestamp_seconds"] == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("error", "code"), [(RuntimeError, 1), (KeyboardInterrupt, 130)])
def test_what_ends_a_job_from_within_is_told(tmp_path, file, error, code):
    with pytest.raises(error), MetricsFile(str(file), str(tmp_path)):
        raise error
    assert told(file, tmp_path)["last_run_exit_code"] == code


def test_names_are_escaped(tmp_path, file):
    output = tmp_path / 'a "b"\n\\c é'
    for _ in range(2):  # read back, the second time
        with MetricsFile(str(file), str(output)) as one:
            one.code = ExitCode.OK
    assert told(file, output)["last_run_exit_code"] == 0
    with MetricsFile(str(file), os.fsdecode(b"/no text \xff")) as one:
        one.code = ExitCode.LOCKED
    assert told(file, "/no text \\xff")["last_run_exit_code"] == 75


def test_anybody_may_read_the_file_and_nothing_is_left_beside_it(tmp_path, file):
    before = os.umask(0o077)
    try:
        with MetricsFile(str(file), str(tmp_path)):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_is_no_file_of_ours_is_written_anew_and_said(tmp_path, file, caplog):
    file.write_text("heliograph_images{ 3\n\x00")
    with MetricsFile(str(file), str(tmp_path)):
        pass
    assert "was no file of ours" in caplog.text
    assert told(file, tmp_path)["last_run_exit_code"] == 1


def test_a_file_that_can_no_longer_be_written_is_said_and_ends_no_job(tmp_path, file, caplog):
    with MetricsFile(str(file), str(tmp_path)) as one:
        one.code = ExitCode.OK
        file.parent.rmdir()
    assert "for Prometheus, was not written" in caplog.text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("textfiles/master.jpg", "names that end in .prom"),
        ("nowhere/job.prom", "is no folder that can be written to"),
        ("s3://bucket/job.prom", "a file of this machine"),
    ],
)
def test_a_place_that_will_not_do_is_refused_at_once(tmp_path, file, path, said):
    place = path if "://" in path else str(tmp_path / path)
    with pytest.raises(MetricsFileError, match=said):
        MetricsFile(place, str(tmp_path))


def test_without_the_client_the_extra_is_named(archive, tmp_path, file, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert job(archive, tmp_path / "out", file) == ExitCode.USAGE
    assert "pip install 'heliograph[prometheus]'" in caplog.text
    assert not (tmp_path / "out").exists()


def test_the_page_names_every_series_and_no_other():
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    assert set(re.findall(r"heliograph_(\w+)", page)) == set(FAMILIES)
