"""Masks take what was asked for, in the shapes that inpainting and transmission know."""

import itertools

import cv2
import numpy as np
import pytest
from scipy import ndimage

from tests.photographs import sixteen, small
from transforms.degradations import DEGRADATIONS

MASK = DEGRADATIONS["mask"]
SHAPES = MASK.parameters["shape"].words


def mask(size, seed=0, **parameters):
    pixels = np.full((*size, 1), 128, np.uint8)
    return MASK(pixels, np.random.default_rng(seed), **parameters).mask


every = pytest.mark.parametrize("shape", SHAPES)


# -- all shapes ------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    ("fill", "dtype", "level"),
    [
        (0, np.uint8, 0),
        (0.2, np.uint8, 51),
        (1, np.uint8, 255),
        (0.2, np.uint16, 13107),
        (1, np.uint16, 65535),
    ],
)
def test_the_mask_is_where_pixels_were_painted_over(shape, fill, dtype, level):
    pixels = small() if dtype == np.uint8 else sixteen(small())
    # A level that is not in the photograph tells what was painted.
    pixels = np.where(pixels == level, pixels ^ 1, pixels)
    damaged = MASK(pixels, np.random.default_rng(0), amount=0.4, shape=shape, fill=fill)
    assert 0.2 < damaged.mask.mean() < 0.6
    assert np.array_equal((damaged.pixels == level).all(-1), damaged.mask)
    assert np.array_equal(damaged.pixels[~damaged.mask], pixels[~damaged.mask])


@every
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 5), (40, 2000), (2000, 40), (97, 64)])
def test_nothing_and_everything_can_be_taken(shape, size):
    for seed in range(3):
        assert not mask(size, seed, amount=0, shape=shape).any()
        assert mask(size, seed, amount=1, shape=shape).all()


@every
@pytest.mark.parametrize("seed", range(3))
def test_a_greater_amount_takes_the_same_pixels_and_more(shape, seed):
    amounts = [0.02, 0.1, 0.25, 0.4, 0.55, 0.7, 0.9, 0.99, 0.9999, 1]
    masks = [mask((120, 160), seed, amount=amount, shape=shape) for amount in amounts]
    for less, more in itertools.pairwise(masks):
        assert not (less & ~more).any()
    assert masks[0].mean() < 0.1 < masks[4].mean()


@pytest.mark.parametrize("shape", ["rectangles", "strokes"])
@pytest.mark.parametrize("size", [(1, 40), (64, 64), (50, 700)])
@pytest.mark.parametrize("amount", [0.01, 0.25, 0.7, 0.97, 0.999, 0.99999])
def test_what_is_covered_is_never_less_than_was_asked_for(shape, size, amount):
    for seed in range(3):
        assert mask(size, seed, amount=amount, shape=shape).mean() >= amount


@pytest.mark.parametrize("shape", ["rectangles", "strokes"])
def test_no_part_of_the_image_is_spared(shape):
    counts = sum(mask((64, 64), seed, amount=0.3, shape=shape).astype(int) for seed in range(300))
    # Each pixel is hit with odds of about a third: 300 draws, and 6 standard deviations of 8; but
    # strokes start inside the image, and touch its corners less often.
    spared = 50 if shape == "rectangles" else 75
    assert counts.min() > 0.3 * 300 - spared
    assert counts.max() < 0.4 * 300 + 50


# -- pixels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0, 0.1, 0.5, 0.9, 1])
def test_single_pixels_are_taken_with_the_odds_asked_for(amount):
    # 5 standard deviations of a binomial share over 512 x 512 pixels.
    assert mask((512, 512), amount=amount).mean() == pytest.approx(
        amount, abs=5 * (amount * (1 - amount)) ** 0.5 / 512
    )


def test_single_pixels_know_nothing_of_their_neighbours():
    taken = mask((512, 512), amount=0.5).astype(float)
    for one, other in [(taken[1:], taken[:-1]), (taken[:, 1:], taken[:, :-1])]:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01


# -- rectangles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0.01, 0.25, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_rectangles_cover_what_was_asked_and_at_most_one_more(amount, seed):
    share = mask((512, 512), seed, amount=amount, shape="rectangles").mean()
    assert amount <= share <= amount + 1 / 16


def test_a_rectangle_is_one_with_sides_of_an_eighth_to_a_quarter():
    height, width = 320, 480
    whole = 0
    for seed in range(40):
        taken = mask((height, width), seed, amount=1e-6, shape="rectangles")
        (rows, columns), *more = ndimage.find_objects(ndimage.label(taken)[0])
        assert not more
        assert taken[rows, columns].all()
        assert rows.stop - rows.start <= height // 4
        assert columns.stop - columns.start <= width // 4
        if rows.start and columns.start and rows.stop < height and columns.stop < width:
            whole += 1
            assert rows.stop - rows.start >= height // 8
            assert columns.stop - columns.start >= width // 8
    assert whole > 10


# -- strokes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0.01, 0.25, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_strokes_cover_what_was_asked_and_at_most_a_segment_more(amount, seed):
    share = mask((512, 512), seed, amount=amount, shape="strokes").mean()
    # The longest is a quarter of the diagonal and the widest 40 in 256, with a round end.
    longest, widest = 2**0.5 / 4, 40 / 256
    assert amount <= share <= amount + longest * widest + np.pi / 4 * widest**2


def first_segments(size=(512, 512), count=60):
    """Masks of one segment that touches no border."""
    for seed in range(count):
        taken = mask(size, seed, amount=1e-6, shape="strokes")
        if not (taken[[0, -1]].any() or taken[:, [0, -1]].any()):
            yield taken


def test_a_segment_is_as_wide_as_published_and_has_round_ends():
    widths, lengths = [], []
    for taken in first_segments():
        assert ndimage.label(taken)[1] == 1
        width = 2 * cv2.distanceTransform(taken.astype(np.uint8), cv2.DIST_L2, 5).max()
        _, sides, _ = cv2.minAreaRect(np.argwhere(taken).astype(np.float32))
        length = max(sides) - min(sides)
        widths.append(width)
        lengths.append(length)
        # A straight line of that width, and two half discs, cover what is covered.
        expected = length * width + np.pi / 4 * width**2
        assert taken.sum() == pytest.approx(expected, rel=0.06)
    assert len(widths) > 20
    # 12 to 40 pixels of an image of 256; rounding, and both edges of a line, are a pixel each.
    assert 24 - 2 <= min(widths) < 35
    assert 65 < max(widths) <= 80 + 2
    # An eighth of the diagonal on average; the longest more often touch the border.
    assert np.mean(lengths) == pytest.approx(512 * 2**0.5 / 8, rel=0.25)
    assert max(lengths) <= 512 * 2**0.5 / 4 + 2


def test_strokes_have_any_heading():
    headings = []
    for taken in first_segments(count=150):
        rows, columns = np.argwhere(taken).astype(float).T
        (one, mixed), (_, other) = np.cov(columns, rows)
        headings.append(np.arctan2(2 * mixed, one - other))  # twice the axis's angle
    # 6 standard errors of the mean of as many unit vectors of random directions.
    assert len(headings) > 50
    assert abs(np.exp(1j * np.array(headings)).mean()) < 6 / (2 * len(headings)) ** 0.5


def test_a_stroke_goes_on_where_its_segment_ended():
    alone = 0
    for seed in range(30):
        taken = mask((256, 256), seed, amount=0.03, shape="strokes")
        alone += ndimage.label(taken)[1] == 1
    # Some two segments: nearly always of one stroke, for each has at least four.
    assert alone >= 25


@pytest.mark.parametrize(("size", "alike"), [((2048, 2048), 0.95), ((128, 128), 0.85)])
def test_strokes_look_the_same_on_a_thumbnail_and_its_original(size, alike):
    original = mask((512, 512), 4, amount=0.4, shape="strokes").astype(np.uint8)
    other = mask(size, 4, amount=0.4, shape="strokes").astype(np.uint8)
    other = cv2.resize(other, (512, 512), interpolation=cv2.INTER_NEAREST)
    assert (original & other).sum() / (original | other).sum() > alike


# -- blocks, lines, columns ------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0.1, 0.5])
def test_blocks_are_lost_whole_on_the_grid_of_a_decoder(amount):
    taken = mask((1000, 1037), amount=amount, shape="blocks")
    grid = taken[::16, ::16]
    assert grid.shape == (63, 65)
    assert np.array_equal(np.kron(grid, np.ones((16, 16), bool))[:1000, :1037], taken)
    # 5 standard deviations of a binomial share over the blocks.
    assert grid.mean() == pytest.approx(amount, abs=5 * (amount * (1 - amount) / grid.size) ** 0.5)


@pytest.mark.parametrize(("shape", "across"), [("lines", 1), ("columns", 0)])
def test_lines_are_lost_from_one_side_to_the_other(shape, across):
    taken = mask((2000, 2000), amount=0.3, shape=shape)
    lost = taken.any(axis=across)
    assert np.array_equal(lost, taken.all(axis=across))
    assert lost.mean() == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 2000) ** 0.5)
