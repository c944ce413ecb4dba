"""Checkpoints of a training: whole or not there."""

import json
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or used, and what to do."""


@dataclass
class Progress:
    """How far a training is, as its checkpoints hold it.

    Attributes:
        step: steps that are done.
        seconds: that they took.
        best: the highest validation PSNR so far, in dB.
        best_step: where it was.
        history: a line of scores for each validation.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def save(path: Path, arrays: Sequence[np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write arrays and facts to one file, in place of what was there once all is written.

    Raises:
        CheckpointError: it cannot be written; what was there is still there.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            held: dict[str, Any] = {str(index): array for index, array in enumerate(arrays)}
            text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
            np.savez(file, facts=text, **held)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot save the checkpoint {path} ({error.strerror or error}): make room"
        ) from error


def read(path: Path) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Read what `save` wrote.

    Raises:
        CheckpointError: there is none, or it is broken.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            facts = json.loads(held["facts"].tobytes())
            return [held[str(index)] for index in range(len(held.files) - 1)], facts
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path} to resume from") from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"the checkpoint {path} is broken ({error}): remove it, and train from the start"
        ) from error


def require_same(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Make sure that a checkpoint is of the training that was asked for.

    Raises:
        CheckpointError: it is of another; the message says what differs.
    """
    names = [*asked, *(name for name in found if name not in asked)]
    if others := [name for name in names if found.get(name) != asked.get(name)]:
        told = ", ".join(
            f"{name} was {found.get(name)!r}, not {asked.get(name)!r}" for name in others
        )
        raise CheckpointError(
            f"the checkpoint {path} is of another training: {told}; ask for what it was, or train "
            "from the start with --overwrite"
        )
