"""The shipped colorizer on photographs that it was not trained on."""

import numpy as np
import pytest
import skimage.data
from skimage.color import deltaE_ciede2000, rgb2lab

from models import saved_model
from tests.photographs import gray
from transforms.restore import restore_images


@pytest.fixture(scope="module")
def colorize():
    return saved_model.load("colorize", precision="float32")


def test_lightness_is_kept_to_rounding_and_colour_is_added(colorize, photographs):
    for photo in photographs.values():
        master = gray(photo)
        (result,) = restore_images([master], colorize, colorize.contract)
        assert result.shape == photo.shape
        before = rgb2lab(np.repeat(master, 3, axis=-1))
        after = rgb2lab(result)
        assert np.abs(after[..., 0] - before[..., 0]).mean() < 0.3
        assert np.hypot(after[..., 1], after[..., 2]).mean() > 1


def test_it_is_nearer_to_the_truth_than_gray(colorize):
    errors = []
    for name in ("astronaut", "chelsea", "coffee"):
        photo = getattr(skimage.data, name)()
        (result,) = restore_images([gray(photo)], colorize, colorize.contract)
        truth = rgb2lab(photo)
        neutral = truth * (1, 0, 0)
        errors.append([deltaE_ciede2000(truth, lab).mean() for lab in (neutral, rgb2lab(result))])
    left_gray, colorized = np.mean(errors, axis=0)
    assert colorized < 0.97 * left_gray


def test_a_large_scan_gets_the_colours_of_a_thumbnail(colorize, photographs):
    master = gray(photographs["coffee"])
    large = np.kron(master, np.ones((4, 4, 1), np.uint8))
    small, great = (restore_images([m], colorize, colorize.contract)[0] for m in (master, large))
    assert great.shape == (large.shape[0], large.shape[1], 3)
    apart = rgb2lab(great[1::4, 1::4])[..., 1:] - rgb2lab(small)[..., 1:]
    assert np.abs(apart).mean() < 2
