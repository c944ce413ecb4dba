"""A file is whole under its name or not there; names are never globs; nothing hangs."""

import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.photographs import saved, small
from transforms import storage
from transforms.storage import StorageError

PHOTO = saved(small(), "PNG")

NAMES = {
    "plain": "photo.png",
    "space": "box 3/Aunt May, 1931.png",
    "unicode": "Zürich/写真 №7.png",
    "decomposed": "Zu\u0308rich.png",
    "star": "all*.png",
    "question": "who?.png",
    "brackets": "scan[1-3].png",
    "braces": "scan{a,b}.png",
    "hash": "album#2/100%25.png",
    "backslash": "a\\b.png",
    "newline": "two\nlines.png",
    "not-utf-8": os.fsdecode(b"caf\xe9.png"),
    "compressed": "looks-packed.gz",
}
named = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def put(folder, name, data=PHOTO):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


@named
def test_what_is_written_is_there_under_its_name_and_nothing_else(tmp_path, name):
    path = storage.join(str(tmp_path), "images", name)
    storage.write(path, PHOTO, scratch=str(tmp_path / ".tmp"))
    assert files(tmp_path) == [f"images/{name}"]
    assert (tmp_path / "images" / name).read_bytes() == PHOTO
    assert storage.read(path) == PHOTO
    assert storage.exists(path)


def test_a_large_file_is_read_and_written_piece_by_piece(tmp_path):
    data = os.urandom(20_000_001)
    path = put(tmp_path, "large.bin", data)
    pieces = list(storage.chunks(path))
    assert max(map(len, pieces)) < len(data) / 2
    assert b"".join(pieces) == data
    storage.write(f"{tmp_path}/copy.bin", memoryview(data), scratch=str(tmp_path / ".tmp"))
    assert (tmp_path / "copy.bin").read_bytes() == data
    with pytest.raises(StorageError, match=r"cannot read .*gone\.bin"):
        next(storage.chunks(str(tmp_path / "gone.bin")))


@named
def test_listing_a_folder_finds_every_name(tmp_path, name):
    path = put(tmp_path, name)
    os.utime(path, (1, 86400))
    (found,) = storage.list_folder(str(tmp_path))
    assert (found.path, found.size, found.modified) == (path, len(PHOTO), 86400)


@named
def test_deleting_removes_that_file_alone(tmp_path, name):
    path = put(tmp_path, name)
    for bystander in ("scan1.png", "all.png", "whom.png", "a1.png"):
        put(tmp_path, bystander)
    storage.delete(path)
    assert files(tmp_path) == ["a1.png", "all.png", "scan1.png", "whom.png"]


def test_deleting_a_name_that_is_a_glob_leaves_what_it_matches(tmp_path):
    put(tmp_path, "a1.jpg")
    path = put(tmp_path, "a[1].jpg")
    storage.delete(path)
    storage.delete(path)  # no longer there, which is what was asked
    assert files(tmp_path) == ["a1.jpg"]


def test_deleting_a_folder_takes_all_below_it(tmp_path):
    put(tmp_path, "a[1]/b/c.jpg")
    put(tmp_path, "a1/b/c.jpg")
    storage.delete_folder(str(tmp_path / "a[1]"))
    assert files(tmp_path) == ["a1/b/c.jpg"]


@pytest.mark.parametrize("data", [b"", PHOTO], ids=["nothing", "photo"])
def test_writing_again_replaces_what_was_there(tmp_path, data):
    path = put(tmp_path, "images/a.png", b"older and longer than nothing")
    storage.write(path, data, scratch=str(tmp_path / ".tmp"))
    assert files(tmp_path) == ["images/a.png"]
    assert storage.read(path) == data


def test_writers_of_the_same_file_do_not_meet(tmp_path):
    path = str(tmp_path / "images" / "a.png")
    datas = [bytes([n]) * 100_000 for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        # Whoever comes last wins, whole; all are of one size, which is what a writer checks.
        list(pool.map(lambda data: storage.write(path, data, str(tmp_path / ".tmp")), datas))
    assert storage.read(path) in datas
    assert files(tmp_path) == ["images/a.png"]


def a_file_above(folder):
    put(folder, "images")
    return folder / "images" / "a.png"


def a_folder_in_its_place(folder):
    put(folder, "images/a.png/inside")
    return folder / "images" / "a.png"


def a_name_too_long(folder):
    return folder / "images" / ("x" * 300 + ".png")


@pytest.mark.parametrize("trouble", [a_file_above, a_folder_in_its_place, a_name_too_long])
def test_a_failed_write_says_so_and_leaves_nothing(tmp_path, trouble):
    path = trouble(tmp_path)
    before = files(tmp_path)
    with pytest.raises(StorageError, match="cannot write") as refused:
        storage.write(str(path), PHOTO, scratch=str(tmp_path / ".tmp"))
    assert str(path) in str(refused.value)
    assert files(tmp_path) == before


def test_a_scratch_folder_that_is_a_file_is_an_error_of_the_write(tmp_path):
    put(tmp_path, ".tmp")
    with pytest.raises(StorageError, match=r"images/a\.png"):
        storage.write(str(tmp_path / "images/a.png"), PHOTO, scratch=str(tmp_path / ".tmp"))
    assert files(tmp_path) == [".tmp"]


def test_a_bare_name_is_written_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage.write("a.png", PHOTO, scratch=".tmp")
    assert files(tmp_path) == ["a.png"]


def test_reading_what_is_not_there_names_it(tmp_path):
    path = str(tmp_path / "gone.jpg")
    with pytest.raises(StorageError, match="No such file") as refused:
        storage.read(path)
    assert path in str(refused.value)


def test_reading_through_a_dangling_link_is_an_error_and_not_a_gap_in_the_listing(tmp_path):
    link = tmp_path / "a.jpg"
    link.symlink_to(tmp_path / "gone.jpg")
    assert [found.path for found in storage.list_folder(str(tmp_path))] == [str(link)]
    with pytest.raises(StorageError, match="No such file"):
        storage.read(str(link))


def pipe(folder):
    os.mkfifo(folder / "odd.jpg")
    return folder / "odd.jpg"


def folder_of_that_name(folder):
    (folder / "odd.jpg").mkdir()
    return folder / "odd.jpg"


def link_to_a_device(folder):
    (folder / "odd.jpg").symlink_to("/dev/zero")
    return folder / "odd.jpg"


@pytest.mark.parametrize("make", [pipe, folder_of_that_name, link_to_a_device])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, make):
    path = str(make(tmp_path))
    reasons = []

    def attempt():
        try:
            storage.read(path)
        except StorageError as error:
            reasons.append(str(error))

    # A thread, so that a pipe that is waited for fails this test and does not stop the others.
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(10)
    assert reasons == [f"{path} is not a regular file"]


@pytest.fixture
def nobody():
    """Be somebody for whom permissions count, which they do not for root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_missing_permission_is_said(nobody):
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), "a.jpg")
        Path(path).chmod(0)
        with pytest.raises(StorageError, match=rf"cannot read {path}: no permission: Permission"):
            storage.read(path)
        Path(folder).chmod(0o500)
        with pytest.raises(StorageError, match=rf"cannot write {folder}/b/c: no permission"):
            storage.write(f"{folder}/b/c", PHOTO, scratch=f"{folder}/.tmp")
        with pytest.raises(StorageError, match=rf"cannot delete {path}: no permission"):
            storage.delete(path)
        Path(folder).chmod(0o700)


def test_a_file_is_found_and_a_folder_is_none(tmp_path):
    path = put(tmp_path, "box/a.jpg")
    assert storage.find_file(path) == storage.File(path, len(PHOTO), os.stat(path).st_mtime)
    assert storage.find_file(str(tmp_path / "box")) is None
    assert storage.find_file(str(tmp_path / "none")) is None


def test_a_folder_here_is_given_as_it_is(tmp_path):
    with storage.local_folder(str(tmp_path)) as folder:
        assert folder == str(tmp_path)
    assert tmp_path.exists()


def test_a_folder_that_is_a_glob_is_listed_and_not_its_matches(tmp_path):
    inside = put(tmp_path, "box[1]/deep/er/a.jpg")
    put(tmp_path, "box1/b.jpg")
    assert [found.path for found in storage.list_folder(str(tmp_path / "box[1]"))] == [inside]


def test_a_glob_lists_files_and_passes_over_folders(tmp_path):
    kept = [put(tmp_path, "a.jpg"), put(tmp_path, "b.jpg")]
    put(tmp_path, "c.jpg/inside")
    put(tmp_path, "a.png")
    found = storage.list_glob(str(tmp_path / "*.jpg"))
    assert sorted(file.path for file in found) == kept


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path):
    # Root may read any folder, so one that is gone stands for one that is locked.
    with pytest.raises(StorageError, match="cannot list the folder"):
        list(storage.list_folder(str(tmp_path / "gone")))


@pytest.mark.parametrize(
    ("path", "local", "meta"),
    [
        ("/a/b.jpg", True, False),
        ("b[1].jpg", True, True),
        ("gs://bucket/*.jpg", False, True),
        ("s3://bucket/who?.jpg", False, True),
        ("hdfs://h/a.jpg", False, False),
    ],
)
def test_paths_tell_where_they_are(path, local, meta):
    assert (storage.is_local(path), storage.has_meta(path)) == (local, meta)
