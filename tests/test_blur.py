"""Blur is that of ImageNet-C to the gray level, on images of any size and to 16 bits."""

import cv2
import numpy as np
import pytest

from tests.damage import damage
from tests.imagenet_c import reference
from tests.photographs import gray, photo
from transforms.degradations import DEGRADATIONS

NAMES = ["astronaut", "chelsea", "coffee"]
SEVERITIES = range(1, 6)
# The reference is compared before it cuts to whole levels, so that all we may add is our rounding
# and what float32 leaves of a level.
ROUNDING = 0.5 + 0.01

photographs = pytest.mark.parametrize("name", NAMES)
severities = pytest.mark.parametrize("severity", SEVERITIES)
channels = pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])


def detail(name, channels=3, height=203, width=301):
    """Of sides that no zoom divides."""
    pixels = np.ascontiguousarray(photo(name)[40 : 40 + height, 60 : 60 + width])
    return gray(pixels) if channels == 1 else pixels


def dot(side=81, level=65535):
    pixels = np.zeros((side, side, 1), np.uint16)
    pixels[side // 2, side // 2] = level
    return pixels


@pytest.mark.parametrize("kind", ["gaussian_blur", "defocus_blur", "zoom_blur"])
@channels
@photographs
@severities
def test_blur_without_chance_is_the_references_but_for_rounding(kind, channels, name, severity):
    pixels = detail(name, channels)
    ours, theirs = damage(kind, pixels, severity=severity), reference(kind, pixels, severity)
    assert np.abs(ours - theirs).max() <= ROUNDING


@pytest.mark.parametrize("kind", ["gaussian_blur", "defocus_blur", "zoom_blur"])
def test_a_whole_photograph_is_the_references_but_for_rounding(kind):
    pixels = photo("chelsea")
    ours, theirs = damage(kind, pixels, severity=4), reference(kind, pixels, 4)
    assert np.abs(ours - theirs).max() <= ROUNDING


@channels
@photographs
@severities
def test_motion_blur_at_the_same_angle_is_the_references_but_for_rounding(channels, name, severity):
    pixels = detail(name, channels)
    ours = damage("motion_blur", pixels, severity, severity=severity)
    theirs = reference("motion_blur", pixels, severity, [np.random.default_rng(severity).random()])
    assert np.abs(ours - theirs).max() <= ROUNDING


def swaps(height, width, delta, iterations, seed):
    """What `glass_blur` draws on a landscape image, for each swap in the reference's order."""
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(iterations):
        drawn = rng.integers(0, 1 << 16, (height, width, 2), dtype=np.uint16)
        shifts = np.floor(drawn / 65536 * 2 * delta).astype(int) - delta
        rows, columns = range(height - delta, delta, -1), range(width - delta, delta, -1)
        draws += [shifts[y, x, ::-1] for y in rows for x in columns]  # it asks for x first
    return draws


@channels
@photographs
@severities
def test_glass_blur_with_the_same_swaps_is_the_references(channels, name, severity):
    pixels = detail(name, channels, 70, 90)
    glass = DEGRADATIONS["glass_blur"].at_severity(severity)
    draws = swaps(70, 90, glass["delta"], glass["iterations"], seed=severity)
    ours = damage("glass_blur", pixels, severity, severity=severity)
    error = ours - reference("glass_blur", pixels, severity, draws)
    # Between its two blurs the reference cuts to whole levels, which takes half a level on average
    # and one at most; we round there, too.
    assert error.min() >= -ROUNDING
    assert error.max() <= 1 + ROUNDING
    assert error.mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("kind", ["gaussian_blur", "defocus_blur", "zoom_blur", "motion_blur"])
def test_16_bits_are_blurred_to_a_hundredth_of_a_level_of_8(kind):
    pixels = detail("astronaut")
    draws = [np.random.default_rng(0).random()] if kind == "motion_blur" else None
    ours = damage(kind, pixels.astype(np.uint16) * 257, severity=3) / 257
    assert np.abs(ours - reference(kind, pixels, 3, draws)).max() < 0.01


@pytest.mark.parametrize("kind", ["gaussian_blur", "defocus_blur", "glass_blur", "zoom_blur"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (40, 2), (9, 9)])
def test_blur_leaves_an_even_image_as_it_is(kind, shape):
    for level in (0, 77, 255):
        pixels = np.full((*shape, 3), level, np.uint8)
        assert (damage(kind, pixels, severity=3) == level).all()


@pytest.mark.parametrize(("severity", "gain"), [(3, 1), (4, 1.013), (5, 1.011)])
def test_defocus_brightens_as_published(severity, gain):
    even = np.full((40, 50, 1), 30000, np.uint16)
    assert damage("defocus_blur", even, severity=severity) == pytest.approx(30000 * gain, rel=5e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (40, 2), (9, 9)])
def test_motion_longer_than_the_image_does_not_darken_it(shape):
    pixels = np.full((*shape, 1), 200, np.uint8)
    for seed in range(5):
        assert (damage("motion_blur", pixels, seed, severity=5) == 200).all()


@pytest.mark.parametrize("sigma", [0.8, 2, 6])
def test_gaussian_blur_spreads_a_dot_with_its_variance(sigma):
    spread = damage("gaussian_blur", dot(), sigma=sigma)[..., 0] / 65535
    x = np.arange(81) - 40
    assert spread.sum() == pytest.approx(1, abs=0.02)
    assert (spread.sum(0) * x**2).sum() == pytest.approx(sigma**2, rel=0.03)
    assert spread.max() == pytest.approx(1 / (2 * np.pi * sigma**2), rel=0.06)


@pytest.mark.parametrize("radius", [3, 8, 12])
def test_defocus_spreads_a_dot_evenly_over_a_disk(radius):
    spread = damage("defocus_blur", dot(), radius=radius, alias=0)[..., 0]
    y, x = np.mgrid[-40:41, -40:41]
    inside = x**2 + y**2 <= radius**2
    assert inside.sum() == pytest.approx(np.pi * radius**2, rel=0.1)
    assert not spread[~inside].any()
    assert spread[inside] == pytest.approx(65535 / inside.sum(), abs=0.51)


def trace(angle):
    """Where and how much of a dot motion leaves, as offsets from it and shares."""
    moved = damage("motion_blur", dot(), radius=15, sigma=8, angle=angle, spread=0)[..., 0]
    y, x = np.nonzero(moved)
    return x - 40, y - 40, moved[y, x] / 65535


@pytest.mark.parametrize(
    ("angle", "towards"), [(0, (-1, 0)), (90, (0, -1)), (180, (1, 0)), (-90, (0, 1))]
)
def test_motion_draws_a_dot_out_in_the_direction_asked_for(angle, towards):
    x, y, share = trace(angle)
    along = x * towards[0] + y * towards[1]
    assert sorted(along) == list(range(len(along)))
    assert not (x * towards[1] + y * towards[0]).any()
    fading = share[np.argsort(along)]
    # Half a Gaussian: sigma is 8.
    assert fading / fading[0] == pytest.approx(
        np.exp(-(np.arange(len(along)) ** 2) / 128), abs=0.01
    )
    assert fading.sum() == pytest.approx(1, abs=0.001)


def test_motion_at_random_is_within_the_spread_and_reaches_into_all_of_it():
    angles = []
    for seed in range(200):
        moved = damage("motion_blur", dot(), seed, severity=3)[..., 0].astype(float)
        y, x = np.nonzero(moved)
        weight = moved[y, x] * np.hypot(y - 40, x - 40)
        angles.append(np.degrees(np.arctan2((weight * (40 - y)).sum(), (weight * (40 - x)).sum())))
    # Taps at whole pixels turn the trace by a degree at most.
    assert -46 <= min(angles) < -40
    assert 40 < max(angles) <= 46
    # A uniform distribution: its mean and deviation, with 4 standard errors of 200.
    assert np.mean(angles) == pytest.approx(0, abs=4 * 26 / 200**0.5)
    assert np.std(angles) == pytest.approx(90 / 12**0.5, rel=0.15)


@pytest.mark.parametrize(("height", "width"), [(60, 83), (83, 60), (9, 400), (400, 9)])
@pytest.mark.parametrize("delta", [1, 2, 4])
def test_glass_moves_pixels_and_loses_none(height, width, delta):
    # Every pixel has its own number, which says where it came from.
    pixels = np.arange(height * width, dtype=np.uint16).reshape(height, width, 1)
    shuffled = damage("glass_blur", pixels, sigma=0, delta=delta, iterations=1)[..., 0]
    assert np.array_equal(np.sort(shuffled, None), pixels.ravel())
    y, x = np.divmod(shuffled.astype(int), width)
    rows, columns = np.indices((height, width))
    away = np.hypot(y - rows, x - columns)
    assert (away > 0).mean() > (0.6 if min(height, width) > 9 else 0.05)
    # Pixels that are carried on by the next swap go farther than one swap does, but few go far.
    assert np.median(away) < 2 * delta


def test_glass_does_the_same_to_an_image_and_to_its_mirror_image_about_the_diagonal():
    pixels = detail("coffee", 3, 60, 90)
    turned = np.ascontiguousarray(pixels.swapaxes(0, 1))
    ours = damage("glass_blur", pixels, severity=4)
    # But for the blur, which rounds rows before columns.
    difference = damage("glass_blur", turned, severity=4).swapaxes(0, 1) - ours.astype(int)
    assert np.abs(difference).max() <= 1


def test_zoom_blur_is_sharpest_in_the_middle():
    pixels = detail("coffee", 1, 201, 201)
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    blurred = damage("zoom_blur", noise, severity=5)[..., 0].astype(float)
    y, x = np.mgrid[-100:101, -100:101]
    away = np.hypot(x, y)
    detail_left = [
        np.square(blurred - cv2.blur(blurred, (3, 3)))[(away >= r) & (away < r + 20)].mean()
        for r in (0, 20, 40, 60)
    ]
    assert detail_left == sorted(detail_left, reverse=True)


def test_zooms_are_those_that_rounding_left_the_published_ranges():
    # numpy.arange(1, 1.11, 0.01) has 12 members, not the 11 that it looks like.
    ramp = np.tile(np.arange(0, 65000, 100, dtype=np.uint16), (3, 1))[..., None]
    published = [(12, 1.11), (16, 1.15), (11, 1.20), (13, 1.24), (11, 1.30)]
    for severity, (count, largest) in zip(SEVERITIES, published, strict=True):
        zooms = np.linspace(1, largest, count)
        blurred = damage("zoom_blur", ramp, severity=severity)[1, :, 0]
        # On a ramp each layer is a ramp again, flatter by its zoom, about the middle.
        slope = np.polyfit(np.arange(100, 550), blurred[100:550], 1)[0]
        assert slope == pytest.approx(100 * (1 + (1 / zooms).sum()) / (count + 1), rel=2e-3)


@pytest.mark.parametrize("kind", ["gaussian_blur", "defocus_blur", "glass_blur", "motion_blur"])
def test_sides_longer_than_opencv_resamples_are_blurred_like_others(kind):
    long = np.tile(np.arange(256, dtype=np.uint8), 160)[None, :, None].repeat(5, 0)
    middle = damage(kind, long, severity=3)[:, 1000:-1000]
    assert middle.shape == (5, 38960, 1)
    assert middle.mean() == pytest.approx(127.5, abs=1)
