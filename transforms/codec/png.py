"""PNG of 16 bits, through libpng as imagecodecs has it; Pillow would cut its colours to 8.

PNG, third edition: https://www.w3.org/TR/png-3/.
"""

import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
from PIL import PngImagePlugin

from transforms import metadata, scratch
from transforms.codec import carried
from transforms.codec.form import CodecError, Decoded, Form, check_size, upright
from transforms.scratch import Buffer

_LARGEST_PROFILE = 16 << 20
_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}  # a pixel, by the colour type
_COLOURS = {0: "I;16", 2: "RGB;16", 4: "LA;16", 6: "RGBA;16"}  # modes by the colour type


def is_deep(head: Buffer) -> bool:
    """Tell a PNG of 16 bits by its first 33 bytes."""
    return bytes(head[12:16]) == b"IHDR" and len(head) > 24 and head[24] == 16


def decode(data: Buffer, max_pixels: int) -> Decoded:
    """Decode a PNG of 16 bits, upright.

    Raises:
        CodecError: it is broken, or has more than `max_pixels`.
    """
    width, height, _, kind = struct.unpack_from(">IIBB", data, 16)
    check_size(width, height, max_pixels)
    if not width or not height or kind not in _COLOURS:
        raise CodecError("broken PNG data: its header makes no sense")
    warnings: list[str] = []
    chunks = dict(_chunks(data))
    if b"acTL" in chunks:
        frames = int.from_bytes(chunks[b"acTL"][:4], "big")
        warnings.append(f"only the first of {frames} frames is restored")
    try:
        # libpng makes alpha of a transparent colour, and no axis of one sample.
        samples = _SAMPLES[kind] + (kind in (0, 2) and b"tRNS" in chunks)
        shape = (height, width) if samples == 1 else (height, width, samples)
        room = scratch.empty(shape, np.uint16)
        stored = imagecodecs.png_decode(data, out=room)  # type: ignore[arg-type]  # any buffer
    except Exception as error:  # one error type for all that libpng finds
        raise CodecError(f"broken PNG data: {error}") from error
    if stored.shape[:2] != (height, width) or stored.dtype != np.uint16:
        raise CodecError("broken PNG data: its pixels are not what its header says")
    stored = stored.reshape(height, width, -1)
    count = 1 if kind in (0, 4) else 3
    pixels, alpha = stored[..., :count], None
    done: tuple[str, ...] = ()
    mode = _COLOURS[kind]
    if stored.shape[-1] > count:
        alpha = stored[..., count]
    elif (key := chunks.get(b"tRNS")) and len(key) == 2 * count:
        seen = np.any(pixels != np.frombuffer(key, ">u2"), axis=-1)
        alpha = seen.astype(np.uint16) * np.uint16(65535)
    if alpha is not None and kind in (0, 2):
        mode = _COLOURS[kind + 4]
        done = ("one transparent colour to alpha",)
    told = carried.described(
        metadata.read(data, "PNG"), (width, height), _profile(chunks), warnings
    )
    form = Form(format="PNG", mode=mode, bits=16, conversions=done, **told)
    turned = None if alpha is None else upright(alpha, form.orientation)
    return Decoded(form, upright(pixels, form.orientation), turned, tuple(warnings))


def encode(form: Form, pixels: np.ndarray, alpha: np.ndarray | None) -> bytes:
    """Encode uint16 pixels [H, W, 1 or 3] and alpha [H, W], with the master's profile."""
    samples = pixels if alpha is None else np.dstack([pixels, alpha])
    if samples.shape[-1] == 1:
        samples = samples[..., 0]
    try:
        data = bytes(imagecodecs.png_encode(np.ascontiguousarray(samples)))
    except Exception as error:  # one error type for all that libpng finds
        raise CodecError(f"PNG cannot hold this image: {error}") from error
    if icc := form.profile_of(pixels):
        held = b"icc\0\0" + zlib.compress(icc)
        profile = struct.pack(">I", len(held)) + b"iCCP" + held
        data = data[:33] + profile + struct.pack(">I", zlib.crc32(b"iCCP" + held)) + data[33:]
    return data


def without_bombs(data: Buffer) -> tuple[Buffer, list[str]]:
    """Leave out text and profiles that unpack to more than Pillow takes, for which it refuses the
    whole image; and say so.
    """
    kept, at, lost = [(0, 8)], 8, []
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        packed = kind in _PACKED and end <= len(data)
        if packed and _unpacks_to_much(memoryview(data)[at + 8 : end - 4]):
            lost.append(kind.decode())
        else:
            kept.append((at, end))
        at = end
    if not lost:
        return data, []
    sound = b"".join(data[start:end] for start, end in kept)
    return sound, [f"{', '.join(lost)} of the PNG unpacks to too much to be read"]


_PACKED = frozenset({b"zTXt", b"iTXt", b"iCCP"})


def _unpacks_to_much(chunk: memoryview) -> bool:
    """Look for a zlib stream behind the names, wherever it begins."""
    held = bytes(chunk)
    at = held.find(b"\0") + 1
    for start in range(at, min(at + 64, len(held))):
        if held[start] & 15 == 8:
            unpacker = zlib.decompressobj()
            try:
                unpacker.decompress(held[start:], PngImagePlugin.MAX_TEXT_CHUNK)
            except zlib.error:
                continue
            if unpacker.unconsumed_tail:
                return True
    return False


def _chunks(data: Buffer) -> Iterator[tuple[bytes, bytes]]:
    """Give the chunks before the pixels, by their types."""
    at = 8
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT" or at + 12 + size > len(data):
            return
        yield kind, bytes(data[at + 8 : at + 8 + size])
        at += 12 + size


def _profile(chunks: dict[bytes, bytes]) -> bytes | None:
    held = chunks.get(b"iCCP")
    if not held:
        return None
    packed = held.partition(b"\0")[2][1:]
    try:
        return zlib.decompressobj().decompress(packed, _LARGEST_PROFILE)
    except zlib.error:
        return b"broken"  # which is said when it is looked at
