"""Noise has the statistics it says, and is ImageNet-C's where the same numbers are drawn."""

import numpy as np
import pytest

from tests.damage import damage, flat, psnr
from tests.imagenet_c import reference
from tests.photographs import PHOTOS, photo, sixteen, small
from transforms.degradations import DEGRADATIONS

ROUNDING = 0.501  # levels that rounding moves a sample at most, and a little for float32


# make_imagenet_c.py of Hendrycks & Dietterich 2019, in its own scales.
PUBLISHED = {
    "gaussian_noise": ("sigma", [255 * sigma for sigma in (0.08, 0.12, 0.18, 0.26, 0.38)]),
    "shot_noise": ("photons", [60, 25, 12, 5, 3]),
    "impulse_noise": ("amount", [0.03, 0.06, 0.09, 0.17, 0.27]),
    "speckle_noise": ("sigma", [0.15, 0.2, 0.35, 0.45, 0.6]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_severities_are_those_published(name):
    parameter, expected = PUBLISHED[name]
    given = [DEGRADATIONS[name].at_severity(severity)[parameter] for severity in range(1, 6)]
    assert given == pytest.approx(expected)


# Each is worked on in several strips, which must not show in what is drawn.
TALL = {
    "astronaut in colour": lambda: np.tile(photo("astronaut"), (2, 1, 1)),
    "coffee in colour": lambda: np.tile(photo("coffee"), (2, 1, 1)),
    "chelsea in gray": lambda: np.tile(photo("chelsea")[..., 1:2], (9, 1, 1)),
}


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("scene", TALL)
@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise"])
def test_the_same_normal_numbers_make_the_image_of_imagenet_c(name, scene, severity):
    pixels = TALL[scene]()
    drawn = np.random.default_rng(7).standard_normal(
        pixels.shape if pixels.shape[-1] == 3 else pixels.shape[:2], dtype=np.float32
    )
    expected = reference(name, pixels, severity, [drawn])
    assert np.abs(damage(name, pixels, 7, severity=severity) - expected).max() <= ROUNDING


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("scene", TALL)
def test_the_same_generator_counts_the_photons_of_imagenet_c(scene, severity):
    pixels = TALL[scene]()
    expected = reference("shot_noise", pixels, severity, np.random.default_rng(7))
    assert np.abs(damage("shot_noise", pixels, 7, severity=severity) - expected).max() <= ROUNDING


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_impulse_noise_has_the_statistics_of_imagenet_c(name, severity):
    pixels = photo(name)
    expected = reference("impulse_noise", pixels, severity)
    ours = damage("impulse_noise", pixels, severity=severity)
    # Five standard errors or more of each over 400,000 samples, of which 3 % are hit at least.
    assert ours.mean() == pytest.approx(expected.mean(), abs=0.6)
    assert ours.std() == pytest.approx(expected.std(), rel=0.01)
    assert psnr(ours, pixels) == pytest.approx(psnr(expected, pixels), abs=0.2)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sixteen_bits_get_the_noise_of_eight_without_its_steps(name):
    eight = small()
    shallow = damage(name, eight, severity=3)
    deep = damage(name, eight.astype(np.uint16) * 257, severity=3) / 257
    assert np.abs(deep - shallow).max() <= ROUNDING
    if name != "impulse_noise":
        assert (deep % 1).any()


# -- gaussian_noise --------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [5, 25])
@pytest.mark.parametrize(("dtype", "unit"), [(np.uint8, 1), (np.uint16, 257)])
def test_noise_on_mid_gray_has_mean_zero_and_the_sigma_asked_for(sigma, dtype, unit):
    level = 128 * unit
    noise = damage("gaussian_noise", flat(level, dtype=dtype), sigma=sigma) / unit - 128
    # Standard errors over n samples: sigma / sqrt(n) and sigma / sqrt(2 n); 5 of each.
    assert noise.mean() == pytest.approx(0, abs=5 * sigma / 512)
    assert noise.std() == pytest.approx(sigma, abs=5 * sigma / 724 + 0.02)
    shares = [(np.abs(noise) <= k * sigma).mean() for k in (1, 2)]
    # A normal distribution; rounding to whole levels moves a share by half a level at most.
    assert shares == pytest.approx([0.6827, 0.9545], abs=0.05 if sigma == 5 else 0.015)


@pytest.mark.parametrize("name", PUBLISHED)
def test_noise_differs_between_channels_and_neighbours(name):
    noise = damage(name, flat(128, (256, 256, 3)), severity=2) - 128.0
    pairs = [(noise[..., 0], noise[..., 1]), (noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])]
    for one, other in pairs:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.03


def test_noise_is_clipped_and_does_not_wrap():
    assert damage("gaussian_noise", flat(255), sigma=50).min() > 0
    assert damage("gaussian_noise", flat(0), sigma=50).max() < 255
    half = damage("gaussian_noise", flat(255), sigma=50) == 255
    assert half.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("gaussian_noise", "sigma"), ("speckle_noise", "sigma"), ("impulse_noise", "amount")],
)
def test_no_noise_is_no_change(name, parameter):
    for pixels in (small(), sixteen(small())):
        assert np.array_equal(damage(name, pixels, **{parameter: 0}), pixels)


# -- shot_noise ------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [26, 64, 128])
@pytest.mark.parametrize("photons", [30, 200])
def test_the_variance_of_shot_noise_is_its_mean(level, photons):
    counts = damage("shot_noise", flat(257 * level, dtype=np.uint16), photons=photons)
    counts = counts / 65535 * photons
    expected = level / 255 * photons
    # Standard errors over n samples: sqrt(m / n), and of a Poisson variance m sqrt((2 + 1/m) / n).
    assert counts.mean() == pytest.approx(expected, abs=5 * expected**0.5 / 512)
    error = expected * (2 + 1 / expected) ** 0.5 / 512
    assert counts.var() == pytest.approx(expected, abs=5 * error)


def test_photons_are_counted_whole():
    levels = np.unique(damage("shot_noise", photo(), photons=5))
    assert levels.tolist() == [0, 51, 102, 153, 204, 255]


def test_no_light_makes_no_shot_noise():
    assert not damage("shot_noise", flat(0), photons=3).any()


# -- impulse_noise ---------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0.03, 0.27, 1])
@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_salt_and_pepper_fall_on_even_shares_of_the_samples(amount, dtype, white):
    noisy = damage("impulse_noise", flat(100, (512, 512, 3), dtype), amount=amount)
    assert np.unique(noisy).tolist() == ([0, 100, white] if amount < 1 else [0, white])
    for level in (0, white):
        # 5 standard deviations of a binomial share over 512 x 512 x 3 samples.
        error = (amount / 2 * (1 - amount / 2)) ** 0.5 / (512 * 3**0.5)
        assert (noisy == level).mean() == pytest.approx(amount / 2, abs=5 * error)


def test_a_higher_severity_hits_all_that_a_lower_one_hit():
    pixels = flat(100, (100, 100, 3))
    before = pixels
    for severity in range(1, 6):
        noisy = damage("impulse_noise", pixels, severity=severity)
        hit = before != 100
        assert np.array_equal(noisy[hit], before[hit])
        assert (noisy != 100).sum() > hit.sum()
        before = noisy


def test_samples_that_are_not_hit_stay_to_the_last_bit():
    pixels = sixteen(small())
    noisy = damage("impulse_noise", pixels, amount=0.5)
    spared = (noisy != 0) & (noisy != 65535)
    assert 0.4 < spared.mean() < 0.6
    assert np.array_equal(noisy[spared], pixels[spared])


# -- speckle_noise ---------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [20, 60, 120])
def test_speckle_is_a_share_of_the_level(level):
    noisy = damage("speckle_noise", flat(level * 257, dtype=np.uint16), sigma=0.2) / 257
    assert noisy.mean() == pytest.approx(level, rel=5 * 0.2 / 512)
    assert noisy.std() == pytest.approx(0.2 * level, rel=5 / 724)


def test_black_has_no_speckle():
    assert not damage("speckle_noise", flat(0), sigma=0.6).any()


@pytest.mark.parametrize("name", PHOTOS)
def test_noise_does_not_move_what_is_far_from_black_and_white(name):
    """All but salt and pepper keep the mean, where nothing is clipped."""
    pixels = photo(name) // 4 + 90
    for noise, values in (
        ("gaussian_noise", {"sigma": 15}),
        ("shot_noise", {"photons": 200}),
        ("speckle_noise", {"sigma": 0.1}),
    ):
        assert damage(noise, pixels, **values).mean() == pytest.approx(pixels.mean(), abs=0.15)
