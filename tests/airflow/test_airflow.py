"""The DAGs of deploy/schedules/airflow/ in a real Airflow: read, run, failing and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from pipeline import beam_options, cli
from pipeline.job import ExitCode
from tests.airflow.conftest import DAGS, script
from tests.test_schedules import launcher

FINAL = {ExitCode.USAGE, ExitCode.INCOMPLETE, ExitCode.FIXITY}


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in ("astronaut", "coffee", "camera"):
        photograph = Image.fromarray(getattr(skimage.data, name)())
        photograph.resize((96, 64)).save(folder / f"{name}.png")
    return folder


def configured(archive, tmp_path):
    """What to run a DAG with, on these folders."""
    return json.dumps(
        {
            "archive": str(archive),
            "output": str(tmp_path / "out"),
            "metrics_file": str(tmp_path / "job.prom"),
        }
    )


def test_airflow_reads_them(airflow):
    told = airflow.tell("dags")
    assert told["errors"] == {}
    assert set(told["dags"]) == {"heliograph", "heliograph_on_flink"}
    for dag in told["dags"].values():
        assert dag["catchup"] is False
        assert dag["max_active_runs"] == 1
        for task in dag["tasks"].values():
            assert task["is_beam"]
            assert Path(task["py_file"]) == DAGS / "launch.py"
            assert Path(task["py_file"]).is_file()
            assert task["py_interpreter"] == airflow.heliograph
            assert task["retries"] > 0
            assert task["deferrable"] is False  # a trigger would not stop it with the task
    assert told["dags"]["heliograph_on_flink"]["tasks"]["collect"]["upstream"] == ["submit"]


def test_each_exit_code_ends_a_task_as_it_should(airflow, tmp_path):
    fake = script(tmp_path / "python", 'test "$1" = -c && echo 2.77.0 && exit\nexit $EXIT_CODE')
    codes = {code: str(int(code)) for code in ExitCode}
    first = airflow.tell("ends", 1, *codes.values(), "137", HELIOGRAPH_PYTHON=fake)
    again = airflow.tell("ends", 2, *codes.values(), "137", HELIOGRAPH_PYTHON=fake)
    for told, task, skips in (
        (first, "restore", True),
        (again, "restore", False),  # where it is likely to be the first try that has the lock
        (first, "collect", False),
    ):
        assert told[task][codes[ExitCode.OK]] is None
        for code in FINAL:
            kind, said = told[task][codes[code]]
            assert kind == "AirflowFailException", said  # which is not tried again
            assert f"exit code {int(code)}" in said
        busy, _ = told[task][codes[ExitCode.LOCKED]]
        assert busy == ("AirflowSkipException" if skips else "AirflowException")
        for code in (codes[ExitCode.CRASHED], codes[ExitCode.INTERRUPTED], "137"):
            assert told[task][code][0] == "AirflowException"


def test_our_parser_understands_what_the_operator_writes(airflow, tmp_path):
    spoken = tmp_path / "spoken"
    fake = script(
        tmp_path / "python",
        f'test "$1" = -c && echo 2.77.0 && exit\nprintf "%s\\n" "$@" "" >> {spoken}',
    )
    for dag in ("heliograph", "heliograph_on_flink"):
        config = configured("/srv/master pictures", tmp_path)
        words = ("-m", "airflow", "dags", "test", dag, "--conf", config)
        airflow.run(*words, HELIOGRAPH_PYTHON=fake)
    restore, submit, collect = (
        parsed(command.splitlines()) for command in spoken.read_text().strip().split("\n\n")
    )
    for args in (restore, submit, collect):
        assert args.command == "restore"
        assert args.archive == ["/srv/master pictures"]
        assert args.output == str(tmp_path / "out")
        assert args.metrics_file == str(tmp_path / "job.prom")
    assert (restore.runner, restore.no_wait) == ("DirectRunner", False)
    assert (submit.runner, submit.no_wait) == ("FlinkRunner", True)
    assert (collect.runner, collect.no_wait) == ("FlinkRunner", False)
    differing = {name for name in vars(submit) if getattr(submit, name) != getattr(collect, name)}
    assert differing == {"no_wait"}


def parsed(command):
    """What a command line of the operator's means to us, by the launcher and our own parser."""
    program, *flags = command
    assert Path(program) == DAGS / "launch.py"
    parser, commands = cli._parser()
    beam_options.add_to(commands["restore"])
    return parser.parse_args(launcher().command_line(flags))


def test_a_night(airflow, archive, tmp_path):
    words = ("-m", "airflow", "dags", "test", "heliograph", "--conf", configured(archive, tmp_path))
    airflow.run(*words)
    out, file = tmp_path / "out", tmp_path / "job.prom"
    assert json.loads((out / "summary.json").read_text())["restored"] == 3
    verified = subprocess.run(
        [sys.executable, "-m", "heliograph", "verify", out, "--deep", "--masters"],
        capture_output=True,
        text=True,
    )
    assert verified.returncode == 0, verified.stdout
    assert f'last_run_exit_code{{output="{out}"}} 0.0' in file.read_text()


def test_a_task_that_is_killed_leaves_a_job_that_stops_in_good_order(airflow, archive, tmp_path):
    count, out = 600, tmp_path / "out"
    picture = (archive / "coffee.png").read_bytes()
    for number in range(count - 3):
        (archive / f"{number:03}.png").write_bytes(picture)
    (archive / "zzz.png").write_bytes(b"no PNG")
    words = ("-m", "airflow", "dags", "test", "heliograph", "--conf", configured(archive, tmp_path))
    task = airflow.start(*words)
    commits, claims = out / "ledger" / "batches", out / ".lock"
    ends = time.monotonic() + 300
    while not (commits.is_dir() and any(commits.iterdir())):
        assert task.poll() is None, task.communicate()[0]
        assert time.monotonic() < ends
        time.sleep(0.05)
    (claim,) = claims.glob("*.claim.json")
    driver = json.loads(claim.read_text())["pid"]
    os.kill(parent(driver), signal.SIGKILL)
    while parent(driver) is not None:
        assert time.monotonic() < ends, "it goes on, and nobody waits for it"
        time.sleep(0.05)
    task.kill()
    task.communicate()
    assert not list(claims.glob("*.claim.json"))
    summary = json.loads((out / "summary.json").read_text())  # which a plain kill would not leave
    assert 0 < summary["restored"] < count

    said = airflow.run(*words, code=1)
    assert "exit code 3: done, but some images failed" in said
    assert said.count("Running command") == 1, "it was tried again"
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["restored"], summary["failed"]) == (count, 1)
    assert f'last_run_exit_code{{output="{out}"}} 3.0' in (tmp_path / "job.prom").read_text()


def parent(pid):
    """The number of a process's parent; None where it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, number = stat.rpartition(")")[2].split()[:2]
    return None if state in "ZX" else int(number)
