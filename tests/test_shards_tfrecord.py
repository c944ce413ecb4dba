"""TFRecords that TensorFlow and tensorflow_datasets wrote are read whole, without TensorFlow."""

import gzip
import io
import itertools
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.photographs import gray, photo, saved, sixteen, small
from tests.shards import plain
from transforms.shards.shard import ShardError
from transforms.shards.tfrecord import FORMAT, ZlibFile, is_zlib, tfrecord_format

PHOTOS = {
    "box 1/astronaut.jpg": saved(small("astronaut"), "JPEG"),
    "box 1/chelsea.png": saved(small("chelsea"), "PNG"),
    "Zürich/写真 №7.webp": saved(small("coffee"), "WEBP"),
    "../../etc/rocket.bmp": saved(small("rocket"), "BMP"),
}


def example(**features):
    """An Example as TensorFlow writes it; __ in a name stands for a slash."""
    kinds = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
    made = tf.train.Example()
    for name, values in features.items():
        feature = made.features.feature[name.replace("__", "/")]
        for value in values if isinstance(values, list) else [values]:
            getattr(feature, kinds[type(value)]).value.append(value)
    return made.SerializeToString()


def photo_example(name, image, **more):
    return example(image__encoded=image, image__filename=os.fsencode(name), **more)


EXAMPLES = [photo_example(name, image, label=i) for i, (name, image) in enumerate(PHOTOS.items())]


@pytest.fixture(scope="session")
def write(tmp_path_factory):
    """What tf.io writes, as bytes."""
    folder, numbers = tmp_path_factory.mktemp("tfrecords"), itertools.count()

    def write(examples, compression=""):
        path = folder / f"{next(numbers)}.tfrecord"
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for one in examples:
                writer.write(one)
        return path.read_bytes()

    return write


@pytest.fixture(scope="session")
def shard(write):
    return write(EXAMPLES)


def starts(examples):
    """Where each record begins, and where the last one ends."""
    return list(itertools.accumulate((len(one) + 16 for one in examples), initial=0))


STARTS = starts(EXAMPLES)


def entries(data, known=FORMAT):
    return list(known.entries(io.BytesIO(data)))


def read(data, known=FORMAT):
    """Content by name, of the entries without trouble."""
    get = known.contents(io.BytesIO(data))
    return {entry.name: get(entry.place) for entry in entries(data, known) if not entry.trouble}


def troubles(data, known=FORMAT):
    return [(entry.name, entry.trouble) for entry in entries(data, known) if entry.trouble]


def only_trouble(*examples, write, known=FORMAT):
    [(_, trouble)] = troubles(write(examples), known)
    get = known.contents(io.BytesIO(write(examples)))
    with pytest.raises(ShardError) as refused:
        get(entries(write(examples), known)[0].place)
    assert str(refused.value) == trouble  # planning and reading agree
    return trouble


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


# -- what is there is read -------------------------------------------------------------------------


def test_what_tensorflow_wrote_is_listed_and_read(shard):
    found = entries(shard)
    assert [entry.name for entry in found] == list(PHOTOS)
    assert [entry.size for entry in found] == [len(image) for image in PHOTOS.values()]
    assert [entry.place for entry in found] == [(start,) for start in STARTS[:-1]]
    assert {name: content.encoded for name, content in read(shard).items()} == PHOTOS
    labels = [content.fields["label"].as_py() for content in read(shard).values()]
    assert labels == [[0], [1], [2], [3]]


def test_images_are_read_in_any_order_and_twice(shard):
    get = FORMAT.contents(io.BytesIO(shard))
    for entry in [*reversed(entries(shard)), *entries(shard)]:
        assert get(entry.place).encoded == PHOTOS[entry.name]


def test_other_features_pass_through_by_type(write):
    features = {
        "caption": [b"a \xff cat", b""],
        "boxes": [0.5, -1.25, 3e38],
        "label": [-(2**63), 2**63 - 1],
        "none": [],
        "mean": [float("inf")],
    }
    data = write([photo_example("a.jpg", PHOTOS["box 1/astronaut.jpg"], **features)])
    content = read(data)["a.jpg"]
    features["boxes"][2] = float(np.float32(3e38))
    features["none"] = None  # of no kind, for want of values
    assert plain(content.fields) == features
    assert [type(value) for value in content.fields["boxes"].as_py()] == [float] * 3


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
def test_a_compressed_shard_gives_the_same(write, shard, compression):
    packed = write(EXAMPLES, compression)

    def opened():
        file = io.BytesIO(packed)
        return gzip.GzipFile(fileobj=file) if compression == "GZIP" else ZlibFile(file)

    assert is_zlib(packed[:512]) == (compression == "ZLIB")
    assert not FORMAT.looks_right(packed[:512])
    assert list(FORMAT.entries(opened())) == entries(shard)
    get = FORMAT.contents(opened())
    assert [get(entry.place) for entry in entries(shard)] == list(read(shard).values())


def test_what_tensorflow_datasets_wrote_is_read(tmp_path):
    datasets = pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.core import example_serializer, file_adapters, naming, writer

    features = datasets.features.FeaturesDict(
        {
            "image": {"encoded": datasets.features.Image(), "filename": datasets.features.Text()},
            "label": datasets.features.ClassLabel(num_classes=10),
            "box": datasets.features.BBoxFeature(),
        }
    )
    made = writer.Writer(
        serializer=example_serializer.ExampleSerializer(features.get_serialized_info()),
        filename_template=naming.ShardedFileTemplate(
            data_dir=tmp_path, dataset_name="photos", split="train", filetype_suffix="tfrecord"
        ),
        hash_salt="salt",
        disable_shuffling=True,
        example_writer=writer.ExampleWriter(file_format=file_adapters.FileFormat.TFRECORD),
    )
    names = ("astronaut", "chelsea", "coffee")
    for number, name in enumerate(names):
        image = {"encoded": small(name), "filename": f"{name}.png"}
        box = datasets.features.BBox(ymin=0.25, xmin=0.5, ymax=0.75, xmax=1.0)
        one = {"image": image, "label": number, "box": box}
        made.write(number, features.encode_example(one))
    made.finalize()
    [path] = tmp_path.glob("*tfrecord*")
    found = read(path.read_bytes())
    assert list(found) == [f"{name}.png" for name in names]
    for number, name in enumerate(names):
        content = found[f"{name}.png"]
        assert np.array_equal(tf.io.decode_png(content.encoded), small(name))
        assert plain(content.fields) == {"label": [number], "box": [0.25, 0.5, 0.75, 1.0]}


def test_tensorflow_is_not_imported_and_may_be_afterwards(tmp_path, shard):
    path = tmp_path / "shard.tfrecord"
    path.write_bytes(shard)
    script = f"""
import sys
from transforms.shards import tfrecord
with open({str(path)!r}, "rb") as file:
    assert len(list(tfrecord.FORMAT.entries(file))) == 4
assert "tensorflow" not in sys.modules
import tensorflow
assert tensorflow.train.Example.FromString({example(label=7)!r}).features.feature
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=100)


# -- names and features ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "extension"),
    [
        ("JPEG", ".jpg"),
        ("PNG", ".png"),
        ("WEBP", ".webp"),
        ("TIFF", ".tif"),
        ("GIF", ".gif"),
        ("BMP", ".bmp"),
        ("PPM", ".ppm"),
    ],
)
def test_an_image_without_a_name_is_called_by_its_position_and_kind(write, kind, extension):
    image = saved(small(), kind)
    unnamed = example(image__encoded=image)
    empty = example(image__encoded=image, image__filename=b"")
    several = example(image__encoded=image, image__filename=[b"a.jpg", b"b.jpg"])
    number = example(image__encoded=image, image__filename=7)
    data = write([EXAMPLES[0], unnamed, empty, several, number])
    found = read(data)
    assert {name: plain(content.fields) for name, content in found.items()} == {
        "box 1/astronaut.jpg": {"label": [0]},
        f"00000001{extension}": {},
        f"00000002{extension}": {"image/filename": [b""]},
        f"00000003{extension}": {"image/filename": [b"a.jpg", b"b.jpg"]},
        f"00000004{extension}": {"image/filename": [7]},
    }


def test_names_are_given_as_they_are(write):
    names = [
        "a\\b.jpg",
        "/etc/passwd",
        "two\nlines.jpg",
        os.fsdecode(b"caf\xe9.jpg"),
        "x" * 5000,
        "a\\b.jpg",
    ]
    data = write([photo_example(name, b"image") for name in names])
    assert [entry.name for entry in entries(data)] == names


def test_features_can_be_named(write):
    image = PHOTOS["box 1/chelsea.png"]
    known = tfrecord_format(encoded="photo", filename="id")
    data = write([example(photo=image, id=b"cat", image__encoded=b"thumbnail")])
    [entry] = entries(data, known)
    assert entry.name == "cat"
    assert read(data, known)["cat"].encoded == image
    assert plain(read(data, known)["cat"].fields) == {"image/encoded": [b"thumbnail"]}
    assert known.name == FORMAT.name


def test_without_the_feature_the_features_that_are_there_are_said(write):
    trouble = only_trouble(example(image_raw=b"x", label=1, jpg=b"y"), write=write)
    assert trouble == "the Example has no feature image/encoded; it has image_raw, jpg, label"
    many = {f"f{number:03}": number for number in range(100)}
    assert only_trouble(example(**many), write=write).endswith("f010, f011 and 88 more")
    assert only_trouble(b"", write=write).endswith("it has none")


def test_a_named_example_without_an_image_keeps_its_name(write):
    data = write([example(image__filename=b"lost.jpg"), EXAMPLES[0]])
    assert [name for name, _ in troubles(data)] == ["lost.jpg"]
    assert list(read(data)) == ["box 1/astronaut.jpg"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "is empty"),
        (b"", "is empty"),
        ([b"one", b"two"], "has 2 values"),
        (3, "holds numbers"),
        ([0.5, 1.0], "holds numbers"),
    ],
    ids=str,
)
def test_a_feature_that_is_no_image_is_refused(write, value, reason):
    assert reason in only_trouble(example(image__encoded=value), write=write)


def test_what_is_no_example_is_refused(write):
    assert "no tf.train.Example" in only_trouble(b"\xff" * 40, write=write)
    assert "no tf.train.Example" in only_trouble(EXAMPLES[0][:-1], write=write)


def test_a_sequence_example_is_refused_rather_than_cut(write):
    sequence = tf.train.SequenceExample()
    sequence.context.CopyFrom(tf.train.Example.FromString(EXAMPLES[0]).features)
    frames = sequence.feature_lists.feature_list["frames"]
    frames.feature.add().bytes_list.value.append(b"frame")
    assert "SequenceExample" in only_trouble(sequence.SerializeToString(), write=write)


# -- tensors ---------------------------------------------------------------------------------------

RGB = small("coffee")
TENSORS = {
    "rgb": RGB,
    "gray": gray(RGB),
    "flat": gray(RGB)[..., 0],
    "deep": sixteen(RGB),
    "deep-gray": sixteen(gray(RGB)),
    "pixel": RGB[:1, :1],
}


@pytest.mark.parametrize("pixels", TENSORS.values(), ids=TENSORS)
def test_a_serialised_tensor_is_pixels(write, pixels):
    tensor = tf.io.serialize_tensor(pixels).numpy()
    data = write([photo_example("a", tensor), example(image__encoded=tensor)])
    assert [(entry.name, entry.pixels) for entry in entries(data)] == [
        ("a", pixels.shape[0] * pixels.shape[1]),
        ("00000001", pixels.shape[0] * pixels.shape[1]),
    ]
    content = read(data)["a"]
    assert content.encoded is None
    assert content.pixels.dtype == pixels.dtype
    assert np.array_equal(content.pixels, pixels.reshape(*pixels.shape[:2], -1))


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (tf.zeros((4, 5, 3), tf.float32), "float32 [4, 5, 3]"),
        (tf.zeros((4, 5), tf.int64), "int64 [4, 5]"),
        (tf.zeros((4, 5), tf.bfloat16), "bfloat16 [4, 5]"),
        (tf.zeros((4, 5), tf.complex64), "type 8 [4, 5]"),
        (tf.zeros((4, 5, 4), tf.uint8), "uint8 [4, 5, 4]"),
        (tf.zeros((2, 4, 5, 3), tf.uint8), "uint8 [2, 4, 5, 3]"),
        (tf.zeros((7,), tf.uint8), "uint8 [7]"),
        (tf.zeros((0, 5), tf.uint8), "uint8 [0, 5]"),
        (tf.constant("photo"), "string []"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_tensors_are_refused_with_their_type_and_shape(write, tensor, said):
    trouble = only_trouble(
        example(image__encoded=tf.io.serialize_tensor(tensor).numpy()), write=write
    )
    assert trouble.startswith(f"a tensor of {said}; images are")


def test_a_tensor_that_promises_more_than_it_holds_is_refused(write):
    tensor = tf.make_tensor_proto(RGB)
    tensor.tensor_shape.dim[0].size = 2**62
    trouble = only_trouble(example(image__encoded=tensor.SerializeToString()), write=write)
    assert f"and has {RGB.size:,}" in trouble
    tensor.tensor_shape.dim[0].size = -1
    assert "[-1, " in only_trouble(example(image__encoded=tensor.SerializeToString()), write=write)


# -- damage ----------------------------------------------------------------------------------------


def test_a_bad_checksum_costs_one_image(tmp_path, shard):
    data = flipped(shard, STARTS[1] + 500)
    [(name, trouble)] = troubles(data)
    assert (name, trouble) == (
        "00000001",
        f"the record at byte {STARTS[1]:,} does not match its checksum",
    )
    assert [entry.size for entry in entries(data)][1] == len(EXAMPLES[1])
    del (left := dict(PHOTOS))["box 1/chelsea.png"]
    assert {name: content.encoded for name, content in read(data).items()} == left
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(tf.errors.DataLossError):  # TensorFlow agrees, and gives up
        list(tf.data.TFRecordDataset(str(tmp_path / "x")))


def test_one_bad_record_does_not_stop_the_next_get(shard):
    get = FORMAT.contents(io.BytesIO(flipped(shard, STARTS[1] + 500)))
    with pytest.raises(ShardError, match="checksum"):
        get((STARTS[1],))
    assert get((STARTS[2],)).encoded == list(PHOTOS.values())[2]


@pytest.mark.parametrize("at", [0, 7, 8, 11])
def test_a_bad_length_ends_the_listing(shard, at):
    data = flipped(shard, STARTS[2] + at)
    assert [entry.name for entry in entries(data)] == [*list(PHOTOS)[:2], "00000002"]
    [(_, trouble)] = troubles(data)
    assert f"byte {STARTS[2]:,}" in trouble
    assert "what follows" in trouble
    with pytest.raises(ShardError, match="length"):
        FORMAT.contents(io.BytesIO(data))((STARTS[2],))


def test_wherever_a_file_is_cut_what_is_whole_is_read_and_the_rest_counted(write):
    examples = [photo_example(f"{number}.jpg", b"\xff\xd8\xff image") for number in range(3)]
    data = write(examples)
    ends = starts(examples)
    for cut in range(12, len(data)):
        found = entries(data[:cut])
        whole = sum(end <= cut for end in ends[1:])
        assert [entry.name for entry in found if not entry.trouble] == [
            f"{number}.jpg" for number in range(whole)
        ]
        assert len(found) - whole == (cut not in ends)  # at the end of a record nothing shows
        if cut not in ends:
            assert "the file ends within" in found[-1].trouble
            with pytest.raises(ShardError, match="the file ends"):
                FORMAT.contents(io.BytesIO(data[:cut]))(found[-1].place)


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.7, 0.99])
def test_a_broken_compressed_stream_costs_what_is_behind(write, compression, share):
    noise = np.random.default_rng(0)  # so that it packs evenly
    images = {f"{number}.jpg": noise.bytes(20_000) for number in range(10)}
    data = write([photo_example(name, image) for name, image in images.items()], compression)
    at = int(len(data) * share)

    for broken in (data[:at], data[:at] + b"\xff" * (len(data) - at)):

        def opened(broken=broken):
            file = io.BytesIO(broken)
            return gzip.GzipFile(fileobj=file) if compression == "GZIP" else ZlibFile(file)

        found = list(FORMAT.entries(opened()))
        whole = [entry for entry in found if not entry.trouble]
        assert [entry.name for entry in whole] == list(images)[: len(whole)]
        assert 10 * share - 2 < len(whole) <= 10 * share
        lost = found[len(whole) :]
        assert 1 <= len(lost) <= 2  # one whose bytes are wrong, and one for all that follows
        get = FORMAT.contents(opened())
        assert all(get(entry.place).encoded == images[entry.name] for entry in whole)
        for entry in lost:
            with pytest.raises(ShardError):
                get(entry.place)


def test_what_is_no_tfrecord_is_refused(shard):
    for data in (PHOTOS["box 1/astronaut.jpg"], b"PK\3\4" + bytes(100), b"short", bytes(600)):
        assert not FORMAT.looks_right(data[:512])
        with pytest.raises(ShardError, match="not a TFRecord"):
            entries(data)
    assert FORMAT.looks_right(shard[:512])


def test_an_empty_file_is_a_shard_of_nothing(write):
    assert write([]) == b""
    assert entries(b"") == []


def test_a_shard_that_has_changed_since_it_was_planned_is_refused(shard):
    get = FORMAT.contents(io.BytesIO(shard))
    for place in (1, STARTS[1] + 12, STARTS[-1], 10**9):
        with pytest.raises(ShardError):
            get((place,))
    assert get((0,)).encoded == PHOTOS["box 1/astronaut.jpg"]


def masked(data):
    """The checksum of a record by Beam's writer, which owes nothing to ours."""
    from apache_beam.io.tfrecordio import _TFRecordUtil

    return _TFRecordUtil._masked_crc32c(data)


@pytest.mark.parametrize("length", [10**6, 2**31, 2**40, 2**63, 2**64 - 1])
def test_a_length_that_lies_takes_no_memory(shard, length):
    stated = struct.pack("<Q", length)
    data = shard + stated + struct.pack("<I", masked(stated)) + b"nothing much"
    tracemalloc.start()
    found = entries(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 5
    assert f"of which 12 of {length:,} bytes are there" in found[-1].trouble
    assert peak < 5_000_000 + len(data)


def test_planning_a_large_shard_takes_the_memory_of_one_record(tmp_path):
    path = tmp_path / "large.tfrecord"
    image = np.random.default_rng(0).bytes(100_000)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(400):
            writer.write(photo_example(f"{number}.jpg", image))
    with path.open("rb") as file:
        tracemalloc.start()
        count = sum(1 for _ in FORMAT.entries(file))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 400
    assert peak < 2_000_000


SMALL = [
    photo_example("a.jpg", b"\xff\xd8\xff image", label=1),
    photo_example("b", tf.io.serialize_tensor(RGB[:2, :2]).numpy(), box=[0.5]),
    example(image__encoded=b"BM"),
]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_damage_raises_anything_but_shard_errors(write, data):
    sound = bytearray(write(SMALL))
    repaired = data.draw(st.booleans())  # with right checksums damage reaches the messages
    for _ in range(data.draw(st.integers(1, 4))):
        sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    broken = repair(bytes(sound)) if repaired else bytes(sound)
    broken = broken[: data.draw(st.integers(0, len(broken)))]
    try:
        found = entries(broken)
    except ShardError:
        return
    get = FORMAT.contents(io.BytesIO(broken))
    for entry in found:
        try:
            content = get(entry.place)
        except ShardError:
            assert entry.trouble
        else:
            assert not entry.trouble
            assert (content.encoded is None) != (content.pixels is None)


def repair(data):
    """Write the checksums anew, of records as long as they were."""
    out, offset = b"", 0
    for one in SMALL:
        length = struct.pack("<Q", len(one))
        body = data[offset + 12 : offset + 12 + len(one)]
        out += length + struct.pack("<I", masked(length)) + body + struct.pack("<I", masked(body))
        offset += len(one) + 16
    return out


# -- zlib ------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    data=st.binary(max_size=300).map(lambda part: part * 700),
    steps=st.lists(st.tuples(st.sampled_from(["read", "seek"]), st.integers(0, 250_000))),
)
def test_a_zlib_file_reads_and_seeks_as_what_it_holds_does(data, steps):
    ours, theirs = ZlibFile(io.BytesIO(zlib.compress(data))), io.BytesIO(data)
    for what, number in steps:
        if what == "read":
            assert ours.read(number) == theirs.read(number)
        else:
            ours.seek(number)
            theirs.seek(number)
        assert ours.tell() == min(theirs.tell(), len(data))
        theirs.seek(ours.tell())
    assert ours.seek(0, os.SEEK_END) == len(data)
    assert ours.read() == b""


def test_a_zlib_file_leaves_the_file_below_it_open():
    below = io.BytesIO(zlib.compress(b"photo"))
    with ZlibFile(below) as file:
        assert file.read() == b"photo"
    assert not below.closed


def test_a_zlib_file_says_when_it_is_cut_or_followed_by_something():
    packed = zlib.compress(saved(photo()[:64, :64], "BMP"))
    with pytest.raises(EOFError, match="ends before"):
        ZlibFile(io.BytesIO(packed[:-1])).read()
    with pytest.raises(zlib.error, match="follows"):
        ZlibFile(io.BytesIO(packed + b"\0")).read()


def test_only_a_compressed_tfrecord_is_taken_for_one(shard):
    assert is_zlib(zlib.compress(shard)[:512])
    for data in (
        shard,
        zlib.compress(b"a letter, not a record"),
        b"",
        b"x\x9c",
        PHOTOS["box 1/chelsea.png"],
    ):
        assert not is_zlib(data[:512])
