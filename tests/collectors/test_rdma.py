"""RDMA ports on the trees of real machines, against their own files and the metrics node_exporter expects of them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import rdma
from collectors.registry import ALL
from machine import NotPresentError
from machine.live import Live
from tests.collectors.conftest import unpacker, write
from tests.collectors.test_exporter import expected, samples
from wire.facts import Gid, Rdma

KEPT = r"sys/class/(?:infiniband|net)\b|sys/devices/.*/(?:infiniband|net)/|0000:(?:82|43):00\.0/(?:driver)?$"
TREES = {  # archive -> what the machine has
    "32em64t-2n8c+dax+nvme+mic+dimms": ("0000:82:00.0/1", "mlx4_0", 56.0, "4X FDR", 932, "fe80::2:c903:f9:bfa1"),
    "40intel64-2g2n4c+pcilocality": ("0000:43:00.0/1", "qib0", 40.0, "4X QDR", 298, "fe80::11:7500:77:cfc8"),
}
NAMES = {  # node_exporter's metric -> ours
    "link_downed_total": "rdma.link_downs",
    "link_error_recovery_total": "rdma.link_recoveries",
    "port_data_received_bytes_total": "rdma.rx_bytes",
    "port_data_transmitted_bytes_total": "rdma.tx_bytes",
    "port_packets_received_total": "rdma.rx_packets",
    "port_packets_transmitted_total": "rdma.tx_packets",
    "port_errors_received_total": "rdma.rx_errors",
    "port_discards_received_total": "rdma.rx_discards",
    "port_discards_transmitted_total": "rdma.tx_discards",
}


@pytest.fixture(scope="module")
def fabric(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Live]:
    return unpacker(data, tmp_path_factory, KEPT)


def ports(machine: Live) -> dict[str, Rdma]:
    return {item.key: item for item in rdma.collect(machine) if isinstance(item, Rdma)}


@pytest.mark.parametrize("name", TREES)
def test_a_port_of_a_real_machine(name: str, fabric: Callable[[str], Live]) -> None:
    machine = fabric(f"numa-topology/hwloc/{name}.tar.bz2")
    key, device, rate, width, lid, gid = TREES[name]
    (found,) = ports(machine).values()
    assert (found.key, found.device, found.port, found.link_layer) == (key, device, 1, "InfiniBand")
    assert (found.rate_gbps, found.width, found.lid, found.sm_lid) == (rate, width, lid, 1)
    assert (found.state, found.phys_state, found.node_type) == ("active", "linkup", "CA")
    assert (found.gids, found.pkeys, found.ifnames) == ([Gid(index=0, gid=gid)], ["0xffff"], ["ib0"])
    guid = machine.read(f"/sys/class/infiniband/{device}/node_guid")
    assert found.node_guid == guid
    assert found.address == key.rpartition("/")[0]
    assert found.board_id


def test_a_counter_that_ran_full_is_left_out(fabric: Callable[[str], Live]) -> None:
    machine = fabric("numa-topology/hwloc/40intel64-2g2n4c+pcilocality.tar.bz2")
    folder = "/sys/class/infiniband/qib0/ports/1/counters"
    full = [name for name in machine.names(folder) if machine.read(f"{folder}/{name}") == "4294967295"]
    assert "port_rcv_packets" in full
    said = {metric for metric, _ in samples(rdma.collect(machine))}
    assert "rdma.link_downs" in said
    assert not said & {rdma.COUNTERS[name][0] for name in full if name in rdma.COUNTERS}


@pytest.mark.parametrize("name", NAMES)
def test_counters_are_those_that_node_exporter_expects(name: str, exporter: Live, data: Path) -> None:
    wanted = expected(data, rf'node_infiniband_{name}\{{device="(\w+)",port="(\d+)"\}}')
    found = {key: value for (metric, key), value in samples(rdma.collect(exporter)).items() if metric == NAMES[name]}
    assert wanted
    assert found == {f"{device}/{port}": value for (device, port), value in wanted.items()}


def test_ports_are_as_node_exporter_expects(exporter: Live, data: Path) -> None:
    found = ports(exporter)
    rates = expected(data, r'node_infiniband_rate_bytes_per_second\{device="(\w+)",port="(\d+)"\}')
    assert {key: (one.rate_gbps or 0) * 1e9 / 8 for key, one in found.items()} == {
        f"{device}/{port}": value for (device, port), value in rates.items()
    }
    text = (data / "sysfs-procfs/node_exporter/e2e-output.txt").read_text()
    info = r'node_infiniband_info\{board_id="([^"]*)",device="(\w+)",firmware_version="([^"]*)",hca_type="([^"]*)"\}'
    said = {device: (board, firmware, kind) for board, device, firmware, kind in re.findall(info, text)}
    assert {one.device: (one.board_id, one.firmware, one.hca_type) for one in found.values()} == said


def test_roce_ports_name_their_interfaces_and_what_kind_of_gid(tmp_path: Path) -> None:
    port = "/sys/class/infiniband/mlx5_0/ports/1"
    write(
        tmp_path,
        {
            f"{port}/state": "1: DOWN\n",
            f"{port}/phys_state": "3: Disabled\n",
            f"{port}/link_layer": "Ethernet\n",
            f"{port}/rate": "2.5 Gb/sec (1X SDR)\n",
            f"{port}/lid": "0x0\n",
            f"{port}/sm_lid": "0xffff\n",
            f"{port}/gids/0": "fe80:0000:0000:0000:0ac0:ebff:fe12:3456\n",
            f"{port}/gids/1": "0000:0000:0000:0000:0000:ffff:0a00:0001\n",
            f"{port}/gids/2": "0000:0000:0000:0000:0000:0000:0000:0000\n",
            f"{port}/gids/10": "fe80:0000:0000:0000:0000:0000:0000:0000\n",
            f"{port}/gid_attrs/types/0": "IB/RoCE v1\n",
            f"{port}/gid_attrs/types/1": "RoCE v2\n",
            f"{port}/gid_attrs/ndevs/0": "eth0\n",
            f"{port}/gid_attrs/ndevs/1": "eth0.7\n",
            f"{port}/pkeys/0": "0xffff\n",
            f"{port}/pkeys/1": "0x0000\n",
            f"{port}/pkeys/2": "0x8001\n",
            f"{port}/counters/port_rcv_data": "N/A (no PMA)\n",
            f"{port}/counters/port_xmit_data": "10\n",
            f"{port}/hw_counters/np_cnp_sent": "7\n",
            f"{port}/hw_counters/lifespan": "10\n",
            "/sys/class/infiniband/mlx5_0/node_desc": "host \x1b[2J mlx5_0\n",
        },
    )
    items = list(rdma.collect(Live(str(tmp_path))))
    (found,) = [item for item in items if isinstance(item, Rdma)]
    assert found == Rdma(
        key="mlx5_0/1",
        device="mlx5_0",
        port=1,
        link_layer="Ethernet",
        state="down",
        phys_state="disabled",
        rate_gbps=2.5,
        width="1X SDR",
        gids=[
            Gid(index=0, gid="fe80::ac0:ebff:fe12:3456", type="IB/RoCE v1", ifname="eth0"),
            Gid(index=1, gid="::ffff:10.0.0.1", type="RoCE v2", ifname="eth0.7"),
        ],
        pkeys=["0xffff", "0x8001"],
        ifnames=["eth0", "eth0.7"],
        node_desc="host \ufffd[2J mlx5_0",
    )
    assert samples(items) == {("rdma.tx_bytes", "mlx5_0/1"): 40, ("rdma.cnps_sent", "mlx5_0/1"): 7}


def test_pauses_are_named_alike_for_all_drivers() -> None:
    mlx5 = {"rx_prio3_pause": 5, "tx_prio3_pause": 6, "rx_prio3_pause_duration": 70, "rx_ecn_mark": 8, "rx_bytes": 9}
    assert samples(rdma.parse_pauses("k", mlx5)) == {
        ("rdma.pfc_prio3_rx_frames", "k"): 5,
        ("rdma.pfc_prio3_tx_frames", "k"): 6,
        ("rdma.pfc_prio3_rx_microseconds", "k"): 70,
        ("rdma.port_ecn_marked_packets", "k"): 8,
    }
    for counters in ({"rx_pfc_ena_frames_pri0": 1}, {"rx_priority_0_xoff.nic": 1}, {"port.rx_priority_0_xoff": 1}):
        assert samples(rdma.parse_pauses("k", counters)) == {("rdma.pfc_prio0_rx_frames", "k"): 1}


def test_no_counter_is_counted_by_another_collector_too() -> None:
    nicstats = next(collector for collector in ALL if collector.NAME == "nicstats")
    assert not set(rdma.ETHTOOL) & set(vars(nicstats)["DRIVER"])


def test_without_a_device_it_is_absent(tmp_path: Path) -> None:
    with pytest.raises(NotPresentError):
        list(rdma.collect(Live(str(tmp_path))))


@given(st.text(max_size=80))
def test_any_text_is_a_value_or_none(text: str) -> None:
    rate, width = rdma.parse_rate(text)
    assert rate is None or rate >= 0
    lid = rdma.parse_lid(text)
    assert lid is None or 0 < lid < 1 << 32
    for word in (
        width,
        rdma.parse_state(text),
        rdma.parse_node_type(text),
        rdma.parse_gid(text),
        rdma.parse_guid(text),
    ):
        assert word.isprintable()
