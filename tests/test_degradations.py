"""Damage does what it says, to images of any size and depth, and to no image but its result."""

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tests.photographs import PHOTOS, gray, opened, photo, saved, sixteen, small
from transforms.degradations import DEGRADATIONS


def damage(name, pixels, seed=0, **parameters):
    known = DEGRADATIONS[name]
    return known.function(pixels, np.random.default_rng(seed), **{**known.defaults, **parameters})


def flat(level, shape=(512, 512, 1), dtype=np.uint8):
    return np.full(shape, level, dtype)


every = pytest.mark.parametrize("name", list(DEGRADATIONS))


@every
@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (7, 5), (96, 72)])
def test_any_image_keeps_its_size_and_depth_and_stays_as_it_is(
    name, height, width, channels, dtype
):
    pixels = sixteen(small()) if dtype == np.uint16 else small()
    pixels = np.ascontiguousarray(pixels[:height, :width, :channels])
    before = pixels.copy()
    pixels.setflags(write=False)
    known = DEGRADATIONS[name]
    for severity in range(1, 6) if known.has_severities else [None]:
        damaged = damage(name, pixels, **(known.at_severity(severity) if severity else {}))
        assert damaged.pixels.shape[:2] == (height, width)
        assert damaged.pixels.shape[2:] in {(1,), (3,)}
        assert damaged.pixels.dtype == dtype
        if damaged.mask is not None:
            assert (damaged.mask.shape, damaged.mask.dtype) == ((height, width), bool)
    assert np.array_equal(pixels, before)


@every
def test_the_summary_of_every_degradation_is_a_sentence(name):
    assert DEGRADATIONS[name].summary[0].isupper()
    assert DEGRADATIONS[name].summary.endswith(".")


# make_imagenet_c.py of Hendrycks & Dietterich 2019, in its own scales.
PUBLISHED = {
    "gaussian_noise": ("sigma", [255 * sigma for sigma in (0.08, 0.12, 0.18, 0.26, 0.38)]),
    "jpeg": ("quality", [25, 18, 15, 10, 7]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_severities_are_those_published(name):
    parameter, expected = PUBLISHED[name]
    given = [DEGRADATIONS[name].at_severity(severity)[parameter] for severity in range(1, 6)]
    assert given == pytest.approx(expected)


@pytest.mark.parametrize(
    "name", [name for name in DEGRADATIONS if DEGRADATIONS[name].has_severities]
)
def test_worse_severities_do_more_damage(name):
    pixels = photo("coffee")[:200, :200]
    errors = [
        np.square(
            damage(name, pixels, **DEGRADATIONS[name].at_severity(severity)).pixels.astype(float)
            - pixels
        ).mean()
        for severity in range(1, 6)
    ]
    assert errors == sorted(errors)
    assert errors[0] > 0


# -- gaussian_noise --------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [5, 25])
@pytest.mark.parametrize(("dtype", "unit"), [(np.uint8, 1), (np.uint16, 257)])
def test_noise_on_mid_gray_has_mean_zero_and_the_sigma_asked_for(sigma, dtype, unit):
    level = 128 * unit
    noise = damage("gaussian_noise", flat(level, dtype=dtype), sigma=sigma).pixels / unit - 128
    # Standard errors over n samples: sigma / sqrt(n) and sigma / sqrt(2 n); 5 of each.
    assert noise.mean() == pytest.approx(0, abs=5 * sigma / 512)
    assert noise.std() == pytest.approx(sigma, abs=5 * sigma / 724 + 0.02)
    shares = [(np.abs(noise) <= k * sigma).mean() for k in (1, 2)]
    # A normal distribution; rounding to whole levels moves a share by half a level at most.
    assert shares == pytest.approx([0.6827, 0.9545], abs=0.05 if sigma == 5 else 0.015)


def test_noise_differs_between_channels_and_neighbours():
    noise = damage("gaussian_noise", flat(128, (256, 256, 3)), sigma=25).pixels - 128.0
    pairs = [(noise[..., 0], noise[..., 1]), (noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])]
    for one, other in pairs:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.03


def test_noise_is_clipped_and_does_not_wrap():
    assert damage("gaussian_noise", flat(255), sigma=50).pixels.min() > 0
    assert damage("gaussian_noise", flat(0), sigma=50).pixels.max() < 255
    half = damage("gaussian_noise", flat(255), sigma=50).pixels == 255
    assert half.mean() == pytest.approx(0.5, abs=0.01)


def test_no_noise_is_no_change():
    assert np.array_equal(damage("gaussian_noise", small(), sigma=0).pixels, small())


# -- jpeg ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [7, 25, 75, 100])
@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
def test_jpeg_is_what_pillow_makes_of_it(name, quality, channels):
    pixels = photo(name)[:203, :301]
    pixels = gray(pixels) if channels == 1 else pixels
    ours = damage("jpeg", pixels, quality=quality).pixels.astype(int)
    theirs = opened(saved(pixels, "JPEG", quality=quality, subsampling=2))
    theirs = np.asarray(theirs).reshape(pixels.shape).astype(int)
    assert np.abs(ours - theirs).mean() < 0.5, "but for another libjpeg's rounding"


def test_jpeg_takes_16_bits_to_8_and_back_over_the_full_range():
    levels = damage("jpeg", flat(65535, (16, 16, 3), np.uint16), quality=90).pixels
    assert levels.min() == 65535
    deep = damage("jpeg", sixteen(small()), quality=90).pixels
    assert np.abs(deep / 257.0 - sixteen(small()) / 257.0).mean() < 4
    assert not (deep % 257).any()


# -- mask ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0, 0.1, 0.5, 0.9, 1])
def test_single_pixels_are_taken_with_the_odds_asked_for(amount):
    mask = damage("mask", flat(128), amount=amount).mask
    # 5 standard deviations of a binomial share over 512 x 512 pixels.
    assert mask.mean() == pytest.approx(amount, abs=5 * (amount * (1 - amount)) ** 0.5 / 512)


@pytest.mark.parametrize("amount", [0.01, 0.25, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_rectangles_cover_what_was_asked_and_at_most_one_more(amount, seed):
    share = damage("mask", flat(128), seed, amount=amount, shape="rectangles").mask.mean()
    assert amount <= share <= amount + 1 / 16


def test_a_rectangle_is_one_with_sides_of_an_eighth_to_a_quarter():
    height, width = 320, 480
    whole = 0
    for seed in range(40):
        mask = damage("mask", flat(9, (height, width, 1)), seed, amount=1e-6, shape="rectangles")
        (rows, columns), *more = ndimage.find_objects(ndimage.label(mask.mask)[0])
        assert not more
        assert mask.mask[rows, columns].all()
        assert rows.stop - rows.start <= height // 4
        assert columns.stop - columns.start <= width // 4
        if rows.start and columns.start and rows.stop < height and columns.stop < width:
            whole += 1
            assert rows.stop - rows.start >= height // 8
            assert columns.stop - columns.start >= width // 8
    assert whole > 10


def test_no_part_of_the_image_is_spared_by_rectangles():
    counts = sum(
        damage("mask", flat(9, (64, 64, 1)), seed, amount=0.3, shape="rectangles").mask.astype(int)
        for seed in range(300)
    )
    # Each pixel is hit with odds of about a third: 300 draws, and 6 standard deviations of 8.
    assert counts.min() > 0.3 * 300 - 50
    assert counts.max() < 0.4 * 300 + 50


@pytest.mark.parametrize("shape", ["pixels", "rectangles"])
@pytest.mark.parametrize(
    ("fill", "dtype", "level"),
    [
        (0, np.uint8, 0),
        (0.2, np.uint8, 51),
        (1, np.uint8, 255),
        (0.2, np.uint16, 13107),
        (1, np.uint16, 65535),
    ],
)
def test_the_mask_is_where_pixels_were_painted_over(shape, fill, dtype, level):
    pixels = small() if dtype == np.uint8 else sixteen(small())
    # A level that is not in the photograph tells what was painted.
    pixels = np.where(pixels == level, pixels ^ 1, pixels)
    damaged = damage("mask", pixels, amount=0.4, shape=shape, fill=fill)
    assert np.array_equal((damaged.pixels == level).all(-1), damaged.mask)
    assert np.array_equal(damaged.pixels[~damaged.mask], pixels[~damaged.mask])


# -- grayscale -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHOTOS)
def test_grayscale_is_the_luma_of_pillow_within_a_level(name):
    expected = np.asarray(Image.fromarray(photo(name)).convert("L")).astype(int)
    ours = damage("grayscale", photo(name)).pixels
    assert ours.shape == (*expected.shape, 1)
    assert np.abs(ours[..., 0] - expected).max() <= 1


def test_grayscale_in_16_bits_keeps_them():
    pixels = sixteen(small())
    expected = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(int)
    assert np.abs(damage("grayscale", pixels).pixels[..., 0] - expected).max() <= 2


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_neutral_colours_keep_their_level_in_grayscale(level):
    assert (damage("grayscale", flat(level, (3, 3, 3))).pixels == level).all()


def test_a_gray_image_is_gray_already():
    assert np.array_equal(damage("grayscale", gray(small())).pixels, gray(small()))
