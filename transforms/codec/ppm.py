"""PPM and PGM of 16 bits (https://netpbm.sourceforge.net/doc/ppm.html); others Pillow reads."""

import re

import numpy as np

from transforms.codec import samples as convert
from transforms.codec.form import CodecError, Decoded, Form, check_size
from transforms.scratch import Buffer

_SPACE = rb"(?:\s|#[^\n\r]*[\n\r])+"
_HEADER = re.compile(_SPACE.join([rb"P([2356])", *[rb"(\d{1,10})"] * 3]) + rb"\s")
_LONGEST_HEADER = 4096


def is_deep(head: Buffer) -> bool:
    """Tell by its first bytes whether an image has samples of more than 8 bits."""
    found = _HEADER.match(bytes(head[:_LONGEST_HEADER]))
    return found is not None and 255 < int(found[4]) <= 65535


def decode(data: Buffer, max_pixels: int) -> Decoded:
    """Decode an image of more than 8 bits.

    Raises:
        CodecError: it is cut short, or has more than `max_pixels`.
    """
    found = _HEADER.match(bytes(data[:_LONGEST_HEADER]))
    assert found, "its header has been looked at"
    kind, width, height, top = (int(found[index]) for index in range(1, 5))
    check_size(width, height, max_pixels)
    channels = 3 if kind in (3, 6) else 1
    count = width * height * channels
    rest = memoryview(data)[found.end() :]
    if kind in (2, 3):
        stored = _plain(bytes(rest[: 64 * count + _LONGEST_HEADER]), count)
    elif len(rest) < 2 * count:
        raise CodecError(f"broken PPM data: {len(rest)} bytes of {2 * count}")
    else:
        stored = np.frombuffer(rest, ">u2", count)
    if not count or stored.max() > top:
        raise CodecError("broken PPM data: it has no pixels, or brighter ones than white")
    pixels = stored.reshape(height, width, channels).astype(np.uint16)
    done: tuple[str, ...] = ()
    if top < 65535:
        levels = np.arange(top + 1, dtype=np.uint32)
        table = ((levels * 65535 + top // 2) // top).astype(np.uint16)
        pixels = convert.by_strips(pixels, lambda strip: table[strip], channels, np.uint16)
        done = (f"samples of 0 to {top} scaled to 16 bits",)
    mode = "RGB;16" if channels == 3 else "I;16"
    bits = int(top).bit_length()
    return Decoded(
        Form(format="PPM", mode=mode, bits=bits, conversions=done),
        pixels,
        None,
        (),
    )


def _plain(text: bytes, count: int) -> np.ndarray:
    numbers = text.split(None, count)[:count]
    try:
        values = np.array(numbers, np.int64)
    except ValueError as error:
        raise CodecError(f"broken PPM data: {error}") from None
    if len(values) < count or values.min(initial=0) < 0:
        raise CodecError(f"broken PPM data: {len(values)} samples of {count}")
    return values


def encode(pixels: np.ndarray) -> bytes:
    """Encode uint16 [H, W, 1 or 3] as binary PGM or PPM."""
    height, width, channels = pixels.shape
    head = f"P{6 if channels == 3 else 5}\n{width} {height}\n65535\n".encode()
    return head + pixels.astype(">u2").tobytes()
