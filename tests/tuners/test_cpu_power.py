"""Governors, preferences, C-states and limits in plans, as drivers take them, and what heat does to them."""

from typing import Any

import pytest

from tests.tuners.conftest import make_cpus, make_nic
from tests.tuners.facts_host import cpufreq
from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from wire.facts import Cpufreq, FrequencyPolicy, Hwmon, IdleState, PowerMeter, ThermalZone
from wire.policy import FileWrite, OutcomeStatus, Plan, Setting, Values

CPU = "/sys/devices/system/cpu"


def acpi(**more: Any) -> Cpufreq:
    """Four CPUs of acpi-cpufreq with two C-states."""
    governors = ["performance", "schedutil", "powersave"]
    policy = FrequencyPolicy(
        cpus="0-3", leaders="0-3", driver="acpi-cpufreq", governor="schedutil", governors=governors
    )
    states = [IdleState(name=name, number=number, cpus="0-3") for number, name in enumerate(("POLL", "C1"))]
    return Cpufreq(policies=[policy], idle_states=states, wakeups={"0": "0-3"}, **more)


def host(*facts: Any, irqs: tuple[str, ...] = ("2", "3")) -> HostFacts:
    return HostFacts([*make_cpus(nodes=((0, 1), (2, 3))), *make_nic(cpus=irqs), *facts])


def planned(facts: HostFacts, **values: Any) -> Plan:
    wanted: Values = values
    made = plan([Setting(knob="cpu_power", values=wanted)], facts)
    assert plan([Setting(knob="cpu_power", values=wanted)], project(facts, made)).changes == []
    return made


def writes(made: Plan) -> dict[str, tuple[str, str]]:
    ops = [change.op for change in made.changes if isinstance(change.op, FileWrite)]
    return {op.path.removeprefix(f"{CPU}/"): (op.before, op.after) for op in ops}


def reasons(made: Plan) -> list[str]:
    return [skip.reason for skip in made.skips]


def test_the_governor_is_written_once_per_policy_of_the_kernel() -> None:
    fact = acpi()
    fact.policies[0].leaders = "0,2"
    assert writes(planned(host(fact), governor="performance")) == {
        f"cpu{cpu}/cpufreq/scaling_governor": ("schedutil", "performance") for cpu in (0, 2)
    }


def test_what_a_driver_has_not_is_unsupported_by_name() -> None:
    made = planned(host(acpi()), governor="ondemand", epp="power", epb=3, min_perf_pct=100, turbo=True)
    assert made.changes == []
    assert {skip.status for skip in made.skips} == {OutcomeStatus.UNSUPPORTED}
    assert reasons(made)[:2] == ["the driver has no governor ondemand", "the hardware takes no preference power"]


def test_a_machine_without_any_of_it_is_left_in_one_sentence() -> None:
    made = planned(host(), governor="performance", wakeup_us=3)
    assert reasons(made) == ["unsupported: the CPUs have neither frequencies nor C-states to set"]


def test_under_the_performance_governor_intels_preference_is_not_written() -> None:
    made = planned(host(cpufreq(4)), governor="performance", epp="performance")
    assert set(writes(made)) == {"cpu0/cpufreq/scaling_governor", "cpu2/cpufreq/scaling_governor"}
    made = planned(host(cpufreq(4)), governor="performance", epp="power")
    assert any("keeps the preference at performance" in reason for reason in reasons(made))


def test_limits_of_wake_up_are_for_the_cpus_that_interrupts_are_pinned_to() -> None:
    made = planned(host(acpi()), wakeup_us=3, idle_off="C1")
    assert writes(made) == {
        "cpu2/power/pm_qos_resume_latency_us": ("0", "3"),
        "cpu3/power/pm_qos_resume_latency_us": ("0", "3"),
        "cpu2/cpuidle/state1/disable": ("0", "1"),
        "cpu3/cpuidle/state1/disable": ("0", "1"),
    }
    made = planned(host(acpi(), irqs=("0-3",)), wakeup_us=3)
    assert (made.changes, reasons(made)) == ([], ["no interrupt is pinned to a CPU: irq_affinity does that"])


def test_words_of_a_limit_are_the_kernels() -> None:
    made = planned(host(acpi()), wakeup_us="awake", cpus="0")
    assert writes(made) == {"cpu0/power/pm_qos_resume_latency_us": ("0", "n/a")}


@pytest.mark.parametrize(("names", "reason"), [("C6", "no such C-state"), ("POLL,C1", "no C-state would be left")])
def test_c_states_that_cannot_be_switched_off_are_not(names: str, reason: str) -> None:
    made = planned(host(acpi()), idle_off=names)
    assert made.changes == []
    assert reason in reasons(made)[0]


def test_uncore_limits_never_cross_on_the_way() -> None:
    file = "intel_uncore_frequency/package_00_die_00/{}_freq_khz"
    up = planned(host(cpufreq(4)), uncore_min_mhz=2200, uncore_max_mhz="max")
    assert list(writes(up)) == [file.format("max"), file.format("min")]
    down = planned(host(cpufreq(4)), uncore_min_mhz="min", uncore_max_mhz=1000)
    assert list(writes(down)) == [file.format("min"), file.format("max")]
    wrong = planned(host(cpufreq(4)), uncore_min_mhz=2600)
    assert [skip.status for skip in wrong.skips] == [OutcomeStatus.FAILED]


HOT = [
    (
        Hwmon(key="a", chip="coretemp", channel="temp1", unit="°C", alarm=True, hot=True),
        "coretemp temp1 raises its alarm",
    ),
    (ThermalZone(key="acpitz", zone="thermal_zone0", passed="passive"), "acpitz is past its passive trip point"),
    (
        PowerMeter(key="p", chip="power_meter", channel="power1", alarm=True),
        "power_meter power1 is over its power limit",
    ),
]


@pytest.mark.parametrize(("alarm", "reason"), HOT)
def test_heat_refuses_what_makes_more_and_brings_back_what_was_set(alarm: Any, reason: str) -> None:
    values: Values = {"governor": "performance", "wakeup_us": 3, "idle_off": "C1"}
    made = planned(host(acpi(), alarm), **values)
    assert (made.changes, reasons(made)) == ([], [f"too hot: {reason}; kept cool until it is over"])

    fast = project(host(acpi()), planned(host(acpi()), **values))
    cooling = planned(fast.replace([alarm]), **values)
    found = writes(cooling)
    assert {texts for path, texts in found.items() if path.endswith("governor")} == {("performance", "schedutil")}
    assert {texts for path, texts in found.items() if path.endswith("latency_us")} == {("3", "0")}
    assert {texts for path, texts in found.items() if path.endswith("disable")} == {("1", "0")}
    again = planned(project(fast.replace([alarm]), cooling).replace([], [alarm]), **values)
    assert len(again.changes) == len(cooling.changes)


def test_a_cold_alarm_and_cool_values_change_nothing() -> None:
    cold = Hwmon(key="a", chip="jc42", channel="temp1", unit="°C", alarm=True)
    assert planned(host(acpi(), cold), governor="performance").changes
    hot = HOT[0][0]
    assert reasons(planned(host(acpi(), hot), governor="powersave")) == []
