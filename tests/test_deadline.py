"""An image that takes too long fails, and nothing but that image does."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import transforms.restore
from models.contract import Contract
from tests import saved_models
from tests.jobs import run
from tests.test_resume import statuses
from transforms import deadline
from transforms.deadline import Limit, RecordTimeoutError
from transforms.record import Batch, Record, Source
from transforms.restore import restore_batch, restore_images

LONG = 3600


def record(key, level=200, shape=(16, 16, 3)):
    return Record(source=Source(key, f"/archive/{key}", 9, 0.0), pixels=np.full(shape, level, "u1"))


def limit(folder, seconds=0.2, **settings):
    return Limit(seconds, str(folder / "marks"), str(folder / ".tmp"), **settings)


def messages(batch):
    return {one.key: one.failure and one.failure.message for one in batch.records}


class Clock:
    """Time that passes when it is told to: the machine may be busy."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        for module in (transforms.restore, deadline):
            clock = SimpleNamespace(monotonic=lambda: self.now, sleep=time.sleep)
            monkeypatch.setattr(module, "time", clock)

    def slow_for(self, key, seconds):
        def function(record):
            self.now += seconds if record.key == key else 0.01
            return record

        return function


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_an_image_that_took_too_long_fails_before_the_next_stage(tmp_path, clock):
    batch = Batch("b", (record("a"), record("b"), record("c")), limit=limit(tmp_path))
    stages = {
        "decode": clock.slow_for("b", 0.15),
        "degrade": clock.slow_for("b", 0.15),
        "write": clock.slow_for("", 0),
    }
    done = batch.map(stages)
    assert [one.key for one in done.records if one.failure] == ["b"]
    failure = done.records[1].failure
    assert (failure.stage, failure.error) == ("write", "RecordTimeoutError")
    assert "longer than 0.2 s" in failure.message
    assert "--record_timeout" in failure.message


def test_time_is_counted_over_stages_of_their_own_and_not_for_neighbours(tmp_path, clock):
    batch = Batch("b", (record("a"), record("b"), record("c")), limit=limit(tmp_path))
    for name in ("decode", "degrade", "measure"):
        batch = batch.map({name: clock.slow_for("b", 0.15)})
    batch = batch.map({"write": clock.slow_for("", 0)})
    assert [bool(one.failure) for one in batch.records] == [False, True, False]


def test_a_model_is_broken_off_between_two_windows(tmp_path, clock):
    calls = []

    def model(images):
        calls.append(images.shape)
        clock.now += 0.06
        return images

    image = np.zeros((1500, 1500, 3), np.uint8)
    with (
        pytest.raises(RecordTimeoutError),
        deadline.Working(limit(tmp_path), "restore", ("a",), 0.0),
    ):
        restore_images([image], model, Contract(name="slow"), tile=256)
    assert len(calls) == 4  # there are 36 windows, and 0.24 s is too long


HANGS = """
import sys, time
from pathlib import Path
from tests.test_deadline import limit, record
from transforms import deadline
from transforms.record import Batch

deadline._AT_LEAST = 0.1
deadline._LOOK_EVERY = 0.05
folder = Path(sys.argv[1])
batch = Batch("b", (record("fast"), record("hangs")), limit=limit(folder).looked_up())
batch.map({"decode": lambda one: time.sleep(600) if one.key == "hangs" else one})
"""


def test_a_call_that_does_not_return_ends_the_process_and_fails_at_once_the_next_time(tmp_path):
    hangs = [sys.executable, "-c", HANGS, str(tmp_path)]
    done = subprocess.run(hangs, capture_output=True, timeout=300)
    assert done.returncode == 1, done.stderr
    (mark,) = deadline.read_marks(str(tmp_path / "marks"))
    assert (mark.key, mark.stage, mark.alone) == ("hangs", "decode", True)

    seen = []
    batch = Batch("b", (record("fast"), record("hangs")), limit=limit(tmp_path).looked_up())
    done = batch.map({"decode": lambda one: seen.append(one.key) or one})
    assert seen == ["fast"]
    assert "longer than 0.2 s" in messages(done)["hangs"]
    assert messages(done)["fast"] is None

    longer = Batch("b", (record("hangs"),), limit=limit(tmp_path, 0.5).looked_up())
    assert messages(longer.map({"decode": lambda one: one})) == {"hangs": None}


def test_what_is_no_mark_is_passed_over(tmp_path, caplog):
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "a.json").write_text("{")
    (tmp_path / "marks" / "b.json").write_text('{"key": "a"}')
    assert limit(tmp_path).looked_up().marks == {}
    assert len(caplog.messages) == 2


class Model:
    """Notes how many images it is given together."""

    contract = Contract(name="noting")

    def __init__(self):
        self.stacks = []

    def __call__(self, images):
        self.stacks.append(len(images))
        return images


def test_suspects_go_through_the_model_alone(tmp_path):
    records = tuple(record(key) for key in "abcd")
    together = Model()
    restore_batch(Batch("b", records, limit=limit(tmp_path, LONG)), together)
    assert together.stacks == [4]
    marks = {key: deadline.Mark(key, "restore", False, LONG) for key in "ab"}
    apart = Model()
    done = restore_batch(Batch("b", records, limit=limit(tmp_path, LONG, marks=marks)), apart)
    assert sorted(apart.stacks) == [1, 1, 2]
    assert not any(one.failure for one in done.records)


# -- Whole jobs


@pytest.fixture(scope="module")
def dark(tmp_path_factory):
    """Twelve images of one size, of which one is dark, and one that is dark and of another size."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(12):
        Image.new("RGB", (16, 16), (20 if number == 5 else 200 + number,) * 3).save(
            folder / f"{number:02}.png"
        )
    return folder


REASONS = {
    "refuses_the_dark": "it is too dark in here",
    "not_a_number_in_the_dark": "gave NaN",
    "half_size_in_the_dark": "gave 8 x 8 pixels for 16 x 16",
}


@pytest.mark.parametrize("kind", REASONS)
def test_an_image_that_a_model_fails_on_takes_none_of_its_stack_with_it(dark, tmp_path, kind):
    model = getattr(saved_models, kind)(tmp_path / kind)
    out = tmp_path / "out"
    run("restore", dark, out, "--model", model, code=3)
    assert statuses(out) == {
        f"{number:02}.png": "failed" if number == 5 else "restored" for number in range(12)
    }
    (line,) = (out / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["stage"] == "restore"
    assert REASONS[kind] in json.loads(line)["message"]


# In `make torture` one of a stack hangs, which takes one worker more to find out.
STACKED = "HELIOGRAPH_KILLS" in os.environ


def test_a_model_that_hangs_over_one_image_loses_only_that(tmp_path, heliograph):
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    for number in range(9):
        pixels = Image.new("RGB", (16, 16), (20 if number == 5 else 200 + number,) * 3)
        if number == 5 and not STACKED:
            pixels = pixels.resize((16, 32))
        pixels.save(archive / f"{number}.png")
    model = saved_models.endless_in_the_dark(tmp_path / "model")
    job = ("restore", archive, out, "--model", model, "--record_timeout", 5, "--workers", 2)
    began = time.monotonic()
    done = heliograph(*job, "--batch_size", 4, code=3)
    print(f"{time.monotonic() - began:.1f} s\n{done.stderr}")
    assert "5.png took longer than 5 s, and its worker was ended (in restore)" in done.stderr
    assert statuses(out) == {
        f"{number}.png": "failed" if number == 5 else "restored" for number in range(9)
    }
    (line,) = map(json.loads, (out / "failures.jsonl").read_text().splitlines())
    assert (line["stage"], line["error"]) == ("restore", "RecordTimeoutError")
    assert not (out / "ledger/marks").exists()
    assert not (out / ".tmp").exists()


def an_image_that_crashes_its_worker_fails_and_nothing_else_does(tmp_path, heliograph):
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    for number in range(9):
        Image.new("RGB", (16, 16), (0 if number == 5 else 200 + number,) * 3).save(
            archive / f"{number}.png"
        )
    job = ("degrade", archive, out, "--recipe", "jpeg:1", "--workers", 2, "--batch_size", 3)
    done = heliograph(*job, "--beam_plugin", "tests.crashing_decoder", code=3)
    print(done.stderr)
    assert "5.png crashed its worker (in decode): it is tried once more, alone" in done.stderr
    assert "5.png crashed its worker (in decode): it fails" in done.stderr
    assert "Traceback" not in done.stderr
    assert [key for key, status in statuses(out).items() if status == "failed"] == ["5.png"]
    (line,) = map(json.loads, (out / "failures.jsonl").read_text().splitlines())
    assert (line["stage"], line["error"]) == ("decode", "RecordCrashError")
    assert not (out / "ledger/marks").exists()
    assert not (out / ".tmp").exists()


if STACKED:
    test_an_image_that_crashes_its_worker = (
        an_image_that_crashes_its_worker_fails_and_nothing_else_does
    )
