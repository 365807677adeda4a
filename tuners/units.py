"""Units of systemd in plans: found by name, given CPUs or memory nodes, and what that does to what runs in them."""

import re
from collections.abc import Iterable, Mapping

from msgspec import structs

from tuners import topology
from tuners.hostfacts import HostFacts
from wire.cpulist import format_cpulist
from wire.facts import Process, Processes, Slices, Unit
from wire.policy import Blast, Change, Request, Setting

UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}\.(?:slice|service|scope)")
_FIELD = {"AllowedCPUs": "cpus", "AllowedMemoryNodes": "mems"}


def slices(facts: HostFacts) -> Slices | None:
    """What systemd runs, None where it does not with cgroup v2."""
    return next(iter(facts.of(Slices)), None)


def find(facts: HostFacts, name: str) -> Unit | None:
    """The running unit of that name; of several (in the trees of users) the first by path."""
    fact = slices(facts)
    found = (unit for unit in fact.units if unit.path.rpartition("/")[2] == name) if fact and fact.cpuset else ()
    return next(iter(found), None)


def why_none(facts: HostFacts, name: str) -> str:
    """Why there is no such unit to set."""
    fact = slices(facts)
    if fact is None:
        return "unsupported: no systemd with cgroup v2"
    return f"{name} is not running" if fact.cpuset else "unsupported: the kernel has no cpuset controller"


def change(setting: Setting, unit: Unit, name: str, ids: Iterable[int]) -> Iterable[Change]:
    """A request that gives the unit these CPUs or memory nodes, unless it has them."""
    now, wanted = getattr(unit, _FIELD[name]), format_cpulist(ids)
    if now != wanted:
        op = Request(message="unit", before={name: now}, after={name: wanted}, item=unit.path)
        yield Change(
            knob=setting.knob,
            target=unit.path.rpartition("/")[2],
            op=op,
            blast=Blast.STARVATION,
            policy=setting.policy,
            reason=f"{name}={wanted}",
        )


def project(facts: HostFacts, made: Change) -> HostFacts:
    """The facts after such a request: the unit, all below it, and their processes."""
    fact, op = slices(facts), made.op
    if fact is None or not isinstance(op, Request):
        return facts
    for name, text in op.after.items():
        found = [structs.replace(unit, **{_FIELD[name]: text}) if unit.path == op.item else unit for unit in fact.units]
        fact = structs.replace(fact, units=found)
    if "AllowedCPUs" not in op.after:
        return facts.replace([fact])
    after = effective(fact, topology.online(facts))
    moved = [_moved(one, effective(slices(facts), topology.online(facts)), after) for one in facts.of(Processes)]
    return facts.replace([fact, *moved])


def effective(fact: Slices | None, online: set[int]) -> dict[str, set[int]]:
    """The CPUs of each unit by its path, as the kernel makes them of its own and its parents'; "" is all."""
    found: dict[str, set[int]] = {"": online, "/": online}
    for unit in fact.units if fact else ():
        above = found.get(unit.path.rpartition("/")[0], online)
        own = set(topology.cpu_ids(unit.cpus)) & above
        found[unit.path] = own or above  # a set without any of the parent's CPUs is the parent's
    return found


def home(path: str, sets: Mapping[str, set[int]]) -> set[int]:
    """The CPUs of the nearest unit above a cgroup."""
    while path not in sets:
        path = path.rpartition("/")[0]
    return sets[path]


def _moved(fact: Processes, before: Mapping[str, set[int]], after: Mapping[str, set[int]]) -> Processes:
    def thread(process: Process, text: str) -> str:
        cpus, old, new = set(topology.cpu_ids(text)), home(process.cgroup, before), home(process.cgroup, after)
        return text if old == new else format_cpulist(new if cpus == old else (cpus & new or new))

    def one(process: Process) -> Process:
        threads: dict[str, list[int]] = {}
        for text, ids in process.threads.items():
            threads.setdefault(thread(process, text), []).extend(ids)
        return structs.replace(process, threads={text: sorted(threads[text]) for text in sorted(threads)})

    return structs.replace(fact, processes=[one(process) for process in fact.processes])
