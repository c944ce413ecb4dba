"""What processing and encoding do to an image (ImageNet-C).

Definitions and severities are those of Hendrycks & Dietterich 2019, arXiv:1903.12261, as carried
over to images of any size by Michaelis et al. 2019, arXiv:1907.07484.
"""

from collections.abc import Iterator
from functools import reduce

import cv2
import numpy as np
from PIL import Image

from transforms import scratch
from transforms.colour import white
from transforms.degradations.apply import by_rows
from transforms.degradations.parameters import Number, Whole
from transforms.degradations.registry import Damaged, degradation

Tile = tuple[slice, slice]

# -- tone and colour -------------------------------------------------------------------------------


@degradation(amount=Number(-1, 1, (0.1, 0.2, 0.3, 0.4, 0.5)))
def brightness(pixels: np.ndarray, rng: np.random.Generator, *, amount: float) -> Damaged:
    """A constant added to the value of HSV, the largest of R, G and B: too bright, and burnt out.

    Hue and saturation stay, so that R, G and B grow in proportion; black turns gray.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        amount: on a scale where black is 0 and white is 1; below zero it darkens.
    """

    def brighter(unit: np.ndarray, rows: slice) -> np.ndarray:
        value = _largest(unit)
        moved = np.clip(value + np.float32(amount), 0, 1)
        black = value == 0
        unit *= moved / np.where(black, np.float32(1), value)
        return np.where(black, moved, unit)

    return Damaged(by_rows(pixels, brighter))


@degradation(factor=Number(0, 10, (0.4, 0.3, 0.2, 0.1, 0.05)))
def contrast(pixels: np.ndarray, rng: np.random.Generator, *, factor: float) -> Damaged:
    """Every channel drawn towards its mean over the image, as in haze or a washed-out copy.

    The mean colour of the image stays; differences from it shrink, of lightness and colour alike.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        factor: what is left of a sample's distance from the mean; above 1 it grows.
    """
    # Sums of whole numbers: exact, and the same in any order.
    total = pixels.sum(axis=0, dtype=np.uint64).sum(axis=0)
    height, width = pixels.shape[:2]
    mean = (total / (height * width * white(pixels.dtype))).astype(np.float32)

    def flatter(unit: np.ndarray, rows: slice) -> np.ndarray:
        unit -= mean
        unit *= np.float32(factor)
        unit += mean
        return unit

    return Damaged(by_rows(pixels, flatter))


@degradation(
    factor=Number(0, 100, (0.3, 0.1, 2, 5, 20)),
    offset=Number(-1, 1, (0, 0, 0, 0.1, 0.2)),
)
def saturate(
    pixels: np.ndarray, rng: np.random.Generator, *, factor: float = 2.0, offset: float = 0.0
) -> Damaged:
    """The saturation of HSV times a factor and plus an offset: colours faded, or garish.

    As published, severities 1 and 2 take colour away and 3 to 5 add it, so that on a colourful
    photograph 3 and above may do less damage than 2. Neutral pixels of a colour image have the hue
    of red, and an offset lets it show; gray images stay as they are.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        factor: below 1 for paler, above 1 for stronger colours.
        offset: added after that, on a scale where 1 is a pure colour.
    """
    if pixels.shape[-1] == 1:
        return Damaged(pixels)

    def coloured(unit: np.ndarray, rows: slice) -> np.ndarray:
        # In whole levels, of which float32 tells the smallest difference exactly.
        levels = pixels[rows].astype(np.float32)
        value = _largest(levels)
        spread = value + _largest(-levels)
        saturation = spread / np.maximum(value, 1)
        saturation = np.clip(saturation * np.float32(factor) + np.float32(offset), 0, 1)
        # How far each channel is on the way from the largest one, 0, to the smallest one, 1.
        way = (value - levels) / np.maximum(spread, 1)
        way[..., 1:] += spread == 0
        return value * (1 - saturation * way) / np.float32(white(pixels.dtype))

    return Damaged(by_rows(pixels, coloured))


def _largest(values: np.ndarray) -> np.ndarray:
    """Give the largest channel of [H, W, C] as [H, W, 1]."""
    # Several times as fast as a maximum over an axis of three.
    return reduce(np.maximum, (values[..., c : c + 1] for c in range(values.shape[-1])))


# -- geometry --------------------------------------------------------------------------------------

_TILE = 1024  # pixels a side that are warped at a time; OpenCV warps no side beyond 32,767
_FINE = 4  # points of the field to a sigma of its smoothing, at least: more change nothing


@degradation(alpha=Number(0, 100, (12.5, 16.25, 21.25, 25, 30)))
def elastic_transform(pixels: np.ndarray, rng: np.random.Generator, *, alpha: float) -> Damaged:
    """Every pixel displaced by a smooth random field, as in a wet print or a warped film.

    Both components of the displacement are white noise, uniform within 0.5 % of the height,
    smoothed by a Gaussian of 1 % of each side and multiplied by alpha (after Simard et al. 2003,
    doi:10.1109/ICDAR.2003.1227801). On a square image of any size, each is 0.08 pixels RMS for
    every unit of alpha.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        alpha: scale of the displacement, and nothing else: the field is the same at all severities.
    """
    height, width = pixels.shape[:2]
    field = _displacements(height, width, rng) * np.float32(alpha)
    result = scratch.empty_like(pixels)
    for tile in _tiles((height, width), _TILE):
        result[tile] = _displaced(pixels, tile, _stretched(field, (height, width), tile))
    return Damaged(result)


def _displacements(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth field of x and y at alpha 1, float32 [h, w, 2].

    Its points are as far apart as its smoothing allows, so that the field of a scan is no larger
    than that of a thumbnail; below 800 pixels a side, there is one to each pixel.
    """
    sigmas = 0.01 * height, 0.01 * width
    pitch = [max(1, int(sigma / _FINE)) for sigma in sigmas]
    shape = -(-height // pitch[0]), -(-width // pitch[1])
    # The sigma of a mean over a cell of the grid, as much below that of its pixels.
    amplitude = np.float32(0.005 * height / np.sqrt(pitch[0] * pitch[1]))
    field = np.empty((*shape, 2), np.float32)
    sigma_y, sigma_x = (sigma / step for sigma, step in zip(sigmas, pitch, strict=True))
    kernel = 2 * int(3 * sigma_x + 0.5) + 1, 2 * int(3 * sigma_y + 0.5) + 1
    for component in range(2):
        noise = amplitude * (2 * rng.random(shape, dtype=np.float32) - 1)
        field[..., component] = cv2.GaussianBlur(
            noise, kernel, sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REFLECT
        )
    return field


def _stretched(field: np.ndarray, shape: tuple[int, int], tile: Tile) -> np.ndarray:
    """Interpolate a field over the pixels of a tile of an image, float32 [h, w, 2]."""
    y, x = (
        ((np.arange(span.start, span.stop) + 0.5) * (cells / side) - 0.5).astype(np.float32)
        for span, cells, side in zip(tile, field.shape[:2], shape, strict=True)
    )
    across, down = np.meshgrid(x, y)
    return cv2.remap(field, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _displaced(pixels: np.ndarray, tile: Tile, displacement: np.ndarray) -> np.ndarray:
    """Give the pixels of a tile as seen displaced, the image being mirrored at its borders."""
    reach = int(np.abs(displacement).max()) + 2
    rows, columns = (slice(max(0, span.start - reach), span.stop + reach) for span in tile)
    # Positions in what is cut out, which are small enough for float32 to tell them apart.
    y = np.arange(tile[0].start, tile[0].stop, dtype=np.float32)[:, None] - rows.start
    x = np.arange(tile[1].start, tile[1].stop, dtype=np.float32) - columns.start
    seen = cv2.remap(
        pixels[rows, columns],
        displacement[..., 0] + x,
        displacement[..., 1] + y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return seen.reshape(*displacement.shape[:2], -1)


def _tiles(shape: tuple[int, int], side: int) -> Iterator[Tile]:
    """Cut an image into tiles of a side at most."""
    height, width = shape
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


# -- resolution ------------------------------------------------------------------------------------


@degradation(scale=Number(0, 1, (0.6, 0.5, 0.4, 0.3, 0.25)))
def pixelate(pixels: np.ndarray, rng: np.random.Generator, *, scale: float) -> Damaged:
    """A small copy enlarged without interpolation, so that its pixels show as blocks.

    A pixel of the copy is the mean of the area it stands for. Where blocks do not divide the
    image, they differ in size by a pixel.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        scale: of the copy, whose sides are cut to whole pixels, at least one.
    """
    height, width = pixels.shape[:2]
    small = max(1, int(width * scale)), max(1, int(height * scale))
    # Pillow averages 16 bits as floats alone.
    kind = np.float32 if pixels.dtype == np.uint16 else np.uint8
    result = scratch.empty_like(pixels)
    for channel in range(pixels.shape[-1]):
        plane = Image.fromarray(pixels[..., channel].astype(kind))
        blocks = np.round(np.asarray(plane.resize(small, Image.Resampling.BOX)))
        enlarged = Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)
        result[..., channel] = np.asarray(enlarged)
    return Damaged(result)


# -- compression -----------------------------------------------------------------------------------

_JPEG_SIDE = 65_488  # the most whole blocks of chroma, of 16 pixels, that a JPEG holds a side


@degradation("jpeg_compression", quality=Whole(1, 100, (25, 18, 15, 10, 7)))
def jpeg(pixels: np.ndarray, rng: np.random.Generator, *, quality: int) -> Damaged:
    """A round trip through baseline JPEG, with 4:2:0 chroma.

    JPEG holds 8 bits: 16-bit images lose the rest here, as they do in a JPEG. It holds 65,500
    pixels a side, too: a longer image goes through several.
    """
    result = scratch.empty_like(pixels)
    height, width = pixels.shape[:2]
    for tile in _tiles((height, width), _JPEG_SIDE):
        result[tile] = _jpeg(pixels[tile], quality)
    return Damaged(result)


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    eight = pixels
    if pixels.dtype == np.uint16:
        eight = (pixels // 257 + (pixels % 257 > 128)).astype(np.uint8)
    if eight.shape[-1] == 3:
        eight = cv2.cvtColor(eight, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"JPEG cannot hold an image of shape {pixels.shape}")
    mode = cv2.IMREAD_COLOR_RGB if pixels.shape[-1] == 3 else cv2.IMREAD_GRAYSCALE
    decoded = np.asarray(cv2.imdecode(data, mode)).reshape(pixels.shape)
    return decoded if pixels.dtype == np.uint8 else decoded.astype(np.uint16) * 257
