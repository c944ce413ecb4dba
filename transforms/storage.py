"""Files, here or in an object store: listing, reading, and writing that is whole or not there.

Paths are local, or have one of Beam's schemes (`stores.EXTRAS`). What may pass - a connection that
breaks, a store that is busy - is tried again, `TRIES` times in all, and counted in the Beam counter
`heliograph/storage_retries`. Everything else is a `StorageError` at once, with path and reason; an
`OutageError` where it is not about that file alone (see `faults`).
"""

import contextlib
import io
import logging
import os
import posixpath
import random
import re
import shutil
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from apache_beam.io.filesystem import FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from transforms.faults import OutageError, StorageError, is_of_one_file, remedy
from transforms.scratch import Buffer
from transforms.stores import (
    File,
    Store,
    StoreError,
    Trouble,
    current_options,
    open_store,
    trouble_of,
)

log = logging.getLogger("heliograph")

_META = "*?["

TRIES = 5
# Seconds before the second try; each wait is twice the one before it, less a random part of up to
# half, so that workers who were refused together do not come back together. 7.5 to 15 s in all.
FIRST_WAIT = 1.0

RETRIES_NAME = "storage_retries"
RETRIES = Metrics.counter("heliograph", RETRIES_NAME)

# An object that is read in order is fetched in ranges that double from the first to the second: a
# header costs little, a large object few requests.
_LEAST_AHEAD = 64 << 10
_MOST_AHEAD = 8 << 20
# To fetch what lies between takes no longer than a request of its own.
_SMALL_GAP = 1 << 20

T = TypeVar("T")


def is_local(path: str) -> bool:
    """Say whether a path is on this machine rather than in an object store."""
    return "://" not in path


def has_meta(path: str) -> bool:
    """Say whether a path holds the glob characters * ? [."""
    return any(character in path for character in _META)


def join(base: str, *parts: str) -> str:
    """Join a folder and path parts; the parts use forward slashes."""
    if is_local(base):
        return os.path.join(base, *parts)
    return "/".join([base.rstrip("/"), *(part.lstrip("/") for part in parts)])


def exists(path: str) -> bool:
    """Say whether there is a file or a folder at `path`.

    Raises:
        StorageError: the store does not say.
    """
    if is_local(path):
        return os.path.exists(path)
    return _patiently("look for", path, lambda store: store.exists(path))


def find_file(path: str) -> File | None:
    """Describe the file at `path`; None where there is none, or a folder.

    Raises:
        StorageError: the store does not say.
    """
    if is_local(path):
        return local_file(path) if os.path.isfile(path) else None
    # Of all names that begin with it, a name itself is listed first.
    files, _ = _patiently("look for", path, _paging(path, None))
    return next((file for file in files if file.path == path), None)


def list_folder(folder: str) -> Iterator[File]:
    """List the files below a folder; whatever its name holds, it is not a glob.

    Raises:
        StorageError: a folder cannot be listed. Beam's own listing would pass over it in silence.
    """
    return _walk(folder) if is_local(folder) else _objects(folder.rstrip("/") + "/")


def list_if_there(folder: str) -> Iterator[File]:
    """List the files below a folder as `list_folder` does; none where there is no folder."""
    if is_local(folder) and not os.path.exists(folder):
        return iter(())
    return list_folder(folder)


def list_glob(pattern: str) -> Iterator[File]:
    """List the files that match a glob; * stays within a folder, ** crosses folders.

    Raises:
        StorageError: the store cannot be listed.
    """
    if is_local(pattern):
        for match in FileSystems.match([pattern]):
            for found in match.metadata_list:
                if not os.path.isdir(found.path):
                    yield File(
                        found.path, found.size_in_bytes, found.last_updated_in_seconds or 0.0
                    )
        return
    start = re.split(f"[{re.escape(_META)}]", pattern, maxsplit=1)[0]
    if "/" not in start.partition("://")[2]:
        raise StorageError(f"cannot list {pattern}: name one bucket, without wildcards")
    matches = re.compile(FileSystem.translate_pattern(pattern)).match
    for file in _objects(start):
        if matches(file.path):
            yield file


def _walk(folder: str) -> Iterator[File]:
    def refuse(error: OSError) -> None:
        raise StorageError(
            f"cannot list the folder {error.filename}: {error.strerror}; make it readable, or "
            "name its readable neighbours one by one"
        ) from error

    for parent, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            yield local_file(os.path.join(parent, name))


def _objects(prefix: str) -> Iterator[File]:
    for file in _all_objects(prefix):
        # Consoles make a folder by writing nothing under its name.
        if not (file.path.endswith("/") and file.size == 0):
            yield file


def _all_objects(prefix: str) -> Iterator[File]:
    token: str | None = None
    while True:
        files, token = _patiently("list", prefix, _paging(prefix, token))
        yield from files
        if not token:
            return


def _paging(prefix: str, token: str | None) -> Callable[[Store], tuple[list[File], str | None]]:
    return lambda store: store.page(prefix, token)


def local_file(path: str) -> File:
    """Describe a file of this machine; a dangling link has 0 bytes, and reading it says why."""
    try:
        found = os.stat(path)
    except OSError:
        return File(path, 0, 0.0)
    return File(path, found.st_size, found.st_mtime)


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading, as it is stored. Of an object, only what is read is fetched.

    Raises:
        StorageError: it cannot be read, or is a device or a pipe, which could hang.
    """
    if is_local(path):
        with _patiently("read", path, lambda _: _open_local(path)) as file:
            yield file
    else:
        with io.BufferedReader(_Object(path), _LEAST_AHEAD) as buffered:
            yield buffered


def _open_local(path: str) -> BinaryIO:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise StorageError(f"{path} is not a regular file")
    return open(path, "rb")


def read(path: str) -> bytes:
    """Read a file.

    Raises:
        StorageError: it cannot be read.
    """
    if not is_local(path):
        return _patiently("read", path, lambda store: store.read(path))

    def read_local(_: object) -> bytes:
        with _open_local(path) as file:
            return file.read()

    return _patiently("read", path, read_local)


def chunks(path: str) -> Iterator[bytes]:
    """Read a file from its beginning to its end, some megabytes at a time.

    Raises:
        StorageError: it cannot be read, or not to its end.
    """
    with opened(path) as file:
        if not is_local(path):
            yield from iter(lambda: file.read(_MOST_AHEAD), b"")
            return
        start = 0
        while data := _patiently("read", path, _part_of(file, start)):
            yield data
            start += len(data)


def _part_of(file: BinaryIO, start: int) -> Callable[[object], bytes]:
    return lambda _: os.pread(file.fileno(), _MOST_AHEAD, start)


def write(path: str, data: Buffer | Sequence[Buffer], scratch: str) -> None:
    """Write a file, or one of several parts, so that it is whole under its name or not there.

    A local file is written to a name of its own in `scratch`, a folder on the same storage, and
    then renamed; two workers that write the same thing do not meet. An object store shows an object
    once it has all of it, and has held it to its checksum, so an object is written once.

    What lies between the folder that holds `scratch` and the file is made of folders, not of
    symbolic links, which whoever can write there may point anywhere.

    Raises:
        StorageError: it could not be written; nothing is left under `path` that was not there.
    """
    temporary = join(scratch, uuid.uuid4().hex)
    parts = [data] if isinstance(data, Buffer) else data
    if is_local(path):
        _patiently("write", path, lambda _: _write_local(path, parts, temporary))
    else:
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        _patiently("write", path, lambda store: store.write(path, whole, temporary))


def _write_local(path: str, parts: Sequence[Buffer], temporary: str) -> None:
    _refuse_links(path, temporary)
    try:
        os.makedirs(os.path.dirname(temporary), exist_ok=True)
        with open(temporary, "wb") as file:
            file.writelines(parts)
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        Path(temporary).replace(path)
        size = os.path.getsize(path)
        written = sum(map(len, parts))
        if size != written:
            raise StoreError(f"{written} bytes were written but {size} are there", Trouble.PASSING)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def move(path: str, target: str) -> None:
    """Move a file to where there is none, on the same storage; an object is copied whole.

    Raises:
        StorageError: it could not be moved, and is still under `path`.
    """
    if exists(target):
        raise StorageError(f"cannot move {path} to {target}: something is there already")
    if not is_local(path):
        data = read(path)
        _patiently("write", target, lambda store: store.write(target, data, target))
        delete(path)
        return

    def move_local(_: object) -> None:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(path).replace(target)

    _patiently("move", path, move_local)


def _refuse_links(*paths: str) -> None:
    folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
    base = os.path.commonpath(folders)
    for folder in folders:
        while len(folder) > len(base):
            if Path(folder).is_symlink():
                raise StorageError(
                    f"cannot write to {folder}: it is a symbolic link; put a folder in its place"
                )
            folder = os.path.dirname(folder)


def delete(path: str) -> None:
    """Delete a file, if it is there.

    Raises:
        StorageError: it is still there.
    """
    if not is_local(path):
        _patiently("delete", path, lambda store: store.delete([path]))
        return

    def delete_local(_: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)

    _patiently("delete", path, delete_local)


def delete_folder(folder: str) -> None:
    """Delete a folder and all below it, if it is there.

    Raises:
        StorageError: some of it is still there.
    """
    if is_local(folder):
        if os.path.isdir(folder):
            _patiently("delete", folder, lambda _: shutil.rmtree(folder))
        return
    size = _patiently("delete", folder, lambda store: store.most_deleted)
    # All that is there: what `list_folder` passes over is part of the folder too.
    paths = [file.path for file in _all_objects(folder.rstrip("/") + "/")]
    some = [paths[start : start + size] for start in range(0, len(paths), size)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda paths: _patiently("delete", folder, _deleting(paths)), some))


def _deleting(paths: list[str]) -> Callable[[Store], None]:
    return lambda store: store.delete(paths)


@contextmanager
def local_folder(folder: str) -> Iterator[str]:
    """Give a folder as one on this machine: itself, or a copy that is removed in the end.

    Raises:
        StorageError: it cannot be copied, or is empty or not there.
    """
    if is_local(folder):
        yield folder
        return
    prefix = folder.rstrip("/") + "/"
    with tempfile.TemporaryDirectory(prefix="heliograph-") as copy:
        empty = True
        for file in list_folder(folder):
            target = Path(copy, file.path.removeprefix(prefix))
            if not target.resolve().is_relative_to(Path(copy).resolve()):
                raise StorageError(f"cannot copy {file.path}: its name leads out of {folder}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened(file.path) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, _MOST_AHEAD)
            empty = False
        if empty:
            raise StorageError(f"cannot copy {folder}: there is nothing in it")
        yield copy


class _Object(io.RawIOBase):
    """An object, of which what is read is fetched in ranges of one and the same version."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._position = self._start = 0
        self._window = b""
        self._version: Any = None
        self._ahead = _LEAST_AHEAD
        self._fetch(_LEAST_AHEAD)

    def _fetch(self, length: int) -> None:
        start, version = self._position, self._version
        part = _patiently(
            "read", self._path, lambda store: store.part(self._path, start, length, version)
        )
        if not part.data and start < part.size:
            raise StorageError(f"cannot read {self._path}: it ends before byte {start}")
        self._start, self._window = start, part.data
        self._size, self._version = part.size, part.version

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        gap = self._position - (self._start + len(self._window))
        if self._position < self._start or gap >= 0:
            in_order = 0 <= gap <= _SMALL_GAP
            self._ahead = min(2 * self._ahead, _MOST_AHEAD) if in_order else _LEAST_AHEAD
            self._fetch(max(self._ahead, min(len(buffer), _MOST_AHEAD)))
        offset = self._position - self._start
        piece = self._window[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(_MOST_AHEAD) or b"", b""))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the beginning")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class _Stores(threading.local):
    """The clients of one thread: Google's is not to be shared."""

    options: Any = None
    by_scheme: dict[str, Store] | None = None

    def of(self, path: str) -> Store:
        """Give the client for a path, made from Beam's options as they are now."""
        options = current_options()
        if self.by_scheme is None or self.options is not options:
            self.options, self.by_scheme = options, {}
        scheme = path.partition("://")[0]
        if scheme not in self.by_scheme:
            self.by_scheme[scheme] = open_store(scheme, options)
        return self.by_scheme[scheme]


_stores = _Stores()


def _patiently(verb: str, path: str, call: Callable[[Any], T]) -> T:
    """Make a call on the store of a path, and again where the trouble may pass.

    Raises:
        StorageError: the trouble lasts; an OutageError if it is not about this path alone.
    """
    store: Store | None = None
    for done in range(1, TRIES + 1):
        try:
            if store is None and not is_local(path):
                store = _stores.of(path)
            return call(store)
        except StorageError:
            raise
        except Exception as error:  # each client raises types of its own
            trouble = trouble_of(error) if store is None else store.trouble(error)
            said = str(error) if store is None else store.reason(error)
            reason = getattr(error, "strerror", None) or said or type(error).__name__
            if trouble is Trouble.FORBIDDEN:
                reason = f"no permission: {reason}"
            if trouble is not Trouble.PASSING or done == TRIES:
                tried = f", tried {done} times" if trouble is Trouble.PASSING else ""
                if verb == "write" and is_local(path):
                    reason += remedy(path, error)
                outage = _is_outage(verb, path, trouble, error, store)
                kind = OutageError if outage else StorageError
                raise kind(f"cannot {verb} {path}{tried}: {reason}") from error
            wait = FIRST_WAIT * 2 ** (done - 1) * random.uniform(0.5, 1)
            RETRIES.inc()
            log.warning("cannot %s %s: %s; again in %.1f s", verb, path, reason, wait)
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _is_outage(
    verb: str, path: str, trouble: Trouble, error: Exception, store: Store | None
) -> bool:
    """Tell what is wrong with storage from what is wrong with one file of it."""
    if verb == "write":
        return trouble is not Trouble.LASTING or (store is None and not is_of_one_file(error))
    if trouble is not Trouble.PASSING:
        return False
    # A file on a bad sector, an object that always fails: who can list its folder is there.
    return verb not in ("read", "look for") or not _answers(posixpath.dirname(path), store)


def _answers(folder: str, store: Store | None) -> bool:
    try:
        os.listdir(folder or ".") if store is None else store.page(f"{folder}/", None)
    except Exception:  # whatever it is: that was asked in vain, too
        return False
    return True
