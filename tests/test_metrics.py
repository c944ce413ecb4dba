"""Scores against a reference are those of scikit-image and TensorFlow, on real photographs."""

import inspect
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d
from skimage.color import rgb2ycbcr
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from tests.photographs import PHOTOS, TEN, gray, noisy, opened, photo, saved, sixteen, small
from transforms.metrics import METRICS, Pair, gmsd, mae, ms_ssim, mse, psnr_rgb, psnr_y, rmse, ssim

COMPARING = {name: metric.function for name, metric in METRICS.items() if metric.reference}
REGIONAL = {name: metric.function for name, metric in METRICS.items() if metric.regional}
DEPTHS = {
    "8-bit": lambda pixels: pixels,
    "16-bit": sixteen,
    "dark 16-bit": lambda pixels: sixteen(pixels) // 300,  # no level above 255
    "gray": gray,
}


def reference_ssim(image, reference, full=False):
    """The settings by which scikit-image follows Wang et al. 2004."""
    return structural_similarity(
        image,
        reference,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=np.iinfo(image.dtype).max,
        channel_axis=-1,
        full=full,
    )


def jpeg(pixels):
    return np.asarray(opened(saved(pixels, "JPEG", quality=10))).reshape(pixels.shape)


def of_ten(name, depth):
    pixels = TEN[name]()[:200, :217]
    return sixteen(pixels) if depth == 16 else pixels


# -- what scikit-image and TensorFlow give ---------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", TEN)
def test_scores_of_ten_photographs_are_those_of_scikit_image_and_tensorflow(name, depth):
    reference = of_ten(name, depth)
    image = noisy(reference, 25)
    pair, white = Pair(image, reference), np.iinfo(reference.dtype).max
    expected = peak_signal_noise_ratio(reference, image, data_range=white)
    assert psnr_rgb(pair) == pytest.approx(expected, abs=1e-4)
    assert ssim(pair) == pytest.approx(reference_ssim(image, reference), abs=1e-4)
    unit = [tf.constant(pixels / white, tf.float32) for pixels in (image, reference)]
    assert psnr_rgb(pair) == pytest.approx(float(tf.image.psnr(*unit, 1.0)), abs=1e-4)
    assert ssim(pair) == pytest.approx(float(tf.image.ssim(*unit, 1.0)), abs=1e-4)
    assert ms_ssim(pair) == pytest.approx(float(tf.image.ssim_multiscale(*unit, 1.0)), abs=1e-4)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("sigma", [1, 100])
def test_scores_of_noise_are_those_of_scikit_image(name, depth, sigma):
    reference = DEPTHS[depth](photo(name)[:103, :117])
    image = noisy(reference, sigma)
    pair, white = Pair(image, reference), np.iinfo(reference.dtype).max
    expected = peak_signal_noise_ratio(reference, image, data_range=white)
    assert psnr_rgb(pair) == pytest.approx(expected, abs=1e-4)
    assert mse(pair) == pytest.approx(10 ** (-expected / 10), rel=1e-5)
    assert rmse(pair) == pytest.approx(10 ** (-expected / 20), rel=1e-5)
    away = np.abs(image.astype(float) - reference).mean() / white
    assert mae(pair) == pytest.approx(away, rel=1e-9)
    assert ssim(pair) == pytest.approx(reference_ssim(image, reference), abs=1e-4)


@pytest.mark.parametrize("name", PHOTOS)
def test_scores_of_compression_are_those_of_scikit_image(name):
    reference, image = photo(name), jpeg(photo(name))
    pair = Pair(image, reference)
    expected = mean_squared_error(reference / 255, image / 255)
    assert mse(pair) == pytest.approx(expected, rel=1e-6)
    assert ssim(pair) == pytest.approx(reference_ssim(image, reference), abs=1e-4)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", PHOTOS)
def test_psnr_of_y_is_that_of_scikit_images_ycbcr(name, depth):
    reference = of_ten(name, depth)
    image = noisy(reference, 25)
    one, two = (rgb2ycbcr(pixels)[..., 0] for pixels in (image, reference))
    expected = peak_signal_noise_ratio(two, one, data_range=255)
    assert psnr_y(Pair(image, reference)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("height", [161, 170, 177, 201, 512])
@pytest.mark.parametrize("width", [161, 200, 511])
def test_ms_ssim_of_odd_sizes_is_that_of_tensorflow(height, width):
    reference = photo()[:height, :width]
    image = jpeg(reference)
    unit = [tf.constant(pixels / 255, tf.float32) for pixels in (image, reference)]
    expected = float(tf.image.ssim_multiscale(*unit, 1.0))
    assert ms_ssim(Pair(image, reference)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("height", "width"), [(160, 200), (200, 160)])
def test_an_image_that_is_too_small_at_the_fifth_scale_has_no_ms_ssim(height, width):
    pixels = photo()[:height, :width]
    assert ms_ssim(Pair(noisy(pixels), pixels)) is None


def reference_gmsd(image, reference):
    """Xue et al. 2014, equations 1-5, with the constants and borders of their MATLAB program
    (170 for levels of 0 to 255, half size by a 2x2 mean, conv2's zeros), but the standard
    deviation of the paper, which divides by N.
    """
    weights = np.array([0.299, 0.587, 0.114])
    down = np.array([[1, 1, 1], [0, 0, 0], [-1, -1, -1]]) / 3
    magnitudes = []
    for pixels in (image, reference):
        levels = pixels.astype(float) * 255 / np.iinfo(pixels.dtype).max
        luma = levels @ weights if levels.shape[-1] == 3 else levels[..., 0]
        half = convolve2d(luma, np.full((2, 2), 0.25))[1::2, 1::2]
        slopes = [convolve2d(half, kernel, mode="same") for kernel in (down, down.T)]
        magnitudes.append(np.hypot(*slopes))
    one, two = magnitudes
    return np.std((2 * one * two + 170) / (one**2 + two**2 + 170))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", TEN)
def test_gmsd_is_what_its_authors_define(name, depth):
    reference = of_ten(name, depth)
    for image in (noisy(reference, 25), noisy(reference, 3)):
        expected = reference_gmsd(image, reference)
        assert gmsd(Pair(image, reference)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    # By piq.gmsd of piq 0.8.0 (github.com/photosynthesis-team/piq), of these images in float64.
    [
        ("astronaut", 0.1225930),
        ("chelsea", 0.0981348),
        ("coffee", 0.1185872),
        ("rocket", 0.1711572),
    ],
)
def test_gmsd_is_that_of_piq(name, expected):
    reference = photo(name)[:300, :400]
    assert gmsd(Pair(noisy(reference, 25), reference)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("height", [6, 7, 85, 86, 87, 201, 512])
@pytest.mark.parametrize("width", [6, 7, 511])
def test_gmsd_has_the_authors_borders_at_any_size(height, width):
    reference = photo()[:height, :width]
    image = jpeg(reference)
    expected = reference_gmsd(image, reference)
    assert gmsd(Pair(image, reference)) == pytest.approx(expected, abs=1e-5)


def test_very_wide_images_whose_bands_are_single_rows_have_every_score():
    reference = np.tile(photo()[:165], (1, 22, 1))  # 11,264 pixels wide: a band is a row
    image = jpeg(reference)
    expected = reference_gmsd(image, reference)
    assert gmsd(Pair(image, reference)) == pytest.approx(expected, abs=1e-5)
    upright = (np.ascontiguousarray(pixels.transpose(1, 0, 2)) for pixels in (image, reference))
    assert ms_ssim(Pair(image, reference)) == pytest.approx(ms_ssim(Pair(*upright)), abs=1e-5)


# -- large, small, equal and flat ------------------------------------------------------------------


@pytest.mark.parametrize("depth", ["gray", "16-bit"])
@pytest.mark.parametrize("height", [42, 127, 138, 139, 700])
def test_images_taller_than_what_is_scored_at_a_time_have_no_border_inside(height, depth):
    # 128 rows of 512 pixels are scored at a time, in colour 42 by PSNR; the window reaches on.
    tall = np.concatenate([photo(), photo("coffee")[:, :512], photo("rocket")[:, :512]])
    reference = DEPTHS[depth](tall[:height])
    image = noisy(reference, 40)
    pair, white = Pair(image, reference), np.iinfo(reference.dtype).max
    expected = peak_signal_noise_ratio(reference, image, data_range=white)
    assert psnr_rgb(pair) == pytest.approx(expected, abs=1e-6)
    assert ssim(pair) == pytest.approx(reference_ssim(image, reference), abs=1e-6)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_equal_images_have_no_error_and_no_finite_psnr(name, depth):
    pixels = DEPTHS[depth](photo(name)[:171, :180])
    pair = Pair(pixels, pixels.copy())
    for name in ("mse", "rmse", "mae", "gmsd", "chroma_error", "colourfulness_difference"):
        assert COMPARING[name](pair) == 0, name
    assert COMPARING["ciede2000"](pair) == COMPARING["ciede2000_p95"](pair) == 0
    assert psnr_rgb(pair) is psnr_y(pair) is None
    assert ssim(pair) == pytest.approx(1, abs=1e-6)
    assert ms_ssim(pair) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_black_against_white_is_the_worst_there_is(dtype):
    black = np.zeros((16, 16, 3), dtype)
    pair = Pair(black, np.full_like(black, np.iinfo(dtype).max))
    assert mse(pair) == rmse(pair) == mae(pair) == 1
    assert psnr_rgb(pair) == 0
    assert psnr_y(pair) == pytest.approx(20 * math.log10(255 / 219), abs=1e-6)
    # No variance, so only the luminance term is left: C1 / (1 + C1), C1 = 0.01 ** 2.
    assert ssim(pair) == pytest.approx(1e-4 / (1 + 1e-4), abs=2e-7)
    assert COMPARING["ciede2000"](pair) == pytest.approx(100, abs=1e-3)


@pytest.mark.parametrize(
    ("level", "other", "expected"),
    # (2 a b + C1) / (a a + b b + C1) with white as 1 and C1 = 0.0001, by hand.
    [(51, 102, 0.1601 / 0.2001), (0, 51, 0.0001 / 0.0401), (204, 255, 1.6001 / 1.6401)],
)
def test_flat_images_compare_by_their_luminance_alone(level, other, expected):
    pair = Pair(*(np.full((20, 30, 3), value, np.uint8) for value in (level, other)))
    assert ssim(pair) == pytest.approx(expected, abs=1e-5)
    assert mse(pair) == pytest.approx(0.04)


def test_a_known_error_has_its_known_decibels():
    image, reference = np.zeros((4, 5, 1), np.uint8), np.zeros((4, 5, 1), np.uint8)
    image[0, 0] = 255  # one sample in 20: 10 log10(20) = 13.0103
    pair = Pair(image, reference)
    assert mse(pair) == mae(pair) == pytest.approx(0.05)
    assert psnr_rgb(pair) == pytest.approx(13.0103, abs=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 5), (10, 10), (10, 200), (200, 10)])
def test_an_image_smaller_than_the_window_has_no_ssim_but_a_psnr(height, width):
    pixels = photo()[:height, :width]
    pair = Pair(noisy(pixels), pixels)
    assert ssim(pair) is ms_ssim(pair) is None
    assert (gmsd(pair) is None) == (min(height, width) < 6)
    assert psnr_rgb(pair) > 0


def test_an_image_of_one_window_has_an_ssim():
    reference = small(height=11, width=11)
    image = noisy(reference)
    expected = reference_ssim(image, reference)
    assert ssim(Pair(image, reference)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("metric", COMPARING)
@pytest.mark.parametrize("size", [(1, 1, 3), (2, 3, 1), (12, 12, 3), (165, 165, 1)])
@pytest.mark.parametrize("level", [0, 77, 255])
def test_every_score_of_flat_images_is_a_finite_number_or_none(metric, size, level):
    flat, other = np.full(size, level, np.uint8), np.full(size, 255 - level, np.uint8)
    for pair in (Pair(flat, flat), Pair(flat, other)):
        score = COMPARING[metric](pair)
        assert score is None or math.isfinite(score)
        assert (score is None) == (
            min(size[:2]) < METRICS[metric].smallest
            or (metric.startswith("psnr") and np.array_equal(flat, pair.reference.pixels))
        )


# -- the same in any form --------------------------------------------------------------------------


@pytest.mark.parametrize("metric", COMPARING)
def test_gray_counts_as_equal_channels(metric):
    colour, flat = small(height=170, width=170), gray(small(height=170, width=170))
    tripled = np.repeat(flat, 3, axis=-1)
    expected = COMPARING[metric](Pair(colour, tripled))
    assert COMPARING[metric](Pair(colour, flat)) == pytest.approx(expected, abs=1e-9)
    assert COMPARING[metric](Pair(flat, noisy(flat))) == pytest.approx(
        COMPARING[metric](Pair(tripled, np.repeat(noisy(flat), 3, axis=-1))), abs=2e-6
    )


@pytest.mark.parametrize("metric", COMPARING)
def test_the_same_picture_in_16_bits_has_the_same_score(metric):
    reference = small(height=170, width=170)
    image = noisy(reference)
    deep = Pair(image.astype(np.uint16) * 257, reference.astype(np.uint16) * 257)
    expected = COMPARING[metric](Pair(image, reference))
    assert COMPARING[metric](deep) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("metric", COMPARING)
def test_strides_do_not_matter(metric):
    reference = photo()[::2, ::-1]
    image = noisy(reference)
    straight = Pair(np.ascontiguousarray(image), np.ascontiguousarray(reference))
    assert COMPARING[metric](Pair(image, reference)) == COMPARING[metric](straight)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_scores_do_not_depend_on_which_image_is_the_reference(top, left, height, width):
    reference = photo("chelsea")[top : top + height, left : left + width]
    image = photo("coffee")[top : top + height, left : left + width]
    for name, metric in COMPARING.items():
        there, back = metric(Pair(image, reference)), metric(Pair(reference, image))
        if name == "colourfulness_difference":
            back = -back
        assert there == pytest.approx(back, abs=2e-3), name


# -- masks -----------------------------------------------------------------------------------------


def ellipse(height, width):
    y, x = np.mgrid[:height, :width]
    return ((y - height / 3) / height) ** 2 + ((x - width / 2) / width) ** 2 < 0.04


@pytest.mark.parametrize("metric", sorted(set(REGIONAL) - {"ssim"}))
def test_inside_a_mask_only_its_pixels_count(metric):
    reference = photo("coffee")[:300, :301]
    image, mask = noisy(reference, 30), ellipse(300, 301)
    pair = Pair(image, reference, mask)
    for region, chosen in (("inside", mask), ("outside", ~mask)):
        alone = Pair(image[chosen][None], reference[chosen][None])  # these pixels in a row
        assert REGIONAL[metric](pair, region) == pytest.approx(REGIONAL[metric](alone), rel=1e-6)
    assert REGIONAL[metric](pair) == pytest.approx(REGIONAL[metric](Pair(image, reference)))


def test_ssim_inside_a_mask_is_the_mean_over_windows_whose_middle_it_has():
    reference = photo("coffee")[:300, :301]
    image, mask = noisy(reference, 30), ellipse(300, 301)
    _, found = reference_ssim(image, reference, full=True)
    within, of_map = mask[5:-5, 5:-5], found[5:-5, 5:-5]
    pair = Pair(image, reference, mask)
    assert ssim(pair, "inside") == pytest.approx(of_map[within].mean(), abs=1e-6)
    assert ssim(pair, "outside") == pytest.approx(of_map[~within].mean(), abs=1e-6)
    assert ssim(pair) == pytest.approx(of_map.mean(), abs=1e-6)


@pytest.mark.parametrize("metric", REGIONAL)
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_region_without_pixels_has_no_score(metric, everywhere):
    reference = small()
    pair = Pair(noisy(reference), reference, np.full(reference.shape[:2], everywhere))
    all_of_it, none_of_it = ("inside", "outside") if everywhere else ("outside", "inside")
    assert REGIONAL[metric](pair, none_of_it) is None
    whole = REGIONAL[metric](Pair(noisy(reference), reference))
    assert REGIONAL[metric](pair, all_of_it) == pytest.approx(whole)


# -- what cannot be compared -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.zeros((20, 21, 3), np.uint8), r"cannot compare .*\(20, 21, 3\)"),
        (np.zeros((20, 20, 3), np.uint16), "cannot compare uint16"),
        (np.zeros((20, 20), np.uint8), r"cannot score .*\(20, 20\)"),
        (np.zeros((20, 20, 4), np.uint8), r"cannot score .*\(20, 20, 4\)"),
        (np.zeros((20, 20, 3), np.float32), "cannot score float32"),
        (np.zeros((0, 20, 3), np.uint8), r"cannot score .*\(0, 20, 3\)"),
    ],
    ids=["size", "depth", "no-channels", "alpha", "float", "empty"],
)
def test_images_that_cannot_be_compared_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        Pair(other, np.zeros((20, 20, 3), np.uint8))


@pytest.mark.parametrize("mask", [np.zeros((20, 21), bool), np.zeros((20, 20), np.uint8)])
def test_a_mask_that_does_not_fit_is_refused(mask):
    pixels = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(ValueError, match="cannot use"):
        Pair(pixels, pixels, mask)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_in_its_docstring_what_it_is(name):
    metric = METRICS[name]
    assert len(inspect.getdoc(metric.function)) > 40
    asked = list(inspect.signature(metric.function).parameters)
    assert asked == (["pair", "region"] if metric.regional else ["pair"] * metric.reference) or (
        asked == ["picture"]
    )
