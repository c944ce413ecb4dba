"""Colour inside serving graphs against scikit-image."""

import numpy as np
import pytest
from skimage import color

from models import colour


@pytest.fixture(scope="module")
def rgb(photographs) -> np.ndarray:
    """All of sRGB in steps, much of it dark or nearly gray, where hue and roots are steepest."""
    rng = np.random.default_rng(0)
    cube = np.stack(np.meshgrid(*[np.linspace(0, 1, 16)] * 3), axis=-1).reshape(64, 64, 3)
    photo = photographs["coffee"][:64, :64] / 255
    dark = rng.random((64, 64, 3)) * 0.05
    pale = rng.random((64, 64, 1)) + rng.normal(0, 0.005, (64, 64, 3))
    return np.stack([cube, photo, dark, pale.clip(0, 1)]).astype(np.float32).astype(np.float64)


def test_chroma_is_that_of_scikit_image(rgb):
    found = np.asarray(colour.chroma_of_rgb(rgb.astype(np.float32)))
    np.testing.assert_allclose(found, color.rgb2lab(rgb)[..., 1:], atol=1e-3)


def test_the_gray_of_a_lightness_is_that_of_scikit_image(rgb):
    lightness = color.rgb2lab(rgb)[..., :1]
    lightness[0, 0, :, 0] = np.linspace(0, 100, 64)
    neutral = np.concatenate([lightness, np.zeros_like(lightness), np.zeros_like(lightness)], -1)
    found = np.asarray(colour.gray_of_lightness(lightness.astype(np.float32)))
    np.testing.assert_allclose(found, color.lab2rgb(neutral)[..., :1], atol=1e-3)


@pytest.mark.parametrize("space", ["YUV", "HSV", "RGB"])
def test_what_networks_give_in_other_spaces_becomes_the_chroma_it_stands_for(rgb, space):
    # The space's own luma or value, so that the conversion ends where it began.
    lightness = color.rgb2lab(rgb)[..., :1].astype(np.float32)
    if space == "RGB":
        given, expected = rgb, rgb
    elif space == "YUV":
        gray = np.asarray(colour.gray_of_lightness(lightness), np.float64)
        given = color.rgb2yuv(rgb)[..., 1:]
        expected = color.yuv2rgb(np.concatenate([gray, given], axis=-1))
    else:
        hue, saturation, value = np.moveaxis(color.rgb2hsv(rgb), -1, 0)
        angle = 2 * np.pi * hue
        given = np.stack([saturation * np.cos(angle), saturation * np.sin(angle), value], -1)
        expected = rgb
    found = np.asarray(colour.chroma(given.astype(np.float32), lightness, space))
    truth = color.rgb2lab(np.clip(expected, 0, 1))[..., 1:]
    np.testing.assert_allclose(found, truth, atol=1e-3)


def test_another_space_is_refused():
    with pytest.raises(ValueError, match="CMYK"):
        colour.chroma(np.zeros((1, 2, 2, 3), np.float32), np.zeros((1, 2, 2, 1)), "CMYK")
