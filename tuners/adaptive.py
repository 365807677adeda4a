"""Which one step the traffic asks for: from windows of it, what is set, bounds and what did not help before. Pure.

A step is taken only when every window of several says the same, opposite steps have thresholds far apart, and what did
not help is not proposed again: so it ends, at a setting that stands while the traffic stays as it is.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tuners.auto import Bounds, counted
from tuners.measure import LEAST_PACKETS, Reading
from wire.facts import Ethtool
from wire.measure import Objective
from wire.policy import Values

LOOKS = 3  # windows that have to agree
MANY_LOST = 1e-4  # of the packets: more descriptors
HOT, COOL = 0.8, 0.2  # softirq share of the busiest CPU: more queues above, fewer below
UNEVEN = 2.0  # busiest over the mean: more queues help only where other CPUs have time
CALM_PER_QUEUE = 20_000.0  # receive softirqs a second and queue: wait longer above (tuning by interrupt rate)
USECS = (0, 8, 16, 32, 50, 80, 125, 250)


class Look(NamedTuple):
    """One window of one NIC's traffic, and of the CPUs."""

    packets_per_s: float
    lost: float  # share of the packets
    busiest: float  # softirq share of the busiest CPU's time
    mean: float  # of all CPUs
    wakeups_per_s: float


class Step(NamedTuple):
    """One change to try, and why."""

    knob: str
    values: Values
    reason: str


def look(first: Reading, last: Reading) -> Look:
    """What a window says; both readings are of one NIC."""
    seconds = max(last.at_s - first.at_s, 1e-3)
    packets = last.packets - first.packets
    shares = [(spent - first.softirq_s.get(cpu, 0.0)) / seconds for cpu, spent in last.softirq_s.items()] or [0.0]
    return Look(
        packets / seconds,
        max(0, last.lost - first.lost) / packets if packets > 0 else 0.0,
        max(shares),
        sum(shares) / len(shares),
        (last.wakeups - first.wakeups) / seconds,
    )


def decide(looks: Sequence[Look], fact: Ethtool, bounds: Bounds, useless: Callable[[Step], bool]) -> Step | None:
    """The next step; None without load, when the windows do not agree, or when nothing is left to try.

    `useless` says what did not help before, or cannot be done.
    """
    seen = looks[-LOOKS:]
    if len(seen) < LOOKS or any(each.packets_per_s < LEAST_PACKETS for each in seen):
        return None
    steps = (step for rule in _RULES for step in rule(seen, fact, bounds))
    return next((step for step in steps if not useless(step)), None)


def _larger_ring(seen: Sequence[Look], fact: Ethtool, bounds: Bounds) -> list[Step]:
    now, most = fact.rings.get("rx", 0), min(fact.rings.get("rx_max", 0), bounds.rings_max)
    if not now or now >= most or any(each.lost < MANY_LOST for each in seen):
        return []
    share = min(each.lost for each in seen)
    return [Step("rings", {"rx": min(2 * now, most)}, f"{share:.2%} of the packets are lost for want of descriptors")]


def _more_queues(seen: Sequence[Look], fact: Ethtool, bounds: Bounds) -> list[Step]:
    if any(each.busiest < HOT or each.busiest < UNEVEN * each.mean for each in seen):
        return []
    return _queues(fact, bounds, 2.0, f"one CPU is {seen[-1].busiest:.0%} busy with packets, others are not")


def _fewer_queues(seen: Sequence[Look], fact: Ethtool, bounds: Bounds) -> list[Step]:
    if bounds.objective is Objective.LATENCY or any(each.busiest > COOL for each in seen):
        return []
    return _queues(fact, bounds, 0.5, f"the busiest CPU is only {seen[-1].busiest:.0%} busy with packets")


def _queues(fact: Ethtool, bounds: Bounds, times: float, reason: str) -> list[Step]:
    values: Values = {}
    for name in counted(fact):
        now, most = fact.channels.get(name, 0), min(fact.channels.get(f"{name}_max", 0), bounds.queues_max)
        wanted = max(min(int(now * times), most), min(bounds.queues_min, most), 1)
        if (wanted - now) * (times - 1) > 0:
            values[name] = wanted
    return [Step("channels", values, reason)] if values else []


def _calmer(seen: Sequence[Look], fact: Ethtool, bounds: Bounds) -> list[Step]:
    queues = max(1, fact.channels.get("combined", 0) + fact.channels.get("rx", 0))
    rate = min(each.wakeups_per_s for each in seen) / queues
    if bounds.objective is Objective.LATENCY or rate < CALM_PER_QUEUE or fact.coalesce.get("use_adaptive_rx"):
        return []
    now = int(fact.coalesce.get("rx_usecs", bounds.usecs_max))
    longer = [usecs for usecs in USECS if now < usecs <= bounds.usecs_max]
    reason = f"{rate:.0f} interrupts a second and queue"
    return [Step("coalesce", {"rx_usecs": usecs}, reason) for usecs in longer]


def _prompter(seen: Sequence[Look], fact: Ethtool, bounds: Bounds) -> list[Step]:
    if bounds.objective is not Objective.LATENCY or any(each.busiest > HOT / 2 for each in seen):
        return []
    reason = "packets wait, and CPUs have time"
    if fact.coalesce.get("use_adaptive_rx"):
        shorter = [usecs for usecs in USECS if usecs <= min(8, bounds.usecs_max)]
        return [Step("coalesce", {"adaptive_rx": False, "rx_usecs": shorter[-1]}, reason)]
    now = int(fact.coalesce.get("rx_usecs", 0))
    return [Step("coalesce", {"rx_usecs": usecs}, reason) for usecs in reversed(USECS) if usecs < now]


_RULES = (_larger_ring, _more_queues, _prompter, _calmer, _fewer_queues)
