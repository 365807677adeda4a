"""How a NIC's queues are polled: by softirq or by threads, how long their interrupts stay off, and on which CPUs."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from tuners.about import About, Stage
from tuners.hostfacts import HostFacts
from tuners.irq_affinity import pinned
from tuners.knob import Spec, Step, skip
from wire.facts import Napi, NapiInstance
from wire.policy import Blast, Change, FileWrite, Op, Request, Setting, Value, Values

NAME = "napi"
ABOUT = About(
    stage=Stage.PLACE,
    what="how queues are polled",
    interface="/sys/class/net/X, netdev-genl NAPI_SET (6.13), sched_setaffinity",
    unit="ns, polls, CPU list",
    undo="the values before, of each NAPI where the kernel has them; a thread's CPUs before",
    blast=Blast.STARVATION,
    facts=("nic", "napi", "irq"),
    quirks="values of single NAPIs are lost when the interface goes down, but on drivers that keep them",
)
# Our word -> the file, the field of the fact, the name in a request "napi".
_FILES = {
    "threaded": ("threaded", "threaded"),
    "defer_hard_irqs": ("napi_defer_hard_irqs", "defer_hard_irqs"),
    "gro_flush_timeout_ns": ("gro_flush_timeout", "gro_flush_timeout_ns"),
}
_EACH = {
    "defer_hard_irqs": "defer_hard_irqs",
    "gro_flush_timeout_ns": "gro_flush_timeout",
    "irq_suspend_timeout_ns": "irq_suspend_timeout",
}
_SECOND_NS = 1_000_000_000
VALUES: dict[str, Spec] = {
    "threaded": Spec(bool, "a kernel thread polls each NAPI"),
    "defer_hard_irqs": Spec(int, "empty polls before the interrupt comes back", 0, 1000),
    "gro_flush_timeout_ns": Spec(int, "ns until the next of these polls", 0, _SECOND_NS),
    "irq_suspend_timeout_ns": Spec(int, "ns for which a busy application keeps interrupts off", 0, _SECOND_NS),
    "pin_threads": Spec(bool, "each thread runs on the CPU of its interrupt"),
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One write per value for the whole NIC; single NAPIs only where one differs by itself or only NAPIs have it."""
    known = {fact.key: fact for fact in facts.of(Napi)}
    for setting in settings:
        fact = known.get(setting.nic)
        if fact is None:
            yield skip(setting, facts.nics[setting.nic].ifname, "the kernel does not say how it is polled")
            continue
        for name in (name for name in _FILES if name in setting.values):
            yield from _device(setting, fact, name)
        if "irq_suspend_timeout_ns" in setting.values:
            yield from _suspend(setting, fact)
        if "pin_threads" in setting.values:
            yield from _pins(setting, fact, facts)


def _device(setting: Setting, fact: Napi, name: str) -> Iterable[Step]:
    """The file sets every NAPI, so it is written as long as none had a value of its own to go back to."""
    file, field = _FILES[name]
    current, wanted = getattr(fact, field), setting.values[name]
    if current is None:
        yield skip(setting, f"{fact.ifname} {name}", f"the kernel has no {file}")
        return
    own = [napi for napi in fact.instances if getattr(napi, field, None) not in (None, current)]
    if own:
        yield from _each(setting, fact, name)
    elif current != wanted:
        texts = (str(int(current)), str(int(wanted)))
        op = FileWrite(f"/sys/class/net/{{ifname}}/{file}", *texts, ifindex=fact.ifindex)
        yield _change(setting, f"{fact.ifname} {name}", op, "as the policy says")


def _each(setting: Setting, fact: Napi, name: str) -> Iterable[Change]:
    wanted = setting.values[name]
    for napi in fact.instances:
        current = getattr(napi, name)
        if current is not None and current != wanted:
            op = _request(fact, napi, "napi", ({_EACH[name]: current}, {_EACH[name]: wanted}))
            yield _change(setting, f"{fact.ifname} napi {napi.id}", op, "as the policy says")


def _suspend(setting: Setting, fact: Napi) -> Iterable[Step]:
    if not any(napi.irq_suspend_timeout_ns is not None for napi in fact.instances):
        yield skip(setting, f"{fact.ifname} irq_suspend_timeout_ns", "the kernel has none here (6.13 has, per NAPI)")
    yield from _each(setting, fact, "irq_suspend_timeout_ns")


def _request(fact: Napi, napi: NapiInstance, message: str, values: tuple[Values, Values]) -> Request:
    return Request(message, *values, ifindex=fact.ifindex, ifname=fact.ifname, item=str(napi.id))


def _change(setting: Setting, target: str, op: Op, reason: str, blast: Blast = Blast.SAFE) -> Change:
    return Change(knob=NAME, target=target, op=op, blast=blast, nic=setting.nic, policy=setting.policy, reason=reason)


def _pins(setting: Setting, fact: Napi, facts: HostFacts) -> Iterable[Step]:
    """Threads to the CPUs of their interrupts, or back to where kernel threads run; those there will be, too."""
    if not setting.values.get("threaded", fact.threaded):
        yield skip(setting, f"{fact.ifname} pin_threads", "there are no threads: threaded is off")
        return
    homes = _homes(fact, facts)
    if setting.values["pin_threads"] and len(homes) < len(fact.instances):
        left = len(fact.instances) - len(homes)
        reason = f"the kernel does not say which CPU serves {left} of {len(fact.instances)} NAPIs"
        yield skip(setting, f"{fact.ifname} pin_threads", reason)
    for napi in fact.instances:
        wanted = homes.get(napi.id, napi.cpus) if setting.values["pin_threads"] else ""
        if napi.cpus != wanted:
            op = _request(fact, napi, "napi_thread", ({"cpus": napi.cpus}, {"cpus": wanted}))
            yield _change(setting, f"{fact.ifname} thread of napi {napi.id}", op, "its interrupt's", Blast.STARVATION)


def _homes(fact: Napi, facts: HostFacts) -> dict[int, str]:
    """The CPU of each NAPI's interrupt, as text, where it has one alone."""
    irq = facts.irq.get(fact.key)
    cpus: Mapping[int, int | None] = {queue.irq: pinned(queue) for queue in (irq.queues if irq else [])}
    found = {napi.id: cpus.get(napi.irq) for napi in fact.instances if napi.irq is not None}
    return {number: str(cpu) for number, cpu in found.items() if cpu is not None}


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one write: a file's value is every NAPI's."""
    (fact,) = (fact for fact in facts.of(Napi) if fact.key == change.nic)
    op = change.op
    if isinstance(op, FileWrite):
        file = op.path.rpartition("/")[2]
        field = next(field for known, field in _FILES.values() if known == file)
        value = bool(int(op.after)) if field == "threaded" else int(op.after)
        told = [structs.replace(napi, **_told(napi, field, value)) for napi in fact.instances]
        return facts.replace([structs.replace(fact, instances=told, **{field: value})])
    if isinstance(op, Request):
        fields = {"cpus": "cpus", **{name: field for field, name in _EACH.items()}}
        after = {fields[name]: value for name, value in op.after.items()}
        changed = [structs.replace(napi, **after) if str(napi.id) == op.item else napi for napi in fact.instances]
        return facts.replace([structs.replace(fact, instances=changed)])
    return facts


def _told(napi: NapiInstance, field: str, value: Value) -> dict[str, Value]:
    return {field: value} if getattr(napi, field, None) is not None else {}
