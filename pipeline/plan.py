"""Find an archive's images and slice them into batch specs."""

import os
import posixpath
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from transforms import codec, storage
from transforms.record import BatchSpec, Source
from transforms.write import IMAGES

LEDGER = "ledger"

# Where a file does not state its size: about what a JPEG of good quality holds.
_PIXELS_PER_BYTE = 4


class PlanError(ValueError):
    """An archive that cannot be planned, and what to do."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one batch may hold; a single larger image is a batch of its own.

    Attributes:
        count: images.
        size: bytes of their files.
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


def make_plan(archives: Sequence[str], budget: Budget, workers: int = 1) -> Plan:
    """Plan a job. The same files give the same plan.

    Args:
        archives: folders (searched recursively), globs, and outputs of earlier jobs.
        budget: of one batch.
        workers: processes to share the work between.

    Raises:
        PlanError: an archive is missing, or none holds an image.
        StorageError: a folder cannot be listed.
    """
    sources, left_out = find_sources(archives)
    pixels = _stated_pixels(sources)
    # At least eight batches for each worker, so that none waits long for the last one.
    count = max(1, min(budget.count, -(-len(sources) // (8 * workers))))
    specs = _slice(sources, pixels, Budget(count, budget.size, budget.pixels))
    return Plan(tuple(_dealt(specs, workers)), left_out)


def find_sources(archives: Sequence[str]) -> tuple[list[Source], dict[str, int]]:
    """List the images of archives in the order of their keys, and count what is left out.

    The key of an image is its path relative to the archive; with several archives, to the folder
    that holds them all.

    Raises:
        PlanError: an archive is missing, or none holds an image.
    """
    listed: dict[str, list[storage.File]] = {}
    for archive in archives:
        root, files = _list(archive)
        if not files:
            raise PlanError(f"nothing in the archive {archive}: no such folder, file or match")
        listed[root] = [*listed.get(root, []), *files]
    base = _common(list(listed))
    left_out: Counter[str] = Counter()
    found: dict[str, Source] = {}
    for files in listed.values():
        for file in files:
            key = _key(file.path, base)
            name = posixpath.basename(key)
            extension = posixpath.splitext(name)[1].lower()
            # ._photo.jpg is a Macintosh's note about photo.jpg, and no JPEG.
            if name.startswith(".") or extension not in codec.EXTENSIONS:
                left_out["hidden" if name.startswith(".") else extension or "no extension"] += 1
            else:
                found[key] = Source(key, file.path, file.size, file.modified)
    if not found:
        raise PlanError(
            f"no images in {', '.join(archives)}: none of its {sum(left_out.values())} files ends "
            f"in {', '.join(sorted(codec.EXTENSIONS))}"
        )
    return [found[key] for key in sorted(found)], dict(sorted(left_out.items()))


def archive_root(archive: str) -> str:
    """Give the folder that keys are relative to: of a glob, the part before its first wildcard."""
    if storage.is_local(archive):
        archive = os.path.abspath(archive)
    if _is_glob(archive):
        parts = archive.split("/")
        wild = next(index for index, part in enumerate(parts) if storage.has_meta(part))
        return "/".join(parts[:wild]) or "/"
    return archive.rstrip("/") or "/"


def _is_glob(archive: str) -> bool:
    """Tell a glob from a file or folder that has a glob's characters in its name."""
    return storage.has_meta(archive) and not storage.exists(archive)


def _list(archive: str) -> tuple[str, list[storage.File]]:
    root = archive_root(archive)
    if _is_glob(archive):
        pattern = os.path.abspath(archive) if storage.is_local(archive) else archive
        return root, list(storage.list_glob(pattern))
    if storage.is_local(root) and os.path.isfile(root):
        return posixpath.dirname(root), [storage.local_file(root)]
    if storage.is_local(root) and not os.path.exists(root):
        return root, []
    if storage.exists(storage.join(root, LEDGER, "job.json")):
        root = storage.join(root, IMAGES)  # an earlier job's output: its images, not its ledger
    return root, list(storage.list_folder(root))


def _common(roots: list[str]) -> str:
    shared = []
    for parts in zip(*(root.split("/") for root in roots), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


def _key(path: str, base: str) -> str:
    return path[len(base) :].lstrip("/").replace("://", "/")


def _stated_pixels(sources: Sequence[Source]) -> list[int]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(_probe, sources))


def _probe(source: Source) -> int:
    try:
        with storage.opened(source.path) as file:
            size = codec.probe(file)
    except OSError:
        size = None  # reading it will say why, as this record's failure
    return size[0] * size[1] if size else source.size * _PIXELS_PER_BYTE


def _slice(sources: Sequence[Source], pixels: Sequence[int], budget: Budget) -> list[BatchSpec]:
    specs: list[BatchSpec] = []
    taken: list[Source] = []
    size = area = 0
    for source, count in zip(sources, pixels, strict=True):
        full = (
            len(taken) == budget.count
            or size + source.size > budget.size
            or area + count > budget.pixels
        )
        if taken and full:
            specs.append(BatchSpec(tuple(taken), area))
            taken, size, area = [], 0, 0
        taken.append(source)
        size, area = size + source.size, area + count
    specs.append(BatchSpec(tuple(taken), area))
    return specs


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
