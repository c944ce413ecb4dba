"""Whole jobs over shards: what comes out is what a folder of the same images gives."""

import gzip
import hashlib

import numpy as np
import pytest
import skimage.data

from pipeline.archive import ArchiveError, find_sources
from pipeline.job import JobError
from pipeline.plan import Budget, make_plan
from tests import shards
from tests.jobs import run
from tests.photographs import saved
from tests.test_job import failures, load, picture, rows, summary
from transforms import codec
from transforms.read import decode_record, read_record
from transforms.record import Record
from transforms.shards import USUAL_COLUMNS, OpenShard


@pytest.fixture(scope="module")
def images():
    """24 photographs, as JPEG, PNG, WebP and TIFF, in folders with dots in their names."""
    whole = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    kinds = [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")]
    cut = {}
    for number in range(24):
        kind, extension = kinds[number % 4]
        left = 10 * number
        pixels = np.ascontiguousarray(whole[number % 3][left : left + 60, left : left + 75])
        cut[f"box.{number % 2}/{number:02}.{extension}"] = saved(pixels, kind)
    return cut


WRITERS = {
    "tfrecord": shards.tfrecord,
    "tar": shards.tar,
    "zip": shards.zipped,
    "parquet": shards.parquet,
}


def test_every_kind_of_shard_restores_to_what_the_folder_does(images, tmp_path, models):
    folder, boxes = tmp_path / "folder", tmp_path / "boxes"
    boxes.mkdir()
    for name, data in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for kind, write in WRITERS.items():
        write(boxes / f"all.{kind}", images)
    shards.tar(boxes / "packed.tar.gz", images, "w:gz")
    shards.tfrecord(boxes / "gzip.tfrecord.gz", images, "GZIP")
    shards.tfrecord(boxes / "zlib.tfrecord", images, "ZLIB")
    for archive in (folder, boxes):
        run("restore", archive, tmp_path / f"{archive.name} out", "--model", models / "blur")
    expected = rows(tmp_path / "folder out")
    found = rows(tmp_path / "boxes out")
    assert len(found) == 7 * 24
    assert summary(tmp_path / "boxes out")["restored"] == 7 * 24
    for key, row in found.items():
        _, name = key.split("#")
        left, right = (
            (tmp_path / f"{of} out" / "images" / one["derivative"]).read_bytes()
            for of, one in (("folder", expected[name]), ("boxes", row))
        )
        # Each says in its metadata what it was made of.
        assert np.array_equal(codec.decode(left).pixels, codec.decode(right).pixels)
        assert row["source_sha256"] == hashlib.sha256(images[name]).hexdigest()
        assert (tmp_path / "boxes out" / "images" / row["derivative"]).is_file()
    assert found["all.tar#box.1/05.png"]["derivative"] == "all.tar/box.1/05.png"


def test_arrays_restore_as_png(tmp_path, models):
    digits = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)
    archive, output = tmp_path / "in", tmp_path / "out"
    archive.mkdir()
    shards.idx(archive / "train-images-idx3-ubyte", digits)
    packed = gzip.compress((archive / "train-images-idx3-ubyte").read_bytes())
    (archive / "t10k-images-idx3-ubyte.gz").write_bytes(packed)
    np.save(archive / "plain.npy", digits)
    shards.npz(archive / "labelled.npz", digits, np.arange(50))
    run("restore", archive, output, "--model", models / "identity")
    found = rows(output)
    assert len(found) == 200
    for key, row in found.items():
        number = int(key[-5:])
        assert row["derivative"].endswith(".png")
        written = load(output / "images" / row["derivative"])
        assert np.array_equal(written[..., 0], digits[number])


def broken(archive, images):
    """Every kind of shard, each with one thing wrong."""
    archive.mkdir()
    few = dict(list(images.items())[:5])
    sizes = [
        len(shards.example(image__encoded=d, image__filename=n.encode())) for n, d in few.items()
    ]
    shards.tfrecord(archive / "crc.tfrecord", few)
    data = bytearray((archive / "crc.tfrecord").read_bytes())
    data[sum(sizes[:2]) + 2 * 16 + 12 + sizes[2] // 2] ^= 1  # in the data of the third record
    (archive / "crc.tfrecord").write_bytes(data)
    shards.tar(archive / "cut.tar", few)
    whole = (archive / "cut.tar").read_bytes()
    (archive / "cut.tar").write_bytes(whole[: whole.rindex(b"ustar") + 300])
    shards.tfrecord(archive / "ends.tfrecord.gz", few, "GZIP")
    whole = (archive / "ends.tfrecord.gz").read_bytes()
    (archive / "ends.tfrecord.gz").write_bytes(whole[: len(whole) - len(whole) // 7])
    shards.parquet(archive / "null.parquet", {**few, "none.jpg": None})
    shards.zipped(archive / "secret.zip", few)
    whole = bytearray((archive / "secret.zip").read_bytes())
    name = list(few)[3].encode()
    whole[whole.index(b"PK\3\4", whole.index(name) - 40) + 6] |= 1  # its local header
    whole[whole.rindex(name) - 46 + 8] |= 1  # and its entry in the central directory
    (archive / "secret.zip").write_bytes(whole)
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(archive / "bare.tfrecord")) as writer:
        writer.write(shards.example(image__encoded=few[next(iter(few))], image__filename=b"a.jpg"))
        writer.write(shards.example(label=b"cat"))
    twice = next(iter(few.items()))
    import io
    import tarfile

    with tarfile.open(archive / "twice.tar", "w") as file:
        for _ in range(2):
            member = tarfile.TarInfo(twice[0])
            member.size = len(twice[1])
            file.addfile(member, io.BytesIO(twice[1]))


def test_what_is_wrong_with_a_shard_is_a_line_and_the_rest_is_restored(images, tmp_path, models):
    archive, output = tmp_path / "in", tmp_path / "out"
    broken(archive, images)
    run("restore", archive, output, "--model", models / "identity", code=3)
    found = failures(output)
    said = {key.partition("#")[0]: failure for key, failure in found.items()}
    assert len(found) == len(said) == 7, "one line each"
    words = {
        "crc.tfrecord": "checksum",
        "cut.tar": "ends",
        "ends.tfrecord.gz": "damaged",
        "null.parquet": "null",
        "secret.zip": "encrypted",
        "bare.tfrecord": "no feature image/encoded; it has label",
        "twice.tar": "several images named",
    }
    for shard, word in words.items():
        assert word in said[shard]["message"]
        assert said[shard]["stage"] == "read"
    restored = [key for key, row in rows(output).items() if row["status"] == "restored"]
    counts = {shard: sum(key.startswith(shard) for key in restored) for shard in words}
    assert 2 <= counts.pop("ends.tfrecord.gz") <= 4
    assert counts == {
        "crc.tfrecord": 4,
        "cut.tar": 4,
        "null.parquet": 5,
        "secret.zip": 4,
        "bare.tfrecord": 1,
        "twice.tar": 1,
    }


HOSTILE = [
    "../../etc/x.png",
    "/etc/x.png",
    "C:/x.png",
    "C:\\x.png",
    "a\nb.png",
    "..",
    "x" * 400 + ".png",
    "d/" * 600 + "x.png",
]


def test_no_name_in_a_shard_leads_out_of_the_output(images, tmp_path, models):
    archive, output = tmp_path / "in", tmp_path / "deep" / "out"
    archive.mkdir()
    png = next(data for name, data in images.items() if name.endswith("png"))
    shards.parquet(archive / "names.parquet", dict.fromkeys(HOSTILE, png))
    before = set(tmp_path.rglob("*"))
    run("degrade", archive, output, "--recipe", "mask:1")
    assert summary(output)["restored"] == len(HOSTILE)
    written = [row["derivative"] for row in rows(output).values()]
    assert len(set(written)) == len(HOSTILE)
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "deep") for path in new)
    assert all((output / "images" / name).is_file() for name in written)


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        (
            "a.tar",
            b"\x89PNG\r\n\x1a\n" + bytes(600),
            "no webdataset shard; it looks like a PNG image",
        ),
        ("a.tfrecord", b"PK\3\4" + bytes(600), "no tfrecord shard; it looks like a zip shard"),
        ("a.parquet", bytes(600), "no parquet shard"),
        ("a.zip", b"PAR1" + bytes(600), "it looks like a parquet shard"),
        ("a.tar.gz", gzip.compress(b"PAR1" + bytes(600), mtime=0), "it looks like a parquet shard"),
    ],
)
def test_a_shard_of_another_kind_is_named_before_any_work(tmp_path, name, head, said):
    (tmp_path / name).write_bytes(head)
    with pytest.raises(ArchiveError, match=said) as refused:
        find_sources([str(tmp_path)])
    assert str(tmp_path / name) in str(refused.value)


def test_a_kind_can_be_said_where_the_name_does_not(tmp_path, images):
    shards.tar(tmp_path / "part-00000", images)
    sources, _ = find_sources([str(tmp_path)], "webdataset")
    assert [source.key for source in sources] == [f"part-00000#{name}" for name in images]


def test_a_large_shard_is_many_specs_and_a_compressed_one_is_one(tmp_path, images):
    shards.tar(tmp_path / "a.tar", images)
    shards.tar(tmp_path / "b.tar.gz", images, "w:gz")
    plan = make_plan([str(tmp_path)], Budget(count=5))
    specs = {}
    for spec in plan.specs:
        (path,) = {source.path for source in spec.sources}
        specs.setdefault(path.rpartition("/")[2], []).append(spec)
    assert len(specs["a.tar"]) == 5
    (packed,) = specs["b.tar.gz"]
    assert [len(batch) for batch in packed.batches()] == [5, 5, 5, 5, 4]


def test_records_of_a_shard_can_be_read_in_any_order(tmp_path, images):
    shards.tar(tmp_path / "b.tar.gz", images, "w:gz")
    plan = make_plan([str(tmp_path)], Budget())
    records = [
        record for spec in plan.specs for batch in spec.batches() for record in batch.records
    ]
    with OpenShard(USUAL_COLUMNS) as shard:
        for record in records[::-1]:
            read = read_record(record, shard)
            assert read.encoded == images[record.key.partition("#")[2]]
            assert decode_record(read).image.shape == (60, 75, 3)


def test_columns_are_as_they_are_said(tmp_path, images):
    import tensorflow as tf

    archive = tmp_path / "in"
    archive.mkdir()
    with tf.io.TFRecordWriter(str(archive / "a.tfrecord")) as writer:
        for name, data in list(images.items())[:3]:
            writer.write(shards.example(picture=data, title=name.encode()))
    columns = ("--image_column", "picture", "--name_column", "title")
    run("degrade", archive, tmp_path / "out", "--recipe", "mask:1", *columns)
    assert list(rows(tmp_path / "out")) == [
        f"a.tfrecord#{name}" for name in sorted(list(images)[:3])
    ]


def test_masters_in_a_shard_stay_as_they_are(tmp_path, images):
    archive = tmp_path / "in"
    archive.mkdir()
    shards.tar(archive / "a.tar", images)
    before = (archive / "a.tar").read_bytes()
    run("degrade", archive, tmp_path / "out", "--recipe", "jpeg:5")
    assert (archive / "a.tar").read_bytes() == before
    assert picture(tmp_path / "out" / "images" / "a.tar" / "box.0" / "00.jpg").size == (75, 60)


def test_a_list_names_images_and_shards_wherever_they_are(tmp_path, images):
    names = list(images)[:4]
    for name in names[:3]:
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images[name])
    shards.tar(tmp_path / "box.tar", {names[3]: images[names[3]]})
    listed = tmp_path / "lists" / "todo.csv"
    listed.parent.mkdir()
    lines = [
        "path,title",
        f"../scans/{names[0]},one",
        f"{tmp_path}/scans/{names[1]},two",
        f"file://{tmp_path}/scans/{names[2]},three",
        f"../scans/{names[0]},one again",
        "../box.tar,four",
        "../scans/gone.jpg,five",
        "https://example.org/x.jpg,six",
    ]
    listed.write_text("\n".join(lines))
    run("degrade", listed, tmp_path / "out", "--recipe", "jpeg:1", code=3)
    found = rows(tmp_path / "out")
    restored = {key for key, row in found.items() if row["status"] == "restored"}
    assert restored == {*(f"scans/{name}" for name in names[:3]), f"box.tar#{names[3]}"}
    reasons = failures(tmp_path / "out")
    assert reasons.keys() == {"scans/gone.jpg", "todo.csv#line 8"}
    assert "No such file" in reasons["scans/gone.jpg"]["message"]
    assert "http" in reasons["todo.csv#line 8"]["message"]


def test_what_a_list_says_beside_an_image_stays_with_it(tmp_path, images):
    name = next(iter(images))
    (tmp_path / "a.png").write_bytes(images[name])
    (tmp_path / "list.tsv").write_text("file\ttitle\tyear\na.png\tHarbour\t1901\n")
    (source,), _ = find_sources([str(tmp_path / "list.tsv")])
    assert source.key == "a.png"
    with OpenShard(USUAL_COLUMNS) as shard:
        read = read_record(Record(source=source), shard)
    assert shards.plain(read.fields) == {"title": "Harbour", "year": "1901"}


def test_a_list_cannot_lead_into_the_output(tmp_path, images):
    inside = tmp_path / "out" / "images" / "a.jpg"
    (tmp_path / "list.txt").write_text(str(inside))
    with pytest.raises(JobError, match="lies inside the output"):
        run("degrade", tmp_path / "list.txt", tmp_path / "out", "--recipe", "jpeg:1")


def test_a_text_beside_images_is_no_list(tmp_path, images):
    (tmp_path / "a.jpg").write_bytes(next(iter(images.values())))
    (tmp_path / "notes.txt").write_text("a.jpg")
    sources, left_out = find_sources([str(tmp_path)])
    assert [source.key for source in sources] == ["a.jpg"]
    assert left_out == {".txt": 1}
    with pytest.raises(ArchiveError, match="without a column"):
        (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
        find_sources([str(tmp_path / "bad.csv")])


def test_a_shard_that_cannot_be_opened_is_one_failure(tmp_path, images):
    for name in ("gone.tar", "gone.parquet", "gone.npz"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    shards.tar(tmp_path / "a.tar", images)
    sources, _ = find_sources([str(tmp_path)])
    gone = [source for source in sources if "gone" in source.path]
    assert [source.key for source in gone] == ["gone.npz#*", "gone.parquet#*", "gone.tar#*"]
    assert all("No such file" in source.member.trouble for source in gone)
    assert make_plan([str(tmp_path)], Budget()).records == 24 + 3


def test_empty_shards_are_counted(tmp_path, images):
    shards.tar(tmp_path / "a.tar", images)
    shards.tar(tmp_path / "b.tar", {})
    shards.zipped(tmp_path / "c.zip", {})
    sources, left_out = find_sources([str(tmp_path)])
    assert len(sources) == 24
    assert left_out == {"empty shards": 2}
