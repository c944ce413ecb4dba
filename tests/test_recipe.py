"""Recipes are read, written and refused in words; their damage depends on seed and key alone."""

import hashlib
import json
import subprocess
import sys
from collections import Counter

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
        ("grayscale", "grayscale:by=bt601"),
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
        ("mask:amount=-0,fill=-0.0", "mask:amount=0,shape=pixels,fill=0"),
        ("jpeg_compression:3", "jpeg:quality=15"),
        ("oneof(grayscale)", "oneof(grayscale:by=bt601)"),
        (
            "oneof(mask:2,shape=rectangles , jpeg:3+ jpeg:1,gaussian_noise:sigma=3)+jpeg:2",
            "oneof(mask:amount=0.25,shape=rectangles,fill=0,jpeg:quality=15+jpeg:quality=25,"
            "gaussian_noise:sigma=3)+jpeg:quality=18",
        ),
        ("random( 1, jpeg , mask)", "random(1,severity=1-5,jpeg,mask)"),
        ("random(2,mask,severity = 4,jpeg_compression)", "random(2,severity=4-4,mask,jpeg)"),
        (
            "oneof(random(1,jpeg),oneof(jpeg:1))",
            "oneof(random(1,severity=1-5,jpeg),oneof(jpeg:quality=25))",
        ),
        (" jpeg : quality = 30 + grayscale ", "jpeg:quality=30+grayscale:by=bt601"),
        (
            "jpeg:1+jpeg:1+mask:1",
            "jpeg:quality=25+jpeg:quality=25+mask:amount=0.1,shape=pixels,fill=0",
        ),
    ],
)
def test_recipes_have_one_canonical_text(text, canonical):
    recipe = parse_recipe(text)
    assert recipe.canonical == canonical
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


@st.composite
def randoms(draw):
    severities = sorted(draw(st.tuples(st.integers(1, 5), st.integers(1, 5))))
    severity = draw(st.sampled_from(["", ",severity={}-{}", ", severity = {}-{}"]))
    names = draw(st.lists(st.sampled_from(["jpeg", "mask", "gaussian_noise"]), unique=True))
    count = draw(st.integers(1, len(names) or 5))
    return f"random({', '.join([str(count), *names])}{severity.format(*severities)})"


def joined(part):
    return st.lists(part, min_size=1, max_size=3).map("+".join)


def one_of(part):
    return st.lists(joined(part), min_size=1, max_size=3).map(lambda of: f"oneof({', '.join(of)})")


recipes = joined(st.recursive(steps() | randoms(), one_of, max_leaves=8))


@given(recipes)
@settings(deadline=None)
def test_a_recipe_prints_back_to_its_text_and_is_read_back_from_its_canonical_text(text):
    recipe = parse_recipe(text)
    assert str(recipe) == text
    again = parse_recipe(recipe.canonical)
    assert again == recipe
    assert again.canonical == str(again) == recipe.canonical


@given(recipes, st.integers(0, 99), st.text(max_size=5))
@settings(deadline=None)
def test_what_is_drawn_for_a_record_is_steps_and_read_back_from_its_text(text, seed, key):
    recipe = parse_recipe(text)
    drawn = recipe.draw(seed, key)
    assert drawn == recipe.draw(seed, key)
    assert drawn.steps == drawn.parts
    assert parse_recipe(drawn.canonical) == drawn
    assert drawn.draw(seed, key) == drawn


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
        ("grayscale:3", ["has no severities", "'3'", "by=one of bt601"]),
        ("grayscale:amount=1", ["has no parameter 'amount'", "by=one of bt601"]),
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
        ("gaussian_noise:sigma=1_0", ["a number from 0 to 255", "'1_0'"]),
        ("gaussian_noise:sigma=٣", ["a number from 0 to 255"]),
        ("jpeg:quality=" + "9" * 5000, ["a whole number from 1 to 100"]),
        ("onof(jpeg:3)", ["only oneof and random have brackets"]),
        ("jpeg(3)", ["only oneof and random have brackets"]),
        ("onof", ["did you mean oneof"]),
        ("oneof", ["oneof takes brackets: oneof(a,b,c)"]),
        ("random", ["random takes brackets", "random(n,severity=1-5)"]),
        ("oneof()", ["name is missing"]),
        ("oneof(jpeg:3,)", ["name is missing"]),
        ("oneof(shape=pixels)", ["unknown degradation 'shape=pixels'"]),
        ("oneof(jpeg:3", ["bracket is not closed"]),
        ("oneof(jpeg:3))", ["bracket is not opened"]),
        ("oneof(jpeg:3)x", ["only oneof and random have brackets"]),
        ("oneof(" * 9 + "jpeg:1" + ")" * 9, ["at most 8 brackets inside each other"]),
        ("oneof(" * 5000 + "jpeg:1" + ")" * 5000, ["at most 8 brackets"]),
        ("random()", ["how many must be a whole number from 1 to"]),
        ("random(0)", ["from 1 to", "not '0'"]),
        ("random(3,jpeg,mask)", ["from 1 to 2, not '3'"]),
        ("random(1,jpeg,jpeg_compression)", ["named twice"]),
        ("random(1,jpg)", ["did you mean jpeg"]),
        ("random(1,severity=0-3)", ["severity must be from 1 to 5"]),
        ("random(1,severity=4-3)", ["severity must be from 1 to 5"]),
        ("random(1,severity=1-6)", ["severity must be from 1 to 5"]),
        ("random(1,severity)", ["severity must be from 1 to 5"]),
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


def test_what_was_drawn_for_a_record_does_what_the_recipe_does():
    recipe = parse_recipe("jpeg:3+oneof(mask:1,mask:5+gaussian_noise:1)+random(2,severity=2-4)")
    for key in KEYS:
        drawn = recipe.draw(7, key)
        ours = recipe.apply(small(), seed=7, key=key)
        again = parse_recipe(drawn.canonical).apply(small(), seed=7, key=key)
        assert np.array_equal(ours.pixels, again.pixels)
        assert np.array_equal(ours.mask, again.mask)


def test_every_choice_is_as_likely():
    recipe = parse_recipe("oneof(jpeg:1,jpeg:2,jpeg:3)+random(2,severity=2-3,mask,jpeg,snow)")
    first, names, severities = Counter(), Counter(), Counter()
    for key in range(1200):
        one, *others = recipe.draw(0, str(key)).steps
        first[one] += 1
        names[tuple(step.name for step in others)] += 1
        for step in others:
            worse = step == parse_recipe(f"{step.name}:3").steps[0]
            severities[worse] += 1
    # 5 standard deviations of a binomial count.
    assert len(first) == 3
    assert all(abs(count - 400) < 5 * 17 for count in first.values())
    assert len(names) == 6, "two different ones, in either order"
    assert all(abs(count - 200) < 5 * 13 for count in names.values())
    assert abs(severities[True] - 1200) < 5 * 25


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
