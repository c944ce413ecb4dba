"""The report says what was done, shows the pictures that it names, and is the same every time."""

import base64
import html.parser
import io
import json
import os
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
import skimage.data
from PIL import Image

from pipeline import cli
from pipeline.lock import Lock
from pipeline.report import gallery, page, picks
from pipeline.report.charts import Span, ticks
from pipeline.report.rows import Rows, extremes
from pipeline.report.scores import histogram
from pipeline.report.words import number, percent
from tests.jobs import run
from tests.photographs import sixteen
from transforms.recipe import parse_recipe

RECIPE = "gaussian_noise:sigma=40"
HOSTILE = "<script>alert(1)<!-- & 'q' \"u\".png"


class Page(html.parser.HTMLParser):
    """What is in a page: its elements, and the text of each script."""

    def __init__(self, data):
        super().__init__()
        self.elements, self.scripts, self._inside = [], [], False
        self.feed(data.decode())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self._inside = True
            self.scripts.append("")

    def handle_endtag(self, tag):
        if tag == "script":
            self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.scripts[-1] += data

    @property
    def records(self):
        return json.loads(self.scripts[0])

    def layers(self, key):
        """The layers of a record: label, then full picture and piece as arrays."""
        found, current, label = {}, None, None
        for tag, attributes in self.elements:
            if attributes.get("class") == "viewer":
                current = attributes["data-name"]
            elif tag == "figure":
                label = attributes["data-label"]
            elif tag == "img" and current == key:
                found.setdefault(label, []).append(array(attributes["src"]))
        return found


def array(uri):
    assert uri.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"))


def text(data):
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", data.decode(), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


@pytest.fixture(scope="module")
def masters(tmp_path_factory):
    """Photographs with a hostile name, deep and of two pages, gray, small; and two broken."""
    folder = tmp_path_factory.mktemp("report") / "masters"
    (folder / "album").mkdir(parents=True)
    coffee, astronaut = skimage.data.coffee(), skimage.data.astronaut()
    Image.fromarray(coffee).save(folder / HOSTILE)
    Image.fromarray(astronaut[:300, :290]).save(folder / "astronaut.png")
    Image.fromarray(astronaut[:90, 180:300]).save(folder / "album" / "small.png")
    Image.fromarray(skimage.data.camera()[:256, :200]).save(folder / "camera.png")
    pages = np.stack([sixteen(astronaut[:200, :220]), sixteen(coffee[:200, :220])])
    import tifffile

    tifffile.imwrite(folder / "deep.tif", pages, photometric="rgb")
    Image.fromarray(skimage.data.chelsea()[:220, :260]).save(folder / "chelsea.jpg", quality=90)
    for name in ("one.png", "two.png"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return folder


@pytest.fixture(scope="module")
def evaluated(masters, models):
    """What the masters' evaluation has left."""
    output = masters.parent / "evaluated"
    said = ("--model", models / "blur", "--recipe", RECIPE, "--seed", 3)
    run("evaluate", masters, output, *said, code=3)
    return output


@pytest.fixture
def copy(evaluated, tmp_path):
    """A copy of it, to be harmed."""
    return shutil.copytree(evaluated, tmp_path / "copy")


def test_a_job_writes_its_report_and_the_command_writes_the_same(evaluated, masters, models, copy):
    written = (evaluated / "report.html").read_bytes()
    for name in ("report.html", "summary.json", "metrics.parquet", "failures.jsonl"):
        (copy / name).unlink()
    assert cli.main(["report", str(copy)]) == 0
    assert (copy / "report.html").read_bytes() == written
    # Another run of the same job, in other batches and at another time.
    again = masters.parent / "again"
    said = ("--model", models / "blur", "--recipe", RECIPE, "--seed", 3, "--batch_size", 1)
    run("evaluate", masters, again, *said, code=3)
    assert (again / "report.html").read_bytes() == written
    assert str(evaluated) not in written.decode()


def test_nothing_is_loaded_and_only_its_own_script_may_run(evaluated):
    found = Page((evaluated / "report.html").read_bytes())
    for tag, attributes in found.elements:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    policy = next(one["content"] for _, one in found.elements if "http-equiv" in one)
    assert "default-src 'none'" in policy
    digest = re.search(r"script-src 'sha256-([^']+)'", policy)[1]
    import hashlib

    assert hashlib.sha256(found.scripts[-1].encode()).digest() == base64.b64decode(digest)
    assert "unsafe-inline" not in re.search(r"script-src[^;]*", policy)[0]


def test_hostile_names_are_text_everywhere(evaluated):
    data = (evaluated / "report.html").read_bytes()
    found = Page(data)
    assert sum(tag == "script" for tag, _ in found.elements) == 2  # the data and the script
    assert HOSTILE in [row[0] for row in found.records["rows"]]
    assert any(one.get("data-name") == HOSTILE for _, one in found.elements)
    assert b"<script>alert" not in data
    assert b"<!--" not in data
    assert HOSTILE in text(data)


def test_the_verdict_has_the_figures_of_the_table(evaluated):
    rows = pq.read_table(evaluated / "metrics.parquet").to_pylist()
    gains = [row["psnr_rgb_gain"] for row in rows if row["psnr_rgb_gain"] is not None]
    assert len(gains) == 7
    mean, error = np.mean(gains), scipy.stats.sem(gains)
    low, high = scipy.stats.t.interval(0.95, len(gains) - 1, mean, error)
    told = text((evaluated / "report.html").read_bytes())
    assert low > 0, "sigma 40 is worse than the blur"
    assert "It helped: PSNR went from" in told
    assert f"better by {mean:.2f}" in told
    assert f"interval {low:.2f} to {high:.2f}" in told
    assert "Of 9 images, 7 were restored and 2 failed." in told
    assert "100 % of the images came nearer to their originals" in told


def test_pictures_are_of_the_master_of_its_damage_and_of_the_derivative(evaluated, masters):
    found = Page((evaluated / "report.html").read_bytes())
    row = {row["key"]: row for row in pq.read_table(evaluated / "metrics.parquet").to_pylist()}[
        HOSTILE
    ]
    layers = found.layers(HOSTILE)
    assert list(layers) == ["Original", "Damaged", "Restored", "Difference"]
    original = np.asarray(Image.open(masters / HOSTILE))
    damaged = parse_recipe(row["recipe"]).apply(original, seed=3, key=HOSTILE).pixels
    restored = np.asarray(Image.open(evaluated / "images" / row["derivative"]))
    piece = layers["Original"][1]
    assert piece.shape == (160, 160, 3)
    top, left = place_of(piece, original)
    for label, pixels in (("Original", original), ("Damaged", damaged), ("Restored", restored)):
        full, piece = layers[label]
        np.testing.assert_array_equal(piece, pixels[top : top + 160, left : left + 160])
        assert full.shape == (400, 600, 3)
        # Lossy, and with half as many pixels of colour: alike from a distance.
        seen, kept = (np.asarray(Image.fromarray(one).resize((60, 40))) for one in (full, pixels))
        assert np.abs(seen.astype(int) - kept).mean() < 3, label
    # There is no piece of as many pixels that differs much more.
    changes = np.abs(restored.astype(int) - original).max(axis=-1)
    sums = np.pad(changes.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = sums[160:, 160:] - sums[:-160, 160:] - sums[160:, :-160] + sums[:-160, :-160]
    assert boxes[top, left] > 0.98 * boxes.max()


def place_of(piece, pixels):
    corners = np.argwhere((pixels[:-159, :-159] == piece[0, 0]).all(axis=-1))
    for top, left in corners:
        if np.array_equal(pixels[top : top + 160, left : left + 160], piece):
            return top, left
    raise AssertionError("it is no piece of it")


def test_deep_gray_small_and_further_pages_are_shown(evaluated, masters):
    found = Page((evaluated / "report.html").read_bytes())
    second = found.layers("deep.tif#page=2")["Original"][0]
    coffee = skimage.data.coffee()[:200, :220]
    assert np.abs(second.astype(int) - coffee).mean() < 6
    assert found.layers("camera.png")["Original"][0].shape == (256, 200, 3)
    small = found.layers("album/small.png")
    assert len(small["Original"]) == 1  # all of it is exact
    np.testing.assert_array_equal(small["Original"][0], skimage.data.astronaut()[:90, 180:300])


def test_failures_are_grouped_by_reason(evaluated):
    found = text((evaluated / "report.html").read_bytes())
    lines = (evaluated / "failures.jsonl").read_text().splitlines()
    reason = json.loads(lines[0])["message"]
    assert f"2 {reason}" in found
    assert found.count(reason) == 1


def test_what_cannot_be_read_is_said_in_its_place(copy):
    rows = {row["key"]: row for row in pq.read_table(copy / "metrics.parquet").to_pylist()}
    (copy / "images" / rows["astronaut.png"]["derivative"]).unlink()
    changed = copy / "images" / rows["camera.png"]["derivative"]
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    found = page.build(str(copy))
    assert "Restored: the derivative is not what was written" in text(found)
    assert list(Page(found).layers("camera.png")) == ["Original", "Damaged"]
    assert "Restored" not in Page(found).layers("astronaut.png")


def test_masters_that_were_moved_away_or_changed_are_said(masters, models, tmp_path):
    archive = shutil.copytree(masters, tmp_path / "archive")
    output = tmp_path / "out"
    run("evaluate", archive, output, "--model", models / "blur", "--recipe", RECIPE, code=3)
    (archive / "camera.png").unlink()
    Image.fromarray(skimage.data.coins()[:256, :200]).save(archive / "astronaut.png")
    found = page.build(str(output))
    assert list(Page(found).layers("camera.png")) == ["Restored"]
    assert list(Page(found).layers("astronaut.png")) == ["Restored"]
    assert "Original: the master is not what it was when it was read" in text(found)
    shutil.rmtree(archive)
    assert cli.main(["report", str(output)]) == 0


def test_a_restoration_has_no_gain_but_changes(masters, models, tmp_path):
    output = tmp_path / "out"
    run("restore", masters, output, "--model", models / "invert", "--guard", "none", code=3)
    data = (output / "report.html").read_bytes()
    found = text(data)
    assert "There is no original to compare with" in found
    assert "Gain or change" in found
    assert list(Page(data).layers("astronaut.png")) == ["Original", "Restored", "Difference"]


def test_what_a_guard_held_back_is_shown_with_its_reason(masters, models, tmp_path):
    output = tmp_path / "out"
    said = ("--model", models / "constant_chroma", "--guard", "changed=0")
    run("restore", masters, output, *said, code=3)
    data = (output / "report.html").read_bytes()
    found = text(data)
    assert "Held back by a guard" in found
    assert "Held back by guards" in found
    assert "held back by guards" in found
    held = [row for row in Page(data).records["rows"] if row[1] == "quarantined"]
    assert held
    assert Page(data).layers(held[0][0])["Restored"]


def test_damage_alone_and_copies_have_reports(masters, tmp_path):
    run("degrade", masters, tmp_path / "damaged", "--recipe", RECIPE, code=3)
    data = (tmp_path / "damaged" / "report.html").read_bytes()
    assert "Damaged most, by PSNR" in text(data)
    assert list(Page(data).layers("chelsea.jpg")) == ["Original", "Damaged", "Difference"]
    run("convert", masters, tmp_path / "copied")
    found = text((tmp_path / "copied" / "report.html").read_bytes())
    assert "All 8 images were passed on." in found


def test_masters_and_derivatives_in_shards_are_shown(masters, models, tmp_path):
    run(
        "convert",
        masters / "astronaut.png",
        masters / "camera.png",
        tmp_path / "tar",
        "--output_format",
        "webdataset",
    )
    output = tmp_path / "out"
    said = ("--model", models / "blur", "--recipe", RECIPE, "--output_format", "tfrecord")
    run("evaluate", tmp_path / "tar", output, *said)
    found = Page((output / "report.html").read_bytes())
    keys = [row[0] for row in found.records["rows"]]
    assert len(keys) == 2
    for key in keys:
        assert list(found.layers(key)) == ["Original", "Damaged", "Restored", "Difference"]


def test_no_pictures_are_taken_where_none_are_asked_for(copy):
    assert cli.main(["report", str(copy), "--pictures", "0"]) == 0
    assert not Page((copy / "report.html").read_bytes()).layers("astronaut.png")


def test_pictures_stop_where_the_page_would_be_too_large(copy, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_CHARACTERS", 1)
    found = page.build(str(copy))
    assert text(found).count("more would have made this page too large") == 2
    shown = [one for _, one in Page(found).elements if one.get("class") == "viewer"]
    assert len(shown) == 3  # the first of each kind


def test_a_page_elsewhere_leaves_the_one_in_the_output(copy, tmp_path):
    before = (copy / "report.html").read_bytes()
    path = tmp_path / "elsewhere.html"
    assert cli.main(["report", str(copy), "--to", str(path), "--pictures", "1"]) == 0
    assert (copy / "report.html").read_bytes() == before
    assert 0 < path.stat().st_size < len(before)


def test_an_output_that_is_none_or_is_worked_on_is_left_alone(copy, tmp_path, capfd):
    assert cli.main(["report", str(tmp_path / "nothing")]) == 2
    before = os.stat(copy / "report.html").st_mtime_ns
    with Lock(str(copy)):
        assert cli.main(["report", str(copy)]) == 75
    assert os.stat(copy / "report.html").st_mtime_ns == before


def test_a_bag_is_not_made_untrue(masters, models, tmp_path):
    import bagit

    output = tmp_path / "bag"
    said = ("--model", models / "blur", "--package", "bagit")
    run("restore", masters / "astronaut.png", output, *said)
    assert (output / "data" / "report.html").exists()
    assert cli.main(["report", str(output)]) == 0
    assert cli.main(["report", str(output), "--pictures", "0"]) == 2
    assert cli.main(["report", str(output), "--pictures", "0", "--to", str(tmp_path / "a")]) == 0
    bagit.Bag(str(output)).validate()


# --- choosing and counting


def table(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=700)
    return str(path)


def test_extremes_are_those_of_a_sort_and_ties_go_by_their_place():
    values = np.random.default_rng(5).integers(0, 40, 500).astype(float)
    values[::7] = np.nan
    known = [index for index in range(500) if not np.isnan(values[index])]
    smallest, largest = extremes(values, 30)
    assert smallest == sorted(known, key=lambda index: (values[index], index))[:30]
    assert largest == sorted(known, key=lambda index: (-values[index], index))[:30]
    assert extremes(np.full(9, np.nan), 3) == ([], [])


def test_random_records_stay_while_an_archive_grows(tmp_path):
    keys = [f"{number:05}.png" for number in range(3000)]
    with Rows(table(tmp_path / "all", key=keys)) as rows:
        drawn = [keys[index] for index in rows.drawn(100, np.ones(len(rows), bool))]
    with Rows(table(tmp_path / "part", key=keys[::2])) as rows:
        part = [keys[::2][index] for index in rows.drawn(100, np.ones(len(rows), bool))]
    assert [key for key in drawn if key in part] == part[: len(set(drawn) & set(part))]
    assert 30 <= len(set(drawn) & set(part)) <= 70
    places = [keys.index(key) for key in drawn]
    assert scipy.stats.kstest(np.array(places) / 3000, "uniform").pvalue > 0.01


def test_rows_are_read_as_they_were_written(tmp_path):
    values = [None if number % 5 == 0 else number / 3 for number in range(2000)]
    status = ["failed" if number % 9 == 0 else "restored" for number in range(2000)]
    lists = [["a"] if number % 4 else [] for number in range(2000)]
    with Rows(
        table(
            tmp_path / "t",
            key=[str(n) for n in range(2000)],
            x=values,
            status=status,
            warnings=lists,
        )
    ) as rows:
        read = rows.numbers("x")
        assert [None if np.isnan(one) else one for one in read.tolist()] == values
        assert np.isnan(rows.numbers("nothing")).all()
        np.testing.assert_array_equal(rows.equals("status", "failed"), np.arange(2000) % 9 == 0)
        assert not rows.equals("status", "lost").any()
        wanted = [1999, 0, 700, 699, 700]
        taken = rows.take(wanted, ["key", "x", "warnings", "nothing"])
        assert [row["key"] for row in taken] == [str(index) for index in wanted]
        assert [row["x"] for row in taken] == [values[index] for index in wanted]
        assert taken[1] == {"key": "0", "x": None, "warnings": [], "nothing": None}
        assert rows.varies("status")
        assert not rows.varies("nothing")


def test_long_tables_are_cut_to_the_best_the_worst_the_failed_and_some(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LISTED", 50)
    count = 5000
    rng = np.random.default_rng(1)
    gains = rng.normal(size=count)
    status = np.where(rng.random(count) < 0.02, "failed", "restored")
    gains[status == "failed"] = np.nan
    summary = {"metrics": {}, "job": {}}
    for column in ("psnr_rgb_degraded", "psnr_rgb_restored", "psnr_rgb_gain"):
        summary["metrics"][column] = {"mean": 1.0, "count": 4900, "ci95": [0.9, 1.1]}
    columns = {
        "key": [f"{number:04}" for number in range(count)],
        "status": status.tolist(),
        "psnr_rgb_degraded": np.zeros(count),
        "psnr_rgb_restored": gains,
        "psnr_rgb_gain": pa.array(gains, from_pandas=True),
    }
    with Rows(table(tmp_path / "t", **columns)) as rows:
        from pipeline.report.scores import scores_of

        chosen = picks.listed(scores_of(summary, rows), rows, 50)
    order = [int(index) for index in np.argsort(np.where(np.isnan(gains), np.inf, gains))]
    known = [index for index in order if not np.isnan(gains[index])]
    assert set(known[:50]) | set(known[-50:]) <= set(chosen)
    assert sum(status[index] == "failed" for index in chosen) >= 50
    assert 180 <= len(chosen) <= 200
    assert chosen == sorted(chosen)


def test_histograms_count_every_value_once():
    values = np.concatenate([np.random.default_rng(2).normal(size=5000), [np.nan, 1e6]])
    counted = histogram([values, values[:100]])
    assert [int(counts.sum()) for counts in counted.counts] == [5001, 100]
    assert counted.edges[-1] < 10
    around = histogram([np.array([-1.0, 0.5, 2.0])], around_zero=True)
    assert np.isclose(around.edges, 0).any()
    assert around.edges[0] <= -1
    assert around.edges[-1] >= 2
    flat = histogram([np.zeros(4)])
    assert flat.counts[0].sum() == 4
    assert histogram([np.array([np.nan])]) is None


def test_numbers_are_written_as_people_read_them():
    assert number(-1234.567, 1) == "\u22121,234.6"
    assert number(0.0004, 2, signed=True) == number(-0.0004, 2, signed=True) == "0.00"
    assert number(None, 2) == ""
    assert number(2, 1, signed=True) == "+2.0"
    assert percent(0.999) == "over 99\u202f%"
    assert percent(1) == "100\u202f%"
    assert percent(0.001) == "under 1\u202f%"


def test_ticks_are_round():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(-0.3, 0.32, 4) == [-0.2, 0, 0.2]
    assert ticks(17.2, 38.9) == [20, 25, 30, 35]
    assert ticks(0.03, 0.96, 5) == [0.2, 0.4, 0.6, 0.8]


def test_an_axis_of_one_tick_says_what_it_is():
    drawn = str(Span([0.1, 0.12, 0.13]).head())
    assert re.findall(r">([^<]+)</text>", drawn) == ["0.10", "0.11", "0.12", "0.13"]
    assert re.findall(r">([^<]+)</text>", str(Span([0.5]).head()))[0] != "0"
