"""Thousands of mutated files, and nothing worse comes of one than a line that says why.

`make torture` tries ten thousand, `make test` a few hundred. A finding is told by the seed and the
number of its case, from which `tests.mutations.case` makes its file again.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import hunting, mutations
from tests.jobs import IN_PROCESS

MUTATIONS = int(os.environ.get("HELIOGRAPH_MUTATIONS", "300"))
SEED = os.environ.get("HELIOGRAPH_SEED", str(time.time_ns() % 10**6))
BATCH = 200  # files of one job

# Names of files that a folder may hold as well, beside any number.
_NAMES = (
    "\x1b[31m",
    "line\nheliograph: ",
    "\u202e",
    "a b ",
    "'$(touch owned)'",
    "\udcff",
    "-",
    "%2E",
)


def test_no_mutation_does_worse_than_fail_with_a_reason(tmp_path):
    print(f"HELIOGRAPH_SEED={SEED}")
    found = hunting.hunt(SEED, 0, MUTATIONS, tmp_path)
    print(found.report(), dict(found.outcomes))
    assert not found.findings, json.dumps(found.findings[:3], indent=1)
    assert sum(found.tried.values()) == MUTATIONS
    assert found.outcomes["decoded"] > MUTATIONS / 10  # or the mutations are no good
    assert found.outcomes["refused"] > MUTATIONS / 10


_BROKEN = """
import ctypes, json, os, signal, sys, time
signal.setitimer(signal.ITIMER_PROF, 1)
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    print(f"begin {number}", flush=True)
    if number == 2: ctypes.string_at(0)
    if number == 4:
        while True: pass
    if number == 6: os._exit(0)
    how = "Traceback" if number == 3 else "decoded"
    told = {"number": number, "kind": "PNG", "variant": "plain", "mutations": [], "how": how}
    print(json.dumps(told | {"seconds": 0, "memory": 10**10 * (number == 5)}), flush=True)
"""


def test_a_hunt_finds_crashes_hangs_errors_and_memory_and_goes_on():
    found = hunting.hunt("0", 0, 8, program=("-c", _BROKEN))
    assert [one["number"] for one in found.findings] == [2, 3, 4, 5, 6]
    assert "SIGSEGV" in found.findings[0]["how"]
    assert "SIGPROF" in found.findings[2]["how"]
    assert sum(found.tried.values()) == 8


def listing(folder):
    """What is in a folder: every file with its bytes, and every link."""
    return {
        path: path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in Path(folder).rglob("*")
    }


def archive_of(folder, numbers):
    """Write the files of cases into a folder, and give their names with their cases."""
    cases = {}
    for number in numbers:
        case = mutations.case(SEED, number)
        name = f"{number:05}{_NAMES[number % len(_NAMES)] if number % 5 == 0 else ''}{case.ending}"
        cases[name] = case
        path = folder / f"album {number % 3}" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(case.data)
    return cases


def the_job(command, *arguments):
    """Run a job in a process of its own, without worker processes."""
    return subprocess.run(
        [sys.executable, "-m", "heliograph", command, *map(str, arguments), *IN_PROCESS],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=1800,
    )


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("degrade", ("--recipe", "grayscale", "--max_pixels", mutations.MOST_PIXELS)),
        ("convert", ("--output_format", "webdataset")),
    ],
)
def test_a_job_over_mutated_files_accounts_for_every_one(tmp_path, command, options):
    for start in range(0, MUTATIONS, BATCH)[: 1 if MUTATIONS < 1000 else None]:
        folder = tmp_path / f"surroundings {start}"
        cases = archive_of(folder / "archive", range(start, min(start + BATCH, MUTATIONS)))
        output = folder / "deep" / "down" / "output"
        before = listing(folder)
        done = the_job(command, folder / "archive", output, *options)
        assert done.returncode in (0, 3), done.stderr
        accounted(output, cases, done)
        after = {
            path: held for path, held in listing(folder).items() if not path.is_relative_to(output)
        }
        new = after.keys() - before.keys()
        assert new <= {folder / "deep", folder / "deep" / "down"}
        assert {path: after[path] for path in before} == before


def accounted(output, cases, done):
    summary = json.loads((output / "summary.json").read_text())
    statuses = ("restored", "skipped", "quarantined", "failed")
    assert summary["planned"] == sum(summary[status] for status in statuses)
    table = pq.read_table(output / "metrics.parquet", columns=["key", "status", "source"])
    keys = set(table.column("key").to_pylist())
    assert len(keys) == len(table) == summary["planned"]
    empty = summary["left_out"].get("empty shards", 0)
    files = {Path(source).name for source in table.column("source").to_pylist()}
    named = {name.encode("utf-8", "backslashreplace").decode(): name for name in cases}
    assert len(named.keys() - files) == empty, sorted(named.keys() - files)
    assert all(cases[named[name]].is_container for name in named.keys() - files)
    failures = [json.loads(line) for line in (output / "failures.jsonl").read_text().splitlines()]
    assert len(failures) == summary["failed"] + summary["quarantined"]
    assert all(one["key"] and one["stage"] and one["message"] for one in failures)
    assert "Traceback" not in done.stderr
    unexpected = [one for one in failures if one["error"] not in _EXPECTED]
    assert not unexpected, unexpected[:3]
    for said in (done.stderr, done.stdout):
        assert not any(ord(character) in _CONTROL for character in said)
    assert all(line.startswith(("heliograph: ", "  ")) for line in done.stderr.splitlines())


_EXPECTED = {"BoundsError", "CodecError", "ShardError", "StorageError", "StreamError", "PageError"}
_CONTROL = {
    *range(10),
    *range(11, 32),
    *range(127, 160),
    *range(0x202A, 0x202F),
    *range(0xDC80, 0xDD00),
}
