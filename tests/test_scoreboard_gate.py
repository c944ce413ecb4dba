"""An evaluation that is significantly worse than an earlier one ends with exit code 4."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import stats

from pipeline.job import ExitCode, JobError
from tests.evaluations import cut_photographs, evaluate

RECIPES = "gaussian_noise:4, jpeg:2"
CANONICAL = ["gaussian_noise:sigma=66.3", "jpeg:quality=18"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    cut_photographs(folder)
    return folder


@pytest.fixture(scope="module")
def earlier(archive, models, tmp_path_factory):
    """An evaluation of a model that leaves images alone."""
    out = tmp_path_factory.mktemp("earlier") / "out"
    evaluate(archive, models, out, names=["identity"], recipe=RECIPES, code=ExitCode.OK)
    return out


@pytest.fixture
def gated(archive, models, tmp_path):
    """Evaluate, held to a scoreboard; gives how that was passed."""

    def run(gate, *more, names, recipe=RECIPES, code=None):
        out = tmp_path / "out"
        told = ("--gate", gate, *more)
        evaluate(archive, models, out, *told, names=names, recipe=recipe, code=code)
        return json.loads((out / "gates.json").read_text("utf-8"))

    return run


def gains(output, metric, cell):
    table = pq.read_table(output / "metrics.parquet").to_pylist()
    return {row["key"]: row[f"{metric}_gain"] for row in table if row["cell"] == cell}


def test_a_significant_loss_is_exit_code_4(gated, earlier, tmp_path, caplog):
    """A blur takes noise away, and takes more than JPEG does."""
    caplog.set_level("INFO")
    verdict = gated(earlier / "scoreboard.json", names=["blur"], code=ExitCode.FIXITY)
    found = verdict["scoreboard"]
    assert not verdict["passed"] and not found["passed"]
    assert found["method"] == "paired by image" and found["same_masters"]
    assert len(found["compared"]) == 6
    lost = {(one["recipe"], one["metric"]) for one in found["compared"] if one["lost"]}
    assert (CANONICAL[1], "psnr_rgb") in lost
    assert (CANONICAL[0], "psnr_rgb") not in lost
    for one in found["compared"]:
        place = CANONICAL.index(one["recipe"])
        folder = ("gaussian_noise-4", "jpeg-2")[place]
        now = gains(tmp_path / "out", one["metric"], f"blur/{folder}")
        before = gains(earlier, one["metric"], f"identity/{folder}")
        pairs = np.array([(now[key], before[key]) for key in sorted(now)])
        assert one["n"] == 12
        test = stats.ttest_rel(*pairs.T)
        assert one["p"] == pytest.approx(test.pvalue, rel=1e-9)
        assert one["difference"] == pytest.approx(np.subtract(*pairs.T).mean())
        assert one["ci95"] == pytest.approx(list(test.confidence_interval()))
        assert one["lost"] == (one["difference"] < 0 and one["p_holm"] < 0.05)
        assert (one["now"], one["before"]) == pytest.approx(tuple(pairs.mean(axis=0)))


def test_what_is_the_same_or_better_passes(gated, earlier):
    verdict = gated(earlier, names=["identity"], code=ExitCode.OK)
    assert verdict["passed"]
    assert {one["p"] for one in verdict["scoreboard"]["compared"]} == {1.0}


def test_a_gain_passes(gated, earlier, archive, models, tmp_path):
    out = tmp_path / "blur"
    evaluate(archive, models, out, names=["blur"], recipe=RECIPES)
    verdict = gated(out, names=["identity"], recipe="jpeg:2, gaussian_noise:4")
    won = [
        one["recipe"]
        for one in verdict["scoreboard"]["compared"]
        if one["metric"] == "psnr_rgb" and one["difference"] > 0 and one["p_holm"] < 0.05
    ]
    assert won == [CANONICAL[1]]  # and lost where the blur had taken noise away


def test_models_are_held_to_those_of_their_names(gated, archive, models, tmp_path):
    out = tmp_path / "both"
    evaluate(archive, models, out, names=["blur", "identity"], recipe=RECIPES)
    verdict = gated(out, names=["identity", "blur"], code=ExitCode.OK)
    assert all(one["model"] == one["against"] for one in verdict["scoreboard"]["compared"])
    assert len(verdict["scoreboard"]["compared"]) == 12
    with pytest.raises(JobError, match="its models are blur, identity, not invert"):
        gated(out, names=["invert"])


def test_without_the_table_means_are_compared(gated, earlier, tmp_path):
    """A scoreboard alone, as it is kept beside the code that it is to guard."""
    kept = tmp_path / "kept.json"
    shutil.copy(earlier / "scoreboard.json", kept)
    verdict = gated(kept, names=["blur"], code=None)
    found = verdict["scoreboard"]
    assert found["method"] == "Welch"
    for one in found["compared"]:
        folder = ("gaussian_noise-4", "jpeg-2")[CANONICAL.index(one["recipe"])]
        now = gains(tmp_path / "out", one["metric"], f"blur/{folder}")
        before = gains(earlier, one["metric"], f"identity/{folder}")
        assert set(before.values()) == {0.0}
        test = stats.ttest_ind(list(now.values()), list(before.values()), equal_var=False)
        assert one["p"] == pytest.approx(test.pvalue, rel=1e-6)
    # So it is where a table lies beside it that is another's.
    pq.write_table(
        pq.read_table(earlier / "metrics.parquet").slice(1), tmp_path / "metrics.parquet"
    )
    shutil.copy(kept, tmp_path / "scoreboard.json")
    again = gated(tmp_path / "scoreboard.json", names=["blur"])["scoreboard"]
    assert again["compared"] == found["compared"] and again["method"] == "Welch"


def test_masters_that_have_changed_are_told_and_left_out(
    earlier, archive, models, tmp_path, caplog
):
    folder, out = tmp_path / "archive", tmp_path / "out"
    shutil.copytree(archive, folder)
    name = "coffee 1.png"
    Image.open(folder / name).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / name)
    evaluate(folder, models, out, "--gate", earlier, names=["identity"], recipe=RECIPES)
    found = json.loads((out / "gates.json").read_text("utf-8"))["scoreboard"]
    assert not found["same_masters"]
    assert {one["n"] for one in found["compared"]} == {11}


@pytest.mark.parametrize(
    ("more", "recipe", "reason"),
    [
        ((), "jpeg:2", "recipes that are not evaluated now: gaussian_noise:4"),
        ((), f"{RECIPES}, snow:1", "does not have the recipes snow:1"),
        (("--seed", 3), RECIPES, "its seed is 0, not 3"),
        (("--metrics", "mae"), RECIPES, "none of its metrics is taken now: mse, psnr_rgb, ssim"),
        (("--only", "coffee*"), RECIPES, "of another archive: of 12, not of these 3"),
    ],
)
def test_a_gate_of_something_else_is_refused(gated, earlier, tmp_path, more, recipe, reason):
    with pytest.raises(JobError, match=reason):
        gated(earlier, *more, names=["identity"], recipe=recipe)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "results": []}'])
def test_what_is_no_scoreboard_is_refused(gated, tmp_path, text):
    path = tmp_path / "gate.json"
    path.write_text(text)
    with pytest.raises(JobError, match=r"gate\.json is no scoreboard\.json of an evaluation"):
        gated(path, names=["identity"])
