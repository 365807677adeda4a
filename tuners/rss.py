"""How a NIC spreads received flows over its queues: which queues, in what share, by which key and which fields."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import structs

from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip, whole
from wire.cpulist import format_cpulist, parse_cpulist
from wire.facts import Rss, RssContext
from wire.indirection import format_table, parse_table, spread, weighted
from wire.policy import Blast, Change, Request, Setting, Value

NAME = "rss"
ABOUT = About(
    stage=Stage.PLACE,
    what="how flows are spread over receive queues",
    interface="ethtool ioctl SRSSH, SRXFH",
    unit="queue per hash bucket, key bytes, hashed fields",
    undo="table, key and fields before; contexts it made are taken away",
    blast=Blast.BLACKHOLE,
    facts=("nic", "rss", "irq", "dmi"),
    quirks="a table that was set, and undone, too, makes the kernel refuse fewer channels: `channels` resets it first",
)
FLOWS = ("tcp4", "udp4", "sctp4", "ah4", "esp4", "tcp6", "udp6", "sctp6", "ah6", "esp6")
LETTERS = "mvtsdfn"  # ethtool's: MAC, VLAN, protocol, source, destination, and the first and last half of the ports
_SPREADING = ("queues", "weights", "skip", "reserve")
_NO_SYMMETRY = "none"
_LONGEST_KEY = 256

# Keys that every host of a driver shares, so that anybody can make flows that fall on one queue: none, the one of
# Microsoft's RSS documentation, the one that makes both directions of a flow equal.
_MICROSOFT = "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
_MIRRORED = "6d5a"


def _weights(text: str) -> str:
    words = text.split()
    fits = words and all(word.isascii() and word.isdigit() and len(word) < 6 for word in words)
    return "" if fits and any(int(word) for word in words) else "must be a number for each queue, such as 3 1 1 0"


def _key(text: str) -> str:
    try:
        size = len(bytes.fromhex(text))
    except ValueError:
        size = 0
    return "" if 0 < size <= _LONGEST_KEY else "must be random, mirrored, or the key's bytes in hexadecimal"


def _letters(text: str) -> str:
    fits = text and set(text) <= set(LETTERS) and len(set(text)) == len(text)
    return "" if fits else f"must be letters of {LETTERS}, each once, such as sdfn"


VALUES: dict[str, Spec] = {
    "queues": Spec(int, "the first so many queues, equally", 1, 8192, ("all",)),
    "weights": Spec(str, "a number for each queue, such as 3 1 1 0", check=_weights),
    "skip": Spec(str, "queues left out, as a list"),
    "reserve": Spec(int, "the last so many queues are left out, for what flow rules send there", 0, 64),
    "key": Spec(str, "random, mirrored, or bytes in hexadecimal", words=("random", "mirrored"), check=_key),
    "symmetric": Spec(
        str, "both ways of a flow to one queue", words=(_NO_SYMMETRY, "symmetric-xor", "symmetric-or-xor")
    ),
    **{flow: Spec(str, "the fields that are hashed, such as sdfn", check=_letters) for flow in FLOWS},
}


class _Wanted(NamedTuple):
    """A table, or why there can be none."""

    table: list[int] = []
    problem: str = ""


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """Requests for table, contexts, symmetry, key and fields that differ; never a queue that is not there."""
    known = {fact.key: fact for fact in facts.of(Rss)}
    for setting in settings:
        fact = known.get(setting.nic)
        if fact is None:
            yield skip(setting, facts.nics[setting.nic].ifname, "unsupported by the driver")
            continue
        yield from _table(setting, fact, facts)
        yield from _contexts(setting, fact)
        yield from _symmetry(setting, fact)
        yield from _hash_key(setting, fact, facts)
        yield from _fields(setting, fact)


def _change(setting: Setting, fact: Rss, op: Request, what: str, reason: str) -> Change:
    op = structs.replace(op, ifindex=fact.ifindex, ifname=fact.ifname)
    target = f"{fact.ifname} {what}"
    return Change(knob=NAME, target=target, op=op, nic=setting.nic, policy=setting.policy, reason=reason)


def _request(name: str, before: Value, after: Value) -> Request:
    return Request("rss", {name: before}, {name: after})


def _table(setting: Setting, fact: Rss, facts: HostFacts) -> Iterable[Step]:
    if not set(_SPREADING) & set(setting.values):
        return
    if not fact.table:
        yield skip(setting, f"{fact.ifname} table", "the driver has no indirection table")
        return
    wanted = _wanted(setting, fact)
    if wanted.problem:
        yield impossible(setting, f"{fact.ifname} table", wanted.problem)
    elif Counter(wanted.table) != Counter(parse_table(fact.table)):  # in which order does not matter
        op = _request("table", fact.table, format_table(wanted.table))
        change = _change(setting, fact, op, "table", f"{len(set(wanted.table))} of {fact.queues} queues")
        yield structs.replace(change, blast=_blast(wanted.table, fact, facts))


def _wanted(setting: Setting, fact: Rss) -> _Wanted:
    size, values = len(parse_table(fact.table)), setting.values
    if "weights" in values:
        weights = [int(word) for word in str(values["weights"]).split()]
        if len(weights) > fact.queues:
            return _Wanted(problem=f"weights for {len(weights)} queues, and there are {fact.queues}")
        return _Wanted(weighted(weights, size))
    left_out = set(parse_cpulist(str(values.get("skip", ""))))
    pool = [queue for queue in range(fact.queues - whole(values, "reserve")) if queue not in left_out]
    count = whole(values, "queues", len(pool))
    if count > len(pool) or not pool:
        return _Wanted(problem=f"{count or 1} queues are wanted, and of {fact.queues} there are {len(pool)} to take")
    if count > size:
        return _Wanted(problem=f"the indirection table has {size} entries, too few for {count} queues")
    return _Wanted(spread(pool[:count], size))


def _blast(table: Sequence[int], fact: Rss, facts: HostFacts) -> Blast:
    """Harmless as long as every queue is known to be served by an interrupt."""
    irq = facts.irq.get(fact.key)
    served = {number for queue in (irq.queues if irq else []) for number in queue.rx}
    return Blast.SAFE if set(table) <= served else Blast.BLACKHOLE


def reserved(fact: Rss) -> list[int]:
    """The queues behind the last one of the table, which only flow rules reach."""
    table = parse_table(fact.table)
    return list(range(max(table) + 1, fact.queues)) if table else []


def _contexts(setting: Setting, fact: Rss) -> Iterable[Step]:
    count = whole(setting.values, "reserve")
    if count < 2 or count >= fact.queues or not fact.table:
        return
    queues = format_cpulist(range(fact.queues - count, fact.queues))
    if fact.contexts is None:
        yield skip(setting, f"{fact.ifname} context", "the kernel cannot list contexts (6.12 can): reserve one queue")
    elif queues not in {context.queues for context in fact.contexts}:
        op = Request("rss_context", {"exists": False}, {"exists": True}, item=queues)
        yield _change(setting, fact, op, f"context {queues}", "the reserved queues share what is sent to them")


def _symmetry(setting: Setting, fact: Rss) -> Iterable[Step]:
    if "symmetric" not in setting.values:
        return
    word = str(setting.values["symmetric"])
    wanted = "" if word == _NO_SYMMETRY else word
    if wanted != fact.symmetric:
        yield _change(setting, fact, _request("symmetric", fact.symmetric, wanted), "symmetry", "as the policy says")


def _hash_key(setting: Setting, fact: Rss, facts: HostFacts) -> Iterable[Step]:
    if "key" not in setting.values:
        return
    size, word = len(fact.hash_key) // 2, str(setting.values["key"])
    if not size:
        yield skip(setting, f"{fact.ifname} key", "the driver does not show its key, so it could not be put back")
        return
    if word == "random":
        after = own_key(fact, facts) if is_shared(fact.hash_key) else fact.hash_key
    else:
        after = mirrored(size) if word == "mirrored" else word.lower()
    if len(after) != 2 * size:
        yield impossible(setting, f"{fact.ifname} key", f"the key has {size} bytes, not {len(after) // 2}")
    elif after != fact.hash_key:
        reason = "a key that other hosts have, too" if word == "random" else "as the policy says"
        yield _change(setting, fact, _request("key", fact.hash_key, after), "key", reason)


def mirrored(size: int) -> str:
    """The key of so many bytes by which both directions of a flow have the same hash."""
    return (_MIRRORED * size)[: 2 * size]


def is_shared(key: str) -> bool:
    """True for a key that is no secret: one that many hosts have."""
    size = len(key) // 2
    return key in ("00" * size, mirrored(size)) or (len(key) >= len(_MICROSOFT) and key.startswith(_MICROSOFT))


def own_key(fact: Rss, facts: HostFacts) -> str:
    """A key that is this NIC's of this host alone, and the same after every boot."""
    import hashlib  # noqa: PLC0415 - pulls OpenSSL in, for the few who ask

    uuid = facts.dmi.uuid or facts.dmi.serial if facts.dmi else ""
    return hashlib.shake_256(f"rss {uuid} {fact.key}".encode()).hexdigest(len(fact.hash_key) // 2)


def _fields(setting: Setting, fact: Rss) -> Iterable[Step]:
    for flow in FLOWS:
        if flow not in setting.values:
            continue
        letters = set(str(setting.values[flow]))
        wanted = "".join(letter for letter in LETTERS if letter in letters)
        current = fact.fields.get(flow)
        if current is None:
            yield skip(setting, f"{fact.ifname} {flow}", f"the driver does not say what it hashes of {flow}")
        elif current != wanted:
            op = Request("rss_fields", {flow: current}, {flow: wanted})
            yield _change(setting, fact, op, flow, "as the policy says")


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one of its requests."""
    op = change.op
    if not isinstance(op, Request):
        return facts
    (fact,) = (fact for fact in facts.of(Rss) if fact.key == change.nic)
    if op.message == "rss_context":
        others = [context for context in fact.contexts or [] if context.queues != op.item]
        made = [RssContext(id=0, queues=op.item)] if op.after["exists"] else []
        return facts.replace([structs.replace(fact, contexts=others + made)])
    if op.message == "rss_fields":
        return facts.replace(
            [structs.replace(fact, fields={**fact.fields, **{k: str(v) for k, v in op.after.items()}})]
        )
    names = {"table": "table", "key": "hash_key", "symmetric": "symmetric"}
    return facts.replace([structs.replace(fact, **{names[name]: value for name, value in op.after.items()})])
