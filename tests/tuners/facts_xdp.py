"""Made-up XDP programs on NICs, of ours and of others, and values of the knob."""

from hypothesis import strategies as st

from tuners.hostfacts import HostFacts
from wire.facts import Fact, Nic, Xdp
from wire.policy import Change, Request, Value
from wire.xdp import NOTHING, PROGRAMS, canonical

_programs = st.lists(st.sampled_from(PROGRAMS), unique=True).map(lambda found: ", ".join(found) or "none")
_acl = st.lists(
    st.sampled_from(
        [
            *("deny 10.8.0.64/26", "allow 10.8.0.70/32 tcp/80", "deny 2001:db8::/32 udp/53-60", "deny 0.0.0.0/0"),
            *("allow 10.0.0.0/8 tcp", "deny 10.8.0.0/16 icmp", "allow 10.8.0.64/26 tcp/22"),
        ]
    ),
    unique=True,
).map(", ".join)
SPEC_VALUES: dict[str, dict[str, st.SearchStrategy[Value]]] = {
    "xdp": {
        "programs": _programs,
        "generic": st.booleans(),
        "stale_s": st.integers(3, 60),
        "acl": _acl,
        "acl_default": st.sampled_from(["allow", "deny"]),
        "rate_pps": st.integers(1, 100_000_000),
        "rate_burst": st.integers(1, 1000),
        "quic_port": st.integers(1, 65535),
        "quic_to": st.sampled_from(["cpu", "socket"]),
        "quic_cpus": st.sampled_from(["0", "1,0", "0-3"]),
        "quic_cid_len": st.integers(1, 20),
        "quic_cid_byte": st.integers(0, 19),
    }
}


@st.composite
def facts_of(draw: st.DrawFn, made: list[Fact]) -> list[Fact]:
    """What is on the NIC whose facts these are; it may not be known."""
    (nic,) = (fact for fact in made if isinstance(fact, Nic))
    if draw(st.booleans()):
        return []
    fact = Xdp(key=nic.key, ifname=nic.ifname, ifindex=nic.ifindex)
    fact.features = draw(st.sampled_from([None, [], ["basic"], ["basic", "redirect", "rx-sg"]]))
    fact.owner = draw(st.sampled_from(["", "rackhand", "libxdp", "other"]))
    if fact.owner:
        fact.program, fact.mode, fact.name = 7, draw(st.sampled_from(["native", "generic"])), "program"
    if fact.owner == "rackhand":
        values = draw(st.fixed_dictionaries(SPEC_VALUES["xdp"]))
        fact.settings = {**canonical(values), "mode": fact.mode}
    return [fact]


def current(facts: HostFacts, change: Change) -> object:
    """What the facts say of a NIC's programs, in the change's own terms; None for others' changes."""
    if not isinstance(change.op, Request) or change.op.message != "xdp":
        return None
    (fact,) = (fact for fact in facts.of(Xdp) if fact.key == change.nic)
    return fact.settings or NOTHING
