"""`heliograph repair` and the same command: whatever was done to an output, it is whole again.

`make torture` damages many outputs at random, `make test` a few.
"""

import os
import shutil
import time

import pytest
from PIL import Image

from pipeline import repair as repairs
from pipeline.job import ExitCode
from pipeline.lock import CLAIMS, SILENCE
from pipeline.repair import repair
from pipeline.verify import verify
from tests import test_resume
from tests.jobs import run
from tests.photographs import small
from tests.shards import tar
from tests.test_resume import png
from tests.test_verify import flip

ROUNDS = int(os.environ.get("HELIOGRAPH_REPAIRS", "4"))
SEED = int(os.environ.get("HELIOGRAPH_SEED", time.time_ns() % 10**6))

# With masks, pages, captions, and shards of three images.
JOB = ("--recipe", "mask:3", "--image_format", "png", "--batch_size", 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An archive, and what a job makes of it in each container; nobody writes to these."""
    folder = tmp_path_factory.mktemp("made")
    archive = folder / "archive"
    archive.mkdir()
    for number, name in enumerate(("astronaut", "chelsea", "coffee", "rocket")):
        (archive / f"{name}.png").write_bytes(png(small(name, 30 + number, 24)))
    pages = [Image.fromarray(small("coffee", 24, 30 + page)) for page in range(3)]
    pages[0].save(archive / "pages.tif", save_all=True, append_images=pages[1:])
    (archive / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n is all there is")
    members = {f"{n}.png": png(small("chelsea", 24, 20 + n)) for n in range(4)}
    tar(archive / "box.tar", {**members, **{f"{n}.txt": b"caption %d" % n for n in range(4)}})
    outputs = {"archive": archive}
    for container in ("folder", "tfrecord", "webdataset", "parquet"):
        outputs[container] = folder / container
        degrade(archive, outputs[container], container)
    return outputs


def degrade(archive, out, container, *more):
    options = (*JOB, "--output_format", container, *more)
    return run("degrade", archive, out, *options, code=ExitCode.INCOMPLETE)


def files(out):
    """All that a job has made, but for what a repair has set aside."""
    return {
        name: data
        for name, data in test_resume.files(out).items()
        if not name.startswith(repairs.ASIDE)
    }


def below(out, *folders):
    return sorted(p for folder in folders for p in (out / folder).rglob("*") if p.is_file())


def written(out):
    return below(out, "images", "shards", "masks", "fields")


def records(out):
    return sorted((out / "ledger/batches").iterdir())


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def old_lock(out):
    (out / CLAIMS).mkdir(exist_ok=True)
    for name, text in (
        ("1.claim.json", '{"user": "anna", "host": "elsewhere", "pid": 1, "born": "1"}'),
        ("1.alive", "{}"),
        ("2.alive", "{}"),
        ("1234", "half"),
    ):
        (out / CLAIMS / name).write_text(text)
        os.utime(out / CLAIMS / name, (time.time() - 2 * SILENCE,) * 2)


def temporary(out):
    (out / ".tmp").mkdir(exist_ok=True)
    (out / ".tmp" / "0123456789abcdef").write_bytes(b"half of an image")


def twin(out):
    one = records(out)[0]
    shutil.copy(one, one.with_name("0123456789abcdef.json"))


def stray(out):
    folder = next(name for name in ("images", "shards") if (out / name).exists())
    (out / folder / "letter.txt").write_text("mine")


def edited_row(out):
    """A record that somebody has edited, which is JSON still."""
    text = records(out)[0].read_text()
    records(out)[0].write_text(text.replace('"restored"', '"skipped" ', 1))


def edited_job(out):
    path = out / "ledger/job.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


DAMAGES = {
    "a derivative gone": lambda out: below(out, "images", "shards")[0].unlink(),
    "a derivative cut": lambda out: cut(below(out, "images", "shards")[-1]),
    "a derivative flipped": lambda out: flip(below(out, "images", "shards")[1]),
    "a mask gone": lambda out: below(out, "masks")[0].unlink(),
    "a mask flipped": lambda out: flip(below(out, "masks")[-1]),
    "all derivatives gone": lambda out: [path.unlink() for path in written(out)],
    "a page's file gone": lambda out: next(
        path for path in written(out) if "pages" in path.name or path.parent.name == "shards"
    ).unlink(),
    "somebody's file": stray,
    "a temporary file": temporary,
    "an old lock": old_lock,
    "a commit record gone": lambda out: records(out)[0].unlink(),
    "a commit record cut": lambda out: cut(records(out)[-1]),
    "a commit record flipped": lambda out: flip(records(out)[1]),
    "a commit record edited": edited_row,
    "a commit record of another name": twin,
    "all commit records gone": lambda out: [path.unlink() for path in records(out)],
    "job.json cut": lambda out: cut(out / "ledger/job.json"),
    "job.json edited": edited_job,
    "job.json gone": lambda out: (out / "ledger/job.json").unlink(),
    "job.json and summary gone": lambda out: [
        (out / name).unlink() for name in ("ledger/job.json", "summary.json")
    ],
    "no plan": lambda out: (out / "ledger/plan.jsonl").unlink(),
    "half a plan": lambda out: cut(out / "ledger/plan.jsonl"),
    "half a table": lambda out: cut(out / "metrics.parquet"),
    "a table flipped": lambda out: flip(out / "metrics.parquet"),
    "no results": lambda out: [
        (out / name).unlink() for name in ("metrics.parquet", "failures.jsonl", "summary.json")
    ],
    "half a pace": lambda out: cut(out / "ledger/pace.json"),
    "a note to stop": lambda out: (out / "ledger/stop").touch(),
}
# Which a run passes over anyway, and what is seen only by who takes the lock.
HARMLESS = {"no plan", "half a plan", "an old lock"}


def mended(archive, out, container):
    """Repair an output and run the same command; hold it to what an undisturbed job has made."""
    found = repair(str(out))
    assert not [one for result in found["results"] for one in result["unmended"]], found
    degrade(archive, out, container)
    return found


def assert_whole(out, whole):
    assert files(out) == files(whole)
    found = verify(str(out), deep=True)
    assert found["sound"], found
    assert repair(str(out), dry=True)["sound"]
    assert not (out / ".tmp").exists() and not (out / CLAIMS).exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_was_done_to_files_is_mended(made, tmp_path, damage):
    out = shutil.copytree(made["folder"], tmp_path / "out")
    DAMAGES[damage](out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    dry = repair(str(out), dry=True)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert dry["sound"] == (damage in HARMLESS)
    mended(made["archive"], out, "folder")
    assert_whole(out, made["folder"])
