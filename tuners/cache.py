"""Shares of the last-level cache and of memory bandwidth, by groups of CPUs and processes (resctrl)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import structs

from tuners import cpusets, topology
from tuners.about import About, Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip
from wire.cpulist import format_cpulist
from wire.facts import CacheGroup, CacheResource, Processes, Resctrl
from wire.policy import Change, FileWrite, Op, Request, Setting

NAME = "cache"
ABOUT = About(
    stage=Stage.PLACE,
    what="shares of cache and memory bandwidth",
    interface="/sys/fs/resctrl: schemata, cpus_list, tasks",
    unit="bit mask, %",
    undo="the shares before; a group that was made is removed",
    scope=Scope.HOST,
    facts=("resctrl", "processes", "cpu", "irq", "nic"),
    quirks="bandwidth is rounded up to the hardware's steps; it is not mounted here: mount -t resctrl does that",
)
_GROUP = re.compile(r"(?!info$|mon_data$|mon_groups$)[A-Za-z0-9_.-]{1,60}")
_LINE = re.compile(r"[A-Z0-9]{2,12}:\d{1,4}=[0-9a-fA-F]{1,16}(?:;\d{1,4}=[0-9a-fA-F]{1,16})*")
_PROCESS = re.compile(r"[^=@\s]{1,32}(?:@[^=\s]{1,200})?")
_EXAMPLE = "net L3:0=f;1=f MB:0=50, batch L3:0=f0"
FULL_PERCENT = 100


def _groups_problem(text: str) -> str:
    names = [part.split()[:1] for part in text.split(",")]
    for part in text.split(","):
        words = part.split()
        if len(words) < 2 or not _GROUP.fullmatch(words[0]) or not all(map(_LINE.fullmatch, words[1:])):
            return f'must be groups with their shares, as in "{_EXAMPLE}", not "{part.strip()[:40]}"'
    return "" if len({name[0] for name in names}) == len(names) else "names a group twice"


def _group_problem(text: str) -> str:
    return "" if _GROUP.fullmatch(text) else f'must be the name of a group, not "{text[:40]}"'


VALUES: dict[str, Spec] = {
    "groups": Spec(str, f"shares of each group: {_EXAMPLE}", check=_groups_problem),
    "cpus": Spec(
        str, "CPUs of groups: net=irq", check=cpusets.pairs_problem(_GROUP, "net=irq batch=4-7", cpusets.cpus_problem)
    ),
    "processes": Spec(
        str,
        "groups of processes by name and cgroup: backup*@/system.slice/*=batch",
        check=cpusets.pairs_problem(_PROCESS, "backup*@/system.slice/*=batch", _group_problem),
    ),
}
ROOT = "/sys/fs/resctrl"


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """Groups that are made, their shares, their CPUs, their processes."""
    for setting in settings:
        if not list(facts.of(Resctrl)):
            yield skip(setting, "host", "unsupported: resctrl is not mounted, or these CPUs share out nothing")
            continue
        for part in (_made, _shares, _cpus, _tasks):
            for step in part(setting, facts.of(Resctrl)[0], facts):
                yield step
                facts = project(facts, step) if isinstance(step, Change) else facts


def wanted(setting: Setting) -> dict[str, dict[str, dict[str, int]]]:
    """Group -> resource -> domain -> share; bandwidth in percent, caches as masks."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for part in str(setting.values.get("groups", "")).split(","):
        for line in part.split()[1:]:
            resource, _, domains = line.partition(":")
            pairs = (domain.split("=") for domain in domains.split(";"))
            base = 10 if resource.startswith("MB") else 16
            shares = {domain: int(share, base) for domain, share in pairs if base == 16 or share.isdecimal()}
            found.setdefault(part.split()[0], {})[resource] = shares
    return found


def _change(setting: Setting, target: str, op: Op, reason: str) -> Change:
    return Change(knob=NAME, target=target, op=op, policy=setting.policy, reason=reason)


def _path(group: str, file: str) -> str:
    return f"{ROOT}/{group}/{file}" if group else f"{ROOT}/{file}"


def _made(setting: Setting, fact: Resctrl, facts: HostFacts) -> Iterable[Step]:  # noqa: ARG001
    have = {group.name for group in fact.groups}
    missing = [name for name in wanted(setting) if name not in have]
    room = min((resource.closids for resource in fact.resources if resource.closids), default=0) - len(have)
    if len(missing) > room:
        yield impossible(setting, "groups", f"{len(missing)} groups more, and the CPUs have room for {room}")
        return
    for name in missing:
        op = Request(message="cache_group", before={"exists": False}, after={"exists": True}, item=name)
        yield _change(setting, f"group {name}", op, "a group of its own")


def _shares(setting: Setting, fact: Resctrl, facts: HostFacts) -> Iterable[Step]:  # noqa: ARG001
    kinds = {resource.name: resource for resource in fact.resources}
    for group in fact.groups:
        for resource, shares in wanted(setting).get(group.name, {}).items():
            kind, now = kinds.get(resource), group.schemata.get(resource, {})
            target = f"{group.name} {resource}"
            if kind is None or not now:
                yield skip(setting, target, f"unsupported: there is no {resource} to share out")
            elif reason := _unfit(kind, shares, now) or _owned(group, resource, shares, fact):
                yield impossible(setting, target, reason)
            else:
                yield from _line(setting, group, kind, shares)


def _unfit(kind: CacheResource, shares: Mapping[str, int], now: Mapping[str, str]) -> str:
    """Why the hardware has no such share; "" when it has."""
    if missing := sorted(set(shares) - set(now)):
        return f"there is no domain {', '.join(missing)}; there are {', '.join(now)}"
    if not shares:
        return "bandwidth is a whole number of percent"
    if kind.cbm_mask:
        return next(filter(None, (_unfit_mask(kind, mask) for mask in shares.values())), "")
    least = kind.min_percent or 1
    wrong = [share for share in shares.values() if not least <= share <= FULL_PERCENT]
    return f"{wrong[0]} % is not within {least} to {FULL_PERCENT}" if wrong else ""


def _unfit_mask(kind: CacheResource, mask: int) -> str:
    full, least = int(kind.cbm_mask, 16), kind.min_cbm_bits or 1
    if not mask or mask & ~full:
        return f"{mask:x} is no part of {full:x}"
    if mask.bit_count() < least:
        return f"{mask:x} has fewer than {least} bits"
    gaps = not kind.sparse and "0" in f"{mask:b}".rstrip("0")
    return f"the bits of {mask:x} are not side by side" if gaps else ""


def _owned(group: CacheGroup, resource: str, shares: Mapping[str, int], fact: Resctrl) -> str:
    """Which exclusive group of somebody else's has a part of it; bandwidth belongs to nobody."""
    for other in fact.groups:
        if other.name != group.name and other.mode == "exclusive" and not resource.startswith("MB"):
            theirs = {domain: int(mask, 16) for domain, mask in other.schemata.get(resource, {}).items()}
            if any(mask & theirs.get(domain, 0) for domain, mask in shares.items()):
                return f"group {other.name} has a part of it for itself"
    return ""


def _line(setting: Setting, group: CacheGroup, kind: CacheResource, shares: Mapping[str, int]) -> Iterable[Change]:
    now = group.schemata[kind.name]
    after = dict(now)
    for domain, share in shares.items():
        step = kind.step_percent or 1
        text = f"{share:x}" if kind.cbm_mask else str(min(FULL_PERCENT, -(-share // step) * step))
        if int(text, 16) != int(now[domain], 16):
            after[domain] = text
    if after != now:
        op = FileWrite(_path(group.name, "schemata"), _schema(kind.name, now), _schema(kind.name, after))
        yield _change(setting, f"{group.name} {kind.name}", op, "as the policy says")


def _schema(resource: str, shares: Mapping[str, str]) -> str:
    """One line as the kernel takes it: without its end it is refused."""
    return f"{resource}:{';'.join(f'{domain}={share}' for domain, share in shares.items())}\n"


def _cpus(setting: Setting, fact: Resctrl, facts: HostFacts) -> Iterable[Step]:
    """Groups that lose CPUs first: the kernel takes a CPU from the group it was in, and nobody would give it back."""
    now = {group.name: set(topology.cpu_ids(group.cpus)) for group in fact.groups if group.name}
    asked: dict[str, set[int]] = {}
    for name, text in cpusets.pairs(str(setting.values.get("cpus", ""))).items():
        cpus = cpusets.members(text, facts)
        taken = {cpu for others in asked.values() for cpu in others & cpus}
        if name not in now:
            yield skip(setting, f"{name} cpus", "no such group: name it in groups")
        elif not cpus:
            yield skip(setting, f"{name} cpus", cpusets.why_none(text))
        elif taken:
            yield impossible(setting, f"{name} cpus", f"CPUs {format_cpulist(taken)} are given to two groups")
        else:
            asked[name] = cpus
    given = {cpu for cpus in asked.values() for cpu in cpus}
    after = {name: asked.get(name, cpus - given) for name, cpus in now.items()}
    for name in sorted(after, key=lambda name: (after[name] >= now[name], name)):
        if after[name] != now[name]:
            yield _cpu_write(setting, name, now[name], after[name])


def _cpu_write(setting: Setting, group: str, before: set[int], after: set[int]) -> Change:
    texts = [f"{format_cpulist(cpus)}\n" for cpus in (before, after)]  # also nothing at all is a write
    op = FileWrite(_path(group, "cpus_list"), texts[0], texts[1])
    return _change(setting, f"{group} cpus", op, "as the policy says")


def _tasks(setting: Setting, fact: Resctrl, facts: HostFacts) -> Iterable[Step]:
    patterns = cpusets.pairs(str(setting.values.get("processes", "")))
    names = {group.name for group in fact.groups}
    groups = {str(task): group.name for group in fact.groups for task in group.tasks}
    for homeless in [pattern for pattern in patterns if patterns[pattern] not in names]:
        yield skip(setting, homeless, f"no group {patterns.pop(homeless)}: name it in groups")
    for process in (one for found in facts.of(Processes) for one in found.processes):
        fits = (pattern for pattern in patterns if _fits(pattern, process.comm, process.cgroup))
        if (pattern := next(fits, None)) is None:
            continue
        group = patterns[pattern]
        threads = sorted(str(thread) for ids in process.threads.values() for thread in ids)
        if moving := [thread for thread in threads if groups.get(thread, "") != group]:
            before = {thread: groups.get(thread, "") for thread in moving}
            item = f"{process.pid}:{process.start}:{process.comm}"
            op = Request(message="cache_tasks", before={**before}, after={**dict.fromkeys(moving, group)}, item=item)
            yield _change(setting, f"{process.comm} ({process.pid})", op, f"{len(moving)} threads to group {group}")


def _fits(pattern: str, comm: str, cgroup: str) -> bool:
    name, _, where = pattern.partition("@")
    return fnmatchcase(comm, name) and fnmatchcase(cgroup, where or "*")


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one change; a new group has all of everything until its shares are written."""
    return facts.replace([_after(fact, change.op) for fact in facts.of(Resctrl)])


def _after(fact: Resctrl, op: Op) -> Resctrl:
    if isinstance(op, Request) and op.message == "cache_group":
        return structs.replace(fact, groups=[*fact.groups, _new(op.item, fact)])
    if isinstance(op, Request):
        return structs.replace(fact, groups=[_joined(group, op) for group in fact.groups])
    if not isinstance(op, FileWrite):
        return fact
    name, _, file = op.path.removeprefix(f"{ROOT}/").rpartition("/")
    return structs.replace(
        fact, groups=[_set(group, file, op.after) if group.name == name else group for group in fact.groups]
    )


def _set(group: CacheGroup, file: str, text: str) -> CacheGroup:
    if file == "cpus_list":
        return structs.replace(group, cpus=text.strip())
    return structs.replace(group, schemata=_written(group, text))


def _new(name: str, fact: Resctrl) -> CacheGroup:
    default = next(group.schemata for group in (*fact.groups, CacheGroup()) if not group.name)
    masks = {resource.name: resource.cbm_mask or str(FULL_PERCENT) for resource in fact.resources}
    schemata = {resource: dict.fromkeys(shares, masks.get(resource, "")) for resource, shares in default.items()}
    return CacheGroup(name=name, mode="shareable", schemata=schemata)


def _joined(group: CacheGroup, op: Request) -> CacheGroup:
    coming = {int(thread) for thread, name in op.after.items() if name == group.name and group.name}
    return structs.replace(group, tasks=sorted({*group.tasks, *coming} - (set(map(int, op.after)) - coming)))


def _written(group: CacheGroup, line: str) -> dict[str, dict[str, str]]:
    resource, _, text = line.strip().partition(":")
    pairs = (pair.split("=") for pair in text.split(";"))
    return {**group.schemata, resource: dict(pairs)}
