"""Masters read once more, to see that they are what they were when they were restored."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from pipeline.fixity import digest
from pipeline.ledger import Ledger, Row
from transforms.read import read_record
from transforms.record import Member, Record, Source
from transforms.shards import USUAL_COLUMNS, Columns, OpenShard
from transforms.shards.shard import ShardError

# One master that is not what it was: its key, where it is, and what is wrong.
Changed = dict[str, str]


def check_masters(
    rows: Iterable[Row], columns: Columns = USUAL_COLUMNS
) -> Iterator[Changed | None]:
    """Hash the masters of rows again, in bounded memory; for each that there is a digest of, give
    None, or what is wrong with it.

    Args:
        rows: of the ledger.
        columns: of shards that hold images and names, as the job was told.
    """
    with OpenShard(columns) as shard:
        for row in rows:
            if row["source_sha256"] is None or row["page"] > 1:
                continue  # it could not be read the first time either, or is one file with page 1
            before = row["source_sha256"]
            try:
                now = _sha256(row, shard)
            except (OSError, ShardError) as error:
                yield _changed(row, str(error))
            else:
                reason = f"its SHA-256 was {before} and is {now}"
                yield None if now == before else _changed(row, reason)


def _changed(row: Row, reason: str) -> Changed:
    return {"key": row["key"], "source": row["source"], "reason": reason}


def _sha256(row: Row, shard: OpenShard) -> str:
    """Give the SHA-256 of a master as it is now.

    Raises:
        OSError, ShardError: it cannot be read.
    """
    if "source_place" not in row:
        return digest(row["source"]).sha256
    found = read_again(row, shard).sha256
    assert found is not None, "it has been read"
    return found


def read_again(row: Row, shard: OpenShard) -> Record:
    """Read the master of a row again: its bytes, or pixels, and their digest as they are now.

    Raises:
        OSError, ShardError: it cannot be read.
    """
    member = None
    if "source_place" in row:
        kind, compression, name, place, *known = row["source_place"]
        member = Member(kind, compression, name, tuple(place), *known)
    source = Source(row["key"], row["source"], row["source_bytes"], row["source_modified"], member)
    return read_record(Record(source=source), shard)


def tell(found: Iterable[Changed | None]) -> dict[str, Any]:
    """Sum up: how many are as they were, and which are not, by their keys."""
    total, changed = 0, []
    for one in found:
        total += 1
        if one is not None:
            changed.append(one)
    return {
        "unchanged": total - len(changed),
        "changed": sorted(changed, key=lambda one: one["key"]),
    }


class VerifyMasters(beam.PTransform):
    """Hash all masters again once every batch is committed, in parallel, a commit record at a time.

    What comes of it is kept in the ledger, for the summary. Gives one number: the rows committed.

    Args:
        output: the output folder.
        columns: of shards that hold images and names.
    """

    def __init__(self, output: str, columns: Columns = USUAL_COLUMNS) -> None:
        super().__init__()
        self.output = output
        self.columns = columns

    def expand(self, counts: beam.PCollection[int]) -> beam.PCollection[int]:
        """Wait for the last commit, hash, and gather what was found."""
        ledger, columns = Ledger(self.output), self.columns

        def check(path: str) -> tuple[int, dict[str, Any]]:
            rows = ledger.read(path)
            return len(rows), tell(check_masters(rows, columns))

        def keep(results: list[tuple[int, dict[str, Any]]]) -> int:
            found = [one for _, one in results]
            changed = [change for one in found for change in one["changed"]]
            ledger.write_masters(
                {
                    "unchanged": sum(one["unchanged"] for one in found),
                    "changed": sorted(changed, key=lambda one: one["key"]),
                }
            )
            return sum(count for count, _ in results)

        return (
            counts
            | "Await" >> beam.CombineGlobally(sum)
            | "List" >> beam.FlatMap(lambda _: sorted(ledger.of_masters()))
            | beam.Reshuffle()
            | "Hash" >> beam.Map(check)
            | "Gather" >> beam.combiners.ToList()
            | "Keep" >> beam.Map(keep).with_output_types(int)
        )
