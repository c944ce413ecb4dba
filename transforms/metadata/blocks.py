"""What image files say of themselves beside their pixels, as the blocks of bytes that say it."""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


class MetadataError(ValueError):
    """A block or a file that cannot be read as what it claims to be, and why."""


class Resolution(NamedTuple):
    """Pixels per unit of length, exactly.

    Attributes:
        x: across.
        y: down.
        unit: as EXIF and TIFF number them: 1 none (the numbers tell the shape of a pixel), 2 inch,
            3 centimetre.
    """

    x: Fraction
    y: Fraction
    unit: int

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Dots per inch; None without a unit of length."""
        scale = _INCHES.get(self.unit)
        return None if scale is None else (float(self.x * scale), float(self.y * scale))

    def per(self, unit: int) -> "Resolution":
        """Give the same in another unit of length; without one, it stays as it is."""
        if self.unit not in _INCHES or unit not in _INCHES:
            return self
        scale = _INCHES[self.unit] / _INCHES[unit]
        return Resolution(self.x * scale, self.y * scale, unit)

    @property
    def per_metre(self) -> tuple[Fraction, Fraction]:
        """Pixels per metre, of a resolution with a unit of length."""
        x, y, _ = self.per(CENTIMETRE)
        return 100 * x, 100 * y


NO_UNIT, INCH, CENTIMETRE = 1, 2, 3

_INCHES = {INCH: Fraction(1), CENTIMETRE: Fraction(254, 100)}


class Remark(NamedTuple):
    """A text chunk of a PNG, by its type, or a comment of a JPEG, of type b"COM"."""

    type: bytes
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The metadata of an image, each block as its own standard has it; None where there is none.

    The ICC profile is not among them: it belongs to the pixels.

    Attributes:
        exif: a TIFF stream, from its byte order mark on (EXIF 2.32, section 4.5.2).
        iptc: datasets of IPTC-IIM.
        photoshop: image resources of Photoshop. Those of a TIFF, which has a tag for IPTC, may
            hold IPTC once more, or alone.
        xmp: the packet, with or without its wrapper.
        resolution: as the format of the file says it, which may differ from what EXIF says.
        remarks: text beside the standards.
    """

    exif: bytes | None = None
    iptc: bytes | None = None
    photoshop: bytes | None = None
    xmp: bytes | None = None
    resolution: Resolution | None = None
    remarks: tuple[Remark, ...] = ()


# C2PA's manifest is bound to the bytes of the master, and says nothing true of any others.
CREDENTIALS_LEFT_OUT = "the content credentials (C2PA) of the master were left out"


class Found(NamedTuple):
    """The blocks of a file, and what a person should know of how they were read."""

    blocks: Blocks
    warnings: tuple[str, ...] = ()
