"""Parquet files with a column of encoded images, as Hugging Face `datasets` publishes them.

An image is bytes, or a struct {bytes, path}; all other columns pass through. A field of a sample is
a pyarrow scalar, because it knows its type, which a plain value does not (int32 or int64?
nanoseconds? a null of what?). `pa.concat_arrays([pa.repeat(value, 1) for value in values])` makes a
column of that type of them again, and `value.as_py()` is the plain value.

Formats: https://parquet.apache.org/docs/file-format/ and, for what `datasets` adds to the schema,
https://huggingface.co/docs/datasets/about_dataset_features.
"""

import gzip
import io
import json
import posixpath
import shutil
import struct
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import codec
from transforms.shards.parquet_footer import Chunk, row_groups
from transforms.shards.shard import Content, Entry, Place, ShardError, ShardFormat
from transforms.shards.stream import BROKEN

# Held of a row group at once, beside the page that is unpacked and a buffer for each column.
_BYTES = 16 << 20
_ROWS = 1024
_BUFFER = 256 << 10

# A page is unpacked whole, some times over, and pyarrow cannot be told how much memory to take.
_LARGE, _MOST_TIMES = 256 << 20, 100

# Where several columns could hold the image, and where no column is said to hold its name.
_IMAGES = ("image", "img", "jpg", "png", "bytes")
_NAMES = ("filename", "file_name", "path", "key", "__key__", "id")

# What pyarrow raises where it cannot read a file.
_DAMAGE = (pa.ArrowException, OSError, MemoryError, ValueError)


def parquet_format(image: str | None = None, name: str | None = None) -> ShardFormat:
    """Describe Parquet files whose images and names are in these columns.

    An image that has no name is called by its position in the file; where a name has no extension,
    it is given that of the file's first image.

    Args:
        image: None for the column that `datasets` annotated as Image, or else the only one of
            bytes or of {bytes, path}; of several the first called image, img, jpg, png or bytes.
        name: of strings or whole numbers. None for the path beside the image, or else the first
            column of strings called filename, file_name, path, key, __key__ or id.
    """
    return ShardFormat(
        name="parquet",
        extensions=(".parquet", ".pq"),
        looks_right=_looks_right,
        entries=partial(_entries, image=image, name=name),
        contents=partial(_contents, image=image, name=name),
        part=lambda place: place[0],
    )


def _looks_right(head: bytes) -> bool:
    return head[:4] in (b"PAR1", b"PARE")  # the second is that of an encrypted footer


# -- planning --------------------------------------------------------------------------------------


def _entries(file: BinaryIO, image: str | None, name: str | None) -> Iterator[Entry]:
    shard = _Shard(file, image, name)
    position = 0
    for group in range(shard.groups):
        yield from _entries_of(shard, group, position)
        position += shard.rows(group)


def _entries_of(shard: "_Shard", group: int, position: int) -> Iterator[Entry]:
    rows, size = shard.rows(group), _average_size(shard, group)
    beside = shard.size_beside(group) // rows if rows else 0
    row = 0

    def entry(name: str | None = None, trouble: str | None = None) -> Entry:
        name = name or f"{position + row:08d}"
        name = name if trouble else _with_extension(name, shard)
        return Entry(name, (group, row), size, trouble=trouble, beside=beside)

    try:
        for name, trouble in _listed(shard, group):
            yield entry(name, trouble)
            row += 1
    except ShardError as error:
        # More rows than the file has bytes are part of the damage: they count as one.
        last = rows if rows <= shard.size else row + 1
        trouble = str(error)
        while row < last:
            yield entry(trouble=trouble)
            row += 1


def _average_size(shard: "_Shard", group: int) -> int:
    chunk = shard.image_chunk(group)
    images = shard.rows(group) - chunk.nulls
    return chunk.size // images if images > 0 else 0


def _with_extension(name: str, shard: "_Shard") -> str:
    known = posixpath.splitext(name)[1].lower() in codec.EXTENSIONS
    return name if known else name + shard.extension


def _listed(shard: "_Shard", group: int) -> Iterator[tuple[str | None, str | None]]:
    """List the rows of a group: the name of each, and the reason if it holds no image.

    Images are read only where the statistics say that some are missing and the paths do not tell
    which, or where so many rows in so small a file want a proof.
    """
    look = _has_unseen_nulls(shard, group) or shard.rows(group) > shard.size
    image = [shard.image] if look else [shard.path] if shard.path else []
    columns = image + ([shard.name] if shard.name else [])
    if not columns:
        yield from ((None, None) for _ in range(shard.rows(group)))
    else:
        for batch in shard.batches(group, columns):
            yield from zip(_names(shard, batch), _missing(shard, batch, look), strict=True)


def _has_unseen_nulls(shard: "_Shard", group: int) -> bool:
    """Tell whether images lack their bytes that are not null together with their paths."""
    nulls = shard.image_chunk(group).nulls
    if nulls and shard.path:
        with suppress(ShardError):  # which listing the paths will meet again
            paths = shard.batches(group, [shard.path])
            return nulls != sum(batch.column(shard.image).null_count for batch in paths)
    return nulls > 0


def _names(shard: "_Shard", batch: pa.RecordBatch) -> list[str | None]:
    columns = []
    if shard.path:
        columns.append(_child(batch.column(shard.image), "path"))
    if shard.name:
        columns.append(batch.column(shard.name))
    names: list[str | None] = [None] * len(batch)
    for column in reversed(columns) if shard.name_is_chosen else columns:
        names = [name or other for name, other in zip(names, _texts(column), strict=True)]
    return names


def _texts(column: pa.Array) -> list[str | None]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type) or pa.types.is_integer(column.type):
        return [None if value is None else str(value) for value in column.to_pylist()]
    # A file may call strings what is no UTF-8, and pyarrow's own decoding is strict.
    values = column.cast(pa.large_binary()).to_pylist()
    return [value and value.decode("utf-8", "surrogateescape") for value in values]


def _missing(shard: "_Shard", batch: pa.RecordBatch, look: bool) -> Iterable[str | None]:
    column = batch.column(shard.image) if look or shard.path else None
    if column is None:
        return [None] * len(batch)
    nulls = (_child(column, "bytes") if look and shard.struct else column).is_null()
    return [
        _why_missing(value) if null else None
        for value, null in zip(column, nulls.to_pylist(), strict=True)
    ]


def _why_missing(value: pa.Scalar) -> str:
    if value.is_valid and pa.types.is_struct(value.type) and "path" in value:
        path = _texts(pa.repeat(value["path"], 1))[0]
        return f"there is only the path of the image, {path!r}, and not the image"
    return "the image is null"


def _child(column: pa.StructArray, name: str) -> pa.Array:
    """Give a child of structs, null also where the struct is."""
    return column.flatten()[column.type.get_field_index(name)]


# -- reading ---------------------------------------------------------------------------------------


def _contents(file: BinaryIO, image: str | None, name: str | None) -> Callable[[Place], Content]:
    return _Reader(_Shard(file, image, name)).get


class _Reader:
    """Reads rows, best in their order: it keeps the batch of the last one, and goes on from it."""

    def __init__(self, shard: "_Shard") -> None:
        self._shard = shard
        self._open(-1)

    def _open(self, group: int) -> None:
        self._group = group
        self._batches = self._shard.batches(group)
        self._batch: pa.RecordBatch | None = None
        self._start = self._stop = 0  # rows of the batch
        self._damage: str | None = None  # what there is in place of the next one

    def get(self, place: Place) -> Content:
        """Read the image of a row, and its other columns."""
        group, row = (int(part) for part in place)
        if not (0 <= group < self._shard.groups and 0 <= row < self._shard.rows(group)):
            raise ShardError(f"there is no row {row} of a row group {group}")
        if group != self._group or row < self._start:
            self._open(group)
        while row >= self._stop:
            self._advance()
        assert self._batch is not None
        values = {name: self._batch.column(name)[row - self._start] for name in self._shard.columns}
        image = values.pop(self._shard.image)
        _check(values)
        return Content(encoded=_encoded(image), fields=values, features=self._shard.features)

    def _advance(self) -> None:
        if self._damage:
            raise ShardError(self._damage)
        try:
            self._batch = next(self._batches)
        except ShardError as error:
            self._damage = str(error)
            raise
        self._start, self._stop = self._stop, self._stop + len(self._batch)


def _check(values: Mapping[str, pa.Scalar]) -> None:
    """Refuse what no reader after us could take for its type, as text that is none."""
    for name, value in values.items():
        try:
            value.validate(full=True)
        except pa.ArrowInvalid as error:
            raise ShardError(f"the column {name} is damaged in this row: {error}") from error


def _encoded(image: pa.Scalar) -> bytes:
    inside = image
    if image.is_valid and pa.types.is_struct(image.type):
        inside = image["bytes"]
    encoded = inside.as_py()
    if encoded is None:
        raise ShardError(_why_missing(image))
    if not encoded:
        raise ShardError("the image has 0 bytes")
    return encoded


# -- the file --------------------------------------------------------------------------------------


class _Shard:
    """A Parquet file: what its columns are, and its row groups in small batches.

    Attributes:
        size: bytes of the file.
        groups: number of row groups.
        columns: names of all columns.
        image: the column of images.
        struct: whether these are structs.
        path: how to select the paths beside the images, if there are any.
        name: the column of names, if there is one.
        name_is_chosen: whether it goes before the paths.
        features: what `datasets` says of the columns, by name.
    """

    def __init__(self, file: BinaryIO, image: str | None, name: str | None) -> None:
        source = self._seekable(file)
        self.size, footer = _footer(source)
        self._groups = row_groups(footer)
        self.groups = len(self._groups)
        with _reading("the footer of the Parquet file is damaged: "):
            # pyarrow would read whole column chunks, and of several columns at once.
            self._parquet = pq.ParquetFile(
                pa.PythonFile(source, "r"),
                pre_buffer=False,
                buffer_size=_BUFFER,
                page_checksum_verification=True,
            )
            schema = self._parquet.schema_arrow
            self.columns: list[str] = schema.names
            self.image = _image_column(schema, image)
            self.name = _name_column(schema, name, self.image)
            kind = schema.field(self.image).type
            self.features = _features(schema)
        self.name_is_chosen = name is not None
        self.struct = pa.types.is_struct(kind)
        self.path = f"{self.image}.path" if self.struct and len(kind) > 1 else None
        self._check_groups()

    def _check_groups(self) -> None:
        metadata = self._parquet.metadata
        paths = [tuple(chunk.path for chunk in group.chunks) for group in self._groups]
        of_image = (self.image, "bytes") if self.struct else (self.image,)
        if (
            metadata.num_row_groups != len(paths)
            or len(set(paths)) > 1
            or any(len(path) != metadata.num_columns or of_image not in path for path in paths[:1])
        ):
            raise ShardError("the footer of the Parquet file is damaged: its row groups differ")
        self._image_chunk = paths[0].index(of_image) if paths else 0
        chunks = [chunk for group in self._groups for chunk in group.chunks]
        for chunk in chunks:
            if chunk.size > _LARGE and chunk.size > _MOST_TIMES * chunk.stored:
                raise ShardError(
                    f"a Parquet file whose column {chunk.path[0]} unpacks from {chunk.stored:,} "
                    f"bytes to {chunk.size:,}, as no column of images does"
                )
        if locked := {chunk.path[0] for chunk in chunks if chunk.encrypted}:
            raise ShardError(
                f"a Parquet file with encrypted columns ({', '.join(sorted(locked))}): write it "
                "again without encryption"
            )

    def _seekable(self, file: BinaryIO) -> BinaryIO:
        """Give a file that can go to its end and back, unpacked if it is compressed as a whole."""
        if not isinstance(file, gzip.GzipFile):
            return file
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the shard
        weakref.finalize(self, unpacked.close)
        try:
            shutil.copyfileobj(file, unpacked, 1 << 20)
        except BROKEN as error:
            raise ShardError(f"the gzip around the Parquet file is damaged: {error}") from error
        return unpacked

    def rows(self, group: int) -> int:
        """Give the number of rows of a group, as the footer has it."""
        return self._groups[group].rows

    def image_chunk(self, group: int) -> Chunk:
        """Give what the footer says of the images of a group."""
        return self._groups[group].chunks[self._image_chunk]

    def size_beside(self, group: int) -> int:
        """Give the bytes of all columns of a group but the images, as the footer has it."""
        chunks = self._groups[group].chunks
        return sum(chunk.size for chunk in chunks) - chunks[self._image_chunk].size

    @cached_property
    def extension(self) -> str:
        """Extension of the first image; for those of all others, one would have to read them."""
        for group in range(self.groups):
            with suppress(ShardError):
                for batch in self.batches(group, [self.image]):
                    for image in batch.column(self.image):
                        with suppress(ShardError):
                            return _extension(_encoded(image))
        return ""

    def batches(self, group: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Read some or all columns of a row group.

        Raises:
            ShardError: the rest of it cannot be read.
        """
        done = 0
        # The second time row by row, to get at those that stood before the damage in their batch.
        for size in (self._batch_rows(group), 1):
            row = 0
            try:
                with _reading():
                    batches = self._parquet.iter_batches(size, [group], columns, use_threads=False)
                    for batch in batches:
                        row += len(batch)
                        if row > done:
                            done = row
                            yield batch
            except ShardError as error:
                damage = f"row group {group} is damaged from its row {done} on: {error}"
            else:
                damage = f"row group {group} ends after {done} of its {self.rows(group)} rows"
                break
        if done < self.rows(group):
            raise ShardError(damage)

    def _batch_rows(self, group: int) -> int:
        chunks = self._groups[group].chunks
        size = sum(chunk.size for chunk in chunks) // max(1, self.rows(group))
        # Each row may be the one long value of a dictionary.
        longest = max(chunk.dictionary for chunk in chunks)
        return min(max(1, _BYTES // max(1, size, longest)), _ROWS)


def _extension(encoded: bytes) -> str:
    known = codec.format_of(encoded)
    return codec.FORMATS[known].extensions[0] if known else ""


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Give the size of a file and its footer."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(4)
    if not _looks_right(head):
        raise ShardError(f"not a Parquet file: it begins with {head!r}")
    file.seek(max(0, size - 8))
    length, mark = struct.unpack("<I4s", file.read(8).rjust(8))
    if mark == b"PARE":
        raise ShardError("an encrypted Parquet file: write it again without encryption")
    if mark != b"PAR1" or length > size - 12:
        raise ShardError(
            f"a Parquet file cut short: its {size:,} bytes do not end with the footer that tells "
            "what is where, without which nothing in it can be found"
        )
    file.seek(size - 8 - length)
    return size, file.read(length)


@contextmanager
def _reading(what: str = "") -> Iterator[None]:
    try:
        yield
    except ShardError:
        raise
    except _DAMAGE as error:
        if getattr(error, "errno", None) is not None:
            raise  # of the storage, and not of what is stored
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ShardError(f"{what}{reason}") from error


# -- columns ---------------------------------------------------------------------------------------


def _image_column(schema: pa.Schema, wanted: str | None) -> str:
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise ShardError(f"several columns are called {', '.join(twice)}")
    listed = ", ".join(f"{field.name}: {field.type}" for field in schema) or "none"
    if wanted is not None and wanted not in schema.names:
        raise ShardError(f"there is no column {wanted}; the columns are {listed}")
    possible = [wanted] if wanted is not None else _annotated(schema) or schema.names
    found = [name for name in possible if _holds_images(schema.field(name).type)]
    if not found:
        raise ShardError(
            f"no column of image files, as binary or struct<bytes: binary, path: string>, but "
            f"{listed if wanted is None else f'{wanted}: {schema.field(wanted).type}'}"
        )
    if len(found) > 1:
        found = [name for name in _IMAGES if name in found][:1] or found
    if len(found) > 1:
        raise ShardError(f"several columns may be the images, choose one of {', '.join(found)}")
    return found[0]


def _annotated(schema: pa.Schema) -> list[str]:
    """Name the columns that `datasets` says are images."""
    features = _features(schema)
    return [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Give what `datasets` has noted in the schema: a description of each column."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {name: kind for name, kind in features.items() if isinstance(kind, dict)}
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _holds_images(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return _is_one_of(kind, _BINARY)
    children = {child.name: child.type for child in kind}
    return (
        len(kind) == len(children)
        and children.keys() <= {"bytes", "path"}
        and _is_one_of(children.get("bytes", pa.null()), _BINARY)
        and _is_one_of(children.get("path", pa.null()), (*_STRING, pa.types.is_null))
    )


def _name_column(schema: pa.Schema, wanted: str | None, image: str) -> str | None:
    if wanted is None:
        return next((name for name in _NAMES if _is_name(schema, name, image, _STRING)), None)
    if not _is_name(schema, wanted, image, (*_STRING, pa.types.is_integer)):
        listed = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise ShardError(f"no column {wanted} of names; the columns are {listed}")
    return wanted


def _is_name(schema: pa.Schema, name: str, image: str, tests: "_Tests") -> bool:
    return name in schema.names and name != image and _is_one_of(schema.field(name).type, tests)


_Tests = tuple[Callable[[pa.DataType], bool], ...]
_BINARY: _Tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
_STRING: _Tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def _is_one_of(kind: pa.DataType, tests: _Tests) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(test(kind) for test in tests)


FORMAT = parquet_format()
