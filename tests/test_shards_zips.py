import contextlib
import gzip
import io
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.photographs import saved, small
from transforms.shards.shard import ShardError
from transforms.shards.zips import FORMAT

JPEG = saved(small("astronaut"), "JPEG")
PNG = saved(small("chelsea"), "PNG")
BMP = saved(small("coffee"), "BMP")
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def zipped(*members, method=zipfile.ZIP_DEFLATED, comment=b"", **how):
    """A zip as Python writes it; members are (name or ZipInfo, bytes)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, **how) as file:
        file.comment = comment
        for name, data in members:
            file.writestr(name, data)
    return out.getvalue()


def listed(data):
    return list(FORMAT.entries(io.BytesIO(data)))


def troubles(data):
    return {entry.name: entry.trouble for entry in listed(data) if entry.trouble}


def images(data):
    get = FORMAT.contents(io.BytesIO(data))
    return {entry.name: get(entry.place).encoded for entry in listed(data) if not entry.trouble}


def refusal(data, name):
    """Why one image cannot be read; the others must be."""
    get = FORMAT.contents(io.BytesIO(data))
    reasons = {}
    for entry in listed(data):
        assert entry.trouble is None, entry.trouble
        try:
            assert len(get(entry.place).encoded) == entry.size
        except ShardError as error:
            reasons[entry.name] = str(error)
    assert list(reasons) == [name]
    return reasons[name]


def changed(data, at, new):
    assert 0 <= at <= len(data) - len(new)
    return data[:at] + new + data[at + len(new) :]


def central(data, name):
    """Where the record of a member is in the central directory."""
    return data.rindex(name) - 46


def local(data, name):
    return data.index(name) - 30


# -- what others wrote -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_that_python_writes(method):
    members = {"a.bmp": BMP, "folder/b.v1/c.JPG": JPEG, "z.png": PNG}
    data = zipped(*members.items(), method=method)
    assert images(data) == members
    assert not troubles(data)
    assert FORMAT.looks_right(data[:512])


# Written by Info-ZIP's command: tests/data/info-zip/README.md says how.
INFO_ZIP = Path(__file__).parent / "data" / "info-zip"
ITS_BMP = b"BM" + bytes(range(200)) * 3
ITS_JPEG = b"\xff\xd8\xff" + b"heliograph " * 20


@pytest.mark.parametrize("method", ["store", "deflate", "bzip2"])
def test_what_the_zip_command_writes(method):
    data = (INFO_ZIP / f"{method}.zip").read_bytes()
    assert images(data) == {"a.bmp": ITS_BMP, "in/a folder/ü.jpg": ITS_JPEG}


@pytest.mark.parametrize(("name", "version"), [("pipe", 20), ("pipe-zip64", 45)])
def test_a_zip_written_to_a_pipe(name, version):
    """Its local headers have no sizes; with -fz it has zip64 sizes, but not their end record."""
    data = (INFO_ZIP / f"{name}.zip").read_bytes()
    assert data[4] == version
    assert images(data) == {"a.bmp": ITS_BMP}


def test_an_encrypted_zip_of_the_zip_command():
    data = (INFO_ZIP / "encrypted.zip").read_bytes()
    assert troubles(data) == {"a.bmp": "it is encrypted"}
    assert images(data) == {"in/a folder/ü.jpg": ITS_JPEG}


def test_zip64_in_every_place():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file, file.open("a.jpg", "w", force_zip64=True) as member:
        member.write(JPEG)
    assert images(out.getvalue()) == {"a.jpg": JPEG}
    data = as_zip64(zipped(("a.jpg", JPEG), ("b.png", PNG)))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.read("b.png") == PNG
    assert images(data) == {"a.jpg": JPEG, "b.png": PNG}
    assert images(b"MZ program" + data) == {"a.jpg": JPEG, "b.png": PNG}


def as_zip64(data, count=None):
    """The zip with what is too large for 32 bits kept the other way, large or not."""
    number, _, start, _ = struct.unpack("<H2LH", data[-12:])
    directory = b""
    at = start
    while at < len(data) - 22:
        name, extra, comment = struct.unpack_from("<3H", data, at + 28)
        packed, size, offset = (struct.unpack_from("<L", data, at + n)[0] for n in (20, 24, 42))
        record = bytearray(data[at : at + 46 + name])
        more = struct.pack("<HH3Q", 1, 24, size, packed, offset)
        record[20:28] = b"\xff" * 8
        record[42:46] = b"\xff" * 4
        record[30:34] = struct.pack("<HH", len(more), 0)
        directory += bytes(record) + more
        at += 46 + name + extra + comment
    count = number if count is None else count
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), start
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + len(directory), 1)
    end = b"PK\5\6" + bytes(4) + b"\xff" * 12 + bytes(2)
    return data[:start] + directory + end64 + locator + end


def test_more_members_than_sixteen_bits_count():
    data = zipped(*((f"{n}.png" if n % 1000 == 0 else f"{n}.txt", b"x") for n in range(65_600)))
    assert len(listed(data)) == 66
    assert not troubles(data)


# -- which members ---------------------------------------------------------------------------------


def test_what_is_no_image():
    data = zipped(
        ("folder/", b""),
        ("photos.jpg/", b""),
        ("a.jpg", JPEG),
        ("ComicInfo.xml", b"<x/>"),
        ("jpg", b""),
        ("folder/._a.jpg", b"note"),
        ("__MACOSX/a.jpg", b"note"),
    )
    assert [entry.name for entry in listed(data)] == ["a.jpg"]


def test_symbolic_links_are_trouble():
    link = zipfile.ZipInfo("link.jpg")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    assert troubles(zipped((link, b"a.jpg"), ("a.jpg", JPEG))) == {
        "link.jpg": "it is a symbolic link"
    }


def test_names_in_unicode_and_code_page_437():
    assert list(images(zipped(("ünï/日本.jpg", JPEG)))) == ["ünï/日本.jpg"]
    data = zipped(("caf_.jpg", JPEG)).replace(b"caf_", b"caf\x82")
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert list(images(data)) == file.namelist() == ["café.jpg"]


def test_unicode_without_the_flag_as_a_macintosh_writes_it():
    data = zipped(("caf__.jpg", JPEG)).replace(b"caf__", "café".encode())
    assert list(images(data)) == ["café.jpg"]


def test_the_unicode_path_of_info_zip_holds_while_the_name_is_unchanged():
    raw, name = b"caf_.jpg", "café.jpg".encode()
    for crc, expected in ((zlib.crc32(raw), "café.jpg"), (0, "caf_.jpg")):
        info = zipfile.ZipInfo(raw.decode())
        info.extra = struct.pack("<HHBL", 0x7075, 5 + len(name), 1, crc) + name
        assert [entry.name for entry in listed(zipped((info, JPEG)))] == [expected]


def test_backslashes_of_dos_are_slashes():
    data = zipped(("a_b.jpg", JPEG)).replace(b"a_b", b"a\\b")
    system = central(data, b"a\\b.jpg") + 5
    assert [entry.name for entry in listed(changed(data, system, b"\0"))] == ["a/b.jpg"]
    assert [entry.name for entry in listed(changed(data, system, b"\3"))] == ["a\\b.jpg"]


def test_two_members_of_one_name_are_two_entries():
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zipped(("a.jpg", JPEG), ("a.jpg", PNG))
    get = FORMAT.contents(io.BytesIO(data))
    assert [get(entry.place).encoded for entry in listed(data)] == [JPEG, PNG]


def test_places_are_numbers():
    (entry,) = listed(zipped(("a.bmp", BMP)))
    assert [type(value) for value in entry.place] == [int] * 5
    assert entry.size == len(BMP)


# -- where a zip begins and ends -------------------------------------------------------------------

TWO = zipped(("a.bmp", BMP), ("b.jpg", JPEG))


def test_what_precedes_a_zip_is_passed_over():
    prefix = b"MZ" + b"program" * 1000
    assert images(prefix + TWO) == {"a.bmp": BMP, "b.jpg": JPEG}
    out = io.BytesIO(prefix)
    with zipfile.ZipFile(out, "a") as file:  # gives offsets that count the prefix in
        file.writestr("a.bmp", BMP)
    assert images(out.getvalue()) == {"a.bmp": BMP}
    assert FORMAT.looks_right(prefix[:512])


def test_comments_may_hold_anything():
    for comment in (b"x" * 65535, b"PK\5\6" * 100, b"PK\5\6" + bytes(18) + b"no"):
        data = zipped(("a.jpg", JPEG), comment=comment)
        assert images(data) == {"a.jpg": JPEG}


def test_what_follows_a_zip_is_passed_over():
    assert images(TWO + b"\n\n") == {"a.bmp": BMP, "b.jpg": JPEG}


@pytest.mark.parametrize("end", [4, 30, 5000, len(TWO) - 150, len(TWO) - 22, len(TWO) - 1])
def test_a_cut_zip_is_refused_as_cut(end):
    with pytest.raises(ShardError, match="cut"):
        listed(TWO[:end])


@pytest.mark.parametrize("data", [b"", b"PK", JPEG, b"<html>", bytes(100_000)])
def test_what_is_no_zip_is_refused(data):
    with pytest.raises(ShardError, match="no zip"):
        listed(data)
    assert not FORMAT.looks_right(data[:512])


def test_a_part_of_a_split_zip_is_refused():
    with pytest.raises(ShardError, match="part 3"):
        listed(changed(TWO, len(TWO) - 18, b"\2\0"))


def test_a_zip_that_lost_its_beginning_still_gives_its_later_members():
    data = TWO[local(TWO, b"b.jpg") - 100 :]
    assert images(data) == {"b.jpg": JPEG}
    assert "beginning" in troubles(data)["a.bmp"]


def test_an_empty_zip_has_no_images():
    assert listed(zipped()) == []
    assert FORMAT.looks_right(zipped())


# -- damage ----------------------------------------------------------------------------------------


def test_a_damaged_central_directory_is_trouble_and_what_precedes_it_is_read():
    at = central(TWO, b"b.jpg")
    bad = changed(TWO, at, b"XX")
    assert images(bad) == {"a.bmp": BMP}
    assert list(troubles(bad)) == [f"damage-at-byte-{at}"]
    assert "2 members, and 1 can be read" in troubles(bad)[f"damage-at-byte-{at}"]


def test_a_central_directory_that_is_not_there_is_trouble():
    for length, offset in ((100, 1 << 31), (1 << 31, 0), (10, 10)):
        bad = changed(TWO, len(TWO) - 10, struct.pack("<LL", length, offset))
        assert len(troubles(bad)) == 1


def test_a_zip64_end_that_is_not_there_is_refused():
    data = as_zip64(TWO)
    with pytest.raises(ShardError, match="zip64"):
        listed(data.replace(b"PK\6\6", b"XXXX"))
    bad = changed(data, data.index(b"PK\6\7") + 8, b"\xff" * 8)
    assert images(bad) == {"a.bmp": BMP, "b.jpg": JPEG}


def test_hostile_counts_take_no_memory():
    assert len(troubles(as_zip64(TWO, count=(1 << 64) - 1))) == 1


def test_a_wrong_checksum():
    at = central(TWO, b"a.bmp") + 16
    assert "CRC-32" in refusal(changed(TWO, at, bytes(4)), "a.bmp")


@pytest.mark.parametrize("method", METHODS)
def test_flipped_bits_in_data(method):
    data = zipped(("a.bmp", BMP), ("b.jpg", JPEG), method=method)
    at = local(data, b"a.bmp") + 200
    assert refusal(changed(data, at, bytes([data[at] ^ 16])), "a.bmp")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", [-1, 1, 1000])
def test_a_promised_size_that_is_not_kept(method, wrong):
    data = zipped(("a.bmp", BMP), ("b.jpg", JPEG), method=method)
    size = struct.pack("<L", len(BMP) + wrong)
    reason = refusal(changed(data, central(data, b"a.bmp") + 24, size), "a.bmp")
    assert "promised" in reason


def test_a_wrong_local_header():
    assert "no member at byte 0" in refusal(changed(TWO, 0, b"XX"), "a.bmp")
    names = struct.pack("<HH", 65535, 65535)
    assert refusal(changed(TWO, 26, names), "a.bmp")


def test_members_that_do_not_fit():
    at = central(TWO, b"a.bmp")
    for packed in (len(TWO), (1 << 32) - 2):
        bad = changed(TWO, at + 20, struct.pack("<L", packed))
        assert "does not fit" in troubles(bad)["a.bmp"]
        assert images(bad) == {"b.jpg": JPEG}
    bad = changed(TWO, at + 42, struct.pack("<L", 1 << 31))
    assert list(images(bad)) == ["b.jpg"]


def test_sixty_four_bit_offsets_that_no_file_has():
    data = as_zip64(TWO)
    at = central(data, b"b.jpg") + 46 + 5 + 4 + 16
    bad = changed(data, at, b"\xff" * 8)
    assert "does not fit" in troubles(bad)["b.jpg"]
    assert images(bad) == {"a.bmp": BMP}


def test_a_directory_that_claims_to_be_beyond_all_files():
    data = as_zip64(TWO)
    bad = changed(data, data.index(b"PK\6\6") + 48, b"\xff" * 8)
    assert images(bad) == {}
    assert all("beginning" in trouble for trouble in troubles(bad).values())


def test_zip64_sizes_that_are_missing():
    data = as_zip64(TWO)
    bad = changed(data, central(data, b"b.jpg") + 46 + 5, b"\x99\x99")
    assert "zip64" in troubles(bad)["b.jpg"]


def test_two_records_of_the_same_bytes():
    first, second = central(TWO, b"a.bmp"), central(TWO, b"b.jpg")
    record = changed(TWO[first:second], 46, b"c.bmp")
    bad = TWO[:second] + record + TWO[second:-22]
    bad += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, len(bad) - first, first, 0)
    assert images(bad) == {"a.bmp": BMP, "b.jpg": JPEG}
    assert "another member's" in troubles(bad)["c.bmp"]


@pytest.mark.parametrize(
    ("method", "name"), [(9, "Deflate64"), (93, "Zstandard"), (6, "Implode"), (77, "method 77")]
)
def test_methods_that_python_lacks_are_trouble(method, name):
    bad = changed(TWO, central(TWO, b"a.bmp") + 10, struct.pack("<H", method))
    assert name in troubles(bad)["a.bmp"]
    assert images(bad) == {"b.jpg": JPEG}


@pytest.mark.parametrize("bit", [0, 6, 13])
def test_encryption_of_all_kinds_is_trouble(bit):
    bad = changed(TWO, central(TWO, b"a.bmp") + 8, struct.pack("<H", 1 << bit))
    assert troubles(bad) == {"a.bmp": "it is encrypted"}


# -- bombs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS[1:])
def test_nothing_is_decompressed_beyond_the_promise(method):
    data = zipped(("a.bmp", bytes(50 << 20)), method=method)
    small_promise = changed(data, central(data, b"a.bmp") + 24, struct.pack("<L", 1000))
    tracemalloc.start()
    try:
        assert "more than the 1,000" in refusal(small_promise, "a.bmp")
        assert tracemalloc.get_traced_memory()[1] < 12 << 20  # LZMA's dictionary is 8 MiB
    finally:
        tracemalloc.stop()


def test_promises_of_more_than_two_gigabytes_are_trouble():
    bad = changed(TWO, central(TWO, b"a.bmp") + 24, struct.pack("<L", (2 << 30) + 1))
    assert "promises" in troubles(bad)["a.bmp"]


def test_a_promise_alone_takes_no_memory():
    bad = changed(TWO, central(TWO, b"a.bmp") + 24, struct.pack("<L", 2 << 30))
    tracemalloc.start()
    try:
        assert "promised" in refusal(bad, "a.bmp")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_dictionary_of_lzma_takes_no_memory_that_it_does_not_need():
    data = zipped(("a.bmp", BMP), ("b.jpg", JPEG), method=zipfile.ZIP_LZMA)
    at = local(data, b"a.bmp") + 30 + 5 + 5
    assert "emory" in refusal(changed(data, at, b"\xff" * 4), "a.bmp")


def test_a_bomb_of_members_that_overlap():
    """Fifield, "A better zip bomb" (2019): each member holds the headers of those that follow."""
    count, kernel = 50, zlib.compress(bytes(1 << 20), wbits=-15)
    names = [b"%02d.bmp" % number for number in range(count)]
    header = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, 0, 0, 6, 0)
    files = b"".join(header + name for name in names) + kernel
    directory = b""
    for number, name in enumerate(names):
        packed, offset = len(files) - (number + 1) * 36, number * 36
        numbers = (0, packed, 1 << 20, len(name), 0, 0, 0, 0, 0, offset)
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 0, *numbers) + name
    end = (b"PK\5\6", 0, 0, count, count, len(directory), len(files), 0)
    found = troubles(files + directory + struct.pack("<4s4H2LH", *end))
    assert list(found) == [name.decode() for name in names[:-1]]
    assert all("does not fit" in trouble for trouble in found.values())


# -- whatever comes --------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_damage_raises_anything_but_shard_errors(data):
    base = data.draw(st.sampled_from(BASES))
    bad = bytearray(base)
    for _ in range(data.draw(st.integers(1, 5))):
        bad[-data.draw(st.integers(1, 300) | st.integers(1, len(bad)))] = data.draw(
            st.integers(0, 255)
        )
    bad = bytes(bad[: data.draw(st.integers(0, len(bad)) | st.just(len(bad)))])
    try:
        entries = listed(bad)
    except ShardError:
        return
    get = FORMAT.contents(io.BytesIO(bad))
    for entry in entries:
        if not entry.trouble:
            with contextlib.suppress(ShardError):
                assert len(get(entry.place).encoded) == entry.size


BASES = [zipped(("a.jpg", JPEG), ("é.png", PNG), method=method) for method in METHODS]
BASES += [as_zip64(base) for base in BASES]


def test_a_gzip_of_a_zip_that_ends_early_is_refused():
    packed = gzip.compress(TWO)[:2000]
    with pytest.raises(ShardError, match="compressed stream"):
        list(FORMAT.entries(gzip.GzipFile(fileobj=io.BytesIO(packed))))
    whole = gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(TWO)))
    assert len(list(FORMAT.entries(whole))) == 2


def test_twenty_thousand_members_are_listed_in_bounds():
    data = zipped(*((f"folder/{number}.jpg", b"x") for number in range(20_000)))
    start = time.perf_counter()
    tracemalloc.start()
    try:
        entries = FORMAT.entries(io.BytesIO(data))
        assert sum(entry.trouble is None for entry in entries) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < 10
