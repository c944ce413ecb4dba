"""Scoreboards say what scipy says of the same scores, and of a table of any size."""

import csv
import io
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from pipeline.job import ExitCode
from pipeline.scoreboard import board as boards
from pipeline.scoreboard.figures import holm, over_recipes, student_p, welch
from pipeline.scoreboard.grids import read_grids, read_scores
from pipeline.scoreboard.markdown import write_markdown
from tests.evaluations import cut_photographs, evaluate

MODELS = ("identity", "blur", "not_a_number_in_the_dark")  # of which the last is called nan
RECIPES = "gaussian_noise:2, jpeg:4"
# Their canonical texts, and their folders.
FOLDERS = {"gaussian_noise:sigma=30.6": "gaussian_noise-2", "jpeg:quality=10": "jpeg-4"}
METRICS = ("mse", "psnr_rgb", "ssim")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Photographs, some light and some dark, and one file that is none."""
    folder = tmp_path_factory.mktemp("archive")
    cut_photographs(folder)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def evaluation(archive, models, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "matrix"
    evaluate(archive, models, out, names=MODELS, recipe=RECIPES, code=ExitCode.INCOMPLETE)
    return out


@pytest.fixture(scope="module")
def board(evaluation):
    return json.loads((evaluation / "scoreboard.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def values(evaluation):
    """Gains and scores by column, recipe, model and key, read in the plainest way."""
    found = {}
    for row in pq.read_table(evaluation / "metrics.parquet").to_pylist():
        model, recipe = row["cell"].split("/")
        for metric, state in itertools.product(METRICS, ("degraded", "restored", "gain")):
            place = (metric, state, recipe, model)
            found.setdefault(place, {})[row["key"]] = row[f"{metric}_{state}"]
    return found


def near(value, expected):
    return value == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_the_results_are_those_of_scipy(board, values):
    assert [one["name"] for one in board["models"]] == ["identity", "blur", "nan"]
    assert [one["recipe"] for one in board["recipes"]] == list(FOLDERS)
    assert board["archive"]["masters"] == board["archive"]["images"] == 13
    results = [one for one in board["results"] if one["recipe"] is not None]
    assert len(results) == 6
    fewer = 0
    for result in results:
        assert result["restored"] + result["failed"] == 13
        assert result["failed"] == 13 - result["scores"]["mse"]["n"]
        fewer += result["failed"] > 1
        for metric, score in result["scores"].items():
            place = FOLDERS[result["recipe"]], result["model"]
            gains = values[metric, "gain", *place]
            keys = [key for key, gain in gains.items() if gain is not None]
            gain = np.array([gains[key] for key in keys])
            assert score["n"] == len(keys)
            for state, told in (("degraded", "before"), ("restored", "after"), ("gain", "gain")):
                some = np.array([values[metric, state, *place][key] for key in keys])
                assert near(score[told]["mean"], some.mean())
                assert near(score[told]["std"], some.std(ddof=1))
            after, before = (
                [values[metric, state, *place][key] for key in keys]
                for state in ("restored", "degraded")
            )
            if gain.any():
                test = stats.ttest_rel(after, before)
                sign = -1 if metric == "mse" else 1
                assert near(score["p"], test.pvalue)
                assert near(
                    sorted(score["gain"]["ci95"]),
                    sorted(sign * np.array(test.confidence_interval())),
                )
            else:
                assert score["p"] == 1 and score["gain"]["ci95"] == [0, 0]
            assert near(score["better"], np.mean(gain > 0))
            assert near(score["worse"], np.mean(gain < 0))
    assert fewer  # one of the models does not take every image


def test_the_models_are_compared_image_by_image(board, values):
    pairs = list(itertools.combinations(("identity", "blur", "nan"), 2))
    assert len(board["comparisons"]) == len(METRICS) * len(pairs) * 3
    for one in board["comparisons"]:
        places = FOLDERS.values() if one["recipe"] is None else [FOLDERS[one["recipe"]]]
        gains = {
            model: [values[one["metric"], "gain", place, model] for place in places]
            for model in (one["first"], one["second"])
        }
        left, right = [], []
        for key in gains[one["first"]][0]:
            both = [
                (first[key], second[key])
                for first, second in zip(*gains.values(), strict=True)
                if first[key] is not None and second[key] is not None
            ]
            if both:  # averages over the recipes that have them
                left.append(np.mean([first for first, _ in both]))
                right.append(np.mean([second for _, second in both]))
        assert one["n"] == len(left)
        assert near(one["difference"]["mean"], np.mean(left) - np.mean(right))
        if np.ptp(np.subtract(left, right)) > 1e-12:
            test = stats.ttest_rel(left, right)
            assert near(one["p"], test.pvalue)
            assert near(one["difference"]["ci95"], list(test.confidence_interval()))
            assert one["first_better"] == np.count_nonzero(np.subtract(left, right) > 0)
        else:
            assert one["p"] == 1
    for metric in METRICS:
        for overall in (True, False):
            family = [
                one
                for one in board["comparisons"]
                if one["metric"] == metric and (one["recipe"] is None) == overall
            ]
            corrected = [one["p_holm"] for one in family]
            assert near(corrected, by_hand([one["p"] for one in family]))


def by_hand(ps):
    """Holm: the smallest of m times m, the next times m - 1, and none less than one before it."""
    order, result, least = np.argsort(ps, kind="stable"), [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1, ps[place] * (len(ps) - rank)))
        result[place] = least
    return result


def test_ranks_count_those_that_are_significantly_better(board):
    assert {score["rank"] for one in board["results"] for score in one["scores"].values()} > {1}
    for result in board["results"]:
        for metric, score in result["scores"].items():
            better = 0
            for one in board["comparisons"]:
                if (one["metric"], one["recipe"]) != (metric, result["recipe"]):
                    continue
                sides = {one["first"]: -1, one["second"]: 1}
                against = sides.get(result["model"], 0) * one["difference"]["mean"]
                better += against > 0 and one["p_holm"] < 0.05
            assert score["rank"] == 1 + better


def test_a_table_says_the_same_however_it_is_read(evaluation, board):
    files = {name: (evaluation / name).read_bytes() for name in boards.FILES}
    for rows in (1, 5, 6, 7, 1000):
        assert boards.make(str(evaluation), rows) == board
        assert {name: (evaluation / name).read_bytes() for name in boards.FILES} == files


def test_the_table_and_the_page_show_what_the_scoreboard_holds(evaluation, board):
    text = (evaluation / "scoreboard.csv").read_bytes().decode()
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(lines) == 3 * 3 * len(METRICS)
    told = {(one["recipe"], one["model"], one["metric"]): one for one in lines}
    for result in board["results"]:
        for metric, score in result["scores"].items():
            line = told[result["recipe"] or "", result["model"], metric]
            assert float(line["gain"]) == score["gain"]["mean"]
            assert int(line["rank"]) == score["rank"]
    page = (evaluation / "scoreboard.md").read_text("utf-8")
    assert "13 images, 2 recipes, 3 models, seed 0." in page
    assert "`nan` on `jpeg:4`:" in page
    table = page.split("## SSIM")[1].split("\n\n")[1].splitlines()
    assert table[0] == "| recipe | nothing done | `identity` | `blur` | `nan` | images |"
    (result,) = (
        one
        for one in board["results"]
        if (one["recipe"], one["model"]) == ("jpeg:quality=10", "identity")
    )
    score = result["scores"]["ssim"]
    (line,) = (line for line in table if line.startswith("| `jpeg:4` |"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[1] == f"{score['before']['mean']:.4f}"
    plain = f"{score['after']['mean']:.4f}"
    assert cells[2].startswith(f"**{plain}** (" if score["rank"] == 1 else f"{plain} (")
    assert len({line.count("|") for line in table}) == 1


def test_names_stay_names_in_the_page(board):
    odd = json.loads(json.dumps(board).replace("identity", "a|b `<script>` \\n# c"))
    lines = write_markdown(odd).decode().splitlines()
    (head,) = {line for line in lines if line.startswith("| recipe | nothing")}
    assert "`` a\\|b `<script>`  # c ``" in head
    assert not any(line.startswith("# c") for line in lines)


def test_one_model_on_one_recipe_has_a_scoreboard_too(archive, models, board, tmp_path):
    out = tmp_path / "out"
    evaluate(archive, models, out, names=("blur",), recipe="jpeg:4")
    alone = json.loads((out / "scoreboard.json").read_text("utf-8"))
    (result,) = alone["results"]
    assert not alone["comparisons"]
    (of_matrix,) = (
        one
        for one in board["results"]
        if (one["recipe"], one["model"]) == ("jpeg:quality=10", "blur")
    )
    for metric, score in result["scores"].items():
        expected = {**of_matrix["scores"][metric], "rank": 1}
        assert {k: v for k, v in score.items() if k != "p_holm"} == {
            k: v for k, v in expected.items() if k != "p_holm"
        }
        assert score["p"] == score["p_holm"]  # one test needs no correction
    assert "## SSIM" in (out / "scoreboard.md").read_text("utf-8")


def test_without_scores_there_is_nothing_to_show(archive, models, tmp_path):
    out = tmp_path / "out"
    told = (archive, models, out, "--metrics", "colourfulness")
    evaluate(*told, names=("identity", "blur"), recipe="jpeg:1", code=ExitCode.INCOMPLETE)
    assert "No score was taken" in (out / "scoreboard.md").read_text("utf-8")
    evaluate(
        *told[:2], out, "--only", "broken.png", "--overwrite", names=("blur",), recipe="jpeg:1"
    )
    told = json.loads((out / "scoreboard.json").read_text("utf-8"))
    assert [one["failed"] for one in told["results"]] == [1]
    assert not told["metrics"]


def test_scores_that_are_not_defined_are_left_out(tmp_path):
    """Identical images have no PSNR, and what failed has nothing."""
    path = tmp_path / "metrics.parquet"
    rows = [
        {"key": f"{key}", "page": 1, "status": status, "source_sha256": "0", "cell": cell}
        | {"psnr_rgb_degraded": before, "psnr_rgb_restored": after}
        | {"psnr_rgb_gain": None if before is None or after is None else after - before}
        for key, cell, status, before, after in [
            ("a", "x", "restored", 20.0, 30.0),
            ("a", "y", "restored", 20.0, None),
            ("b", "x", "failed", None, None),
            ("b", "y", "restored", 10.0, 12.0),
            ("c", "y", "quarantined", 10.0, 9.0),
        ]
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    (score,) = read_scores(str(path))
    grids = list(read_grids(str(path), ("x", "y"), [score], 2))
    assert [key for grid in grids for key in grid.keys] == ["a", "b", "c"]
    gains = np.concatenate([grid.gain["psnr_rgb"] for grid in grids])
    np.testing.assert_array_equal(gains, [[10, np.nan], [np.nan, 2], [np.nan, -1]])
    before = np.concatenate([grid.before["psnr_rgb"] for grid in grids])
    np.testing.assert_array_equal(before, [[20, np.nan], [np.nan, 10], [np.nan, 10]])
    statuses = sum(grid.statuses for grid in grids)
    np.testing.assert_array_equal(statuses, [[1, 0, 0, 1], [2, 0, 1, 0]])


def test_p_values_at_the_ends():
    assert student_p(0.0, 0.0, 5) == 1
    assert student_p(0.1, 0.0, 5) == 0
    assert student_p(0.1, None, 1) is None
    np.testing.assert_array_equal(
        over_recipes([np.array([1.0, np.nan, np.nan]), np.array([3.0, 5.0, np.nan])]),
        [2, 5, np.nan],
    )
    # An example worked by hand: 4 tests at 0.01, 0.04, 0.03 and 0.005; and one that is none.
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])


def test_welch_is_scipys():
    rng = np.random.default_rng(5)
    one, other = rng.normal(1, 2, 31), rng.normal(0, 5, 17)
    ends, p = welch(
        {"mean": one.mean(), "std": one.std(ddof=1)},
        {"mean": other.mean(), "std": other.std(ddof=1)},
        (31, 17),
    )
    test = stats.ttest_ind(one, other, equal_var=False)
    assert p == pytest.approx(test.pvalue, rel=1e-12)
    assert ends == pytest.approx(list(test.confidence_interval()), rel=1e-12)
