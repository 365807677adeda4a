"""What is built on a host's interfaces, in a few words each: bonds, functions given away, RDMA ports."""

from collections import Counter
from collections.abc import Iterable

from wire.facts import Bond, Passthrough, Rdma, Virt


def bond_line(bond: Bond) -> str:
    """`bond0 802.3ad layer3+4: 2 of 2 ports up, partner 64:9d:99:2e:78:a1`."""
    up = sum(port.link == "up" for port in bond.ports)
    down = [port.ifname for port in bond.ports if port.link not in ("up", "")]
    words = " ".join(
        filter(None, (bond.ifname, bond.driver if bond.driver != "bond" else "", bond.mode, bond.xmit_hash))
    )
    told = [f"{up} of {len(bond.ports)} ports up"]
    told += [f"down {', '.join(down)}"] if down else []
    told += [f"active {bond.active}"] if bond.active else []
    if bond.mode == "802.3ad":
        told.append(f"partner {bond.partner_mac}" if bond.partner_mac else "no partner")
    return f"{words}: {', '.join(told)}"


def virt_line(virt: Virt) -> str:
    """`ens1f0: 4 of 64 functions, 3 host, 1 vfio`."""
    owners = Counter(function.owner or "without driver" for function in virt.vfs)
    told = [f"{len(virt.vfs)} of {virt.vfs_total} functions"] if virt.vfs_total else []
    told += [f"{count} {owner}" for owner, count in sorted(owners.items())]
    told += [virt.eswitch_mode] if virt.eswitch_mode else []
    told += [f"{len(virt.representors)} representors"] if virt.representors else []
    return f"{virt.ifname or virt.key}: {', '.join(told)}"


def given_line(given: Iterable[Passthrough]) -> str:
    """`2 devices given away: 0000:81:00.0 vfio-pci, ...`; "" for none."""
    told = [" ".join(filter(None, (one.key, one.driver or one.driver_override))) for one in given]
    more = f" and {len(told) - 4} more" if len(told) > 4 else ""
    return f"{len(told)} given away: {', '.join(told[:4])}{more}" if told else ""


def rdma_line(rdma: Rdma) -> str:
    """`mlx5_0/1 InfiniBand active 100 Gb/s (4X EDR), LID 932, eth0`."""
    rate = "" if rdma.rate_gbps is None else f"{rdma.rate_gbps:g} Gb/s"
    width = f"({rdma.width})" if rdma.width else ""
    first = " ".join(filter(None, (f"{rdma.device}/{rdma.port}", rdma.link_layer, rdma.state, rate, width)))
    rest = [f"LID {rdma.lid}"] if rdma.lid else []
    return ", ".join([first, *rest, *rdma.ifnames[:2], *([f"firmware {rdma.firmware}"] if rdma.firmware else [])])
