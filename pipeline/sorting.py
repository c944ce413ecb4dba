"""An external merge sort of tables: sorted runs in files, merged a slice at a time.

What is in memory is a slice of some ten thousand rows, and of each run a batch of a thousand,
however many rows there are.
"""

import bisect
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from transforms import storage

# The column of bytes that tables are sorted by.
ORDER = "_order"

BATCH = 1 << 10  # rows of a run that are read together
SLICE = 32  # batches that are merged together

_ENDS = b"ends"  # of the batches of a run: the last `ORDER` of each, in hexadecimal


def write_run(table: pa.Table, path: str, scratch: str) -> None:
    """Sort a table and write it to a file, whole or not there.

    Args:
        table: with a column `ORDER`.
        path: of the file, in any storage.
        scratch: a folder on the same storage.

    Raises:
        StorageError: it cannot be written.
    """
    table = _sorted(table)
    last = [*range(BATCH - 1, len(table) - 1, BATCH), len(table) - 1]
    ends = json.dumps([table[ORDER][place].as_py().hex() for place in last])
    table = table.replace_schema_metadata({_ENDS: ends})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=BATCH)
    storage.write(path, memoryview(sink.getvalue()).cast("B"), scratch)


@contextmanager
def merged(paths: Sequence[str]) -> Iterator[Iterator[pa.Table]]:
    """Merge runs: give tables that continue each other, with the columns that any of them has.

    Raises:
        StorageError: a run cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="heliograph-") as folder:
        yield _merged([_Run(_here(path, folder)) for path in paths])


def regrouped(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Cut tables that continue each other, and have the same columns, into tables of `size` rows
    but for the last; each of one piece, so that nothing tells how they were cut before.
    """
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += len(table)
        while count >= size:
            whole = pa.concat_tables(held)
            yield whole.slice(0, size).combine_chunks()
            held, count = [whole.slice(size)], count - size
    if count:
        yield pa.concat_tables(held).combine_chunks()


def _merged(runs: list["_Run"]) -> Iterator[pa.Table]:
    ends = sorted(itertools.chain.from_iterable(run.ends for run in runs))
    for end in [*ends[SLICE - 1 : -1 : SLICE], *ends[-1:]]:
        parts = [part for run in runs for part in run.until(end) if len(part)]
        if parts:
            yield _sorted(pa.concat_tables(parts, promote_options="default"))


def _sorted(table: pa.Table) -> pa.Table:
    table = table.combine_chunks()  # of which rows are taken faster
    return table.take(pc.sort_indices(table, [(ORDER, "ascending")])).combine_chunks()


def _here(path: str, folder: str) -> str:
    """Give a run as a file of this machine."""
    if storage.is_local(path):
        return path
    copy = Path(folder, path.rpartition("/")[2])
    with copy.open("wb") as file:
        file.writelines(storage.chunks(path))
    return str(copy)


class _Run:
    """A run that is read from its beginning to its end.

    The file is opened anew for every slice: there may be more runs than files that may be open.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        with pa.OSFile(path) as file, pa.ipc.open_file(file) as reader:
            metadata = reader.schema.metadata
        self.ends = [bytes.fromhex(end) for end in json.loads(metadata[_ENDS])]
        self._next = 0  # batch to read
        self._rest: pa.Table | None = None  # of the one before it

    def until(self, end: bytes) -> Iterator[pa.Table]:
        """Give the rows up to `end`, and that included, after those that were given before."""
        if self._rest is not None:
            yield self._cut(self._rest, end)
        if self._rest is not None or self._next == len(self.ends):
            return
        with pa.OSFile(self._path) as file, pa.ipc.open_file(file) as reader:
            while self._rest is None and self._next < len(self.ends):
                table = pa.Table.from_batches([reader.get_batch(self._next)])
                self._next += 1
                yield self._cut(table, end)

    def _cut(self, table: pa.Table, end: bytes) -> pa.Table:
        keys = table[ORDER]
        place = bisect.bisect_right(range(len(table)), end, key=lambda at: keys[at].as_py())
        self._rest = table.slice(place) if place < len(table) else None
        return table.slice(0, place)
