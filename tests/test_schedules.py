"""What starts jobs by the clock is sound, and knows our exit codes."""

import configparser
import importlib.util
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pipeline import beam_options, cli
from pipeline.job import ExitCode

DEPLOY = Path(__file__).parents[1] / "deploy"
SCHEDULES = DEPLOY / "schedules"
# For a person to look at: to try again changes nothing.
FINAL = {ExitCode.USAGE, ExitCode.INCOMPLETE, ExitCode.FIXITY}


class Unit(configparser.ConfigParser):
    optionxform = staticmethod(str)


def unit(name):
    read = Unit(strict=True)
    read.read_string((SCHEDULES / name).read_text())
    return read


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_nothing_wrong(tmp_path):
    command = tmp_path / "heliograph"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    for name in ("heliograph.service", "heliograph.timer"):
        text = (SCHEDULES / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/heliograph/bin/heliograph", str(command)))
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.glob("heliograph.*")))],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert not ours


def test_the_service_knows_how_a_job_ends():
    service = unit("heliograph.service")["Service"]
    assert set(map(int, service["RestartPreventExitStatus"].split())) == FINAL
    assert set(map(int, service["SuccessExitStatus"].split())) == {
        ExitCode.LOCKED,
        ExitCode.INTERRUPTED,
    }
    assert service["KillSignal"] == "SIGINT"  # which is what stops a job in good order


def test_cron_says_nothing_where_another_job_is_at_it(tmp_path):
    (line,) = (
        line for line in (SCHEDULES / "crontab").read_text().splitlines() if line.startswith("0 2")
    )
    command = line.split(maxsplit=5)[5]
    fake = tmp_path / "heliograph"
    for code in ExitCode:
        fake.write_text(f"#!/bin/sh\necho told\nexit {int(code)}\n")
        fake.chmod(0o755)
        said = subprocess.run(
            ["sh", "-c", command.replace("/var/tmp/", f"{tmp_path}/")],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
        ).stdout
        assert said == ("" if code in (ExitCode.OK, ExitCode.LOCKED) else "told\n"), code


@pytest.mark.parametrize(
    "path", ["schedules/cronjob.yaml", "flink/kubernetes/submit.yaml"], ids=lambda path: path
)
def test_kubernetes_takes_it_and_gives_up_where_we_do(path):
    manifest = yaml.safe_load((DEPLOY / path).read_text())
    kubernetes_validate.validate(manifest, "1.31", strict=True)
    spec = manifest["spec"]
    if manifest["kind"] == "CronJob":
        assert spec["concurrencyPolicy"] == "Forbid"
        spec = spec["jobTemplate"]["spec"]
    rules = spec["podFailurePolicy"]["rules"]
    given_up = {
        code
        for rule in rules
        if rule["action"] == "FailJob"
        for code in rule["onExitCodes"]["values"]
    }
    assert given_up == FINAL
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # as a podFailurePolicy asks for
    named = {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule}
    assert named == {container["name"] for container in pod["containers"]}


def launcher():
    """The file that Airflow runs, as a module: `tests/airflow/` has the DAGs themselves."""
    spec = importlib.util.spec_from_file_location("launch", SCHEDULES / "airflow" / "launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_launcher_of_airflow_says_what_we_understand():
    flags = (
        *("--runner=FlinkRunner", "--command=evaluate", "--archive=/srv/a b", "--archive=/srv/c"),
        *("--recipe=jpeg:3", "--output=/srv/out", "--no_wait", "--labels=airflow-version=v3-3-2"),
    )
    parser, commands = cli._parser()
    beam_options.add_to(commands["evaluate"])
    args = parser.parse_args(launcher().command_line(list(flags)))
    assert (args.command, args.archive, args.output) == (
        "evaluate",
        ["/srv/a b", "/srv/c"],
        "/srv/out",
    )
    assert (args.runner, args.recipe, args.no_wait) == ("FlinkRunner", "jpeg:3", True)
    assert args.labels == ["airflow-version=v3-3-2"]


@pytest.mark.parametrize("missing", ["--command=restore", "--archive=/srv/a", "--output=/srv/out"])
def test_what_the_launcher_is_not_told_is_wrong_usage(missing, capsys):
    flags = {"--command=restore", "--archive=/srv/a", "--output=/srv/out"} - {missing}
    with pytest.raises(SystemExit) as raised:
        launcher().command_line(sorted(flags))
    assert raised.value.code == ExitCode.USAGE
    assert missing.partition("=")[0] in capsys.readouterr().err


def test_the_schema_tells_what_is_wrong():
    manifest = yaml.safe_load((SCHEDULES / "cronjob.yaml").read_text())
    manifest["spec"]["concurrency"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.31", strict=True)
