"""Quality gates: what results must reach, and drift from an earlier run."""

import json
import math
import os
from argparse import ArgumentTypeError, Namespace
from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import pytest
from bagit import Bag
from scipy import stats

from pipeline import drift, gates
from pipeline.gate_options import read_share, requirements
from pipeline.gates import Gates
from pipeline.job import ExitCode, JobError
from tests.jobs import run
from tests.photographs import saved, small
from tests.saved_models import identity
from tests.test_job import digests

NOISE = ("--recipe", "gaussian_noise:sigma=25")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Nineteen photographs, and a file that is none: one of twenty fails."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(19):
        pixels = np.roll(small(height=32, width=32), number, axis=1)
        (folder / f"{number:02}.png").write_bytes(saved(pixels, "PNG"))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n is all there is")
    return folder


@pytest.fixture(scope="module")
def done(archive, tmp_path_factory):
    """What `degrade` makes of it; runs with the same options do nothing but gate it."""
    output = tmp_path_factory.mktemp("done") / "out"
    run("degrade", archive, output, *NOISE, code=ExitCode.INCOMPLETE)
    return output


def regate(archive, output, *options, code):
    """Hold results that are there to gates; give how they were passed."""
    before = {name: digest for name, digest in digests(output).items() if name != "gates.json"}
    ended = run("degrade", archive, output, *NOISE, *options, code=code)
    after = {name: digest for name, digest in digests(output).items() if name != "gates.json"}
    assert after == before, "gates do nothing again"
    assert json.loads((output / "gates.json").read_text()) == ended.verdict
    gates.tell(ended.verdict)
    return ended.verdict


@pytest.mark.parametrize(
    ("text", "value", "is_share"),
    [
        ("5", 5, False),
        ("1", 1, False),
        ("0", 0, False),
        ("1.0", 1, True),
        ("0.0", 0, True),
        ("0.05", Fraction(1, 20), True),
        (".29", Fraction(29, 100), True),
        ("5%", Fraction(1, 20), True),
        ("0.1%", Fraction(1, 1000), True),
        ("100%", 1, True),
    ],
)
def test_a_whole_number_is_a_count_and_one_with_a_point_or_percent_a_share(text, value, is_share):
    assert read_share(text) == (value, is_share)


@pytest.mark.parametrize("text", ["1.5", "101%", "-1", "5.", "", "%", "a", "1e-2", "nan", "1/2"])
def test_what_is_neither_a_count_nor_a_share_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="share"):
        read_share(text)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--max_failed", "1"), ExitCode.INCOMPLETE),  # one failed: 3 is still told
        (("--max_failed", "0"), ExitCode.FIXITY),
        (("--max_failed", "5%"), ExitCode.INCOMPLETE),
        (("--max_failed", "0.05"), ExitCode.INCOMPLETE),  # one of twenty, exactly
        (("--max_failed", "0.049"), ExitCode.FIXITY),
        (("--max_failed", "1.0", "--max_quarantined", "0"), ExitCode.INCOMPLETE),
        (("--at_most", "failed=1,gone=0", "--at_least", "skipped=1"), ExitCode.FIXITY),
        (("--at_least", "psnr_rgb_degraded=19"), ExitCode.INCOMPLETE),
        (("--at_least", "psnr_rgb_degraded=22"), ExitCode.FIXITY),
        (("--at_most", "psnr_rgb_degraded=22"), ExitCode.INCOMPLETE),
        # Where there is no mask there is nothing inside of it.
        (("--at_least", "psnr_rgb_degraded_inside=1"), ExitCode.FIXITY),
    ],
)
def test_results_are_held_to_gates_and_to_other_gates_later(archive, done, options, code):
    verdict = regate(archive, done, *options, code=code)
    assert verdict["passed"] == (code != ExitCode.FIXITY)


def test_the_figures_of_a_gate_are_printed(archive, done, caplog):
    caplog.set_level("INFO")
    options = ("--max_failed", "4.9%", "--max_quarantined", "2", "--at_least", "ssim_degraded=0.99")
    regate(archive, done, *options, code=ExitCode.FIXITY)
    mean = json.loads((done / "summary.json").read_text())["metrics"]["ssim_degraded"]["mean"]
    assert [record.message for record in caplog.records if "gate" in record.message] == [
        "gate --max_failed 4.9%: not passed: 5 % of 20 images are failed, not at most 4.9 %",
        "gate --max_quarantined 2: passed: quarantined: 0 of 20 images",
        f"gate --at_least ssim_degraded=0.99: not passed: ssim_degraded is {mean:.6g} on average "
        "of 19 images, not at least 0.99",
    ]


def test_a_share_is_exact():
    """In floating point 0.29 of 100 is less than 29."""
    asked = Namespace(max_failed="0.29")
    (one,) = requirements(asked)
    summary = {"failed": 29, "planned": 100, "metrics": {}}
    assert gates._hold(one, summary)["passed"]
    assert not gates._hold(one, {**summary, "failed": 30})["passed"]


def test_restored_images_are_held_to_psnr_and_ssim(archive, tmp_path):
    out = tmp_path / "out"
    job = ("evaluate", archive, out, *NOISE, "--model", identity(tmp_path / "identity"))
    ended = run(*job, "--min_psnr", "19", "--min_ssim", "0.9", code=ExitCode.FIXITY)
    psnr, ssim = ended.verdict["gates"]
    assert (psnr["passed"], ssim["passed"], ended.verdict["passed"]) == (True, False, False)
    rows = pq.read_table(out / "metrics.parquet").to_pydict()
    restored = [value for value in rows["psnr_rgb_restored"] if value is not None]
    assert psnr["value"] == pytest.approx(math.fsum(restored) / 19, abs=1e-12)
    assert (psnr["images"], psnr["limit"]) == (19, 19.0)
    before = digests(out / "images")
    run(*job, "--min_psnr", "19", code=ExitCode.INCOMPLETE)
    assert digests(out / "images") == before


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("restore", ("--min_psnr", "30"), "there is none: that is for `heliograph evaluate`"),
        ("convert", ("--at_least", "ssim_restored=1"), "there is none"),
        ("convert", ("--at_least", "contrast_original=0.1"), "`convert` takes none"),
        ("degrade", (*NOISE, "--min_ssim", "0.9"), "there are ssim_degraded, ssim_degraded_inside"),
        ("degrade", (*NOISE, "--at_most", "gmsd_degraded=1"), "add gmsd to --metrics"),
        ("degrade", (*NOISE, "--metrics", "none", "--min_psnr", "1"), "add psnr_rgb to --metrics"),
        ("degrade", (*NOISE, "--at_most", "faild=1"), "no figure of a summary: failed, quar"),
        ("degrade", (*NOISE, "--at_most", "lpips_degraded=1"), "--lpips"),
        ("degrade", (*NOISE, "--max_drift", "1"), "name it by --baseline"),
        ("degrade", (*NOISE, "--baseline", "/nowhere"), "no /nowhere/summary.json"),
    ],
)
def test_a_gate_that_can_never_be_passed_is_an_error_before_anything_is_done(
    archive, tmp_path, command, options, said
):
    out = tmp_path / "out"
    with pytest.raises(JobError, match=said):
        run(command, archive, out, *options)
    assert not out.exists()


def test_a_dry_run_checks_gates_and_holds_nothing_to_them(archive, tmp_path):
    out = tmp_path / "out"
    run("degrade", archive, out, *NOISE, "--max_failed", "0", "--dry_run", code=ExitCode.OK)
    assert not out.exists()


def test_what_is_about_to_be_others_is_told_of_no_more(archive, tmp_path):
    out = tmp_path / "out"
    limited = ("degrade", archive, out, *NOISE, "--only", "00.png")
    run(*limited, "--max_failed", "0", code=ExitCode.OK)
    assert (out / "gates.json").exists()
    run("degrade", archive, out, *NOISE, code=ExitCode.INCOMPLETE)
    assert not (out / "gates.json").exists()


def test_a_bag_stays_valid_whatever_it_is_held_to(archive, tmp_path):
    out = tmp_path / "out"
    job = ("degrade", archive, out, *NOISE, "--package", "bagit", "--only", "0*.png")
    for limit, code in (("30", ExitCode.FIXITY), ("3", ExitCode.OK)):
        run(*job, "--at_least", f"psnr_rgb_degraded={limit}", code=code)
        assert Bag(str(out)).validate()
        assert json.loads((out / "gates.json").read_text())["passed"] == (code == ExitCode.OK)
    assert not (out / "data" / "gates.json").exists()


# Drift.


def side(values):
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)),
        "count": len(values),
    }


def a_summary(metrics, planned=100, failed=0, quarantined=0, **job):
    return {
        "planned": planned,
        "failed": failed,
        "quarantined": quarantined,
        "metrics": metrics,
        "job": job,
        "digest": "d",
    }


@pytest.mark.parametrize("shift", [0, 0.1, 0.5, -1])
@pytest.mark.parametrize("sizes", [(2, 2), (20, 7), (500, 400)])
def test_welchs_test_is_that_of_scipy(shift, sizes):
    rng = np.random.default_rng(7)
    before, now = rng.normal(30, 4, sizes[0]), rng.normal(30 + shift, 2, sizes[1])
    expected = stats.ttest_ind(now, before, equal_var=False).pvalue
    assert drift.welch(side(before), side(now)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "counts",
    [
        (0, 20, 1, 20),
        (3, 100, 9, 100),
        (0, 10**6, 12, 10**6),
        (500, 10**5, 620, 10**5),
        (9, 9, 0, 9),
    ],
)
def test_fishers_test_is_that_of_scipy(counts):
    failed_before, of_before, failed_now, of_now = counts
    table = [[failed_now, of_now - failed_now], [failed_before, of_before - failed_before]]
    expected = stats.fisher_exact(table, alternative="greater").pvalue
    assert drift.fisher(*counts) == pytest.approx(expected, rel=1e-5)


def test_equal_values_do_not_drift_and_different_ones_without_spread_do():
    flat = {"mean": 0.1, "std": 0.0, "count": 9}
    assert drift.welch(flat, {**flat, "mean": 0.1 + 1e-17}) == 1.0
    assert drift.welch(flat, {**flat, "mean": 0.2}) == 0.0
    assert drift.welch(flat, {"mean": 0.2, "std": None, "count": 1}) is None


def test_of_many_comparisons_few_are_significant_by_chance():
    """Holm by hand: 0.001 <= 0.01 / 4, 0.0032 <= 0.01 / 3, 0.006 > 0.01 / 2, and no further."""
    assert drift._rejected([0.006, 0.001, None, 0.0032, 0.009], 0.01) == [
        *(False, True, False, True, False)
    ]


def compared(now, before, least=0.1):
    found = drift.compare(now, drift.Baseline("before", "sha", before), least)
    return found, {one["name"]: one["verdict"] for one in found["compared"]}


@pytest.mark.parametrize(
    ("name", "change", "verdict"),
    [
        ("psnr_rgb_restored", -1, "worse"),
        ("psnr_rgb_restored", +1, "better"),
        ("psnr_rgb_restored_inside", -1, "worse"),
        ("ciede2000_restored", +1, "worse"),
        ("ciede2000_gain", -1, "worse"),
        ("ciede2000_gain", +1, "better"),
        ("colourfulness_difference_restored", -9, "worse"),  # 5 to -4 is nearer, to -9 not
        ("colourfulness_restored", +1, "changed"),
        ("psnr_rgb_degraded", +1, "changed"),  # another archive, or other damage
    ],
)
def test_a_difference_is_worse_better_or_neither(name, change, verdict):
    start = -5.0 if change == -9 else 30.0
    before = {"mean": start, "std": 2.0, "count": 1000}
    now = {**before, "mean": start + change}
    found, verdicts = compared(a_summary({name: now}), a_summary({name: before}))
    assert verdicts[name] == verdict
    assert found["passed"] == (verdict == "better")


def test_what_is_significant_must_matter_as_well():
    before = {"mean": 30.0, "std": 4.0, "count": 10**6}
    now = {**before, "mean": 29.7}  # 0.075 deviations, and 53 standard errors
    found, verdicts = compared(
        a_summary({"psnr_rgb_restored": now}), a_summary({"psnr_rgb_restored": before})
    )
    (one,) = (one for one in found["compared"] if one["name"] == "psnr_rgb_restored")
    assert (one["significant"], one["deviations"]) == (True, -0.075)
    assert (verdicts["psnr_rgb_restored"], found["passed"]) == ("same", True)
    found, _ = compared(
        a_summary({"psnr_rgb_restored": now}), a_summary({"psnr_rgb_restored": before}), 0.05
    )
    assert not found["passed"]


def test_chance_raises_no_more_alarms_than_the_level_and_a_whole_deviation_is_found():
    """Two hundred pairs of runs of a hundred images each, with twelve scores."""
    rng = np.random.default_rng(3)

    def a_run(shift):
        scores = {f"score_{n}": side(rng.normal(30, 4, 100)) for n in range(11)}
        return a_summary(scores | {"psnr_rgb_restored": side(rng.normal(30 - shift, 4, 100))})

    alarms = [not compared(a_run(0), a_run(0), 0)[0]["passed"] for _ in range(200)]
    assert sum(alarms) <= 6  # 1 % are 2; more than 6 come about in one of 200
    found = [compared(a_run(4), a_run(0))[1]["psnr_rgb_restored"] == "worse" for _ in range(50)]
    assert all(found)


def test_more_failures_than_before_are_drift_and_fewer_are_none():
    few, many = a_summary({}, 1000, failed=2), a_summary({}, 1000, failed=30)
    assert compared(many, few)[1]["failed"] == "worse"
    assert compared(few, many)[1]["failed"] == "same"
    assert compared(a_summary({}, 1000, failed=4), few)[1]["failed"] == "same"


def test_what_is_in_one_of_the_two_alone_is_told(caplog):
    score = {"mean": 30.0, "std": 1.0, "count": 10}
    now, before = a_summary({"a": score}, seed=1, model="x"), a_summary({"b": score}, seed=1)
    found, _ = compared(now, before)
    assert (found["apart"], found["differs"]) == (["a", "b"], ["model"])
    gates._tell_drift(found)
    assert "is of a job with other model" in caplog.text
    assert "in one of the two alone: a, b" in caplog.text


def test_a_job_is_held_to_an_earlier_one(archive, done, tmp_path, caplog):
    same = regate(archive, done, "--baseline", done, code=ExitCode.INCOMPLETE)
    assert {one["verdict"] for one in same["drift"]["compared"]} == {"same"}
    less_noise = ("--recipe", "gaussian_noise:sigma=20")
    ended = run(
        *("degrade", archive, tmp_path / "out", *less_noise, "--baseline", done / "summary.json"),
        code=ExitCode.FIXITY,
    )
    found = {one["name"]: one for one in ended.verdict["drift"]["compared"]}
    assert found["psnr_rgb_degraded"]["verdict"] == "changed"
    assert found["colourfulness_original"]["verdict"] == "same"
    assert ended.verdict["drift"]["differs"] == ["recipe"]
    gates.tell(ended.verdict)
    assert "psnr_rgb_degraded is changed" in caplog.text
    # The same from the rows themselves.
    columns = [
        pq.read_table(out / "metrics.parquet").column("psnr_rgb_degraded").drop_null().to_numpy()
        for out in (tmp_path / "out", done)
    ]
    p = stats.ttest_ind(*columns, equal_var=False).pvalue
    assert found["psnr_rgb_degraded"]["p"] == pytest.approx(p, rel=1e-5)


def older(summary):
    """Give a summary as versions without standard deviations wrote it."""
    for score in summary["metrics"].values():
        score.pop("std", None)
    return json.dumps(summary)


def test_a_baseline_of_an_older_version_needs_its_table(archive, done, tmp_path):
    text = older(json.loads((done / "summary.json").read_text()))
    (tmp_path / "summary.json").write_text(text)
    (tmp_path / "last.json").write_text(text)
    for name in ("summary.json", "last.json"):
        with pytest.raises(drift.BaselineError, match=f"no {tmp_path}/metrics.parquet .* Keep its"):
            drift.read_baseline(str(tmp_path / name))
    os.link(done / "metrics.parquet", tmp_path / "metrics.parquet")
    for path in (tmp_path, tmp_path / "last.json"):
        found = drift.read_baseline(str(path)).summary["metrics"]["ssim_degraded"]
        values = pq.read_table(done / "metrics.parquet").column("ssim_degraded").drop_null()
        assert found["std"] == pytest.approx(np.std(values.to_numpy(), ddof=1), rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"planned": 1}', '{"planned":1,"failed":0,"quarantined":0,"metrics":3}'],
)
def test_a_baseline_that_is_no_summary_is_an_error(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(drift.BaselineError, match="is no summary of a job"):
        drift.read_baseline(str(tmp_path))


def test_gates_need_no_job_but_its_output(done):
    asked = requirements(Namespace(max_failed="0", at_least=["ssim_degraded=0.1"]))
    verdict = gates.judge(str(done), Gates(asked))
    assert [one["passed"] for one in verdict["gates"]] == [False, True]
    assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict
