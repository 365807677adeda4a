"""Findings about parts that fail or are about to: drives, arrays, power supplies, fans, transceivers."""

from collections.abc import Iterator

from tuners.hostfacts import HostFacts
from tuners.placement_rules import Latest
from wire.facts import Array, DriveHealth, Fan, Optics, PowerMeter, Psu
from wire.policy import Finding
from wire.report import Severity

_GRAVE = {"failing": Severity.CRITICAL, "warning": Severity.WARNING}


def drive_health(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001 - one shape
    """A drive that says of itself, or by its counters, that it fails or wears out."""
    for one in facts.of(DriveHealth):
        if one.verdict in _GRAVE:
            named = " ".join(filter(None, (one.name, one.model, one.serial)))
            remedy = "save what is on it and replace it" if one.verdict == "failing" else "plan its replacement"
            yield _finding("drive_health", (one.key, named), one.reason or one.verdict, remedy, _GRAVE[one.verdict])


def array_degraded(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """An md array that runs without all its members, or not at all."""
    for one in facts.of(Array):
        if one.health in ("degraded", "failed"):
            severity = Severity.CRITICAL if one.health == "failed" else Severity.WARNING
            remedy = "replace the lost member; mdadm --manage --add starts the rebuild"
            yield _finding("array_degraded", (one.key, one.name), one.reason or one.health, remedy, severity)


def power_supply(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A power supply with an alarm or without mains, and one slot of several that is empty."""
    supplies = facts.of(Psu)
    for one in supplies:
        if one.plugged is False:
            text, remedy = "has no mains", "check its cord and the PDU's outlet"
        elif one.present is False and len(supplies) > 1:
            text, remedy = "is absent: there is no redundancy", "put one in, or take the slot out of the asset's plan"
        elif one.alarms:
            text, remedy = f"raises {', '.join(one.alarms)}", "replace it while another carries the load"
        else:
            continue
        yield _finding("power_supply", (one.key, one.label or one.key), text, remedy)


def fan_failed(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A fan that says it failed or turns too slowly."""
    for one in facts.of(Fan):
        if one.fault or one.alarm:
            text = "has failed" if one.fault else "turns too slowly"
            yield _finding("fan_failed", (one.key, one.label or one.key), text, "replace it")


def power_alarm(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A power meter past its limit."""
    for one in facts.of(PowerMeter):
        if one.alarm:
            text = "is past its limit" + (f" of {one.max_watts:g} W" if one.max_watts is not None else "")
            remedy = "lower the load or the CPUs' power limit, or raise the cap"
            yield _finding("power_alarm", (one.key, one.label or one.key), text, remedy)


def optics_alarm(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A module past its own alarm thresholds on a NIC that is to carry traffic, or one that cannot be read."""
    for one in facts.of(Optics):
        nic = facts.nics.get(one.key)
        flags = [flag for lane in one.lanes for flag in lane.flags] + one.flags
        alarms = sorted({flag for flag in flags if flag.endswith("alarm")})
        if nic is not None and nic.up and alarms:
            named = f"{one.ifname} ({' '.join(filter(None, (one.vendor, one.part, one.serial)))})"
            remedy = "clean and reseat the connector, then look at the far end's light; replace what does not recover"
            yield _finding("optics_alarm", (one.key, named), ", ".join(alarms), remedy)


def _finding(
    rule: str, part: tuple[str, str], text: str, remedy: str, severity: Severity = Severity.WARNING
) -> Finding:
    """`part` is its key and what people call it."""
    return Finding(rule=rule, key=part[0], target=part[1], text=text, remedy=remedy, severity=severity)
