"""A file of many pages: each is a record, and all come out in one file, in their order."""

import io
import json

import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

from tests.jobs import run
from tests.photographs import gray, noisy, opened, sixteen, small
from transforms.pages import fold, unfold
from transforms.record import Batch, Record, Source


def pages_of(*images):
    out = io.BytesIO()
    with tifffile.TiffWriter(out, byteorder=">") as writer:
        for image in images:
            photometric = "rgb" if image.ndim == 3 else "minisblack"
            writer.write(image, photometric=photometric, metadata=None, compression="lzw")
    return out.getvalue()


def read(path):
    with tifffile.TiffFile(path) as file:
        return [page.asarray() for page in file.pages]


def twenty():
    """Bilevel, gray and colour, of 8 and 16 bits, and no two alike."""
    deep = sixteen(small())
    kinds = [
        lambda i: gray(small())[i:, :, 0] > 10 * i,
        lambda i: small()[i:],
        lambda i: deep[i:],
        lambda i: deep[i:, :, 1],
    ]
    return [kinds[index % 4](index) for index in range(20)]


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def rows(output):
    return pq.read_table(output / "metrics.parquet").to_pylist()


def test_a_file_of_twenty_pages_keeps_them_and_their_order(archive, tmp_path):
    pages = twenty()
    (archive / "album.tif").write_bytes(pages_of(*pages))
    Image.fromarray(small()).save(archive / "single.png")
    output = tmp_path / "out"
    assert run("degrade", archive, output, "--recipe", "gaussian_noise:1").code == 0
    written = read(output / "images" / "album.tif")
    assert [page.shape for page in written] == [page.shape for page in pages]
    assert [page.dtype for page in written] == [page.dtype for page in pages]
    for before, after in zip(pages, written, strict=True):
        if before.dtype != bool:
            top = np.iinfo(before.dtype).max
            difference = np.abs(before.astype(float) - after).mean() / top
            assert 0.01 < difference < 0.2
    found = rows(output)
    assert len(found) == 21
    of_album = sorted((row for row in found if row["key"] != "single.png"), key=lambda r: r["page"])
    assert [row["key"] for row in of_album] == [
        "album.tif",
        *(f"album.tif#page={page}" for page in range(2, 21)),
    ]
    assert {row["derivative"] for row in of_album} == {"album.tif"}
    assert len({row["derivative_sha256"] for row in of_album}) == 1
    assert [row["height"] for row in of_album] == [page.shape[0] for page in pages]
    assert all(row["psnr_rgb_degraded"] is not None for row in of_album)
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["planned"], summary["restored"]) == (21, 21)


def test_masters_of_48_bits_equal_what_a_model_left_alone(archive, tmp_path, models):
    """In files with pages, tiles and strips, and larger than a tile of the model's."""
    large = np.tile(sixteen(small()), (4, 5, 1))
    pages = [*twenty(), large]
    (archive / "album.tif").write_bytes(pages_of(*pages))
    (archive / "scan.png").write_bytes(bytes(imagecodecs.png_encode(large)))
    (archive / "scan.jp2").write_bytes(
        bytes(imagecodecs.jpeg2k_encode(large, level=0, codecformat="jp2"))
    )
    output = tmp_path / "out"
    model = ("--model", models / "identity", "--tile", "256")
    assert run("restore", archive, output, *model).code == 0
    for before, after in zip(pages, read(output / "images" / "album.tif"), strict=True):
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)
    written = (output / "images" / "scan.png").read_bytes()
    assert np.array_equal(imagecodecs.png_decode(written), large)
    written = (output / "images" / "scan.jp2").read_bytes()
    assert np.array_equal(imagecodecs.jpeg2k_decode(written), large)


def test_pages_draw_their_own_noise(archive, tmp_path):
    page = small()
    (archive / "twice.tif").write_bytes(pages_of(page, page))
    assert run("degrade", archive, tmp_path / "out", "--recipe", "gaussian_noise:2").code == 0
    first, second = read(tmp_path / "out" / "images" / "twice.tif")
    assert not np.array_equal(first, second)


def test_formats_of_one_page_get_a_file_for_each(archive, tmp_path):
    pages = [small(), sixteen(small("chelsea")), noisy(small())]
    (archive / "album.tif").write_bytes(pages_of(*pages))
    output = tmp_path / "out"
    arguments = ("--recipe", "brightness:1", "--image_format", "png")
    assert run("degrade", archive, output, *arguments).code == 0
    written = sorted(path.name for path in (output / "images").iterdir())
    assert written == ["album.tif#page=2.png", "album.tif#page=3.png", "album.tif.png"]
    assert [row["derivative"] for row in rows(output)] == [
        "album.tif.png",
        "album.tif#page=2.png",
        "album.tif#page=3.png",
    ]
    second = output / "images" / "album.tif#page=2.png"
    assert opened(second.read_bytes()).size == (72, 96)


def test_masks_are_written_for_each_page(archive, tmp_path):
    (archive / "album.tif").write_bytes(pages_of(small(), small("chelsea")))
    assert run("degrade", archive, tmp_path / "out", "--recipe", "tears:3").code == 0
    masks = sorted(path.name for path in (tmp_path / "out" / "masks").iterdir())
    assert masks == ["album.tif#page=2.png", "album.tif.png"]


@pytest.mark.parametrize("container", ["webdataset", "tfrecord", "parquet"])
def test_shards_hold_the_file_once(container, archive, tmp_path):
    (archive / "album.tif").write_bytes(pages_of(small(), small("chelsea"), small("coffee")))
    Image.fromarray(small()).save(archive / "single.png")
    output, again = tmp_path / "out", tmp_path / "again"
    arguments = ("--recipe", "tears:3", "--output_format", container)
    assert run("degrade", archive, output, *arguments).code == 0
    found = rows(output)
    assert len(found) == 4
    assert len({row["member"] for row in found}) == 2
    assert len({row["mask"] for row in found}) == 4
    # An output is an archive as well, and its file has its pages.
    assert run("degrade", output, again, "--recipe", "brightness:1").code == 0
    assert sorted(row["key"] for row in rows(again)) == sorted(row["key"] for row in found)
    summary = json.loads((again / "summary.json").read_text())
    assert (summary["planned"], summary["restored"], summary["failed"]) == (4, 4, 0)


def test_an_output_with_pages_is_an_archive(archive, tmp_path):
    (archive / "album.tif").write_bytes(pages_of(small(), small("chelsea")))
    output, again = tmp_path / "out", tmp_path / "again"
    assert run("degrade", archive, output, "--recipe", "brightness:1").code == 0
    assert run("degrade", output, again, "--recipe", "brightness:1").code == 0
    assert [row["key"] for row in rows(again)] == ["album.tif", "album.tif#page=2"]
    assert len(read(again / "images" / "album.tif")) == 2


def test_converting_passes_all_pages_on(archive, tmp_path):
    data = pages_of(small(), small("chelsea"))
    (archive / "album.tif").write_bytes(data)
    assert run("convert", archive, tmp_path / "out", "--output_format", "webdataset").code == 0
    (row,) = rows(tmp_path / "out")
    assert (row["key"], row["derivative_bytes"]) == ("album.tif", len(data))


def test_a_broken_page_fails_its_file_with_the_reason(archive, tmp_path):
    data = bytearray(pages_of(small(), small("chelsea"), small("coffee")))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        start = file.pages[1].dataoffsets[0]
    data[start : start + 400] = b"\xff" * 400
    (archive / "album.tif").write_bytes(data)
    Image.fromarray(small()).save(archive / "single.png")
    assert run("degrade", archive, tmp_path / "out", "--recipe", "brightness:1").code == 3
    (failure,) = [
        json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    ]
    assert failure["key"] == "album.tif"
    assert failure["message"].startswith("page 2: broken TIFF: strip 1 of")
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["single.png"]


# -- folding ---------------------------------------------------------------------------------------


def file_of(key, count):
    first = Record(source=Source(key, f"/{key}", 1, 0.0))
    return first.replace(further=tuple(first.replace(page=page) for page in range(2, count + 1)))


def test_folding_undoes_unfolding():
    batch = Batch("b", (file_of("a.tif", 3), file_of("b.tif", 1), file_of("c.tif", 2)))
    assert len(batch) == 6
    flat = unfold(batch)
    assert [record.key for record in flat.records] == [
        "a.tif",
        "a.tif#page=2",
        "a.tif#page=3",
        "b.tif",
        "c.tif",
        "c.tif#page=2",
    ]
    assert fold(flat, lambda record: True) == batch
    assert fold(flat, lambda record: False) == flat


def test_one_failing_page_fails_its_file_alone():
    flat = unfold(Batch("b", (file_of("a.tif", 3), file_of("c.tif", 2))))
    records = list(flat.records)
    records[1] = records[1].failed("restore", ValueError("no memory"))
    folded = fold(Batch("b", tuple(records)), lambda record: True)
    assert (folded.failures, len(folded)) == (3, 5)
    first = folded.records[0]
    assert first.failure.message == "page 2 of its file failed: no memory"
    assert first.failure.stage == "restore"
    assert first.further[0].failure.message == "no memory"
    assert folded.records[1].failure is None
    after = folded.map({"write": lambda record: record.failed("write", OSError("disk full"))})
    assert unfold(after).failures == 5
