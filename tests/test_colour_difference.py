"""CIEDE2000 is that of its authors' test data and of scikit-image; so are the other differences."""

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from tests.photographs import TEN, gray, middle, noisy, photo, sixteen
from transforms.colour import lab, to_unit
from transforms.metrics import METRICS, Pair
from transforms.metrics.colour_difference import ciede2000_of_lab

ciede2000 = METRICS["ciede2000"].function
ciede2000_p95 = METRICS["ciede2000_p95"].function
chroma_error = METRICS["chroma_error"].function

# Table 1 of Sharma, Wu and Dalal 2005, Color Research and Application 30(1): L*, a*, b* of two
# colours, and their difference.
SHARMA = np.array(
    [
        (50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425),
        (50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615),
        (50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412),
        (50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000),
        (50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000),
        (50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000),
        (50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669),
        (50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669),
        (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792),
        (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792),
        (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195),
        (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195),
        (50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045),
        (50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045),
        (50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461),
        (50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065),
        (50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492),
        (50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977),
        (50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030),
        (50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535),
        (50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000),
        (50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000),
        (50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000),
        (50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000),
        (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
        (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
        (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
        (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
        (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
        (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
        (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
        (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
        (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
        (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
    ]
)


def of_pairs(values, dtype=np.float64):
    planes = [np.ascontiguousarray(plane, dtype) for plane in values[:, :6].T]
    return ciede2000_of_lab(tuple(planes[:3]), tuple(planes[3:]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_pairs_of_sharma_have_their_differences(dtype):
    assert len(SHARMA) == 34
    found = of_pairs(SHARMA, dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, SHARMA[:, 6], atol=1e-4, rtol=0)


def test_both_orders_have_one_difference():
    found = of_pairs(SHARMA[:, [3, 4, 5, 0, 1, 2]])
    np.testing.assert_allclose(found, SHARMA[:, 6], atol=1e-4, rtol=0)


@pytest.mark.parametrize("spread", [1e-3, 1, 20, 120])
def test_any_colours_have_the_differences_of_scikit_image(spread):
    random = np.random.default_rng(1)
    one = random.uniform((0, -120, -120), (100, 120, 120), (20_000, 3))
    two = one + random.normal(0, spread, one.shape)
    expected = deltaE_ciede2000(one, two)
    found = of_pairs(np.hstack([one, two]))
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=5e-6)
    shallow = of_pairs(np.hstack([one, two]).astype(np.float32).astype(float), np.float32)
    np.testing.assert_allclose(shallow, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("hue", range(0, 360, 15))
def test_opposite_and_nearly_opposite_hues_are_those_of_scikit_image(hue):
    for away in (180, 180 - 1e-4, 180 + 1e-4, 179, 181, 90, 0):
        first, second = np.deg2rad(hue), np.deg2rad(hue + away)
        one = (50, 10 * np.cos(first), 10 * np.sin(first))
        two = (55, 30 * np.cos(second), 30 * np.sin(second))
        if away == 180:
            # Of exactly opposite hues it is a matter of the last digit which way the mean points.
            continue
        expected = deltaE_ciede2000(np.array(one), np.array(two))
        assert of_pairs(np.array([[*one, *two]]))[0] == pytest.approx(expected, rel=5e-6)


# -- of images -------------------------------------------------------------------------------------


def in_double(image, reference):
    """The Lab of IEC 61966-2-1 and CIE 15 in float64."""
    planes = []
    for pixels in (image, reference):
        unit = pixels / np.iinfo(pixels.dtype).max
        light = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
        matrix = np.array(
            [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
        )
        xyz = np.broadcast_to(light, (*light.shape[:2], 3)) @ (matrix / matrix.sum(1)[:, None]).T
        f = np.where(xyz > 216 / 24389, np.cbrt(xyz), xyz * 841 / 108 + 4 / 29)
        x, y, z = np.moveaxis(f, -1, 0)
        planes.append(np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1))
    return planes


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", TEN)
def test_differences_of_ten_photographs_are_those_of_scikit_image(name, depth):
    reference = middle(name) if depth == 8 else sixteen(middle(name))
    image = noisy(reference, 25)
    pair = Pair(image, reference)
    one, two = in_double(image, reference)
    expected = deltaE_ciede2000(one, two)
    assert ciede2000(pair) == pytest.approx(expected.mean(), abs=1e-4)
    percentile = np.percentile(expected, 95, method="inverted_cdf")
    assert ciede2000_p95(pair) == pytest.approx(percentile, abs=1 / 1024)
    apart = np.hypot(*np.moveaxis(one - two, -1, 0)[1:])
    assert chroma_error(pair) == pytest.approx(apart.mean(), abs=1e-4)
    if image.shape[-1] == 3:
        # Scikit-image's own conversion has other digits of white.
        other = deltaE_ciede2000(rgb2lab(image), rgb2lab(reference))
        assert ciede2000(pair) == pytest.approx(other.mean(), abs=0.02)


def test_colour_is_as_in_the_conversion_of_models():
    pixels = photo("chelsea")
    expected = in_double(pixels, pixels)[0]
    np.testing.assert_allclose(lab(to_unit(pixels)), expected, atol=2e-4)


@pytest.mark.parametrize("share", [0.94, 0.951])
def test_the_percentile_is_the_least_that_enough_pixels_do_not_exceed(share):
    reference = np.full((100, 100, 3), 128, np.uint8)
    image = reference.copy()
    image.reshape(-1, 3)[int(share * 10_000) :] = 255
    far = ciede2000(Pair(np.full_like(image, 255), reference))
    expected = 0 if share > 0.95 else far
    assert ciede2000_p95(Pair(image, reference)) == pytest.approx(expected, abs=1e-3)


def test_a_change_of_lightness_alone_is_no_chroma_error():
    reference = gray(photo())
    pair = Pair(noisy(reference), reference)
    assert chroma_error(pair) == pytest.approx(0, abs=1e-4)
    assert ciede2000(pair) > 4


def test_fading_lessens_colourfulness_by_what_it_is_less():
    reference = photo("coffee")
    pale = ((reference.astype(float) + 3 * gray(reference)) / 4).astype(np.uint8)
    pair = Pair(pale, reference)
    colourfulness = METRICS["colourfulness"].function
    found = METRICS["colourfulness_difference"].function(pair)
    assert found == colourfulness(pair.image) - colourfulness(pair.reference)
    assert found < -20
