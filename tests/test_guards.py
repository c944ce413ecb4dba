"""Guards find what went wrong with a restored image, and leave honest ones alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image
from skimage.color import rgb2lab
from skimage.measure import block_reduce

from models import saved_model
from pipeline.job import JobError
from pipeline.options import OPTIONS
from pipeline.verify import verify
from tests.jobs import run
from tests.photographs import TEN, noisy, sixteen
from transforms import colour, tiling
from transforms.guards import GUARDS, GuardError, Restored, guard_record, look, parse_guards
from transforms.record import Record, Source
from transforms.restore import restore_images, seams

ON = parse_guards()
ALL = {name: guard.threshold for name, guard in GUARDS.items()}


def tripped(before, after, thresholds=ON, colours=False, **known):
    record = Record(source=Source("a", "a", 0, 0.0), pixels=before, restored=after, **known)
    return {one.guard for one in guard_record(record, thresholds, colours=colours).tripped}


@pytest.fixture(scope="module", params=[np.uint8, np.uint16], ids=["8 bits", "16 bits"])
def photograph(request) -> np.ndarray:
    pixels = skimage.data.astronaut()[:301, :263]
    return sixteen(pixels) if request.param == np.uint16 else pixels


@pytest.mark.parametrize("name", TEN)
def test_honest_results_trip_nothing(name):
    model = saved_model.load("denoise", precision="float32")
    photo = np.ascontiguousarray(TEN[name]()[:400, :240])
    for pixels, tile in ((photo, 640), (noisy(photo, 25), 320)):
        (after,) = restore_images([pixels], model, model.contract, tile)
        where = seams(*pixels.shape[:2], model.contract, tile)
        assert not tripped(pixels, after, seams=where)
        assert any(where) == (tile == 320 and len(photo) > 320)


def test_the_colorizer_keeps_lightness_and_gives_colour():
    model = saved_model.load("colorize", precision="float32")
    for pixels in (skimage.data.camera()[..., None], sixteen(skimage.data.coffee())):
        (after,) = restore_images([pixels], model, model.contract)
        values = look(Restored(pixels, after, colours=True), ON)
        assert values["luminance"] < 0.15
        assert values["gray"] > 5
        assert not tripped(pixels, after, colours=True)


def test_a_drift_of_lightness_is_that_of_another_library(photograph):
    brighter = colour.from_unit(colour.to_unit(photograph) * 0.9 + 0.1, photograph.dtype)
    values = look(Restored(photograph, brighter, colours=True), ON)
    before, after = (rgb2lab(image / np.iinfo(image.dtype).max) for image in (photograph, brighter))
    mean = np.abs(before[..., 0] - after[..., 0]).mean()
    assert values["luminance"] == pytest.approx(mean, rel=0.01)  # one of two pixels is looked at
    assert tripped(photograph, brighter, colours=True) == {"luminance"}
    assert not tripped(photograph, brighter), "what restores more than colour may change it"


def test_gray_where_colour_was_to_come_is_no_result(photograph):
    gray = np.rint(colour.with_channels(photograph.astype(np.float32), 1)).astype(photograph.dtype)
    same = np.repeat(gray, 3, axis=-1)
    assert tripped(gray, same, colours=True) == {"gray"}
    assert not tripped(gray, same)
    # A stray level in few pixels is no colour.
    stray = same.copy()
    stray[::17, ::13, 2] += 1
    assert tripped(gray, stray, colours=True) == {"gray"}
    assert "gray" not in tripped(gray, photograph, colours=True)


def test_an_unchanged_output_is_found_to_the_last_pixel(photograph):
    same, one = photograph.copy(), photograph.copy()
    one[150, 131, 1] ^= 1
    thresholds = parse_guards(["unchanged"])
    assert tripped(photograph, same, thresholds) == {"unchanged"}
    assert not tripped(photograph, one, thresholds)
    pixels = photograph.shape[0] * photograph.shape[1]
    assert look(Restored(photograph, one), ALL)["changed"] == pytest.approx(1 / pixels, rel=1e-5)
    assert not tripped(photograph, same), "off where nothing is said: nothing to repair is no fault"


def test_changes_outside_of_what_was_missing_are_counted_alone(photograph):
    mask = np.zeros(photograph.shape[:2], bool)
    mask[100:200, 50:150] = True
    filled = photograph.copy()
    filled[mask] = 7
    outside = {"changed": 0.0}
    assert not tripped(photograph, filled, outside, mask=mask)
    filled[0, 0] ^= 1
    assert tripped(photograph, filled, outside, mask=mask) == {"changed"}
    assert not tripped(photograph, filled, outside, mask=np.ones_like(mask))


def test_new_black_and_white_is_clipping_and_old_is_not(photograph):
    white = np.iinfo(photograph.dtype).max
    before = photograph.copy()
    before[:60] = white
    after = before.copy()
    after[:60] = 0  # was at an end, and is
    assert look(Restored(before, after), ALL)["clipping"] == 0
    after[104:136] = white
    # By another library's mean of the blocks: what was close to white is none of it.
    blocks = block_reduce(before[104:136].astype(float), (8, 8, 1), np.mean)[:, :-1]
    far = (blocks.min(-1) < white * 7 / 8).mean() * 32 * 256 / before[..., 0].size
    assert look(Restored(before, after), ALL)["clipping"] == pytest.approx(far, rel=0.05)
    assert tripped(before, after) == {"clipping"}
    noise = noisy(np.full_like(photograph, white), 40)
    assert np.mean(noise.min(-1) < white) > 0.8
    assert not tripped(noise, np.full_like(photograph, white)), "a white wall without its noise"
    red = photograph.copy()
    red[..., 0] = white  # saturated, not clipped
    red[..., 1:] //= 2
    assert "clipping" not in tripped(photograph, red)


@pytest.mark.parametrize("transposed", [False, True], ids=["columns", "rows"])
def test_a_tile_that_is_off_shows_at_its_seams(transposed):
    photo = skimage.data.retina()
    photo = np.ascontiguousarray(photo.swapaxes(0, 1)) if transposed else photo
    rows = tiling.spans(1411, 640, margin=32, multiple=8)
    middles = tuple(span.last - 8 for span in rows[:-1])
    assert len(middles) == 2
    darker = noisy(photo, 3)
    row, column = rows[1], rows[2]
    weights = row.weights[:, None, None] * column.weights[: 1411 - column.first, None]
    part = np.s_[row.first : row.last, column.first : 1411]
    for offset, found in ((0, False), (3, False), (7, True)):
        after = darker.astype(np.float32)
        after[part] -= offset * weights  # blended as tiles are
        after = np.clip(np.rint(after), 0, 255).astype(np.uint8)
        assert (tripped(photo, after, seams=(middles, middles)) == {"seams"}) == found, offset
    assert not tripped(photo, after), "without seams there is none to see"


def test_a_model_that_sees_its_tile_as_a_whole_leaves_seams():
    photo = skimage.data.coffee()

    class Normalises:  # each window to its own mean: what instance normalisation does
        contract = saved_model.load("denoise", precision="float32").contract

        def __call__(self, images):
            return images - 0.1 * (images.mean((1, 2), keepdims=True) - 0.5)

    model = Normalises()
    contract = type(model.contract)(name="normalises", margin=8)
    (after,) = restore_images([photo], model, contract, 256)
    assert tripped(photo, after, seams=seams(*photo.shape[:2], contract, 256)) == {"seams"}
    (whole,) = restore_images([photo], model, contract, 640)
    assert not tripped(photo, whole, seams=seams(*photo.shape[:2], contract, 640))


def test_another_size_or_depth_is_another_image(photograph):
    assert tripped(photograph, photograph[1:]) == {"form"}
    assert tripped(photograph, photograph[:, ::2]) == {"form"}
    other = np.uint8 if photograph.dtype == np.uint16 else np.uint16
    assert tripped(photograph, photograph.astype(other)) == {"form"}
    floats = photograph.astype(np.float32)
    floats[3, 4, 1] = np.nan
    floats[5, 6] = np.inf
    assert tripped(photograph, floats) == {"form", "finite"}
    assert look(Restored(photograph, floats), ON)["finite"] == pytest.approx(4 / floats.size)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 1), (900, 1, 3), (40, 41, 1)])
def test_images_of_any_size_can_be_looked_at(shape):
    before = np.full(shape, 100, np.uint8)
    after = before + 1
    middles = ((20,), (20,)) if min(shape[:2]) > 30 else ((), ())
    values = look(Restored(before, np.repeat(after, 3 // shape[2], -1), None, middles, True), ALL)
    assert values["unchanged"] == values["changed"] == 1
    assert values["clipping"] == 0
    assert values["luminance"] == pytest.approx(0.39, abs=0.02)  # of L* = 42.4, by hand


def test_values_are_kept_and_reasons_name_guard_value_and_threshold():
    photo = np.full((64, 48, 3), 90, np.uint8)
    record = Record(source=Source("a", "a", 0, 0.0), pixels=photo, restored=np.zeros_like(photo))
    seen = guard_record(record, {"clipping": 0.25, "changed": 1.0})
    assert seen.guards == {"clipping": 1.0, "changed": 1.0}
    (one,) = seen.tripped
    assert (one.guard, one.value, one.threshold) == ("clipping", 1.0, 0.25)
    assert one.message == (
        "clipping: share of pixels that became black or white, from afar: 1, "
        "over the threshold of 0.25"
    )
    assert guard_record(record, {}) is record
    untouched = record.replace(restored=None)
    assert guard_record(untouched, ON) is untouched


def test_what_is_said_of_guards_is_read_from_left_to_right():
    assert parse_guards() == {name: guard.threshold for name, guard in GUARDS.items() if guard.on}
    assert parse_guards(["none"]) == {}
    assert parse_guards(["none", "unchanged"]) == {"unchanged": 0.0}
    assert parse_guards(["clipping=0.5,none,seams=3", "changed=0.25"]) == {
        "changed": 0.25,
        "seams": 3.0,
    }
    assert "gray" not in parse_guards(["gray=none"])
    assert list(parse_guards(["seams=2,clipping=1"])) == [n for n, g in GUARDS.items() if g.on]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("cliping=0.1", "did you mean clipping"),
        ("all", "there are form, finite"),
        ("clipping=much", "'much' of the guard clipping"),
        ("clipping=-1", "no number from 0"),
        ("clipping=nan", "no number from 0"),
        ("clipping=inf", "no number from 0"),
        ("clipping=", "''"),
        ("", "no guard ''"),
    ],
)
def test_guards_that_there_are_not_are_refused(said, answer):
    with pytest.raises(GuardError, match=answer):
        parse_guards([said])


# -- whole jobs ------------------------------------------------------------------------------------


def gray_archive(folder: Path, photographs) -> Path:
    (folder / "box 1").mkdir(parents=True)
    for name, key in {"astronaut": "box 1/a.png", "coffee": "b.tif", "rocket": "c.webp"}.items():
        Image.fromarray(photographs[name]).convert("L").save(folder / key)
    # Too dark for the model to find colour in.
    Image.fromarray(photographs["chelsea"] // 250).convert("L").save(folder / "box 1" / "dark.png")
    return folder


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("container", ["folder", "tfrecord", "webdataset", "parquet"])
def test_what_trips_a_guard_is_quarantined_and_the_rest_is_not(
    tmp_path, photographs, models, container
):
    archive, output = gray_archive(tmp_path / "archive", photographs), tmp_path / "out"
    options = ("--model", models / "colour_in_the_light", "--output_format", container)
    summary = run("restore", archive, output, *options, "--image_format", "png", code=3).summary
    assert (summary["planned"], summary["restored"], summary["quarantined"]) == (4, 3, 1)
    assert summary["failures"] == {"guard": 1}
    (failure,) = read_lines(output / "failures.jsonl")
    assert (failure["key"], failure["status"]) == ("box 1/dark.png", "quarantined")
    assert (failure["stage"], failure["error"]) == ("guard", "gray")
    assert failure["message"].startswith("gray: chroma C* that 1 % of the pixels exceed: 0")
    (one,) = failure["tripped"]
    assert one["guard"] == "gray"
    assert 0 <= one["value"] <= one["threshold"] == 0.5
    rows = {row["key"]: row for row in pq.read_table(output / "metrics.parquet").to_pylist()}
    dark = rows["box 1/dark.png"]
    assert dark["guard_gray"] == one["value"]
    assert all(row["guard_gray"] > 10 for row in rows.values() if row is not dark)
    apart = output / "quarantine" / "box 1" / "dark.png"
    assert [path for path in (output / "quarantine").rglob("*") if path.is_file()] == [apart]
    assert dark["derivative"] == "box 1/dark.png"
    assert dark["shard"] is None
    assert dark["derivative_sha256"] == hashlib.sha256(apart.read_bytes()).hexdigest()
    again = tmp_path / "again"
    next_one = run("convert", output, again, code=0).summary
    assert next_one["planned"] == 3, "what is quarantined is no archive for the next job"


def test_a_page_that_trips_a_guard_takes_its_file_with_it(tmp_path, photographs, models):
    archive, output = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    light = Image.fromarray(photographs["coffee"]).convert("L")
    dark = Image.new("L", light.size, 2)
    light.save(archive / "album.tif", save_all=True, append_images=[dark, light])
    light.save(archive / "light.tif", save_all=True, append_images=[light])
    job = ("restore", archive, output, "--model", models / "colour_in_the_light")
    summary = run(*job, code=3).summary
    assert (summary["planned"], summary["restored"], summary["quarantined"]) == (5, 2, 3)
    assert sorted(path.name for path in (output / "images").iterdir()) == ["light.tif"]
    with Image.open(output / "quarantine" / "album.tif") as album:
        assert album.n_frames == 3
    reasons = {line["key"]: line["message"] for line in read_lines(output / "failures.jsonl")}
    assert sorted(reasons) == ["album.tif", "album.tif#page=2", "album.tif#page=3"]
    assert reasons["album.tif#page=2"].startswith("gray: ")
    assert reasons["album.tif"].startswith("page 2 of its file: gray: ")
    found = verify(str(output), deep=True, with_masters=True)
    assert found["sound"]
    assert (found["counts"]["quarantined"], found["counts"]["derivatives"]) == (1, 1)
    assert found["masters"]["unchanged"] == 2
    data = bytearray((output / "quarantine" / "album.tif").read_bytes())
    data[-5] ^= 8
    (output / "quarantine" / "album.tif").write_bytes(data)
    (finding,) = verify(str(output))["findings"]
    assert finding["keys"] == sorted(reasons)
    again = run(*job, "--output_format", "tfrecord", "--overwrite", code=3).summary
    assert (again["restored"], again["quarantined"]) == (2, 3)
    assert verify(str(output), deep=True)["sound"]


def test_thresholds_are_part_of_what_a_job_is(tmp_path, photographs, models):
    archive, output = gray_archive(tmp_path / "archive", photographs), tmp_path / "out"
    job = ("restore", archive, output, "--model", models / "colour_in_the_light")
    run(*job, code=3)
    assert run(*job, "--guard", "gray=none").output != str(output)
    done = run(*job, "--guard", "gray=none", "--guard", "luminance=2,seams=none", "--overwrite")
    assert done.code == 0
    assert done.summary["restored"] == 4
    assert done.summary["job"]["guards"] == {
        name: 2.0 if name == "luminance" else threshold
        for name, threshold in ON.items()
        if name not in ("gray", "seams")
    }
    assert not (output / "quarantine").exists(), "nothing of the job before is left"
    with pytest.raises(JobError, match="did you mean gray"):
        run(*job, "--guard", "grey=1", "--overwrite")
    run(*job, "--guard", "gray=none,luminance=2", "--guard", "seams=none")  # the same job


def test_what_comes_with_a_quarantined_image_in_its_shard_is_kept(tmp_path, photographs, models):
    gray, sharded, output = (tmp_path / name for name in ("archive", "sharded", "out"))
    labels = {"box 1/a.png": 1, "b.tif": 2, "c.webp": 3, "box 1/dark.png": 4}
    gray_archive(gray, photographs)
    table = {
        "image": [{"bytes": (gray / key).read_bytes(), "path": key} for key in labels],
        "label": list(labels.values()),
    }
    sharded.mkdir()
    pq.write_table(pa.table(table), sharded / "photographs.parquet")
    model = ("--model", models / "colour_in_the_light")
    run("restore", sharded, output, *model, "--output_format", "tfrecord", code=3)
    apart = [path.name for path in (output / "quarantine").rglob("*") if path.is_file()]
    (kept,) = (output / "fields").iterdir()
    held = pq.read_table(kept).to_pylist()
    assert len(apart) == len(held) == 1
    assert held[0]["label"] == 4
    assert held[0]["file_name"].endswith(apart[0])


def test_the_help_and_the_page_name_every_guard_and_its_threshold(capsys):
    text = " ".join(next(o for o in OPTIONS if o.name == "guard").settings["help"].split())
    page = (Path(__file__).parents[1] / "docs" / "guards.md").read_text("utf-8")
    assert f"{', '.join(list(GUARDS)[:-1])} and {list(GUARDS)[-1]}" in text
    for name, guard in GUARDS.items():
        threshold = f"{guard.threshold:g}" if guard.on else f"off ({guard.threshold:g})"
        assert f"| `{name}` | {threshold} |" in page
