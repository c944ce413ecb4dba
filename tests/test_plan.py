import os
from pathlib import Path

import pytest
from PIL import Image

from pipeline.archive import ArchiveError, find_sources
from pipeline.plan import Budget, make_plan
from tests import shards
from tests.photographs import saved, small
from transforms.record import BatchSpec
from transforms.storage import StorageError


def image(path: Path, width: int = 8, height: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)
    return path


def keys(*archives: object) -> list[str]:
    return [source.key for source in find_sources([str(archive) for archive in archives])[0]]


def test_a_folder_is_searched_to_its_depths(tmp_path):
    for name in ("b.png", "a/z.jpg", "a/deep/er/x.TIF", "a [1]/y*.png", "ünïcode ☃.webp"):
        image(tmp_path / name)
    assert keys(tmp_path) == sorted(
        ["b.png", "a/z.jpg", "a/deep/er/x.TIF", "a [1]/y*.png", "ünïcode ☃.webp"]
    )


def test_keys_are_relative_to_what_holds_all_archives(tmp_path):
    for name in ("x/1/a.png", "x/2/a.png", "x/3/a.png"):
        image(tmp_path / name)
    assert keys(tmp_path / "x/1", tmp_path / "x/2") == ["1/a.png", "2/a.png"]


def test_globs_and_single_files_are_archives(tmp_path):
    for name in ("a.png", "b.jpg", "c/d.png"):
        image(tmp_path / name)
    assert keys(tmp_path / "*.png") == ["a.png"]
    assert keys(tmp_path / "**.png") == ["a.png", "c/d.png"]
    assert keys(tmp_path / "b.jpg") == ["b.jpg"]


def test_a_file_that_two_archives_hold_is_planned_once(tmp_path):
    image(tmp_path / "a.png")
    assert keys(tmp_path, tmp_path / "*.png") == ["a.png"]


def test_a_folder_with_glob_characters_is_a_folder(tmp_path):
    image(tmp_path / "scans [1999-2001]" / "a.png")
    assert keys(tmp_path / "scans [1999-2001]") == ["a.png"]


def test_a_file_with_glob_characters_is_that_file_and_no_other(tmp_path):
    image(tmp_path / "a1.png")
    image(tmp_path / "a[1].png")
    assert keys(tmp_path / "a[1].png") == ["a[1].png"]


def test_what_is_no_image_is_left_out_and_counted(tmp_path):
    image(tmp_path / "a.png")
    for name in ("notes.txt", "b.txt", "Makefile", "._a.png", ".DS_Store"):
        (tmp_path / name).write_text("")
    sources, left_out = find_sources([str(tmp_path)])
    assert [source.key for source in sources] == ["a.png"]
    assert left_out == {".txt": 2, "hidden": 2, "no extension": 1}


def test_an_output_whose_ledger_knows_nothing_is_an_error(tmp_path):
    image(tmp_path / "images" / "a.png")
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "job.json").write_text("{}")
    with pytest.raises(ArchiveError, match="ledger knows none of its 1 files"):
        make_plan([str(tmp_path)], Budget())


@pytest.mark.parametrize("archive", ["missing", "empty", "texts", "missing/*.png"])
def test_nothing_to_plan_is_an_error_that_names_the_archive(tmp_path, archive):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("")
    with pytest.raises(ArchiveError, match=archive.replace("*", r"\*")):
        make_plan([str(tmp_path / archive)], Budget())


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path):
    # A test may run as root, who may read every folder; a link to itself nobody can.
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises((StorageError, ArchiveError), match="loop"):
        make_plan([str(tmp_path / "loop")], Budget())


def test_a_dangling_link_is_planned_so_that_it_can_fail(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("nowhere.png")
    assert keys(tmp_path) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("budget", "most"),
    [
        (Budget(), 5),
        (Budget(count=3), 3),
        (Budget(pixels=2 * 64), 2),
        (Budget(pixels=1), 1),
        (Budget(size=1), 1),
    ],
    ids=["eight batches a worker", "count", "pixels", "less than one image", "fewer bytes"],
)
def test_batches_keep_to_their_budget(tmp_path, budget, most):
    for number in range(40):
        image(tmp_path / f"{number:02}.png")
    plan = make_plan([str(tmp_path)], budget)
    assert {len(spec.sources) for spec in plan.specs} <= {most, 40 % most}
    planned = sorted(source.key for spec in plan.specs for source in spec.sources)
    assert planned == [f"{number:02}.png" for number in range(40)]


def test_the_same_files_give_the_same_plan(tmp_path):
    for number in range(20):
        image(tmp_path / f"{number}.png", 8 + number)
    first, second = (make_plan([str(tmp_path)], Budget(count=3), workers=2) for _ in range(2))
    assert first == second
    ids = {batch.id for spec in first.specs for batch in spec.batches()}
    assert len(ids) == len(first.specs)
    assert [BatchSpec.from_json(spec.to_json()) for spec in first.specs] == list(first.specs)


def test_names_that_are_not_text_survive_the_spec(tmp_path):
    path = image(tmp_path / "a.png")
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    path.rename(os.fsdecode(odd))
    (spec,) = make_plan([str(tmp_path)], Budget()).specs
    (source,) = BatchSpec.from_json(spec.to_json()).sources
    assert os.fsencode(source.path) == odd


def test_work_is_dealt_out_evenly(tmp_path):
    for number in range(40):
        image(tmp_path / f"{number:02}.png", 8 * (1 + number % 9), 64)
    plan = make_plan([str(tmp_path)], Budget(count=2), workers=2)
    shares = [sum(spec.pixels for spec in plan.specs[worker::2]) for worker in range(2)]
    assert max(shares) / min(shares) < 1.1


def test_what_comes_with_images_counts_towards_the_bytes_of_a_batch(tmp_path):
    png = saved(small(), "PNG")
    members = {
        f"{n}.{kind}": data
        for n in range(6)
        for kind, data in (("png", png), ("bin", bytes(10**6)))
    }
    shards.tar(tmp_path / "a.tar", members)
    shards.tfrecord(tmp_path / "b.tfrecord", {f"{n}.png": png for n in range(6)})
    plan = make_plan([str(tmp_path)], Budget(size=2 * (len(png) + 10**6)), sharded=True)
    assert sorted(len(spec.sources) for spec in plan.specs) == [2, 2, 2, 6]
