"""XDP: which program stands on each NIC and whose it is, what drivers can, and what our programs have counted."""

from collections.abc import Iterator
from typing import Any

from collectors.about import About
from collectors.links import read_own_ports
from machine import Machine, MachineError, NotPresentError, netdev, xdp, xdp_values
from wire.facts import Xdp
from wire.report import Sample

NAME = "xdp"
EVERY_S = 10.0
DEADLINE_S = 5.0

ABOUT = About(
    what="XDP program of every NIC: whose, mode, settings of ours; what drivers can; counters of ours",
    source="rtnetlink IFLA_XDP, netdev-genl xdp-features, bpf(2)",
    privileges="root for names, owners and counters",
    metrics={f"xdp.{name}_{unit}": 0 for name in xdp_values.STATS for unit in ("packets", "bytes")},
)


def collect(machine: Machine) -> Iterator[Xdp | Sample]:
    """One `Xdp` per interface but loopback, and the counters of ours that are not zero. Raises MachineError."""
    attached = xdp.read_attached(machine)
    features = read_features(machine)
    for port in read_own_ports(machine):
        ifindex = port.link.ifindex
        on = attached.get(ifindex, xdp.Attached())
        said = describe(machine, on.program) if on.program else {}
        settings = {**said["settings"], "mode": on.mode} if said.get("settings") else {}
        yield Xdp(
            key=port.key,
            ifname=port.link.ifname,
            ifindex=ifindex,
            features=None if features is None else features.get(ifindex, []),
            mode=on.mode,
            program=on.program,
            tag=said.get("tag", ""),
            name=said.get("name", ""),
            owner=said.get("owner", ""),
            settings=settings,
        )
        for name, (packets, size) in said.get("stats", {}).items():
            yield Sample(f"xdp.{name}_packets", port.key, packets)
            yield Sample(f"xdp.{name}_bytes", port.key, size)


def read_features(machine: Machine) -> dict[int, list[str]] | None:
    """ifindex -> what its driver can do with XDP; None where the kernel does not say (before 6.3)."""
    try:
        return netdev.read_all_xdp_features(machine)
    except NotPresentError:
        return None


def describe(machine: Machine, program: int) -> dict[str, Any]:
    """What `Machine.xdp` says; nothing when it may not be asked, or the program went away just now."""
    try:
        return machine.xdp(program)
    except MachineError:
        return {}
