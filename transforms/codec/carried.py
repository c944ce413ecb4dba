"""From what a file says beside its pixels to a master's form."""

from typing import Any

from transforms import metadata
from transforms.codec.form import TURNS
from transforms.metadata import Found


def described(
    found: Found, size: tuple[int, int], icc: bytes | None, warnings: list[str]
) -> dict[str, Any]:
    """Give those attributes of a form that say something of the photograph.

    Args:
        found: the metadata of the file, or of its page.
        size: width and height, as stored.
        icc: its profile.
        warnings: what a person should know is added.
    """
    orientation = metadata.orientation(found.blocks)
    width, height = size[::-1] if orientation > 4 else size
    blocks, said = metadata.amended(found.blocks, width, height)
    warnings += [*found.warnings, *said]
    resolution = metadata.resolution(blocks)
    return {
        "orientation": orientation if orientation in TURNS else 1,
        "icc": icc,
        "metadata": blocks,
        "dpi": resolution.dpi if resolution else None,
        "resolution_unit": resolution.unit if resolution else None,
    }
