"""What taking, printing, copying and scanning leave in a picture."""

import functools
import math

import cv2
import numpy as np

from transforms.colour import encoded, linear, luma
from transforms.degradations.apply import by_channel, by_rows
from transforms.degradations.parameters import Choice, Number
from transforms.degradations.registry import Damaged, degradation
from transforms.degradations.texture import line_noise, smooth_noise


@degradation("vignette", stops=Number(0, 8, (0.6, 1.1, 1.7, 2.4, 3.2)))
def vignetting(pixels: np.ndarray, rng: np.random.Generator, *, stops: float) -> Damaged:
    """Light falls off from the middle to the corners, by the cosine-fourth law.

    A lens lights a point of the film at an angle t to its axis with cos(t)**4 of what falls in the
    middle: tan(t) is the point's distance from the axis over the focal length. A 50 mm lens loses
    half a stop in the corners of 35 mm film, a 28 mm lens 1.35, and the barrel of an old lens adds
    to it. The axis is up to 6 percent of each side off the middle. Severity 1 is a normal lens
    wide open; at 5 the corners get a ninth of the light, as in pinhole and toy cameras.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        stops: light lost at a corner's distance from the axis, in powers of two.
    """
    height, width = pixels.shape[:2]
    middle = rng.uniform(0.44, 0.56, 2)
    corner = math.hypot(height, width) / 2
    # cos(t)**4 is (1 + tan(t)**2)**-2, and at the corner 2**-stops.
    steep = math.sqrt(2 ** (stops / 2) - 1) / corner
    down = _squared(height, middle[0] * height, steep)
    across = _squared(width, middle[1] * width, steep)

    def darkened(unit: np.ndarray, rows: slice) -> np.ndarray:
        fallen = 1 + down[rows, None] + across
        return encoded(linear(unit) / (fallen * fallen)[..., None])

    return Damaged(by_rows(pixels, darkened))


def _squared(length: int, middle: float, scale: float) -> np.ndarray:
    """Give the squared, scaled distances of a side's pixels from a point on it, as float32."""
    return np.square((np.arange(length) + 0.5 - middle) * scale).astype(np.float32)


@degradation(stops=Number(0, 8, (0.5, 0.9, 1.4, 2.0, 2.7)))
def uneven_lighting(pixels: np.ndarray, rng: np.random.Generator, *, stops: float) -> Damaged:
    """Light that comes from one side, as on a copy stand with one lamp.

    The light falls steadily from one edge or corner to the opposite, bent a little, as by the
    waves of a print that does not lie flat. Severity 1 leaves the far side somewhat dull; at 5 it
    gets a sixth of the light.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        stops: light lost from the brightest place to the darkest, in powers of two.
    """
    height, width = pixels.shape[:2]
    short = min(height, width)
    angle = rng.uniform(0, 2 * math.pi)
    tall, wide = math.sin(angle), math.cos(angle)
    span = abs(tall) + abs(wide)
    # From 0 in the corner next to the lamp to 1 in the opposite one.
    down = 0.5 + tall / span * _centred(height) + 0.05 * _profile(height, 0.6 * short, rng)
    across = wide / span * _centred(width) + 0.05 * _profile(width, 0.6 * short, rng)

    def lit(unit: np.ndarray, rows: slice) -> np.ndarray:
        away = np.clip(down[rows, None] + across, 0, 1)
        return encoded(linear(unit) * np.exp2(np.float32(-stops) * away)[..., None])

    return Damaged(by_rows(pixels, lit))


def _centred(length: int) -> np.ndarray:
    """Give the places of a side's pixels, float32, from -0.5 at one end to 0.5 at the other."""
    return ((np.arange(length) + 0.5) / length - 0.5).astype(np.float32)


@degradation(
    amount=Number(0, 1, (0.03, 0.05, 0.075, 0.105, 0.14)),
    size=Number(0.0005, 0.01),
    colour=Number(0, 1),
)
def film_grain(
    pixels: np.ndarray,
    rng: np.random.Generator,
    *,
    amount: float,
    size: float = 0.004,
    colour: float = 0.2,
) -> Damaged:
    """Grains of silver or clouds of dye: noise that has a size, and is strongest in mid-tones.

    A tone v is the share of the area that grains leave free. Where they fall independently, as in
    the model of Newson, Delon & Galerne 2017 (A Stochastic Film Grain Model for
    Resolution-Independent Rendering, Computer Graphics Forum), it varies as v (1 - v): pure black
    and white have no grain. Here it is a normal field of Gaussian correlation. Pixels larger than
    a grain average over several, and see less of it by Selwyn's law (deviation times the root of
    the area is constant), so that a thumbnail looks as its master does from afar. Severity 1 is a
    fine-grained film, 5 a pushed one, with detail going under.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        amount: standard deviation in a mid-gray, of [0, 1], where pixels are finer than grains.
        size: diameter of a grain as a share of the short side; at half of it the correlation is
            down to a half.
        colour: share of the variance that is each channel's own, and not common to all.
    """
    height, width, channels = pixels.shape
    sigma = size * min(height, width) / (4 * math.sqrt(math.log(2)))
    kernel = cv2.getGaussianKernel(2 * math.ceil(3 * sigma) + 1, sigma, cv2.CV_32F)
    kernel = kernel / np.sqrt(np.square(kernel).sum())  # keeps the variance of white noise
    margin = len(kernel) // 2
    shape = (height + 2 * margin, width + 2 * margin)
    scale = np.float32(2 * amount * _seen_by_pixels(sigma))
    own = np.float32(math.sqrt(colour if channels > 1 else 0))
    common = np.sqrt(1 - own * own) * rng.standard_normal(shape, dtype=np.float32)

    def grainy(unit: np.ndarray) -> np.ndarray:
        grain = common
        if own:
            grain = rng.standard_normal(shape, dtype=np.float32)
            grain *= own
            grain += common
        grain = cv2.sepFilter2D(grain, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
        grain = grain[margin : margin + height, margin : margin + width]
        grain *= scale
        grain *= np.sqrt(unit * (1 - unit))
        unit += grain
        return unit

    return Damaged(by_channel(pixels, grainy))


def _seen_by_pixels(sigma: float) -> float:
    """Give the deviation of square pixels' means in a field of unit variance.

    Args:
        sigma: of the field's Gaussian, in pixels; its correlation at distance d is
            exp(-d**2 / (4 sigma**2)), of which a pixel's mean sees the integral over all pairs of
            its points.
    """
    steep = 1 / (4 * sigma * sigma)
    root = math.sqrt(steep)
    return math.sqrt(math.pi) / root * math.erf(root) + math.expm1(-steep) / steep


# Degrees by which the screens of offset printing are turned, so that they beat least.
_CYAN, _MAGENTA, _YELLOW, _BLACK = 15, 75, 0, 45


@degradation(
    cell=Number(0.001, 0.2, (1 / 200, 1 / 150, 1 / 110, 1 / 80, 1 / 60)),
    contrast=Number(0, 1, (0.35, 0.48, 0.60, 0.72, 0.85)),
)
def halftone(
    pixels: np.ndarray, rng: np.random.Generator, *, cell: float, contrast: float
) -> Damaged:
    """A printed reproduction: dots of ink on a screen, large where the picture is dark.

    The dots cover the share of the paper that the tone asks for (Murray & Davies 1936), so that
    from afar the picture keeps its linear light. A gray image gets one black screen at 45 degrees,
    colour four: cyan 15, magenta 75, yellow 0 and black 45. Black stands in for the square of what
    the three have in common, and inks overlap by chance (Demichel's equations). The page lies up
    to 3 degrees askew, and the pixels average over what they see of the dots. Severity 1 is an art
    magazine, its screen softened by ink spread and optics; 5 a newspaper seen close to.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        cell: pitch of the screen as a share of the short side; never below two pixels.
        contrast: how much of the difference between ink and paper is left, 0 to 1.
    """
    height, width, channels = pixels.shape
    pitch = max(cell * min(height, width), 2.0)
    skew = rng.uniform(-3, 3)
    shifts = rng.random((4, 2))
    angles = (_BLACK,) if channels == 1 else (_BLACK, _CYAN, _MAGENTA, _YELLOW)
    screens = [
        _Screen(pitch, math.radians(angle + skew), shift)
        for angle, shift in zip(angles, shifts, strict=False)
    ]

    def printed(unit: np.ndarray, rows: slice) -> np.ndarray:
        light = linear(unit)
        # Not .max(axis=-1), which is far slower over so few.
        black = 1 - functools.reduce(np.maximum, np.moveaxis(light, -1, 0))
        if channels == 3:
            black *= black
        paper = 1 - screens[0].ink(black, rows)
        if channels == 1:
            page = paper[..., None]
        else:
            left = light / np.maximum(1 - black, np.float32(1e-6))[..., None]
            inks = [screens[1 + i].ink(1 - left[..., i], rows) for i in range(3)]
            page = (1 - np.stack(inks, axis=-1)) * paper[..., None]
        return encoded(light + np.float32(contrast) * (page - light))

    return Damaged(by_rows(pixels, printed))


class _Screen:
    """A square grid of round dots, which meet at their corners at half coverage."""

    # Points to a pixel's side at which the screen is looked at. Between them dots have soft edges.
    _POINTS = 2

    def __init__(self, pitch: float, angle: float, shift: np.ndarray) -> None:
        self._waves = (
            2 * math.pi / pitch * np.array([math.cos(angle), math.sin(angle)]),
            2 * math.pi / pitch * np.array([-math.sin(angle), math.cos(angle)]),
        )
        self._phases = 2 * math.pi * shift
        self._softness = math.pi / pitch / self._POINTS
        levels = _levels_by_coverage(self._softness) / self._softness + 0.5
        self._levels, self._steps = levels.astype(np.float32), np.diff(levels).astype(np.float32)

    def ink(self, coverage: np.ndarray, rows: slice) -> np.ndarray:
        """Give the share of ink in each pixel, float32, for the share that it should have."""
        width = coverage.shape[1]
        # As np.interp, which knows no float32 nor that the table is even.
        at = coverage * np.float32(len(self._steps))
        below = np.minimum(at.astype(np.int32), len(self._steps) - 1)
        level = self._levels[below] + (at - below) * self._steps[below]
        total = np.zeros_like(coverage)
        points = (np.arange(self._POINTS) + 0.5) / self._POINTS
        for down in points:
            for across in points:
                ramp = self._height(np.arange(rows.start, rows.stop) + down, width, across)
                np.subtract(level, ramp, out=ramp)
                total += np.clip(ramp, 0, 1, out=ramp)
        total *= np.float32(1 / self._POINTS**2)
        return total

    def _height(self, y: np.ndarray, width: int, across: float) -> np.ndarray:
        """Give the screen's spot function, the mean of two cosines, over its softness."""
        x = np.arange(width) + across
        total = np.zeros((len(y), width), np.float32)
        for (along_x, along_y), phase in zip(self._waves, self._phases, strict=True):
            # cos(a + b) by outer products, as a cosine for every pixel takes far longer.
            a, b = along_x * x, along_y * y + phase
            scale = 0.5 / self._softness
            for wave, sign in ((np.cos, scale), (np.sin, -scale)):
                column, row = (sign * wave(b)).astype(np.float32), wave(a).astype(np.float32)
                total += column[:, None] * row
        return total


@functools.lru_cache(maxsize=16)  # images of an archive are often of few sizes
def _levels_by_coverage(softness: float) -> np.ndarray:
    """Tabulate at which level to cut a screen for its dots to cover a share of the paper.

    Args:
        softness: width of the ramp from paper to ink, in units of the spot function.

    Returns:
        The levels for coverages evenly from 0 to 1.
    """
    wave = np.cos(np.pi * (np.arange(512) + 0.5) / 512)
    spot = np.sort((wave[:, None] + wave).ravel() / 2)
    # A ramp covers the mean, over its width, of the share of the screen that is lower.
    levels = np.linspace(-1 - softness, 1 + softness, 8193)
    lower = np.searchsorted(spot, levels) / spot.size
    integral = (np.cumsum(lower) - lower / 2) * (levels[1] - levels[0])
    upper = np.interp(levels + softness / 2, levels, integral)
    covered = (upper - np.interp(levels - softness / 2, levels, integral)) / softness
    end = 1 + softness / 2  # where paper ends to be bare, or ink to have gaps
    inner = np.abs(levels) < end
    table = np.interp(np.linspace(0, 1, 4097), covered[inner], levels[inner])
    table[[0, -1]] = -end, end
    return table


# Nanometres at which the channels of a scanner see most, and after how many fringes their
# bandwidth, about a tenth of that, has blurred them.
_WAVELENGTHS = (620, 540, 460)
_FRINGES = 9


@degradation(contrast=Number(0, 1, (0.06, 0.11, 0.17, 0.25, 0.35)))
def newton_rings(pixels: np.ndarray, rng: np.random.Generator, *, contrast: float) -> Damaged:
    """Rings of interference around the points where film touches the glass of a scanner.

    Light reflected at either side of the thin wedge of air between two surfaces meets itself, and
    is dimmed or doubled as the gap goes through multiples of half a wavelength. The gap grows with
    the square of the distance from the contact, so that the n-th ring lies at the root of n and
    rings crowd outwards. Red, green and blue (620, 540 and 460 nm) fall out of step, which colours
    the rings, and the bandwidth of each wipes them out after some nine. Film is not flat: the
    rings are bent. One point of contact has strong rings, two have weaker ones. Severity 1 shows
    in even skies only; 5 crosses everything. A gray image takes the luma of the rings.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        contrast: of the first rings around the strongest, as a share of the light.
    """
    height, width, channels = pixels.shape
    short = min(height, width)
    bends = smooth_noise(height, width, rng, cell=0.25 * short, octaves=3)
    contacts = [_Contact(height, width, strength, rng) for strength in (1.0, 0.7, 0.5)]

    def ringed(unit: np.ndarray, rows: slice) -> np.ndarray:
        bend = np.exp(np.float32(0.25) * bends[rows])
        change = np.zeros((*bend.shape, 3), np.float32)
        for contact in contacts:
            contact.add_rings(change, rows, bend)
        if channels == 1:
            change = luma(change)[..., None]
        return encoded(linear(unit) * np.maximum(1 - np.float32(contrast) * change, 0))

    return Damaged(by_rows(pixels, ringed))


class _Contact:
    """A point where film touches glass, in the middle of an elliptical wedge of air."""

    def __init__(self, height: int, width: int, strength: float, rng: np.random.Generator) -> None:
        first = rng.uniform(0.05, 0.08) * min(height, width)  # radius of the first green ring
        longer, angle = rng.uniform(1, 1.6), rng.uniform(0, math.pi)
        top, left = rng.random(2) * (height, width)
        y, x = np.arange(height)[:, None] + 0.5 - top, np.arange(width) + 0.5 - left
        cosine, sine = math.cos(angle) / first, math.sin(angle) / first
        # In units of the first ring, along the ellipse and across it.
        self._along = (
            (y * sine / longer).astype(np.float32),
            (x * cosine / longer).astype(np.float32),
        )
        self._across = (y * cosine).astype(np.float32), (x * -sine).astype(np.float32)
        self._strength = np.float32(strength)
        # Rings finer than pixels are averaged: n grows by 2 sqrt(n) / first from one to the next,
        # and a mean over a pixel is much like a Gaussian of variance 1/12.
        self._fineness = np.float32(2 * math.pi**2 / 3 / (first * first))

    def add_rings(self, change: np.ndarray, rows: slice, bend: np.ndarray) -> None:
        """Add the share of light that is missing to [len(rows), W, 3]."""
        (along_y, along_x), (across_y, across_x) = self._along, self._across
        order = np.square(along_y[rows] + along_x) + np.square(across_y[rows] + across_x)
        order *= bend
        fading = np.square(order / _FRINGES) + order * self._fineness
        seen = self._strength * np.exp(-fading)
        for channel, wavelength in enumerate(_WAVELENGTHS):
            change[..., channel] += seen * np.cos(
                np.float32(2 * math.pi * 540 / wavelength) * order
            )


@degradation(
    amount=Number(0, 1, (0.02, 0.035, 0.06, 0.10, 0.15)),
    direction=Choice(("vertical", "horizontal")),
)
def banding(
    pixels: np.ndarray, rng: np.random.Generator, *, amount: float, direction: str = "vertical"
) -> Damaged:
    """Streaks and bands of a line scanner: each element of the sensor has its own gain and offset.

    The line of elements passes over the picture, and what one sees too bright or too dark makes a
    streak: noise from element to element, slow stripes, and a few strong streaks from dust on the
    calibration strip. These are the photo response and dark signal non-uniformities of EMVA
    Standard 1288, for one line. Colour has a line for each channel, so that streaks are tinted.
    The lamp flickers, which makes faint bands across. All act on linear light. Severity 1 is seen
    in even areas; at 5 streaks are all over the picture.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        amount: standard deviation of the gain.
        direction: of the streaks: "vertical" or "horizontal".
    """
    height, width, channels = pixels.shape
    short = min(height, width)
    line, steps = (width, height) if direction == "vertical" else (height, width)
    gain = _sensor(line, short, rng)[:, None]
    if channels == 3:
        own = np.stack([_sensor(line, short, rng) for _ in range(3)], axis=-1)
        gain = (gain + own) * np.float32(math.sqrt(0.5))
    offset = np.stack([_profile(line, 0.002 * short, rng) for _ in range(channels)], axis=-1)
    lamp = _profile(steps, 0.03 * short, rng)[:, None, None]
    gain, offset, lamp = gain[None], np.float32(0.03) * offset[None], np.float32(0.25) * lamp
    if direction == "horizontal":
        gain, offset, lamp = (np.swapaxes(part, 0, 1) for part in (gain, offset, lamp))

    def scanned(unit: np.ndarray, rows: slice) -> np.ndarray:
        light = linear(unit)
        error = light * (_rows(gain, rows) + _rows(lamp, rows)) + _rows(offset, rows)
        return encoded(light + np.float32(amount) * error)

    return Damaged(by_rows(pixels, scanned))


def _sensor(length: int, short: int, rng: np.random.Generator) -> np.ndarray:
    """Give the errors of a line of elements, float32 of about unit variance."""
    errors = 0.6 * _profile(length, 0.002 * short, rng) + 0.6 * _profile(length, 0.1 * short, rng)
    # A panorama may be thousands of times as long as it is high.
    count = min(math.ceil(8 * length / short), 400)
    starts = rng.random(count) * length
    widths = rng.uniform(0.001, 0.006, count) * short
    depths = rng.standard_normal(count) * 2
    for start, width, depth in zip(starts, widths, depths, strict=True):
        # A streak that covers a part of a pixel counts in part.
        pixels = np.arange(int(start), min(math.ceil(start + width), length))
        covered = np.minimum(pixels + 1, start + width) - np.maximum(pixels, start)
        errors[pixels] += (depth * covered).astype(np.float32)
    return errors


def _profile(length: int, cell: float, rng: np.random.Generator) -> np.ndarray:
    """Give smooth noise along a line, of about one value a cell, as float32 [length]."""
    knots = math.ceil(length / max(cell, 1.0))
    return line_noise((np.arange(length) + 0.5) / length, rng, knots=knots, octaves=2)


def _rows(part: np.ndarray, rows: slice) -> np.ndarray:
    """Take rows of an array that has all of them, or one that stands for all."""
    return part if len(part) == 1 else part[rows]


@degradation(factor=Number(1, 64, (1.5, 2, 3, 4, 6)))
def low_resolution_copy(pixels: np.ndarray, rng: np.random.Generator, *, factor: float) -> Damaged:
    """A small copy of the picture, enlarged again: all that is left of many a lost original.

    Averaged over areas down to the size of the copy, as by a coarse scanner, and brought back to
    its own by bicubic interpolation, as by software, which leaves it soft and rings a little at
    edges. Severity 1 loses the finest detail; at 5 a face in a group is a few pixels.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        factor: by which the copy is smaller, on each side.
    """
    height, width = pixels.shape[:2]
    smaller = max(1, round(width / factor)), max(1, round(height / factor))
    copy = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(copy, (width, height), interpolation=cv2.INTER_CUBIC)
    return Damaged(enlarged.reshape(pixels.shape))
