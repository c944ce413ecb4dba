"""Take many mutations through a process of `tests.fuzzing`, and go on where one ended it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests import mutations

WALL_SECONDS = 120.0  # for one case: far more than its limit of processor time
MEMORY = 400 << 20  # bytes that a case of some kilobytes may take, of at most 2 million pixels


@dataclass
class Hunt:
    """What came of mutations: how many by kind, and the cases that are findings."""

    tried: Counter = field(default_factory=Counter)
    outcomes: Counter = field(default_factory=Counter)
    findings: list[dict] = field(default_factory=list)

    def report(self):
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.tried.items()))
        return f"{sum(self.tried.values())} mutations ({kinds}): {len(self.findings)} findings"


def hunt(seed, start, stop, saved=None, program=("-m", "tests.fuzzing")):
    """Try the cases from `start` to `stop`; those that are findings go into a folder.

    `program` says what is run for each stretch of them, as Python's own command line has it.
    """
    found = Hunt()
    while start < stop:
        start = _some(found, seed, start, stop, saved, program)
    return found


def _some(found, seed, start, stop, saved, program):
    """Run one process until it ends or is ended, and give the number of the next case."""
    command = [sys.executable, "-W", "ignore", *program, str(seed), str(start), str(stop)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "MALLOC_ARENA_MAX": "2"}
    number = None
    with (
        tempfile.TemporaryFile("w+") as words,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=words, text=True, env=environment
        ) as child,
    ):
        watch = _Watch(child)
        for line in child.stdout:
            watch.again()
            if line.startswith("begin "):
                number = int(line.split()[1])
                continue
            told = json.loads(line)
            found.tried[told["kind"]] += 1
            found.outcomes[told["how"].split()[0]] += 1
            if told["how"].startswith("Traceback") or told["memory"] > MEMORY:
                _finding(found, seed, told, saved)
            number = None
        watch.end()
        child.wait()
        words.seek(0)
        last = words.read()[-3000:]
    if number is None:
        assert child.returncode == 0, last
        return stop
    case = mutations.case(seed, number)
    died = signal.Signals(-child.returncode).name if child.returncode < 0 else child.returncode
    found.tried[case.kind] += 1
    told = {"number": number, "kind": case.kind, "variant": case.variant, "mutations": case.how}
    _finding(found, seed, {**told, "how": f"died of {died}: {last}"}, saved)
    return number + 1


class _Watch:
    """Kills a process that has said nothing for too long."""

    def __init__(self, child):
        self._child = child
        self._timer = None
        self.again()

    def again(self):
        self.end()
        self._timer = threading.Timer(WALL_SECONDS, self._child.kill)
        self._timer.start()

    def end(self):
        if self._timer is not None:
            self._timer.cancel()


def _finding(found, seed, told, saved):
    found.findings.append({"seed": seed, **told})
    if saved is not None:
        case = mutations.case(seed, told["number"])
        name = f"{seed}-{told['number']}-{case.kind}-{case.variant}{case.ending}"
        Path(saved, name).write_bytes(case.data)


if __name__ == "__main__":
    # python -m tests.hunting SEED START STOP FOLDER
    folder = Path(sys.argv[4])
    folder.mkdir(exist_ok=True)
    hunted = hunt(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), folder)
    for one in hunted.findings:
        print(json.dumps(one))
    print(hunted.report())
