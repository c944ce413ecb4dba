"""How an image file is compressed, as the file itself states it, for the record of it."""

import struct
from collections.abc import Callable

Data = bytes | memoryview

# TIFF 6.0, page 117, and what libtiff has registered since.
_TIFF = {
    1: "none",
    2: "CCITT RLE",
    3: "CCITT Group 3",
    4: "CCITT Group 4",
    5: "LZW",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
    34712: "JPEG 2000",
    34925: "LZMA",
    50000: "Zstandard",
}


def compression_of(data: Data, name: str | None) -> str | None:
    """Name the compression of an image file, of the first page where it has several.

    Args:
        data: the file.
        name: its format, a key of `codec.FORMATS`.

    Returns:
        Such as "deflate", "JPEG 4:4:4" or "none"; None where it is not known.
    """
    told = _TELLING.get(name or "")
    try:
        return told(data) if told else None
    except (struct.error, IndexError):
        return None  # cut, or no such file


def _jpeg(data: Data) -> str | None:
    """Read the sampling factors of the frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            factors = [data[at + 11 + 3 * component] for component in range(data[at + 9])]
            return f"JPEG {_SAMPLINGS.get(tuple(factors), 'subsampled')}"
        at += 2 + length
    return None


_SAMPLINGS = {
    (0x11,): "gray",
    (0x11, 0x11, 0x11): "4:4:4",
    (0x21, 0x11, 0x11): "4:2:2",
    (0x22, 0x11, 0x11): "4:2:0",
    (0x11, 0x11, 0x11, 0x11): "4:4:4:4",
}


def _tiff(data: Data) -> str | None:
    """Read tag 259 of the first directory (TIFF 6.0, section 2; BigTIFF has wider fields)."""
    order = "<" if bytes(data[:2]) == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    start = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)[0]
    count = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, start)[0]
    first, size, value = (start + 8, 20, 12) if big else (start + 2, 12, 8)
    for entry in range(first, first + size * count, size):
        if struct.unpack_from(f"{order}H", data, entry)[0] == 259:
            return _TIFF.get(struct.unpack_from(f"{order}H", data, entry + value)[0])
    return "none"


def _webp(data: Data) -> str:
    """Tell by the chunk that holds the picture (RFC 9649, section 2)."""
    at = 12
    while True:
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind in (b"VP8L", b"VP8 "):
            return "VP8 lossless" if kind == b"VP8L" else "VP8"
        at += 8 + length + length % 2


def _jp2(data: Data) -> str | None:
    """Read the transformation of the COD segment (ITU-T T.800, A.6.1): 1 is reversible."""
    at = bytes(data[: 1 << 16]).find(b"\xff\x4f\xff\x51")
    if at < 0:
        return None
    at += 2
    while data[at] == 0xFF:
        if data[at + 1] == 0x52:
            return "JPEG 2000, reversible" if data[at + 13] == 1 else "JPEG 2000"
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


_TELLING: dict[str, Callable[[Data], str | None]] = {
    "JPEG": _jpeg,
    "PNG": lambda _: "deflate",
    "TIFF": _tiff,
    "JP2": _jp2,
    "WEBP": _webp,
    "GIF": lambda _: "LZW",
    "BMP": lambda _: "none",
    "PPM": lambda _: "none",
}
