"""One job at a time on one output, wherever that is: claims that are files, and a heartbeat.

An object store has no locks, but it lists what has been written to it, at once and with the time at
which it was. So a job writes a claim, waits until whatever was written at the same time can be
seen, and lists the claims: the oldest that is alive has the output, and of two of one time the
first by name. A claim is written once and keeps its time; that its owner lives, a second file says,
which is written anew every few seconds. A claim of this machine whose process is gone is dead at
once, any other when its heartbeat has been silent for a minute.
"""

import contextlib
import getpass
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from transforms import storage

log = logging.getLogger("heliograph")

CLAIMS = ".lock"

BEAT = 10.0  # seconds between heartbeats
SILENCE = 60.0  # seconds after which who is silent is dead

# Seconds until what was written at the same time is listed with its time. A file of this machine is
# stamped to a few milliseconds, on a network's file systems and in object stores to a second.
_SETTLE_HERE, _SETTLE_THERE = 0.1, 1.5

_CLAIM, _ALIVE = ".claim.json", ".alive"


class LockedError(RuntimeError):
    """An output that another job is working on."""


class LostError(RuntimeError):
    """A lock that was taken over by another job, as if this one were dead."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """Who claims an output, since when, and when it was last alive, by the clock of the store."""

    name: str
    owner: dict[str, Any]
    since: float
    alive: float

    def __str__(self) -> str:
        owner = self.owner
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {owner.get('pid')} of {owner.get('user')} on {owner.get('host')}, {since}"


class Lock:
    """The lock of an output, held while the block runs.

    Args:
        output: the output folder.

    Raises:
        LockedError: another job that is alive holds it.
        StorageError: the output cannot be written to.
    """

    def __init__(self, output: str) -> None:
        self.output = output
        self._folder = storage.join(output, CLAIMS)
        self._scratch = self._folder
        self._name = uuid.uuid4().hex
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Lock":
        try:
            self._write(_ALIVE)
            self._write(_CLAIM, _owner())
            time.sleep(_SETTLE_HERE if storage.is_local(self.output) else _SETTLE_THERE)
            self._take()
        except BaseException:
            self._drop(self._name)
            raise
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._drop(self._name)
        if storage.is_local(self._folder):
            with contextlib.suppress(OSError):  # others may be about to be told that it is held
                Path(self._folder).rmdir()
        if self._lost.is_set() and kind in (None, KeyboardInterrupt):
            raise LostError(
                f"another job took {self.output} over: this one was taken for dead, its heartbeat "
                f"having been silent for {SILENCE:.0f} seconds. Run the same command again once "
                "that one has ended"
            )

    def _take(self) -> None:
        """Make sure that ours is the oldest claim of all that are alive, and drop the dead."""
        files = {file.path: file for file in storage.list_if_there(self._folder)}
        claims = sorted(self._claims(files), key=lambda claim: (claim.since, claim.name))
        ours = next((claim for claim in claims if claim.name == self._name), None)
        if ours is None:
            raise LockedError(f"another job has just taken {self.output}: try again later")
        for claim in claims[: claims.index(ours)]:
            if not _is_dead(claim, ours.alive):
                raise LockedError(
                    f"another job holds {self.output}: {claim}. Wait for it to end, or end it and "
                    "run the same command again"
                )
            log.warning("the lock of a job that has died is taken over: %s", claim)
            self._drop(claim.name)
        for path, file in files.items():
            name = path.rpartition("/")[-1].removesuffix(_ALIVE)
            unclaimed = path.endswith(_ALIVE) and path.removesuffix(_ALIVE) + _CLAIM not in files
            if unclaimed and ours.alive - file.modified > SILENCE:  # killed before it claimed
                self._drop(name)

    def _claims(self, files: Mapping[str, storage.File]) -> Iterator[_Claim]:
        for path, file in files.items():
            if not path.endswith(_CLAIM):
                continue
            alive = files.get(path.removesuffix(_CLAIM) + _ALIVE, file)
            name = path.rpartition("/")[-1].removesuffix(_CLAIM)
            try:
                owner = json.loads(storage.read(path))
            except (storage.StorageError, ValueError):
                if not storage.exists(path):
                    continue  # dropped meanwhile
                owner = {}
            yield _Claim(name, owner, file.modified, max(alive.modified, file.modified))

    def _beat(self) -> None:
        claim = storage.join(self._folder, self._name + _CLAIM)
        while not self._stop.wait(BEAT):
            try:
                gone = not storage.exists(claim)
                if not gone:
                    self._write(_ALIVE)
            except OSError as error:
                log.debug("the lock's heartbeat failed, the next one may not: %s", error)
                continue
            if gone:
                self._lost.set()
                _interrupt()
                return

    def _write(self, kind: str, owner: dict[str, Any] | None = None) -> None:
        path = storage.join(self._folder, self._name + kind)
        storage.write(path, json.dumps(owner or {}).encode(), scratch=self._scratch)

    def _drop(self, name: str) -> None:
        for kind in (_CLAIM, _ALIVE):
            with contextlib.suppress(OSError):
                storage.delete(storage.join(self._folder, name + kind))


def _owner() -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return {
        "user": user,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
    }


def _born(pid: int) -> str | None:
    """Tell when a process began, so that another one of its number is not taken for it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _is_dead(claim: _Claim, now: float) -> bool:
    if now - claim.alive > SILENCE:
        return True
    owner = claim.owner
    if owner.get("host") != socket.gethostname() or not os.path.isdir("/proc/self"):
        return False
    return owner.get("born") is not None and _born(int(owner["pid"])) != owner["born"]


def _interrupt() -> None:
    import _thread

    _thread.interrupt_main()
