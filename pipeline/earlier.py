"""Outputs of earlier jobs as archives: their derivatives, by the keys of their masters."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.ledger import QUARANTINED, Ledger, Row
from transforms import storage
from transforms.record import Member, Source
from transforms.shards import FORMATS, fields
from transforms.shards.shard import ShardFormat
from transforms.shards.writers import WRITERS
from transforms.write import FIELDS, IMAGES, SHARDS

# What a row says of which row of its batch's table of fields is its own, where it is not as many
# as there are derivatives before it, because some that were are no more.
FIELDS_ROW = "fields_row"

UNKNOWN = "not in the ledger"

# Lists the images of a shard, as `shards.members` does.
Members = Callable[[storage.File, ShardFormat], Iterator[tuple[Member, int]]]


def find_derivatives(
    output: str, prefix: str, members: Members
) -> tuple[list[Source], Counter[str]]:
    """List what a job has written, as its ledger has it, and count files that it does not know.

    The key of a derivative is its master's. One that the ledger knows and that is not there is
    listed as well, so that reading it says so.

    Args:
        output: the folder of its results: see `packages.bag.results_in`.
        prefix: of the keys and of derivatives' paths, with a slash at its end; may be empty.
        members: lists the images of a shard.

    Raises:
        StorageError: a folder cannot be listed, or a commit record not be read.
    """
    written = list(_written(output, prefix))
    files = {
        file.path: file
        for folder in (IMAGES, SHARDS)
        for file in storage.list_if_there(storage.join(output, folder))
    }
    sources = sorted(
        (_file(output, one, files) for one in written if one.row["shard"] is None),
        key=lambda source: source.key,
    )
    in_shards = sorted(
        (one for one in written if one.row["shard"] is not None), key=lambda one: one.row["shard"]
    )
    left_out: Counter[str] = Counter()
    known = {source.path for source in sources}
    for shard, group in itertools.groupby(in_shards, key=lambda one: one.row["shard"]):
        path = storage.join(output, SHARDS, shard)
        known.add(path)
        where = f"{prefix}{SHARDS}/{shard}"
        found, unknown = _shard(path, where, list(group), files.get(path), members)
        sources += found
        left_out[UNKNOWN] += unknown
    left_out[UNKNOWN] += len(files.keys() - known)
    return sources, +left_out


@dataclass(frozen=True, slots=True)
class _Written:
    """A derivative: its row in the ledger, its key and path, and where its fields are, if any."""

    row: Row
    key: str
    path: str
    table: tuple[str, int] | None


def _written(output: str, prefix: str) -> Iterator[_Written]:
    ledger = Ledger(output)
    tables = {file.path for file in storage.list_if_there(storage.join(output, FIELDS))}
    for batch, rows in ledger.batches():
        table = storage.join(output, FIELDS, f"{batch}{fields.EXTENSION}")
        for index, row in enumerate(derivatives(rows)):
            if row["status"] == QUARANTINED:
                continue  # not to be taken for a result
            place = row.get(FIELDS_ROW, index)
            beside = (table, place) if table in tables and row["shard"] is None else None
            # Several cells of a matrix have images of one key.
            cell = f"{row['cell']}/" if row.get("cell") else ""
            yield _Written(row, f"{prefix}{cell}{row['key']}", prefix + row["derivative"], beside)


def derivatives(rows: Iterable[Row]) -> Iterator[Row]:
    """Give one row for each derivative: that of the first page, of one that holds several."""
    seen = set()
    for row in rows:
        place = row["shard"], row["derivative"]
        if row["derivative"] is not None and (row["page"] == 1 or place not in seen):
            seen.add(place)
            yield row


def _file(output: str, one: _Written, files: Mapping[str, storage.File]) -> Source:
    path = storage.join(output, IMAGES, one.row["derivative"])
    file = files.get(path) or storage.File(path, one.row["derivative_bytes"], 0.0)
    return Source(one.key, path, file.size, file.modified, mirrored=one.path, table=one.table)


def _shard(
    path: str, where: str, written: list[_Written], file: storage.File | None, members: Members
) -> tuple[list[Source], int]:
    """List the images of a shard, in its order, and count those that the ledger does not know."""
    kind = next(name for name, known in WRITERS.items() if path.endswith(known.extension))
    by_name = {one.row["member"]: one for one in written}
    sources, unknown = [], 0
    modified = file.modified if file else 0.0
    for member, size in members(file, FORMATS[kind]) if file else ():
        one = by_name.pop(member.name, None)
        if one is not None:
            sources.append(Source(one.key, path, size, modified, member, mirrored=one.path))
        elif member.trouble:
            key = f"{where}#{member.name}"
            sources.append(Source(key, path, size, 0.0, member, mirrored=member.name))
        else:
            unknown += 1
    gone = "it is in the ledger, but not in its shard" if file else "its shard is not there"
    for one in by_name.values():
        member = Member(kind, None, one.row["member"], (), trouble=gone)
        sources.append(Source(one.key, path, 0, 0.0, member, mirrored=one.path))
    return sources, unknown
