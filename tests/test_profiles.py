"""Profiles are honoured on the way to the model, and on the way back the change travels."""

import hashlib
import io
import time

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage.color import lab2rgb, rgb2lab

from tests import icc_profiles, photographs
from tests.icc_profiles import (
    converted,
    decoded,
    encoded,
    gray_profile,
    matrix_profile,
    to_d50,
)
from tests.photographs import gray, photo, sixteen, small
from transforms import icc, profiles

WIDE = ["Adobe RGB", "ProPhoto", "Display P3"]
rng = np.random.default_rng(6)
NOISE = rng.integers(0, 65536, (60, 80, 3)).astype(np.uint16)  # every kind of colour
RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)


def shown(pixels, profile, space):
    """What a colour-managed viewer shows, as sRGB in 16 bits; no profile is sRGB."""
    deep = pixels if pixels.dtype == np.uint16 else pixels * np.uint16(257)
    managed = profiles.working(deep, profile, space)
    return managed.pixels.astype(int)


def there_and_back(pixels, profile, space, change=lambda pixels: pixels):
    before = profiles.working(pixels, profile, space)
    result = change(before.pixels)
    return before, *profiles.native(result, before.pixels, before.native, before.icc, space)


# -- to the working space --------------------------------------------------------------------------


@pytest.mark.parametrize("name", WIDE)
def test_16_bits_are_converted_as_the_definition_of_the_space_says(name):
    managed = profiles.working(NOISE, matrix_profile(name), "RGB")
    assert managed.pixels.dtype == np.uint16
    apart = np.abs(managed.pixels - 65535 * converted(NOISE / 65535, name, "sRGB"))
    # Profiles hold numbers to 1/65536, which is some levels near black; and P3's curve here is a
    # table of as many bits.
    assert np.percentile(apart, 99) < (6 if name == "Display P3" else 1.2)
    assert apart.max() < (15 if name == "Display P3" else 8)
    assert managed.native is NOISE
    assert managed.conversion == "RGB to sRGB through its ICC profile"


@pytest.mark.parametrize("name", WIDE)
def test_8_bits_are_converted_as_pillow_does(name):
    profile = matrix_profile(name)
    source, target = (
        ImageCms.ImageCmsProfile(io.BytesIO(data)) for data in (profile, photographs.srgb_profile())
    )
    transform = ImageCms.buildTransform(
        source, target, "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
    )
    expected = np.asarray(ImageCms.applyTransform(Image.fromarray(photo()), transform))
    ours = profiles.working(photo(), profile, "RGB").pixels
    apart = np.abs(ours.astype(int) - expected)  # Pillow's is optimised, and has 14 bits
    assert apart.max() <= 1
    assert apart.mean() < 0.02
    assert np.abs(ours.astype(int) - photo()).max() > 5, "there was something to do"


@pytest.mark.parametrize("name", WIDE)
def test_neutral_grays_stay_neutral_there_and_back(name):
    grays = np.repeat(RAMP, 3, axis=-1)
    before, back, _ = there_and_back(grays, matrix_profile(name), "RGB", lambda one: one[::-1])
    assert np.ptp(before.pixels.astype(int), axis=-1).max() <= 2
    assert np.ptp(back.astype(int), axis=-1).max() <= 4
    assert before.pixels[0, 0].tolist() == [0] * 3
    assert before.pixels[-1, -1].min() >= 65534


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_gray_is_converted_by_its_curve(gamma, dtype):
    most = np.iinfo(dtype).max
    levels = np.arange(most + 1).astype(dtype).reshape(-1, 64, 1)
    managed = profiles.working(levels, gray_profile(gamma), "GRAY")
    light = (levels / most) ** (round(256 * gamma) / 256)
    assert np.abs(managed.pixels - most * encoded(light, None)).max() < 1.01
    assert (managed.pixels[0, 0, 0], managed.pixels[-1, -1, 0]) == (0, most)
    assert managed.conversion == "GRAY to the curve of sRGB through its ICC profile"


@pytest.mark.parametrize(("depth", "levels"), [(np.uint8, (2.55, 1)), (np.uint16, (655.35, 257))])
def test_lab_is_cie_lab(depth, levels):
    lab = rgb2lab(photo()[:100, :100])
    master = np.rint(np.add(lab, (0, 128, 128)) * np.array(levels)[[0, 1, 1]]).astype(depth)
    managed = profiles.working(master, None, "LAB")
    # CIE 15, as of D50, which is ICC's white and TIFF's.
    stored = master / np.array(levels)[[0, 1, 1]] - (0, 128, 128)
    y = (stored[..., 0] + 16) / 116
    roots = np.stack([y + stored[..., 1] / 500, y, y - stored[..., 2] / 200], axis=-1)
    light = np.where(roots > 6 / 29, roots**3, (roots - 4 / 29) * 108 / 841) * icc_profiles.D50
    expected = encoded(light @ np.linalg.inv(to_d50("sRGB")).T, None)
    apart = np.abs(managed.pixels / np.iinfo(depth).max - expected)
    assert apart.max() < (0.51 / 255 if depth == np.uint8 else 1e-4)
    assert managed.native is master
    assert managed.conversion == "LAB to sRGB through CIE L*a*b*"


def test_cmyk_without_a_profile_is_paper_less_ink_less_black():
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 51, 0, 51], [9, 9, 9, 255]]], np.uint8)
    managed = profiles.working(inks, None, "CMYK")
    assert managed.pixels.tolist() == [[[255] * 3, [0, 255, 255], [204, 163, 204], [0] * 3]]
    assert managed.conversion == "CMYK to sRGB through no profile"
    assert managed.icc is None


def test_cmyk_is_converted_by_its_profile():
    inks = np.zeros((1, 3, 4), np.uint8)
    inks[0, :, 3] = 0, 128, 255
    inks[0, 1, :3] = 200, 10, 90  # which this profile does not print
    managed = profiles.working(inks, photographs.cmyk_profile(), "CMYK")
    middle = np.rint(255 * lab2rgb([100 * (1 - 128 / 255), 0, 0]))[0]
    assert np.abs(managed.pixels[0].astype(int) - [[255], [middle], [0]]).max() <= 1


@pytest.mark.parametrize(
    ("profile", "space"),
    [
        (matrix_profile("sRGB"), "RGB"),
        (photographs.srgb_profile(), "RGB"),
        (icc.SRGB, "RGB"),
        (icc_profiles.rough_srgb(), "RGB"),
        (gray_profile(None), "GRAY"),
        (icc.GRAY, "GRAY"),
        (None, "RGB"),
        (None, "GRAY"),
    ],
    ids=["table", "Pillow's", "ours", "rough", "gray table", "gray ours", "none", "gray none"],
)
def test_what_is_srgb_already_costs_nothing(profile, space):
    pixels = NOISE if space == "RGB" else RAMP
    managed = profiles.working(pixels, profile, space)
    assert managed.pixels is pixels
    assert managed.native is managed.conversion is None
    assert managed.icc == profile
    result = pixels[::-1]
    back, kept = profiles.native(result, pixels, None, profile, space)
    assert back is result
    assert kept == profile


def test_the_primaries_of_srgb_with_another_curve_are_not_srgb():
    managed = profiles.working(NOISE, icc_profiles.rough_srgb(2.2), "RGB")
    assert managed.native is NOISE


@pytest.mark.parametrize("space", ["GRAY", "RGB", "CMYK", "LAB"])
def test_strips_do_not_show(space, monkeypatch):
    pixels = rng.integers(0, 65536, (50, 20, {"GRAY": 1, "CMYK": 4}.get(space, 3))).astype(
        np.uint16
    )
    profile = {
        "GRAY": gray_profile(),
        "RGB": matrix_profile("ProPhoto"),
        "CMYK": photographs.cmyk_profile(),
    }.get(space)
    whole = there_and_back(pixels, profile, space, lambda one: one[::-1])
    for pixels_a_strip in (1, 137, 400):
        monkeypatch.setattr(profiles, "_STRIP", pixels_a_strip)
        before, back, _ = there_and_back(pixels, profile, space, lambda one: one[::-1])
        assert np.array_equal(before.pixels, whole[0].pixels)
        assert np.array_equal(back, whole[1])


# -- back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("case", [*WIDE, "GRAY", "CMYK", "CMYK plain", "LAB"])
def test_what_was_left_alone_is_the_masters_in_every_sample(case, depth):
    space = case.split()[0] if case not in WIDE else "RGB"
    channels = {"GRAY": 1, "CMYK": 4}.get(space, 3)
    pixels = rng.integers(0, np.iinfo(depth).max + 1, (50, 40, channels)).astype(depth)
    profile = {"GRAY": gray_profile(), "CMYK": photographs.cmyk_profile()}.get(case)
    if case in WIDE:
        profile = matrix_profile(case)

    def repaint(working):
        assert working.dtype == depth
        result = working.copy()
        result[10:20] = 0
        return result

    before, back, kept = there_and_back(pixels, profile, space, repaint)
    assert before.native is pixels
    assert (back.dtype, kept) == (depth, profile)
    alone = (repaint(before.pixels) == before.pixels).all(axis=-1)
    assert 0.7 < alone.mean() <= 0.81
    assert np.array_equal(back[alone], pixels[alone])
    assert (back[~alone] != pixels[~alone]).any(axis=-1).mean() > 0.9


@pytest.mark.parametrize("name", WIDE)
def test_what_changed_is_shown_as_it_was_meant(name):
    """Of colours that sRGB holds, in a master that is as a camera would make it."""
    profile = matrix_profile(name)
    inside = sixteen(photo()) // 2 + 16000
    pixels = np.rint(65535 * converted(inside / 65535, "sRGB", name)).astype(np.uint16)

    def denoised(working):
        moved = working.astype(int) + rng.integers(-900, 900, working.shape)
        return np.clip(moved, 0, 65535).astype(np.uint16)

    before = profiles.working(pixels, profile, "RGB")
    result = denoised(before.pixels)
    back, _ = profiles.native(result, before.pixels, before.native, before.icc, "RGB")
    expected = 65535 * converted(back / 65535, name, "sRGB")
    apart = np.abs(expected - result)
    # What one level of the master's is in sRGB: a few where primaries are wide.
    assert apart.mean() < 1.5
    assert np.percentile(apart, 99.9) < 12


def test_8_bit_changes_are_rounded_once():
    profile = matrix_profile("Adobe RGB")
    before = profiles.working(small(), profile, "RGB")
    result = (before.pixels // 2 + 60).astype(np.uint8)
    back, _ = profiles.native(result, before.pixels, before.native, before.icc, "RGB")
    there, was = (converted(one / 255, "sRGB", "Adobe RGB") for one in (result, before.pixels))
    exact = small() + 255 * (there - was)
    inside = (exact > 0) & (exact < 255)
    assert np.abs(back - exact)[inside].max() < 0.51


def test_what_srgb_cannot_hold_is_kept_where_a_change_is_small():
    """A saturated ProPhoto green, far outside of sRGB, made a little darker."""
    pixels = np.full((8, 8, 3), (1000, 60000, 1000), np.uint16)
    profile = matrix_profile("ProPhoto")
    before, back, _ = there_and_back(
        pixels, profile, "RGB", lambda one: one - np.minimum(one, np.uint16(500))
    )
    assert before.pixels[0, 0, 0] == 0, "it is clipped in sRGB"
    assert np.abs(back.astype(int) - pixels).max() < 1500
    assert back[0, 0, 1] < 60000


def test_a_colorized_gray_master_says_that_it_is_srgb_and_keeps_its_neutrals():
    profile = gray_profile(2.2)
    before = profiles.working(RAMP, profile, "GRAY")
    result = np.repeat(before.pixels, 3, axis=-1)
    back, kept = profiles.native(result, before.pixels, before.native, before.icc, "GRAY")
    assert kept == icc.SRGB
    exact = 65535 * encoded(decoded(RAMP / 65535, round(256 * 2.2) / 256), None)
    assert np.abs(shown(back, kept, "RGB") - exact).max() < 1.01


def test_none_is_invented_for_a_colorized_master_without_a_profile():
    result = np.repeat(RAMP, 3, axis=-1)
    back, kept = profiles.native(result, RAMP, None, None, "GRAY")
    assert back is result
    assert kept is None


def test_a_colour_master_made_gray_says_by_which_curve():
    before = profiles.working(NOISE, matrix_profile("Adobe RGB"), "RGB")
    result = before.pixels[..., :1]
    back, kept = profiles.native(result, before.pixels, before.native, before.icc, "RGB")
    assert kept == icc.GRAY
    assert np.array_equal(back, result)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_changed_cmyk_without_a_profile_shows_the_result_and_keeps_its_black(depth):
    most = np.iinfo(depth).max
    inks = rng.integers(0, most + 1, (40, 50, 4)).astype(depth)
    before, back, _ = there_and_back(inks, None, "CMYK", lambda one: one[::-1])
    shows = profiles.working(back, None, "CMYK").pixels.astype(int)
    assert np.abs(shows - before.pixels[::-1]).max() <= 1
    assert (back[..., 3] <= inks[..., 3]).all()
    darker = before.pixels[::-1].max(axis=-1) <= most - inks[..., 3]
    assert np.array_equal(back[..., 3][darker], inks[..., 3][darker])


def test_changed_cmyk_is_printed_as_its_profile_says():
    inks = rng.integers(0, 256, (20, 20, 4)).astype(np.uint8)
    profile = photographs.cmyk_profile()
    black = np.zeros((20, 20, 3), np.uint8)
    _, back, kept = there_and_back(inks, profile, "CMYK", lambda one: np.maximum(black, 255 - one))
    assert kept == profile
    assert not back[..., :3].any(), "it prints with black alone"


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_lightened_lab_master_is_lighter_and_as_coloured(depth):
    lab = np.add(rgb2lab(photo()[:80, :80] // 2 + 64), (0, 128, 128))
    levels = np.array([2.55, 1, 1] if depth == np.uint8 else [655.35, 257, 257])
    master = np.rint(lab * levels).astype(depth)
    step = depth(np.iinfo(depth).max // 25)
    _, back, _ = there_and_back(master, None, "LAB", lambda one: one + step)
    moved = (back.astype(int) - master) / levels
    assert (moved[..., 0] > 2).all()
    assert np.abs(np.median(moved[..., 1:], axis=(0, 1))).max() < 1.5


# -- profiles that cannot be trusted ---------------------------------------------------------------

ADOBE = matrix_profile("Adobe RGB")


def lying(profile, at, value):
    return profile[:at] + value.to_bytes(4, "big") + profile[at + 4 :]


BROKEN = {
    "not a profile": (b"no profile", "does not begin as ICC profiles do"),
    "nothing": (b"", "does not begin as ICC profiles do"),
    "cut": (ADOBE[:200], "states a size of"),
    "larger than it is": (lying(ADOBE, 0, 10**6), "states a size of 1,000,000 bytes"),
    "as large as can be": (lying(ADOBE, 0, 2**32 - 1), "states a size of 4,294,967,295 bytes"),
    "smaller than a header": (lying(ADOBE, 0, 12), "states a size of 12 bytes"),
    "many tags": (lying(ADOBE, 128, 2**31), "states 2,147,483,648 tags"),
    "a tag beyond its end": (lying(ADOBE, 136, 2**31), "its tag wtpt lies beyond its end"),
    "no tags": (icc_profiles.profile(b"mntr", b"RGB ", b"XYZ ", {}), "no conversion of it"),
    "gray": (gray_profile(), "it is for GRAY, and the image is RGB"),
    "inks": (photographs.cmyk_profile(), "it is for CMYK, and the image is RGB"),
    "a link": (icc_profiles.profile(b"link", b"RGB ", b"RGB ", {}), "of class link"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_profile_that_cannot_be_used_is_left_out_with_a_warning(case):
    profile, reason = BROKEN[case]
    managed = profiles.working(NOISE, profile, "RGB")
    assert managed.pixels is NOISE
    assert managed.native is managed.icc is None
    (warning,) = managed.warnings
    assert warning.startswith("the ICC profile was not used, and not carried over: ")
    assert reason in warning


def test_what_follows_a_profile_is_not_carried_over():
    managed = profiles.working(NOISE, ADOBE + bytes(100), "RGB")
    assert managed.icc == ADOBE
    assert managed.native is NOISE


def test_a_profile_that_cannot_be_returned_to_gives_an_srgb_derivative():
    """As scanners' profiles often are: a table to Lab and none back."""
    table = icc_profiles.table(3, 3, lambda rgb: np.c_[rgb.mean(-1), 0.5 + 0 * rgb[:, :2]])
    scanner = icc_profiles.profile(b"scnr", b"RGB ", b"Lab ", {b"A2B0": table})
    before, back, kept = there_and_back(NOISE, scanner, "RGB", lambda one: one[::-1])
    assert before.native is None
    assert kept == icc.SRGB
    assert np.array_equal(back, before.pixels[::-1])
    assert before.warnings == (
        "the ICC profile converts one way only: the derivative is sRGB, and says so",
    )
    assert np.ptp(before.pixels.astype(int), axis=-1).max() < 700, "it sees no colour"


@pytest.mark.parametrize("seed", range(4))
def test_damaged_profiles_end_in_a_conversion_or_a_warning(seed):
    damage = np.random.default_rng(seed)
    profile = (ADOBE, photographs.cmyk_profile(), gray_profile(), icc.SRGB)[seed]
    space = ("RGB", "CMYK", "GRAY", "RGB")[seed]
    channels = {"GRAY": 1, "CMYK": 4}.get(space, 3)
    pixels = damage.integers(0, 65536, (5, 5, channels)).astype(np.uint16)
    seen = set()
    started = time.monotonic()
    for _ in range(60):
        hurt = bytearray(profile)
        for place in damage.integers(0, min(len(hurt), 500), 3):
            hurt[place] = damage.integers(256)
        before, back, _ = there_and_back(pixels, bytes(hurt), space, lambda one: one[::-1])
        assert back.dtype == np.uint16
        if before.icc is None:  # then it is as if there were none
            assert before.warnings
            assert np.array_equal(before.pixels, profiles.working(pixels, None, space).pixels)
        seen.add(bool(before.warnings))
    assert seen == {True, False}
    assert time.monotonic() - started < 30


# -- the profiles of derivatives -------------------------------------------------------------------


def test_the_srgb_that_is_embedded_is_srgb():
    assert np.abs(shown(NOISE, icc.SRGB, "RGB") - NOISE).max() == 0
    there = ImageCms.ImageCmsProfile(io.BytesIO(icc.SRGB))
    assert ImageCms.getProfileDescription(there).strip() == "sRGB"
    exact = np.array([there.profile.red_colorant[0], there.profile.green_colorant[0]])
    assert np.abs(exact.ravel() - icc_profiles.to_d50("sRGB")[:, :2].T.ravel()).max() < 2e-5
    managed = np.asarray(
        ImageCms.profileToProfile(
            Image.fromarray(photo()), there, ImageCms.createProfile("sRGB"), renderingIntent=1
        )
    )
    assert np.abs(managed.astype(int) - photo()).max() <= 1


def test_the_profiles_of_derivatives_never_change():
    """Bytes of derivatives depend on them: a change needs another ALGORITHM."""
    digests = [hashlib.sha256(profile).hexdigest()[:16] for profile in (icc.SRGB, icc.GRAY)]
    assert digests == ["ff9e76ead1ebdc57", "092dd6cf67514eec"]


def test_gray_and_colour_derivatives_of_one_gray_look_the_same():
    levels = gray(photo())
    transform = ImageCms.buildTransform(
        *(ImageCms.ImageCmsProfile(io.BytesIO(one)) for one in (icc.GRAY, icc.SRGB)),
        "L",
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    shows = np.asarray(ImageCms.applyTransform(Image.fromarray(levels[..., 0]), transform))
    assert np.abs(shows.astype(int) - levels).max() <= 1
