"""Whole jobs on real files. What needs no worker process to be shown is run in the test's own."""

import hashlib
import io
import json
import os
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from models import zoo
from pipeline.job import JobError
from tests.jobs import run
from transforms.degradations import DEGRADATIONS
from transforms.recipe import parse_recipe

NOISE = "gaussian_noise:sigma=25"


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def summary(output: Path) -> dict:
    found = json.loads((output / "summary.json").read_text())
    accounted = sum(found[status] for status in ("restored", "skipped", "quarantined", "failed"))
    assert found["planned"] == accounted
    return found


def failures(output: Path) -> dict[str, dict]:
    lines = (output / "failures.jsonl").read_text().splitlines()
    return {failure["key"]: failure for failure in map(json.loads, lines)}


def rows(output: Path) -> dict[str, dict]:
    return {row["key"]: row for row in pq.read_table(output / "metrics.parquet").to_pylist()}


def picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def load(path: Path) -> np.ndarray:
    pixels = np.asarray(picture(path))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def test_restore_mirrors_the_archive_and_leaves_masters_alone(archive, tmp_path, heliograph):
    before = digests(archive)
    output = tmp_path / "out"
    done = heliograph("restore", archive, output)
    assert digests(archive) == before
    assert list(digests(output / "images")) == sorted(before)
    assert sorted(path.name for path in output.iterdir()) == [
        "failures.jsonl",
        "images",
        "ledger",
        "metrics.parquet",
        "report.html",
        "summary.json",
    ]
    assert summary(output)["restored"] == 4
    assert (output / "failures.jsonl").read_text() == ""
    for key, row in rows(output).items():
        assert row["source_sha256"] == before[key]
        assert row["derivative_sha256"] == digests(output / "images")[row["derivative"]]
        image = picture(output / "images" / key)
        assert image.format == picture(archive / key).format
        assert image.size == picture(archive / key).size == (row["width"], row["height"])
    assert "contrast" in done.stdout
    assert "PSNR" not in done.stdout  # there is nothing to compare with
    assert "4 planned = 4 restored + 0 skipped + 0 quarantined + 0 failed" in done.stderr
    for chatter in ("tensorflow", "oneDNN", "WARNING", "cuda", "INFO"):
        assert chatter not in done.stderr


def test_evaluate_scores_like_scikit_image(archive, tmp_path):
    output = tmp_path / "out"
    recipe = parse_recipe(NOISE)
    run("evaluate", archive, output, "--recipe", NOISE, "--seed", 7, "--image_format", "png")
    found = rows(output)
    assert len(found) == 4
    for key, row in found.items():
        states = {
            "degraded": recipe.apply(load(archive / key), seed=7, key=key).pixels,
            "restored": load(output / "images" / row["derivative"]),
        }
        for state, image in states.items():
            truth = load(archive / key)
            psnr = peak_signal_noise_ratio(truth, image, data_range=255)
            similarity = structural_similarity(
                truth,
                image,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=255,
                channel_axis=-1,
            )
            assert abs(row[f"psnr_rgb_{state}"] - psnr) < 1e-3
            assert abs(row[f"ssim_{state}"] - similarity) < 1e-3
            assert abs(row[f"mse_{state}"] - 10 ** (-psnr / 10)) < 1e-6
        assert row["psnr_rgb_gain"] == row["psnr_rgb_restored"] - row["psnr_rgb_degraded"]
        assert row["psnr_rgb_gain"] > 6
    means = summary(output)["metrics"]
    assert means["psnr_rgb_restored"]["count"] == 4
    assert means["psnr_rgb_restored"]["mean"] == pytest.approx(
        np.mean([row["psnr_rgb_restored"] for row in found.values()])
    )


def test_the_same_job_gives_the_same_bytes_on_any_plan(archive, tmp_path, heliograph):
    plans = {
        "one": ("--workers", 1),
        "two": ("--workers", 2),
        "single": ("--workers", 2, "--batch_size", 1),
        "reading": ("--workers", 1, "--batch_pixels", 1, "--runner", "FnApiRunner"),
    }
    outputs = [tmp_path / name for name in plans]
    for output, plan in zip(outputs, plans.values(), strict=True):
        heliograph("evaluate", archive, output, "--recipe", f"{NOISE}+mask:1", *plan)
    first = digests(outputs[0] / "images")
    assert len(first) == 4
    for output in outputs[1:]:
        assert digests(output / "images") == first
        assert rows(output) == rows(outputs[0])
        assert (output / "metrics.parquet").read_bytes() == (
            outputs[0] / "metrics.parquet"
        ).read_bytes()


def test_a_job_may_be_run_again_and_another_in_its_place_only_if_that_is_said(archive, tmp_path):
    output = tmp_path / "out"
    run("degrade", archive, output, "--recipe", "mask:3")
    first = digests(output / "images")
    run("degrade", archive, output, "--recipe", "mask:amount=0.4,shape=pixels")
    assert digests(output / "images") == first  # the same recipe in other words
    beside = run("degrade", archive, output, "--recipe", "mask:5")
    assert Path(beside.output).parent == output / "generations"
    assert digests(output / "images") == first
    run("degrade", archive, output, "--recipe", "mask:4", "--overwrite")
    second = digests(output / "images")
    assert second.keys() == first.keys()
    assert second != first


def test_what_was_done_to_an_image_is_in_its_row_and_can_be_done_again(archive, tmp_path):
    output = tmp_path / "out"
    drawn = "oneof(mask:2,shape=rectangles,mask:3)+random(2,jpeg,speckle_noise,saturate)"
    png = ("--image_format", "png", "--seed", 5)
    run("degrade", archive, output, "--recipe", drawn, *png)
    found = rows(output)
    assert len({row["recipe"] for row in found.values()}) > 1
    for key, row in found.items():
        recipe = parse_recipe(row["recipe"])
        assert recipe.steps[0].name == "mask"
        assert len(recipe.steps) == 3
        again = recipe.apply(load(archive / key), seed=5, key=key)
        assert np.array_equal(load(output / "images" / row["derivative"]), again.pixels)
        written = output / "masks" / row["mask"]
        assert picture(written).mode == "1"
        assert np.array_equal(np.asarray(picture(written)), again.mask)
        assert row["mask_sha256"] == hashlib.sha256(written.read_bytes()).hexdigest()
        assert row["mask_share"] == pytest.approx(again.mask.mean())
    run("degrade", archive, output, "--recipe", "jpeg:3", *png, "--overwrite")
    assert not list(output.rglob("masks/*")), "no mask of the job before is left"
    assert {row["mask"] for row in rows(output).values()} == {None}
    assert {row["recipe"] for row in rows(output).values()} == {"jpeg:quality=15"}


def test_the_degradations_are_listed_and_described(heliograph):
    listed = heliograph("degrade", "--list").stdout
    for name, known in DEGRADATIONS.items():
        assert any(
            line.split()[:1] == [name] and known.summary in line for line in listed.splitlines()
        )
    described = heliograph("evaluate", "--list", "jpeg_compression").stdout
    assert "jpeg: " in described
    assert "a whole number from 1 to 100" in described
    assert "25 18 15 10 7" in described
    assert "did you mean scratches" in heliograph("degrade", "--list=scratch", code=2).stderr


def test_gray_in_the_output_of_one_job_is_the_archive_of_the_next(archive, tmp_path, models):
    gray, colour = tmp_path / "gray", tmp_path / "colour"
    run("degrade", archive, gray, "--recipe", "grayscale", "--image_format", "png")
    assert {picture(path).mode for path in (gray / "images").rglob("*.png")} == {"L"}
    run("restore", gray, colour, "--model", models / "constant_chroma")
    assert list(digests(colour / "images")) == list(digests(gray / "images"))
    for path in (colour / "images").rglob("*.png"):
        assert picture(path).mode == "RGB"
        hue, saturation, _ = np.asarray(picture(path).convert("HSV")).reshape(-1, 3).T
        assert np.median(saturation) > 40  # a* = 22, b* = 33 is a light brown
        assert 5 < np.median(hue) * 360 / 255 < 50


def test_bad_files_are_a_line_each_and_the_rest_goes_on(archive, tmp_path, heliograph):
    good = len(digests(archive))
    photograph = io.BytesIO()
    picture(archive / "astronaut.png").save(photograph, "JPEG")
    (archive / "empty.jpg").write_bytes(b"")
    (archive / "truncated.jpg").write_bytes(photograph.getvalue()[:4000])
    (archive / "text.jpg").write_text("This is not a photograph.")
    (archive / "dangling.png").symlink_to("nowhere.png")
    (archive / "folder.png").mkdir()
    os.mkfifo(archive / "pipe.jpg")
    Image.new("RGB", (1, 1), (200, 100, 50)).save(archive / "one pixel.png")
    (archive / "bomb.png").write_bytes(bomb())
    output = tmp_path / "out"
    done = heliograph("restore", archive, output, code=3)
    reasons = {
        "bomb.png": ("decode", "more than the 250,000,000"),
        "dangling.png": ("read", "No such file"),
        "empty.jpg": ("decode", "the file is empty"),
        "pipe.jpg": ("read", "not a regular file"),
        "text.jpg": ("decode", "not an image of a format"),
        "truncated.jpg": ("decode", "broken JPEG data"),
    }
    found = failures(output)
    assert sorted(found) == sorted(reasons)
    for key, (stage, reason) in reasons.items():
        assert found[key]["stage"] == stage
        assert reason in found[key]["message"]
        assert not (output / "images" / key).exists()
    assert summary(output)["restored"] == good + 1  # one pixel can be restored
    assert summary(output)["failed"] == len(reasons)
    assert "failures.jsonl" in done.stderr


def bomb() -> bytes:
    """A PNG of 3.6 gigapixels in 100 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = (60_000).to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_a_model_that_fails_on_some_images_loses_only_those(tmp_path, models, photographs):
    archive, output = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    for name, level in {"a": 200, "b": 20, "c": 220}.items():
        Image.new("L", (32, 32), level).save(archive / f"{name}.png")
    run("restore", archive, output, "--model", models / "not_a_number_in_the_dark", code=3)
    assert list(failures(output)) == ["b.png"]
    assert sorted(digests(output / "images")) == ["a.png", "c.png"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["restore", "{missing}", "{out}"], "missing"),
        (["restore", "{empty}", "{out}"], "empty"),
        (["restore", "{archive}", "{archive}"], "is the archive itself"),
        (["restore", "{archive}", "{archive}/out"], "lies inside the archive"),
        (["restore", "{archive}/album one", "{archive}"], "holds the archive"),
        (["restore", "{archive}/*.png", "{archive}/out"], "lies inside the archive"),
        (["restore", "{link}", "{archive}/out"], "lies inside the archive"),
        (["restore", "{archive}", "{occupied}"], "not empty"),
        (
            ["restore", "{archive}", "{out}", "--model", "colourise"],
            "not in the zoo (colorize, denoise)",
        ),
        (["restore", "{archive}", "{out}", "--tile", "64"], "--tile 64 is too small for denoise"),
        (["restore", "{archive}", "{out}", "--contract", "{missing}"], "cannot read"),
        (["evaluate", "{archive}", "{out}", "--recipe", "gausian_noise:1"], "gaussian_noise"),
        (["evaluate", "{archive}", "{out}", "--recipe", "jpeg:9"], "severities 1 to 5"),
        (["evaluate", "{archive}", "{out}"], "--recipe"),
        (["degrade", "{archive}", "{out}", "--recipe", "mask", "--sed", "1"], "--sed"),
        (["degrade", "{archive}", "{out}", "--recipe", "mask", "--seed", "-1"], "from 0"),
        (["restore", "{archive}", "{out}", "--precision", "int8"], "bfloat16"),
        (["restore", "{archive}"], "OUTPUT"),
        (["retouch", "{archive}", "{out}"], "invalid choice: 'retouch'"),
        (["models", "colourise"], "not in the zoo (colorize, denoise)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_stops_before_any_work(archive, tmp_path, heliograph, arguments, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(archive)
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.doc").write_text("years of work")
    places = {
        name: tmp_path / name for name in ("missing", "empty", "out", "link", "occupied", "archive")
    }
    before = digests(tmp_path)
    done = heliograph(*(argument.format(**places) for argument in arguments), code=2)
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert digests(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_to_is_named(archive, tmp_path, heliograph):
    (tmp_path / "file").write_text("in the way")
    done = heliograph("restore", archive, tmp_path / "file" / "out", code=2)
    assert "file/out" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_masters_never_share_a_derivative(tmp_path):
    archive, output = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    for name in ("a.jpg", "a.png", "a.bmp"):
        Image.new("RGB", (16, 16), 100).save(archive / name)
    run("degrade", archive, output, "--recipe", "jpeg:1", "--image_format", "png")
    assert sorted(digests(output / "images")) == ["a.bmp.png", "a.jpg.png", "a.png"]
    Image.new("RGB", (16, 16), 100).save(archive / "a.jpg.png")
    again = tmp_path / "again"
    with pytest.raises(JobError, match=r"a.jpg and a.jpg.png would both be written as a.jpg.png"):
        run("degrade", archive, again, "--recipe", "jpeg:1", "--image_format", "png")


def test_a_worker_that_dies_ends_the_job_with_its_reason(archive, tmp_path, heliograph):
    broken = shutil.copytree(zoo.path("denoise"), tmp_path / "broken")
    with (broken / "variables" / "variables.data-00000-of-00001").open("r+b") as weights:
        weights.truncate(1000)
    done = heliograph("restore", archive, tmp_path / "out", "--model", broken, code=1)
    assert f"cannot load the SavedModel {broken}" in done.stderr


def test_the_demo_improves_every_photograph_and_draws_it(tmp_path, heliograph):
    output = tmp_path / "demo"
    done = heliograph("demo", output)
    assert "PSNR" in done.stdout
    assert "report.html" in done.stderr
    assert (output / "report.html").stat().st_size > 100_000
    found = rows(output)
    assert len(found) == 4
    assert all(row["psnr_rgb_gain"] > 9 for row in found.values())
    sheet = picture(output / "contact_sheet.jpg")
    assert sheet.width > 1200
    heliograph("demo", output, "--seed", 1)  # another demo may take its place


def test_models_lists_the_zoo_and_shows_a_contract(heliograph, models):
    colorize, denoise = heliograph("models").stdout.splitlines()
    assert colorize.startswith("colorize: L to ab; ")
    assert denoise.startswith("denoise: RGB to RGB; ")
    shown = heliograph("models", models / "constant_chroma").stdout
    line = r'^output_space +"ab" +--output_space +assets\.extra/heliograph\.json$'
    assert re.search(line, shown, re.M)
    assert re.search("^sha256 [0-9a-f]{64}$", shown, re.M)
