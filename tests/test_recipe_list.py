"""Lists of recipes: commas and ranges have one meaning each; a list is its recipes one by one."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_recipe import recipes
from transforms.recipe import RecipeError, parse_recipe, parse_recipes


def canonical(text):
    return [recipe.canonical for recipe in parse_recipes(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jpeg:3", ["jpeg:quality=15"]),
        ("jpeg:3, grayscale", ["jpeg:quality=15", "grayscale:by=bt601"]),
        ("jpeg:1-3", ["jpeg:quality=25", "jpeg:quality=18", "jpeg:quality=15"]),
        ("jpeg:5-5", ["jpeg:quality=7"]),
        ("jpeg : 1 - 2", ["jpeg:quality=25", "jpeg:quality=18"]),
        # Commas inside a step, between recipes, and inside brackets.
        (
            "mask:2,shape=rectangles,jpeg:quality=30",
            ["mask:amount=0.25,shape=rectangles,fill=0", "jpeg:quality=30"],
        ),
        (
            "oneof(jpeg:1,jpeg:2),random(1,jpeg,mask),jpeg:1",
            [
                "oneof(jpeg:quality=25,jpeg:quality=18)",
                "random(1,severity=1-5,jpeg,mask)",
                "jpeg:quality=25",
            ],
        ),
        (
            "mask:1-2,shape=rectangles",
            [f"mask:amount={amount},shape=rectangles,fill=0" for amount in ("0.1", "0.25")],
        ),
        # Every combination of the ranges of one recipe, the last one first.
        (
            "jpeg:1-2+gaussian_noise:1-2",
            [
                f"jpeg:quality={quality}+gaussian_noise:sigma={sigma}"
                for quality in (25, 18)
                for sigma in ("20.4", "30.6")
            ],
        ),
    ],
)
def test_lists_and_ranges(text, expected):
    assert canonical(text) == expected


@given(st.lists(recipes, min_size=1, max_size=5, unique_by=lambda text: parse_recipe(text)))
@settings(deadline=None)
def test_a_list_is_its_recipes_one_by_one(texts):
    expected = [parse_recipe(text) for text in texts]
    for comma in (",", ", ", " ,\n"):
        assert list(parse_recipes(comma.join(texts))) == expected
    # And so it is written, and read again.
    assert list(parse_recipes(", ".join(one.canonical for one in expected))) == expected


@given(
    st.lists(
        st.tuples(st.sampled_from(["jpeg", "snow", "fog", "mask"]), st.integers(1, 5)),
        min_size=1,
        max_size=3,
        unique_by=lambda step: step[0],
    ),
    st.data(),
)
@settings(deadline=None)
def test_a_range_is_each_of_its_severities(steps, data):
    highest = [data.draw(st.integers(lowest, 5)) for _, lowest in steps]
    text = "+".join(
        f"{name}:{low}-{high}" for (name, low), high in zip(steps, highest, strict=True)
    )
    each = itertools.product(
        *(
            [f"{name}:{severity}" for severity in range(low, high + 1)]
            for (name, low), high in zip(steps, highest, strict=True)
        )
    )
    assert list(parse_recipes(text)) == [parse_recipe("+".join(one)) for one in each]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("jpeg:1, gausian_noise:2", "did you mean gaussian_noise"),
        ("jpeg:1, quality=30, 5", "unknown degradation '5'"),
        ("jpeg:1,", "a name is missing"),
        ("jpeg:1,,grayscale", "a name is missing"),
        ("", "a name is missing"),
        ("jpeg:0-3", "from 1 to 5"),
        ("jpeg:1-999999999", "from 1 to 5"),
        ("jpeg:4-2", "lowest first, such as jpeg:1-5"),
        ("jpeg:1-", "severities 1 to 5, not '1-'"),
        ("oneof(jpeg:1-3)", "severities 1 to 5, not '1-3'"),
        ("grayscale:1-2", "has no severities"),
        ("jpeg:1-5, jpeg:3", "jpeg:3 is in the list twice, here as jpeg:quality=15"),
        ("jpeg:1, jpeg:quality=25", "twice"),
        ("+".join(["jpeg:1-5"] * 9), "more than 1000 recipes"),
        ("oneof(jpeg:1, mask:2", "not closed"),
    ],
)
def test_what_is_no_list_is_refused(text, reason):
    with pytest.raises(RecipeError, match=reason):
        parse_recipes(text)
