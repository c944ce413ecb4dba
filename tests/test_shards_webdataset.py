import gzip
import io
import os
import subprocess
import tarfile
import time
from dataclasses import replace

import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webdataset import tariterators

from tests.photographs import saved, small
from tests.shards import plain
from transforms.shards.shard import ShardError
from transforms.shards.webdataset import FORMAT, split

JPEG = saved(small("astronaut"), "JPEG")
PNG = saved(small("chelsea"), "PNG")
JSON = b'{"caption": "a cat"}'
LONG = "a-folder-with-a-long-name/" * 12 + "photo.jpg"


def tar(*members, form=tarfile.USTAR_FORMAT, **how):
    """A tar as Python writes it; members are (name, bytes) or TarInfo."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, **how) as file:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
            else:
                file.addfile(info(member[0], size=len(member[1])), io.BytesIO(member[1]))
    return out.getvalue()


def info(name, **values):
    made = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(made, key, value)
    return made


def listed(data):
    return list(FORMAT.entries(io.BytesIO(data)))


def sound(data):
    return [entry for entry in listed(data) if not entry.trouble]


def names(data):
    return [entry.name for entry in listed(data)]


def troubles(data):
    return {entry.name: entry.trouble for entry in listed(data) if entry.trouble}


def contents(data):
    get = FORMAT.contents(io.BytesIO(data))
    found = {entry.name: get(entry.place) for entry in sound(data)}
    return {name: replace(content, fields=plain(content.fields)) for name, content in found.items()}


def images(data):
    return {name: content.encoded for name, content in contents(data).items()}


def by_webdataset(data):
    """Key and members of each sample, as the webdataset library reads them."""
    files = tariterators.tar_file_expander([{"url": "", "stream": io.BytesIO(data)}])
    return [
        (sample["__key__"], {name: sample[name] for name in sample if not name.startswith("__")})
        for sample in tariterators.group_by_keys(files)
    ]


def by_us(data):
    found = []
    for name, content in contents(data).items():
        folder, slash, base = name.rpartition("/")
        key, _, extension = base.partition(".")
        found.append((folder + slash + key, {extension: content.encoded, **content.fields}))
    return found


# -- what others wrote -----------------------------------------------------------------------------


def test_samples_of_webdatasets_own_writer(tmp_path):
    path = tmp_path / "shard.tar"
    written = [
        {"__key__": "one", "jpg": JPEG, "json": JSON, "cls": b"3"},
        {"__key__": "folder/two", "png": PNG, "seg.json": JSON},
        {"__key__": "three", "jpg": JPEG},
    ]
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for sample in written:
            writer.write(sample)
    data = path.read_bytes()
    assert by_us(data) == by_webdataset(data)
    assert contents(data)["one.jpg"].fields == {"json": JSON, "cls": b"3"}
    assert contents(data)["folder/two.png"].fields == {"seg.json": JSON}


def test_shards_of_webdatasets_own_writer(tmp_path):
    with webdataset.ShardWriter(str(tmp_path / "%02d.tar"), maxcount=3, verbose=0) as writer:
        for number in range(7):
            pixels = small("coffee", 20 + number)
            writer.write({"__key__": f"{number:03d}", "png": pixels, "json": {"n": number}})
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 3
    for path in paths:
        data = path.read_bytes()
        assert by_us(data) == by_webdataset(data)


def test_a_gzipped_shard_of_webdatasets_own_writer_is_read_forwards(tmp_path):
    path = tmp_path / "shard.tar.gz"
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for number in range(20):
            writer.write({"__key__": f"{number}", "a.png": PNG, "b.jpg": JPEG, "json": JSON})
    unpacked = contents(gzip.decompress(path.read_bytes()))
    assert len(unpacked) == 40
    with _OnlyForwards(path) as file:
        entries = list(FORMAT.entries(file))
    with _OnlyForwards(path) as file:
        get = FORMAT.contents(file)
        found = {entry.name: get(entry.place) for entry in entries}
    assert {name: content.encoded for name, content in found.items()} == {
        name: content.encoded for name, content in unpacked.items()
    }
    assert all(plain(content.fields) == {"json": JSON} for content in found.values())


class _OnlyForwards(gzip.GzipFile):
    """A gzip stream that says where it would have to start from the beginning."""

    def seek(self, offset, whence=0):
        assert offset >= super().seek(0, io.SEEK_CUR)
        return super().seek(offset, whence)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_that_python_writes(form):
    members = {"a/b.jpg": JPEG, "ünï.png": PNG, "x" * 90 + "/c.jpg": PNG}
    if form != tarfile.USTAR_FORMAT:
        members[LONG] = JPEG
    assert images(tar(*members.items(), form=form)) == members


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_every_format_that_gnu_tar_writes(tmp_path, form):
    members = {"a.b/c.jpg": JPEG, "d.png": PNG}
    if form not in ("v7", "ustar"):
        members[LONG] = JPEG
    for name, data in members.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    # Of an incremental backup there are times in what is ustar's prefix.
    more = ["-g", str(tmp_path / "snapshot")] if form in ("oldgnu", "gnu") else []
    command = ["tar", f"--format={form}", *more, "-cf", tmp_path / "out.tar", *sorted(members)]
    subprocess.run(command, cwd=tmp_path, check=True)
    data = (tmp_path / "out.tar").read_bytes()
    assert images(data) == members
    assert not troubles(data)


def test_a_sparse_file_is_trouble_and_what_follows_is_read(tmp_path):
    for name in ("holes.bmp", "many.bmp"):
        with (tmp_path / name).open("wb") as file:
            for number in range(3 if name == "holes.bmp" else 60):
                file.seek(number * 200_000)
                file.write(b"BM")
    (tmp_path / "z.jpg").write_bytes(JPEG)
    for form in ("gnu", "posix"):
        command = ["tar", f"--format={form}", "-S", "-cf", "out.tar"]
        subprocess.run([*command, "holes.bmp", "many.bmp", "z.jpg"], cwd=tmp_path, check=True)
        data = (tmp_path / "out.tar").read_bytes()
        assert images(data) == {"z.jpg": JPEG}
        assert list(troubles(data)) == ["holes.bmp", "many.bmp"]
        assert all("sparse" in trouble for trouble in troubles(data).values())


def test_sparse_versions_of_pax(tmp_path):
    with (tmp_path / "holes.bmp").open("wb") as file:
        file.write(b"BM")
        file.truncate(1 << 20)
    (tmp_path / "z.jpg").write_bytes(JPEG)
    for version in ("0.0", "0.1", "1.0"):
        command = ["tar", "--format=posix", f"--sparse-version={version}", "-S", "-cf", "out.tar"]
        subprocess.run([*command, "holes.bmp", "z.jpg"], cwd=tmp_path, check=True)
        data = (tmp_path / "out.tar").read_bytes()
        assert list(troubles(data)) == ["holes.bmp"]
        assert images(data) == {"z.jpg": JPEG}


# -- samples ---------------------------------------------------------------------------------------


def test_dots_in_folders_are_no_extensions():
    data = tar(("v1.0/a.jpg", JPEG), ("v1.0/a.json", JSON), ("v1.0/b.json", b"{}"))
    assert contents(data)["v1.0/a.jpg"].fields == {"json": JSON}


@given(st.text("ab./ü-", min_size=1, max_size=12))
def test_keys_are_those_of_the_webdataset_library(name):
    key, extension = tariterators.base_plus_ext(name)
    if key is None or name.rpartition("/")[2].startswith("."):  # theirs has samples of hidden files
        assert split(name) == ("", "")
    else:
        assert split(name) == (key, extension)


def test_members_that_are_not_consecutive_are_two_samples(tmp_path):
    data = tar(("a.jpg", JPEG), ("b.jpg", PNG), ("a.json", JSON), ("b.json", JSON))
    assert [content.fields for content in contents(data).values()] == [{}, {}]


def test_an_extension_that_comes_again_begins_a_sample():
    data = tar(("a.jpg", JPEG), ("a.json", b"1"), ("a.jpg", PNG), ("a.json", b"2"))
    get = FORMAT.contents(io.BytesIO(data))
    assert [
        (entry.name, get(entry.place).encoded, plain(get(entry.place).fields))
        for entry in listed(data)
    ] == [("a.jpg", JPEG, {"json": b"1"}), ("a.jpg", PNG, {"json": b"2"})]


def test_each_image_of_a_sample_is_an_entry_with_all_that_is_no_image():
    data = tar(("a.JPG", JPEG), ("a.json", JSON), ("a.depth.png", PNG), ("a.txt", b"cat"))
    fields = {"json": JSON, "txt": b"cat"}
    assert [(c.encoded, c.fields) for c in contents(data).values()] == [
        (JPEG, fields),
        (PNG, fields),
    ]


def test_a_companion_of_one_image_stays_with_it():
    pages = [
        (f"book.{number}.{kind}", data)
        for number in "12"
        for kind, data in (("png", PNG), ("xml", number.encode()))
    ]
    found = contents(tar(*pages, ("book.txt", b"all")))
    assert found["book.1.png"].fields == {"1.xml": b"1", "txt": b"all"}
    assert found["book.2.png"].fields == {"2.xml": b"2", "txt": b"all"}


def test_a_tar_of_plain_images_is_samples_of_one():
    data = tar(("a.jpg", JPEG), ("README", b"read"), ("b/a.png", PNG), ("notes.txt", b"..."))
    assert images(data) == {"a.jpg": JPEG, "b/a.png": PNG}


def test_a_thousand_frames_of_one_key_are_listed():
    data = tar(*((f"film.{number:04d}.jpg", JPEG) for number in range(2500)))
    assert len(sound(data)) == 2500
    assert len(set(names(data))) == 2500


def test_what_is_no_image():
    data = tar(
        info("photos.jpg", type=tarfile.DIRTYPE),
        info("device.jpg", type=tarfile.CHRTYPE),
        info("pipe.png", type=tarfile.FIFOTYPE),
        ("._a.jpg", b"note"),
        ("folder/.hidden.png", PNG),
        ("a.jpg", JPEG),
        ("a.txt", b""),
        ("jpg", b""),
    )
    assert names(data) == ["a.jpg"]
    assert contents(data)["a.jpg"].fields == {"txt": b""}


def test_links_to_images_and_in_samples_are_trouble():
    data = tar(
        ("a.jpg", JPEG),
        info("a.json", type=tarfile.SYMTYPE, linkname="b.json"),
        info("b.jpg", type=tarfile.LNKTYPE, linkname="a.jpg"),
        info("lib.so", type=tarfile.SYMTYPE, linkname="lib.so.1"),
        ("z.jpg", PNG),
    )
    assert images(data) == {"a.jpg": JPEG, "z.jpg": PNG}
    assert list(troubles(data)) == ["a.json", "b.jpg"]
    assert "symbolic link" in troubles(data)["a.json"]
    assert "hard link" in troubles(data)["b.jpg"]


def test_types_nobody_knows_are_trouble():
    data = tar(("a.jpg", JPEG), ("b.jpg", JPEG), ("c.jpg", JPEG))
    odd = _header_changed(data, b"b.jpg", 156, b"Q")
    assert "type b'Q'" in troubles(odd)["b.jpg"]
    assert list(images(odd)) == ["a.jpg", "c.jpg"]


def test_names_that_are_no_utf8_come_back():
    data = tar(("caf\udce9.jpg", JPEG), form=tarfile.GNU_FORMAT, errors="surrogateescape")
    assert names(data) == ["caf\udce9.jpg"]


def test_places_are_small_numbers_and_text():
    (entry,) = listed(tar(("a.jpg", JPEG), ("a.json", JSON)))
    assert entry.place == (512, len(JPEG), "json", entry.place[3], len(JSON))
    assert entry.size == len(JPEG)


# -- damage ----------------------------------------------------------------------------------------


def _start(data, name):
    return data.index(name + b"\0") // 512 * 512


def _header_changed(data, name, at, new):
    """The tar with something else in a header, and the checksum put right."""
    start = _start(data, name)
    block = bytearray(data[start : start + 512])
    block[at : at + len(new)] = new
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return data[:start] + bytes(block) + data[start + 512 :]


THREE = tar(("a.jpg", JPEG), ("a.json", JSON), ("b.png", PNG), ("c.jpg", JPEG))
B, C = _start(THREE, b"b.png"), _start(THREE, b"c.jpg")


def test_a_bad_header_is_one_trouble_and_reading_goes_on_after_it():
    bad = bytearray(THREE)
    bad[B + 3] ^= 4
    assert images(bytes(bad)) == {"a.jpg": JPEG, "c.jpg": JPEG}
    ((name, trouble),) = troubles(bytes(bad)).items()
    assert name == f"damage-at-byte-{B}"
    assert f"between byte {B} and byte {C}" in trouble


def test_a_header_that_was_wiped_out_is_trouble():
    wiped = THREE[:B] + bytes(512) + THREE[B + 512 :]
    assert list(images(wiped)) == ["a.jpg", "c.jpg"]
    assert list(troubles(wiped)) == [f"damage-at-byte-{B + 512}"]


def test_damage_within_a_sample_does_not_cut_it_in_two():
    data = tar(("a.jpg", JPEG), ("a.json", JSON), ("a.txt", b"cat"))
    start = _start(data, b"a.json")
    bad = data[:start] + b"\xff" * 512 + data[start + 512 :]
    assert contents(bad)["a.jpg"].fields == {"txt": b"cat"}
    assert len(troubles(bad)) == 1


def test_a_bad_first_header_does_not_make_it_another_file():
    bad = b"\xff" + THREE[1:]
    assert list(images(bad)) == ["b.png", "c.jpg"]
    assert FORMAT.looks_right(bad[:512])


def test_tars_joined_end_to_end_are_read_to_their_end():
    data = tar(("a.jpg", JPEG)) + tar(("b.png", PNG))
    assert images(data) == {"a.jpg": JPEG, "b.png": PNG}
    assert not troubles(data)


def test_blocks_at_the_end_may_be_missing():
    end = THREE.rstrip(b"\0")
    whole = len(end) + -len(end) % 512
    for cut in (whole, whole + 512, whole + 700, len(THREE) - 3):
        assert len(images(THREE[:cut])) == 3
        assert not troubles(THREE[:cut])


def test_a_cut_in_padding_loses_nothing():
    data_end = C + 512 + len(JPEG)
    assert len(images(THREE[:data_end])) == 3
    assert not troubles(THREE[:data_end])


def test_a_cut_in_data_is_trouble():
    cut = THREE[: C + 512 + len(JPEG) - 1]
    assert list(images(cut)) == ["a.jpg", "b.png"]
    assert "cut" in troubles(cut)["c.jpg"]


def test_a_cut_in_data_right_after_its_header_is_trouble():
    assert "cut" in troubles(THREE[: C + 512])["c.jpg"]


def test_a_cut_in_a_header_is_trouble():
    cut = THREE[: C + 300]
    assert list(images(cut)) == ["a.jpg", "b.png"]
    assert list(troubles(cut)) == [f"damage-at-byte-{C}"]


def test_a_cut_in_what_is_no_image_is_trouble_as_well():
    cut = tar(("a.json", JSON * 99), ("a.jpg", JPEG))[:700]
    assert list(troubles(cut)) == ["a.json"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_cut_anywhere_in_long_names_is_trouble(form):
    data = tar(("a.jpg", JPEG), (LONG, PNG), form=form)
    start = 512 + len(JPEG) + -len(JPEG) % 512
    for cut in (1, 511, 512, 600, 1023, 1024, 1500, 1536):
        assert list(images(data[: start + cut])) == ["a.jpg"]
        assert len(troubles(data[: start + cut])) == 1, cut
    assert not troubles(data[:start])


def test_every_cut_leaves_the_images_before_it():
    ends = [512 + len(JPEG), B + 512 + len(PNG), C + 512 + len(JPEG)]
    for cut in range(512, len(THREE.rstrip(b"\0")), 311):
        found = images(THREE[:cut])
        assert found.items() <= images(THREE).items()
        assert len(found) == sum(end <= cut for end in ends)


def test_a_gzip_that_ends_early_is_trouble():
    data = tar(*((f"{number}.png", os.urandom(3000)) for number in range(50)))
    packed = gzip.compress(data)[:70_000]
    entries = list(FORMAT.entries(gzip.GzipFile(fileobj=io.BytesIO(packed))))
    good = [entry for entry in entries if not entry.trouble]
    assert len(good) > 15
    (bad,) = (entry for entry in entries if entry.trouble)
    assert "compressed stream is damaged" in bad.trouble
    get = FORMAT.contents(gzip.GzipFile(fileobj=io.BytesIO(packed)))
    assert [get(entry.place).encoded for entry in good] == [
        data[entry.place[0] :][:3000] for entry in good
    ]


def test_a_gzip_with_a_wrong_checksum_is_trouble():
    packed = bytearray(gzip.compress(THREE))
    packed[-6] ^= 1
    entries = list(FORMAT.entries(gzip.GzipFile(fileobj=io.BytesIO(packed))))
    assert [entry.name for entry in entries if not entry.trouble] == ["a.jpg", "b.png", "c.jpg"]
    assert ["CRC" in entry.trouble for entry in entries if entry.trouble] == [True]


def test_lying_sizes_take_no_memory():
    for size in (b"77777777777\0", b"\x80" + b"\xff" * 11, b"\x80" + bytes(6) + b"\xff" * 5):
        bad = _header_changed(THREE, b"b.png", 124, size)
        assert list(images(bad)) == ["a.jpg"]
        assert list(troubles(bad)) == ["b.png"]
    negative = _header_changed(THREE, b"b.png", 124, b"\xff" * 12)
    assert list(images(negative)) == ["a.jpg", "c.jpg"]
    get = FORMAT.contents(io.BytesIO(THREE))
    with pytest.raises(ShardError, match="ends at byte"):
        get((512, 1 << 45))
    assert get((512, len(JPEG))).encoded == JPEG


def test_an_extended_header_that_claims_too_much_is_passed_over():
    long = tar((LONG, PNG), ("b.jpg", JPEG), form=tarfile.GNU_FORMAT)
    out = bytearray(long[:512])
    huge = (8 << 20) + 512
    out[124:136] = b"%011o\0" % huge
    out[148:156] = b" " * 8
    out[148:156] = b"%06o\0 " % sum(out)
    data = bytes(out) + bytes(huge) + long[1024:]
    assert list(images(data)) == ["b.jpg"]
    assert "extended header" in next(iter(troubles(data).values()))


@pytest.mark.parametrize(
    "record", [b"329 path:", b"999 path=", b"000 path=", b"      329", b"329path=a"]
)
def test_a_damaged_extended_header_is_trouble(record):
    data = tar((LONG, PNG), ("b.jpg", JPEG), form=tarfile.PAX_FORMAT)
    assert data.count(b"%d path=" % (len(LONG) + 10)) == 1
    at = data.index(b"%d path=" % (len(LONG) + 10))
    bad = data[:at] + record + data[at + len(record) :]
    assert images(bad) == {"b.jpg": JPEG}
    assert ["extended header" in trouble for trouble in troubles(bad).values()] == [True]


def test_sizes_in_extended_headers_count():
    big = info("a.jpg", size=len(JPEG), pax_headers={"size": str(len(JPEG))})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(big, io.BytesIO(JPEG))
        file.addfile(info("b.png", size=len(PNG)), io.BytesIO(PNG))
    data = _header_changed(out.getvalue(), b"a.jpg", 124, b"00000000000\0")
    assert images(data) == {"a.jpg": JPEG, "b.png": PNG}


def test_checksums_of_signed_bytes_are_right():
    start = _start(THREE, b"b.png")
    block = bytearray(THREE[start : start + 512])
    block[0:1] = b"\xe9"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % (sum(block) - 256)
    data = THREE[:start] + bytes(block) + THREE[start + 512 :]
    assert names(data) == ["a.jpg", "\udce9.png", "c.jpg"]


def test_an_image_with_too_much_beside_it_is_trouble():
    header = tar(("a.jpg", JPEG))[: 512 + len(JPEG) + -len(JPEG) % 512]
    film = tar(("a.mp4", b""))[:512]
    film = _header_changed(film, b"a.mp4", 124, b"%011o\0" % (3 << 30))
    entries = list(FORMAT.entries(_Holes(header + film, len(header) + 512 + (3 << 30))))
    assert [entry.name for entry in entries] == ["a.jpg"]
    assert "more than are read" in entries[0].trouble


class _Holes(io.BytesIO):
    """A file with a few bytes at its beginning, and zeros behind them."""

    def __init__(self, data, size):
        super().__init__(data)
        self.size = size

    def read(self, size=-1):
        left = self.size - self.tell()
        found = super().read(size)
        more = bytes(max(0, min(size, left) - len(found)))
        self.seek(len(more), 1)
        return found + more


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"x" * 5000, JPEG, PNG[:400], bytes(100)])
def test_what_is_no_tar_is_refused(data):
    with pytest.raises(ShardError, match="no tar"):
        listed(data)
    assert not FORMAT.looks_right(data[:512])


def test_a_stream_that_is_no_gzip_is_refused():
    with pytest.raises(ShardError, match="compressed stream"):
        list(FORMAT.entries(gzip.GzipFile(fileobj=io.BytesIO(THREE))))


def test_an_empty_tar_has_no_images():
    assert listed(tar()) == []
    assert FORMAT.looks_right(tar()[:512])


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_damage_raises_anything_but_shard_errors(data):
    base = data.draw(st.sampled_from([THREE, PAX, GNU]))
    changed = bytearray(base[: data.draw(st.integers(0, len(base)))])
    for _ in range(data.draw(st.integers(0, 6))):
        if changed:
            at = data.draw(st.integers(0, len(changed) - 1))
            if data.draw(st.booleans()):
                at = at // 512 * 512 + data.draw(st.sampled_from([0, 124, 130, 148, 156, 257, 345]))
            at = min(at, len(changed) - 1)
            changed[at] = data.draw(st.integers(0, 255))
    try:
        entries = listed(bytes(changed))
    except ShardError:
        return
    get = FORMAT.contents(io.BytesIO(changed))
    for entry in entries:
        if not entry.trouble:
            assert len(get(entry.place).encoded) == entry.size


PAX = tar(("a.jpg", JPEG), (LONG, PNG), ("é.jpg", JPEG), form=tarfile.PAX_FORMAT)
GNU = tar(("a.jpg", JPEG), (LONG, PNG), ("é.jpg", JPEG), form=tarfile.GNU_FORMAT)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 255))
def test_no_damage_of_a_gzip_raises_anything_but_shard_errors(at, value):
    packed = bytearray(gzip.compress(PAX, mtime=0))
    packed[at % len(packed)] = value
    try:
        entries = list(FORMAT.entries(gzip.GzipFile(fileobj=io.BytesIO(packed))))
    except ShardError:
        return
    get = FORMAT.contents(gzip.GzipFile(fileobj=io.BytesIO(packed)))
    for entry in entries:
        if not entry.trouble:
            get(entry.place)


# -- effort ----------------------------------------------------------------------------------------


def test_headers_are_read_and_images_are_not(tmp_path):
    path = tmp_path / "holes.tar"
    count, size = 2000, 1 << 20
    with path.open("wb") as file:
        for number in range(count):
            file.seek(number * (size + 512))
            file.write(info(f"{number:05d}.jpg", size=size).tobuf())
        file.truncate(count * (size + 512) + 1024)
    with path.open("rb", buffering=0) as raw:
        counting = _Counting(raw)
        start = time.perf_counter()
        assert sum(entry.trouble is None for entry in FORMAT.entries(counting)) == count
        assert time.perf_counter() - start < 2
    assert counting.bytes <= count * 1024 + 2048
    assert counting.backwards == 0


class _Counting(io.RawIOBase):
    def __init__(self, file):
        self.file, self.bytes, self.backwards = file, 0, 0

    def seek(self, offset, whence=0):
        before = self.file.tell()
        after = self.file.seek(offset, whence)
        self.backwards += after < before
        return after

    def read(self, size=-1):
        data = self.file.read(size)
        self.bytes += len(data)
        return data
