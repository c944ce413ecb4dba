"""Colour inside serving graphs against scikit-image."""

import numpy as np
import pytest
from skimage import color

from models import colour


@pytest.fixture(scope="module")
def rgb(photographs) -> np.ndarray:
    corners = np.stack(np.meshgrid(*[[0.0, 0.02, 0.5, 1.0]] * 3), axis=-1).reshape(1, 8, 8, 3)
    photo = photographs["coffee"][None, :64, :64].astype(np.float32) / 255
    return np.concatenate([photo[:, :8, :8], photo[:, 30:38, 30:38], corners]).astype(np.float32)


def test_chroma_is_that_of_scikit_image(rgb):
    found = np.asarray(colour.chroma_of_rgb(rgb))
    np.testing.assert_allclose(found, color.rgb2lab(rgb)[..., 1:], atol=1e-3)


def test_the_gray_of_a_lightness_is_that_of_scikit_image(rgb):
    lightness = color.rgb2lab(rgb)[..., :1].astype(np.float32)
    neutral = np.concatenate([lightness, np.zeros_like(lightness), np.zeros_like(lightness)], -1)
    found = np.asarray(colour.gray_of_lightness(lightness))
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
    np.testing.assert_allclose(found, truth, atol=5e-3 if space == "HSV" else 1e-3)


def test_another_space_is_refused():
    with pytest.raises(ValueError, match="CMYK"):
        colour.chroma(np.zeros((1, 2, 2, 3), np.float32), np.zeros((1, 2, 2, 1)), "CMYK")
