"""Symbolic links lead a job out of its archive only where that is asked for, and never out of its
output.
"""

import json
import os

import pytest

from pipeline.archive import CIRCLES, LINKS, ArchiveError, find_sources
from pipeline.job import ExitCode, JobError
from tests.jobs import run
from tests.photographs import saved, small
from transforms import storage
from transforms.bounds import Bounds

FOLLOWED = Bounds(follow_symlinks=True)
PHOTO = saved(small(), "PNG")


@pytest.fixture
def archive(tmp_path):
    """A folder with an image, and links of every kind."""
    outside = tmp_path / "outside"
    (outside / "private").mkdir(parents=True)
    (outside / "secret.png").write_bytes(PHOTO)
    (outside / "private" / "more.png").write_bytes(PHOTO)
    folder = tmp_path / "archive"
    (folder / "album").mkdir(parents=True)
    (folder / "album" / "a.png").write_bytes(PHOTO)
    (folder / "again.png").symlink_to("album/a.png")
    (folder / "secret.png").symlink_to(outside / "secret.png")
    (folder / "up.png").symlink_to("../outside/secret.png")
    (folder / "chain.png").symlink_to("up.png")
    (folder / "private").symlink_to(outside / "private")
    (folder / "album" / "loop").symlink_to(folder)
    (outside / "private" / "back").symlink_to(folder)
    (folder / "gone.png").symlink_to("album/none.png")
    return folder


def keys(found):
    return [source.key for source in found]


def test_links_out_of_the_archive_are_left_out_and_counted(archive):
    sources, left_out = find_sources([str(archive)])
    assert keys(sources) == ["again.png", "album/a.png", "gone.png"]
    assert left_out == {LINKS: 5}


def test_a_glob_leaves_them_out_as_well(archive):
    sources, left_out = find_sources([f"{archive}/*"])
    assert keys(sources) == ["again.png"]
    assert left_out == {LINKS: 3}


def test_links_that_are_followed_end_where_they_lead_in_a_circle(archive):
    sources, left_out = find_sources([str(archive)], bounds=FOLLOWED)
    assert keys(sources) == [
        *("again.png", "album/a.png", "chain.png", "gone.png"),
        *("private/more.png", "secret.png", "up.png"),
    ]
    assert left_out == {CIRCLES: 2}


def test_one_folder_by_two_links_is_two_folders(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.png").write_bytes(PHOTO)
    (tmp_path / "archive").mkdir()
    for name in ("one", "two"):
        (tmp_path / "archive" / name).symlink_to(tmp_path / "outside")
    sources, _ = find_sources([str(tmp_path / "archive")], bounds=FOLLOWED)
    assert keys(sources) == ["one/a.png", "two/a.png"]
    with pytest.raises(ArchiveError, match=r"but 2 links .*--follow_symlinks"):
        find_sources([str(tmp_path / "archive")])


def test_what_is_named_is_read_be_it_a_link(archive, tmp_path):
    (tmp_path / "named").symlink_to(archive)
    sources, _ = find_sources([str(tmp_path / "named")])
    assert keys(sources) == ["again.png", "album/a.png", "gone.png"]
    (one,), _ = find_sources([str(archive / "secret.png")])
    assert one.key == "secret.png"


def test_a_job_says_which_links_it_left_out(archive, tmp_path, caplog):
    output = tmp_path / "output"
    with caplog.at_level("WARNING", "heliograph"):
        ended = run("convert", archive, output, code=ExitCode.INCOMPLETE)
    assert ended.summary["left_out"] == {LINKS: 5}
    assert ended.summary["restored"] == 2
    assert f"5 {LINKS}" in caplog.text
    (failure,) = map(json.loads, (output / "failures.jsonl").read_text().splitlines())
    assert failure["key"] == "gone.png"
    ended = run("convert", archive, output, "--follow_symlinks", "--retry", "failed", code=3)
    assert ended.summary["restored"] == 6


@pytest.mark.parametrize("name", ["images", "shards", "ledger", ".tmp", ".lock", "masks"])
def test_a_link_planted_in_the_output_is_refused(tmp_path, name):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a.png").write_bytes(PHOTO)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a.png").write_bytes(b"precious")
    output = tmp_path / "output"
    run("convert", tmp_path / "archive", output, "--limit", 1)
    if (output / name).exists():
        (output / name).rename(tmp_path / "before")
    (output / name).symlink_to(precious)
    (tmp_path / "archive" / "b.png").write_bytes(PHOTO)
    with pytest.raises(JobError, match=rf"symbolic link, .*{name}"):
        run("convert", tmp_path / "archive", output)
    assert os.listdir(precious) == ["a.png"]
    assert (precious / "a.png").read_bytes() == b"precious"


def test_a_link_planted_deeper_is_not_written_through(tmp_path):
    (tmp_path / "archive" / "album").mkdir(parents=True)
    (tmp_path / "archive" / "album" / "a.png").write_bytes(PHOTO)
    (tmp_path / "precious").mkdir()
    output = tmp_path / "output"
    run("convert", tmp_path / "archive", output)
    (output / "images" / "album" / "a.png").unlink()
    (output / "images" / "album").rmdir()
    (output / "images" / "album").symlink_to(tmp_path / "precious")
    ended = run("convert", tmp_path / "archive", output, "--retry", "damaged", code=3)
    assert ended.summary["failed"] == 1
    assert "is a symbolic link" in (output / "failures.jsonl").read_text()
    assert not os.listdir(tmp_path / "precious")


def test_a_link_under_the_name_of_a_file_is_replaced_and_not_written_through(tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to(precious)
    storage.write(str(tmp_path / "out" / "a.png"), PHOTO, scratch=str(tmp_path / "out" / ".tmp"))
    assert precious.read_bytes() == b"precious"
    assert (tmp_path / "out" / "a.png").read_bytes() == PHOTO
