"""What a NIC does with what it receives, on real drivers: RSS, polling, coalescing; seen by ethtool and by traffic."""

import re
import subprocess

import pytest

from hardware_lab import qemu, wires
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
AGENT = "RACKHAND_OBSERVE=false /opt/rackhand/bin/rackhand-agent"
IGB = """
name: receive
nics: ["ifname={ifname}"]
knobs:
  rss: {{reserve: 1, udp4: sdfn, key: random}}
  ntuple: {{rules: udp4 dst-port 9 reserved, locations: 0-3}}
  coalesce: {{rx_usecs: 40, per_queue: "0: rx_usecs=8"}}
  napi: {{threaded: true, defer_hard_irqs: 2, gro_flush_timeout_ns: 20000, pin_threads: true}}
  busy_poll: {{busy_read: 40, busy_poll: 50}}
"""
FEWER = """
name: fewer
nics: ["ifname={ifname}"]
knobs:
  channels: {{combined: 2}}
  rss: {{weights: 3 1}}
"""
VIRTIO = """
name: receive
nics: ["ifname={ifname}"]
knobs:
  rss: {{queues: 2, skip: "0", key: mirrored, udp4: sd, symmetric: symmetric-xor}}
"""
LOOK = """
ethtool -x {ifname}; ethtool -l {ifname}; ethtool -c {ifname}
for flow in tcp4 udp4 tcp6 udp6; do ethtool -n {ifname} rx-flow-hash $flow; done
cd /sys/class/net/{ifname}; grep -H . threaded napi_defer_hard_irqs gro_flush_timeout
sysctl net.core.busy_read net.core.busy_poll
"""
SEND = """
import socket
for port in range(20000, 20256):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("", port))
    sender.sendto(b"x", ("10.78.0.2", 9))
    sender.close()
"""


def look(bench: Bench, ifname: str) -> str:
    return bench.guest.run(LOOK.format(ifname=ifname))


def apply(bench: Bench, policy: str) -> str:
    bench.guest.write("/tmp/policy.yaml", policy)
    return bench.guest.run(f"{AGENT} apply /tmp/policy.yaml --yes 2>&1 || true", timeout_s=300)


def rollback(bench: Bench) -> str:
    return bench.guest.run(f"{AGENT} rollback --yes 2>&1 || true", timeout_s=240)


def table(shown: str) -> list[int]:
    """The indirection table that ethtool prints in rows of eight."""
    return [int(queue) for row in re.findall(r"^ *\d+: +([\d ]+)$", shown, re.MULTILINE) for queue in row.split()]


def counts(bench: Bench, ifname: str) -> list[int]:
    """Packets that each receive queue has had."""
    said = bench.guest.run(f"ethtool -S {ifname} | grep -E 'rx_queue_[0-9]+_packets'")
    return [int(line.split()[-1]) for line in said.splitlines()]


def test_igb_spreads_polls_and_waits_as_the_policy_says(server: Bench) -> None:
    ifname = server.nic(0)
    server.guest.run(f"ip addr add 10.78.0.2/24 dev {ifname} && ip link set {ifname} up")
    server.lab.wires.address("data", "10.78.0.1/24")
    ping = server.lab.wires.inside("ping", "-c1", "-W1", "10.78.0.2")
    wait_for(lambda: subprocess.run(ping, check=False, capture_output=True).returncode == 0, "the NIC answers")
    before = look(server, ifname)
    assert [table(before).count(queue) for queue in range(4)] == [32] * 4

    said = apply(server, IGB.format(ifname=ifname))
    print(said)
    now = look(server, ifname)
    print(now)
    assert table(now) == [at % 3 for at in range(128)]
    assert "L4 bytes 0 & 1" in now.split("UDP over IPV4")[1].split("flows use")[1]
    assert "threaded:1\nnapi_defer_hard_irqs:2\ngro_flush_timeout:20000" in now
    assert "net.core.busy_read = 40\nnet.core.busy_poll = 50" in now
    assert re.search(r"rx-usecs: 40\n", now)
    assert re.search(r"ntuple .*unsupported", said)

    had = counts(server, ifname)
    subprocess.run(server.lab.wires.inside("python3", "-c", SEND), check=True)
    wait_for(lambda: sum(counts(server, ifname)) - sum(had) >= 250, "the datagrams are there")
    landed = [new - old for new, old in zip(counts(server, ifname), had, strict=True)]
    print("per queue", landed)
    assert landed[3] == 0
    assert all(landed[:3])

    print(rollback(server))
    assert look(server, ifname) == before


@pytest.mark.soak
def test_fewer_channels_than_a_custom_table_has_and_all_of_it_back(server: Bench) -> None:
    ifname = server.nic(0)
    server.guest.run(f"ip link set {ifname} up; ethtool -X {ifname} weight 1 1 0 2")
    before = look(server, ifname)
    assert set(table(before)) == {0, 1, 3}
    refused = server.guest.run(f"ethtool -L {ifname} combined 2 2>&1 || true")
    print(refused)
    assert "too low" in refused or "Invalid argument" in refused
    said = apply(server, FEWER.format(ifname=ifname))
    print(said)
    now = look(server, ifname)
    assert table(now) == [0] * 96 + [1] * 32
    print(rollback(server))
    after = look(server, ifname)
    assert after == before

    server.guest.run(f"ethtool -X {ifname} equal 4")  # what nobody can see: it is the table that was there
    refused = server.guest.run(f"ethtool -L {ifname} combined 2 2>&1 || true")
    assert "too low" in refused or "Invalid argument" in refused
    apply(server, FEWER.format(ifname=ifname))
    assert set(table(look(server, ifname))) == {0, 1}


@pytest.mark.soak
def test_virtio_has_a_key_and_fields(server: Bench) -> None:
    device = {**qemu.nic_device(server.vm.server, 2, tap=wires.possible()), "rss": True}
    with server.monitor() as monitor:
        monitor.run("device_del", id="nic2")
        monitor.wait_for(lambda one: one["event"] == "DEVICE_DELETED" and one["data"].get("device") == "nic2", 60)
        monitor.run("device_add", **device)
    ifname = str(wait_for(lambda: server.nic(2), "the NIC is back"))
    server.guest.run(f"udevadm settle; ip link set {ifname} up; ethtool -L {ifname} combined 4")
    before = look(server, ifname)
    print(before)
    said = apply(server, VIRTIO.format(ifname=ifname))
    print(said)
    now = look(server, ifname)
    assert set(table(now)) == {1, 2}
    assert re.search(r"RSS hash key:\n(6d:5a:?)+\n", now)
    print(rollback(server))
    assert look(server, ifname) == before
