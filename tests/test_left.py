"""What is left of an archive is found without a look at each image that is done."""

import hashlib
import os
import random
from collections import Counter

import pytest

from pipeline import resume
from pipeline.archive import find_sources
from pipeline.ledger import Ledger
from pipeline.plan import Budget, slice_sources
from pipeline.resume import find_left
from tests.photographs import saved, small
from transforms.record import Derivative, SharedFile
from transforms.shards import USUAL_COLUMNS

FILES, OF_A_BATCH, OLD = 60, 7, 1_000_000_000


def encoded(number):
    return saved(small(height=8, width=8 + number), "PNG")


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(FILES):
        write(folder / f"{number:02}.png", number)
    return folder


def write(path, number, when=OLD):
    path.write_bytes(encoded(number))
    os.utime(path, (when, when))


def committed(archive, output, *, shared=False):
    """A ledger that has every image; each eleventh has failed."""
    ledger = Ledger(str(output))
    sources, _ = find_sources([str(archive)])
    specs = slice_sources(sources, Budget(OF_A_BATCH), 1)
    ledger.begin({"planned": len(sources)}, specs, anew=True)
    for spec in specs:
        for batch in spec.batches():
            records = []
            for record in batch.records:
                with open(record.source.path, "rb") as file:
                    record = record.replace(sha256=hashlib.sha256(file.read()).hexdigest())
                if int(record.key[:2]) % 11 == 10:
                    records.append(record.failed("read", ValueError("it is cut")))
                else:
                    shard = f"{batch.id}.tar" if shared else None
                    made = Derivative(record.key, 1, "0" * 64, 8, 8, "PNG", "deflate", shard)
                    records.append(record.replace(derivative=made))
            files = (SharedFile(f"shards/{batch.id}.tar", 1, "0" * 64),) if shared else ()
            ledger.commit(type(batch)(batch.id, tuple(records), files))
    return ledger


def left_of(ledger, archive, *retry):
    sources, _ = find_sources([str(archive)])
    return find_left(ledger, sources, retry=retry, columns=USUAL_COLUMNS)


def test_of_what_is_done_nothing_is_left_and_all_is_set_aside(archive, tmp_path):
    left = left_of(committed(archive, tmp_path / "out"), archive)
    assert (list(left.sources), left.kept, left.planned) == ([], FILES, FILES)
    assert not left.counts and not left.retired and not left.records and not left.gone


def test_only_what_has_changed_is_looked_at(archive, tmp_path, monkeypatch):
    ledger = committed(archive, tmp_path / "out")
    looked_at = []
    known = resume._Known
    monkeypatch.setattr(resume, "_Known", lambda *seen: looked_at.append(seen) or known(*seen))
    write(archive / "20.png", 30, when=OLD + 5)
    write(archive / "new.png", 31)
    left = left_of(ledger, archive)
    assert [source.key for source in left.sources] == ["20.png", "new.png"]
    assert left.counts == Counter(changed=1, new=1)
    assert left.retired == {("20.png", None)}
    assert (left.kept, left.planned) == (FILES - 1, FILES + 1)
    assert len(looked_at) <= OF_A_BATCH  # the rows of one commit record, and not all 60


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_same_as_if_every_image_were_looked_at(
    archive, tmp_path, monkeypatch, seed, shared
):
    ledger = committed(archive, tmp_path / "out", shared=shared)
    drawn = random.Random(seed)
    for path in drawn.sample(sorted(archive.iterdir()), 3 * (seed % 3) + 1):
        what = drawn.choice(["gone", "touched", "changed", "of the same time", "beside"])
        if what == "gone":
            path.unlink()
        elif what == "touched":
            os.utime(path, (OLD + 1, OLD + 1))
        elif what == "beside":
            write(path.with_name(f"{path.stem} verso.png"), drawn.randrange(99))
        else:
            number = int(path.stem) + 1 + drawn.randrange(FILES)
            write(path, number, when=OLD + (what == "changed"))
    for retry in ((), ("failed",)):
        left = left_of(ledger, archive, *retry)
        with monkeypatch.context() as patched:
            patched.setattr(resume._Aside, "takes", lambda self, rows: False)
            every = left_of(ledger, archive, *retry)
        assert (left.kept, list(left.gone)) == (every.kept, list(every.gone))
        assert (set(left.retired), set(left.records)) == (set(every.retired), set(every.records))
        assert (left.groups, left.touched) == (every.groups, every.touched)
        assert list(left.sources) == list(every.sources)
        assert +left.counts == +every.counts
        assert left.planned == every.planned
