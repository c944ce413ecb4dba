"""What travels: a source to read, a record of one image, a batch of records, and its plan."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from transforms.deadline import Limit, Working
from transforms.faults import outage_of
from transforms.names import safe_path

if TYPE_CHECKING:
    from transforms.codec import Form
    from transforms.scratch import Buffer
    from transforms.shards.fields import Fields
    from transforms.shards.shard import Place


@dataclass(frozen=True, slots=True)
class Member:
    """One image among those of a shard.

    Attributes:
        shard: kind of the shard, a key of `shards.FORMATS`.
        compression: of the whole shard: "gzip", "zlib" or None.
        name: what the shard calls the image; of two of one name, the second ends in ~2.
        place: where in the shard it is, as its format knows it.
        pixels: how many it has, of one that is stored as an array; else 0.
        trouble: why it cannot be read, if planning found that out.
        beside: bytes of what comes with it, roughly.
        is_none: whether it stands for a file that is no such shard.
    """

    shard: str
    compression: str | None
    name: str
    place: "Place"
    pixels: int = 0
    trouble: str | None = None
    beside: int = 0
    is_none: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Where a record is read from, as the planner saw it.

    Attributes:
        key: the record's stable id inside the archive: its relative path, with forward slashes;
            of an image in a shard, the shard's, then # and the image's name.
        path: the file to read, or that holds it, for Beam's FileSystems.
        size: bytes of the image.
        modified: when the file was, in seconds since 1970, in UTC.
        member: which of the file's images it is, where the file is a shard.
        fields: what a list says beside it, by name.
        mirrored: the derivative's path, where the key does not tell: of an earlier job's output.
        table: the file and the row of what came with it, where it is a file of its own.
    """

    key: str
    path: str
    size: int
    modified: float
    member: Member | None = None
    fields: tuple[tuple[str, str], ...] = ()
    mirrored: str | None = None
    table: tuple[str, int] | None = None

    @property
    def held(self) -> int:
        """Bytes of the image and of what comes with it."""
        return self.size + (self.member.beside if self.member else 0)

    @property
    def mirror(self) -> str:
        """The derivative's path below the output, but for its extension: the key, with a shard for
        a folder. Whatever a shard calls its images, they stay inside.
        """
        if self.mirrored is not None:
            return self.mirrored
        if self.member is None:
            return self.key
        shard = self.key[: -len(self.member.name) - 1]
        return f"{shard}/{safe_path(self.member.name)}"

    @classmethod
    def of(cls, fields: Sequence[Any]) -> "Source":
        """Make one of the values of its attributes, as JSON has them."""
        key, path, size, modified, member, said, mirrored, table = fields
        if member is not None:
            shard, compression, name, place, *known = member
            member = Member(shard, compression, name, tuple(place), *known)
        said = tuple((name, text) for name, text in said)
        table = None if table is None else (table[0], table[1])
        return cls(key, path, size, modified, member, said, mirrored, table)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record has no derivative: the stage it failed in, the type of error, the reason."""

    stage: str
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class Tripped:
    """A guard that quarantines a record: its name, value and threshold, and the reason in words."""

    guard: str
    value: float
    threshold: float
    message: str


# Without slots: records are copied in every stage, and a dictionary is copied in one go.
@dataclass(frozen=True, kw_only=True)
class Record:
    """One image and all that is known of it; each stage adds its own.

    Attributes:
        source: where it comes from.
        sha256: of the encoded master, in hexadecimal.
        encoded: the bytes of the master, until they are decoded; then those of the derivative,
            until they are written. Of a large one, a view of a mapped file (see `scratch`).
        fields: what came with it in its shard, by name, with its type.
        features: what its shard says of the fields, as Hugging Face's `datasets` describes them.
        form: how the master was encoded, and what to write back beside the pixels.
        pixels: uint8 or uint16 [H, W, C], C 1 or 3, sRGB or gray with its curve, upright; degraded
            where that was asked.
        native: the master's own samples [H, W, C'], of another profile or kind of colour; None
            where they are the pixels.
        alpha: [H, W] of the same type, kept aside.
        reference: the pixels before degradation, where there was any.
        recipe: what the degradation was for this record, as the canonical text of its steps.
        mask: bool [H, W], True where the degradation took pixels away.
        mask_file: the mask as it was written, if there is one.
        restored: the model's result, in the type of `pixels`.
        size: width and height of the upright master in pixels, where they are known.
        seams: where the model's tiles meet: the middles of the seams between rows of them, and
            between columns; None of an image that no model has seen.
        guards: what the guards measured, by name; None where there was nothing to measure.
        tripped: the guards that quarantine it.
        metrics: scores by name; None where a score is not defined for this image.
        derivative: what was written: its path below the output, bytes and digest.
        warnings: what a person should know of this record.
        failure: set when a stage failed; later stages pass the record on.
        page: which page of its file it is, from 1; previews and masks are not counted.
        further: records of the file's further pages, while it is one record: see `pages`.
        spent: seconds of work on it so far, where there is a limit to them.
        model: the name of the model that is applied to it.
        cell: the name of its cell, of several: see `cells`.
    """

    source: Source
    sha256: str | None = None
    encoded: "Buffer | None" = None
    fields: "Fields" = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    form: "Form | None" = None
    pixels: np.ndarray | None = None
    native: np.ndarray | None = None
    alpha: np.ndarray | None = None
    reference: np.ndarray | None = None
    recipe: str | None = None
    mask: np.ndarray | None = None
    mask_file: "MaskFile | None" = None
    restored: np.ndarray | None = None
    size: tuple[int, int] | None = None
    seams: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    guards: Mapping[str, float | None] = field(default_factory=dict)
    tripped: tuple[Tripped, ...] = ()
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    derivative: "Derivative | None" = None
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    page: int = 1
    further: tuple["Record", ...] = ()
    spent: float = 0.0
    model: str | None = None
    cell: str | None = None

    @property
    def image(self) -> np.ndarray:
        """The pixels, of a record that has been decoded."""
        assert self.pixels is not None, f"{self.key} has not been decoded"
        return self.pixels

    @property
    def key(self) -> str:
        """The record's stable id inside the archive: its file's, with a further page's number."""
        return self.source.key if self.page == 1 else f"{self.source.key}#page={self.page}"

    @property
    def mirror(self) -> str:
        """The path of what is written for this page alone, but for its extension."""
        return self.source.mirror if self.page == 1 else f"{self.source.mirror}#page={self.page}"

    def replace(self, **changes: Any) -> "Record":
        """Copy the record with some attributes changed.

        Raises:
            TypeError: it has no such attribute.
        """
        copied = object.__new__(Record)
        known = vars(copied)
        known.update(vars(self))
        known.update(changes)
        if len(known) != len(vars(self)):
            raise TypeError(f"a record has no {', '.join(changes.keys() - vars(self).keys())}")
        return copied

    def failed(self, stage: str, error: BaseException) -> "Record":
        """Copy the record with its failure, and without the pixels nobody will need."""
        message = " ".join(str(error).split()) or type(error).__name__
        return Record(
            source=self.source,
            sha256=self.sha256,
            form=self.form,
            size=self.size,
            recipe=self.recipe,
            warnings=self.warnings,
            failure=Failure(stage, type(error).__name__, message),
            page=self.page,
            further=tuple(page.failed(stage, error) for page in self.further),
            model=self.model,
            cell=self.cell,
        )


@dataclass(frozen=True, slots=True)
class Derivative:
    """A written image.

    Attributes:
        path: below the output's images folder, or as it would be there.
        size: bytes.
        sha256: of its bytes, in hexadecimal.
        width: in pixels; None where the image was passed on and does not say.
        height: likewise.
        format: a key of `codec.FORMATS`; None likewise.
        compression: as the file states it; None likewise.
        shard: name of the file that holds it, below the output's shards folder, if one does.
        member: what that file calls it.
        signed: whether it holds content credentials.
    """

    path: str
    size: int
    sha256: str
    width: int | None
    height: int | None
    format: str | None = None
    compression: str | None = None
    shard: str | None = None
    member: str | None = None
    signed: bool = False


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A written mask: path below the output's masks folder, or its name in the file there that is
    called like the derivative's shard; bytes; SHA-256; share of pixels masked.
    """

    path: str
    size: int
    sha256: str
    share: float


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A written file of several images: path below the output, bytes, SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The unit of work: the records of one spec, read, restored, written and committed as one.

    Attributes:
        id: depends on their keys alone; of a cell, on that as well: see `id_in_cell`.
        records: in the order of the spec.
        files: those that were written for several of them.
        started: when the first was read, in seconds since 1970.
        limit: how long each of them may take, if there is a limit.
        cells: numbers of the cells to take them through, of a job that has several.
    """

    id: str
    records: tuple[Record, ...]
    files: tuple[SharedFile, ...] = ()
    started: float | None = None
    limit: Limit | None = None
    cells: tuple[int, ...] = ()

    def __len__(self) -> int:
        return sum(1 + len(record.further) for record in self.records)

    @property
    def nbytes(self) -> int:
        """Bytes of the encoded masters and of all arrays."""
        records = [page for record in self.records for page in (record, *record.further)]
        return sum(
            len(held) if isinstance(held, bytes) else held.nbytes
            for record in records
            for held in (
                record.encoded,
                record.pixels,
                record.native,
                record.alpha,
                record.reference,
                record.mask,
                record.restored,
            )
            if held is not None
        )

    @property
    def failures(self) -> int:
        """How many of the records have failed so far, those of further pages among them."""
        return sum(
            page.failure is not None
            for record in self.records
            for page in (record, *record.further)
        )

    def map(self, functions: Mapping[str, Callable[["Record"], "Record"]]) -> "Batch":
        """Take every record that has not failed through functions, by the names of their stages.

        A record on which one raises carries its failure from here on: no image can fail a batch.

        Raises:
            OutageError: storage is to blame, and no record.
        """
        return self.of(_through(functions, record, self.limit) for record in self.records)

    def through(
        self, stage: str, function: Callable[[list["Record"]], Sequence["Record"]]
    ) -> "Batch":
        """Take all records that have not failed through a function together, if there are any.

        Where it raises, every one of them carries the failure.

        Raises:
            OutageError: storage is to blame, and no record.
        """
        sound = [record for record in self.records if not record.failure]
        if not sound:
            return self
        try:
            done = iter(function(sound))
        except Exception as error:  # counted, committed and reported as failure of each record
            _raise_outage(error)
            done = iter([record.failed(stage, error) for record in sound])
        return self.of(record if record.failure else next(done) for record in self.records)

    def of(self, records: Iterable["Record"]) -> "Batch":
        """Copy the batch with its records as they have become."""
        return dataclasses.replace(self, records=tuple(records))


def batch_id(keys: Iterable[str]) -> str:
    """Give the id of a batch of masters, by their keys in its order."""
    joined = "\0".join(keys).encode("utf-8", "surrogateescape")
    return hashlib.sha256(joined).hexdigest()[:16]


def id_in_cell(batch: str, cell: int) -> str:
    """Give the id under which a batch is committed in one of several cells, by their ids."""
    return f"{batch}-{cell:03}"


def _through(
    functions: Mapping[str, Callable[[Record], Record]], record: Record, limit: Limit | None
) -> Record:
    for stage, function in functions.items():
        if record.failure:
            break
        try:
            record = function(record) if limit is None else _timed(stage, function, record, limit)
        except Exception as error:  # counted, committed and reported as this record's failure
            _raise_outage(error)
            record = record.failed(stage, error)
    return record


def _timed(
    stage: str, function: Callable[[Record], Record], record: Record, limit: Limit
) -> Record:
    limit.check(record.key, stage, record.spent)
    with Working(limit, stage, (record.key,), record.spent) as work:
        done = function(record)
    # A copy is not worth what is nothing beside the limit.
    seconds = work.seconds
    return done.replace(spent=seconds) if seconds - done.spent > limit.seconds / 1000 else done


def _raise_outage(error: Exception) -> None:
    # The batch is not committed, and the next run, or the runner's next attempt, does it.
    if (outage := outage_of(error)) is not None:
        raise outage


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """What to read for one batch. The only thing that Beam ever shuffles on the way to the pixels.

    Attributes:
        sources: the records to read, in the order to read them.
        pixels: an estimate of their pixels, for sharing the work out evenly.
        cuts: where one batch ends and the next begins, of a spec that is several batches: what has
            to be read from its beginning, as a compressed shard has, is one worker's.
        cells: numbers of the cells to take them through, of a job that has several.
    """

    sources: tuple[Source, ...]
    pixels: int
    cuts: tuple[int, ...] = ()
    cells: tuple[int, ...] = ()

    def to_json(self) -> str:
        """Write the spec as one line, so that no runner has to pickle it."""
        spec = {"sources": self.sources, "pixels": self.pixels, "cuts": self.cuts}
        return json.dumps(spec | ({"cells": self.cells} if self.cells else {}), default=_values)

    @classmethod
    def from_json(cls, text: str) -> "BatchSpec":
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        sources = tuple(map(Source.of, fields["sources"]))
        cells = tuple(fields.get("cells", ()))
        return cls(sources, fields["pixels"], tuple(fields["cuts"]), cells)

    def batches(self) -> Iterator[Batch]:
        """Give its batches, with nothing read yet.

        Their ids depend on the keys alone: the same plan gives the same commit records.
        """
        for start, stop in itertools.pairwise((0, *self.cuts, len(self.sources))):
            sources = self.sources[start:stop]
            records = tuple(Record(source=source) for source in sources)
            yield Batch(batch_id(source.key for source in sources), records, cells=self.cells)


def commits_of(line: str) -> Iterator[str]:
    """Give the ids that the batches of a spec, as `to_json` gives it, are committed under.

    Of all that the line says this looks at keys alone, and so takes a fifth of the time.
    """
    try:
        fields = orjson.loads(line)
    except ValueError:  # orjson takes no name that is no text, which JSON can hold
        fields = json.loads(line)
    keys, cells = [source[0] for source in fields["sources"]], fields.get("cells")
    for start, stop in itertools.pairwise((0, *fields["cuts"], len(keys))):
        batch = batch_id(keys[start:stop])
        yield from (id_in_cell(batch, cell) for cell in cells) if cells else (batch,)


def _values(held: Source | Member) -> list[Any]:
    """Give the values of the attributes, in their order."""
    return [getattr(held, name) for name in held.__slots__]
