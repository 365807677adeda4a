"""Facts in a few words, the same on the screen and in tables."""

from wire.cpulist import format_cpulist, parse_cpulist
from wire.facts import Ethtool, Irq, Nic

_UNITS = ((1024**3, "TiB"), (1024**2, "GiB"), (1024, "MiB"))


def link(nic: Nic) -> str:
    """`25G up`, `up`, `no carrier`, `down`; slower than the NIC can: `10G of 25G up`."""
    if not nic.up:
        return "down"
    if not nic.carrier:
        return "no carrier"
    slower = nic.max_speed_mbps and nic.speed_mbps and nic.speed_mbps < nic.max_speed_mbps
    speed = f"{_speed(nic.speed_mbps)} of {_speed(nic.max_speed_mbps)}" if slower else _speed(nic.speed_mbps)
    return f"{speed} up".strip()


def _speed(mbps: int | None) -> str:
    if mbps is None:
        return ""
    return f"{mbps / 1000:g}G" if mbps >= 1000 else f"{mbps}M"


def queues(nic: Nic, ethtool: Ethtool | None) -> str:
    """`8 of 16` combined, `4 rx 4 tx` where the driver has them apart or says nothing about a maximum."""
    channels = ethtool.channels if ethtool else {}
    if channels.get("combined"):
        most = channels.get("combined_max", 0)
        return f"{channels['combined']} of {most}" if most else str(channels["combined"])
    rx, tx = channels.get("rx") or nic.rx_queues, channels.get("tx") or nic.tx_queues
    return str(rx) if rx == tx else f"{rx} rx {tx} tx"


def interrupts(irq: Irq | None) -> str:
    """How many queue interrupts there are and on which CPUs they are served: `8 on 0-7`."""
    if irq is None or not irq.queues:
        return "-"
    vectors = [vector for vector in irq.queues if not vector.control]
    cpus: set[int] = set()
    for vector in vectors:
        cpus.update(_cpus(vector.effective or vector.cpus))
    placed = f"{len(vectors)} on {format_cpulist(cpus) or '?'}"
    return f"{placed} (unmapped)" if irq.source == "unmapped" else placed


def _cpus(text: str) -> list[int]:
    try:
        return parse_cpulist(text)
    except ValueError:
        return []


def rings(ethtool: Ethtool | None) -> str:
    """`rx 512 of 4096, tx 512 of 4096`, "" where the driver has none."""
    held = ethtool.rings if ethtool else {}
    return ", ".join(f"{way} {held[way]} of {held.get(f'{way}_max', '?')}" for way in ("rx", "tx") if way in held)


def decimal_size(count: int | None) -> str:
    """`3.84 TB` of bytes, as drives are sold; "" for None."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if count is not None and count >= unit:
            return f"{count / unit:.3g} {name}"
    return "" if count is None else f"{count} B"


def size(kilobytes: int | None) -> str:
    """`16 GiB` of kB; "" for None."""
    if kilobytes is None:
        return ""
    for unit, name in _UNITS:
        if kilobytes >= unit:
            return f"{kilobytes / unit:.3g} {name}"
    return f"{kilobytes} kB"
