"""How many queues a NIC has: one per physical housekeeping core near it, unless a policy says a number."""

from collections.abc import Iterable, Sequence

from tuners import projection, topology
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, ethtool_change, impossible, skip, whole
from wire.facts import Ethtool, Nic
from wire.policy import Blast, Setting, Values

NAME = "channels"
ABOUT = About(
    stage=Stage.SHAPE,
    what="how many queues",
    interface="ethtool netlink CHANNELS_SET",
    unit="queues",
    undo="the counts before, and the steering of the queues that survive",
    blast=Blast.LINK,
    facts=("nic", "ethtool"),
    recreates=True,
    quirks="ice drops RDMA for 3 to 5 s; below custom RSS or ntuple rules the kernel refuses",
)
_WORDS = ("auto", "max")
VALUES: dict[str, Spec] = {
    "combined": Spec(int, "queue pairs", 1, 8192, _WORDS),
    "rx": Spec(int, "receive-only queues", 0, 8192, _WORDS),
    "tx": Spec(int, "transmit-only queues", 0, 8192, _WORDS),
}

# Queues the hardware's RSS can spread over, where that is less than the channels it offers (seastar perftune.py).
RSS_CAP = {"ixgbe": 16, "ixgbevf": 4, "i40e": 64, "iavf": 16, "i40evf": 16}

project = projection.ethtool


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One ethtool request per NIC whose counts differ; a count above the driver's or the CPUs' number is refused."""
    for setting in settings:
        nic, fact = facts.nics[setting.nic], facts.ethtool.get(setting.nic)
        if fact is None or not fact.channels:
            yield skip(setting, nic.ifname, "unsupported by the driver")
        else:
            yield from _one(setting, nic, fact, facts)


def _one(setting: Setting, nic: Nic, fact: Ethtool, facts: HostFacts) -> Iterable[Step]:
    cpus = len(topology.online(facts))
    wanted = _spread(setting.values, fact)
    before: Values = {}
    after: Values = {}
    for name in sorted(wanted):
        count = _count(wanted[name], nic, fact.channels.get(f"{name}_max", 0), facts)
        if reason := _refused(name, count, fact, cpus):
            yield impossible(setting, nic.ifname, reason)
            return
        if count != fact.channels.get(name, 0):
            before[name], after[name] = fact.channels.get(name, 0), count
    if reason := _mute({**fact.channels, **after}):
        yield impossible(setting, nic.ifname, reason)
    elif after:
        near = topology.cores(facts, topology.local(facts, nic))
        text = f"{near} physical housekeeping cores are near it" if "auto" in wanted.values() else "as the policy says"
        yield ethtool_change(setting, fact, before, after, text)


def _spread(values: Values, fact: Ethtool) -> Values:
    """A word for `combined` means `rx` and `tx` where the driver knows only these."""
    word = values.get("combined")
    if fact.channels.get("combined_max", 0) or not isinstance(word, str):
        return values
    rest = {name: value for name, value in values.items() if name != "combined"}
    return {"rx": word, "tx": word, **rest}


def _count(value: object, nic: Nic, limit: int, facts: HostFacts) -> int:
    if isinstance(value, int):
        return value
    possible = min(limit, len(topology.online(facts)) or limit, RSS_CAP.get(nic.driver, limit))
    near = topology.cores(facts, topology.local(facts, nic))
    return max(1, min(possible, near)) if value == "auto" and near else max(1, possible)


def _refused(name: str, count: int, fact: Ethtool, cpus: int) -> str:
    limit = fact.channels.get(f"{name}_max", 0)
    if not limit and count:
        return f"the driver has no {name} channels"
    if count > limit:
        return f"{name}={count} is more than the {limit} this driver offers"
    if cpus and count > cpus:
        return f"{name}={count} is more than the {cpus} CPUs online"
    return ""


def _mute(counts: Values | dict[str, int]) -> str:
    """A NIC keeps at least one queue each way; the kernel refuses less."""
    for way in ("rx", "tx"):
        if whole({**counts}, "combined") + whole({**counts}, way) < 1:
            return f"no {way} queue would be left"
    return ""
