"""One job at a time on one output, wherever that is: claims that are files, and a heartbeat.

An object store has no locks, but it lists what has been written to it, at once and with the time at
which it was. So a job says that it lives, writes a claim, waits until whatever was written at the
same time can be seen, and lists the claims: the oldest that is alive has the output, and of two of
one time the first by name. Whoever lives and has no claim yet may be about to show an older one,
and is waited for (Lamport's bakery, 1974, doi:10.1145/361082.361093: nobody is passed over while
choosing a number). Whoever has the output says so, and is older than anybody from then on, whatever
becomes of the clock.

A claim is written once and keeps its time; the sign of life is written anew every few seconds. Of
processes that can be seen from here, whether they are there tells whether they live; of others, a
heartbeat that has been silent for a minute.
"""

import contextlib
import getpass
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
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

# Seconds until what is written next has a later time. A file of this machine is stamped to a few
# milliseconds, on a network's file systems and in object stores to a second.
_SETTLE_HERE, _SETTLE_THERE = 0.1, 1.5

_CLAIM, _ALIVE, _HELD = _KINDS = ".claim.json", ".alive", ".held"

# A folder that another job has just removed, having been the last in it, is made anew.
_TRIES = 5


class LockedError(RuntimeError):
    """An output that another job is working on."""


class LostError(RuntimeError):
    """A lock that was taken over by another job, as if this one were dead."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """Who claims an output, since when, and when it was last alive, by the clock of the store.

    Attributes:
        name: that no two have.
        owner: what `_owner` says of it.
        since: when it claimed the output; None where it is about to.
        alive: when it last was.
        holds: whether it has the output, and not just a claim to it.
    """

    name: str
    owner: dict[str, Any]
    since: float | None
    alive: float
    holds: bool

    def __str__(self) -> str:
        owner = self.owner
        began = datetime.fromtimestamp(self.since or self.alive, UTC)
        since = began.strftime("%Y-%m-%d %H:%M:%S UTC")
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
        self._settle = _SETTLE_HERE if storage.is_local(output) else _SETTLE_THERE
        self._name = uuid.uuid4().hex
        self._owner = _owner()
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Lock":
        try:
            self._write(_ALIVE)  # first: who sees nobody will never see an older claim
            self._write(_CLAIM)
            time.sleep(self._settle)
            self._take()
            self._write(_HELD)
        except BaseException:
            self._drop(self._name)
            raise
        self._was_deaf = _listen()
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
        if self._was_deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
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

    def sweep(self, *, dry: bool = False) -> list[str]:
        """Delete what jobs that have died have left of their claims; give the names of it.

        Args:
            dry: whether to leave it there.
        """
        dropped = []
        for file in list(storage.list_if_there(self._folder)):
            name = file.path.rpartition("/")[-1]
            owned = name.startswith(self._name) or name.endswith(_CLAIM)
            # Of a claim that is just being written there are other files first.
            if not owned and time.time() - file.modified > SILENCE:
                claim = storage.join(self._folder, name.partition(".")[0] + _CLAIM)
                if not storage.exists(claim):
                    dropped.append(name)
                    if not dry:
                        storage.delete(file.path)
        return dropped

    def _take(self) -> None:
        """Make sure that ours is the oldest claim of all that are alive, and drop the dead."""
        deadline = time.monotonic() + SILENCE + BEAT
        while (coming := self._first_of_others()) is not None:
            if time.monotonic() > deadline:
                raise LockedError(f"another job is about to take {self.output}: {coming}")
            time.sleep(self._settle)
            self._write(_ALIVE)

    def _first_of_others(self) -> _Claim | None:
        """Look for whoever is alive and comes before us; give one that may be about to.

        Raises:
            LockedError: there is one.
        """
        claims = {claim.name: claim for claim in self._claims()}
        ours = claims.pop(self._name, None)
        if ours is None or ours.since is None:
            raise LockedError(f"another job has just taken {self.output}: try again later")
        coming = None
        for claim in claims.values():
            later = claim.since is not None and (claim.since, claim.name) > (ours.since, ours.name)
            if later and not claim.holds:
                continue
            if _is_dead(claim, ours.alive):
                if claim.since is not None:
                    log.warning("the lock of a job that has died is taken over: %s", claim)
                self._drop(claim.name)
            elif claim.since is None:
                coming = claim
            else:
                raise LockedError(
                    f"another job holds {self.output}: {claim}. Wait for it to end, or end it and "
                    "run the same command again"
                )
        return coming

    def _claims(self) -> Iterator[_Claim]:
        found: dict[str, dict[str, storage.File]] = {}
        for file in storage.list_if_there(self._folder):
            name, dot, kind = file.path.rpartition("/")[-1].partition(".")
            if dot + kind in _KINDS:
                found.setdefault(name, {})[dot + kind] = file
        for name, files in found.items():
            claim, alive = files.get(_CLAIM), files.get(_ALIVE)
            said = claim or alive
            if said is None:
                continue  # the last that is left of one that is being dropped
            try:
                owner = json.loads(storage.read(said.path))
            except (storage.StorageError, ValueError):
                if not storage.exists(said.path):
                    continue  # dropped meanwhile
                owner = {}
            since = claim.modified if claim else None
            lived = max(file.modified for file in (claim, alive) if file)
            yield _Claim(name, owner, since, lived, _HELD in files)

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

    def _write(self, kind: str) -> None:
        path = storage.join(self._folder, self._name + kind)
        data = json.dumps(self._owner).encode()
        for tries in range(1, _TRIES + 1):
            try:
                return storage.write(path, data, scratch=self._scratch)
            except storage.StorageError as error:
                if tries == _TRIES or not isinstance(error.__cause__, FileNotFoundError):
                    raise

    def _drop(self, name: str) -> None:
        for kind in _KINDS:
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
        "place": _place(),
    }


def _place() -> str | None:
    """Name the running system and the namespace that a process number holds in.

    A host's name does not: containers may share that, and count their processes apart.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """Tell when a process began, so that another one of its number is not taken for it; None where
    there is none, or what is left of one that has ended.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, *fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


def _is_dead(claim: _Claim, now: float) -> bool:
    owner = claim.owner
    place, born = owner.get("place"), owner.get("born")
    if place is not None and born is not None and place == _place():
        return _born(int(owner["pid"])) != born
    return now - claim.alive > SILENCE


def _listen() -> bool:
    """Let SIGINT be heard where it is ignored, as a shell has it for what runs in the background;
    say whether it was. `_interrupt` does nothing otherwise.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        return False
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return True


def _interrupt() -> None:
    import _thread

    _thread.interrupt_main()
