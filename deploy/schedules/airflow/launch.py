r"""What Airflow's BeamRunPythonPipelineOperator runs (`py_file`): `heliograph`, by flags alone.

    python launch.py --runner=DirectRunner --command=restore --archive=/srv/archive \
        --output=/srv/restored --metrics_file=…

The operator writes all that it is given as --NAME=VALUE, and a command of ours begins with words:
`restore ARCHIVE... OUTPUT`. All other flags go to it as they are; so does its exit code come back.

Nothing but this file need be where Airflow is. It runs by the Python that Heliograph is installed
for (`py_interpreter`), which need not be Airflow's and had better not be.
"""

import argparse
import ctypes
import os
import signal
import sys

COMMANDS = ("restore", "evaluate", "degrade", "convert")

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def command_line(argv: list[str]) -> list[str]:
    """Give the words that `heliograph` understands for the flags that the operator writes.

    Raises:
        SystemExit: one that is needed is missing; its code is 2, as that of wrong usage.
    """
    parser = argparse.ArgumentParser(prog="launch.py", allow_abbrev=False, add_help=False)
    parser.add_argument("--command", choices=COMMANDS, required=True)
    parser.add_argument("--archive", action="append", required=True, metavar="ARCHIVE")
    parser.add_argument("--output", required=True)
    args, others = parser.parse_known_args(argv)
    return [args.command, *args.archive, args.output, *others]


def stop_with_airflow() -> None:
    """Take the end of the task's process, which leaves behind what it has started, for a Ctrl-C:
    the batches under way are finished and committed, and the next try goes on. Only on Linux.
    """

    def stop(number: int, frame: object) -> None:
        # Linux may tell of it several times, for each thread that the process had; but a second
        # Ctrl-C would end the job at once.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGINT)

    if sys.platform == "linux":
        signal.signal(signal.SIGUSR1, stop)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
        if os.getppid() == 1:  # it ended before it could be asked for
            os.kill(os.getpid(), signal.SIGUSR1)


if __name__ == "__main__":
    sys.argv[1:] = command_line(sys.argv[1:])
    stop_with_airflow()

    import heliograph

    sys.exit(heliograph.main())
