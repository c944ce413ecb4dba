"""How far a job is, as it is told while it runs."""

import time

import pytest

from pipeline import progress
from pipeline.ledger import Ledger
from transforms.record import Batch, Record, Source


class Slow(Ledger):
    """A ledger whose commit records take long to list, as millions do."""

    seconds = 0.0
    looked = 0

    def committed(self):
        self.looked += 1
        time.sleep(self.seconds)
        return super().committed()


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_LOOK_EVERY", 0.001)
    monkeypatch.setattr(progress, "_SAY_EVERY", 0.01)
    ledger = Slow(str(tmp_path))
    record = Record(source=Source("a.png", "/a.png", 1, 1.0))
    sound = Batch("0" * 16, (record, record.failed("read", ValueError("it is cut"))))
    ledger.commit(sound)
    return ledger


def test_what_is_committed_is_told_while_the_job_runs(ledger, caplog):
    caplog.set_level("INFO", "heliograph")
    with progress.Progress(ledger, 5):
        ledger.commit(Batch("1" * 16, (Record(source=Source("b.png", "/b.png", 1, 1.0)),)))
        time.sleep(0.5)
    assert ledger.looked > 4
    assert caplog.messages[-1].startswith("3 of 5 images, 1 failed, ")


def test_a_ledger_that_takes_long_to_list_is_listed_a_twentieth_of_the_time(ledger):
    ledger.seconds = 0.02
    with progress.Progress(ledger, 5):
        time.sleep(1.0)
    assert 2 <= ledger.looked <= 1 + 1.0 / (0.02 / progress._SHARE)
