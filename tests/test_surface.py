"""Marks on prints and film look as those of real ones do, and add up."""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage import measure

from tests.photographs import TEN, middle, photo
from transforms.degradations.sheet import PAPER, Path, Sheet, strip, thread
from transforms.degradations.stains import foxing, mount_shadow, stains, tape
from transforms.degradations.surface import creases, dust, lost_corners, scratches, tears

MARKS = [scratches, dust, creases, tears, lost_corners, stains, foxing, tape]
LOSSES = [tears, lost_corners]

each = pytest.mark.parametrize("kind", MARKS, ids=lambda kind: kind.name)
losses = pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.name)


def damage(kind, pixels, seed=0, **how):
    return kind(pixels, np.random.default_rng(seed), **how)


def flat(level=128, height=400, width=400, channels=1, dtype=np.uint8):
    return np.full((height, width, channels), level, dtype)


def change(kind, pixels, seed=0, **how):
    return damage(kind, pixels, seed, **how).pixels.astype(int) - pixels


def components(mask):
    """Regions of pixels that touch, by side or corner: how many, and a slice for each."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    return count, ndimage.find_objects(labels), labels


# -- what all of them have in common ---------------------------------------------------------------


@each
def test_no_marks_are_no_change(kind):
    assert np.array_equal(damage(kind, middle("coffee"), count=0).pixels, middle("coffee"))


@each
@pytest.mark.parametrize("photograph", list(TEN)[::2])
def test_more_marks_bring_no_pixel_back_to_what_it_was(kind, photograph):
    pixels = middle(photograph)
    for seed in range(3):
        before = np.zeros(pixels.shape[:2], int)
        mask = np.zeros(pixels.shape[:2], bool)
        for severity in range(1, 6):
            damaged = damage(kind, pixels, seed, severity=severity)
            error = np.square(damaged.pixels.astype(int) - pixels).sum(-1)
            assert (error >= before).all()
            before = error
            if damaged.mask is not None:
                assert (damaged.mask >= mask).all()
                mask = damaged.mask


@each
def test_a_mark_is_the_same_among_few_and_many(kind):
    alike = []
    for seed in range(6):
        one, two, three = (np.abs(change(kind, flat(), seed, count=n)) for n in (1, 2, 3))
        assert (one <= two).all()
        assert (two <= three).all()
        # The first mark alone, wherever the others did not come.
        alike.append((one == three)[one != 0].mean())
    assert np.mean(alike) > 0.6


@each
def test_a_picture_and_its_thumbnail_are_damaged_alike(kind):
    large = change(kind, flat(128, 1200, 960), 3, severity=4).astype(np.float32)[..., 0]
    small = change(kind, flat(128, 300, 240), 3, severity=4)[..., 0]
    shrunken = cv2.resize(large, (240, 300), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunken.ravel(), small.ravel())[0, 1] > 0.85
    assert np.abs(small).mean() == pytest.approx(np.abs(shrunken).mean(), rel=0.2)


@pytest.mark.parametrize("kind", [*MARKS, mount_shadow], ids=lambda kind: kind.name)
def test_gray_gets_the_luma_of_what_neutral_colours_get(kind):
    gray = np.ascontiguousarray(middle("camera"))
    in_colour = damage(kind, np.repeat(gray, 3, -1), 2, severity=3).pixels
    expected = in_colour @ [0.299, 0.587, 0.114]
    difference = np.abs(damage(kind, gray, 2, severity=3).pixels[..., 0] - expected)
    # Where marks overlap, another may be seen.
    assert (difference <= 1.01).mean() > 0.995


@each
def test_the_long_side_counts_for_nothing(kind):
    """Marks on a panorama are no larger than on its middle."""
    one, wide = (
        ndimage.distance_transform_edt(
            change(kind, flat(200, 300, width), 1, count=1).any(-1)
        ).max()
        for width in (300, 900)
    )
    assert wide == pytest.approx(one, rel=0.35, abs=1.5)


# -- scratches -------------------------------------------------------------------------------------


def test_scratches_of_transport_run_down_the_film():
    """The mean of a column is far from that of the next, the mean of a row is not."""
    lines = np.abs(change(scratches, flat(), 1, count=60)[..., 0])
    assert lines.mean(0).std() > 2 * lines.mean(1).std()


def test_film_may_run_the_other_way():
    pixels = photo("coffee")
    turned = np.ascontiguousarray(pixels.swapaxes(0, 1))
    down = damage(scratches, pixels, 4, count=30)
    along = damage(scratches, turned, 4, count=30, direction="horizontal")
    assert np.array_equal(along.pixels.swapaxes(0, 1), down.pixels)
    assert np.array_equal(along.mask.T, down.mask)


@pytest.mark.parametrize(("tone", "sign"), [("light", 1), ("dark", -1)])
def test_a_scratch_has_a_core_of_its_tone_between_flanks_of_the_other(tone, sign):
    profiles = []
    for seed in range(60):
        line = sign * change(scratches, flat(128, 2000, 2000), seed, count=1, tone=tone)[..., 0]
        if np.ptp(np.nonzero(line.any(1))[0]) < 1900:
            continue  # a short one of handling
        for row in line[300:1700:100]:
            if row.max() > 10:
                at = int(row.argmax())
                profiles.append(row[max(0, at - 12) : at + 13])
    assert len(profiles) > 50
    flanked = [row.min() < 0 and row.max() > 2 * -row.min() for row in profiles]
    assert np.mean(flanked) > 0.9


@pytest.mark.parametrize("kind", [dust, scratches], ids=lambda kind: kind.name)
def test_dark_and_light_marks_are_where_mixed_ones_are(kind):
    dark, light, mixed = (
        change(kind, flat(), count=40, tone=tone) for tone in ("dark", "light", "mixed")
    )
    assert dark.mean() < 0 < light.mean()
    plain = 12  # levels, below which one may be rounded away and the other not
    for one, other in ((dark, light), (light, dark), (dark, mixed), (mixed, dark)):
        assert other[np.abs(one) > plain].all()
    assert ((mixed == dark) | (mixed == light)).mean() > 0.999
    assert not np.array_equal(mixed, dark)
    assert not np.array_equal(mixed, light)


# -- dust ------------------------------------------------------------------------------------------


def test_as_many_specks_are_found_as_were_strewn():
    found = [components(change(dust, flat(128, 1500, 1500), seed, count=30).any(-1))[0]
             for seed in range(5)]  # fmt: skip
    assert np.mean(found) == pytest.approx(30, abs=2), "but for those that touch"
    assert max(found) <= 31


def test_specks_are_small_and_hairs_are_long_and_thin():
    count, places, labels = components(change(dust, flat(128, 2000, 2000), 1, count=200).any(-1))
    longest = [max(p.stop - p.start for p in place) for place in places]
    hairs = [i for i in range(count) if longest[i] > 60]
    # Odds of one in sixteen: 12.5, and three standard deviations.
    assert 2 <= len(hairs) <= 23
    assert np.median(longest) < 0.006 * 2000
    for i in hairs:
        thickness = ndimage.distance_transform_edt(np.pad(labels[places[i]] == i + 1, 1)).max()
        assert thickness < longest[i] / 8


def test_dark_dust_only_darkens_and_light_dust_only_lightens():
    assert (change(dust, flat(128), count=100, tone="dark") <= 0).all()
    assert (change(dust, flat(128), count=100, tone="light") >= 0).all()


@pytest.mark.parametrize("kind", [dust, scratches], ids=lambda kind: kind.name)
def test_the_mask_is_where_the_picture_is_mostly_hidden(kind):
    """From black and from white alike: what is left of their difference tells the cover."""
    masked = 0
    for seed in range(20):
        on_black, on_white = (damage(kind, flat(n, 800, 800), seed, count=1) for n in (0, 255))
        seen = (on_white.pixels.astype(float) - on_black.pixels)[..., 0] / 255
        assert np.array_equal(on_black.mask, on_white.mask)
        clear = np.abs(seen - 0.5) > 0.01
        assert np.array_equal(on_black.mask[clear], (seen < 0.5)[clear])
        masked += on_black.mask.any()
    assert masked > 5


# -- creases ---------------------------------------------------------------------------------------


def test_a_fold_runs_from_edge_to_edge():
    for seed in range(12):
        folded = change(creases, flat(128, 300, 420), seed, count=1)[..., 0] != 0
        sides = [folded[0], folded[-1], folded[:, 0], folded[:, -1]]
        assert sum(side.any() for side in sides) >= 2
        assert components(ndimage.binary_dilation(folded, iterations=2))[0] == 1


def test_one_flank_of_a_fold_is_lit_and_the_other_shaded():
    opposite = 0
    for seed in range(12):
        shade = change(creases, flat(128, 600, 600), seed, count=1)[..., 0]
        lit, dark = (np.argwhere(side).mean(0) for side in (shade > 3, shade < -3))
        distance = np.linalg.norm(lit - dark)
        opposite += distance > 0.004 * 600 * 0.5
    assert opposite >= 11


def test_the_crack_of_a_fold_is_broken_and_bares_paper():
    for seed in range(5):
        damaged = damage(creases, flat(20, 1500, 1500, 3), seed, count=1)
        bare = damaged.pixels[damaged.mask] / 255
        assert (bare.mean(0) > 0.5 * np.array(PAPER)).all()
        assert (bare.max(0) <= np.array(PAPER) + 0.01).all()
        assert components(damaged.mask)[0] > 5
        # Nowhere near as wide as the shading beside it.
        touched = (damaged.pixels != 20).any(-1)
        assert damaged.mask.sum() < 0.2 * touched.sum()


# -- tears and lost corners ------------------------------------------------------------------------


@losses
@pytest.mark.parametrize("photograph", ["astronaut", "camera"])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_all_but_the_missing_is_as_it_was(kind, photograph, severity):
    pixels = middle(photograph)
    damaged = damage(kind, pixels, 1, severity=severity)
    assert np.array_equal(damaged.pixels[~damaged.mask], pixels[~damaged.mask])
    assert (damaged.pixels != pixels).any(-1)[damaged.mask].mean() > 0.9


@losses
def test_what_is_missing_begins_at_the_edge(kind):
    for seed in range(10):
        mask = damage(kind, flat(60, 500, 400), seed, severity=5).mask
        _, _, labels = components(mask)
        at_edge = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]} - {0}
        # A little may crumble off beside the edge of a loss, but nothing further in.
        assert np.isin(labels, list(at_edge))[mask].mean() > 0.99


@losses
@pytest.mark.parametrize("fill", [0, 0.5, 1])
def test_the_background_is_seen_through_the_gap_and_paper_at_its_rim(kind, fill):
    damaged = damage(kind, flat(77, 1500, 1500, 3), 2, severity=5, fill=fill)
    inside = damaged.mask.copy()
    for side in (0, -1):  # the loss goes on beyond the picture
        inside[side] = inside[:, side] = True
    depth = ndimage.distance_transform_edt(np.pad(damaged.mask, 40, mode="edge"))[40:-40, 40:-40]
    deepest = damaged.pixels[depth > 0.8 * depth.max()]
    assert np.median(deepest) == pytest.approx(255 * fill, abs=20)
    rim = damaged.pixels[damaged.mask & (depth > 1.5) & (depth < 3.5)]
    paper = 255 * np.array(PAPER)
    near_paper = (np.abs(rim - paper) < 40).all(-1).mean()
    assert near_paper > 0.5
    warm = rim[..., 0].astype(int) - rim[..., 2]
    assert np.median(warm) > 5, "paper is not as white as the lid of a scanner"


def test_a_tear_runs_inwards_and_closes():
    ratios = []
    for seed in range(10):
        mask = damage(tears, flat(60, 800, 800), seed, count=1).mask
        sides = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
        side = int(np.argmax([line.sum() for line in sides]))
        inwards = [mask, mask[::-1], mask.T, mask.T[::-1]][side]
        widths = inwards.sum(1)
        length = np.count_nonzero(widths)
        assert 0.075 * 800 < length < 0.125 * 800
        ratios.append(widths[: length // 4].mean() / widths[3 * length // 4 : length].mean())
        assert widths[length - 1] <= 5
    assert min(ratios) > 1.2
    assert np.mean(ratios) > 2


def test_later_tears_are_longer():
    share = [
        np.mean([damage(tears, flat(60), seed, count=n).mask.mean() for seed in range(10)])
        for n in range(7)
    ]
    steps = np.diff(share)
    assert (steps > 0).all()
    assert steps[5] > 3 * steps[0]


def test_every_corner_and_edge_is_broken_once():
    for seed in range(10):
        mask = damage(lost_corners, flat(60, 600, 800), seed, count=8).mask
        assert mask[[0, 0, -1, -1], [0, -1, 0, -1]].all()
        for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
            fifth = len(edge) // 5
            assert edge[2 * fifth : 3 * fifth].any()
            assert 0.1 < edge.mean() < 0.75
        assert not mask[150:450, 200:600].any()


def test_first_a_corner_goes_and_it_is_small():
    for seed in range(10):
        mask = damage(lost_corners, flat(60, 500, 700), seed, count=1).mask
        assert mask[[0, 0, -1, -1], [0, -1, 0, -1]].sum() == 1
        rows, columns = np.nonzero(mask)
        assert 0.03 * 500 < np.ptp(rows) < 0.1 * 500
        assert 0.03 * 500 < np.ptp(columns) < 0.1 * 500


@losses
def test_a_torn_edge_is_irregular(kind):
    """Its length grows as it is looked at more closely, as that of a coast does."""
    ratios = []
    for seed in range(5):
        mask = damage(kind, flat(60, 1600, 1600), seed, severity=4).mask
        coarse = cv2.resize(mask.astype(np.float32), (100, 100), interpolation=cv2.INTER_AREA)
        ratios.append(measure.perimeter(mask) / (16 * measure.perimeter(coarse > 0.5)))
    assert np.mean(ratios) > 1.1


# -- drawing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.05, 0.4, 1, 2.7, 9])
@pytest.mark.parametrize("centre", [0, 0.1, 0.25, 0.5])
def test_a_strip_covers_as_much_wherever_it_falls(width, centre):
    offset = np.arange(-20, 21) - centre
    assert strip(offset, -width / 2, width / 2).sum() == pytest.approx(width, rel=1e-5)


@pytest.mark.parametrize("width", [0.1, 0.5, 1, 1.6, 3, 6, 12])
@pytest.mark.parametrize("radius", [40, 75.3])
def test_a_thread_covers_its_length_times_its_width(width, radius):
    sheet = Sheet.of(flat(0, 200, 200))
    angle = np.linspace(0, 2 * np.pi, 400)
    ring = 100 + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    where, cover = thread(sheet, ring, width)
    assert cover.sum() == pytest.approx(2 * np.pi * radius * width, rel=0.2)
    rows, columns = where
    distance = np.abs(np.hypot(rows + 0.5 - 100, columns + 0.5 - 100) - radius)
    assert distance.max() < width / 2 + 1.5
    assert np.average(rows + 0.5, weights=cover) == pytest.approx(100, abs=0.3)


@pytest.mark.parametrize("angle", np.linspace(-1.57, 1.57, 9))
def test_pixels_near_a_line_are_all_found_at_their_distance(angle):
    height, width, reach = 80, 110, 6.0
    sheet = Sheet.of(flat(0, height, width))
    path = Path.through(sheet, 50.2, 41.7, angle, 60.0, beyond=reach)
    found = np.full((height, width), np.nan)
    along = np.full((height, width), np.nan)
    flipped = path.sheet.height != height
    for near in path.near(np.zeros(len(path.at)), reach):
        (found.T if flipped else found)[near.where] = np.abs(near.offset)
        (along.T if flipped else along)[near.where] = near.along
    y, x = np.mgrid[:height, :width] + 0.5
    across = np.abs((x - 50.2) * np.cos(angle) - (y - 41.7) * np.sin(angle))
    down = ((x - 50.2) * np.sin(angle) + (y - 41.7) * np.cos(angle)) / 60 + 0.5
    wanted = (across < reach) & (down > 0) & (down < 1)
    assert np.isfinite(found[wanted]).all()
    assert found[wanted] == pytest.approx(across[wanted], abs=1e-3)
    there = along[wanted]
    assert min(np.abs(there - down[wanted]).max(), np.abs(1 - there - down[wanted]).max()) < 1e-3


def test_of_two_marks_the_worse_is_seen_in_any_order():
    pixels = np.array([[[100], [100], [240]]], np.uint8)
    everywhere = (slice(None), slice(None))
    both = []
    for colours in ((0.0, 0.9), (0.9, 0.0)):
        sheet = Sheet.of(pixels)
        for colour in colours:
            sheet.paint(everywhere, np.ones((1, 3), np.float32), colour)
        both.append(sheet.after.ravel().tolist())
    # 0.9 is 229.5, which rounds to even: 130 from 100 is more than 100 from 0.
    assert both == [[230, 230, 0], [230, 230, 0]]
