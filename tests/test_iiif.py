"""IIIF manifests, read by iiif-prezi3 and held to the recipe of the IIIF Cookbook."""

import json
import os
from pathlib import Path
from urllib.parse import unquote

import iiif_prezi3
import pytest
from PIL import Image

from pipeline.job import JobError
from pipeline.ledger import QUARANTINED, Ledger
from pipeline.packages import PACKAGES, Packaging
from pipeline.packages.package import MEDIA_TYPES
from tests.jobs import run
from tests.photographs import saved, small
from tests.test_job import rows
from transforms import codec

BASE = "https://archive.example/restored"
MASTERS = "https://masters.example"
CONTEXT = "http://iiif.io/api/presentation/3/context.json"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    (folder / "album one" / "é").mkdir(parents=True)
    (folder / "b #1?.png").write_bytes(saved(small(), "PNG"))
    (folder / "a.tif").write_bytes(saved(small("coffee", 50, 90), "TIFF"))
    (folder / "album one" / "é" / "c.jpg").write_bytes(saved(small("chelsea"), "JPEG"))
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def output(photos, models, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("iiif") / "out"
    command = ("restore", photos, output, "--model", models / "invert", "--image_format", "png")
    run(*command, "--package", "iiif", "--iiif_base", f"{BASE}/", "--iiif_masters", MASTERS)
    return output


def load(path):
    return json.loads(path.read_text("utf-8"))


def canvases(output):
    for path in sorted((output / "iiif").rglob("manifest.json")):
        yield from load(path)["items"]


def choice(canvas):
    """The body of a canvas, on the way that recipe 0033 has it."""
    (page,) = canvas["items"]
    (annotation,) = page["items"]
    assert page["type"] == "AnnotationPage"
    assert annotation["type"] == "Annotation"
    assert annotation["motivation"] == "painting"
    assert annotation["target"] == canvas["id"]
    assert annotation["body"]["type"] == "Choice"
    return annotation["body"]["items"]


def test_manifests_are_read_by_prezi3_and_written_back_alike(output):
    paths = sorted((output / "iiif").rglob("manifest.json"))
    assert [path.parent.relative_to(output).as_posix() for path in paths] == [
        "iiif/album one/é",
        "iiif",
    ]
    for path in paths:
        read = iiif_prezi3.Manifest(**load(path))
        assert json.loads(read.json()) == load(path)
        body = read.items[0].items[0].items[0].body
        assert isinstance(body, iiif_prezi3.skeleton.Choice)


def test_the_collection_names_every_manifest(output, photos):
    collection = load(output / "iiif" / "collection.json")
    read = iiif_prezi3.Collection(**collection)
    assert collection["@context"] == CONTEXT
    for one in read.items:
        path = output / unquote(one.id.removeprefix(f"{BASE}/"))
        found = load(path)
        assert (found["id"], found["label"]) == (one.id, one.label)
        assert found["@context"] == CONTEXT
    assert len(read.items) == 2
    assert collection["label"] == {"none": [photos.name]}
    assert [one["label"]["none"] for one in collection["items"]] == [[photos.name], ["album one/é"]]


def test_each_canvas_offers_the_master_first_and_the_restored_image_second(output, photos):
    found = rows(output)
    seen = []
    for canvas in canvases(output):
        master, restored = choice(canvas)
        key = unquote(master["id"].removeprefix(f"{MASTERS}/"))
        seen.append(key)
        assert (photos / key).is_file()
        assert master["label"] == {"en": ["Master"]}
        assert restored["label"] == {"en": ["Restored by invert"]}
        with Image.open(photos / key) as image:
            size = image.size
            assert master["format"] == Image.MIME[image.format]
        assert (canvas["width"], canvas["height"]) == size
        assert (master["width"], master["height"]) == size
        assert (restored["width"], restored["height"]) == size
        with Image.open(output / unquote(restored["id"].removeprefix(f"{BASE}/"))) as image:
            assert image.size == size
            assert restored["format"] == Image.MIME[image.format] == "image/png"
        told = {pair["label"]["en"][0]: pair["value"]["none"][0] for pair in canvas["metadata"]}
        assert told["Model"] == "invert"
        assert told["SHA-256 of the model"] == load(output / "summary.json")["job"]["model_sha256"]
        assert told["SHA-256 of the derivative"] == found[key]["derivative_sha256"]
        assert told["SHA-256 of the master"] == found[key]["source_sha256"]
    assert seen == ["album one/é/c.jpg", "a.tif", "b #1?.png"]


def test_ids_are_one_for_each_resource_and_none_holds_what_an_address_cannot(output):
    ids = []

    def walk(node):
        if isinstance(node, dict):
            ids.extend([node["id"]] if "id" in node else [])
            list(map(walk, node.values()))
        elif isinstance(node, list):
            list(map(walk, node))

    for path in (output / "iiif").rglob("manifest.json"):
        walk(load(path))
    assert len(ids) == len(set(ids)) == 2 + 3 * 5
    assert all(one.isascii() and not set(one) & set(" #?") for one in ids)


def test_a_notice_says_that_the_second_image_is_made_by_an_algorithm(output):
    for path in (output / "iiif").rglob("manifest.json"):
        assert "by an algorithm" in load(path)["requiredStatement"]["value"]["en"][0]


def test_what_is_quarantined_is_not_published(output, tmp_path):
    ledger = Ledger(str(tmp_path))
    ledger.begin(Ledger(str(output)).job() | {"format": 1}, [], anew=True)
    quarantined = [dict(row) for row in Ledger(str(output)).rows() if row["derivative"]]
    quarantined[0]["status"] = QUARANTINED
    record = {"format": 1, "batch": "b", "counts": {}, "rows": quarantined}
    (tmp_path / "ledger" / "batches").mkdir(parents=True)
    (tmp_path / "ledger" / "batches" / "b.json").write_text(json.dumps(record))
    packaging = Packaging(("iiif",), str(tmp_path), str(tmp_path), BASE, MASTERS)
    package = PACKAGES["iiif"]
    for task in package.tasks(packaging):
        package.make(packaging, task)
    shown = {canvas["label"]["none"][0] for canvas in canvases(tmp_path)}
    assert shown == {Path(row["key"]).name for row in quarantined[1:]}


def test_of_a_bag_the_addresses_lead_into_its_payload(photos, tmp_path):
    output = tmp_path / "out"
    command = ("degrade", photos, output, "--recipe", "grayscale")
    run(*command, "--package", "iiif,bagit", "--iiif_base", BASE)
    for canvas in canvases(output / "data"):
        master, degraded = choice(canvas)
        assert master["id"].startswith(f"{BASE}/masters/")
        assert (output / unquote(degraded["id"].removeprefix(f"{BASE}/"))).is_file()
        assert degraded["label"] == {"en": ["Damaged by grayscale:by=bt601"]}


def test_packages_of_an_earlier_run_do_not_stay(output, photos, models):
    command = ("restore", photos, output, "--model", models / "invert", "--image_format", "png")
    run(*command)
    assert (output / "iiif").exists()  # nothing was done, and they are still true
    os.utime(next(photos.rglob("*.png")), (1e9, 1e9))
    run(*command)
    assert not (output / "iiif").exists()


def test_shards_cannot_be_shown_and_that_is_said_before_anything_is_done(photos, tmp_path):
    command = ("convert", photos, tmp_path / "out", "--output_format", "parquet")
    with pytest.raises(JobError, match="leave out --output_format parquet"):
        run(*command, "--package", "iiif")
    assert not (tmp_path / "out").exists()


def test_without_an_address_that_of_this_machine_is_taken_and_said(tmp_path, caplog):
    command = ("convert", tmp_path / "no archive", tmp_path / "out", "--package", "iiif")
    with pytest.raises(JobError, match="nothing in the archive"):
        run(*command)
    assert "begin with http://localhost:8000: say --iiif_base" in caplog.text
    caplog.clear()
    with pytest.raises(JobError, match="nothing in the archive"):
        run(*command, "--iiif_base", BASE)
    assert "localhost" not in caplog.text


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--package", "bagit,zip", "'zip' is none of bagit, iiif, premis"),
        ("--package", "", "'' is none of"),
        ("--iiif_base", "archive.example", "is not an address such as"),
        ("--iiif_base", "https://archive.example/?x=1", "is not an address such as"),
        ("--iiif_masters", "file:///masters", "is not an address such as"),
    ],
)
def test_wrong_values_are_errors_that_list_the_right_ones(
    photos, tmp_path, capsys, option, value, said
):
    with pytest.raises(SystemExit):
        run("degrade", photos, tmp_path / "out", "--recipe", "grayscale", option, value)
    assert said in capsys.readouterr().err


def test_every_format_has_a_media_type():
    for name, known in codec.FORMATS.items():
        assert MEDIA_TYPES[name].startswith("image/")
        if name in Image.MIME and name != "PPM":
            assert MEDIA_TYPES[name] == Image.MIME[name]
        assert known.extensions
