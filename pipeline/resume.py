"""What is left to do of an archive, as the ledger of its output has it."""

import dataclasses
import fnmatch
import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.ledger import Ledger, Row
from pipeline.options import DAMAGED
from pipeline.packages.package import place
from pipeline.verify import verify
from transforms import storage
from transforms.read import read_record
from transforms.record import Record, Source
from transforms.shards import UNLISTED, Columns, OpenShard
from transforms.write import MASKS

log = logging.getLogger("heliograph")

_NAMED = 5  # keys that a line of the log names


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a job has still to do.

    Attributes:
        sources: the images, in the order of the archive.
        kept: records that are committed and stay as they are.
        counts: how many of the images are "new", "changed" (other bytes than those that were
            restored), or done "again" (because --retry asks for it).
        gone: keys that are committed and no longer in the archive; their derivatives stay.
        retired: keys whose rows are no longer true.
        touched: rows of masters that have another time stamp and the bytes that they had, by key.
    """

    sources: Sequence[Source]
    kept: int
    counts: Counter[str] = field(default_factory=Counter)
    gone: Sequence[str] = ()
    retired: Collection[str] = ()
    touched: dict[str, Source] = field(default_factory=dict)

    def limited(self, most: int) -> "Left":
        """Leave all but the first images for another run."""
        sources = self.sources[:most]
        keys = {source.key for source in sources}
        rest = [source for source in self.sources[most:] if source.key in self.retired]
        return dataclasses.replace(
            self,
            sources=sources,
            kept=self.kept + len(rest),
            counts=Counter({"to do now": len(sources), "later": len(self.sources) - len(sources)}),
            retired={key for key in self.retired if key in keys},
        )


class _Known(NamedTuple):
    """What the ledger knows of a master."""

    size: int
    modified: float
    sha256: str | None
    status: str


def state_of(sources: Iterable[Source]) -> str:
    """Digest what planning saw of an archive: the same digest, the same images as far as names,
    sizes and times tell.
    """
    digest = hashlib.sha256()
    for source in sources:
        line = f"{source.key}\0{source.path}\0{source.size}\0{source.modified}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


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
) -> Left:
    """Compare an archive with what is committed.

    A master whose size or time stamp is another than it was is read, and its SHA-256 decides.

    Args:
        ledger: of the output.
        sources: the images of the archive, or those of it that are asked for.
        retry: statuses whose records are done again, and `DAMAGED` for those whose files are not
            what they were.
        columns: of shards that hold images and names.
        whole: whether the sources are all of the archive, so that what is not among them is gone.

    Raises:
        StorageError: a commit record cannot be read.
    """
    known = {
        row["key"]: _Known(
            row["source_bytes"], row["source_modified"], row["source_sha256"], row["status"]
        )
        for row in ledger.rows()
        if row["page"] == 1  # the others are of the same master, and went the same way
    }
    if not known:
        return Left(sources=sources, kept=0, counts=Counter(new=len(sources)))
    damaged = _damaged(ledger) if DAMAGED in retry else set()
    suspects = [
        source
        for source in sources
        if (was := known.get(source.key)) is not None
        and was.status not in retry
        and (was.size, was.modified) != (source.size, source.modified)
    ]
    same = {
        source.key: source
        for source, sha256 in zip(suspects, _digests(suspects, columns), strict=True)
        if sha256 is not None and sha256 == known[source.key].sha256
    }
    changed = {source.key for source in suspects} - same.keys()
    left, counts = [], Counter[str]()
    for source in sources:
        was = known.get(source.key)
        reason = (
            "new"
            if was is None
            else "again"
            if was.status in retry or source.key in damaged
            else "changed"
            if source.key in changed
            else None
        )
        if reason:
            left.append(source)
            counts[reason] += 1
    absent = known.keys() - {source.key for source in sources} if whole else set()
    # What stood for a shard that could not be listed is no master: the shard has been mended.
    mended = {key for key in absent if key.endswith(UNLISTED) and known[key].sha256 is None}
    gone = sorted(absent - mended)
    retired = {source.key for source in left if source.key in known} | mended
    return Left(
        sources=left,
        kept=len(known) - len(retired),
        counts=counts,
        gone=gone,
        retired=retired,
        touched=same,
    )


def _damaged(ledger: Ledger) -> set[str]:
    """Give the keys of masters whose derivatives or masks are gone or changed."""
    damaged = {key for one in verify(ledger.output)["findings"] for key in one["keys"]}
    return {_master(row) for row in ledger.rows() if row["key"] in damaged}


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
    for path in sorted(ledger.committed()):
        record = ledger.record(path)
        rows = record["rows"]
        kept = [
            _touched(row, left.touched.get(_master(row)))
            for row in rows
            if _master(row) not in left.retired
        ]
        if kept == rows:
            continue
        for row in rows:
            if _master(row) in left.retired:
                _drop_files(ledger.output, row)
        ledger.rewrite(record, kept)


def _master(row: Row) -> str:
    """Give the key of a row's master, which that of a further page begins with."""
    return row["key"] if row["page"] == 1 else row["key"].rpartition("#page=")[0]


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
