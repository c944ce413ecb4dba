"""A worker process of the local runner: Beam's own, that dies with the job that started it.

python -P pipeline/worker.py FOLDER DRIVER

FOLDER holds a file of the process's number, which says what it is at, and goes when the worker ends
by itself. DRIVER is the number of the process that started it.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from apache_beam.runners.worker import sdk_worker_main

# Where the driver's own modules are, of which a worker is sent only the names.
_ROOT = str(Path(__file__).resolve().parents[1])

_LOOK_EVERY = 0.5  # seconds

# A worker has one core; libraries that think otherwise spend it on waiting for each other.
ONE_THREAD = {
    "OPENCV_FOR_THREADS_NUM": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def die_with(parent: int) -> None:
    """End this process soon after its parent has ended, however that was.

    Args:
        parent: its number, as of before anything was imported: it may be gone by the time that is.
    """
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    # Beam's worker waits for ever for a driver that was killed, with its model in memory.
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os._exit(1)


def main() -> None:
    """Run until the driver says that it is enough, or is gone."""
    if _ROOT not in sys.path:
        sys.path.insert(0, _ROOT)
    # Ctrl-C goes to all processes of a terminal; workers are to finish what they are at.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(int(sys.argv[2]))
    from transforms import deadline

    mine = Path(sys.argv[1]) / str(os.getpid())
    deadline.note_in(mine)
    sdk_worker_main.main(sys.argv[:1])
    mine.unlink(missing_ok=True)  # ended, and was not ended


if __name__ == "__main__":
    main()
