"""A Flink cluster of two TaskManagers for these tests, which `make flink-test` runs."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

# Not for `make test`: Flink is 230 MB, and its three processes hold 1 GB.
FOLDER = os.environ.get("HELIOGRAPH_FLINK")
collect_ignore_glob = [] if FOLDER else ["test_*.py"]

SCRIPT = Path(__file__).parents[2] / "deploy" / "flink" / "cluster.py"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """The cluster that `deploy/flink/cluster.py` starts, on ports of its own."""

    def __init__(self):
        self.folder = Path(FOLDER).resolve()
        self.ports = {name: free_port() for name in ("port", "rpc_port", "blob_port", "pool_port")}
        self.embedded = (
            *("--runner", "FlinkRunner"),
            *("--flink_job_server_jar", str(self.folder / "jars" / "job-server.jar")),
        )
        self.options = (*self.embedded, "--flink_master", f"localhost:{self.ports['port']}")

    @property
    def address(self):
        return f"http://localhost:{self.ports['port']}"

    def run(self, command, *more):
        ports = [word for name, port in self.ports.items() for word in (f"--{name}", str(port))]
        line = [sys.executable, str(SCRIPT), command, "--folder", str(self.folder), *ports, *more]
        done = subprocess.run(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout

    def pid(self, name):
        return int((self.folder / f"{name}.pid").read_text())


@pytest.fixture(scope="session")
def cluster():
    """Up, with its two TaskManagers, whatever the test before has killed."""
    one = Cluster()
    one.run("stop")
    one.run("start")
    yield one
    one.run("stop")
