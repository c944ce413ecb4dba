"""Statistics are the same of any partition of the data in any order, and what textbooks say."""

import math
import pickle
import statistics
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from pipeline.statistics import (
    GROUP_SAMPLE,
    MOST_GROUPS,
    OTHERS,
    QUANTILES,
    SAMPLE,
    Accumulator,
    Statistics,
    hashes_of,
)

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


def hashes(count: int, start: int = 0) -> np.ndarray:
    return hashes_of(b"%d" % number for number in range(start, start + count))


def accumulated(*values: float) -> Accumulator:
    return Accumulator.of(np.array(values), hashes(len(values)))


def test_what_is_told_of_five_values_is_what_a_hand_finds():
    found = accumulated(2, 4, 4, 5, 10).to_json()
    assert (found["count"], found["mean"], found["min"], found["max"]) == (5, 5, 2, 10)
    assert found["std"] == 3.0  # the squares of -3 -1 -1 0 5 are 36, a quarter is 9
    assert found["quantiles"] == {"0.05": 2.4, "0.25": 4, "0.5": 4, "0.75": 5, "0.95": 9}
    # 2.776 is what tables have for four degrees of freedom: 5 -+ 2.776 * 3 / sqrt(5)
    assert found["ci95"] == pytest.approx([1.2756, 8.7244], abs=2e-3)


def test_of_nothing_and_of_one_value_only_that_is_told_which_is_defined():
    nothing = Accumulator.of(np.array([math.nan, math.inf, -math.inf]), hashes(3)).to_json()
    assert nothing.pop("count") == 0
    assert nothing.pop("quantiles") == dict.fromkeys(map(str, QUANTILES))
    assert set(nothing.values()) == {None}
    one = accumulated(7.5).to_json()
    assert (one["mean"], one["min"], one["max"], one["std"], one["ci95"]) == (7.5,) * 3 + (
        None,
    ) * 2
    assert set(one["quantiles"].values()) == {7.5}


@given(st.lists(finite, min_size=2, max_size=50))
def test_sums_are_exact(values):
    found = accumulated(*values)
    mean = sum(map(Fraction, values)) / len(values)
    assert found.mean == float(mean)
    assert found.std == pytest.approx(statistics.stdev(values), rel=3e-16, abs=5e-324)
    assert (found.low, found.high) == (min(values), max(values))


def test_a_small_spread_about_a_large_mean_is_not_lost():
    values = 1e9 + np.random.default_rng(1).normal(0, 1e-3, 1000)  # squares need 36 digits
    assert accumulated(*values).std == pytest.approx(statistics.stdev(values.tolist()), rel=1e-15)


def test_statistics_are_those_of_numpy_and_scipy():
    values = np.random.default_rng(2).gamma(2, 3, 20_000)
    found = Accumulator.of(values, hashes(len(values)))
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.std == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert found.quantiles() == pytest.approx(np.quantile(values, QUANTILES), rel=1e-15)
    interval = scipy.stats.t.interval(0.95, len(values) - 1, values.mean(), scipy.stats.sem(values))
    assert found.ci95 == pytest.approx(interval, rel=1e-12)


def test_the_interval_of_paired_differences_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(3)
    one = rng.normal(30, 4, 60)
    other = one + rng.normal(0.3, 0.5, 60)
    found = Accumulator.of(other - one, hashes(60))
    expected = scipy.stats.ttest_rel(other, one).confidence_interval(0.95)
    assert found.ci95 == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_the_interval_holds_the_mean_of_19_in_20_samples():
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(1000):
        low, high = accumulated(*rng.normal(5, 2, 8)).ci95
        held += low <= 5 <= high
    assert 930 <= held <= 970  # 950 give or take three standard deviations


@st.composite
def partitions(draw):
    """Values, the pieces that they are cut into, and an order to merge these in."""
    values = draw(st.lists(st.one_of(finite, st.just(math.nan)), min_size=1, max_size=60))
    ends = sorted(draw(st.lists(st.integers(0, len(values)), max_size=6)))
    places = draw(st.permutations(range(len(values))))
    pieces = np.split(np.array(places), ends)
    return np.array(values), draw(st.permutations(pieces))


@given(partitions(), st.sampled_from([1, 7, 100]))
def test_any_partition_in_any_order_has_the_same_statistics(partition, limit):
    values, pieces = partition
    names = hashes(len(values))
    whole = Accumulator.of(values, names, limit)
    merged, chained = Accumulator(limit), Accumulator(limit)
    for piece in pieces:
        merged.merge(Accumulator.of(values[piece], names[piece], limit))
        chained.add(values[piece], names[piece])
    assert merged == whole == chained
    assert merged.to_json() == whole.to_json()


labels = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "c", "d", "e"]), st.sampled_from(["x", "y"])),
    min_size=1,
    max_size=40,
)


@given(labels, st.data(), st.sampled_from([1, 2, 64]))
def test_groups_are_the_same_of_any_partition_however_few_are_kept(of_records, data, most):
    count = len(of_records)
    names, scores = hashes(count), {"psnr": np.arange(count, dtype=float)}
    if data.draw(st.booleans()):
        scores["ssim"] = np.where(np.arange(count) % 3, np.nan, 0.5)

    def fold(places):
        made = Statistics(most)
        kinds = {
            kind: [of_records[place][number] for place in places]
            for number, kind in enumerate(("folder", "format"))
        }
        made.add(names[places], {name: score[places] for name, score in scores.items()}, kinds)
        return made

    cut = data.draw(st.integers(0, count))
    order = np.array(data.draw(st.permutations(range(count))))
    left, right = fold(order[:cut]), fold(order[cut:])
    left.merge(pickle.loads(pickle.dumps(right)))
    assert left == fold(np.arange(count))
    by_hand = {
        group: [number for number, (folder, _) in enumerate(of_records) if folder == group]
        for group in sorted({folder for folder, _ in of_records} - {None})[:most]
    }
    found = left.groups["folder"]
    assert found.keys() - {OTHERS} == by_hand.keys()
    for group, numbers in by_hand.items():
        assert found[group]["psnr"].count == len(numbers)
        assert found[group]["psnr"].mean == np.mean(numbers)
    everyone = sum(metrics["psnr"].count for metrics in found.values())
    assert everyone == sum(folder is not None for folder, _ in of_records)


def test_groups_beyond_the_most_are_one():
    count = 3 * MOST_GROUPS
    found = Statistics()
    for number in reversed(range(count)):
        found.add(
            hashes(1, number), {"mse": np.array([1.0 * number])}, {"folder": [f"{number:04}"]}
        )
    told = found.to_json()["groups"]["folder"]
    assert list(told) == [OTHERS, *(f"{number:04}" for number in range(MOST_GROUPS))]
    assert told[OTHERS]["mse"]["count"] == 2 * MOST_GROUPS
    assert told[OTHERS]["mse"]["mean"] == np.mean(range(MOST_GROUPS, count))
    assert told["0003"]["mse"]["mean"] == 3


DISTRIBUTIONS = {
    "normal": lambda rng, count: rng.normal(30, 4, count),
    "rising with the keys": lambda rng, count: np.arange(count) / count,
    "heavy tails": lambda rng, count: rng.standard_cauchy(count),
    "two far ends": lambda rng, count: rng.choice([-1.0, 1.0], count) * rng.lognormal(3, 2, count),
    "few values": lambda rng, count: rng.integers(0, 256, count) / 255,
}


@pytest.fixture(scope="module")
def million():
    return hashes(1_000_000)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_quantiles_of_a_million_values_are_within_one_percent_of_their_rank(name, million):
    count = len(million)
    shares = np.linspace(0.01, 0.99, 99)
    values = DISTRIBUTIONS[name](np.random.default_rng(5), count)
    ordered = np.sort(values)
    for limit, error in ((SAMPLE, 0.01), (GROUP_SAMPLE, 0.04)):
        quantiles = Accumulator.of(values, million, limit).quantiles(shares)
        # Where values repeat, a quantile has a range of ranks.
        low = np.searchsorted(ordered, quantiles, "left") / count
        high = np.searchsorted(ordered, quantiles, "right") / count
        assert np.maximum(low - shares, shares - high).max() < error


def test_a_million_values_take_less_than_10_mb(million):
    values = np.random.default_rng(6).normal(30, 4, len(million))
    found = Accumulator()
    tracemalloc.start()
    for start in range(0, len(values), 50_000):
        found.add(values[start : start + 50_000], million[start : start + 50_000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
    assert len(pickle.dumps(found)) < 17 * SAMPLE  # what is sent from worker to worker


def test_groups_add_little_to_what_is_sent_from_worker_to_worker(million):
    count, metrics, kinds = 2000, 20, 5
    rng = np.random.default_rng(7)
    found = Statistics()
    found.add(
        million[:count],
        {f"metric {number}": rng.normal(30, 4, count) for number in range(metrics)},
        {
            f"kind {kind}": [str(number % (kind + 1)) for number in range(count)]
            for kind in range(kinds)
        },
    )
    sent = pickle.dumps(found)
    assert pickle.loads(sent) == found
    groups = sum(range(1, kinds + 1))
    sums = 550 * metrics * (1 + groups)  # whole numbers of 1126 and 2252 bits, and more
    assert len(sent) < count * (8 * (metrics + 1) + 2 * kinds) + sums


def test_values_of_a_group_that_are_no_longer_among_all_are_sent(million):
    count = 2 * SAMPLE
    found = Statistics()
    scores = {"psnr": np.random.default_rng(8).normal(30, 4, count)}
    found.add(million[:count], scores, {"folder": [str(number % 100) for number in range(count)]})
    assert pickle.loads(pickle.dumps(found)) == found
