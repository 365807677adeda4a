"""The agent chooses queues, rings and moderation by the traffic it sees, within bounds; only the bounds are planned.

What lies within them is nobody's drift: `tuners.adaptive` picks the steps, and each is a transaction that is measured.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import structs

from tuners import channels, rings
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, skip, whole
from wire.facts import Ethtool
from wire.measure import Objective
from wire.policy import Blast, Change, Request, Setting, Values

NAME = "auto"
ABOUT = About(
    stage=Stage.SHAPE,
    what="queues, rings and moderation by the traffic, one measured step at a time",
    interface="as channels, rings, coalesce",
    unit="queues, descriptors, µs",
    undo="as channels, rings, coalesce",
    blast=Blast.LINK,
    facts=("nic", "ethtool", "rss", "ntuple"),
    recreates=True,
    quirks="what moves a driver by itself (adaptive moderation) is left to it",
)
VALUES: dict[str, Spec] = {
    "objective": Spec(str, "what is to get better", words=tuple(Objective)),
    "queues_min": Spec(int, "queues", 1, 8192),
    "queues_max": Spec(int, "queues", 1, 8192),
    "rings_max": Spec(int, "descriptors", 1, 65536),
    "usecs_max": Spec(int, "µs that the agent may go up to", 0, 65535),
}
OWNS = ("channels", "rings", "coalesce")  # knobs that have no say where this one chooses
_UNBOUND = 1 << 30


class Bounds(NamedTuple):
    """How far the agent may go."""

    queues_min: int = 1
    queues_max: int = _UNBOUND
    rings_max: int = _UNBOUND
    usecs_max: int = 80  # ice README: to save CPU
    objective: Objective = Objective.BALANCED


def bounds(values: Values) -> Bounds:
    """The bounds of a setting; a minimum over the maximum is the maximum."""
    most = whole(values, "queues_max", _UNBOUND)
    return Bounds(
        min(whole(values, "queues_min", 1), most),
        most,
        whole(values, "rings_max", _UNBOUND),
        whole(values, "usecs_max", 80),
        Objective(str(values.get("objective", Objective.BALANCED))),
    )


def counted(fact: Ethtool) -> tuple[str, ...]:
    """How the driver counts its queues: ("combined",), or ("rx", "tx"), or nothing when it cannot."""
    if fact.channels.get("combined_max"):
        return ("combined",)
    return ("rx", "tx") if fact.channels.get("rx_max") and fact.channels.get("tx_max") else ()


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """The changes that bring what is out of bounds to the nearest bound."""
    for setting in settings:
        fact = facts.ethtool.get(setting.nic)
        if fact is None:
            yield skip(setting, facts.nics[setting.nic].ifname, "unsupported by the driver")
            continue
        for wanted in outside(setting, fact):
            planner = channels.plan if wanted.knob == "channels" else rings.plan
            for step in planner([wanted], facts):
                yield structs.replace(step, knob=NAME)


def outside(setting: Setting, fact: Ethtool) -> list[Setting]:
    """What would have to be set for nothing to be out of bounds."""
    limits = bounds(setting.values)
    found: dict[str, Values] = {}
    for name in counted(fact):
        now, most = fact.channels.get(name, 0), fact.channels.get(f"{name}_max", 0)
        allowed = min(max(now, limits.queues_min), limits.queues_max, most)
        if now and allowed != now:
            found.setdefault("channels", {})[name] = allowed
    for name in ("rx", "tx"):
        if fact.rings.get(name, 0) > limits.rings_max:
            found.setdefault("rings", {})[name] = limits.rings_max
    return [structs.replace(setting, knob=knob, values=values) for knob, values in found.items()]


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one of its changes."""
    message = change.op.message if isinstance(change.op, Request) else ""
    return (rings.project if message == "rings" else channels.project)(facts, change)
