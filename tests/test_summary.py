"""Summaries are the same however rows are shared out, tell what the rows hold, and stay small."""

import io
import itertools
import json
import math
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import groups, sorting, summary
from pipeline.ledger import Ledger
from pipeline.statistics import OTHERS
from pipeline.summary import TABLES, Part, Summarise, fold, summarise
from tests.jobs import IN_PROCESS, run
from transforms.recipe import parse_recipe
from transforms.record import Batch, Derivative, Failure, Record, Source, Tripped


def record(key, *, recipe=None, page=1, status="restored", metrics=None, guards=None, member=None):
    """A record at its end."""
    record = Record(
        source=Source(key, f"/archive/{key}", 10, 0.5, member),
        recipe=None if recipe is None else parse_recipe(recipe).canonical,
        page=page,
        metrics=metrics or {},
        guards=guards or {},
        derivative=Derivative(key, 3, "ab", 2, 1),
    )
    if status == "failed":
        return record.replace(derivative=None, failure=Failure("read", "CodecError", "cut short"))
    if status == "quarantined":
        tripped = Tripped("identity", 0.5, 0.9, "it is another picture")
        return record.replace(tripped=(tripped,), warnings=("look at it",))
    return record


def commit(output: Path, *batches, **job):
    ledger = Ledger(str(output))
    ledger.begin({"planned": sum(map(len, batches)), **job}, [], anew=True)
    for number, records in enumerate(batches):
        ledger.commit(Batch(f"b{number}", tuple(records)))
    return ledger


def results(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in TABLES}


keys = st.text(
    st.characters(codec=None, exclude_characters="\0", categories=("L", "N", "P", "Cs", "So")),
    min_size=1,
    max_size=6,
)
scores = st.dictionaries(
    st.sampled_from(["psnr_rgb_gain", "ssim_restored", "mse_restored"]),
    st.none() | st.floats(-1e6, 1e6),
    max_size=3,
)


@st.composite
def shared_out(draw):
    """Records, and two ways of sharing them out in batches and these in groups."""
    names = draw(st.lists(keys, unique=True, min_size=1, max_size=20))
    records = [
        record(
            name,
            recipe=draw(st.sampled_from([None, "jpeg:3", "jpeg:4+gaussian_noise:4"])),
            status=draw(st.sampled_from(["restored", "failed", "quarantined"])),
            metrics=draw(scores),
            guards=draw(st.dictionaries(st.sampled_from(["seams", "identity"]), st.floats(0, 1))),
        )
        for name in names
    ]
    ways = []
    for _ in range(2):
        mixed = draw(st.permutations(records))
        cuts = sorted(draw(st.lists(st.integers(0, len(mixed)), max_size=4)))
        ends = [0, *cuts, len(mixed)]
        batches = [mixed[start:stop] for start, stop in itertools.pairwise(ends)]
        ways.append(([batch for batch in batches if batch], draw(st.integers(1, 3000))))
    return ways


@settings(deadline=None, max_examples=40)
@given(shared_out())
def test_the_same_rows_give_the_same_bytes_however_they_are_shared_out(tmp_path_factory, ways):
    made = []
    for batches, size in ways:
        output = tmp_path_factory.mktemp("out")
        commit(output, *batches)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(summary, "_LEAST", size)  # bytes of a group
            patch.setattr(summary, "_FEWEST_GROUPS", 100)
            patch.setattr(summary, "_AT_A_TIME", 3)
            patch.setattr(summary, "ROW_GROUP", 4)
            patch.setattr(sorting, "BATCH", 2)
            patch.setattr(sorting, "SLICE", 2)
            summarise(str(output))
        made.append(results(output))
    assert made[0] == made[1]
    found = pq.ParquetFile(io.BytesIO(made[0]["metrics.parquet"]))
    metadata = found.metadata
    records = [record for batch in ways[0][0] for record in batch]
    rows_of = [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)]
    assert rows_of[:-1] == [4] * (len(rows_of) - 1)
    table = found.read()
    in_order = sorted(records, key=lambda record: record.key)
    shown = [one.key.encode("utf-8", "backslashreplace").decode() for one in in_order]
    assert table["key"].to_pylist() == shown
    for name in {name for one in records for name in one.metrics}:
        assert table[name].to_pylist() == [one.metrics.get(name) for one in in_order]
    lines = [json.loads(line) for line in made[0]["failures.jsonl"].splitlines()]
    assert [line["key"] for line in lines] == [
        one.key for one in in_order if one.failure or one.tripped
    ]
    told = json.loads(made[0]["summary.json"])
    assert told["failed"] == sum(one.failure is not None for one in records)
    assert told["quarantined"] == sum(bool(one.tripped) for one in records)


def test_a_summary_tells_what_the_rows_hold_in_all_and_in_groups(tmp_path):
    rng = np.random.default_rng(0)
    recipes = ("jpeg:1", "jpeg:5", "gaussian_noise:sigma=25", "gaussian_noise:5+jpeg:5")
    records = [
        record(
            f"{'ab'[number % 2]}/deep/{number}.png",
            recipe=recipes[number % 4],
            metrics={"psnr_rgb_gain": float(rng.normal(2, 1)), "ssim_gain": None},
        )
        for number in range(200)
    ]
    gains = np.array([one.metrics["psnr_rgb_gain"] for one in records])
    commit(tmp_path, records[:50], records[50:])
    told = summarise(str(tmp_path))
    assert told == json.loads((tmp_path / "summary.json").read_text())
    assert told["metrics"].keys() == {"psnr_rgb_gain"}, "what no image has is left out"
    found = told["metrics"]["psnr_rgb_gain"]
    assert (found["count"], found["min"], found["max"]) == (200, gains.min(), gains.max())
    assert found["mean"] == pytest.approx(gains.mean(), rel=1e-12)
    assert found["std"] == pytest.approx(gains.std(ddof=1), rel=1e-12)
    assert found["quantiles"]["0.25"] == pytest.approx(np.quantile(gains, 0.25), rel=1e-12)
    test = scipy.stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert found["ci95"] == pytest.approx([test.low, test.high], rel=1e-12)
    counts = {
        kind: {name: of["psnr_rgb_gain"]["count"] for name, of in members.items()}
        for kind, members in told["groups"].items()
    }
    assert counts == {
        "degradation": {"gaussian_noise": 50, "gaussian_noise+jpeg": 50, "jpeg": 100},
        "severity": {"1": 50, "5": 100},  # sigma=25 is none of the five
        "model": {},
        "folder": {"a": 100, "b": 100},
        "format": {},
    }
    assert told["groups"]["folder"]["b"]["psnr_rgb_gain"]["mean"] == pytest.approx(
        gains[1::2].mean(), rel=1e-12
    )


def test_many_folders_are_told_of_in_bounded_memory(tmp_path):
    records = [
        record(f"{number:04}/x.png", metrics={"mse_gain": float(number)}) for number in range(300)
    ]
    commit(tmp_path, records[::2], records[1::2])
    folders = summarise(str(tmp_path))["groups"]["folder"]
    assert list(folders) == [OTHERS, *(f"{number:04}" for number in range(64))]
    assert folders[OTHERS]["mse_gain"]["count"] == 300 - 64


def row(key, member=None, **more):
    return {"key": key, "source_member": member, "recipe": None, "format": None, **more}


def test_a_folder_is_the_first_of_the_archive_and_a_shard_is_one():
    assert groups.folder(row("box/deep/a.png")) == "box"
    assert groups.folder(row("a.png")) == groups.folder(row("a#b.png")) == "."
    assert groups.folder(row("box.tar#a/b.png", "a/b.png")) == "box.tar"
    assert groups.folder(row("deep/box.tar#a/b.png#page=2", "a/b.png")) == "deep"
    assert groups.folder(row("album.tif", "album.tif")) == ".", "of an earlier job's shards"


@pytest.mark.parametrize(
    ("recipe", "degradation", "severity"),
    [
        ("scratches:2", "scratches", "2"),
        ("scratches:2+dust:2", "scratches+dust", "2"),
        ("scratches:2+dust:3", "scratches+dust", None),
        ("grayscale", "grayscale", None),
        ("grayscale+jpeg:3", "grayscale+jpeg", None),
        ("gaussian_noise:sigma=25", "gaussian_noise", None),
    ],
)
def test_damage_is_named_by_what_was_done_to_the_image(recipe, degradation, severity):
    found = row("a", recipe=parse_recipe(recipe).canonical)
    assert (groups.degradation(found), groups.severity(found)) == (degradation, severity)


def test_beam_and_a_single_process_write_the_same_bytes(tmp_path, monkeypatch):
    records = [
        record(f"{number}.png", metrics={"mse_gain": math.sin(number)}, recipe="jpeg:2")
        for number in range(100)
    ]
    ledger = commit(tmp_path, *(records[start : start + 7] for start in range(0, 100, 7)))
    summarise(str(tmp_path))
    before = results(tmp_path)
    monkeypatch.setattr(summary, "_LEAST", 4000)
    assert len(summary.shared_out(ledger)) == 8
    found = []
    for name in TABLES:
        (tmp_path / name).unlink()
    with beam.Pipeline(runner=IN_PROCESS[1]) as pipeline:
        counted = pipeline | beam.Create([50, 50]) | Summarise(str(tmp_path))
        _ = counted | beam.Map(found.append)
    assert results(tmp_path) == before


def test_a_group_that_is_folded_twice_writes_the_same_file(tmp_path):
    ledger = commit(tmp_path, [record("b"), record("a")])
    folder = str(tmp_path / "runs")
    made = []
    for _ in range(2):
        part = fold(ledger, ["b0"], folder, folder)
        (path,) = part.runs
        made.append(Path(path).read_bytes())
    assert made[0] == made[1]


def test_what_is_known_of_a_part_does_not_grow_with_its_rows(tmp_path):
    ledger = commit(tmp_path, [record("a", metrics={"mse_gain": 1.0})])
    part = fold(ledger, ["b0"], str(tmp_path), str(tmp_path))
    whole = Part()
    whole.merge(part)
    whole.merge(part)
    assert part.counts == {"restored": 1}, "what is merged stays as it is"
    assert whole.counts == {"restored": 2}
    assert whole.metrics == {"mse_gain"}


def test_an_output_without_a_row_has_a_summary(tmp_path):
    commit(tmp_path)
    told = summarise(str(tmp_path))
    assert (told["planned"], told["restored"], told["metrics"]) == (0, 0, {})
    assert pq.read_table(tmp_path / "metrics.parquet").num_rows == 0
    assert (tmp_path / "failures.jsonl").read_bytes() == b""


def test_pages_come_after_their_first_and_cells_of_a_matrix_in_order(tmp_path):
    ledger = commit(tmp_path, [record("a.tif", page=page) for page in (1, 2, 10)], [record("z")])
    paths = sorted(ledger.committed())
    records = [ledger.record(path) for path in paths]
    cells = [
        {**row, "recipe": recipe, "derivative": f"{cell}/a.tif"}
        for row in records[0]["rows"]
        # Of two cells that draw their recipes, both may have drawn the same one.
        for cell, recipe in (("3", "b"), ("2", "a"), ("1", "b"))
    ]
    made = []
    for start in range(len(cells)):
        mixed = cells[start:] + cells[:start]
        ledger.rewrite(records[0], mixed[:4])
        ledger.rewrite(records[1], mixed[4:])
        summarise(str(tmp_path))
        made.append((tmp_path / "metrics.parquet").read_bytes())
    assert len(set(made)) == 1
    columns = pq.read_table(tmp_path / "metrics.parquet").to_pydict()
    seen = list(zip(columns["page"], columns["recipe"], columns["derivative"], strict=True))
    # Keys are text: #page=10 is before #page=2.
    of_page = [("a", "2/a.tif"), ("b", "1/a.tif"), ("b", "3/a.tif")]
    assert seen == [(page, *cell) for page in (1, 10, 2) for cell in of_page]


def test_a_job_that_was_interrupted_has_the_summary_of_one_that_was_not(archive, tmp_path):
    how = ("--recipe", "gaussian_noise:3", "--batch_size", "1")
    run("degrade", archive, tmp_path / "whole", *how)
    run("degrade", archive, tmp_path / "parts", *how, "--limit", "1")
    run("degrade", archive, tmp_path / "parts", *how)
    whole, parts = results(tmp_path / "whole"), results(tmp_path / "parts")
    assert whole["metrics.parquet"] == parts["metrics.parquet"]
    told = [json.loads(made["summary.json"]) for made in (whole, parts)]
    for one in told:
        assert one.pop("environment")
    assert told[0] == told[1]
    of_noise = told[0]["groups"]["degradation"]["gaussian_noise"]
    assert of_noise == told[0]["groups"]["severity"]["3"] == told[0]["metrics"]
