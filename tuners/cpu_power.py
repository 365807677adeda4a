"""How fast and how awake the CPUs are kept: governor, preference, turbo, C-states, uncore; cool while it is too hot."""

import re
from collections.abc import Callable, Iterable, Sequence

from msgspec import structs

from tuners import cpusets, topology
from tuners.about import About, Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.knob import Spec, Step, impossible, skip, whole
from wire.cpulist import format_cpulist
from wire.facts import Cpufreq, FrequencyPolicy, IdleState, PowerMeter, ThermalZone
from wire.policy import Change, FileWrite, Setting, Values

NAME = "cpu_power"
ABOUT = About(
    stage=Stage.PLACE,
    what="how fast and how awake CPUs are kept",
    interface="cpufreq, intel_pstate, cpuN/power, cpuidle, intel_uncore_frequency in /sys/devices/system/cpu",
    unit="words, %, µs, MHz",
    undo="the values before; while a temperature is too high the cool ones are set instead",
    scope=Scope.HOST,
    facts=("cpufreq", "cpu", "irq", "nic", "hwmon", "thermal", "power"),
    quirks="intel_pstate and amd-pstate-epp keep their preference at performance under the performance governor",
)
_STATES = re.compile(r"[A-Za-z0-9_.+-]+(?:,[A-Za-z0-9_.+-]+)*")


def _states_problem(text: str) -> str:
    return "" if _STATES.fullmatch(text) else f'must be "none" or names of C-states such as C6,C1E, not "{text[:40]}"'


_GOVERNORS = ("performance", "schedutil", "ondemand", "conservative", "powersave")
_PREFERENCES = ("performance", "balance_performance", "default", "balance_power", "power")
VALUES: dict[str, Spec] = {
    "governor": Spec(str, "who chooses the frequency", words=_GOVERNORS),
    "epp": Spec(str, "the hardware's preference between speed and energy", words=_PREFERENCES),
    "epb": Spec(int, "energy bias: 0 is speed, 15 is saving", 0, 15),
    "min_perf_pct": Spec(int, "the least share of the highest speed (intel_pstate)", 0, 100),
    "turbo": Spec(bool, "above the base frequency"),
    "cpus": Spec(str, cpusets.CPUS, check=cpusets.cpus_problem),
    "wakeup_us": Spec(int, "the longest a CPU may take to wake up", 1, 1_000_000, words=("none", "awake")),
    "idle_off": Spec(str, 'C-states to switch off, "none" for none', check=_states_problem),
    "uncore_min_mhz": Spec(int, "lower limit of the uncore's clock", 100, 10_000, words=("min", "max")),
    "uncore_max_mhz": Spec(int, "upper limit of the uncore's clock", 100, 10_000, words=("min", "max")),
}

CPUS = "/sys/devices/system/cpu"
_FORCED = ("intel_pstate", "amd-pstate-epp")  # drivers that fix the preference under the governor performance
_WAKEUP = {"none": "0", "awake": "n/a"}  # pm_qos_resume_latency_us: 0 is no limit, n/a is no latency at all
_COOL_GOVERNORS = ("schedutil", "ondemand", "conservative", "powersave")
_COOL_BIAS = 6  # the hardware's own default


def too_hot(facts: HostFacts) -> str:
    """Which temperature or power is over its limit; "" when none is."""
    hot = [f"{one.chip} {one.label or one.channel} raises its alarm" for one in facts.hwmon.values() if one.hot]
    hot += [f"{one.key} is past its {one.passed} trip point" for one in facts.of(ThermalZone) if one.passed]
    hot += [f"{one.chip} {one.channel} is over its power limit" for one in facts.of(PowerMeter) if one.alarm]
    return hot[0] if hot else ""


def cooled(values: Values, fact: Cpufreq) -> Values:
    """The values with those that make heat replaced by ones that do not."""
    cool = dict(values)
    governors = {name for policy in fact.policies for name in policy.governors}
    if values.get("governor") == "performance":
        cool["governor"] = next((name for name in _COOL_GOVERNORS if name in governors), "performance")
    if values.get("epp") in ("performance", "balance_performance"):
        cool["epp"] = "balance_power"
    if "epb" in values:
        cool["epb"] = max(whole(values, "epb"), _COOL_BIAS)
    replaced: Values = {"min_perf_pct": 0, "turbo": False, "wakeup_us": "none", "idle_off": "none"}
    cool.update({name: value for name, value in replaced.items() if name in values})
    if "uncore_min_mhz" in values:
        cool["uncore_min_mhz"] = "min"
    return cool


def plan(settings: Sequence[Setting], facts: HostFacts) -> Iterable[Step]:
    """One write per file that differs; while something is too hot, the cool values, and a skip that says so."""
    for setting in settings:
        fact = next(iter(facts.of(Cpufreq)), None)
        if fact is None:
            yield skip(setting, "host", "unsupported: the CPUs have neither frequencies nor C-states to set")
            continue
        if reason := too_hot(facts):
            values = cooled(setting.values, fact)
            if values != setting.values:
                yield skip(setting, "host", f"too hot: {reason}; kept cool until it is over")
            setting = structs.replace(setting, values=values)  # noqa: PLW2901
        for part in dict.fromkeys(part for name, part in _PARTS.items() if name in setting.values):
            for step in part(setting, fact, facts):
                yield step
                fact = _after(fact, step) if isinstance(step, Change) else fact


def project(facts: HostFacts, change: Change) -> HostFacts:
    """The facts after one write."""
    return facts.replace([_after(fact, change) for fact in facts.of(Cpufreq)])


def _write(setting: Setting, file: str, texts: tuple[str, str], reason: str = "as the policy says") -> Change:
    target = file.replace("/cpufreq/", " ").replace("/power/", " ").replace("/", " ")
    op = FileWrite(f"{CPUS}/{file}", *texts)
    return Change(knob=NAME, target=target, op=op, policy=setting.policy, reason=reason)


def _per_policy(fact: Cpufreq, file: str) -> Iterable[tuple[FrequencyPolicy, str]]:
    """Each of the kernel's policies with the file's path below CPUS, by the policy's first CPU."""
    found = [(cpu, policy) for policy in fact.policies for cpu in topology.cpu_ids(policy.leaders)]
    return [(policy, f"cpu{cpu}/cpufreq/{file}") for cpu, policy in sorted(found, key=lambda one: one[0])]


def _governor(setting: Setting, fact: Cpufreq, facts: HostFacts) -> Iterable[Step]:  # noqa: ARG001
    wanted = str(setting.values["governor"])
    able = [policy for policy in fact.policies if wanted in policy.governors]
    if lacking := _cpus(policy for policy in fact.policies if policy not in able):
        yield skip(setting, f"cpu {lacking} governor", f"the driver has no governor {wanted}")
    if not fact.policies:
        yield skip(setting, "governor", "unsupported: the CPUs have no frequencies to choose")
    for policy, file in _per_policy(fact, "scaling_governor"):
        if policy in able and policy.governor != wanted:
            yield _write(setting, file, (policy.governor, wanted))


def _epp(setting: Setting, fact: Cpufreq, facts: HostFacts) -> Iterable[Step]:  # noqa: ARG001
    wanted = str(setting.values["epp"])
    fixed = [one for one in fact.policies if one.governor == "performance" and one.driver in _FORCED]
    able = [policy for policy in fact.policies if wanted in policy.preferences and policy not in fixed]
    if fixed and wanted != "performance":
        reason = "under the governor performance the driver keeps the preference at performance"
        yield skip(setting, f"cpu {_cpus(fixed)} epp", reason)
    if lacking := _cpus(policy for policy in fact.policies if policy not in able and policy not in fixed):
        yield skip(setting, f"cpu {lacking} epp", f"the hardware takes no preference {wanted}")
    if not fact.policies:
        yield skip(setting, "epp", "unsupported: the CPUs have no frequencies to choose")
    for policy, file in _per_policy(fact, "energy_performance_preference"):
        if policy in able and policy.preference != wanted:
            yield _write(setting, file, (policy.preference, wanted))


def _cpus(policies: Iterable[FrequencyPolicy]) -> str:
    return format_cpulist(cpu for policy in policies for cpu in topology.cpu_ids(policy.cpus))


def _bias(setting: Setting, fact: Cpufreq, facts: HostFacts) -> Iterable[Step]:
    online = topology.online(facts)
    now = {cpu: text for cpu, text in cpusets.by_cpu(fact.biases).items() if cpu in online}
    if not now:
        yield skip(setting, "epb", "unsupported: the CPUs have no energy bias")
    for cpu, text in now.items():
        if text != str(setting.values["epb"]):
            yield _write(setting, f"cpu{cpu}/power/energy_perf_bias", (text, str(setting.values["epb"])))


def _min_perf(setting: Setting, fact: Cpufreq, facts: HostFacts) -> Iterable[Step]:  # noqa: ARG001
    if fact.min_perf_pct is None:
        yield skip(setting, "min_perf_pct", "unsupported: intel_pstate does not drive these CPUs")
        return
    speeds = [(one.hardware_min_mhz, one.hardware_max_mhz) for one in fact.policies]
    least = max((low * 100 // high for low, high in speeds if low and high), default=0)  # the driver keeps to it
    wanted = max(whole(setting.values, "min_perf_pct"), least)
    if fact.min_perf_pct != wanted:
        yield _write(setting, "intel_pstate/min_perf_pct", (str(fact.min_perf_pct), str(wanted)))


def _turbo(setting: Setting, fact: Cpufreq, facts: HostFacts) -> Iterable[Step]:  # noqa: ARG001
    wanted = setting.values["turbo"] is True
    if fact.turbo is None or not fact.turbo_file:
        yield skip(setting, "turbo", "unsupported: the driver does not say whether there is any")
    elif fact.turbo != wanted:
        yield _write(setting, fact.turbo_file, tuple(_turbo_text(fact, on) for on in (fact.turbo, wanted)))  # type: ignore[arg-type]


def _turbo_text(fact: Cpufreq, on: bool) -> str:
    return str(int(on != fact.turbo_file.endswith("no_turbo")))


def _chosen(setting: Setting, facts: HostFacts, have: Iterable[int]) -> tuple[list[int], str]:
    """The CPUs that C-states are limited on, and why there are none."""
    word = str(setting.values.get("cpus", "irq"))
    found = sorted(cpusets.members(word, facts) & set(have))
    return found, "" if found else cpusets.why_none(word)


def _wakeup(setting: Setting, fact: Cpufreq, facts: HostFacts) -> Iterable[Step]:
    value = str(setting.values["wakeup_us"])
    now = cpusets.by_cpu(fact.wakeups)
    cpus, reason = _chosen(setting, facts, now)
    if reason:
        yield skip(setting, "wakeup_us", reason if now else "unsupported: the kernel takes no limit")
    for cpu in cpus:
        if now[cpu] != (wanted := _WAKEUP.get(value, value)):
            why = f"CPUs {setting.values.get('cpus', 'irq')}"
            yield _write(setting, f"cpu{cpu}/power/pm_qos_resume_latency_us", (now[cpu], wanted), why)


def _idle(setting: Setting, fact: Cpufreq, facts: HostFacts) -> Iterable[Step]:
    names = set(str(setting.values["idle_off"]).split(",")) - {"none"}
    known = {state.name for state in fact.idle_states}
    cpus, reason = _chosen(setting, facts, {cpu for one in fact.idle_states for cpu in topology.cpu_ids(one.cpus)})
    if not known or reason:
        yield skip(setting, "idle_off", reason if known else "unsupported: the CPUs have no C-states")
    elif unknown := sorted(names - known):
        yield skip(setting, f"idle_off {','.join(unknown)}", f"no such C-state; there are {', '.join(sorted(known))}")
    elif names == known:
        yield impossible(setting, "idle_off", "no C-state would be left")
    else:
        for cpu in cpus:
            yield from _idle_states(setting, fact, cpu, names)


def _idle_states(setting: Setting, fact: Cpufreq, cpu: int, names: set[str]) -> Iterable[Change]:
    for state in fact.idle_states:
        if cpu in topology.cpu_ids(state.cpus):
            now, wanted = cpu in topology.cpu_ids(state.disabled), state.name in names
            if now != wanted:
                file = f"cpu{cpu}/cpuidle/state{state.number}/disable"
                yield _write(setting, file, (str(int(now)), str(int(wanted))), state.name)


def _uncore(setting: Setting, fact: Cpufreq, facts: HostFacts) -> Iterable[Step]:  # noqa: ARG001
    if not fact.uncore:
        yield skip(setting, "uncore", "unsupported: intel_uncore_frequency shows none")
    for domain in fact.uncore:
        floor, top = (domain.initial_min_khz or domain.min_khz), (domain.initial_max_khz or domain.max_khz)
        limits = {"min": floor, "max": top}
        now = {"min": domain.min_khz, "max": domain.max_khz}
        wanted = {end: _khz(setting.values.get(f"uncore_{end}_mhz"), limits, now[end]) for end in now}
        if not floor <= wanted["min"] <= wanted["max"] <= top:
            reason = f"{wanted['min'] // 1000} to {wanted['max'] // 1000} MHz is not within "
            reason += f"{floor // 1000} to {top // 1000}"
            yield impossible(setting, f"uncore {domain.name}", reason)
            continue
        for end in ("max", "min") if wanted["max"] >= now["max"] else ("min", "max"):  # never the lower above the upper
            if now[end] != wanted[end]:
                file = f"intel_uncore_frequency/{domain.name}/{end}_freq_khz"
                yield _write(setting, file, (str(now[end]), str(wanted[end])))


def _khz(value: object, limits: dict[str, int], now: int) -> int:
    if value is None:
        return now
    return value * 1000 if isinstance(value, int) else limits[str(value)]


_PARTS: dict[str, Callable[[Setting, Cpufreq, HostFacts], Iterable[Step]]] = {
    "governor": _governor,  # before the preference, which it may fix
    "epp": _epp,
    "epb": _bias,
    "min_perf_pct": _min_perf,
    "turbo": _turbo,
    "wakeup_us": _wakeup,
    "idle_off": _idle,
    "uncore_max_mhz": _uncore,
    "uncore_min_mhz": _uncore,
}


def _after(fact: Cpufreq, change: Change) -> Cpufreq:
    """The fact after one write."""
    if not isinstance(change.op, FileWrite):
        return fact
    found = ((made, re.fullmatch(f"{CPUS}/{pattern}", change.op.path)) for pattern, made in _AFTER.items())
    return next((made(fact, match, change.op.after) for made, match in found if match), fact)


def _policy_after(fact: Cpufreq, match: re.Match[str], text: str) -> Cpufreq:
    return structs.replace(fact, policies=_chosen_policy(fact.policies, int(match[1]), match[2], text))


def _bias_after(fact: Cpufreq, match: re.Match[str], text: str) -> Cpufreq:
    return structs.replace(fact, biases=cpusets.moved(fact.biases, text, int(match[1])))


def _wakeup_after(fact: Cpufreq, match: re.Match[str], text: str) -> Cpufreq:
    return structs.replace(fact, wakeups=cpusets.moved(fact.wakeups, text, int(match[1])))


def _idle_after(fact: Cpufreq, match: re.Match[str], text: str) -> Cpufreq:
    states = [_switched(one, int(match[2]), int(match[1]), text == "1") for one in fact.idle_states]
    return structs.replace(fact, idle_states=states)


def _min_perf_after(fact: Cpufreq, match: re.Match[str], text: str) -> Cpufreq:  # noqa: ARG001
    return structs.replace(fact, min_perf_pct=int(text))


def _turbo_after(fact: Cpufreq, match: re.Match[str], text: str) -> Cpufreq:
    return structs.replace(fact, turbo=(text == "1") != match[1].endswith("no_turbo"))


def _uncore_after(fact: Cpufreq, match: re.Match[str], text: str) -> Cpufreq:
    values = {f"{match[2]}_khz": int(text)}
    domains = [structs.replace(one, **values) if one.name == match[1] else one for one in fact.uncore]
    return structs.replace(fact, uncore=domains)


_AFTER: dict[str, Callable[[Cpufreq, re.Match[str], str], Cpufreq]] = {
    r"cpu(\d+)/cpufreq/(.+)": _policy_after,
    r"cpu(\d+)/power/energy_perf_bias": _bias_after,
    r"cpu(\d+)/power/pm_qos_resume_latency_us": _wakeup_after,
    r"cpu(\d+)/cpuidle/state(\d+)/disable": _idle_after,
    r"intel_pstate/min_perf_pct": _min_perf_after,
    r"(intel_pstate/no_turbo|cpufreq/boost)": _turbo_after,
    r"intel_uncore_frequency/([^/]+)/(min|max)_freq_khz": _uncore_after,
}


def _switched(state: IdleState, number: int, cpu: int, off: bool) -> IdleState:
    if state.number != number or cpu not in topology.cpu_ids(state.cpus):
        return state
    left = set(topology.cpu_ids(state.disabled)) - {cpu}
    return structs.replace(state, disabled=format_cpulist({*left, cpu} if off else left))


def _chosen_policy(policies: Sequence[FrequencyPolicy], leader: int, file: str, text: str) -> list[FrequencyPolicy]:
    """The policies with the one of that first CPU on its own, as it is after the write."""
    found: list[FrequencyPolicy] = []
    for policy in policies:
        leaders = topology.cpu_ids(policy.leaders)
        if leader not in leaders:
            found.append(policy)
            continue
        others = [cpu for cpu in leaders if cpu != leader]
        later = min((cpu for cpu in others if cpu > leader), default=1 << 30)
        mine = {cpu for cpu in topology.cpu_ids(policy.cpus) if leader <= cpu < later}
        one = structs.replace(policy, leaders=str(leader), cpus=format_cpulist(mine))
        found.append(_set(one, file, text))
        if others:
            rest = set(topology.cpu_ids(policy.cpus)) - mine
            found.append(structs.replace(policy, leaders=format_cpulist(others), cpus=format_cpulist(rest)))
    return found


def _set(policy: FrequencyPolicy, file: str, text: str) -> FrequencyPolicy:
    if file == "energy_performance_preference":
        return structs.replace(policy, preference=text)
    fixed = text == "performance" and policy.driver in _FORCED and policy.preference
    return structs.replace(policy, governor=text, preference="performance" if fixed else policy.preference)
