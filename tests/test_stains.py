"""Stains, foxing, tape and mounts discolour a print as they do in archives."""

import numpy as np
import pytest
from scipy import ndimage

from tests.photographs import middle, sixteen, small
from transforms.degradations.stains import foxing, mount_shadow, stains, tape


def damage(kind, pixels, seed=0, **how):
    return kind(pixels, np.random.default_rng(seed), **how).pixels


def white(height=500, width=500, channels=3, dtype=np.uint8, level=1.0):
    return np.full((height, width, channels), round(level * np.iinfo(dtype).max), dtype)


def density(kind, seed=0, size=500, **how):
    """What is absorbed of each channel of white, in powers of e, to 16 bits."""
    passed = damage(kind, white(size, size, dtype=np.uint16), seed, **how) / 65535
    return -np.log(np.maximum(passed, 1e-4))


# -- what absorbs light ----------------------------------------------------------------------------

absorbing = pytest.mark.parametrize(
    ("kind", "how"),
    [(stains, {"count": 5}), (foxing, {"count": 80}), (mount_shadow, {"strength": 1})],
    ids=["stains", "foxing", "mount_shadow"],
)


@absorbing
def test_stains_only_darken(kind, how):
    assert (damage(kind, middle("coffee"), **how) <= middle("coffee")).all()


@absorbing
def test_stains_are_brown(kind, how):
    """Blue is absorbed most, and red least."""
    red, green, blue = np.moveaxis(density(kind, **how), -1, 0)
    stained = blue > 0.02
    assert stained.mean() > 0.002
    assert (blue > green)[stained].all()
    assert (green > red)[stained].all()


@absorbing
def test_stains_take_the_same_share_of_any_light(kind, how):
    """Bouguer's law: what passes does not depend on how much there was."""
    full = damage(kind, white(dtype=np.uint16), **how) / 65535
    half = damage(kind, white(dtype=np.uint16, level=0.5), **how) / 32768
    assert half == pytest.approx(full, abs=1e-4)
    assert not damage(kind, white(level=0), **how).any()


@absorbing
def test_sixteen_bits_keep_what_eight_cannot(kind, how):
    pixels = sixteen(small())
    assert len(np.unique(damage(kind, pixels, **how) % 257)) > 200


# -- stains ----------------------------------------------------------------------------------------


def test_a_stain_has_its_darkest_line_at_its_border():
    ratios = []
    for seed in range(24):
        blue = density(stains, seed, 700, count=1)[..., 2]
        wet = ndimage.binary_fill_holes(blue > 0.05)
        if wet[0].any() or wet[-1].any() or wet[:, 0].any() or wet[:, -1].any():
            continue  # cut by the edge
        depth = ndimage.distance_transform_edt(wet)
        rim, heart = blue[(depth > 1) & (depth < 5)], blue[depth > 0.8 * depth.max()]
        ratios.append(rim.mean() / heart.mean())
    assert len(ratios) > 8
    assert np.mean(ratios) > 1.5
    assert np.mean(np.array(ratios) > 1) > 0.85


def test_a_stain_ends_sharply_and_fades_inwards():
    steep = []
    for seed in range(10):
        blue = density(stains, seed, 1000, count=1)[..., 2]
        wet = blue > 0.05
        inside, outside = ndimage.distance_transform_edt(wet), ndimage.distance_transform_edt(~wet)
        profile = [blue[(inside > d) & (inside <= d + 1)].mean() for d in (2, 6, 12)]
        assert profile[0] > profile[1] > profile[2]
        steep.append(blue[(outside > 3) & (outside < 6)].max() / profile[0])
    assert np.max(steep) < 0.2


def test_later_stains_are_larger():
    shares = [
        [(density(stains, seed, 300, count=n)[..., 2] > 0.03).mean() for n in (1, 2, 5, 8)]
        for seed in range(8)
    ]
    first, second, fifth, eighth = np.mean(shares, axis=0)
    assert 0.005 < first < 0.05
    assert (eighth - fifth) / 3 > 2 * (second - first)


# -- foxing ----------------------------------------------------------------------------------------


def spots(seed, count, size=1500):
    """Middles and diameters of spots, as shares of the short side."""
    blue = density(foxing, seed, size, count=count)[..., 2]
    labels, found = ndimage.label(blue > 0.03)
    middles = np.array(ndimage.center_of_mass(blue, labels, range(1, found + 1))) / size
    areas = ndimage.sum_labels(np.ones_like(blue), labels, range(1, found + 1))
    return middles, 2 * np.sqrt(areas / np.pi) / size


def test_fox_spots_are_one_to_five_percent_of_the_short_side():
    diameters = np.concatenate([spots(seed, 1, 800)[1] for seed in range(60)])
    assert 0.01 < np.median(diameters) < 0.03
    assert np.mean((diameters > 0.01) & (diameters < 0.05)) > 0.85
    assert (diameters < 0.06).all()


def test_fox_spots_come_in_clusters():
    """The variance of their number in equal fields is their mean number where chance rules."""
    dispersion = []
    for seed in range(8):
        middles, _ = spots(seed, 60)
        fields = np.histogram2d(*middles.T, bins=5, range=[[0, 1], [0, 1]])[0]
        dispersion.append(fields.var() / fields.mean())
    assert np.mean(dispersion) > 2


def test_fox_spots_are_darkest_in_the_middle_and_soft_at_the_edge():
    blue = density(foxing, 3, 1500, count=12)[..., 2]
    labels, found = ndimage.label(blue > 0.02)
    for place in range(1, found + 1):
        spot = labels == place
        depth = ndimage.distance_transform_edt(spot)
        if depth.max() > 6:
            heart, edge = blue[depth > 0.7 * depth.max()], blue[spot & (depth < 2)]
            assert heart.mean() > 3 * edge.mean()
            assert np.abs(np.diff(blue * spot)).max() < 0.25 * blue[spot].max()


# -- tape ------------------------------------------------------------------------------------------


def strip_of(seed, pixels):
    """A strip that lies well within the picture, or None."""
    changed = (damage(tape, pixels, seed, count=1) != pixels).any(-1)
    at_edge = changed[0].any() or changed[-1].any() or changed[:, 0].any() or changed[:, -1].any()
    return None if at_edge else changed


def test_tape_is_a_straight_strip_of_the_proportions_of_tape():
    found = 0
    for seed in range(60):
        strip = strip_of(seed, white(400, 400))
        if strip is None:
            continue
        # Second moments of a rectangle: a twelfth of its sides squared.
        spread = np.linalg.eigvalsh(np.cov(np.argwhere(strip).T))
        width, length = np.sqrt(12 * spread) / 400
        assert 0.065 < width < 0.135
        assert 0.22 < length < 0.72
        assert strip.mean() == pytest.approx(width * length, rel=0.05)
        found += 1
    assert found > 10


def test_tape_yellows_the_lights_and_lifts_the_blacks():
    on_white, on_black = damage(tape, white(), 3, count=3), damage(tape, white(level=0), 3, count=3)
    taped = on_white[..., 2] < 250
    red, _, blue = on_white[taped].mean(0)
    assert red > blue + 40
    assert on_black[taped].min() > 0
    assert on_black[taped].max() < 60
    assert not on_black[(on_white == 255).all(-1)].any()


def test_there_is_less_contrast_under_tape():
    stripes = white(400, 400, 1)
    stripes[:, ::2] = 40
    damaged = damage(tape, stripes, 1, count=3).astype(float)[..., 0]
    contrast = np.abs(np.diff(damaged, axis=1))
    taped = ndimage.binary_erosion((damaged != stripes[..., 0]), iterations=3)[:, :-1]
    assert contrast[taped].max() < 215
    assert np.median(contrast[taped]) < 0.92 * 215


def test_the_long_edges_of_tape_are_darker():
    for seed in range(60):
        strip = strip_of(seed, white(800, 800))
        if strip is not None:
            depth = ndimage.distance_transform_edt(strip)
            blue = damage(tape, white(800, 800), seed, count=1)[..., 2]
            edge, inside = blue[(depth >= 2) & (depth < 3)], blue[depth > 12]
            assert np.median(edge) < np.median(inside) - 10


# -- mount_shadow ----------------------------------------------------------------------------------


def test_what_was_in_the_window_has_stayed():
    for mount in ("overmat", "oval", "corners"):
        for seed in range(5):
            damaged = damage(mount_shadow, middle("coffee"), seed, strength=1.3, mount=mount)
            rows, columns = (slice(2 * n // 5, 3 * n // 5) for n in damaged.shape[:2])
            assert np.array_equal(damaged[rows, columns], middle("coffee")[rows, columns])


def test_the_cut_edge_of_a_mat_has_burnt_a_line():
    """From the edge inwards: brown border, a darker line, and then the picture."""
    for seed in range(10):
        blue = density(mount_shadow, seed, 1000, strength=1)[..., 2]
        for profile in (blue[500, :500], blue[:500, 500], blue[500, :499:-1], blue[:499:-1, 500]):
            line = int(profile.argmax())
            assert 0.04 * 1000 < line < 0.12 * 1000
            border = profile[: line - 15]
            assert 0.1 < border.mean() < 0.85 * profile[line]
            assert profile[line + 120 :].max() < 0.01


def test_album_corners_burn_the_corners_alone():
    blue = density(mount_shadow, 1, strength=1, mount="corners")[..., 2]
    assert (blue[[0, 0, -1, -1], [0, -1, 0, -1]] > 0.15).all()
    assert max(blue[250].max(), blue[:, 250].max()) < 0.01


def test_an_oval_mat_covers_the_corners_and_touches_the_sides():
    blue = density(mount_shadow, 1, strength=1, mount="oval")[..., 2]
    covered = blue > 0.15
    # What an ellipse leaves of a square, and a border of 5 to 11 percent.
    assert 1 - np.pi / 4 * 0.95**2 < covered.mean() < 1 - np.pi / 4 * 0.75**2
    for corner in (covered[:70, :70], covered[-70:, :70], covered[:70, -70:], covered[-70:, -70:]):
        assert corner.mean() > 0.97


def test_strength_is_density():
    once, twice = (density(mount_shadow, 2, strength=strength) for strength in (0.5, 1.0))
    assert twice == pytest.approx(2 * once, abs=2e-3)
