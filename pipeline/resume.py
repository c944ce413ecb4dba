"""What is left to do of an archive, as the ledger of its output has it."""

import dataclasses
import fnmatch
import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from pipeline.earlier import FIELDS_ROW, derivatives
from pipeline.ledger import Ledger, Row, batch_of
from pipeline.options import DAMAGED
from pipeline.packages.package import master, place
from pipeline.packed import packed_sources
from pipeline.verify import verify
from transforms import storage
from transforms.read import read_record
from transforms.record import Record, Source
from transforms.shards import UNLISTED, Columns, OpenShard
from transforms.write import FIELDS, MASKS

log = logging.getLogger("heliograph")

_NAMED = 5  # keys that a line of the log names


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a job has still to do.

    Attributes:
        sources: the images, in the order of the archive.
        kept: records that are committed and stay as they are.
        cells: numbers of the cells that images are to go through, by key, of a job that has
            several, where it is not all of them.
        of: how many cells there are; 1 of a job that has not several.
        counts: how many of the images are "new", "changed" (other bytes than those that were
            restored), or done "again" (because --retry asks for it).
        gone: keys that are committed and no longer in the archive; their derivatives stay.
        retired: keys whose rows are no longer true, each with the cell's name or None.
        records: paths of the commit records that hold rows of these or of `touched`.
        groups: batches to be made again as they were, by their ids: keys of their masters.
        touched: rows of masters that have another time stamp and the bytes that they had, by key.
    """

    sources: Sequence[Source]
    kept: int
    counts: Counter[str] = field(default_factory=Counter)
    gone: Sequence[str] = ()
    retired: Collection["Place"] = ()
    records: Collection[str] = ()
    groups: dict[str, list[str]] = field(default_factory=dict)
    touched: dict[str, Source] = field(default_factory=dict)
    cells: dict[str, tuple[int, ...]] = field(default_factory=dict)
    of: int = 1

    @property
    def planned(self) -> int:
        """How many records there are to be in the ledger at the end."""
        usual = self.of * (len(self.sources) - len(self.cells))
        return self.kept + usual + sum(map(len, self.cells.values()))

    @property
    def usual(self) -> tuple[int, ...]:
        """The numbers of the cells that images go through of which `cells` says nothing else."""
        return tuple(range(self.of)) if self.of > 1 else ()

    def limited(self, most: int) -> "Left":
        """Leave all but the first images for another run."""
        sources = self.sources[:most]
        keys = {source.key for source in sources}
        stay = [place for place in self.retired if place[0] not in keys]
        return dataclasses.replace(
            self,
            sources=sources,
            kept=self.kept + len(stay),
            counts=Counter({"to do now": len(sources), "later": len(self.sources) - len(sources)}),
            retired={place for place in self.retired if place[0] in keys},
            groups={batch: some for batch, some in self.groups.items() if keys.issuperset(some)},
            cells={key: through for key, through in self.cells.items() if key in keys},
        )


# A key, and the name of a cell; None in a job of one.
Place = tuple[str, str | None]


class _Known(NamedTuple):
    """What the ledger knows of a master, in one cell."""

    size: int
    modified: float
    sha256: str | None
    status: str
    record: str


class State:
    """A digest of what planning saw of an archive: the same digest, the same images as far as
    names, sizes and times tell.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def seeing(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Pass images on, and take them into the digest."""
        for source in sources:
            line = f"{source.key}\0{source.path}\0{source.size}\0{source.modified}\n"
            self._digest.update(line.encode("utf-8", "surrogateescape"))
            yield source

    def hexdigest(self) -> str:
        """Give the digest of all that were passed on."""
        return self._digest.hexdigest()


def selected(sources: Sequence[Source], only: Sequence[str]) -> Sequence[Source]:
    """Give the images whose keys match one of several globs, or are one of them; all for none."""
    if not only:
        return sources
    exact = set(only)
    globs = [glob for glob in only if storage.has_meta(glob)]
    return [
        source
        for source in sources
        if source.key in exact or any(fnmatch.fnmatchcase(source.key, glob) for glob in globs)
    ]


def find_left(
    ledger: Ledger,
    sources: Sequence[Source],
    *,
    retry: Collection[str] = (),
    columns: Columns,
    whole: bool = True,
    cells: Sequence[str | None] = (None,),
) -> Left:
    """Compare an archive with what is committed.

    A master whose size or time stamp is another than it was is read, and its SHA-256 decides. What
    was written for several images at once, such as a shard, is made again as a whole, if all of its
    masters are asked for: else it keeps what the ledger no longer knows.

    Args:
        ledger: of the output.
        sources: the images of the archive, or those of it that are asked for.
        retry: statuses whose records are done again, and `DAMAGED` for those whose files are not
            what they were.
        columns: of shards that hold images and names.
        whole: whether the sources are all of the archive, so that what is not among them is gone.
        cells: names of the job's cells.

    Raises:
        StorageError: a commit record cannot be read.
    """
    known: dict[str, dict[str | None, _Known]] = {}
    shared: dict[str, dict[str, bool]] = {}  # of files of several images: is it in one of them?
    # An image of several cells is in several commit records, and what is damaged no row says.
    usual = len(cells) == 1 and DAMAGED not in retry
    aside = _Aside(sources, retry, cells[0]) if usual else None
    for path, record in ledger.records():
        # A further page is of the same master as the first, and went the same way.
        rows = [row for row in record["rows"] if row["page"] == 1]
        if aside is not None and aside.takes(rows):
            continue
        for row in rows:
            seen = (row["source_bytes"], row["source_modified"], row["source_sha256"])
            known.setdefault(row["key"], {})[row.get("cell")] = _Known(*seen, row["status"], path)
            if record["files"]:
                group = shared.setdefault(_batch(batch_of(path)), {})
                group[row["key"]] = group.get(row["key"], False) or row["derivative"] is not None
    kept = 0
    if aside is not None:
        sources, kept = aside.others(sources), aside.count
    named = {_batch(name): keys for name, keys in ledger.again().items()}
    groups: dict[str, list[str]] = {}
    if named:
        groups = _whole(named, {source.key for source in sources} - known.keys())
    if not known:
        new = Counter(new=len(sources)) if sources or not kept else Counter()
        return Left(sources=sources, kept=kept, counts=new, groups=groups, of=len(cells))
    damaged = _damaged(ledger) if DAMAGED in retry else set()
    again = {
        source.key: [cell for cell, was in known[source.key].items() if was.status in retry]
        for source in sources
        if source.key in known
    }
    suspects = [
        source
        for source in sources
        if (was := known.get(source.key)) is not None
        and len(again[source.key]) < len(was)
        and any((one.size, one.modified) != (source.size, source.modified) for one in was.values())
    ]
    same = {
        source.key: source
        for source, sha256 in zip(suspects, _digests(suspects, columns), strict=True)
        if sha256 is not None and all(sha256 == one.sha256 for one in known[source.key].values())
    }
    changed = {source.key for source in suspects} - same.keys()
    # Of those that are known; all others are new, and to go through all cells.
    reasons: dict[str, str] = {}
    todo: dict[str, set[str | None]] = {}
    for key, found in again.items():
        if key in damaged or key in changed:
            reasons[key], todo[key] = "again" if key in damaged else "changed", set(cells)
        else:
            todo[key] = {cell for cell in cells if cell in found or cell not in known[key]}
            reasons[key] = "again" if found else "partly"
    beside: dict[str, list[str]] = {}
    for batch, keys in _whole(shared, todo).items():
        of_batch = {
            cell
            for key, written in keys.items()
            if written
            for cell in todo[key] & known[key].keys()
        }
        if of_batch:
            beside[batch] = list(keys)
            for key in keys:
                if not todo[key]:
                    reasons[key] = "of the same batches"
                todo[key] |= of_batch
    left = packed_sources(source for source in sources if todo.get(source.key, True))
    counts = Counter(reasons.get(source.key, "new") for source in left)
    retired = {(key, cell) for key, some in todo.items() for cell in some & known[key].keys()}
    through = {
        key: tuple(number for number, cell in enumerate(cells) if cell in some)
        for key, some in todo.items()
        if 0 < len(some) < len(cells)
    }
    absent = known.keys() - {source.key for source in sources} if whole else set()
    # What stood for a shard that could not be listed is no master: the shard has been mended.
    mended = {
        key
        for key in absent
        if key.endswith(UNLISTED) and all(one.sha256 is None for one in known[key].values())
    }
    gone = sorted(absent - mended)
    retired |= {(key, cell) for key in mended for cell in known[key]}
    return Left(
        sources=left,
        kept=kept + sum(map(len, known.values())) - len(retired),
        counts=counts,
        gone=gone,
        retired=retired,
        records={
            *(known[key][cell].record for key, cell in retired),
            *(one.record for key in same for one in known[key].values()),
        },
        groups=groups | beside,
        touched=same,
        cells=through,
        of=len(cells),
    )


class _Aside:
    """Sets aside what is done and as it was, so that of ten million images only those are looked at
    one by one about which there is something to say.

    Args:
        sources: the images of the archive.
        retry: statuses whose records are done again.
        cell: the name of the job's one cell.
    """

    def __init__(self, sources: Sequence[Source], retry: Collection[str], cell: str | None) -> None:
        self._retry = frozenset(retry)
        self._cell = cell
        self._here = _numbers(sources)
        self._here.sort()
        self._done: list[np.ndarray] = []

    def takes(self, rows: Sequence[Row]) -> bool:
        """Set the rows of a commit record aside, if there is nothing to do about any of them."""
        if any(row["status"] in self._retry or row.get("cell") != self._cell for row in rows):
            return False
        seen = ((row["key"], row["source_bytes"], row["source_modified"]) for row in rows)
        numbers = np.fromiter(map(hash, seen), np.int64, len(rows))
        if not _among(numbers, self._here).all():
            return False
        self._done.append(numbers)
        return True

    @property
    def count(self) -> int:
        """How many rows were set aside."""
        return sum(map(len, self._done))

    def others(self, sources: Sequence[Source]) -> Sequence[Source]:
        """Give the images of which no row was set aside."""
        done = np.sort(np.concatenate(self._done)) if self._done else np.empty(0, np.int64)
        stays = ~_among(_numbers(sources), done)
        return packed_sources(itertools.compress(sources, stays))


def _numbers(sources: Sequence[Source]) -> np.ndarray:
    """Give a number of 64 bits for key, size and time of each image. That one which has changed has
    the number of another that is done is less likely than 10^-12, of ten million images.
    """
    seen = ((source.key, source.size, source.modified) for source in sources)
    return np.fromiter(map(hash, seen), np.int64, len(sources))


def _among(numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tell which of some numbers are among others, which are sorted."""
    if not len(others):
        return np.zeros(len(numbers), bool)
    places = np.searchsorted(others, numbers)
    return others[np.minimum(places, len(others) - 1)] == numbers


_Group = TypeVar("_Group", bound=Collection[str])


def _whole(groups: Mapping[str, _Group], keys: Collection[str]) -> dict[str, _Group]:
    """Pick the groups of keys of which all are among others."""
    return {name: group for name, group in groups.items() if all(key in keys for key in group)}


def _batch(committed: str) -> str:
    """Give the id of a batch by one under which it is committed, in a cell or in none."""
    return committed.partition("-")[0]


def _damaged(ledger: Ledger) -> set[str]:
    """Give the keys of masters whose derivatives or masks are gone or changed."""
    damaged = {key for one in verify(ledger.output)["findings"] for key in one["keys"]}
    return {master(row) for row in ledger.rows() if row["key"] in damaged}


def _digests(sources: Sequence[Source], columns: Columns) -> Iterator[str | None]:
    """Give the SHA-256 of what the sources hold now; None for what cannot be read."""
    if sources:
        log.info("%d masters have another size or time than before: reading them", len(sources))
    files = [source for source in sources if source.member is None]
    with OpenShard(columns) as shard, ThreadPoolExecutor(8) as pool:

        def digest(source: Source) -> str | None:
            try:
                return read_record(Record(source=source), shard).sha256
            except (OSError, ValueError):
                return None  # reading it again will say why, on its record

        of_files = pool.map(digest, files)
        for source in sources:
            yield next(of_files) if source.member is None else digest(source)


def settle(ledger: Ledger, left: Left) -> None:
    """Make the ledger forget what is to be done again, with what was written of it.

    Raises:
        StorageError: it cannot be written to.
    """
    if not left.retired and not left.touched:
        return
    for path in sorted(left.records):
        record = ledger.record(path)
        rows = record["rows"]
        kept = [
            _touched(row, left.touched.get(master(row)))
            for row in numbered(record)
            if _place(row) not in left.retired
        ]
        if kept == rows:
            continue
        for row in rows:
            if _place(row) in left.retired:
                _drop_files(ledger.output, row)
        ledger.rewrite(record, kept)


def numbered(record: dict[str, Any]) -> list[Row]:
    """Give the rows of a commit record so that they still tell which row of the batch's table of
    fields is theirs when there are fewer of them.
    """
    if not any(path.startswith(f"{FIELDS}/") for path in record["files"]):
        return record["rows"]
    places = {id(row): place for place, row in enumerate(derivatives(record["rows"]))}
    return [
        {FIELDS_ROW: places[id(row)], **row} if id(row) in places else row for row in record["rows"]
    ]


def _place(row: Row) -> Place:
    return master(row), row.get("cell")


def _touched(row: Row, source: Source | None) -> Row:
    if source is None:
        return row
    return {**row, "source_bytes": source.size, "source_modified": source.modified}


def _drop_files(output: str, row: Row) -> None:
    """Delete a record's derivative and mask, where they are files of their own."""
    if row["shard"] is not None:
        return
    if row["derivative"] is not None:
        storage.delete(storage.join(output, place(row)))
    if row["mask"] is not None:
        storage.delete(storage.join(output, MASKS, row["mask"]))


def say(left: Left) -> None:
    """Tell a person what is left, where it is not everything."""
    if left.kept:
        told = ", ".join(f"{count} {reason}" for reason, count in left.counts.items())
        log.info("%d images are done already; to do: %s", left.kept, told or "none")
    if left.gone:
        named = ", ".join(left.gone[:_NAMED]) + (", …" if len(left.gone) > _NAMED else "")
        log.warning(
            "%d images that are done are no longer in the archive; their derivatives stay: %s",
            len(left.gone),
            named,
        )
