"""Made-up RSS tables, flow rules and NAPIs of a NIC, and values of the knobs that plan from them."""

from typing import Any

from hypothesis import strategies as st
from msgspec import structs

from wire.facts import Ethtool, Fact, Irq, Napi, NapiInstance, Nic, Ntuple, NtupleRule, Rss, RssContext, Softnet
from wire.flowrule import format_rule, parse_rule
from wire.indirection import format_table
from wire.policy import Change, FileWrite, Request, Value

_letters = st.sampled_from(["sd", "sdfn", "fnsd", "s", "vtsd"])
_numbers = st.sampled_from([0, 1, 20_000, 200_000])
RULES = (
    *("tcp4 dst-port 22 reserved", "udp4 src-ip 198.51.100.0/24 drop", "tcp6 dst-port 443 queue 1"),
    *("ether proto 0x88f7 queue 0", "ip4 src-ip 203.0.113.7 proto 6 drop", "udp6 dst-port 53 vf 2"),
)
SPEC_VALUES: dict[str, dict[str, st.SearchStrategy[Value]]] = {
    "rss": {
        "queues": st.just("all") | st.integers(1, 8),
        "weights": st.lists(st.integers(0, 3), min_size=1, max_size=6)
        .filter(any)
        .map(lambda weights: " ".join(map(str, weights))),
        "skip": st.sampled_from(["0", "0-1", "3"]),
        "reserve": st.integers(0, 4),
        "key": st.sampled_from(["random", "mirrored", "ab" * 40, "cd" * 52]),
        "symmetric": st.sampled_from(["none", "symmetric-xor"]),
        "tcp4": _letters,
        "udp4": _letters,
        "sctp6": _letters,
    },
    "ntuple": {
        "rules": st.lists(st.sampled_from(RULES), max_size=4, unique=True).map("; ".join),
        "locations": st.sampled_from(["0-3", "2-5", "1020-1023", "1023-1024"]),
    },
    "napi": {
        "threaded": st.booleans(),
        "pin_threads": st.booleans(),
        "defer_hard_irqs": st.integers(0, 3),
        "gro_flush_timeout_ns": _numbers,
        "irq_suspend_timeout_ns": _numbers,
    },
    "busy_poll": {"busy_read": st.integers(0, 60), "busy_poll": st.integers(0, 60)},
}


@st.composite
def facts_of(draw: st.DrawFn, made: list[Fact]) -> list[Fact]:
    """RSS, flow rules and NAPIs of the NIC whose facts these are; each may be missing."""
    (nic,) = (fact for fact in made if isinstance(fact, Nic))
    (irq,) = (fact for fact in made if isinstance(fact, Irq))
    names: dict[str, Any] = {"key": nic.key, "ifname": nic.ifname, "ifindex": nic.ifindex}
    found: list[Fact] = []
    if draw(st.booleans()):
        found.append(_rss(draw, nic, names))
    if draw(st.booleans()):
        places = draw(st.sets(st.integers(0, 7) | st.integers(1018, 1022)))
        rules = [format_rule(parse_rule(rule)) for rule in RULES[1:]]
        rules += ["other type 0x12 match 00 mask ff to 0x1"] * draw(st.integers(0, 1))
        (ethtool,) = (fact for fact in made if isinstance(fact, Ethtool))
        features = {**ethtool.features, "rx-ntuple-filter": True}
        found.append(structs.replace(ethtool, features=features))
        table = [NtupleRule(location=place, rule=draw(st.sampled_from(rules))) for place in sorted(places)]
        found.append(Ntuple(**names, size=1024, rules=table))
    if draw(st.booleans()):
        found.append(_napi(draw, irq, names))
    return found


def _rss(draw: st.DrawFn, nic: Nic, names: dict[str, Any]) -> Rss:
    table: list[int] = draw(st.sampled_from([0, 1, 128])) * [draw(st.integers(0, nic.rx_queues - 1))]
    in_turn = draw(st.booleans())
    if table and in_turn:
        table = [at % nic.rx_queues for at in range(128)]
    return Rss(
        **names,
        queues=nic.rx_queues,
        table=format_table(table),
        hash_key=draw(st.sampled_from(["", "00" * 40, "ab" * 40, "12" * 52])),
        symmetric=draw(st.sampled_from(["", "symmetric-xor"])),
        fields=draw(st.dictionaries(st.sampled_from(["tcp4", "udp4"]), st.sampled_from(["sd", "sdfn"]))),
        contexts=draw(st.sampled_from([None, [], [RssContext(id=1, queues="2-3")]])),
    )


def _napi(draw: st.DrawFn, irq: Irq, names: dict[str, Any]) -> Napi:
    flush = draw(_numbers)
    own = st.none() | st.just(flush) | _numbers
    instances = [
        NapiInstance(
            id=8193 + at,
            irq=queue.irq if draw(st.booleans()) else None,
            cpus=draw(st.sampled_from(["", "0"])),
            gro_flush_timeout_ns=draw(own),
            irq_suspend_timeout_ns=draw(st.none() | _numbers),
        )
        for at, queue in enumerate(irq.queues)
    ]
    return Napi(
        **names,
        threaded=draw(st.sampled_from([None, False, True])),
        defer_hard_irqs=draw(st.sampled_from([None, 0, 2])),
        gro_flush_timeout_ns=flush,
        instances=instances,
    )


def current(facts: list[Fact], change: Change) -> object:
    """What the facts say of the thing a change is about, in the change's own terms; None for others' changes."""
    op = change.op
    if isinstance(op, FileWrite):
        return _file(facts, change, op)
    if not isinstance(op, Request):
        return None
    for fact in facts:
        if fact.key == change.nic and (found := _request(fact, op)) is not None:
            return found
    return None


def _request(fact: Fact, op: Request) -> object:
    if isinstance(fact, Rss):
        have: dict[str, object] = {
            "table": fact.table,
            "key": fact.hash_key,
            "symmetric": fact.symmetric,
            **fact.fields,
        }
        have["exists"] = op.item in [context.queues for context in fact.contexts or []]
        return {name: have[name] for name in op.before} if op.message.startswith("rss") else None
    if isinstance(fact, Ntuple) and op.message == "ntuple":
        return {"rule": {rule.location: rule.rule for rule in fact.rules}.get(int(op.item), "")}
    if isinstance(fact, Napi) and op.message in ("napi", "napi_thread"):
        (napi,) = (napi for napi in fact.instances if str(napi.id) == op.item)
        return {name: getattr(napi, name if name == "cpus" else _field(name)) for name in op.before}
    if isinstance(fact, Ethtool) and op.message == "coalesce_queue":
        return {name: fact.coalesce_queues[int(op.item)].get(name, 0) for name in op.before}
    return None


def _field(name: str) -> str:
    return name if name == "defer_hard_irqs" else f"{name}_ns"


def _file(facts: list[Fact], change: Change, op: FileWrite) -> str | None:
    name = op.path.rpartition("/")[2]
    if change.knob == "busy_poll":
        (softnet,) = (fact for fact in facts if isinstance(fact, Softnet))
        return str(getattr(softnet, f"{name}_us"))
    fields = {"threaded": "threaded", "napi_defer_hard_irqs": "defer_hard_irqs"}
    if change.knob == "napi":
        (fact,) = (fact for fact in facts if isinstance(fact, Napi) and fact.key == change.nic)
        return str(int(getattr(fact, fields.get(name, "gro_flush_timeout_ns"))))
    return None
