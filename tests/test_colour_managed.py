"""Whole jobs on masters of other colour spaces than models know."""

import io
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image, ImageCms
from skimage.color import rgb2lab
from skimage.metrics import peak_signal_noise_ratio

from tests import photographs
from tests.icc_profiles import converted, gray_profile, matrix_profile
from tests.jobs import run
from tests.photographs import gray, photo, rewritten, saved, sixteen, small
from transforms import codec, icc, profiles

ADOBE, PROPHOTO = matrix_profile("Adobe RGB"), matrix_profile("ProPhoto")


def deep(shape, seed=0):
    """Every kind of colour, among them those that sRGB does not hold."""
    return np.random.default_rng(seed).integers(0, 65536, shape).astype(np.uint16)


def tiff(path, pixels, profile, **options):
    tifffile.imwrite(path, pixels, iccprofile=profile, **options)


def stored(path, page=0):
    with tifffile.TiffFile(path) as file:
        found = file.pages[page]
        return found.asarray(), found.iccprofile


def rows(output):
    return {row["key"]: row for row in pq.read_table(output / "metrics.parquet").to_pylist()}


def lightness(pixels, profile):
    """L* that a colour-managed viewer shows, by littleCMS through Pillow."""
    image = Image.fromarray(pixels.squeeze())
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    to_srgb = ImageCms.buildTransform(
        source, ImageCms.createProfile("sRGB"), image.mode, "RGB", ImageCms.Intent(1)
    )
    return rgb2lab(np.asarray(ImageCms.applyTransform(image, to_srgb)))[..., 0]


@pytest.fixture
def masters(tmp_path):
    folder = tmp_path / "masters"
    folder.mkdir()
    rgb, four = {"photometric": "rgb"}, {"photometric": "separated"}
    tiff(folder / "adobe.tif", deep((300, 270, 3)), ADOBE, **rgb)
    tiff(folder / "prophoto.tif", deep((70, 90, 3), 1), PROPHOTO, **rgb)
    tiff(folder / "srgb.tif", deep((70, 90, 3), 2), icc.SRGB, **rgb)
    tiff(folder / "plain.tif", deep((70, 90, 3), 3), None, **rgb)
    tiff(folder / "alpha.tif", deep((70, 90, 4), 4), ADOBE, extrasamples=["unassalpha"], **rgb)
    tiff(folder / "gray.tif", deep((70, 90), 5), gray_profile(), photometric="minisblack")
    tiff(folder / "inks.tif", deep((70, 90, 4), 6), photographs.cmyk_profile(), **four)
    tiff(folder / "plain inks.tif", deep((70, 90, 4), 7), None, **four)
    tiff(folder / "lab.tif", deep((70, 90, 3), 8) % 32513, None, photometric="cielab")
    with tifffile.TiffWriter(folder / "pages.tif") as file:
        file.write(deep((70, 90, 3), 9), iccprofile=PROPHOTO, **rgb)
        file.write(deep((50, 60), 10), iccprofile=gray_profile(1.8), photometric="minisblack")
    return folder


def test_an_identity_model_gives_every_sample_and_profile_back(masters, models, tmp_path):
    """In tiles, since they are no special case."""
    output = tmp_path / "out"
    run("restore", masters, output, "--model", models / "identity", "--tile", 256, code=0)
    found = sorted(path.name for path in (output / "images").iterdir())
    assert found == sorted(path.name for path in masters.iterdir())
    for name in found:
        for page in range(2 if name == "pages.tif" else 1):
            before, profile = stored(masters / name, page)
            after, kept = stored(output / "images" / name, page)
            assert after.dtype == np.uint16
            assert np.array_equal(after, before), name
            assert kept == profile, name


def test_the_model_sees_srgb_and_its_result_is_shown(models, tmp_path):
    """A negative, which changes every pixel, of colours that sRGB holds."""
    inside = sixteen(photo()[:90, :110]) // 2 + 16000
    master = np.rint(65535 * converted(inside / 65535, "sRGB", "Adobe RGB")).astype(np.uint16)
    archive, output = tmp_path / "in", tmp_path / "out"
    archive.mkdir()
    tiff(archive / "a.tif", master, ADOBE, photometric="rgb")
    run("restore", archive, output, "--model", models / "invert", "--precision", "float32", code=0)
    after, profile = stored(output / "images" / "a.tif")
    assert profile == ADOBE
    shown = 65535 * converted(after / 65535, "Adobe RGB", "sRGB")
    apart = np.abs(shown - (65535.0 - inside))
    assert apart.mean() < 1.5
    assert apart.max() < 12


@pytest.mark.parametrize("depth", [8, 16])
def test_a_colorized_master_shows_its_own_lightness(depth, models, tmp_path):
    levels = np.clip(gray(photo()[:120, :150]), 70, 180)[..., 0]
    levels = levels if depth == 8 else sixteen(levels)
    archive, output = tmp_path / "in", tmp_path / "out"
    archive.mkdir()
    tiff(archive / "with.tif", levels, gray_profile(1.8), photometric="minisblack")
    tiff(archive / "without.tif", levels, None, photometric="minisblack")
    run("restore", archive, output, "--model", models / "constant_chroma", code=0)
    coloured, profile = stored(output / "images" / "with.tif")
    assert profile == icc.SRGB
    assert coloured.shape == (*levels.shape, 3)
    if depth == 8:
        apart = lightness(coloured, profile) - lightness(levels, gray_profile(1.8))
        assert np.abs(apart).mean() < 0.3
        assert np.abs(apart).max() < 1, "the gray is rounded twice, once by the viewer"
    else:
        exact = (levels / 65535) ** (round(256 * 1.8) / 256)
        light = np.where(exact > 216 / 24389, 116 * np.cbrt(exact) - 16, exact * 24389 / 27)
        assert np.abs(rgb2lab(coloured)[..., 0] - light).max() < 0.006  # 0.004 is scikit-image's
    assert stored(output / "images" / "without.tif")[1] is None


def test_scores_compare_with_what_the_model_could_see(tmp_path, models):
    archive, output = tmp_path / "in", tmp_path / "out"
    archive.mkdir()
    (archive / "a.png").write_bytes(saved(small(), "PNG", icc_profile=PROPHOTO))
    noise = "gaussian_noise:sigma=20"
    run("evaluate", archive, output, "--model", models / "identity", "--recipe", noise, code=0)
    row = rows(output)["a.png"]
    truth = profiles.working(small(), PROPHOTO, "RGB").pixels
    written = (output / "images" / "a.png").read_bytes()
    shown = codec.decode(written).pixels
    assert codec.decode(written).form.icc == PROPHOTO
    again = peak_signal_noise_ratio(truth, shown)
    assert row["psnr_rgb_restored"] == pytest.approx(again, abs=0.3)  # what 8 bits of ProPhoto cost
    assert row["psnr_rgb_restored"] == row["psnr_rgb_degraded"]


def test_a_colour_master_degraded_to_gray_says_by_which_curve(tmp_path):
    archive, output = tmp_path / "in", tmp_path / "out"
    archive.mkdir()
    (archive / "a.png").write_bytes(saved(small(), "PNG", icc_profile=ADOBE))
    run("degrade", archive, output, "--recipe", "mask:3", code=0)
    with Image.open(output / "images" / "a.png") as image:
        after, kept = np.asarray(image), image.info["icc_profile"]
    with Image.open(output / "masks" / "a.png.png") as image:
        mask = np.asarray(image)
    assert kept == ADOBE
    assert 0 < mask.mean() < 1
    assert np.array_equal(after[~mask], small()[~mask]), "what was not taken away is the master's"


@pytest.mark.parametrize(
    ("name", "kept"),
    [("PNG", ADOBE), ("JPEG", ADOBE), ("WEBP", ADOBE), ("PPM", None), ("BMP", None)],
)
def test_another_format_shows_the_same_colours(name, kept):
    decoded = codec.decode(saved(small(), "TIFF", icc_profile=ADOBE))
    assert np.array_equal(decoded.native, small())
    again = codec.decode(rewritten(decoded, name=name))
    assert again.form.icc == kept
    apart = np.abs(again.pixels.astype(int) - decoded.pixels)
    assert apart.mean() < (3 if name in ("JPEG", "WEBP") else 1e-9)


@pytest.mark.parametrize("name", ["PNG", "WEBP", "JPEG"])
def test_a_gray_master_in_another_format_is_as_light(name):
    decoded = codec.decode(saved(gray(small()), "TIFF", icc_profile=gray_profile(1.8)))
    again = codec.decode(rewritten(decoded, name=name))
    assert again.form.icc is not None
    apart = np.abs(again.pixels.astype(int) - decoded.pixels)
    assert apart.mean() < (0.01 if name == "PNG" else 2)


def test_shards_hold_the_masters_own_colours(models, tmp_path):
    archive, output = tmp_path / "in", tmp_path / "out"
    archive.mkdir()
    (archive / "a.png").write_bytes(saved(small(), "PNG", icc_profile=PROPHOTO))
    model = ("--model", models / "identity", "--output_format", "webdataset")
    run("restore", archive, output, *model, code=0)
    (shard,) = (output / "shards").iterdir()
    with tarfile.open(shard) as tar:
        (member,) = (one for one in tar.getmembers() if one.name.endswith(".png"))
        data = tar.extractfile(member).read()
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), small())
        assert image.info["icc_profile"] == PROPHOTO


def test_a_broken_profile_is_a_warning_and_no_conversion(models, tmp_path):
    archive, output = tmp_path / "in", tmp_path / "out"
    archive.mkdir()
    lying = (2**31).to_bytes(4, "big") + ADOBE[4:]
    (archive / "lies.png").write_bytes(saved(small(), "PNG", icc_profile=lying))
    (archive / "gray.png").write_bytes(saved(small(), "PNG", icc_profile=gray_profile()))
    run("restore", archive, output, "--model", models / "identity", code=0)
    for name, reason in (("lies.png", "states a size of"), ("gray.png", "it is for GRAY")):
        with Image.open(output / "images" / name) as image:
            assert np.array_equal(np.asarray(image), small())
            assert "icc_profile" not in image.info
        assert reason in str(rows(output)[name]["warnings"])
