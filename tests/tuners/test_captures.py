"""Plans for recorded servers: a 112-CPU R750 with alternating nodes, and an R740xd with 74 isolated CPUs."""

import re
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from collectors.run import collect_facts
from machine.live import Live
from tuners import topology
from tuners.findings import findings
from tuners.hostfacts import HostFacts
from tuners.planner import plan, project
from wire.facts import Fact, Irq, Nic, Numa, Pci, Queue
from wire.policy import Setting

VECTOR = re.compile(r"^ *(\d+):.*MSIX?-(\S+) .* (?:(?:ice|i40e)-)?((?!\d{4}:)[a-z0-9]+)-TxRx-(\d+)$", re.MULTILINE)


def read_host(root: Path) -> HostFacts:
    """CPU, NUMA and PCI facts by the collectors; the NICs by the names of their interrupts (no /sys/class/net here)."""
    facts = collect_facts(Live(str(root)), ("cpu", "numa", "pci"))
    nodes = {fact.key: fact.numa_node for fact in facts if isinstance(fact, Pci)}
    ports: dict[str, Irq] = {}
    nics: list[Fact] = []
    for irq, address, ifname, number in VECTOR.findall((root / "proc/interrupts").read_text()):
        if ifname not in ports:
            ports[ifname] = Irq(key=address, ifname=ifname, source="action-name")
            node = nodes[address]
            nics.append(Nic(key=address, ifname=ifname, ifindex=len(ports), type="physical", up=True, numa_node=node))
        folder = root / "proc/irq" / irq
        allowed, effective = ((folder / f"{name}_affinity_list").read_text().strip() for name in ("smp", "effective"))
        queue = Queue(irq=int(irq), rx=[int(number)], tx=[int(number)], cpus=allowed, effective=effective)
        ports[ifname].queues = [*ports[ifname].queues, queue]
    return HostFacts([*facts, *nics, *ports.values()])


def unpack(data: Path, name: str, folder: Path) -> HostFacts:
    with tarfile.open(data / "numa-topology/openshift-nto" / f"{name}.sysinfo.tgz") as archive:
        archive.extractall(folder, filter="data")
    return read_host(folder)


@pytest.fixture(scope="module")
def master(data: Path, tmp_path_factory: pytest.TempPathFactory) -> HostFacts:
    return unpack(data, "master.internal", tmp_path_factory.mktemp("master"))


@pytest.fixture(scope="module")
def worker(data: Path, tmp_path_factory: pytest.TempPathFactory) -> HostFacts:
    return unpack(data, "worker1.internal", tmp_path_factory.mktemp("worker"))


def settings(facts: HostFacts) -> list[Setting]:
    return [Setting(knob="irq_affinity", nic=key, values={"placement": "local"}) for key in facts.nics]


def cpus_of(facts: HostFacts, key: str) -> list[int]:
    return [int(queue.cpus) for queue in facts.irq[key].queues]


def node_of(facts: HostFacts) -> dict[int, int | None]:
    return {cpu: thread.node for cpu, thread in topology.threads(facts).items()}


def test_the_r750s_cards_are_as_recorded(master: HostFacts) -> None:
    nodes = {nic.ifname: nic.numa_node for nic in master.nics.values()}
    assert (nodes["ens3f0"], nodes["ens3f1"], nodes["ens6f0"], nodes["ens6f1"]) == (0, 0, 1, 1)
    assert {len(irq.queues) for irq in master.irq.values()} == {112}
    assert [node.cpus.split(",")[:3] for node in master.numa if isinstance(node, Numa)] == [
        ["0", "2", "4"],
        ["1", "3", "5"],
    ]


def test_every_queue_of_the_r750_lands_on_its_cards_node(master: HostFacts) -> None:
    after = project(master, plan(settings(master), master))
    nodes = node_of(after)
    for key, nic in after.nics.items():
        assert {nodes[cpu] for cpu in cpus_of(after, key)} == {nic.numa_node}
        assert set(Counter(cpus_of(after, key)).values()) <= {1, 2}
    assert plan(settings(after), after).changes == []


def test_the_r750s_load_is_even_over_all_cards(master: HostFacts) -> None:
    after = project(master, plan(settings(master), master))
    load = Counter(cpu for key in after.nics for cpu in cpus_of(after, key))
    nodes = node_of(after)
    for node in (0, 1):
        counts = [load[cpu] for cpu in nodes if nodes[cpu] == node]
        assert max(counts) - min(counts) <= 1


def crowding(facts: HostFacts) -> int:
    """The most queues of one NIC on one CPU."""
    counts = (Counter(queue.effective for queue in irq.queues) for irq in facts.irq.values())
    return max(max(count.values()) for count in counts)


def test_the_r750_was_local_but_crowded_and_is_even_after_the_plan(master: HostFacts) -> None:
    assert "irq_remote" not in {each.rule for each in findings(master)}
    assert crowding(master) > 2
    assert crowding(project(master, plan(settings(master), master))) == 2


def test_the_r740xds_isolated_cpus_are_freed(worker: HostFacts) -> None:
    assert topology.housekeeping(worker) == set(range(5, 11))
    assert "irq_isolated" in {each.rule for each in findings(worker)}
    after = project(worker, plan(settings(worker), worker))
    nodes = node_of(after)
    for key, nic in after.nics.items():
        assert set(cpus_of(after, key)) <= set(range(5, 11))
        assert {nodes[cpu] for cpu in cpus_of(after, key)} == {nic.numa_node}
    assert "irq_isolated" not in {each.rule for each in findings(after)}
    assert plan(settings(after), after).changes == []
