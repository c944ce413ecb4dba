"""Slice an archive's images into batch specs."""

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.archive import find_sources
from transforms import codec, storage
from transforms.record import Batch, BatchSpec, Source, id_in_cell
from transforms.shards import FORMATS, LIST, USUAL_COLUMNS, Columns

log = logging.getLogger("heliograph")

# Where a file does not state its size: about what a JPEG of good quality holds.
_PIXELS_PER_BYTE = 4
_PROBED = 128  # files whose headers a thread reads at a time


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one batch may hold; a single larger image is a batch of its own.

    Attributes:
        count: images.
        size: bytes of their files, and of what comes with them.
        pixels: pixels, as their headers state them.
    """

    count: int = 32
    size: int = 128 << 20
    pixels: int = 32_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job will do.

    Attributes:
        specs: the batches, ordered so that dealing them out in turn shares the work evenly.
        left_out: files that are no images by their extension, counted by it.
    """

    specs: tuple[BatchSpec, ...]
    left_out: dict[str, int]

    @property
    def records(self) -> int:
        """How many images are planned."""
        return sum(len(spec.sources) for spec in self.specs)

    @property
    def batches(self) -> int:
        """How many batches they are."""
        return sum(len(spec.cuts) + 1 for spec in self.specs)


def make_plan(
    archives: Sequence[str],
    budget: Budget,
    workers: int = 1,
    kind: str | None = None,
    columns: Columns = USUAL_COLUMNS,
    *,
    sharded: bool = False,
) -> Plan:
    """Plan a job. The same files give the same plan.

    Args:
        archives: folders (searched recursively), globs, and outputs of earlier jobs.
        budget: of one batch.
        workers: processes to share the work between.
        kind: take all files for shards of this kind, a key of `shards.FORMATS`; None to go by
            their names.
        columns: of shards that hold images and names.
        sharded: whether each batch will be a shard of the output. Then the budget alone cuts them:
            the same job is to write the same shards on any number of workers.

    Raises:
        ArchiveError: an archive is missing, none holds an image, or a shard is something else.
        StorageError: a folder cannot be listed.
    """
    sources, left_out = find_sources(archives, kind, columns)
    return Plan(slice_sources(sources, budget, workers, sharded=sharded), left_out)


def slice_sources(
    sources: Sequence[Source],
    budget: Budget,
    workers: int = 1,
    *,
    sharded: bool = False,
    groups: Mapping[str, Collection[str]] | None = None,
) -> tuple[BatchSpec, ...]:
    """Slice images into batches, as `make_plan` does those of archives.

    Args:
        sources: the images.
        budget: of one batch.
        workers: processes to share the work between.
        sharded: whether each batch will be a shard of the output.
        groups: batches that are to be as they were, whatever the budget is: keys of their images.
    """
    apart = {key: batch for batch, keys in (groups or {}).items() for key in keys}
    of_groups: dict[str, list[Source]] = {}
    for source in sources:
        if (batch := apart.get(source.key)) is not None:
            of_groups.setdefault(batch, []).append(source)
    sources = [source for source in sources if source.key not in apart]
    pixels = _stated_pixels(sources)
    if not sharded:
        # At least eight batches for each worker, so that none waits long for the last one.
        count = max(1, min(budget.count, -(-len(sources) // (8 * workers))))
        budget = Budget(count, budget.size, budget.pixels)
    specs = [BatchSpec(tuple(some), sum(_stated_pixels(some))) for some in of_groups.values()]
    start = 0
    for _, run in itertools.groupby(sources, key=_part):
        taken = list(run)
        stop = start + len(taken)
        specs += _specs(taken, pixels[start:stop], budget)
        start = stop
    return tuple(_dealt(specs, workers))


def slice_in_cells(
    sources: Sequence[Source],
    cells: Callable[[Source], tuple[int, ...]],
    budget: Budget,
    workers: int = 1,
    *,
    sharded: bool = False,
    groups: Mapping[str, Collection[str]] | None = None,
) -> tuple[BatchSpec, ...]:
    """Slice images into batches of such as are to go through the same cells.

    Args:
        sources: the images.
        cells: gives the numbers of the cells of each.
        budget: of one batch.
        workers: processes to share the work between.
        sharded: whether each batch will be a shard of the output.
        groups: batches that are to be as they were, as of `slice_sources`.
    """
    parts: dict[tuple[int, ...], list[Source]] = {}
    for source in sources:
        parts.setdefault(cells(source), []).append(source)
    specs = [
        dataclasses.replace(spec, cells=through, pixels=spec.pixels * max(1, len(through)))
        for through, part in parts.items()
        for spec in slice_sources(part, budget, workers, sharded=sharded, groups=groups)
    ]
    return tuple(specs if len(parts) == 1 else _dealt(specs, workers))


def without(specs: Iterable[BatchSpec], done: Collection[str]) -> tuple[BatchSpec, ...]:
    """Leave out the batches of specs that are done, by their ids."""
    return tuple(left for spec in specs for left in _without(spec, done))


def _without(spec: BatchSpec, done: Collection[str]) -> Iterator[BatchSpec]:
    """Give what is left of a spec: a spec for all batches that are left in the same cells."""
    left: dict[tuple[int, ...], list[Batch]] = {}
    for batch in spec.batches():
        cells = tuple(cell for cell in batch.cells if id_in_cell(batch.id, cell) not in done)
        if cells if spec.cells else batch.id not in done:
            left.setdefault(cells, []).append(batch)
    for cells, batches in left.items():
        sources = tuple(record.source for batch in batches for record in batch.records)
        ends = tuple(itertools.accumulate(map(len, batches)))[:-1]
        share = len(sources) * max(1, len(cells))
        whole = len(spec.sources) * max(1, len(spec.cells))
        yield BatchSpec(sources, spec.pixels * share // whole, ends, cells)


def _part(source: Source) -> tuple:
    """Tell what to slice apart from what: image files, shards, parts of shards."""
    member = source.member
    if member is None or member.shard == LIST:
        return ()
    part = FORMATS[member.shard].part
    return (source.path, part(member.place) if part and member.place else None)


def _specs(sources: Sequence[Source], pixels: Sequence[int], budget: Budget) -> list[BatchSpec]:
    """Slice image files, or the images of a shard or of a part of it."""
    specs = _slice(sources, pixels, budget)
    member = sources[0].member
    if member is None or member.shard == LIST:
        return specs
    if not (member.compression or FORMATS[member.shard].part):
        return specs
    if member.compression:
        log.info("%s is compressed: one worker reads it from its beginning", sources[0].path)
    *ends, _ = itertools.accumulate(len(spec.sources) for spec in specs)
    return [BatchSpec(tuple(sources), sum(pixels), tuple(ends))]


def _stated_pixels(sources: Sequence[Source]) -> list[int]:
    files = [source for source in sources if source.member is None]
    some = [files[start : start + _PROBED] for start in range(0, len(files), _PROBED)]
    with ThreadPoolExecutor(8) as pool:
        probed = itertools.chain.from_iterable(
            pool.map(lambda sources: list(map(_probe, sources)), some)
        )
        # What planning does not know of a shard's image is not worth another reading of the shard.
        return [
            next(probed)
            if source.member is None
            else source.member.pixels or source.size * _PIXELS_PER_BYTE
            for source in sources
        ]


def _probe(source: Source) -> int:
    stated = None
    if storage.is_local(source.path):  # in a store, a million headers are a million requests
        # An error is for reading to say, as this record's failure.
        with contextlib.suppress(OSError), storage.opened(source.path) as file:
            stated = codec.probe(file)
    return stated.width * stated.height + stated.more if stated else source.size * _PIXELS_PER_BYTE


def _slice(sources: Sequence[Source], pixels: Sequence[int], budget: Budget) -> list[BatchSpec]:
    specs: list[BatchSpec] = []
    taken: list[Source] = []
    size = area = 0
    for source, count in zip(sources, pixels, strict=True):
        full = (
            len(taken) == budget.count
            or size + source.held > budget.size
            or area + count > budget.pixels
        )
        if taken and full and not _together(taken[-1], source):
            specs.append(BatchSpec(tuple(taken), area))
            taken, size, area = [], 0, 0
        taken.append(source)
        size, area = size + source.held, area + count
    specs.append(BatchSpec(tuple(taken), area))
    return specs


def _together(one: Source, other: Source) -> bool:
    """Tell whether two images are of one sample, which is not to be parted."""
    if one.member is None or other.member is None or one.member.shard == LIST:
        return False
    sample = FORMATS[one.member.shard].sample
    return sample is not None and sample(one.member.name) == sample(other.member.name)


def _dealt(specs: list[BatchSpec], workers: int) -> list[BatchSpec]:
    """Order specs so that every n-th weighs the same: heaviest first, every other round backwards.

    The FnApiRunner deals the elements out in turn, once, before any work is done.
    """
    ordered = sorted(specs, key=lambda spec: (-spec.pixels, spec.sources[0].key))
    rounds = [ordered[start : start + workers] for start in range(0, len(ordered), workers)]
    return [
        spec
        for number, one in enumerate(rounds)
        for spec in (one if number % 2 == 0 or len(one) < workers else reversed(one))
    ]
