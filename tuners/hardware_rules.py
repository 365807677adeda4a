"""Findings about the parts themselves: rings, offloads, link speed, PCIe lanes, NUMA, sensors."""

from collections.abc import Iterator

from tuners.hostfacts import HostFacts
from tuners.placement_rules import DROP_SHARE, Latest, working
from tuners.rounding import ring_stands
from wire.facts import Nic, Pci
from wire.policy import Finding
from wire.report import Severity

# Packets lost for want of a free descriptor, as the kernel and the drivers count them.
NO_DESCRIPTOR = (
    "nicstats.rx_missed_errors",
    "nicstats.rx_fifo_errors",
    "nicstats.rx_over_errors",
    "nicstats.driver_rx_missed",
    "nicstats.driver_rx_no_buffer",
    "nicstats.driver_rx_out_of_buffer",
    "nicstats.driver_rx_drops",
)
WANTED = {"rx-gro": "gro", "tx-tcp-segmentation": "tso"}
FAST_CLASSES = ("0108", "02", "03", "12")  # PCI classes that need their lanes: NVMe, network, display, accelerators


def rx_ring_small(facts: HostFacts, latest: Latest) -> Iterator[Finding]:
    """Packets are lost for want of descriptors while the ring could be larger."""
    for nic in working(facts):
        rings = facts.ethtool[nic.key].rings if nic.key in facts.ethtool else {}
        size, limit = rings.get("rx", 0), rings.get("rx_max", 0)
        lost = max(latest.get((metric, nic.key), 0.0) for metric in NO_DESCRIPTOR)
        received = latest.get(("nicstats.rx_packets", nic.key), 0.0)
        if lost > DROP_SHARE * received and size < limit and not ring_stands(nic.driver, size, limit):
            text = (
                f"{lost:.0f} of {received:.0f} packets lost for want of descriptors; its rx ring is {size} of {limit}"
            )
            yield _of(nic, "rx_ring_small", text, f"policy: knobs: {{rings: {{rx: {min(2 * size, limit)}}}}}")


def offload_off(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001 - one shape for every rule
    """A NIC does not coalesce or segment, though it could."""
    for nic in working(facts):
        fact = facts.ethtool.get(nic.key)
        off = [name for name in WANTED if fact and not fact.features.get(name, True)]
        if free := [WANTED[name] for name in off if fact and name not in fact.features_fixed]:
            values = ", ".join(f"{name}: true" for name in free)
            text = f"{' and '.join(free)} off: the CPU handles every packet by itself (right on a router)"
            yield _of(nic, "offload_off", text, f"policy: knobs: {{offloads: {{{values}}}}}", Severity.INFO)


def link_slow(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A link that runs below what the port can do; below 1 Gb/s it is most often the cable."""
    for nic in working(facts):
        speed, limit = nic.speed_mbps or 0, nic.max_speed_mbps or 0
        if nic.carrier and 0 < speed < limit:
            severity = Severity.WARNING if speed < 1000 <= limit else Severity.INFO
            text = f"the link runs at {speed} of {limit} Mb/s"
            yield _of(nic, "link_slow", text, "check cable, transceiver and the switch port's speed", severity)


def pcie_slot(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A port on the path to the root is slower than the card; a warning when the card's links need more than that."""
    for pci in _cards(facts):
        path = gigabits(pci.path_max_speed_gts, pci.path_max_width)
        card = gigabits(pci.max_speed_gts, pci.max_width)
        if pci.path_limit and 0 < path < card:
            need = _need(facts, pci)
            severity = Severity.WARNING if need > path else Severity.INFO
            text = f"port {pci.path_limit} gives it {path:.0f} of {card:.0f} Gb/s"
            text += f", its links need {need:.0f}" if need else ""
            yield _card(
                facts, pci, "pcie_slot", text, "move the card to a slot with more or faster lanes", severity=severity
            )


def pcie_degraded(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """The PCIe link trained below what card and path both can."""
    for pci in _cards(facts):
        width = min(pci.max_width or 0, pci.path_max_width or pci.max_width or 0)
        speed = min(pci.max_speed_gts or 0, pci.path_max_speed_gts or pci.max_speed_gts or 0)
        if 0 < (pci.width or 0) < width:
            text = f"x{pci.width} of x{width} lanes"
            yield _card(
                facts, pci, "pcie_degraded", text, "reseat the card; check the riser and the slot's bifurcation"
            )
        elif 0 < (pci.speed_gts or 0) < speed:
            text = f"{pci.speed_gts} of {speed} GT/s (cards may save power while idle: look again under load)"
            remedy = "reseat the card; check the slot's speed in the firmware set-up"
            yield _card(facts, pci, "pcie_degraded", text, remedy, severity=Severity.INFO)


def numa_unknown(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """The firmware does not say which node a NIC is near, on a host with several."""
    if sum(bool(node.cpus) for node in facts.numa) < 2:
        return
    for nic in working(facts):
        if nic.numa_node is None and nic.bus == "pci":
            remedy = "update the firmware, or name the near CPUs: policy: knobs: {irq_affinity: {cpus: <list>}}"
            yield _of(nic, "numa_unknown", "the firmware does not say its NUMA node", remedy, Severity.INFO)


def sensor_alarm(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A sensor past a limit; one without limits, or a latched intrusion switch, is noise."""
    for sensor in facts.hwmon.values():
        limits = {"min": sensor.min, "max": sensor.max, "crit": sensor.crit}
        shown = ", ".join(f"{name} {value:g} {sensor.unit}" for name, value in limits.items() if value is not None)
        if sensor.alarm and shown and not sensor.channel.startswith("intrusion"):
            text = f"{sensor.chip} {sensor.label or sensor.channel} raises its alarm ({shown})"
            remedy = "check cooling, fans and supply of that part"
            yield Finding(rule="sensor_alarm", key=sensor.key, target=sensor.key, text=text, remedy=remedy)


def gigabits(speed_gts: float | None, width: int | None) -> float:
    """Gb/s of a PCIe link after its line code (8b/10b up to 5 GT/s, 128b/130b above); 0 when unknown."""
    if not speed_gts or not width:
        return 0.0
    return speed_gts * width * (0.8 if speed_gts <= 5 else 128 / 130)


def _cards(facts: HostFacts) -> Iterator[Pci]:
    return (pci for pci in facts.pci.values() if pci.class_id.startswith(FAST_CLASSES))


def _need(facts: HostFacts, pci: Pci) -> float:
    """Gb/s of all ports on the card: functions of one device share its lanes."""
    device = pci.key.rpartition(".")[0]
    ports = (nic for nic in facts.nics.values() if not nic.pf and nic.address.rpartition(".")[0] == device)
    return sum(nic.max_speed_mbps or nic.speed_mbps or 0 for nic in ports) / 1000


def _card(
    facts: HostFacts, pci: Pci, rule: str, text: str, remedy: str, *, severity: Severity = Severity.WARNING
) -> Finding:
    nic = next((nic for nic in facts.nics.values() if nic.address == pci.key), None)
    target = f"{nic.ifname} ({pci.key})" if nic else f"{pci.name or pci.driver or 'device'} ({pci.key})"
    return Finding(rule=rule, key=pci.key, target=target, severity=severity, text=text, remedy=remedy)


def _of(nic: Nic, rule: str, text: str, remedy: str, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(rule=rule, key=nic.key, target=nic.ifname, severity=severity, text=text, remedy=remedy)
