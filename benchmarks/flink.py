"""Compare one TaskManager of a Flink cluster on this machine with two: how much faster is the job?

    python benchmarks/flink.py PHOTOS [--folder .flink] [--repeat N]

Each TaskManager has one slot, one worker process, one copy of the model and one TensorFlow thread.
Timed is from the first batch's beginning to the last one's end, as commit records have it: starting
Java, uploading the job server and loading the model are the same however many there are. Other
processes on the machine spoil the comparison: the load before each run is printed. The last line is
the ratio of the medians; the exit code is 1 where it is under 1.7.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "deploy" / "flink" / "cluster.py"
GOAL = 1.7


def cluster(folder: Path, port: int, command: str, *more: str) -> None:
    """Run a command of the cluster's script."""
    line = (sys.executable, CLUSTER, command, "--folder", folder, "--port", port, *more)
    subprocess.run([*map(str, line)], check=True, stdout=subprocess.DEVNULL)


def rate(photos: Path, folder: Path, port: int, batch: int) -> float:
    """Restore the photographs on the cluster; give images a second."""
    work = Path(tempfile.mkdtemp(prefix="heliograph-bench-"))
    try:
        out = work / "out"
        command = (
            *(sys.executable, "-m", "heliograph", "restore", photos, out),
            *("--batch_size", batch, "--threads", 1, "--runner", "FlinkRunner"),
            *("--flink_master", f"localhost:{port}"),
            *("--flink_job_server_jar", folder / "jars" / "job-server.jar"),
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [*map(str, command)],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        records = [json.loads(path.read_text()) for path in (out / "ledger/batches").iterdir()]
    finally:
        shutil.rmtree(work)
    started = min(datetime.fromisoformat(one["made"]["started"]) for one in records)
    ended = max(datetime.fromisoformat(one["made"]["ended"]) for one in records)
    return sum(len(one["rows"]) for one in records) / (ended - started).total_seconds()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(".flink"), help="of cluster.py")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    folder = args.folder.resolve()
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(args.repeat):
        for managers, found in rates.items():
            load = os.getloadavg()[0]
            cluster(folder, args.port, "start", "--taskmanagers", str(managers))
            try:
                found.append(rate(args.photos, folder, args.port, args.batch_size))
            finally:
                cluster(folder, args.port, "stop")
            print(f"{managers} TaskManagers: {found[-1]:6.2f} images/s, load before: {load:.1f}")
    ratio = statistics.median(rates[2]) / statistics.median(rates[1])
    print(f"two to one: {ratio:.2f}")
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
