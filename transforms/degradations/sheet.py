"""A sheet that damage is drawn on: where marks lie, what they cover, what is seen of them.

Columns and rows are real numbers here: pixel i reaches from i to i + 1. All sizes are in pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from transforms import scratch
from transforms.colour import from_unit, luma, to_unit
from transforms.degradations.texture import line_noise, read_field, smooth_noise

Where = tuple[np.ndarray, np.ndarray] | tuple[slice, slice]

_AT_ONCE = 1 << 19  # pixels worked on together


def marks(rng: np.random.Generator, count: int) -> Iterator[np.random.Generator]:
    """Give each mark a generator of its own: the first n are the same among any number of them,
    and on a picture of any size.
    """
    for seed in rng.integers(1 << 63, size=count):
        yield np.random.default_rng(seed)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A picture before and after damage; or a view of it, turned so that a mark is easily drawn.

    Where marks overlap, the one that changes a pixel more is seen. So another mark never brings a
    pixel back towards what it was, whatever the order.

    Attributes:
        before: uint8 or uint16 [H, W, C], left as it is.
        after: the same, drawn on.
        gone: bool [H, W], where the picture is lost, or all but hidden.
    """

    before: np.ndarray
    after: np.ndarray
    gone: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Sheet":
        """Begin with an undamaged picture."""
        return cls(pixels, scratch.copied(pixels), np.zeros(pixels.shape[:2], bool))

    def turned(self, quarters: int) -> "Sheet":
        """View it turned by so many quarters of a turn."""
        return Sheet(*(np.rot90(plane, quarters) for plane in (self.before, self.after, self.gone)))

    def swapped(self) -> "Sheet":
        """View it with rows for columns."""
        return Sheet(*(plane.swapaxes(0, 1) for plane in (self.before, self.after, self.gone)))

    @property
    def height(self) -> int:
        """Rows."""
        return self.before.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.before.shape[1]

    @property
    def short(self) -> int:
        """The shorter side, which marks are sized by."""
        return min(self.before.shape[:2])

    def colour(self, rgb: tuple[float, ...]) -> np.ndarray:
        """Give a colour in the sheet's channels, as float32 [C]."""
        values = np.array(rgb, np.float32)
        return values if self.before.shape[-1] == 3 else luma(values)[None]

    def box(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """Give the pixels that a rectangle touches, as slices of rows and columns."""
        return _span(top, bottom, self.height), _span(left, right, self.width)

    def paint(
        self,
        where: Where,
        cover: np.ndarray,
        colour: np.ndarray | float,
        gone: np.ndarray | None = None,
    ) -> None:
        """Lay a colour over pixels.

        Args:
            where: index of pixels, each at most once.
            cover: float32 [...], 0 where the picture is seen to 1 where the colour is.
            colour: float, or float32 [..., C], in [0, 1].
            gone: bool [...], which of them are lost; added to those that are.
        """
        unit = to_unit(self.before[where])
        self.keep_worse(where, unit + cover[..., None] * (colour - unit))
        if gone is not None:
            self.gone[where] |= gone

    def keep_worse(self, where: Where, unit: np.ndarray) -> None:
        """Take pixels, float [..., C] in [0, 1], where they differ more than what is there."""
        before, after = self.before[where], self.after[where]
        marked = from_unit(unit, before.dtype)
        worse = _difference(marked, before) > _difference(after, before)
        self.after[where] = np.where(worse[..., None], marked, after)

    def absorb(self, where: Where, density: np.ndarray, colour: tuple[float, ...]) -> None:
        """Soak pixels in a stain, over whatever else there is.

        Args:
            where: index of pixels, each at most once.
            density: float32 [...], not below 0.
            colour: of the stain, as for `passed`.
        """
        after = self.after[where]
        seen = to_unit(after) * passed(density, colour, after.shape[-1])
        self.after[where] = from_unit(seen, after.dtype)


def passed(density: np.ndarray, colour: tuple[float, ...], channels: int) -> np.ndarray:
    """Give the share of encoded values that a stain lets through.

    Args:
        density: float32 [...].
        colour: what a density of 1 does to red, green and blue, as exponents of e; to a gray
            picture it does their luma.
        channels: of the picture, 1 or 3.

    Returns:
        float32 [..., channels].
    """
    shares = np.exp(-density[..., None] * np.array(colour, np.float32))
    return shares if channels == 3 else luma(shares)[..., None]


def _span(start: float, stop: float, length: int) -> slice:
    first = min(max(0, math.floor(start)), length)
    return slice(first, max(first, min(length, math.ceil(stop))))


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Give the squared difference of each pixel, exactly."""
    channels = range(one.shape[-1])
    # Channel by channel, as NumPy is slow at sums over a last axis of three.
    return sum(np.square(one[..., c].astype(np.int64) - other[..., c]) for c in channels)


def parts(where: tuple[slice, slice]) -> Iterator[tuple[slice, slice]]:
    """Cut a rectangle into flat ones that are worked on one at a time."""
    rows, columns = where
    step = max(1, _AT_ONCE // max(1, columns.stop - columns.start))
    for top in range(rows.start, rows.stop, step):
        yield slice(top, min(top + step, rows.stop)), columns


# -- along a line ----------------------------------------------------------------------------------


class Near(NamedTuple):
    """Pixels near a path.

    Attributes:
        where: index of them, in the sheet that the path is on.
        offset: float32 [N], how far right of the path their centres lie, straight across.
        along: float32 [N], how far along it: 0 at its upper end to 1.
        row: [N], which of the path's rows each is in.
    """

    where: tuple[np.ndarray, np.ndarray]
    offset: np.ndarray
    along: np.ndarray
    row: np.ndarray


@dataclass(frozen=True, slots=True)
class Path:
    """A straight line down a sheet, that a mark follows.

    Attributes:
        sheet: the sheet it was asked for, or that with rows for columns if the line is flat.
        top: the first row it is in.
        at: float32 [rows], how far along it each row is, from 0 at its upper end to 1.
        column: float64 [rows], where it crosses each row's middle.
        lean: columns to the right for each row down.
        length: from end to end.
    """

    sheet: Sheet
    top: int
    at: np.ndarray
    column: np.ndarray
    lean: float
    length: float

    @classmethod
    def through(
        cls, sheet: Sheet, x: float, y: float, angle: float, length: float, beyond: float = 0
    ) -> "Path":
        """Lay a line through a point, its middle.

        Args:
            sheet: to lay it on.
            x: column of its middle.
            y: row of its middle.
            angle: in radians from straight down towards the right.
            length: from end to end.
            beyond: how far to each side of the line its square ends are wanted.
        """
        if abs(math.sin(angle)) > abs(math.cos(angle)):
            sheet, x, y, angle = sheet.swapped(), y, x, math.pi / 2 - angle
        lean, cos = math.tan(angle), abs(math.cos(angle))
        half = length / 2 * cos + beyond * abs(math.sin(angle))
        rows = _span(y - half, y + half, sheet.height)
        down = np.arange(rows.start, rows.stop) + 0.5 - y
        at = (down / (length * cos) + 0.5).astype(np.float32)
        return cls(sheet, rows.start, at, x + down * lean, lean, length)

    def near(self, wander: np.ndarray, reach: float) -> Iterator[Near]:
        """Give the pixels near it, some at a time.

        Args:
            wander: float [rows], how far to the right the mark strays from the line.
            reach: how far from the mark to look.
        """
        cos = 1 / math.hypot(1, self.lean)
        column = self.column + wander / cos
        first = np.floor(column - reach / cos).astype(np.intp) - 1
        count = math.ceil(2 * reach / cos) + 3
        step = max(1, _AT_ONCE // count)
        for top in range(0, len(column), step):
            columns = first[top : top + step, None] + np.arange(count)
            inside = (columns >= 0) & (columns < self.sheet.width)
            row = np.nonzero(inside)[0] + top
            columns = columns[inside]
            offset = ((columns + 0.5 - column[row]) * cos).astype(np.float32)
            along = self.at[row] + offset * np.float32(self.lean / self.length)
            yield Near((row + self.top, columns), offset, along, row)


def strip(offset: np.ndarray, left: np.ndarray | float, right: np.ndarray | float) -> np.ndarray:
    """Give the share of a pixel at an offset that lies between two others, float32 [0, 1]."""
    overlap = np.minimum(offset + 0.5, right) - np.maximum(offset - 0.5, left)
    return np.clip(overlap, 0, 1).astype(np.float32)


def tapered(at: np.ndarray, ends: float) -> np.ndarray:
    """Give 1 along a line, and less in the shares of it at its ends, down to 0."""
    return np.clip(np.minimum(at, 1 - at) / np.float32(ends), 0, 1)


# -- shapes ----------------------------------------------------------------------------------------


def blob(
    sheet: Sheet,
    rng: np.random.Generator,
    x: float,
    y: float,
    radius: float,
    *,
    reach: float,
    uneven: float,
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Give the pixels about a roundish spot, and how far out each is: 1 at the spot's outline.

    Args:
        sheet: to lay it on.
        rng: the source of all randomness; how much is drawn depends on nothing.
        x: column of its middle.
        y: row of its middle.
        radius: of the outline, on average.
        reach: how far out to look, in radii.
        uneven: how far from round, in radii.
    """
    side = reach * radius + 1
    where = sheet.box(x - side, y - side, x + side, y + side)
    across = np.arange(where[1].start, where[1].stop, dtype=np.float32) + np.float32(0.5 - x)
    down = np.arange(where[0].start, where[0].stop, dtype=np.float32)[:, None] + np.float32(0.5 - y)
    angle = np.arctan2(down, across)
    outline = np.ones_like(angle)
    for lobes in range(2, 7):  # two stretch it; the more there are, the shallower they are
        size, phase = uneven * rng.normal() / (lobes - 1) ** 1.5, rng.uniform(0, 2 * math.pi)
        outline += np.float32(size) * np.cos(lobes * angle + np.float32(phase))
    return where, np.hypot(across, down) / (np.float32(radius) * np.maximum(outline, 0.3))


_HAIRLINE = 0.9  # width that an 8-connected line covers, on average over directions


def thread(
    sheet: Sheet, points: np.ndarray, width: float
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Give the pixels that a line through float [N, 2] points (x, y) touches, and how much of each
    it covers.
    """
    margin = width / 2 + 1
    rows, columns = sheet.box(*(points.min(0) - margin), *(points.max(0) + margin))
    # Drawn larger and averaged, as OpenCV knows whole widths only.
    zoom = 4 if width < 2 else 2
    size = (columns.stop - columns.start, rows.stop - rows.start)
    drawing = np.zeros((size[1] * zoom, size[0] * zoom), np.uint8)
    if not drawing.size:
        return (np.zeros(0, np.intp), np.zeros(0, np.intp)), np.zeros(0, np.float32)
    corner = np.array([columns.start, rows.start])
    fixed = np.rint(((points - corner) * zoom - 0.5) * 16).astype(np.int32)
    # Its lines of an even thickness are one pixel wider. The next wider line is drawn, and made as
    # much fainter.
    thickness = 1 if width * zoom <= _HAIRLINE else 2 * max(1, math.ceil((width * zoom - 1) / 2))
    drawn = _HAIRLINE if thickness == 1 else thickness + 1
    cv2.polylines(drawing, [fixed], False, 255, thickness, cv2.LINE_8, shift=4)
    drawing = cv2.resize(drawing, size, interpolation=cv2.INTER_AREA)
    down, across = np.nonzero(drawing)
    cover = to_unit(drawing[down, across]) * np.float32(width * zoom / drawn)
    return (down + rows.start, across + columns.start), cover


# -- torn edges ------------------------------------------------------------------------------------

PAPER = (0.93, 0.91, 0.86)  # the core of a print's paper or board, bare of image


class Torn(NamedTuple):
    """The torn edge of a sheet.

    Attributes:
        sheet: the sheet.
        grain: float32 [n, n], how its paper varies in lightness.
        fill: gray level of what is seen beyond the edge.
    """

    sheet: Sheet
    grain: np.ndarray
    fill: float

    @classmethod
    def of(cls, sheet: Sheet, rng: np.random.Generator, fill: float) -> "Torn":
        """Begin to tear."""
        return cls(sheet, smooth_noise(128, 128, rng, cell=6, octaves=3, persistence=0.8), fill)

    def bare(self, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Give how wide paper is bare along the edge, float [N]; `at` is as for `line_noise`."""
        uneven = 1 + 0.7 * line_noise(at, rng, knots=6, octaves=8, persistence=0.55)
        return self.sheet.short * rng.uniform(0.004, 0.009) * np.clip(uneven, 0.1, 2.5)

    def smooth(self, edge: np.ndarray) -> np.ndarray:
        """Level out the course of an edge, float [N], one value a pixel: as its shadow falls."""
        width = max(1, round(0.015 * self.sheet.short))
        column = edge.astype(np.float32)[:, None]
        return cv2.blur(column, (1, width), borderType=cv2.BORDER_REPLICATE)[:, 0]

    def lose(self, where: Where, beside: np.ndarray, below: np.ndarray, bare: np.ndarray) -> None:
        """Lose pixels beyond the edge, and bare the paper on this side of it.

        Args:
            where: index of pixels, each at most once.
            beside: float [...], how far each lies on this side of the edge; less than 0 is beyond.
            below: the same of the smooth edge.
            bare: how wide the paper is bare, at each.
        """
        sheet = self.sheet
        cover = np.clip(bare - beside + 0.5, 0, 1).astype(np.float32)
        shadow = np.exp(np.minimum(below, 0) / np.float32(0.004 * sheet.short))
        background = np.float32(self.fill) * (1 - np.float32(0.3) * shadow[..., None])
        # Towards the image layer the torn fibres stand in their own shade.
        rise = np.clip(beside / np.maximum(bare, 1e-3), 0, 1)
        lightness = 1 - 0.1 * rise + 0.025 * np.clip(self._fibres(where), -2, 2)
        paper = np.minimum(lightness.astype(np.float32)[..., None] * sheet.colour(PAPER), 1)
        share = np.clip(beside + 0.5, 0, 1).astype(np.float32)[..., None]
        sheet.paint(where, cover, background + share * (paper - background), cover > 0)

    def _fibres(self, where: Where) -> np.ndarray:
        last = len(self.grain) - 1
        places = np.ogrid[where] if isinstance(where[0], slice) else where
        # There and back again over the grain, so that it has no seam.
        down, across = (
            last - np.abs(place / (0.0007 * self.sheet.short) % (2 * last) - last)
            for place in places
        )
        return read_field(self.grain, across, down)
