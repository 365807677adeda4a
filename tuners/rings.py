"""How many descriptors a NIC's rings hold: more absorb longer bursts, fewer stay in the cache."""

from collections.abc import Iterable, Sequence

from tuners import projection
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, ethtool_change, impossible, skip
from tuners.rounding import ring_stands
from wire.facts import Ethtool
from wire.policy import Blast, Setting, Values

NAME = "rings"
ABOUT = About(
    stage=Stage.SHAPE,
    what="descriptors per ring",
    interface="ethtool netlink RINGS_SET",
    unit="descriptors",
    undo="the sizes before, and the steering of the queues",
    blast=Blast.LINK,
    facts=("nic", "ethtool"),
    recreates=True,
)
VALUES: dict[str, Spec] = {
    "rx": Spec(int, "receive descriptors per queue", 1, 1 << 20, ("max",)),
    "tx": Spec(int, "transmit descriptors per queue", 1, 1 << 20, ("max",)),
}

project = projection.ethtool


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One ethtool request per NIC whose rings differ by more than the driver's rounding; never above its maximum."""
    for setting in settings:
        nic, fact = facts.nics[setting.nic], facts.ethtool.get(setting.nic)
        if fact is None or not fact.rings:
            yield skip(setting, nic.ifname, "unsupported by the driver")
        else:
            yield from _one(setting, nic.driver, fact)


def _one(setting: Setting, driver: str, fact: Ethtool) -> Iterable[Step]:
    before: Values = {}
    after: Values = {}
    for name, value in sorted(setting.values.items()):
        limit, current = fact.rings.get(f"{name}_max", 0), fact.rings.get(name, 0)
        wanted = value if isinstance(value, int) else limit
        if not limit:
            yield skip(setting, f"{fact.ifname} {name}", f"the driver has no {name} ring")
        elif wanted > limit:
            reason = f"{name}={wanted} is more than the {limit} this driver offers"
            yield impossible(setting, f"{fact.ifname} {name}", reason)
        elif not ring_stands(driver, current, wanted):
            before[name], after[name] = current, wanted
    if after:
        yield ethtool_change(setting, fact, before, after, "as the policy says")
