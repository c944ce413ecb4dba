"""Commit records tell what became of the images of a batch, and summaries are made from them."""

import json
import time

import pyarrow.parquet as pq
import pytest

from pipeline.ledger import FAILED, RESTORED, Ledger
from pipeline.summary import summarise
from transforms.record import Batch, BatchSpec, Derivative, Record, Source

BYTES = "caf\udce9.jpg"  # a name that is not UTF-8


def batch() -> Batch:
    def sound(key: str) -> Record:
        written = Derivative(key, 3, "ab", 2, 1)
        source = Source(key, f"/archive/{key}", 10, 0.5)
        return Record(source=source, derivative=written, warnings=(f"about {key}",))

    return Batch("b1", (sound("a"), sound("b").failed("read", OSError("gone")), sound(BYTES)))


def test_a_commit_record_begins_with_how_many_images_went_which_way(tmp_path):
    ledger = Ledger(str(tmp_path))
    rows = ledger.commit(batch())
    (path,) = ledger.committed()
    assert ledger.counts(path) == ({RESTORED: 2, FAILED: 1}, 0)
    assert ledger.read(path) == rows
    assert list(ledger.batches()) == [("b1", rows)]


def test_a_summary_is_made_of_names_that_are_not_text(tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.begin({"planned": 3}, [], anew=True)
    ledger.commit(batch())
    summary = summarise(str(tmp_path))
    assert (summary["planned"], summary[RESTORED], summary[FAILED]) == (3, 2, 1)
    table = pq.read_table(tmp_path / "metrics.parquet")
    assert table["key"].to_pylist() == ["a", "b", "caf\\udce9.jpg"]
    assert table["warnings"].to_pylist()[2] == ["about caf\\udce9.jpg"]
    (line,) = (tmp_path / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["message"] == "gone"


def test_a_plan_gives_each_spec_by_its_reference(tmp_path):
    ledger = Ledger(str(tmp_path))
    specs = [BatchSpec((Source(key, key, 1, 0.0),), 7) for key in ("a", BYTES, "\u00e9" * 300)]
    references = ledger.begin({}, specs, anew=True)
    assert [BatchSpec.from_json(ledger.spec(one)) for one in reversed(references)] == specs[::-1]
    assert len((tmp_path / "ledger" / "plan.jsonl").read_text().splitlines()) == 3


def test_the_pace_is_that_of_a_run_that_was_not_stopped(tmp_path):
    ledger = Ledger(str(tmp_path))
    for images, stops in ((800, False), (9000, True)):
        begun = time.time() - 400
        ledger.begin({"begun": begun, "images": images, "pixels": 100 * images}, [], anew=False)
        if stops:
            ledger.stop()
        ledger.write_pace()
        assert ledger.paces() == {
            "images": pytest.approx(2, rel=0.2),
            "pixels": pytest.approx(200, rel=0.2),
        }
    assert ledger.pace() == ledger.paces()["pixels"]
