"""Sequences of what there is one of for each image, packed until they are gone through.

A `Source` of an image in a shard is 700 bytes of Python objects, and some 20 packed: keys and paths
that follow each other are mostly alike. Going through takes 3 µs for each.
"""

import heapq
import itertools
import marshal
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar, overload

import pyarrow as pa

from transforms.record import BatchSpec, Member, Source
from transforms.stores import File

T = TypeVar("T")

_BLOCK = 1 << 10  # what is packed together
_RUN = 1 << 16  # what is sorted at a time
_CODEC = pa.Codec("zstd", compression_level=1)


def _pack(values: Any) -> tuple[int, bytes]:
    # marshal holds nothing but what Python has literals for, and no other process reads this.
    data = marshal.dumps(values)
    return len(data), _CODEC.compress(data, asbytes=True)


def _unpack(size: int, data: bytes) -> Any:
    return marshal.loads(_CODEC.decompress(data, size, asbytes=True))  # noqa: S302  our own


class Packed(Sequence[T], Generic[T]):
    """A sequence that can be added to, and takes a few bytes for each of what it holds.

    Args:
        values: gives what one is made of: numbers, text, None, and tuples of these.
        made_of: makes one of that again.
        held: what it begins with.
    """

    def __init__(
        self, values: Callable[[T], Any], made_of: Callable[[Any], T], held: Iterable[T] = ()
    ) -> None:
        self._values = values
        self._made_of = made_of
        self._blocks: list[tuple[int, bytes]] = []
        self._starts = [0]  # of the blocks, and of what is not packed yet
        self._rest: list[T] = []
        self._last: tuple[int, list[T]] = (-1, [])  # a block that was unpacked for `[]`
        self.extend(held)

    def append(self, one: T) -> None:
        """Add one at the end."""
        self._rest.append(one)
        if len(self._rest) == _BLOCK:
            self._close()

    def extend(self, others: Iterable[T]) -> None:
        """Add others at the end."""
        if isinstance(others, Packed) and len(others) >= _BLOCK:
            self._close()
            for block, (start, stop) in zip(
                others._blocks, itertools.pairwise(others._starts), strict=True
            ):
                self._add(block, stop - start)
            others = others._rest
        for one in others:
            self.append(one)

    def _close(self) -> None:
        if self._rest:
            self._add(_pack(list(map(self._values, self._rest))), len(self._rest))
            self._rest = []

    def _add(self, block: tuple[int, bytes], count: int) -> None:
        self._blocks.append(block)
        self._starts.append(self._starts[-1] + count)

    def __len__(self) -> int:
        return self._starts[-1] + len(self._rest)

    def __iter__(self) -> Iterator[T]:
        for block in self._blocks:
            yield from map(self._made_of, _unpack(*block))
        yield from self._rest

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> "Packed[T]": ...
    def __getitem__(self, place: int | slice) -> "T | Packed[T]":
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step < 1:
                raise ValueError("a packed sequence is not gone through backwards")
            return Packed(
                self._values, self._made_of, itertools.islice(self, start, max(start, stop), step)
            )
        at = place + len(self) if place < 0 else place
        if not 0 <= at < len(self):
            raise IndexError(place)
        if at >= self._starts[-1]:
            return self._rest[at - self._starts[-1]]
        number = bisect_right(self._starts, at) - 1
        if self._last[0] != number:
            self._last = (number, list(map(self._made_of, _unpack(*self._blocks[number]))))
        return self._last[1][at - self._starts[number]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(lambda a, b: a == b, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self):,} packed>"


_SOURCE, _MEMBER = attrgetter(*Source.__slots__), attrgetter(*Member.__slots__)
_OF_MEMBER = Source.__slots__.index("member")


def _of_source(source: Source) -> tuple[Any, ...]:
    values = _SOURCE(source)
    if source.member is None:
        return values
    return (*values[:_OF_MEMBER], _MEMBER(source.member), *values[_OF_MEMBER + 1 :])


def _source_of(values: tuple[Any, ...]) -> Source:
    key, path, size, modified, member, fields, mirrored, table = values
    return Source(key, path, size, modified, member and Member(*member), fields, mirrored, table)


def packed_sources(sources: Iterable[Source] = ()) -> Packed[Source]:
    """Pack images."""
    return Packed(_of_source, _source_of, sources)


def packed_files(files: Iterable[File] = ()) -> Packed[File]:
    """Pack files."""
    return Packed(attrgetter(*File.__slots__), lambda values: File(*values), files)


def _same(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return values


class Ordered:
    """Files in the order of their keys; of two of one key, the one that was added later."""

    def __init__(self) -> None:
        self._runs: list[Packed[tuple[Any, ...]]] = []
        self._run: list[tuple[Any, ...]] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, key: str, file: File, kind: str | None) -> None:
        """Add a file, and which kind of shard it is, if it is one."""
        self._count += 1
        self._run.append((key, self._count, (file.path, file.size, file.modified), kind))
        if len(self._run) == _RUN:
            self._close()

    def _close(self) -> None:
        self._run.sort()
        self._runs.append(Packed(_same, _same, self._run))
        self._run = []

    def __iter__(self) -> Iterator[tuple[str, File, str | None]]:
        if self._run:
            self._close()
        ordered = heapq.merge(*self._runs)
        for key, ones in itertools.groupby(ordered, key=itemgetter(0)):
            *_, (_, _, file, kind) = ones
            yield key, File(*file), kind


class Specs(Sequence[BatchSpec]):
    """Batch specs, each held as its line of the plan, packed.

    Attributes:
        records: images of all of them.
        batches: that they are cut into.
        pixels: an estimate of those of all of them.
    """

    def __init__(self, specs: Iterable[BatchSpec] = ()) -> None:
        self._lines: list[tuple[int, bytes]] = []
        self._orders: list[tuple[int, str]] = []
        self.records = self.batches = self.pixels = 0
        for spec in specs:
            self.append(spec)

    def append(self, spec: BatchSpec) -> None:
        """Add one at the end."""
        line = spec.to_json().encode()
        self._lines.append((len(line), _CODEC.compress(line, asbytes=True)))
        self._orders.append((-spec.pixels, spec.sources[0].key))
        self.records += len(spec.sources)
        self.batches += len(spec.cuts) + 1
        self.pixels += spec.pixels

    def dealt(self, workers: int) -> "Specs":
        """Order them so that every n-th weighs the same: heaviest first, every other round
        backwards.

        The FnApiRunner deals the elements out in turn, once, before any work is done.
        """
        ordered = sorted(range(len(self)), key=self._orders.__getitem__)
        rounds = [ordered[start : start + workers] for start in range(0, len(self), workers)]
        places = [
            place
            for number, one in enumerate(rounds)
            for place in (one if number % 2 == 0 or len(one) < workers else reversed(one))
        ]
        other = Specs()
        other._lines = [self._lines[place] for place in places]
        other._orders = [self._orders[place] for place in places]
        other.records, other.batches, other.pixels = self.records, self.batches, self.pixels
        return other

    def lines(self) -> Iterator[str]:
        """Give them as lines of JSON."""
        return (self._line(place) for place in range(len(self)))

    def _line(self, place: int) -> str:
        size, data = self._lines[place]
        return _CODEC.decompress(data, size, asbytes=True).decode()

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[BatchSpec]:
        return map(BatchSpec.from_json, self.lines())

    @overload
    def __getitem__(self, place: int) -> BatchSpec: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[BatchSpec]: ...
    def __getitem__(self, place: int | slice) -> BatchSpec | Sequence[BatchSpec]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        return BatchSpec.from_json(self._line(range(len(self))[place]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Specs):
            return NotImplemented
        return len(self) == len(other) and all(
            map(lambda a, b: a == b, self.lines(), other.lines())
        )

    __hash__ = None  # type: ignore[assignment]
