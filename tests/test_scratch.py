"""Large arrays and files live on disk, and are no different from those in memory."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from apache_beam.coders.coders import GlobalWindowCoder, WindowedValueCoder
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue
from PIL import Image

from tests.photographs import saved
from transforms import scratch
from transforms.record import Batch, Record, Source
from transforms.scratch import ScratchError
from transforms.stage import BatchCoder


@pytest.fixture(params=["in memory", "mapped"])
def place(request, monkeypatch):
    """Take any size for small, then for large."""
    if request.param == "mapped":
        monkeypatch.setattr(scratch, "LIMIT", 0)
    return request.param


def anonymous() -> int:
    """Memory of this process that no file stands behind, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
def test_arrays_are_plain_arrays_wherever_they_are(place, dtype):
    array = scratch.empty((31, 7, 3), dtype)
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == ((31, 7, 3), dtype)
    assert array.flags.c_contiguous and array.flags.writeable
    array[:] = 1
    array[30, 6] = 0
    assert array.sum() == 31 * 7 * 3 - 3


def test_large_arrays_take_no_private_memory_and_small_ones_no_file():
    before, files = anonymous(), set(os.listdir("/proc/self/fd"))
    small = scratch.empty((scratch.LIMIT,), np.uint8)
    assert set(os.listdir("/proc/self/fd")) == files
    del small
    large = scratch.empty((2 * scratch.LIMIT,), np.uint8)
    large[:] = 7
    assert anonymous() - before < scratch.LIMIT / 4
    assert len(os.listdir("/proc/self/fd")) == len(files) + 1


def test_the_space_of_an_array_is_free_again_when_its_last_view_is_gone(monkeypatch, tmp_path):
    monkeypatch.setattr(scratch, "LIMIT", 0)
    before = set(os.listdir("/proc/self/fd"))
    view = scratch.empty((100, 100), np.uint8)[10:20, ::2]
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    view[:] = 3
    assert view.sum() == 10 * 50 * 3
    del view
    assert set(os.listdir("/proc/self/fd")) == before


def test_files_lie_without_names_in_the_folder_of_temporary_files(monkeypatch, tmp_path):
    monkeypatch.setattr(scratch, "LIMIT", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(os.listdir("/proc/self/fd"))
    array = scratch.empty((10,), np.uint8)
    (mapped,) = set(os.listdir("/proc/self/fd")) - before
    assert Path(f"/proc/self/fd/{mapped}").readlink().is_relative_to(tmp_path)
    assert os.listdir(tmp_path) == []
    del array


def test_a_full_disk_is_an_error_that_says_where_and_what_to_do(monkeypatch):
    def full(file, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(ScratchError, match=r"0\.1 GB .*: No space left on device; set TMPDIR"):
        scratch.empty((2 * scratch.LIMIT,), np.uint8)


def test_an_array_beyond_what_the_disk_holds_is_refused_before_it_is_touched():
    with pytest.raises(ScratchError, match="set TMPDIR"):
        scratch.empty((1 << 45,), np.uint8)
    with pytest.raises(ScratchError, match="GB are free; set TMPDIR"):
        scratch.spool(1 << 45)


def test_a_folder_that_is_not_there_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(ScratchError, match=r"gone: No such file or directory; set TMPDIR"):
        scratch.empty((2 * scratch.LIMIT,), np.uint8)


@pytest.mark.parametrize(
    "turn",
    [
        lambda a: a,
        lambda a: a[:, ::-1],
        lambda a: a[::-1],
        lambda a: a.swapaxes(0, 1),
        lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        lambda a: a[..., :2],
    ],
)
def test_a_turned_image_is_copied_whole(monkeypatch, place, turn):
    monkeypatch.setattr(scratch, "_BLOCK", 100)
    turned = turn(skimage.data.astronaut()[:301, :263])
    copy = scratch.contiguous(turned)
    assert copy.flags.c_contiguous
    assert np.array_equal(copy, turned)


def test_what_is_in_order_is_not_copied(place):
    image = skimage.data.astronaut()
    assert scratch.contiguous(image) is image


def test_a_spool_gives_back_what_was_written_however_it_was_written(place):
    with scratch.spool(1000) as file:
        file.write(b".....graph")
        file.seek(0)
        file.write(b"photo")
        file.seek(0, os.SEEK_END)
        file.write(b"s")
        data = scratch.contents(file)
    assert type(data) is (bytes if place == "in memory" else memoryview)
    assert bytes(data) == b"photographs"
    assert len(data) == 11


def test_nothing_is_written_and_nothing_comes_back(place):
    with scratch.spool(0) as file:
        assert bytes(scratch.contents(file)) == b""


def test_parts_are_gathered(place):
    parts = [b"one", b"", b"two" * 1000]
    assert bytes(scratch.gathered(parts, 3003)) == b"".join(parts)


def test_an_encoded_image_is_read_like_a_file(place):
    image = skimage.data.coffee()[:99, :77]
    data = scratch.gathered([saved(Image.fromarray(image), "PNG")], 1000)
    with scratch.opened(data) as file, Image.open(file) as opened:
        assert np.array_equal(np.asarray(opened), image)


def test_a_view_is_a_file_with_an_end_and_a_beginning():
    with scratch.opened(memoryview(b"photograph")) as file:
        assert file.seek(-5, os.SEEK_END) == 5
        assert file.read(3) == b"gra"
        assert file.seek(1, os.SEEK_CUR) == 9
        assert file.read(100) == b"h"
        assert file.read(100) == b""
        assert file.seek(1000) == 1000
        assert file.read(1) == b""
        assert file.seek(0) == 0
        assert file.read() == b"photograph"
        with pytest.raises(ValueError, match="before the beginning"):
            file.seek(-1)
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()


def test_beam_takes_batches_of_any_size():
    source = Source("a.png", "/archive/a.png", 600, 0.0)
    record = Record(source=source, pixels=np.broadcast_to(np.uint8(0), (1 << 16, 1 << 16, 3)))
    batch = Batch("id", (record,))
    assert batch.nbytes == 3 << 32
    coder = WindowedValueCoder(BatchCoder(), GlobalWindowCoder()).get_impl()
    sampled = WindowedValue(batch, 0, [GlobalWindow()])
    size, _ = coder.get_estimated_size_and_observables(sampled)
    assert size > 1 << 29


def test_batches_with_mapped_arrays_and_masters_can_be_encoded(place):
    pixels = scratch.empty((40, 30, 3), np.uint8)
    pixels[:] = skimage.data.coffee()[:40, :30]
    encoded = scratch.gathered([b"master" * 100], 600)
    source = Source("a.png", "/archive/a.png", 600, 0.0)
    record = Record(source=source, encoded=encoded, pixels=pixels)
    batch = Batch("id", (record,))
    assert batch.nbytes == 600 + 40 * 30 * 3
    coder = BatchCoder()
    assert coder.estimate_size(batch) == batch.nbytes
    (back,) = coder.decode(coder.encode(batch)).records
    assert bytes(back.encoded) == b"master" * 100
    assert np.array_equal(back.image, pixels)
