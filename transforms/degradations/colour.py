"""Loss of colour: what printing, storage and conversion make of it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from transforms.colour import (
    encoded,
    from_lab,
    from_unit,
    lab,
    linear,
    luma,
    luminance,
    to_unit,
    white,
    with_channels,
)
from transforms.degradations.apply import by_level, by_rows
from transforms.degradations.parameters import Choice, Number, Whole
from transforms.degradations.registry import Damaged, degradation

_CHANNELS = ("red", "green", "blue")
_PIXELS = 1 << 20  # looked at together


def _by_level(pixels: np.ndarray, curves: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Run a function of a channel's level alone, once for every level there is.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        curves: takes all levels as float64 [L, 1], 0 black to 1 white, and gives [L, 1 or C].
    """
    levels = np.linspace(0, 1, white(pixels.dtype) + 1)[:, None]
    tables = from_unit(curves(levels), pixels.dtype).T
    return by_level(pixels, list(np.broadcast_to(tables, (pixels.shape[-1], levels.size))))


def _rounded(values: np.ndarray, steps: int) -> np.ndarray:
    return np.rint(values * steps) / steps


def _bt709(unit: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(unit, -1, 0)
    return np.float32(0.2126) * red + np.float32(0.7152) * green + np.float32(0.0722) * blue


_GRAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "bt601": luma,
    "bt709": _bt709,
    "lightness": lambda unit: encoded(luminance(unit)),
    "average": lambda unit: unit.mean(axis=-1),
    "red": lambda unit: unit[..., 0],
    "green": lambda unit: unit[..., 1],
    "blue": lambda unit: unit[..., 2],
}


@degradation(by=Choice(tuple(_GRAYS)))
def grayscale(pixels: np.ndarray, rng: np.random.Generator, *, by: str = "bt601") -> Damaged:
    """Colour to one channel of gray.

    Colours that look alike in gray depend on the way there: black-and-white film, and each
    channel of a scan, saw them otherwise than the eye does. A neutral colour keeps its level in
    all of these.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        by: bt601 or bt709, luma by the weights of ITU-R BT.601-7 or BT.709-6; lightness, the gray
            of the same CIE L* (and so of the same luminance); average, the mean of the channels;
            red, green or blue, that channel alone, as through a filter of its colour.
    """
    if pixels.shape[-1] == 1:
        return Damaged(pixels)
    return Damaged(by_rows(pixels, lambda unit, rows: _GRAYS[by](unit)[..., None]))


# Optical density that a cast adds to red, green and blue, where it adds 1 at most. Warm is what
# CIE illuminant A looks like beside D65: 0.9 less of blue and 0.35 less of green than of red.
_CASTS = {
    "warm": (0.0, 0.4, 1.0),
    "cool": (1.0, 0.6, 0.0),
    "green": (1.0, 0.0, 1.0),
    "magenta": (0.0, 1.0, 0.0),
}


@degradation(
    "color_cast",
    density=Number(0, 1, (0.05, 0.1, 0.2, 0.3, 0.5)),
    towards=Choice(("any", *_CASTS)),
)
def colour_cast(
    pixels: np.ndarray, rng: np.random.Generator, *, density: float, towards: str = "any"
) -> Damaged:
    """A cast over the whole picture, as of another light or of dyes out of balance.

    Each channel is multiplied in linear light, as by a colour filter, and all together so that
    gray keeps about its luminance. Severities are the densities of Kodak's colour compensating
    filters CC05, CC10, CC20, CC30 and CC50; tungsten light on daylight film is a warm cast of
    0.9. A gray image stays as it is.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        density: optical density between the channel that the cast weakens most and the one that
            it weakens least.
        towards: warm and cool are along the colours of glowing bodies; any is a hue at random.
    """
    if pixels.shape[-1] == 1:
        return Damaged(pixels)
    absorbed = _any_cast(rng) if towards == "any" else _CASTS[towards]
    # Powers of the density, about a mean weighted by luminance, move each channel one way only:
    # a denser cast is further from the original everywhere.
    mean = 0.2126 * absorbed[0] + 0.7152 * absorbed[1] + 0.0722 * absorbed[2]
    gains = np.array([10 ** ((mean - each) * density) for each in absorbed])
    return Damaged(_by_level(pixels, lambda levels: encoded(linear(levels) * gains)))


def _any_cast(rng: np.random.Generator) -> tuple[float, ...]:
    angle = rng.uniform(0, 2 * math.pi)
    mixed = [
        math.cos(angle) * warm + math.sin(angle) * magenta
        for warm, magenta in zip(_CASTS["warm"], _CASTS["magenta"], strict=True)
    ]
    return tuple((each - min(mixed)) / (max(mixed) - min(mixed)) for each in mixed)


@degradation(amount=Number(0, 1, (0.2, 0.4, 0.6, 0.8, 1)), channel=Choice(("any", *_CHANNELS)))
def channel_loss(
    pixels: np.ndarray, rng: np.random.Generator, *, amount: float, channel: str = "any"
) -> Damaged:
    """One colour channel weakened or lost, as by a failing tube, cable or separation negative.

    Its encoded values are scaled down to black. At severity 1 it has lost a fifth of its signal,
    at severity 5 all. A gray image stays as it is.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        amount: share of the signal that is lost.
        channel: which one; any is one at random.
    """
    if pixels.shape[-1] == 1:
        return Damaged(pixels)
    lost = int(rng.integers(3)) if channel == "any" else _CHANNELS.index(channel)
    gains = np.ones(3)
    gains[lost] = 1 - amount
    return Damaged(_by_level(pixels, lambda levels: levels * gains))


@degradation(order=Choice(("bgr", "rbg", "grb", "gbr", "brg")))
def swap_channels(pixels: np.ndarray, rng: np.random.Generator, *, order: str = "bgr") -> Damaged:
    """Colour channels in the wrong order, as when a file is read as of another format.

    A gray image stays as it is.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        order: which channels are shown as red, green and blue: "gbr" shows green as red, blue as
            green and red as blue.
    """
    if pixels.shape[-1] == 1:
        return Damaged(pixels)
    return Damaged(np.take(pixels, ["rgb".index(each) for each in order], axis=-1))


@degradation(
    amount=Number(0, 0.99, (0.06, 0.14, 0.25, 0.4, 0.6)),
    channels=Choice(("apart", "together")),
)
def clip_channels(
    pixels: np.ndarray, rng: np.random.Generator, *, amount: float, channels: str = "apart"
) -> Damaged:
    """Highlights blown and shadows blocked, the rest stretched over the whole range.

    What levels set too tight leave at the scanner, in storage and in transmission. Severity 2 is
    as a picture of full range comes out of a decoder that takes it for the studio range of ITU-R
    BT.601 (16 to 235): 14 % of the levels are lost. At severity 1 only the brightest highlights
    and the deepest shadows go, at severity 5 three fifths of the range.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: the source of all randomness.
        amount: share of the range that is lost, a quarter to three quarters of it at each end.
        channels: apart, so that each is clipped at its own points and highlights and shadows take
            on colours; or together.
    """
    ends = rng.uniform(0.25, 0.75, 3)
    kept = ends[: pixels.shape[-1] if channels == "apart" else 1]
    # Levels move away from the one that is in its place for any amount: more is worse everywhere.
    return Damaged(_by_level(pixels, lambda levels: kept + (levels - kept) / (1 - amount)))


@degradation("posterize", bits=Whole(1, 16, (6, 5, 4, 3, 2)))
def bit_depth(pixels: np.ndarray, rng: np.random.Generator, *, bits: int) -> Damaged:
    """Channels rounded to the levels of fewer bits.

    The levels are equally far apart, black and white among them: as many bits as early frame
    buffers and displays had, or what is left of a picture that was edited too often. At severity
    1 skies have steps, at severity 5 each channel has four levels.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        bits: of each channel; no fewer than the image's own leave it as it is.
    """
    return Damaged(_by_level(pixels, lambda levels: _rounded(levels, 2**bits - 1)))


_DITHERS = {"none": Image.Dither.NONE, "floyd_steinberg": Image.Dither.FLOYDSTEINBERG}


@degradation(colours=Whole(2, 256, (128, 64, 32, 16, 8)), dither=Choice(tuple(_DITHERS)))
def palette(
    pixels: np.ndarray, rng: np.random.Generator, *, colours: int, dither: str = "none"
) -> Damaged:
    """A few colours chosen for the picture, as a GIF or a PNG with a palette has.

    They are chosen by median cut (Heckbert 1982, "Color image quantization for frame buffer
    display"), of a gray image as gray levels; each pixel becomes the nearest of them by its
    distance in RGB, or a pattern of them by error diffusion (Floyd & Steinberg 1976), to within
    4 levels of the nearest. Palettes hold 8 bits a channel: 16-bit images lose the rest here.
    Severity 1 leaves 128 colours, which shows in skies, severity 5 leaves 8.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        colours: at most.
        dither: none or floyd_steinberg.
    """
    eight = pixels
    if pixels.dtype == np.uint16:
        eight = cv2.convertScaleAbs(pixels, alpha=1 / 257).reshape(pixels.shape)
    chosen = _median_cut(eight, colours)
    index = _nearest(eight, chosen) if dither == "none" else _diffused(eight, chosen)
    if pixels.dtype == np.uint16:
        chosen = chosen.astype(np.uint16) * 257
    return Damaged(np.take(chosen, index, axis=0))


def _image(eight: np.ndarray) -> Image.Image:
    return Image.fromarray(eight[..., 0] if eight.shape[-1] == 1 else eight)


def _median_cut(eight: np.ndarray, colours: int) -> np.ndarray:
    """Choose at most so many colours, uint8 [N, C], by some 250 thousand of the pixels at most."""
    apart = math.ceil(math.sqrt(eight.shape[0] * eight.shape[1] / (1 << 18)))
    sample = _image(np.ascontiguousarray(eight[::apart, ::apart]))
    quantised = sample.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    chosen = np.array(quantised.getpalette(), np.uint8).reshape(-1, 3)
    used = np.flatnonzero(quantised.histogram())
    return chosen[used, : eight.shape[-1]]


def _nearest(eight: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Give the index of the nearest chosen colour, uint8 [H, W]."""
    # Pillow's own search takes colours that differ by less than 4 for the same.
    height, width, channels = eight.shape
    step = max(1, _PIXELS // width)
    strips = [slice(top, top + step) for top in range(0, height, step)]
    present = np.zeros(256**channels, bool)
    for rows in strips:
        present[_codes(eight[rows])] = True
    codes = np.flatnonzero(present)
    parts = [(codes >> 8 * channel).astype(np.uint8) for channel in range(channels)]
    _, found = cv2.batchDistance(
        np.stack(parts, axis=-1), chosen, cv2.CV_32S, normType=cv2.NORM_L2SQR, K=1
    )
    nearest = np.zeros(256**channels, np.uint8)
    nearest[codes] = found[:, 0]
    return np.concatenate([nearest[_codes(eight[rows])] for rows in strips])


def _codes(eight: np.ndarray) -> np.ndarray:
    """Give one number for each colour."""
    codes = eight[..., 0].astype(np.intp)
    for channel in range(1, eight.shape[-1]):
        codes |= eight[..., channel].astype(np.intp) << 8 * channel
    return codes


def _diffused(eight: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    holder = Image.new("P", (1, 1))
    holder.putpalette(np.repeat(chosen, 3 // chosen.shape[-1], axis=-1).tobytes())
    # As RGB: Pillow leaves gray images out of the palette that it is given.
    image = _image(eight).convert("RGB")
    dithered = image.quantize(palette=holder, dither=Image.Dither.FLOYDSTEINBERG)
    return np.asarray(dithered)


# -- conversion ------------------------------------------------------------------------------------


def _to_ycbcr(unit: np.ndarray) -> np.ndarray:
    light = luma(unit)
    blueness = (unit[..., 2] - light) / np.float32(1.772)
    redness = (unit[..., 0] - light) / np.float32(1.402)
    return np.stack([light, blueness, redness], axis=-1)


def _from_ycbcr(planes: np.ndarray) -> np.ndarray:
    light, blueness, redness = np.moveaxis(planes, -1, 0)
    red = np.float32(1.402) * redness
    green = np.float32(-0.114 * 1.772 / 0.587) * blueness
    green += np.float32(-0.299 * 1.402 / 0.587) * redness
    blue = np.float32(1.772) * blueness
    return np.stack([light + red, light + green, light + blue], axis=-1)


_LAB = np.array([100, 255, 255], np.float32)


def _to_lab(unit: np.ndarray) -> np.ndarray:
    return lab(unit) / _LAB


def _from_lab(planes: np.ndarray) -> np.ndarray:
    return encoded(from_lab(planes * _LAB))


def _to_hsv(unit: np.ndarray) -> np.ndarray:
    hue, saturation, value = np.moveaxis(cv2.cvtColor(unit, cv2.COLOR_RGB2HSV), -1, 0)
    hue = hue * np.float32(math.pi / 180)
    return np.stack([value, saturation * np.cos(hue), saturation * np.sin(hue)], axis=-1)


def _from_hsv(planes: np.ndarray) -> np.ndarray:
    hue, saturation = _polar(planes[..., 1:])
    hue *= np.float32(180 / math.pi)
    return cv2.cvtColor(np.stack([hue, saturation, planes[..., 0]], axis=-1), cv2.COLOR_HSV2RGB)


def _polar(chroma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give hue, 0 to 2 pi, and saturation."""
    across, along = chroma[..., 0], chroma[..., 1]
    hue = np.arctan2(along, across) % np.float32(2 * math.pi)
    return hue, np.minimum(np.hypot(across, along), 1)


def _signed(chroma: np.ndarray, bits: int, steps: int) -> np.ndarray:
    """Round to codes about 2^(bits - 1), of which there is one fewer above than below."""
    half = 2 ** (bits - 1)
    return np.clip(_rounded(chroma, steps), -half / steps, (half - 1) / steps)


def _full_codes(chroma: np.ndarray, bits: int) -> np.ndarray:
    return _signed(chroma, bits, 2**bits - 1)


def _studio_codes(chroma: np.ndarray, bits: int) -> np.ndarray:
    return _signed(chroma, bits, 224 * 2**bits // 256)


def _polar_codes(chroma: np.ndarray, bits: int) -> np.ndarray:
    """Round hue to 2^bits directions and saturation to as many levels."""
    hue, saturation = _polar(chroma)
    sector = np.float32(2 * math.pi / 2**bits)
    hue = np.rint(hue / sector) * sector
    saturation = _rounded(saturation, 2**bits - 1)
    return np.stack([saturation * np.cos(hue), saturation * np.sin(hue)], axis=-1)


class _Space(NamedTuple):
    """A colour space as a plane of light, 0 to 1, and two of chroma, about 0; and its codes."""

    planes: Callable[[np.ndarray], np.ndarray]
    colours: Callable[[np.ndarray], np.ndarray]
    chroma: Callable[[np.ndarray, int], np.ndarray]
    light: Callable[[int], int] = lambda bits: 2**bits - 1


_SPACES = {
    "hsv": _Space(_to_hsv, _from_hsv, _polar_codes),
    "yuv": _Space(_to_ycbcr, _from_ycbcr, _studio_codes, lambda bits: 219 * 2**bits // 256),
    "ycbcr": _Space(_to_ycbcr, _from_ycbcr, _full_codes),
    "lab": _Space(_to_lab, _from_lab, _full_codes),
}
_SUBSAMPLING = {"444": (1, 1), "422": (1, 2), "420": (2, 2)}  # pixels down and across


@degradation(
    bits=Whole(2, 16, (7, 6, 5, 4, 3)),
    space=Choice(tuple(_SPACES)),
    subsampling=Choice(tuple(_SUBSAMPLING)),
)
def conversion(
    pixels: np.ndarray,
    rng: np.random.Generator,
    *,
    bits: int = 8,
    space: str = "ycbcr",
    subsampling: str = "444",
) -> Damaged:
    """A round trip through another colour space, whose channels are stored in few bits.

    At 8 bits this is what most software does between formats, and colours move by a level or
    more; with fewer, as after editing in such a space, hues break up before lightness does. Gray
    stays neutral in all of the spaces. At severity 1 smooth shades begin to change hue in steps,
    at severity 5 a few blotches of colour are left.

    Args:
        pixels: uint8 or uint16 [H, W, C].
        rng: not used.
        bits: of each stored channel.
        space: hsv, the hexcone of Smith 1978, with 2^bits hues; yuv, the studio range of digital
            video (ITU-R BT.601-7: of 8 bits, 219 steps of luma and 224 of chroma); ycbcr, the full
            range of JPEG (ITU-T T.871); lab, CIE L*a*b* (D65) as 8-bit files hold it, L* over the
            whole range and a*, b* in steps of 1 about 128.
        subsampling: of chroma, averaged over two pixels across (422) or also down (420) and
            enlarged bilinearly; in hsv, hue and saturation are averaged as one vector.
    """
    chosen = _SPACES[space]
    reduction = _SUBSAMPLING[subsampling]
    shared = None
    if subsampling != "444" and pixels.shape[-1] == 3:
        shared = chosen.chroma(_averaged_chroma(pixels, chosen.planes, *reduction), bits)

    def converted(unit: np.ndarray, rows: slice) -> np.ndarray:
        planes = chosen.planes(with_channels(unit, 3))
        planes[..., 0] = _rounded(planes[..., 0], chosen.light(bits))
        if shared is None:
            planes[..., 1:] = chosen.chroma(planes[..., 1:], bits)
        else:
            planes[..., 1:] = _enlarged(shared, rows, unit.shape[1], *reduction)
        return chosen.colours(planes)[..., : unit.shape[-1]]

    return Damaged(by_rows(pixels, converted))


def _averaged_chroma(
    pixels: np.ndarray, planes: Callable[[np.ndarray], np.ndarray], down: int, across: int
) -> np.ndarray:
    """Give float32 [H / down, W / across, 2], the last column and row repeated where needed."""
    height, width = pixels.shape[:2]
    step = max(1, _PIXELS // 4 // width) * down
    parts = []
    for top in range(0, height, step):
        chroma = planes(to_unit(pixels[top : top + step]))[..., 1:]
        odd = [(0, -chroma.shape[0] % down), (0, -width % across), (0, 0)]
        chroma = np.pad(chroma, odd, mode="edge")
        size = chroma.shape[1] // across, chroma.shape[0] // down
        parts.append(cv2.resize(chroma, size, interpolation=cv2.INTER_AREA))
    return np.concatenate(parts)


def _enlarged(chroma: np.ndarray, rows: slice, width: int, down: int, across: int) -> np.ndarray:
    """Give some rows of the image their chroma, float32 [len(rows), width, 2]."""
    first = max(0, rows.start // down - 1)  # one beyond on either side, for the interpolation
    part = chroma[first : -(-rows.stop // down) + 1]
    size = part.shape[1] * across, part.shape[0] * down
    large = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)
    return large[rows.start - first * down : rows.stop - first * down, :width]
