"""What is wrong with a host's tuning and parts, each with its remedy: a table of rules over facts and samples."""

from collections.abc import Callable, Iterable, Mapping

from tuners import bond_rules, cable_rules, hardware_rules, owner_rules, part_rules, placement_rules, platform_rules
from tuners.hostfacts import HostFacts
from tuners.placement_rules import Latest
from wire.policy import Finding
from wire.report import Severity

Rule = Callable[[HostFacts, Latest], Iterable[Finding]]

# The function's name is the rule's.
RULES: tuple[Rule, ...] = (
    placement_rules.irq_remote,
    placement_rules.irq_one_cpu,
    placement_rules.irq_isolated,
    placement_rules.irq_unmapped,
    placement_rules.irqbalance_moves,
    placement_rules.single_queue,
    placement_rules.xps_missing,
    placement_rules.backlog_drops,
    placement_rules.time_squeeze,
    hardware_rules.rx_ring_small,
    hardware_rules.offload_off,
    hardware_rules.link_slow,
    hardware_rules.pcie_slot,
    hardware_rules.pcie_degraded,
    hardware_rules.numa_unknown,
    hardware_rules.sensor_alarm,
    bond_rules.lacp_partner_missing,
    bond_rules.lacp_split,
    bond_rules.bond_speeds,
    bond_rules.bond_degraded,
    bond_rules.bond_unwatched,
    cable_rules.lldp_blocked,
    platform_rules.clock_source,
    platform_rules.clock_unsynchronised,
    platform_rules.isolated_tick,
    platform_rules.parameter_twice,
    platform_rules.pcie_payload,
    platform_rules.pcie_errors,
    platform_rules.memory_errors,
    platform_rules.machine_checks,
    platform_rules.firmware_waits,
    platform_rules.watchdog_reset,
    part_rules.drive_health,
    part_rules.array_degraded,
    part_rules.power_supply,
    part_rules.fan_failed,
    part_rules.power_alarm,
    part_rules.optics_alarm,
    owner_rules.knob_contested,
)

_GRAVEST_FIRST = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.INFO: 2}


def findings(facts: HostFacts, latest: Mapping[tuple[str, str], float] | None = None) -> list[Finding]:
    """All findings, gravest first; `latest` is the newest sample by (metric, component key), counters since boot."""
    found = [finding for rule in RULES for finding in rule(facts, latest or {})]
    return sorted(found, key=lambda each: (_GRAVEST_FIRST[each.severity], each.rule, each.target))
