"""A real irqbalance: it is told over its socket which interrupts a policy has placed, and keeps its hands off them."""

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.soak]
UNIT = "lab-irqbalance"
# as its package's own unit does, with more to read and less to wait for
SANDBOX = "RuntimeDirectory=irqbalance ReadOnlyPaths=/ ReadWritePaths=/proc/irq RestrictAddressFamilies=AF_UNIX"
START = "systemd-run -q --unit={unit} {properties} /usr/sbin/irqbalance --foreground --debug --interval=1 {options}"
PASS = "-----------------------------------------------------------------------------"  # it prints one before each
PASSES = 5
POLICY = """
name: place
nics: ["ifname={ifname}"]
knobs:
  irq_affinity: {{placement: local}}
"""
AGENT = "RACKHAND_OBSERVE=false /opt/rackhand/bin/rackhand-agent"
SETUP = """
from machine import irqbalance
from machine.live import Live
print(*irqbalance.parse_setup(Live().irqbalance("setup")).banned_irqs)
"""
BAN = """
from machine import irqbalance
from machine.live import Live
Live().irqbalance(irqbalance.ban_request(%r))
"""


@pytest.fixture
def busy(server: Bench) -> Iterator[Bench]:
    """Data NICs up, and traffic into the first and the second until the test ends."""
    with traffic(server):
        yield server


@contextlib.contextmanager
def traffic(bench: Bench) -> Iterator[None]:
    bench.lab.light_up(bench.vm)
    bench.guest.run("sysctl -qw net.ipv4.conf.all.arp_ignore=1; setsid iperf3 -s -D >/dev/null 2>&1 </dev/null")
    clients: list[subprocess.Popen[bytes]] = []
    try:
        for at in range(2):
            bench.lab.wires.address("data", f"10.77.{at}.1/24")
            address = f"10.77.{at}.{bench.vm.server.number + 10}"
            ping = bench.lab.wires.inside("ping", "-c1", "-W1", address)
            wait_for(lambda ping=ping: subprocess.run(ping, check=False, capture_output=True).returncode == 0, address)  # type: ignore[misc]
            stream = bench.lab.wires.inside("iperf3", "-c", address, "-P", "2", "-b", "20M", "-t", "600")
            clients.append(subprocess.Popen(stream, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield
    finally:
        for client in clients:
            client.kill()
            client.wait()


def start(bench: Bench, options: str = "", sandbox: str = SANDBOX) -> None:
    properties = " ".join(f"-p {text}" for text in sandbox.split())
    bench.guest.run(START.format(unit=UNIT, properties=properties, options=options))
    wait_for(lambda: passes(bench) > 1, "irqbalance at work")


def stop(bench: Bench) -> None:
    bench.guest.run(f"systemctl stop {UNIT}; systemctl reset-failed {UNIT} 2>/dev/null || true")


def passes(bench: Bench) -> int:
    """How often it has looked at the load."""
    return int(bench.guest.run(f"journalctl -o cat -u {UNIT} | grep -c -- '^{PASS[:20]}' || true"))


def wait_passes(bench: Bench) -> None:
    before = passes(bench)
    wait_for(lambda: passes(bench) >= before + PASSES, f"{PASSES} passes of irqbalance")


def banned(bench: Bench) -> list[int]:
    return list(map(int, bench.python(SETUP).split()))


def numbers(bench: Bench, ifname: str) -> list[int]:
    """The IRQs of a NIC's queues."""
    return list(map(int, bench.guest.run(f"awk -F: '/{ifname}-/{{print $1+0}}' /proc/interrupts").split()))


def affinities(bench: Bench, irqs: list[int]) -> dict[int, str]:
    return {irq: bench.guest.read(f"/proc/irq/{irq}/smp_affinity_list").strip() for irq in irqs}


def pin(bench: Bench, irqs: list[int], cpu: int) -> dict[int, str]:
    for irq in irqs:
        bench.guest.run(f"echo {cpu} > /proc/irq/{irq}/smp_affinity_list")
    return affinities(bench, irqs)


def apply(bench: Bench, ifname: str) -> None:
    bench.guest.run("cat > /root/policy.yaml", stdin=POLICY.format(ifname=ifname).encode())
    bench.guest.run(f"{AGENT} apply /root/policy.yaml --yes", timeout_s=240)


def policy_of(bench: Bench, ifname: str) -> dict[int, str]:
    """Apply it; where the interrupts are then."""
    apply(bench, ifname)
    irqs = numbers(bench, ifname)
    assert set(irqs) <= set(banned(bench))
    return affinities(bench, irqs)


def test_what_a_policy_placed_stays_and_what_it_did_not_moves(busy: Bench) -> None:
    mine, other = busy.nic(0), busy.nic(1)
    irqs, witness = numbers(busy, mine), numbers(busy, other)
    far, apart = pin(busy, irqs, 0), pin(busy, witness, 2)
    start(busy)
    wait_for(lambda: affinities(busy, irqs) != far, "without a ban irqbalance moves them")
    wait_for(lambda: affinities(busy, witness) != apart, "and the other NIC's")

    placed = policy_of(busy, mine)
    assert set(placed.values()) == {"2", "3"}, "one CPU each, of the NIC's node"
    assert banned(busy) == irqs
    apart = pin(busy, witness, 2)
    wait_for(lambda: affinities(busy, witness) != apart, "it still moves the other NIC's under load")
    wait_passes(busy)
    assert affinities(busy, irqs) == placed

    busy.guest.run(f"{AGENT} rollback --yes", timeout_s=240)
    assert banned(busy) == []
    now = affinities(busy, irqs)
    wait_for(lambda: affinities(busy, irqs) != now, "it moves them again")


def test_bans_of_others_are_kept(busy: Bench) -> None:
    mine, other = busy.nic(0), busy.nic(1)
    first, second, *_ = numbers(busy, other)
    start(busy, f"--banirq={first}")
    assert banned(busy) == [first]
    busy.python(BAN % [first, second])
    policy_of(busy, mine)
    assert banned(busy) == sorted([first, second, *numbers(busy, mine)])
    busy.guest.run(f"{AGENT} rollback --yes", timeout_s=240)
    assert banned(busy) == [first, second]


def test_without_its_folder_its_socket_has_no_name(busy: Bench) -> None:
    start(busy, sandbox="")
    assert "irqbalance" not in busy.guest.read("/proc/net/unix")
    placed = policy_of(busy, busy.nic(0))
    wait_passes(busy)
    assert affinities(busy, list(placed)) == placed


def test_one_that_is_started_again_is_told_again(loop: Bench) -> None:
    ifname = loop.nic(0)
    with traffic(loop):
        start(loop)
        loop.apply(POLICY.format(ifname=ifname))
        loop.wait_status("applied")
        irqs = numbers(loop, ifname)
        assert set(irqs) <= set(banned(loop))
        stop(loop)
        start(loop)
        assert banned(loop) == []
        wait_for(lambda: "policy.drifted" in loop.events(), "told: its bans are gone")
        wait_for(lambda: set(irqs) <= set(banned(loop)), "it is told again")
        loop.wait_status("applied")
        assert set(affinities(loop, irqs).values()) == {"2", "3"}
