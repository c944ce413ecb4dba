"""Outputs that are BagIt bags, held to bagit-python's own validation and to RFC 8493."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import bagit
import pytest

from pipeline.job import JobCrashedError, JobError
from pipeline.packages import PACKAGES, PackageError, Packaging, bag
from tests.jobs import run
from tests.photographs import saved, small
from tests.test_job import digests, rows, summary

RECIPE = ("--recipe", "mask:2")
BAGIT = ("--package", "bagit")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    (folder / "album one").mkdir()
    (folder / "astronaut.png").write_bytes(saved(small(), "PNG"))
    (folder / "album one" / "chat é.jpg").write_bytes(saved(small("chelsea"), "JPEG"))
    (folder / "album one" / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory) -> Path:
    """A bag of everything; not to be changed."""
    output = tmp_path_factory.mktemp("bag") / "out"
    run("degrade", photos, output, *RECIPE, "--package", "bagit,iiif,premis", "--operator", "A. B.")
    return output


@pytest.fixture
def bagged(made, tmp_path) -> Path:
    """A bag that a test may change."""
    return shutil.copytree(made, tmp_path / "out")


def manifest(output, algorithm):
    lines = (output / f"manifest-{algorithm}.txt").read_text("utf-8").splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def test_bagit_accepts_the_bag_and_all_packages_are_in_it(made):
    found = bagit.Bag(str(made))
    assert found.validate()
    assert found.tags == {"BagIt-Version": "1.0", "Tag-File-Character-Encoding": "UTF-8"}
    assert sorted(found.algorithms) == ["sha256", "sha512"]
    payload = set(found.payload_files())
    for path in (
        "data/images/album one/chat é.jpg",
        "data/masks/astronaut.png.png",
        "data/iiif/collection.json",
        "data/premis/astronaut.png.xml",
        "data/ledger/job.json",
        "data/metrics.parquet",
    ):
        assert path in payload
    assert sorted(path.name for path in made.iterdir()) == sorted(["data", *bag.TAG_FILES])
    assert not (made / "data" / ".tmp").exists()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_manifests_hold_the_digest_of_every_file(made, algorithm):
    def of(path):
        return hashlib.new(algorithm, path.read_bytes()).hexdigest()

    files = [path for path in (made / "data").rglob("*") if path.is_file()]
    assert manifest(made, algorithm) == {
        path.relative_to(made).as_posix(): of(path) for path in files
    }
    tags = (made / f"tagmanifest-{algorithm}.txt").read_text().splitlines()
    expected = [name for name in bag.TAG_FILES if not name.startswith("tagmanifest")]
    assert sorted(tags) == sorted(f"{of(made / name)}  {name}" for name in expected)


def test_bag_info_says_what_the_bag_is(made):
    info = bagit.Bag(str(made)).info
    files = [path for path in (made / "data").rglob("*") if path.is_file()]
    assert info["Payload-Oxum"] == f"{sum(path.stat().st_size for path in files)}.{len(files)}"
    assert info["Bag-Software-Agent"].startswith("Heliograph ")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", info["Bagging-Date"])
    assert info["Contact-Name"] == "A. B."
    assert info["External-Description"].startswith("Photographs damaged on purpose, from /")
    assert "recipe=mask" in info["Internal-Sender-Description"]
    assert "Files-Not-In-Ledger" not in info


def test_a_changed_byte_is_found_and_its_file_named(bagged):
    path = bagged / "data" / "images" / "astronaut.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(bagit.BagValidationError, match=r"data/images/astronaut\.png sha256"):
        bagit.Bag(str(bagged)).validate()


def test_the_same_job_again_makes_the_same_bag(photos, bagged):
    first = digests(bagged)
    (bagged / "data" / "images" / "astronaut.png").write_bytes(b"changed")
    packages = ("--package", "premis,iiif,bagit", "--operator", "A. B.")
    run("degrade", photos, bagged, *RECIPE, *packages, "--retry", "damaged")
    assert bagit.Bag(str(bagged)).validate()
    again = digests(bagged)
    # What tells when it was made, and what holds the digests of that.
    dated = {path for path in first if path.startswith(("data/premis/", "data/ledger/"))}
    dated |= {*bag.TAG_FILES, "data/summary.json"}
    assert first.keys() == again.keys()
    assert {path for path in first if first[path] != again[path]} <= dated


def test_files_that_the_ledger_does_not_know_are_in_the_bag_and_counted(photos, bagged, tmp_path):
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    (fewer / "astronaut.png").write_bytes((photos / "astronaut.png").read_bytes())
    for folder in ("images", "masks"):
        (bagged / "data" / folder / "somebody's.png").write_bytes(b"put there by hand")
    gone = run("degrade", fewer, bagged, *RECIPE, *BAGIT).summary["gone"]
    found = bagit.Bag(str(bagged))
    assert found.validate()
    assert gone == len(rows(bagged / "data")) - 1  # which stay in the ledger
    assert found.info["Files-Not-In-Ledger"] == "2"


def test_a_bag_is_an_archive_as_any_output_is(made, photos, tmp_path):
    plain = tmp_path / "plain"
    run("degrade", photos, plain, *RECIPE)
    for archive in (made, plain):
        run("degrade", archive, tmp_path / f"again {archive.name}", "--recipe", "grayscale")
    of_bag, of_plain = (tmp_path / f"again {archive.name}" for archive in (made, plain))
    assert list(rows(of_bag)) == ["album one/chat é.jpg", "astronaut.png"]
    assert digests(of_bag / "images") == digests(of_plain / "images")
    assert digests(made / "data" / "images") == digests(plain / "images")
    both = tmp_path / "both"
    run("degrade", made, photos, both, "--recipe", "grayscale")
    assert sum("/out/astronaut.png" in f"/{key}" for key in rows(both)) == 1


def test_a_bag_is_not_turned_into_a_folder_or_a_folder_into_a_bag_unasked(photos, tmp_path):
    output = tmp_path / "out"
    run("degrade", photos, output, *RECIPE)
    before = digests(output)
    with pytest.raises(JobError, match=r"that are no bag: .*--overwrite"):
        run("degrade", photos, output, *RECIPE, *BAGIT)
    assert digests(output) == before
    run("degrade", photos, output, *RECIPE, *BAGIT, "--overwrite")
    assert bagit.Bag(str(output)).validate()
    assert sorted(path.name for path in output.iterdir()) == sorted(["data", *bag.TAG_FILES])
    with pytest.raises(JobError, match=r"as a bag: .*--overwrite"):
        run("degrade", photos, output, *RECIPE)
    assert bagit.Bag(str(output)).validate()
    run("degrade", photos, output, *RECIPE, "--overwrite")
    assert digests(output).keys() == before.keys()


def test_another_job_replaces_a_bag_only_if_that_is_said(photos, bagged):
    with pytest.raises(JobError, match="another job"):
        run("degrade", photos, bagged, "--recipe", "grayscale", *BAGIT)
    assert bagit.Bag(str(bagged)).validate()
    run("degrade", photos, bagged, "--recipe", "grayscale", *BAGIT, "--overwrite")
    assert bagit.Bag(str(bagged)).validate()
    assert not (bagged / "data" / "masks").exists()


def test_an_output_that_could_not_be_bagged_is_no_bag_and_the_same_command_finishes_it(
    photos, made, tmp_path, heliograph
):
    output = tmp_path / "out"
    shutil.copytree(made / "data", output / "data")
    (output / "manifest-sha512.txt").mkdir()  # so that no file can be written there
    arguments = ("degrade", photos, output, *RECIPE, *BAGIT)
    done = heliograph(*arguments, "--workers", 1, code=1)
    assert "cannot write" in done.stderr and "manifest-sha512.txt" in done.stderr
    assert "run the same command again" in done.stderr
    assert not (output / "bagit.txt").exists()
    assert summary(output / "data")["restored"] == 2
    (output / "manifest-sha512.txt").rmdir()
    run(*arguments)
    assert bagit.Bag(str(output)).validate()


def pack(output):
    """Make a bag of an output in this thread, as workers do."""
    packaging = Packaging(("bagit",), str(output), str(output / "data"), "http://a", "http://a")
    package = PACKAGES["bagit"]
    package.finish(packaging, [package.make(packaging, one) for one in package.tasks(packaging)])


def test_what_was_changed_or_lost_before_it_was_packed_is_an_error_that_names_it(bagged):
    image = bagged / "data" / "images" / "album one" / "chat é.jpg"
    data = image.read_bytes()
    image.write_bytes(data + b"\0")
    with pytest.raises(PackageError, match=r"chat é\.jpg was changed after it was written"):
        pack(bagged)
    image.unlink()
    with pytest.raises(PackageError, match=r"chat é\.jpg is in the ledger but not there"):
        pack(bagged)
    image.write_bytes(data)
    pack(bagged)
    assert bagit.Bag(str(bagged)).validate()


def test_names_are_encoded_as_the_specification_says(tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    for name in ("100%25.png", "two\nlines\r.png"):
        (archive / name).write_bytes(saved(small(), "PNG"))
    run("degrade", archive, tmp_path / "out", *RECIPE, *BAGIT)
    images = {path for path in manifest(tmp_path / "out", "sha256") if "/images/" in path}
    # RFC 8493, 2.1.3: line feed, carriage return and percent sign, and only these.
    assert images == {"data/images/100%2525.png", "data/images/two%0Alines%0D.png"}


def test_a_name_that_no_manifest_can_hold_is_an_error_that_says_what_to_do(tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    with open(os.fsencode(archive) + b"/caf\xe9.png", "wb") as file:
        file.write(saved(small(), "PNG"))
    with pytest.raises(JobCrashedError, match=r"caf\\xe9\.png is not UTF-8.*rename the master"):
        run("degrade", archive, tmp_path / "out", *RECIPE, *BAGIT)
    assert not (tmp_path / "out" / "bagit.txt").exists()
    assert summary(tmp_path / "out" / "data")["restored"] == 1


def test_shards_are_bagged_too(photos, tmp_path):
    output = tmp_path / "out"
    run("convert", photos, output, "--output_format", "webdataset", "--package", "bagit,premis")
    found = bagit.Bag(str(output))
    assert found.validate()
    assert any(path.startswith("data/shards/") for path in found.payload_files())


def test_large_files_are_digested_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(bag, "_BLOCK", 1000)
    data = os.urandom(12_345)
    (tmp_path / "scan").write_bytes(data)
    expected = (len(data), hashlib.sha256(data).hexdigest(), hashlib.sha512(data).hexdigest())
    assert bag._digests(str(tmp_path / "scan")) == expected


def test_the_work_is_shared_out_by_files_and_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(bag, "_MOST_FILES", 3)
    monkeypatch.setattr(bag, "_MOST_BYTES", 10)
    sizes = [4, 4, 4, 40, 1, 1, 1, 1]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}").write_bytes(bytes(size))
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "left").write_bytes(b"by a worker that was killed")
    packaging = Packaging(("bagit",), str(tmp_path), str(tmp_path), "http://a", "http://a")
    tasks = [json.loads(task) for task in bag.BAGIT.tasks(packaging)]
    assert sorted(path for task in tasks for path in task) == [str(n) for n in range(len(sizes))]
    for task in tasks:
        assert len(task) <= 3
        assert len(task) == 1 or sum(sizes[int(path)] for path in task) <= 10
