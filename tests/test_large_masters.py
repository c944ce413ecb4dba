"""Masters that are too large for memory alone take the same path to the same bytes."""

import errno
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.jobs import run
from tests.photographs import cmyk_profile, gray, sixteen, small
from tests.test_job import digests
from transforms import codec, colour, scratch, storage

DAMAGE = "gaussian_noise:2+gaussian_blur:1+fade:3+elastic_transform:1+jpeg:2+mask:2+grayscale"

JOBS = {
    "tiles": lambda models, masks: ("restore", "--model", models / "blur", "--tile", 256),
    "chroma": lambda models, masks: (
        *("restore", "--model", models / "constant_chroma", "--guard", "none"),
    ),
    "scores": lambda models, masks: (
        *("evaluate", "--model", models / "constant_chroma", "--recipe", DAMAGE),
    ),
    "masks": lambda models, masks: (
        *("restore", "--model", models / "fill_with_mean", "--masks", masks),
        *("--mask_input", "mask", "--mask_values", "0,1", "--image_output", "restored"),
        *("--input_range=-1,1", "--output_range=-1,1"),
    ),
    "shards": lambda models, masks: ("degrade", "--recipe", "fog:1", "--output_format", "parquet"),
    "nothing": lambda models, masks: ("convert",),
}


@pytest.fixture
def masters(tmp_path, photographs) -> Path:
    """Images whose ways through the codecs differ, some of them turned."""
    folder = tmp_path / "masters"
    folder.mkdir()
    colour = photographs["coffee"]
    deep = sixteen(colour)
    alpha = np.dstack([colour, gray(photographs["coffee"])])
    tifffile.imwrite(folder / "one strip.tif", deep, photometric="rgb", byteorder=">")
    turned = [(274, "H", 1, 6, True)]
    for name, options in {
        "deflate": {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
        "tiles": {"tile": (64, 96), "planarconfig": "separate", "compression": "lzw"},
    }.items():
        pixels = np.moveaxis(deep, -1, 0) if name == "tiles" else deep
        kind = {"photometric": "rgb", "extratags": turned}
        tifffile.imwrite(folder / f"{name}.tif", pixels, **kind, **options)
    exif = Image.Exif()
    exif[274] = 7
    Image.fromarray(colour).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(alpha).save(folder / "alpha.png")
    tifffile.imwrite(folder / "gray.tif", sixteen(gray(colour))[..., 0], photometric="miniswhite")
    Image.fromarray(sixteen(gray(colour))[..., 0]).save(folder / "gray.png")
    Image.fromarray(colour).convert("CMYK").save(
        folder / "inks.jpg", quality=95, icc_profile=cmyk_profile()
    )
    Image.fromarray(alpha).save(folder / "alpha.webp", lossless=True)
    return folder


@pytest.fixture
def masks(tmp_path, masters) -> Path:
    """A mask for each of them."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for number, path in enumerate(sorted(masters.iterdir())):
        shape = codec.decode(path.read_bytes()).pixels.shape[:2]
        missing = 255 * (np.random.default_rng(number).random(shape) < 0.2).astype(np.uint8)
        image = Image.fromarray(missing)
        (image.convert("RGB") if number % 2 else image).save(folder / f"{path.name}.png")
    return folder


@pytest.mark.parametrize("name", JOBS)
def test_mapped_or_in_memory_a_job_writes_the_same_bytes(
    name, masters, masks, models, tmp_path, monkeypatch
):
    command, *options = JOBS[name](models, masks)
    before = digests(masters)
    run(command, masters, tmp_path / "in memory", *options, code=0)
    monkeypatch.setattr(scratch, "LIMIT", 0)
    run(command, masters, tmp_path / "mapped", *options, code=0)
    written, expected = (digests(tmp_path / place) for place in ("mapped", "in memory"))
    results = ("images/", "masks/", "shards/", "metrics.parquet")
    assert {n: d for n, d in written.items() if n.startswith(results)} == {
        n: d for n, d in expected.items() if n.startswith(results)
    }
    assert len(written) > 3
    assert digests(masters) == before


def private_memory() -> int:
    """Memory of this process that no file stands behind, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


@contextmanager
def highest_private_memory() -> Iterator[list[int]]:
    """Give a list of how much more there was than at first, at the most."""
    before, ended, seen = private_memory(), threading.Event(), [0]

    def watch():
        while not ended.wait(0.002):
            seen.append(private_memory() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def colorize_and_watch(folder: Path) -> tuple[list[int], int]:
    """Colorize a 48-bit master stage by stage; give private memory while that went on, and the
    bytes of its pixels.
    """
    scratch.LIMIT = 1 << 20
    colour._STRIP = 1 << 14
    pixels = np.tile(sixteen(small()), (30, 40, 1))
    chroma = np.full((8, 8, 2), 20, np.float32)

    def colorized(name: str, pixels: np.ndarray) -> list[int]:
        path = str(folder / name)
        tifffile.imwrite(path, pixels, photometric="rgb", byteorder=">")
        with highest_private_memory() as seen:
            master = scratch.gathered(storage.chunks(path), pixels.nbytes)
            decoded = codec.decode(master)
            result = colour.join_chroma(decoded.pixels, chroma)
            storage.write(path, codec.encode(decoded.form, result), str(folder))
        assert np.array_equal(tifffile.imread(path), result)
        return seen

    colorized("small.tif", pixels[:96])  # what all of it needs to be loaded once
    return colorized("large.tif", pixels), pixels.nbytes


def test_a_master_is_colorized_without_a_copy_of_it_in_memory(tmp_path):
    # In a process of its own: here, servers and models of other tests take and leave memory.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        seen, size = pool.submit(colorize_and_watch, tmp_path).result()
    assert len(seen) > 20
    assert max(seen) < size / 3, "there was a copy of it"


def test_where_the_disk_is_full_the_large_image_fails_alone_and_says_why(
    masters, tmp_path, monkeypatch
):
    def full(file, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    monkeypatch.setattr(scratch, "LIMIT", 200_000)  # eight bits of each fit, and 16 of gray
    run("degrade", masters, tmp_path / "out", "--recipe", "grayscale", code=3)
    lines = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    failed = {failure["key"]: failure for failure in map(json.loads, lines)}
    assert failed.keys() == {"one strip.tif", "deflate.tif", "tiles.tif"}, "48 bits"
    for failure in failed.values():
        assert failure["stage"] == "decode"
        assert failure["error"] == "ScratchError"
        assert "No space left on device; set TMPDIR" in failure["message"]
