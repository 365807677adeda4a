"""How long a plan takes on a large recorded server, and a whole transaction on a NIC of 16 queues.

The server is a recorded Dell R750: 112 CPUs on alternating nodes, 10 ports, 1,881 lines of interrupts. Its CPUs, nodes
and interrupts are as they were; rings, coalescing and queues, which the recording lacks, are made up. The NIC is a veth
pair in a namespace of its own; the time is that of the process, with its start, journal and dead-man.
"""

import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from collectors.run import collect_facts
from machine.live import Live
from tuners.about import Scope, Stage
from tuners.hostfacts import HostFacts
from tuners.planner import plan
from tuners.presets import PRESETS
from tuners.registry import BY_NAME
from wire.facts import Ethtool, Fact, Irq, Nic, Pci, Queue, Queues, Softnet
from wire.policy import Desired, OutcomeStatus, Reported, Setting, Values, content_hash

ROOT = Path(__file__).resolve().parents[1]
SERVER = "numa-topology/openshift-nto/master.internal.sysinfo.tgz"
PLAN_AIM_MS, APPLY_AIM_S = 100.0, 2.0
ROUNDS = 9
QUEUES = 16
NIC = "bench0"
# i40e-0000:.. and bare names, as the kernel prints them: IRQ, PCI address, interface, number of the queue
_VECTOR = re.compile(
    r"^ *(\d+):.*MSIX?-(\S+) .* (?:(?:ice|i40e)-)?((?!\d{4}:)[a-z0-9]+)-(?:TxRx|rx)-(\d+)$", re.MULTILINE
)
RINGS = {"rx": 512, "rx_max": 8192, "tx": 512, "tx_max": 8192}
COALESCE: dict[str, int | bool] = {"use_adaptive_rx": False, "use_adaptive_tx": False, "rx_usecs": 50, "tx_usecs": 50}
FEATURES = {"rx-gro": True, "tx-generic-segmentation": True, "tx-tcp-segmentation": False, "rx-lro": False}


def main() -> None:
    """Print both times beside their aims."""
    planning()
    applying()


# -- the plan ----------------------------------------------------------------------------------------------------------


def planning() -> None:
    """Plans of every preset for every port of the recorded server."""
    folder = Path(os.environ.get("RACKHAND_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / SERVER).exists():
        print(f"  no {SERVER} (RACKHAND_DATA, ../shared/data)")
        return
    with tempfile.TemporaryDirectory() as place, tarfile.open(folder / SERVER) as archive:
        archive.extractall(place, filter="data")
        lines = (Path(place) / "proc/interrupts").read_text().count("\n")
        facts = read_server(Path(place))
    vectors = sum(len(irq.queues) for irq in facts.irq.values())
    print(f"  {len(facts.nics)} ports, {lines} lines of interrupts, {vectors} of them queues'; median of {ROUNDS}")
    for name, preset in PRESETS.items():
        wanted = [
            Setting(knob=knob, nic=nic, values=values)
            for knob, values in preset.items()
            for nic in ([""] if BY_NAME[knob].ABOUT.scope is Scope.HOST else facts.nics)
        ]
        took_ms: list[float] = []
        changes = 0
        for _ in range(ROUNDS):
            began = time.process_time()
            changes = sum(len(plan(wanted, facts, stage).changes) for stage in Stage)
            took_ms.append(1000 * (time.process_time() - began))
        middle = statistics.median(took_ms)
        share = f"{middle / PLAN_AIM_MS:5.2f} of the aim of {PLAN_AIM_MS:g}"
        print(f"  plan {name:<11} {middle:7.1f} ms of CPU  {share}; {changes} changes in all stages")


def read_server(root: Path) -> HostFacts:
    """CPUs, nodes and PCI by the collectors, NICs by the names of their interrupts, the rest as drivers default it."""
    facts = collect_facts(Live(str(root)), ("cpu", "numa", "pci"))
    nodes = {fact.key: fact.numa_node for fact in facts if isinstance(fact, Pci)}
    ports: dict[str, Irq] = {}
    for number, address, ifname, at in _VECTOR.findall((root / "proc/interrupts").read_text()):
        port = ports.setdefault(ifname, Irq(key=address, ifname=ifname, source="action-name"))
        allowed = (root / "proc/irq" / number / "smp_affinity_list").read_text().strip()
        queue = Queue(irq=int(number), rx=[int(at)], tx=[int(at)], cpus=allowed, effective=allowed)
        port.queues = [*port.queues, queue]
    made = [fact for at, port in enumerate(ports.values()) for fact in shaped(port, at + 1, nodes[port.key])]
    return HostFacts([*facts, *made, Softnet(rps_sock_flow_entries=0)])


def shaped(port: Irq, ifindex: int, node: int | None) -> list[Fact]:
    """The port's other facts: as many queues as it has vectors."""
    count = len(port.queues)
    key, name, empty = port.key, port.ifname, [""] * count
    channels = {"combined": count, "combined_max": 128}
    nic = Nic(key=key, ifname=name, ifindex=ifindex, type="physical", driver="ice", up=True, numa_node=node)
    found: list[Fact] = [port, nic]
    found.append(
        Ethtool(
            key=key,
            ifname=name,
            ifindex=ifindex,
            rings=RINGS,
            coalesce=COALESCE,
            channels=channels,
            features=FEATURES,
        )
    )
    found.append(
        Queues(key=key, ifname=name, ifindex=ifindex, rps_cpus=empty, rps_flow_cnt=[0] * count, xps_cpus=empty)
    )
    return found


# -- the transaction ---------------------------------------------------------------------------------------------------


class Applied(NamedTuple):
    """One transaction: the whole process in seconds, and what came of it."""

    took_s: float
    changes: int
    status: str


def applying() -> None:
    """A preset, with steering for every queue, on a NIC of 16 queues; then once more, when nothing is left to do."""
    if os.geteuid():
        print("  a transaction on a NIC of 16 queues: needs root")
        return
    preset: dict[str, Values] = dict(PRESETS["throughput"]) | {"rps": {"mode": "all", "flow_entries": 32768}}
    del preset["channels"]  # on this box it would be fewer queues, and less to do
    del preset["irq_affinity"], preset["rings"], preset["coalesce"]  # a veth has none
    preset["offloads"] = {"gro": True, "gso": True, "tso": False}
    of_nic = [knob for knob in preset if BY_NAME[knob].ABOUT.scope is Scope.NIC]  # this machine's clocks are its own
    settings = [Setting(knob=knob, nic=NIC, values=preset[knob]) for knob in of_nic]
    for what, runs in (("apply", [transact(settings)[0] for _ in range(3)]), ("unchanged", transact(settings)[1:])):
        took_s = statistics.median(run.took_s for run in runs)
        last = runs[-1]
        print(
            f"  {what:<16} {took_s:7.2f} s   {took_s / APPLY_AIM_S:5.2f} of the aim of {APPLY_AIM_S:g};"
            f" {last.changes} changes on {QUEUES} queues: {last.status}"
        )


def transact(settings: list[Setting]) -> list[Applied]:
    """The settings applied twice to a fresh veth pair in a fresh namespace."""
    space = f"bench-{os.getpid()}"
    pair = f"{NIC} numtxqueues {QUEUES} numrxqueues {QUEUES} type veth peer name bench1"
    _ip("netns", "add", space)
    try:
        _ip("-n", space, "link", "add", *pair.split(), "numtxqueues", str(QUEUES), "numrxqueues", str(QUEUES))
        for name in (NIC, "bench1"):
            _ip("-n", space, "link", "set", name, "up")
        with tempfile.TemporaryDirectory() as state:
            return [run(space, Path(state), settings) for _ in range(2)]
    finally:
        _ip("netns", "del", space)


def run(space: str, state: Path, settings: list[Setting]) -> Applied:
    """One transaction that confirms itself."""
    document = Desired(host_id="bench", generation=1, hash=content_hash(settings), settings=settings)
    (state / "desired.json").write_bytes(msgspec.json.encode(document))
    argv = [sys.executable, "-m", "agent.transaction", "--state", str(state), "--confirm", "self"]
    began = time.perf_counter()
    done = subprocess.run(["ip", "netns", "exec", space, *argv], check=False, capture_output=True, cwd=ROOT)
    took_s = time.perf_counter() - began
    if not done.stdout:
        raise SystemExit(done.stderr.decode())
    final = msgspec.convert(msgspec.json.decode(done.stdout.splitlines()[-1])["reported"], Reported)
    failed = "; ".join(f"{one.knob}: {one.reason}" for one in final.outcomes if one.status is OutcomeStatus.FAILED)
    return Applied(took_s, sum(len(one.changes) for one in final.outcomes), f"{final.status} {failed}".strip())


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
