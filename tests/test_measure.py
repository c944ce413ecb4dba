"""What is scored in which job, under which names, and what `--metrics` takes."""

import itertools
import json
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.report import console
from tests.jobs import run
from tests.photographs import gray, noisy, photo, saved, sixteen, small
from transforms.measure import measure_record
from transforms.metrics import DEFAULT, METRICS, SETS, MetricError, Pair, Picture, choose
from transforms.record import Record, Source

EVERYTHING = SETS["all"]
ALONE = [name for name in EVERYTHING if not METRICS[name].reference]
COMPARING = [name for name in EVERYTHING if METRICS[name].reference]


def record(**arrays):
    return Record(source=Source("a.png", "/a.png", 1, 0.0), **arrays)


def scores(**arrays):
    return measure_record(record(**arrays), EVERYTHING).metrics


# -- one record ------------------------------------------------------------------------------------


def test_restored_masters_are_measured_by_themselves_before_and_after():
    before, after = photo("coffee"), gray(photo("coffee"))
    found = scores(pixels=before, restored=after)
    assert set(found) == {f"{name}_{state}" for name in ALONE for state in ("original", "restored")}
    for name in ALONE:
        assert found[f"{name}_original"] == METRICS[name].function(Picture(before))
        assert found[f"{name}_restored"] == METRICS[name].function(Picture(after))


def test_damaged_and_restored_images_are_compared_with_the_original():
    reference = small(height=170, width=170)
    damaged, restored = noisy(reference, 40), noisy(reference, 10)
    found = scores(reference=reference, pixels=damaged, restored=restored)
    for name in ALONE:
        for state, pixels in zip(
            ("original", "degraded", "restored"), (reference, damaged, restored), strict=True
        ):
            assert found[f"{name}_{state}"] == METRICS[name].function(Picture(pixels))
    for name in COMPARING:
        before, after = found[f"{name}_degraded"], found[f"{name}_restored"]
        assert before == METRICS[name].function(Pair(damaged, reference))
        assert after == METRICS[name].function(Pair(restored, reference))
        assert found[f"{name}_gain"] > 0, name  # whichever way it is better
        assert abs(found[f"{name}_gain"]) == pytest.approx(abs(abs(after) - abs(before)))


def test_damage_alone_has_no_gain():
    found = scores(reference=small(), pixels=noisy(small()))
    assert {name.rsplit("_", 1)[1] for name in found} == {"original", "degraded"}


def test_gains_are_left_out_where_a_score_is_not_defined():
    found = scores(reference=small(), pixels=noisy(small()), restored=small())
    assert found["psnr_rgb_restored"] is None
    assert "psnr_rgb_gain" not in found
    assert found["mse_gain"] == found["mse_degraded"]


def test_with_a_mask_there_is_inside_and_outside():
    reference = small()
    mask = np.zeros(reference.shape[:2], bool)
    mask[20:50, 10:60] = True
    damaged = np.where(mask[..., None], 0, reference).astype(np.uint8)
    found = scores(reference=reference, pixels=damaged, restored=noisy(reference), mask=mask)
    regional = {name for name in METRICS if METRICS[name].regional}
    for name, state in itertools.product(EVERYTHING, ("degraded", "restored", "gain")):
        for region in ("inside", "outside"):
            there = f"{name}_{state}_{region}" in found
            undefined = name.startswith("psnr") and (state, region) == ("gain", "outside")
            assert there == (name in regional and not undefined), (name, state, region)
    assert found["mse_degraded_outside"] == 0
    assert found["psnr_rgb_degraded_outside"] is None
    assert found["mse_gain_inside"] > 0 > found["mse_gain_outside"]


def test_an_image_that_nobody_decoded_has_no_scores():
    assert measure_record(record(encoded=b"...")).metrics == {}


def test_all_scores_are_json():
    shapes = [(1, 1, 1), (4, 30, 3), (12, 12, 3)]
    for shape, level in itertools.product(shapes, (0, 255)):
        flat = np.full(shape, level, np.uint8)
        found = scores(
            reference=flat, pixels=255 - flat, restored=flat, mask=np.ones(shape[:2], bool)
        )
        json.dumps(found, allow_nan=False)


def test_a_large_scan_is_never_whole_in_floating_point():
    tile = sixteen(photo("coffee")[:, :500])
    reference = np.tile(tile, (2, 8, 1))  # 3.2 megapixels; as float32 they would be 38 MB
    image = reference + np.uint16(300)
    mask = np.zeros(image.shape[:2], bool)
    mask[500:1500, 100:900] = True
    tracemalloc.start()
    try:
        measure_record(record(reference=reference, pixels=image, mask=mask), EVERYTHING)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 << 20


# -- what can be asked for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("default", SETS[DEFAULT]),
        ("all", tuple(METRICS)),
        ("none", ()),
        ("ssim,mse", ("mse", "ssim")),
        ("ssim, mse,ssim", ("mse", "ssim")),
        ("none,clipped", ("clipped",)),
        ("colour,psnr_y", tuple(n for n in METRICS if n in (*SETS["colour"], "psnr_y"))),
    ],
)
def test_names_and_sets_are_joined_by_commas(text, names):
    assert choose(text, reference=True) == names


def test_sets_are_what_is_left_of_them_where_there_is_no_original():
    assert choose("all", reference=False) == tuple(ALONE)
    assert choose("default", reference=False) == ("colourfulness", "saturation", "contrast")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("snr", "nearest are .*psnr_"),
        ("psnr", "nearest are psnr_y, psnr_rgb"),
        ("default,ciede", "no metric 'ciede'; the nearest are ciede2000"),
        ("colorfulness", "nearest are colourfulness"),
        ("qqq", "there are default, colour, all, none, mse"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(text, message):
    with pytest.raises(MetricError, match=message):
        choose(text, reference=True)


def test_a_name_that_compares_is_refused_where_there_is_no_original():
    with pytest.raises(MetricError, match=r"ssim compares with an original.*colourfulness"):
        choose("ssim", reference=False)


# -- whole jobs ------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in ("coffee", "chelsea"):
        (folder / f"{name}.png").write_bytes(saved(photo(name)[:96, :120], "PNG"))
    return folder


def rows(output):
    return pq.read_table(output / "metrics.parquet").to_pylist()


def shown(summary, capsys):
    console.tell(summary, "OUTPUT")
    return capsys.readouterr().out


def test_colour_enhancement_says_contrast_and_saturation_before_and_after(
    archive, tmp_path, capsys
):
    ended = run("restore", archive, tmp_path / "out", "--model", "colorize", code=0)
    for row in rows(tmp_path / "out"):
        before = Picture(photo(row["key"].removesuffix(".png"))[:96, :120])
        for name in ("colourfulness", "contrast", "saturation"):
            assert row[f"{name}_original"] == METRICS[name].function(before)
            assert 0 < row[f"{name}_restored"] != row[f"{name}_original"]
        # It only changes the chroma.
        assert row["contrast_restored"] == pytest.approx(row["contrast_original"], rel=0.1)
    table = shown(ended.summary, capsys)
    for word in ("original", "restored", "colourfulness", "saturation", "contrast"):
        assert word in table
    assert "PSNR" not in table


def test_a_job_takes_the_scores_that_are_asked_for(archive, tmp_path, capsys):
    out = tmp_path / "out"
    asked = ("--metrics", "ciede2000,psnr_y,noise_sigma", "--recipe", "gaussian_noise:sigma=25")
    ended = run("degrade", archive, out, *asked, code=0)
    (row, _) = rows(out)
    taken = {name for name in row if any(name.startswith(metric) for metric in METRICS)}
    assert taken == {
        *("ciede2000_degraded", "psnr_y_degraded", "noise_sigma_original", "noise_sigma_degraded")
    }
    assert row["noise_sigma_degraded"] == pytest.approx(25, rel=0.25)
    assert ended.summary["job"]["metrics"] == ["psnr_y", "ciede2000", "noise_sigma"]
    assert "PSNR of Y (dB)" in shown(ended.summary, capsys)


def test_a_mask_of_the_recipe_has_its_own_rows_in_the_table(archive, tmp_path, capsys):
    asked = ("--metrics", "psnr_rgb,mae", "--recipe", "mask:2")
    ended = run("degrade", archive, tmp_path / "out", *asked, code=0)
    for row in rows(tmp_path / "out"):
        assert row["mae_degraded_outside"] == 0 < row["mae_degraded_inside"]
        assert row["psnr_rgb_degraded_outside"] is None
    table = shown(ended.summary, capsys)
    assert "MAE inside the mask" in table
    assert "PSNR (dB) inside the mask" in table


def test_none_takes_none(archive, tmp_path, capsys):
    asked = ("--metrics", "none", "--recipe", "grayscale")
    ended = run("degrade", archive, tmp_path / "out", *asked, code=0)
    assert ended.summary["metrics"] == {}
    assert shown(ended.summary, capsys) == ""


def test_scores_are_the_same_in_any_batch(archive, tmp_path):
    found = []
    for size in (1, 2):
        out = tmp_path / str(size)
        asked = ("--metrics", "all", "--recipe", "jpeg:3", "--batch_size", size)
        run("degrade", archive, out, *asked, code=0)
        found.append((out / "metrics.parquet").read_bytes())
    assert found[0] == found[1]
