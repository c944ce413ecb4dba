"""Where a job's results go in an output: where it says, or into a generation of their own below it.

OUTPUT itself holds the results of the job that was first there. A job that would make others of the
same masters (another model, recipe, seed or encoding: another digest) has OUTPUT/generations/<first
12 digits of its digest>, a whole output with images, ledger and summary. So nothing is replaced
unless --overwrite is said, and the same command always comes back to its own results. All of them
are one output for the lock.
"""

import dataclasses
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.ledger import LEDGER, Ledger, LedgerError
from pipeline.lock import CLAIMS
from pipeline.options import Job
from pipeline.packages import bag
from transforms import storage
from transforms.write import SCRATCH

log = logging.getLogger("heliograph")

GENERATIONS = "generations"
_DIGITS = 12
_NAME = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")

# What a job leaves that was ended before its ledger said what it is; and what others have.
_BEGINNINGS = {CLAIMS, SCRATCH, LEDGER, GENERATIONS}

# Facts that follow from others: of interest where nothing else differs.
_FOLLOWING = ("contract.", "provenance.", "model_sha256")
_LONGEST = 80  # characters of a fact that a line of the log shows


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Where a job's results go.

    Attributes:
        job: with `output` and `packaging` as they are there.
        lock: the folder to hold the lock of.
        replacing: whether another job's results are there, which go first.
        others: what the results in OUTPUT itself are of, where those of this job go elsewhere or
            replace them: how their job differs, in words.
    """

    job: Job
    lock: str
    replacing: bool = False
    others: str | None = None


def folder_of(root: str, digest: str) -> str:
    """Give the folder of a job's generation."""
    return storage.join(root, GENERATIONS, digest[:_DIGITS])


def names(root: str) -> list[str]:
    """List the generations below an output, but for what it holds itself, by their names."""
    folder = storage.join(root, GENERATIONS)
    if storage.is_local(folder):
        found = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    else:
        start = len(folder) + 1
        found = {file.path[start:].partition("/")[0] for file in storage.list_if_there(folder)}
    return sorted(filter(_NAME.fullmatch, found))


def all_of(root: str) -> Iterator[tuple[str | None, str]]:
    """Give all that an output holds, by name and folder: what it holds itself, without a name, and
    its generations. Where there is nothing but these, it holds nothing itself.
    """
    of_others = names(root)
    held = (storage.join(root, LEDGER), storage.join(root, bag.PAYLOAD, LEDGER))
    if not of_others or any(map(storage.exists, held)):
        yield None, root
    for name in of_others:
        yield name, storage.join(root, GENERATIONS, name)


def root_of(output: str) -> str:
    """Give the output that a folder is a generation of; itself where it is none."""
    above, _, name = output.rstrip("/").rpartition("/")
    root, _, folder = above.rpartition("/")
    if folder != GENERATIONS or not _NAME.fullmatch(name):
        return output
    return root if storage.exists(storage.join(root, LEDGER)) else output


def choose(job: Job) -> Chosen:
    """Find the place of a job's results; nothing is written.

    Raises:
        LedgerError: what is there may not be touched.
    """
    root = root_of(job.packaging.root)
    before = Ledger(job.output).job()
    if (before is not None and before.get("digest") == job.digest) or _has_begun(job):
        return Chosen(job=job, lock=root)  # the same job writes the same bytes to the same places
    if root != job.packaging.root:
        raise LedgerError(
            f"the output {job.packaging.root} is a generation of {root} that another job has "
            f"written or will write: name {root} as the output, and a job finds its own"
        )
    generation = _in_generation(job)
    there = Ledger(generation.output).job()
    if there is not None and there.get("digest") != job.digest:
        raise LedgerError(
            f"{generation.output} is not what its name says: it holds the results of a job with "
            f"the digest {there.get('digest')}; choose another folder"
        )
    begun = there is not None or _has_begun(generation)
    if before is None:
        if begun:
            return Chosen(job=generation, lock=root)
        return Chosen(job=job, lock=root, replacing=_may_begin(job))
    others = differences(before.get("job", {}), job.facts)
    a_demo_again = before.get("job", {}).get("command") == job.command == "demo"
    if a_demo_again or (job.overwrite and not begun):
        return Chosen(job=job, lock=root, replacing=True, others=others)
    if "bagit" in job.packaging.names:
        raise LedgerError(
            f"the bag {root} holds the results of another job ({others}), and a bag is of one job: "
            "choose another folder, or say --overwrite"
        )
    if not begun and _is_taken(generation.output):
        raise LedgerError(
            f"{generation.output}, where the results would go beside those of another job, is not "
            "empty and no earlier job of ours: choose another folder as the output"
        )
    return Chosen(job=generation, lock=root, others=others)


def _has_begun(job: Job) -> bool:
    """Tell whether a job has committed something in an output without a job.json: it may have been
    killed where storage cannot replace a file in one step.
    """
    ledger = Ledger(job.output)
    some = next(iter(ledger.commits()), None)
    if some is None or ledger.job() is not None:
        return False
    try:
        ours = ledger.record(some.path).get("job") == job.digest
    except LedgerError:
        return False
    if ours:
        log.warning(
            "%s has lost its %s/job.json; what is committed is of this very job, which goes on",
            job.output,
            LEDGER,
        )
    return ours


def _in_generation(job: Job) -> Job:
    root, packaging = job.packaging.root, job.packaging
    folder = folder_of(root, job.digest)
    base = packaging.base + folder[len(root.rstrip("/")) :]
    packaging = dataclasses.replace(packaging, root=folder, output=folder, base=base)
    return dataclasses.replace(job, output=folder, packaging=packaging)


def _may_begin(job: Job) -> bool:
    """Make sure that there is nobody's work in an output without a ledger of this kind of job; say
    whether what is there must go first.
    """
    root = job.packaging.root
    if not _is_taken(root):
        return False
    if bag.results_in(root) is None:
        if Ledger(job.output).committed():
            raise LedgerError(
                f"the output {root} has commit records, and its {LEDGER}/job.json is lost: "
                f"heliograph repair {root}"
            )
        raise LedgerError(
            f"the output {root} is not empty and no earlier job of ours: "
            "choose a new or empty folder"
        )
    if not job.overwrite:
        raise LedgerError(
            f"the output {root} holds results "
            + ("that are no bag" if "bagit" in job.packaging.names else "as a bag")
            + ": ask for the same as before, choose another folder, or say --overwrite"
        )
    return True


def _is_taken(root: str) -> bool:
    """Tell whether there is anything in a folder that no beginning of a job has left there."""
    if storage.is_local(root):
        return os.path.isdir(root) and (
            not _BEGINNINGS.issuperset(os.listdir(root)) or bool(Ledger(root).committed())
        )
    start = len(root.rstrip("/")) + 1
    found = (file.path[start:].partition("/")[0] for file in storage.list_folder(root))
    return any(name not in _BEGINNINGS for name in found)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say how two jobs differ, by their facts: `recipe jpeg:3, now grayscale; seed 0, now 7`."""
    one, other = dict(_flat(before)), dict(_flat(json.loads(json.dumps(now))))
    differing = [
        name
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name) and name != "archives"
    ]
    told = [name for name in differing if not name.startswith(_FOLLOWING)] or differing
    said = (f"{name} {_short(one.get(name))}, now {_short(other.get(name))}" for name in told)
    return "; ".join(said) or "its digest is another"


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def say(chosen: Chosen) -> None:
    """Tell a person where the results go, where that is not simply OUTPUT."""
    output, root = chosen.job.output, chosen.lock
    if chosen.replacing:
        which = f" ({chosen.others})" if chosen.others else ""
        stay = ", ".join(names(root))
        log.warning(
            "the results of another job in %s are replaced%s%s",
            root,
            which,
            f"; its generations stay: {stay}" if stay else "",
        )
    elif chosen.others is not None:
        log.warning(
            "%s holds the results of another job (%s), which stay as they are: the results of "
            "this one go to its own generation, %s%s",
            root,
            chosen.others,
            output,
            ""
            if not chosen.job.overwrite
            else "; --overwrite replaces nothing, since this job has its place already",
        )
        if not chosen.job.overwrite:
            log.info("--overwrite would replace the earlier results instead")
    elif chosen.job.packaging.root != root:
        log.info("these results are a generation of %s: %s", root, output)
