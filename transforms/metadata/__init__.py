"""Metadata that travels with an image: read from the master, made true, put into the derivative."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from transforms.metadata import exif, jp2, jpeg, photoshop, png, provenance, riff, tiff, xmp
from transforms.metadata.blocks import Blocks, Found, MetadataError, Remark, Resolution
from transforms.metadata.provenance import SOURCE_TYPES, Origin, Provenance, Tool

__all__ = [
    "HOLDING",
    "SOURCE_TYPES",
    "Blocks",
    "Found",
    "MetadataError",
    "Origin",
    "Provenance",
    "Remark",
    "Resolution",
    "Tool",
    "amended",
    "insert",
    "orientation",
    "read",
    "recorded",
    "resolution",
]

_READERS: dict[str, Callable[[bytes | memoryview], Found]] = {
    "JPEG": jpeg.read,
    "PNG": png.read,
    "TIFF": tiff.read,
    "WEBP": riff.read,
    "JP2": jp2.read,
}


def read(data: bytes | memoryview, name: str, page: int = 0) -> Found:
    """Read the metadata of an image file; never fails, whatever is in it.

    Args:
        data: the file.
        name: its format; one that holds no metadata has none.
        page: of a TIFF, from 0.
    """
    if name == "TIFF":
        return tiff.read(data, page)
    reader = _READERS.get(name)
    return Found(Blocks()) if reader is None else reader(data)


def orientation(blocks: Blocks) -> int:
    """Give how a picture is to be turned, as EXIF numbers it, 1-8: XMP is asked where EXIF does
    not tell.
    """
    told = exif.orientation(blocks.exif) if blocks.exif else None
    if told is None and blocks.xmp and b"Orientation" in blocks.xmp.replace(b"\0", b""):
        with suppress(MetadataError):  # said when the packet is amended
            told = xmp.orientation(xmp.outline(blocks.xmp))
    return told or 1


def resolution(blocks: Blocks) -> Resolution | None:
    """Give how fine a picture is: as its file says it, or else its EXIF."""
    return blocks.resolution or (exif.resolution(blocks.exif) if blocks.exif else None)


def amended(blocks: Blocks, width: int, height: int) -> Found:
    """Make metadata true of an upright derivative of this size.

    Args:
        blocks: of the master.
        width: of the derivative.
        height: likewise.

    Returns:
        The blocks, and what a person should know.
    """
    warnings: list[str] = []
    if blocks.exif is not None:
        block, said = exif.amended(blocks.exif, width, height)
        blocks = replace(blocks, exif=block)
        warnings += said
    if blocks.photoshop is not None:
        resources, said = photoshop.without_thumbnails(blocks.photoshop)
        blocks = replace(blocks, photoshop=resources or None)
        warnings += said
    if blocks.xmp is not None:
        blocks = replace(blocks, xmp=xmp.amended(blocks.xmp, width, height))
    return Found(blocks, tuple(warnings))


def recorded(blocks: Blocks, made: Provenance) -> Found:
    """Say in metadata how a derivative was made; see `provenance.recorded`."""
    packet, warnings = provenance.recorded(blocks.xmp, made)
    return Found(replace(blocks, xmp=packet), tuple(warnings))


HOLDING = frozenset(_READERS)  # formats that metadata can be put into


def insert(data: bytes | memoryview, name: str, blocks: Blocks) -> tuple[bytes, list[str]]:
    """Put metadata into an image file that has none.

    Args:
        data: the file, of any format but TIFF, whose writer asks `tiff.tags` for them.
        name: its format.
        blocks: already amended.

    Returns:
        The file, and what it cannot hold.
    """
    if name in _WRITERS:
        return _WRITERS[name](data, blocks)
    lost = [
        title
        for title, held in (
            ("EXIF", blocks.exif),
            ("IPTC", blocks.iptc or blocks.photoshop),
            ("XMP", blocks.xmp),
            ("the resolution", blocks.resolution if name != "BMP" else None),  # which codecs write
            ("comments", blocks.remarks),
        )
        if held
    ]
    said = [f"{name} holds no metadata; left out: {', '.join(lost)}"] if lost else []
    return bytes(data), said


_WRITERS: dict[str, Callable[[bytes | memoryview, Blocks], tuple[bytes, list[str]]]] = {
    "JPEG": jpeg.insert,
    "PNG": png.insert,
    "WEBP": riff.insert,
    "JP2": jp2.insert,
}
