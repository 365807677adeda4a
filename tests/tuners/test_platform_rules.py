"""What is found to be wrong under the host, on hosts made to have exactly that."""

import pytest

from tuners import platform_rules
from tuners.findings import RULES, findings
from tuners.hostfacts import HostFacts
from wire.facts import Clock, Cmdline, Cpu, Fact, Firmware, Nic, Pci, Pcie, Watchdog
from wire.policy import Finding
from wire.report import Severity

PORT, CARD, DISK = "0000:4a:02.0", "0000:4b:00.0", "0000:5e:00.0"
NAMES = {rule.__name__ for rule in RULES if rule.__module__ == platform_rules.__name__}
GOOD: list[Fact] = [
    Clock(source="tsc", available=["tsc", "hpet", "acpi_pm"], synchronised=True),
    Cpu(online="0-7", isolated="2-7", nohz_full="2-7"),
    Cmdline(given={"isolcpus": ["2-7"], "tsc": ["reliable", "nowatchdog"]}, effective={"isolcpus": "2-7", "tsc": "x"}),
    Pcie(key=PORT, type="root port", max_payload_bytes=256),
    Pcie(key=CARD, type="endpoint", parent=PORT, max_payload_bytes=256),
    Pcie(key=DISK, type="endpoint", parent=PORT, max_payload_bytes=128),
    Nic(key="n", ifname="eth0", ifindex=2, address=CARD),
    Pci(key=DISK, name="Solid State Drive"),
    Firmware(key=f"nic/{CARD}/fw", type="nic", name="mlx5_core", device=CARD, part="fw", running="1.2", stored="1.2"),
    Firmware(key="bios", type="bios", running="2.19"),
    Watchdog(key="0000:00:1f.0", identity="iTCO_wdt", boot_causes=["power under"]),
]


def found(*changed: Fact, latest: dict[tuple[str, str], float] | None = None) -> list[Finding]:
    facts = HostFacts(GOOD).replace(changed)
    return [one for one in findings(facts, latest) if one.rule in NAMES]


def test_a_good_host_has_no_finding() -> None:
    assert found(latest={("pcie.correctable_errors", CARD): 12, ("edac.corrected_errors", "A1"): 0}) == []
    assert [one.rule for one in findings(HostFacts([])) if one.rule in NAMES] == []


FACTS: list[tuple[Fact, str, Severity, str]] = [
    (
        Clock(source="hpet", available=["hpet", "acpi_pm"], synchronised=True),
        "clock_source",
        Severity.WARNING,
        "time is read from hpet, which costs every packet and every timer; the kernel has given the TSC up",
    ),
    (
        Clock(source="acpi_pm", available=["tsc", "acpi_pm"], synchronised=None),
        "clock_source",
        Severity.WARNING,
        "time is read from acpi_pm, which costs every packet and every timer",
    ),
    (
        Clock(source="tsc", synchronised=False),
        "clock_unsynchronised",
        Severity.INFO,
        "the clock is not synchronised, or who keeps it does not tell the kernel",
    ),
    (
        Cpu(online="0-7", isolated="2-7", nohz_full="4-7"),
        "isolated_tick",
        Severity.INFO,
        "isolated CPUs 2-3 still have the timer tick and RCU's callbacks",
    ),
    (
        Cmdline(given={"mitigations": ["auto", "off"]}, effective={"mitigations": "off"}),
        "parameter_twice",
        Severity.INFO,
        "boot parameter mitigations is given 2 times: off counts, not auto",
    ),
    (
        Pcie(key=CARD, type="endpoint", parent=PORT, max_payload_bytes=512),
        "pcie_payload",
        Severity.WARNING,
        f"it sends payloads of 512 bytes, port {PORT} takes 256",
    ),
    (
        Firmware(key="x", type="nic", name="ice", device=CARD, part="fw.mgmt", running="6.1", stored="7.0"),
        "firmware_waits",
        Severity.INFO,
        "fw.mgmt runs 6.1, 7.0 is stored",
    ),
    (
        Watchdog(key="0000:00:1f.0", identity="iTCO_wdt", boot_causes=["watchdog"]),
        "watchdog_reset",
        Severity.WARNING,
        "the last boot was its reset: the host had hung",
    ),
]
COUNTS: list[tuple[dict[tuple[str, str], float], str, str, Severity, str]] = [
    (
        {("pcie.nonfatal_errors", CARD): 2, ("pcie.rootport_nonfatal_errors", PORT): 2},
        "pcie_errors",
        f"eth0 ({CARD})",
        Severity.WARNING,
        "PCIe errors since boot: 0 fatal, 2 nonfatal, 0 corrected",
    ),
    (
        {("pcie.fatal_errors", CARD): 0, ("pcie.rootport_fatal_errors", PORT): 1},
        "pcie_errors",
        f"root port ({PORT})",
        Severity.WARNING,
        "PCIe errors since boot: 1 fatal, 0 nonfatal, 0 corrected",
    ),
    (
        {("pcie.correctable_errors", DISK): 5000},
        "pcie_errors",
        f"Solid State Drive ({DISK})",
        Severity.INFO,
        "PCIe errors since boot: 0 fatal, 0 nonfatal, 5000 corrected",
    ),
    (
        {("edac.corrected_errors", "A1"): 7, ("edac.uncorrected_errors", "A1"): 0},
        "memory_errors",
        "A1",
        Severity.INFO,
        "0 uncorrected and 7 corrected memory errors since boot",
    ),
    (
        {("edac.corrected_errors", "A1"): 7, ("edac.uncorrected_errors", "A1"): 1},
        "memory_errors",
        "A1",
        Severity.CRITICAL,
        "1 uncorrected and 7 corrected memory errors since boot",
    ),
    ({("mce.exceptions", ""): 1}, "machine_checks", "host", Severity.WARNING, "1 machine check exceptions since boot"),
]


@pytest.mark.parametrize(("fact", "rule", "severity", "text"), FACTS)
def test_each_fault_is_found_alone(fact: Fact, rule: str, severity: Severity, text: str) -> None:
    (one,) = found(fact)
    assert (one.rule, one.severity, one.text) == (rule, severity, text)
    assert one.remedy


@pytest.mark.parametrize(("latest", "rule", "target", "severity", "text"), COUNTS)
def test_each_count_is_found_alone(
    latest: dict[tuple[str, str], float], rule: str, target: str, severity: Severity, text: str
) -> None:
    (one,) = found(latest=latest)
    assert (one.rule, one.target, one.severity, one.text) == (rule, target, severity, text)
    assert one.remedy


def test_every_rule_is_tested() -> None:
    assert {case[1] for case in FACTS} | {case[1] for case in COUNTS} == NAMES


def test_a_guest_that_isolates_by_cpusets_is_left_alone() -> None:
    assert found(Cmdline(), Cpu(online="0-7", isolated="2-7")) == []


def test_ports_that_name_each_other_end() -> None:
    first, second = Pcie(key=PORT, parent=CARD), Pcie(key=CARD, parent=PORT)
    (one,) = found(first, second, latest={("pcie.rootport_fatal_errors", PORT): 3})
    assert one.key == PORT
