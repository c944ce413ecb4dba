"""Ageing takes and adds optical density as dyes, stains and silver do."""

import numpy as np
import pytest

from tests.damage import flat_sixteen as flat
from tests.damage import light
from tests.photographs import gray, photo, sixteen, small
from transforms.degradations.ageing import fade, light_fade, silver_mirroring, yellowing


def rng(seed=0):
    return np.random.default_rng(seed)


def density(pixels):
    return -np.log10(light(pixels))


@pytest.mark.parametrize(
    ("degradation", "nothing"),
    [
        (fade, {"cyan": 0, "magenta": 0, "yellow": 0}),
        (light_fade, {"cyan": 0, "magenta": 0, "yellow": 0}),
        (yellowing, {"density": 0}),
        (silver_mirroring, {"strength": 0, "reach": 0.1}),
    ],
)
def test_no_ageing_is_no_change(degradation, nothing):
    for pixels in (small(), gray(small()), sixteen(small())):
        assert np.array_equal(degradation(pixels, rng(), **nothing).pixels, pixels)


# -- fade ------------------------------------------------------------------------------------------


def test_a_dye_that_lost_thirty_percent_has_seventy_percent_of_its_density():
    ramp = np.arange(100, 230, dtype=np.uint16)[None, :, None] * 257 * np.ones(3, np.uint16)
    faded = fade(ramp, rng(), cyan=0.3, magenta=0.3, yellow=0.3).pixels
    # The floor of the paper's black takes up to 4 percent more where the density nears 1.
    assert density(faded) == pytest.approx(0.7 * density(ramp), rel=0.04)


def test_faded_levels_are_those_worked_out_by_hand():
    # Level 89 is a tenth of the light. On paper with blacks of density 2.2 (0.00631) it has
    # 0.1 * 0.99369 + 0.00631 = 0.10568; to the power of 0.7, 0.20735; less the black again,
    # 0.20231, which sRGB encodes as 0.48736. Black: 0.00631**0.7 = 0.02884, 0.02267, 0.16279.
    levels = np.array([0, 89, 255], np.uint8).reshape(1, 3, 1)
    faded = fade(levels, rng(), cyan=0.3, magenta=0.3, yellow=0.3).pixels.ravel()
    assert list(faded) == [round(255 * 0.16279), round(255 * 0.48736), 255]


@pytest.mark.parametrize(("dye", "channel"), [("cyan", 0), ("magenta", 1), ("yellow", 2)])
def test_each_dye_is_of_one_channel(dye, channel):
    pixels = photo("coffee")
    lost = {"cyan": 0.0, "magenta": 0.0, "yellow": 0.0, dye: 0.5}
    faded = fade(pixels, rng(), **lost).pixels
    others = [other for other in range(3) if other != channel]
    assert np.array_equal(faded[..., others], pixels[..., others])
    assert (faded[..., channel] >= pixels[..., channel]).all()
    assert faded[..., channel].mean() > pixels[..., channel].mean() + 10


def test_a_dye_that_is_gone_leaves_its_channel_white():
    gone = fade(photo(), rng(), cyan=1, magenta=0, yellow=0).pixels
    assert (gone[..., 0] == 255).all()


def test_paper_stays_white_and_prints_in_the_dark_turn_red():
    for severity in range(1, 6):
        assert (fade(flat(255), rng(), severity=severity).pixels == 65535).all()
        for level in (0, 60, 128, 200):
            red, green, blue = fade(flat(level), rng(), severity=severity).pixels[0, 0].astype(int)
            assert red > blue >= green


def test_silver_loses_the_mean_of_the_three():
    lost = {"cyan": 0.6, "magenta": 0.1, "yellow": 0.2}
    mean = dict.fromkeys(lost, 0.3)
    expected = fade(np.repeat(gray(photo()), 3, axis=-1), rng(), **mean).pixels[..., :1]
    assert np.array_equal(fade(gray(photo()), rng(), **lost).pixels, expected)


def test_sixteen_bits_stay_apart_where_eight_fall_together():
    ramp = np.arange(30000, 31000, dtype=np.uint16).reshape(1, -1, 1)
    faded = fade(ramp, rng(), severity=3).pixels.ravel().astype(int)
    assert (np.diff(faded) >= 0).all()
    assert len(np.unique(faded)) > 500


# -- light_fade ------------------------------------------------------------------------------------


def test_the_window_fades_and_the_border_under_the_mat_does_not():
    pixels = photo("coffee")
    lost = {"cyan": 0.1, "magenta": 0.6, "yellow": 0.4}
    seen = light_fade(pixels, rng(5), **lost, border=0.2).pixels
    all_faded = fade(pixels, rng(), **lost).pixels
    height, width = pixels.shape[:2]
    middle = np.s_[2 * height // 5 : 3 * height // 5, 2 * width // 5 : 3 * width // 5]
    assert np.array_equal(seen[middle], all_faded[middle])
    fresh = (seen == pixels).all(axis=-1)
    gone = (seen == all_faded).all(axis=-1) & ~fresh
    # A rectangle in a frame: whole rows and columns at the rim are fresh, and little is neither.
    assert fresh[0].all()
    assert fresh[:, -1].all()
    assert 0.3 < fresh.mean() < 0.8
    assert (fresh | gone).mean() > 0.97


def test_without_a_mat_all_of_the_print_fades():
    lost = {"cyan": 0.1, "magenta": 0.6, "yellow": 0.4}
    whole = light_fade(photo(), rng(), **lost, border=0).pixels
    assert np.array_equal(whole, fade(photo(), rng(), **lost).pixels)


def test_prints_on_display_turn_green():
    for severity in range(1, 6):
        red, green, blue = (
            light_fade(flat(100), rng(), severity=severity).pixels[128, 160].astype(int)
        )
        assert green > blue > red


# -- yellowing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [0.1, 0.3, 0.6])
def test_the_stain_has_the_density_asked_for_and_absorbs_blue(asked):
    stained = [density(yellowing(flat(255), rng(seed), density=asked).pixels) for seed in range(8)]
    red, green, blue = np.mean([image[80:-80, 80:-80].mean(axis=(0, 1)) for image in stained], 0)
    assert blue == pytest.approx(asked, rel=0.15)
    # Whites of old prints measured: green at a sixth to a third of blue above red.
    assert 1 / 6 < (green - red) / (blue - red) < 1 / 3
    assert red == pytest.approx(blue / 10, rel=0.01)


def test_the_stain_is_the_same_on_any_tone_so_that_whites_suffer_most():
    falls, densities = [], []
    for level in (60, 128, 255):
        stained = yellowing(flat(level), rng(), density=0.4).pixels
        falls.append(float((flat(level)[..., 2] - stained[..., 2].astype(float)).mean()))
        densities.append(float((density(stained) - density(flat(level)))[..., 2].mean()))
    assert falls == sorted(falls)
    assert densities == pytest.approx([densities[0]] * 3, rel=1e-3)


def test_edges_are_yellower_than_the_middle():
    stains = sum(density(yellowing(flat(255), rng(seed), density=0.3).pixels) for seed in range(8))
    blue = stains[..., 2]
    edge = np.concatenate([blue[:3].ravel(), blue[-3:].ravel(), blue[:, :3].ravel()])
    assert edge.mean() > 1.3 * blue[100:-100, 100:-100].mean()


def test_gray_takes_the_luma_of_the_stain():
    colour = light(yellowing(flat(255), rng(), density=0.5).pixels)
    single = light(yellowing(flat(255, (256, 320, 1)), rng(), density=0.5).pixels)
    assert single[..., 0] == pytest.approx(colour @ [0.299, 0.587, 0.114], abs=1e-4)


# -- silver_mirroring ------------------------------------------------------------------------------


def test_the_sheen_is_blue_and_falls_off_from_the_edges():
    black = flat(0, (300, 300, 3))
    shine = sum(silver_mirroring(black, rng(seed), severity=4).pixels / 65535 for seed in range(6))
    red, green, blue = np.moveaxis(shine[:20], -1, 0)
    assert (blue > green).all()
    assert (green > red).all()
    at = np.arange(300) + 0.5
    edge = np.minimum(at, 300 - at)
    distance = np.minimum(edge[:, None], edge)
    bands = [shine[(distance >= d) & (distance < d + 15)].mean() for d in range(0, 120, 15)]
    assert bands == sorted(bands, reverse=True)
    assert bands[0] > 20 * bands[-1]


def test_it_reaches_as_far_as_asked():
    black = flat(0, (400, 400, 1))
    near, far = (
        sum(
            silver_mirroring(black, rng(seed), strength=1, reach=reach).pixels.sum(dtype=float)
            for seed in range(4)
        )
        for reach in (0.04, 0.08)
    )
    # A frame of twice the width has about twice the area.
    assert 1.7 < far / near < 2.1


def test_it_lies_in_the_darks_and_spares_the_lights():
    covers = [
        np.abs(silver_mirroring(flat(level), rng(), severity=5).pixels.astype(float) - level * 257)
        for level in (0, 40, 80)
    ]
    assert [cover.mean() for cover in covers] == sorted(
        (cover.mean() for cover in covers), reverse=True
    )
    white = flat(255)
    assert np.array_equal(silver_mirroring(white, rng(), severity=5).pixels, white)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_blacks_at_the_edge_of_a_photograph_are_lifted_and_whites_are_not(name):
    pixels = photo(name)
    mirrored = silver_mirroring(pixels, rng(), severity=5).pixels
    change = mirrored.astype(int) - pixels
    assert np.abs(change[(pixels > 250).all(axis=-1)]).max(initial=0) <= 1
    rim = np.ones(pixels.shape[:2], bool)
    rim[12:-12, 12:-12] = False
    dark = rim & (pixels < 40).all(axis=-1)
    red, _, blue = change[dark].mean(axis=0)
    assert blue > red > 20


def test_the_sheen_of_gray_is_the_luma_of_that_of_black_in_colour():
    colour = silver_mirroring(flat(0), rng(), severity=4).pixels.astype(float)
    single = silver_mirroring(flat(0, (256, 320, 1)), rng(), severity=4).pixels
    assert single[..., 0] == pytest.approx(colour @ [0.299, 0.587, 0.114], abs=2)
