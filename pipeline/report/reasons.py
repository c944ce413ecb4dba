"""Why images failed, were held back, or have warnings: grouped by the reason."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.ledger import FAILED, QUARANTINED
from pipeline.report.rows import Rows
from pipeline.report.words import plain
from transforms import storage

# Different reasons that are told apart, and images that are named for each.
_MOST_REASONS = 200
_MOST_NAMED = 8

_NUMBERS = re.compile(r"\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
_LONGEST = 400


@dataclass
class Reason:
    """One reason, and the images that it is the reason of.

    Attributes:
        stage: in which it came up; empty for a warning.
        error: the type of the error, or the guards.
        message: as it was given for the first of the images.
        count: how many there are.
        keys: of the first of them.
    """

    stage: str
    error: str
    message: str
    count: int = 0
    keys: list[str] = field(default_factory=list)


@dataclass
class Reasons:
    """Reasons by how many images they have, and how many images have others.

    Attributes:
        found: the reasons that are told apart, by what their messages have in common.
        others: images whose reasons came when there were too many already.
    """

    found: dict[tuple[str, ...], Reason] = field(default_factory=dict)
    others: int = 0

    def add(self, key: str, stage: str, error: str, message: str) -> None:
        """Count an image in. Messages are the same reason where they differ in the image's own name
        and in numbers alone.
        """
        common = _NUMBERS.sub("#", message.replace(key, "…"))[:_LONGEST]
        group = (stage, error, common)
        reason = self.found.get(group)
        if reason is None:
            if len(self.found) == _MOST_REASONS:
                self.others += 1
                return
            reason = self.found[group] = Reason(stage, error, message[:_LONGEST])
        reason.count += 1
        if len(reason.keys) < _MOST_NAMED:
            reason.keys.append(key)

    @property
    def sorted(self) -> list[Reason]:
        """Those with the most images first."""
        return sorted(self.found.values(), key=lambda one: (-one.count, one.stage, one.message))


def failures(path: str) -> dict[str, Reasons]:
    """Group the lines of `failures.jsonl` by status, in bounded memory.

    Raises:
        StorageError: it cannot be read.
    """
    grouped = {FAILED: Reasons(), QUARANTINED: Reasons()}
    for line in _lines(path):
        status, key = line["status"], plain(line["key"])
        message, error = plain(line["message"]), plain(line["error"])
        grouped[status].add(key, line["stage"], error, message)
    return grouped


def _lines(path: str) -> Iterator[dict[str, Any]]:
    with storage.opened(path) as file:
        for line in file:
            yield json.loads(line)


def warnings(rows: Rows) -> Reasons:
    """Group the warnings of all images."""
    reasons = Reasons()
    for key, said in zip(rows.values("key"), rows.values("warnings"), strict=False):
        for warning in said or ():
            reasons.add(key, "", "", warning)
    return reasons
