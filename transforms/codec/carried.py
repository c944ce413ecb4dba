"""From the metadata blocks of a file to a master's form, and back into a derivative."""

from fractions import Fraction
from typing import Any

from transforms import metadata
from transforms.codec import samples
from transforms.codec.form import TURNS, Form
from transforms.metadata import Blocks, Resolution
from transforms.scratch import Buffer

_EXIF = b"Exif\0\0"


def described(
    data: Buffer, name: str, size: tuple[int, int], icc: bytes | None, warnings: list[str]
) -> dict[str, Any]:
    """Give those attributes of a form that say something of the photograph.

    Args:
        data: the file.
        name: its format, a key of `FORMATS`.
        size: width and height, as stored.
        icc: its profile, which is left out where it is broken.
        warnings: what a person should know is added.
    """
    blocks, said = metadata.read(data, name)
    orientation = metadata.orientation(blocks)
    if orientation > 4:
        size = size[::-1]
    upright, more = metadata.amended(blocks, *size)
    warnings += [*said, *more]
    if icc and not samples.is_sound(icc):
        warnings.append("the ICC profile is broken and was not carried over")
        icc = None
    resolution = upright.resolution
    return {
        "orientation": orientation if orientation in TURNS else 1,
        "icc": icc,
        "exif": _EXIF + upright.exif if upright.exif else None,
        "xmp": upright.xmp,
        "iptc": upright.iptc,
        "dpi": resolution.dpi if resolution else None,
        "resolution_unit": resolution.unit if resolution else None,
    }


def inserted(data: bytes, name: str, form: Form) -> bytes:
    """Put what a form says of the photograph into an encoded image that says nothing yet."""
    resolution = None
    if form.dpi:
        x, y = (Fraction(dots).limit_denominator(10**6) for dots in form.dpi)
        resolution = Resolution(x, y, 2)
    exif = form.exif.removeprefix(_EXIF) if form.exif else None
    blocks = Blocks(exif=exif, iptc=form.iptc, xmp=form.xmp, resolution=resolution)
    return metadata.insert(data, name, blocks)[0]
