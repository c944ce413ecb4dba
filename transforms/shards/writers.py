"""Containers that images are written into: a function for each kind, in one table.

What is written is what the kind's own libraries expect, and what `FORMATS` reads back: the same
encoded images, names and fields. The same samples make the same bytes: there are no times in it.
"""

import io
import json
import posixpath
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import codec
from transforms.shards import example, fields, tfrecord, webdataset
from transforms.shards.fields import Fields
from transforms.shards.shard import ShardError


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to put into a container.

    Attributes:
        name: the derivative's path, with forward slashes.
        encoded: bytes of its file.
        fields: what comes with it.
        features: what `datasets` has to say of the fields.
        member: of an image from a tar, its path there, whose sample it stays in; else None.
    """

    name: str
    encoded: bytes
    fields: Fields = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """A container in parts, and what each image is called in it."""

    parts: list[bytes]
    names: list[str]


@dataclass(frozen=True, slots=True)
class Writer:
    """How one kind of container is written.

    Attributes:
        extension: of its files.
        check: raises ShardError for an image that it cannot hold.
        pack: makes a container of one image or more.
    """

    extension: str
    check: Callable[[Sample], object]
    pack: Callable[[Sequence[Sample]], Packed]


# Bytes of a protocol buffer, and of a value in Parquet; less what names and lengths may take.
_LARGEST = (1 << 31) - (1 << 20)


def _check_size(sample: Sample) -> None:
    size = len(sample.encoded) + sum(
        value.nbytes for value in map(fields.column, sample.fields.values())
    )
    if size > _LARGEST:
        raise ShardError(
            f"the image and its fields are {size:,} bytes, more than the 2 GiB that one image of "
            "a TFRecord or a Parquet file may have; choose another --output_format"
        )


# -- TFRecord --------------------------------------------------------------------------------------


def _tfrecord(samples: Sequence[Sample]) -> Packed:
    parts = [
        tfrecord.framed(example.written(sample.encoded, sample.name, sample.fields))
        for sample in samples
    ]
    return Packed(parts, [sample.name for sample in samples])


# -- Parquet ---------------------------------------------------------------------------------------

_IMAGE = "image"
_IMAGES = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_UNDECODED = re.compile("[\udc80-\udcff]")


def _parquet(samples: Sequence[Sample]) -> Packed:
    # Parquet's strings are Unicode, and names of files need not be.
    names = [
        _UNDECODED.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", sample.name)
        for sample in samples
    ]
    images = [
        {"bytes": sample.encoded, "path": name} for sample, name in zip(samples, names, strict=True)
    ]
    others = fields.columns([sample.fields for sample in samples], taken=[_IMAGE])
    table = pa.table({_IMAGE: _chunked(images), **others})
    about = {name: said for sample in samples for name, said in sample.features.items()}
    about = {name: said for name, said in about.items() if name in others}
    features = {"info": {"features": {_IMAGE: {"_type": "Image"}, **about}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(features, sort_keys=True)})
    out = io.BytesIO()
    # Images are compressed already, and no two are the same.
    pq.write_table(table, out, compression="none", use_dictionary=False, write_page_checksum=True)
    return Packed([out.getvalue()], names)


def _chunked(images: list[dict[str, Any]]) -> pa.ChunkedArray:
    """Make a column of images; an array holds no more than 2 GiB of them."""
    chunks: list[list[dict[str, Any]]] = [[]]
    size = 0
    for image in images:
        if size + len(image["bytes"]) > _LARGEST:
            chunks.append([])
            size = 0
        chunks[-1].append(image)
        size += len(image["bytes"])
    return pa.chunked_array([pa.array(chunk, _IMAGES) for chunk in chunks])


# -- WebDataset ------------------------------------------------------------------------------------


def _webdataset(samples: Sequence[Sample]) -> Packed:
    """Write a tar in which each image is a sample of its own, but those from one sample of a tar.

    Fields that are bytes are members, as they were; the others are a member .json, and exactly as
    they are in another.
    """
    tape, names = _Tape(), []
    for sample in samples:
        key, extension = webdataset.split(_member(sample))
        others = _members(sample.fields)
        key = tape.begin(key, extension, others, joins=sample.member is not None)
        names.append(f"{key}.{extension}")
        tape.add(names[-1], sample.encoded)
        tape.add_fields(others)
    return Packed(tape.end(), names)


def _member(sample: Sample) -> str:
    """Name an image in a tar: up to the first dot of its base name is what samples go by.

    Raises:
        ShardError: there is no extension to know it by.
    """
    name = sample.name if sample.member is None else sample.member
    stem, extension = posixpath.splitext(name)
    if extension.lower() not in codec.EXTENSIONS:
        known = codec.format_of(sample.encoded)
        if known is None:
            raise ShardError(
                f"in a tar images are known by their extensions, and neither the name {name} nor "
                "its first bytes tell which it is; choose another --output_format"
            )
        stem, extension = name, codec.FORMATS[known].extensions[0]
    if sample.member is None:
        folder, slash, base = stem.rpartition("/")
        # A leading dot would hide it, and any other would end the sample's key.
        stem = folder + slash + base.replace(".", "%2E")
    return stem + extension


def _members(values: Fields) -> dict[str, bytes]:
    """Give the members that hold fields, by their extensions."""
    made = {name: value.as_py() for name, value in values.items() if _is_member(name, value)}
    rest = {name: value for name, value in values.items() if name not in made}
    if rest:
        without = []
        if "json" not in made:
            made["json"] = _readable(rest)
            without.append("json")
        made[fields.EXACT] = fields.exact(rest, without)
    return made


def _is_member(name: str, value: pa.Scalar) -> bool:
    """Tell whether a member of the sample can hold a field as it is."""
    named = name.isprintable() and webdataset.split(f"key.{name}") == ("key", name)
    image = posixpath.splitext(f"key.{name}")[1].lower() in codec.EXTENSIONS
    is_bytes = value.is_valid and value.type == pa.binary()
    return bool(named and not image and is_bytes and name != fields.EXACT)


def _readable(values: Fields) -> bytes:
    def plain(value: Any) -> Any:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    held = {name: value.as_py() for name, value in values.items()}
    return json.dumps(held, default=plain, ensure_ascii=False).encode("utf-8", "backslashreplace")


class _Tape:
    """A tar that is being written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._taken: set[str] = set()
        self._key = ""
        self._wanted: str | None = None  # the key by which another image may join the sample
        self._images: set[str] = set()
        self._others: dict[str, bytes] = {}

    def begin(self, key: str, extension: str, others: Mapping[str, bytes], *, joins: bool) -> str:
        """Start a sample, or go on with the last one, and give its key.

        Args:
            key: that is wanted; a number is added to one that is taken.
            extension: of the image.
            others: the other members that come with it.
            joins: whether it may be in a sample with the image before it.
        """
        if not (joins and key == self._wanted and self._takes(extension, others)):
            self._key, times = key, 1
            while self._key in self._taken:
                times += 1
                self._key = f"{key}~{times}"
            self._taken.add(self._key)
            self._wanted = key if joins else None
            self._images, self._others = set(), {}
        self._images.add(extension)
        return self._key

    def _takes(self, extension: str, others: Mapping[str, bytes]) -> bool:
        """Tell whether the sample has no member that is in the way of these."""
        if extension in self._images or extension in self._others or others.keys() & self._images:
            return False
        return all(self._others.get(name, data) == data for name, data in others.items())

    def add_fields(self, others: Mapping[str, bytes]) -> None:
        """Add what comes with the image, unless another of the sample has brought it."""
        for extension, data in others.items():
            if extension not in self._others:
                self.add(f"{self._key}.{extension}", data)
                self._others[extension] = data

    def add(self, name: str, data: bytes) -> None:
        """Add a member."""
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._parts += [
            member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"),
            data,
            bytes(-len(data) % tarfile.BLOCKSIZE),
        ]

    def end(self) -> list[bytes]:
        """Give the tar, filled up to a whole record."""
        size = sum(map(len, self._parts)) + 2 * tarfile.BLOCKSIZE
        return [*self._parts, bytes(2 * tarfile.BLOCKSIZE + -size % tarfile.RECORDSIZE)]


WRITERS: dict[str, Writer] = {
    "tfrecord": Writer(".tfrecord", _check_size, _tfrecord),
    "webdataset": Writer(".tar", _member, _webdataset),
    "parquet": Writer(".parquet", _check_size, _parquet),
}
