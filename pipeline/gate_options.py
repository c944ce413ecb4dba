"""The options of quality gates, and how their thresholds are read.

Neither Beam nor TensorFlow is imported here, so that `heliograph --help` answers at once.
"""

import argparse
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pipeline.option import Option, number, option

_ARCHIVES = ("restore", "evaluate", "degrade", "convert")
_SCORED = ("restore", "evaluate", "degrade")

Bound = Literal["at least", "at most"]

# What of a summary is counted in images, and may be a share of those planned.
COUNTED = ("failed", "quarantined", "skipped", "warnings", "gone")

# How far a mean may be from the baseline's, in standard deviations of the baseline.
MAX_DRIFT = 0.1


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one figure of a summary must reach.

    Attributes:
        said: the option as it was given, for people.
        name: of the figure: one of `COUNTED`, or of a score, `ssim_restored`.
        bound: on which side of the limit it must lie; the limit itself is allowed.
        limit: of a score, of a count of images, or of their share of those planned (0 to 1).
        is_share: whether it is a share.
    """

    said: str
    name: str
    bound: Bound
    limit: Fraction
    is_share: bool = False


# Options that stand for one figure each: what they require of which.
SHORT: dict[str, tuple[Bound, str]] = {
    "max_failed": ("at most", "failed"),
    "max_quarantined": ("at most", "quarantined"),
    "min_psnr": ("at least", "psnr_rgb_restored"),
    "min_ssim": ("at least", "ssim_restored"),
}
# Options that name their figures themselves.
NAMING: dict[str, Bound] = {"at_least": "at least", "at_most": "at most"}


def requirements(args: argparse.Namespace) -> tuple[Requirement, ...]:
    """Give what was asked for, in the order of the options."""
    return tuple(_asked(args))


def _asked(args: argparse.Namespace) -> Iterator[Requirement]:
    for flag, (bound, name) in SHORT.items():
        if (said := getattr(args, flag, None)) is not None:
            yield _requirement(f"--{flag} {said}", name, bound, said)
    for flag, bound in NAMING.items():
        for said in getattr(args, flag, None) or ():
            for pair in said.split(","):
                name, _, limit = pair.partition("=")
                yield _requirement(f"--{flag} {pair}", name, bound, limit)


def _requirement(said: str, name: str, bound: Bound, limit: str) -> Requirement:
    if name in COUNTED:
        value, is_share = read_share(limit)
        return Requirement(said, name, bound, value, is_share)
    return Requirement(said, name, bound, _read_number(limit))


def read_share(text: str) -> tuple[Fraction, bool]:
    """Read a count of images, or a share of them; say whether it is a share.

    A whole number is a count (`5`, and `1` is one image). A number with a point is a share from 0
    to 1 (`0.05`, and `1.0` is all), one with a percent sign is a share from 0 to 100 (`5%`). What
    comes of it is exact: 0.29 of 100 images are 29.

    Raises:
        ArgumentTypeError: it is neither.
    """
    found = re.fullmatch(r"(\d+)|(\d*\.\d+|\d+\.)|(\d+(?:\.\d*)?|\.\d+)%", text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a count of images, such as 5, nor a share, such as 0.05 or 5%"
        )
    count, share, percent = found.groups()
    if count:
        return Fraction(count), False
    value = Fraction(share) if share else Fraction(percent) / 100
    if value > 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is more than all images: a share is from 0.0 to 1.0 or 0% to 100%, a count "
            "is a whole number without a point"
        )
    return value, True


def _read_number(text: str) -> Fraction:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return Fraction(repr(value))


def _checked(read):
    """Make an argparse type that checks a text and gives it back: Beam keeps what options are."""

    def check(text: str) -> str:
        read(text)
        return text

    return check


def _pairs(text: str) -> None:
    for pair in text.split(","):
        name, joined, limit = pair.partition("=")
        if not name or not joined:
            raise argparse.ArgumentTypeError(f"{pair!r} is not NAME=VALUE")
        _requirement(text, name, "at least", limit)


GATE_OPTIONS: tuple[Option, ...] = (
    *(
        option(
            f"--max_{status}",
            commands=_ARCHIVES,
            type=_checked(read_share),
            metavar="SHARE_OR_COUNT",
            # argparse formats it.
            help=f"end with exit code 4 if more images are {status}: 5 is a count, 0.05 or 5%% a "
            "share of those planned (1 is one image, 1.0 all of them; see docs/gates.md)",
        )
        for status in ("failed", "quarantined")
    ),
    *(
        option(
            f"--min_{short}",
            commands=_SCORED,
            type=_checked(_read_number),
            metavar=metavar,
            help=f"end with exit code 4 if the mean {name} of the restored images is less",
        )
        for short, name, metavar in (("psnr", "psnr_rgb", "DB"), ("ssim", "ssim", "VALUE"))
    ),
    *(
        option(
            f"--{flag}",
            commands=_ARCHIVES,
            action="append",
            type=_checked(_pairs),
            metavar="NAME=VALUE",
            help=f"end with exit code 4 unless a count or a mean score of summary.json is {bound} "
            f"that; repeated or joined by commas, such as {example}",
        )
        for (flag, bound), example in zip(
            NAMING.items(), ("ssim_gain=0.01", "ciede2000_restored=3,gone=0"), strict=True
        )
    ),
    option(
        "--baseline",
        commands=_ARCHIVES,
        metavar="SUMMARY",
        help="end with exit code 4 if scores or the shares of failed and quarantined images have "
        "become significantly worse than in an earlier run: its summary.json, or its OUTPUT",
    ),
    option(
        "--gate",
        commands=("evaluate",),
        metavar="SCOREBOARD",
        help="end with exit code 4 if a model is significantly worse than in an earlier evaluation "
        "of the same images and recipes: its scoreboard.json or OUTPUT (see docs/evaluation.md)",
    ),
    option(
        "--max_drift",
        commands=_ARCHIVES,
        type=number(0),
        metavar="D",
        help="how far from --baseline a mean may be, however significant that is, in standard "
        f"deviations of the baseline's images (default: {MAX_DRIFT})",
    ),
)
