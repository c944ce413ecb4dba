"""Jobs of other models and recipes have results of their own in one output, and replace nothing."""

import json
from pathlib import Path

import pytest

from pipeline.archive import find_sources
from pipeline.generations import folder_of, names
from pipeline.job import JobError
from pipeline.lock import Lock, LockedError
from pipeline.verify import tell, verify_all
from tests.jobs import run
from tests.photographs import small
from tests.test_resume import files, png

GRAY, NOISE = ("--recipe", "grayscale"), ("--recipe", "gaussian_noise:sigma=20", "--seed", 7)


@pytest.fixture(autouse=True)
def all_that_is_said(caplog):
    caplog.set_level("INFO")


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in ("astronaut", "coffee", "rocket"):
        (folder / f"{name}.png").write_bytes(png(small(name, 32, 24)))
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def written(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def digest(folder):
    return json.loads((folder / "ledger/job.json").read_text())["digest"]


def test_a_job_of_another_recipe_has_a_generation_of_its_own(archive, out, tmp_path, caplog):
    run("degrade", archive, out, *GRAY, code=0)
    before = written(out)
    beside = run("degrade", archive, out, *NOISE, code=0)
    folder = Path(beside.output)
    assert folder == Path(folder_of(str(out), digest(folder))) == out / "generations" / folder.name
    assert before.items() <= written(out).items(), "what was there is untouched"
    assert not (out / ".lock").exists() and not (folder / ".lock").exists()
    # It is what it would be in an output of its own.
    run("degrade", archive, tmp_path / "alone", *NOISE, code=0)
    assert files(folder) == files(tmp_path / "alone")
    said = caplog.text
    assert "recipe grayscale:by=bt601, now gaussian_noise:sigma=20" in said
    assert "seed 0, now 7" in said
    assert f"go to its own generation, {folder}" in said
    assert "--overwrite would replace the earlier results" in said


def test_each_command_comes_back_to_its_own_results(archive, out, caplog):
    first = run("degrade", archive, out, *GRAY, code=0)
    second = run("degrade", archive, out, *NOISE, code=0)
    before = written(out)
    assert run("degrade", archive, out, *GRAY, code=0) == first
    assert run("degrade", archive, out, *NOISE, code=0) == second
    assert written(out) == before
    assert caplog.text.count("3 images are done already; to do: none") == 2
    (archive / "new.png").write_bytes(png(small("chelsea", 32, 24)))
    assert run("degrade", archive, out, *NOISE, code=0).summary["planned"] == 4
    assert json.loads((out / "summary.json").read_text())["planned"] == 3
    # A generation can be named itself, by the job that it is of.
    assert run("degrade", archive, second.output, *NOISE, code=0).output == second.output
    with pytest.raises(JobError, match=rf"is a generation of {out} .*: name {out} as the output"):
        run("degrade", archive, second.output, *GRAY)


def test_a_plan_says_where_its_results_would_go(archive, out, caplog, capsys):
    run("degrade", archive, out, *GRAY, code=0)
    before = written(out)
    capsys.readouterr()
    told = run("degrade", archive, out, *NOISE, "--dry_run", code=0)
    assert Path(told.output).parent == out / "generations"
    assert told.output in capsys.readouterr().out
    assert "recipe grayscale:by=bt601, now gaussian_noise" in caplog.text
    assert written(out) == before
    caplog.clear()
    told = run("degrade", archive, out, *NOISE, "--dry_run", "--overwrite", code=0)
    assert told.output == str(out)
    assert f"the results of another job in {out} are replaced (recipe grayscale" in caplog.text
    assert written(out) == before


def test_overwriting_spares_every_generation(archive, out, caplog):
    run("degrade", archive, out, *GRAY, code=0)
    noise = Path(run("degrade", archive, out, *NOISE, code=0).output)
    kept = written(noise)
    replaced = run("degrade", archive, out, "--recipe", "jpeg:3", "--overwrite", code=0)
    assert replaced.output == str(out)
    assert written(noise) == kept
    assert f"its generations stay: {noise.name}" in caplog.text
    # A job that has its place already has nothing to replace.
    root = written(out)
    assert run("degrade", archive, out, *NOISE, "--overwrite", code=0).output == str(noise)
    assert written(out) == root
    assert "--overwrite replaces nothing" in caplog.text
    assert names(str(out)) == [noise.name]


def test_a_generation_is_gone_on_with_though_the_first_results_are_gone(archive, out):
    run("degrade", archive, out, *GRAY, code=0)
    noise = run("degrade", archive, out, *NOISE, code=0)
    for path in sorted(out.iterdir()):
        if path.name != "generations":
            path.rename(path.with_name("..") / ".." / path.name)  # as somebody tidies up
    assert run("degrade", archive, out, *NOISE, code=0).output == noise.output
    assert run("degrade", archive, out, "--recipe", "jpeg:3", code=0).output == str(out)


def test_one_lock_is_for_all_of_an_output(archive, out):
    run("degrade", archive, out, *GRAY, code=0)
    beside = run("degrade", archive, out, *NOISE, code=0).output
    with Lock(str(out)):
        for folder in (out, beside):
            with pytest.raises(LockedError):
                run("degrade", archive, folder, *NOISE)


def test_what_is_in_the_way_of_a_generation_is_not_touched(archive, out):
    run("degrade", archive, out, *GRAY, code=0)
    noise = Path(run("degrade", archive, out, *NOISE, code=0).output)
    for path in noise.iterdir():
        path.rename(out.parent / path.name)
    (noise / "letter.txt").write_text("mine")
    with pytest.raises(JobError, match=f"{noise}, .* is not empty and no earlier job of ours"):
        run("degrade", archive, out, *NOISE)
    assert [path.name for path in noise.iterdir()] == ["letter.txt"]


def test_all_generations_are_verified(archive, out, caplog):
    run("degrade", archive, out, *GRAY, code=0)
    noise = Path(run("degrade", archive, out, *NOISE, code=0).output)
    found = verify_all(str(out), deep=True)
    assert found["sound"] and found["counts"]["stray"] == 0
    assert set(found["generations"]) == {noise.name}
    (noise / "images" / "coffee.png").unlink()
    found = verify_all(str(out))
    tell(found)
    assert not found["sound"] and not found["findings"]
    (finding,) = found["generations"][noise.name]["findings"]
    assert (finding["kind"], finding["path"]) == ("missing", "images/coffee.png")
    assert f"{noise}:" in caplog.text
    assert verify_all(str(noise))["findings"] == [finding]


def test_of_an_output_as_an_archive_its_own_results_are_read(archive, out, tmp_path, caplog):
    run("degrade", archive, out, *GRAY, code=0)
    assert len(find_sources([str(out)])[0]) == 3
    assert "several jobs" not in caplog.text
    noise = Path(run("degrade", archive, out, *NOISE, code=0).output)
    sources, left_out = find_sources([str(out)])
    assert {Path(source.path).parent for source in sources} == {out / "images"}
    assert not left_out
    assert "its own are read, and not its generations" in caplog.text and str(noise) in caplog.text
    of_noise, _ = find_sources([str(noise)])
    assert {Path(source.path).parent for source in of_noise} == {noise / "images"}
    assert [source.key for source in of_noise] == [source.key for source in sources]


@pytest.mark.parametrize("of_a_generation", [False, True])
def test_a_job_whose_job_json_is_lost_goes_on_and_another_is_refused(
    archive, out, caplog, of_a_generation
):
    if of_a_generation:
        run("degrade", archive, out, "--recipe", "jpeg:3", code=0)
    command = ("degrade", archive, out, *GRAY, "--output_format", "tfrecord", "--batch_size", 2)
    folder = Path(run(*command, code=0).output)
    before = written(folder / "shards")
    (folder / "ledger/job.json").unlink()
    # The first of all, so that all batches would be others.
    (archive / "a.png").write_bytes(png(small("chelsea", 32, 24)))
    caplog.clear()
    assert run(*command, code=0).summary["restored"] == 4
    assert f"{folder} has lost its ledger/job.json" in caplog.text
    assert "3 images are done already; to do: 1 new" in caplog.text
    assert before.items() < written(folder / "shards").items()
    assert verify_all(str(folder), deep=True)["sound"]
    (folder / "ledger/job.json").unlink()
    if not of_a_generation:
        with pytest.raises(JobError, match=r"ledger/job.json is lost: heliograph repair"):
            run("degrade", archive, out, *NOISE)
