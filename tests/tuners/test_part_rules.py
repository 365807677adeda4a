"""Parts that fail are findings, parts that are well are none."""

import pytest

from tuners import findings
from tuners.hostfacts import HostFacts
from wire.facts import Array, DriveHealth, Fact, Fan, Nic, Optics, PowerMeter, Psu
from wire.facts.optics import OpticsLane
from wire.report import Severity

NIC = Nic(key="aa", ifname="eth0", ifindex=2, up=True)


def optics(*flags: str) -> Optics:
    return Optics(
        key="aa", ifname="eth0", vendor="V", part="P", serial="S", lanes=[OpticsLane(lane=1, flags=list(flags))]
    )


ILL: list[tuple[str, list[Fact], str, Severity]] = [
    (
        "drive_health",
        [DriveHealth(key="s", name="nvme0", verdict="failing", reason="spare 3 % of 10 %")],
        "nvme0: spare 3 % of 10 %",
        Severity.CRITICAL,
    ),
    (
        "drive_health",
        [DriveHealth(key="s", name="sda", serial="X", verdict="warning")],
        "sda X: warning",
        Severity.WARNING,
    ),
    (
        "array_degraded",
        [Array(key="u", name="md0", health="degraded", reason="1 of 2 members")],
        "md0: 1 of 2 members",
        Severity.WARNING,
    ),
    ("array_degraded", [Array(key="u", name="md0", health="failed")], "md0: failed", Severity.CRITICAL),
    ("power_supply", [Psu(key="PSU1", plugged=False)], "PSU1: has no mains", Severity.WARNING),
    (
        "power_supply",
        [Psu(key="PSU1", present=True), Psu(key="PSU2", present=False)],
        "PSU2: is absent: there is no redundancy",
        Severity.WARNING,
    ),
    ("power_supply", [Psu(key="P", label="PSU1", alarms=["in1_alarm"])], "PSU1: raises in1_alarm", Severity.WARNING),
    ("fan_failed", [Fan(key="f", label="FAN3", fault=True)], "FAN3: has failed", Severity.WARNING),
    ("fan_failed", [Fan(key="f", label="FAN3", alarm=True)], "FAN3: turns too slowly", Severity.WARNING),
    (
        "power_alarm",
        [PowerMeter(key="p", chip="acpi", channel="power1", label="server", alarm=True, max_watts=700)],
        "server: is past its limit of 700 W",
        Severity.WARNING,
    ),
    (
        "optics_alarm",
        [NIC, optics("rx_power low alarm", "rx_power low warning")],
        "eth0 (V P S): rx_power low alarm",
        Severity.WARNING,
    ),
]
WELL: list[list[Fact]] = [
    [DriveHealth(key="s", name="sda", verdict="ok"), DriveHealth(key="t", name="sdb", verdict="asleep")],
    [Array(key="u", name="md0", health="ok")],
    [Psu(key="PSU1", present=True, plugged=True), Psu(key="PSU2")],
    [Psu(key="PSU1", present=False)],
    [Fan(key="f"), PowerMeter(key="p", chip="acpi", channel="power1")],
    [NIC, optics("rx_power low warning")],
    [Nic(key="aa", ifname="eth0", ifindex=2), optics("rx_power low alarm")],
]


@pytest.mark.parametrize(("rule", "facts", "said", "severity"), ILL)
def test_what_fails_is_found_with_a_remedy(rule: str, facts: list[Fact], said: str, severity: Severity) -> None:
    (found,) = (one for one in findings.findings(HostFacts(facts)) if one.rule == rule)
    assert (f"{found.target}: {found.text}", found.severity) == (said, severity)
    assert found.remedy


@pytest.mark.parametrize("facts", WELL)
def test_what_is_well_is_left_alone(facts: list[Fact]) -> None:
    rules = {rule for rule, _, _, _ in ILL}
    assert [one for one in findings.findings(HostFacts(facts)) if one.rule in rules] == []
