"""Data centre bridging of NICs: lossless priorities, shares of the link, what sorts the frames received."""

from collections.abc import Iterator

from collectors.about import About
from collectors.links import Port, read_own_ports
from machine import Machine, MachineError, NotPresentError
from machine import dcb as source
from wire.facts import Dcb

NAME = "dcb"
EVERY_S = 60.0
DEADLINE_S = 5.0

ABOUT = About(
    what="data centre bridging: PFC, ETS, trust, DSCP",
    source="dcbnl (rtnetlink GETDCB)",
)


def collect(machine: Machine) -> Iterator[Dcb]:
    """One `Dcb` per NIC whose driver has it; raises NotPresentError where none has."""
    found = [fact for port in read_own_ports(machine) if port.device for fact in _one(machine, port)]
    if not found:
        raise NotPresentError("no NIC says anything of data centre bridging")
    yield from found


def _one(machine: Machine, port: Port) -> Iterator[Dcb]:
    try:
        said = source.read(machine, port.link.ifname)
    except MachineError:
        return
    yield Dcb(
        key=port.key,
        ifname=port.link.ifname,
        ifindex=port.link.ifindex,
        dcbx=said.dcbx,
        pfc_capable=said.pfc_capable,
        pfc=said.pfc,
        classes=said.classes,
        bandwidth=said.bandwidth,
        tsa=said.tsa,
        prio_tc=said.prio_tc,
        trust=said.trust,
        dscp=said.dscp,
    )
