"""Parquet shards: files by pyarrow and by Hugging Face `datasets`, sound, odd, damaged, hostile."""

import base64
import datetime
import decimal
import functools
import gzip
import io
import json
import os
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import photographs
from transforms.shards.parquet import FORMAT, parquet_format
from transforms.shards.parquet_footer import row_groups
from transforms.shards.shard import ShardError

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

HF = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@functools.cache
def photos(count=12):
    """Image files, by turns PNG and JPEG, no two alike."""
    names = list(photographs.PHOTOS)
    return [
        photographs.saved(
            photographs.small(names[index % len(names)], 40 + index, 50), ("PNG", "JPEG")[index % 2]
        )
        for index in range(count)
    ]


def written(table, **options):
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def listed(data, kind=FORMAT):
    return list(kind.entries(io.BytesIO(data)))


def names(data, kind=FORMAT):
    return [entry.name for entry in listed(data, kind)]


def read(data, kind=FORMAT):
    """The image of every entry, or the reason why there is none."""
    get = kind.contents(io.BytesIO(data))
    return [outcome(get, entry.place) for entry in listed(data, kind)]


def outcome(get, place):
    try:
        return get(place).encoded
    except ShardError as error:
        return str(error)


def structs(images, paths=None):
    paths = paths or [f"p{index}.jpg" for index in range(len(images))]
    pairs = zip(images, paths, strict=True)
    return pa.array([image and {"bytes": image, "path": path} for image, path in pairs], HF)


class Spy(io.BytesIO):
    """A file that tells how much was read of it."""

    total = largest = 0

    def read(self, size=-1):
        data = super().read(size)
        self.total += len(data)
        self.largest = max(self.largest, len(data))
        return data


# -- what others wrote -----------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_bytes_come_out_as_pyarrow_wrote_them(compression, dictionary):
    images = photos() * 3  # so that a dictionary is of use
    table = pa.table({"image": images, "label": range(len(images))})
    for version in ("1.0", "2.0"):
        data = written(
            table,
            compression=compression,
            use_dictionary=dictionary,
            row_group_size=10,
            data_page_version=version,
            data_page_size=4000,
            write_batch_size=2,
        )
        assert read(data) == images
        assert [entry.place for entry in listed(data)][9:12] == [(0, 9), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())]
)
def test_all_of_arrows_kinds_of_bytes_are_images(kind):
    column = pa.array(photos()).cast(kind) if pa.types.is_dictionary(kind) else None
    column = column if column is not None else pa.array(photos(), kind)
    assert read(written(pa.table({"image": column}))) == photos()


def test_datasets_and_we_read_the_same(tmp_path):
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "rocket"])}
    )
    rows = [{"bytes": image, "path": f"{index}.jpg"} for index, image in enumerate(photos())]
    rows[4], rows[5] = None, {"bytes": photos()[5], "path": None}
    theirs = datasets.Dataset.from_dict({"image": rows, "label": [0, 1] * 6}, features)
    theirs.to_parquet(tmp_path / "a.parquet", batch_size=5)
    back = datasets.Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path))
    back = back.cast_column("image", datasets.Image(decode=False))

    data = (tmp_path / "a.parquet").read_bytes()
    entries = listed(data)
    assert [entry.name for entry in entries] == [
        row["path"] if row and row["path"] else f"{index:08d}" + ".png" * (row is not None)
        for index, row in enumerate(back["image"])
    ]
    assert [entry.trouble for entry in entries] == [None] * 4 + ["the image is null"] + [None] * 7
    get = FORMAT.contents(io.BytesIO(data))
    for entry, row in zip(entries, back, strict=True):
        if entry.trouble:
            assert row["image"] is None
        else:
            content = get(entry.place)
            assert content.encoded == row["image"]["bytes"]
            assert content.fields["label"].as_py() == row["label"]


def test_images_that_datasets_left_outside_are_trouble(tmp_path):
    import datasets

    (tmp_path / "cat.png").write_bytes(photos()[0])
    theirs = datasets.Dataset.from_dict({"image": [str(tmp_path / "cat.png")]})
    theirs.cast_column("image", datasets.Image()).to_parquet(tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    [entry] = listed(data)
    assert entry.name == str(tmp_path / "cat.png")
    assert entry.trouble.startswith("there is only the path of the image, '/")
    assert read(data) == [entry.trouble]


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"write_statistics": False}])
def test_the_footer_says_to_us_what_it_says_to_pyarrow(options):
    table = pa.table({"image": structs([*photos(), None]), "a.b": [[1.5, None]] * 13})
    data = written(table, row_group_size=5, sorting_columns=[pq.SortingColumn(1)], **options)
    theirs = pq.ParquetFile(io.BytesIO(data)).metadata
    length = int.from_bytes(data[-8:-4], "little")
    ours = row_groups(data[-8 - length : -8])
    assert len(ours) == theirs.num_row_groups == 3
    for number, group in enumerate(ours):
        assert group.rows == theirs.row_group(number).num_rows
        assert len(group.chunks) == theirs.num_columns
        for index, chunk in enumerate(group.chunks):
            known = theirs.row_group(number).column(index)
            start = known.dictionary_page_offset
            assert ".".join(chunk.path) == known.path_in_schema
            assert chunk.size == known.total_uncompressed_size
            assert chunk.dictionary == (0 if start is None else known.data_page_offset - start)
            assert chunk.nulls == (known.statistics.null_count if known.statistics else 0)


# -- columns ---------------------------------------------------------------------------------------

ONE = photos()[:1]


def annotated(table, *columns):
    features = {name: {"_type": "Image"} for name in columns}
    features |= {"boxes": [{"_type": "Value"}], "more": {"feature": {"_type": "Image"}}}
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (pa.table({"scan": ONE, "label": [1]}), "scan"),
        (pa.table({"scan": structs(ONE), "label": [1]}), "scan"),
        (pa.table({"bytes": ONE, "jpg": ONE, "img": ONE, "zoo": ONE}), "img"),
        (pa.table({"bytes": ONE, "png": structs(ONE)}), "png"),
        (annotated(pa.table({"image": ONE, "scan": structs(ONE)}), "scan"), "scan"),
        (annotated(pa.table({"a": ONE, "jpg": ONE, "image": ONE}), "a", "jpg"), "jpg"),
        (pa.table({"image": ONE}).replace_schema_metadata({"huggingface": "{"}), "image"),
        (pa.table({"image": ONE}).replace_schema_metadata({"huggingface": "[1]"}), "image"),
        (pa.table({"a.b": ONE, "a": ["x"]}), "a.b"),
        (pa.table({"image": structs(ONE), "image.path": ["x"], "image.bytes": [1]}), "image"),
    ],
)
def test_the_column_of_images_is_found(table, column):
    get = FORMAT.contents(io.BytesIO(written(table)))
    content = get((0, 0))
    assert content.encoded == ONE[0]
    assert list(content.fields) == [name for name in table.column_names if name != column]


def test_the_column_of_images_can_be_chosen():
    data = written(pa.table({"image": ONE, "mask": [photos()[1]]}))
    kind = parquet_format(image="mask")
    assert read(data, kind) == [photos()[1]]
    assert kind.contents(io.BytesIO(data))((0, 0)).fields["image"].as_py() == ONE[0]


@pytest.mark.parametrize(
    ("table", "image", "reason"),
    [
        (pa.table({"before": ONE, "after": ONE}), None, "choose one of before, after"),
        (pa.table({"label": [1]}), None, "but label: int64"),
        (pa.table({"image": [[1, 2]]}), None, "but image: list<element: int64>"),
        (pa.table({"image": pa.array([b"abc"], pa.binary(3))}), None, "fixed_size_binary"),
        (pa.table({"image": ["a.jpg"]}), None, "but image: string"),
        (pa.table({"image": [{"bytes": b"a", "x": 1}]}), None, "but image: struct<bytes"),
        (pa.table({"image": pa.array([ONE])}), None, "but image: list<element: binary>"),
        (annotated(pa.table({"image": ["a.jpg"], "b": ONE}), "image"), None, "no column of image"),
        (pa.table({"image": ONE}), "scan", "there is no column scan; the columns are image: bin"),
        (pa.table({"image": ONE, "n": [1]}), "n", "but n: int64"),
        (pa.table([ONE, [1], [2]], ["image", "n", "n"]), None, "several columns are called n"),
        (pa.table({}), None, "no column of image files"),
    ],
)
def test_a_column_that_is_no_choice_is_refused(table, image, reason):
    data = written(table)
    kind = parquet_format(image=image)
    with pytest.raises(ShardError, match=reason):
        listed(data, kind)
    with pytest.raises(ShardError, match=reason):
        kind.contents(io.BytesIO(data))


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"image": photos()[:2]}, ["00000000.png", "00000001.png"]),
        ({"image": photos()[1:3]}, ["00000000.jpg", "00000001.jpg"]),
        ({"image": [None, photos()[1]]}, ["00000000", "00000001.jpg"]),
        ({"image": [None, b"no image"]}, ["00000000", "00000001"]),
        ({"image": [{"bytes": photos()[0]}]}, ["00000000.png"]),
        ({"image": [{"bytes": photos()[0], "path": None}] * 2}, ["00000000.png", "00000001.png"]),
        ({"image": photos()[:2], "id": ["b", None]}, ["b.png", "00000001.png"]),
        ({"image": photos()[:2], "id": ["b", "c"], "key": ["k.TIF", "l.2"]}, ["k.TIF", "l.2.png"]),
        ({"image": photos()[:2], "id": [7, 8]}, ["00000000.png", "00000001.png"]),
        (
            {"image": structs(photos()[:3], ["x.webp", None, ""]), "filename": ["a", "b", None]},
            ["x.webp", "b.png", "00000002.png"],
        ),
        ({"image": photos()[:2], "path": ["../../x.png", "/y.png"]}, ["../../x.png", "/y.png"]),
        ({"image": photos()[:2], "key": pa.array(["é", "é"]).dictionary_encode()}, ["é.png"] * 2),
        ({"image": ONE, "key": pa.array([b"\xe9"]).view(pa.string())}, ["\udce9.png"]),
        ({"image": ONE, "key": pa.array(["k"], pa.large_string())}, ["k.png"]),
        ({"image": ONE, "key": pa.array(["k"], pa.string_view())}, ["k.png"]),
    ],
)
def test_names_are_the_best_there_are(columns, found):
    assert names(written(pa.table(columns))) == found


def test_the_column_of_names_can_be_chosen():
    table = pa.table({"image": structs(photos()[:3]), "n": [7, None, 9], "key": ["a", "b", "c"]})
    data = written(table)
    assert names(data) == ["p0.jpg", "p1.jpg", "p2.jpg"]
    assert names(data, parquet_format(name="n")) == ["7.png", "p1.jpg", "9.png"]
    assert names(data, parquet_format(name="key")) == ["a.png", "b.png", "c.png"]
    for wrong in ("image", "nowhere"):
        with pytest.raises(ShardError, match=f"no column {wrong} of names; the columns are image"):
            listed(data, parquet_format(name=wrong))


def test_positions_count_through_row_groups():
    data = written(pa.table({"image": photos()}), row_group_size=5)
    assert names(data) == [f"{index:08d}.png" for index in range(12)]


# -- what passes through ---------------------------------------------------------------------------

WHEN = datetime.datetime(1926, 7, 4, 12, 30, 15, 123456)
COLUMNS = [
    pa.array([1, None, 3], pa.int8()),
    pa.array([2**63, None, 1], pa.uint64()),
    pa.array([1.5, None, float("nan")], pa.float32()),
    pa.array([1, None, 2], pa.float16()),
    pa.array([True, None, False]),
    pa.array([None, None, None]),
    pa.array(["é", None, ""], pa.large_string()),
    pa.array([b"\xff", None, b""]),
    pa.array([b"ab", None, b"cd"], pa.binary(2)),
    pa.array([WHEN, None, WHEN], pa.timestamp("us", "Europe/Berlin")),
    pa.array([1, None, 10**18 + 1], pa.timestamp("ns")),
    pa.array([WHEN.date(), None, WHEN.date()]),
    pa.array([5, None, 6], pa.duration("ns")),
    pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")]),
    pa.array(["a", None, "a"]).dictionary_encode(),
    pa.array([[1, 2], None, []], pa.list_(pa.int16())),
    pa.array([[1, 2], [5, 6], [3, 4]], pa.list_(pa.int16(), 2)),
    pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int32())),
    pa.array([{"x": [{"y": 1}], "z": None}, None, {"x": [], "z": "é"}]),
    pa.array([b"0123456789abcdef", None, b"0123456789abcdef"], pa.binary(16)).cast(pa.uuid()),
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.type)[:30])
def test_a_field_can_be_written_back_with_its_type(column):
    data = written(pa.table({"image": photos()[:3], "extra": column}))
    column = pq.read_table(io.BytesIO(data))["extra"].combine_chunks()
    get = FORMAT.contents(io.BytesIO(data))
    values = [get((0, row)).fields["extra"] for row in range(3)]
    again = pa.concat_arrays([pa.repeat(value, 1) for value in values])
    assert again.type == column.type
    assert again.to_string() == column.to_string()
    twice = pq.read_table(io.BytesIO(written(pa.table({"extra": again}))))["extra"]
    assert twice.combine_chunks().to_string() == column.to_string()


# -- economy ---------------------------------------------------------------------------------------


@functools.cache
def large(**options):
    """16 MB of images in each of two row groups, in pages of 160 kB."""
    rng = np.random.default_rng(3)
    images = [ONE[0] + rng.bytes(16_000) for _ in range(2000)]
    options = {"use_dictionary": ["label"], "write_batch_size": 10, **options}
    table = pa.table({"image": structs(images), "label": range(2000)})
    return written(table, row_group_size=1000, data_page_size=100_000, **options)


def test_planning_reads_no_images():
    file = Spy(large())
    entries = list(FORMAT.entries(file))
    assert len(entries) == 2000
    assert file.total < len(large()) / 50
    assert 16_000 < entries[0].size < 24_000


@pytest.mark.parametrize("missing", [None, {"bytes": None, "path": None}])
def test_planning_reads_images_only_where_some_are_missing(missing):
    rows = pa.table({"image": structs(photos() * 40)}).to_pylist()
    rows[3]["image"] = missing
    data = written(
        pa.Table.from_pylist(rows, pa.schema([("image", HF)])),
        row_group_size=240,
        use_dictionary=False,
    )
    file = Spy(data)
    entries = list(FORMAT.entries(file))
    assert [index for index, entry in enumerate(entries) if entry.trouble] == [3]
    # Paths alone tell of structs that are null, but not of bytes.
    assert (file.total > len(data) / 3) == (missing is not None)


def test_a_row_group_is_never_in_memory_whole():
    file = Spy(large())
    get = FORMAT.contents(file)
    before = pa.total_allocated_bytes()
    most = 0
    for row in range(1000):
        get((0, row))
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 22_000_000  # of 16 MB, and so would be a larger row group
    assert file.largest < 1_000_000


def test_one_long_value_of_a_dictionary_does_not_multiply():
    one = ONE[0] + np.random.default_rng(0).bytes(1_500_000)
    data = written(pa.table({"image": [one] * 60}))
    assert len(data) < 5_000_000
    get = FORMAT.contents(io.BytesIO(data))
    before = pa.total_allocated_bytes()
    assert get((0, 0)).encoded == one
    assert pa.total_allocated_bytes() - before < 20_000_000


def test_rows_can_be_asked_for_in_any_order():
    data = written(pa.table({"image": photos()}), row_group_size=5)
    get = FORMAT.contents(io.BytesIO(data))
    order = [11, 0, 4, 4, 2, 7, 5, 9, 10, 1]
    assert [get(divmod(row, 5)).encoded for row in order] == [photos()[row] for row in order]
    for place in ((0, 5), (3, 0), (-1, 0), (0, -1)):
        with pytest.raises(ShardError, match="there is no row"):
            get(place)


def test_a_file_compressed_as_a_whole_is_unpacked():
    data = written(pa.table({"image": structs(photos())}), row_group_size=5)
    packed = gzip.compress(data)
    with gzip.open(io.BytesIO(packed)) as file:
        entries = list(FORMAT.entries(file))
    with gzip.open(io.BytesIO(packed)) as file:
        get = FORMAT.contents(file)
        assert [get(entry.place).encoded for entry in entries] == photos()
    for cut in (10, 100, len(packed) - 4):
        with (
            gzip.open(io.BytesIO(packed[:cut])) as file,
            pytest.raises(ShardError, match="the gzip around the Parquet file is damaged"),
        ):
            list(FORMAT.entries(file))


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (photos()[0], "not a Parquet file: it begins with b'.x89PNG'"),
        (b"", "not a Parquet file"),
        (b"PAR1", "cut short"),
        (b"PAR1PAR1", "cut short"),
        (b"PAR1" + bytes(4) + b"PAR1", "the footer of the Parquet file is damaged"),
        (b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1", "cut short"),
    ],
)
def test_what_is_no_parquet_is_refused(data, reason):
    with pytest.raises(ShardError, match=reason):
        listed(data)
    with pytest.raises(ShardError, match=reason):
        FORMAT.contents(io.BytesIO(data))


def test_a_file_cut_anywhere_is_refused():
    data = written(pa.table({"image": structs(photos())}), row_group_size=5)
    for end in [*range(0, len(data), 997), *range(len(data) - 12, len(data))]:
        with pytest.raises(ShardError, match=r"not a Parquet|cut short"):
            listed(data[:end])


def test_nothing_is_listed_of_a_file_without_rows():
    assert listed(written(pa.table({"image": pa.array([], pa.binary())}))) == []
    assert listed(written(pa.table({"image": pa.array([], HF)}))) == []


@pytest.mark.parametrize("checksums", [True, False])
def test_damage_to_a_page_spares_what_stands_before_it_and_other_row_groups(checksums):
    data = bytearray(large(compression="zstd", write_page_checksum=checksums))
    chunk = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(0)
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    data[middle : middle + 40] = bytes(40)
    entries = listed(data)
    assert len(entries) == 2000
    assert not any(entry.trouble for entry in entries)  # nobody has looked at the images
    images = pq.read_table(io.BytesIO(large()))["image"].combine_chunks().field("bytes").to_pylist()
    found = read(data)
    lost = [row for row in range(2000) if isinstance(found[row], str)]
    assert lost == list(range(lost[0], 1000))
    assert 480 <= lost[0] <= 520
    assert lost[0] % 10 == 0  # up to the very page
    assert set(found[lost[0] : 1000]) == {found[lost[0]]}
    assert found[lost[0]].startswith(f"row group 0 is damaged from its row {lost[0]} on: ")
    assert [image for image in found if not isinstance(image, str)] == [
        image for row, image in enumerate(images) if row not in set(lost)
    ]


def test_a_bit_that_fell_is_noticed_where_pages_have_checksums():
    table = pa.table({"image": structs(photos())})
    data = bytearray(written(table, write_page_checksum=True, compression="none"))
    data[data.index(photos()[6]) + 50] ^= 4
    assert "CRC checksum verification failed" in read(data)[6]


def test_damage_to_the_names_is_trouble_for_those_who_lose_them():
    data = bytearray(large(compression="zstd"))
    chunk = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(1)
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    data[middle : middle + 400] = bytes(400)
    entries = listed(data)
    assert [entry.place for entry in entries] == [divmod(row, 1000) for row in range(2000)]
    troubled = [index for index, entry in enumerate(entries) if entry.trouble]
    assert troubled
    assert troubled == list(range(troubled[0], 1000))
    assert entries[troubled[0]].trouble.startswith(
        f"row group 0 is damaged from its row {troubled[0]} on: "
    )
    assert entries[1000].name == "p1000.jpg"


ROWS = 777  # seldom enough in a footer to be found and changed


def claiming(table, rows):
    """A file whose footer lies about its number of rows (thrift: field type i64, then zigzag)."""
    data = written(table)
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8].replace(b"\x16" + varint(ROWS), b"\x16" + varint(rows))
    assert footer != data[-8 - length : -8]
    return data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def varint(number):
    number, out = 2 * number, []
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("claim", [800, 10**12, 2**62])
def test_rows_that_are_promised_but_not_there_are_trouble(named, claim):
    images = (photos() * 65)[:ROWS]
    data = claiming(pa.table({"image": structs(images) if named else images}), claim)
    if claim == 800 and not named:
        found = read(data)  # nothing but reading the images tells
        assert found[:ROWS] == images
        assert all(isinstance(reason, str) for reason in found[ROWS:])
        assert len(found) == 800
        return
    entries = listed(data)
    assert len(entries) == (800 if claim == 800 else ROWS + 1)
    assert [entry.trouble for entry in entries[:ROWS]] == [None] * ROWS
    assert all(entry.trouble for entry in entries[ROWS:])
    assert read(data)[:ROWS] == images


def test_more_images_than_bytes_are_listed_where_they_are_there():
    table = pa.table({"image": pa.array([None] * 50_000, pa.binary())})
    data = written(table)
    assert len(data) < 50_000
    entries = listed(data)
    assert len(entries) == 50_000
    assert {entry.trouble for entry in entries} == {"the image is null"}


def test_an_image_of_no_bytes_is_said_to_be_one():
    assert read(written(pa.table({"image": [ONE[0], b""]}))) == [*ONE, "the image has 0 bytes"]


class Keys(pe.KmsClient):
    """A safe for the keys of a test."""

    def wrap_key(self, key_bytes, master_key_identifier):
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return base64.b64decode(wrapped_key)


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_encrypted_files_are_said_to_be_encrypted(plaintext_footer):
    table = pa.table({"image": photos(), "label": range(12)})
    settings = pe.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["image"]}, plaintext_footer=plaintext_footer
    )
    factory = pe.CryptoFactory(lambda config: Keys())
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), settings)
    data = written(table, encryption_properties=properties)
    with pytest.raises(ShardError, match="encrypt"):
        read(data)


def test_trouble_of_the_storage_is_not_taken_for_damage():
    class Unplugged(io.BytesIO):
        broken = False

        def read(self, size=-1):
            if self.broken:
                raise OSError(5, "Input/output error")
            return super().read(size)

    file = Unplugged(large())
    get = FORMAT.contents(file)
    get((0, 0))
    file.broken = True
    with pytest.raises(OSError, match="Input/output error"):
        get((1, 0))


@functools.cache
def little(kind):
    tiny = [photographs.saved(photographs.small(height=4, width=4), "PNG")] * 9 + [None]
    table = pa.table(
        {"image": structs(tiny) if kind else tiny, "label": range(10), "id": ["a"] * 10}
    )
    return written(table, row_group_size=5, compression=("snappy", "none")[kind])


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from([0, 1]))
def test_no_damage_leads_to_anything_but_a_shard_error(seed, kind):
    rng = random.Random(seed)
    data = bytearray(little(kind))
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    start = rng.choice([0, footer])
    for _ in range(rng.choice([1, 2, 8])):
        data[rng.randrange(start, len(data))] = rng.randrange(256)
    try:
        entries = listed(data)
        get = FORMAT.contents(io.BytesIO(data))
    except ShardError:
        return
    assert len(entries) < 1 << 20
    for entry in entries:
        outcome(get, entry.place)


def test_text_that_is_none_is_damage_of_its_row_alone():
    table = pa.table({"image": photos(2), "caption": ["a café", "a chat"]})
    data = written(table, compression="none", use_dictionary=False, write_statistics=False)
    assert data.count("é".encode()) == 1
    first, second = read(data.replace("é".encode(), b"\xe9\xe9"))
    assert first.startswith("the column caption is damaged in this row: ")
    assert second == photos()[1]
