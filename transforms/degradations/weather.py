"""Weather before the lens (ImageNet-C).

Severities are those of Hendrycks & Dietterich 2019, arXiv:1903.12261, whose lengths are in pixels
and do not grow with the image; images of any size are done as in the package `imagecorruptions`
1.1.2 (Michaelis et al. 2019, arXiv:1907.07484), but rounded to whole levels where it cuts. Frost
alone is not of its making.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from transforms.colour import luma, white
from transforms.degradations.apply import by_rows
from transforms.degradations.blur import moved, resampled, smoothed, zoomed
from transforms.degradations.parameters import Choice, Number, Whole
from transforms.degradations.registry import Damaged, degradation
from transforms.degradations.texture import smooth_noise

# Of water, which is pale turquoise, and of mud: R, G, B of 255.
_LIQUIDS = {"water": (175, 238, 238), "mud": (63, 42, 20)}
# The finest plasma there is. Where it halves its swing (decay 1.4) with every octave, another one
# adds less than a tenth of a gray level to fog of severity 5.
_PLASMA_SIDE = 2048

# Of frost, R, G, B from 0 to 1: the pane between the ferns and the brightest ice, each as gray and
# as blue as they get.
_GLASS = np.array([[45, 58, 75], [0, 58, 75]], np.float32) / 255
_ICE = np.array([[238, 245, 253], [210, 245, 253]], np.float32) / 255
_FROST_PIXELS = 4 << 20  # of the finest frost there is; larger images show it enlarged
_FROST_BLOCK = 1 << 16  # pixels of it at a time
_ARMS = 3  # stems from a seed
_JOINTS = 4  # straight pieces of a stem


@degradation(
    loc=Number(-1, 1, (0.1, 0.2, 0.55, 0.55, 0.55)),
    scale=Number(0, 2, (0.3, 0.3, 0.3, 0.3, 0.3)),
    zoom=Number(1, 10, (3, 2, 4, 4.5, 2.5)),
    threshold=Number(0, 1, (0.5, 0.5, 0.9, 0.85, 0.85)),
    radius=Whole(0, 100, (10, 12, 12, 12, 12)),
    sigma=Number(0.1, 100, (4, 4, 8, 8, 12)),
    keep=Number(0, 1, (0.8, 0.7, 0.7, 0.65, 0.55)),
)
def snow(
    pixels: np.ndarray,
    rng: np.random.Generator,
    *,
    loc: float,
    scale: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    keep: float,
) -> Damaged:
    """Falling snow: flakes drawn out by their fall, over an image that the snow has whitened.

    Flakes are what is above a threshold in enlarged Gaussian noise, blurred along a line within 45
    degrees of the vertical; the same again, turned by half a turn, is laid over it.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        loc: mean of the noise, on a scale of 0 to 1.
        scale: standard deviation of the noise.
        zoom: size of the flakes, in pixels.
        threshold: noise below it is no flake.
        radius: half the length of a flake's trace, in pixels.
        sigma: standard deviation of the half Gaussian along it, in pixels.
        keep: weight of the image as it was, against the whitened one.
    """
    height, width = pixels.shape[:2]
    angle = rng.uniform(-135, -45)
    noise = rng.standard_normal((height, width), dtype=np.float32)
    flakes = zoomed(noise, zoom)
    flakes *= scale
    flakes += loc
    flakes[flakes < threshold] = 0
    flakes = moved(np.clip(flakes, 0, 1), radius, sigma, angle)[:height, :width]
    flakes = flakes + flakes[::-1, ::-1]

    def snowy(unit: np.ndarray, rows: slice) -> np.ndarray:
        whitened = np.maximum(unit, 1.5 * _gray(unit) + 0.5)
        return keep * unit + (1 - keep) * whitened + flakes[rows, :, None]

    return Damaged(by_rows(pixels, snowy))


@degradation(
    keep=Number(0, 1, (1, 0.8, 0.7, 0.65, 0.6)),
    ice=Number(0, 1, (0.4, 0.6, 0.7, 0.7, 0.75)),
)
def frost(pixels: np.ndarray, rng: np.random.Generator, *, keep: float, ice: float) -> Damaged:
    """Frost on the pane: ferns of ice added to a dimmed image.

    ImageNet-C adds cuttings of five photographs of frost. Here the frost is grown anew for every
    image: feathers of two sizes on curved stems that fan out from random seeds, each pixel
    belonging to the stem nearest to it, over a film of rime that is thin and dark or thick and
    white, and bluish more or less. Brightness, contrast, colour and size are like those
    photographs', on the whole and in their variety. As there, images with a short side of up to
    400 pixels show a pane at the same scale, and larger ones show it enlarged.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        keep: weight of the image.
        ice: weight of the frost.
    """
    height, width, channels = pixels.shape
    rime, tint = rng.random(), rng.random()
    pane = _pane(height, width, rime, rng)
    dark, bright = (gray + tint**2 * (blue - gray) for gray, blue in (_GLASS, _ICE))
    if channels == 1:
        dark, bright = luma(dark)[None], luma(bright)[None]

    y, x = (
        np.clip((np.arange(side) + 0.5) * (own / side) - 0.5, 0, own - 1)
        for side, own in zip((height, width), pane.shape, strict=True)
    )

    def frosted(unit: np.ndarray, rows: slice) -> np.ndarray:
        cover = resampled(pane, y[rows], x) if pane.shape != (height, width) else pane[rows]
        return keep * unit + ice * (dark + cover[..., None] * (bright - dark))

    return Damaged(by_rows(pixels, frosted))


@degradation(
    amount=Number(0.01, 10, (1.5, 2, 2.5, 2.5, 3)),
    decay=Number(1, 10, (2, 2, 1.7, 1.5, 1.4)),
)
def fog(pixels: np.ndarray, rng: np.random.Generator, *, amount: float, decay: float) -> Damaged:
    """Drifting fog: a plasma fractal added to the image, and both dimmed to the image's white.

    The plasma is a height map of the diamond-square algorithm (Fournier, Fussell & Carpenter 1982,
    doi:10.1145/358523.358553).

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        amount: white of the densest fog, relative to the image's.
        decay: by the square of it the plasma's swing falls with every octave; the more, the
            smoother is the fog.
    """
    height, width = pixels.shape[:2]
    top = int(pixels.max()) / white(pixels.dtype)
    side = 1 << (max(height, width, 3) - 1).bit_length()
    plasma = _plasma(min(side, _PLASMA_SIDE), decay, rng)
    columns = np.arange(width) * (len(plasma) / side)

    def foggy(unit: np.ndarray, rows: slice) -> np.ndarray:
        if side == len(plasma):
            veil = plasma[rows, :width]
        else:
            veil = resampled(plasma, np.arange(height)[rows] * (len(plasma) / side), columns)
        return (unit + amount * veil[..., None]) * (top / (top + amount))

    return Damaged(by_rows(pixels, foggy))


@degradation(
    loc=Number(-1, 1, (0.65, 0.65, 0.65, 0.65, 0.67)),
    scale=Number(0, 2, (0.3, 0.3, 0.3, 0.3, 0.4)),
    sigma=Number(0, 20, (4, 3, 2, 1, 1)),
    threshold=Number(0, 1, (0.69, 0.68, 0.68, 0.65, 0.65)),
    intensity=Number(0, 10, (0.6, 0.6, 0.5, 1.5, 1.5)),
    liquid=Choice(tuple(_LIQUIDS), ("water", "water", "water", "mud", "mud")),
)
def spatter(
    pixels: np.ndarray,
    rng: np.random.Generator,
    *,
    loc: float,
    scale: float,
    sigma: float,
    threshold: float,
    intensity: float,
    liquid: str,
) -> Damaged:
    """Drops of rain, or spots of mud, on the lens.

    They are where smoothed Gaussian noise is above a threshold. Drops let the image through and
    brighten it, most where their relief faces the light; mud covers it.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        loc: mean of the noise, on a scale of 0 to 1.
        scale: standard deviation of the noise.
        sigma: of the Gaussian that smooths the noise, in pixels: the size of the drops.
        threshold: noise below it is no drop.
        intensity: of water, how bright the brightest drop is; of mud, the sigma of the Gaussian
            that softens the spots, in pixels.
        liquid: "water" or "mud".
    """
    wet = rng.standard_normal(pixels.shape[:2], dtype=np.float32)
    wet = smoothed(wet, sigma)
    wet *= scale
    wet += loc
    wet[wet < threshold] = 0
    colour = np.array([_LIQUIDS[liquid]], np.float32) / 255
    if pixels.shape[-1] == 1:
        colour = luma(colour)

    if liquid == "water":
        light = _drops(wet, intensity)[..., None]

        def spattered(unit: np.ndarray, rows: slice) -> np.ndarray:
            return unit + light[rows] * colour
    else:
        cover = _spots(wet > threshold, intensity)[..., None]

        def spattered(unit: np.ndarray, rows: slice) -> np.ndarray:
            return unit + cover[rows] * (colour - unit)

    return Damaged(by_rows(pixels, spattered))


def _gray(unit: np.ndarray) -> np.ndarray:
    return luma(unit)[..., None] if unit.shape[-1] == 3 else unit


def _pane(height: int, width: int, rime: float, rng: np.random.Generator) -> np.ndarray:
    """Grow frost, as float32 [h, w] from 0 dark to 1 bright, of the image's size or smaller.

    Lengths of frost are in units: 1.1 pixels of images whose short side is 400 pixels or less.
    """
    unit = 1.1 * max(1.0, min(height, width) / 400)
    shrink = min(1.0, math.sqrt(_FROST_PIXELS / (height * width)))
    shape = max(1, round(height * shrink)), max(1, round(width * shrink))
    scale = unit * shrink

    # Each part has its own draws, so that coarser noise leaves the rest where it is.
    small, large, smooth = (np.random.default_rng(seed) for seed in rng.integers(1 << 63, size=3))
    pane = _feathers(shape, scale, small, spacing=16, length=14, spread=0.45, pitch=2.0)
    pane *= 0.75
    ferns = _feathers(shape, scale, large, spacing=44, length=46, spread=0.36, pitch=2.8)
    np.maximum(pane, ferns, out=pane)
    pane *= 0.78
    np.minimum(pane, 1, out=pane)
    film = smooth_noise(*shape, smooth, cell=150 * scale)
    film *= 0.14
    film += 0.78 * rime
    np.clip(film, 0, 0.9, out=film)
    # Ferns over the film: the thicker it is, the less they add.
    pane *= 1 - film
    pane += film
    return pane


class _Stems(NamedTuple):
    """Straight pieces of the stems of feathers, or the nearest of them to each pixel: float32."""

    x: np.ndarray  # where the piece begins, in units
    y: np.ndarray
    cos: np.ndarray  # where it goes
    sin: np.ndarray
    length: np.ndarray  # of the whole stem, in units
    before: np.ndarray  # of the stem up to this piece
    light: np.ndarray  # that the feather catches, 0 to 1


def _feathers(
    shape: tuple[int, int],
    scale: float,
    rng: np.random.Generator,
    *,
    spacing: float,
    length: float,
    spread: float,
    pitch: float,
) -> np.ndarray:
    """Grow feathers of ice, as float32 [H, W] from 0 where there are none to about 1.

    Args:
        shape: H and W, in pixels.
        scale: pixels to a unit of length.
        rng: the source of all randomness.
        spacing: of the seeds, in units.
        length: of a typical stem, in units.
        spread: width of half a feather at its root, relative to its stem's length.
        pitch: of the barbs along the stem, in units.
    """
    height, width = shape
    stems = _grow(height / scale, width / scale, rng, spacing, length)
    nearest, away = _nearest(stems, shape, scale)
    chances = rng.random(1 << 12, dtype=np.float32)
    wobble = smooth_noise(*shape, rng, cell=3 * pitch * scale, octaves=5)
    x = np.arange(width, dtype=np.float32) / scale
    result = np.empty(shape, np.float32)
    step = max(1, _FROST_BLOCK // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        numbers = nearest[rows]
        stem = _Stems(*(column[numbers] for column in stems))
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] / scale
        along = (x - stem.x) * stem.cos + (y - stem.y) * stem.sin + stem.before
        across = (y - stem.y) * stem.cos - (x - stem.x) * stem.sin
        # Barbs leave the stem at 60 degrees, on both sides: which one it is, and how far from its
        # middle, 0 between two and 1 on one.
        place = (along - 0.58 * np.abs(across)) / pitch + 0.35 * wobble[rows]
        barb = np.floor(place)
        ridge = 1 - np.abs(2 * (place - barb) - 1)
        # Each has a size of its own, from a table by as good as any number of it.
        mixed = barb.astype(np.int32) * 131 + numbers * 7919 + (across > 0) * np.int32(977)
        size = chances[mixed & (len(chances) - 1)]
        result[rows] = _shade(stem, along, across, away[rows], ridge, size, spread)
    return result


def _shade(
    stem: _Stems,
    along: np.ndarray,
    across: np.ndarray,
    away: np.ndarray,
    ridge: np.ndarray,
    size: np.ndarray,
    spread: float,
) -> np.ndarray:
    """Light the pixels of feathers, by where they are on stem and barb; lengths are in units."""
    ahead = np.clip(1.03 * stem.length - along, 0, stem.length)
    half = spread * ahead * (0.45 + 0.75 * size)
    solid = np.clip((half * (0.55 + 0.6 * ridge) - away) / 0.8 + 0.5, 0, 1)
    inner = np.clip(1 - away / np.maximum(half, 0.001), 0, 1)
    facing = np.sign(across) * (0.6 * stem.cos - 0.8 * stem.sin)  # light from above on one side
    rib = np.exp(-np.square(away / 0.6))
    barbs = ridge * (0.2 + 0.4 * size) * (0.5 + 0.5 * inner)
    return solid * (0.12 + 0.3 * stem.light + barbs + inner * (0.14 * facing + 0.3 * rib))


def _grow(
    height: float, width: float, rng: np.random.Generator, spacing: float, length: float
) -> _Stems:
    """Grow stems from seeds that are scattered evenly, up to one spacing beyond the edges."""
    rows, columns = math.ceil(height / spacing) + 2, math.ceil(width / spacing) + 2
    seeds = rows * columns
    row, column = np.divmod(np.arange(seeds), columns)
    x, y = (spacing * (cell - 1 + rng.random(seeds)) for cell in (column, row))
    heading, fan = rng.uniform(0, 2 * np.pi, seeds), rng.uniform(0.15, 1.6, seeds)
    size = length * np.exp(rng.normal(0, 0.35, seeds))
    stems = (seeds, _ARMS)
    angle = heading[:, None] + fan[:, None] * rng.standard_normal(stems)
    whole = size[:, None] * np.exp(rng.normal(0, 0.35, stems))
    bend = rng.normal(0, 0.06, stems)
    light = rng.random(stems)

    joint = np.arange(_JOINTS)
    angle = angle[..., None] + bend[..., None] * joint
    piece = whole[..., None] / _JOINTS
    cos, sin = np.cos(angle), np.sin(angle)
    values = (
        x[:, None, None] + piece * (np.cumsum(cos, -1) - cos),
        y[:, None, None] + piece * (np.cumsum(sin, -1) - sin),
        cos,
        sin,
        whole[..., None],
        piece * joint,
        light[..., None],
    )
    # What is drawn last lies on top: any order, so that no part of the pane has the upper hand.
    order = rng.permutation(angle.size)
    spread_out = (np.broadcast_to(value, angle.shape).ravel() for value in values)
    return _Stems(*(value[order].astype(np.float32) for value in spread_out))


def _nearest(stems: _Stems, shape: tuple[int, int], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Give the number of the piece of stem nearest to each pixel, and how far it is in units."""
    piece = stems.length / _JOINTS
    ends = (stems.x, stems.y, stems.x + piece * stems.cos, stems.y + piece * stems.sin)
    sixteenths = np.rint(np.stack(ends, axis=-1) * (16 * scale)).astype(int)
    drawn = np.zeros(shape, np.float32)  # with numbers from 1 on
    for number, (x0, y0, x1, y1) in enumerate(sixteenths.tolist(), start=1):
        cv2.line(drawn, (x0, y0), (x1, y1), number, 1, cv2.LINE_8, 4)
    bare = drawn == 0
    away, label = cv2.distanceTransformWithLabels(
        bare.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Labels count the pixels that are drawn on, in reading order and from 1 on.
    numbers = np.concatenate([[0], drawn[~bare] - 1]).astype(np.int32)
    away /= scale
    return numbers[label], away


def _plasma(side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Give a height map without seams as float32 [side, side] from 0 to 1; side: a power of 2."""
    heights = np.zeros((side, side), np.float32)
    swing = 1.0

    def fill(part: np.ndarray, one: np.ndarray, other: np.ndarray) -> None:
        """Put the mean of four neighbours, given as sums of two, and a random swing."""
        part[:] = rng.random(part.shape, dtype=np.float32)
        part -= 0.5
        part *= 2 * swing
        part += (one + other) / 4

    step = side
    while step > 1:
        half = step // 2
        corners, centres = heights[::step, ::step], heights[half::step, half::step]
        pairs = corners + np.roll(corners, -1, 0)
        fill(centres, pairs, np.roll(pairs, -1, 1))
        fill(
            heights[::step, half::step],
            corners + np.roll(corners, -1, 1),
            centres + np.roll(centres, 1, 0),
        )
        fill(
            heights[half::step, ::step],
            corners + np.roll(corners, -1, 0),
            centres + np.roll(centres, 1, 1),
        )
        step = half
        swing /= decay**2
    heights -= heights.min()
    heights /= heights.max()
    return heights


def _drops(wet: np.ndarray, brightest: float) -> np.ndarray:
    """Light drops from a side, by their distance from their outlines: float32 [H, W]."""
    levels = (np.clip(wet, 0, 1) * 255).astype(np.uint8)
    outlines = cv2.Canny(levels, 50, 150)
    distance = cv2.distanceTransform(255 - outlines, cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20, out=distance), (3, 3)).astype(np.uint8)
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
    lit = cv2.blur(cv2.filter2D(cv2.equalizeHist(distance), -1, relief), (3, 3))
    light = lit.astype(np.float32)
    light *= levels
    if peak := light.max():
        light *= brightest / peak
    return light


def _spots(wet: np.ndarray, sigma: float) -> np.ndarray:
    cover = smoothed(wet.astype(np.float32), sigma)
    cover[cover < 0.8] = 0
    return cover
