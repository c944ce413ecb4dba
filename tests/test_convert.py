"""Shards out: what is written, by whom it can be read, and that it comes back as it was."""

import hashlib
import io
import itertools
import json
import tarfile
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
import tensorflow as tf
import webdataset
from PIL import Image

from pipeline.archive import find_sources
from tests import shards
from tests.jobs import run
from tests.photographs import saved
from tests.test_job import failures, rows
from transforms.read import read_record
from transforms.record import Batch, Record, Source
from transforms.shards import USUAL_COLUMNS, OpenShard
from transforms.shards.writers import WRITERS
from transforms.write import Encoding, _Shards, encode_record

CONTAINERS = ("folder", *WRITERS)


def photographs(count, first=0):
    """Small pieces of a photograph, in turn as JPEG, PNG, WebP and TIFF."""
    kinds = [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")]
    whole = skimage.data.astronaut()
    made = {}
    for number in range(first, first + count):
        kind, extension = kinds[number % 4]
        pixels = np.ascontiguousarray(whole[10 * number :][:30, :40])
        made[f"box.{number % 2}/scan.{number:02}.{extension}"] = saved(pixels, kind)
    return made


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """An archive of 24 photographs with fields, six in each kind of shard, written by others."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, data in photographs(6).items():
        path = folder / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with tf.io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
        for number, (name, data) in enumerate(photographs(6, 6).items()):
            writer.write(example(name, data, number))
    with webdataset.TarWriter(str(folder / "a.tar"), encoder=False) as writer:
        for number, (name, data) in enumerate(photographs(6, 12).items()):
            key = name.partition(".")[0] + f"/{number}"
            kind = name.rpartition(".")[2]
            writer.write({"__key__": key, kind: data, "cls": b"%d" % number, "bin": b"\xff \0"})
    write_parquet(folder / "a.parquet", photographs(6, 18))
    files = [path for path in sorted((folder / "scans").rglob("*")) if path.is_file()]
    names = [path.relative_to(folder) for path in files]
    lines = [f"{name},title {number},é" for number, name in enumerate(names)]
    listed = [f"a.{kind},a shard," for kind in ("tfrecord", "tar", "parquet")]
    (folder / "all.csv").write_text("\n".join(["path,title,ö", *lines, *listed]), "utf-8")
    return folder / "all.csv"


def example(name, data, number):
    made = tf.train.Example()
    feature = made.features.feature
    feature["image/encoded"].bytes_list.value.append(data)
    feature["image/filename"].bytes_list.value.append(name.encode())
    feature["label"].int64_list.value.append(number)
    feature["boxes"].float_list.value.extend([0.1, np.inf, -number])
    feature["words"].bytes_list.value.extend([b"", b"\xff"])
    if number % 2:
        feature["empty"].int64_list.SetInParent()
    feature["nothing"].Clear()
    return made.SerializeToString()


def write_parquet(path, images):
    import datasets

    count = len(images)
    table = {
        "image": [{"bytes": data, "path": name} for name, data in images.items()],
        "label": [number % 3 for number in range(count)],
        "caption": [None if number == 2 else f"c {number}\n\0" for number in range(count)],
        "small": list(range(count)),
        "scores": [[0.1, None, number] for number in range(count)],
        "when": [datetime(1901, 2, 3, 4, 5, 6, 789, UTC)] * count,
        "nested": [{"a": [{"b": b"\xff"}], "c": None}] * count,
        "png": [b"no image"] * count,
        "blob": [b"\x00\xff"] * count,
        "a/b": [True] * count,
    }
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog", "none"]),
            "caption": datasets.Value("string"),
            "small": datasets.Value("uint8"),
            "scores": datasets.List(datasets.Value("float64")),
            "when": datasets.Value("timestamp[us, tz=UTC]"),
            "nested": {"a": [{"b": datasets.Value("binary")}], "c": datasets.Value("int16")},
            "png": datasets.Value("binary"),
            "blob": datasets.Value("binary"),
            "a/b": datasets.Value("bool"),
        }
    )
    datasets.Dataset.from_dict(table, features=features).to_parquet(str(path))


def contents(archive):
    """All that an archive holds, by its keys: encoded images, and fields with their types."""
    sources, left_out = find_sources([str(archive)])
    found = {}
    with OpenShard(USUAL_COLUMNS) as shard:
        for source in sources:
            record = read_record(Record(source=source), shard)
            assert record.key not in found
            found[record.key] = (record.encoded, record.fields)
    assert not left_out
    return found


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, (encoded, fields) in expected.items():
        assert found[key][0] == encoded
        assert found[key][1].keys() == fields.keys()
        for name, value in fields.items():
            other = found[key][1][name]
            assert (other.type, other) == (value.type, value), (key, name)
    return True


@pytest.fixture(scope="module")
def converted(mixed, tmp_path_factory):
    """The archive in every kind of container."""
    folder = tmp_path_factory.mktemp("converted")
    for kind in CONTAINERS:
        ended = run("convert", mixed, folder / kind, "--output_format", kind, "--batch_size", 5)
        assert ended.summary["restored"] == 24
    return folder


@pytest.mark.parametrize("kind", CONTAINERS)
def test_what_is_converted_is_what_it_was(mixed, converted, kind):
    expected = contents(mixed)
    assert len(expected) == 24
    assert sum(len(fields) for _, fields in expected.values()) == 24 * 2 + 6 * 4 + 3 + 12 + 54
    assert same(contents(converted / kind), expected)
    folder = "images" if kind == "folder" else "shards"
    files = [path for path in (converted / kind / folder).rglob("*") if path.is_file()]
    assert len(files) == (24 if kind == "folder" else 8)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(CONTAINERS, 2)))
def test_a_round_trip_through_any_two_kinds_changes_nothing(
    mixed, converted, tmp_path, first, second
):
    run("convert", converted / first, tmp_path / "there", "--output_format", second)
    run("convert", tmp_path / "there", tmp_path / "back", "--output_format", first)
    assert same(contents(tmp_path / "back"), contents(mixed))
    derivatives = {key: row["derivative"] for key, row in rows(converted / first).items()}
    assert {key: row["derivative"] for key, row in rows(tmp_path / "back").items()} == derivatives
    for row in rows(tmp_path / "back").values():
        assert row["source_sha256"] == row["derivative_sha256"]


# -- what others read ------------------------------------------------------------------------------


def test_tf_data_reads_what_is_written(converted):
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "caption": tf.io.FixedLenFeature([], tf.string, ""),
        "small": tf.io.FixedLenFeature([], tf.int64, -1),
        "scores": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
        "boxes": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
        "title": tf.io.FixedLenFeature([], tf.string),
    }
    paths = sorted(map(str, (converted / "tfrecord" / "shards").iterdir()))
    read = tf.data.TFRecordDataset(paths).map(lambda one: tf.io.parse_single_example(one, features))
    found = {one["image/filename"].decode(): one for one in read.as_numpy_iterator()}
    by_name = {row["derivative"]: key for key, row in rows(converted / "tfrecord").items()}
    held = contents(converted / "tfrecord")
    assert {by_name[name]: one["image/encoded"] for name, one in found.items()} == {
        key: encoded for key, (encoded, _) in held.items()
    }
    one = found["a.parquet/box.1/scan.19.tif"]
    assert (one["caption"], one["small"], one["title"]) == (b"c 1\n\0", 1, b"a shard")
    assert one["scores"].tolist() == [np.float32(0.1), 1.0]
    boxes = found["a.tfrecord/box.1/scan.07.tif"]["boxes"]
    assert boxes.tolist() == [np.float32(0.1), np.inf, -1.0]


# webdataset leaves its files to the garbage collector.
leaves_files_open = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@leaves_files_open
def test_webdataset_reads_what_is_written(converted):
    paths = sorted(map(str, (converted / "webdataset" / "shards").iterdir()))
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    kinds = ("jpg", "png", "webp", "tif")
    held = contents(converted / "webdataset")
    raw = list(webdataset.WebDataset(paths, shardshuffle=False))
    found = [one[kind] for one in raw for kind in kinds if kind in one]
    assert sorted(found) == sorted(encoded for encoded, _ in held.values())
    assert len(samples) == 24, "one sample for each image"
    by_key = {sample["__key__"]: sample for sample in samples}
    one = by_key["a.parquet/box.1/scan%2E19"]
    assert one["json"]["caption"] == "c 1\n\0"
    assert one["json"]["label"] == 1
    assert one["json"]["scores"] == [0.1, None, 1.0]
    assert one["json"]["when"].startswith("1901-02-03")
    assert one["blob"] == b"\x00\xff"
    two = by_key["a.tar/box/1"]
    assert (two["cls"], two["json"]) == (1, {"title": "a shard", "ö": ""})
    assert (
        by_key["scans/box%2E0/scan%2E00".replace("box%2E0", "box.0")]["json"]["title"] == "title 0"
    )


def test_datasets_and_pyarrow_read_what_is_written(mixed, converted, tmp_path):
    import datasets

    paths = sorted(map(str, (converted / "parquet" / "shards").iterdir()))
    held = {row["derivative"]: row for row in rows(converted / "parquet").values()}
    encoded = {key: data for key, (data, _) in contents(converted / "parquet").items()}
    for path in paths:
        table = pq.read_table(path)
        for image in table.column("image").to_pylist():
            assert encoded[held[image["path"]]["key"]] == image["bytes"]
    # Of one dataset all shards have the same columns, of the same kinds.
    run("convert", mixed.parent / "a.parquet", tmp_path / "out", "--output_format", "parquet")
    one = datasets.Dataset.from_parquet(
        [str(path) for path in (tmp_path / "out" / "shards").iterdir()], cache_dir=str(tmp_path)
    )
    original = datasets.Dataset.from_parquet(
        str(mixed.parent / "a.parquet"), cache_dir=str(tmp_path)
    )
    assert one.features == original.features
    assert one.features["label"].names == ["cat", "dog", "none"]
    for found, expected in zip(one, original, strict=True):
        np.testing.assert_array_equal(found.pop("image"), expected.pop("image"))
        assert found == expected


# -- restore, to shards and from them --------------------------------------------------------------


@pytest.fixture(scope="module")
def restored(mixed, models, tmp_path_factory):
    """The archive restored into files."""
    output = tmp_path_factory.mktemp("restored") / "folder"
    run("restore", mixed, output, "--model", models / "blur")
    return output


@pytest.mark.parametrize("kind", list(WRITERS))
def test_restore_from_and_to_every_kind_gives_what_it_gives_in_a_folder(
    mixed, converted, restored, models, tmp_path, kind
):
    """Every kind is read both as others wrote it and as we did."""
    for archive in (mixed, converted / kind):
        output = tmp_path / archive.name
        ended = run(
            *("restore", archive, output, "--model", models / "blur"),
            *("--output_format", kind, "--batch_size", 7),
        )
        assert ended.summary["restored"] == 24
        expected, found = rows(restored), rows(output)
        assert found.keys() == expected.keys()
        written = contents(output)
        fields = {key: fields for key, (_, fields) in contents(mixed).items()}
        for key, row in found.items():
            derivative = (restored / "images" / expected[key]["derivative"]).read_bytes()
            assert written[key][0] == derivative
            assert row["derivative_sha256"] == expected[key]["derivative_sha256"]
            assert row["derivative"] == expected[key]["derivative"]
            assert written[key][1].keys() == fields[key].keys()
            assert (output / "shards" / row["shard"]).is_file()
        np.testing.assert_array_equal(
            pixels(written["a.tar#box/0.jpg"][0]),
            pixels((restored / "images" / "a.tar/box/0.jpg").read_bytes()),
        )


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def test_the_same_job_writes_the_same_shards_on_any_number_of_workers(
    mixed, tmp_path, heliograph, models
):
    for workers in (1, 2):
        heliograph(
            *("evaluate", mixed, tmp_path / str(workers), "--recipe", "mask:3"),
            *("--model", models / "identity", "--output_format", "webdataset"),
            *("--batch_size", 5, "--workers", workers),
        )
    one, two = tmp_path / "1", tmp_path / "2"
    commits = [{path.name for path in (out / "ledger/batches").iterdir()} for out in (one, two)]
    assert commits[0] == commits[1]
    for folder in ("shards", "masks"):
        names = sorted(path.name for path in (one / folder).iterdir())
        assert names == sorted(path.name for path in (two / folder).iterdir())
        for name in names:
            assert (one / folder / name).read_bytes() == (two / folder / name).read_bytes()
    assert (one / "metrics.parquet").read_bytes() == (two / "metrics.parquet").read_bytes()


def test_masks_go_into_shards_as_well(mixed, tmp_path):
    recipe = ("--recipe", "mask:3")
    run("degrade", mixed, tmp_path / "folder", *recipe)
    run("degrade", mixed, tmp_path / "shards", *recipe, "--output_format", "webdataset")
    expected, found = rows(tmp_path / "folder"), rows(tmp_path / "shards")
    assert found.keys() == expected.keys()
    for key, row in found.items():
        path = tmp_path / "shards" / "masks" / row["shard"]
        with tarfile.open(path) as masks:
            data = masks.extractfile(row["mask"]).read()
        assert data == (tmp_path / "folder" / "masks" / expected[key]["mask"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row["mask_sha256"]
        assert row["mask_share"] == expected[key]["mask_share"] > 0


# -- an output as an archive -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_keys_are_those_of_the_masters(mixed, tmp_path, kind):
    run("degrade", mixed, tmp_path / "one", "--recipe", "jpeg:3", "--output_format", kind)
    run("degrade", tmp_path / "one", tmp_path / "two", "--recipe", "mask:1")
    run("degrade", mixed, tmp_path / "straight", "--recipe", "jpeg:3+mask:1")
    assert rows(tmp_path / "two").keys() == rows(mixed_output := tmp_path / "straight").keys()
    for key, row in rows(tmp_path / "two").items():
        assert row["derivative"] == rows(mixed_output)[key]["derivative"]


def test_an_output_in_another_format_keeps_the_names_of_its_files(mixed, tmp_path):
    run("degrade", mixed, tmp_path / "one", "--recipe", "jpeg:1", "--image_format", "png")
    run("degrade", tmp_path / "one", tmp_path / "two", "--recipe", "jpeg:1")
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert {key: row["derivative"] for key, row in one.items()} == {
        key: row["derivative"] for key, row in two.items()
    }
    assert {row["format"] for row in two.values()} == {"PNG"}


def test_several_outputs_have_keys_below_their_folders(mixed, converted, tmp_path):
    archives = (converted / "folder", converted / "webdataset")
    run("convert", *archives, tmp_path / "both", "--output_format", "tfrecord")
    keys = rows(converted / "folder").keys()
    assert rows(tmp_path / "both").keys() == {
        f"{kind}/{key}" for kind in ("folder", "webdataset") for key in keys
    }


def test_what_the_ledger_knows_is_what_an_output_holds(mixed, tmp_path):
    run("convert", mixed, tmp_path / "files")
    run("convert", mixed, tmp_path / "tars", "--output_format", "webdataset", "--batch_size", 8)
    key = "a.tfrecord#box.0/scan.06.webp"
    (tmp_path / "files" / "images" / rows(tmp_path / "files")[key]["derivative"]).unlink()
    (tmp_path / "files" / "images" / "stray.jpg").write_bytes(b"")
    gone = rows(tmp_path / "tars")[key]["shard"]
    (tmp_path / "tars" / "shards" / gone).unlink()
    (tmp_path / "tars" / "shards" / "stray.tar").write_bytes(b"")
    lost = {one for one, row in rows(tmp_path / "tars").items() if row["shard"] == gone}
    for name, missing in (("files", {key}), ("tars", lost)):
        ended = run("convert", tmp_path / name, tmp_path / f"{name} again")
        assert ended.code == 3
        assert ended.summary["left_out"] == {"not in the ledger": 1}
        assert failures(tmp_path / f"{name} again").keys() == missing
        assert ended.summary["restored"] == 24 - len(missing)


# -- what cannot be passed on, and what is odd -----------------------------------------------------


def test_what_is_no_image_is_passed_on_with_a_warning(tmp_path):
    archive = tmp_path / "in"
    archive.mkdir()
    (archive / "page.jpg").write_bytes(b"<html>404</html>")
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(archive / "a.png")
    ended = run("convert", archive, tmp_path / "out", "--output_format", "parquet")
    assert (ended.summary["restored"], ended.summary["warnings"]) == (2, 1)
    held = contents(tmp_path / "out")
    assert held["page.jpg"][0] == b"<html>404</html>"
    found = rows(tmp_path / "out")
    assert "no image" in found["page.jpg"]["warnings"][0]
    stated = [found["a.png"][name] for name in ("format", "mode", "width", "height")]
    assert stated == ["PNG", "L", 7, 5]


def test_an_image_of_no_known_kind_is_refused_by_a_tar_alone(tmp_path):
    shards.parquet(tmp_path / "a.parquet", {"one": b"\0\0\0\x1cftypavif", "two": b"GIF89a"})
    for kind, code in (("parquet", 0), ("folder", 0), ("tfrecord", 0), ("webdataset", 3)):
        ended = run("convert", tmp_path / "a.parquet", tmp_path / kind, "--output_format", kind)
        assert ended.code == code
    assert "--output_format" in failures(tmp_path / "webdataset")["a.parquet#one"]["message"]
    assert rows(tmp_path / "webdataset")["a.parquet#two"]["member"] == "a.parquet/two.gif"


def test_arrays_become_png_whatever_they_are_called(tmp_path):
    digits = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    archive = tmp_path / "in"
    archive.mkdir()
    np.savez(archive / "a.npz", digits=digits, labels=np.arange(5, dtype=np.int8))
    with tf.io.TFRecordWriter(str(archive / "a.tfrecord")) as writer:
        tensor = tf.io.serialize_tensor(digits[0][..., None]).numpy()
        writer.write(shards.example(image__encoded=tensor, image__filename=b"x.jpg"))
    run("convert", archive, tmp_path / "out", "--output_format", "webdataset")
    held = contents(tmp_path / "out")
    for number in range(5):
        encoded, fields = held[f"a.npz#digits/{number:05}"]
        np.testing.assert_array_equal(pixels(encoded), digits[number])
        assert fields["labels"] == pa.scalar(number, pa.int8())
    row = rows(tmp_path / "out")["a.tfrecord#x.jpg"]
    assert row["derivative"] == "a.tfrecord/x.jpg.png"
    np.testing.assert_array_equal(pixels(held["a.tfrecord#x.jpg"][0]), digits[0])


def test_a_sample_of_several_images_stays_one(tmp_path):
    names = ["a.jpg", "a.mask.png", "a.json", "b.left.png", "b.left.txt", "b.right.png", "b.json"]
    images = photographs(4)
    jpg, png = (next(d for n, d in images.items() if n.endswith(kind)) for kind in ("jpg", "png"))
    members = {name: {"jpg": jpg, "png": png}.get(name[-3:], name.encode()) for name in names}
    shards.tar(tmp_path / "in.tar", members)
    for count in (1, 1000):
        output = tmp_path / str(count)
        options = ("--output_format", "webdataset", "--batch_size", count)
        run("convert", tmp_path / "in.tar", output, *options)
        found = {}
        for path in (output / "shards").iterdir():
            with tarfile.open(path) as file:
                found |= {one.name: file.extractfile(one).read() for one in file}
        assert found == {f"in.tar/{name}": data for name, data in members.items()}


@leaves_files_open
def test_images_that_share_a_stem_are_samples_of_their_own(tmp_path):
    archive = tmp_path / "in"
    archive.mkdir()
    data = Image.fromarray(np.zeros((5, 7), np.uint8))
    for name in ("a.png", "a.gif", "a~2.bmp", ".a.png"[1:], "b.1.png", "b.2.png", "ü ß.png"):
        data.save(archive / name)
    run("convert", archive, tmp_path / "out", "--output_format", "webdataset")
    members = {key: row["member"] for key, row in rows(tmp_path / "out").items()}
    assert members == {
        "a.gif": "a.gif",
        "a.png": "a~2.png",
        "a~2.bmp": "a~2~2.bmp",
        "b.1.png": "b%2E1.png",
        "b.2.png": "b%2E2.png",
        "ü ß.png": "ü ß.png",
    }
    (shard,) = (tmp_path / "out" / "shards").iterdir()
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert len(samples) == 6


def test_a_shard_that_cannot_be_written_fails_its_images(mixed, tmp_path):
    output = tmp_path / "out"
    run("convert", mixed, output, "--output_format", "parquet")
    assert run("convert", mixed, output, "--output_format", "parquet").code == 0
    job_file = output / "ledger" / "job.json"
    digest = json.loads(job_file.read_text())["digest"]
    beside = run("convert", mixed, output, "--output_format", "parquet", "--batch_size", 4)
    assert beside.output != str(output)
    assert json.loads(job_file.read_text())["digest"] == digest
    run("convert", mixed, output, "--output_format", "parquet", "--batch_size", 3, "--overwrite")
    assert len(list((output / "shards").iterdir())) == 8
    place = _Shards(str(output / "summary.json"), WRITERS["parquet"])  # a file: no folder can be
    records = (Record(source=Source("a", "a", 1, 0.0), encoded=b"GIF89a"),)
    records = tuple(encode_record(record, Encoding(untouched=True)) for record in records)
    batch = Batch("0", records).through("write", lambda some: place.all("0", some))
    assert batch.records[0].failure.stage == "write"
    assert "summary.json" in batch.records[0].failure.message
