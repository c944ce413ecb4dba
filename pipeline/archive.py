"""What archives hold: image files, the images of shards, and what lists name."""

import logging
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline import generations
from pipeline.earlier import UNKNOWN, find_derivatives
from pipeline.links import Walk
from pipeline.packages.bag import results_in
from pipeline.packed import Ordered, Packed, packed_files, packed_sources
from transforms import codec, storage
from transforms.bounds import USUAL_BOUNDS, Bounds
from transforms.record import Member, Source
from transforms.shards import (
    LIST,
    USUAL_COLUMNS,
    Columns,
    Target,
    formats,
    is_list,
    members,
    shard_extensions,
    shard_kind,
    targets,
)
from transforms.shards.shard import ShardError, ShardFormat

log = logging.getLogger("heliograph")

# What is left out beside files that are no images.
LINKS = "links that lead out of the archive, or to folders (see --follow_symlinks)"
CIRCLES = "links that lead in a circle"


class ArchiveError(ValueError):
    """An archive that cannot be planned, and what to do."""


Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """What an archive holds: files, and the folder that their keys are relative to.

    Attributes:
        root: the folder.
        files: of any kind.
        fields: what a list says beside the files it names, by their paths.
        troubles: lines of a list that name no file.
        results: where in it the results of an earlier job are, if it is the output of one.
        walk: which found the files, if they are local and no list names them.
    """

    root: str
    files: Sequence[storage.File] = ()
    fields: Mapping[str, Fields] = field(default_factory=dict)
    troubles: Sequence[Source] = ()
    results: str | None = None
    walk: Walk | None = None


def find_sources(
    archives: Sequence[str],
    kind: str | None = None,
    columns: Columns = USUAL_COLUMNS,
    bounds: Bounds = USUAL_BOUNDS,
) -> tuple[Packed[Source], dict[str, int]]:
    """List the images of archives, in the order of their keys and those of a shard in the order in
    which it is read, and count what is left out.

    The key of an image is its path relative to the archive; with several archives, to the folder
    that holds them all. That of an image in a shard is the shard's, then # and the image's name. An
    image in the output of an earlier job has the key that it had there.

    Raises:
        ArchiveError: an archive is missing, or none holds an image that could be read, be it that
            all shards are something else.
    """
    found_in = [_found_in(archive, kind, columns, bounds) for archive in archives]
    if kind == LIST:
        kind = None  # what lists name goes by its own name
    base = _common([folder.root for folder in found_in])
    fields = {path: said for folder in found_in for path, said in folder.fields.items()}
    left_out: Counter[str] = Counter()
    found = Ordered()
    for folder in found_in:
        for file in folder.files:
            key = _key(file.path, base)
            name = posixpath.basename(key)
            extension = posixpath.splitext(name)[1].lower()
            # ._photo.jpg is a Macintosh's note about photo.jpg, and no JPEG.
            if name.startswith("."):
                left_out["hidden"] += 1
            elif (shard := kind or shard_kind(name)) or extension in codec.EXTENSIONS:
                found.add(key, file, shard)
            else:
                left_out[extension or "no extension"] += 1
        if folder.walk is not None:
            left_out[LINKS] += folder.walk.left_out
            left_out[CIRCLES] += folder.walk.circles
    left_out = +left_out
    others = [source for folder in found_in for source in folder.troubles]
    for folder in found_in:
        if folder.results is not None:
            key = _key(folder.root, base)
            written, unknown = find_derivatives(
                folder.results,
                key and f"{key}/",
                lambda file, form: members(file.path, form, bounds),
            )
            others += written
            left_out += unknown
    if not found and not others and left_out[UNKNOWN]:
        raise ArchiveError(
            f"no images in {', '.join(archives)}: its ledger knows none of its "
            f"{left_out[UNKNOWN]} files; run the job that wrote it again"
        )
    if not found and not others:
        raise ArchiveError(
            f"no images in {', '.join(archives)}: none of its {sum(left_out.values())} files ends "
            f"in {', '.join(sorted([*codec.EXTENSIONS, *shard_extensions()]))}"
        )
    known = formats(columns)

    def images(key: str, file: storage.File, shard: str | None) -> Iterator[Source]:
        form = known[shard] if shard else None
        return _sources(key, file, form, fields.get(file.path, ()), bounds)

    def looked_into(shard: tuple[str, storage.File, str | None]) -> Packed[Source]:
        return packed_sources(images(*shard))

    sources = packed_sources()
    empty = 0
    # Looking into shards waits for storage; of other files there is nothing to wait for, and to
    # hand each of a million to a thread would take longer than all the rest.
    with ThreadPoolExecutor(8) as pool:
        of_shards = pool.map(looked_into, (one for one in found if one[2]))
        for key, file, shard in found:
            before = len(sources)
            sources.extend(next(of_shards) if shard else images(key, file, None))
            empty += len(sources) == before
    if empty:
        left_out["empty shards"] = empty
    sources.extend(others)
    if sources and all(source.member is not None and source.member.is_none for source in sources):
        one = sources[0]
        raise ArchiveError(f"{one.path}: {one.member.trouble if one.member else ''}")
    if not sources:
        raise ArchiveError(f"no images in {', '.join(archives)}: its shards are empty")
    return sources, dict(sorted(left_out.items()))


def _sources(
    key: str, file: storage.File, known: ShardFormat | None, fields: Fields, bounds: Bounds
) -> Iterator[Source]:
    """Give the images of a file: itself, or those of a shard."""
    if known is None:
        yield Source(key, file.path, file.size, file.modified, fields=fields)
        return
    for member, size in members(file.path, known, bounds):
        yield Source(f"{key}#{member.name}", file.path, size, file.modified, member, fields)


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


def _found_in(archive: str, kind: str | None, columns: Columns, bounds: Bounds) -> _Found:
    root = archive_root(archive)
    if not _is_glob(archive) and (results := results_in(root)) is not None:
        if others := generations.names(root) if storage.is_local(root) else ():
            log.warning(
                "%s holds results of several jobs: its own are read, and not its generations %s; "
                "name one as the archive to read it instead",
                root,
                ", ".join(storage.join(root, generations.GENERATIONS, name) for name in others),
            )
        return _Found(root, results=results)
    root, files, walk = _list(archive, bounds)
    if not files and walk is not None and walk.left_out:
        raise ArchiveError(
            f"nothing in the archive {archive} but {walk.left_out} links out of it, or to "
            "folders: say --follow_symlinks to follow them"
        )
    if not files:
        raise ArchiveError(f"nothing in the archive {archive}: no such folder, file or match")
    # In a folder, a text beside images is a text; named directly it is a list of images.
    named = len(files) == 1 and files[0].path == archive_root(archive)
    if kind == LIST or (kind is None and named and is_list(archive)):
        return _named_by(files, columns)
    return _Found(root, files, walk=walk)


def _named_by(lists: Sequence[storage.File], columns: Columns) -> _Found:
    """Find the files that lists name."""
    named: dict[str, Fields] = {}
    troubles = []
    for file in lists:
        try:
            for line in targets(file.path, columns):
                if line.trouble:
                    troubles.append(_unnamed(file, line))
                else:
                    named.setdefault(line.path, tuple(line.fields.items()))
        except ShardError as error:
            raise ArchiveError(f"{file.path}: {error}") from error
    if not named and not troubles:
        raise ArchiveError(f"{lists[0].path} names no image")
    files = packed_files(map(_file_at, named))
    return _Found(_common([posixpath.dirname(path) for path in named]), files, named, troubles)


def _file_at(path: str) -> storage.File:
    """Describe a file that a list names; of one that is not there, reading it will say so."""
    # Asking an object store of each of a million would take longer than reading them.
    return storage.local_file(path) if storage.is_local(path) else storage.File(path, 0, 0.0)


def _unnamed(file: storage.File, line: Target) -> Source:
    member = Member(LIST, None, f"line {line.line}", (), trouble=line.trouble)
    key = f"{posixpath.basename(file.path)}#{member.name}"
    return Source(key, file.path, 0, file.modified, member)


def _list(archive: str, bounds: Bounds) -> tuple[str, Sequence[storage.File], Walk | None]:
    root = archive_root(archive)
    walk = Walk(root, bounds.follow_symlinks) if storage.is_local(root) else None
    if _is_glob(archive):
        pattern = os.path.abspath(archive) if storage.is_local(archive) else archive
        files = storage.list_glob(pattern)
        return root, packed_files(files if walk is None else walk.among(files)), walk
    if file := storage.find_file(root):
        return posixpath.dirname(root), [file], None  # which was named, be it a link
    if walk is None:
        return root, packed_files(storage.list_folder(root)), None
    return root, packed_files(walk.files()) if os.path.exists(root) else [], walk


def _common(roots: list[str]) -> str:
    shared = []
    for parts in zip(*(root.split("/") for root in roots), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


def _key(path: str, base: str) -> str:
    return path[len(base) :].lstrip("/").replace("://", "/")
