"""Lightness is CIE L*, and colour joined to a master leaves it alone."""

import cv2
import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab
from skimage.transform import downscale_local_mean

from tests.photographs import PHOTOS, gray, photo, sixteen, small
from transforms import colour

DEPTHS = {"8-bit": lambda pixels: pixels, "16-bit": sixteen}
depths = pytest.mark.parametrize("depth", DEPTHS)


@pytest.mark.parametrize("name", PHOTOS)
@depths
def test_lightness_is_that_of_scikit_image(name, depth):
    pixels = DEPTHS[depth](photo(name)[:200, :200])
    ours = colour.lightness(colour.to_unit(pixels))
    assert (ours.shape, ours.dtype) == ((200, 200), np.float32)
    assert np.abs(ours - rgb2lab(pixels)[..., 0]).max() < 0.2


@pytest.mark.parametrize(
    ("level", "expected"),
    # sRGB (IEC 61966-2-1) to linear Y, then L* = 116 Y^(1/3) - 16, or 903.3 Y below 0.008856.
    [(0, 0), (8, 2.193), (119, 50.034), (188, 76.246), (255, 100)],
)
def test_lightness_of_gray_levels_is_known(level, expected):
    pixels = np.full((1, 1, 1), level, np.uint8)
    assert colour.lightness(colour.to_unit(pixels)).item() == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_survives_the_way_to_unit_and_back(dtype):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    unit = colour.to_unit(levels)
    assert (unit.dtype, unit[0], unit[-1]) == (np.float32, 0, 1)
    assert np.array_equal(colour.from_unit(unit, dtype), levels)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_values_beyond_black_and_white_are_clipped(dtype, white):
    beyond = np.array([-9, -0.001, 0.5, 1.001, 9], np.float32)
    assert colour.from_unit(beyond, dtype).tolist() == [0, 0, round(white / 2), white, white]


def test_gray_becomes_colour_by_repeating_and_colour_gray_by_luma():
    unit = colour.to_unit(small())
    assert colour.with_channels(unit, 3) is unit
    one = colour.with_channels(unit, 1)
    assert np.abs(one * 255 - gray(small())).max() <= 1
    assert one.dtype == np.float32
    three = colour.with_channels(gray(small()), 3)
    assert three.dtype == np.uint8
    assert all(np.array_equal(three[..., [c]], gray(small())) for c in range(3))


@depths
@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
def test_shrunken_lightness_is_that_of_the_average_colour(depth, channels):
    pixels = DEPTHS[depth](photo()[:320, :480, :channels])
    ours = colour.shrunken_lightness(pixels, 80, 120)
    average = downscale_local_mean(colour.to_unit(pixels).astype(np.float64), (4, 4, 1))
    expected = rgb2lab(np.repeat(average, 3, -1) if channels == 1 else average)[..., 0]
    assert (ours.shape, ours.dtype) == ((80, 120, 1), np.float32)
    # Half a level of 8 bits is up to 0.23 of L* at the steepest, beside the 0.2 of the conversion.
    assert np.abs(ours[..., 0] - expected).max() < (0.45 if depth == "8-bit" else 0.2)


def test_enlarged_lightness_has_the_size_asked_for():
    assert colour.shrunken_lightness(small(height=3, width=2), 32, 16).shape == (32, 16, 1)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photographs_own_chroma_gives_the_photograph_back(name):
    pixels = photo(name)[:200, :200]
    joined = colour.join_chroma(pixels, rgb2lab(pixels)[..., 1:].astype(np.float32))
    assert np.abs(joined.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("name", PHOTOS)
def test_colour_returns_to_a_photograph_that_kept_only_its_lightness(name):
    pixels = sixteen(photo(name)[:200, :200])
    lab = rgb2lab(pixels)
    black_and_white = lab2rgb(lab * [1, 0, 0])[..., :1]
    master = np.rint(black_and_white * 65535).astype(np.uint16)
    joined = colour.join_chroma(master, lab[..., 1:].astype(np.float32))
    assert np.abs(joined / 257.0 - pixels / 257.0).max() < 0.5


@pytest.mark.parametrize(("depth", "within"), [("8-bit", 0.6), ("16-bit", 0.1)])
@pytest.mark.parametrize("chroma", [(10, 15), (-12, 4), (3, -14)], ids=["warm", "green", "blue"])
def test_colour_inside_srgb_leaves_lightness_alone(depth, within, chroma):
    pixels = DEPTHS[depth](gray(photo()[:200, :200]).repeat(3, -1))
    before = rgb2lab(pixels)
    joined = colour.join_chroma(pixels[..., :1], np.full((4, 4, 2), chroma, np.float32))
    assert joined.dtype == pixels.dtype
    after = rgb2lab(joined)
    inside = (before[..., 0] > 25) & (before[..., 0] < 85)
    assert inside.mean() > 0.3
    assert np.abs(after - before)[inside, 0].max() < within
    assert np.abs(after[inside][:, 1:] - chroma).max() < 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_chroma_gives_every_level_of_gray_back(dtype):
    levels = np.arange(np.iinfo(dtype).max + 1).astype(dtype).reshape(16, -1, 1)
    joined = colour.join_chroma(levels, np.zeros((16, 16, 2), np.float32))
    assert joined.shape == (16, levels.shape[1], 3)
    assert np.array_equal(joined, np.repeat(levels, 3, axis=-1))


def level(pixels):
    """Luminance in levels of the pixels' type, by IEC 61966-2-1 in double precision."""
    unit = np.broadcast_to(pixels, (*pixels.shape[:2], 3)) / np.iinfo(pixels.dtype).max
    light = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    y = light @ [0.2126, 0.7152, 0.0722]
    encoded = np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)
    return encoded * np.iinfo(pixels.dtype).max


@pytest.mark.parametrize("spread", [0, 5, 40, 127])
@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_colour_keeps_its_luminance_to_one_level(dtype, channels, spread):
    rng = np.random.default_rng(spread)
    shape = (256, 300, channels)
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    pixels[:, :20] = rng.integers(0, 40, (256, 20, channels))  # where one level is most of it
    chroma = rng.uniform(-spread, spread, (256, 300, 2)).astype(np.float32)
    joined = colour.join_chroma(pixels, chroma)
    assert joined.dtype == dtype
    assert np.abs(level(joined) - level(pixels)).max() <= 1


def test_a_photograph_of_16_bits_keeps_its_luminance_to_one_level():
    pixels = sixteen(photo())
    joined = colour.join_chroma(pixels, np.full((2, 2, 2), (22, 33), np.float32))
    assert np.abs(level(joined) - level(pixels)).max() <= 1


def test_what_srgb_cannot_hold_is_mixed_with_gray_and_keeps_its_hue():
    levels = np.arange(256, dtype=np.uint16).reshape(1, -1, 1) * 257
    for *chroma, bent in ((127, 127, 0.5), (-127, 90, 0.5), (60, -127, 0.5), (90, 70, 0.3)):
        joined = colour.join_chroma(levels, np.full((2, 2, 2), chroma, np.float32))[0]
        assert joined[0].tolist() == [0] * 3
        assert joined[-1].tolist() == [65535] * 3
        middle = joined[20:-20]
        assert ((middle.min(-1) == 0) | (middle.max(-1) == 65535)).all(), "as colourful as can be"
        # On a line to gray in the plane of chromaticity, of which CIE hue bends away a little.
        lab = rgb2lab(middle)
        turned = np.arctan2(lab[:, 2], lab[:, 1]) - np.arctan2(chroma[1], chroma[0])
        assert np.abs((turned + np.pi) % (2 * np.pi) - np.pi).max() < bent
        assert np.hypot(lab[:, 1], lab[:, 2]).min() > 9


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 64), (3000, 700)], ids=str)
def test_strips_do_not_show(size, monkeypatch):
    # 640 columns: a strip is 102 rows, so this image has 4, and the last is a rest.
    pixels = photo("rocket")[:400]
    assert pixels.shape == (400, 640, 3)
    random = np.random.default_rng(0).uniform(-30, 30, (*size, 2)).astype(np.float32)
    joined = colour.join_chroma(pixels, random)
    lab = rgb2lab(pixels[150:350]).astype(np.float32)
    lab[..., 1:] = cv2.resize(random, (640, 400), interpolation=cv2.INTER_LINEAR)[150:350]
    expected = lab2rgb(lab)
    inside = ((expected > 0) & (expected < 1)).all(axis=-1)  # others are clipped there
    assert inside.mean() > 0.3
    assert np.abs(joined[150:350] / 255 - expected)[inside].max() < 2.5 / 255
    for strip in (1, 1 << 23):
        monkeypatch.setattr(colour, "_STRIP", strip)
        assert np.array_equal(colour.join_chroma(pixels, random), joined)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)], ids=str)
def test_the_smallest_images_take_colour(size):
    joined = colour.join_chroma(
        np.full((*size, 1), 119, np.uint8), np.full((16, 16, 2), 10, np.float32)
    )
    expected = lab2rgb([[50.034, 10, 10]])[0] * 255  # 119 is L* 50.034
    assert np.abs(joined - expected).max() < 1
