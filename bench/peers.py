"""What packets cost in a server of the lab as nobody, irqbalance, TuneD, two scripts' layouts and rackhand set it up.

One guest, one boot, the same traffic: small UDP packets into a NIC at a fixed rate, and TCP request and response,
through igb and through virtio. Each row is a pair of windows, as the kernel left it and as the peer sets it up, and
what is printed are their ratios: under emulation absolute figures mean nothing. The first row is nothing beside
nothing: what differs there is noise. RACKHAND_LAB=NAME takes a lab that runs instead of booting one.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

from hardware_lab import image, install, wires
from hardware_lab.guest import Guest
from hardware_lab.lab import Lab
from hardware_lab.machine import Machine
from hardware_lab.vm import Vm

WINDOW_S, RATE, FLOWS = 4.0, 6000, 16
SINK, ECHO = 7009, 7007
NICS = {"igb": 0, "virtio_net": 2}  # data NICs of the lab's server
PYTHON = "/opt/rackhand/bin/python"
AGENT = "RACKHAND_OBSERVE=false /opt/rackhand/bin/rackhand-agent"

# In the guest: takes datagrams and drops them; sends back what comes over TCP
SERVE = f"""
import socket, threading
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sink.bind(("", {SINK}))
door = socket.create_server(("", {ECHO}))
def echo(conn):
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := conn.recv(64):
        conn.sendall(data)
while True:
    threading.Thread(target=echo, args=(door.accept()[0],), daemon=True).start()
"""
# In the guest: one window of one NIC, and which CPUs took the packets
_WINDOW = """
import json
from agent.meter import Meter
from collectors.softnet import parse_softnet
from machine.live import Live
from tuners.measure import window
machine = Live()
def taken():
    return {row.cpu: row.processed for row in parse_softnet(machine.read("/proc/net/softnet_stat"), [])}
before = taken()
found = window(*Meter(machine, [%d]).window(%f, str))
after = taken()
print(json.dumps({"load": found.load, **found.values, "cpus": [after[cpu] - before[cpu] for cpu in sorted(after)]}))
"""
# In the guest: the queues of the NICs with a wire, and what is written of interrupts and steering, to be put back
_FILES = """
import json
from pathlib import Path
from collectors.run import collect_facts
from machine.live import Live
from wire.facts import Irq
found = {}
def keep(path):
    try:
        found[str(path)] = path.read_text().strip()
    except OSError:
        pass  # a single queue has no XPS, some interrupts have no affinity
for fact in collect_facts(Live(), ("irq",)):
    if isinstance(fact, Irq) and fact.ifname in %r:
        for queue in fact.queues:
            keep(Path(f"/proc/irq/{queue.irq}/smp_affinity_list"))
        for path in Path(f"/sys/class/net/{fact.ifname}/queues").glob("*/[rx]ps_cpus"):
            keep(path)
print(json.dumps(found))
"""
# In the guest: an interrupt that is gone has nothing to be put back
_PUT_BACK = """
from pathlib import Path
for path, text in %r.items():
    try:
        Path(path).write_text(text or "0")
    except OSError:
        pass
"""
_LAYOUT = """
from pathlib import Path
from collectors.run import collect_facts
from machine.live import Live
from wire.facts import Irq
nodes, xps, rps = %r, %r, %r
for fact in collect_facts(Live(), ("irq",)):
    if not isinstance(fact, Irq) or fact.ifname not in nodes:
        continue
    near = nodes[fact.ifname]
    for queue in fact.queues:
        for number in (queue.rx or queue.tx)[:1]:
            cpu = near[number %% len(near)]
            Path(f"/proc/irq/{queue.irq}/smp_affinity_list").write_text(str(cpu))
            for name in queue.tx if xps else []:
                path = Path(f"/sys/class/net/{fact.ifname}/queues/tx-{name}/xps_cpus")
                if path.exists():
                    path.write_text(format(1 << cpu, "x"))
    paths = sorted(Path(f"/sys/class/net/{fact.ifname}/queues").glob("rx-*/rps_cpus"))
    if rps and len(paths) == 1:
        paths[0].write_text(format(sum(1 << cpu for cpu in near), "x"))
"""
_POLICY = """
name: bench
nics: ["ifname in {ifnames}"]
preset: {preset}
allow: [link]
"""


class Figures(NamedTuple):
    """One NIC's windows: of small packets, and of requests."""

    pps: float
    cpu_us: float  # a packet, all CPUs
    local: float  # share of the packets that a CPU of the NIC's node took
    imbalance: float  # busiest CPU's packets over the mean
    p50_us: float
    p99_us: float


class Bench:
    """The server, and the end of its wires from which the traffic comes."""

    def __init__(self, lab: Lab, vm: Vm) -> None:
        self.lab = lab
        self.vm = vm
        self.guest: Guest = vm.guest
        self.ifnames = {driver: vm.ifname(at) for driver, at in NICS.items()}
        listed = self.guest.run("cat /sys/devices/system/node/node*/cpulist").split()
        cpus = [range(int(one.split("-")[0]), int(one.split("-")[-1]) + 1) for one in listed]
        found = vm.server.machine.nics
        self.near = {driver: list(cpus[found[at].node]) for driver, at in NICS.items()}
        self._files: dict[str, str] = {}

    def python(self, script: str) -> str:
        """A script run by the agent's Python in the guest."""
        return self.guest.run(f"{PYTHON} -", stdin=script.encode(), timeout_s=120)

    def set_up(self) -> None:
        """Addresses, the other ends of the traffic, and what is to be put back after each row."""
        for driver, at in NICS.items():
            ifname = self.ifnames[driver]
            self.guest.run(f"ip addr replace 10.78.{at}.2/24 dev {ifname} && ip link set {ifname} up")
            self.lab.wires.address(self.vm.server.machine.nics[at].wire, f"10.78.{at}.1/24")
        self.guest.run("sysctl -qw net.ipv4.conf.all.arp_ignore=1")
        self.guest.run(f"cat > /tmp/serve.py; setsid {PYTHON} /tmp/serve.py >/dev/null 2>&1 &", stdin=SERVE.encode())
        time.sleep(3)
        self._files = json.loads(self.python(_FILES % (list(self.ifnames.values()),)))

    def put_back(self) -> None:
        """What the last row wrote to interrupts and steering."""
        self.python(_PUT_BACK % (self._files,))

    def figures(self, driver: str) -> Figures:
        """Both windows through one NIC."""
        address = f"10.78.{NICS[driver]}.2"
        ifindex = int(self.guest.read(f"/sys/class/net/{self.ifnames[driver]}/ifindex"))
        flood = [sys.executable, "-m", "bench.peers", "flood", address]
        with subprocess.Popen(self.lab.wires.inside(*flood)) as sender:
            time.sleep(1)
            found: dict[str, Any] = json.loads(self.python(_WINDOW % (ifindex, WINDOW_S)))
            sender.kill()
        asked = [sys.executable, "-m", "bench.peers", "ask", address]
        said = subprocess.run(self.lab.wires.inside(*asked), check=True, capture_output=True, text=True, timeout=120)
        p50, p99 = map(float, said.stdout.split())
        cpus = found["cpus"]
        local = sum(cpus[cpu] for cpu in self.near[driver]) / max(1, sum(cpus))
        even = max(cpus) * len(cpus) / max(1, sum(cpus))
        return Figures(found["load"], found.get("cpu_per_packet", 0.0), local, even, p50, p99)

    # -- who sets it up --

    @contextlib.contextmanager
    def nothing(self) -> Generator[None]:
        """As the kernel left it."""
        yield

    @contextlib.contextmanager
    def irqbalance(self) -> Generator[None]:
        """Its daemon, looking every second, for ten of them under traffic."""
        self.guest.run("systemd-run -q --unit=bench-irqbalance irqbalance --foreground --interval=1")
        address = f"10.78.{NICS['igb']}.2"
        with subprocess.Popen(self.lab.wires.inside(sys.executable, "-m", "bench.peers", "flood", address)) as sender:
            time.sleep(10)
            sender.kill()
        try:
            yield
        finally:
            self.guest.run("systemctl stop bench-irqbalance")

    @contextlib.contextmanager
    def tuned(self, profile: str) -> Generator[None]:
        """Its daemon with a profile; stopped, it puts back what it changed."""
        self.guest.run(f"systemd-run -q --unit=bench-tuned tuned --no-dbus --profile {profile}")
        time.sleep(12)
        try:
            yield
        finally:
            self.guest.run("systemctl stop bench-tuned", timeout_s=120)

    @contextlib.contextmanager
    def layout(self, *, xps: bool, rps: bool) -> Generator[None]:
        """Queue after queue on the CPUs of the NIC's node, as scripts lay them out."""
        nodes = {self.ifnames[driver]: near for driver, near in self.near.items()}
        self.python(_LAYOUT % (nodes, xps, rps))
        yield

    @contextlib.contextmanager
    def rackhand(self, preset: str) -> Generator[None]:
        """A policy applied as a transaction, and rolled back."""
        text = _POLICY.format(ifnames=",".join(self.ifnames.values()), preset=preset)
        self.guest.run("cat > /tmp/bench.yaml", stdin=text.encode())
        self.guest.run(f"{AGENT} apply /tmp/bench.yaml --yes", timeout_s=240)
        try:
            yield
        finally:
            self.guest.run(f"{AGENT} rollback --yes", timeout_s=240)


def main() -> None:
    """Print the table."""
    if not wires.possible():
        print("  needs root, for the wires")
        return
    with server() as bench:
        bench.set_up()
        print(f"  {'ratio to nothing':26}{'NIC':11}{'pps':>6}{'CPU/pkt':>9}{'RR p50':>8}{'RR p99':>8}", end="")
        print("   packets on the NIC's node, busiest CPU over mean")
        for name, put in rows(bench).items():
            before = {driver: bench.figures(driver) for driver in NICS}
            try:
                with put():
                    after = {driver: bench.figures(driver) for driver in NICS}
            finally:
                bench.put_back()
            for driver in NICS:
                print(f"  {name:26}{driver:11}{ratios(before[driver], after[driver])}", flush=True)


def rows(bench: Bench) -> dict[str, Callable[[], contextlib.AbstractContextManager[None]]]:
    """Who sets the server up, in the order of the table."""
    return {
        "nothing": bench.nothing,
        "irqbalance": bench.irqbalance,
        "TuneD network-throughput": lambda: bench.tuned("network-throughput"),
        "TuneD network-latency": lambda: bench.tuned("network-latency"),
        "rss-ladder, autorps": lambda: bench.layout(xps=False, rps=True),
        "vendor's affinity script": lambda: bench.layout(xps=True, rps=False),
        "rackhand pps": lambda: bench.rackhand("pps"),
        "rackhand latency": lambda: bench.rackhand("latency"),
    }


def ratios(before: Figures, after: Figures) -> str:
    """The second over the first, and where the packets were taken."""
    pairs = [(after[at], before[at]) for at in (0, 1, 4, 5)]
    shown = "".join(
        f"{new / old if old else 0:{width}.2f}" for (new, old), width in zip(pairs, (6, 9, 8, 8), strict=True)
    )
    return f"{shown}   {before.local:4.0%} to {after.local:4.0%}, {before.imbalance:.1f} to {after.imbalance:.1f}"


@contextlib.contextmanager
def server() -> Generator[Bench]:
    """A server with the agent installed and not running."""
    if kept := os.environ.get("RACKHAND_LAB"):
        lab = Lab.load(kept)
        vm = lab.vm("srv1")
        vm.restore("ready")
        yield Bench(lab, vm)
        return
    lab = Lab.create(f"bench{os.getpid()}")
    try:
        vm = lab.add(Machine(), image.ensure())
        vm.start(nvme=False)
        with tempfile.TemporaryDirectory() as folder:
            lab.install(vm, install.build(Path(folder)))
        yield Bench(lab, vm)
    finally:
        lab.down()


def flood(address: str, rate: float = RATE) -> None:
    """Datagrams of 18 bytes, from as many ports as there are flows, so many a second, until it is killed."""
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(FLOWS)]
    for sender in senders:
        sender.connect((address, SINK))
    began, sent = time.monotonic(), 0
    while True:
        while sent < (time.monotonic() - began) * rate:
            with contextlib.suppress(OSError):
                senders[sent % FLOWS].send(bytes(18))
            sent += 1
        time.sleep(0.001)


def ask(address: str) -> None:
    """Request and response over one connection; prints the median and the 99th percentile in µs."""
    took: list[float] = []
    with socket.create_connection((address, ECHO), timeout=10) as conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until = time.monotonic() + WINDOW_S
        while (began := time.monotonic()) < until:
            conn.sendall(b"x")
            conn.recv(64)
            took.append(1e6 * (time.monotonic() - began))
    took.sort()
    print(took[len(took) // 2], took[int(len(took) * 0.99)])


if __name__ == "__main__":
    if sys.argv[1] == "flood":
        flood(sys.argv[2], *map(float, sys.argv[3:]))
    else:
        ask(sys.argv[2])
