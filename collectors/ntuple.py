"""The rules by which NICs steer or drop what they receive."""

from collections.abc import Iterator

from collectors.about import About
from collectors.links import read_own_ports
from machine import Machine, MachineError, NotPresentError, rxnfc
from wire.facts import Ntuple, NtupleRule

NAME = "ntuple"
EVERY_S = 300.0
DEADLINE_S = 10.0


ABOUT = About(
    what="flow rules in the NIC, whoever made them",
    source="ethtool ioctl",
    privileges="CAP_NET_ADMIN",
)


def collect(machine: Machine) -> Iterator[Ntuple]:
    """One `Ntuple` per interface whose driver has flow rules; raises NotPresentError where none has."""
    found = False
    for port in read_own_ports(machine):
        try:
            size, rules = rxnfc.read_rules(machine, port.link.ifname, port.link.ifindex)
        except MachineError:
            continue
        found = True
        yield Ntuple(
            key=port.key,
            ifname=port.link.ifname,
            ifindex=port.link.ifindex,
            size=size,
            rules=[NtupleRule(location=place, rule=rule) for place, rule in rules.items()],
        )
    if not found:
        raise NotPresentError("no interface has flow rules")
