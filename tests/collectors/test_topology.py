"""cpu and numa on trees of real machines, against what hwloc and lscpu say of the same trees."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from collectors import cpu, dmi, memory, nic, numa, pci
from machine.live import Live
from wire.cpulist import format_cpulist, parse_cpulist
from wire.facts import Cpu, Nic, Numa

DATA = Path(os.environ.get("RACKHAND_DATA", Path(__file__).parents[3] / "shared" / "data"))


def cases(glob: str) -> list[str]:
    """Files below the data folder; one stand-in that skips with the reason where there is no such folder."""
    return sorted(str(path.relative_to(DATA)) for path in DATA.glob(glob)) or ["no data"]


HWLOC = cases("numa-topology/hwloc/*.tar.bz2")
LSCPU = cases("numa-topology/util-linux-lscpu/*.tar.gz")
# hwloc obeys the cpuset it ran in, and knows better than these kernels; we say what the kernel says.
CONFINED = {"16amd64-8n2c-cpusets", "16em64t-4s2ca2c-cpusetreorder", "32amd64-4s2n4c-cgroup2"}
OTHER_CORES = {"64amd64-4s2n4ca2co"}  # compute units: two threads of one core to the kernel
OTHER_NODES = {"8em64t-2s2ca2c-buggynuma", "nvidiagpunumanodes"}
MIXED = {"arm-A510-A710-A715-X3"}  # four kinds of cores: lscpu numbers them per kind
Tree = Callable[[str], Live]


def one_cpu(machine: Live) -> Cpu:
    (fact,) = cpu.collect(machine)
    return fact


def nodes(machine: Live) -> dict[int, Numa]:
    return {fact.node: fact for fact in numa.collect(machine) if isinstance(fact, Numa)}


def stem(path: str) -> str:
    return re.sub(r"\.tar\..*|\.tgz$", "", Path(path).name)


def hwloc_counts(base: Path) -> tuple[list[int], int, list[int], int]:
    """CPUs, cores, nodes and packages in hwloc's own output for a tree."""
    console = base.with_name(base.name + ".console")
    if console.exists():
        text = console.read_text()
        cpus = sorted(map(int, re.findall(r"\bPU L#\d+ \(P#(\d+)", text)))
        ids = sorted(set(map(int, re.findall(r"NUMANode L#\d+ \(P#(\d+)", text))))
        return cpus, len(re.findall(r"\bCore L#", text)), ids, len(re.findall(r"\bPackage L#", text))
    tree = ElementTree.parse(base.with_name(base.name + ".xml"))  # noqa: S314 - a file of our own data folder

    def ids_of(kind: str) -> list[int]:
        return sorted(int(e.get("os_index", "-1")) for e in tree.iter("object") if e.get("type") == kind)

    return ids_of("PU"), len(ids_of("Core")), ids_of("NUMANode"), len(ids_of("Package"))


@pytest.mark.parametrize("name", HWLOC, ids=stem)
def test_cpus_cores_packages_and_nodes_are_those_of_hwloc(name: str, topology: Tree, data: Path) -> None:
    cpus, cores, ids, packages = hwloc_counts((data / name).with_name(stem(name)))
    machine = topology(name)
    fact = one_cpu(machine)
    if stem(name) in CONFINED:
        assert set(cpus) <= set(parse_cpulist(fact.online))
        return
    assert parse_cpulist(fact.online) == cpus
    assert stem(name) in OTHER_CORES or fact.cores == cores
    assert fact.packages in (packages, 0)
    known = numa.read_node_ids(machine)
    assert known == ids or stem(name) in OTHER_NODES or (not known and ids == [0])


def lscpu_rows(text: str) -> Iterator[list[int | None]]:
    """CPU, core, socket, node of the first parsable table in an lscpu text."""
    block = text.split("# CPU,Core,Socket,Node", 1)[1].split("\n\n", 1)[0]
    for line in block.splitlines()[1:]:
        if line and not line.startswith("#"):
            yield [int(field) if field else None for field in line.split(",")[:4]]


@pytest.mark.parametrize("name", LSCPU, ids=stem)
def test_online_cpus_siblings_and_nodes_are_those_of_lscpu(name: str, topology: Tree, data: Path) -> None:
    rows = list(lscpu_rows((data / name).with_name(f"lscpu-{stem(name)}").read_text()))
    machine = topology(name)
    fact = one_cpu(machine)
    assert [thread.id for thread in fact.cpus] == sorted(row[0] for row in rows if row[0] is not None)
    cores: dict[int | None, list[int]] = {}
    for cpu_id, core, *_ in rows:
        cores.setdefault(core, []).append(cpu_id or 0)
    siblings = {format_cpulist(cpus) for cpus in cores.values()}
    online = set(parse_cpulist(fact.online))
    ours = {format_cpulist(online & set(parse_cpulist(thread.siblings))) for thread in fact.cpus if thread.siblings}
    assert ours == siblings or not ours or stem(name) in MIXED
    if numa.read_node_ids(machine):
        assert {thread.id: thread.node for thread in fact.cpus} == {row[0]: row[3] for row in rows}


@pytest.mark.parametrize("host", ["master", "worker1"])
def test_openshift_nodes_have_the_cells_that_the_operator_expects(host: str, tree: Tree, data: Path) -> None:
    pools = json.loads((data / "numa-topology/openshift-nto/must-gather.bare-metal.json").read_text())
    expected = next(node for pool in pools for node in pool["nodes"] if node["name"] == f"{host}.internal")
    machine = tree(f"numa-topology/openshift-nto/{host}.internal.sysinfo.tgz")
    fact = one_cpu(machine)
    assert fact.threads == expected["cpus_count"]
    assert (fact.cores < fact.threads) == expected["smt_enabled"]
    cells = {cell["id"]: format_cpulist(cell["cores"]) for cell in expected["numa_cells"]}
    assert {node: found.cpus for node, found in nodes(machine).items()} == cells
    assert {thread.id: thread.node for thread in fact.cpus} == {
        core: cell["id"] for cell in expected["numa_cells"] for core in cell["cores"]
    }
    assert fact.isolated == ""  # isolcpus=managed_irq alone keeps scheduling domains as they are
    assert fact.nohz_full == ("0-4,11-79" if host == "worker1" else "")


def test_the_r750_says_what_it_is(tree: Tree) -> None:
    machine = tree("numa-topology/openshift-nto/master.internal.sysinfo.tgz")
    (system,) = dmi.collect(machine)
    (main,) = memory.collect(machine)
    assert "R750" in system.product
    assert system.cmdline.startswith("BOOT_IMAGE=")
    assert main.total_kb > 250 * 1024 * 1024
    found = {function.key: function for function in pci.collect(machine)}
    assert {key: found[key].numa_node for key in ("0000:4b:00.0", "0000:98:00.1")} == {
        "0000:4b:00.0": 0,
        "0000:98:00.1": 1,
    }
    assert found["0000:4b:00.0"].driver == "ice"
    assert not any(function.class_id.startswith("06") for function in found.values())


def test_sparse_nodes_keep_their_numbers_and_distances(topology: Tree) -> None:
    found = nodes(topology("numa-topology/hwloc/48amd64-4pa2n6c-sparse.tar.bz2"))
    assert sorted(found) == [0, 1, 2, 33, 34, 45, 72, 73]
    assert all(set(node.distances) == {f"node{other}" for other in found} for node in found.values())
    assert found[33].distances["node33"] == 10


def test_nodes_without_cpus_and_isolated_cpus(topology: Tree) -> None:
    machine = topology("numa-topology/nri-plugins/test-data-sample2.tar.xz")
    assert [node for node, fact in nodes(machine).items() if not fact.cpus] == [4, 5, 6, 7]
    fact = one_cpu(machine)
    assert fact.isolated == "4-7,60-63"
    assert fact.nohz_full == ""  # a hundred blanks and (null)


def test_cpus_that_every_node_claims_have_no_node(topology: Tree) -> None:
    fact = one_cpu(topology("numa-topology/hwloc/8em64t-2s2ca2c-buggynuma.tar.bz2"))
    assert {thread.node for thread in fact.cpus} == {None}


def test_a_kernel_without_numa_has_no_nodes_but_cpus(topology: Tree) -> None:
    machine = topology("numa-topology/hwloc/2arm-2c.tar.bz2")
    assert one_cpu(machine).threads == 2
    assert numa.read_node_ids(machine) == []


def nics(machine: Live) -> dict[str, Nic]:
    return {fact.ifname: fact for fact in nic.collect(machine)}


def test_a_virtio_nic_stands_on_its_pci_function(tree: Tree) -> None:
    found = nics(tree("numa-topology/hwloc/2pa-pcidomain32bits.tar.bz2"))["ens3"]
    assert (found.type, found.bus, found.address, found.numa_node) == ("physical", "virtio", "0000:00:03.0", None)


def test_pci_domains_of_five_digits_are_there(tree: Tree) -> None:
    keys = [fact.key for fact in pci.collect(tree("numa-topology/hwloc/2pa-pcidomain32bits.tar.bz2"))]
    assert any(key.startswith("10000:") for key in keys)


def test_nics_know_their_node_where_the_firmware_does(tree: Tree) -> None:
    two_sockets = nics(tree("numa-topology/hwloc/32em64t-2n8c+dax+nvme+mic+dimms.tar.bz2"))
    assert (two_sockets["eth0"].driver, two_sockets["eth0"].numa_node, two_sockets["ib0"].numa_node) == ("igb", 0, 1)
    assert two_sockets["eth0"].rx_queues == 8
    four_sockets = nics(tree("numa-topology/hwloc/40intel64-2g2n4c+pcilocality.tar.bz2"))
    assert four_sockets["eth0"].numa_node is None  # the kernel says -1
