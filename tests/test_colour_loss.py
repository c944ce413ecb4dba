"""Colour is lost as the standards, other libraries and arithmetic say."""

import colorsys
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, spatial
from skimage import color

from tests.damage import damage, psnr
from tests.photographs import PHOTOS, gray, photo, sixteen, small
from transforms import colour
from transforms.degradations import DEGRADATIONS

DEPTHS = [np.uint8, np.uint16]
both_depths = pytest.mark.parametrize("dtype", DEPTHS)


def words(name, parameter):
    return DEGRADATIONS[name].parameters[parameter].words


def flat(level, shape=(3, 3, 3), dtype=np.uint8):
    return np.full(shape, level, dtype)


def levels(dtype=np.uint8, channels=3):
    """Every level there is, as neutral pixels."""
    ramp = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    return np.repeat(ramp.reshape(-1, 256, 1), channels, axis=-1)


def to_light(pixels):
    """Linear light by IEC 61966-2-1, in double precision."""
    unit = pixels / np.iinfo(pixels.dtype).max
    return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)


GRAY_STAYS = [
    *[("colour_cast", {"density": 0.5, "towards": t}) for t in words("colour_cast", "towards")],
    *[("channel_loss", {"amount": 1, "channel": c}) for c in words("channel_loss", "channel")],
    *[("swap_channels", {"order": order}) for order in words("swap_channels", "order")],
    *[("grayscale", {"by": by}) for by in words("grayscale", "by")],
    *[
        ("conversion", {"space": space, "subsampling": subsampling})
        for space in ("ycbcr", "hsv")
        for subsampling in words("conversion", "subsampling")
    ],
    ("bit_depth", {"bits": 8}),
    ("clip_channels", {"amount": 0}),
    ("palette", {"colours": 256}),
]


@pytest.mark.parametrize(("name", "parameters"), GRAY_STAYS)
def test_a_gray_image_has_no_colour_to_lose(name, parameters):
    pixels = gray(small())
    assert np.array_equal(damage(name, pixels, **parameters), pixels)


GRADED = [
    ("palette", {"dither": "floyd_steinberg"}),
    *[("clip_channels", {"channels": channels}) for channels in words("clip_channels", "channels")],
    *[("colour_cast", {"towards": towards}) for towards in words("colour_cast", "towards")],
    *[("channel_loss", {"channel": channel}) for channel in words("channel_loss", "channel")],
    *[
        ("conversion", {"space": space, "subsampling": subsampling})
        for space in words("conversion", "space")
        for subsampling in words("conversion", "subsampling")
    ],
]


@pytest.mark.parametrize(("name", "parameters"), GRADED)
@pytest.mark.parametrize("photograph", PHOTOS)
def test_worse_severities_do_more_damage_in_any_variant(name, parameters, photograph):
    pixels = photo(photograph)[100:300, 100:300]
    scores = [
        psnr(damage(name, pixels, 7, severity=severity, **parameters), pixels)
        for severity in range(1, 6)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[4] + 3


# -- grayscale -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHOTOS)
def test_grayscale_is_the_luma_of_pillow_within_a_level(name):
    expected = np.asarray(Image.fromarray(photo(name)).convert("L")).astype(int)
    ours = damage("grayscale", photo(name))
    assert ours.shape == (*expected.shape, 1)
    assert np.abs(ours[..., 0] - expected).max() <= 1


def test_grayscale_in_16_bits_keeps_them():
    pixels = sixteen(small())
    expected = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(int)
    assert np.abs(damage("grayscale", pixels)[..., 0] - expected).max() <= 2


@pytest.mark.parametrize("by", words("grayscale", "by"))
@both_depths
def test_neutral_colours_keep_their_level_in_grayscale(by, dtype):
    assert np.array_equal(damage("grayscale", levels(dtype), by=by), levels(dtype, 1))


@pytest.mark.parametrize("name", PHOTOS)
def test_bt709_is_the_gray_of_scikit_image(name):
    expected = color.rgb2gray(photo(name)) * 255
    assert np.abs(damage("grayscale", photo(name), by="bt709")[..., 0] - expected).max() < 0.6


@pytest.mark.parametrize("name", PHOTOS)
def test_gray_by_lightness_has_the_lightness_of_the_colour(name):
    pixels = sixteen(photo(name)[:200, :200])
    ours = damage("grayscale", pixels, by="lightness")
    lightness = color.rgb2lab(np.repeat(ours, 3, axis=-1))[..., 0]
    assert np.abs(lightness - color.rgb2lab(pixels)[..., 0]).max() < 0.02


@pytest.mark.parametrize(
    ("by", "expected"),
    # The primaries: weights of the standards times 255; a third of it; L* 53.24, 87.73 and 32.30,
    # whose grays in sRGB are 127, 220 and 76.
    [
        ("bt601", (76, 150, 29)),
        ("bt709", (54, 182, 18)),
        ("average", (85, 85, 85)),
        ("lightness", (127, 220, 76)),
        ("red", (255, 0, 0)),
        ("green", (0, 255, 0)),
        ("blue", (0, 0, 255)),
    ],
)
def test_primaries_have_known_grays(by, expected):
    primaries = (255 * np.eye(3, dtype=np.uint8))[None]
    assert tuple(damage("grayscale", primaries, by=by).ravel()) == expected


# -- colour_cast -----------------------------------------------------------------------------------


def gains(pixels, cast):
    """What each channel was multiplied by, in linear light."""
    return np.median(to_light(cast) / to_light(pixels), axis=(0, 1))


@pytest.mark.parametrize("towards", words("colour_cast", "towards"))
@pytest.mark.parametrize("density", [0.05, 0.3, 0.5])
def test_a_cast_is_the_optical_density_asked_for_in_linear_light(towards, density):
    pixels = levels(np.uint16)[20:120]  # dark enough not to clip
    cast = damage("colour_cast", pixels, 3, density=density, towards=towards)
    ratio = to_light(cast) / to_light(pixels)
    assert np.ptp(ratio, axis=(0, 1)).max() < 0.01, "the same at every level"
    found = gains(pixels, cast)
    assert np.log10(found.max() / found.min()) == pytest.approx(density, abs=0.001)


@pytest.mark.parametrize("towards", words("colour_cast", "towards"))
def test_a_cast_leaves_gray_about_its_luminance(towards):
    pixels = flat(20_000, dtype=np.uint16)
    for severity, within in enumerate([0.01, 0.01, 0.03, 0.06, 0.17], start=1):
        cast = damage("colour_cast", pixels, 5, severity=severity, towards=towards)
        before, after = (
            to_light(image)[0, 0] @ [0.2126, 0.7152, 0.0722] for image in (pixels, cast)
        )
        assert after == pytest.approx(before, rel=within)


def test_a_warm_cast_of_a_density_of_nine_tenths_is_tungsten_light():
    tungsten = color.xyz_tristimulus_values(illuminant="A", observer="2")
    expected = np.log10(np.linalg.inv(color.colorconv.xyz_from_rgb) @ tungsten)
    pixels = flat(12_000, dtype=np.uint16)
    found = np.log10(gains(pixels, damage("colour_cast", pixels, density=0.9, towards="warm")))
    assert found - found[0] == pytest.approx(expected - expected[0], abs=0.03)


@pytest.mark.parametrize(
    ("towards", "order"),
    [("warm", "rgb"), ("cool", "bgr"), ("green", "gr"), ("green", "gb"), ("magenta", "rg")],
)
def test_casts_go_where_their_names_say(towards, order):
    pixels = flat(90)
    red, green, blue = damage("colour_cast", pixels, density=0.3, towards=towards)[0, 0].tolist()
    found = [{"r": red, "g": green, "b": blue}[each] for each in order]
    assert found == sorted(set(found), reverse=True)


@pytest.mark.parametrize("pair", [("warm", "cool"), ("green", "magenta")])
def test_opposite_casts_undo_each_other(pair):
    pixels = np.clip(sixteen(small()), 2000, 30_000)
    for towards in pair:
        pixels, before = damage("colour_cast", pixels, density=0.3, towards=towards), pixels
        assert np.abs(pixels.astype(int) - before).max() > 1000
    assert np.abs(pixels.astype(int) - np.clip(sixteen(small()), 2000, 30_000)).max() <= 3


def test_any_cast_is_of_every_hue():
    hues = []
    for seed in range(200):
        cast = damage("colour_cast", flat(20_000, (1, 1, 3), np.uint16), seed, density=0.2)
        hues.append(colorsys.rgb_to_hsv(*(cast.ravel() / 65535).tolist())[0])
    assert (np.histogram(hues, 6, (0, 1))[0] > 10).all()


# -- channel_loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "channel"), enumerate(["red", "green", "blue"]))
@both_depths
def test_a_lost_channel_is_black_and_the_others_stay(index, channel, dtype):
    pixels = small() if dtype == np.uint8 else sixteen(small())
    expected = pixels.copy()
    expected[..., index] = 0
    assert np.array_equal(damage("channel_loss", pixels, amount=1, channel=channel), expected)
    weak = damage("channel_loss", pixels, amount=0.25, channel=channel)
    expected[..., index] = np.rint(0.75 * pixels[..., index])
    assert np.abs(weak.astype(int) - expected).max() <= 1  # halves


def test_any_channel_may_be_lost():
    lost = [
        int(np.argmin(damage("channel_loss", flat(9), seed, amount=1)[0, 0])) for seed in range(60)
    ]
    assert (np.bincount(lost, minlength=3) > 8).all()


# -- swap_channels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("bgr", (30, 20, 10)),
        ("rbg", (10, 30, 20)),
        ("grb", (20, 10, 30)),
        ("gbr", (20, 30, 10)),
        ("brg", (30, 10, 20)),
    ],
)
@both_depths
def test_swapped_channels_are_those_of_the_order(order, expected, dtype):
    pixels = np.broadcast_to(np.array([10, 20, 30], dtype), (4, 5, 3))
    swapped = damage("swap_channels", pixels, order=order)
    assert swapped.dtype == dtype
    assert (swapped == expected).all()


def test_bgr_is_the_order_of_opencv():
    expected = cv2.cvtColor(photo(), cv2.COLOR_RGB2BGR)
    assert np.array_equal(damage("swap_channels", photo()), expected)


# -- clip_channels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0.06, 0.25, 0.6])
@pytest.mark.parametrize("channels", ["apart", "together"])
@pytest.mark.parametrize("seed", range(3))
def test_the_share_of_the_range_that_was_asked_for_is_clipped(amount, channels, seed):
    pixels = levels(np.uint16)
    clipped = damage("clip_channels", pixels, seed, amount=amount, channels=channels)
    black = (clipped == 0).mean((0, 1))
    white = (clipped == 65535).mean((0, 1))
    assert black + white == pytest.approx(amount, abs=0.001)
    for share in (*black, *white):
        assert amount / 4 - 0.001 < share < amount * 3 / 4 + 0.001
    assert (np.ptp(black) == 0) == (channels == "together")
    between = clipped.reshape(-1, 3)[30_000:32_000, 0].astype(int)
    assert between[-1] - between[0] == pytest.approx(1999 / (1 - amount), abs=2), "stretched"


def test_full_range_taken_for_studio_range_is_severity_2():
    # BT.601: black at 16 and white at 235 of 255, which leaves 219 of them.
    at = DEGRADATIONS["clip_channels"].at_severity(2)
    assert at["amount"] == pytest.approx(1 - 219 / 255, abs=0.002)


def test_a_gray_image_is_clipped_in_its_one_channel():
    clipped = damage("clip_channels", levels(channels=1), amount=0.4)
    assert clipped.shape == (1, 256, 1)
    assert ((clipped == 0) | (clipped == 255)).mean() == pytest.approx(0.4, abs=0.01)


# -- bit_depth -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 8))
@both_depths
def test_the_levels_of_few_bits_are_equally_far_apart_from_black_to_white(bits, dtype):
    white = np.iinfo(dtype).max
    shallow = damage("bit_depth", levels(dtype), bits=bits)
    expected = np.rint(np.linspace(0, white, 2**bits))
    assert np.array_equal(np.unique(shallow), expected)
    error = np.abs(shallow.astype(float) - levels(dtype))
    assert error.max() <= white / (2**bits - 1) / 2 + 0.5, "the nearest level"


def test_16_bits_can_be_cut_to_12_and_8_keep_what_they_have():
    deep = damage("bit_depth", levels(np.uint16), bits=12)
    assert np.array_equal(np.unique(deep), np.rint(np.linspace(0, 65535, 4096)))
    for bits in (8, 10, 16):
        assert np.array_equal(damage("bit_depth", photo(), bits=bits), photo())
    assert np.array_equal(damage("bit_depth", levels(np.uint16), bits=16), levels(np.uint16))


# -- palette ---------------------------------------------------------------------------------------


def colours_of(pixels):
    colours = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).getcolors(
        pixels.size
    )
    return np.array([colour for _, colour in colours]).reshape(len(colours), -1)


@pytest.mark.parametrize("dither", words("palette", "dither"))
@pytest.mark.parametrize("colours", [2, 8, 40, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_palette_has_no_more_colours_than_asked_for(dither, colours, channels):
    pixels = photo("coffee")[:200] if channels == 3 else gray(photo("coffee"))
    few = damage("palette", pixels, colours=colours, dither=dither)
    assert few.shape == pixels.shape
    # Of colours less than 4 levels apart, dithering leaves some aside.
    assert 0.8 * min(colours, 40) <= len(colours_of(few)) <= colours
    assert dither != "none" or len(colours_of(few)) >= 0.8 * colours


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("colours", [8, 64])
def test_each_pixel_becomes_the_nearest_colour_of_the_palette(name, colours):
    pixels = photo(name)[:200, :300]
    few = damage("palette", pixels, colours=colours)
    nearest, _ = spatial.cKDTree(colours_of(few)).query(pixels.reshape(-1, 3).astype(float))
    distance = np.linalg.norm(few.astype(float) - pixels, axis=-1).ravel()
    assert distance == pytest.approx(nearest)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("colours", [8, 64])
def test_a_palette_is_as_near_to_the_photograph_as_pillows(name, colours):
    theirs = Image.fromarray(photo(name)).quantize(colours, Image.Quantize.MEDIANCUT, dither=0)
    theirs = np.asarray(theirs.convert("RGB"))
    ours = damage("palette", photo(name), colours=colours)
    assert psnr(ours, photo(name)) > psnr(theirs, photo(name)) - 0.3


def test_an_image_of_few_colours_keeps_them_however_alike_they_are():
    chart = np.array([[0, 0, 0], [1, 0, 0], [200, 100, 50], [200, 101, 50]], np.uint8)
    pixels = chart[np.random.default_rng(0).integers(0, 4, (60, 50))]
    assert np.array_equal(damage("palette", pixels, colours=4), pixels)
    assert np.array_equal(damage("palette", pixels, colours=16), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_dithering_keeps_local_means_and_flat_areas_do_not(channels):
    ramp = np.tile(np.linspace(40, 200, 256).astype(np.uint8), (128, 1))
    pixels = np.repeat(ramp[..., None], channels, axis=-1)

    def astray(dither):
        few = damage("palette", pixels, colours=4, dither=dither)
        blurred = ndimage.gaussian_filter(few.astype(float), (6, 6, 0))
        return np.abs(blurred - pixels)[20:-20, 40:-40].mean()

    assert astray("floyd_steinberg") < 3
    assert astray("none") > 6


@pytest.mark.parametrize("dither", words("palette", "dither"))
def test_dithered_or_not_the_palette_is_the_same(dither):
    few = damage("palette", small(), colours=16, dither=dither)
    expected = {tuple(each) for each in colours_of(damage("palette", small(), colours=16))}
    assert {tuple(each) for each in colours_of(few)} == expected


@pytest.mark.parametrize("dither", words("palette", "dither"))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_palette_holds_8_bits_of_16(dither, channels):
    pixels = small() if channels == 3 else gray(small())
    deep = damage("palette", pixels.astype(np.uint16) * 257 + 100, colours=8, dither=dither)
    assert np.array_equal(deep, damage("palette", pixels, colours=8, dither=dither) * 257.0)


def test_a_large_image_has_a_palette_of_all_its_parts():
    # 4 megapixels, of which a sixteenth is looked at: more would be the same here.
    large = np.tile(photo("coffee"), (4, 5, 1))
    small_palette = damage("palette", photo("coffee"), colours=64)
    large_palette = damage("palette", large, colours=64)
    found = psnr(large_palette, large)
    assert found > psnr(small_palette, photo("coffee")) - 0.5


# -- conversion ------------------------------------------------------------------------------------


def by_colorsys(pixels, bits):
    """Hue in 2 ** bits steps around the circle, the others in one fewer from 0 to 1."""
    steps = 2**bits - 1
    result = []
    for pixel in pixels.reshape(-1, 3) / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
        hue = round(hue * (steps + 1)) / (steps + 1)
        result.append(
            colorsys.hsv_to_rgb(
                hue, round(saturation * steps) / steps, round(value * steps) / steps
            )
        )
    return np.array(result).reshape(pixels.shape) * 255


def by_scikit_image_lab(pixels, bits):
    assert bits == 8
    lab = color.rgb2lab(pixels)
    stored = np.rint(lab * [2.55, 1, 1])
    return color.lab2rgb(stored / [2.55, 1, 1]) * 255


def by_scikit_image_studio(pixels, bits):
    """Its YCbCr is that of studios: 16 to 235, and 16 to 240."""
    assert bits == 8
    return color.ycbcr2rgb(np.rint(color.rgb2ycbcr(pixels))) * 255


def by_jfif(pixels, bits):
    """In integers between the two equations of ITU-T T.871, written out as JFIF 1.02 has them."""
    assert bits == 8
    red, green, blue = np.moveaxis(pixels.astype(float), -1, 0)
    y = np.rint(0.299 * red + 0.587 * green + 0.114 * blue)
    cb = np.rint(-0.168736 * red - 0.331264 * green + 0.5 * blue + 128).clip(0, 255)
    cr = np.rint(0.5 * red - 0.418688 * green - 0.081312 * blue + 128).clip(0, 255)
    red = y + 1.402 * (cr - 128)
    green = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    return np.stack([red, green, y + 1.772 * (cb - 128)], axis=-1)


REFERENCES = {
    "hsv": by_colorsys,
    "lab": by_scikit_image_lab,
    "yuv": by_scikit_image_studio,
    "ycbcr": by_jfif,
}


@pytest.mark.parametrize("space", REFERENCES)
@pytest.mark.parametrize("name", PHOTOS)
def test_8_bits_are_what_other_libraries_make_of_them(space, name):
    pixels = small(name)
    expected = np.clip(REFERENCES[space](pixels, 8), 0, 255)
    ours = damage("conversion", pixels, bits=8, space=space)
    off = np.abs(ours - expected).max(axis=-1)
    # Sums that end on a half go one way here and the other there, now and then.
    assert np.percentile(off, 99) <= 1.01
    assert off.max() <= 6


@pytest.mark.parametrize("name", PHOTOS)
def test_8_bits_of_ycbcr_are_about_what_pillow_makes_of_them(name):
    theirs = Image.fromarray(photo(name)).convert("YCbCr").convert("RGB")
    off = damage("conversion", photo(name)) - np.asarray(theirs).astype(float)
    assert np.abs(off).max() <= 4, "it truncates twice"
    assert np.abs(off).mean() < 1.5


@pytest.mark.parametrize("bits", [3, 5])
@pytest.mark.parametrize("name", PHOTOS)
def test_hsv_of_few_bits_is_that_of_colorsys(bits, name):
    pixels = small(name)
    off = np.abs(damage("conversion", pixels, bits=bits, space="hsv") - by_colorsys(pixels, bits))
    assert (off.max(axis=-1) < 0.51).mean() > 0.97, "but for halves"


@pytest.mark.parametrize(
    ("space", "within", "mean"),
    [("ycbcr", 2, 0.6), ("yuv", 3, 0.7), ("hsv", 5, 0.5), ("lab", 9, 0.7)],
)
@pytest.mark.parametrize("name", PHOTOS)
def test_8_bits_lose_little(space, within, mean, name):
    off = np.abs(damage("conversion", photo(name), space=space).astype(int) - photo(name))
    assert off.max() <= within
    assert 0 < off.mean() < mean


@pytest.mark.parametrize(
    ("rgb", "expected"),
    # T.871: red is Y 76, Cb 85 and Cr 255.5, stored as 255; blue Y 29, Cb 255.5 and Cr 107; and
    # back, with 1.402, 0.344136, 0.714136 and 1.772.
    [
        ((255, 0, 0), (254, 0, 0)),
        ((0, 0, 255), (0, 0, 254)),
        ((255, 255, 255), (255, 255, 255)),
        ((0, 0, 0), (0, 0, 0)),
        ((128, 128, 128), (128, 128, 128)),
    ],
)
def test_jpegs_colours_are_those_of_the_standard(rgb, expected):
    pixels = np.array(rgb, np.uint8).reshape(1, 1, 3)
    assert damage("conversion", pixels).ravel().tolist() == list(expected)


@pytest.mark.parametrize("space", words("conversion", "space"))
@pytest.mark.parametrize("bits", range(2, 10))
@both_depths
def test_neutral_stays_neutral_from_black_to_white(space, bits, dtype):
    ours = damage("conversion", levels(dtype), bits=bits, space=space).astype(int)
    assert np.ptp(ours, axis=-1).max() <= (0 if dtype == np.uint8 else 1)
    assert ours.min() == 0
    assert ours.max() == np.iinfo(dtype).max
    assert (np.diff(ours[..., 0].ravel()) >= 0).all()
    # BT.601 leaves 219 of 256 codes to luma.
    steps = 219 * 2**bits // 256 if space == "yuv" else 2**bits - 1
    if dtype == np.uint16:
        assert len(np.unique(ours[..., 1])) == steps + 1
    elif space != "lab":
        assert len(np.unique(ours[..., 1])) == min(256, steps + 1)


@pytest.mark.parametrize("space", words("conversion", "space"))
@both_depths
def test_gray_is_what_neutral_colour_becomes(space, dtype):
    one = damage("conversion", levels(dtype, 1), bits=4, space=space)
    three = damage("conversion", levels(dtype, 3), bits=4, space=space)
    assert np.abs(one.astype(int) - three).max() <= 1


@pytest.mark.parametrize(("space", "within"), [("ycbcr", 2), ("yuv", 3), ("hsv", 3), ("lab", 8)])
def test_16_bits_lose_next_to_nothing(space, within):
    pixels = sixteen(photo()[:200, :200])
    off = np.abs(damage("conversion", pixels, bits=16, space=space).astype(int) - pixels)
    assert np.percentile(off, 99.9) <= within


@pytest.mark.parametrize("space", ["ycbcr", "yuv", "lab"])
@pytest.mark.parametrize(("subsampling", "down"), [("420", 2), ("422", 1)])
def test_subsampling_keeps_light_and_averages_chroma(space, subsampling, down):
    pixels = photo("coffee")[100:300, 100:300] // 2 + 60  # well inside of what RGB can hold
    deep = np.rint(ndimage.gaussian_filter(pixels * 257.0, (0.7, 0.7, 0))).astype(np.uint16)
    ours = damage("conversion", deep, bits=16, space=space, subsampling=subsampling)
    to = color.rgb2lab if space == "lab" else color.rgb2ycbcr
    before, after = to(deep / 65535.0), to(ours / 65535.0)
    # Lab's more vivid colours of a subsampled photograph are clipped here and there.
    assert np.percentile(np.abs(after - before)[..., 0], 99) < 0.02
    small_chroma = before[..., 1:].reshape(200 // down, down, 100, 2, 2).mean((1, 3))
    for channel in range(2):
        expected = cv2.resize(
            small_chroma[..., channel].copy(), (200, 200), interpolation=cv2.INTER_LINEAR
        )
        assert np.percentile(np.abs(after[..., 1 + channel] - expected), 99) < 0.03


def test_subsampled_hues_are_averaged_around_the_circle():
    # Of hues on both sides of red the mean is red, and not the cyan between their numbers.
    pixels = np.empty((8, 8, 3), np.uint8)
    pixels[:, 0::2] = (200, 100, 110)
    pixels[:, 1::2] = (200, 110, 100)
    for red, green, blue in damage("conversion", pixels, space="hsv", subsampling="422")[:, 4]:
        assert red == 200
        assert abs(int(green) - int(blue)) <= 1
        assert 98 <= green <= 106


@pytest.mark.parametrize("space", words("conversion", "space"))
@pytest.mark.parametrize("subsampling", ["422", "420"])
def test_strips_do_not_show_in_subsampled_chroma(space, subsampling):
    # 701 columns: a strip is 498 rows, so this image has two, of which the second starts anywhere.
    tall = np.tile(photo("coffee"), (2, 2, 1))[:799, :701]
    whole = damage("conversion", tall, bits=6, space=space, subsampling=subsampling)
    part = damage("conversion", tall[400:600], bits=6, space=space, subsampling=subsampling)
    assert np.abs(whole[402:598].astype(int) - part[2:-2]).max() <= 1


@pytest.mark.parametrize("space", words("conversion", "space"))
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (5, 7)])
def test_flat_colour_is_the_same_however_subsampled(space, size):
    pixels = np.broadcast_to(np.array([90, 140, 200], np.uint8), (*size, 3))
    plain = damage("conversion", pixels, space=space)
    for subsampling in ("422", "420"):
        ours = damage("conversion", pixels, space=space, subsampling=subsampling)
        assert np.array_equal(ours, plain)


# -- transforms.colour -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHOTOS)
def test_lab_is_that_of_scikit_image(name):
    pixels = sixteen(photo(name)[:200, :200])
    ours = colour.lab(colour.to_unit(pixels))
    assert ours.dtype == np.float32
    assert np.abs(ours - color.rgb2lab(pixels)).max() < 0.05


@pytest.mark.parametrize(
    ("rgb", "expected"),
    # Of the sRGB primaries, as any table of them says (D65, 2 degrees).
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_primaries_is_known(rgb, expected):
    ours = colour.lab(np.array(rgb, np.float32).reshape(1, 1, 3))
    assert ours.ravel() == pytest.approx(expected, abs=0.03)


def test_every_colour_survives_the_way_to_lab_and_back_in_16_bits():
    steps = np.linspace(0, 65535, 33).astype(np.uint16)
    pixels = np.array(list(itertools.product(steps, repeat=3)), np.uint16).reshape(33, -1, 3)
    light = colour.from_lab(colour.lab(colour.to_unit(pixels)))
    back = colour.from_unit(colour.encoded(light), np.uint16)
    assert np.abs(back.astype(int) - pixels).max() <= 2


def test_luminance_of_the_primaries_is_that_of_the_standard():
    ours = colour.luminance(np.vstack([np.eye(3), np.ones(3), np.full(3, 0.5)]).astype(np.float32))
    assert ours == pytest.approx([0.2126, 0.7152, 0.0722, 1, 0.2140], abs=1e-4)
