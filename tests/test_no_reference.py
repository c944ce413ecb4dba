"""Measures of an image by itself are what their authors define, and what is put in comes out."""

import colorsys
import math

import cv2
import numpy as np
import pytest
from skimage.measure import shannon_entropy

from tests.photographs import TEN, gray, middle, noisy, photo, sixteen, small
from transforms.metrics import METRICS, Picture

MEASURES = {name: metric.function for name, metric in METRICS.items() if not metric.reference}


def measure(name, pixels):
    return MEASURES[name](Picture(pixels))


def levels(pixels):
    """As float64 from 0 to 255, with three channels."""
    scaled = pixels.astype(float) * 255 / np.iinfo(pixels.dtype).max
    return np.broadcast_to(scaled, (*pixels.shape[:2], 3))


def luma(pixels):
    return levels(pixels) @ np.array([0.299, 0.587, 0.114])


def hasler_suesstrunk(pixels):
    red, green, blue = np.moveaxis(levels(pixels), -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())


def hsv_saturation(pixels):
    flat = (levels(pixels) / 255).reshape(-1, 3)
    return np.mean([colorsys.rgb_to_hsv(*pixel)[1] for pixel in flat])


def immerkaer(pixels):
    """Equation 3 of the paper, with its mask N and the sum taken as it stands."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], float)
    found = []
    for channel in np.moveaxis(levels(pixels), -1, 0):
        height, width = channel.shape
        left = sum(
            mask[y, x] * channel[y : y + height - 2, x : x + width - 2]
            for y in range(3)
            for x in range(3)
        )
        total = np.abs(left).sum()
        found.append(math.sqrt(math.pi / 2) / 6 / (height - 2) / (width - 2) * total)
    return np.mean(found)


def laplacian_variance(pixels):
    inner = cv2.Laplacian(luma(pixels), cv2.CV_64F)[1:-1, 1:-1]
    return inner.var()


def share_of_ends(pixels):
    white = np.iinfo(pixels.dtype).max
    return np.mean((pixels == 0) | (pixels == white))


REFERENCES = {
    "colourfulness": hasler_suesstrunk,
    "contrast": lambda pixels: luma(pixels).std() / 255,
    "saturation": hsv_saturation,
    "noise_sigma": immerkaer,
    "sharpness": laplacian_variance,
    "clipped": share_of_ends,
}


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", TEN)
@pytest.mark.parametrize("measure_name", REFERENCES)
def test_measures_of_ten_photographs_are_as_their_papers_say(measure_name, name, depth):
    pixels = middle(name, 161, 151)
    if depth == 16:
        pixels = sixteen(pixels)
    expected = REFERENCES[measure_name](pixels)
    assert measure(measure_name, pixels) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", TEN)
def test_entropy_is_that_of_scikit_image(name):
    pixels = middle(name)
    rounded = np.rint(luma(pixels))
    assert measure("entropy", pixels) == pytest.approx(shannon_entropy(rounded), abs=2e-3)
    deep = measure("entropy", pixels.astype(np.uint16) * 257)
    assert deep == pytest.approx(shannon_entropy(rounded), abs=2e-3)


def test_a_gray_image_has_neither_colourfulness_nor_saturation():
    for pixels in (gray(photo()), np.repeat(gray(photo()), 3, axis=-1), sixteen(gray(photo()))):
        assert measure("colourfulness", pixels) == 0
        assert measure("saturation", pixels) == 0


@pytest.mark.parametrize("name", MEASURES)
def test_gray_counts_as_equal_channels(name):
    flat = gray(small())
    assert measure(name, flat) == pytest.approx(measure(name, np.repeat(flat, 3, -1)), abs=2e-5)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1, 3), (2, 9, 1), (300, 400, 3)])
def test_flat_images_have_nothing_but_their_colour(name, dtype, size):
    white = np.iinfo(dtype).max
    pixels = np.full(size, 3 * (white // 5), dtype)
    found = measure(name, pixels)
    if min(size[:2]) < METRICS[name].smallest:
        assert found is None
    else:
        assert found == 0
    assert measure("clipped", np.full(size, white, dtype)) == 1
    assert measure("clipped", np.zeros(size, dtype)) == 1


def test_a_flat_colour_has_the_colourfulness_and_saturation_of_the_formulas():
    # rg = 100, yb = 50: 0.3 times the root of 12500; (200 - 100) / 200.
    pixels = np.full((5, 6, 3), (200, 100, 100), np.uint8)
    assert measure("colourfulness", pixels) == pytest.approx(0.3 * math.sqrt(12_500))
    assert measure("saturation", pixels) == 0.5
    assert measure("contrast", pixels) == 0


def test_half_black_and_half_white_has_the_most_contrast_and_one_bit():
    pixels = np.zeros((10, 10, 1), np.uint8)
    pixels[5:] = 255
    assert measure("contrast", pixels) == pytest.approx(0.5)
    assert measure("entropy", pixels) == 1


@pytest.mark.parametrize("sigma", [5, 15, 30])
@pytest.mark.parametrize("depth", [8, 16])
def test_noise_that_is_put_into_a_smooth_image_is_found(sigma, depth):
    ramp = np.linspace(80, 175, 400)[None, :, None] + np.zeros((300, 1, 3))
    pixels = ramp.astype(np.uint8) if depth == 8 else (ramp * 257).astype(np.uint16)
    assert measure("noise_sigma", noisy(pixels, sigma)) == pytest.approx(sigma, rel=0.02)


def test_blur_takes_sharpness_and_noise_adds_to_it():
    sharp = photo("chelsea")
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.5)
    assert measure("sharpness", blurred) < measure("sharpness", sharp) / 4
    assert measure("sharpness", noisy(sharp)) > measure("sharpness", sharp)


@pytest.mark.parametrize("name", MEASURES)
def test_images_in_many_bands_are_measured_as_one(name):
    # Bands are of 65,536 samples: rows of 160,000 are a band each.
    pixels = np.tile(photo("coffee")[:20], (1, 267, 1))
    turned = np.ascontiguousarray(pixels.transpose(1, 0, 2))
    assert measure(name, pixels) == pytest.approx(measure(name, turned), rel=1e-9)
