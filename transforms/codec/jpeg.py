"""What a JPEG stream states, before it is decoded (ITU-T T.81, annex B)."""

import re

from transforms.codec.form import CodecError
from transforms.scratch import Buffer

# Progressive ones have ten or so, and those that were optimized some more. Each goes over the whole
# picture, however few bytes it has: without a limit, a megabyte could take hours.
MOST_SCANS = 100

# In what is coded 0xFF is followed by a zero, or is a restart.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_START_OF_IMAGE, _START_OF_SCAN, _END, _TEMPORARY = 0xD8, 0xDA, 0xD9, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


def check_scans(data: Buffer) -> None:
    """Refuse a JPEG stream of too many scans.

    Raises:
        CodecError: it has more than `MOST_SCANS`.
    """
    at, scans, components, progressive = 2, 0, 0, False
    while found := _MARKER.search(data, at):
        marker, at = data[found.start() + 1], found.end()
        if marker == _END:
            return
        if marker in (_START_OF_IMAGE, _TEMPORARY):
            continue
        if marker in _FRAMES:
            components = int.from_bytes(data[at + 7 : at + 8])
            progressive = marker in _PROGRESSIVE
        elif marker == _START_OF_SCAN:
            scans += 1
            if not progressive and data[at + 2 : at + 3] == bytes([components]):
                return  # it holds all there is, and decoders end with it
            if scans > MOST_SCANS:
                raise CodecError(f"it has more than {MOST_SCANS} scans, as no photograph has")
        at += max(2, int.from_bytes(data[at : at + 2]))
