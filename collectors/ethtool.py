"""What drivers say through ethtool netlink: rings, channels, coalescing, offloads, link modes, pause, FEC, EEE, RSS."""

from collections.abc import Iterator, Mapping

from collectors.about import About
from collectors.links import Port, poll, read_own_ports
from machine import Machine, MachineError, NotPresentError, perqueue
from machine import ethtool as source
from wire.facts import Ethtool

NAME = "ethtool"
EVERY_S = 60.0
DEADLINE_S = 10.0

_NO_FEATURES = source.Features({}, [])
_NO_FEC = source.Fec([], auto=False, active="")
_NO_RSS = source.Rss([], "")


ABOUT = About(
    what="rings, channels, coalescing, offloads, link modes, pause, FEC, EEE, RSS",
    source="ethtool netlink, one dump per message; coalescing by queue: ioctl",
)


def collect(machine: Machine) -> Iterator[Ethtool]:
    """One `Ethtool` per interface but loopback; raises NotPresentError where ethtool netlink says nothing at all."""
    ports = read_own_ports(machine)
    rings = poll(machine, source.read_all_rings, source.read_rings, ports)
    channels = poll(machine, source.read_all_channels, source.read_channels, ports)
    coalesce = poll(machine, source.read_all_coalesce, source.read_coalesce, ports)
    features = poll(machine, source.read_all_features, source.read_features, ports)
    pause = poll(machine, source.read_all_pause, source.read_pause, ports)
    fec = poll(machine, source.read_all_fec, source.read_fec, ports)
    eee = poll(machine, source.read_all_eee, source.read_eee, ports)
    modes = poll(machine, source.read_all_linkmodes, source.read_linkmodes, ports)
    rss = poll(machine, source.read_all_rss, source.read_rss, ports)
    if not (rings or channels or coalesce or features or pause):
        raise NotPresentError("ethtool netlink says nothing about this machine")
    for port in ports:
        at = port.link.ifindex
        yield Ethtool(
            key=port.key,
            ifname=port.link.ifname,
            ifindex=at,
            rings=rings.get(at, {}),
            channels=channels.get(at, {}),
            coalesce=coalesce.get(at, {}),
            coalesce_queues=read_coalesce_queues(machine, port, channels.get(at, {})) if at in coalesce else [],
            features=features.get(at, _NO_FEATURES).active,
            features_fixed=features.get(at, _NO_FEATURES).fixed,
            pause=pause.get(at, {}),
            fec=parse_fec_modes(fec.get(at, _NO_FEC)),
            fec_active=fec.get(at, _NO_FEC).active,
            rss_indirection=rss.get(at, _NO_RSS).indirection,
            rss_hfunc=rss.get(at, _NO_RSS).hfunc,
            supported=sorted(modes[at].supported) if at in modes else [],
            advertised=sorted(modes[at].advertised) if at in modes else [],
            eee=eee.get(at, {}),
        )


def read_coalesce_queues(machine: Machine, port: Port, channels: Mapping[str, int]) -> list[dict[str, int]]:
    """Coalescing by queue; none where the driver has it for the whole NIC only, or has a single queue."""
    queues = channels.get("combined", 0) + max(channels.get("rx", 0), channels.get("tx", 0))
    try:
        return perqueue.read(machine, port.link.ifname, range(queues)) if queues > 1 and port.device else []
    except MachineError:
        return []


def parse_fec_modes(fec: source.Fec) -> list[str]:
    """The configured modes, with "auto" first where the driver chooses."""
    return ["auto", *fec.modes] if fec.auto else fec.modes
