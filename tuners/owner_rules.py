"""Findings about others who set the same thing differently."""

from collections.abc import Iterator

from tuners import owners
from tuners.hostfacts import HostFacts
from tuners.placement_rules import Latest
from wire.policy import Finding
from wire.report import Severity


def knob_contested(facts: HostFacts, latest: Latest) -> Iterator[Finding]:  # noqa: ARG001 - one shape for every rule
    """Two others set one value differently: who comes last wins, until the other comes again."""
    for what, nic, others in owners.contested(facts):
        device = facts.nics.get(nic)
        yield Finding(
            rule="knob_contested",
            key=f"{nic} {what}".strip(),
            target=device.ifname if device else "host",
            severity=Severity.INFO,
            text=f"{what} has two masters: {' and '.join(map(str, others[:3]))}",
            remedy="leave it to one of them, or to a policy: a knob in mode enforce is written again when it drifts",
        )
