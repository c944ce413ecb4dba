"""JPEG 2000 through OpenJPEG as imagecodecs has it: JP2 files and bare codestreams.

ISO/IEC 15444-1 (ITU-T T.800): codestream in annex A, boxes in annex I. What is written is
lossless, whatever the master was.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import imagecodecs
import numpy as np

from transforms.codec import carried, pillow
from transforms.codec import samples as convert
from transforms.codec.form import (
    CodecError,
    Decoded,
    Form,
    Stated,
    check_size,
    upright,
)
from transforms.scratch import Buffer

_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_START = b"\xff\x4f\xff\x51"  # SOC, and SIZ, which must follow
_MOST_TILES = 65535  # by the standard
_COLOUR = {1: ("L", "I;16"), 2: ("LA", "LA;16"), 3: ("RGB", "RGB;16"), 4: ("RGBA", "RGBA;16")}


@dataclass(frozen=True, slots=True)
class _Head:
    """What a codestream states of itself, and its file of its colours."""

    width: int
    height: int
    bits: int
    signed: bool
    channels: int
    codestream: bool
    icc: bytes | None = None

    @property
    def mode(self) -> str:
        return _COLOUR.get(self.channels, ("RGBA", "RGBA;16"))[self.bits > 8]


def decode(data: Buffer, max_pixels: int) -> Decoded:
    """Decode a JPEG 2000 image, upright.

    Raises:
        CodecError: it is broken, has more than `max_pixels`, or is of a depth that would be cut.
    """
    head = _head(data)
    check_size(head.width, head.height, max_pixels)
    if head.signed or head.bits > 16:
        kind = "signed" if head.signed else f"{head.bits}-bit"
        raise CodecError(f"{kind} samples of JPEG 2000 would be cut; convert them to 16 bits first")
    try:
        stored = imagecodecs.jpeg2k_decode(data, numthreads=1)  # type: ignore[arg-type]  # any buffer
    except NotImplementedError as error:
        return _through_pillow(data, head, str(error), max_pixels)
    except Exception as error:  # one error type for all that OpenJPEG finds
        raise CodecError(f"broken JPEG 2000 data: {error}") from error
    if stored.shape[:2] != (head.height, head.width) or stored.dtype.kind != "u":
        raise CodecError("broken JPEG 2000 data: its pixels are not what its header says")
    stored = stored.reshape(head.height, head.width, -1)
    channels = stored.shape[-1]
    if channels not in _COLOUR:
        raise CodecError(f"it has {channels} channels, which are no photograph")
    form, warnings = _form(data, head)
    if head.bits not in (8, 16):
        stored = convert.widened(stored, head.bits)
        done = f"{head.bits}-bit samples scaled to {8 if head.bits < 8 else 16} bits"
        form = replace(form, conversions=(done,))
    colours = 3 if channels > 2 else 1
    alpha = None
    if channels in (2, 4):
        alpha = upright(stored[..., -1], form.orientation)
    return Decoded(form, upright(stored[..., :colours], form.orientation), alpha, warnings)


def _through_pillow(data: Buffer, head: _Head, reason: str, max_pixels: int) -> Decoded:
    if head.bits > 8:
        raise CodecError(f"{reason}, of more than 8 bits")
    try:
        decoded = pillow.decode(bytes(data), ["JPEG2000"], max_pixels)
    except CodecError as error:
        raise CodecError(f"{reason}; nor by Pillow: {error}") from None
    form, warnings = _form(data, head)
    done = (*decoded.form.conversions, f"decoded by Pillow: {reason}")
    alpha = None if decoded.alpha is None else upright(decoded.alpha, form.orientation)
    form = replace(form, mode=decoded.form.mode, conversions=done)
    return Decoded(form, upright(decoded.pixels, form.orientation), alpha, warnings)


def probe(data: Buffer) -> Stated | None:
    """Read what an image states, without decoding; None where that cannot be read."""
    try:
        head = _head(data)
    except CodecError:
        return None
    return Stated("JP2", head.mode, head.width, head.height)


def encode(form: Form, pixels: np.ndarray, alpha: np.ndarray | None) -> bytes:
    """Encode uint8 or uint16 pixels [H, W, 1 or 3] and alpha [H, W] without loss."""
    gray = pixels.shape[-1] == 1
    samples = pixels if alpha is None else np.dstack([pixels, alpha])
    if samples.shape[-1] == 1:
        samples = samples[..., 0]
    bare = bool(form.format == "JP2" and form.notes.get("codestream"))
    # Each level of the transform halves the image, which has to have something left.
    resolutions = min(6, max(1, min(samples.shape[:2]).bit_length()))
    try:
        stream = bytes(
            imagecodecs.jpeg2k_encode(
                np.ascontiguousarray(samples),
                level=0,
                codecformat="j2k",
                reversible=True,
                mct=not gray,
                resolutions=resolutions,
                numthreads=1,
            )
        )
    except Exception as error:  # one error type for all that OpenJPEG finds
        raise CodecError(f"JPEG 2000 cannot hold this image: {error}") from error
    if bare:
        return stream
    icc = form.icc if convert.describes(form.icc, gray=gray) else None
    return carried.inserted(_file(stream, samples, icc, alpha is not None), "JP2", form)


def _file(stream: bytes, samples: np.ndarray, icc: bytes | None, alpha: bool) -> bytes:
    """Put a codestream into a JP2 file (annex I.5)."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[-1]
    bits = 8 * samples.itemsize
    head = _box(b"ihdr", struct.pack(">IIHBBBB", height, width, channels, bits - 1, 7, 0, 0))
    if icc:
        head += _box(b"colr", b"\2\0\0" + icc)
    else:
        head += _box(b"colr", struct.pack(">BBBI", 1, 0, 0, 17 if channels < 3 else 16))
    if alpha:
        colours = [(index, 0, index + 1) for index in range(channels - 1)]
        rows = [*colours, (channels - 1, 1, 0)]  # opacity, of the whole image
        told = b"".join(struct.pack(">HHH", *row) for row in rows)
        head += _box(b"cdef", struct.pack(">H", channels) + told)
    kind = _box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return _SIGNATURE + kind + _box(b"jp2h", head) + _box(b"jp2c", stream)


def _box(kind: bytes, held: bytes) -> bytes:
    if len(held) + 8 < 1 << 32:
        return struct.pack(">I4s", len(held) + 8, kind) + held
    return struct.pack(">I4sQ", 1, kind, len(held) + 16) + held


# -- reading the head ------------------------------------------------------------------------------


def _boxes(data: Buffer, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Give the type of each box, and where its contents begin and end."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= end:
            size, start = struct.unpack_from(">Q", data, at + 8)[0], at + 16
        stop = end if size == 0 else at + size
        if stop < start:
            return
        yield kind, start, min(stop, end)
        at = stop


def _head(data: Buffer) -> _Head:
    if bytes(data[:4]) == _START:
        return _size(data, 0, codestream=True)
    icc, colours, head = None, None, None
    for kind, start, stop in _boxes(data, 0, len(data)):
        if kind == b"jp2h":
            for inner, first, last in _boxes(data, start, stop):
                if inner == b"colr" and last - first > 3 and data[first] == 2 and icc is None:
                    icc = bytes(data[first + 3 : last])
                elif inner == b"pclr" and last - first > 3:
                    colours = data[first + 2]  # columns of the palette
        elif kind == b"jp2c":
            head = _size(data, start, codestream=False)
            break
    if head is None:
        raise CodecError("broken JPEG 2000 data: it holds no codestream")
    return replace(head, icc=icc, channels=colours or head.channels)


def _size(data: Buffer, at: int, *, codestream: bool) -> _Head:
    """Read the marker segment SIZ (annex A.5.1)."""
    if bytes(data[at : at + 4]) != _START or at + 42 > len(data):
        raise CodecError("broken JPEG 2000 data: its codestream does not begin like one")
    right, bottom, left, top, tile_width, tile_height, tiles_left, tiles_top, count = (
        struct.unpack_from(">8IH", data, at + 8)
    )
    depths = bytes(data[at + 42 : at + 42 + 3 * count : 3])
    if right <= left or bottom <= top or not tile_width or not tile_height or not depths:
        raise CodecError("broken JPEG 2000 data: its header makes no sense")
    tiles = -(-(right - tiles_left) // tile_width) * -(-(bottom - tiles_top) // tile_height)
    if not 0 < tiles <= _MOST_TILES or count > 8 or len(depths) < count:
        raise CodecError(f"broken JPEG 2000 data: {tiles} tiles of {count} components")
    bits = max(depth & 127 for depth in depths) + 1
    signed = any(depth & 128 for depth in depths)
    return _Head(right - left, bottom - top, bits, signed, count, codestream)


def _form(data: Buffer, head: _Head) -> tuple[Form, tuple[str, ...]]:
    warnings: list[str] = []
    told = carried.described(data, "JP2", (head.width, head.height), head.icc, warnings)
    notes = {"codestream": head.codestream}
    form = Form(format="JP2", mode=head.mode, bits=head.bits, notes=notes, **told)
    return form, tuple(warnings)
