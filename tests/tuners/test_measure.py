"""What windows say: nothing without load, nothing within noise, and what is better or worse beyond it."""

import math
from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuners.measure import (
    LOST_US,
    METRICS,
    OF,
    Reading,
    Window,
    difference,
    judge,
    kept,
    percentile,
    told,
    window,
)
from wire.measure import Keep, Measure, Objective, Verdict

FIRST = Reading(100.0, 5_000, 1_000_000, 7, 40.0, {0: 10.0, 1: 20.0}, 3, 900, 400, 4)
VALUES = {
    "bits_per_cpu": 1e9,
    "packets_per_softirq": 1e5,
    "cpu_per_packet": 10.0,
    "rtt": 200.0,
    "lost": 0.0,
    "squeezed": 0.0,
    "imbalance": 1.2,
    "wakeups": 0.5,
    "resent": 0.0,
}


def side(
    values: Mapping[str, float] | None = None,
    *,
    count: int = 3,
    load: float = 1000.0,
    noise: float = 0.0,
    seed: int = 0,
) -> list[Window]:
    """Windows that differ by a normal noise (a share) in every value."""
    dice = Random(seed)  # noqa: S311 - noise, always the same
    made = VALUES | dict(values or {})
    return [
        Window(load, load * 8000, {name: value * math.exp(dice.gauss(0, noise)) for name, value in made.items()})
        for _ in range(count)
    ]


def rule(objective: Objective = Objective.BALANCED) -> Measure:
    return Measure(objective=objective)


def better(objective: Objective, factor: float) -> dict[str, float]:
    """The objective's value when it is better by that factor."""
    name = OF[objective]
    return {name: VALUES[name] * factor if METRICS[name].higher else VALUES[name] / factor}


def test_a_window_is_what_happened_between_two_readings() -> None:
    last = Reading(110.0, 25_000, 6_000_000, 9, 44.0, {0: 11.0, 1: 23.0}, 8, 10_900, 1_400, 14, (100.0, 300.0, 200.0))
    found = window(FIRST, last)
    assert found.load == 2000
    assert found.bits == 4e6
    assert found.values == {
        "bits_per_cpu": 1e7,
        "packets_per_softirq": 5000,
        "cpu_per_packet": 200,
        "rtt": 300,
        "lost": 1e-4,
        "squeezed": 2.5e-4,
        "imbalance": 1.5,
        "wakeups": 0.5,
        "resent": 0.01,
    }


def test_what_stood_still_is_no_measure() -> None:
    assert window(FIRST, FIRST._replace(at_s=110.0)).values == {}


def test_counters_that_began_anew_are_no_measure() -> None:
    again = window(FIRST, FIRST._replace(at_s=110.0, packets=9_000, lost=0))
    assert "lost" not in again.values


@pytest.mark.parametrize(("share", "expected"), [(0.99, 99), (0.5, 50), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile(range(1, 101), share) == expected
    assert percentile([], share) is None


@pytest.mark.parametrize("objective", Objective)
@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.3, Verdict.IMPROVED), (1.0, Verdict.NO_EFFECT), (1 / 1.3, Verdict.WORSE)]
)
def test_the_objective_decides_whichever_way_is_better(objective: Objective, factor: float, verdict: Verdict) -> None:
    before = side(noise=0.01, seed=1)
    found = judge(before, side(better(objective, factor), noise=0.01, seed=2), rule(objective))
    assert found.verdict is verdict, told(found)
    assert found.gain == pytest.approx(factor - 1, abs=0.05)
    assert (found.before, found.after) != (0, 0)


@given(load=st.floats(0, 99), factor=st.floats(0.01, 100), objective=st.sampled_from(Objective), which=st.booleans())
def test_without_load_nothing_is_ever_improved(load: float, factor: float, objective: Objective, which: bool) -> None:
    after = side(better(objective, factor), load=load if which else 1000)
    found = judge(side(load=1000 if which else load), after, rule(objective))
    assert found.verdict is Verdict.UNPROVEN
    assert "no load" in found.reason


def test_other_traffic_than_before_proves_nothing() -> None:
    found = judge(side(load=1000), side(better(Objective.PPS, 2), load=3500), rule(Objective.PPS))
    assert found.verdict is Verdict.UNPROVEN
    assert "1000 packets/s before, 3500 after" in found.reason


def test_fewer_and_larger_packets_are_the_same_load() -> None:
    large = [each._replace(load=each.load * 5) for each in side(better(Objective.THROUGHPUT, 2))]
    assert judge(side(), large, rule(Objective.THROUGHPUT)).verdict is Verdict.IMPROVED


def test_a_metric_that_could_not_be_taken_proves_nothing() -> None:
    blind = [Window(each.load, each.bits, {}) for each in side()]
    assert judge(side(), blind, rule(Objective.LATENCY)).verdict is Verdict.UNPROVEN
    assert judge(side(count=2), side(count=2), rule()).verdict is Verdict.UNPROVEN
    assert judge([], [], rule()).verdict is Verdict.UNPROVEN


@pytest.mark.parametrize(
    ("guard", "value"),
    [("lost", 0.01), ("squeezed", 0.01), ("imbalance", 2.0), ("resent", 0.02), ("wakeups", 2.0), ("rtt", LOST_US)],
)
def test_a_guard_that_is_worse_outweighs_a_better_objective(guard: str, value: float) -> None:
    after = side(better(Objective.BALANCED, 1.5) | {guard: value})
    found = judge(side(), after, rule())
    assert found.verdict is Verdict.WORSE
    assert METRICS[guard].unit in found.reason


def test_what_an_objective_is_bought_with_guards_nothing() -> None:
    after = side(better(Objective.LATENCY, 1.5) | {"wakeups": 5.0})
    assert judge(side(), after, rule(Objective.LATENCY)).verdict is Verdict.IMPROVED
    after = side(better(Objective.PPS, 1.5) | {"rtt": 900.0})
    assert judge(side(), after, rule(Objective.PPS)).verdict is Verdict.IMPROVED


def rate(trials: int, *, factor: float = 1.0, drift: float = 0.0, interleaved: bool = False) -> dict[Verdict, float]:
    """Share of each verdict over many pairs of three windows with 5 % noise; `drift` is a share per window."""
    found = dict.fromkeys(Verdict, 0.0)
    for seed in range(trials):
        row = side(count=6, noise=0.05, seed=seed)
        before, after = (row[::2], row[1::2]) if interleaved else (row[:3], row[3:])
        steps = {id(each): math.exp(drift * at) for at, each in enumerate(row)}
        old, new = _scaled(before, steps, 1.0), _scaled(after, steps, 1 / factor)
        found[judge(old, new, rule(), interleaved=interleaved).verdict] += 1 / trials
    return found


def _scaled(windows: Sequence[Window], steps: dict[int, float], factor: float) -> list[Window]:
    name = "cpu_per_packet"
    return [each._replace(values={name: each.values[name] * steps[id(each)] * factor}) for each in windows]


def test_chance_alone_is_seldom_taken_for_an_effect() -> None:
    found = rate(2000)
    assert found[Verdict.IMPROVED] < 0.05, found
    assert found[Verdict.NO_EFFECT] > 0.9, found


def test_a_large_effect_is_found_in_noise() -> None:
    assert rate(500, factor=1.3)[Verdict.IMPROVED] > 0.9


def test_interleaved_windows_do_not_take_drift_for_an_effect() -> None:
    assert rate(500, drift=0.05)[Verdict.WORSE] > 0.3, "blocks do: that is why what is safe is interleaved"
    found = rate(2000, drift=0.05, interleaved=True)
    assert found[Verdict.IMPROVED] < 0.06, found
    assert found[Verdict.WORSE] < 0.06, found
    assert rate(500, drift=0.05, factor=1.5, interleaved=True)[Verdict.IMPROVED] > 0.9


@given(
    base=st.floats(-100, 100),
    slope=st.floats(-10, 10),
    step=st.floats(-50, 50),
    count=st.integers(3, 8),
)
def test_an_even_drift_is_wholly_taken_out(base: float, slope: float, step: float, count: int) -> None:
    before = [base + slope * 2 * at for at in range(count)]
    after = [base + slope * (2 * at + 1) + step for at in range(count)]
    found = difference(before, after, interleaved=True)
    assert found.mean == pytest.approx(step, abs=1e-6)
    assert found.sigma == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("keep", "stays"),
    [
        (Keep.BETTER, {Verdict.IMPROVED}),
        (Keep.NOT_WORSE, set(Verdict) - {Verdict.WORSE}),
        (Keep.ALWAYS, set(Verdict)),
    ],
)
def test_what_stays_is_the_policys_choice(keep: Keep, stays: set[Verdict]) -> None:
    found = judge(side(), side(), rule())
    assert {one for one in Verdict if kept(type(found)(verdict=one, objective=found.objective), keep)} == stays
