"""XMP in JPEG that is too large for one segment (XMP specification, part 3, section 1.1.3.1).

What does not fit goes into a second packet, cut into segments; the first one names it by its MD5.
"""

import hashlib
import re
import struct
from collections.abc import Sequence

from transforms.metadata import xmp
from transforms.metadata.blocks import MetadataError
from transforms.metadata.xmp import XMP_NOTE, Edit

_HEAD = struct.Struct(">32sII")  # MD5 in hexadecimal, length of the whole, offset of the part
_PART = 65400  # bytes of the whole in a segment, as the specification has it
_NOTE = (XMP_NOTE, "HasExtendedXMP")
_NOTE_BYTES = 400  # what naming the second packet adds to the first

_PADDING = re.compile(rb"\s+(?=<\?xpacket\s+end=)")


def joined(packet: bytes | None, parts: Sequence[bytes]) -> tuple[bytes | None, list[str]]:
    """Put the properties of a second packet back into the first.

    Args:
        packet: the first.
        parts: segments of the second, without their signature.

    Returns:
        The packet, and what was lost.
    """
    try:
        if packet is None:
            raise MetadataError("there is no packet that it extends")
        found = xmp.outline(packet)
        named = found.text(_NOTE)
        if named is None:
            raise MetadataError("the packet does not name it")
        more = xmp.outline(_whole(named.encode(), parts))
        names = [name for name in more.properties if name not in found.properties]
        edits = [
            Edit(found.properties[_NOTE].span, b""),
            xmp.inserted(found, xmp.elements(more, names)),
        ]
        return xmp.edited(found.packet, edits), []
    except MetadataError as error:
        return packet, [f"the extension of XMP was left out: {error}"]


def _whole(named: bytes, parts: Sequence[bytes]) -> bytes:
    pieces: dict[int, bytes] = {}
    length = 0
    for part in parts:
        if len(part) > _HEAD.size and part[:32].upper() == named.upper():
            _, length, offset = _HEAD.unpack_from(part)
            pieces[offset] = part[_HEAD.size :]
    whole = b"".join(pieces[offset] for offset in sorted(pieces))
    digest = hashlib.md5(whole, usedforsecurity=False).hexdigest()
    if len(whole) != length or digest.upper().encode() != named.upper():
        raise MetadataError("it is not all there")
    return whole


def split(packet: bytes, most: int) -> tuple[bytes, list[bytes]]:
    """Cut a packet so that the first part fits into a segment.

    Args:
        packet: to cut.
        most: bytes that the first part may have.

    Returns:
        The first part, and the segments of the second without their signature.

    Raises:
        MetadataError: it cannot be cut.
    """
    if len(packet) <= most:
        return packet, []
    packet = _PADDING.sub(b"\n", packet)
    if len(packet) <= most:
        return packet, []
    found = xmp.outline(packet)
    by_size = sorted(
        (name for name, held in found.properties.items() if name not in _STAYING),
        key=lambda name: found.properties[name].span.stop - found.properties[name].span.start,
        reverse=True,
    )
    moved, left = [], len(found.packet) + _NOTE_BYTES
    for name in by_size:
        if left <= most:
            break
        span = found.properties[name].span
        left -= span.stop - span.start
        moved.append(name)
    edits = [Edit(found.properties[name].span, b"") for name in moved]
    whole = xmp.new(xmp.elements(found, moved))
    whole = whole[whole.index(b"<x:xmpmeta") : whole.rindex(b"<?xpacket")].rstrip()
    digest = hashlib.md5(whole, usedforsecurity=False).hexdigest().upper()
    note = f'<xmpNote:HasExtendedXMP xmlns:xmpNote="{XMP_NOTE}">{digest}</xmpNote:HasExtendedXMP>\n'
    main = xmp.edited(found.packet, [*edits, xmp.inserted(found, note)])
    parts = [
        _HEAD.pack(digest.encode(), len(whole), at) + whole[at : at + _PART]
        for at in range(0, len(whole), _PART)
    ]
    if len(main) > most:  # what is left is no property: comments, white space
        kept = [name for name in found.properties if name not in moved]
        main = xmp.new(xmp.elements(found, kept) + note)
    if len(main) > most:
        raise MetadataError(f"what cannot be moved has {len(main):,} bytes, more than {most:,}")
    return main, parts


# What readers look for in the first packet.
_STAYING = {
    ("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "DigitalSourceType"),
    (xmp.XMP_MM, "DerivedFrom"),
    (xmp.XMP_MM, "InstanceID"),
    (xmp.XMP_MM, "DocumentID"),
}
