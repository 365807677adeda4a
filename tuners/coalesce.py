"""How long a NIC waits before it interrupts: fixed microseconds and frames, or the driver's own adaption."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from tuners import projection
from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, ethtool_change, impossible, skip
from tuners.rounding import coalesce_stands
from wire.cpulist import parse_cpulist
from wire.facts import Ethtool
from wire.policy import Change, Request, Setting, Value, Values

NAME = "coalesce"
ABOUT = About(
    stage=Stage.SHAPE,
    what="how long an interrupt waits",
    interface="ethtool netlink COALESCE_SET; ioctl PERQUEUE",
    unit="µs, frames",
    undo="the values before",
    facts=("nic", "ethtool"),
    quirks="a driver that adapts moves the fixed values itself",
)

# Our word -> the kernel's, as in the Ethtool fact.
KERNEL = {
    "adaptive_rx": "use_adaptive_rx",
    "adaptive_tx": "use_adaptive_tx",
    "rx_usecs": "rx_usecs",
    "rx_frames": "rx_max_frames",
    "rx_usecs_irq": "rx_usecs_irq",
    "rx_frames_irq": "rx_max_frames_irq",
    "tx_usecs": "tx_usecs",
    "tx_frames": "tx_max_frames",
    "tx_usecs_irq": "tx_usecs_irq",
    "tx_frames_irq": "tx_max_frames_irq",
    "cqe_rx": "use_cqe_mode_rx",
    "cqe_tx": "use_cqe_mode_tx",
    "stats_block_usecs": "stats_block_usecs",
    "rate_sample_interval": "rate_sample_interval",
    "pkt_rate_low": "pkt_rate_low",
    "rx_usecs_low": "rx_usecs_low",
    "rx_frames_low": "rx_max_frames_low",
    "tx_usecs_low": "tx_usecs_low",
    "tx_frames_low": "tx_max_frames_low",
    "pkt_rate_high": "pkt_rate_high",
    "rx_usecs_high": "rx_usecs_high",
    "rx_frames_high": "rx_max_frames_high",
    "tx_usecs_high": "tx_usecs_high",
    "tx_frames_high": "tx_max_frames_high",
    "tx_aggr_bytes": "tx_aggr_max_bytes",
    "tx_aggr_frames": "tx_aggr_max_frames",
    "tx_aggr_usecs": "tx_aggr_time_usecs",
}
_ADAPTED = ("usecs", "frames")  # what adaption moves
_EACH = tuple(KERNEL)[:10]  # what single queues have (struct ethtool_coalesce, as drivers take it)
_MOST = 1 << 31
_UNITS = {"usecs": "microseconds", "frames": "frames", "bytes": "bytes", "rate": "packets per second or seconds"}


def _parse_queues(text: str) -> dict[int, dict[str, int]]:
    """Values by queue of "0-3: rx_usecs=8 tx_usecs=8; 4: rx_usecs=50"; raises ValueError."""
    found: dict[int, dict[str, int]] = {}
    for part in text.split(";"):
        queues, colon, words = part.partition(":")
        values = dict(word.split("=", 1) for word in words.split())
        numbers = {name: int(value) for name, value in values.items()}
        if not colon or not numbers or not set(numbers) <= set(_EACH) or min(numbers.values()) < 0:
            raise ValueError(part)
        for queue in parse_cpulist(queues):
            found.setdefault(queue, {}).update(numbers)
    return found


def _queues(text: str) -> str:
    try:
        fits = bool(_parse_queues(text))
    except ValueError:
        fits = False
    return "" if fits else 'must be values by queue, such as "0-3: rx_usecs=8 tx_usecs=8; 4: rx_usecs=50"'


def _spec(name: str) -> Spec:
    if name.startswith(("adaptive", "cqe")):
        return Spec(bool, "the driver adapts to the load" if "adaptive" in name else "timed from the last completion")
    return Spec(int, next(unit for word, unit in _UNITS.items() if word in name), 0, _MOST)


VALUES: dict[str, Spec] = {
    **{name: _spec(name) for name in KERNEL},
    "per_queue": Spec(str, "values of single queues, such as 0-3: rx_usecs=8", check=_queues),
}


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one request; one for the whole NIC is every queue's."""
    then = projection.ethtool(facts, change)
    fact = then.ethtool[change.nic]
    if not isinstance(change.op, Request) or change.op.message != NAME or not fact.coalesce_queues:
        return then
    told = {name: int(value) for name, value in change.op.after.items() if name in {KERNEL[word] for word in _EACH}}
    return then.replace([structs.replace(fact, coalesce_queues=[{**old, **told} for old in fact.coalesce_queues])])


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One ethtool request per NIC, adaption and fixed values together; what adaption moves is not compared."""
    for setting in settings:
        fact = facts.ethtool.get(setting.nic)
        if fact is None or not fact.coalesce:
            yield skip(setting, facts.nics[setting.nic].ifname, "unsupported by the driver")
        else:
            yield from _one(setting, fact)


def _one(setting: Setting, fact: Ethtool) -> Iterable[Step]:
    before: Values = {}
    after: Values = {}
    each: dict[str, int] = {}
    for name, wanted in sorted(setting.values.items()):
        if name == "per_queue":
            continue
        current = fact.coalesce.get(KERNEL[name])
        if current is None:
            yield skip(setting, f"{fact.ifname} {name}", f"the driver has no {name}")
        elif adaptive := _adapted(name, setting.values, fact):
            reason = f"{adaptive} is on, so the driver moves it: set {adaptive} to false to fix it"
            yield skip(setting, f"{fact.ifname} {name}", reason)
        elif _differ_by_themselves(fact) and name in _EACH:
            each[name] = int(wanted)
        elif not _stands(current, wanted):
            before[KERNEL[name]], after[KERNEL[name]] = current, wanted
    if after:
        yield ethtool_change(setting, fact, before, after, "as the policy says")
    if each or "per_queue" in setting.values:
        yield from _single(setting, fact, each)


def _differ_by_themselves(fact: Ethtool) -> bool:
    """True when a request for the whole NIC would level what single queues have: then each is asked for by itself."""
    return any(queue != fact.coalesce_queues[0] for queue in fact.coalesce_queues)


def _single(setting: Setting, fact: Ethtool, each: Mapping[str, int]) -> Iterable[Step]:
    """One request per queue that differs; `each` are values that every queue is to have."""
    asked = _parse_queues(str(setting.values["per_queue"])) if "per_queue" in setting.values else {}
    names = {name for values in asked.values() for name in values}
    if asked and not fact.coalesce_queues:
        yield skip(setting, f"{fact.ifname} per_queue", "the driver has no coalescing by queue")
    elif twice := sorted(names & set(setting.values)):
        yield impossible(setting, f"{fact.ifname} per_queue", f"{twice[0]} is set for the whole NIC, too")
    elif adapted := sorted(filter(None, (_adapted(name, setting.values, fact) for name in names))):
        reason = f"{adapted[0]} is on, so the driver moves it: set {adapted[0]} to false to fix it"
        yield skip(setting, f"{fact.ifname} per_queue", reason)
    elif max(asked, default=0) >= len(fact.coalesce_queues):
        reason = f"there is no queue {max(asked)} of {len(fact.coalesce_queues)}"
        yield impossible(setting, f"{fact.ifname} per_queue", reason)
    else:
        wanted = {queue: {**each, **asked.get(queue, {})} for queue in range(len(fact.coalesce_queues))}
        differing = (queue for queue in wanted if _differs(fact, queue, wanted))
        yield from (_queue(setting, fact, queue, wanted[queue]) for queue in differing)


def _differs(fact: Ethtool, queue: int, asked: Mapping[int, Mapping[str, int]]) -> bool:
    now = fact.coalesce_queues[queue]
    return not all(coalesce_stands(now.get(KERNEL[name], 0), wanted) for name, wanted in asked[queue].items())


def _queue(setting: Setting, fact: Ethtool, queue: int, asked: Mapping[str, int]) -> Change:
    now = fact.coalesce_queues[queue]
    after: Values = {KERNEL[name]: wanted for name, wanted in sorted(asked.items())}
    before: Values = {name: now.get(name, 0) for name in after}
    op = Request("coalesce_queue", before, after, ifindex=fact.ifindex, ifname=fact.ifname, item=str(queue))
    target = f"{fact.ifname} queue {queue}"
    return Change(knob=NAME, target=target, op=op, nic=setting.nic, policy=setting.policy, reason="as the policy says")


def _adapted(name: str, values: Values, fact: Ethtool) -> str:
    """The adaption that owns the value once the setting is applied; "" when none does."""
    way, _, what = name.partition("_")
    adaptive = f"adaptive_{way}"
    is_on = fact.coalesce.get(f"use_{adaptive}", False)
    will_be = values.get(adaptive, is_on) if f"use_{adaptive}" in fact.coalesce else False
    return adaptive if what in _ADAPTED and will_be else ""


def _stands(current: Value, wanted: Value) -> bool:
    if isinstance(wanted, bool):
        return bool(current) == wanted
    return coalesce_stands(int(current), int(wanted))
