"""Containers of images: one small module each, all in one table."""

import dataclasses
import gzip
import os
import posixpath
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, cast

from transforms import codec, storage
from transforms.bounds import USUAL_BOUNDS, Bounds
from transforms.faults import outage_of
from transforms.record import Member
from transforms.shards import fields, idx, lists, npy, npz, parquet, tfrecord, webdataset, zips
from transforms.shards.shard import Content, Place, ShardError, ShardFormat


@dataclass(frozen=True, slots=True)
class Columns:
    """Which features or columns of a shard hold an image and its name; None for the usual ones."""

    image: str | None = None
    name: str | None = None


def formats(columns: Columns) -> dict[str, ShardFormat]:
    """Give all formats, by name."""
    listed = (
        tfrecord.tfrecord_format(columns.image, columns.name),
        webdataset.FORMAT,
        zips.FORMAT,
        parquet.parquet_format(columns.image, columns.name),
        idx.FORMAT,
        npy.FORMAT,
        npz.FORMAT,
    )
    return {known.name: known for known in listed}


USUAL_COLUMNS = Columns()
FORMATS = formats(USUAL_COLUMNS)

_HEAD = 512
# The end of the key of what stands for all images that cannot be listed.
UNLISTED = "#*"
_MOST_BYTES = (1 << 63) - 1  # that a table holds; a header may claim more


def shard_kind(path: str) -> str | None:
    """Tell by its name whether a file is a shard, and of which kind: a key of `FORMATS`."""
    name = path.lower().removesuffix(".gz")
    name = f"{name[:-4]}.tar" if name.endswith(".tgz") else name
    found = (kind for kind, known in FORMATS.items() if name.endswith(known.extensions))
    return next(found, None)


def shard_extensions() -> list[str]:
    """List the extensions that shards end in; each may have .gz behind it."""
    return sorted({extension for known in FORMATS.values() for extension in known.extensions})


LIST = lists.FORMAT.name


def is_list(path: str) -> bool:
    """Tell by its name whether a file may be a list of images."""
    return path.lower().removesuffix(".gz").endswith(lists.FORMAT.extensions)


@dataclass(frozen=True, slots=True)
class Target:
    """A line of a list: the path that it names, what is beside it, or why it names none."""

    path: str
    line: int
    fields: Mapping[str, str]
    trouble: str | None


def targets(path: str, columns: Columns) -> Iterator[Target]:
    """Read a list: what it names, relative to where it is.

    Raises:
        ShardError: it is no list, or has no column of paths.
        StorageError: it cannot be read.
    """
    known = lists.list_format(columns.image)
    with storage.opened(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
    extension = posixpath.splitext(path.lower().removesuffix(".gz"))[1]
    with opened(path, "gzip" if packed else None) as file:
        for found in known.targets(file, extension):
            target = _beside(path, found.uri)
            yield Target(target, found.line, found.fields, found.trouble)


def _beside(path: str, uri: str) -> str:
    """Give the path that a list means; a relative one is relative to the list."""
    uri = uri.removeprefix("file://")
    if not storage.is_local(uri):
        return uri
    if storage.is_local(path):
        return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(path)), uri))
    return posixpath.join(posixpath.dirname(path), uri)


@contextmanager
def opened(path: str, compression: str | None) -> Iterator[BinaryIO]:
    """Open a shard for reading, decompressed.

    Args:
        path: for Beam's FileSystems.
        compression: "gzip", "zlib" or None, as `sniffed` tells.

    Raises:
        StorageError: it cannot be read.
    """
    with storage.opened(path) as file:
        yield _DECOMPRESSED[compression](file) if compression else file


# By name of the compression: how it begins, and what reads it.
_DECOMPRESSED: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    "gzip": lambda file: cast(BinaryIO, gzip.GzipFile(fileobj=file)),
    "zlib": tfrecord.ZlibFile,
}


def sniffed(path: str, known: ShardFormat) -> str | None:
    """Tell how a shard is compressed, having made sure that it is what it is taken for.

    Raises:
        ShardError: it is something else; the message says what it looks like.
        StorageError: it cannot be read.
    """
    with storage.opened(path) as file:
        head = file.read(_HEAD)
    if head[:2] == b"\x1f\x8b":
        compression = "gzip"
    elif known.name == "tfrecord" and not known.looks_right(head) and tfrecord.is_zlib(head):
        compression = "zlib"
    else:
        compression = None
    if compression:
        with opened(path, compression) as file:
            try:
                head = file.read(_HEAD)
            except (OSError, EOFError, zlib.error):
                return compression  # cut or broken at once: planning will say where
    if head and not known.looks_right(head):
        raise ShardError(f"it is no {known.name} shard{_looks_like(head)}")
    return compression


def _looks_like(head: bytes) -> str:
    for known in FORMATS.values():
        if known.looks_right(head):
            return f"; it looks like a {known.name} shard"
    image = codec.format_of(head)
    return f"; it looks like a {image} image" if image else ""


def members(
    path: str, known: ShardFormat, bounds: Bounds = USUAL_BOUNDS
) -> Iterator[tuple[Member, int]]:
    """List the images of a shard, each with a name of its own, and their bytes.

    A shard that cannot be read, or is none, is one member with its trouble; and so are all images
    together that are beyond the bounds.
    """
    times: Counter[str] = Counter()
    compression = None
    try:
        compression = sniffed(path, known)
        with opened(path, compression) as shard:
            for count, entry in enumerate(known.entries(shard)):
                if count == bounds.members:
                    yield _unlisted(known, compression, f"{count:,} images and more", bounds), 0
                    return
                name, trouble = entry.name, entry.trouble
                times[name] += 1
                while times[name] > 1:
                    trouble = trouble or f"the shard holds several images named {entry.name}"
                    name = f"{name}~{times[name]}"
                    times[name] += 1
                yield (
                    Member(
                        known.name,
                        compression,
                        name,
                        entry.place,
                        entry.pixels,
                        trouble,
                        entry.beside,
                    ),
                    min(entry.size, _MOST_BYTES),
                )
    except ShardError as error:
        yield Member(known.name, None, UNLISTED[1:], (), trouble=str(error), is_none=True), 0
    except OSError as error:
        if (outage := outage_of(error)) is not None:
            raise outage from error
        # Nobody knows what else there is: one failure stands for it.
        trouble = f"cannot list the shard: {getattr(error, 'strerror', None) or error}"
        yield Member(known.name, compression, UNLISTED[1:], (), trouble=trouble), 0


def _unlisted(known: ShardFormat, compression: str | None, what: str, bounds: Bounds) -> Member:
    trouble = f"it holds {what}; those beyond the {bounds.members:,} of --max_members are not read"
    return Member(known.name, compression, UNLISTED[1:], (), trouble=trouble)


class OpenShard:
    """The shard that records are read from one after the other, kept open between them.

    Args:
        columns: which hold images and names.
    """

    def __init__(self, columns: Columns) -> None:
        self._formats = formats(columns)
        self._table: tuple[str, Mapping[str, Any]] = ("", {})
        self._path: str | None = None
        self._get: Callable[[Place], Content] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "OpenShard":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._path = self._get = None
        self._stack.close()

    def get(self, path: str, member: Member) -> Content:
        """Read one image.

        Its fields are as they were before the shard was written, if we wrote it.

        Raises:
            ShardError: it cannot be had from the shard.
        """
        if member.trouble:
            raise ShardError(member.trouble)
        try:
            if self._get is None or path != self._path:
                self._close()
                file = self._stack.enter_context(opened(path, member.compression))
                self._get, self._path = self._formats[member.shard].contents(file), path
            content = self._get(member.place)
            if fields.EXACT not in content.fields:
                return content
            return dataclasses.replace(content, fields=fields.restored(content.fields))
        except ShardError:
            raise
        except Exception as error:
            self._close()  # who knows where in the file it stands
            reason = getattr(error, "strerror", None) or error
            raise ShardError(f"cannot read {path}: {reason}") from error

    def row(self, path: str, index: int) -> fields.Fields:
        """Read the fields of an image that is a file of its own, from a table of many.

        Raises:
            ShardError: the table is broken.
            StorageError: it cannot be read.
        """
        if path != self._table[0]:
            data = storage.read(path)
            try:
                self._table = (path, fields.read_table(data))
            except Exception as error:  # pyarrow's, of whatever it meets in a broken file
                raise ShardError(f"cannot read the fields in {path}: {error}") from error
        return fields.row_of(self._table[1], index)
