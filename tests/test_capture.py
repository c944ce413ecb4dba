"""What lenses, film, presses and scanners leave follows their physics."""

import math

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.damage import flat_sixteen as flat
from tests.damage import light
from tests.photographs import PHOTOS, gray, photo, sixteen, small
from transforms.degradations.capture import (
    banding,
    film_grain,
    halftone,
    low_resolution_copy,
    newton_rings,
    uneven_lighting,
    vignetting,
)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("degradation", "nothing"),
    [
        (vignetting, {"stops": 0}),
        (uneven_lighting, {"stops": 0}),
        (film_grain, {"amount": 0}),
        (halftone, {"cell": 0.02, "contrast": 0}),
        (newton_rings, {"contrast": 0}),
        (banding, {"amount": 0}),
        (low_resolution_copy, {"factor": 1}),
    ],
)
def test_nothing_asked_for_is_no_change(degradation, nothing):
    for pixels in (small(), gray(small()), sixteen(small())):
        assert np.array_equal(degradation(pixels, rng(), **nothing).pixels, pixels)


# -- vignetting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("focal", "left"), [(50, 0.71), (45, 0.66), (40, 0.59), (38, 0.57)])
@pytest.mark.parametrize("seed", range(3))
def test_corners_of_35_mm_film_get_what_tables_of_lenses_say(focal, left, seed):
    # Of a maker's table for 24 x 36 mm and the lenses of rangefinder cameras, in whole percents.
    fallen = light(vignetting(flat(230, (240, 360, 1)), rng(seed), stops=-math.log2(left)).pixels)
    fallen = fallen[..., 0] / fallen.max()
    axis = np.array(np.unravel_index(cv2.GaussianBlur(fallen, (0, 0), 3).argmax(), fallen.shape))
    rows, columns = np.indices(fallen.shape)
    millimetres = np.hypot(rows - axis[0], columns - axis[1]) / 10
    law = np.cos(np.arctan(millimetres / focal)) ** 4
    assert np.abs(fallen - law).max() < 0.02
    # The axis is near the middle.
    assert np.abs(axis / (240, 360) - 0.5).max() < 0.08


def test_the_middle_keeps_its_light_and_no_place_gains_any():
    for seed in range(3):
        dimmed = vignetting(photo(), rng(seed), severity=5).pixels.astype(int)
        assert (dimmed <= photo()).all()
        middle = np.s_[236:276, 236:276]
        assert np.abs(dimmed[middle] - photo()[middle]).mean() < 5


# -- uneven_lighting -------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [0.5, 1.5, 3])
@pytest.mark.parametrize("seed", range(4))
def test_light_falls_from_one_side_to_the_other(stops, seed):
    lit = light(uneven_lighting(flat(255, (200, 300, 1)), rng(seed), stops=stops).pixels)[..., 0]
    lost = -np.log2(lit)
    assert lost.min() >= 0
    assert lost.max() <= stops + 0.01
    corners = np.array([lost[0, 0], lost[0, -1], lost[-1, 0], lost[-1, -1]])
    assert corners.max() - corners.min() > 0.75 * stops
    # The far corner is opposite to the near one.
    assert corners.argmax() == 3 - corners.argmin()
    # Nowhere is there an edge that one could take for the picture's.
    assert max(np.abs(np.diff(lost, axis=axis)).max() for axis in (0, 1)) < stops / 25


def test_the_lamp_stands_on_any_side():
    brightest = set()
    for seed in range(20):
        lit = uneven_lighting(flat(200, (64, 64, 1)), rng(seed), severity=5).pixels[..., 0]
        brightest.add(int(np.argmax([lit[0, 0], lit[0, -1], lit[-1, 0], lit[-1, -1]])))
    assert brightest == {0, 1, 2, 3}


# -- film_grain ------------------------------------------------------------------------------------


def grain(level, seed=0, shape=(512, 512, 1), **parameters):
    """The grain on a flat picture, on a scale of 0 to 1."""
    return film_grain(flat(level, shape), rng(seed), **parameters).pixels / 65535 - level / 255


def test_grain_in_a_mid_gray_has_the_deviation_asked_for():
    noise = grain(127.5, amount=0.08, size=0.01)
    # Grains of 5 pixels: 97 percent, and some 10,000 of them, to a percent or so.
    assert noise.std() == pytest.approx(0.08 * 0.97, rel=0.04)
    assert abs(noise.mean()) < 0.004


@pytest.mark.parametrize("level", [25.5, 76.5, 191.25, 229.5])
def test_grain_is_strongest_in_mid_tones_as_independent_grains_cover(level):
    share = level / 255
    ratio = grain(level, amount=0.05).std() / grain(127.5, amount=0.05).std()
    assert ratio == pytest.approx(2 * math.sqrt(share * (1 - share)), rel=0.02)


@pytest.mark.parametrize("level", [0, 255])
def test_pure_black_and_white_have_no_grain(level):
    assert not grain(level, severity=5).any()


def test_grain_is_as_large_as_asked():
    noise = grain(127.5, amount=0.1, size=0.01, shape=(800, 800, 1))[..., 0]

    def correlation(distance):
        pairs = [
            (noise[distance:], noise[:-distance]),
            (noise[:, distance:], noise[:, :-distance]),
        ]
        return np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])

    # A diameter of 8 pixels: half at 4, and a sixteenth at 8, as for any Gaussian.
    assert correlation(4) == pytest.approx(0.5, abs=0.04)
    assert correlation(8) == pytest.approx(1 / 16, abs=0.04)


def test_a_thumbnail_has_the_grain_that_is_left_of_its_master():
    master = grain(127.5, 1, (1024, 1024, 1), amount=0.08, size=0.004)[..., 0]
    for side in (512, 256, 128):
        reduced = cv2.resize(master, (side, side), interpolation=cv2.INTER_AREA)
        thumbnail = grain(127.5, 2, (side, side, 1), amount=0.08, size=0.004)
        assert thumbnail.std() == pytest.approx(reduced.std(), rel=0.06)


@pytest.mark.parametrize("colour", [0, 0.2, 1])
def test_channels_share_the_grain_but_for_the_part_that_is_their_own(colour):
    noise = grain(127.5, shape=(400, 400, 3), amount=0.05, colour=colour)
    correlations = np.corrcoef(noise.reshape(-1, 3).T)[np.triu_indices(3, 1)]
    assert correlations == pytest.approx([1 - colour] * 3, abs=0.03)
    assert noise.std(axis=(0, 1)) == pytest.approx([noise.std()] * 3, rel=0.03)


def test_grain_is_no_stronger_at_the_rim():
    noise = np.stack([grain(127.5, seed, (128, 128, 1), amount=0.1) for seed in range(20)])
    rim = np.concatenate([noise[:, 0].ravel(), noise[:, -1].ravel(), noise[:, :, 0].ravel()])
    assert rim.std() == pytest.approx(noise.std(), rel=0.05)


# -- halftone --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pitch", [2, 3.3, 5, 8])
@pytest.mark.parametrize("level", [0, 3, 20, 60, 128, 200, 250, 255])
def test_dots_keep_the_light_of_every_tone(pitch, level):
    printed = halftone(flat(level, (400, 400, 1)), rng(), cell=pitch / 400, contrast=1).pixels
    assert light(printed).mean() == pytest.approx(light(flat(level, (1, 1, 1))).item(), abs=3e-4)


@pytest.mark.parametrize("colour", [(200, 100, 50), (30, 60, 90), (250, 240, 200), (9, 9, 9)])
def test_four_inks_keep_the_light_of_every_colour(colour):
    printed = halftone(flat(colour, (400, 400, 3)), rng(), cell=0.01, contrast=1).pixels
    expected = light(flat(colour, (1, 1, 3))).ravel()
    assert light(printed).mean(axis=(0, 1)) == pytest.approx(expected, abs=1e-3)


def screen_of(channel):
    """The angle (0-90 degrees) and pitch (pixels) of the strongest wave of a channel."""
    spectrum = np.abs(np.fft.fft2(channel - channel.mean()))
    down, across = np.unravel_index(spectrum.argmax(), spectrum.shape)
    frequencies = [np.fft.fftfreq(n)[i] for n, i in zip(channel.shape, (down, across), strict=True)]
    angle = math.degrees(math.atan2(*frequencies)) % 90
    return angle, 1 / math.hypot(*frequencies)


@pytest.mark.parametrize(
    ("ink", "channel", "expected"),
    [
        ((150, 255, 255), 0, 15),
        ((255, 150, 255), 1, 75),
        ((255, 255, 150), 2, 0),
        ((99, 99, 99), None, 45),
    ],
    ids=["cyan", "magenta", "yellow", "black"],
)
def test_screens_lie_at_the_angles_of_offset_printing(ink, channel, expected):
    pixels = flat(ink, (512, 512, 3))
    if channel is None:
        pixels = np.ascontiguousarray(pixels[..., :1])
    angles = []
    for seed in range(4):
        printed = halftone(pixels, rng(seed), cell=8 / 512, contrast=1).pixels / 65535
        angle, pitch = screen_of(printed[..., channel or 0])
        assert pitch == pytest.approx(8, rel=0.03)
        # Askew by 3 degrees at most, and the spectrum knows angles to about one.
        askew = (angle - expected + 45) % 90 - 45
        assert abs(askew) < 4.5
        angles.append(askew)
        if channel is not None:
            others = [other for other in range(3) if other != channel]
            assert (printed[..., others] == 1).all()
    assert len(set(angles)) > 1


def test_black_stands_in_for_the_square_of_what_the_colours_have_in_common():
    # A gray of 12.74 percent of the light: of the 87.26 that inks absorb, black is 76.14. The
    # other inks let 12.74 / 23.86 through, so that 46.6 percent is covered by each, and by all
    # three where black is not: 0.7614 + 0.2386 * 0.466**3.
    printed = halftone(flat(100, (600, 600, 3)), rng(), cell=1 / 40, contrast=1).pixels
    dark = (light(printed) < 0.5).all(axis=-1)
    assert dark.mean() == pytest.approx(0.7856, abs=0.02)


def test_large_dots_are_of_ink_and_paper_and_little_between():
    printed = halftone(flat(180, (400, 400, 1)), rng(), cell=0.1, contrast=1).pixels / 65535
    assert ((printed < 0.02) | (printed > 0.98)).mean() > 0.9


def test_the_screen_is_as_coarse_on_a_thumbnail_as_on_its_master():
    for side in (256, 1024):
        printed = halftone(flat(150, (side, side, 1)), rng(), cell=1 / 64, contrast=1).pixels
        assert side / screen_of(printed[..., 0] / 65535)[1] == pytest.approx(64, rel=0.03)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_printed_photograph_is_itself_from_afar(name):
    pixels = np.ascontiguousarray(photo(name)[:256, :400])
    seen = cv2.GaussianBlur(light(halftone(pixels, rng(), severity=3).pixels), (0, 0), 6)
    expected = cv2.GaussianBlur(light(pixels), (0, 0), 6)
    assert np.abs(seen - expected).mean() < 0.01


# -- newton_rings ----------------------------------------------------------------------------------


def rings(seed, shape=(600, 600, 3), contrast=0.2):
    """The change of light, relative to the light there was."""
    return (
        light(newton_rings(flat(150, shape), rng(seed), contrast=contrast).pixels)
        / light(flat(150, (1, 1, shape[2])))
        - 1
    )


def contact(change):
    """Where all colours are dark at once: there the film touches the glass."""
    return np.unravel_index(change.max(axis=-1).argmin(), change.shape[:2])


@pytest.mark.parametrize("seed", [3, 4, 8])
def test_rings_lie_at_the_roots_of_whole_numbers(seed):
    change = rings(seed)
    top, left = contact(change)
    # A ray in the direction that has most room.
    line = change[top, left:, 1] if left < 300 else change[top, left::-1, 1]
    dark = [i for i in range(1, 200) if line[i - 1] > line[i] <= line[i + 1] and line[i] < -0.05]
    squares = np.square(dark[:4], dtype=float) / dark[0] ** 2
    assert squares == pytest.approx([1, 2, 3, 4], rel=0.3)


def test_red_has_fewer_rings_than_blue_by_their_wavelengths():
    crossings = np.zeros(3)
    for seed in range(6):
        signs = np.signbit(rings(seed))
        strong = np.abs(rings(seed)).max(axis=-1) > 0.02
        turns = (signs[:, 1:] != signs[:, :-1]) & (strong[:, 1:] & strong[:, :-1])[..., None]
        crossings += turns.sum(axis=(0, 1))
    red, green, blue = crossings
    assert red / blue == pytest.approx(460 / 620, abs=0.05)
    assert green / blue == pytest.approx(460 / 540, abs=0.05)


def test_rings_fade_away_from_the_contact_and_take_no_light_in_all():
    change = rings(3)
    strength = cv2.GaussianBlur(np.abs(change).mean(axis=-1), (0, 0), 20)
    assert strength[contact(change)] > 20 * strength.min()
    assert strength[contact(change)] > 0.8 * strength.max()
    assert np.abs(change).max() <= 0.2 * (1 + 0.7 + 0.5)
    assert abs(change.mean()) < 0.01


def test_gray_rings_are_the_luma_of_the_coloured_ones():
    colour, single = rings(1), rings(1, (600, 600, 1))
    assert np.abs(single[..., 0] - colour @ [0.299, 0.587, 0.114]).max() < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_a_thumbnail_has_the_rings_of_its_master(seed):
    thumbnail = rings(seed, (128, 128, 3))
    master = cv2.resize(rings(seed, (768, 768, 3)), (128, 128), interpolation=cv2.INTER_AREA)
    assert np.abs(thumbnail - master).mean() < 0.2 * np.abs(master).mean()
    # Rings finer than pixels do not show as coarse ones.
    assert thumbnail.std() == pytest.approx(master.std(), rel=0.08)


# -- banding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["vertical", "horizontal"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_element_errs_alike_from_end_to_end(direction, channels):
    pixels = flat(150, (200, 300, channels))
    error = light(banding(pixels, rng(), amount=0.05, direction=direction).pixels) - light(pixels)
    if direction == "horizontal":
        error = np.swapaxes(error, 0, 1)
    streaks, bands = error.mean(axis=0), error.mean(axis=1)
    # What streaks and bands together do not explain is the rounding to 16 bits.
    assert np.abs(error - streaks - bands[:, None] + error.mean(axis=(0, 1))).max() < 1e-4
    assert (streaks.std(axis=0) > 2 * bands.std(axis=0)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_gains_vary_as_much_as_asked(channels):
    pixels = flat(150, (100, 400, channels))
    deviations = [
        (light(banding(pixels, rng(seed), amount=0.04).pixels) / light(pixels)).std(axis=(0, 1))
        for seed in range(30)
    ]
    assert np.mean(deviations) == pytest.approx(0.04, rel=0.25)


def test_dark_parts_have_offsets_and_light_parts_gains():
    black, white = flat(0, (100, 400, 1)), flat(200, (100, 400, 1))
    of_black = light(banding(black, rng(), amount=0.1).pixels)
    of_white = light(banding(white, rng(), amount=0.1).pixels) - light(white)
    assert 0 < of_black.std() < 0.1 * of_white.std()


def test_streaks_are_tinted_as_each_colour_has_its_own_line():
    errors = banding(flat(150, (8, 4000, 3)), rng(), amount=0.05).pixels[0] / 65535
    correlations = np.corrcoef(errors.T)[np.triu_indices(3, 1)]
    assert (correlations > 0.2).all()
    assert (correlations < 0.8).all()


# -- low_resolution_copy ---------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("name", PHOTOS)
def test_a_copy_is_what_pillow_makes_of_it(name, factor):
    pixels = np.ascontiguousarray(photo(name)[:256, :400])
    small_copy = Image.fromarray(pixels).reduce(factor)
    theirs = np.asarray(small_copy.resize((400, 256), Image.Resampling.BICUBIC)).astype(int)
    ours = low_resolution_copy(pixels, rng(), factor=factor).pixels
    # OpenCV's cubic is of -0.75 and Pillow's of -0.5.
    assert np.abs(ours - theirs).mean() < 1
    assert np.abs(ours - theirs).mean() < 0.25 * np.abs(theirs - pixels.astype(int)).mean()


@pytest.mark.parametrize("factor", [2, 3.5, 8])
def test_detail_finer_than_the_copy_is_gone(factor):
    noise = rng(1).integers(0, 65536, (256, 256, 1), np.uint16)
    copy = low_resolution_copy(noise, rng(), factor=factor).pixels
    frequencies = np.abs(np.fft.fftfreq(256))
    fine = np.maximum(frequencies[:, None], frequencies) > 0.75 / factor
    before, after = (np.square(np.abs(np.fft.fft2(x[..., 0] / 65535.0))) for x in (noise, copy))
    assert after[fine].sum() < 0.05 * before[fine].sum()


def test_even_areas_and_slow_gradients_survive_a_copy():
    assert np.array_equal(low_resolution_copy(flat(77), rng(), severity=5).pixels, flat(77))
    ramp = np.broadcast_to(np.arange(240)[:, None] * 200, (240, 120)).astype(np.uint16)[..., None]
    copy = low_resolution_copy(ramp, rng(), factor=4).pixels.astype(int)
    assert np.abs(copy - ramp)[12:-12].max() < 50
