"""Findings about what is under the host: clocks, boot parameters, PCIe, memory, firmware, watchdogs."""

from collections.abc import Iterator

from tuners import topology
from tuners.hostfacts import HostFacts
from tuners.placement_rules import Latest
from wire.cpulist import format_cpulist
from wire.facts import Pcie
from wire.policy import Finding
from wire.report import Severity

# Each reading of these leaves the CPU, a microsecond and more, instead of 20 ns (kernel: timers/timekeeping.rst).
SLOW_SOURCES = frozenset({"hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"})
NOISY_LINK = 1000  # corrected PCIe errors since boot: one is nothing, a thousand are a bad contact


def clock_source(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001 - one shape for every rule
    """Time is read from a device instead of the CPU: most often the kernel gave the TSC up as unstable."""
    clock = facts.clock
    if clock and clock.source in SLOW_SOURCES:
        given_up = "" if "tsc" in clock.available else "; the kernel has given the TSC up"
        text = f"time is read from {clock.source}, which costs every packet and every timer{given_up}"
        remedy = "look for 'TSC' in the kernel's log; update the firmware, drop clocksource= from the boot parameters"
        yield _host("clock_source", text, remedy, Severity.WARNING)


def clock_unsynchronised(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """Nobody keeps the clock right, as far as the kernel was told."""
    if facts.clock and facts.clock.synchronised is False:
        text = "the clock is not synchronised, or who keeps it does not tell the kernel"
        yield _host("clock_unsynchronised", text, "run chrony with rtcsync, or another NTP or PTP client")


def isolated_tick(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """CPUs set aside by isolcpus= that still have the timer's tick (kernel: timers/no_hz.rst)."""
    if not (facts.cpu and facts.cmdline and "isolcpus" in facts.cmdline.given):
        return
    ticking = set(topology.cpu_ids(facts.cpu.isolated)) - set(topology.cpu_ids(facts.cpu.nohz_full))
    if ticking:
        cpus = format_cpulist(ticking)
        text = f"isolated CPUs {cpus} still have the timer tick and RCU's callbacks"
        yield _host("isolated_tick", text, f"boot with nohz_full={cpus}, which takes rcu_nocbs along")


def parameter_twice(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A boot parameter with several values of which one alone counts."""
    for name, values in facts.cmdline.given.items() if facts.cmdline else ():
        counts = facts.cmdline.effective.get(name, "") if facts.cmdline else ""
        if len(set(values)) > 1 and counts in values:
            others = ", ".join(sorted(set(values) - {counts}))
            text = f"boot parameter {name} is given {len(values)} times: {counts or 'no value'} counts, not {others}"
            yield Finding(
                rule="parameter_twice",
                key=name,
                target="host",
                severity=Severity.INFO,
                text=text,
                remedy=f"leave one {name} in the boot loader's configuration",
            )


def pcie_payload(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A function that may send packets larger than the port above it takes: they are lost as malformed (PCIe 2.2.2)."""
    for pcie in facts.pcie.values():
        above = facts.pcie.get(pcie.parent)
        sends, takes = pcie.max_payload_bytes or 0, (above.max_payload_bytes if above else None) or 0
        if 0 < takes < sends:
            text = f"it sends payloads of {sends} bytes, port {pcie.parent} takes {takes}"
            remedy = "boot with pci=pcie_bus_safe, or let the firmware set payload sizes"
            yield _part(facts, pcie.key, "pcie_payload", text, remedy, severity=Severity.WARNING)


def pcie_errors(facts: HostFacts, latest: Latest) -> Iterator[Finding]:
    """Uncorrected PCIe errors since boot, or so many corrected ones that the contact is bad."""
    for pcie in facts.pcie.values():
        fatal, nonfatal, corrected = (
            _counted(facts, latest, pcie, kind) for kind in ("fatal", "nonfatal", "correctable")
        )
        if fatal or nonfatal or corrected >= NOISY_LINK:
            text = f"PCIe errors since boot: {fatal:.0f} fatal, {nonfatal:.0f} nonfatal, {corrected:.0f} corrected"
            remedy = "reseat the card, check riser and cable; look for 'AER' in the kernel's log"
            severity = Severity.WARNING if fatal or nonfatal else Severity.INFO
            yield _part(facts, pcie.key, "pcie_errors", text, remedy, severity=severity)


def _counted(facts: HostFacts, latest: Latest, pcie: Pcie, kind: str) -> float:
    """A function's own errors; of a root port also those from below that no function there counted as its own."""
    own = latest.get((f"pcie.{kind}_errors", pcie.key), 0.0)
    heard = latest.get((f"pcie.rootport_{kind}_errors", pcie.key), 0.0)
    if not heard:
        return own
    below = (other.key for other in facts.pcie.values() if pcie.key in _above(facts, other))
    return max(own, heard - sum(latest.get((f"pcie.{kind}_errors", key), 0.0) for key in below))


def _above(facts: HostFacts, pcie: Pcie) -> list[str]:
    """The ports between a function and the root, nearest first."""
    path: list[str] = []
    while pcie.parent in facts.pcie and pcie.parent not in path:
        path.append(pcie.parent)
        pcie = facts.pcie[pcie.parent]
    return path


def memory_errors(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """Memory errors since boot: an uncorrected one lost data, corrected ones are often its heralds."""
    counts = {place: value for place, value in latest.items() if place[0].startswith("edac.") and value > 0}
    for key in sorted({key for _, key in counts}):
        lost = counts.get(("edac.uncorrected_errors", key), 0.0)
        corrected = counts.get(("edac.corrected_errors", key), 0.0)
        yield Finding(
            rule="memory_errors",
            key=key,
            target=key,
            severity=Severity.CRITICAL if lost else Severity.INFO,
            text=f"{lost:.0f} uncorrected and {corrected:.0f} corrected memory errors since boot",
            remedy="replace the module" if lost else "watch it; replace the module when they go on",
        )


def machine_checks(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """Machine check exceptions that the host survived."""
    count = latest.get(("mce.exceptions", ""), 0.0)
    if count:
        text = f"{count:.0f} machine check exceptions since boot"
        remedy = "look for 'Hardware Error' in the kernel's log, and into the BMC's event log"
        yield _host("machine_checks", text, remedy, Severity.WARNING)


def firmware_waits(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """Firmware that was flashed and does not run yet."""
    for row in facts.firmware.values():
        if row.running and row.stored and row.running != row.stored:
            text = f"{row.part or 'firmware'} runs {row.running}, {row.stored} is stored"
            yield Finding(
                rule="firmware_waits",
                key=row.key,
                target=f"{row.name or row.type} ({row.device})",
                severity=Severity.INFO,
                text=text,
                remedy="reset the device at a time that suits: devlink dev reload action fw_activate, or a cold boot",
            )


def watchdog_reset(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """The last boot was a watchdog's reset: the host had hung."""
    for row in facts.watchdogs.values():
        if "watchdog" in row.boot_causes:
            yield Finding(
                rule="watchdog_reset",
                key=row.key,
                target=row.identity or row.name,
                text="the last boot was its reset: the host had hung",
                remedy="look into the BMC's event log and what was logged before that boot",
            )


def _host(rule: str, text: str, remedy: str, severity: Severity = Severity.INFO) -> Finding:
    return Finding(rule=rule, key="", target="host", severity=severity, text=text, remedy=remedy)


def _part(facts: HostFacts, address: str, rule: str, text: str, remedy: str, *, severity: Severity) -> Finding:
    nic = next((nic for nic in facts.nics.values() if nic.address == address), None)
    name = nic.ifname if nic else facts.pci[address].name if address in facts.pci else facts.pcie[address].type
    return Finding(
        rule=rule, key=address, target=f"{name or 'device'} ({address})", severity=severity, text=text, remedy=remedy
    )
