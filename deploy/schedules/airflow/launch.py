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
    """Ask Linux for a Ctrl-C when the task's process ends: the operator leaves behind what it has
    started. The batches under way are then finished and committed, and the next try goes on.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() == 1:  # it ended before it could be asked for
            os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.argv[1:] = command_line(sys.argv[1:])
    stop_with_airflow()

    import heliograph

    sys.exit(heliograph.main())
