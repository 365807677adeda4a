"""/proc/interrupts of real machines: columns, names, queues, and the layout that others found in the same files."""

import bz2
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from collectors.interrupts import Interrupts, Vector, parse_interrupts
from collectors.irq import link_queues, read_placement
from collectors.irqnames import Device, map_queues, parse_action
from machine.live import Live
from wire.cpulist import parse_cpulist
from wire.facts import Queue

DATA = Path(os.environ.get("RACKHAND_DATA", Path(__file__).parents[3] / "shared" / "data"))
HEADLESS = re.compile(r"INT_INVALID|grep-eth0")
NTO = "numa-topology/openshift-nto/{}.internal.sysinfo.tgz"
TG3_AND_MLX4 = "hosts/2xE2690.1mellanox_1emulex.L2.masterconf/interrupts"
Tree = Callable[[str], Live]


def cases(*globs: str) -> list[str]:
    """Files below the data folder; one stand-in that skips with the reason where there is no such folder."""
    return sorted(str(path.relative_to(DATA)) for glob in globs for path in DATA.glob(glob)) or ["no data"]


ALL = [
    name
    for name in cases(
        "interrupts/*/*interrupts*", "interrupts/snippets/*", "interrupts/insights/*", "hosts/**/interrupts"
    )
    if not name.endswith(".json")
]
HOSTS = cases("hosts/*/expected_output")


def text_of(path: Path) -> str:
    return bz2.decompress(path.read_bytes()).decode() if path.suffix == ".bz2" else path.read_text()


def names(queues: list[Queue], *, rx: bool, tx: bool) -> set[str]:
    return {queue.name for queue in queues if bool(queue.rx) == rx and bool(queue.tx) == tx and (rx or tx)}


@pytest.mark.parametrize("name", ALL)
def test_every_numbered_line_is_a_vector_with_the_counts_of_its_columns(name: str, data: Path) -> None:
    text = text_of(data / name)
    if HEADLESS.search(name) and not text.lstrip().startswith("CPU"):
        with pytest.raises(ValueError, match="no header of CPU columns"):
            parse_interrupts(text)
        return
    table = parse_interrupts(text)
    assert len(table.cpus) == text.splitlines()[0].count("CPU")
    numbered = [line for line in text.splitlines()[1:] if re.match(r"\s*\d+:", line)]
    assert [vector.irq for vector in table.vectors] == [int(line.partition(":")[0]) for line in numbered]
    for line, vector in zip(numbered, table.vectors, strict=True):
        counts = line.partition(":")[2].split()[: len(table.cpus)]
        assert vector.total == sum(map(int, counts))
        assert line.rstrip().endswith(vector.action)
        assert not vector.chip.isdecimal()
        assert not re.match(r"\d+\s|\d+-(edge|fasteoi)|(Edge|Level)\b", vector.action)


@pytest.mark.parametrize("name", HOSTS)
def test_queues_are_those_that_another_tool_found_on_the_same_host(name: str, data: Path) -> None:
    host = (data / name).parent
    expected = yaml.safe_load((data / name).read_text())["net"]
    vectors = parse_interrupts((host / "interrupts").read_text()).vectors
    for ifname, nic in expected.items():
        queues = nic["queues"]
        driver = nic["driver"]["driver"]
        own = [vector for vector in vectors if ifname in re.split(r"[-, ]", vector.action)]
        mapped = map_queues(own, Device(frozenset({ifname}), driver=driver), alone=False)
        assert names(mapped, rx=True, tx=False) == set(queues["rx"])
        assert names(mapped, rx=False, tx=True) == set(queues["tx"])
        pairs = {*queues["rxtx"], *(action for action in queues["unknown"] if "-TxRx-" in action)}
        whole = names(mapped, rx=True, tx=True) - pairs
        assert whole <= ({vector.action for vector in own} if len(own) == 1 else set())
        assert names(mapped, rx=True, tx=True) == pairs | whole
        paired = [queue for queue in mapped if queue.name in pairs]
        assert [queue.rx for queue in paired] == [queue.tx for queue in paired] == [[n] for n in range(len(paired))]


@pytest.mark.parametrize("case", ["mlx5.Q6700", "igb.E5606"])
def test_queue_names_and_irqs_are_those_a_tool_for_them_spread(case: str, data: Path) -> None:
    host = data / f"interrupts/netutils-rss-ladder-{case}"
    target = (host / "params").read_text().strip()
    spread = re.findall(r"queue (\S+) \(irq (\d+)\)", (host / "expected").read_text())
    device = Device(frozenset({target}), address=target.removeprefix("pci:"))
    vectors = parse_interrupts((host / "interrupts").read_text()).vectors
    mapped = {
        (queue.name, str(queue.irq)) for queue in map_queues(vectors, device, alone=False) if queue.rx or queue.tx
    }
    assert mapped >= set(spread)
    assert {name.split("-")[0].split("@")[-1] for name, _ in mapped} == {target}


def nto_nic(machine: Live, ifname: str, driver: str) -> tuple[Interrupts, list[Vector], list[Queue], str]:
    """The interrupts of one NIC of an OpenShift node, by the PCI address in the chip's name."""
    table = parse_interrupts(machine.read("/proc/interrupts"))
    owner = next(v for v in table.vectors if re.fullmatch(rf"(?:\w+-)?{ifname}-(TxRx|rx|tx)-\d+", v.action))
    address = owner.chip.split("-", 3)[-1]
    own = [vector for vector in table.vectors if vector.chip.endswith(f"-{address}")]
    queues = map_queues(own, Device(frozenset({ifname}), address=address, driver=driver))
    for queue in queues:
        read_placement(machine, queue)
    return table, own, queues, address


def test_an_ice_port_has_112_queues_and_as_many_vectors_of_rdma(tree: Tree) -> None:
    table, own, queues, address = nto_nic(tree(NTO.format("master")), "ens3f0", "ice")
    assert len(table.cpus) == 112
    assert (len(own), address) == (228, "0000:4b:00.0")
    assert [queue.rx for queue in queues if queue.rx] == [[number] for number in range(112)]
    assert sum(queue.control for queue in queues) == 228 - 112
    control = {re.sub(r"\d+$", "N", queue.name) for queue in queues if queue.control}
    assert control >= {"ice-0000:4b:00.0:ctrl-TxRx-N", "irdma-0000:4b:00.0-CEQ-N", "ice-0000:4b:00.0:misc"}


def test_flow_directors_vector_serves_no_queue(tree: Tree) -> None:
    *_, queues, _ = nto_nic(tree(NTO.format("master")), "eno12399", "i40e")
    (director,) = [queue for queue in queues if "fdir" in queue.name]
    assert (director.rx, director.tx, director.control) == ([], [], True)
    assert len({tuple(queue.rx) for queue in queues if queue.rx}) == 112


def test_tg3_numbers_vectors_and_its_first_is_the_links_and_tx_queue_0(tree: Tree) -> None:
    *_, queues, _ = nto_nic(tree(NTO.format("master")), "eno8303", "tg3")
    assert [(queue.name, queue.rx, queue.tx) for queue in queues] == [
        ("eno8303-tx-0", [], [0]),
        ("eno8303-rx-1", [0], []),
        ("eno8303-rx-2", [1], []),
        ("eno8303-rx-3", [2], []),
        ("eno8303-rx-4", [3], []),
    ]


NICS = [
    ("master", "eno12399", "i40e", 0),
    ("master", "ens3f1", "ice", 0),
    ("master", "ens6f0", "ice", 1),
    ("worker1", "eno4", "igb", 0),
    ("worker1", "eno1", "i40e", 0),
    ("worker1", "ens7f1", "i40e", 1),
]


@pytest.mark.parametrize(("host", "ifname", "driver", "node"), NICS)
def test_no_queue_of_these_nics_is_served_from_the_other_socket(
    host: str, ifname: str, driver: str, node: int, tree: Tree
) -> None:
    machine = tree(NTO.format(host))
    *_, queues, address = nto_nic(machine, ifname, driver)
    assert int(machine.read(f"/sys/bus/pci/devices/{address}/numa_node")) == node
    local = set(parse_cpulist(machine.read(f"/sys/devices/system/node/node{node}/cpulist")))
    served = [cpu for queue in queues if queue.rx for cpu in parse_cpulist(queue.effective)]
    assert len(served) == len([queue for queue in queues if queue.rx])
    assert set(served) <= local
    assert {queue.node for queue in queues if queue.rx} == {node}


def test_queues_on_isolated_cpus_are_seen(tree: Tree) -> None:
    *_, queues, _ = nto_nic(tree(NTO.format("worker1")), "eno4", "igb")
    taken = {cpu for queue in queues if queue.rx for cpu in parse_cpulist(queue.effective)}
    assert taken == {8, 64, 4, 62, 60, 56, 28, 50}
    assert taken - {*range(5), *range(11, 80)} == {8}  # the only one that may take interrupts


def test_mlx4_queues_are_the_interfaces_and_not_the_shared_completion_vectors(data: Path) -> None:
    vectors = [v for v in parse_interrupts((data / TG3_AND_MLX4).read_text()).vectors if 109 <= v.irq <= 128]
    mapped = map_queues(vectors, Device(frozenset({"eth6"}), "0000:04:00.0", driver="mlx4_core"), alone=False)
    assert [queue.irq for queue in mapped if queue.rx] == list(range(113, 121))
    assert {queue.name for queue in mapped if not queue.rx and not queue.control} == {
        f"mlx4-comp-{number}@pci:0000:04:00.0" for number in range(3)
    }
    assert not any(queue.name.startswith("eth7") for queue in mapped)


@pytest.mark.parametrize(
    ("action", "driver", "owner", "rx", "tx"),
    [
        ("eth0-tx-0-rx-3", "qlcnic", "eth0", 3, 0),
        ("enp5s0f4d1 (queue 11)", "cxgb4", "enp5s0f4d1", 11, 11),
        ("eth0-fp-2", "bnx2x", "eth0", 2, 2),
        ("eth0-q1-rx", "vif", "eth0", 1, None),
        ("enP2p1s0-TxRx-7", "bnxt_en", "enP2p1s0", 7, 7),
        ("idpf-eth0-TxRx-3", "idpf", "eth0", 3, 3),
        ("mana_q4@pci:7870:00:00.0", "mana", "7870:00:00.0", 4, 4),
        ("mlx5_comp0@pci:10000:00:04.0", "mlx5_core", "10000:00:04.0", 0, 0),
        ("virtio2-output.1", "virtio_net", "virtio2", None, 1),
        ("hns3-0000:7d:00.0-TxRx-5", "hns3", "0000:7d:00.0", 5, 5),
        ("eth0-3", "bnx2", "eth0", 3, 3),
    ],
)
def test_forms_of_names(action: str, driver: str, owner: str, rx: int | None, tx: int | None) -> None:
    role = parse_action(action, driver)
    assert role is not None
    assert (role.owner, role.rx, role.tx, role.control) == (owner, rx, tx, False)


@pytest.mark.parametrize(
    "action",
    [
        "i40e-0000:31:00.0:fdir-TxRx-0",
        "ice-0000:4b:00.0:ctrl-TxRx-0",
        "iavf-0000:01:02.0:mbx",
        "ena-mgmnt@pci:0000:00:05.0",
        "mlx5_async0@pci:0000:01:00.0",
        "mlx5_pages_eq@pci:0000:01:00.0",
        "eth0-event-8",
        "virtio0-config",
        "mana_hwc@pci:7870:00:00.0",
        "irdma-0000:4b:00.0-CEQ-3",
    ],
)
def test_control_vectors_are_no_queues(action: str) -> None:
    role = parse_action(action)
    assert role is not None
    assert role.control
    assert role.rx is None


@pytest.mark.parametrize("action", ["gve-ntfy-blk3@pci:0000:00:04.0", "mlx4-comp-3@pci:0000:04:00.0", "lpfc:7"])
def test_names_that_do_not_tell_are_not_guessed(action: str) -> None:
    queue = map_queues([Vector(9, "PCI-MSIX", "", action, 0)], Device(frozenset({"eth0"}), "0000:04:00.0"))
    assert [(found.rx, found.tx) for found in queue] == [([], [])]
    assert link_queues(queue, []) == "unmapped"


def vector(irq: int, action: str) -> Vector:
    return Vector(irq, "PCI-MSIX-0000:01:00.0", "0-edge", action, 0)


def test_a_single_vector_serves_all_queues_and_beside_others_it_is_the_links() -> None:
    device = Device(frozenset({"eth0"}), rx_queues=2, tx_queues=2)
    assert [(q.rx, q.tx) for q in map_queues([vector(9, "eth0")], device)] == [([0, 1], [0, 1])]
    queues = map_queues([vector(9, "eth0"), vector(10, "eth0-TxRx-0")], device)
    assert [(q.irq, q.rx, q.control) for q in queues] == [(9, [], True), (10, [0], False)]


def test_names_from_before_a_rename_are_its_own_when_it_is_alone_on_its_function() -> None:
    old = [vector(9, "eth0-TxRx-0"), vector(10, "eth0-TxRx-1")]
    device = Device(frozenset({"wan0"}), "0000:01:00.0")
    assert [q.rx for q in map_queues(old, device, alone=True)] == [[0], [1]]
    assert map_queues(old, device, alone=False) == []


def test_a_vector_beyond_the_nics_queues_serves_none() -> None:
    old = [vector(9 + n, f"mlx5_comp{n}@pci:0000:01:00.0") for n in range(4)]
    queues = map_queues(old, Device(frozenset({"eth0"}), "0000:01:00.0", rx_queues=2, tx_queues=2))
    assert [q.rx for q in queues] == [[0], [1], [], []]


def test_the_kernels_own_links_win_over_names() -> None:
    queues = map_queues([vector(9, "eth0-TxRx-0"), vector(10, "eth0-TxRx-1")], Device(frozenset({"eth0"})))
    assert link_queues(queues, [("rx", 0, 10), ("rx", 1, 9)]) == "netdev-genl"
    assert [(q.irq, q.rx, q.tx) for q in queues] == [(9, [1], [0]), (10, [0], [1])]
