"""How CPUs choose their speed and sleep. Speed and residency now are not sampled: asking each CPU may wake it up."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from collectors import sysfs
from collectors.about import About, Cost
from collectors.blockdevices import natural
from machine import Machine, NotPresentError
from wire.cpulist import format_cpulist
from wire.facts import Cpufreq, FrequencyPolicy, IdleState, UncoreDomain
from wire.text import clean

NAME = "cpufreq"
EVERY_S = 300.0
DEADLINE_S = 20.0

_CPUS = "/sys/devices/system/cpu"
_CPU = re.compile(r"cpu(\d+)")
_POLICY = re.compile(r"policy\d+")
_STATE = re.compile(r"state\d+")
_WORDS = {"driver": "scaling_driver", "governor": "scaling_governor", "preference": "energy_performance_preference"}
_SPEEDS = {
    "min_mhz": "scaling_min_freq",
    "max_mhz": "scaling_max_freq",
    "hardware_min_mhz": "cpuinfo_min_freq",
    "hardware_max_mhz": "cpuinfo_max_freq",
    "base_mhz": "base_frequency",
    "bios_limit_mhz": "bios_limit",
}
_MOST_KHZ = 20_000_000
_TURBO = ("intel_pstate/no_turbo", "cpufreq/boost")
_WORD_LISTS = ("scaling_available_governors", "energy_performance_available_preferences")

ABOUT = About(
    what="frequency driver, governor, preference, bias, limits, turbo, uncore; C-states, their latency, where they are"
    " switched off or limited",
    source="`cpuN/cpufreq`, `cpuN/cpuidle`, `cpuN/power`, `intel_pstate`, `amd_pstate`, `intel_uncore_frequency`",
    cost=Cost.SLOW,
)


class Idle(NamedTuple):
    """What tells one C-state from another."""

    order: int
    name: str
    latency_us: int | None
    residency_us: int | None


def collect(machine: Machine) -> Iterator[Cpufreq]:
    """One `Cpufreq`; raises NotPresentError where CPUs have neither frequencies nor C-states to choose."""
    found = Cpufreq(
        policies=read_policies(machine),
        turbo=read_turbo(machine),
        turbo_file=next((name for name in _TURBO if sysfs.text(machine, f"{_CPUS}/{name}") in ("0", "1")), ""),
        min_perf_pct=sysfs.number(machine, f"{_CPUS}/intel_pstate/min_perf_pct"),
        biases=read_per_cpu(machine, "energy_perf_bias"),
        wakeups=read_per_cpu(machine, "pm_qos_resume_latency_us"),
        uncore=read_uncore(machine),
        pstate=_first(machine, "intel_pstate/status", "amd_pstate/status"),
        idle_driver=_first(machine, "cpuidle/current_driver"),
        idle_governor=_first(machine, "cpuidle/current_governor", "cpuidle/current_governor_ro"),
        idle_states=read_states(machine),
    )
    nothing = Cpufreq(idle_driver=found.idle_driver, idle_governor=found.idle_governor, wakeups=found.wakeups)
    if found == nothing:  # any CPU takes a limit of its wake-up, also one that never sleeps
        raise NotPresentError(f"no frequency and no idle state in {_CPUS}")
    yield found


def read_policies(machine: Machine) -> list[FrequencyPolicy]:
    """CPUs with equal settings together, in the order of their first CPU."""
    groups: dict[tuple[tuple[str, ...], tuple[int | None, ...]], list[list[int]]] = {}
    for folder, cpus in read_folders(machine):
        words = tuple(clean(sysfs.text(machine, f"{folder}/{name}")) for name in (*_WORDS.values(), *_WORD_LISTS))
        speeds = tuple(parse_mhz(sysfs.text(machine, f"{folder}/{name}")) for name in _SPEEDS.values())
        if any(words) or any(speeds):
            groups.setdefault((words, speeds), []).append(cpus)
    return [
        FrequencyPolicy(
            cpus=format_cpulist(cpu for cpus in found for cpu in cpus),
            leaders=format_cpulist(min(cpus) for cpus in found),
            governors=words[3].split(),
            preferences=words[4].split(),
            driver=words[0],
            governor=words[1],
            preference=words[2],
            **dict(zip(_SPEEDS, speeds, strict=True)),
        )
        for (words, speeds), found in sorted(groups.items(), key=lambda group: min(min(cpus) for cpus in group[1]))
    ]


def read_folders(machine: Machine) -> Iterator[tuple[str, list[int]]]:
    """Each policy's folder with its CPUs; before Linux 4.3, and in many trees, each CPU's own."""
    shared = [name for name in sysfs.names(machine, f"{_CPUS}/cpufreq") if _POLICY.fullmatch(name)]
    for name in sorted(shared, key=natural):
        folder = f"{_CPUS}/cpufreq/{name}"
        cpus = parse_cpus(sysfs.text(machine, f"{folder}/affected_cpus"))
        if cpus:
            yield folder, cpus
    if not shared:
        for name in sysfs.names(machine, _CPUS):
            if (cpu := _CPU.fullmatch(name)) and sysfs.names(machine, f"{_CPUS}/{name}/cpufreq"):
                yield f"{_CPUS}/{name}/cpufreq", [int(cpu[1])]


def parse_cpus(text: str) -> list[int]:
    """`0 1 4`, numbers with spaces between; none for anything else."""
    return [int(word) for word in text.split()] if re.fullmatch(r"\d{1,5}(?: \d{1,5})*", text) else []


def parse_mhz(text: str) -> int | None:
    """MHz of kHz; None for 0, `<unsupported>` and what no CPU runs at."""
    khz = sysfs.parse_number(text)
    return khz // 1000 if khz is not None and 0 < khz <= _MOST_KHZ else None


def read_turbo(machine: Machine) -> bool | None:
    """Whether a CPU may go above its base frequency; None when the driver does not say."""
    off = sysfs.text(machine, f"{_CPUS}/intel_pstate/no_turbo")
    boost = sysfs.text(machine, f"{_CPUS}/cpufreq/boost")
    return {"0": True, "1": False}.get(off, {"0": False, "1": True}.get(boost))


def read_states(machine: Machine) -> list[IdleState]:
    """The C-states from the lightest, each with the CPUs that have it and those where it is switched off."""
    found: dict[Idle, IdleState] = {}
    having: dict[Idle, set[int]] = {}
    off: dict[Idle, set[int]] = {}
    for cpu, order, folder in read_state_folders(machine):
        latency, residency = (sysfs.number(machine, f"{folder}/{name}") for name in ("latency", "residency"))
        kind = Idle(order, clean(sysfs.text(machine, f"{folder}/name")), latency, residency)
        if kind not in found:
            text = clean(sysfs.text(machine, f"{folder}/desc"))
            found[kind] = IdleState(
                name=kind.name, description=text, latency_us=latency, residency_us=residency, number=order
            )
        having.setdefault(kind, set()).add(cpu)
        if sysfs.text(machine, f"{folder}/disable") not in ("0", ""):
            off.setdefault(kind, set()).add(cpu)
    for kind, state in found.items():
        state.cpus, state.disabled = format_cpulist(having[kind]), format_cpulist(off.get(kind, ()))
    return [found[kind] for kind in sorted(found, key=lambda kind: (kind.order, min(having[kind])))]


def read_state_folders(machine: Machine) -> Iterator[tuple[int, int, str]]:
    """CPU, how deep the state is among that CPU's, and the state's folder."""
    for name in sysfs.names(machine, _CPUS):
        if cpu := _CPU.fullmatch(name):
            states = sorted(filter(_STATE.fullmatch, sysfs.names(machine, f"{_CPUS}/{name}/cpuidle")), key=natural)
            for order, state in enumerate(states):
                yield int(cpu[1]), order, f"{_CPUS}/{name}/cpuidle/{state}"


def read_per_cpu(machine: Machine, name: str) -> dict[str, str]:
    """What a file of `cpuN/power` says -> the CPUs where it says so."""
    found: dict[str, set[int]] = {}
    for folder in sysfs.names(machine, _CPUS):
        cpu = _CPU.fullmatch(folder)
        if cpu and (text := clean(sysfs.text(machine, f"{_CPUS}/{folder}/power/{name}"))):
            found.setdefault(text, set()).add(int(cpu[1]))
    return {text: format_cpulist(cpus) for text, cpus in sorted(found.items(), key=lambda item: min(item[1]))}


def read_uncore(machine: Machine) -> list[UncoreDomain]:
    """The uncore's frequency domains, in the order of their names."""
    found: list[UncoreDomain] = []
    for name in sysfs.names(machine, f"{_CPUS}/intel_uncore_frequency"):
        folder = f"{_CPUS}/intel_uncore_frequency/{name}"
        now, boot = (
            [sysfs.number(machine, f"{folder}/{start}{end}_freq_khz") for end in ("min", "max")]
            for start in ("", "initial_")
        )
        if now[0] is not None and now[1] is not None:
            domain = UncoreDomain(name=name, min_khz=now[0], max_khz=now[1])
            domain.initial_min_khz, domain.initial_max_khz = boot
            found.append(domain)
    return found


def _first(machine: Machine, *names: str) -> str:
    texts = (clean(sysfs.text(machine, f"{_CPUS}/{name}")) for name in names)
    return next((text for text in texts if text and text != "none"), "")
