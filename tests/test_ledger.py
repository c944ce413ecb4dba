"""Commit records tell what became of the images of a batch, and summaries are made from them."""

import json
import time

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.committing import Commit, FetchSpecs
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


def fetched(output, references, run, expected):
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        specs = pipeline | beam.Create(references) | FetchSpecs(str(output), run)
        keys = specs | beam.Map(lambda line: BatchSpec.from_json(line).sources[0].key)
        assert_that(keys, equal_to(expected))


def test_a_runner_that_begins_anew_does_nothing_again_that_is_committed(tmp_path):
    ledger = Ledger(str(tmp_path))
    sources = [Source(key, key, 1, 0.0) for key in "abcd"]
    specs = [BatchSpec((sources[0],), 1), BatchSpec((sources[1],), 1)]
    several = BatchSpec(tuple(sources[2:]), 1, cuts=(1,))  # two batches, the first of them done
    references = ledger.begin({"environment": {"id": "1"}}, [*specs, several], anew=True)
    fetched(tmp_path, references, "1", ["a", "b", "c"])
    for done in (specs[1], several):
        ledger.commit(next(done.batches()))
    fetched(tmp_path, references, "1", ["a", "c"])


def test_what_is_left_of_an_earlier_run_does_and_commits_nothing(tmp_path):
    ledger = Ledger(str(tmp_path))
    spec = BatchSpec((Source("a", "a", 1, 0.0),), 1)
    references = ledger.begin({"environment": {"id": "1"}}, [spec], anew=True)
    ledger.begin({"environment": {"id": "2"}}, [spec], anew=False)
    fetched(tmp_path, references, "1", [])
    for run, committed in (("1", 0), ("2", 1)):
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            _ = pipeline | beam.Create([batch()]) | Commit(str(tmp_path), run=run)
        assert len(ledger.committed()) == committed
