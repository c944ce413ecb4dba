"""What wears, settles on and tears the surface of prints, negatives and slides.

Marks are sized by the picture's shorter side and owe nothing to its pixels, so that a scan and its
thumbnail are damaged alike. A higher severity keeps every mark of a lower one and adds others, and
where they overlap the one that changes a pixel more is seen. Of this damage there is no published
scale: the severities are ours, judged by eye.
"""

import math

import numpy as np

from transforms.degradations.parameters import Choice, Number, Whole
from transforms.degradations.registry import Damaged, degradation
from transforms.degradations.sheet import (
    PAPER,
    Path,
    Sheet,
    Torn,
    Where,
    blob,
    marks,
    parts,
    strip,
    tapered,
    thread,
)
from transforms.degradations.texture import line_noise

_TONES = ("mixed", "dark", "light")
_ODDS_OF_LIGHT = {"mixed": 0.5, "dark": 0.0, "light": 1.0}


@degradation(
    count=Whole(0, 1000, (3, 8, 16, 30, 50)),
    tone=Choice(_TONES),
    direction=Choice(("vertical", "horizontal")),
)
def scratches(
    pixels: np.ndarray,
    rng: np.random.Generator,
    *,
    count: int,
    tone: str = "mixed",
    direction: str = "vertical",
) -> Damaged:
    """Scratches of film transport along the picture, and short ones of handling.

    Grit in a camera, processor or projector ploughs long lines along the film, slightly wavering
    and of uneven depth (Kokaram 1998, Motion Picture Restoration, Springer, chapter 9). Across it a
    line is a core, where emulsion is lost or dirt was rubbed in, between faint flanks of the other
    tone, as in the damped sine that he fits. Handling and sleeves add short strokes in any
    direction. Emulsion lost from a print or slide is light, and dark in a print made from a
    scratched negative. Severity 1 is three scratches, 5 a worn projection print. The mask is where
    a scratch hides most of the picture.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        count: scratches; about two in five are of transport.
        tone: of the scratches.
        direction: which way the film ran.
    """
    sheet = Sheet.of(pixels)
    along = sheet if direction == "vertical" else sheet.swapped()
    for chance in marks(rng, count):
        light = float(chance.random() < _ODDS_OF_LIGHT[tone])
        if chance.random() < 0.4:
            _transport_scratch(along, chance, light)
        else:
            _handling_scratch(along, chance, light)
    return Damaged(sheet.after, sheet.gone)


def _transport_scratch(sheet: Sheet, rng: np.random.Generator, light: float) -> None:
    x, lean = rng.random() * sheet.width, rng.normal(0, 0.004)
    middle, part = rng.random(), rng.uniform(0.15, 0.7)
    if rng.random() < 0.5:
        middle, part = 0.5, 1.1
    width = sheet.short * min(0.0011 * rng.lognormal(0, 0.5), 0.004)
    path = Path.through(sheet, x, middle * sheet.height, lean, part * sheet.height)
    wander = 0.0012 * sheet.short * line_noise(path.at, rng, knots=3, persistence=0.45)
    depth = rng.uniform(0.35, 0.95) + 0.22 * line_noise(path.at, rng, knots=12, persistence=0.65)
    depth = np.clip(depth, 0, 1) * tapered(path.at, 0.06)
    for near in path.near(wander, width):
        core = depth[near.row] * strip(near.offset, -width / 2, width / 2)
        both = depth[near.row] * strip(near.offset, -width, width)
        flanks = np.float32(0.25) * (both - core)
        cover = core + flanks
        level = (core if light else flanks) / np.maximum(cover, np.float32(1e-6))
        path.sheet.paint(near.where, cover, level[..., None], cover > 0.5)


def _handling_scratch(sheet: Sheet, rng: np.random.Generator, light: float) -> None:
    x, y = rng.random() * sheet.width, rng.random() * sheet.height
    angle = rng.uniform(-math.pi / 2, math.pi / 2)
    length = sheet.short * min(0.05 * rng.lognormal(0, 0.7), 0.25)
    width = sheet.short * min(0.0008 * rng.lognormal(0, 0.4), 0.002)
    path = Path.through(sheet, x, y, angle, length)
    wander = 0.03 * length * line_noise(path.at, rng, knots=1, octaves=4, persistence=0.4)
    depth = rng.uniform(0.3, 0.85) + 0.2 * line_noise(path.at, rng, knots=6, persistence=0.8)
    depth = np.clip(depth, 0, 1) * tapered(path.at, 0.3)
    for near in path.near(wander, width / 2):
        core = depth[near.row] * strip(near.offset, -width / 2, width / 2)
        path.sheet.paint(near.where, core, light, core > 0.5)


@degradation(count=Whole(0, 10_000, (20, 50, 110, 220, 400)), tone=Choice(_TONES))
def dust(
    pixels: np.ndarray, rng: np.random.Generator, *, count: int, tone: str = "mixed"
) -> Damaged:
    """Specks of dust, hairs and fibres that lay on the original as it was copied or scanned.

    What blocks the light is dark in the scan of a slide, and white in a positive made from a dusty
    negative; an old print often shows both. One in sixteen is a hair or fibre, curled. Severity 1
    is a clean desk, 5 a box from the attic. The mask is where they hide most of the picture, much
    as the infrared channel of a film scanner finds them.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        count: specks and hairs.
        tone: of the dust.
    """
    sheet = Sheet.of(pixels)
    for chance in marks(rng, count):
        is_light = chance.random() < _ODDS_OF_LIGHT[tone]
        shade = chance.random()
        level = 0.97 - 0.1 * shade if is_light else 0.04 + 0.14 * shade
        opacity = np.float32(chance.uniform(0.6, 1))
        where, cover = (_hair if chance.random() < 1 / 16 else _speck)(sheet, chance)
        cover *= opacity
        sheet.paint(where, cover, level, cover > 0.5)
    return Damaged(sheet.after, sheet.gone)


def _speck(sheet: Sheet, rng: np.random.Generator) -> tuple[Where, np.ndarray]:
    x, y = rng.random() * sheet.width, rng.random() * sheet.height
    radius = sheet.short * min(0.0011 * rng.lognormal(0, 0.6), 0.006)
    # The further out of focus it lies, the softer its border.
    soft = max(1.0, rng.uniform(0.1, 0.6) * radius)
    drawn = max(radius, 0.75)
    where, out = blob(sheet, rng, x, y, drawn, reach=2, uneven=0.25)
    cover = np.clip((1 - out) * np.float32(drawn / soft) + 0.5, 0, 1)
    # The soft border adds to its area, and a speck below a pixel is faint instead of small.
    return where, cover * np.float32(radius**2 / (drawn**2 + soft**2 / 12))


def _hair(sheet: Sheet, rng: np.random.Generator) -> tuple[Where, np.ndarray]:
    start = rng.random(2) * (sheet.width, sheet.height)
    length = sheet.short * min(0.05 * rng.lognormal(0, 0.6), 0.25)
    width = sheet.short * min(0.0009 * rng.lognormal(0, 0.35), 0.002)
    at = np.linspace(0, 1, 96)
    heading = rng.uniform(0, 2 * math.pi) + rng.normal(0, 2.5) * at
    heading += rng.uniform(0.3, 1.3) * line_noise(at, rng, knots=2, octaves=3)
    steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / len(at))
    return thread(sheet, start + np.cumsum(steps, axis=0), width)


@degradation(count=Whole(0, 20, (1, 2, 3, 5, 8)))
def creases(pixels: np.ndarray, rng: np.random.Generator, *, count: int) -> Damaged:
    """Folds across the print: a line of cracked emulsion, one flank in the light, one in shade.

    Gelatine and albumen are brittle. Along a fold the image layer breaks and flakes off the paper,
    which leaves a broken light line; the paper stays bent, so that the scanner's lamp, shining from
    one side, brightens one flank and darkens the other. Prints are folded to fit an envelope, or
    bent at a corner. Severity 1 is one fold, 5 eight: a print carried in a pocket for years. The
    mask is where the emulsion is gone.
    """
    sheet = Sheet.of(pixels)
    for chance in marks(rng, count):
        _crease(sheet, chance)
    return Damaged(sheet.after, sheet.gone)


def _crease(sheet: Sheet, rng: np.random.Generator) -> None:
    unit = sheet.short
    path = _fold(sheet, rng)
    wander = 0.002 * unit * line_noise(path.at, rng, knots=12, octaves=9)
    # Where the noise is low the layer held, and the line is broken.
    cracked = 0.5 + line_noise(path.at, rng, knots=30, octaves=7, persistence=0.8)
    width = unit * rng.uniform(0.001, 0.003) * np.clip(cracked, 0, 2.5)
    left, right = (
        width * np.clip(0.5 + 0.3 * line_noise(path.at, rng, knots=300, octaves=4), 0, 1)
        for _ in range(2)
    )
    bare, bend = rng.uniform(0.75, 1), np.float32(rng.uniform(0.1, 0.25))
    fall = max(unit * rng.uniform(0.004, 0.009), 0.5)
    lit, paper = rng.choice([-1, 1]), sheet.colour(PAPER)
    for near in path.near(wander, 4 * fall):
        offset, row = near.offset, near.row
        crack = bare * strip(offset, -left[row], right[row])
        # Towards the fold itself light turns into shade without a step.
        flank = np.exp(-np.abs(offset) / np.float32(fall)) * np.minimum(np.abs(offset), 1)
        flank *= bend * (1 - crack)
        cover = crack + flank
        share = (crack / np.maximum(cover, 1e-6))[..., None]
        level = (lit * offset > 0)[..., None]
        path.sheet.paint(near.where, cover, level + share * (paper - level), crack > 0.5)


def _fold(sheet: Sheet, rng: np.random.Generator) -> Path:
    """Fold the sheet along or across, or one of its corners."""
    if rng.random() < 0.6:
        x, y = rng.uniform(0.25, 0.75, 2) * (sheet.width, sheet.height)
        angle = rng.choice([0, math.pi / 2]) + rng.normal(0, 0.05)
    else:
        x, y = rng.uniform(0.06, 0.16, 2) * sheet.short
        # The line that cuts off the upper left corner, and the same at the other three.
        angle = -math.atan2(x, y)
        if rng.random() < 0.5:
            x, angle = sheet.width - x, -angle
        if rng.random() < 0.5:
            y, angle = sheet.height - y, -angle
    return Path.through(sheet, x, y, angle, 2.2 * math.hypot(sheet.height, sheet.width))


@degradation(count=Whole(0, 20, (1, 2, 3, 4, 6)), fill=Number(0, 1))
def tears(
    pixels: np.ndarray, rng: np.random.Generator, *, count: int, fill: float = 0.97
) -> Damaged:
    """Tears from the edge inwards, gaping, with a rim of torn white paper.

    Paper tears at a slant through its thickness: the image layer parts along one line and the paper
    beneath along another, so that one flank shows a white fibrous rim. Between the flanks, where a
    sliver was lost or the halves have moved apart, lies the background with a thin shadow of the
    sheet. Severity 1 is one tear of about a tenth of the short side, 5 six of up to half of it. The
    mask is where the picture is gone, rims included; all else is as it was.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        count: tears; each is longer than the one before, up to the sixth.
        fill: gray level of the background, 0 black to 1 white; a scanner's lid is near white.
    """
    sheet = Sheet.of(pixels)
    for place, chance in enumerate(marks(rng, count)):
        length = min(0.1 + 0.07 * place, 0.45) * sheet.short
        _tear_down(sheet.turned(int(chance.integers(4))), chance, length, fill)
    return Damaged(sheet.after, sheet.gone)


def _tear_down(sheet: Sheet, rng: np.random.Generator, length: float, fill: float) -> None:
    """Tear from the upper edge downwards."""
    length *= rng.uniform(0.8, 1.2)
    x, lean = rng.uniform(0.1, 0.9) * sheet.width, rng.uniform(-0.45, 0.45)
    # The line's middle lies on the edge, its upper half outside.
    path = Path.through(sheet, x, 0, lean, 2 * length)
    inward = 2 * path.at - 1
    wander = 0.035 * length * line_noise(inward, rng, knots=2, octaves=9, persistence=0.42)
    opening = length * rng.uniform(0.03, 0.09) * np.maximum(1 - inward, 0) ** 1.2
    # The flanks fit but for what crumbled.
    left, right = (
        opening * (0.5 + 0.12 * line_noise(inward, rng, knots=24, persistence=0.6))
        for _ in range(2)
    )
    pointed = np.clip(5 * (1 - inward), 0, 1)
    torn = Torn.of(path.sheet, rng, fill)
    wide, thin = torn.bare(inward, rng), 0.2 * torn.bare(inward, rng)
    bare = [wide * pointed, thin * pointed][:: rng.choice([-1, 1])]
    shaded = torn.smooth(wander - left) - wander, torn.smooth(wander + right) - wander
    for near in path.near(wander, float(np.max(opening + bare[0] + bare[1], initial=0)) + 1):
        offset, row = near.offset, near.row
        beside = np.maximum(-left[row] - offset, offset - right[row])
        below = np.maximum(shaded[0][row] - offset, offset - shaded[1][row])
        torn.lose(near.where, beside, below, np.where(offset < 0, bare[0][row], bare[1][row]))


@degradation(count=Whole(0, 8, (1, 2, 3, 5, 8)), fill=Number(0, 1))
def lost_corners(
    pixels: np.ndarray, rng: np.random.Generator, *, count: int, fill: float = 0.97
) -> Damaged:
    """Corners and bits of the edge torn or broken off, the background in their place.

    Corners take the knocks, and a mount grown brittle breaks there first. The break is irregular at
    every scale, and along it bare paper shows where the image layer flaked off further than the
    paper. Severity 1 is one small corner, 5 all four, of up to a fifth of the short side, and four
    bits of edge. The mask is where the picture is gone, rims included; all else is as it was.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        count: pieces lost; each is larger than the one before.
        fill: gray level of the background, 0 black to 1 white; a scanner's lid is near white.
    """
    sheet = Sheet.of(pixels)
    corners, edges = iter(rng.permutation(4)), iter(rng.permutation(4))
    for place, chance in enumerate(marks(rng, count)):
        size = (0.06 + 0.02 * place) * sheet.short
        if place in _BITS:
            _bitten_edge(sheet.turned(int(next(edges))), chance, size, fill)
        else:
            _broken_corner(sheet.turned(int(next(corners))), chance, size, fill)
    return Damaged(sheet.after, sheet.gone)


_BITS = (2, 4, 5, 7)  # which pieces are of an edge; every corner and edge is broken once


def _broken_corner(sheet: Sheet, rng: np.random.Generator, size: float, fill: float) -> None:
    """Break off the upper left corner."""
    width, height = size * rng.uniform(0.75, 1.15, 2)
    at = (np.arange(min(math.ceil(1.3 * height), sheet.height)) + 0.5) / height
    bow = rng.uniform(0.75, 1.4)
    rough = 0.045 * size * line_noise(at / 1.3, rng, knots=2, octaves=10, persistence=0.48)
    border = width * (1 - np.minimum(at, 1) ** bow - np.maximum(at - 1, 0)) + rough
    _lose(sheet, rng, 0, at / 1.3, border, width / height, fill)


def _bitten_edge(sheet: Sheet, rng: np.random.Generator, size: float, fill: float) -> None:
    """Break a bit off the left edge."""
    # Its length is such that it stays clear of the corners.
    length, depth = size * rng.uniform(1, 1.5), size * rng.uniform(0.15, 0.3)
    middle = rng.uniform(0.42, 0.58) * sheet.height
    top = max(0, math.floor(middle - 0.6 * length))
    stop = min(sheet.height, math.ceil(middle + 0.6 * length))
    at = (np.arange(top, stop) + 0.5 - middle) / length
    rough = 0.05 * size * line_noise(at / 1.2 + 0.5, rng, knots=3, octaves=9, persistence=0.48)
    border = depth * (1 - 4 * at**2) + rough
    _lose(sheet, rng, top, at / 1.2 + 0.5, border, 2 * depth / length, fill)


def _lose(
    sheet: Sheet,
    rng: np.random.Generator,
    top: int,
    at: np.ndarray,
    border: np.ndarray,
    slope: float,
    fill: float,
) -> None:
    """Lose what lies left of a border.

    Args:
        sheet: to break.
        rng: the source of all randomness.
        top: its first row.
        at: float [rows], from 0 to 1 along it.
        border: float [rows], the column that it is at.
        slope: of the border in columns for a row, roughly.
        fill: gray level of what is seen beyond.
    """
    cos = 1 / math.hypot(1, slope)  # how much nearer the border is straight across
    torn = Torn.of(sheet, rng, fill)
    bare, shaded = torn.bare(at, rng), torn.smooth(border)
    reach = float(np.max(border + bare / cos, initial=0)) + 2
    for where in parts(sheet.box(0, top, reach, top + len(at))):
        rows, columns = where
        part = slice(rows.start - top, rows.stop - top)
        right = np.arange(columns.start, columns.stop) + 0.5
        beside, below = ((right - edge[part, None]) * cos for edge in (border, shaded))
        torn.lose(where, beside, below, bare[part, None])
