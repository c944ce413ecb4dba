"""Whole jobs in the test's own process: what no worker process is needed to show. And the processes
of others.
"""

import os
import signal
import subprocess
from contextlib import contextmanager, suppress

from pipeline import beam_options, cli, job
from pipeline import run as runs

IN_PROCESS = (
    *("--runner", "apache_beam.runners.portability.fn_api_runner.FnApiRunner"),
    *("--workers", "1"),
)


def run(command, *arguments, code=None):
    """Run a command as its line says, and give how it ended; hold it to an exit code, if one is
    given.
    """
    parser, commands = cli._parser()
    own = beam_options.add_to(commands[command])
    words = [command, *map(str, arguments)]
    args = parser.parse_args([*words, *IN_PROCESS])
    args.said = beam_options.without_beams(words, commands[command], own)
    ended = runs.run(job.make_job(args), beam_options.make(args, own))
    assert code in (None, ended.code), ended
    return ended


def children(*parents):
    """Give the numbers of processes that some others have started."""
    numbers = ",".join(map(str, parents))
    told = subprocess.run(["ps", "--ppid", numbers, "-o", "pid="], capture_output=True)
    return [int(pid) for pid in told.stdout.split()]


@contextmanager
def held(processes):
    """Let processes stand still while the block runs."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):  # it was killed meanwhile
                os.kill(process, signal.SIGCONT)
