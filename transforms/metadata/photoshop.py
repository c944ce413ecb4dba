"""Photoshop's image resources, which hold IPTC in JPEG (Adobe Photoshop File Formats, 2019)."""

import struct
from collections.abc import Iterator
from contextlib import suppress

from transforms.metadata.blocks import MetadataError

_SIGNATURE = b"8BIM"
_IPTC = 0x0404
_THUMBNAILS = (0x0409, 0x040C)  # of Photoshop 4, and of 5 and later


def _resources(block: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Give each resource's number, and where it begins, its data begin and end, and it ends.

    Raises:
        MetadataError: what comes next is no resource.
    """
    at = 0
    while at < len(block):
        if not any(block[at : at + 4]) and not block[at:].strip(b"\0"):
            return  # padding
        signature, number = block[at : at + 4], int.from_bytes(block[at + 4 : at + 6], "big")
        if signature not in (_SIGNATURE, b"MeSa", b"PHUT", b"AgHg", b"DCSR"):
            raise MetadataError(f"byte {at} begins no resource")
        name = block[at + 6] if at + 6 < len(block) else 0
        data = at + 6 + (name + 2) // 2 * 2
        size = int.from_bytes(block[data : data + 4], "big")
        start, stop = data + 4, data + 4 + size
        if stop > len(block):
            raise MetadataError(f"the resource at byte {at} is cut off")
        end = min(len(block), stop + size % 2)
        yield number, at, start, stop, end
        at = end


def apart(block: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Give image resources without IPTC, and the IPTC datasets among them; None for nothing."""
    datasets = None
    with suppress(MetadataError):  # what comes before the trouble is what other readers see, too
        for number, at, start, stop, end in _resources(block or b""):
            if number == _IPTC and block is not None:
                datasets = block[start:stop]
                block = block[:at] + block[end:]
                break
    return block or None, datasets


def without_thumbnails(block: bytes) -> tuple[bytes, list[str]]:
    """Leave out the pictures of the master; all else stays, byte for byte.

    Returns:
        The block, and what a person should know.
    """
    kept, last = [], 0
    warnings: list[str] = []
    try:
        for number, at, _, _, end in _resources(block):
            if number in _THUMBNAILS:
                kept.append(block[last:at])
                last = end
    except MetadataError as error:
        warnings.append(
            f"Photoshop's resources cannot be read ({error}) and are carried over as they are"
        )
    return b"".join((*kept, block[last:])), warnings


def resource(datasets: bytes) -> bytes:
    """Make the image resource that holds IPTC datasets."""
    head = _SIGNATURE + struct.pack(">HHI", _IPTC, 0, len(datasets))
    return head + datasets + bytes(len(datasets) % 2)


def joined(block: bytes | None, datasets: bytes | None) -> bytes | None:
    """Give image resources that hold these datasets of IPTC; None if there is nothing."""
    if datasets is None:
        return block
    rest, _ = apart(block)
    return resource(datasets) + (rest or b"")
