"""Photographs and files for the tests. All pixels come from inside the scikit-image wheel."""

import io
import struct
from functools import cache

import numpy as np
from PIL import Image, ImageCms
from skimage import data, filters

from transforms import codec

PHOTOS = {
    "astronaut": data.astronaut,
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
}


# Ten, in colour and gray, of scenes, faces, fur, texture, night and medicine.
TEN = PHOTOS | {
    "motorcycle": lambda: data.stereo_motorcycle()[0],
    "hubble": data.hubble_deep_field,
    "retina": data.retina,
    "camera": lambda: data.camera()[..., None],
    "coins": lambda: data.coins()[..., None],
    "gravel": lambda: data.gravel()[..., None],
}


@cache
def middle(name, height=203, width=251):
    """The middle of one of the ten at about the size that ImageNet-C is defined for."""
    pixels = TEN[name]()
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


@cache
def photo(name="astronaut"):
    pixels = PHOTOS[name]()
    pixels.setflags(write=False)
    return pixels


def small(name="astronaut", height=96, width=72):
    """A detail with faces, fur or edges in it, of odd proportions."""
    return photo(name)[40 : 40 + height, 160 : 160 + width].copy()


def gray(pixels):
    return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]


def sixteen(pixels):
    """16 bits with something in all of them, as multiples of 257 would not have."""
    smooth = filters.gaussian(pixels.astype(np.float64) / 255, 0.6, channel_axis=-1)
    return np.rint(smooth * 65535).astype(np.uint16)


def noisy(pixels, sigma=20.0, seed=0):
    """Noise that owes nothing to ours; sigma on a scale of 0-255."""
    white = np.iinfo(pixels.dtype).max
    noise = np.random.default_rng(seed).normal(0, sigma * white / 255, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, white).astype(pixels.dtype)


def saved(image, name, **options):
    """Bytes of an image file as Pillow writes it."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def rewritten(decoded, result=None, name=None):
    """Bytes of the derivative of a decoded image, as jobs write it; or of a result made of it."""
    result = decoded.pixels if result is None else result
    form, samples = codec.own_colours(decoded.form, result, decoded.pixels, decoded.native, name)
    return codec.encode(form, samples, decoded.alpha, name=name)


def shifted(number, name, height=128, width=128):
    """Bytes of one of many images that are alike and not the same."""
    return saved(np.roll(small(height=height, width=width), number, axis=(0, 1)), name)


def opened(data):
    return Image.open(io.BytesIO(data))


# -- ICC profiles (ICC.1:2001-04), as small as they can be -----------------------------------------


@cache  # it is stamped with the time
def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def gray_profile():
    """Gamma 2.2."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256))
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve})


def cmyk_profile():
    """A press that prints with black alone: L* = 100 - K in percent, whatever C, M and Y are.

    Nothing converts like this without reading the profile.
    """
    to_lab = [(255 * (1 - k), 128, 128) for _ in range(8) for k in (0, 1)]
    from_lab = [(0, 0, 0, 255 * (1 - lightness)) for lightness in (0, 1) for _ in range(4)]
    tables = {b"A2B0": _table(4, 3, to_lab), b"B2A0": _table(3, 4, from_lab)}
    return _profile(b"prtr", b"CMYK", b"Lab ", tables)


def _table(inputs, outputs, grid):
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    head = b"mft1" + bytes(4) + bytes([inputs, outputs, 2, 0]) + identity
    ramp = bytes(range(256))
    return head + ramp * inputs + bytes(v for point in grid for v in point) + ramp * outputs


def _profile(kind, space, connection, tags):
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50 in 1/65536
    tags = {b"wtpt": b"XYZ " + bytes(4) + white, **tags}
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">4sI4s4s4s", b"\0" * 4, 0x02400000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + white
    head = head.ljust(124, b"\0")
    return struct.pack(">I", 4 + len(head) + len(table) + len(body)) + head + table + body
