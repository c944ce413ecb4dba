"""The ledger says of every image what was found, done and written, and of a job what it was."""

import hashlib
import json
import os
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image

import heliograph
from pipeline.environment import CONTAINER, moment
from pipeline.rows import COLUMNS
from tests.jobs import run
from tests.photographs import gray_profile, srgb_profile
from transforms.guards import GUARDS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def job(tmp_path_factory, models) -> dict:
    """A job on masters that differ in all that a row tells, run twice, in other batches."""
    folder = tmp_path_factory.mktemp("audit")
    archive = folder / "archive"
    archive.mkdir()
    photo = skimage.data.astronaut()[:300, :420]
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(photo).save(
        archive / "turned.jpg", exif=exif, dpi=(300, 200), icc_profile=srgb_profile()
    )
    deep = photo[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(archive / "deep.tif", icc_profile=gray_profile())
    Image.fromarray(photo).convert("CMYK").save(archive / "press.tif")
    (archive / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for number in range(8):
        Image.fromarray(photo[number : number + 20, :30]).save(archive / f"{number}.png")
    output = {}
    os.environ[CONTAINER] = "sha256:0123"
    try:
        for name, options in {"one": ("--batch_size", 1), "two": ("--batch_pixels", 10**9)}.items():
            output[name] = folder / name
            said = ("--model", models / "blur", "--tile", 256, "--operator", "Ada Lovelace")
            run("restore", archive, output[name], *said, *options, code=3)
    finally:
        del os.environ[CONTAINER]
    rows = pq.read_table(output["one"] / "metrics.parquet").to_pylist()
    return {"archive": archive, **output, "rows": {row["key"]: row for row in rows}}


def commits(output: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in (output / "ledger" / "batches").iterdir()]


def test_a_row_tells_what_the_master_was_and_what_was_written(job):
    row = job["rows"]["turned.jpg"]
    master, derivative = job["archive"] / "turned.jpg", job["one"] / "images" / "turned.jpg"
    expected = {
        "status": "restored",
        "source": str(master),
        "source_member": None,
        "source_bytes": master.stat().st_size,
        "source_modified": master.stat().st_mtime,
        "source_sha256": hashlib.sha256(master.read_bytes()).hexdigest(),
        "source_width": 300,  # upright
        "source_height": 420,
        "format": "JPEG",
        "mode": "RGB",
        "bits": 8,
        "orientation": 6,
        "icc_sha256": hashlib.sha256(srgb_profile()).hexdigest(),
        "dpi_x": 300.0,
        "dpi_y": 200.0,
        "conversions": [],
        "recipe": None,
        "mask": None,
        "derivative": "turned.jpg",
        "derivative_bytes": derivative.stat().st_size,
        "derivative_sha256": hashlib.sha256(derivative.read_bytes()).hexdigest(),
        "derivative_format": "JPEG",
        "derivative_compression": "JPEG 4:4:4",
        "width": 300,
        "height": 420,
        "shard": None,
        "member": None,
    }
    assert {name: row[name] for name in expected} == expected
    assert (row["tiles_down"], row["tiles_across"]) > (1, 1)
    assert {f"guard_{name}" for name, guard in GUARDS.items() if guard.on} <= row.keys()
    assert row["guard_seams"] < 1


def test_depth_profile_and_conversions_are_those_of_each_master(job):
    deep, press, broken = (job["rows"][key] for key in ("deep.tif", "press.tif", "broken.png"))
    assert (deep["bits"], deep["format"]) == (16, "TIFF")
    assert deep["icc_sha256"] == hashlib.sha256(gray_profile()).hexdigest()
    assert deep["dpi_x"] is None
    assert press["mode"] == "CMYK"
    assert press["icc_sha256"] is None
    assert broken["status"] == "failed"
    assert broken["source_sha256"] is not None
    assert broken["derivative"] is broken["width"] is broken["guard_clipping"] is None


def test_rows_and_tables_are_the_same_in_any_batch_and_at_any_time(job):
    one, two = (
        sorted((row for commit in commits(job[name]) for row in commit["rows"]), key=str)
        for name in ("one", "two")
    )
    assert len(commits(job["one"])) > len(commits(job["two"]))
    assert one == two
    assert (job["one"] / "metrics.parquet").read_bytes() == (
        job["two"] / "metrics.parquet"
    ).read_bytes()


def test_when_and_where_is_in_the_head_of_a_commit_record(job):
    for commit in commits(job["two"]):
        made = commit["made"]
        started, ended = (datetime.fromisoformat(made[name]) for name in ("started", "ended"))
        assert started <= ended
        assert (datetime.now(started.tzinfo) - started).total_seconds() < 3600
        assert made["attempt"] == 1
        assert made["host"] == os.uname().nodename
        assert made["device"]
        text = json.dumps(commit["rows"])
        assert made["started"][:10] not in text
        assert made["host"] not in text.replace(str(job["archive"]), "")


def test_a_moment_is_iso_8601():
    assert moment(0.0004) == "1970-01-01T00:00:00.000Z"
    assert moment(1234567890.9996) == "2009-02-13T23:31:31.000Z"  # date -u -d @1234567891
    assert datetime.fromisoformat(moment(1.5)).timestamp() == 1.5


def test_what_a_job_is_run_with_is_said_once(job):
    told = json.loads((job["one"] / "ledger" / "job.json").read_text())
    around = told["environment"]
    assert around["operator"] == "Ada Lovelace"
    assert around["container"] == "sha256:0123"
    assert around["runner"].endswith("FnApiRunner")
    assert re.fullmatch("[0-9a-f-]{36}", around["id"])
    other = json.loads((job["two"] / "ledger" / "job.json").read_text())
    assert other["environment"]["id"] != around["id"]
    assert other["digest"] == told["digest"], "who runs it, when and where decides no derivative"
    if (ROOT / ".git").exists():
        assert re.fullmatch("[0-9a-f]{40}(-dirty)?", around["revision"])
    else:
        assert around["revision"] is None
    assert told["versions"]["heliograph"] in (heliograph.__version__, "not installed")
    facts = told["job"]
    assert facts["contract"]["signature"] == "serving_default"
    assert facts["guards"]["clipping"] == GUARDS["clipping"].threshold
    summary = json.loads((job["one"] / "summary.json").read_text())
    assert summary["environment"] == around


def test_the_page_says_what_every_column_is():
    page = (ROOT / "docs" / "ledger.md").read_text("utf-8")
    names = set(re.findall(r"`([a-z0-9_]+)`", page))
    assert {column.name for column in COLUMNS} <= names
