"""Files through Beam's FileSystems: listing, reading, and writing that is whole or not there."""

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

_META = "*?["


class StorageError(OSError):
    """A file operation that did not do what was asked, with the path and the reason."""


@dataclass(frozen=True, slots=True)
class File:
    """A listed file: path, bytes, seconds since 1970 of its last change."""

    path: str
    size: int
    modified: float


def is_local(path: str) -> bool:
    """Say whether a path is on this machine rather than in an object store."""
    return "://" not in path


def has_meta(path: str) -> bool:
    """Say whether a path holds the glob characters * ? [."""
    return any(character in path for character in _META)


def join(base: str, *parts: str) -> str:
    """Join a folder and path parts; the parts use forward slashes."""
    return FileSystems.join(base, *parts)


def exists(path: str) -> bool:
    """Say whether there is a file, or a local folder, at `path`."""
    return FileSystems.exists(path)


def list_folder(folder: str) -> Iterator[File]:
    """List the files below a folder; whatever its name holds, it is not a glob.

    Raises:
        StorageError: a folder cannot be listed. Beam's own listing would pass over it in silence.
    """
    return _walk(folder) if is_local(folder) else list_glob(folder.rstrip("/") + "/**")


def list_glob(pattern: str) -> Iterator[File]:
    """List the files that match a glob; * stays within a folder, ** crosses folders."""
    for match in FileSystems.match([pattern]):
        for found in match.metadata_list:
            if not (is_local(found.path) and os.path.isdir(found.path)):
                yield File(found.path, found.size_in_bytes, found.last_updated_in_seconds or 0.0)


def _walk(folder: str) -> Iterator[File]:
    def refuse(error: OSError) -> None:
        raise StorageError(
            f"cannot list the folder {error.filename}: {error.strerror}; make it readable, or "
            "name its readable neighbours one by one"
        ) from error

    for parent, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            yield local_file(os.path.join(parent, name))


def local_file(path: str) -> File:
    """Describe a file of this machine; a dangling link has 0 bytes, and reading it says why."""
    try:
        found = os.stat(path)
    except OSError:
        return File(path, 0, 0.0)
    return File(path, found.st_size, found.st_mtime)


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading, as it is stored.

    Raises:
        StorageError: it cannot be read, or is a device or a pipe, which could hang.
    """
    try:
        if is_local(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise StorageError(f"{path} is not a regular file")
        # Beam would take a compressed file by its extension and hand on what is in it.
        file = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except StorageError:
        raise
    except Exception as error:  # each of Beam's file systems raises types of its own
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"cannot read {path}: {reason}") from error
    with file:
        yield file


def read(path: str) -> bytes:
    """Read a file.

    Raises:
        StorageError: it cannot be read.
    """
    with opened(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def write(path: str, data: bytes, scratch: str) -> None:
    """Write a file so that it is whole under its name or not there at all.

    The bytes go to a file of a name of its own in `scratch`, a folder on the same storage, which
    is then renamed; two workers that write the same thing do not meet. Beam's own file sinks
    ignore a rename that fails, so the result is looked at.

    Raises:
        StorageError: it could not be written; nothing is left under `path` that was not there.
    """
    temporary = join(scratch, uuid.uuid4().hex)
    try:
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(data)
        if is_local(path):
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        FileSystems.rename([temporary], [path])
        size = FileSystems.get_filesystem(path).size(path)
        if size != len(data):
            raise StorageError(f"{len(data)} bytes were written but {size} are there")
    except Exception as error:  # each of Beam's file systems raises types of its own
        delete(temporary)
        raise StorageError(f"cannot write {path}: {error}") from error


def delete(path: str) -> None:
    """Delete a file, if it is there."""
    if not exists(path):
        return
    if is_local(path):
        # Beam takes what it is to delete for a glob, so that photo[1].jpg would delete photo1.jpg.
        os.remove(path)
    else:
        FileSystems.delete([path])


def delete_folder(folder: str) -> None:
    """Delete a folder and all below it, if it is there."""
    if is_local(folder):
        if os.path.isdir(folder):
            shutil.rmtree(folder)
    elif paths := [file.path for file in list_folder(folder)]:
        FileSystems.delete(paths)
