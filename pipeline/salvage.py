"""What can still be known of a ledger of which something is lost.

Nothing is taken on trust: facts of a job are held to its digest, which its commit records know.
"""

import contextlib
import io
import itertools
import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.job import digest_of
from pipeline.ledger import LEDGER, STATUSES, Ledger
from transforms import storage
from transforms.record import BatchSpec, batch_id
from transforms.shards import fields
from transforms.write import FIELDS

# Options of one run, which say nothing of what the whole job is.
_WITH_VALUE = ("--only", "--limit", "--retry")
_OF_A_RUN = (*_WITH_VALUE, "--dry_run", "--overwrite")


def flaw(record: Mapping[str, Any], batch: str) -> str | None:
    """Say why what can be read is no commit record of a batch; None where it is one.

    Args:
        record: as `Ledger.record` gives it.
        batch: the id that its name tells.
    """
    if record.get("batch") != batch:
        return f"it is of the batch {record.get('batch')}"
    files, rows = record.get("files"), record["rows"]
    if not isinstance(files, dict) or not isinstance(record.get("made"), dict):
        return "its head or its files are none"
    if not rows or not all(map(_is_row, rows)):
        return "its rows are none"
    if not all(_is_inside(path) for path in files):
        return "it names files that are no part of an output"
    return None


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("key"), str):
        return False
    named = [row.get(name) for name in ("derivative", "mask", "shard")]
    return (
        row.get("status") in STATUSES
        and isinstance(row.get("page"), int)
        and isinstance(row.get("source"), str)
        and all(name is None or _is_inside(name) for name in named)
        and (row["derivative"] is None or isinstance(row.get("derivative_sha256"), str))
    )


def _is_inside(path: Any) -> bool:
    """Tell whether a path leads nowhere but down."""
    return isinstance(path, str) and not path.startswith("/") and ".." not in path.split("/")


def lost_job(ledger: Ledger, digests: Collection[str], rows: int) -> dict[str, Any] | None:
    """Make out what a job was whose job.json is lost: from the summary, if its facts have the
    digest that it says and that the commit records know; else of these alone. None where neither
    tells.

    Args:
        ledger: of the output.
        digests: of the jobs that commit records are of.
        rows: how many masters they know.
    """
    known = next(iter(digests), None) if len(digests) == 1 else None
    summary = _summary(ledger)
    facts, digest = summary.get("job"), summary.get("digest")
    if isinstance(facts, dict) and digest_of(facts) == digest and known in (None, digest):
        taken = ("versions", "environment", "left_out", "gone")
        planned = summary.get("planned", rows) - summary.get("further_pages", 0)
        said = {name: summary[name] for name in taken if name in summary}
        return {"digest": digest, "job": facts, "planned": max(planned, rows), **said}
    return None if known is None else {"digest": known, "job": {}, "planned": rows}


def _summary(ledger: Ledger) -> dict[str, Any]:
    try:
        found = json.loads(storage.read(storage.join(ledger.output, "summary.json")))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def lost_batches(ledger: Ledger, committed: Collection[str]) -> dict[str, list[str]]:
    """Name the masters of batches that are planned or were written, and are not committed: by the
    plan, and where that is gone or a later one, by the table of scores and what they have written.

    Args:
        ledger: of the output.
        committed: ids of the batches that are.
    """
    found: dict[str, list[str]] = {}
    for batch, keys in (*_in_table(ledger), *_in_plan(ledger)):
        if batch not in committed:
            found[batch] = keys
    return found


def _in_plan(ledger: Ledger) -> Iterator[tuple[str, list[str]]]:
    try:
        lines = storage.read(storage.join(ledger.output, LEDGER, "plan.jsonl")).splitlines()
    except OSError:
        return
    for line in lines:
        # It is a hint, so it need not be whole: an id is a digest of the keys.
        with contextlib.suppress(ValueError, LookupError, TypeError):
            for batch in BatchSpec.from_json(line.decode()).batches():
                yield batch.id, [record.source.key for record in batch.records]


def _in_table(ledger: Ledger) -> Iterator[tuple[str, list[str]]]:
    """Give batches that wrote files of several images: a shard, or a table of fields."""
    columns = ["key", "page", "source", "source_member", "shard", "derivative"]
    try:
        data = storage.read(storage.join(ledger.output, "metrics.parquet"))
        table = pq.read_table(io.BytesIO(data), columns=columns).to_pylist()
    except (OSError, ValueError, pa.ArrowException):
        return
    masters = [row for row in table if row["page"] == 1]
    written: dict[str, list[str]] = {}
    for row in masters:
        if row["shard"] is not None:
            written.setdefault(row["shard"].partition(".")[0], []).append(row["key"])
    keys = {row["derivative"]: row["key"] for row in masters if row["shard"] is None}
    for batch, names in _tables_of_fields(ledger):
        written[batch] = [keys[name] for name in names if name in keys]
    parts = {row["key"]: row["source"] if row["source_member"] else "" for row in masters}
    missing = parts.keys() - {key for some in written.values() for key in some}
    for batch, some in written.items():
        yield batch, _with_missing(batch.partition("-")[0], some, parts, missing)


# More than batches usually hold; what is tried grows with its square.
_BESIDE = 64


def _with_missing(
    batch: str, written: list[str], parts: Mapping[str, str], missing: Collection[str]
) -> list[str]:
    """Give all masters of a batch of which those are known whose images it wrote: its id, which is
    a digest of their keys, tells which failed ones beside them make it complete. What is written
    alone where none do.

    Args:
        batch: its id.
        written: the keys that are known.
        parts: of all masters in order, what they are sliced apart by.
        missing: keys of the masters that nothing was written of.
    """
    of_part = [key for key, part in parts.items() if written and part == parts[written[0]]]
    known = set(written)
    at = [number for number, key in enumerate(of_part) if key in known]
    if not at:
        return written
    before = list(itertools.takewhile(missing.__contains__, reversed(of_part[: at[0]])))[:_BESIDE]
    after = list(itertools.takewhile(missing.__contains__, of_part[at[-1] + 1 :]))[:_BESIDE]
    inside = [key for key in of_part[at[0] : at[-1] + 1] if key in known or key in missing]
    for first, last in itertools.product(range(len(before) + 1), range(len(after) + 1)):
        keys = [*reversed(before[:first]), *inside, *after[:last]]
        if batch_id(keys) == batch:
            return keys
    return written


def _tables_of_fields(ledger: Ledger) -> Iterator[tuple[str, list[str]]]:
    for file in storage.list_if_there(storage.join(ledger.output, FIELDS)):
        with contextlib.suppress(OSError, ValueError, LookupError, pa.ArrowException):
            table = pq.read_table(io.BytesIO(storage.read(file.path)), columns=[fields.NAME])
            batch = file.path.rpartition("/")[-1].removesuffix(fields.EXTENSION)
            yield batch, table.column(fields.NAME).to_pylist()


def command_of(job: Mapping[str, Any]) -> str | None:
    """Give the command that a job was run by, without what it said of that run alone, for a shell;
    None where the ledger does not know. Beam's own options are not kept, since they may hold
    credentials.
    """
    made = job.get("environment", {})
    words = made.get("command")
    if not words:
        return None
    command = shlex.join(["heliograph", *_lasting(words)])
    return f"cd {shlex.quote(made['folder'])} && {command}" if made.get("folder") else command


def _lasting(words: Sequence[str]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        flag, joined, _ = word.partition("=")
        if flag not in _OF_A_RUN:
            yield word
        elif flag in _WITH_VALUE and not joined:
            next(rest, None)
