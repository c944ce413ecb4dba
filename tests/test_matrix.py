"""A matrix is the jobs that it is made of, in one: same images, same scores, each decoded once."""

import dataclasses
import re
import shutil
import weakref

import bagit
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.contract import Contract
from pipeline.job import ExitCode, JobError
from pipeline.ledger import Ledger
from pipeline.matrix import Applied, make_matrix
from pipeline.verify import verify
from tests.jobs import run
from tests.test_recipe import recipes
from transforms import cells, codec
from transforms.metrics import METRICS
from transforms.recipe import parse_recipe
from transforms.stage import BatchCoder
from transforms.write import Encoding

RECIPES = ("gaussian_noise:2", "gaussian_noise:3", "mask:2,shape=rectangles")
ALL = "gaussian_noise:2-3, mask:2,shape=rectangles"
FOLDERS = ("gaussian_noise-2", "gaussian_noise-3", "mask-2-shape=rectangles")
MODELS = ("blur", "constant_chroma")


def rows(output):
    """The rows of metrics.parquet, by key and cell."""
    table = pq.read_table(output / "metrics.parquet").to_pylist()
    found = {(row["key"], row["cell"]): row for row in table}
    assert len(found) == len(table)
    return found


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def committed(output):
    return {path.name: path.stat().st_mtime_ns for path in (output / "ledger/batches").iterdir()}


@pytest.fixture
def masters(tmp_path, photographs):
    """Photographs in several formats, one of them on two pages, and a file that is none."""
    folder = tmp_path / "archive"
    (folder / "album one").mkdir(parents=True)
    cut = {name: Image.fromarray(one[60:150, 50:163]) for name, one in photographs.items()}
    cut["astronaut"].save(folder / "astronaut.png")
    cut["chelsea"].save(folder / "album one" / "chelsea.jpg", quality=95)
    cut["coffee"].save(folder / "album one" / "coffee [1].tif")
    cut["rocket"].convert("L").save(folder / "rocket.webp", lossless=True)
    pages = cut["coffee"].rotate(90), cut["chelsea"].rotate(180)
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff is all there is")
    return folder


@pytest.fixture
def matrix(masters, models, tmp_path):
    """A matrix, run; and a function that runs it again."""

    def evaluate(*more, out=tmp_path / "matrix", code=None):
        named = ",".join(str(models / name) for name in MODELS)
        told = ("--model", named, "--recipe", ALL, "--batch_size", 2)
        return out, run("evaluate", masters, out, *told, *more, code=code).summary

    return evaluate


def test_a_matrix_equals_its_jobs(masters, models, matrix, tmp_path, monkeypatch):
    decoded, scored = [], []
    decode_pages, ssim = codec.decode_pages, METRICS["ssim"]
    monkeypatch.setattr(
        codec, "decode_pages", lambda *a, **k: decoded.append(1) or decode_pages(*a, **k)
    )
    counted = dataclasses.replace(
        ssim, function=lambda *a: scored.append(len(a)) or ssim.function(*a)
    )
    monkeypatch.setitem(METRICS, "ssim", counted)
    monkeypatch.setattr(BatchCoder, "encode", lambda *a: pytest.fail("pixels are written down"))
    metrics = ("--metrics", "default,ciede2000")
    out, summary = matrix(*metrics, "--pictures", 0, code=ExitCode.INCOMPLETE)
    assert len(decoded) == 6  # five photographs, and one that is none: not once for each cell
    # Of six images: doing nothing on each of three recipes, and two models on each.
    assert scored.count(1) == 6 * 3 + 6 * 3 * 2
    monkeypatch.undo()
    assert summary["planned"] == 7 * 6  # a file of two pages is two images
    assert summary["further_pages"] == 6
    assert summary["failed"] == 6
    page = (out / "report.html").read_text()
    assert re.search(r'class="headline">(blur did best: PSNR went|No one model is best: )', page)
    assert "Of 42 results of 7 images, 36 were restored and 6 failed." in page
    found, names = rows(out), []
    for model in MODELS:
        for recipe, folder in zip(RECIPES, FOLDERS, strict=True):
            alone, cell = tmp_path / model / folder, f"{model}/{folder}"
            told = ("--model", models / model, "--recipe", recipe)
            one = run("evaluate", masters, alone, *told, *metrics).summary
            assert one["planned"] == 7
            for kind in ("images", "masks", "quarantine"):
                assert files(out / kind / cell) == files(alone / kind)
            for (key, _), row in rows(alone).items():
                expected = {**row, "cell": cell}
                for path in ("derivative", "mask"):
                    if row[path] is not None:
                        expected[path] = f"{cell}/{row[path]}"
                row_of_cell = found.pop((key, cell))
                assert row_of_cell == dict.fromkeys(row_of_cell) | expected
                assert row["model"] == model
            names.append(cell)
    assert not found
    # In the table an image's cells are neighbours, and in the order that is told.
    table = pq.read_table(out / "metrics.parquet").to_pylist()
    places = [(row["key"], row["page"], row["recipe"] or "", row["model"]) for row in table]
    assert places == sorted(places)
    assert {row["model"] for row in table} == set(MODELS)
    checked = verify(str(out), deep=True, with_masters=True)
    assert checked["sound"], checked["findings"]
    assert checked["masters"]["unchanged"] == 6
    assert sorted(path.name for path in (out / "images").iterdir()) == sorted(MODELS)


def test_a_batch_that_is_partly_done_goes_on_with_what_is_missing(matrix, tmp_path):
    whole, summary = matrix(out=tmp_path / "whole")
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    for number, path in enumerate(sorted((out / "ledger/batches").iterdir())):
        if number % 4 == 1:
            path.unlink()
    for name in ("summary.json", "metrics.parquet"):
        (out / name).unlink()
    before = committed(out)
    assert 0 < len(before) < len(committed(whole))
    again = matrix(out=out)[1]
    assert before.items() <= committed(out).items()  # nothing is done twice
    assert {k: v for k, v in again.items() if k != "environment"} == {
        k: v for k, v in summary.items() if k != "environment"
    }
    for name in ("metrics.parquet", "failures.jsonl", "images", "masks"):
        one, other = out / name, whole / name
        assert (files(one) if one.is_dir() else one.read_bytes()) == (
            files(other) if other.is_dir() else other.read_bytes()
        )


def test_with_another_plan_each_image_goes_through_the_cells_that_it_has_not(
    masters, matrix, photographs, tmp_path
):
    whole, _ = matrix(out=tmp_path / "whole")
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    for number, path in enumerate(sorted((out / "ledger/batches").iterdir())):
        if number % 4 == 1:
            path.unlink()
    before = committed(out)
    Image.fromarray(photographs["rocket"]).save(masters / "rocket too.png")
    summary = matrix(out=out)[1]
    assert before.items() <= committed(out).items()
    assert summary["planned"] == 8 * 6
    assert len(rows(out)) == 8 * 6
    found = rows(out)
    for place, row in rows(whole).items():
        assert found[place] == row
    assert verify(str(out))["sound"]
    # And a master with other bytes is done again in all of them.
    Image.fromarray(photographs["coffee"]).save(masters / "rocket too.png")
    stale = {path.name for path in (out / "images").rglob("rocket too.png")}
    assert stale
    summary = matrix(out=out)[1]
    assert summary["planned"] == 8 * 6
    changed = {place for place, row in rows(out).items() if found[place] != row}
    assert changed == {place for place in found if place[0] == "rocket too.png"}


def test_what_failed_in_one_cell_is_done_again_there(models, photographs, tmp_path, capsys):
    """One model gives NaN for dark images, so that they fail with it and with it alone."""
    folder = tmp_path / "archive"
    folder.mkdir()
    light = 255 - photographs["rocket"] // 3
    Image.fromarray(light).save(folder / "light.png")
    Image.fromarray(photographs["rocket"] // 3).save(folder / "dark.png")
    named = f"{models / 'identity'},{models / 'not_a_number_in_the_dark'}"
    out = tmp_path / "out"
    told = ("evaluate", folder, out, "--model", named, "--recipe", "jpeg:1-2", "--guard", "none")
    summary = run(*told, code=ExitCode.INCOMPLETE).summary
    assert (summary["planned"], summary["restored"], summary["failed"]) == (8, 6, 2)
    failed = {place for place, row in rows(out).items() if row["status"] == "failed"}
    assert failed == {("dark.png", "nan/jpeg-1"), ("dark.png", "nan/jpeg-2")}
    before = committed(out)
    run(*told, "--dry_run")
    told_of = dict(line.rsplit(None, 1) for line in capsys.readouterr().out.splitlines())
    assert told_of["images in the archive"] == "2"
    assert told_of["results of each"] == "4"
    assert told_of["done already"] == "8"
    summary = run(*told, "--retry", "failed", code=ExitCode.INCOMPLETE).summary
    assert (summary["planned"], summary["restored"], summary["failed"]) == (8, 6, 2)
    done = committed(out).items() - before.items()
    assert len(done) == 2  # the dark one, in two of four cells
    # A file of one cell that is not what it was.
    (out / "images/identity/jpeg-2/light.png").write_bytes(b"eaten by moths")
    assert not verify(str(out))["sound"]
    before = rows(out)
    assert run(*told, "--retry", "damaged").summary["planned"] == 8
    assert verify(str(out))["sound"]
    assert rows(out) == before
    # Only some of the images, and then the others.
    few = tmp_path / "few"
    told = (told[0], folder, few, *told[3:])
    assert run(*told, "--limit", 1).summary["planned"] == 4
    assert run(*told).summary["planned"] == 8
    assert rows(few) == rows(out)
    only = (told[0], folder, tmp_path / "only", *told[3:], "--only", "light.png")
    assert run(*only, code=ExitCode.OK).summary["planned"] == 4


def test_shards_and_their_fields_are_of_one_cell_each(matrix, masters, tmp_path):
    files_, _ = matrix(out=tmp_path / "files")
    out, summary = matrix("--output_format", "webdataset", out=tmp_path / "shards")
    assert summary["planned"] == 42
    assert verify(str(out), deep=True)["sound"]
    left, right = rows(files_), rows(out)
    assert left.keys() == right.keys()
    for place, row in left.items():
        assert right[place]["derivative_sha256"] == row["derivative_sha256"]
        assert right[place]["psnr_rgb_restored"] == row["psnr_rgb_restored"]
    # Either is an archive, in which each cell's images have keys of their own.
    for output in (files_, out):
        passed = run("convert", output, tmp_path / f"{output.name} again").summary
        assert passed["planned"] == passed["restored"] == 30


def test_variants_of_a_batch_do_not_pile_up_in_memory(masters, models, tmp_path, monkeypatch):
    """Beam holds on to the last element that it has passed on, and so to the last variant."""
    damaged, held = [], []
    degrade = cells.degrade_record

    def watched(record, recipe, seed):
        held.append({of for one, of in damaged if of != recipe.canonical and one() is not None})
        done = degrade(record, recipe, seed)
        damaged.append((weakref.ref(done.pixels), recipe.canonical))
        return done

    monkeypatch.setattr(cells, "degrade_record", watched)
    named = f"{models / 'identity'},{models / 'invert'}"
    told = ("--model", named, "--recipe", "jpeg:1-5", "--guard", "none")
    run("evaluate", masters, tmp_path / "out", *told)
    assert len(held) == 6 * 5
    assert max(map(len, held)) == 1


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=4),
    st.lists(recipes, min_size=1, max_size=4, unique_by=lambda text: parse_recipe(text)),
)
@settings(deadline=None)
def test_cells_have_folders_of_their_own_whatever_models_are_called(names, texts):
    applied = [Applied(name, name, Contract(name=name), "", Encoding(), "") for name in names]
    made = make_matrix(applied, [parse_recipe(text) for text in texts])
    folders = [cell.name for cell in made.cells]
    assert len({folder.casefold() for folder in folders}) == len(names) * len(texts)
    for folder in folders:
        model, slash, recipe = folder.partition("/")
        assert slash
        for part in (model, recipe):
            assert re.fullmatch(r"[\w.+=~-]{1,70}", part, re.ASCII)
            assert part not in (".", "..")


def test_a_bag_holds_all_cells_and_their_scoreboard(masters, models, tmp_path):
    out = tmp_path / "bag"
    named = f"{models / 'identity'},{models / 'blur'}"
    told = ("--model", named, "--recipe", "jpeg:1", "--package", "bagit", "--verify_masters")
    summary = run("evaluate", masters, out, *told).summary
    assert summary["masters"]["unchanged"] == 6  # each of them once
    bag = bagit.Bag(str(out))
    bag.validate()
    assert {
        "data/images/identity/jpeg-1/astronaut.png",
        "data/images/blur/jpeg-1/astronaut.png",
        "data/scoreboard.json",
        "data/scoreboard.md",
    } <= bag.entries.keys()


def test_without_images_there_are_scores(matrix, tmp_path):
    with_images, _ = matrix(out=tmp_path / "with")
    out, summary = matrix("--no_images", out=tmp_path / "without")
    assert not any((out / kind).exists() for kind in ("images", "masks", "quarantine", "shards"))
    assert summary["planned"] == 42
    scores = [name for name in pq.read_schema(out / "metrics.parquet").names if "psnr" in name]
    assert scores
    left, right = rows(with_images), rows(out)
    for place, row in left.items():
        assert right[place]["derivative"] is None
        assert [right[place][name] for name in scores] == [row[name] for name in scores]
    assert verify(str(out))["sound"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ("restore", "--model", "denoise,colorize"),
            "several models are for `heliograph evaluate`",
        ),
        (("degrade", "--recipe", "jpeg:1-2"), "several recipes are for `heliograph evaluate`"),
        (("evaluate", "--model", "denoise,denoise", "--recipe", "jpeg:1"), "names a model twice"),
        (("evaluate", "--model", "denoise,", "--recipe", "jpeg:1"), "a name is missing"),
        (("evaluate", "--model", "", "--recipe", "jpeg:1"), "a name is missing"),
        (("evaluate", "--recipe", ""), "a name is missing"),
        (("evaluate", "--model", "denoise,nothing", "--recipe", "jpeg:1"), "unknown model"),
        (
            ("evaluate", "--model", "denoise,colorize", "--recipe", "jpeg:1", "--margin", "9"),
            "--margin would be said of all 2 models",
        ),
        (
            ("evaluate", "--recipe", "jpeg:1-2", "--package", "iiif,bagit"),
            "--package iiif tells of one derivative for each master",
        ),
        (("evaluate", "--recipe", "jpeg:1-2,jpeg:1"), "twice"),
    ],
)
def test_what_makes_no_matrix_is_refused(archive, tmp_path, arguments, reason):
    command, *more = arguments
    with pytest.raises(JobError, match=reason):
        run(command, archive, tmp_path / "out", *more)
    assert not (tmp_path / "out").exists()


def test_models_of_one_name_are_told_apart(archive, models, tmp_path):
    shutil.copytree(models / "identity", tmp_path / "copy, with a comma")
    out = tmp_path / "out"
    named = tmp_path / "copy, with a comma"
    run("evaluate", archive, out, "--model", named, "--recipe", "jpeg:1", code=ExitCode.OK)
    assert (out / "images/astronaut.png").is_file()  # one model, whatever its path
    shutil.copytree(named, tmp_path / "copy")
    named = f"{models / 'identity'},{tmp_path / 'copy'}"
    out = tmp_path / "both"
    run("evaluate", archive, out, "--model", named, "--recipe", "jpeg:1", code=ExitCode.OK)
    found = rows(out)
    assert {row["model"] for row in found.values()} == {"identity", "identity~2"}
    one, other = (
        {k: r["mse_restored"] for (k, c), r in found.items() if c == cell}
        for cell in ("identity/jpeg-1", "identity~2/jpeg-1")
    )
    assert one == other and len(one) == 4
    assert Ledger(str(out)).job()["planned"] == 8
    assert np.isfinite(list(one.values())).all()
