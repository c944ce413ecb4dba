"""Guards: what every restored image is held to without its original, before it counts as a result.

A guard is a function of what the model was given and what came back, and a threshold. A record that
trips one is quarantined: see docs/guards.md for what each can and cannot see.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import apache_beam as beam
import cv2
import numpy as np

from transforms import colour
from transforms.record import Batch, Record, Tripped
from transforms.stage import Stage

# Pixels that are compared at a time: what is made of them stays in the processor's cache.
_STRIP = 1 << 17

# Side in pixels of the blocks whose mean tells what was black or white already, and how far from
# that it may be, as a share of white.
_BLOCK, _NEARNESS = 8, 1 / 8

# Colours are looked at on a grid of about so many pixels: means and percentiles need no more.
_SAMPLES = 1 << 15

# Across a seam, in pixels from its middle. Tiles are blended over 16 (`tiling.BLEND`), so what they
# differ by is there between 8 and 24; the same is measured 48 to either side, where there is none.
_NEAR, _FAR, _ASIDE = 8, 24, 48
_REACH = _ASIDE + _FAR

# Along a seam: every second line, of no more than so many stretches between two crossings, and of
# none that is so short that its mean is left to chance.
_EVERY = 2
_STRETCHES = 512
_SHORTEST = 96


class GuardError(ValueError):
    """A guard or a threshold that there is not, and what there is."""


@dataclass(frozen=True)
class Restored:
    """One restored image, as guards see it.

    Attributes:
        before: what the model was given, uint8 or uint16 [H, W, 1 or 3].
        after: what came of it.
        mask: bool [H, W], True where a pixel was missing; None where none was.
        seams: the middles of the seams between tiles: of rows, and of columns.
        colours: whether colour was to come.
    """

    before: np.ndarray
    after: np.ndarray
    mask: np.ndarray | None = None
    seams: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    colours: bool = False

    @property
    def comparable(self) -> bool:
        """Whether both have one size and depth."""
        return (
            self.before.shape[:2] == self.after.shape[:2] and self.before.dtype == self.after.dtype
        )

    @cached_property
    def lightness_before(self) -> np.ndarray:
        """CIE L* of samples of the input, float32 [h, w]."""
        return _lab(self.before)[..., 0]

    @cached_property
    def lab_after(self) -> np.ndarray:
        """CIE L*a*b* of the same samples of the output, float32 [h, w, 3]."""
        return _lab(self.after)

    def strips(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Give some rows at a time, of the input and the output, top to bottom."""
        height, width = self.before.shape[:2]
        step = max(_BLOCK, _STRIP // width // _BLOCK * _BLOCK)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            yield rows, self.before[rows], self.after[rows]


def _lab(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    every = max(1, math.isqrt(height * width // _SAMPLES))
    samples = pixels[every // 2 :: every, every // 2 :: every]
    return colour.lab(colour.with_channels(colour.to_unit(samples), 3))


def _form_changed(image: Restored) -> float:
    """Give 1 where size or depth are not the input's, else 0."""
    return float(not image.comparable)


def _not_finite(image: Restored) -> float:
    """Give the share of samples that are NaN or infinite; integers are neither."""
    if not np.issubdtype(image.after.dtype, np.inexact):
        return 0.0
    rows = max(1, _STRIP // max(1, image.after.shape[1]))
    tops = range(0, len(image.after), rows)
    bad = sum(np.count_nonzero(~np.isfinite(image.after[top : top + rows])) for top in tops)
    return bad / image.after.size


def _changed(image: Restored) -> float:
    """Give the share of pixels that are not what they were."""
    changed = sum(np.count_nonzero(_differs(old, new)) for _, old, new in image.strips())
    return changed / image.before[..., 0].size


def _changed_outside(image: Restored) -> float | None:
    """Give the same of the pixels that were not missing; None where all were."""
    if image.mask is None:
        return _changed(image)
    there = image.mask.size - np.count_nonzero(image.mask)
    changed = sum(
        np.count_nonzero(_differs(old, new) & ~image.mask[rows])
        for rows, old, new in image.strips()
    )
    return changed / there if there else None


def _differs(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Tell which pixels differ in any channel; gray is equal to RGB of equal channels."""
    different = old != new
    result = different[..., 0]
    for channel in range(1, different.shape[-1]):
        result = result | different[..., channel]
    return result


def _clipped(image: Restored) -> float:
    """Give the share of pixels that are black or white, all channels of them, and were neither that
    nor near it.

    Near is by the mean of the 8 x 8 pixels around: what a denoiser makes of a white wall with noise
    on it is white, and rightly.
    """
    lost, white = 0, colour.white(image.after.dtype)
    for _, before, after in image.strips():
        for end in (0, white):
            ends = _is(after, end)
            if ends.any():
                ends &= ~_is_near(before, end)
            if ends.any():
                lost += int(np.count_nonzero(ends & ~(_is(before, 0) | _is(before, white))))
    return lost / image.before[..., 0].size


def _is(pixels: np.ndarray, level: int) -> np.ndarray:
    """Tell which pixels have a level in all channels."""
    result = pixels[..., 0] == level
    if result.any():
        for channel in range(1, pixels.shape[-1]):
            result &= pixels[..., channel] == level
    return result


def _is_near(pixels: np.ndarray, end: int) -> np.ndarray:
    """Tell which pixels are among 8 x 8 whose mean is close to black or white in all channels."""
    height, width = pixels.shape[:2]
    small = (-(-width // _BLOCK), -(-height // _BLOCK))
    means = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA).reshape(small[1], small[0], -1)
    off = np.abs(means.astype(np.int32) - end).max(axis=-1)
    near = off <= colour.white(pixels.dtype) * _NEARNESS
    return cv2.resize(
        near.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
    ).astype(bool)


def _drift(image: Restored) -> float | None:
    """Give the mean absolute difference of CIE L*, where only colour was to come."""
    if not image.colours:
        return None
    difference = image.lab_after[..., 0] - image.lightness_before
    return float(np.abs(difference).mean(dtype=np.float64))


def _chroma(image: Restored) -> float | None:
    """Give the chroma C*ab that 1 % of the pixels exceed, where colour was to come."""
    if not image.colours:
        return None
    a, b = image.lab_after[..., 1], image.lab_after[..., 2]
    return float(np.percentile(np.hypot(a, b), 99, method="lower"))


def _seam(image: Restored) -> float | None:
    """Give the largest step that was added along a seam between tiles, in percent of white, beyond
    the steps that were added beside it; None where nothing was tiled.

    What tiles differ by shows in the difference of output and input, in which the photograph's own
    edges cancel. Between two crossings a seam parts the same two tiles, so its step is an average
    over that stretch; the same average to either side says what the model does without a seam.
    """
    difference = _Difference(image.before, image.after)
    across = _Difference(image.before.swapaxes(0, 1), image.after.swapaxes(0, 1))
    rows, columns = image.seams
    stretches = [(across, seam, *stretch) for seam in rows for stretch in across.between(columns)]
    stretches += [
        (difference, seam, *stretch) for seam in columns for stretch in difference.between(rows)
    ]
    every = -(-len(stretches) // _STRETCHES) or 1
    steps = [seen.excess(seam, first, last) for seen, seam, first, last in stretches[::every]]
    return max((step for step in steps if step is not None), default=None)


@dataclass(frozen=True)
class _Difference:
    """What was added to an image, whose seams are taken for columns here."""

    before: np.ndarray
    after: np.ndarray

    def between(self, crossings: Iterable[int]) -> list[tuple[int, int]]:
        """Give the stretches of a seam between those that cross it, without the crossings."""
        edges = [-_FAR, *crossings, len(self.before) + _FAR]
        return [(one + _FAR, other - _FAR) for one, other in pairwise(edges)]

    def excess(self, seam: int, first: int, last: int) -> float | None:
        """Give the step at a seam, from row `first` to `last`, beyond those beside it."""
        left, right = max(0, seam - _REACH), min(self.before.shape[1], seam + _REACH)
        if last - first < _SHORTEST or right - seam < _FAR or seam - left < _FAR:
            return None
        window = slice(first, last, _EVERY), slice(left, right)
        added = _gray(self.after[window]) - _gray(self.before[window])
        profile = added.mean(axis=0, dtype=np.float64)
        at_seam, *beside = (
            abs(profile[at + _NEAR : at + _FAR].mean() - profile[at - _FAR : at - _NEAR].mean())
            for at in (seam - left, seam - left - _ASIDE, seam - left + _ASIDE)
            if at >= _FAR and at + _FAR <= len(profile)
        )
        return 100 * float(at_seam - max(beside, default=0.0))


def _gray(pixels: np.ndarray) -> np.ndarray:
    return colour.with_channels(colour.to_unit(pixels), 1)[..., 0]


@dataclass(frozen=True, slots=True)
class Guard:
    """What is measured of a restored image, and when that is too much.

    Attributes:
        measure: gives the value, or None where there is nothing to measure.
        threshold: of the guard, where it is asked for without one.
        says: what the value is, for the reason of a quarantine.
        on: whether it is on where nothing is said.
        least: whether the value must exceed the threshold; otherwise it must not.
    """

    measure: Callable[[Restored], float | None]
    threshold: float
    says: str
    on: bool = True
    least: bool = False

    def trips(self, value: float, threshold: float) -> bool:
        """Tell whether a value quarantines an image."""
        return value <= threshold if self.least else not value <= threshold


GUARDS: dict[str, Guard] = {
    "form": Guard(_form_changed, 0.0, "size or depth differ from the master's (1)"),
    "finite": Guard(_not_finite, 0.0, "share of samples that are NaN or infinite"),
    "unchanged": Guard(_changed, 0.0, "share of changed pixels", on=False, least=True),
    "changed": Guard(_changed_outside, 1.0, "share of changed pixels, missing ones apart"),
    "clipping": Guard(_clipped, 0.02, "share of pixels that became black or white, from afar"),
    "luminance": Guard(_drift, 1.0, "mean absolute change of L*"),
    "gray": Guard(_chroma, 0.5, "chroma C* that 1 % of the pixels exceed", least=True),
    "seams": Guard(_seam, 2.0, "step along a seam between tiles, in % of white"),
}

# What is measured whatever has come back; the others take two images of one size and depth.
_OF_ANY = {"form", "finite"}

NONE = "none"

Thresholds = Mapping[str, float]


def parse_guards(said: Iterable[str] = ()) -> dict[str, float]:
    """Give the thresholds of the guards that are on, by name, in the order of the table.

    Args:
        said: what `--guard` was given, read from left to right: `name=value`, `name` for its own
            threshold, `name=none` to switch one off, `none` all of them; or several with commas.

    Raises:
        GuardError: there is no such guard or threshold.
    """
    chosen = {name: guard.threshold for name, guard in GUARDS.items() if guard.on}
    for part in (part.strip() for text in said for part in text.split(",")):
        name, given, value = part.partition("=")
        if part == NONE:
            chosen = {}
        elif name not in GUARDS:
            near = difflib.get_close_matches(name, GUARDS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise GuardError(f"no guard {name!r}: there are {', '.join(GUARDS)}, and none{hint}")
        elif value == NONE:
            chosen.pop(name, None)
        else:
            chosen[name] = _threshold(name, value) if given else GUARDS[name].threshold
    return {name: chosen[name] for name in GUARDS if name in chosen}


def _threshold(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise GuardError(
            f"the threshold {text!r} of the guard {name} is no number from 0, nor none"
        )
    return value


def look(image: Restored, thresholds: Thresholds) -> dict[str, float | None]:
    """Measure what the guards that are on go by; None where there is nothing to measure.

    Values have six digits: processors may differ in the last ones of a sum.
    """
    values: dict[str, float | None] = dict.fromkeys(thresholds)
    for name in thresholds:
        if image.comparable or name in _OF_ANY:
            value = GUARDS[name].measure(image)
            values[name] = None if value is None else float(f"{value:.6g}")
    return values


def guard_record(record: Record, thresholds: Thresholds, *, colours: bool = False) -> Record:
    """Hold a restored record to the guards; keep the values, and which of them tripped.

    Args:
        record: one with no result, as of a job without a model, stays as it is.
        thresholds: of the guards that are on.
        colours: whether colour was to come.
    """
    if record.restored is None or not thresholds:
        return record
    seams = record.seams or ((), ())
    image = Restored(record.image, record.restored, record.mask, seams, colours)
    values = look(image, thresholds)
    tripped = tuple(
        Tripped(name, value, thresholds[name], _reason(name, value, thresholds[name]))
        for name, value in values.items()
        if value is not None and GUARDS[name].trips(value, thresholds[name])
    )
    return record.replace(guards=values, tripped=tripped)


def _reason(name: str, value: float, threshold: float) -> str:
    guard = GUARDS[name]
    bound = "not over" if guard.least else "over"
    return f"{name}: {guard.says}: {value:g}, {bound} the threshold of {threshold:g}"


class Guards(beam.PTransform):
    """Hold the restored images of batches to the guards.

    Args:
        thresholds: of the guards that are on, as `parse_guards` gives them.
        colours: whether colour was to come: `luminance` and `gray` are about that.
    """

    def __init__(self, thresholds: Thresholds, *, colours: bool = False) -> None:
        super().__init__()
        self.thresholds = thresholds
        self.colours = colours

    def expand(self, batches: beam.PCollection[Batch]) -> beam.PCollection[Batch]:
        """Run the stage."""
        thresholds, colours = dict(self.thresholds), self.colours
        return batches | Stage(
            guard=lambda record: guard_record(record, thresholds, colours=colours)
        )
