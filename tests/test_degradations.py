"""What every degradation of the table keeps to, whatever the image.

What each one does in particular is tested beside its family: test_noise.py, test_blur.py, ...
"""

import hashlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.damage import psnr
from tests.photographs import TEN, middle, photo, sixteen, small
from transforms.degradations import ALIASES, DEGRADATIONS, Choice, families, family_docs
from transforms.recipe import parse_recipe

every = pytest.mark.parametrize("name", list(DEGRADATIONS))
GRADED = [name for name, known in DEGRADATIONS.items() if known.has_severities]


def damage(name, pixels, severity=5, seed=0):
    known = DEGRADATIONS[name]
    severity = severity if known.has_severities else None
    return known(pixels, np.random.default_rng(seed), severity=severity)


def check(name, pixels, damaged):
    """Right shape and type; alpha as it was."""
    assert damaged.pixels.shape[:2] == pixels.shape[:2]
    assert damaged.pixels.dtype == pixels.dtype
    assert damaged.pixels.flags.c_contiguous
    has_alpha = pixels.shape[2] in (2, 4)
    if name == "grayscale":
        assert damaged.pixels.shape[2] == 1 + has_alpha
    else:
        assert damaged.pixels.shape == pixels.shape
    if has_alpha:
        assert np.array_equal(damaged.pixels[..., -1], pixels[..., -1])
    if damaged.mask is not None:
        assert (damaged.mask.shape, damaged.mask.dtype) == (pixels.shape[:2], bool)


def of_channels(pixels, channels):
    """Gray, gray and alpha, RGB, or RGB and alpha."""
    alpha = np.flip(pixels[..., 1:2], axis=(0, 1))
    colour = pixels[..., : 1 if channels < 3 else 3]
    return np.ascontiguousarray(np.dstack([colour, alpha])[..., :channels])


# -- shapes and types ------------------------------------------------------------------------------

SHAPES = [(1, 1), (1, 2), (2, 1), (1, 97), (97, 1), (7, 5), (16, 16), (96, 72)]


@every
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_image_keeps_its_shape_and_depth_and_stays_as_it_is(name, dtype, channels):
    whole = sixteen(photo()) if dtype == np.uint16 else photo()
    for height, width in SHAPES:
        pixels = of_channels(whole[40 : 40 + height, 160 : 160 + width], channels)
        before = pixels.copy()
        pixels.setflags(write=False)
        for severity in range(1, 6):
            check(name, pixels, damage(name, pixels, severity))
        assert np.array_equal(pixels, before)


@given(
    name=st.sampled_from(sorted(DEGRADATIONS)),
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 4)),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    severity=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    level=st.sampled_from([None, 0, 1]),
)
@settings(deadline=None, max_examples=400)
def test_any_shape_at_any_severity(name, shape, dtype, severity, seed, level):
    white = np.iinfo(dtype).max
    if level is None:
        pixels = np.random.default_rng(seed).integers(0, white, shape, dtype, endpoint=True)
    else:
        pixels = np.full(shape, level * white, dtype)
    check(name, pixels, damage(name, pixels, severity, seed))


@every
def test_a_scan_of_twelve_megapixels(name):
    large = np.tile(photo("coffee"), (8, 7, 1))[:3000, :4000]
    check(name, large, damage(name, large))


@pytest.mark.parametrize("shape", [(3, 33_000, 3), (33_000, 3, 1)])
def test_sides_longer_than_opencv_takes(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for name in DEGRADATIONS:
        check(name, pixels, damage(name, pixels))


@every
def test_sixteen_bits_get_the_damage_of_eight_and_keep_their_precision(name):
    eight = middle("astronaut")
    deep = damage(name, eight.astype(np.uint16) * 257, 3).pixels
    shallow = damage(name, eight, 3).pixels
    difference = np.abs(deep / 257.0 - shallow)
    # A palette or a codec of 8 bits chooses a little differently, and samples at an edge may flip.
    assert np.median(difference) <= 0.5
    assert difference.mean() < 1
    if name not in {"jpeg", "mask", "swap_channels", "impulse_noise", "bit_depth", "palette"}:
        assert (deep % 257).any(), "levels between those of 8 bits are used"


# -- severities ------------------------------------------------------------------------------------

# ImageNet-C's own numbers do not make every image worse at each step: where they do not, they are
# kept, for scores that can be compared with what is published, and the families' tests hold ours to
# the reference's PSNR instead. The most that PSNR rises from one severity to the next on the ten
# photographs, in dB, and why.
NOT_MONOTONE = {
    "saturate": (14, "a tenth of the saturation, and then twice as much"),
    "spatter": (6, "water, and then mud"),
    "frost": (0.6, "0.7 of the image and 0.7 of the frost, and then 0.65 of the image"),
    "fog": (0.1, "as much fog, but of a finer grain"),
    "snow": (0.2, "as much snow, but larger flakes, and more of the image kept"),
    "defocus_blur": (0.3, "a larger disk passes more of some fine regular patterns"),
    "zoom_blur": (0.2, "zooms to a little more, but in steps twice as large"),
    "glass_blur": (0.1, "pixels go twice as far, but half as often"),
}


@pytest.mark.parametrize("name", GRADED)
@pytest.mark.parametrize("photograph", TEN)
def test_worse_severities_do_more_damage(name, photograph):
    pixels = middle(photograph)
    scores = [psnr(damage(name, pixels, severity).pixels, pixels) for severity in range(1, 6)]
    most, _ = NOT_MONOTONE.get(name, (0, ""))
    assert all(worse <= milder + most for milder, worse in itertools.pairwise(scores))
    if name != "saturate":
        assert scores[4] <= scores[0]


@pytest.mark.parametrize("name", GRADED)
def test_the_least_severity_does_something_and_the_worst_leaves_something(name):
    scores = [
        psnr(damage(name, middle("astronaut"), severity).pixels, middle("astronaut"))
        for severity in (1, 5)
    ]
    assert scores[0] < 60
    assert scores[1] > 4


# -- determinism -----------------------------------------------------------------------------------


def digest(name, key, pixels, seed=3):
    known = DEGRADATIONS[name]
    damaged = parse_recipe(f"{name}:3" if known.has_severities else name).apply(
        pixels, seed=seed, key=key
    )
    mask = b"" if damaged.mask is None else damaged.mask.tobytes()
    return hashlib.sha256(damaged.pixels.tobytes() + mask).hexdigest()


ELSEWHERE = """
import json, sys
import numpy as np
from tests.test_degradations import DEGRADATIONS, digest
pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(96, 72, 3)
found = [[name, key, digest(name, key, pixels)]
         for key in ("b", "a") for name in reversed(DEGRADATIONS)]
print(json.dumps(found))
"""


def test_another_process_and_order_give_the_same_bytes():
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=small().tobytes(),
        capture_output=True,
        check=True,
    )
    elsewhere = {(name, key): found for name, key, found in json.loads(done.stdout)}
    assert len(elsewhere) == 2 * len(DEGRADATIONS)
    for (name, key), found in elsewhere.items():
        assert digest(name, key, small()) == found, name


@every
def test_another_key_or_seed_gives_other_damage_where_there_is_chance(name):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    known = DEGRADATIONS[name]
    known(small(), rng, severity=3 if known.has_severities else None)
    draws = rng.bit_generator.state != before
    found = {digest(name, key, small()) for key in "abc"} | {digest(name, "a", small(), seed=4)}
    assert len(found) > 1 if draws else len(found) == 1


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((4, 6, 3), np.nan), ["uint8 or uint16", "float64", "(4, 6, 3)"]),
        (np.zeros((4, 6, 3), np.float32), ["uint8 or uint16", "float32", "(4, 6, 3)"]),
        (np.zeros((4, 6, 3), np.int16), ["int16", "(4, 6, 3)"]),
        (np.zeros((4, 6), np.uint8), ["[height, width, 1 to 4 channels]", "(4, 6)"]),
        (np.zeros((4, 6, 5), np.uint8), ["1 to 4 channels", "(4, 6, 5)"]),
        (np.zeros((4, 6, 0), np.uint8), ["not empty", "(4, 6, 0)"]),
        (np.zeros((0, 6, 3), np.uint8), ["not empty", "(0, 6, 3)"]),
        (np.zeros((2, 4, 6, 3), np.uint8), ["(2, 4, 6, 3)"]),
        ([[[0, 0, 0]]], ["array", "list"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else str(value.dtype),
)
@every
def test_pixels_of_another_kind_are_refused_with_their_shape(name, pixels, words):
    with pytest.raises(ValueError) as refused:
        damage(name, pixels)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("name", GRADED)
@pytest.mark.parametrize("severity", [0, 6, -1, 2.5, True, "3"])
def test_a_severity_out_of_range_names_the_range(name, severity):
    with pytest.raises(ValueError, match=f"{name} has severities 1 to 5, not"):
        DEGRADATIONS[name](small(), np.random.default_rng(0), severity=severity)


@every
def test_a_parameter_out_of_range_names_the_range(name):
    known = DEGRADATIONS[name]
    severity = 3 if known.has_severities else None
    for parameter, kind in known.parameters.items():
        wrong = ["no such word"] if isinstance(kind, Choice) else [kind.high + 1, kind.low - 1]
        for value in [*wrong, float("nan"), float("inf"), None, True]:
            with pytest.raises(ValueError) as refused:
                known(small(), np.random.default_rng(0), severity=severity, **{parameter: value})
            assert f"{name}: {parameter} must be {kind}, not" in str(refused.value)


@every
def test_an_unknown_parameter_is_answered_with_the_known_ones(name):
    known = DEGRADATIONS[name]
    with pytest.raises(ValueError, match="has no parameter 'colour_of_sky'") as refused:
        known(small(), np.random.default_rng(0), colour_of_sky=1)
    assert all(f"{parameter}=" in str(refused.value) for parameter in known.parameters)


# -- the table -------------------------------------------------------------------------------------


def test_all_of_imagenet_c_is_there():
    # Hendrycks & Dietterich 2019: fifteen types, and four for validation.
    names = """gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur
    snow frost fog brightness contrast elastic_transform pixelate jpeg_compression speckle_noise
    gaussian_blur spatter saturate"""
    for name in names.split():
        assert DEGRADATIONS[ALIASES.get(name, name)].has_severities


@every
def test_every_entry_says_what_it_is(name):
    known = DEGRADATIONS[name]
    assert known.summary[0].isupper()
    assert known.summary.endswith(".")
    assert len(known.summary) < 110
    assert known.description
    assert known.meanings.keys() <= {*known.parameters, "pixels", "rng"}
    for parameter, kind in known.parameters.items():
        for value in kind.severities or ():
            assert kind.check(value) == value
        assert kind.severities is None or len(kind.severities) == 5
        assert kind.severities or parameter in known.defaults, "name:severity says all"
        if parameter in known.defaults:
            assert kind.check(known.defaults[parameter]) == known.defaults[parameter]


def test_every_family_has_a_title():
    for family in families():
        assert family_docs(family).partition("\n")[0].endswith(".")
