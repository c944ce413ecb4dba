"""Delete what is not to stay in an output: another job's results, files that nobody knows of."""

import posixpath
import re

from pipeline import packages
from pipeline.ledger import LEDGER, Ledger
from pipeline.options import Job
from pipeline.packages import bag
from pipeline.results import RESULTS
from transforms import storage
from transforms.write import FIELDS, FOLDERS, SHARED


def clear(job: Job) -> None:
    """Delete what another job has written, wherever in the output it is."""
    before = bag.results_in(job.packaging.root) or job.output
    # First what says that the others are there: if this is interrupted, they are done again.
    storage.delete_folder(storage.join(before, LEDGER, "batches"))
    for folder in FOLDERS:
        storage.delete_folder(storage.join(before, folder))
    for name in RESULTS:
        storage.delete(storage.join(before, name))
    if before != job.output:
        for folder in (*packages.FOLDERS, LEDGER):  # by which it is known, last
            storage.delete_folder(storage.join(before, folder))


def drop_strays(ledger: Ledger, job: Job) -> None:
    """Delete files of several images that no commit record knows: batches may be cut anew.

    Only those that are named as batches are: others are somebody's.
    """
    committed = {posixpath.basename(path).partition(".")[0] for path in ledger.committed()}
    for folder in SHARED if job.container else (FIELDS,):
        for file in storage.list_if_there(storage.join(job.output, folder)):
            batch = posixpath.basename(file.path).partition(".")[0]
            if _BATCH.fullmatch(batch) and batch not in committed:
                storage.delete(file.path)


_BATCH = re.compile("[0-9a-f]{16}")  # what batches are called
