"""A second run over many records costs next to nothing: `benchmarks/resume.py` has the times."""

import os
import sys

import pytest

from pipeline import beam_options, cli, job
from pipeline import run as runs
from pipeline.job import ExitCode
from tests.jobs import run
from tests.photographs import small
from tests.test_resume import commits, png

RECORDS, FILES = 2000, 20


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Names for a few images, as hard links, and what a job has made of them."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "originals").mkdir()
    for number in range(FILES):
        original = folder / "originals" / f"{number}.png"
        original.write_bytes(png(small(height=16, width=12 + number)))
        for copy in range(number, RECORDS, FILES):
            box = folder / "archive" / f"{copy % 7}"
            box.mkdir(parents=True, exist_ok=True)
            os.link(original, box / f"{copy:04}.png")
    run("convert", folder / "archive", folder / "out", code=ExitCode.OK)
    return folder


class _Watch:
    """What this process opens and starts, while it is asked to watch."""

    def __init__(self) -> None:
        self.on = False
        self.opened: list[str] = []
        self.started: list[str] = []
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple) -> None:
        if self.on and event == "open" and isinstance(arguments[0], str):
            self.opened.append(arguments[0])
        if self.on and event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
            self.started.append(str(arguments))


@pytest.fixture(scope="module")
def watch():
    return _Watch()


def as_users_do(*arguments):
    """Run a command on the runner that users have, whose workers are processes."""
    parser, commands = cli._parser()
    own = beam_options.add_to(commands["convert"])
    args = parser.parse_args(["convert", *map(str, arguments)])
    return runs.run(job.make_job(args), beam_options.make(args, own))


@pytest.mark.parametrize("options", [(), ("--dry_run",), ("--retry", "failed")])
def test_a_second_run_starts_no_worker_and_opens_no_master(made, watch, options):
    archive, out = made / "archive", made / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    watch.opened, watch.started, watch.on = [], [], True
    try:
        as_users_do(archive, out, *options)
    finally:
        watch.on = False
    assert any(path.endswith("job.json") for path in watch.opened), "it was watched"
    assert not [path for path in watch.opened if path.startswith((f"{archive}/", f"{out}/images"))]
    assert not [started for started in watch.started if "pipeline.worker" in started]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before


def test_one_new_image_is_one_commit_record_and_one_master_read(made, watch):
    archive, out = made / "archive", made / "out"
    before = commits(out)
    (archive / "new.png").write_bytes(png(small("coffee", 16, 16)))
    watch.opened, watch.started, watch.on = [], [], True
    try:
        summary = run("convert", archive, out, code=ExitCode.OK).summary
    finally:
        watch.on = False
    assert summary["planned"] == summary["restored"] == RECORDS + 1
    assert before.items() <= commits(out).items()
    assert len(commits(out)) == len(before) + 1
    masters = {path for path in watch.opened if path.startswith(f"{archive}/")}
    assert masters == {str(archive / "new.png")}
    assert len([path for path in watch.opened if "/.tmp/" in path]) < 12, "and few files written"
