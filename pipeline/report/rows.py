"""The rows of `metrics.parquet`, read a column at a time, and which of them are worth showing."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage

# Rows that are held as Python values at a time.
_CHUNK = 1 << 16
# What tells the rows of a job from each other.
_NAMES = ("key", "recipe", "model")


class Rows:
    """The table of a job. No more than one of its columns is ever in memory.

    Use it as a context: the file stays open.

    Args:
        path: of `metrics.parquet`.
    """

    def __init__(self, path: str) -> None:
        self._opening: AbstractContextManager[BinaryIO] = storage.opened(path)

    def __enter__(self) -> "Rows":
        self._file = pq.ParquetFile(self._opening.__enter__())
        self.names: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        self._count = self._file.metadata.num_rows
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._opening.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return self._count

    def numbers(self, name: str) -> np.ndarray:
        """Read a column of numbers: float64 [rows], NaN where it is empty, or if there is none."""
        result = np.full(len(self), np.nan)
        if name in self.names:
            start = 0
            for part in self._parts(name):
                values = part.cast(pa.float64()).to_numpy(zero_copy_only=False)
                result[start : start + len(part)] = values
                start += len(part)
        return result

    def equals(self, name: str, value: str) -> np.ndarray:
        """Tell where a column of text has a value: bool [rows]."""
        result = np.zeros(len(self), bool)
        start = 0
        for part in self._parts(name):
            encoded = part.dictionary_encode()
            known = encoded.dictionary.to_pylist()
            if value in known:
                codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
                result[start : start + len(part)] = codes == known.index(value)
            start += len(part)
        return result

    def values(self, name: str) -> Iterator[Any]:
        """Go through a column, in the order of the rows; nothing if there is none."""
        for part in self._parts(name):
            yield from part.to_pylist()

    def varies(self, name: str) -> bool:
        """Tell whether a column of text has several values."""
        found: set[str] = set()
        for part in self._parts(name):
            found.update(value for value in part.unique().to_pylist() if value is not None)
            if len(found) > 1:
                return True
        return False

    def take(self, indices: Sequence[int], names: Iterable[str] | None = None) -> list[dict]:
        """Read some rows whole.

        Args:
            indices: of the rows, in the order in which they are wanted.
            names: of their columns; None for all. What there is not is None.
        """
        wanted = tuple(self.names if names is None else names)
        rows: list[dict[str, Any]] = [dict.fromkeys(wanted) for _ in indices]
        order = np.argsort(np.asarray(indices, np.int64), kind="stable")
        ordered = np.asarray(indices, np.int64)[order]
        for name in wanted:
            start = 0
            for part in self._parts(name):
                first, last = np.searchsorted(ordered, (start, start + len(part)))
                if first < last:
                    inside = pa.array(ordered[first:last] - start)
                    held = part.take(inside).to_pylist()
                    for place, value in zip(order[first:last], held, strict=True):
                        rows[place][name] = value
                start += len(part)
        return rows

    def drawn(self, count: int, among: np.ndarray) -> list[int]:
        """Draw rows at random: those whose names have the smallest digests.

        They depend on what the rows are called alone, not on how many others there are, and so
        stay the same while an archive grows around them.

        Args:
            count: how many.
            among: bool [rows], which may be drawn.
        """
        columns = [self.values(name) for name in _NAMES if name in self.names]

        def digests() -> Iterator[tuple[bytes, int]]:
            for index, (allowed, *names) in enumerate(zip(among, *columns, strict=True)):
                if allowed:
                    text = "\0".join(name or "" for name in names)
                    yield hashlib.blake2b(text.encode(), digest_size=8).digest(), index

        return [index for _, index in heapq.nsmallest(count, digests())]

    def _parts(self, name: str) -> Iterator[pa.Array]:
        if name not in self.names:
            return
        for batch in self._file.iter_batches(_CHUNK, columns=[name]):
            yield batch.column(0)


def extremes(values: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """Find the smallest and the largest values.

    Args:
        values: float64 [N]; NaN is neither.
        count: how many of each.

    Returns:
        The indices of the smallest, the smallest first, and of the largest, the largest first. Of
        equal ones, those that come first.
    """
    return _smallest(values, count), _smallest(-values, count)


def _smallest(values: np.ndarray, count: int) -> list[int]:
    known = np.flatnonzero(~np.isnan(values))
    if len(known) > count:
        # Not `argpartition`, which takes one or another of equals.
        limit = np.partition(values[known], count - 1)[count - 1]
        below = known[values[known] < limit]
        known = np.concatenate([below, known[values[known] == limit][: count - len(below)]])
    return [int(index) for index in known[np.lexsort((known, values[known]))]]
