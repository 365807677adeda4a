"""Findings about bonds: partners that do not answer, ports that do not fit together, and the last port left."""

from collections.abc import Iterator

from tuners.hostfacts import HostFacts
from tuners.placement_rules import Latest
from wire.facts import Bond
from wire.policy import Finding
from wire.report import Severity

LACP = "802.3ad"
UNWATCHED = (0, None)


def lacp_partner_missing(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001 - one shape
    """A LACP bond with a port up and nobody who answers: it runs on one port, and the switch may not know of it."""
    for bond in _lacp(facts):
        if bond.aggregator is not None and not bond.partner_mac and _up(bond):
            text = f"no LACP partner answers on {', '.join(_up(bond))}: one port carries everything"
            remedy = "configure a LACP port channel (active or passive) on the switch ports of this bond"
            yield _of(bond, "lacp_partner_missing", text, remedy)


def lacp_split(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """Ports that are up and in another aggregator than the active one: they carry nothing."""
    for bond in _lacp(facts):
        aside = [
            port.ifname
            for port in bond.ports
            if port.link == "up" and bond.partner_mac and port.aggregator not in (None, bond.aggregator)
        ]
        if aside:
            text = f"{', '.join(aside)} up, but not in the active aggregator with partner {bond.partner_mac}"
            remedy = "check that its cable ends in the same port channel, with equal speed and key, of the same switch"
            yield _of(bond, "lacp_split", text, remedy)


def bond_speeds(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """Ports with different speeds: LACP leaves the slower ones out, the other modes load them alike."""
    for bond in facts.bonds.values():
        nics = [facts.nics[port.key] for port in bond.ports if port.key in facts.nics]
        speeds = {nic.ifname: nic.speed_mbps for nic in nics if nic.carrier and nic.speed_mbps}
        if len(set(speeds.values())) > 1:
            text = "ports with different speeds: " + ", ".join(f"{name} {speed} Mb/s" for name, speed in speeds.items())
            yield _of(
                bond, "bond_speeds", text, "give it ports of one speed; check cable and transceiver of the slower"
            )


def bond_degraded(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """A bond that has lost ports, one that never had a second, and one that nobody watches."""
    for bond in facts.bonds.values():
        known, up = [port for port in bond.ports if port.link], _up(bond)
        down = [port.ifname for port in known if port.link != "up"]
        if known and not up:
            yield _of(bond, "bond_degraded", "no port is up", "check cables and switch ports", Severity.CRITICAL)
        elif down:
            left = f"only {up[0]} is" if len(up) == 1 else f"{len(up)} of {len(known)} are"
            text = f"{', '.join(down)} down, {left} left"
            yield _of(bond, "bond_degraded", text, f"check cable, transceiver and switch port of {', '.join(down)}")
        elif len(bond.ports) == 1:
            text = f"has {bond.ports[0].ifname} alone: no second port to fall back on"
            yield _of(bond, "bond_degraded", text, "add a port, or do without the bond", Severity.INFO)


def bond_unwatched(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001
    """Neither MII nor ARP monitoring: a port that fails stays in use."""
    for bond in facts.bonds.values():
        if bond.miimon_ms == 0 and bond.arp_interval_ms in UNWATCHED:
            text = "its links are not watched (miimon and arp_interval are 0): a port that fails stays in use"
            yield _of(bond, "bond_unwatched", text, "set miimon to 100 ms in the network configuration of the host")


def _lacp(facts: HostFacts) -> Iterator[Bond]:
    return (bond for bond in facts.bonds.values() if bond.mode == LACP)


def _up(bond: Bond) -> list[str]:
    return [port.ifname for port in bond.ports if port.link == "up"]


def _of(bond: Bond, rule: str, text: str, remedy: str, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(rule=rule, key=bond.key, target=bond.ifname, severity=severity, text=text, remedy=remedy)
