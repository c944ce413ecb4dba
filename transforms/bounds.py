"""How far an archive is gone into: what no honest one comes near, and flags that say otherwise."""

from dataclasses import dataclass

# A scan of as many pixels as are decoded at most, in four channels of 32 bits.
MAX_BYTES = 4 << 30
MAX_MEMBERS = 2_000_000


class BoundsError(ValueError):
    """An image, or what holds it, that is beyond what is read, and the flag that says so."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far an archive is gone into.

    They decide which images are done, not how, and so are no part of what a job is.

    Attributes:
        file_bytes: most bytes of an encoded image, whether a file or in a shard.
        members: most images of a shard.
        follow_symlinks: whether links are followed that lead out of the archive, or to folders.
    """

    file_bytes: int = MAX_BYTES
    members: int = MAX_MEMBERS
    follow_symlinks: bool = False


USUAL_BOUNDS = Bounds()


def check_bytes(size: int, bounds: Bounds) -> None:
    """Refuse an encoded image that is too large.

    Raises:
        BoundsError: it is.
    """
    if size > bounds.file_bytes:
        raise BoundsError(f"{size:,} bytes are more than the {bounds.file_bytes:,} of --max_bytes")
