"""Jobs that are left to a cluster: tests/flink/ does it on a real one."""

import json
import re

import pytest
from PIL import Image

from pipeline import beam_options, cli, flink, job, runner
from pipeline.job import ExitCode
from pipeline.ledger import Ledger
from pipeline.metrics_file import MetricsFile
from pipeline.run import Result
from pipeline.submission import StillRunningError
from tests.jobs import run
from tests.photographs import small

ID = "02c672378315227ac3979f0939182997"


@pytest.fixture
def archive(tmp_path):
    """Three images, and one that is none."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(3):
        picture(folder / f"{number}.png", number)
    (folder / "broken.png").write_bytes(b"no PNG")
    return folder


def picture(path, number):
    Image.fromarray(small(height=16 + number, width=16)).save(path)


class Left:
    """A job that was done here, and whose ledger says that it was left to a cluster."""

    def __init__(self, rest, archive, out, *said, state, **asked):
        self.rest, self.archive, self.out = rest, archive, out
        self.ledger = Ledger(str(out))
        self.does(*said)
        rest.jobs = [{"jid": ID, "name": f"heliograph-{self.ledger.run()}", "state": state}]
        nothing = {"retry": [], "only": [], "limit": None, "verify_masters": False}
        self.remote = {
            "runner": "FlinkRunner",
            "master": f"http://{rest.master}",
            "name": flink.name_of(str(out)),
            "id": ID,
            "asked": {"archives": [str(archive)], **nothing, **asked},
        }
        self.ledger.write_remote(self.remote)

    def does(self, *said, code=None):
        words = ("--batch_size", 2, "--max_pixels", 5000, *said)
        return run("degrade", self.archive, self.out, "--recipe", "grayscale", *words, code=code)

    def attempts(self):
        """How often each batch was made, and by which run's clock."""
        heads = [record["made"] for _, record in self.ledger.records()]
        return sorted((head["started"], head["attempt"]) for head in heads)


@pytest.fixture
def left(rest, archive, tmp_path):
    return lambda *said, state="FINISHED", **asked: Left(
        rest, archive, tmp_path / "out", *said, state=state, **asked
    )


def test_while_it_runs_nobody_touches_it(left, rest, capfd):
    one = left(state="RUNNING")
    before = one.attempts()
    for state in ("RUNNING", "RESTARTING", "CANCELLING", "INITIALIZING"):
        rest.jobs[0]["state"] = state
        with pytest.raises(StillRunningError, match=f"run {ID} at .*, which is {state}"):
            one.does()
    with pytest.raises(StillRunningError):
        one.does("--retry", "failed")
    with pytest.raises(StillRunningError):  # replacing it is touching it, too
        run("convert", one.archive, one.out, "--overwrite")
    same = ("degrade", one.archive, one.out, "--recipe", "grayscale", "--max_pixels", 5000)
    for command in (("repair", one.out), ("report", one.out), same):
        assert cli.main([*map(str, command)]) == ExitCode.LOCKED
        assert ID in capfd.readouterr().err
    assert rest.cancelled == []
    assert one.ledger.remote() == one.remote
    assert one.attempts() == before


def test_it_is_collected_once_it_has_ended(left, caplog):
    one = left()
    before = one.attempts()
    ended = one.does("--max_failed", 0, code=ExitCode.FIXITY)  # of gates that it never heard of
    assert (ended.summary["restored"], ended.summary["failed"]) == (3, 1)
    assert "come to its end" in caplog.text
    assert one.attempts() == before
    assert one.ledger.remote() is None
    assert json.loads((one.out / "gates.json").read_text())["passed"] is False


def test_what_was_asked_for_is_not_done_once_more(left):
    one = left("--retry", "failed", retry=["failed"])
    before = one.attempts()
    one.does("--retry", "failed", code=ExitCode.INCOMPLETE)
    assert one.attempts() == before
    one.does("--retry", "failed", code=ExitCode.INCOMPLETE)  # which is another wish
    assert one.attempts() != before


def test_what_was_not_asked_for_is_done(left):
    one = left()
    before = one.attempts()
    one.does("--retry", "failed", code=ExitCode.INCOMPLETE)
    assert one.attempts() != before


def test_a_limit_is_that_of_one_run(left):
    one = left("--limit", 1, limit=1)
    assert one.does("--limit", 1).summary["planned"] == 1
    assert one.does("--limit", 1).summary["planned"] == 2


def test_masters_are_hashed_once(left):
    one = left("--verify_masters", verify_masters=True)
    begun = one.ledger.run()
    ended = one.does("--verify_masters", code=ExitCode.INCOMPLETE)
    assert ended.summary["masters"] == {"unchanged": 4, "changed": []}
    assert one.ledger.run() == begun
    one.does("--verify_masters", code=ExitCode.INCOMPLETE)
    assert one.ledger.run() != begun


def test_what_has_come_meanwhile_is_for_the_next_run(left):
    one = left()
    picture(one.archive / "new.png", 9)
    assert one.does().summary["planned"] == 4
    assert one.does().summary["planned"] == 5


def test_what_it_has_not_committed_is_done(left, rest, caplog):
    one = left(state="FAILED")
    rest.trace = (
        "java.lang.RuntimeException: Job failed\n\tat x\nCaused by: java.io.IOException: No space"
    )
    gone = next((one.out / "ledger" / "batches").iterdir())
    kept = {path.name for path in gone.parent.iterdir()} - {gone.name}
    gone.unlink()
    before = {path: (gone.parent / path).stat().st_mtime_ns for path in kept}
    assert one.does(code=ExitCode.INCOMPLETE).summary["planned"] == 4
    assert f"the run {ID} at http://{rest.master} has ended: FAILED: java.io.IOExc" in caplog.text
    assert gone.exists()
    assert {path: (gone.parent / path).stat().st_mtime_ns for path in kept} == before
    assert one.ledger.remote() is None
    assert rest.cancelled == []


def test_tables_that_it_did_not_come_to_are_made(left):
    one = left(state="CANCELED")
    (one.out / "ledger" / "open").write_text("")
    (one.out / "summary.json").write_text((one.out / "summary.json").read_text() + "\n")
    begun = one.ledger.run()
    one.does(code=ExitCode.INCOMPLETE)
    assert one.ledger.run() != begun
    assert not one.ledger.is_open


def test_of_a_cluster_that_does_not_answer_nothing_is_taken_for_granted(left):
    one = left()
    one.ledger.write_remote({**one.remote, "master": "http://127.0.0.1:1"})
    with pytest.raises(StillRunningError, match=r"nobody answers there .*refused") as raised:
        one.does()
    (told,) = re.findall(r"delete (\S+) and", str(raised.value))
    assert told == str(one.out / "ledger" / "remote.json")
    one.ledger.forget_remote()
    one.does(code=ExitCode.INCOMPLETE)


def test_of_what_has_not_ended_prometheus_is_told_nothing(tmp_path):
    file = tmp_path / "job.prom"
    with MetricsFile(str(file), str(tmp_path / "out")) as told:
        told.result = Result({}, ExitCode.OK, str(tmp_path / "out"), submitted=ID)
        told.code = told.result.code
    assert not file.exists()


def prepare(*words):
    parser, commands = cli._parser()
    own = beam_options.add_to(commands["convert"])
    args = parser.parse_args(["convert", *map(str, words), "--no_wait"])
    options = beam_options.make(args, own)
    return runner.prepare(job.make_job(args), options)


@pytest.mark.parametrize("name", [None, "DirectRunner", "PrismRunner", "SparkRunner"])
def test_what_ends_with_the_command_cannot_be_left_to_itself(archive, tmp_path, name):
    said = ("--runner", name) if name else ()
    with pytest.raises(job.JobError, match=r"ends with this command: say --runner FlinkRunner"):
        prepare(archive, tmp_path / "out", *said)


def test_nor_can_a_flink_of_its_own(archive, tmp_path):
    with pytest.raises(job.JobError, match=r"--flink_master HOST:PORT"):
        prepare(archive, tmp_path / "out", "--runner", "FlinkRunner")


def test_it_is_wrong_usage_and_nothing_is_done(archive, tmp_path, capfd):
    out = tmp_path / "out"
    assert cli.main(["convert", str(archive), str(out), "--no_wait"]) == ExitCode.USAGE
    assert "--runner FlinkRunner" in capfd.readouterr().err
    assert not out.exists()
