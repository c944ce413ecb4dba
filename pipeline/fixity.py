"""Digests of files as they are now."""

import hashlib
from dataclasses import dataclass

from transforms import storage


@dataclass(frozen=True, slots=True)
class Digest:
    """Bytes and SHA-256, in hexadecimal, of a file."""

    size: int
    sha256: str


def digest(path: str) -> Digest:
    """Read a file to its end, in bounded memory.

    Raises:
        OSError: it is not there or cannot be read; the message names it.
    """
    with storage.opened(path) as file:
        found = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]  # it reads into
        return Digest(file.tell(), found.hexdigest())
