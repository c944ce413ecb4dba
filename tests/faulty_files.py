"""faulty:///folder: a folder of this machine as a Beam file system that fails now and then.

HELIOGRAPH_FAULTS in the environment, "rate seed log wait", says how often and from which seed,
where to note each fault, a line of its operation and its kind, and how long to wait before another
try; worker processes read it as well.
"""

import errno
import io
import os
import random
from collections import Counter
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem
from apache_beam.io.localfilesystem import LocalFileSystem

from transforms import storage

SCHEME = "faulty"
PLUGIN = "tests.faulty_files"
VARIABLE = "HELIOGRAPH_FAULTS"

BEFORE, HALF, AFTER, LOST = "before", "half", "after", "lost"

ERRORS = (
    lambda: OSError(errno.EIO, "Input/output error"),
    lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    lambda: TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
)


class Faults:
    """When to fail: decided by a seed, and noted."""

    def __init__(self):
        said = os.environ.get(VARIABLE, "0 0 /dev/null").split()
        self.rate, seed, self.log = float(said[0]), said[1], said[2]
        self.rng = random.Random(f"{seed} {os.getpid()}")
        if len(said) > 3:
            storage.FIRST_WAIT = float(said[3])
        self.said = said

    def draw(self, operation, *kinds):
        """Give the kind of fault that comes now, if any does."""
        if self.rng.random() >= self.rate:
            return None
        kind = self.rng.choice(kinds)
        with open(self.log, "a") as log:
            log.write(f"{operation} {kind}\n")
        return kind

    def error(self):
        return self.rng.choice(ERRORS)()


_now = None


def faults():
    global _now
    if _now is None or " ".join(_now.said) != os.environ.get(VARIABLE, " ".join(_now.said)):
        _now = Faults()
    return _now


def counted(log):
    """Count the faults that were noted, by operation and kind."""
    return Counter(Path(log).read_text().splitlines()) if Path(log).exists() else Counter()


def local(path):
    return path.removeprefix(f"{SCHEME}://")


class _File(io.FileIO):
    """A file that fails in writing, after half of it, and in closing, before and after it."""

    def write(self, data):
        kind = faults().draw("write", BEFORE, HALF)
        if kind == HALF:
            super().write(memoryview(data)[: len(data) // 2])
        if kind:
            raise faults().error()
        return super().write(data)

    def close(self):
        kind = None if self.closed or "r" in self.mode.replace("+", "") else self._drawn()
        if kind in (BEFORE, LOST) and self.tell():
            self.truncate(self.tell() // 2)  # what a cache had not handed on
        super().close()
        if kind in (BEFORE, AFTER):
            raise faults().error()

    def _drawn(self):
        return faults().draw("close", BEFORE, AFTER, LOST)


class FaultyFiles(FileSystem):
    """Has folders and renames over nothing, as Hadoop does."""

    def __init__(self, pipeline_options):
        super().__init__(pipeline_options)
        self.here = LocalFileSystem(pipeline_options)

    @classmethod
    def scheme(cls):
        return SCHEME

    def _do(self, operation, path, call, *kinds):
        """Do something that may fail before it is done, or after it is."""
        kind = faults().draw(operation, *kinds or (BEFORE,))
        if kind == BEFORE:
            raise BeamIOError(f"{operation} failed", {path: faults().error()})
        done = call()
        if kind == AFTER:
            raise BeamIOError(f"{operation} failed", {path: faults().error()})
        return done

    def has_dirs(self):
        return True

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path):
        make = lambda: Path(local(path)).mkdir(parents=True, exist_ok=True)  # noqa: E731
        self._do("mkdirs", path, make, BEFORE, AFTER)

    def _list(self, dir_or_prefix):
        def listed():
            return [
                FileMetadata(f"{SCHEME}://{found.path}", found.size_in_bytes,
                             found.last_updated_in_seconds)
                for found in self.here._list(local(dir_or_prefix))
            ]  # fmt: skip

        yield from self._do("match", dir_or_prefix, listed)

    def create(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
        def opened():
            Path(local(path)).parent.mkdir(parents=True, exist_ok=True)
            Path(local(path)).touch()

        self._do("create", path, opened, BEFORE, AFTER)
        return _File(local(path), "w")

    def open(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
        return self._do("open", path, lambda: open(local(path), "rb"))

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            assert not os.path.exists(local(target)), f"{target} is there"
            rename = lambda s=source, t=target: os.rename(local(s), local(t))  # noqa: E731, PTH104
            self._do("rename", source, rename, BEFORE, AFTER)

    def exists(self, path):
        return self._do("exists", path, lambda: os.path.exists(local(path)))

    def size(self, path):
        return self.metadata(path).size_in_bytes

    def last_updated(self, path):
        return self.metadata(path).last_updated_in_seconds

    def checksum(self, path):
        return str(self.size(path))

    def metadata(self, path):
        def described():
            found = os.stat(local(path))
            return FileMetadata(path, found.st_size, found.st_mtime)

        return self._do("metadata", path, described)

    def delete(self, paths):
        for path in paths:
            self._do("delete", path, lambda path=path: os.remove(local(path)), BEFORE, AFTER)
