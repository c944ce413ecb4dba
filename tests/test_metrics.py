"""Scores are those of scikit-image on real photographs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from tests.photographs import PHOTOS, gray, noisy, opened, photo, saved, sixteen, small
from transforms.metrics import FULL_REFERENCE, mse, psnr, ssim

DEPTHS = {
    "8-bit": lambda pixels: pixels,
    "16-bit": sixteen,
    "dark 16-bit": lambda pixels: sixteen(pixels) // 300,  # no level above 255
    "gray": gray,
}


def reference_ssim(image, reference):
    """The settings by which scikit-image follows Wang et al. 2004."""
    return structural_similarity(
        image,
        reference,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=np.iinfo(image.dtype).max,
        channel_axis=-1,
    )


def jpeg(pixels):
    return np.asarray(opened(saved(pixels, "JPEG", quality=10))).reshape(pixels.shape)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("sigma", [1, 25, 100])
def test_scores_of_noise_are_those_of_scikit_image(name, depth, sigma):
    reference = DEPTHS[depth](photo(name)[:203, :217])
    image = noisy(reference, sigma)
    white = np.iinfo(reference.dtype).max
    expected = peak_signal_noise_ratio(reference, image, data_range=white)
    assert psnr(image, reference) == pytest.approx(expected, abs=1e-4)
    assert mse(image, reference) == pytest.approx(10 ** (-expected / 10), rel=1e-5)
    assert ssim(image, reference) == pytest.approx(reference_ssim(image, reference), abs=1e-4)


@pytest.mark.parametrize("name", PHOTOS)
def test_scores_of_compression_are_those_of_scikit_image(name):
    reference, image = photo(name), jpeg(photo(name))
    expected = mean_squared_error(reference / 255, image / 255)
    assert mse(image, reference) == pytest.approx(expected, rel=1e-6)
    assert ssim(image, reference) == pytest.approx(reference_ssim(image, reference), abs=1e-4)


@pytest.mark.parametrize("depth", ["gray", "16-bit"])
@pytest.mark.parametrize("height", [2048, 2058, 2059, 2300])
def test_images_taller_than_what_is_scored_at_a_time_have_no_border_inside(height, depth):
    # 2048 rows of 512 pixels are scored at a time; the window reaches 5 rows further.
    tall = np.concatenate([photo(), photo("coffee")[:, :512], photo("rocket")[:, :512]] * 2)
    reference = DEPTHS[depth](tall[:height])[..., :1]
    image = noisy(reference, 40)
    white = np.iinfo(reference.dtype).max
    expected = peak_signal_noise_ratio(reference, image, data_range=white)
    assert psnr(image, reference) == pytest.approx(expected, abs=1e-6)
    assert ssim(image, reference) == pytest.approx(reference_ssim(image, reference), abs=1e-6)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_equal_images_have_no_error_and_no_finite_psnr(name, depth):
    pixels = DEPTHS[depth](photo(name)[:64, :64])
    assert mse(pixels, pixels.copy()) == 0
    assert psnr(pixels, pixels.copy()) is None
    assert ssim(pixels, pixels.copy()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_black_against_white_is_the_worst_there_is(dtype):
    black = np.zeros((16, 16, 3), dtype)
    white = np.full_like(black, np.iinfo(dtype).max)
    assert mse(black, white) == 1
    assert psnr(black, white) == 0
    # No variance, so only the luminance term is left: C1 / (1 + C1), C1 = 0.01 ** 2.
    assert ssim(black, white) == pytest.approx(1e-4 / (1 + 1e-4), abs=1e-7)


@pytest.mark.parametrize(
    ("level", "other", "expected"),
    # (2 a b + C1) / (a a + b b + C1) with white as 1 and C1 = 0.0001, by hand.
    [(51, 102, 0.1601 / 0.2001), (0, 51, 0.0001 / 0.0401), (204, 255, 1.6001 / 1.6401)],
)
def test_flat_images_compare_by_their_luminance_alone(level, other, expected):
    image, reference = (np.full((20, 30, 3), value, np.uint8) for value in (level, other))
    assert ssim(image, reference) == pytest.approx(expected, abs=1e-5)
    assert mse(image, reference) == pytest.approx(0.04)


def test_a_known_error_has_its_known_decibels():
    image, reference = np.zeros((4, 5, 1), np.uint8), np.zeros((4, 5, 1), np.uint8)
    image[0, 0] = 255  # one sample in 20: 10 log10(20) = 13.0103
    assert mse(image, reference) == pytest.approx(0.05)
    assert psnr(image, reference) == pytest.approx(13.0103, abs=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (10, 10), (10, 200), (200, 10)])
def test_an_image_smaller_than_the_window_has_no_ssim_but_a_psnr(height, width):
    pixels = photo()[:height, :width]
    assert ssim(noisy(pixels), pixels) is None
    assert psnr(noisy(pixels), pixels) > 0


def test_an_image_of_one_window_has_an_ssim():
    reference = small(height=11, width=11)
    image = noisy(reference)
    assert ssim(image, reference) == pytest.approx(reference_ssim(image, reference), abs=1e-4)


@pytest.mark.parametrize("metric", FULL_REFERENCE)
@pytest.mark.parametrize(
    "other",
    [
        np.zeros((20, 21, 3), np.uint8),
        np.zeros((20, 20, 1), np.uint8),
        np.zeros((20, 20, 3), np.uint16),
        np.zeros((20, 20), np.uint8),
    ],
    ids=["size", "channels", "depth", "no-channels"],
)
def test_images_that_cannot_be_compared_are_refused(metric, other):
    with pytest.raises(ValueError, match="cannot compare") as refused:
        FULL_REFERENCE[metric](other, np.zeros((20, 20, 3), np.uint8))
    assert str(other.shape) in str(refused.value)


@pytest.mark.parametrize("metric", FULL_REFERENCE)
def test_flat_arrays_are_refused_even_if_alike(metric):
    with pytest.raises(ValueError, match="cannot compare"):
        FULL_REFERENCE[metric](np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8))


@given(st.integers(0, 100), st.integers(0, 100), st.integers(11, 40), st.integers(11, 40))
@settings(deadline=None, max_examples=30)
def test_scores_do_not_depend_on_which_image_is_the_reference(top, left, height, width):
    reference = photo("chelsea")[top : top + height, left : left + width]
    image = photo("coffee")[top : top + height, left : left + width]
    for metric in FULL_REFERENCE.values():
        assert metric(image, reference) == pytest.approx(metric(reference, image), abs=1e-4)
    assert -1 <= ssim(image, reference) <= 1
