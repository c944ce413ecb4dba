"""`heliograph repair` and the same command: whatever was done to an output, it is whole again.

`make torture` damages many outputs at random, `make test` a few.
"""

import json
import os
import random
import shlex
import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import repair as repairs
from pipeline.archive import find_sources
from pipeline.job import ExitCode
from pipeline.ledger import Ledger, LedgerError
from pipeline.lock import CLAIMS, SILENCE, Lock, LockedError
from pipeline.mending import ASIDE
from pipeline.repair import repair
from pipeline.verify import verify, verify_all
from tests import test_resume
from tests.jobs import run
from tests.photographs import small
from tests.shards import tar
from tests.test_resume import png
from tests.test_verify import flip
from transforms.read import read_record
from transforms.record import Record
from transforms.shards import USUAL_COLUMNS, OpenShard

ROUNDS = int(os.environ.get("HELIOGRAPH_REPAIRS", "4"))
# `make torture` draws one.
SEED = int(os.environ.get("HELIOGRAPH_SEED", "5"))

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
    a_box(archive / "box.tar")
    outputs = {"archive": archive}
    for container in ("folder", "tfrecord", "webdataset", "parquet"):
        outputs[container] = folder / container
        degrade(archive, outputs[container], container)
    return outputs


def a_box(path, other=None):
    """Write a tar of four images with captions, one of them another than usual."""
    members = {}
    for number in range(4):
        width = 20 + number + (number == other)
        members[f"{number}.png"] = png(small("chelsea", 24, width))
        members[f"{number}.txt"] = b"caption %d" % number
    tar(path, members)


def degrade(archive, out, container, *more):
    options = (*JOB, "--output_format", container, *more)
    return run("degrade", archive, out, *options, code=ExitCode.INCOMPLETE)


def files(out):
    """All that a job has made, but for what a repair has set aside."""
    return {
        name: data for name, data in test_resume.files(out).items() if not name.startswith(ASIDE)
    }


def below(out, *folders):
    """All files in some folders."""
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


def other_job(out):
    ledger = Ledger(str(out))
    job = ledger.job()
    ledger.write_job({**job, "digest": job["digest"][::-1]})


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
    "job.json of another job": other_job,
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


# To try each alone takes its time.
TOGETHER = (
    ("a derivative gone", "a mask flipped", "somebody's file", "an old lock"),
    ("a derivative cut", "a commit record gone", "half a table"),
    ("a derivative flipped", "a commit record of another name", "half a pace"),
    ("a mask gone", "a commit record cut", "job.json cut"),
    ("all derivatives gone", "no plan", "a note to stop"),
    ("a page's file gone", "a commit record flipped", "a temporary file", "job.json gone"),
    ("all commit records gone", "no results"),
    ("a commit record edited", "job.json edited", "half a plan"),
    ("job.json and summary gone", "a table flipped"),
    ("job.json of another job",),
)
assert {name for some in TOGETHER for name in some} == DAMAGES.keys()


@pytest.mark.parametrize("damages", zip(DAMAGES) if ROUNDS > 4 else TOGETHER, ids=", ".join)
def test_whatever_was_done_to_files_is_mended(made, tmp_path, damages):
    out = shutil.copytree(made["folder"], tmp_path / "out")
    for damage in damages:
        DAMAGES[damage](out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    dry = repair(str(out), dry=True)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert dry["sound"] == HARMLESS.issuperset(damages)
    mended(made["archive"], out, "folder")
    assert_whole(out, made["folder"])


@pytest.mark.parametrize("container", ["folder", "webdataset"])
def test_batches_are_cut_as_before_without_plan_and_commit_records(made, tmp_path, container):
    """Tables tell, and of what failed, of which nothing was written, the ids of batches."""
    out = shutil.copytree(made[container], tmp_path / "out")
    DAMAGES["no plan"](out)
    DAMAGES["all commit records gone"](out)
    mended(made["archive"], out, container)
    assert_whole(out, made[container])
    if container == "webdataset":  # of files, only those with a table are cut as they were
        assert [one.name for one in records(out)] == [one.name for one in records(made[container])]


def test_a_sound_output_is_not_touched(made, tmp_path):
    for container in ("folder", "parquet"):
        out = shutil.copytree(made[container], tmp_path / container)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        found = repair(str(out))
        assert found["sound"] and repairs.code(found, dry=False) == ExitCode.OK
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path != out} == before


# What may be done together, whatever else is: without commit records, a job.json that is sound and
# of another job is what the output is of.
RANDOM = sorted(
    DAMAGES.keys() - {"job.json and summary gone", "a page's file gone", "job.json of another job"}
)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_random_damage_is_mended(made, tmp_path, number):
    rng = random.Random(f"{SEED}/{number}")
    container = ("webdataset", "folder", "tfrecord", "parquet")[number % 4]
    out = shutil.copytree(made[container], tmp_path / "out")
    done = []
    for name in rng.sample(RANDOM, rng.choice((1, 2, 3))):
        try:
            DAMAGES[name](out)
            done.append(name)
        except (IndexError, FileNotFoundError, LedgerError):
            pass  # there is nothing left to damage that way
    for path in rng.sample(below(out, "images", "shards", "masks", "ledger/batches"), 2):
        rng.choice((Path.unlink, cut, lambda path: flip(path, rng.random())))(path)
        done.append(str(path.relative_to(out)))
    print(f"HELIOGRAPH_SEED={SEED}, number {number}, {container}: {', '.join(done)}")
    mended(made["archive"], out, container)
    assert_whole(out, made[container])


def test_what_is_taken_out_is_set_aside_and_named(made, tmp_path):
    out = shutil.copytree(made["folder"], tmp_path / "out")
    retouched = out / "images/coffee.png"
    retouched.write_bytes(b"by hand")
    (out / "images/album").mkdir()
    (out / "images/album/letter.txt").write_text("mine")
    (out / "notes.txt").write_text("beside the folders of jobs, nobody's business")
    broken = records(out)[0]
    held = broken.read_bytes()[:-40]
    broken.write_bytes(held)
    (first,) = repair(str(out), dry=True)["results"]
    (result,) = repair(str(out))["results"]
    told = {one["path"]: one for one in result["mended"]}
    assert {one["path"] for one in first["mended"]} == set(told) - {
        "metrics.parquet",
        "failures.jsonl",
        "summary.json",
    }
    assert (out / "aside/1/images/coffee.png").read_bytes() == b"by hand"
    assert (out / "aside/1/images/album/letter.txt").read_text() == "mine"
    assert told["images/album/letter.txt"]["done"] == "set aside as aside/1/images/album/letter.txt"
    assert told["images/album/letter.txt"]["reason"] == "no commit record knows it"
    assert (out / f"ledger/damaged/{broken.name}.1").read_bytes() == held
    assert "is no commit record" in told[f"ledger/batches/{broken.name}"]["reason"]
    assert (out / "notes.txt").exists()
    summary = json.loads((out / "summary.json").read_text())
    assert (
        result["left"]
        == summary["planned"]
        - summary["further_pages"]
        - pq.read_table(out / "metrics.parquet", filters=[("page", "=", 1)]).num_rows
    )
    # The next damage goes beside it.
    (out / "images/letter.txt").write_text("mine, too")
    repair(str(out))
    assert (out / "aside/2/images/letter.txt").read_text() == "mine, too"
    degrade(made["archive"], out, "folder")
    assert files(out).keys() == files(made["folder"]).keys() | {"notes.txt"}
    # Only who says so loses it.
    (out / "images/letter.txt").write_text("mine, too")
    (told,) = repair(str(out), delete=True)["results"][0]["mended"]
    assert told["done"] == "deleted" and not (out / "aside/3").exists()


def test_the_command_to_run_next_is_told(made, tmp_path, heliograph):
    """As it was said, but for what was said of one run alone."""
    out = tmp_path / "out put"
    command = ("degrade", made["archive"], out, "--recipe", "grayscale")
    run(*command, "--limit", 8, "--only=*", "--overwrite", "--retry", "failed")
    below(out, "images")[0].unlink()
    dry = repair(str(out), dry=True)
    assert repairs.code(dry, dry=True) == ExitCode.FIXITY
    done = heliograph("repair", out, "--json", tmp_path / "told.json", code=3)
    said = shlex.join(["heliograph", *map(str, command)])
    assert done.stdout == f"cd {Path.cwd()} && {said}\n"
    assert list(repairs.tell(dry, dry=True)) == [done.stdout.strip()]
    assert "1 images are left to do: run the same command again" in done.stderr
    (result,) = json.loads((tmp_path / "told.json").read_text())["results"]
    assert (result["left"], result["unmended"]) == (1, [])
    run(*command, code=ExitCode.INCOMPLETE)
    assert verify(str(out), deep=True)["sound"] and repair(str(out))["sound"]


def test_an_output_that_a_job_works_on_is_not_repaired(made, tmp_path):
    out = shutil.copytree(made["folder"], tmp_path / "out")
    with Lock(str(out)), pytest.raises(LockedError):
        repair(str(out))
    with pytest.raises(LedgerError, match="no output of a job"):
        repair(str(tmp_path))


def test_what_nothing_is_known_of_is_left_alone(made, tmp_path):
    out = shutil.copytree(made["folder"], tmp_path / "out")
    for name in ("ledger/job.json", "summary.json"):
        (out / name).write_text("{}")
    for path in records(out):
        path.unlink()
    before = written(out)
    found = repair(str(out))
    (unmended,) = found["results"][0]["unmended"]
    assert unmended["path"] == "ledger/job.json"
    assert repairs.code(found, dry=False) == ExitCode.FIXITY
    assert written(out) == before


def test_what_cannot_be_made_again_is_not_taken_away(made, tmp_path):
    archive = shutil.copytree(made["archive"], tmp_path / "archive")
    out = tmp_path / "out"
    degrade(archive, out, "folder")
    (archive / "coffee.png").unlink()
    (out / "images/coffee.png").write_bytes(b"the only one there is")
    found = repair(str(out))
    (unmended,) = found["results"][0]["unmended"]
    assert unmended["path"] == "images/coffee.png" and unmended["keys"] == ["coffee.png"]
    assert "coffee.png cannot be made again: no longer in the archive" in unmended["reason"]
    assert repairs.code(found, dry=False) == ExitCode.FIXITY
    assert (out / "images/coffee.png").read_bytes() == b"the only one there is"
    assert "coffee.png" in {row["key"] for row in Ledger(str(out)).rows()}


def test_all_generations_are_repaired(made, tmp_path):
    out = shutil.copytree(made["folder"], tmp_path / "out")
    other = ("--recipe", "grayscale")
    beside = Path(run("degrade", made["archive"], out, *other, code=3).output)
    before = files(beside)
    below(beside, "images")[0].unlink()
    below(out, "masks")[0].unlink()
    old_lock(out)
    found = repair(str(out))
    assert [one["output"] for one in found["results"]] == [str(out), str(beside)]
    assert [one["left"] for one in found["results"]] == [1, 1]
    assert {one["path"] for one in found["results"][0]["mended"]} > {".lock/1234"}
    degrade(made["archive"], out, "folder")
    run("degrade", made["archive"], out, *other, code=3)
    assert files(beside) == before
    assert verify_all(str(out), deep=True)["sound"]


def test_a_bag_is_undeclared_until_it_is_whole_again(made, tmp_path):
    out = tmp_path / "out"
    packages = ("--package", "bagit,premis")
    degrade(made["archive"], out, "folder", *packages)
    assert repair(str(out))["sound"]
    for damage, left in (
        (lambda: below(out, "data/images")[0].unlink(), 1),
        (lambda: cut(out / "manifest-sha256.txt"), 0),
        (lambda: (out / "data/somebody's.txt").write_text("mine"), 0),
        (lambda: shutil.rmtree(out / "data/premis"), 0),
    ):
        damage()
        found = repair(str(out))
        assert found["results"][0]["left"] == left
        assert repairs.code(found, dry=False) == ExitCode.INCOMPLETE
        assert not (out / "bagit.txt").exists()
        degrade(made["archive"], out, "folder", *packages)
        assert (out / "bagit.txt").exists() and repair(str(out))["sound"]


# -- files of several images -----------------------------------------------------------------------


def fields_of(out):
    """What an output passes on as captions, by key."""
    found = {}
    with OpenShard(USUAL_COLUMNS) as shard:
        for source in find_sources([str(out)])[0]:
            fields = read_record(Record(source=source), shard).fields
            if "txt" in fields:
                found[source.key] = fields["txt"].as_py()
    return found


@pytest.mark.parametrize("container", ["folder", "webdataset", "tfrecord"])
def test_of_a_changed_master_no_copy_stays_in_a_shard(made, tmp_path, container):
    """Its batch is done again as a whole, and captions stay with their images."""
    archive = shutil.copytree(made["archive"], tmp_path / "archive")
    out = tmp_path / "out"
    degrade(archive, out, container)
    before = fields_of(out)
    assert len(before) == 4 and set(before.values()) == {b"caption %d" % n for n in range(4)}
    names = {path.name for path in records(out)}
    (archive / "chelsea.png").write_bytes(png(small("rocket", 31, 24)))
    a_box(archive / "box.tar", other=1)
    degrade(archive, out, container)
    assert fields_of(out) == before
    assert verify(str(out), deep=True)["sound"]
    if container != "folder":
        assert {path.name for path in records(out)} == names
    degrade(archive, tmp_path / "anew", container)
    left, right = files(out), files(tmp_path / "anew")
    if container == "folder":  # of whose batches some are now of fewer images
        left, right = ({n: d for n, d in f.items() if "fields" not in n} for f in (left, right))
    assert left == right


def test_copies_that_stay_in_a_shard_are_named_and_repaired(made, tmp_path):
    """Where not all of a shard was to be done again."""
    archive = shutil.copytree(made["archive"], tmp_path / "archive")
    out = tmp_path / "out"
    degrade(archive, out, "tfrecord")
    (archive / "chelsea.png").write_bytes(png(small("rocket", 31, 24)))
    degrade(archive, out, "tfrecord", "--only", "chelsea.png")
    findings = verify(str(out), deep=True)["findings"]
    assert {one["kind"] for one in findings} == {"stray"}
    assert {one["path"].partition("#")[2] for one in findings} == {
        "chelsea.png",
        "chelsea.png.png",  # its mask
    }
    mended(archive, out, "tfrecord")
    assert verify(str(out), deep=True)["sound"]
    keys = {row["key"] for row in Ledger(str(out)).rows()}
    assert keys == {row["key"] for row in Ledger(str(made["tfrecord"])).rows()}


def test_captions_stay_with_their_images_when_others_of_their_batch_are_done_again(made, tmp_path):
    archive = shutil.copytree(made["archive"], tmp_path / "archive")
    out = tmp_path / "out"
    degrade(archive, out, "folder")
    before = fields_of(out)
    below(out, "images/box.tar")[0].unlink()
    # One alone, so that the others keep their row in a table that tells of all.
    degrade(archive, out, "folder", "--only", "box.tar#0.png", "--retry", "damaged")
    assert fields_of(out) == before
