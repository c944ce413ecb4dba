"""Hold an output to its ledger: every file there, and what it was when it was written."""

import contextlib
import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from pipeline import generations, masters
from pipeline.fixity import Digest, digest
from pipeline.ledger import LEDGER, QUARANTINED, Ledger, LedgerError, Row
from pipeline.packages.bag import results_in
from transforms import codec, storage
from transforms.scratch import Buffer
from transforms.shards import FORMATS, USUAL_COLUMNS, Columns, OpenShard, members
from transforms.shards.shard import ShardError
from transforms.shards.writers import WRITERS
from transforms.write import FOLDERS, IMAGES, MASKS, QUARANTINE, SHARDS

log = logging.getLogger("heliograph")

# Files that are read at a time: hashing lets other threads run, and stores answer many.
THREADS = 8

T = TypeVar("T")

# What may be wrong with a file, and how its line in the log begins.
MISSING, CHANGED, BROKEN, STRAY, UNCOMMITTED = KINDS = (
    "missing",
    "changed",
    "broken",
    "stray",
    "uncommitted",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as the ledger has it.

    Attributes:
        kind: one of `KINDS`.
        path: of the file, below the output; of an image in a shard, with # and its name there.
        keys: of the images that it is or holds; of a stray none.
        reason: what is wrong, for a person.
    """

    kind: str
    path: str
    keys: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Expected:
    """One file as a commit record has it.

    Attributes:
        path: below the output.
        size: bytes.
        sha256: in hexadecimal.
        keys: of the images that it is or holds.
        counted: what it is one of, for the counts.
        image: whether it is an image file, and can be decoded.
    """

    path: str
    size: int
    sha256: str
    keys: tuple[str, ...]
    counted: str
    image: bool = True


@dataclass
class Checked:
    """What was looked at, counted, and what was found."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def add(self, other: "Checked") -> None:
        """Take in what another has seen."""
        self.counts += other.counts
        self.findings += other.findings
        self.known |= other.known


def verify(
    output: str, *, deep: bool = False, with_masters: bool = False, threads: int = THREADS
) -> dict[str, Any]:
    """Hold an output to its ledger.

    Args:
        output: the output folder of a job that has ended, or the bag that it is.
        deep: whether to decode every derivative and every mask as well.
        with_masters: whether to hash the masters as well.
        threads: files that are read at a time.

    Returns:
        Counts, findings and whether all is as it should be, for JSON.

    Raises:
        LedgerError: there is no ledger.
        StorageError: a folder cannot be listed.
    """
    results = results_in(output)
    ledger = Ledger(results or output)
    job = ledger.job()
    if results is None or job is None:
        raise LedgerError(f"{output} is no output of a job: it has no {LEDGER}/job.json")
    listed = listed_in(results)
    paths = sorted(ledger.committed())
    columns = Columns(**job["job"]["columns"]) if "columns" in job.get("job", {}) else USUAL_COLUMNS
    checked = Checked()
    found: list[masters.Changed | None] = []
    with ThreadPoolExecutor(threads) as pool:
        look = partial(_check_batch, ledger, listed, deep)
        for one in in_order(pool, look, paths, 4 * threads):
            checked.add(one)
        if with_masters:
            again = partial(_check_masters, ledger, columns)
            for some in in_order(pool, again, sorted(ledger.of_masters()), 4 * threads):
                found += some
    checked.findings += [
        Finding(STRAY, path, (), "no commit record knows it")
        for path in sorted(listed.keys() - checked.known)
    ]
    planned = job.get("planned", 0)
    if checked.counts["rows"] != planned and not _has(checked, BROKEN):
        reason = f"{planned} images are planned and {checked.counts['rows']} are committed"
        checked.findings.append(Finding(UNCOMMITTED, LEDGER, (), reason))
    return _summary(results, checked, masters.tell(found) if with_masters else None)


def verify_all(
    output: str, *, deep: bool = False, with_masters: bool = False, threads: int = THREADS
) -> dict[str, Any]:
    """Hold all that an output holds to its ledgers: its own results, and those of its generations,
    which are under "generations" by their names.

    Raises:
        LedgerError: there is no ledger.
        StorageError: a folder cannot be listed.
    """
    check = partial(verify, deep=deep, with_masters=with_masters, threads=threads)
    (name, first), *others = generations.all_of(output)
    found = check(first)
    if name is not None or others:
        others = others if name is None else [(name, first), *others]
        of_others = {str(name): check(folder) for name, folder in others}
        found["generations"] = of_others
        found["sound"] = found["sound"] and all(one["sound"] for one in of_others.values())
    return found


def _has(checked: Checked, kind: str) -> bool:
    return any(finding.kind == kind for finding in checked.findings)


def _summary(output: str, checked: Checked, found: dict[str, Any] | None) -> dict[str, Any]:
    counts = {
        "images": checked.counts["rows"],
        "derivatives": checked.counts["derivatives"],
        "quarantined": checked.counts["quarantined"],
        "masks": checked.counts["masks"],
        "shared": checked.counts["shared"],
        "bytes": checked.counts["bytes"],
        **{kind: sum(one.kind == kind for one in checked.findings) for kind in KINDS},
    }
    findings = [
        {"kind": one.kind, "path": one.path, "keys": list(one.keys), "reason": one.reason}
        for one in sorted(checked.findings, key=lambda one: (KINDS.index(one.kind), one.path))
    ]
    sound = not findings and not (found and found["changed"])
    result = {"output": output, "sound": sound, "counts": counts, "findings": findings}
    return result if found is None else {**result, "masters": found}


def in_order(
    pool: ThreadPoolExecutor, look: Callable[[str], T], over: Iterable[str], ahead: int
) -> Iterator[T]:
    """Map in parallel, no more than so many ahead of what has been taken."""
    waiting = iter(over)
    under_way = [pool.submit(look, one) for one in itertools.islice(waiting, ahead)]
    while under_way:
        yield under_way.pop(0).result()
        under_way += [pool.submit(look, one) for one in itertools.islice(waiting, 1)]


def listed_in(output: str) -> dict[str, int]:
    """List the files that jobs make in an output, by their paths below it, and their bytes."""
    root = output.rstrip("/") + "/"
    return {
        file.path.removeprefix(root): file.size
        for folder in FOLDERS
        for file in storage.list_if_there(storage.join(output, folder))
    }


def _check_masters(ledger: Ledger, columns: Columns, path: str) -> list[masters.Changed | None]:
    try:
        return list(masters.check_masters(ledger.read(path), columns))
    except (LedgerError, storage.StorageError):
        return []  # said of the commit record


def _check_batch(ledger: Ledger, listed: Mapping[str, int], deep: bool, path: str) -> Checked:
    """Hold the files of one commit record to it, if it is one."""
    try:
        record = ledger.record(path)
    except storage.OutageError:
        raise
    except (LedgerError, storage.StorageError) as error:
        name = path.removeprefix(ledger.output.rstrip("/") + "/")
        return Checked(findings=[Finding(BROKEN, name, (), str(error))])
    return check_record(ledger, record, listed, deep=deep)


def check_record(
    ledger: Ledger, record: Mapping[str, Any], listed: Mapping[str, int], *, deep: bool
) -> Checked:
    """Hold the files of one commit record to it.

    Args:
        ledger: of the output.
        record: as `Ledger.record` gives it.
        listed: the files that are there, as `listed_in` gives them.
        deep: whether to decode every image, and look into every shard.
    """
    checked = Checked()
    rows = record["rows"]
    checked.counts["rows"] = sum(row["page"] == 1 for row in rows)
    for expected in expected_of(record):
        checked.known.add(expected.path)
        checked.counts[expected.counted] += 1
        checked.counts["bytes"] += expected.size
        wrong = _compared(ledger.output, expected, listed)
        if wrong is None:
            if deep and expected.image:
                checked.findings += _decoded(ledger.output, expected)
            continue
        checked.findings.append(wrong)
    damaged = {finding.path for finding in checked.findings}
    for shard in {row["shard"] for row in rows if row["shard"] is not None}:
        held = [row for row in rows if row["shard"] == shard]
        checked.counts["derivatives"] += len({row["member"] for row in held})
        checked.counts["masks"] += sum(row["mask"] is not None for row in held)
        for folder, columns in _IN_SHARDS.items():
            name = f"{folder}/{shard}"
            if deep or name in damaged:
                # Of a damaged file it is worth knowing which of its images are.
                found = _members(ledger.output, name, held, columns, deep)
                # Names in a damaged file are not to be trusted.
                checked.findings += [
                    one for one in found if one.kind != STRAY or name not in damaged
                ]
    return checked


def expected_of(record: Mapping[str, Any]) -> Iterator[Expected]:
    """Give the files of a commit record: those of one image, and those of several."""
    rows = record["rows"]
    pages: dict[str, list[str]] = {}
    for row in rows:
        if row["derivative"] is not None:
            pages.setdefault(row["derivative"], []).append(row["key"])
    for row in rows:
        if row["derivative"] is None or row["shard"] is not None:
            continue
        if row["derivative"] in pages:  # the first of its pages
            of_pages = pages.pop(row["derivative"])
            apart = row["status"] == QUARANTINED
            yield Expected(
                f"{QUARANTINE if apart else IMAGES}/{row['derivative']}",
                row["derivative_bytes"],
                row["derivative_sha256"],
                tuple(of_pages),
                "quarantined" if apart else "derivatives",
            )
        if row["mask"] is not None:
            path = f"{MASKS}/{row['mask']}"
            yield Expected(path, row["mask_bytes"], row["mask_sha256"], (row["key"],), "masks")
    keys = tuple(row["key"] for row in rows if row["derivative"] is not None)
    for path, file in record.get("files", {}).items():
        yield Expected(path, file["bytes"], file["sha256"], keys, "shared", image=False)


def _compared(output: str, expected: Expected, listed: Mapping[str, int]) -> Finding | None:
    path, keys = expected.path, expected.keys
    if path not in listed:
        return Finding(MISSING, path, keys, "it is not there")
    if listed[path] != expected.size:
        # Not worth reading.
        reason = f"it has {listed[path]} bytes, not {expected.size}"
        return Finding(CHANGED, path, keys, reason)
    try:
        now = digest(storage.join(output, path))
    except storage.OutageError:
        raise  # which says nothing of the file
    except OSError as error:
        return Finding(BROKEN, path, keys, str(error))
    if now != Digest(expected.size, expected.sha256):
        reason = f"its SHA-256 is {now.sha256}, not {expected.sha256}"
        return Finding(CHANGED, path, keys, reason)
    return None


def _decoded(output: str, expected: Expected) -> list[Finding]:
    """Decode an image file whose bytes are what was written."""
    try:
        data = storage.read(storage.join(output, expected.path))
    except storage.OutageError:
        raise
    except storage.StorageError as error:
        return [Finding(BROKEN, expected.path, expected.keys, str(error))]
    return _broken(data, expected.path, expected.keys)


def _broken(data: Buffer, path: str, keys: tuple[str, ...]) -> list[Finding]:
    try:
        codec.decode(data, max_pixels=_ANY)
    except codec.CodecError as error:
        return [Finding(BROKEN, path, keys, f"it cannot be decoded: {error}")]
    return []


def stale_in(output: str, record: Mapping[str, Any]) -> list[Finding]:
    """Find images in the shards of a commit record that none of its rows knows: copies of what was
    done again since. What cannot be listed has been found to be damaged before.
    """
    findings = []
    for shard in {row["shard"] for row in record["rows"] if row["shard"] is not None}:
        for folder, (name, _) in _IN_SHARDS.items():
            known = {row[name] for row in record["rows"] if row["shard"] == shard}
            if known == {None}:
                continue
            path = f"{folder}/{shard}"
            with contextlib.suppress(ShardError, OSError):
                findings += [
                    Finding(STRAY, f"{path}#{member.name}", (), _STALE)
                    for member, _ in members(storage.join(output, path), FORMATS[_kind(path)])
                    if member.name not in known
                ]
    return findings


def _kind(path: str) -> str:
    return next(name for name, known in WRITERS.items() if path.endswith(known.extension))


_ANY = 1 << 62
_STALE = "no commit record knows it: a copy of what was done again since"

# What is in the shards of a folder, by the columns of its name and digest.
_IN_SHARDS = {SHARDS: ("member", "derivative_sha256"), MASKS: ("mask", "mask_sha256")}


def _members(
    output: str, path: str, rows: list[Row], columns: tuple[str, str], deep: bool
) -> list[Finding]:
    """Hold the images in a shard to their digests, one by one."""
    name_column, digest_column = columns
    wanted: dict[str, list[Row]] = {}
    for row in rows:  # several, of the pages of one file
        if row[name_column] is not None:
            wanted.setdefault(row[name_column], []).append(row)
    if not wanted:
        return []
    file = storage.join(output, path)
    findings: list[Finding] = []
    try:
        with OpenShard(USUAL_COLUMNS) as shard:
            for member, _ in members(file, FORMATS[_kind(path)]):
                pages = wanted.pop(member.name, None)
                if pages is None:
                    findings.append(Finding(STRAY, f"{path}#{member.name}", (), _STALE))
                    continue
                where, keys = f"{path}#{member.name}", tuple(row["key"] for row in pages)
                try:
                    data = shard.get(file, member).encoded or b""
                except ShardError as error:
                    findings.append(Finding(BROKEN, where, keys, str(error)))
                    continue
                now, before = sha256(data).hexdigest(), pages[0][digest_column]
                if now != before:
                    reason = f"its SHA-256 is {now}, not {before}"
                    findings.append(Finding(CHANGED, where, keys, reason))
                elif deep:
                    findings += _broken(data, where, keys)
    except (ShardError, OSError) as error:
        log.debug("%s cannot be listed: %s", path, error)
    return findings + [
        Finding(
            MISSING, f"{path}#{name}", tuple(row["key"] for row in held), "it is not in its shard"
        )
        for name, held in wanted.items()
    ]


def tell(found: Mapping[str, Any]) -> None:
    """Say to the log what was found."""
    if others := found.get("generations"):
        log.info("%s and %d generations", found["output"], len(others))
        for one in others.values():
            log.info("%s:", one["output"])
            tell(one)
        log.info("%s itself:", found["output"])
    counts = found["counts"]
    log.info(
        "%d derivatives, %d quarantined, %d masks and %d files of several images: %.1f MB",
        counts["derivatives"],
        counts["quarantined"],
        counts["masks"],
        counts["shared"],
        counts["bytes"] / 1e6,
    )
    for finding in found["findings"]:
        log.error("%s: %s: %s", finding["kind"], finding["path"], finding["reason"])
    for changed in found.get("masters", {}).get("changed", ()):
        log.error("master %s: %s: %s", changed["key"], changed["source"], changed["reason"])
    if not found["findings"] and not found.get("masters", {}).get("changed"):
        log.info("all is as the ledger of %s has it", found["output"])


def dump(found: Mapping[str, Any], path: str | None) -> None:
    """Write the summary as JSON to a file, or to standard output.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(found, indent=1)
    if path is None:
        print(text)
        return
    folder = os.path.dirname(path) if storage.is_local(path) else path.rpartition("/")[0]
    storage.write(path, f"{text}\n".encode(), scratch=folder or ".")
