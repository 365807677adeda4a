"""Traffic and drop counters of every interface, from the kernel and, for what only it knows, from the driver."""

from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from collectors.links import Port, read_own_ports
from machine import Machine, MachineError, ethtool, rtnl
from wire.report import Sample

NAME = "nicstats"
EVERY_S = 10.0
DEADLINE_S = 10.0

# Counters of every interface, and those that only hardware counts (names of struct rtnl_link_stats64).
TRAFFIC = (
    "rx_bytes",
    "tx_bytes",
    "rx_packets",
    "tx_packets",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
)
HARDWARE = (
    "rx_missed_errors",
    "rx_fifo_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_length_errors",
    "rx_nohandler",
    "tx_fifo_errors",
    "tx_carrier_errors",
    "tx_aborted_errors",
    "collisions",
)
# The driver's name of a counter (ethtool -S) -> our metric: packets lost before the kernel saw them, and pauses.
DRIVER = {
    "rx_missed_errors": "nicstats.driver_rx_missed",  # ixgbe, igb, e1000e
    "rx_missed": "nicstats.driver_rx_missed",  # atlantic
    "rx_no_buffer_count": "nicstats.driver_rx_no_buffer",  # igb, e1000e
    "rx_no_dma_resources": "nicstats.driver_rx_no_buffer",  # ixgbe
    "rx_out_of_buffer": "nicstats.driver_rx_out_of_buffer",  # mlx5
    "rx_discards": "nicstats.driver_rx_discards",  # tg3, bnxt
    "rx_discards_phy": "nicstats.driver_rx_discards",  # mlx5
    "rx_total_discard_pkts": "nicstats.driver_rx_discards",  # bnxt_en
    "rx_dropped.nic": "nicstats.driver_rx_discards",  # ice
    "port.rx_dropped": "nicstats.driver_rx_discards",  # i40e
    "rx_fw_discards": "nicstats.driver_rx_fw_discards",  # bnx2
    "rx_steer_missed_packets": "nicstats.driver_rx_unsteered",  # mlx5
    "rx_pause_ctrl_phy": "nicstats.driver_rx_pause",  # mlx5
    "tx_pause_ctrl_phy": "nicstats.driver_tx_pause",
    "rx_symbol_err_phy": "nicstats.driver_rx_symbol_errors",
    "link_down_events_phy": "nicstats.driver_link_downs",
    "rx_drops": "nicstats.driver_rx_drops",  # ena, virtio
    "rx_overruns": "nicstats.driver_rx_overruns",  # ena
    "bw_in_allowance_exceeded": "nicstats.driver_rx_over_allowance",  # ena: shaped by the cloud
    "bw_out_allowance_exceeded": "nicstats.driver_tx_over_allowance",
    "pps_allowance_exceeded": "nicstats.driver_pps_over_allowance",
}


ABOUT = About(
    what="traffic, drops, carrier changes",
    source="rtnetlink stats64; a table of drivers' own counters",
    metrics=dict.fromkeys(
        [*(f"nicstats.{name}" for name in (*TRAFFIC, *HARDWARE, "carrier_changes")), *DRIVER.values()], 0
    ),
)


def collect(machine: Machine) -> Iterator[Sample]:
    """Cumulative counters by NIC key; raises NotPresentError where there is no kernel to ask."""
    ports = read_own_ports(machine)
    counters = rtnl.read_link_stats(machine)
    for port in ports:
        yield from parse_counters(port, counters.get(port.link.ifindex, {}))
        changes = sysfs.number(machine, f"{port.folder}/carrier_changes")
        if changes is not None:
            yield Sample("nicstats.carrier_changes", port.key, changes)
        if port.device:
            yield from parse_driver_counters(port.key, read_driver_counters(machine, port.link.ifname))


def parse_counters(port: Port, counters: dict[str, int]) -> Iterator[Sample]:
    """The samples of one interface's stats64."""
    for name in TRAFFIC + HARDWARE if port.device else TRAFFIC:
        if name in counters:
            yield Sample(f"nicstats.{name}", port.key, counters[name])


def read_driver_counters(machine: Machine, ifname: str) -> dict[str, int]:
    """The driver's own counters, none where it has none."""
    try:
        return ethtool.read_stats(machine, ifname)
    except MachineError:
        return {}


def parse_driver_counters(key: str, counters: dict[str, int]) -> Iterator[Sample]:
    """The samples of the counters in `DRIVER`; the first name in the driver's order wins a metric."""
    metrics: dict[str, int] = {}
    for name, value in counters.items():
        if name in DRIVER:
            metrics.setdefault(DRIVER[name], value)
    return (Sample(metric, key, value) for metric, value in metrics.items())
