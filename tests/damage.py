"""Damage for the tests of degradations, and how it is judged."""

import numpy as np

from transforms.degradations import ALIASES, DEGRADATIONS


def damage(name, pixels, seed=0, **values):
    """The pixels that a degradation, by name or alias, leaves."""
    known = DEGRADATIONS[ALIASES.get(name, name)]
    return known(pixels, np.random.default_rng(seed), **values).pixels


def psnr(one, other):
    """In dB, of 8 bits; infinite for equal images."""
    error = np.square(one.astype(np.float64) - other).mean()
    return 10 * np.log10(255**2 / error) if error else np.inf


def flat(level, shape=(512, 512, 1), dtype=np.uint8):
    return np.full(shape, level, dtype)


def flat_sixteen(level, shape=(256, 320, 3)):
    """16 bits of one level, given on a scale of 0-255; one for each channel, or for all."""
    return np.broadcast_to(np.asarray(level) * 257, shape).astype(np.uint16)


def light(pixels):
    """Linear light by the curve of IEC 61966-2-1, as float64."""
    v = pixels / float(np.iinfo(pixels.dtype).max)
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
