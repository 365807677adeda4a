"""The throughput preset on real drivers: interrupts move to the NIC's own node, and traffic lands where they are."""

import json
import subprocess

import pytest

from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
POLICY = """
name: fast
nics: ["ifname={ifname}"]
preset: throughput
"""
LOCAL = {0: {0, 1}, 1: {2, 3}}  # CPUs of each NUMA node
STREAMS, SECONDS = 8, 4


@pytest.fixture
def wired(loop: Bench) -> Bench:
    """Every data NIC up with an address of its own network, and our end of the wire in each of them."""
    for at in range(len(loop.vm.server.machine.nics)):
        ifname = loop.nic(at)
        loop.guest.run(f"ip addr add 10.77.{at}.2/24 dev {ifname} && ip link set {ifname} up")
        loop.lab.wires.address("data", f"10.77.{at}.1/24")
    loop.guest.run("sysctl -qw net.ipv4.conf.all.arp_ignore=1; setsid iperf3 -s -D >/dev/null 2>&1 </dev/null")
    for at in range(len(loop.vm.server.machine.nics)):
        wait_for(lambda at=at: pings(loop, f"10.77.{at}.2"), f"data NIC {at} answers")  # type: ignore[misc]
    return loop


def pings(bench: Bench, address: str) -> bool:
    argv = bench.lab.wires.inside("ping", "-c1", "-W1", address)
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


def misplace(bench: Bench, ifname: str, driver: str, cpu: int) -> None:
    """Put all interrupts of a NIC on one CPU, of the wrong node."""
    bench.guest.run(
        f"for irq in $(awk -F: '/{pattern(bench, ifname, driver)}/{{print $1+0}}' /proc/interrupts);"
        f" do echo {cpu} > /proc/irq/$irq/smp_affinity_list; done"
    )


def pattern(bench: Bench, ifname: str, driver: str) -> str:
    """What the names of a NIC's queue interrupts begin with."""
    if driver == "igb":
        return f"{ifname}-"
    device = bench.guest.run(f"basename $(readlink /sys/class/net/{ifname}/device)").strip()
    return f"{device}-(input|output)"


def interrupts(bench: Bench, words: str) -> dict[str, list[int]]:
    """Counts per CPU of the receive interrupts whose names match."""
    found: dict[str, list[int]] = {}
    for line in bench.guest.run(f"grep -E '{words}' /proc/interrupts").splitlines():
        fields = line.split()
        if "tx-" not in fields[-1] and "output" not in fields[-1]:
            found[fields[-1]] = [int(word) for word in fields[1:5]]
    return found


def send(bench: Bench, address: str) -> float:
    """Mbit/s received by the server in a short run of several streams from the other end of the wire."""
    argv = bench.lab.wires.inside("iperf3", "-c", address, "-P", str(STREAMS), "-t", str(SECONDS), "-J")
    said = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout)
    return float(said["end"]["sum_received"]["bits_per_second"]) / 1e6


@pytest.mark.parametrize(("at", "driver"), [(0, "igb"), (2, "virtio_net")])
def test_throughput_brings_interrupts_home_and_traffic_follows(wired: Bench, at: int, driver: str) -> None:
    ifname, nic = wired.nic(at), wired.vm.server.machine.nics[at]
    near, far = LOCAL[nic.node], LOCAL[1 - nic.node]
    words = pattern(wired, ifname, driver)
    misplace(wired, ifname, driver, min(far))
    wait_for(lambda: findings(wired, ifname), "the wrong node is found")

    wired.apply(POLICY.format(ifname=ifname))
    wired.wait_status("applied")
    assert affinities(wired, ifname, words) == near

    before = interrupts(wired, words)
    rate = send(wired, f"10.77.{at}.2")
    after = interrupts(wired, words)
    landed = [sum(after[name][cpu] - before[name][cpu] for name in after) for cpu in range(4)]
    queues = [sum(after[name]) - sum(before[name]) for name in sorted(after)]
    print(f"{driver}: {rate:.0f} Mbit/s, interrupts per CPU {landed}, per queue {queues}")
    assert sum(landed[cpu] for cpu in near) > 100
    assert sum(landed[cpu] for cpu in far) <= 0.01 * sum(landed)
    assert sum(count > 0 for count in queues) >= 2, "the streams are spread over queues"

    wired.guest.run("RACKHAND_OBSERVE=false /opt/rackhand/bin/rackhand-agent rollback --yes", timeout_s=240)
    wired.wait_status("reverted")
    assert affinities(wired, ifname, words) == {min(far)}


def findings(bench: Bench, ifname: str) -> list[str]:
    return [one["rule"] for one in bench.lab.ask("findings") or [] if one["target"].startswith(ifname)]


def affinities(bench: Bench, ifname: str, words: str) -> set[int]:
    """CPUs of the interrupts of the queues that are in use: virtio keeps the vectors of all it could have."""
    used = int(bench.guest.run(f"ethtool -l {ifname} | awk '/Combined/{{n=$2}} END{{print n}}'"))
    found: set[int] = set()
    for line in bench.guest.run(f"grep -E '{words}' /proc/interrupts").splitlines():
        number, name = line.split(":")[0].strip(), line.split()[-1]
        if int(name.replace(".", "-").rpartition("-")[2]) < used:
            found |= {int(cpu) for cpu in bench.guest.read(f"/proc/irq/{number}/smp_affinity_list").split(",")}
    return found
