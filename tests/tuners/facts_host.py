"""Made-up facts of a whole host for the property tests: clocks and C-states, memory, services, processes, cache."""

from collections.abc import Iterable

from hypothesis import strategies as st

from tuners import cpusets, topology
from tuners.hostfacts import HostFacts
from wire.cpulist import format_cpulist
from wire.facts import (
    CacheGroup,
    CacheResource,
    Cpufreq,
    Fact,
    FrequencyPolicy,
    IdleState,
    Memory,
    Process,
    Processes,
    Resctrl,
    Slices,
    ThermalZone,
    UncoreDomain,
    Unit,
)
from wire.policy import Change, FileWrite, Request, Value, Values

_CPUS = st.sampled_from(["irq", "rest", "all"]) | st.sets(st.integers(0, 15), min_size=1).map(format_cpulist)
_UNITS = ("user.slice", "app.slice", "init.scope")  # where no process of PROCESSES is: each thing is changed once
_PREFERENCES = ["performance", "balance_performance", "balance_power", "power"]


def _pairs(names: Iterable[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    chosen = st.dictionaries(st.sampled_from(sorted(names)), values, min_size=1)
    return chosen.map(lambda found: " ".join(f"{name}={value}" for name, value in found.items()))


SPEC_VALUES: dict[str, dict[str, st.SearchStrategy[Value]]] = {
    "cpu_power": {
        "governor": st.sampled_from(["performance", "schedutil", "powersave"]),
        "epp": st.sampled_from([*_PREFERENCES, "default"]),
        "epb": st.integers(0, 15),
        "min_perf_pct": st.integers(0, 100),
        "turbo": st.booleans(),
        "cpus": _CPUS,
        "wakeup_us": st.integers(1, 200) | st.sampled_from(["none", "awake"]),
        "idle_off": st.sampled_from(["none", "C6", "C1,C6", "POLL,C1,C6", "C9"]),
        "uncore_min_mhz": st.sampled_from(["min", "max"]) | st.integers(800, 2600),
        "uncore_max_mhz": st.sampled_from(["min", "max"]) | st.integers(800, 2600),
    },
    "core_pinning": {
        "units": _pairs([*_UNITS, "none.service"], _CPUS),
        "partitions": _pairs(_UNITS, st.sampled_from(["member", "root", "isolated"])),
        "processes": _pairs(["db", "w*@/system.slice/*", "absent"], _CPUS),
        "workqueues": _CPUS,
    },
    "numa_memory": {
        "hugepages": _pairs(["2M", "node0/2M", "1G", "node7/2M"], st.integers(0, 600).map(str)),
        "reserve_mb": st.integers(64, 900),
        "numa_balancing": st.booleans(),
        "thp": st.sampled_from(["always", "never"]),
        "thp_defrag": st.sampled_from(["defer+madvise", "never"]),
        "zone_reclaim": st.integers(0, 7),
        "memory_nodes": _pairs([*_UNITS, "none.service"], st.sampled_from(["0", "1", "0-1", "7"])),
    },
    "cache": {
        "groups": st.sampled_from(["net L3:0=f;1=f0 MB:0=35", "net L3:0=5", "new MB:1=100, old L3:1=ff", "a L3:9=1"]),
        "cpus": _pairs(["net", "old", "other"], _CPUS),
        "processes": _pairs(["db", "w*"], st.sampled_from(["net", "old", "absent"])),
    },
}


@st.composite
def facts_of(draw: st.DrawFn, count: int) -> list[Fact]:
    """What collectors could say of a host of so many CPUs."""
    cpus = format_cpulist(range(count))
    unit = st.sets(st.integers(0, count - 1)).map(format_cpulist)
    zone = ThermalZone(key="acpitz", zone="thermal_zone0", passed=draw(st.sampled_from(["", "", "passive"])))
    return [*draw(st.sampled_from([[], [cpufreq(count)]])), zone, _memory(), *_places(draw(unit), cpus), _resctrl()]


def cpufreq(count: int) -> Cpufreq:
    half = range(0, count, 2)
    return Cpufreq(
        policies=[
            FrequencyPolicy(
                cpus=format_cpulist(half),
                leaders=format_cpulist(half),
                governor="powersave",
                preference="balance_power",
                hardware_min_mhz=800,
                hardware_max_mhz=3000,
                governors=["performance", "powersave"],
                preferences=_PREFERENCES,
                driver="intel_pstate",
            ),
            FrequencyPolicy(
                cpus=format_cpulist(set(range(count)) - set(half)),
                leaders=format_cpulist(set(range(count)) - set(half)),
                governor="performance",
                governors=["performance", "schedutil"],
            ),
        ],
        turbo=True,
        turbo_file="intel_pstate/no_turbo",
        min_perf_pct=26,
        biases={"6": format_cpulist(range(count))},
        wakeups={"0": format_cpulist(half), "n/a": format_cpulist(set(range(count)) - set(half))},
        uncore=[
            UncoreDomain(
                name="package_00_die_00",
                min_khz=1_200_000,
                max_khz=2_000_000,
                initial_min_khz=800_000,
                initial_max_khz=2_400_000,
            )
        ],
        idle_states=[
            IdleState(name=name, number=number, cpus=format_cpulist(range(count)), disabled="0" if number == 2 else "")
            for number, name in enumerate(["POLL", "C1", "C6"])
        ],
    )


def _memory() -> Memory:
    return Memory(
        total_kb=2 << 20,
        thp="madvise",
        thp_defrag="madvise",
        hugepages={"node0/2048kB": 100, "node1/2048kB": 0, "node0/1048576kB": 0},
        hugepages_used={"node0/2048kB": 40},
        hugepages_promised={"2048kB": 30},
        numa_balancing=2,
        zone_reclaim=0,
    )


def _places(cpus: str, everything: str) -> list[Fact]:
    paths = ["/app.slice", "/init.scope", "/system.slice", "/system.slice/db.service", "/user.slice"]
    units = [Unit(path=path, cpus=cpus if path == "/app.slice" else "") for path in paths]
    place = "/system.slice/db.service"
    return [
        Slices(units=units, cpuset=True, workqueues=everything, keepers=["/system.slice/ssh.service"]),
        Processes(
            processes=[
                Process(pid=40, start=9, comm="db", cgroup=place, threads={everything: [40, 41], "0": [42]}),
                Process(pid=50, start=9, comm="worker", cgroup=place, threads={everything: [50]}),
            ]
        ),
    ]


def _resctrl() -> Resctrl:
    full = {"L3": {"0": "ff", "1": "ff"}, "MB": {"0": "100", "1": "100"}}
    return Resctrl(
        resources=[
            CacheResource(name="L3", cbm_mask="ff", min_cbm_bits=2, closids=4),
            CacheResource(name="MB", closids=4, min_percent=10, step_percent=10),
        ],
        groups=[
            CacheGroup(mode="shareable", cpus="0-15", schemata=full),
            CacheGroup(name="old", mode="shareable", cpus="0-1", schemata=full, tasks=[41, 50]),
        ],
    )


def current(facts: HostFacts, change: Change) -> object:
    """What the facts say of the thing such a change is about, in the change's own terms; None for others' changes."""
    if change.knob not in SPEC_VALUES:
        return None
    op = change.op
    if isinstance(op, Request):
        return _REQUESTS[op.message](facts, op)
    assert isinstance(op, FileWrite)
    return _file(facts, op)


def _unit(facts: HostFacts, op: Request) -> Values:
    (unit,) = [one for one in facts.of(Slices)[0].units if one.path == op.item]
    return {name: {"AllowedCPUs": unit.cpus, "AllowedMemoryNodes": unit.mems}[name] for name in op.before}


def _threads(facts: HostFacts, op: Request) -> Values:
    (process,) = [one for one in facts.of(Processes)[0].processes if op.item == f"{one.pid}:{one.start}:{one.comm}"]
    return {str(thread): cpus for cpus, ids in process.threads.items() for thread in ids if str(thread) in op.before}


def _pool(facts: HostFacts, op: Request) -> Values:
    return {**op.before, "pages": facts.of(Memory)[0].hugepages[op.item]}


def _group(facts: HostFacts, op: Request) -> Values:
    return {"exists": op.item in [group.name for group in facts.of(Resctrl)[0].groups]}


def _tasks(facts: HostFacts, op: Request) -> Values:
    homes = {str(task): group.name for group in facts.of(Resctrl)[0].groups for task in group.tasks}
    return {thread: homes.get(thread, "") for thread in op.before}


_REQUESTS = {"unit": _unit, "threads": _threads, "hugepages": _pool, "cache_group": _group, "cache_tasks": _tasks}


def _file(facts: HostFacts, op: FileWrite) -> str:
    parts = op.path.split("/")
    if "resctrl" in parts:
        return _share(facts.of(Resctrl)[0], op, parts[4], parts[-1])
    if parts[-1] == "cpuset.cpus.partition":
        return "member"
    if parts[-1] == "cpumask":
        return cpusets_mask(facts.of(Slices)[0].workqueues)
    if parts[:5] == ["", "sys", "devices", "system", "cpu"]:
        return _power(facts.of(Cpufreq)[0], parts[5:])
    memory = facts.of(Memory)[0]
    names = {"enabled": memory.thp, "defrag": memory.thp_defrag, "numa_balancing": str(memory.numa_balancing)}
    return {**names, "zone_reclaim_mode": str(memory.zone_reclaim)}[parts[-1]]


def cpusets_mask(cpus: str) -> str:
    return f"{sum(1 << cpu for cpu in topology.cpu_ids(cpus)):x}"


def _share(fact: Resctrl, op: FileWrite, name: str, file: str) -> str:
    known = {group.name: group for group in fact.groups}
    group = known.get(name, CacheGroup(name=name, schemata=known[""].schemata))
    if file == "cpus_list":
        return f"{group.cpus}\n"
    resource = op.before.partition(":")[0]
    return f"{resource}:{';'.join(f'{domain}={share}' for domain, share in group.schemata[resource].items())}\n"


def _power(fact: Cpufreq, parts: list[str]) -> str:
    file = parts[-1]
    cpu = int(parts[0].removeprefix("cpu")) if parts[0].removeprefix("cpu").isdigit() else -1
    if file in ("scaling_governor", "energy_performance_preference"):
        (policy,) = [one for one in fact.policies if cpu in topology.cpu_ids(one.cpus)]
        return policy.governor if file == "scaling_governor" else policy.preference
    if file == "disable":
        state = next(one for one in fact.idle_states if f"state{one.number}" == parts[-2])
        return str(int(cpu in topology.cpu_ids(state.disabled)))
    tables = {"energy_perf_bias": fact.biases, "pm_qos_resume_latency_us": fact.wakeups}
    if file in tables:
        return cpusets.by_cpu(tables[file])[cpu]
    (domain,) = fact.uncore
    rest = {"min_perf_pct": str(fact.min_perf_pct), "no_turbo": str(int(not fact.turbo))}
    return {**rest, "min_freq_khz": str(domain.min_khz), "max_freq_khz": str(domain.max_khz)}[file]
