"""How a NIC's transmit queues queue: the discipline of each, and the limits of length, bytes and rate."""

from collections.abc import Iterable, Sequence

from msgspec import structs

from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.cpulist import format_cpulist, parse_cpulist
from wire.discipline import DEFAULT, MULTI, codel_us, parse, spell, stands
from wire.facts import Qdisc
from wire.policy import Blast, Change, FileWrite, Request, Setting, Value, Values

NAME = "qdisc"
ABOUT = About(
    stage=Stage.PLACE,
    what="how transmit queues queue: discipline, length, bytes and rate of each",
    interface="rtnetlink NEWQDISC, DELQDISC; tx_queue_len, queues/tx-N/byte_queue_limits, tx_maxrate",
    unit="packets, bytes, µs, Mbit/s",
    undo="kind, handle and options of every discipline before; a default of the kernel's by deleting ours",
    blast=Blast.BLACKHOLE,
    facts=("nic", "qdisc"),
    quirks="CoDel counts in units of 1024 ns: 5000 µs reads back as 4999; disciplines under mqprio get a handle of "
    "their own at undo; ice clears interrupt affinity with mqprio",
)
BQL_MAX = 1_879_048_192  # DQL_MAX_LIMIT

# Our word -> the kernel's, by discipline.
OPTIONS: dict[str, dict[str, str]] = {
    "fq": {"limit": "limit", "flow_limit": "flow_limit", "quantum": "quantum"},
    "fq_codel": {
        "limit": "limit",
        "quantum": "quantum",
        "target_us": "target",
        "interval_us": "interval",
        "ecn": "ecn",
    },
    "pfifo": {"limit": "limit"},
    "pfifo_fast": {},
}
VALUES: dict[str, Spec] = {
    "discipline": Spec(str, "of every transmit queue", words=tuple(OPTIONS)),
    "limit": Spec(int, "packets a queue holds", 1, 10_000_000),
    "flow_limit": Spec(int, "packets of one flow", 1, 1_000_000),
    "quantum": Spec(int, "bytes per round of a flow", 256, 1 << 20),
    "target_us": Spec(int, "µs that a packet may wait", 1, 1_000_000),
    "interval_us": Spec(int, "µs over which that is judged", 1, 10_000_000),
    "ecn": Spec(bool, "packets are marked where that does, before they are dropped"),
    "txqueuelen": Spec(int, "packets", 0, 1_000_000),
    "bql_max": Spec(int, "bytes in flight per queue at most", 0, BQL_MAX, ("max",)),
    "bql_min": Spec(int, "bytes in flight per queue at least", 0, BQL_MAX),
    "tx_maxrate": Spec(int, "Mbit/s of each queue, 0 for no limit", 0, 1_000_000),
}
_LISTS = {  # our word -> the file of a queue; the fact has the list under our word
    "bql_max": "byte_queue_limits/limit_max",
    "bql_min": "byte_queue_limits/limit_min",
    "tx_maxrate": "tx_maxrate",
}
_HANDLES = ("7268:", "7269:")  # of the roots that are ours: the second where the first stands in the way


def contradiction(values: Values) -> str:
    """Why these values cannot stand together; "" when they can."""
    options = OPTIONS.get(str(values.get("discipline", "")))
    wrong = sorted(_named(values) - options.keys()) if options is not None else []
    return f"{wrong[0]} is no option of {values['discipline']}" if wrong else ""


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One request per NIC whose disciplines differ, then the files of its queues."""
    known = {fact.key: fact for fact in facts.of(Qdisc)}
    for setting in settings:
        fact = known.get(setting.nic)
        if fact is None:
            yield skip(setting, facts.nics[setting.nic].ifname, "unsupported: nothing is known of its queueing")
        else:
            yield from _disciplines(setting, fact)
            yield from _files(setting, fact)


def _named(values: Values) -> set[str]:
    return {name for options in OPTIONS.values() for name in options if name in values}


def _disciplines(setting: Setting, fact: Qdisc) -> Iterable[Step]:
    if not _named(setting.values) and "discipline" not in setting.values:
        return
    kind = str(setting.values.get("discipline", "")) or _kind(fact)
    wrong = contradiction({**setting.values, "discipline": kind})
    if not kind or wrong:
        yield impossible(setting, f"{fact.ifname} discipline", wrong or "its queues differ: name the discipline")
    elif fact.foreign:
        why = f"{fact.foreign[0]} was built by somebody else: left alone"
        yield skip(setting, f"{fact.ifname} discipline", why)
    else:
        yield from _replace(setting, fact, kind, _options(kind, setting.values))


def _kind(fact: Qdisc) -> str:
    """The one discipline that serves all queues, "" where they differ or it is none of ours."""
    kinds = {parse(text)[0] for text in (fact.queues if parse(fact.root)[0] in MULTI else [fact.root])}
    return kinds.pop() if len(kinds) == 1 and kinds <= OPTIONS.keys() else ""


def _options(kind: str, values: Values) -> dict[str, str]:
    """Options in the kernel's words, as they read back."""
    given = {theirs: int(values[ours]) for ours, theirs in OPTIONS[kind].items() if ours in values}
    return {name: str(codel_us(value) if name in ("target", "interval") else value) for name, value in given.items()}


def _replace(setting: Setting, fact: Qdisc, kind: str, options: dict[str, str]) -> Iterable[Change]:
    root, leaves = _wanted(fact, kind, options)
    differs: dict[tuple[str, str], list[int]] = {}
    for queue, pair in enumerate(zip(fact.queues, leaves, strict=True)):
        if pair[0] != pair[1]:
            differs.setdefault(pair, []).append(queue)
    pairs = {format_cpulist(queues): pair for pair, queues in differs.items()}
    if root != fact.root:
        pairs = {"root": (fact.root, root), **pairs}
    if not pairs:
        return
    before: Values = {name: pair[0] for name, pair in pairs.items()}
    after: Values = {name: pair[1] for name, pair in pairs.items()}
    in_place = all(parse(now)[:2] == parse(then)[:2] for now, then in pairs.values())
    yield Change(
        knob=NAME,
        target=f"{fact.ifname} discipline",
        op=Request("qdisc", before, after, fact.ifindex, fact.ifname),
        blast=Blast.SAFE if in_place else Blast.BLACKHOLE,
        nic=setting.nic,
        policy=setting.policy,
        reason="options are changed where they stand" if in_place else f"{kind} on every transmit queue",
    )


def _wanted(fact: Qdisc, kind: str, options: dict[str, str]) -> tuple[str, list[str]]:
    """Root and leaves as they are to be: mq over a discipline per queue; the one itself where there is one queue."""
    root, handle, _ = parse(fact.root)
    ours = _HANDLES[handle == _HANDLES[0]]
    if len(fact.queues) < 2:
        return _one(fact.root, kind, options, ours), fact.queues
    if root in MULTI and all(stands(text, spell(kind, "", options)) for text in fact.queues):
        return fact.root, fact.queues
    if root in MULTI and handle != DEFAULT:
        return fact.root, [_one(text, kind, options, "") for text in fact.queues]
    return spell("mq", ours), [spell(kind, "", options)] * len(fact.queues)


def _one(now: str, kind: str, options: dict[str, str], handle: str) -> str:
    """What is to stand in the place of `now`: itself where it does, or changed where it stands, else a new one."""
    had, at, old = parse(now)
    if stands(now, spell(kind, "", options)):
        return now
    if had == kind and at != DEFAULT:
        return spell(kind, at, {**old, **options})
    return spell(kind, handle, options)


def _files(setting: Setting, fact: Qdisc) -> Iterable[Step]:
    length = setting.values.get("txqueuelen")
    if length is not None and fact.txqueuelen is None:
        yield skip(setting, f"{fact.ifname} txqueuelen", "unsupported: it has no tx_queue_len")
    elif length is not None and length != fact.txqueuelen:
        yield _write(setting, fact, "", "tx_queue_len", (fact.txqueuelen or 0, length))
    for name, file in _LISTS.items():
        if name not in setting.values:
            continue
        value = setting.values[name]
        wanted = BQL_MAX if value == "max" else value
        current: list[int] = getattr(fact, name)
        if not current:
            yield skip(setting, f"{fact.ifname} {name}", f"unsupported: the driver has no {name} per queue")
        for queue, before in enumerate(current):
            if before != wanted:
                yield _write(setting, fact, f"tx-{queue}", f"queues/tx-{queue}/{file}", (before, wanted))


def _write(setting: Setting, fact: Qdisc, queue: str, file: str, numbers: tuple[int, Value]) -> Change:
    before, after = numbers
    return Change(
        knob=NAME,
        target=f"{fact.ifname} {queue or 'txqueuelen'}",
        op=FileWrite(f"/sys/class/net/{{ifname}}/{file}", str(before), str(after), ifindex=fact.ifindex),
        nic=setting.nic,
        policy=setting.policy,
        reason="as the policy says",
    )


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one of its changes."""
    fact = next(one for one in facts.of(Qdisc) if one.key == change.nic)
    op = change.op
    if isinstance(op, Request):
        lists = [(parse_cpulist(name), str(text)) for name, text in op.after.items() if name != "root"]
        made = {queue: text for queues, text in lists for queue in queues}
        queues = [made.get(queue, text) for queue, text in enumerate(fact.queues)]
        return facts.replace([structs.replace(fact, root=str(op.after.get("root", fact.root)), queues=queues)])
    if not isinstance(op, FileWrite):
        return facts
    place, _, name = op.path.rpartition("/")
    if name == "tx_queue_len":
        return facts.replace([structs.replace(fact, txqueuelen=int(op.after))])
    ours = next(word for word, file in _LISTS.items() if op.path.endswith(file))
    queue = int(place.partition("/queues/tx-")[2].partition("/")[0])
    values: list[int] = list(getattr(fact, ours))
    values[queue] = int(op.after)
    return facts.replace([structs.replace(fact, **{ours: values})])
