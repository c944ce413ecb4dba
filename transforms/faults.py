"""What went wrong with storage: for one file alone, or for whatever is asked of it.

A file that cannot be read, or whose name the output cannot hold, is a failure of its image, and the
others go on. An output that is full, read-only or gone, and a store that answers nothing, are no
image's fault: were they put down to images, a night without a disk would be an archive of failures
that no later run tries again. They end the batch, uncommitted, and the job; the next run does it.
"""

import errno
import os
import shutil
from pathlib import Path

# What may be gone at the next try: of networks, and of disks that read or write badly now and then.
PASSING_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EREMOTEIO if hasattr(errno, "EREMOTEIO") else errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)

# What is wrong with the name or the size of a single file that is written.
_OF_ONE_FILE = frozenset(
    {
        errno.EEXIST,
        errno.EFBIG,
        errno.EILSEQ,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
    }
)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class StorageError(OSError):
    """A file operation that did not do what was asked, with the path and the reason."""


class OutageError(StorageError):
    """Storage that does not do what is asked, whatever file it is asked about."""


def outage_of(error: BaseException) -> OutageError | None:
    """Give the outage that an error is, or that it comes of; None where it is of one file."""
    # Readers of shards turn what they meet into errors of their own, each with its cause.
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, OutageError):
            return cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return None


def is_of_one_file(error: Exception) -> bool:
    """Tell whether a write failed for its own name or size; errors without a number do."""
    number = getattr(error, "errno", None)
    return number is None or number in _OF_ONE_FILE


def remedy(path: str, error: Exception) -> str:
    """Say what to do about a local file that could not be written, after a semicolon; nothing
    where nobody knows.
    """
    number = getattr(error, "errno", None)
    folder = _nearest_folder(path)
    if number in _FULL:
        return f"; {_free(folder)} in {folder}: make room there"
    return f"; make {folder} writable" if number in _CLOSED else ""


def _nearest_folder(path: str) -> str:
    """Give the folder of a file, or the nearest above it that is there."""
    return next(str(folder) for folder in Path(path).absolute().parents if folder.is_dir())


def _free(folder: str) -> str:
    try:
        free = shutil.disk_usage(folder).free
        inodes = os.statvfs(folder) if hasattr(os, "statvfs") else None
    except OSError:
        return "nothing is known to be free"
    if inodes is not None and inodes.f_files and not inodes.f_favail:
        return "no more files can be made"
    return f"{free:,} bytes are free"
