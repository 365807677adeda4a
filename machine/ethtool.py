"""What a NIC's driver says through ethtool netlink. Tables: attribute number -> name (linux/ethtool_netlink.h, 6.18).

`read_x(machine, ifindex)` asks one NIC and raises UnsupportedError where its driver lacks the operation;
`read_all_x(machine)` asks the kernel once for all NICs, those without the operation are missing.
"""

import functools
import re
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from machine import Machine, MachineError, nla
from machine.ethtool_ioctl import DrvInfo, read_drvinfo, read_stats

FAMILY = "ethtool"
LINKINFO_GET, LINKMODES_GET, FEATURES_GET, FEATURES_SET, PRIVFLAGS_GET = 2, 4, 11, 12, 13
RINGS_GET, RINGS_SET, CHANNELS_GET, CHANNELS_SET = 15, 16, 17, 18
COALESCE_GET, COALESCE_SET, PAUSE_GET, TSINFO_GET, FEC_GET, RSS_GET = 19, 20, 21, 25, 29, 38
LINKMODES_SET, PAUSE_SET, EEE_GET, EEE_SET, FEC_SET = 5, 22, 23, 24, 30

HEADER, HEADER_INDEX, HEADER_NAME = 1, 1, 2

RINGS = {
    2: "rx_max",
    3: "rx_mini_max",
    4: "rx_jumbo_max",
    5: "tx_max",
    6: "rx",
    7: "rx_mini",
    8: "rx_jumbo",
    9: "tx",
    10: "rx_buf_len",
    11: "tcp_data_split",
    12: "cqe_size",
    13: "tx_push",
    14: "rx_push",
    15: "tx_push_buf_len",
    16: "tx_push_buf_len_max",
    17: "hds_thresh",
    18: "hds_thresh_max",
}
CHANNELS = {
    2: "rx_max",
    3: "tx_max",
    4: "other_max",
    5: "combined_max",
    6: "rx",
    7: "tx",
    8: "other",
    9: "combined",
}
COALESCE = {
    2: "rx_usecs",
    3: "rx_max_frames",
    4: "rx_usecs_irq",
    5: "rx_max_frames_irq",
    6: "tx_usecs",
    7: "tx_max_frames",
    8: "tx_usecs_irq",
    9: "tx_max_frames_irq",
    10: "stats_block_usecs",
    11: "use_adaptive_rx",
    12: "use_adaptive_tx",
    13: "pkt_rate_low",
    14: "rx_usecs_low",
    15: "rx_max_frames_low",
    16: "tx_usecs_low",
    17: "tx_max_frames_low",
    18: "pkt_rate_high",
    19: "rx_usecs_high",
    20: "rx_max_frames_high",
    21: "tx_usecs_high",
    22: "tx_max_frames_high",
    23: "rate_sample_interval",
    24: "use_cqe_mode_tx",
    25: "use_cqe_mode_rx",
    26: "tx_aggr_max_bytes",
    27: "tx_aggr_max_frames",
    28: "tx_aggr_time_usecs",
}
PAUSE = {2: "autoneg", 3: "rx", 4: "tx"}
EEE = {4: "active", 5: "enabled"}
BOOLEANS = frozenset({"use_adaptive_rx", "use_adaptive_tx", "use_cqe_mode_rx", "use_cqe_mode_tx"})
BYTES = BOOLEANS | {"tcp_data_split", "tx_push", "rx_push"}  # u8; every other number is u32
PORTS = {0: "tp", 1: "aui", 2: "mii", 3: "fibre", 4: "bnc", 5: "da", 0xEF: "none", 0xFF: "other"}
DUPLEXES = {0: "half", 1: "full"}
HFUNCS = {1: "toeplitz", 2: "xor", 4: "crc32"}
FECS = {49: "None", 50: "RS", 51: "BASER", 74: "LLRS"}  # link mode bits of ETHTOOL_A_FEC_ACTIVE

_SPEED = re.compile(r"(\d+)base")
_UNKNOWN_SPEED = 0xFFFFFFFF
_RSS_CONTEXT = 2

__all__ = ["DrvInfo", "Features", "Fec", "LinkModes", "Rss", "read_drvinfo", "read_stats"]

T = TypeVar("T")


class Features(NamedTuple):
    """Offloads by the kernel's names: what is on, and what cannot be changed (sorted)."""

    active: dict[str, bool]
    fixed: list[str]


class Fec(NamedTuple):
    """Forward error correction: configured modes, whether the driver chooses, and the one in use ("" for none)."""

    modes: list[str]
    auto: bool
    active: str


class Rss(NamedTuple):
    """Receive side scaling: queue per hash bucket and the hash's name."""

    indirection: list[int]
    hfunc: str


class Timestamps(NamedTuple):
    """How frames are stamped with the time: names of what the NIC can, and its PTP hardware clock."""

    capabilities: list[str]
    tx: list[str]
    rx: list[str]
    phc: int | None


class LinkModes(NamedTuple):
    """Speed and how it came about; None where the link or the driver does not say."""

    speed_mbps: int | None
    max_speed_mbps: int | None  # of the supported modes
    duplex: str
    autoneg: bool | None
    supported: tuple[str, ...] = ()  # names of modes, ports and FEC encodings: "1000baseT/Full", "TP", "RS"
    advertised: tuple[str, ...] = ()


def header(ifindex: int = 0) -> bytes:
    """The request header: one NIC, or every one of the namespace for 0."""
    return nla.nest(HEADER, nla.u32(HEADER_INDEX, ifindex)) if ifindex else nla.nest(HEADER)


def _one(machine: Machine, command: int, ifindex: int, parse: Callable[[dict[int, bytes]], T]) -> T:
    for reply in machine.genl(FAMILY, command, header(ifindex)):
        return parse(nla.table(reply.payload))
    raise MachineError(f"ethtool request {command}: no answer for interface {ifindex}")


def _all(machine: Machine, command: int, parse: Callable[[dict[int, bytes]], T]) -> dict[int, T]:
    found: dict[int, T] = {}
    for reply in machine.genl(FAMILY, command, header(), dump=True):
        attributes = nla.table(reply.payload)
        found.setdefault(reply_ifindex(attributes), parse(attributes))
    return found


def reply_ifindex(attributes: dict[int, bytes]) -> int:
    """The interface a reply or notification is about."""
    return nla.number(nla.table(attributes.get(HEADER, b"")).get(HEADER_INDEX, b""))


def _numbers(names: dict[int, str]) -> Callable[[dict[int, bytes]], dict[str, int]]:
    def parse(attributes: dict[int, bytes]) -> dict[str, int]:
        return {name: nla.number(attributes[kind]) for kind, name in names.items() if kind in attributes}

    return parse


parse_rings = _numbers(RINGS)
parse_channels = _numbers(CHANNELS)
_parse_coalesce = _numbers(COALESCE)
_parse_pause = _numbers(PAUSE)


def parse_coalesce(attributes: dict[int, bytes]) -> dict[str, int | bool]:
    """Numbers, and booleans for the names in `BOOLEANS`."""
    return {name: bool(value) if name in BOOLEANS else value for name, value in _parse_coalesce(attributes).items()}


def parse_pause(attributes: dict[int, bytes]) -> dict[str, bool]:
    """autoneg, rx and tx."""
    return {name: bool(value) for name, value in _parse_pause(attributes).items()}


@functools.lru_cache(maxsize=16)
def parse_bitset(nested: bytes) -> Mapping[str, bool]:
    """Name -> set, of every bit that a verbose bitset lists (one without mask lists those that are set).

    NICs of a kind send equal bitsets of sixty names, so the last ones are kept.
    """
    top = nla.table(nested)
    listed = 1 in top  # ETHTOOL_A_BITSET_NOMASK: presence is the value
    bits: dict[str, bool] = {}
    for _, bit in nla.items(top.get(3, b"")):
        found = nla.table(bit)
        name = nla.string(found.get(2, b"")) or str(nla.number(found.get(1, b"")))
        bits[name] = listed or 3 in found
    return bits


def parse_features(attributes: dict[int, bytes]) -> Features:
    """Every feature the kernel knows; fixed is what hardware lacks or the kernel never changes."""
    hardware, active, never = (parse_bitset(attributes.get(kind, b"")) for kind in (2, 4, 5))
    names = sorted(name for name in hardware.keys() | active.keys() if not name.isdigit())  # a digit: unused bit
    fixed = [name for name in names if never.get(name) or not hardware.get(name)]
    return Features({name: active.get(name, False) for name in names}, fixed)


def parse_fec(attributes: dict[int, bytes]) -> Fec:
    """ETHTOOL_MSG_FEC_GET_REPLY."""
    modes = sorted(name for name, on in parse_bitset(attributes.get(2, b"")).items() if on)
    bit = nla.number(attributes[4]) if 4 in attributes else None
    active = "" if bit is None else FECS.get(bit, str(bit))
    return Fec(modes, bool(nla.number(attributes.get(3, b""))), active)


def parse_rss(attributes: dict[int, bytes]) -> Rss:
    """ETHTOOL_MSG_RSS_GET_REPLY."""
    table = attributes.get(4, b"")
    hfunc = nla.number(attributes.get(3, b""))
    return Rss(list(struct.unpack_from(f"={len(table) // 4}I", table)), HFUNCS.get(hfunc, str(hfunc) if hfunc else ""))


def parse_tsinfo(attributes: dict[int, bytes]) -> Timestamps:
    """ETHTOOL_MSG_TSINFO_GET_REPLY."""
    can, tx, rx = ([name for name, on in parse_bitset(attributes.get(at, b"")).items() if on] for at in (2, 3, 4))
    phc = nla.signed(attributes[5]) if 5 in attributes else -1
    return Timestamps(can, tx, rx, phc if phc >= 0 else None)


def parse_linkmodes(attributes: dict[int, bytes]) -> LinkModes:
    """ETHTOOL_MSG_LINKMODES_GET_REPLY; the mask of "ours" is what is supported."""
    speed = nla.number(attributes.get(5, b""))
    ours = parse_bitset(attributes.get(3, b""))
    modes = (_SPEED.match(name) for name in ours)
    return LinkModes(
        speed if 0 < speed < _UNKNOWN_SPEED else None,
        max((int(mode[1]) for mode in modes if mode), default=None),
        DUPLEXES.get(nla.number(attributes[6]), "") if 6 in attributes else "",
        bool(nla.number(attributes[2])) if 2 in attributes else None,
        tuple(ours),
        tuple(name for name, on in ours.items() if on),
    )


def parse_eee(attributes: dict[int, bytes]) -> dict[str, bool]:
    """ETHTOOL_MSG_EEE_GET_REPLY: whether energy efficient Ethernet is enabled, and whether both ends agreed on it."""
    return {name: bool(nla.number(attributes[at])) for at, name in EEE.items() if at in attributes}


def parse_privflags(attributes: dict[int, bytes]) -> Mapping[str, bool]:
    """The driver's own switches by its names for them."""
    return parse_bitset(attributes.get(2, b""))


def parse_linkinfo(attributes: dict[int, bytes]) -> str:
    """The port: a name of `PORTS`, "" for none said."""
    return PORTS.get(nla.number(attributes[2]), "") if 2 in attributes else ""


def read_rings(machine: Machine, ifindex: int) -> dict[str, int]:
    """Ring sizes in descriptors, and their limits `*_max`."""
    return _one(machine, RINGS_GET, ifindex, parse_rings)


def read_all_rings(machine: Machine) -> dict[int, dict[str, int]]:
    """`read_rings` of every NIC, by ifindex."""
    return _all(machine, RINGS_GET, parse_rings)


def read_channels(machine: Machine, ifindex: int) -> dict[str, int]:
    """Queue counts `rx`, `tx`, `combined`, `other`, and their limits `*_max`."""
    return _one(machine, CHANNELS_GET, ifindex, parse_channels)


def read_all_channels(machine: Machine) -> dict[int, dict[str, int]]:
    """`read_channels` of every NIC, by ifindex."""
    return _all(machine, CHANNELS_GET, parse_channels)


def read_coalesce(machine: Machine, ifindex: int) -> dict[str, int | bool]:
    """Interrupt coalescing: microseconds, frames and switches, those that the driver has."""
    return _one(machine, COALESCE_GET, ifindex, parse_coalesce)


def read_all_coalesce(machine: Machine) -> dict[int, dict[str, int | bool]]:
    """`read_coalesce` of every NIC, by ifindex."""
    return _all(machine, COALESCE_GET, parse_coalesce)


def read_features(machine: Machine, ifindex: int) -> Features:
    """Offloads that are on, and those that cannot be changed."""
    return _one(machine, FEATURES_GET, ifindex, parse_features)


def read_all_features(machine: Machine) -> dict[int, Features]:
    """`read_features` of every NIC, by ifindex."""
    return _all(machine, FEATURES_GET, parse_features)


def read_privflags(machine: Machine, ifindex: int) -> Mapping[str, bool]:
    """The driver's own switches (`ethtool --show-priv-flags`): name -> on."""
    return _one(machine, PRIVFLAGS_GET, ifindex, parse_privflags)


def read_all_privflags(machine: Machine) -> dict[int, Mapping[str, bool]]:
    """`read_privflags` of every NIC that has some, by ifindex."""
    return _all(machine, PRIVFLAGS_GET, parse_privflags)


def read_pause(machine: Machine, ifindex: int) -> dict[str, bool]:
    """Flow control: autoneg, rx, tx."""
    return _one(machine, PAUSE_GET, ifindex, parse_pause)


def read_all_pause(machine: Machine) -> dict[int, dict[str, bool]]:
    """`read_pause` of every NIC, by ifindex."""
    return _all(machine, PAUSE_GET, parse_pause)


def read_fec(machine: Machine, ifindex: int) -> Fec:
    """Forward error correction."""
    return _one(machine, FEC_GET, ifindex, parse_fec)


def read_all_fec(machine: Machine) -> dict[int, Fec]:
    """`read_fec` of every NIC, by ifindex."""
    return _all(machine, FEC_GET, parse_fec)


def read_eee(machine: Machine, ifindex: int) -> dict[str, bool]:
    """Energy efficient Ethernet."""
    return _one(machine, EEE_GET, ifindex, parse_eee)


def read_all_eee(machine: Machine) -> dict[int, dict[str, bool]]:
    """`read_eee` of every NIC, by ifindex."""
    return _all(machine, EEE_GET, parse_eee)


def read_rss(machine: Machine, ifindex: int) -> Rss:
    """Receive side scaling of the default context (kernel 6.3)."""
    return _one(machine, RSS_GET, ifindex, parse_rss)


def read_all_rss(machine: Machine) -> dict[int, Rss]:
    """`read_rss` of every NIC, by ifindex, its default context (kernel 6.12)."""
    return _all(machine, RSS_GET, parse_rss)


def read_tsinfo(machine: Machine, ifindex: int) -> Timestamps:
    """Timestamping of frames."""
    return _one(machine, TSINFO_GET, ifindex, parse_tsinfo)


def read_all_tsinfo(machine: Machine) -> dict[int, Timestamps]:
    """`read_tsinfo` of every NIC, by ifindex."""
    return _all(machine, TSINFO_GET, parse_tsinfo)


def read_linkmodes(machine: Machine, ifindex: int) -> LinkModes:
    """Speed, fastest supported speed, duplex, autonegotiation."""
    return _one(machine, LINKMODES_GET, ifindex, parse_linkmodes)


def read_all_linkmodes(machine: Machine) -> dict[int, LinkModes]:
    """`read_linkmodes` of every NIC, by ifindex."""
    return _all(machine, LINKMODES_GET, parse_linkmodes)


def read_linkinfo(machine: Machine, ifindex: int) -> str:
    """The port: "tp", "fibre", "da", ..."""
    return _one(machine, LINKINFO_GET, ifindex, parse_linkinfo)


def read_all_linkinfo(machine: Machine) -> dict[int, str]:
    """`read_linkinfo` of every NIC, by ifindex."""
    return _all(machine, LINKINFO_GET, parse_linkinfo)
