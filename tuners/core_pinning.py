"""Who runs on which CPUs: units of systemd, named processes, workqueues, so that interrupts have cores of their own."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from msgspec import structs

from tuners import cpusets, topology, units
from tuners.about import About, Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.cpulist import format_cpulist, format_cpumask, parse_cpumask
from wire.facts import Process, Processes, Slices, Unit
from wire.policy import Blast, Change, FileWrite, Request, Setting, Value

NAME = "core_pinning"
ABOUT = About(
    stage=Stage.PLACE,
    what="CPUs of services, processes and workqueues",
    interface="AllowedCPUs= of units, cpuset.cpus.partition, sched_setaffinity, workqueue/cpumask",
    unit="CPU list",
    undo="the CPUs before; threads that have ended are left out",
    blast=Blast.STARVATION,
    scope=Scope.HOST,
    facts=("slices", "processes", "cpu", "irq", "nic"),
    quirks="set until the next boot; systemd keeps an empty drop-in in /run after an undo",
)
_THREADS = re.compile(r"[^=@\s]{1,32}(?:@[^=\s]{1,200})?")
_PARTITIONS = ("member", "root", "isolated")


def _partition_problem(text: str) -> str:
    return "" if text in _PARTITIONS else f'must be {" or ".join(_PARTITIONS)}, not "{text[:20]}"'


_UNITS = "system.slice=rest app.slice=4-7"
_NAMED = "redis-server=rest qemu*@/machine.slice/*=8-15"
VALUES: dict[str, Spec] = {
    "units": Spec(
        str, f"CPUs of units: {_UNITS}", check=cpusets.pairs_problem(units.UNIT, _UNITS, cpusets.cpus_problem)
    ),
    "partitions": Spec(
        str,
        "slices that own their CPUs: app.slice=isolated",
        check=cpusets.pairs_problem(units.UNIT, "app.slice=isolated", _partition_problem),
    ),
    "processes": Spec(
        str,
        f"CPUs of processes by name and cgroup: {_NAMED}",
        check=cpusets.pairs_problem(_THREADS, _NAMED, cpusets.cpus_problem),
    ),
    "workqueues": Spec(str, cpusets.CPUS, check=cpusets.cpus_problem),
}

WORKQUEUES = "/sys/devices/virtual/workqueue/cpumask"
CGROUPS = "/sys/fs/cgroup"


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """Partitions that end, units, partitions that begin, workqueues, then the threads of processes."""
    for setting in settings:
        fact = units.slices(facts)
        if fact is None:
            yield skip(setting, "host", "unsupported: no systemd with cgroup v2")
        elif reason := _starved(setting, fact, facts):
            yield impossible(setting, "host", reason)
        else:
            for part in (_ended, _units, _begun, _workqueues, _processes):
                for step in part(setting, facts):
                    yield step
                    facts = project(facts, step) if isinstance(step, Change) else facts


def _members(text: str, setting: Setting, facts: HostFacts) -> set[int]:
    """What a word or a list means, once the setting's partitions own their CPUs: the rest has none of those."""
    named = _text(setting, "units")
    kinds = _text(setting, "partitions").items()
    owned = {cpu for name, kind in kinds if kind != "member" for cpu in topology.cpu_ids(named.get(name, ""))}
    return cpusets.members(text, facts) - (owned if text == "rest" else set())


def _text(setting: Setting, name: str) -> dict[str, str]:
    return cpusets.pairs(str(setting.values.get(name, "")))


def _wanted(setting: Setting, facts: HostFacts) -> Iterable[tuple[Unit, set[int]]]:
    """The units that run, parents first, with their CPUs."""
    named = {name: _members(text, setting, facts) for name, text in _text(setting, "units").items()}
    found = [(unit, cpus) for name, cpus in named.items() if (unit := units.find(facts, name)) and cpus]
    return sorted(found, key=lambda one: one[0].path)


def _starved(setting: Setting, fact: Slices, facts: HostFacts) -> str:
    """Why the agent, an SSH server or everything else would be left without a CPU; "" when nobody is."""
    after = fact
    for unit, cpus in _wanted(setting, facts):
        replaced = [structs.replace(one, cpus=format_cpulist(cpus)) if one == unit else one for one in after.units]
        after = structs.replace(after, units=replaced)
    online = topology.online(facts)
    sets = units.effective(after, online)
    kinds = {unit.path: unit.partition for unit in fact.units if unit.partition in _PARTITIONS[1:]}
    kinds |= {f"/{name}": kind for name, kind in _text(setting, "partitions").items()}
    owned = {path: sets[path] for path, kind in kinds.items() if kind != "member" and path in sets}
    taken = {cpu for cpus in owned.values() for cpu in cpus}
    if owned and not topology.housekeeping(facts) - taken:
        return f"{', '.join(sorted(owned))} would own every housekeeping CPU, and nothing else could run"
    for keeper in fact.keepers:
        inside = any(keeper == path or keeper.startswith(f"{path}/") for path in owned)
        cpus = units.home(keeper, sets)
        if not cpus - topology.isolated(facts) - (set() if inside else taken):
            return f"{keeper} runs the agent or an SSH server, and would have no housekeeping CPU"
    return ""


def _units(setting: Setting, facts: HostFacts) -> Iterable[Step]:
    for name, text in _text(setting, "units").items():
        if units.find(facts, name) is None:
            yield skip(setting, name, units.why_none(facts, name))
        elif not _members(text, setting, facts):
            yield skip(setting, name, cpusets.why_none(text))
    for unit, cpus in _wanted(setting, facts):
        yield from units.change(setting, unit, "AllowedCPUs", cpus)


def _ended(setting: Setting, facts: HostFacts) -> Iterable[Step]:
    """Partitions that end, before anybody else is given their CPUs."""
    return _partitions(setting, facts, {"member"})


def _begun(setting: Setting, facts: HostFacts) -> Iterable[Step]:
    return _partitions(setting, facts, {"root", "isolated"})


def _partitions(setting: Setting, facts: HostFacts, kinds: set[str]) -> Iterable[Step]:
    found = _text(setting, "partitions").items()
    for name, kind in ((name, kind) for name, kind in found if kind in kinds):
        unit = units.find(facts, name)
        if unit is None:
            yield skip(setting, name, units.why_none(facts, name))
        elif unit.path.count("/") > 1:
            yield skip(setting, name, "only a slice at the top can own CPUs: its parent would have to own them too")
        elif kind != "member" and not unit.cpus:
            yield impossible(setting, name, "it has no CPUs of its own: name it in units too")
        elif kind != "member" and (other := _sharing(unit, facts)):
            yield impossible(
                setting, name, f"{other} has some of its CPUs {unit.cpus}, which would have to be its alone"
            )
        elif (unit.partition or "member") != kind:
            op = FileWrite(f"{CGROUPS}{unit.path}/cpuset.cpus.partition", unit.partition or "member", kind)
            yield _change(setting, f"{name} partition", op, f"it owns CPUs {unit.cpus}" if unit.cpus else "")


def _sharing(unit: Unit, facts: HostFacts) -> str:
    """Another unit at the top that has CPUs of the unit's for its own; "" when none has."""
    fact, mine = units.slices(facts), set(topology.cpu_ids(unit.cpus))
    others = (one for one in fact.units if one.path.count("/") == 1 and one.path != unit.path) if fact else ()
    return next((one.path for one in others if mine & set(topology.cpu_ids(one.cpus))), "")


def _workqueues(setting: Setting, facts: HostFacts) -> Iterable[Step]:
    fact = units.slices(facts)
    if "workqueues" not in setting.values or fact is None:
        return
    text = str(setting.values["workqueues"])
    cpus, now = _members(text, setting, facts), set(topology.cpu_ids(fact.workqueues))
    if not now:
        yield skip(setting, "workqueues", "unsupported: the kernel does not say where they run")
    elif not cpus:
        yield skip(setting, "workqueues", cpusets.why_none(text))
    elif cpus != now & topology.online(facts):
        op = FileWrite(WORKQUEUES, format_cpumask(now), format_cpumask(cpus))
        yield _change(setting, "workqueues", op, f"unbound work on CPUs {format_cpulist(cpus)}")


def _change(setting: Setting, target: str, op: FileWrite | Request, reason: str) -> Change:
    return Change(knob=NAME, target=target, op=op, blast=Blast.STARVATION, policy=setting.policy, reason=reason)


def _processes(setting: Setting, facts: HostFacts) -> Iterable[Step]:
    """Each process is the first pattern's that fits it, the agent's and SSH servers' none's."""
    fact, found = units.slices(facts), next(iter(facts.of(Processes)), None)
    patterns = _text(setting, "processes")
    if not patterns or fact is None or found is None:
        return
    sets = units.effective(fact, topology.online(facts))
    chosen = {one.pid: pattern for one in found.processes if (pattern := _fitting(one, patterns, fact))}
    for pattern in patterns:
        if pattern not in chosen.values():
            yield skip(setting, pattern, "no such process has run for ten seconds")
    for process in found.processes:
        if process.pid in chosen:
            text = patterns[chosen[process.pid]]
            yield from _pin(setting, process, _members(text, setting, facts), units.home(process.cgroup, sets), text)


def _fitting(process: Process, patterns: Iterable[str], fact: Slices) -> str:
    if process.pid == 1 or process.cgroup in fact.keepers:
        return ""
    for pattern in patterns:
        comm, _, cgroup = pattern.partition("@")
        if fnmatchcase(process.comm, comm) and fnmatchcase(process.cgroup, cgroup or "*"):
            return pattern
    return ""


def _pin(setting: Setting, process: Process, cpus: set[int], allowed: set[int], text: str) -> Iterable[Step]:
    """One request per process; a thread that is on a single CPU was put there by its own program and stays."""
    target, wanted = f"{process.comm} ({process.pid})", format_cpulist(cpus & allowed)
    if not cpus:
        yield skip(setting, target, cpusets.why_none(text))
    elif not wanted:
        yield skip(setting, target, f"its cgroup is on CPUs {format_cpulist(allowed)}, with none of {text}")
    else:
        before: dict[str, Value] = {
            str(thread): now
            for now, threads in process.threads.items()
            if now != wanted and len(topology.cpu_ids(now)) > 1
            for thread in threads
        }
        if before:
            op = Request(
                message="threads",
                before=before,
                after=dict.fromkeys(before, wanted),
                item=f"{process.pid}:{process.start}:{process.comm}",
            )
            yield _change(setting, target, op, f"{len(before)} threads on CPUs {wanted}")


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one change."""
    op, fact = change.op, units.slices(facts)
    if fact is None:
        return facts
    if isinstance(op, Request) and op.message == "unit":
        return units.project(facts, change)
    if isinstance(op, Request):
        return facts.replace([_pinned(found, op) for found in facts.of(Processes)])
    if isinstance(op, FileWrite) and op.path == WORKQUEUES:
        return facts.replace([structs.replace(fact, workqueues=format_cpulist(parse_cpumask(op.after)))])
    return _owned(facts, fact, op) if isinstance(op, FileWrite) else facts


def _owned(facts: HostFacts, fact: Slices, op: FileWrite) -> HostFacts:
    """The facts after a partition began or ended; what that isolates is known when the CPUs are read again."""
    path = op.path.removeprefix(CGROUPS).removesuffix("/cpuset.cpus.partition")
    after = [structs.replace(one, partition=op.after) if one.path == path else one for one in fact.units]
    return facts.replace([structs.replace(fact, units=after)])


def _pinned(found: Processes, op: Request) -> Processes:
    pid = int(op.item.partition(":")[0])

    def threads(process: Process) -> dict[str, list[int]]:
        after: dict[str, list[int]] = {}
        for now, ids in process.threads.items():
            for thread in ids:
                after.setdefault(str(op.after.get(str(thread), now)), []).append(thread)
        return {cpus: sorted(after[cpus]) for cpus in sorted(after)}

    processes = [structs.replace(one, threads=threads(one)) if one.pid == pid else one for one in found.processes]
    return structs.replace(found, processes=processes)
