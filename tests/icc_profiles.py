"""ICC profiles of known spaces, written from their definitions."""

import struct

import numpy as np

# x, y of red, green, blue and white; gamma, or None for sRGB's curve.
SPACES = {
    # Adobe RGB (1998) Color Image Encoding, version 2005-05, section 4.3.
    "Adobe RGB": (((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), (0.3127, 0.3290), 563 / 256),
    # ROMM RGB (ISO 22028-2), with the pure gamma of the common ProPhoto profile.
    "ProPhoto": (
        ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)),
        (0.3457, 0.3585),
        461 / 256,
    ),
    # SMPTE EG 432-1 primaries with D65 and sRGB's curve.
    "Display P3": (((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)), (0.3127, 0.3290), None),
    "sRGB": (((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), (0.3127, 0.3290), None),
}
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
D50 = np.array([63190, 65536, 54061]) / 65536


def xyz(x, y):
    return np.array([x / y, 1, (1 - x - y) / y])


def to_d50(name):
    """The matrix from a space's linear light to XYZ of D50, to 1/65536 as profiles hold it."""
    primaries, white, _ = SPACES[name]
    colours = np.stack([xyz(*point) for point in primaries], axis=1)
    colours = colours * np.linalg.solve(colours, xyz(*white))
    scale = (BRADFORD @ D50) / (BRADFORD @ xyz(*white))
    exact = np.linalg.inv(BRADFORD) @ np.diag(scale) @ BRADFORD @ colours
    return np.rint(65536 * exact) / 65536


def decoded(unit, gamma):
    if gamma is None:
        return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    return unit**gamma


def encoded(light, gamma):
    light = np.clip(light, 0, 1)
    if gamma is None:
        return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return light ** (1 / gamma)


def converted(unit, source, target):
    """Colours [..., 3] of one space in another, relative colorimetric, by the formulas."""
    light = decoded(unit, SPACES[source][2])
    matrix = np.linalg.inv(to_d50(target)) @ to_d50(source)
    return encoded(light @ matrix.T, SPACES[target][2])


def curve(gamma, size=4096):
    if gamma is None:
        points = np.rint(65535 * decoded(np.linspace(0, 1, size), None)).astype(">u2")
        return b"curv" + bytes(4) + struct.pack(">I", len(points)) + points.tobytes()
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * gamma))


def matrix_profile(name, kind=b"mntr"):
    """A profile of ICC version 2 with a matrix and curves."""
    columns = (65536 * to_d50(name)).astype(int).T
    tags = {
        tag: b"XYZ " + bytes(4) + struct.pack(">3i", *column)
        for tag, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.tolist(), strict=True)
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(SPACES[name][2]))
    return profile(kind, b"RGB ", b"XYZ ", tags)


def rough_srgb(gamma=None):
    """sRGB as it was first published as a profile: four digits, and a table of 1024 points."""
    primaries = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
    tags = {
        tag: b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in column))
        for tag, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma, 1024))
    return profile(b"mntr", b"RGB ", b"XYZ ", tags)


def gray_profile(gamma=2.2):
    return profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": curve(gamma)})


def table(inputs, outputs, function, points=9):
    """A lookup table of 16 bits (lut16Type) of a function of an array [N, inputs] in [0, 1]."""
    axes = np.meshgrid(*[np.linspace(0, 1, points)] * inputs, indexing="ij")
    grid = np.stack(axes, axis=-1).reshape(-1, inputs)
    values = np.rint(65535 * np.clip(function(grid), 0, 1)).astype(">u2")
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    head = b"mft2" + bytes(4) + bytes([inputs, outputs, points, 0]) + identity
    ramp = np.array([0, 65535], ">u2").tobytes()
    return head + struct.pack(">2H", 2, 2) + ramp * inputs + values.tobytes() + ramp * outputs


def profile(kind, space, connection, tags):
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"wtpt": b"XYZ " + bytes(4) + white, **tags}
    listed, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        listed += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">4sI4s4s4s", bytes(4), 0x02400000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + white
    head = head.ljust(124, b"\0")
    return struct.pack(">I", 4 + len(head) + len(listed) + len(body)) + head + listed + body
