"""Disciplines, kernel settings, link and timestamping on real drivers: igb, virtio, netdevsim."""

import json
from typing import Any

import pytest

from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
AGENT = "RACKHAND_OBSERVE=false /opt/rackhand/bin/rackhand-agent"
FACTS = """
import json
import msgspec
from collectors.run import collect_facts
from machine.live import Live
facts = collect_facts(Live(), ("nic", "ethtool", "qdisc", "sysctl", "clock"))
print(json.dumps([json.loads(msgspec.json.encode(one)) for one in facts]))
"""
# SIOCGHWTSTAMP as it stands in the header: flags, tx_type, rx_filter
STAMPS = """
import array, fcntl, socket, struct, sys
config = array.array("i", [0, 0, 0])
request = struct.pack("16sP16x", b"%s", config.buffer_info()[0])
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x89B1, request)
print(*config)
"""


def facts(bench: Bench) -> list[dict[str, Any]]:
    """All that these knobs touch; what an interface does by itself is left out."""
    kinds = ("nic", "ethtool", "qdisc", "sysctl", "timestamping")
    found: list[dict[str, Any]] = [one for one in json.loads(bench.python(FACTS)) if one["kind"] in kinds]
    for fact in found:
        for name in ("carrier", "operstate", "speed_mbps", "duplex"):
            fact.pop(name, None)
    return sorted(found, key=lambda fact: (fact["kind"], fact.get("key", "")))


def apply(bench: Bench, ifname: str, knobs: str) -> str:
    """What the agent says when it applies a policy with these knobs."""
    bench.guest.write("/root/policy.yaml", f'name: test\nnics: ["ifname={ifname}"]\nknobs:\n{knobs}')
    said = bench.guest.run(f"{AGENT} apply /root/policy.yaml --yes 2>&1; echo code $?", timeout_s=300)
    bench.guest.run("rm /root/policy.yaml")
    print(said)
    return said


def rollback(bench: Bench) -> None:
    bench.guest.run(f"{AGENT} rollback --yes", timeout_s=300)


def tc(bench: Bench, ifname: str) -> str:
    return bench.guest.run(f"tc qdisc show dev {ifname}")


IGB = """
  qdisc: {discipline: fq, limit: 5000, flow_limit: 50, txqueuelen: 2000, bql_max: 100000}
  link: {pause_autoneg: false, pause_rx: false, pause_tx: false, mtu: 2000, mtu_force: true}
  timestamping: {tx: on, rx: ptpv2-l4-event}
  sysctl_net:
    net.core.somaxconn: "=> 5000"
    net.core.netdev_budget: 600
    net.ipv4.tcp_notsent_lowat: 131072
    net.ipv4.tcp_rmem: => 8192 8192 99000000
"""


def test_igb_with_all_of_them(server: Bench) -> None:
    name, guest = server.nic(0), server.guest
    guest.run(f"ip link set {name} up; ip link add link {name} name over type vlan id 7; ip link set over up")
    wait_for(lambda: guest.read(f"/sys/class/net/{name}/carrier").strip() == "1", "the link")
    before, tree = facts(server), tc(server, name)
    print(guest.run(f"ethtool --show-eee {name} 2>&1; ethtool -a {name}; ethtool -T {name}; ethtool {name}; true"))

    said = apply(server, name, IGB)
    assert "code 0" in said, said
    shown = tc(server, name)
    assert shown.count("qdisc fq ") == 4, shown
    assert shown.count("limit 5000p flow_limit 50p") == 4
    assert guest.read(f"/sys/class/net/{name}/tx_queue_len").strip() == "2000"
    assert guest.read(f"/sys/class/net/{name}/queues/tx-3/byte_queue_limits/limit_max").strip() == "100000"
    pause = guest.run(f"ethtool -a {name}").split()
    assert pause[pause.index("RX:") + 1] == pause[pause.index("TX:") + 1] == "off"
    assert [json.loads(guest.run(f"ip -j link show {one}"))[0]["mtu"] for one in (name, "over")] == [2000, 2000]
    assert server.python(STAMPS % name).split() == ["0", "1", "12"], "the driver stamps all of PTP v2"
    assert guest.run("sysctl -n net.core.somaxconn net.core.netdev_budget").split() == ["5000", "600"]
    assert guest.run("sysctl -n net.ipv4.tcp_rmem").split() == ["8192", "131072", "99000000"]
    again = apply(server, name, IGB)
    assert "code 0" in again, again

    rollback(server)
    wait_for(lambda: guest.read(f"/sys/class/net/{name}/carrier").strip() == "1", "the link")
    assert tc(server, name) == tree
    assert facts(server) == before


@pytest.mark.soak
def test_what_others_built_or_steer_is_left_alone(server: Bench) -> None:
    name, other, guest = server.nic(0), server.nic(1), server.guest
    guest.run(f"ip link set {name} up; ip link set {other} up")
    guest.run(
        f"tc qdisc add dev {other} root handle 1: htb default 1; tc class add dev {other} parent 1: classid 1:1 htb"
        f" rate 1gbit; tc qdisc add dev {name} clsact; tc filter add dev {name} egress matchall action ok"
    )
    (clock,) = [one["phc"] for one in facts(server) if one["kind"] == "timestamping" and one["ifname"] == name]
    guest.run(f"cp /usr/bin/sleep /tmp/ptp4l; setsid /tmp/ptp4l 600 3</dev/ptp{clock} >/dev/null 2>&1 &")
    guest.write("/etc/sysctl.d/90-web.conf", "net.core.somaxconn = 4096\n")
    tree = tc(server, name) + tc(server, other)
    wanted = "  qdisc: {discipline: fq}\n  timestamping: {rx: ptpv2-event}\n"
    yields = "  sysctl_net: {net.core.somaxconn: 9000, mode: yield}\n"
    said = apply(server, name, wanted + yields)
    assert "filter matchall at clsact egress was built by somebody else" in said
    assert f"ptp4l steers its clock ptp{clock}" in said
    assert "/etc/sysctl.d/90-web.conf sets it to 4096" in said
    assert "htb 1: was built by somebody else" in apply(server, other, wanted)
    assert tc(server, name) + tc(server, other) == tree

    guest.run(
        f"tc qdisc del dev {other} root; tc qdisc add dev {other} root handle 2: mqprio num_tc 2"
        " map 0 0 0 0 1 1 1 1 0 0 0 0 0 0 0 0 queues 2@0 2@2 hw 0"
    )
    apply(server, other, "  qdisc: {discipline: fq_codel, target_us: 3000}\n")
    shown = tc(server, other)
    assert "mqprio 2: root" in shown
    assert shown.count("target 3ms") == 4, shown
    rollback(server)
    assert tc(server, other).count("target 5ms") == 4
    assert "slower than" in apply(server, name, "  link: {speed: 100}\n")
    assert "only with why" in apply(server, name, "  link: {eee: true}\n")


@pytest.mark.soak
def test_fec_and_pause_of_netdevsim_and_speed_of_virtio(server: Bench) -> None:
    guest, folder, virtio = server.guest, "/sys/bus/netdevsim", server.nic(2)
    guest.run(f"modprobe netdevsim; echo '7 1' > {folder}/new_device; udevadm settle")
    (name,) = guest.run(f"ls {folder}/devices/netdevsim7/net").split()
    guest.run(f"ip link set {name} up; ethtool --set-fec {name} encoding off; ip link set {virtio} up")
    guest.run(f"ethtool -s {virtio} speed 1000 duplex full")
    before = facts(server)
    said = apply(server, name, "  link: {fec: rs, pause_rx: true, pause_tx: true}\n")
    assert "code 0" in said
    fec, pause = guest.run(f"ethtool --show-fec {name}"), guest.run(f"ethtool -a {name}").split()
    assert "Configured FEC encodings: RS" in fec, fec
    assert pause[pause.index("RX:") + 1] == pause[pause.index("TX:") + 1] == "on"
    rollback(server)
    assert "code 0" in apply(server, name, "  link: {fec: auto}\n")
    assert "Auto" in guest.run(f"ethtool --show-fec {name}")
    rollback(server)

    assert "code 0" in apply(server, virtio, "  link: {speed: 10000, autoneg: false}\n")
    assert "Speed: 10000Mb/s" in guest.run(f"ethtool {virtio}")
    rollback(server)
    assert "Speed: 1000Mb/s" in guest.run(f"ethtool {virtio}")
    assert "code 0" in apply(server, virtio, "  link: {speed: 100, why: the far end is slow}\n")
    assert "Speed: 100Mb/s" in guest.run(f"ethtool {virtio}")
    rollback(server)
    assert facts(server) == before
