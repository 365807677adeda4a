"""CPUs: model, topology, caches, what is isolated, and how their clock is governed."""

import re
from collections.abc import Iterable, Iterator

from collectors import sysfs
from collectors.about import About, Cost
from collectors.numa import read_node_cpus
from machine import Machine, NotPresentError
from wire.cpulist import format_cpulist, parse_cpulist
from wire.facts import Cpu, CpuThread

NAME = "cpu"
EVERY_S = 60.0
DEADLINE_S = 10.0

_CPUS = "/sys/devices/system/cpu"
_CPU = re.compile(r"cpu(\d+)")
_INDEX = re.compile(r"index(\d+)")
_POLICY = re.compile(r"policy\d+")
_FLAG = re.compile(r"domain|nohz|managed_irq")
_S390 = re.compile(r"^processor\s+\d+:.*\bmachine\s*=\s*(\w+)", re.MULTILINE)
MODEL_FIELDS = ("model name", "Model Name", "cpu model", "cpu", "Processor", "uarch")
SIBLINGS = ("core_cpus_list", "thread_siblings_list")


ABOUT = About(
    what="model, topology, caches, isolated and nohz CPUs, governors",
    source="`/sys/devices/system/cpu`, `/proc/cpuinfo`, `/proc/cmdline` where sysfs is silent, isolated cpusets",
    cost=Cost.SLOW,
)


def collect(machine: Machine) -> Iterator[Cpu]:
    """One `Cpu` with every online CPU in it; raises NotPresentError where there is no CPU directory."""
    threads = read_threads(machine, read_online(machine))
    if not threads:
        raise NotPresentError(f"no CPU in {_CPUS}")
    driver, governors = read_governors(machine, [thread.id for thread in threads])
    yield Cpu(
        model=parse_model(sysfs.text(machine, "/proc/cpuinfo")),
        packages=len({thread.package for thread in threads} - {None}),
        cores=len({thread.siblings for thread in threads} - {""}),
        threads=len(threads),
        present=sysfs.cpulist(machine, f"{_CPUS}/present"),
        online=format_cpulist(thread.id for thread in threads),
        isolated=read_isolated(machine),
        nohz_full=read_nohz_full(machine),
        smt=sysfs.text(machine, f"{_CPUS}/smt/control"),
        governors=governors,
        driver=driver,
        cpus=threads,
    )


def read_online(machine: Machine) -> list[int]:
    """Ids of online CPUs; on a machine without the file the directories, less those that say they are not."""
    online = _ids(sysfs.text(machine, f"{_CPUS}/online"))
    if online:
        return online
    folders = {int(match[1]) for name in sysfs.names(machine, _CPUS) if (match := _CPU.fullmatch(name))}
    folders -= set(_ids(sysfs.text(machine, f"{_CPUS}/offline")))
    return sorted(cpu for cpu in folders if sysfs.number(machine, f"{_CPUS}/cpu{cpu}/online") != 0)


def read_threads(machine: Machine, online: Iterable[int]) -> list[CpuThread]:
    """One struct per online CPU; lists that several CPUs share are read once."""
    nodes = parse_cpu_nodes(read_node_cpus(machine))
    siblings: dict[int, str] = {}
    caches: dict[int, str] = {}
    threads: list[CpuThread] = []
    for cpu in online:
        topology = f"{_CPUS}/cpu{cpu}/topology"
        if cpu not in siblings:
            _share(siblings, cpu, read_siblings(machine, topology))
        if cpu not in caches:
            _share(caches, cpu, read_last_cache(machine, f"{_CPUS}/cpu{cpu}/cache"))
        threads.append(
            CpuThread(
                id=cpu,
                node=nodes.get(cpu),
                package=sysfs.node(machine, f"{topology}/physical_package_id"),
                core=sysfs.node(machine, f"{topology}/core_id"),
                siblings=siblings[cpu],
                llc=caches[cpu],
            )
        )
    return threads


def read_siblings(machine: Machine, topology: str) -> str:
    """The threads of one core as a cpulist; from the mask on kernels without the list."""
    for name in SIBLINGS:
        if found := sysfs.cpulist(machine, f"{topology}/{name}"):
            return found
    return sysfs.mask_cpulist(sysfs.text(machine, f"{topology}/thread_siblings")) or ""


def read_last_cache(machine: Machine, folder: str) -> str:
    """The CPUs that share a CPU's cache of the highest level, as a cpulist; "" when it has none or does not say."""
    indexes = sorted(int(match[1]) for name in sysfs.names(machine, folder) if (match := _INDEX.fullmatch(name)))
    levels = {index: sysfs.number(machine, f"{folder}/index{index}/level") or 0 for index in indexes}
    if not levels:
        return ""
    last = f"{folder}/index{max(indexes, key=lambda index: (levels[index], index))}"
    listed = sysfs.cpulist(machine, f"{last}/shared_cpu_list")
    return listed or sysfs.mask_cpulist(sysfs.text(machine, f"{last}/shared_cpu_map")) or ""


def parse_cpu_nodes(node_cpus: dict[int, str]) -> dict[int, int]:
    """CPU -> node; a CPU that several nodes claim has none, for then the firmware's tables are wrong."""
    claims: dict[int, set[int]] = {}
    for node, cpus in node_cpus.items():
        for cpu in parse_cpulist(cpus):
            claims.setdefault(cpu, set()).add(node)
    return {cpu: min(nodes) for cpu, nodes in claims.items() if len(nodes) == 1}


def read_isolated(machine: Machine) -> str:
    """CPUs kept out of scheduling domains: isolcpus= and the isolated cpuset partitions."""
    try:
        boot = machine.read(f"{_CPUS}/isolated")
    except NotPresentError:
        boot = parse_isolcpus(sysfs.text(machine, "/proc/cmdline"))
    partitions = sysfs.text(machine, "/sys/fs/cgroup/cpuset.cpus.isolated")
    return format_cpulist({*_ids(boot), *_ids(partitions)})


def read_nohz_full(machine: Machine) -> str:
    """CPUs without a tick; kernels print (null), blanks or a NUL for none."""
    try:
        return sysfs.normal_cpulist(machine.read(f"{_CPUS}/nohz_full"))
    except NotPresentError:
        return sysfs.normal_cpulist(parse_parameter(sysfs.text(machine, "/proc/cmdline"), "nohz_full"))


def parse_parameter(cmdline: str, name: str) -> str:
    """The value of the last `name=value` on a kernel command line."""
    values = [word.partition("=")[2] for word in cmdline.split() if word.partition("=")[0] == name]
    return values[-1] if values else ""


def parse_isolcpus(cmdline: str) -> str:
    """The CPU list of isolcpus= where it isolates scheduling domains (its default without flags)."""
    parts = parse_parameter(cmdline, "isolcpus").split(",")
    flags = {part for part in parts if _FLAG.fullmatch(part)}
    return ",".join(part for part in parts if part not in flags) if not flags or "domain" in flags else ""


def read_governors(machine: Machine, online: Iterable[int]) -> tuple[str, dict[str, str]]:
    """The cpufreq driver, and governor -> cpulist; "" and {} where the clock is not ours to govern."""
    policies = [name for name in sysfs.names(machine, f"{_CPUS}/cpufreq") if _POLICY.fullmatch(name)]
    folders = [f"{_CPUS}/cpufreq/{name}" for name in policies] or [f"{_CPUS}/cpu{cpu}/cpufreq" for cpu in online]
    drivers: set[str] = set()
    governed: dict[str, set[int]] = {}
    for folder in folders:
        if governor := sysfs.text(machine, f"{folder}/scaling_governor"):
            cpus = sysfs.text(machine, f"{folder}/affected_cpus").split()
            governed.setdefault(governor, set()).update(int(cpu) for cpu in cpus if cpu.isdecimal())
            drivers.add(sysfs.text(machine, f"{folder}/scaling_driver"))
    lists = {governor: format_cpulist(governed[governor]) for governor in sorted(governed)}
    return ",".join(sorted(drivers - {""})), lists


def parse_model(text: str) -> str:
    """The first CPU's model in /proc/cpuinfo, whatever the architecture calls it."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not line.strip() and fields:
            break
        if colon:
            fields.setdefault(name.strip(), value.strip())
    if named := next((fields[name] for name in MODEL_FIELDS if fields.get(name)), ""):
        return named
    if "CPU part" in fields:
        return f"implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    machine = _S390.search(text)
    return f"{fields.get('vendor_id', '')} {machine[1]}".strip() if machine else ""


def _ids(text: str) -> list[int]:
    try:
        return parse_cpulist(text)
    except ValueError:
        return []


def _share(known: dict[int, str], cpu: int, cpus: str) -> None:
    """Remember a shared list for all its CPUs, and in any case for the one that was asked."""
    for other in parse_cpulist(cpus):
        known.setdefault(other, cpus)
    known.setdefault(cpu, cpus)
