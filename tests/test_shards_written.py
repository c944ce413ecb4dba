"""What each kind of shard holds is what was put into it: images, names, and fields of any type."""

import io
import tarfile
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.photographs import saved, small
from transforms.shards import FORMATS, fields
from transforms.shards.shard import ShardError
from transforms.shards.writers import WRITERS, Sample

PNG = saved(small(), "PNG")

SCALARS = {
    "null": pa.scalar(None),
    "no integer": pa.scalar(None, pa.int16()),
    "true": pa.scalar(True),
    "int8": pa.scalar(-7, pa.int8()),
    "large": pa.scalar(2**64 - 1, pa.uint64()),
    "half": pa.scalar(np.float16(0.5)),
    "float": pa.scalar(0.1, pa.float32()),
    "double": pa.scalar(0.1),
    "not a number": pa.scalar(float("nan")),
    "text": pa.scalar("é漢\n\0"),
    "large text": pa.scalar("a", pa.large_string()),
    "bytes": pa.scalar(b"\0\xff"),
    "no bytes": pa.scalar(b""),
    "large bytes": pa.scalar(b"a", pa.large_binary()),
    "fixed": pa.scalar(b"abcd", pa.binary(4)),
    "decimal": pa.scalar(Decimal("1.10")),
    "nanoseconds": pa.scalar(1, pa.timestamp("ns", "UTC")),
    "date": pa.scalar(datetime(1864, 1, 2).date()),
    "time": pa.scalar(datetime(1864, 1, 2, 3).time()),
    "duration": pa.scalar(timedelta(days=3)),
    "bytes of a feature": pa.scalar([b"a", b""], pa.list_(pa.binary())),
    "floats of a feature": pa.scalar([0.1], pa.list_(pa.float32())),
    "none of a feature": pa.scalar([], pa.list_(pa.int64())),
    "with a gap": pa.scalar([1, None], pa.list_(pa.int64())),
    "no list": pa.scalar(None, pa.list_(pa.int64())),
    "doubles": pa.scalar([0.1, 2.0]),
    "pairs": pa.scalar([[1, 2], []], pa.list_(pa.list_(pa.int32()))),
    "large list": pa.scalar([1], pa.large_list(pa.int64())),
    "box": pa.scalar([1, 2], pa.list_(pa.int16(), 2)),
    "boxes": pa.scalar([[1, 2], None], pa.list_(pa.list_(pa.int16(), 2))),
    "struct": pa.scalar({"a": None, "b": {"c": [b"\xff"]}}),
    "map": pa.scalar([("a", 1)], pa.map_(pa.string(), pa.int8())),
    "dictionary": pa.array(["cat", "dog"]).dictionary_encode()[1],
}


def read_back(kind, samples):
    packed = WRITERS[kind].pack(samples)
    file = io.BytesIO(b"".join(packed.parts))
    get = FORMATS[kind].contents(file)
    entries = list(FORMATS[kind].entries(file))
    assert [entry.name for entry in entries] == packed.names
    assert not any(entry.trouble for entry in entries)
    return [get(entry.place) for entry in entries]


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].type == value.type, name
        # Arrow says of no number that it is itself.
        assert repr(found[name]) == repr(value), name
    return True


@pytest.mark.parametrize("kind", list(WRITERS))
@pytest.mark.parametrize("name", list(SCALARS))
def test_a_field_of_any_type_comes_back(kind, name):
    samples = [
        Sample("a.png", PNG, {"one": SCALARS[name], "two": pa.scalar(1)}),
        Sample("b.png", PNG),
        Sample("c.png", PNG, {"one": SCALARS[name]}),
    ]
    for content, sample in zip(read_back(kind, samples), samples, strict=True):
        assert content.encoded == PNG
        assert same(fields.restored(content.fields), sample.fields)


@pytest.mark.parametrize("kind", list(WRITERS))
def test_all_of_them_together_and_of_other_types_in_each_image(kind):
    names, values = list(SCALARS), list(SCALARS.values())
    samples = [
        Sample(f"{turn}.png", PNG, dict(zip(names, values[turn:] + values[:turn], strict=True)))
        for turn in range(3)
    ]
    for content, sample in zip(read_back(kind, samples), samples, strict=True):
        assert same(fields.restored(content.fields), sample.fields)


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.sampled_from(
    [
        *("image", "path", "image/encoded", "image/filename", "json", "heliograph.arrow"),
        *("png", "a.jpg", ".hidden", "a/b", "..", "a.json", "x\0y", "file_name", "__key__"),
    ]
)


@pytest.mark.parametrize("kind", list(WRITERS))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.dictionaries(names, st.sampled_from(list(SCALARS)), max_size=5), max_size=3))
def test_a_field_of_any_name_comes_back(kind, rows):
    samples = [
        Sample(f"{number}.png", PNG, {name: SCALARS[value] for name, value in row.items()})
        for number, row in enumerate(rows)
    ]
    if samples:
        for content, sample in zip(read_back(kind, samples), samples, strict=True):
            assert same(fields.restored(content.fields), sample.fields)


@pytest.mark.parametrize("kind", list(WRITERS))
def test_the_same_samples_make_the_same_bytes(kind):
    samples = [Sample("a/b c.png", PNG, SCALARS), Sample("ü.png", PNG, {"json": pa.scalar(b"")})]
    one, two = (b"".join(WRITERS[kind].pack(samples).parts) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("kind", list(WRITERS))
@pytest.mark.parametrize("name", ["a b.png", "x" * 300 + "/é.png", "bad \udcff.png", "a\nb.png"])
def test_an_image_of_any_name_comes_back(kind, name):
    packed = WRITERS[kind].pack([Sample(name, PNG)])
    file = io.BytesIO(b"".join(packed.parts))
    (entry,) = FORMATS[kind].entries(file)
    assert [entry.name] == packed.names
    if kind != "parquet" or "\udcff" not in name:
        assert packed.names == [name]
    assert FORMATS[kind].contents(file)(entry.place).encoded == PNG


def test_what_is_called_as_ours_and_is_not_is_a_field_like_any_other():
    for value in (pa.scalar(b"no arrow"), pa.scalar("text"), pa.scalar(7), pa.scalar([b"", b""])):
        assert fields.restored({fields.EXACT: value}) == {fields.EXACT: value}
    table = pa.table({"label": [1]})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    foreign = {fields.EXACT: pa.scalar(out.getvalue())}
    assert fields.restored(foreign) == foreign


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_in_ours_is_an_ordinary_field(data):
    whole = bytearray(fields.exact({"a": pa.scalar("abc"), "b": SCALARS["struct"]}, ["c"]))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=5)):
        whole[at] ^= data.draw(st.integers(1, 255))
    held = {fields.EXACT: pa.scalar(bytes(whole)), "d": pa.scalar(1)}
    found = fields.restored(held)
    assert found["d"] == pa.scalar(1)


def test_a_table_of_fields_gives_each_image_its_own():
    rows = [{"a": pa.scalar(1)}, {}, {"a": pa.scalar("x"), "b": SCALARS["null"]}]
    data = fields.write_table(["one", "two", "bad \udcff"], rows)
    assert pq.read_table(io.BytesIO(data)).column("file_name").to_pylist()[:2] == ["one", "two"]
    columns = fields.read_table(data)
    for index, row in enumerate(rows):
        assert same(fields.row_of(columns, index), row)


def test_what_no_member_can_be_called_is_in_the_json_and_exactly_beside_it():
    sample = Sample("a.png", PNG, {"png": pa.scalar(b"1"), "label": pa.scalar(3)})
    packed = WRITERS["webdataset"].pack([sample])
    with tarfile.open(fileobj=io.BytesIO(b"".join(packed.parts))) as file:
        assert file.getnames() == ["a.png", "a.json", "a.heliograph.arrow"]
        assert file.extractfile("a.json").read() == b'{"png": "1", "label": 3}'


def test_more_than_two_gib_is_refused(monkeypatch):
    from transforms.shards import writers

    monkeypatch.setattr(writers, "_LARGEST", len(PNG) + 10)
    for kind in ("tfrecord", "parquet"):
        WRITERS[kind].check(Sample("a.png", PNG, {"a": pa.scalar(b"1")}))
        with pytest.raises(ShardError, match="2 GiB"):
            WRITERS[kind].check(Sample("a.png", PNG, {"a": pa.scalar(b"1" * 20)}))
    samples = [Sample(f"{number}.png", PNG) for number in range(3)]
    assert [content.encoded for content in read_back("parquet", samples)] == [PNG] * 3
