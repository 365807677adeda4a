"""What the agent chooses by the traffic: on a simulated host it ends, within bounds, and does not go to and fro."""

from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from msgspec import structs

from tuners.adaptive import LOOKS, Look, Step, decide, look
from tuners.auto import Bounds
from tuners.measure import Reading
from wire.facts import Ethtool
from wire.measure import Objective

CPUS = 8


class Load(NamedTuple):
    """Traffic offered: packets a second, packets in a burst, flows to spread, CPU time of a packet and an interrupt."""

    packets_per_s: float
    burst: float = 100.0
    flows: int = 64
    packet_us: float = 2.0
    wakeup_us: float = 4.0


class Host:
    """A NIC whose queues, ring and moderation decide what its CPUs and its buffers do with a load."""

    def __init__(self, load: Load, *, queues: int = 1, ring: int = 256, usecs: int = 0, seed: int = 0) -> None:
        self.load = load
        self.fact = Ethtool(
            key="nic",
            ifname="eth0",
            ifindex=2,
            channels={"combined": queues, "combined_max": CPUS},
            rings={"rx": ring, "rx_max": 4096, "tx": ring, "tx_max": 4096},
            coalesce={"rx_usecs": usecs, "use_adaptive_rx": False},
        )
        self.useless: list[str] = []
        self.taken: list[str] = []
        self.refused = 0
        self._dice = Random(seed)  # noqa: S311 - noise, always the same

    def look(self, *, noise: float = 0.05) -> Look:
        load = self.load._replace(packets_per_s=self.load.packets_per_s * (1 + self._dice.uniform(-noise, noise)))
        busy = self._busy(load)
        used = min(self._queues, load.flows)
        each = min(1.0, busy / used)
        lost = max(0.0, 1 - int(self.fact.rings["rx"]) / load.burst) if load.burst else 0.0
        wakeups = self._wakeups(load)
        return Look(load.packets_per_s, lost + max(0.0, busy / used - 1), each, each * used / CPUS, wakeups)

    @property
    def _queues(self) -> int:
        return self.fact.channels["combined"]

    def _wakeups(self, load: Load) -> float:
        each = load.packets_per_s / self._queues
        usecs = int(self.fact.coalesce["rx_usecs"])
        return self._queues * min(each, 1e6 / usecs if usecs else each)

    def _busy(self, load: Load) -> float:
        return (load.packets_per_s * load.packet_us + self._wakeups(load) * load.wakeup_us) / 1e6

    def cost(self) -> float:
        """CPU time per packet that is not lost."""
        seen = self.look(noise=0.0)
        delivered = seen.packets_per_s * max(0.01, 1 - seen.lost)
        return min(self._busy(self.load), self._queues) * (1 + 0.01 * self._queues) / delivered

    def turn(self, bounds: Bounds) -> Step | None:
        """Look, decide, try, and keep it where a measurement finds it better by more than its noise."""
        step = decide([self.look() for _ in range(LOOKS)], self.fact, bounds, lambda one: str(one[:2]) in self.useless)
        if step is None:
            return None
        before = self.cost()
        old = self._set(step)
        gain = before / self.cost() - 1 + self._dice.gauss(0, 0.01)
        if gain > 0.03:
            self.taken.append(str(step[:2]))
        else:
            self.refused += 1
            self.useless.append(str(step[:2]))
            self.fact = old
        return step

    def _set(self, step: Step) -> Ethtool:
        old = self.fact
        values = {name: value for name, value in step.values.items() if name != "adaptive_rx"}
        self.fact = structs.replace(old, **{step.knob: {**getattr(old, step.knob), **values}})
        return old


def within(host: Host, bounds: Bounds) -> bool:
    return (
        bounds.queues_min <= host.fact.channels["combined"] <= min(bounds.queues_max, CPUS)
        and host.fact.rings["rx"] <= min(bounds.rings_max, 4096)
        and int(host.fact.coalesce["rx_usecs"]) <= bounds.usecs_max
    )


def settle(host: Host, bounds: Bounds, turns: int = 60) -> int:
    """Turns until ten in a row changed nothing."""
    quiet = 0
    for number in range(turns):
        quiet = 0 if host.turn(bounds) else quiet + 1
        assert within(host, bounds), host.fact
        if quiet == 10:
            return number - 9
    raise AssertionError(f"no end: {host.taken[-8:]}, {host.useless[-8:]}")


def test_one_hot_queue_becomes_several() -> None:
    host = Host(Load(700_000), usecs=50)
    settle(host, Bounds())
    assert host.fact.channels["combined"] >= 2
    assert host.look().busiest < 0.9


def test_bursts_get_a_ring_that_holds_them() -> None:
    host = Host(Load(50_000, burst=1500), queues=2, usecs=50)
    settle(host, Bounds(usecs_max=50))
    assert host.fact.rings["rx"] == 2048


def test_many_interrupts_are_made_fewer() -> None:
    host = Host(Load(100_000), queues=2)
    settle(host, Bounds())
    assert int(host.fact.coalesce["rx_usecs"]) >= 16


def test_latency_is_never_bought_with_waiting() -> None:
    host = Host(Load(100_000), queues=2)
    settle(host, Bounds(objective=Objective.LATENCY))
    assert host.fact.coalesce["rx_usecs"] == 0
    waiting = Host(Load(1_000), queues=2, usecs=50)
    step = decide([waiting.look()] * LOOKS, waiting.fact, Bounds(objective=Objective.LATENCY), lambda _: False)
    assert step is not None
    assert step[:2] == ("coalesce", {"rx_usecs": 32})


def test_without_load_or_agreement_nothing_is_tried() -> None:
    busy = Host(Load(400_000)).look()
    idle, fact = busy._replace(packets_per_s=10.0), Host(Load(1)).fact
    assert decide([busy] * (LOOKS - 1), fact, Bounds(), lambda _: False) is None
    assert decide([busy, idle, busy], fact, Bounds(), lambda _: False) is None
    calm = busy._replace(busiest=0.5, wakeups_per_s=10.0, lost=0.0)
    assert decide([busy, calm, busy], fact, Bounds(), lambda _: False) is None
    assert decide([idle] * LOOKS, fact, Bounds(), lambda _: False) is None


@pytest.mark.parametrize("channels", [{}, {"rx": 1, "rx_max": 8, "tx": 1, "tx_max": 4}])
def test_queues_are_counted_as_the_driver_does(channels: dict[str, int]) -> None:
    fact = Ethtool(key="a", ifname="a", ifindex=1, channels=channels)
    hot = Look(1e5, 0.0, 0.99, 0.2, 1000.0)
    step = decide([hot] * LOOKS, fact, Bounds(), lambda _: False)
    assert (step and step.values) == ({"rx": 2, "tx": 2} if channels else None)


@hypothesis(max_examples=150, deadline=None)
@given(
    load=st.builds(
        Load,
        packets_per_s=st.floats(200, 3e6),
        burst=st.floats(0, 8000),
        flows=st.integers(1, 64),
        packet_us=st.floats(0.1, 10),
        wakeup_us=st.floats(0, 20),
    ),
    queues=st.integers(1, CPUS),
    ring=st.sampled_from([64, 256, 512, 4096]),
    usecs=st.sampled_from([0, 3, 8, 50, 80]),
    objective=st.sampled_from(Objective),
    limits=st.tuples(st.integers(1, CPUS), st.integers(1, CPUS), st.sampled_from([512, 4096, 9000])),
    seed=st.integers(0, 99),
)
def test_it_ends_within_bounds_whatever_the_load(
    *, load: Load, queues: int, ring: int, usecs: int, objective: Objective, limits: tuple[int, int, int], seed: int
) -> None:
    low, high = sorted(limits[:2])
    bounds = Bounds(low, high, limits[2], 80, objective)
    host = Host(load, queues=min(max(queues, low), high), ring=min(ring, limits[2]), usecs=usecs, seed=seed)
    settle(host, bounds)
    assert host.refused <= 16, "each thing is tried in vain once"


def test_a_load_that_comes_and_goes_does_not_make_it_go_to_and_fro() -> None:
    host, bounds = Host(Load(700_000), usecs=50), Bounds()
    for number in range(40):
        host.load = Load(700_000 if number % 2 else 20_000)
        for _ in range(10):
            host.turn(bounds)
    host.taken.clear()
    refused = host.refused
    for number in range(20):
        host.load = Load(700_000 if number % 2 else 20_000)
        for _ in range(10):
            host.turn(bounds)
    assert len(host.taken) <= 20, f"at most one step for each change of the load: {host.taken}"
    assert host.refused == refused, "what did not help is not tried again"


def test_a_look_is_what_happened_between_two_readings() -> None:
    first = Reading(10.0, 1000, 0, 5, 0.0, {0: 1.0, 1: 1.0}, 0, 100, 0, 0)
    last = Reading(20.0, 11_000, 0, 15, 0.0, {0: 6.0, 1: 2.0}, 0, 2100, 0, 0)
    assert look(first, last) == Look(1000.0, 1e-3, 0.5, 0.3, 200.0)
