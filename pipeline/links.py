"""Files of a local archive, and which of its symbolic links are followed.

A link may lead anywhere, and whoever fills an archive need not be who runs the job: one to a file
in the archive is that file under another name, and all others are left out and counted, unless
following them is asked for. Then a folder is gone into wherever it is, but never into itself.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from transforms import storage


@dataclass(slots=True)
class Walk:
    """A walk through one archive.

    Attributes:
        root: the folder of the archive; it may be a link itself.
        follow: whether links are followed that lead out of it, or to folders.
        left_out: links that were not followed.
        circles: folders that were not gone into once more.
    """

    root: str
    follow: bool
    left_out: int = 0
    circles: int = 0

    def files(self) -> Iterator[storage.File]:
        """Find the files below the root, of which links to nothing are some.

        Raises:
            StorageError: a folder cannot be listed.
        """
        real = os.path.realpath(self.root)
        todo: list[tuple[str, frozenset[str]]] = [(self.root, frozenset({real}))]
        while todo:
            folder, above = todo.pop()
            for entry in _listed(folder):
                if not entry.is_symlink():
                    if entry.is_dir():
                        inside = os.path.realpath(entry.path) if self.follow else ""
                        todo.append((entry.path, above | {inside} if self.follow else above))
                    else:
                        yield storage.local_file(entry.path)
                    continue
                target = os.path.realpath(entry.path)
                if os.path.isdir(target):
                    if not self.follow:
                        self.left_out += 1
                    elif target in above:
                        self.circles += 1
                    else:
                        todo.append((entry.path, above | {target}))
                elif self.follow or _is_in(target, real):
                    yield storage.local_file(entry.path)
                else:
                    self.left_out += 1

    def among(self, files: Iterable[storage.File]) -> Iterator[storage.File]:
        """Pass on those of the files that a glob has found which are in the archive."""
        real = os.path.realpath(self.root)
        for file in files:
            if self.follow or _is_in(os.path.realpath(file.path), real):
                yield file
            else:
                self.left_out += 1


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise storage.StorageError(
            f"cannot list the folder {error.filename}: {error.strerror}; make it readable, or "
            "name its readable neighbours one by one"
        ) from error


def _is_in(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def link_in(folder: str) -> str | None:
    """Find a symbolic link right in a folder of results, of which jobs make none; None for none."""
    if not storage.is_local(folder) or not os.path.isdir(folder):
        return None
    return next((entry.path for entry in _listed(folder) if entry.is_symlink()), None)
