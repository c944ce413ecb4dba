"""What processing does to an image is what ImageNet-C, Pillow and arithmetic say it is."""

import colorsys

import cv2
import numpy as np
import pytest

from tests.damage import damage, flat, psnr
from tests.imagenet_c import reference
from tests.photographs import PHOTOS, TEN, gray, opened, photo, saved, sixteen, small
from transforms.degradations import ALIASES, DEGRADATIONS, digital

# make_imagenet_c.py of Hendrycks & Dietterich 2019; elastic_transform: imagecorruptions 1.1.2.
PUBLISHED = {
    "brightness": {"amount": [0.1, 0.2, 0.3, 0.4, 0.5]},
    "contrast": {"factor": [0.4, 0.3, 0.2, 0.1, 0.05]},
    "saturate": {"factor": [0.3, 0.1, 2, 5, 20], "offset": [0, 0, 0, 0.1, 0.2]},
    "elastic_transform": {"alpha": [250 * a for a in (0.05, 0.065, 0.085, 0.1, 0.12)]},
    "pixelate": {"scale": [0.6, 0.5, 0.4, 0.3, 0.25]},
    "jpeg_compression": {"quality": [25, 18, 15, 10, 7]},
}
DRAWN = {"elastic_transform"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_severities_are_those_published(name):
    known = DEGRADATIONS[ALIASES.get(name, name)]
    for parameter, expected in PUBLISHED[name].items():
        given = [known.at_severity(severity)[parameter] for severity in range(1, 6)]
        assert given == pytest.approx(expected)


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
@pytest.mark.parametrize("photograph", PHOTOS)
@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in DRAWN])
def test_what_leaves_nothing_to_chance_is_that_of_imagenet_c(name, photograph, channels, severity):
    # Sides that no block divides.
    pixels = photo(photograph)[:299, :421]
    pixels = gray(pixels) if channels == 1 else pixels
    expected = reference(name, pixels, severity)
    # Less than a level: half a one for rounding, and some for float32.
    assert np.abs(damage(name, pixels, severity=severity) - expected).max() < 0.51


# -- brightness and saturate -----------------------------------------------------------------------


def colours():
    """Of 16 bits: of all kinds, dark, almost neutral, neutral, black and white."""
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 65536, (100, 3))
    dark = rng.integers(0, 20, (50, 3))
    pale = rng.integers(0, 65530, (50, 1)) + rng.integers(0, 5, (50, 3))
    neutral = rng.integers(0, 65536, (20, 1)).repeat(3, axis=1)
    ends = np.array([[0, 0, 0], [65535, 65535, 65535], [65535, 0, 0], [0, 65535, 65535]])
    return np.concatenate([whole, dark, pale, neutral, ends]).astype(np.uint16)[None]


def through_hsv(pixels, change):
    """Change hue, saturation and value one pixel after the other, as Python's library has them."""
    rows = [
        colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*(pixel / 65535)))) for pixel in pixels[0]
    ]
    return 65535 * np.array(rows)[None]


@pytest.mark.parametrize("amount", [-0.3, 0.1, 0.5])
def test_brightness_adds_to_the_value_of_hsv_in_16_bits(amount):
    def change(h, s, v):
        return h, s, min(max(v + amount, 0), 1)

    expected = through_hsv(colours(), change)
    assert np.abs(damage("brightness", colours(), amount=amount) - expected).max() < 0.6


@pytest.mark.parametrize(("factor", "offset"), [(0.3, 0), (2, 0), (20, 0.2), (0, 1), (1, -0.5)])
def test_saturate_changes_the_saturation_of_hsv_in_16_bits(factor, offset):
    def change(h, s, v):
        return h, min(max(factor * s + offset, 0), 1), v

    expected = through_hsv(colours(), change)
    ours = damage("saturate", colours(), factor=factor, offset=offset)
    assert np.abs(ours - expected).max() < 0.6


def test_burnt_out_is_white_and_black_turns_gray():
    pixels = np.array([[[0, 0, 0], [128, 128, 128], [200, 100, 0], [255, 51, 0]]], np.uint8)
    expected = [[[128] * 3, [255] * 3, [255, 128, 0], [255, 51, 0]]]
    assert damage("brightness", pixels, amount=128 / 255).tolist() == expected


def test_an_offset_of_saturation_turns_neutral_pixels_red_but_not_gray_images():
    neutral = flat(200, (4, 4, 3))
    assert (damage("saturate", neutral, factor=20, offset=0.2) == [200, 160, 160]).all()
    assert (damage("saturate", neutral[..., :1], factor=20, offset=0.2) == 200).all()


def test_no_change_of_saturation_or_brightness_is_none():
    for pixels in (photo(), sixteen(small()), gray(small())):
        assert np.array_equal(damage("saturate", pixels, factor=1), pixels)
        assert np.array_equal(damage("brightness", pixels, amount=0), pixels)


# -- contrast --------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.05, 0.4, 1])
@pytest.mark.parametrize("photograph", PHOTOS)
def test_contrast_keeps_the_mean_and_scales_the_deviation_of_each_channel(photograph, factor):
    pixels = sixteen(photo(photograph))
    flatter = damage("contrast", pixels, factor=factor)
    for channel in range(3):
        before, after = pixels[..., channel], flatter[..., channel]
        # Rounding may move many equal samples the same way, by half a level at most.
        assert after.mean() == pytest.approx(before.mean(), abs=0.5)
        assert after.std() == pytest.approx(factor * before.std(), abs=0.5)


def test_more_contrast_is_clipped_and_does_not_wrap():
    pixels = np.array([[[10], [100], [120], [250]]], np.uint8)  # of mean 120
    assert damage("contrast", pixels, factor=2).ravel().tolist() == [0, 80, 120, 255]


# -- elastic_transform -----------------------------------------------------------------------------


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
@pytest.mark.parametrize("photograph", PHOTOS)
def test_the_same_uniform_numbers_displace_as_in_imagenet_c(photograph, channels, severity):
    pixels = photo(photograph)
    pixels = gray(pixels) if channels == 1 else pixels
    drawn = np.random.default_rng(7).random((2, *pixels.shape[:2]), dtype=np.float32)
    expected = reference("elastic_transform", pixels, severity, list(drawn))
    ours = damage("elastic_transform", pixels, 7, severity=severity)
    # A displacement is one of float32: its last digit times the steepest edge.
    assert np.abs(ours - expected).max() < 0.6


@pytest.mark.parametrize("name", ["astronaut", "coffee", "hubble"])
def test_larger_images_are_displaced_with_the_statistics_of_imagenet_c(name):
    pixels = TEN[name]()
    if name in PHOTOS:
        pixels = cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_AREA)
    field = digital._displacements(*pixels.shape[:2], np.random.default_rng(0))
    assert field.shape[0] < pixels.shape[0], "large enough for a field of fewer points"
    ours, theirs = [], []
    for seed in range(3):
        drawn = np.random.default_rng([seed, 1])
        for found, moved in (
            (theirs, reference("elastic_transform", pixels, 5, drawn)),
            (ours, damage("elastic_transform", pixels, seed, severity=5)),
        ):
            found.append([moved.mean(), moved.std(), psnr(moved, pixels)])
    mean, deviation, score = np.abs(np.mean(ours, axis=0) - np.mean(theirs, axis=0))
    # Between seeds, theirs vary by 0.25 and 0.2 levels and 0.2 dB on these.
    assert mean < 0.3
    assert deviation < 0.3
    assert score < 0.3


def displacement(side, axis, alpha, seed=0):
    """Measure by how many pixels each one is displaced, on a ramp; not near the ends of it."""
    step = 65535 // (side - 1)
    ramp = np.moveaxis(np.broadcast_to(np.arange(side) * step, (side, side)), 1, axis)
    ramp = np.ascontiguousarray(ramp[..., None].astype(np.uint16))
    moved = damage("elastic_transform", ramp, seed, alpha=alpha)
    edge = side // 20
    return ((moved - ramp.astype(float)) / step)[edge:-edge, edge:-edge, 0]


@pytest.mark.parametrize("side", [300, 700, 1500])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_displacement_is_as_many_pixels_whatever_the_size_of_a_square_image(side, axis):
    measured = [displacement(side, axis, 30, seed) for seed in range(3)]
    # Uniform within 0.005 n, of variance 1/3 of its square; a Gaussian of sigma s divides the
    # variance of white noise by 4 pi s^2, and s is 0.01 n: n cancels.
    expected = 30 * 0.005 / 3**0.5 / (2 * np.pi**0.5 * 0.01)
    assert np.mean([m.std() for m in measured]) == pytest.approx(expected, rel=0.05)
    assert np.mean(measured) == pytest.approx(0, abs=0.1)
    # The correlation of two points is exp(-d^2 / (4 s^2)): 1/e at a distance of 2 s.
    apart = 2 * side // 100
    for m in measured:
        left, right = m[:, :-apart].ravel(), m[:, apart:].ravel()
        assert np.corrcoef(left, right)[0, 1] == pytest.approx(np.exp(-1), abs=0.08)


def test_a_higher_severity_stretches_the_same_field():
    one, other = (displacement(400, 1, alpha) for alpha in (10, 20))
    assert np.abs(other - 2 * one).max() < 0.05


def test_pieces_of_a_large_image_fit_together(monkeypatch):
    pixels = cv2.resize(photo("coffee"), (1030, 850))
    whole = damage("elastic_transform", pixels, severity=5)
    monkeypatch.setattr(digital, "_TILE", 97)
    pieces = damage("elastic_transform", pixels, severity=5)
    assert np.abs(whole.astype(int) - pieces).max() <= 1
    assert (whole != pieces).mean() < 0.001


def test_the_far_end_of_a_long_image_is_displaced_by_no_more_than_its_start():
    ramp = np.broadcast_to(np.arange(60_000, dtype=np.uint16), (8, 60_000))[..., None]
    moved = damage("elastic_transform", np.ascontiguousarray(ramp), severity=5)
    # 30 x 0.005 x 8 pixels at the most.
    assert np.abs(moved.astype(int) - ramp).max() <= 2


# -- pixelate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_block_is_the_mean_of_its_pixels(dtype):
    pixels = np.array([[1, 3, 10, 20], [2, 6, 30, 40], [0, 0, 7, 7], [0, 200, 7, 7]], dtype)
    expected = [[3, 3, 25, 25], [3, 3, 25, 25], [50, 50, 7, 7], [50, 50, 7, 7]]
    assert damage("pixelate", pixels[..., None], scale=0.5)[..., 0].tolist() == expected


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("photograph", PHOTOS)
def test_sixteen_bits_are_pixelated_on_the_grid_of_eight_but_finer(photograph, severity):
    pixels = photo(photograph)[:203, :301]
    shallow = damage("pixelate", pixels, severity=severity)
    deep = damage("pixelate", pixels.astype(np.uint16) * 257, severity=severity)
    # Pillow rounds 8 bits twice: along the rows, and along the columns.
    assert np.abs(deep / 257 - shallow).max() <= 1.01
    assert (deep % 257).any()


def test_no_scale_leaves_one_pixel():
    pixels = small()
    expected = pixels.mean(axis=(0, 1))
    for scale in (0, 0.001):
        assert np.ptp(damage("pixelate", pixels, scale=scale), axis=(0, 1)).tolist() == [0, 0, 0]
        assert np.abs(damage("pixelate", pixels, scale=scale) - expected).max() <= 1
    assert np.array_equal(damage("pixelate", pixels, scale=1), pixels)


# -- jpeg ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [1, 7, 25, 75, 100])
@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
def test_jpeg_is_what_pillow_makes_of_it(name, quality, channels):
    pixels = photo(name)[:203, :301]
    pixels = gray(pixels) if channels == 1 else pixels
    ours = damage("jpeg", pixels, quality=quality).astype(int)
    theirs = opened(saved(pixels, "JPEG", quality=quality, subsampling=2))
    theirs = np.asarray(theirs).reshape(pixels.shape).astype(int)
    assert np.abs(ours - theirs).max() <= 1, "but for another libjpeg's rounding"


def test_jpeg_takes_16_bits_to_8_and_back_over_the_full_range():
    levels = damage("jpeg", flat(65535, (16, 16, 3), np.uint16), quality=90)
    assert levels.min() == 65535
    deep = damage("jpeg", sixteen(small()), quality=90)
    assert np.abs(deep / 257.0 - sixteen(small()) / 257.0).mean() < 4
    assert not (deep % 257).any()


def test_jpeg_sees_16_bits_rounded_to_8():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    expected = damage("jpeg", np.rint(every / 257).astype(np.uint8), quality=75)
    assert np.array_equal(damage("jpeg", every, quality=75) // 257, expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_an_image_longer_than_a_jpeg_goes_through_two(axis):
    pixels = np.tile(photo("coffee")[:40, :500], (1, 140, 1))
    pixels = np.ascontiguousarray(np.moveaxis(pixels, 1, axis))
    ours = damage("jpeg", pixels, quality=25)
    for part in (slice(0, 65_488), slice(65_488, None)):
        cut = (part, slice(None)) if axis == 0 else (slice(None), part)
        expected = np.asarray(opened(saved(np.ascontiguousarray(pixels[cut]), "JPEG", quality=25)))
        assert np.abs(ours[cut].astype(int) - expected).max() <= 1
