"""What soaks into prints, grows on them and is stuck to them.

Sized and nested as damage to the surface is: by the picture's shorter side, and a higher severity
keeps every mark of a lower one. Stains absorb light, blue most and red least, so they show on the
light parts of a picture and hardly on the dark. The severities are ours, judged by eye.
"""

import math

import cv2
import numpy as np

from transforms.colour import to_unit
from transforms.degradations.apply import by_rows
from transforms.degradations.parameters import Choice, Number, Whole
from transforms.degradations.registry import Damaged, degradation
from transforms.degradations.sheet import Path, Sheet, blob, marks, parts, passed, strip
from transforms.degradations.texture import line_noise, read_field, smooth_noise, stretched

# Densities to red, green and blue, as exponents of e on encoded values.
_TIDE_BROWN = (0.25, 0.46, 0.80)
_RUST_BROWN = (0.30, 0.55, 0.82)
_AMBER = (0.06, 0.20, 0.75)
_BURNT = (0.35, 0.55, 0.85)

_FILM = (0.85, 0.80, 0.68)  # light scattered by a film of cellulose acetate that has yellowed


@degradation("water_stains", count=Whole(0, 50, (1, 2, 3, 5, 8)))
def stains(pixels: np.ndarray, rng: np.random.Generator, *, count: int) -> Damaged:
    """Water stains: blots with a brown tide line around them.

    Water that creeps through paper carries its soluble brown products of decay along and leaves
    them where it dries, at its front: a stain is darkest at its rim, sharp towards the outside and
    fading inwards. Wetted again, it gets a second line within the first. Severity 1 is one blot of
    about a fifth of the short side, 5 eight of up to two thirds.
    """
    sheet = Sheet.of(pixels)
    for place, chance in enumerate(marks(rng, count)):
        _stain(sheet, chance, min(0.1 + 0.035 * place, 0.33) * sheet.short)
    return Damaged(sheet.after)


def _stain(sheet: Sheet, rng: np.random.Generator, radius: float) -> None:
    x, y = rng.uniform(0, 1, 2) * (sheet.width, sheet.height)
    stretch, strength = rng.uniform(0.75, 1.3), np.float32(rng.uniform(0.5, 1))
    density = _tide(rng)
    half_width, half_height = 1.5 * radius * stretch, 1.5 * radius / stretch
    scale_x, scale_y = len(density) / (2 * half_width), len(density) / (2 * half_height)
    box = sheet.box(x - half_width, y - half_height, x + half_width, y + half_height)
    for where in parts(box):
        rows, columns = (np.arange(span.start, span.stop) + 0.5 for span in where)
        across = (columns - x + half_width) * scale_x - 0.5
        down = (rows - y + half_height) * scale_y - 0.5
        soaked = stretched(density, across, down)
        sheet.absorb(where, strength * soaked, _TIDE_BROWN)


def _tide(rng: np.random.Generator) -> np.ndarray:
    """Give the density of a stain, float32 [N, N]: about 1 in its tide line, 0 at the border."""
    size = 384
    axis = np.linspace(-1.5, 1.5, size, dtype=np.float32)
    noise = smooth_noise(size, size, rng, cell=size / 3, octaves=6, persistence=0.38)
    relief = 1 - np.hypot(axis, axis[:, None]) + 0.4 * np.clip(noise, -1.2, 1.2)
    line = rng.uniform(2, 4)
    density = np.zeros_like(relief)
    for level, weight in ((0, 1), (rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.6))):
        wet = (relief > level).astype(np.uint8)
        depth = cv2.distanceTransform(wet, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        front = 0.6 * np.exp(-depth / line) + 0.25 * np.exp(-depth / 20) + 0.15
        density += np.float32(weight) * wet * front.astype(np.float32)
    return cv2.GaussianBlur(density * np.clip(1 + 0.2 * noise, 0.3, 1.7), (0, 0), 0.7)


@degradation(count=Whole(0, 5000, (12, 30, 60, 110, 200)))
def foxing(pixels: np.ndarray, rng: np.random.Generator, *, count: int) -> Damaged:
    """Foxing: scattered soft reddish-brown spots.

    Moulds and traces of iron in the paper leave spots of the colour of rust, in clusters where it
    was damp (American Institute for Conservation, Book and Paper Group Wiki, "Foxing"). They are
    one to five percent of the short side, most of them small, with a darker heart and a halo.
    Severity 1 is a dozen spots, 5 two hundred.
    """
    sheet = Sheet.of(pixels)
    damp = rng.random((6, 2))
    for chance in marks(rng, count):
        x, y = _spot_at(damp, chance) * (sheet.width, sheet.height)
        radius = sheet.short * min(max(0.005, 0.008 * chance.lognormal(0, 0.5)), 0.02)
        strength = np.float32(chance.uniform(0.3, 1))
        where, out = blob(sheet, chance, x, y, max(radius, 0.5), reach=2, uneven=0.12)
        halo = np.square(np.clip(1.6 - out, 0, 1))
        heart = np.square(np.clip(1 - out, 0, 1))
        sheet.absorb(where, strength * (0.5 * halo + 0.6 * heart), _RUST_BROWN)
    return Damaged(sheet.after)


def _spot_at(damp: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose a place, as shares of width and height: near a damp one, or now and then anywhere."""
    centre, away, anywhere = damp[rng.integers(len(damp))], rng.normal(0, 0.07, 2), rng.random(2)
    return anywhere if rng.random() < 0.25 else np.clip(centre + away, 0, 1)


@degradation("adhesive_tape", count=Whole(0, 20, (1, 2, 3, 4, 6)))
def tape(pixels: np.ndarray, rng: np.random.Generator, *, count: int) -> Damaged:
    """Strips of adhesive tape: yellowed, translucent, streaky, with dirt along their edges.

    The rubber adhesive of pressure-sensitive tape oxidises, turns yellow to amber, and soaks into
    what it sticks to (Smith, Jones, Page & Dirda 1984, Journal of the American Institute for
    Conservation 23(2), 101-113); the film scatters light, which lifts the blacks; dirt settles on
    the adhesive that creeps out at its long edges, and the dispenser's blade leaves toothed ends.
    Severity 1 is one strip, 5 six.
    """
    sheet = Sheet.of(pixels)
    for chance in marks(rng, count):
        _strip_of_tape(sheet, chance)
    return Damaged(sheet.after)


def _strip_of_tape(sheet: Sheet, rng: np.random.Generator) -> None:
    unit = sheet.short
    x, y = rng.uniform(0.05, 0.95, 2) * (sheet.width, sheet.height)
    angle = rng.uniform(-math.pi / 2, math.pi / 2)
    width, length = unit * rng.uniform(0.07, 0.13), unit * rng.uniform(0.25, 0.7)
    yellow, haze = rng.uniform(0.35, 1), np.float32(rng.uniform(0.06, 0.16))
    teeth, film = 0.012 * unit, sheet.colour(_FILM)
    path = Path.through(sheet, x, y, angle, length, beyond=width / 2)
    # Where the adhesive let go, the strip is paler.
    stuck = smooth_noise(48, 192, rng, cell=24, octaves=4)
    streaks = line_noise(np.linspace(0, 1, 256), rng, knots=24, octaves=3, persistence=0.8)
    ragged = rng.random(2)
    for near in path.near(np.zeros(len(path.at)), width / 2):
        across = near.offset / np.float32(width) + np.float32(0.5)
        along = near.along * np.float32(length)
        first, last = (
            teeth * np.abs((near.offset / np.float32(1.6 * teeth) + shift) % 1 - 0.5)
            for shift in ragged
        )
        cover = strip(near.offset, -width / 2, width / 2) * strip(along, first, length - last)
        field = read_field(stuck, near.along * 191, across * 47)
        field += 0.4 * streaks[np.clip(across * len(streaks), 0, len(streaks) - 1).astype(np.intp)]
        inside = width / 2 - np.abs(near.offset)
        dirt = np.exp(-np.maximum(inside, 0) / np.float32(max(0.003 * unit, 0.3)))
        density = yellow * np.clip(1 + 0.3 * field, 0.2, 2) + 0.8 * dirt
        seen = to_unit(path.sheet.before[near.where])
        seen *= passed(density, _AMBER, seen.shape[-1])
        seen += haze * (film - seen)
        path.sheet.paint(near.where, cover, seen)


@degradation(
    strength=Number(0, 3, (0.2, 0.4, 0.65, 0.95, 1.3)),
    mount=Choice(("overmat", "oval", "corners")),
)
def mount_shadow(
    pixels: np.ndarray, rng: np.random.Generator, *, strength: float, mount: str = "overmat"
) -> Damaged:
    """The brown shadow that a poor mount leaves on a print: mat burn.

    Acids from wood-pulp board migrate into what touches it. The border under a window mat turns
    brown, and a darker line is burnt along the cut edge of the window, where the board's core lies
    bare; album corners leave the same on the four corners. What was under the open window has
    stayed. (What light does to the window is `light_fade`.) Severity 1 is a faint line, 5 a dark
    brown border.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        strength: density of the burnt line, as an exponent of e.
        mount: a mat with a square or oval window, or album corners.
    """
    height, width = pixels.shape[:2]
    short = np.float32(min(height, width))
    borders = rng.uniform(0.05, 0.11, 4).astype(np.float32) * short
    skew = np.float32(rng.normal(0, 0.004))
    uneven = 1 + 0.3 * np.clip(smooth_noise(40, 40, rng, cell=13, octaves=3), -2, 2)
    columns = np.arange(width, dtype=np.float32) + np.float32(0.5)

    def burnt(unit: np.ndarray, rows: slice) -> np.ndarray:
        down = np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5)
        x, y = columns + skew * down[:, None], down[:, None] - skew * columns
        inside = _WINDOWS[mount](x, y, width, height, borders) / short
        covered = np.clip(0.5 - inside / np.float32(0.006), 0, 1)
        line = np.exp(-np.square((inside + np.float32(0.002)) / np.float32(0.005)))
        crept = np.exp(-np.maximum(inside, 0) / np.float32(0.015)) * (1 - covered)
        density = 0.45 * covered + 0.55 * line + 0.2 * crept
        density *= stretched(uneven, columns * (39 / width), down * (39 / height))
        return unit * passed(np.float32(strength) * density, _BURNT, unit.shape[-1])

    return Damaged(by_rows(pixels, burnt))


# How far inside a mount's window points are, in pixels: float32 [h, W] of their x and y, the
# image's width and height, and the mount's four borders.


def _rectangle(
    x: np.ndarray, y: np.ndarray, width: int, height: int, borders: np.ndarray
) -> np.ndarray:
    left, top, right, bottom = borders
    across = np.minimum(x - left, width - right - x)
    return np.minimum(across, np.minimum(y - top, height - bottom - y))


def _ellipse(
    x: np.ndarray, y: np.ndarray, width: int, height: int, borders: np.ndarray
) -> np.ndarray:
    half_width, half_height = width / 2 - borders[0], height / 2 - borders[1]
    out = np.hypot((x - width / 2) / half_width, (y - height / 2) / half_height)
    return (1 - out) * min(half_width, half_height)


def _corners(
    x: np.ndarray, y: np.ndarray, width: int, height: int, borders: np.ndarray
) -> np.ndarray:
    # Cut by a slanting line each, whose legs are a little longer than the borders are wide.
    legs = np.float32(1.8) * borders
    upper = np.minimum(x + y - legs[0], width - x + y - legs[1])
    lower = np.minimum(x + height - y - legs[2], width - x + height - y - legs[3])
    return np.minimum(upper, lower) / np.float32(math.sqrt(2))


_WINDOWS = {"overmat": _rectangle, "oval": _ellipse, "corners": _corners}
