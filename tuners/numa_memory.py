"""Memory by node: huge pages, which nodes services may take, and what the kernel moves or merges by itself."""

import re
from collections.abc import Iterable, Iterator, Sequence

from msgspec import structs

from tuners import cpusets, topology, units
from tuners.about import About, Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip, whole
from wire.facts import Memory
from wire.policy import Blast, Change, FileWrite, Request, Setting

NAME = "numa_memory"
ABOUT = About(
    stage=Stage.PLACE,
    what="huge pages, memory nodes of services, NUMA balancing",
    interface="nodeN/hugepages, transparent_hugepage, numa_balancing, zone_reclaim_mode, AllowedMemoryNodes= of units",
    unit="pages, words, node list",
    undo="the values and page counts before; a request that is half met is undone",
    blast=Blast.STARVATION,
    scope=Scope.HOST,
    facts=("memory", "numa", "slices"),
    quirks="NUMAPolicy= cannot be set on a running service: its cgroup's nodes are, which moves its pages",
)
_UNITS_KB = {"K": 1, "M": 1 << 10, "G": 1 << 20}
_POOL = re.compile(r"(?:node\d{1,4}/)?[1-9]\d{0,3}[KMG]")
_RECLAIM_MOST = 7


def _count_problem(text: str) -> str:
    return "" if text.isdecimal() and len(text) <= 9 else f'must be a number of pages, not "{text[:20]}"'


VALUES: dict[str, Spec] = {
    "hugepages": Spec(
        str,
        "pages of a size, on every node or on one: 2M=512 node0/1G=4",
        check=cpusets.pairs_problem(_POOL, "2M=512 node0/1G=4", _count_problem),
    ),
    "reserve_mb": Spec(int, "memory that huge pages leave available", 64, 1 << 24),
    "numa_balancing": Spec(bool, "the kernel moves pages to who uses them"),
    "thp": Spec(str, "transparent huge pages", words=("always", "madvise", "never")),
    "thp_defrag": Spec(str, "how hard to try", words=("always", "defer", "defer+madvise", "madvise", "never")),
    "zone_reclaim": Spec(int, "reclaim on the own node before taking from another", 0, _RECLAIM_MOST),
    "memory_nodes": Spec(
        str,
        "nodes of units: redis.service=0 machine.slice=1",
        check=cpusets.pairs_problem(units.UNIT, "redis.service=0 machine.slice=1", cpusets.nodes_problem),
    ),
}
RESERVE_SHARE, RESERVE_LEAST_MB = 20, 256  # a twentieth of the memory, and for the smallest machines this
_FILES = {
    "thp": "/sys/kernel/mm/transparent_hugepage/enabled",
    "thp_defrag": "/sys/kernel/mm/transparent_hugepage/defrag",
    "numa_balancing": "/proc/sys/kernel/numa_balancing",
    "zone_reclaim": "/proc/sys/vm/zone_reclaim_mode",
}


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """Files that differ, then units, then pools of huge pages: those that shrink before those that grow."""
    for setting in settings:
        if facts.memory is None:
            yield skip(setting, "host", "the memory is not known")
            continue
        for name in _FILES:
            if name in setting.values:
                yield from _file(setting, name, facts.memory)
        yield from _nodes(setting, facts)
        pools = list(_pools(setting, facts.memory, facts))
        yield from sorted(pools, key=_grows)


def _grows(step: Step) -> bool:
    return isinstance(step, Change) and isinstance(step.op, Request) and _pages(step.op) > 0


def _pages(op: Request) -> int:
    return whole(op.after, "pages") - whole(op.before, "pages")


def _file(setting: Setting, name: str, memory: Memory) -> Iterable[Step]:
    value, now = setting.values[name], getattr(memory, name)
    if now is None or now == "":
        yield skip(setting, name, f"unsupported: this kernel has no {_FILES[name].rpartition('/')[2]}")
        return
    stands = bool(now) == value if isinstance(value, bool) else str(now) == str(value)  # balancing may also be 2: tiers
    if not stands:
        after = str(int(value)) if isinstance(value, bool) else str(value)
        op = FileWrite(_FILES[name], str(now), after)
        yield Change(knob=NAME, target=name, op=op, policy=setting.policy, reason="as the policy says")


def _nodes(setting: Setting, facts: HostFacts) -> Iterable[Step]:
    wanted = cpusets.pairs(str(setting.values.get("memory_nodes", "")))
    for name, text in wanted.items():
        unit, nodes = units.find(facts, name), set(topology.cpu_ids(text))
        if unit is None:
            yield skip(setting, name, units.why_none(facts, name))
        elif missing := nodes - cpusets.memory_nodes(facts):
            yield impossible(setting, name, f"no memory on node {', '.join(map(str, sorted(missing)))}")
        else:
            yield from units.change(setting, unit, "AllowedMemoryNodes", nodes)


def _pools(setting: Setting, memory: Memory, facts: HostFacts) -> Iterable[Step]:
    wanted: dict[str, int] = {}
    for text, asked in sorted(cpusets.pairs(str(setting.values.get("hugepages", ""))).items(), key=_one_node_last):
        pools = list(_named(text, memory))
        if not pools:
            yield skip(setting, f"hugepages {text}", _no_pool(text, memory))
        wanted.update(dict.fromkeys(pools, int(asked)))
    floor_mb = max(memory.total_kb // 1024 // RESERVE_SHARE, RESERVE_LEAST_MB)
    reserve_kb = whole(setting.values, "reserve_mb", floor_mb) * 1024
    if reason := _too_much(wanted, memory, facts, reserve_kb):
        yield impossible(setting, "hugepages", reason)
        return
    for pool, count in wanted.items():
        if count != memory.hugepages[pool]:
            yield _pool(setting, pool, memory, count, reserve_kb)


def _one_node_last(item: tuple[str, str]) -> tuple[bool, str]:
    return "/" in item[0], item[0]


def _named(text: str, memory: Memory) -> Iterator[str]:
    """The pools that `2M` (of every node) or `node0/2M` means."""
    owner, _, size = text.rpartition("/")
    suffix = f"/{int(size[:-1]) * _UNITS_KB[size[-1]]}kB"
    return (pool for pool in memory.hugepages if pool.endswith(suffix) and owner in ("", pool.partition("/")[0]))


def _no_pool(text: str, memory: Memory) -> str:
    return f"no huge pages {text}; there are {', '.join(memory.hugepages) or 'none'}"


def _size_kb(pool: str) -> int:
    return int(pool.rpartition("/")[2].removesuffix("kB"))


def _too_much(wanted: dict[str, int], memory: Memory, facts: HostFacts, reserve_kb: int) -> str:
    """Why the machine could never have these pools; "" when it could."""
    after = {**memory.hugepages, **wanted}
    total = sum(count * _size_kb(pool) for pool, count in after.items())
    grows = any(count > memory.hugepages[pool] for pool, count in wanted.items())
    if grows and total + reserve_kb > memory.total_kb:
        return (
            f"{total // 1024} MiB of huge pages leave less than {reserve_kb // 1024} MiB of {memory.total_kb // 1024}"
        )
    for node in facts.numa:
        taken = sum(count * _size_kb(pool) for pool, count in after.items() if pool.startswith(f"{node.key}/"))
        mine = any(count > memory.hugepages[pool] for pool, count in wanted.items() if pool.startswith(f"{node.key}/"))
        if mine and node.memory_kb is not None and taken > node.memory_kb:
            return f"{node.key} has {node.memory_kb // 1024} MiB, and {taken // 1024} MiB are asked for"
    return next(filter(None, (_in_use(pool, count, after, memory) for pool, count in wanted.items())), "")


def _in_use(pool: str, count: int, after: dict[str, int], memory: Memory) -> str:
    used = memory.hugepages_used.get(pool, 0)
    if count < used:
        return f"{used} pages of {pool} are in use, and {count} are asked for"
    size = pool.rpartition("/")[2]
    everywhere = sum(pages for name, pages in after.items() if name.endswith(f"/{size}"))
    needed = sum(pages for name, pages in memory.hugepages_used.items() if name.endswith(f"/{size}"))
    needed += memory.hugepages_promised.get(size, 0)
    if count < memory.hugepages[pool] and everywhere < needed:
        return f"{needed} pages of {size} are in use or promised, and {everywhere} are asked for"
    return ""


def _pool(setting: Setting, pool: str, memory: Memory, count: int, reserve_kb: int) -> Change:
    op = Request(
        message="hugepages",
        before={"pages": memory.hugepages[pool], "reserve_kb": reserve_kb},
        after={"pages": count, "reserve_kb": reserve_kb},
        item=pool,
    )
    blast = Blast.STARVATION if _pages(op) > 0 else Blast.SAFE
    reason = f"{abs(_pages(op)) * _size_kb(pool) // 1024} MiB {'more' if _pages(op) > 0 else 'less'}"
    return Change(knob=NAME, target=f"hugepages {pool}", op=op, blast=blast, policy=setting.policy, reason=reason)


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one change."""
    op, memory = change.op, facts.memory
    if memory is None:
        return facts
    if isinstance(op, Request) and op.message == "hugepages":
        pages = {**memory.hugepages, op.item: whole(op.after, "pages")}
        return facts.replace([structs.replace(memory, hugepages=pages)])
    if isinstance(op, Request):
        return units.project(facts, change)
    name = next((name for name, path in _FILES.items() if isinstance(op, FileWrite) and op.path == path), "")
    if not name or not isinstance(op, FileWrite):
        return facts
    is_number = name in ("numa_balancing", "zone_reclaim")
    return facts.replace([structs.replace(memory, **{name: int(op.after) if is_number else op.after})])
