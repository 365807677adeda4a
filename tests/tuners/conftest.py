"""Builders of made-up servers (for shapes no capture has), and of facts from captured ones."""

from collections.abc import Callable, Iterable, Sequence

import pytest

from tuners.hostfacts import HostFacts
from wire.cpulist import format_cpulist
from wire.facts import Cpu, CpuThread, Ethtool, Fact, Irq, Nic, Numa, Queue, Queues, Softnet

CHANNELS = {"combined": 4, "combined_max": 64}
RINGS = {"rx": 512, "rx_max": 8192, "tx": 512, "tx_max": 8192}
COALESCE = {"use_adaptive_rx": False, "use_adaptive_tx": False, "rx_usecs": 50, "tx_usecs": 50, "rx_max_frames": 32}
FEATURES = {"rx-gro": True, "rx-lro": False, "rx-ntuple-filter": False, "tx-tcp-segmentation": True}


def make_cpus(
    *,
    nodes: Sequence[Sequence[int]] = ((0, 1, 2, 3), (4, 5, 6, 7)),
    smt: Sequence[Sequence[int]] = (),
    llc: Sequence[Sequence[int]] = (),
    isolated: str = "",
    nohz_full: str = "",
    offline: Iterable[int] = (),
) -> list[Fact]:
    """CPU and NUMA facts: CPUs per node, sibling groups, cache groups; every CPU is its own core unless `smt` says."""
    cpus = sorted({cpu for node in nodes for cpu in node} - set(offline))
    sibling = {cpu: format_cpulist(group) for group in smt for cpu in group}
    cache = {cpu: format_cpulist(group) for group in llc for cpu in group}
    home = {cpu: number for number, node in enumerate(nodes) for cpu in node}
    threads = [
        CpuThread(id=cpu, node=home[cpu], siblings=sibling.get(cpu, str(cpu)), llc=cache.get(cpu, "")) for cpu in cpus
    ]
    facts: list[Fact] = [Cpu(online=format_cpulist(cpus), isolated=isolated, nohz_full=nohz_full, cpus=threads)]
    for number, node in enumerate(nodes):
        distances = {f"node{other}": 10 + 10 * abs(other - number) for other in range(len(nodes))}
        facts.append(Numa(key=f"node{number}", node=number, cpus=format_cpulist(node), distances=distances))
    return facts


def make_nic(
    *,
    ifname: str = "eth0",
    node: int | None = 0,
    cpus: Sequence[str] = ("0-7", "0-7", "0-7", "0-7"),
    driver: str = "ice",
    managed: bool = False,
    source: str = "netdev-genl",
    base: int = 100,
    split: bool = False,
) -> list[Fact]:
    """A NIC with one interrupt per queue pair (`cpus` is the affinity of each), or one each way with `split`."""
    index = 2 + base // 100
    count = len(cpus)
    key = f"52:54:00:00:00:{index:02x}"
    queues = [Queue(irq=base + n, rx=[n], tx=[n], cpus=text, managed=managed) for n, text in enumerate(cpus)]
    if split:
        queues = [Queue(irq=base + 2 * n, rx=[n], cpus=text) for n, text in enumerate(cpus)]
        queues += [Queue(irq=base + 2 * n + 1, tx=[n], cpus=text) for n, text in enumerate(cpus)]
    if source == "unmapped":
        queues = [Queue(irq=queue.irq, cpus=queue.cpus) for queue in queues]
    return [
        Nic(key=key, ifname=ifname, ifindex=index, type="physical", driver=driver, numa_node=node, rx_queues=count),
        Ethtool(
            key=key,
            ifname=ifname,
            ifindex=index,
            channels={**CHANNELS, "combined": count},
            rings=dict(RINGS),
            coalesce=dict(COALESCE),
            coalesce_queues=[{"rx_usecs": 50, "tx_usecs": 50, "rx_max_frames": 32}] * count,
            features=dict(FEATURES),
        ),
        Irq(key=key, ifname=ifname, source=source, queues=queues),
        Queues(
            key=key,
            ifname=ifname,
            ifindex=index,
            rps_cpus=[""] * count,
            rps_flow_cnt=[0] * count,
            xps_cpus=[""] * count if count > 1 else None,
        ),
    ]


@pytest.fixture(scope="session")
def cpus() -> Callable[..., list[Fact]]:
    return make_cpus


@pytest.fixture(scope="session")
def nic() -> Callable[..., list[Fact]]:
    return make_nic


@pytest.fixture(scope="session")
def host() -> Callable[..., HostFacts]:
    """`host(*lists of facts, irqbalance=False)`; without any: two nodes of four CPUs and one NIC on node 0."""

    def make(*parts: Iterable[Fact], irqbalance: bool = False) -> HostFacts:
        given = [fact for part in parts for fact in part] or [*make_cpus(), *make_nic()]
        return HostFacts([*given, Softnet(rps_sock_flow_entries=0, irqbalance=irqbalance)])

    return make
