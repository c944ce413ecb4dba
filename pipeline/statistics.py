"""Statistics that can be merged: of any partition of the data, in any order, the same to the bit.

Sums are whole numbers, so that adding them up in another order changes nothing; quantiles come from
a sample that the records' keys decide, not the order in which they come. What one worker has folded
is small, whatever it has read: a few kilobytes for a metric of a few images, a megabyte at most.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

# Values of one metric that quantiles are taken from, no more than uint16 has numbers. Up to so
# many, they are exact. Of more, the rank of every quantile is within 1 % (and for groups, of which
# there are many, 4 %) of what it is to be, but in 4 of a million jobs: 2 exp(-2 k e^2) by
# Dvoretzky, Kiefer and Wolfowitz with the constant of Massart (1990), doi:10.1214/aop/1176990746.
# Sampling without replacement is no worse (Hoeffding 1963). Half of the errors at the median are
# below 0.13 % and 0.53 %.
SAMPLE = 1 << 16
GROUP_SAMPLE = 1 << 12

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

# Groups of one kind. Which ones are kept must not depend on the order of merging, so it is the
# first by name; the others are one group together.
MOST_GROUPS = 64
OTHERS = "(others)"

# Every float64 is a whole multiple of 2 to the minus this, as frexp gives it: mantissas of 53 bits,
# and exponents from -1073.
_SCALE = 53 + 1073
# Products of parts of mantissas, below 2**37, of so many values add up without rounding in float64.
_EXACTLY = 1 << 16

Json = dict[str, Any]


def hashes_of(keys: Iterable[bytes]) -> np.ndarray:
    """Hash what names records, for `Accumulator`: the first 64 bits of BLAKE2b, uint64 [N]."""
    digests = b"".join([hashlib.blake2b(key, digest_size=8).digest() for key in keys])
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _no_hashes() -> np.ndarray:
    return np.empty(0, np.uint64)


def _no_values() -> np.ndarray:
    return np.empty(0, np.float64)


@dataclass(slots=True, eq=False)
class Accumulator:
    """What is known of the values of one metric, or of differences of pairs.

    For the gain of one model over another, add the differences of their scores of the same images:
    the interval of their mean is that of the paired t-test.

    Attributes:
        limit: how many values are kept for quantiles.
        count: how many values there were.
        total: their sum, in units of 2**-1126.
        squares: the sum of their squares, in units of 2**-2252.
        low: the least; infinity where there is none.
        high: the largest; minus infinity where there is none.
        hashes: uint64 [K], in rising order, of the records that are kept: those of the smallest.
        sample: float64 [K], their values.
    """

    limit: int = SAMPLE
    count: int = 0
    total: int = 0
    squares: int = 0
    low: float = math.inf
    high: float = -math.inf
    hashes: np.ndarray = field(default_factory=_no_hashes)
    sample: np.ndarray = field(default_factory=_no_values)

    @classmethod
    def of(cls, values: np.ndarray, hashes: np.ndarray, limit: int = SAMPLE) -> "Accumulator":
        """Make one of values, as `add` takes them."""
        made = cls(limit)
        made.add(values, hashes)
        return made

    def add(self, values: np.ndarray, hashes: np.ndarray) -> None:
        """Take in the values of records.

        Args:
            values: float64 [N]. NaN stands for a score that is not defined, and is passed over like
                an infinity: the ledger holds neither (PSNR of equal images is empty).
            hashes: uint64 [N], as `hashes_of` makes them of what names each record.
        """
        values = np.asarray(values, np.float64)
        finite = np.isfinite(values)
        if not finite.all():
            values, hashes = values[finite], hashes[finite]
        if not len(values):
            return
        values = values + 0.0  # there is one zero
        if (hashes[1:] < hashes[:-1]).any():
            order = np.argsort(hashes, kind="stable")
            hashes, values = hashes[order], values[order]
        self.count += len(values)
        for start in range(0, len(values), _EXACTLY):
            total, squares = _sums(values[start : start + _EXACTLY])
            self.total += total
            self.squares += squares
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        self._keep(hashes, values)

    def merge(self, other: "Accumulator") -> None:
        """Take in what another has; that one stays as it is."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        self._keep(other.hashes, other.sample)

    def _keep(self, hashes: np.ndarray, values: np.ndarray) -> None:
        """Keep the values of the smallest hashes, which are sorted; of equal ones, the smaller
        value.
        """
        bound = self.hashes if len(self.hashes) == self.limit else hashes
        if len(bound) >= self.limit:
            few = np.searchsorted(hashes, bound[self.limit - 1], "right")
            hashes, values = hashes[:few], values[:few]
        if not len(hashes):
            return
        if len(self.hashes):
            hashes = np.concatenate([self.hashes, hashes])
            values = np.concatenate([self.sample, values])
            order = np.argsort(hashes, kind="stable")  # of two sorted runs: as good as a merge
            hashes, values = hashes[order], values[order]
        if (hashes[1:] == hashes[:-1]).any():
            order = np.lexsort((values, hashes))
            hashes, values = hashes[order], values[order]
        self.hashes, self.sample = hashes[: self.limit].copy(), values[: self.limit].copy()

    @property
    def mean(self) -> float | None:
        """The mean, correctly rounded; None of nothing."""
        return self.total / (self.count << _SCALE) if self.count else None

    @property
    def std(self) -> float | None:
        """The standard deviation of a sample (n - 1), within an ulp; None of fewer than two values,
        and where it is larger than any float.
        """
        if self.count < 2:
            return None
        spread = self.count * self.squares - self.total**2
        try:
            return _root(spread, self.count * (self.count - 1) << 2 * _SCALE)
        except OverflowError:
            return None

    @property
    def ci95(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the mean, by Student's t; None of fewer than two values.

        It takes the records for independent draws, and the mean for normal, which it is for a few
        dozen of nearly any distribution.
        """
        mean, std = self.mean, self.std
        if mean is None or std is None:
            return None
        reach = float(stdtrit(self.count - 1, 0.975)) * std / math.sqrt(self.count)
        return mean - reach, mean + reach

    def quantiles(self, shares: Sequence[float] = QUANTILES) -> list[float]:
        """Give quantiles, linear between neighbours (type 7 of Hyndman and Fan); none of nothing.

        Exact up to `limit` values, else those of the sample.
        """
        return np.quantile(self.sample, shares).tolist() if self.count else []

    def to_json(self) -> Json:
        """Give all of it for JSON; what is not defined is None."""
        interval, quantiles = self.ci95, self.quantiles()
        return {
            "mean": self.mean,
            "count": self.count,
            "std": self.std,
            "min": self.low if self.count else None,
            "max": self.high if self.count else None,
            "quantiles": {
                str(share): quantiles[place] if quantiles else None
                for place, share in enumerate(QUANTILES)
            },
            "ci95": None if interval is None else list(interval),
        }

    def copy(self, limit: int) -> "Accumulator":
        """Copy it, with no larger a sample than `limit`."""
        made = Accumulator(limit)
        made.merge(self)
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Accumulator) and self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def _state(self) -> tuple[Any, ...]:
        return (
            *(self.limit, self.count, self.total, self.squares, self.low, self.high),
            *(self.hashes.tobytes(), self.sample.tobytes()),
        )


def _sums(values: np.ndarray) -> tuple[int, int]:
    """Add up values and their squares without rounding, in units of 2**-_SCALE and its square.

    Mantissas are taken apart into whole numbers small enough that float64 holds their products'
    sums, one for each exponent.
    """
    fractions, exponents = np.frexp(values)
    least = int(exponents.min())
    places = exponents - least
    mantissas = (np.abs(fractions) * 2.0**53).astype(np.int64)
    high, low = mantissas >> 27, mantissas & (1 << 27) - 1
    sign = np.sign(fractions)
    total = _joined(least + _SCALE - 53, 1, places, ((27, sign * high), (0, sign * low)))
    a, b, c = (
        part.astype(np.float64)
        for part in (mantissas >> 36, mantissas >> 18 & (1 << 18) - 1, mantissas & (1 << 18) - 1)
    )
    products = ((72, a * a), (54, 2 * a * b), (36, 2 * a * c + b * b), (18, 2 * b * c), (0, c * c))
    return total, _joined(2 * (least + _SCALE - 53), 2, places, products)


def _joined(
    shift: int, step: int, places: np.ndarray, parts: Iterable[tuple[int, np.ndarray]]
) -> int:
    """Add up weights by their places, and these as digits: `step` bits for each place."""
    joined = 0
    for bits, weights in parts:
        for place, digit in enumerate(np.bincount(places, weights).tolist()):
            if digit:
                joined += int(digit) << bits + step * place
    return joined << shift


def _root(numerator: int, denominator: int) -> float:
    """Give the root of a fraction, though it may be too small or too large for a float itself."""
    # An even number of bits, so that about 128 are left to divide.
    shift = (denominator.bit_length() - numerator.bit_length() + 128) // 2 * 2
    scaled = numerator << shift if shift >= 0 else numerator >> -shift
    return math.ldexp(math.isqrt(scaled // denominator), -shift // 2) if numerator else 0.0


Metrics = dict[str, Accumulator]


class Statistics:
    """Statistics of many metrics, of all records and of groups of them.

    Args:
        most: groups of one kind; those that come later by name are `OTHERS` together.
    """

    def __init__(self, most: int = MOST_GROUPS) -> None:
        self.most = most
        self.metrics: Metrics = {}
        self.groups: dict[str, dict[str, Metrics]] = {}

    def add(
        self,
        hashes: np.ndarray,
        metrics: Mapping[str, np.ndarray],
        labels: Mapping[str, Sequence[str | None]],
    ) -> None:
        """Take in records: a few ten thousand at a time is fastest.

        Args:
            hashes: uint64 [N], as `hashes_of` makes them of what names each record.
            metrics: float64 [N] each, by name; NaN where a score is not defined.
            labels: by kind of group, N names of the groups that the records are in; None where a
                record is in no group of that kind.
        """
        # Sorted once, and not for every metric and group.
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        metrics = {name: values[order] for name, values in metrics.items()}
        whole: Metrics = {name: Accumulator.of(values, hashes) for name, values in metrics.items()}
        _merge(self.metrics, whole, SAMPLE)
        for kind, of_records in labels.items():
            groups = self.groups.setdefault(kind, {})
            kept = self._make_room(groups, {name for name in of_records if name is not None})
            for name, places in _places(of_records, kept, order):
                into = groups.setdefault(name, {})
                if len(places) == len(hashes):  # one format, one model: the same again
                    _merge(into, whole, GROUP_SAMPLE)
                    continue
                found = {
                    metric: Accumulator.of(values[places], hashes[places], GROUP_SAMPLE)
                    for metric, values in metrics.items()
                }
                _merge(into, found, GROUP_SAMPLE)

    def merge(self, other: "Statistics") -> None:
        """Take in what another has; that one stays as it is."""
        _merge(self.metrics, other.metrics, SAMPLE)
        for kind, theirs in other.groups.items():
            groups = self.groups.setdefault(kind, {})
            kept = self._make_room(groups, set(theirs))
            for name, metrics in theirs.items():
                into = groups.setdefault(name if name in kept else OTHERS, {})
                _merge(into, metrics, GROUP_SAMPLE)

    def _make_room(self, groups: dict[str, Metrics], more: set[str]) -> set[str]:
        """Say which groups are to be kept, once there are more; move the others out of the way.

        The first by name of all that there will ever be are among the first of those so far, so
        none of them has lost a record to `OTHERS`.
        """
        kept = set(sorted((groups.keys() | more) - {OTHERS})[: self.most])
        for name in groups.keys() - kept - {OTHERS}:
            _merge(groups.setdefault(OTHERS, {}), groups.pop(name), GROUP_SAMPLE)
        return kept

    def to_json(self, kinds: Iterable[str] = ()) -> Json:
        """Give `metrics` and `groups` for JSON, groups and metrics in the order of their names.

        Metrics that no record of a group has are left out of it. `kinds` of group are there though
        no record is in one, and come first.
        """
        return {
            "metrics": _to_json(self.metrics),
            "groups": {
                kind: {
                    name: _to_json(metrics)
                    for name, metrics in sorted(self.groups.get(kind, {}).items())
                }
                for kind in dict.fromkeys([*kinds, *sorted(self.groups)])
            },
        }

    def __getstate__(self) -> Json:
        """Give what is pickled: arrays once that are the same, as hashes are of metrics of the same
        records; and of groups, whose records are among all records, which of these they are.
        """
        known: dict[tuple[str, bytes], np.ndarray] = {}

        def once(array: np.ndarray) -> np.ndarray:
            return known.setdefault((array.dtype.str, array.tobytes()), array)

        def packed(held: Accumulator, whole: Accumulator) -> tuple[Accumulator, Any]:
            places = _among(held, whole)
            if places is None:
                return held, None
            without = replace(held, hashes=once(_no_hashes()), sample=once(_no_values()))
            return without, once(places)

        for held in self.metrics.values():
            held.hashes = once(held.hashes)
        return {
            **vars(self),
            "groups": {
                kind: {
                    name: {
                        metric: packed(held, self.metrics[metric])
                        for metric, held in metrics.items()
                    }
                    for name, metrics in groups.items()
                }
                for kind, groups in self.groups.items()
            },
        }

    def __setstate__(self, state: Json) -> None:
        vars(self).update(state)

        def unpacked(held: Accumulator, places: Any, whole: Accumulator) -> Accumulator:
            if places is not None:
                held.hashes, held.sample = whole.hashes[places], whole.sample[places]
            return held

        self.groups = {
            kind: {
                name: {
                    metric: unpacked(held, places, self.metrics[metric])
                    for metric, (held, places) in metrics.items()
                }
                for name, metrics in groups.items()
            }
            for kind, groups in state["groups"].items()
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Statistics) and (
            (self.most, self.metrics, self.groups) == (other.most, other.metrics, other.groups)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes


def _merge(into: Metrics, more: Metrics, limit: int) -> None:
    for name, held in more.items():
        if name in into:
            into[name].merge(held)
        elif held.count:
            into[name] = held.copy(limit)


def _among(held: Accumulator, whole: Accumulator) -> np.ndarray | None:
    """Give where in a larger sample each value of another is, uint16 [K]; None if one is not."""
    places = np.searchsorted(whole.hashes, held.hashes)
    if len(places) and places[-1] >= len(whole.hashes):
        return None
    there = whole.hashes[places] == held.hashes
    same = there.all() and np.array_equal(whole.sample[places], held.sample)
    return places.astype(np.uint16) if same else None


def _to_json(metrics: Metrics) -> Json:
    return {name: held.to_json() for name, held in sorted(metrics.items())}


def _places(
    labels: Sequence[str | None], kept: set[str], order: np.ndarray
) -> Iterable[tuple[str, np.ndarray]]:
    """Give for each group the places of its records, in rising order, once all are in `order`."""
    names: dict[str | None, int] = {None: 0}
    codes = np.fromiter((names.setdefault(name, len(names)) for name in labels), np.int64)[order]
    groups: dict[str, list[int]] = {}
    for name, code in names.items():
        if name is not None:
            groups.setdefault(name if name in kept else OTHERS, []).append(code)
    by_code = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    for name, members in groups.items():
        parts = [by_code[ends[code - 1] : ends[code]] for code in members]
        yield name, parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
