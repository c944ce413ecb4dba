"""Weather is that of ImageNet-C draw for draw; its frost is grown, and like that photographed."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from tests.damage import damage, psnr
from tests.imagenet_c import reference
from tests.photographs import gray, photo
from transforms.degradations import weather

NAMES = ["astronaut", "chelsea", "coffee"]
SEVERITIES = range(1, 6)
# The reference is compared before it cuts to whole levels, so that all we may add is our rounding
# and what float32 leaves of a level.
ROUNDING = 0.5 + 0.02

photographs = pytest.mark.parametrize("name", NAMES)
severities = pytest.mark.parametrize("severity", SEVERITIES)
channels = pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])


def detail(name, channels=3, height=150, width=241):
    pixels = np.ascontiguousarray(photo(name)[40 : 40 + height, 60 : 60 + width])
    return gray(pixels) if channels == 1 else pixels


def black(height, width, channels=3):
    return np.zeros((height, width, channels), np.uint8)


def draws(name, height, width, seed):
    """What ours draws, in the order in which the reference asks for it."""
    rng = np.random.default_rng(seed)
    if name == "fog":
        side = 1
        squares = []
        while side < max(height, width):
            squares += [rng.random((side, side), dtype=np.float32) for _ in range(3)]
            side *= 2
        return squares
    angle = [rng.random()] if name == "snow" else []
    return [rng.standard_normal((height, width), dtype=np.float32), *angle]


@pytest.mark.parametrize("kind", ["fog", "snow", "spatter"])
@channels
@photographs
@severities
def test_the_same_draws_make_the_same_weather_as_the_references(kind, channels, name, severity):
    pixels = detail(name, channels)
    for seed in range(2):
        ours = damage(kind, pixels, seed, severity=severity)
        theirs = reference(kind, pixels, severity, draws(kind, *pixels.shape[:2], seed))
        error = np.abs(ours - theirs)
        # Snow: the reference rounds each of the two layers of flakes to whole levels, too.
        most = 1 + ROUNDING if kind == "snow" else ROUNDING
        # Float32 may put a pixel on the other side of a threshold, of which there are many.
        assert (error > most).mean() < 1e-3
        assert psnr(ours, pixels) == pytest.approx(psnr(theirs, pixels), abs=0.02)


@pytest.mark.parametrize("kind", ["fog", "snow", "spatter"])
@pytest.mark.parametrize("severity", [2, 5])
def test_16_bits_are_kept(kind, severity):
    pixels = detail("astronaut")
    ours = damage(kind, pixels.astype(np.uint16) * 257, severity=severity)
    theirs = reference(kind, pixels, severity, draws(kind, *pixels.shape[:2], 0))
    error = np.abs(ours / 257 - theirs)
    assert np.median(error) < (0.3 if kind == "snow" else 0.01)  # flakes: see above
    assert (ours % 257 > 0).mean() > 0.1


@pytest.mark.parametrize("kind", ["snow", "spatter"])
@photographs
def test_worse_weather_has_more_of_the_same_flakes_and_drops(kind, name):
    pixels = detail(name)
    mild, wild = (
        damage(kind, pixels, severity=3, threshold=threshold).astype(int)
        for threshold in (0.8, 0.7)
    )
    if kind == "snow":
        assert (wild >= mild).all()
    assert np.square(wild - pixels).mean() > np.square(mild - pixels).mean()


def test_gray_weather_is_the_luma_of_colour():
    pixels = detail("coffee", 1)
    for kind in ("fog", "frost", "snow"):
        ours = damage(kind, pixels, severity=3, seed=4).astype(int)
        coloured = damage(kind, pixels.repeat(3, -1), severity=3, seed=4)
        # Clipping comes before luma there and after it here: it is seen where blue is clipped.
        assert np.median(np.abs(ours - gray(coloured))) <= 1
    ours = damage("spatter", pixels, severity=4, seed=4).astype(int)
    coloured = damage("spatter", pixels.repeat(3, -1), severity=4, seed=4)
    assert np.abs(ours - gray(coloured)).max() <= 1


# -- snow ------------------------------------------------------------------------------------------


@severities
def test_snow_falls_more_downwards_than_sidewards(severity):
    flakes = damage("snow", black(300, 300, 1), 3, severity=severity, keep=1)[..., 0].astype(float)
    across, down = np.diff(flakes, axis=1), np.diff(flakes, axis=0)
    assert np.square(across).mean() > 1.3 * np.square(down).mean()


def test_snow_only_brightens():
    pixels = detail("astronaut")
    assert (damage("snow", pixels, severity=5) >= pixels).all()


# -- fog -------------------------------------------------------------------------------------------


def test_fog_leaves_black_images_black_and_no_other_as_dark():
    assert not damage("fog", black(40, 30), severity=3).any()
    pixels = black(64, 64, 1)
    pixels[0, 0] = 255
    veil = damage("fog", pixels, severity=3)[1:]
    assert veil.max() > 100


@pytest.mark.parametrize("severity", [1, 5])
def test_fog_of_large_images_is_as_fine_as_can_be_seen(severity, monkeypatch):
    pixels = np.zeros((40, 5000, 1), np.uint8)
    pixels[::2] = 255
    seen = damage("fog", pixels, severity=severity).astype(int)
    monkeypatch.setattr(weather, "_PLASMA_SIDE", 4096)
    finer = damage("fog", pixels, severity=severity)
    assert np.abs(seen - finer).max() <= 1
    assert seen[0].std() > 2, "there is something to be seen"


def test_fog_is_continuous_where_the_plasma_of_a_large_image_is_enlarged():
    pixels = np.full((1, 40_000, 1), 65535, np.uint16)
    veil = damage("fog", pixels, severity=1)[0, :, 0].astype(int)
    assert np.abs(np.diff(veil)).max() < np.ptp(veil) / 100


# -- spatter ---------------------------------------------------------------------------------------


def test_water_brightens_and_leaves_most_of_the_image():
    pixels = detail("coffee")
    wet = damage("spatter", pixels, severity=3)
    assert (wet >= pixels).all()
    assert 0.3 < (wet == pixels).all(-1).mean() < 0.97


def test_mud_turns_pixels_to_its_brown_and_leaves_the_others():
    pixels = np.full((200, 200, 3), 255, np.uint8)
    muddy = damage("spatter", pixels, severity=5)
    clean = (muddy == 255).all(-1)
    assert 0.3 < clean.mean() < 0.9
    # A pixel is left, or covered by four fifths at least.
    brown = np.array([63, 42, 20])
    assert (muddy[~clean] <= brown + 0.2 * (255 - brown) + 1).all()
    assert (muddy >= brown).all()


@pytest.mark.parametrize("liquid", ["water", "mud"])
def test_where_nothing_splashes_nothing_changes(liquid):
    pixels = detail("coffee", 3, 60, 50)
    dry = damage("spatter", pixels, severity=3, loc=0, scale=0.01, liquid=liquid)
    assert np.array_equal(dry, pixels)


# -- frost -----------------------------------------------------------------------------------------


def photographed(pixels, severity):
    """The reference's frost: six cuttings of each of its five photographs."""
    rng = np.random.default_rng(0)
    return [
        reference("frost", pixels, severity, [number, rng.integers(140), rng.integers(270)])
        for number in range(5)
        for _ in range(6)
    ]


def grown(pixels, severity, count=40):
    return [damage("frost", pixels, seed, severity=severity) for seed in range(count)]


@photographs
@pytest.mark.parametrize("severity", [1, 5])
def test_frost_has_the_references_mean_and_contrast_and_psnr(name, severity):
    pixels = detail(name, 3, 150, 200)
    ours, theirs = grown(pixels, severity), photographed(pixels, severity)

    def mean(value, frosted):
        return np.mean([value(each) for each in frosted], axis=0)

    # Panes differ in their means by 33 levels (standard deviation), in the reference as in ours.
    # With weights of 0.4 to 0.75, that leaves the mean of 40 panes 2 to 4 levels of chance.
    def colour(frosted):
        return frosted.mean((0, 1))

    assert mean(colour, ours) == pytest.approx(mean(colour, theirs), abs=6)
    # Chance leaves these half a level and 0.3 dB; what is more would be another frost.
    assert mean(np.std, ours) == pytest.approx(mean(np.std, theirs), abs=2)
    assert mean(lambda each: psnr(each, pixels), ours) == pytest.approx(
        mean(lambda each: psnr(each, pixels), theirs), abs=0.6
    )


def bands(frosted):
    """Contrast in octaves of size, from a pixel to some thirty."""
    plane = frosted.mean(-1, dtype=np.float32)
    blurred = [plane] + [cv2.GaussianBlur(plane, (0, 0), 2.0**octave) for octave in range(5)]
    return [(fine - coarse).std() for fine, coarse in pairwise(blurred)]


def test_ice_is_as_fine_as_the_references():
    pixels = black(200, 300)
    ours = np.mean([bands(each) for each in grown(pixels, 3, 20)], axis=0)
    theirs = np.mean([bands(each) for each in photographed(pixels, 3)], axis=0)
    assert (ours / theirs > 0.65).all(), ours / theirs
    assert (ours / theirs < 1.55).all(), ours / theirs


def test_frost_is_bluish_and_never_the_same():
    means = np.array([each.mean((0, 1)) for each in grown(black(100, 100), 5)])
    red, green, blue = means.T
    assert (red < green).all()
    assert (green < blue).all()
    assert np.ptp(green) > 50


def test_a_larger_image_has_the_same_frost_larger():
    large = damage("frost", black(1200, 1596), 1, keep=1, ice=1)
    small = damage("frost", black(400, 532), 1, keep=1, ice=1)
    reduced = cv2.resize(large, (532, 400), interpolation=cv2.INTER_AREA)
    assert reduced.mean() == pytest.approx(small.mean(), abs=1)
    # Reduction takes the finest away.
    assert bands(reduced)[1:] == pytest.approx(bands(small)[1:], rel=0.15)
    assert alike(reduced, small) > 0.95


def test_frost_too_large_to_grow_in_full_is_the_same_enlarged(monkeypatch):
    whole = damage("frost", black(400, 600), 5, keep=1, ice=1)
    monkeypatch.setattr(weather, "_FROST_PIXELS", 400 * 600 // 4)
    assert alike(damage("frost", black(400, 600), 5, keep=1, ice=1), whole) > 0.95


def alike(one, other):
    """How much two pictures correlate, but for their finest detail."""
    blurred = [cv2.blur(each.astype(np.float32), (7, 7)).ravel() for each in (one, other)]
    return np.corrcoef(*blurred)[0, 1]


@pytest.mark.parametrize("shape", [(1, 40_000), (40_000, 3)])
def test_sides_longer_than_opencv_resamples_get_weather_like_others(shape):
    pixels = np.full((*shape, 3), 128, np.uint8)
    for kind in ("fog", "frost", "snow", "spatter"):
        damaged = damage(kind, pixels, severity=3)
        assert damaged.shape == pixels.shape
        long = damaged.reshape(-1, 4, max(shape) // 4, min(shape), 3)
        assert (long.std(axis=(0, 2, 3)) > 1).all(), "every quarter of it is hit"
