"""What time and chemistry do to dyes, silver and paper."""

import numpy as np

from transforms.colour import encoded, from_unit, linear, luma, to_unit, white
from transforms.degradations.apply import by_level, by_rows
from transforms.degradations.parameters import Number
from transforms.degradations.registry import Damaged, degradation
from transforms.degradations.texture import smooth_noise

# A pixel of 0 stands for the deepest black that a glossy print holds, of optical density 2.2.
_DEEPEST = np.float32(10**-2.2)

# Density of aged paper and gelatin to red, green and blue light, relative to blue.
_STAIN = (0.10, 0.33, 1.0)

# Gamma-encoded sRGB of silver that has come to the surface, seen in diffuse light.
_SHEEN = (0.57, 0.62, 0.70)


@degradation(
    cyan=Number(0, 1, (0.15, 0.30, 0.44, 0.58, 0.72)),
    magenta=Number(0, 1, (0.06, 0.13, 0.20, 0.28, 0.37)),
    yellow=Number(0, 1, (0.07, 0.15, 0.24, 0.33, 0.43)),
)
def fade(
    pixels: np.ndarray, rng: np.random.Generator, *, cyan: float, magenta: float, yellow: float
) -> Damaged:
    """Dyes lose density, each its own share, as colour prints do in the dark.

    Every dye is taken to absorb one channel alone: cyan red, magenta green and yellow blue light.
    A share of its optical density (-log10 of linear light, from 0 in white to 2.2 in black) goes:
    whites stay, blacks turn to a coloured gray. By default cyan goes first and then yellow, which
    leaves the reddish prints of chromogenic paper kept in the dark (Wilhelm & Brower 1993, The
    Permanence and Care of Color Photographs, chapter 5). Tests of image stability commonly stop
    at a loss of 30 percent: cyan is there at severity 2, and has lost almost three quarters at 5.
    A gray image is silver, and loses the mean of the three.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        cyan: share of the cyan dye's density lost, 0 to 1.
        magenta: share of the magenta dye's density lost, 0 to 1.
        yellow: share of the yellow dye's density lost, 0 to 1.
    """
    return Damaged(_faded(pixels, (cyan, magenta, yellow)))


@degradation(
    cyan=Number(0, 1, (0.07, 0.14, 0.22, 0.31, 0.40)),
    magenta=Number(0, 1, (0.15, 0.30, 0.44, 0.58, 0.72)),
    yellow=Number(0, 1, (0.12, 0.24, 0.36, 0.48, 0.60)),
    border=Number(0, 0.5),
)
def light_fade(
    pixels: np.ndarray,
    rng: np.random.Generator,
    *,
    cyan: float,
    magenta: float,
    yellow: float,
    border: float = 0.05,
) -> Damaged:
    """Dyes lose density to light, but for a border that a window mat has kept in the dark.

    As `fade`, with the losses of a print on display, where magenta goes first and leaves a
    greenish picture (Wilhelm & Brower 1993, The Permanence and Care of Color Photographs,
    chapter 3). The mat's edge shows as a line between the faded window and the fresh border.
    Magenta has lost 15 percent of its density at severity 1, almost three quarters at 5.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        cyan: share of the cyan dye's density lost, 0 to 1.
        magenta: share of the magenta dye's density lost, 0 to 1.
        yellow: share of the yellow dye's density lost, 0 to 1.
        border: width covered by the mat as a share of the short side; each of the four is from
            none to twice as wide.
    """
    height, width = pixels.shape[:2]
    short = min(height, width)
    covered = 2 * border * short * rng.random(4)
    # Light creeps a little way under the mat.
    creep = max(0.008 * short, 1.0)
    down = _window(height, covered[0], covered[1], creep)
    across = _window(width, covered[2], covered[3], creep)
    faded = _faded(pixels, (cyan, magenta, yellow))

    def displayed(unit: np.ndarray, rows: slice) -> np.ndarray:
        lit = (down[rows, None] * across)[..., None]
        return unit + lit * (to_unit(faded[rows]) - unit)

    return Damaged(by_rows(pixels, displayed))


def _faded(pixels: np.ndarray, lost: tuple[float, ...]) -> np.ndarray:
    """Take shares of density from the channels; it is a tone curve, so levels are looked up."""
    channels = pixels.shape[-1]
    if channels == 1:
        lost = (sum(lost) / 3,)
    light = linear(to_unit(np.arange(white(pixels.dtype) + 1).astype(pixels.dtype)))
    reflectance = _DEEPEST + (1 - _DEEPEST) * light
    left = [reflectance ** np.float32(1 - lost[channel]) for channel in range(channels)]
    curves = [from_unit(encoded((one - _DEEPEST) / (1 - _DEEPEST)), pixels.dtype) for one in left]
    return by_level(pixels, curves)


def _window(length: int, before: float, after: float, reach: float) -> np.ndarray:
    """Give how much light falls on each pixel of a side, float32 0 under the mat to 1."""
    at = np.arange(length) + 0.5
    depth = np.minimum(at - before, length - after - at) / reach
    ramp = np.clip(depth + 1, 0, 1)
    return (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)


@degradation(density=Number(0, 2, (0.08, 0.16, 0.26, 0.40, 0.60)))
def yellowing(pixels: np.ndarray, rng: np.random.Generator, *, density: float) -> Damaged:
    """Paper, gelatin or albumen turns yellow: a stain over everything, more towards the edges.

    The stain is a density that is added to the picture's own, so that it multiplies linear light,
    and whites suffer most. It is high to blue light, a third of that to green and a tenth to red,
    as in the whites of old prints, with clouds, and half as strong again at the very edge, where
    air gets in. Severity 1 is an ivory that only fresh paper beside it would give away; 3 is the
    cream of an old album; 5 is a brown that takes three quarters of the blue. A gray image takes
    the luma of the stain.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        density: of the stain to blue light, on average away from the edges.
    """
    height, width, channels = pixels.shape
    short = min(height, width)
    clouds = smooth_noise(height, width, rng, cell=0.25 * short, octaves=5)

    def stained(unit: np.ndarray, rows: slice) -> np.ndarray:
        near = np.exp(_to_edge(rows, height, width) * np.float32(-1 / 0.06))
        amount = np.clip(1 + 0.5 * near + 0.12 * clouds[rows], 0, None)
        # exp is several times as fast as a power of ten.
        passed = [np.exp(amount * np.float32(-np.log(10) * density * share)) for share in _STAIN]
        through = np.stack(passed, axis=-1)
        if channels == 1:
            through = luma(through)[..., None]
        return encoded(linear(unit) * through)

    return Damaged(by_rows(pixels, stained))


@degradation(
    strength=Number(0, 1, (0.20, 0.35, 0.50, 0.68, 0.88)),
    reach=Number(0, 1, (0.05, 0.07, 0.09, 0.12, 0.16)),
)
def silver_mirroring(
    pixels: np.ndarray, rng: np.random.Generator, *, strength: float, reach: float
) -> Damaged:
    """A bluish metallic sheen over the darks, strongest at the edges of the print.

    Where air and moisture get at a silver image, silver ions wander to the surface and are
    reduced there to a mirror of fine particles. It starts from the edges (Di Pietro & Ligterink
    2002, Journal of the American Institute for Conservation 41(2)) and lies where there was most
    silver, in the darks (Weaver 2008, A Guide to Fiber-Base Gelatin Silver Print Condition and
    Deterioration). Here it covers the darks with a blue-gray that grows with darkness, falls off
    from each edge at its own rate and is patchy. Severity 1 is a breath along the edges; at 5 the
    dark edges are silver, and patches reach into the picture. A gray image takes the sheen's luma.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        strength: how much of a black at the edge is covered, 0 to 1.
        reach: distance from the edge, as a share of the short side, within which the sheen falls
            to about a third.
    """
    height, width, channels = pixels.shape
    short = min(height, width)
    # A print in a stack or an album is not open to the air at all four edges alike.
    sides = tuple(rng.uniform(0.6, 1.8, 4))
    patches = smooth_noise(height, width, rng, cell=0.25 * short, octaves=8, persistence=0.6)
    sheen = np.array(_SHEEN, np.float32)
    if channels == 1:
        sheen = luma(sheen)[None]

    def mirrored(unit: np.ndarray, rows: slice) -> np.ndarray:
        away = _to_edge(rows, height, width, sides)
        uneven = patches[rows]
        front = away * np.exp(np.float32(-0.25) * uneven) / np.float32(max(reach, 1e-3))
        near = np.exp(-(front**2)) * np.float32(0.8) + np.exp(-front) * np.float32(0.2)
        patchy = np.clip(0.85 + 0.15 * uneven, 0, 1)
        dark = 1 - (luma(unit) if channels == 3 else unit[..., 0])
        cover = np.float32(strength) * near * patchy * dark * np.sqrt(dark)
        return unit + cover[..., None] * (sheen - unit)

    return Damaged(by_rows(pixels, mirrored))


def _to_edge(
    rows: slice, height: int, width: int, stretch: tuple[float, ...] = (1, 1, 1, 1)
) -> np.ndarray:
    """Give the distance of pixels to the nearest edge, relative to the short side.

    Args:
        rows: which.
        height: of the image, in pixels.
        width: of the image, in pixels.
        stretch: multiplies the distances to top, bottom, left and right.

    Returns:
        float32 [len(rows), width].
    """
    down = np.arange(rows.start, rows.stop) + 0.5
    across = np.arange(width) + 0.5
    vertical = np.minimum(down * stretch[0], (height - down) * stretch[1])
    horizontal = np.minimum(across * stretch[2], (width - across) * stretch[3])
    nearest = np.minimum(vertical[:, None], horizontal)
    return (nearest / min(height, width)).astype(np.float32)
