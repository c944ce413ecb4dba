"""Windows cover an image, and blending them leaves no trace of where they met."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.photographs import photo
from transforms.tiling import BLEND, Canvas, cut, padded, spans


@st.composite
def sides(draw):
    multiple = draw(st.sampled_from([1, 2, 3, 8, 16, 32, 64]))
    margin = draw(st.integers(0, 70))
    return {
        "length": multiple * draw(st.integers(1, 1500 // multiple)),
        "window": multiple * draw(st.integers(1, 512 // multiple)),
        "margin": margin,
        "multiple": multiple,
        "exact": draw(st.booleans()),
    }


def covering(side):
    try:
        return spans(**side)
    except ValueError:
        assume(False)


@given(sides())
@settings(deadline=None)
def test_weights_sum_to_one_everywhere(side):
    total = np.zeros(side["length"])
    for span in covering(side):
        assert len(span.weights) == span.last - span.first
        total[span.first : span.last] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(sides())
@settings(deadline=None)
def test_windows_start_at_multiples_and_stay_inside(side):
    for span in covering(side):
        assert span.start % side["multiple"] == 0
        assert (span.stop - span.start) % side["multiple"] == 0
        assert 0 <= span.start <= span.first < span.last <= span.stop <= side["length"]
        assert span.stop - span.start <= side["window"]
        if side["exact"] and side["length"] > side["window"]:
            assert span.stop - span.start == side["window"]


@given(sides())
@settings(deadline=None)
def test_nothing_is_used_within_the_margin_of_an_inner_edge(side):
    for span in covering(side):
        assert span.start == 0 or span.first - span.start >= side["margin"]
        assert span.stop == side["length"] or span.stop - span.last >= side["margin"]


@given(sides())
@settings(deadline=None)
def test_only_neighbours_meet_and_only_over_the_blend(side):
    covered = covering(side)
    for before, after in pairwise(covered):
        assert before.last - after.first == BLEND
    for before, after in zip(covered, covered[2:], strict=False):
        assert before.last <= after.first


@given(sides())
@settings(deadline=None)
def test_a_window_without_room_is_refused_with_a_size_that_does(side):
    try:
        spans(**side)
    except ValueError as error:
        named = int(re.search(r"must be (\d+)", str(error))[1])
        assert named % side["multiple"] == 0
        spans(**side | {"window": named, "length": named + side["multiple"]})


def test_a_side_that_fits_is_one_window():
    (span,) = spans(64, 64, margin=30, multiple=8)
    assert (span.start, span.stop, span.first, span.last) == (0, 64, 0, 64)


@pytest.mark.parametrize(
    ("length", "multiple", "least", "expected"),
    [(1, 8, 1, 8), (8, 8, 1, 8), (9, 8, 1, 16), (5, 1, 1, 5), (5, 8, 256, 256), (7, 3, 8, 9)],
)
def test_sides_are_padded_to_the_next_multiple(length, multiple, least, expected):
    assert padded(length, multiple, least) == expected


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 100), st.integers(0, 100), st.data())
@settings(deadline=None)
def test_padding_mirrors_the_image_at_its_bottom_and_right(height, width, below, right, data):
    pixels = photo()[:height, :width]
    (rows,) = spans(height + below, 999, margin=0, multiple=1)
    (columns,) = spans(width + right, 999, margin=0, multiple=1)
    expected = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="symmetric")
    assert np.array_equal(cut(pixels, rows, columns), expected)


RADIUS = 6


def smooth(values):
    """A filter that sees RADIUS pixels around and treats all places alike."""
    return ndimage.gaussian_filter(
        values, (2.0, 2.0, 0), mode="reflect", truncate=RADIUS / 2.0, output=np.float32
    )


def tiled(pixels, function, window, *, multiple, exact=False):
    height, width = pixels.shape[:2]
    rows, columns = (
        spans(padded(side, multiple), window, margin=RADIUS, multiple=multiple, exact=exact)
        for side in (height, width)
    )
    result = np.full(pixels.shape, np.nan, np.float32)
    canvas = Canvas(height, width, pixels.shape[-1], columns)
    for row in rows:
        for lines, values in canvas.row(row, (function(cut(pixels, row, c)) for c in columns)):
            assert np.isnan(result[lines]).all(), "lines are given once"
            result[lines] = values
    return result, (len(rows), len(columns))


@given(
    height=st.integers(1, 260),
    width=st.integers(1, 260),
    window=st.sampled_from([80, 96, 128]),
    multiple=st.sampled_from([1, 4, 32]),
    exact=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_a_filter_over_tiles_equals_the_filter_over_the_whole(
    height, width, window, multiple, exact
):
    window = 128 if multiple == 32 else window  # smaller ones leave no room
    pixels = photo()[100 : 100 + height, 120 : 120 + width].astype(np.float32)
    result, _ = tiled(pixels, smooth, window, multiple=multiple, exact=exact)
    whole = np.pad(
        pixels,
        ((0, padded(height, multiple) - height), (0, padded(width, multiple) - width), (0, 0)),
        mode="symmetric",
    )
    np.testing.assert_allclose(result, smooth(whole)[:height, :width], atol=1e-3)


def test_windows_that_disagree_meet_without_a_step():
    levels = iter(np.linspace(0, 1, 100, dtype=np.float32))
    flat = np.zeros((230, 300, 1), np.float32)
    result, grid = tiled(flat, lambda window: window + next(levels), 96, multiple=8)
    assert min(grid) > 2
    # The largest difference of neighbouring windows is a row of them (0.05), spread over BLEND.
    steps = max(np.abs(np.diff(result, axis=axis)).max() for axis in (0, 1))
    assert steps <= grid[1] / 99 / BLEND * 1.01
