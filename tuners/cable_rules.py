"""Findings about cables, as far as one end can tell."""

from collections.abc import Iterator

from tuners.hostfacts import HostFacts
from tuners.placement_rules import Latest
from wire.policy import Finding
from wire.report import Severity


def lldp_blocked(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001 - one shape
    """A port whose NIC's firmware takes the LLDP frames: nobody on the host learns what is at its other end."""
    for heard in facts.lldp.values():
        if heard.state == "blocked":
            why, _, remedy = heard.reason.partition(": ")
            yield Finding(
                rule="lldp_blocked",
                key=heard.key,
                target=heard.port,
                severity=Severity.INFO,
                text=f"its neighbour is unknown: {why}",
                remedy=remedy,
            )
