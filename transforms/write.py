"""Encode derivatives and write them, each file whole or not at all."""

import dataclasses
import hashlib
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import apache_beam as beam
import numpy as np

from transforms import codec, metadata, storage
from transforms.codec.compression import compression_of
from transforms.metadata import Origin, Provenance, Tool
from transforms.names import is_confined
from transforms.pages import fold, unfold
from transforms.record import Batch, Derivative, MaskFile, Record, SharedFile, Source
from transforms.scratch import Buffer
from transforms.shards import fields
from transforms.shards.writers import WRITERS, Sample, Writer
from transforms.sign import Signer, Signing
from transforms.stage import StageDoFn

IMAGES = "images"
MASKS = "masks"
SHARDS = "shards"
FIELDS = "fields"
QUARANTINE = "quarantine"
SCRATCH = ".tmp"

# What this stage makes in an output, below which all that is written is ours.
FOLDERS = (IMAGES, MASKS, SHARDS, FIELDS, QUARANTINE)
# Of these, the ones whose files are several images'.
SHARED = (MASKS, SHARDS, FIELDS)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How derivatives are encoded.

    Attributes:
        format: a key of `codec.FORMATS`, or None for each master's own.
        quality: of JPEG and lossy WebP, 1-100.
        untouched: whether the masters' bytes are passed on as they are; arrays become PNG.
        left_out: whether no derivative is encoded or written, nor any mask.
        tool: what they say of how they were made; None to say nothing.
    """

    format: str | None = None
    quality: int = codec.DEFAULT_QUALITY
    untouched: bool = False
    tool: Tool | None = None
    left_out: bool = False

    def name(self, source: Source) -> str:
        """Give the derivative's path below `images/`: the master's, with a second extension where
        the first is another format's, so that a.png and a.jpg cannot meet.
        """
        return self.naming(source)[0]

    def naming(self, source: Source) -> tuple[str, str | None]:
        """Give the derivative's path, and the format to write; None for the master's own.

        Arrays go out as PNG, and so do images whose names do not tell their format, as in shards,
        or tell one that is not written, so that names are known before the images are.
        """
        mirror = source.mirror
        extension = posixpath.splitext(mirror)[1].lower()
        is_array = source.member is not None and source.member.pixels > 0
        written = codec.EXTENSIONS.get(extension) in codec.FORMATS
        tells = not is_array and (self.untouched or written)
        known = self.format or (None if tells else "PNG")
        if known is None or extension in codec.FORMATS[known].extensions:
            return mirror, known
        return mirror + codec.FORMATS[known].extensions[0], known


def encode_record(record: Record, encoding: Encoding, signer: Signer | None = None) -> Record:
    """Encode a record's restored pixels, or its degraded ones where nothing was to be restored;
    and those of its further pages with them, into one file. Sign what comes of it, if there is a
    signer.

    Raises:
        CodecError: the format cannot hold them.
    """
    name, known = encoding.naming(record.source)
    if record.pixels is None and record.encoded is not None:
        return _passed_on(record, name)
    if record.page > 1:  # in a file of its own
        assert known is not None, "the master's own format holds all pages"
        name = record.mirror + codec.FORMATS[known].extensions[0]
    warnings = list(record.warnings)
    data = codec.encode_pages(
        [_page(page, encoding, warnings) for page in (record, *record.further)],
        name=known,
        quality=encoding.quality,
        warnings=warnings,
    )
    record = record.replace(warnings=tuple(warnings))
    signed = False
    if signer is not None:
        record, data, signed = signer.sign(record, name, data)
    pages = (record, *record.further)
    digest = hashlib.sha256(data).hexdigest()
    written = [_encoded(page, data, digest, name, *_size(page), known, signed) for page in pages]
    further = tuple(page.replace(encoded=None) for page in written[1:])
    return written[0].replace(further=further)


def let_go(record: Record) -> Record:
    """Give a record without what would be written of it."""
    return record.replace(
        pixels=None,
        native=None,
        alpha=None,
        reference=None,
        mask=None,
        restored=None,
        fields={},
        features={},
    )


def holds_pages(record: Record, encoding: Encoding) -> bool:
    """Tell whether a master's derivative is one file, whatever its pages are."""
    known = encoding.naming(record.source)[1]
    return (known or (record.form.format if record.form else None)) in codec.OF_PAGES


def _page(record: Record, encoding: Encoding, warnings: list[str]) -> codec.Page:
    """Give what is to be encoded of a record, with what it says of how it was made."""
    form = codec.form_of(record.image) if record.form is None else record.form
    result = record.image if record.restored is None else record.restored
    before = record.image if record.reference is None else record.reference
    known = encoding.naming(record.source)[1]
    form, samples = codec.own_colours(form, result, before, record.native, known)
    name = known or form.format
    if encoding.tool is not None and name in metadata.HOLDING:
        told = metadata.recorded(form.metadata, _provenance(record, encoding.tool, name))
        form = replace(form, metadata=told.blocks)
        warnings += told.warnings
    return codec.Page(form, samples, record.alpha)


def _provenance(record: Record, tool: Tool, name: str) -> Provenance:
    assert record.sha256 is not None, f"{record.key} has not been read"
    done = {"recipe": record.recipe, "page": str(record.page) if record.page > 1 else None}
    told = tuple((name, value) for name, value in done.items() if value)
    return Provenance(tool, Origin(record.key, record.sha256, told), name)


def _size(record: Record) -> tuple[int, int]:
    height, width = (record.image if record.restored is None else record.restored).shape[:2]
    return width, height


def _passed_on(record: Record, name: str) -> Record:
    data = record.encoded
    assert data is not None, f"{record.key} has not been read"
    digest = hashlib.sha256(data).hexdigest()
    stated = codec.probe(data)
    if stated is None:
        warning = "passed on as it is, though it is no image that we can read"
        return _encoded(record.replace(warnings=(*record.warnings, warning)), data, digest, name)
    record = record.replace(
        form=codec.Form(format=stated.format, mode=stated.mode), size=(stated.width, stated.height)
    )
    return _encoded(record, data, digest, name, stated.width, stated.height)


def _encoded(
    record: Record,
    data: Buffer,
    digest: str,
    name: str,
    width: int | None = None,
    height: int | None = None,
    known: str | None = None,
    signed: bool = False,
) -> Record:
    """Let the pixels go, and keep what they became, in a known format or the master's own."""
    form = known or (record.form.format if record.form else None)
    return record.replace(
        encoded=data,
        pixels=None,
        native=None,
        alpha=None,
        reference=None,
        restored=None,
        derivative=Derivative(
            name,
            len(data),
            digest,
            width,
            height,
            form,
            compression=compression_of(data, form),
            signed=signed,
        ),
    )


class _Place(ABC):
    """Where the derivatives of a batch go.

    Args:
        output: the output folder.
    """

    def __init__(self, output: str) -> None:
        self.output = output
        self.shared: list[SharedFile] = []

    @abstractmethod
    def one(self, record: Record) -> Record:
        """Take an encoded record.

        Raises:
            ShardError: it cannot be held.
            StorageError: it could not be written; nothing new is left under the name.
        """

    @abstractmethod
    def all(self, batch_id: str, records: Sequence[Record]) -> list[Record]:
        """Write what is written at the end, of the records that went well; there are some. The
        files of several images that come of it are in `shared`.

        Raises:
            StorageError: it could not be written; nothing new is left under the name.
        """

    def _write(self, folder: str, name: str, data: Buffer | Sequence[bytes]) -> None:
        path = storage.join(self.output, folder, name)
        # Keys and ledgers of earlier jobs name files as well, and not all of them are ours.
        if not is_confined(name):
            raise storage.StorageError(f"cannot write {path}: its name leads out of {folder}")
        storage.write(path, data, scratch=storage.join(self.output, SCRATCH))

    def _write_shared(self, folder: str, name: str, parts: Sequence[bytes]) -> None:
        self._write(folder, name, parts)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        size = sum(map(len, parts))
        self.shared.append(SharedFile(f"{folder}/{name}", size, digest.hexdigest()))


class _Folder(_Place):
    """Files under their masters' names; what came with them is one table for each batch."""

    def one(self, record: Record) -> Record:
        assert record.encoded is not None and record.derivative is not None, "it is encoded"
        folder = QUARANTINE if record.tripped else IMAGES
        self._write(folder, record.derivative.path, record.encoded)
        further = tuple(map(self._with_mask, record.further))
        return self._with_mask(record.replace(encoded=None, further=further))

    def _with_mask(self, record: Record) -> Record:
        if record.mask is None:
            return record
        data = codec.encode_mask(record.mask)
        name = _mask_name(record)
        self._write(MASKS, name, data)
        return record.replace(mask_file=_mask_file(record.mask, name, data))

    def all(self, batch_id: str, records: Sequence[Record]) -> list[Record]:
        if any(record.fields for record in records):
            names = [record.derivative.path for record in records if record.derivative]
            table = fields.write_table(names, [record.fields for record in records])
            self._write_shared(FIELDS, f"{batch_id}{fields.EXTENSION}", [table])
        return list(records)


class _Shards(_Place):
    """A shard for each batch, named by its id; masks are another of the same name. What is
    quarantined is no part of them, and is written as files.
    """

    def __init__(self, output: str, writer: Writer) -> None:
        super().__init__(output)
        self.writer = writer
        self.apart = _Folder(output)

    def one(self, record: Record) -> Record:
        if record.tripped:
            return self.apart.one(record)
        self.writer.check(_sample(record))
        return record

    def all(self, batch_id: str, records: Sequence[Record]) -> list[Record]:
        sound = [record for record in records if not record.tripped]
        apart = [record for record in records if record.tripped]
        if apart:
            self.apart.all(batch_id, apart)
            self.shared += self.apart.shared
            self.apart.shared = []
        packed = iter(self._packed(batch_id, sound) if sound else ())
        return [record if record.tripped else next(packed) for record in records]

    def _packed(self, batch_id: str, records: Sequence[Record]) -> list[Record]:
        shard = f"{batch_id}{self.writer.extension}"
        masks = iter(self._masks(shard, [page for one in records for page in (one, *one.further)]))
        packed = self.writer.pack([_sample(record) for record in records])
        self._write_shared(SHARDS, shard, packed.parts)
        written = []
        for record, member in zip(records, packed.names, strict=True):
            first, *further = (
                self._in_shard(page, shard, member).replace(mask_file=next(masks))
                for page in (record, *record.further)
            )
            written.append(first.replace(further=tuple(further)))
        return written

    def _in_shard(self, record: Record, shard: str, member: str) -> Record:
        one = record.derivative
        assert one is not None, "it is encoded"
        return record.replace(
            encoded=None, derivative=dataclasses.replace(one, shard=shard, member=member)
        )

    def _masks(self, shard: str, records: Sequence[Record]) -> list[MaskFile | None]:
        data = [
            None if record.mask is None else codec.encode_mask(record.mask) for record in records
        ]
        samples = [
            Sample(_mask_name(record), encoded)
            for record, encoded in zip(records, data, strict=True)
            if encoded is not None
        ]
        if not samples:
            return [None] * len(records)
        packed = self.writer.pack(samples)
        self._write_shared(MASKS, shard, packed.parts)
        names = iter(packed.names)
        return [
            None
            if record.mask is None or encoded is None
            else _mask_file(record.mask, next(names), encoded)
            for record, encoded in zip(records, data, strict=True)
        ]


def _sample(record: Record) -> Sample:
    assert record.encoded is not None and record.derivative is not None, "it is encoded"
    source, name = record.source, record.derivative.path
    member = None
    if source.member is not None and source.member.shard == "webdataset":
        # Its name there tells its sample. Of a tar of ours, it is the name below the output, too.
        ending = name[len(source.mirror) :]
        member = (source.mirror if source.mirrored is None else source.member.name) + ending
    # A shard is put together in memory.
    return Sample(name, bytes(record.encoded), record.fields, record.features, member)


def _mask_name(record: Record) -> str:
    return f"{record.mirror}.png"  # always one more extension, so that no two can meet


def _mask_file(mask: np.ndarray, name: str, data: bytes) -> MaskFile:
    return MaskFile(name, len(data), hashlib.sha256(data).hexdigest(), float(mask.mean()))


class Write(beam.PTransform):
    """Write the derivatives of batches and the masks of their degradations.

    Masks are bilevel PNG: white is missing.

    Args:
        output: the output folder.
        encoding: format and quality.
        container: a key of `WRITERS`, for a shard a batch below OUTPUT/shards; None for a file an
            image below OUTPUT/images.
        signing: how derivatives are signed, if they are.
    """

    def __init__(
        self,
        output: str,
        encoding: Encoding,
        container: str | None = None,
        signing: Signing | None = None,
    ) -> None:
        super().__init__()
        self.output = output
        self.encoding = encoding
        self.container = container
        self.signing = signing

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        write = beam.ParDo(_WriteDoFn(self.output, self.encoding, self.container, self.signing))
        return batches | write.with_output_types(Batch)


class _WriteDoFn(StageDoFn):
    def __init__(
        self, output: str, encoding: Encoding, container: str | None, signing: Signing | None
    ) -> None:
        super().__init__("write")
        self.output = output
        self.encoding = encoding
        self.container = container
        self.signing = signing

    def setup(self) -> None:
        container = self.container
        self.place = _Shards(self.output, WRITERS[container]) if container else _Folder(self.output)
        self.signer = None if self.signing is None else Signer(self.signing)

    def process(self, batch: Batch) -> Iterable[Batch]:
        if self.encoding.left_out:
            yield self.run(batch, {"write": let_go})
            return

        def write(record: Record) -> Record:
            return self.place.one(encode_record(record, self.encoding, self.signer))

        files = fold(batch, lambda record: holds_pages(record, self.encoding))
        yield self.run(files, {"write": write}, self._finish)

    def _finish(self, batch: Batch) -> Batch:
        self.place.shared = []
        done = batch.through("write", lambda records: self.place.all(batch.id, records))
        return unfold(dataclasses.replace(done, files=tuple(self.place.shared)))
