"""An Airflow of its own for these tests, which `make airflow-test` installs and runs them with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Not for `make test`: Airflow asks for other versions of our packages, and is 860 MB.
FOLDER = os.environ.get("HELIOGRAPH_AIRFLOW")
collect_ignore_glob = [] if FOLDER else ["test_*.py"]

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "deploy" / "schedules" / "airflow"


class Airflow:
    """An Airflow with a database of its own that reads the DAGs of deploy/schedules/airflow."""

    def __init__(self, home):
        self.python = Path(FOLDER).absolute() / "bin" / "python"
        # This Python with this code, as Heliograph's own environment would be.
        self.heliograph = script(
            home / "heliograph-python", f'PYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"'
        )
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "HELIOGRAPH_PYTHON": self.heliograph,
        }

    def start(self, *words, **environment):
        """Run a command by Airflow's Python."""
        return subprocess.Popen(
            [*map(str, (self.python, *words))],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words, code=0, **environment):
        """Run a command by Airflow's Python, and give what it says."""
        process = self.start(*words, **environment)
        said = process.communicate(timeout=600)[0]
        assert process.returncode == code, said
        return said

    def tell(self, *words, **environment):
        """Run tests/airflow/look.py, and give what it has found."""
        said = self.run(Path(__file__).with_name("look.py"), *words, **environment)
        return json.loads(said.splitlines()[-1])


def script(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    one = Airflow(tmp_path_factory.mktemp("airflow"))
    one.run("-m", "airflow", "db", "migrate")
    return one
