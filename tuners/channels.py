"""How many queues a NIC has: one per physical housekeeping core near it, unless a policy says a number."""

from collections.abc import Iterable, Sequence

from tuners import projection, quirks, rss, topology
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, ethtool_change, impossible, skip, whole
from wire.facts import Ethtool, Nic, Ntuple, Rss
from wire.indirection import format_table, is_default, parse_table, spread
from wire.policy import Blast, Change, Request, Setting, Values

NAME = "channels"
ABOUT = About(
    stage=Stage.SHAPE,
    what="how many queues",
    interface="ethtool netlink CHANNELS_SET",
    unit="queues",
    undo="the counts before, and the steering of the queues that survive",
    blast=Blast.LINK,
    facts=("nic", "ethtool", "rss", "ntuple"),
    recreates=True,
    quirks="a custom RSS table over more queues is made the default first; below a flow rule's queue it is refused",
)
_WORDS = ("auto", "max")
VALUES: dict[str, Spec] = {
    "combined": Spec(int, "queue pairs", 1, 8192, _WORDS),
    "rx": Spec(int, "receive-only queues", 0, 8192, _WORDS),
    "tx": Spec(int, "transmit-only queues", 0, 8192, _WORDS),
}


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
    counts = {**fact.channels, **after}
    if reason := _mute(counts) or _steered(nic, whole(counts, "combined") + whole(counts, "rx"), facts):
        yield impossible(setting, nic.ifname, reason)
    elif after:
        yield from _unspread(setting, nic, whole(counts, "combined") + whole(counts, "rx"), facts)
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
    possible = quirks.cap(NAME, nic, facts, min(limit, len(topology.online(facts)) or limit))
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


def _steered(nic: Nic, left: int, facts: HostFacts) -> str:
    """The kernel refuses to take away a queue that a flow rule sends to."""
    for rule in (rule for fact in facts.of(Ntuple) if fact.key == nic.key for rule in fact.rules):
        words = rule.rule.split()
        if words[-2:-1] == ["queue"] and words[-1].isdigit() and int(words[-1]) >= left:
            return f"flow rule {rule.location} ({rule.rule}) sends to a queue that would go: take it away first"
    return ""


def _unspread(setting: Setting, nic: Nic, left: int, facts: HostFacts) -> Iterable[Change]:
    """The kernel refuses fewer queues than a custom indirection table spreads over: it becomes the default first."""
    for fact in (fact for fact in facts.of(Rss) if fact.key == nic.key):
        table = parse_table(fact.table)
        if table and not is_default(table, fact.queues) and max(table) >= left:
            op = Request(
                message="rss",
                before={"table": fact.table},
                after={"table": format_table(spread(range(fact.queues), len(table)))},
                ifindex=fact.ifindex,
                ifname=fact.ifname,
            )
            reason = "fewer queues than its table spreads over"
            target = f"{fact.ifname} table"
            yield Change(knob=NAME, target=target, op=op, nic=nic.key, policy=setting.policy, reason=reason)


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one of its requests."""
    is_table = isinstance(change.op, Request) and change.op.message == "rss"
    return rss.project(facts, change) if is_table else projection.ethtool(facts, change)


def _mute(counts: Values | dict[str, int]) -> str:
    """A NIC keeps at least one queue each way; the kernel refuses less."""
    for way in ("rx", "tx"):
        if whole({**counts}, "combined") + whole({**counts}, way) < 1:
            return f"no {way} queue would be left"
    return ""
