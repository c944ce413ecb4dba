"""ICC profiles: whether a master's is sound, and the two that derivatives may be given."""

import struct

_HEADER = 128
_TABLE = _HEADER + 4  # where the table of tags begins

# What an image's colours are called here, and in bytes 16-19 of a profile (ICC.1:2022, table 19).
SIGNATURES = {"GRAY": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK", "LAB": b"Lab "}

# Device classes whose profiles say what an image's samples mean (table 18). Links of two devices,
# abstract effects and lists of named colours are others.
_CLASSES = {b"scnr", b"mntr", b"prtr", b"spac"}


class ProfileError(ValueError):
    """A profile that an image's colours cannot be read with, and why."""


def sound(profile: bytes, space: str) -> bytes:
    """Check what can be told of a profile without converting with it.

    Args:
        profile: as it was embedded.
        space: a key of `SIGNATURES`, what the image's samples are.

    Returns:
        The profile, without what follows it.

    Raises:
        ProfileError: it is none, lies about its size, or is for other colours.
    """
    if len(profile) < _TABLE or profile[36:40] != b"acsp":
        raise ProfileError("it is broken: it does not begin as ICC profiles do")
    (size,) = struct.unpack_from(">I", profile)
    if not _TABLE <= size <= len(profile):
        raise ProfileError(
            f"it is broken: it states a size of {size:,} bytes, and {len(profile):,} are there"
        )
    (tags,) = struct.unpack_from(">I", profile, _HEADER)
    end = _TABLE + 12 * tags
    if end > size:
        raise ProfileError(f"it is broken: it states {tags:,} tags, and has no room for them")
    for name, offset, length in struct.iter_unpack(">4sII", profile[_TABLE:end]):
        if offset + length > size:
            tag = name.decode("ascii", "replace")
            raise ProfileError(f"it is broken: its tag {tag} lies beyond its end")
    if profile[12:16] not in _CLASSES:
        kind = profile[12:16].decode("ascii", "replace")
        raise ProfileError(f"it is of class {kind}, which does not say what samples mean")
    if profile[16:20] != SIGNATURES[space]:
        found = profile[16:20].decode("ascii", "replace").strip()
        raise ProfileError(f"it is for {found}, and the image is {space}")
    return profile[:size]


# -- the profiles of derivatives -------------------------------------------------------------------


def _fixed(*values: float) -> bytes:
    """Write s15Fixed16Numbers."""
    return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))


def _text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    entry = struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28)
    return b"mluc" + bytes(4) + entry + encoded


def _xyz(*values: int) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *values)


_D50 = (63190, 65536, 54061)  # 0.9642, 1, 0.8249 (ICC.1:2022, section 7.2.16), in 1/65536

# sRGB's primaries and white (IEC 61966-2-1) adapted to D50 by the Bradford matrix (ICC.1:2022,
# annex E), in 1/65536; blue's last is one more than rounding gives, so that R = G = B is neutral.
_COLORANTS = {
    b"rXYZ": (28576, 14581, 912),
    b"gXYZ": (25239, 46983, 6361),
    b"bXYZ": (9375, 3972, 46788),
}
_ADAPTATION = (68674, 1502, -3291, 1939, 64912, -1119, -606, 988, 49262)

# Function type 3: (a X + b)^g from d on, c X below (section 10.18).
_CURVE = b"para" + bytes(4) + struct.pack(">HH", 3, 0)
_CURVE += _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def _display(space: str, name: str, colours: dict[bytes, bytes]) -> bytes:
    """Write a display profile of ICC version 4.3, the same bytes whenever it is."""
    tags = {
        b"desc": _text(name),
        b"cprt": _text("CC0"),
        b"wtpt": _xyz(*_D50),
        b"chad": b"sf32" + bytes(4) + struct.pack(">9i", *_ADAPTATION),
        **colours,
    }
    table, body, places = b"", b"", {}
    start = _TABLE + 12 * len(tags)
    for tag, value in tags.items():
        if value not in places:  # the three curves are one
            places[value] = start + len(body)
            body += value + bytes(-len(value) % 4)
        table += struct.pack(">4sII", tag, places[value], len(value))
    dated = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    kind = struct.pack(">4s4s4s4s", bytes(4), b"\x04\x30\0\0", b"mntr", SIGNATURES[space])
    head = kind + b"XYZ " + dated + b"acsp" + bytes(28) + struct.pack(">3i", *_D50)
    content = head.ljust(_HEADER - 4, b"\0") + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", 4 + len(content)) + content


SRGB = _display(
    "RGB",
    "sRGB",
    {tag: _xyz(*values) for tag, values in _COLORANTS.items()}
    | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _CURVE),
)
GRAY = _display("GRAY", "Gray with the curve of sRGB", {b"kTRC": _CURVE})
