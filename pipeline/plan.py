"""Slice an archive's images into batch specs."""

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.archive import find_sources
from pipeline.packed import Specs, packed_sources
from transforms import codec, storage
from transforms.record import Batch, BatchSpec, Source, commits_of, id_in_cell
from transforms.shards import FORMATS, LIST, USUAL_COLUMNS, Columns

log = logging.getLogger("heliograph")

# Where a file does not state its size: about what a JPEG of good quality holds.
_PIXELS_PER_BYTE = 4
_PROBED = 128  # files whose headers a thread reads at a time
_PROBERS = 8


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

    specs: Specs
    left_out: dict[str, int]

    @property
    def records(self) -> int:
        """How many images are planned."""
        return self.specs.records

    @property
    def batches(self) -> int:
        """How many batches they are."""
        return self.specs.batches


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
) -> Specs:
    """Slice images into batches, as `make_plan` does those of archives.

    Args:
        sources: the images.
        budget: of one batch.
        workers: processes to share the work between.
        sharded: whether each batch will be a shard of the output.
        groups: batches that are to be as they were, whatever the budget is: keys of their images.
    """
    specs = Specs()
    if groups:
        of_groups, sources = _grouped(sources, groups)
        for some in of_groups:
            specs.append(BatchSpec(tuple(some), sum(pixels for _, pixels in _weighed(some))))
    if not sharded:
        # At least eight batches for each worker, so that none waits long for the last one.
        count = max(1, min(budget.count, -(-len(sources) // (8 * workers))))
        budget = Budget(count, budget.size, budget.pixels)
    for _, run in itertools.groupby(_weighed(sources), key=lambda one: _part(one[0])):
        for spec in _specs(run, budget):
            specs.append(spec)
    return specs.dealt(workers)


def _grouped(
    sources: Sequence[Source], groups: Mapping[str, Collection[str]]
) -> tuple[list[list[Source]], Sequence[Source]]:
    """Part the images that are in a group, by groups, from the others."""
    apart = {key: batch for batch, keys in groups.items() for key in keys}
    of_groups: dict[str, list[Source]] = {}
    for source in sources:
        if (batch := apart.get(source.key)) is not None:
            of_groups.setdefault(batch, []).append(source)
    others = packed_sources(source for source in sources if source.key not in apart)
    return list(of_groups.values()), others


def slice_in_cells(
    sources: Sequence[Source],
    cells: Mapping[str, tuple[int, ...]],
    usual: tuple[int, ...],
    budget: Budget,
    workers: int = 1,
    *,
    sharded: bool = False,
    groups: Mapping[str, Collection[str]] | None = None,
) -> Specs:
    """Slice images into batches of such as are to go through the same cells.

    Args:
        sources: the images.
        cells: the numbers of the cells of each, by key, where they are not the usual ones.
        usual: those of all others.
        budget: of one batch.
        workers: processes to share the work between.
        sharded: whether each batch will be a shard of the output.
        groups: batches that are to be as they were, as of `slice_sources`.
    """
    parts: dict[tuple[int, ...], Sequence[Source]] = {usual: sources}
    if cells:
        of_parts: dict[tuple[int, ...], list[Source]] = {}
        for source in sources:
            of_parts.setdefault(cells.get(source.key, usual), []).append(source)
        parts = dict(of_parts)
    sliced = {
        through: slice_sources(part, budget, workers, sharded=sharded, groups=groups)
        for through, part in parts.items()
    }
    if sliced.keys() == {()}:
        return sliced[()]
    specs = Specs(
        dataclasses.replace(spec, cells=through, pixels=spec.pixels * max(1, len(through)))
        for through, of_part in sliced.items()
        for spec in of_part
    )
    return specs if len(parts) == 1 else specs.dealt(workers)


def without(lines: Iterable[str], done: Collection[str]) -> Specs:
    """Leave out the batches of a plan's specs, given as lines, that are done, by their ids."""
    left = Specs()
    for line in lines:
        if any(identity not in done for identity in commits_of(line)):
            for spec in _without(BatchSpec.from_json(line), done):
                left.append(spec)
    return left


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


_Weighed = tuple[Source, int]  # an image and its pixels, as planning knows them


def _specs(run: Iterator[_Weighed], budget: Budget) -> Iterator[BatchSpec]:
    """Slice image files, or the images of a shard or of a part of it."""
    first = next(run)
    run = itertools.chain([first], run)
    member = first[0].member
    if member is None or member.shard == LIST:
        yield from _slice(run, budget)
        return
    if not (member.compression or FORMATS[member.shard].part):
        yield from _slice(run, budget)
        return
    if member.compression:
        log.info("%s is compressed: one worker reads it from its beginning", first[0].path)
    specs = list(_slice(run, budget))
    *ends, _ = itertools.accumulate(len(spec.sources) for spec in specs)
    sources = itertools.chain.from_iterable(spec.sources for spec in specs)
    yield BatchSpec(tuple(sources), sum(spec.pixels for spec in specs), tuple(ends))


def _weighed(sources: Iterable[Source]) -> Iterator[_Weighed]:
    """Tell how many pixels each image has, roughly."""
    with ThreadPoolExecutor(_PROBERS) as pool:
        for some in _blocks(sources, 4 * _PROBERS * _PROBED):
            files = [source for source in some if source.member is None]
            parts = [files[start : start + _PROBED] for start in range(0, len(files), _PROBED)]
            probed = itertools.chain.from_iterable(pool.map(_probe_all, parts))
            for source in some:
                if source.member is None:
                    yield source, next(probed)
                else:
                    # What planning does not know of a shard's image is not worth another reading
                    # of the shard.
                    yield source, source.member.pixels or source.size * _PIXELS_PER_BYTE


def _blocks(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
    rest = iter(sources)
    return iter(lambda: list(itertools.islice(rest, size)), [])


def _probe_all(sources: Sequence[Source]) -> list[int]:
    return list(map(_probe, sources))


def _probe(source: Source) -> int:
    stated = None
    if storage.is_local(source.path):  # in a store, a million headers are a million requests
        # An error is for reading to say, as this record's failure.
        with contextlib.suppress(OSError), storage.opened(source.path) as file:
            stated = codec.probe(file)
    return stated.width * stated.height + stated.more if stated else source.size * _PIXELS_PER_BYTE


def _slice(run: Iterable[_Weighed], budget: Budget) -> Iterator[BatchSpec]:
    taken: list[Source] = []
    size = area = 0
    for source, pixels in run:
        full = (
            len(taken) == budget.count
            or size + source.held > budget.size
            or area + pixels > budget.pixels
        )
        if taken and full and not _together(taken[-1], source):
            yield BatchSpec(tuple(taken), area)
            taken, size, area = [], 0, 0
        taken.append(source)
        size, area = size + source.held, area + pixels
    yield BatchSpec(tuple(taken), area)


def _together(one: Source, other: Source) -> bool:
    """Tell whether two images are of one sample, which is not to be parted."""
    if one.member is None or other.member is None or one.member.shard == LIST:
        return False
    sample = FORMATS[one.member.shard].sample
    return sample is not None and sample(one.member.name) == sample(other.member.name)
