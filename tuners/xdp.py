"""XDP programs of our own on a NIC: counters, access lists, rates per source, QUIC by connection id.

All of them stand behind one root, are put in place in one step, and let everything pass when the agent's heartbeat
stops. What somebody else has put on a NIC is never touched.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import structs

from tuners import quirks
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.cpulist import parse_cpulist
from wire.facts import Nic, Xdp
from wire.policy import Blast, Change, Request, Setting, Value, Values
from wire.xdp import NOTHING, PROGRAMS, canonical, parse_acl, parse_programs

NAME = "xdp"
ABOUT = About(
    stage=Stage.PROGRAM,
    what="programs that meet packets first",
    interface="bpf(2) BPF_LINK_CREATE, BPF_LINK_UPDATE; rtnetlink IFLA_XDP",
    unit="programs, packets/s per source, CIDRs, ports",
    undo="our former programs and their settings, or none",
    blast=Blast.BLACKHOLE,
    facts=("nic", "ethtool", "cpu", "xdp"),
    quirks="the first attach resets the rings of most drivers, for a moment the link of some",
)
OURS = "rackhand"
DEFAULTS: Values = {
    "stale_s": 10,
    "acl_default": "allow",
    "quic_port": 443,
    "quic_to": "cpu",
    "quic_cid_len": 8,
    "quic_cid_byte": 0,
}
_BONDS = ("bond", "team")
_CHANNELS = {"ena": "half", "virtio_net": "cpus"}  # what XDP needs of them, where a row of quirks.yaml holds
_NO_LRO = ("mlx5_core",)  # and refuse XDP while it is on; others turn it off themselves


def _why(parse: Callable[[str], object], text: str) -> str:
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return ""


def _programs(text: str) -> str:
    return _why(parse_programs, text)


def _acl(text: str) -> str:
    return _why(parse_acl, text)


VALUES: dict[str, Spec] = {
    "programs": Spec(str, f"none, or some of {', '.join(PROGRAMS)}", check=_programs),
    "generic": Spec(bool, "also where the driver has no XDP of its own"),
    "stale_s": Spec(int, "seconds without a heartbeat after which everything passes", 3, 3600),
    "acl": Spec(str, "rules such as deny 10.8.0.0/26 tcp/22", check=_acl),
    "acl_default": Spec(str, "what no rule is about", words=("allow", "deny")),
    "rate_pps": Spec(int, "packets per second from each source", 1, 100_000_000),
    "rate_burst": Spec(int, "packets at once from a source that was quiet", 1, 100_000_000),
    "quic_port": Spec(int, "UDP port", 1, 65535),
    "quic_to": Spec(str, "where to", words=("cpu", "socket")),
    "quic_cpus": Spec(str, "the CPU of each worker, in the order of their numbers"),
    "quic_cid_len": Spec(int, "bytes of the server's connection ids", 1, 20),
    "quic_cid_byte": Spec(int, "which of them is the worker's number", 0, 19),
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One request per NIC for the whole chain; a NIC with somebody else's program is left alone."""
    known = {fact.key: fact for fact in facts.of(Xdp)}
    for setting in settings:
        nic, fact = facts.nics[setting.nic], known.get(setting.nic)
        if fact is None:
            yield skip(setting, nic.ifname, "the kernel does not say what is on this interface")
        elif fact.program and fact.owner != OURS:
            yield skip(setting, nic.ifname, _theirs(fact))
        else:
            yield from _one(setting, nic, fact, facts)


def _theirs(fact: Xdp) -> str:
    whose = fact.owner if fact.owner not in ("", "other") else "somebody else"
    return f"has the {fact.mode} XDP program {fact.name or fact.program} of {whose}, which is left alone"


def _one(setting: Setting, nic: Nic, fact: Xdp, facts: HostFacts) -> Iterable[Step]:
    before = dict(fact.settings) or dict(NOTHING)
    after = dict(NOTHING)
    if parse_programs(str(setting.values.get("programs", "none"))):
        wanted = _wanted(setting.values)
        if reason := _incomplete(wanted, facts):
            yield impossible(setting, nic.ifname, reason)
            return
        wanted["mode"] = "native" if fact.features is None or "basic" in fact.features else "generic"
        after = canonical(wanted)
        if reason := _unfit(setting, nic, fact, facts, str(after["mode"])):
            yield skip(setting, nic.ifname, reason)
            return
    if before != after:
        yield Change(
            knob=NAME,
            target=nic.ifname,
            op=Request(message=NAME, before=before, after=after, ifindex=nic.ifindex, ifname=nic.ifname),
            blast=Blast.BLACKHOLE,
            nic=setting.nic,
            policy=setting.policy,
            reason="as the policy says",
        )


def _wanted(values: Mapping[str, Value]) -> Values:
    made = {**DEFAULTS, **{name: value for name, value in values.items() if name != "generic"}}
    made.setdefault("rate_burst", made.get("rate_pps", 1))
    return made


def _incomplete(wanted: Mapping[str, Value], facts: HostFacts) -> str:
    """What is missing for the programs that are asked for; "" when nothing is."""
    programs = parse_programs(str(wanted["programs"]))
    if "acl" in programs and not wanted.get("acl") and wanted["acl_default"] == "allow":
        return "acl has no rules: say acl or acl_default"
    if "ratelimit" in programs and "rate_pps" not in wanted:
        return "ratelimit needs rate_pps"
    return _incomplete_quic(wanted, facts) if "quic-steer" in programs else ""


def _incomplete_quic(wanted: Mapping[str, Value], facts: HostFacts) -> str:
    if int(wanted["quic_cid_byte"]) >= int(wanted["quic_cid_len"]):
        return "quic_cid_byte is beyond the connection id"
    cpus = set(parse_cpulist(str(wanted.get("quic_cpus", ""))))
    if wanted["quic_to"] == "cpu" and not cpus:
        return "quic-steer needs quic_cpus"
    missing = cpus - _online(facts.cpu.online) if facts.cpu else set[int]()
    return f"this host has no CPU {min(missing)}" if missing else ""


def _online(text: str) -> set[int]:
    try:
        return set(parse_cpulist(text))
    except ValueError:
        return set()


def _unfit(setting: Setting, nic: Nic, fact: Xdp, facts: HostFacts, mode: str) -> str:
    """Why this interface cannot have it; "" when nothing is known that speaks against it."""
    if nic.type in _BONDS:
        return "the programs of a bond go to its ports: choose those"
    if mode == "generic":
        allowed = bool(setting.values.get("generic"))
        who = nic.driver or nic.type or "the driver"
        return "" if allowed else f"{who} has no XDP of its own, and the slow way is not allowed (generic: true)"
    if fact.mode == mode:
        return ""
    return _too_large(nic, fact, facts) or _no_channels(nic, facts) or _lro(nic, facts)


def _too_large(nic: Nic, fact: Xdp, facts: HostFacts) -> str:
    if "rx-sg" in (fact.features or ()):
        return ""
    rows = (row for row in quirks.holding(NAME, "cap", nic, facts) if nic.mtu > row.number)
    return next((f"{nic.driver}: the MTU is {nic.mtu}; {row.note}" for row in rows), "")


def _no_channels(nic: Nic, facts: HostFacts) -> str:
    """Why the driver has no channels left for what XDP sends; rows of quirks.yaml say which drivers need them."""
    ethtool = facts.ethtool.get(nic.key)
    channels = ethtool.channels if ethtool else {}
    now, most = channels.get("combined", 0), channels.get("combined_max", 0)
    cpus = len(_online(facts.cpu.online)) if facts.cpu else 0
    needed = {"half": 2 * now, "cpus": now + cpus}.get(_CHANNELS.get(nic.driver, ""), 0)
    rows = quirks.holding(NAME, "note", nic, facts) if most and needed > most else ()
    return next((f"{nic.driver}: {now} of {most} channels are in use; {row.note}" for row in rows), "")


def _lro(nic: Nic, facts: HostFacts) -> str:
    ethtool = facts.ethtool.get(nic.key)
    is_on = ethtool is not None and ethtool.features.get("rx-lro", False)
    if not is_on or nic.driver not in _NO_LRO:
        return ""
    return f"{nic.driver} has no XDP while LRO is on: set offloads lro to false"


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after the chain of one NIC was replaced."""
    op = change.op
    found = [fact for fact in facts.of(Xdp) if fact.key == change.nic]
    if not isinstance(op, Request) or not found:
        return facts
    settings = dict(op.after) if op.after["programs"] else {}
    ours = {"mode": op.after["mode"], "owner": OURS, "name": "rh_root", "program": found[0].program or 1}
    none = {"mode": "", "owner": "", "name": "", "tag": "", "program": 0}
    return facts.replace([structs.replace(found[0], settings=settings, **(ours if settings else none))])
