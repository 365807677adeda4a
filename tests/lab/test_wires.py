"""Real traffic on the wires, through QEMU's NICs, their virtual functions and a simulated one, and on a bad cable."""

import contextlib
import json
import os
import re
import select
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from hardware_lab import faults, impair, wires
from hardware_lab.failure import LabError
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.soak]
VNET_HEADER = bytes(10)  # what a tap of QEMU's has before every frame: nothing is left to do to it
EXPERIMENT = 0x88B5  # EtherType for local experiments, IEEE 802
MIB = 1 << 20
SINK = "setsid iperf3 -s -D >/dev/null 2>&1 </dev/null"
# In the guest: frames of our EtherType, as they come: the sender's MAC and the text.
LISTEN = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons({kind}))
sock.bind(("{ifname}", {kind}))
sock.settimeout(60)
print("listening", flush=True)
for _ in range({count}):
    frame = sock.recv(2000)
    print(frame[6:12].hex(":"), frame[14:].rstrip(b"\\0").decode(), flush=True)
"""
SEND = """
import socket
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind(("{ifname}", 0))
sock.send(b"\\xff" * 6 + bytes.fromhex("{mac}") + ({kind}).to_bytes(2, "big") + b"{text}")
"""
PKTGEN = """
modprobe pktgen
say() {{ echo "$2" > /proc/net/pktgen/$1; }}
say kpktgend_0 rem_device_all
say kpktgend_0 "add_device {ifname}"
say {ifname} "count {count}"
say {ifname} "pkt_size 200"
say {ifname} "dst_mac 02:00:00:00:00:99"
say {ifname} "dst 10.77.0.99"
say pgctrl start
grep -A1 Result /proc/net/pktgen/{ifname}
"""


@pytest.fixture
def wired(server: Bench) -> Bench:
    """Every data NIC up, with an address of a network of its own, and our end in each; iperf3 waits."""
    for at in range(len(server.vm.server.machine.nics)):
        connect(server, server.nic(at), f"10.77.{at}")
    server.guest.run(f"sysctl -qw net.ipv4.conf.all.arp_ignore=1; {SINK}")
    return server


def connect(bench: Bench, ifname: str, network: str) -> None:
    """Addresses .2 in the guest and .1 on our end of the wire, and an answer."""
    bench.guest.run(f"ip addr replace {network}.2/24 dev {ifname} && ip link set {ifname} up")
    bench.lab.wires.address("data", f"{network}.1/24")
    wait_for(lambda: answers(bench, f"{network}.2", 1), f"{ifname} answers")


def inside(bench: Bench, *argv: str) -> str:
    """What a command says in the lab's namespace, whatever its end."""
    command = bench.lab.wires.inside(*argv)
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120).stdout


def answers(bench: Bench, address: str, count: int) -> int:
    said = inside(bench, "ping", "-q", "-c", str(count), "-i", "0.03", "-W", "2", address)
    return next((int(line.split()[3]) for line in said.splitlines() if "received" in line), 0)


def iperf(bench: Bench, address: str, amount: str, *more: str) -> dict[str, Any]:
    """How a TCP transfer ended; what is still in buffers then counts as sent and not as received."""

    def transfer() -> dict[str, Any]:
        said = json.loads(inside(bench, "iperf3", "-c", address, "-n", amount, "-J", *more))
        # it has just been started, or the transfer before has ended here and not yet there
        assert any(word in said.get("error", "busy") for word in ("busy", "refused")), said["error"]
        end: dict[str, Any] = said["end"]
        return end

    return dict(wait_for(transfer, "iperf3 in the guest is free"))


def tap_counters(bench: Bench, nic: int) -> dict[str, dict[str, int]]:
    """What our end of a NIC's cable has counted: `rx` came from the server."""
    said = bench.lab.wires.ip(f"-s -j link show {wires.tap(bench.vm.server.number, nic)}")
    counters: dict[str, dict[str, int]] = json.loads(said)[0]["stats64"]
    return counters


# -- good cables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 2], ids=["igb", "virtio"])
def test_a_nic_carries_traffic_both_ways(wired: Bench, at: int) -> None:
    before = tap_counters(wired, at)
    assert answers(wired, f"10.77.{at}.2", 20) == 20
    for more in ((), ("-R",)):
        assert iperf(wired, f"10.77.{at}.2", "16M", *more)["sum_received"]["bytes"] > 8 * MIB
    after = tap_counters(wired, at)
    for way in ("rx", "tx"):
        assert after[way]["bytes"] - before[way]["bytes"] > 8 * MIB
    statistics = f"/sys/class/net/{wired.nic(at)}/statistics"
    assert all(int(wired.guest.read(f"{statistics}/{way}_bytes")) > 8 * MIB for way in ("rx", "tx"))


def test_wires_lead_nowhere_else(wired: Bench) -> None:
    links = {link["ifname"] for link in json.loads(wired.lab.wires.ip("-j link show"))}
    taps = {wires.tap(wired.vm.server.number, at) for at in range(len(wired.vm.server.machine.nics))}
    assert links == {"lo", "w-data", *taps}
    assert json.loads(wired.lab.wires.ip("-j route show default")) == []
    # nor does the management network: it takes what is sent and answers for itself only
    assert "100% packet loss" in wired.guest.attempt("ping -c 2 -i 0.1 -W 2 192.0.2.1").stdout.decode()
    assert wired.guest.run("ping -c 1 -W 10 10.0.2.2")


@pytest.fixture
def probe(wired: Bench) -> Iterator[int]:
    """A tap of our own on the data wire: what we write into it is on the wire."""
    (handle,) = wired.lab.wires.plug("probe", "data", 1)
    yield handle
    os.close(handle)


def test_frames_of_another_tap_reach_the_server_and_come_back(wired: Bench, probe: int) -> None:
    ifname = wired.nic(0)
    script = LISTEN.format(kind=EXPERIMENT, ifname=ifname, count=2)
    wired.guest.run("cat > /root/listen.py", stdin=script.encode())
    listener = wired.guest.start("/opt/rackhand/bin/python /root/listen.py")
    assert listener.stdout
    assert listener.stdout.readline() == b"listening\n"
    target, ours = bytes.fromhex(wired.vm.server.mac(0).replace(":", "")), bytes.fromhex("020000000042")
    for text in (b"first", b"second"):
        frame = target + ours + EXPERIMENT.to_bytes(2, "big") + text
        os.write(probe, VNET_HEADER + frame.ljust(60, b"\0"))
    heard, _ = listener.communicate(timeout=60)
    assert heard.decode().splitlines() == ["02:00:00:00:00:42 first", "02:00:00:00:00:42 second"]

    wired.python(
        SEND.format(ifname=ifname, mac=wired.vm.server.mac(0).replace(":", ""), kind=EXPERIMENT, text="to all")
    )
    wait_for(lambda: (target, b"to all") in received(probe), "the server's frame on our tap")


def received(handle: int) -> list[tuple[bytes, bytes]]:
    """Frames of our EtherType that wait in a tap: who sent them, and the text."""
    found: list[tuple[bytes, bytes]] = []
    while select.select([handle], [], [], 0)[0]:
        frame = os.read(handle, 65536)[len(VNET_HEADER) :]
        if frame[12:14] == EXPERIMENT.to_bytes(2, "big"):
            found.append((frame[6:12], frame[14:].rstrip(b"\0")))
    return found


def test_pktgen_fills_the_wire(wired: Bench) -> None:
    count = 20_000
    before = tap_counters(wired, 0)["rx"]
    print(wired.guest.run(PKTGEN.format(ifname=wired.nic(0), count=count), timeout_s=120))
    wait_for(lambda: tap_counters(wired, 0)["rx"]["packets"] - before["packets"] >= count, "every frame at our end")
    assert tap_counters(wired, 0)["rx"]["bytes"] - before["bytes"] >= count * 200


def test_a_nic_with_many_queues_comes_back_with_all_of_them(wired: Bench) -> None:
    ifname = wired.nic(2)
    before = wired.guest.run(f"ethtool -l {ifname}")
    assert re.findall(r"Combined:\s+(\d+)", before)[0] == str(wired.vm.server.machine.nics[2].queues)
    faults.unplug(wired.lab, wired.vm, 2)
    assert wired.nic(2) == ""
    faults.plug(wired.lab, wired.vm, 2)
    wait_for(lambda: wired.nic(2) == ifname, "the NIC again")
    assert wired.guest.run(f"ethtool -l {ifname}") == before
    connect(wired, ifname, "10.77.2")


# -- bad cables --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def losing(bench: Bench, nic: int, percent: float) -> Iterator[None]:
    number = bench.vm.server.number
    impair.lose(bench.lab.wires, number, nic, percent)
    try:
        yield
    finally:
        impair.lose(bench.lab.wires, number, nic, 0)


@pytest.mark.parametrize("at", [1, 2], ids=["igb", "virtio"])
def test_a_share_of_the_frames_is_lost_on_one_cable_only(wired: Bench, at: int) -> None:
    address, other = f"10.77.{at}.2", "10.77.0.2"
    with losing(wired, at, 50):
        share = answers(wired, address, 200)
        assert 50 < share < 150, "half of 200 answers, five times the deviation of 7 away"
        assert answers(wired, other, 20) == 20
    with losing(wired, at, 100):
        before = int(wired.guest.read(f"/sys/class/net/{wired.nic(at)}/statistics/rx_packets"))
        assert answers(wired, address, 3) == 0
        after = int(wired.guest.read(f"/sys/class/net/{wired.nic(at)}/statistics/rx_packets"))
        assert after >= before + 3, "what the server receives is not lost"
    assert answers(wired, address, 20) == 20


def test_traffic_survives_a_bad_cable(wired: Bench) -> None:
    """TCP sends again what is lost."""
    wired.guest.run(f"ethtool -K {wired.nic(0)} tso off gso off")  # thousands of frames instead of some large ones
    with losing(wired, 0, 2):
        end = iperf(wired, "10.77.0.2", "4M", "-R")
    assert end["sum_received"]["bytes"] > MIB
    assert end["sum_sent"]["retransmits"] > 0


def test_what_cannot_be_impaired_is_one_line(wired: Bench) -> None:
    with pytest.raises(LabError, match=r"^loss is 0 to 100 percent, not 101$"):
        impair.lose(wired.lab.wires, 1, 0, 101)
    with pytest.raises(LabError, match=r"^no tap s1n9: is the server on\?$"):
        impair.lose(wired.lab.wires, 1, 9, 10)
    with pytest.raises(LabError, match=r"^QEMU refuses object-add: [^\n]*$"):
        impair.delay(wired.vm, "w9", 10)
    with pytest.raises(LabError, match=r"^QEMU refuses object-add: [^\n]*multi-?queue[^\n]*$"):
        impair.delay(wired.vm, "w2", 10)  # QEMU's filters take one queue only
    assert answers(wired, "10.77.2.2", 3) == 3


# -- virtual functions and simulated NICs ------------------------------------------------------------------------------


def make_vfs(bench: Bench, count: int) -> list[str]:
    """Virtual functions of the first NIC, with MACs of ours; their names.

    The driver reads the MAC when it is bound, so that it is given before.
    """
    device = f"/sys/class/net/{bench.nic(0)}/device"
    macs = [f"52:54:00:1a:f0:{at:02x}" for at in range(count)]
    give = "; ".join(f"ip link set {bench.nic(0)} vf {at} mac {mac}" for at, mac in enumerate(macs))
    bench.guest.run(
        f"set -e; modprobe igbvf; cd {device}; echo 0 > sriov_drivers_autoprobe; echo {count} > sriov_numvfs; {give};"
        " echo 1 > sriov_drivers_autoprobe;"
        " for vf in virtfn*; do basename $(readlink $vf) > /sys/bus/pci/drivers/igbvf/bind; done; udevadm settle"
    )
    names = bench.guest.run(f"for vf in {device}/virtfn*; do ls $vf/net; done").split()
    assert [bench.guest.read(f"/sys/class/net/{name}/address").strip() for name in names] == macs
    return names


def test_virtual_functions_carry_traffic(wired: Bench) -> None:
    names = make_vfs(wired, 2)
    for at, name in enumerate(names):
        connect(wired, name, f"10.77.{100 + at}")
        assert iperf(wired, f"10.77.{100 + at}.2", "16M")["sum_received"]["bytes"] > 8 * MIB
        (known,) = json.loads(wired.lab.wires.ip(f"-j neigh show 10.77.{100 + at}.2"))
        assert known["lladdr"] == f"52:54:00:1a:f0:{at:02x}", "it is the function that answers, not its NIC"
    assert answers(wired, "10.77.0.2", 5) == 5, "the NIC itself still carries traffic"
    # from one function to the other, inside the NIC
    one, other = names
    wired.guest.run(
        f"ip netns add vf; ip link set {other} netns vf; ip -n vf addr add 10.77.100.3/24 dev {other};"
        f" ip -n vf link set {other} up"
    )
    wait_for(lambda: wired.guest.attempt(f"ping -c 1 -W 2 -I {one} 10.77.100.3").returncode == 0, "the other function")
    # a VLAN of its own takes it off the wire
    wired.guest.run(f"ip link set {wired.nic(0)} vf 0 vlan 77")
    wait_for(lambda: not answers(wired, "10.77.100.2", 2), "the function is in another VLAN")


def facts_of(said: dict[str, Any], ifname: str) -> dict[str, dict[str, Any]]:
    """What `rackhand-agent once` has of an interface, by kind."""
    (key,) = {fact["key"] for fact in said["facts"] if fact["kind"] == "nic" and fact["ifname"] == ifname}
    return {fact["kind"]: fact for fact in said["facts"] if fact.get("key") == key}


def once(bench: Bench) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(bench.guest.run("/opt/rackhand/bin/rackhand-agent once -o json"))
    return said


def test_the_agent_reads_virtual_functions(wired: Bench) -> None:
    names = make_vfs(wired, 2)
    said = once(wired)
    physical = facts_of(said, wired.nic(0))["nic"]
    assert (physical["sriov_total"], physical["sriov_vfs"]) == (7, 2)
    for name in names:
        found = facts_of(said, name)["nic"]
        assert found["driver"] == "igbvf"
        assert found["pf"] == physical["address"]
        assert found["numa_node"] == physical["numa_node"] == wired.vm.server.machine.nics[0].node


def test_a_simulated_nic_takes_what_the_hardware_does_not_and_the_agent_reads_it(server: Bench) -> None:
    folder = "/sys/bus/netdevsim"
    server.guest.run(f"modprobe netdevsim; echo '7 2' > {folder}/new_device; udevadm settle")
    names = server.guest.run(f"ls {folder}/devices/netdevsim7/net").split()
    assert len(names) == 2
    assert "netdevsim/netdevsim7" in server.guest.run("devlink dev").split()
    first, second = names
    for words in (
        f"-G {first} rx 512 tx 256",
        f"-C {first} rx-usecs 33 tx-frames 5",
        f"-A {first} rx on tx off",
        f"--set-fec {first} encoding rs",
    ):
        server.guest.run(f"ethtool {words}")
    said = once(server)
    settings = facts_of(said, first)["ethtool"]
    assert (settings["rings"]["rx"], settings["rings"]["tx"]) == (512, 256)
    assert (settings["coalesce"]["rx_usecs"], settings["coalesce"]["tx_max_frames"]) == (33, 5)
    assert (settings["pause"]["rx"], settings["pause"]["tx"]) == (True, False)
    assert settings["fec_active"].lower() == "rs"
    assert facts_of(said, second)["ethtool"]["rings"]["rx"] != 512
    assert facts_of(said, first)["nic"]["driver"] == "netdevsim"

    # what the simulated hardware refuses is missing, and nothing else
    control = server.guest.run("ls -d /sys/kernel/debug/netdevsim/netdevsim7/ports/*/ethtool").split()[0]
    server.guest.write(f"{control}/get_err", "5")
    assert server.guest.attempt(f"ethtool --show-fec {first}").returncode != 0
    refused = once(server)
    assert facts_of(refused, first)["ethtool"] == without(facts_of(said, first)["ethtool"], "fec", "fec_active")
    assert facts_of(refused, second)["ethtool"] == facts_of(said, second)["ethtool"]
    server.guest.run(f"echo 7 > {folder}/del_device")
    assert not any(fact.get("ifname") in names for fact in once(server)["facts"])


def without(fact: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fact.items() if name not in names}
