"""Recipes are read, written and refused in words; their damage depends on seed and key alone."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.photographs import small
from transforms.degradations import DEGRADATIONS, Choice, Whole
from transforms.recipe import RecipeError, parse_recipe


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("grayscale", "grayscale"),
        ("jpeg:3", "jpeg:quality=15"),
        ("jpeg:quality=30", "jpeg:quality=30"),
        ("gaussian_noise:1", "gaussian_noise:sigma=20.4"),
        ("gaussian_noise:sigma=25.0", "gaussian_noise:sigma=25"),
        ("gaussian_noise:sigma=0.1", "gaussian_noise:sigma=0.1"),
        ("gaussian_noise:sigma=1e-7", "gaussian_noise:sigma=1e-07"),
        ("gaussian_noise:sigma=12.3456789", "gaussian_noise:sigma=12.3456789"),
        ("mask", "mask:amount=0.5,shape=pixels,fill=0"),
        ("mask:2", "mask:amount=0.25,shape=pixels,fill=0"),
        ("mask:2,shape=rectangles", "mask:amount=0.25,shape=rectangles,fill=0"),
        ("mask:fill=1,amount=.3", "mask:amount=0.3,shape=pixels,fill=1"),
        ("mask:5,amount=0.2", "mask:amount=0.2,shape=pixels,fill=0"),
        (" jpeg : quality = 30 + grayscale ", "jpeg:quality=30+grayscale"),
        (
            "jpeg:1+jpeg:1+mask:1",
            "jpeg:quality=25+jpeg:quality=25+mask:amount=0.1,shape=pixels,fill=0",
        ),
    ],
)
def test_recipes_have_one_canonical_text(text, canonical):
    recipe = parse_recipe(text)
    assert str(recipe) == canonical
    assert parse_recipe(canonical) == recipe


def values(parameter):
    if isinstance(parameter, Choice):
        return st.sampled_from(parameter.words)
    if isinstance(parameter, Whole):
        return st.integers(parameter.low, parameter.high)
    return st.floats(parameter.low, parameter.high)


@st.composite
def steps(draw):
    known = DEGRADATIONS[draw(st.sampled_from(sorted(DEGRADATIONS)))]
    said = {name: draw(values(parameter)) for name, parameter in known.parameters.items()}
    names = draw(st.permutations(list(said)))
    if draw(st.booleans()) and known.has_severities:
        return f"{known.name}:{draw(st.integers(1, 5))}"
    return known.name + ":" * bool(said) + ",".join(f"{name}={said[name]}" for name in names)


@given(st.lists(steps(), min_size=1, max_size=5).map("+".join))
@settings(deadline=None)
def test_canonical_text_is_read_back_to_an_equal_recipe(text):
    recipe = parse_recipe(text)
    again = parse_recipe(str(recipe))
    assert again == recipe
    assert str(again) == str(recipe)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["name is missing", "name[:severity or key=value"]),
        ("jpeg:3+", ["name is missing"]),
        ("+jpeg:3", ["name is missing"]),
        (":3", ["name is missing"]),
        ("jepg:3", ["'jepg'", "did you mean jpeg"]),
        ("gausian_noise:3", ["'gausian_noise'", "did you mean gaussian_noise"]),
        ("JPEG:3", ["unknown degradation 'JPEG'"]),
        ("xyzzy", ["unknown degradation 'xyzzy'", "known:", *DEGRADATIONS]),
        ("jpeg", ["jpeg needs quality", "jpeg:1 to jpeg:5", "a whole number from 1 to 100"]),
        ("jpeg:", ["value is missing"]),
        ("jpeg:3,", ["value is missing"]),
        ("jpeg:0", ["severities 1 to 5", "'0'"]),
        ("jpeg:6", ["severities 1 to 5", "'6'"]),
        ("jpeg:2.5", ["severities 1 to 5", "'2.5'"]),
        ("jpeg:high", ["severities 1 to 5", "'high'"]),
        ("grayscale:3", ["has no severities", "'3'", "no parameters"]),
        ("grayscale:amount=1", ["has no parameter 'amount'", "no parameters"]),
        ("jpeg:quality=0", ["quality must be a whole number from 1 to 100", "'0'"]),
        ("jpeg:quality=101", ["quality must be a whole number from 1 to 100", "'101'"]),
        ("jpeg:quality=30.5", ["a whole number from 1 to 100", "'30.5'"]),
        ("jpeg:quality=٣٠", ["a whole number from 1 to 100"]),
        ("jpeg:quality=", ["a whole number from 1 to 100", "''"]),
        ("jpeg:quality", ["'quality'", "quality=a whole number from 1 to 100"]),
        ("jpeg:quality=30,quality=40", ["quality is said twice"]),
        ("jpeg:speed=3", ["has no parameter 'speed'", "quality="]),
        ("gaussian_noise:sigma=-1", ["a number from 0 to 255", "'-1'"]),
        ("gaussian_noise:sigma=256", ["a number from 0 to 255"]),
        ("gaussian_noise:sigma=nan", ["a number from 0 to 255", "'nan'"]),
        ("gaussian_noise:sigma=inf", ["a number from 0 to 255"]),
        ("gaussian_noise:sigma=many", ["a number from 0 to 255", "'many'"]),
        ("mask:amount=1.1", ["amount must be a number from 0 to 1"]),
        ("mask:shape=stars", ["shape must be one of pixels, rectangles", "'stars'"]),
        ("mask:amount=0.2,3", ["has no parameter '3'"]),
        ("mask:3,4", ["has no parameter '4'"]),
    ],
)
def test_a_recipe_that_cannot_be_read_says_what_would_do(text, words):
    with pytest.raises(RecipeError) as refused:
        parse_recipe(text)
    for word in words:
        assert word in str(refused.value)


RANDOM = "gaussian_noise:2+mask:3+mask:1,shape=rectangles,fill=1+jpeg:1"
KEYS = ["a.jpg", "b/a.jpg", "Zürich/写真.png", "bad-\udcff.png"]

ELSEWHERE = f"""
import hashlib, json, sys
import numpy as np
from transforms.recipe import parse_recipe
pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(96, 72, 3)
recipe = parse_recipe({RANDOM!r})
for key in {KEYS[::-1]!r}:
    damaged = recipe.apply(pixels, seed=7, key=key)
    data = damaged.pixels.tobytes() + damaged.mask.tobytes()
    print(json.dumps([key, hashlib.sha256(data).hexdigest()]))
"""


def test_damage_is_the_same_in_another_process_and_order():
    pixels = small()
    here = {}
    for key in KEYS:
        damaged = parse_recipe(RANDOM).apply(pixels, seed=7, key=key)
        data = damaged.pixels.tobytes() + damaged.mask.tobytes()
        here[key] = hashlib.sha256(data).hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=pixels.tobytes(), capture_output=True, check=True
    )
    assert dict(map(json.loads, done.stdout.splitlines())) == here
    assert len(set(here.values())) == len(KEYS)


@pytest.mark.parametrize("text", ["gaussian_noise:1", "mask:1", "mask:1,shape=rectangles"])
def test_another_seed_or_key_gives_other_damage(text):
    recipe, pixels = parse_recipe(text), small()
    one = recipe.apply(pixels, seed=0, key="a.jpg").pixels
    assert np.array_equal(one, recipe.apply(pixels, seed=0, key="a.jpg").pixels)
    assert not np.array_equal(one, recipe.apply(pixels, seed=1, key="a.jpg").pixels)
    assert not np.array_equal(one, recipe.apply(pixels, seed=0, key="b.jpg").pixels)


def test_the_same_step_twice_draws_twice():
    once = parse_recipe("mask:amount=0.5").apply(small(), seed=0, key="a").mask
    twice = parse_recipe("mask:amount=0.5+mask:amount=0.5").apply(small(), seed=0, key="a").mask
    # Half of the half that is left: 0.75, with a standard deviation of 0.005 over 6912 pixels.
    assert twice.mean() == pytest.approx(0.75, abs=0.025)
    assert (twice | once == twice).all(), "a step's damage does not depend on what follows"


def test_the_mask_is_the_union_of_the_steps_masks():
    pixels = small()
    recipe = "mask:amount=0.2,fill=0+jpeg:1+mask:amount=0.2,fill=1"
    damaged = parse_recipe(recipe).apply(np.full_like(pixels, 128), seed=0, key="a")
    white, black = (damaged.pixels == 255).all(-1), (damaged.pixels < 64).all(-1)
    assert damaged.mask[white].all()
    assert white.mean() == pytest.approx(0.2, abs=0.025)
    assert damaged.mask.mean() == pytest.approx(1 - 0.8**2, abs=0.03)
    assert black.any()


def test_without_a_mask_step_there_is_no_mask():
    assert parse_recipe("gaussian_noise:1+jpeg:1").apply(small(), seed=0, key="a").mask is None


def test_steps_run_from_left_to_right():
    levels = parse_recipe("grayscale+mask:amount=1,fill=1").apply(small(), seed=0, key="a").pixels
    assert levels.shape == (96, 72, 1)
    assert levels.min() == 255
    last = parse_recipe("mask:amount=1,fill=1+gaussian_noise:5").apply(small(), seed=0, key="a")
    assert last.pixels.min() < 255
