"""Ports of RDMA devices (InfiniBand, RoCE, iWARP): link, addresses, counters, and the pauses of the NICs under them."""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence

from collectors import sysfs
from collectors.about import About, Cost
from collectors.links import Port, read_ports
from machine import Machine, MachineError, NotPresentError, ethtool, rtnl
from wire.facts import Gid, Rdma
from wire.report import Sample
from wire.text import clean

NAME = "rdma"
EVERY_S = 30.0
DEADLINE_S = 15.0

FOLDER = "/sys/class/infiniband"
MOST_GIDS = 256
_STATE = re.compile(r"\d+:\s*(\w.*)")
_RATE = re.compile(r"(\d+(?:\.\d+)?) Gb/sec\s*(?:\((.*)\))?")
_NODE = re.compile(r"\d+:\s*(\w+)")
_PKEY = re.compile(r"0x[0-9a-f]{4}")
_FULL = 0xFFFFFFFF  # old counters stop there for good, and say nothing any more
_WORD_BYTES = 4  # InfiniBand counts data in words of 32 bits

# ports/N/counters: the same for all drivers; (metric, what one of it is)
COUNTERS = {
    "port_rcv_data": ("rdma.rx_bytes", _WORD_BYTES),
    "port_xmit_data": ("rdma.tx_bytes", _WORD_BYTES),
    "port_rcv_packets": ("rdma.rx_packets", 1),
    "port_xmit_packets": ("rdma.tx_packets", 1),
    "port_rcv_errors": ("rdma.rx_errors", 1),
    "port_rcv_discards": ("rdma.rx_discards", 1),
    "port_xmit_discards": ("rdma.tx_discards", 1),
    "port_xmit_wait": ("rdma.tx_wait_ticks", 1),
    "symbol_error": ("rdma.symbol_errors", 1),
    "link_downed": ("rdma.link_downs", 1),
    "link_error_recovery": ("rdma.link_recoveries", 1),
    "local_link_integrity_errors": ("rdma.link_integrity_errors", 1),
    "excessive_buffer_overrun_errors": ("rdma.buffer_overruns", 1),
    "VL15_dropped": ("rdma.management_drops", 1),
}
# ports/N/hw_counters: the driver's own name -> our metric; what is not here stays on the machine
HARDWARE = {
    "np_ecn_marked_roce_packets": "rdma.ecn_marked_packets",  # mlx5
    "rx_ecn_marked_pkts": "rdma.ecn_marked_packets",  # bnxt_re
    "RxECNMrkd": "rdma.ecn_marked_packets",  # irdma
    "np_cnp_sent": "rdma.cnps_sent",
    "tx_cnp_pkts": "rdma.cnps_sent",
    "cnpSent": "rdma.cnps_sent",
    "rp_cnp_handled": "rdma.cnps_handled",
    "rx_cnp_pkts": "rdma.cnps_handled",
    "cnpHandled": "rdma.cnps_handled",
    "rp_cnp_ignored": "rdma.cnps_ignored",
    "cnpIgnored": "rdma.cnps_ignored",
    "out_of_sequence": "rdma.out_of_sequence",  # mlx5
    "oos_drop_count": "rdma.out_of_sequence",  # bnxt_re
    "rcvd_pkts": "rdma.driver_rx_packets",  # rxe
    "sent_pkts": "rdma.driver_tx_packets",
    "rx_pkts": "rdma.driver_rx_packets",  # bnxt_re
    "tx_pkts": "rdma.driver_tx_packets",
    "out_of_seq_request": "rdma.out_of_sequence",  # rxe
    "packet_seq_err": "rdma.sequence_naks",  # mlx5
    "seq_err_naks_rcvd": "rdma.sequence_naks",
    "rcvd_seq_err": "rdma.sequence_naks",
    "local_ack_timeout_err": "rdma.ack_timeouts",
    "rnr_nak_retry_err": "rdma.receiver_not_ready",
    "rnr_naks_rcvd": "rdma.receiver_not_ready",
    "rcvd_rnr_err": "rdma.receiver_not_ready",
    "out_of_buffer": "rdma.no_receive_buffer",
    "retry_exceeded_err": "rdma.retries_exceeded",
    "max_retry_exceeded": "rdma.retries_exceeded",
    "implied_nak_seq_err": "rdma.implied_naks",
    "duplicate_request": "rdma.duplicate_requests",
    "req_cqe_error": "rdma.requester_errors",
    "resp_cqe_error": "rdma.responder_errors",
    "roce_adp_retrans": "rdma.adaptive_retransmits",
    "rx_icrc_encapsulated": "rdma.icrc_errors",
    "ack_deferred": "rdma.acks_deferred",  # rxe
    "completer_retry_err": "rdma.completer_retries",
    "send_rnr_err": "rdma.rnr_sent",
}
# ethtool -S: priority flow control per priority, and ECN on the port; {} is the priority's digit
PRIORITIES = 8
PFC = {
    "rx_prio{}_pause": "rdma.pfc_prio{}_rx_frames",  # mlx5
    "tx_prio{}_pause": "rdma.pfc_prio{}_tx_frames",
    "rx_prio{}_pause_duration": "rdma.pfc_prio{}_rx_microseconds",
    "tx_prio{}_pause_duration": "rdma.pfc_prio{}_tx_microseconds",
    "rx_prio{}_buf_discard": "rdma.pfc_prio{}_buffer_discards",
    "rx_pfc_ena_frames_pri{}": "rdma.pfc_prio{}_rx_frames",  # bnxt_en
    "tx_pfc_ena_frames_pri{}": "rdma.pfc_prio{}_tx_frames",
    "rx_priority_{}_xoff.nic": "rdma.pfc_prio{}_rx_frames",  # ice
    "tx_priority_{}_xoff.nic": "rdma.pfc_prio{}_tx_frames",
    "port.rx_priority_{}_xoff": "rdma.pfc_prio{}_rx_frames",  # i40e
    "port.tx_priority_{}_xoff": "rdma.pfc_prio{}_tx_frames",
}
PORT_WIDE = {
    "rx_ecn_mark": "rdma.port_ecn_marked_packets",  # mlx5
}
ETHTOOL = {
    **{name.format(at): metric.format(at) for name, metric in PFC.items() for at in range(PRIORITIES)},
    **PORT_WIDE,
}

ABOUT = About(
    what="ports of InfiniBand, RoCE and iWARP: link, GIDs, pkeys, LIDs, firmware; counters, PFC and ECN",
    source="`/sys/class/infiniband`; a table of drivers' own counters",
    cost=Cost.SLOW,
    metrics=dict.fromkeys([*(metric for metric, _ in COUNTERS.values()), *HARDWARE.values(), *ETHTOOL.values()], 0),
)


def collect(machine: Machine) -> Iterator[Rdma | Sample]:
    """One `Rdma` per port, its counters with its key, and the pauses of its NIC with the NIC's key.

    Raises NotPresentError where there is no device.
    """
    devices = sysfs.names(machine, FOLDER)
    if not devices:
        raise NotPresentError(f"no device in {FOLDER}")
    ports = _ports(machine)
    nics: dict[str, Port] = {}
    for device in devices:
        for name in sysfs.names(machine, f"{FOLDER}/{device}/ports"):
            if name.isascii() and name.isdigit():
                fact = read_port(machine, device, name, ports)
                yield fact
                yield from read_counters(machine, f"{FOLDER}/{device}/ports/{name}", fact.key)
                nics |= {port.key: port for port in ports if port.key in fact.nics and port.device}
    for key, port in nics.items():
        yield from parse_pauses(key, _driver_counters(machine, port.link.ifname))


def _ports(machine: Machine) -> list[Port]:
    try:
        return read_ports(machine)
    except NotPresentError:
        return []


def read_port(machine: Machine, device: str, name: str, ports: Sequence[Port]) -> Rdma:
    """One port, with what is known of its device."""
    folder, port = f"{FOLDER}/{device}", f"{FOLDER}/{device}/ports/{name}"
    address = next(reversed(sysfs.pci_addresses(sysfs.resolve(machine, f"{folder}/device"))), "")
    gids = read_gids(machine, port)
    rate, width = parse_rate(sysfs.text(machine, f"{port}/rate"))
    ifnames = _ifnames(machine, folder, name, gids)
    keys = {one.link.ifname: one.key for one in ports}
    return Rdma(
        key=f"{address or device}/{name}",
        device=device,
        port=int(name),
        link_layer=clean(sysfs.text(machine, f"{port}/link_layer")),
        node_type=parse_node_type(sysfs.text(machine, f"{folder}/node_type")),
        state=parse_state(sysfs.text(machine, f"{port}/state")),
        phys_state=parse_state(sysfs.text(machine, f"{port}/phys_state")),
        rate_gbps=rate,
        width=width,
        lid=parse_lid(sysfs.text(machine, f"{port}/lid")),
        sm_lid=parse_lid(sysfs.text(machine, f"{port}/sm_lid")),
        gids=gids,
        pkeys=read_pkeys(machine, port),
        ifnames=ifnames,
        nics=[keys[ifname] for ifname in ifnames if ifname in keys],
        driver=sysfs.link_name(machine, f"{folder}/device/driver"),
        address=address,
        firmware=clean(sysfs.text(machine, f"{folder}/fw_ver")),
        hca_type=clean(sysfs.text(machine, f"{folder}/hca_type")),
        board_id=clean(sysfs.text(machine, f"{folder}/board_id")),
        node_guid=parse_guid(sysfs.text(machine, f"{folder}/node_guid")),
        sys_image_guid=parse_guid(sysfs.text(machine, f"{folder}/sys_image_guid")),
        node_desc=clean(sysfs.text(machine, f"{folder}/node_desc")),
    )


def _ifnames(machine: Machine, folder: str, name: str, gids: Sequence[Gid]) -> list[str]:
    """The interfaces its GIDs are of; without any those of its function whose dev_port is this port."""
    named = sorted({gid.ifname for gid in gids if gid.ifname})
    if named:
        return named
    parent = sysfs.text(machine, f"{folder}/parent")  # rxe and siw say on what they stand
    if parent:
        return [parent]
    found = sysfs.names(machine, f"{folder}/device/net")
    return [one for one in found if len(found) == 1 or _dev_port(machine, folder, one) == int(name) - 1]


def _dev_port(machine: Machine, folder: str, ifname: str) -> int:
    return sysfs.number(machine, f"{folder}/device/net/{ifname}/dev_port") or 0


def read_gids(machine: Machine, port: str) -> list[Gid]:
    """The entries of the table that are set, by index."""
    names = sorted((name for name in sysfs.names(machine, f"{port}/gids") if name.isdigit()), key=int)
    found: list[Gid] = []
    for name in names[:MOST_GIDS]:
        if gid := parse_gid(sysfs.text(machine, f"{port}/gids/{name}")):
            kind = clean(sysfs.text(machine, f"{port}/gid_attrs/types/{name}"))
            found.append(Gid(index=int(name), gid=gid, type=kind, ifname=_ndev(machine, port, name)))
    return found


def _ndev(machine: Machine, port: str, name: str) -> str:
    return clean(sysfs.text(machine, f"{port}/gid_attrs/ndevs/{name}"), 15)


def parse_gid(text: str) -> str:
    """The short spelling of a GID; "" for one that is not set: zeros, or a subnet's prefix and zeros."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return ""
    return rtnl.ip(address.packed) if int(address) & (1 << 64) - 1 else ""


def read_pkeys(machine: Machine, port: str) -> list[str]:
    """Partition keys that are set, each once, by index."""
    names = sorted((name for name in sysfs.names(machine, f"{port}/pkeys") if name.isdigit()), key=int)
    keys = (sysfs.text(machine, f"{port}/pkeys/{name}") for name in names[:MOST_GIDS])
    return list(dict.fromkeys(key for key in keys if _PKEY.fullmatch(key) and key != "0x0000"))


def parse_state(text: str) -> str:
    """`active` of `4: ACTIVE`; "" for none."""
    match = _STATE.fullmatch(text)
    return clean(match[1]).lower() if match else ""


def parse_node_type(text: str) -> str:
    """`CA` of `1: CA`; "" for none."""
    match = _NODE.fullmatch(text)
    return clean(match[1]) if match else ""


def parse_rate(text: str) -> tuple[float | None, str]:
    """Gb/s and what they are made of: 100 and `4X EDR` of `100 Gb/sec (4X EDR)`."""
    match = _RATE.fullmatch(text)
    return (float(match[1]), clean(match[2] or "")) if match else (None, "")


def parse_lid(text: str) -> int | None:
    """A local identifier; None for 0 and 0xffff, which mean none was given."""
    digits = text.removeprefix("0x")
    known = 0 < len(digits) <= 8 and all(digit in "0123456789abcdef" for digit in digits)
    lid = int(digits, 16) if known else 0
    return lid if lid not in (0, 0xFFFF) else None


def parse_guid(text: str) -> str:
    """A GUID as it is; "" for zeros."""
    said = clean(text)
    return said if said.strip("0:") else ""


def read_counters(machine: Machine, port: str, key: str) -> Iterator[Sample]:
    """The counters of one port; one that says `N/A (no PMA)`, or has run full, is none."""
    found: dict[str, float] = {}
    for name in filter(COUNTERS.__contains__, sysfs.names(machine, f"{port}/counters")):
        value = sysfs.number(machine, f"{port}/counters/{name}")
        if value not in (None, _FULL):
            metric, unit = COUNTERS[name]
            found[metric] = (value or 0) * unit
    for name in filter(HARDWARE.__contains__, sysfs.names(machine, f"{port}/hw_counters")):
        if (value := sysfs.number(machine, f"{port}/hw_counters/{name}")) is not None:
            found.setdefault(HARDWARE[name], value)
    yield from (Sample(metric, key, value) for metric, value in found.items())


def parse_pauses(key: str, counters: Mapping[str, int]) -> Iterator[Sample]:
    """The samples of the counters in `ETHTOOL`; the first name in the driver's order wins a metric."""
    found: dict[str, int] = {}
    for name, value in counters.items():
        if name in ETHTOOL:
            found.setdefault(ETHTOOL[name], value)
    return (Sample(metric, key, value) for metric, value in found.items())


def _driver_counters(machine: Machine, ifname: str) -> dict[str, int]:
    try:
        return ethtool.read_stats(machine, ifname)
    except MachineError:
        return {}
