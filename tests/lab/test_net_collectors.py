"""Bonds, bridges, VLANs, virtual functions and diagnostics on real drivers, against what the machine's tools say."""

import json
import re
import time
from typing import Any

import pytest

from hardware_lab import cage, faults
from hardware_lab.eeprom import Optic, build
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]
AGENT = "/opt/rackhand/bin/rackhand-agent"
COLLECT = """
import msgspec
from collectors.registry import by_name
from machine.live import Live
print(msgspec.json.encode(list(by_name(%r).collect(Live()))).decode())
"""
# Two LACP bonds back to back, by pairs of veth; the partner is in a namespace of its own.
PARTNERS = """
set -e
ip netns add partner
for at in 0 1; do ip link add va$at type veth peer name vb$at netns partner; done
ip link add bond9 type bond mode 802.3ad miimon 100 lacp_rate fast xmit_hash_policy layer3+4
ip -n partner link add bond8 type bond mode 802.3ad miimon 100 lacp_rate fast
for at in 0 1; do
  ip link set va$at down; ip link set va$at master bond9
  ip -n partner link set vb$at down; ip -n partner link set vb$at master bond8
done
ip link set bond9 up; ip -n partner link set bond8 up
"""
# Two looks in one process, with what a test does between them.
LOOK = """
import msgspec, subprocess, sys, time
from collectors import bond
from machine.live import Live
from wire.report import Event
machine = Live()
list(bond.collect(machine))
subprocess.run(["sh", "-ec", %r], check=True)
events = []
until = time.monotonic() + 120
while not any(event.kind == %r for event in events) and time.monotonic() < until:
    events += [item for item in bond.collect(machine) if isinstance(item, Event)]
    time.sleep(0.2)
print(msgspec.json.encode(events).decode())
"""


def collected(bench: Bench, name: str) -> list[Any]:
    found: list[Any] = json.loads(bench.python(COLLECT % name))
    return found


def facts(bench: Bench, name: str, kind: str) -> dict[str, dict[str, Any]]:
    """The facts of a kind by interface."""
    items = [item for item in collected(bench, name) if isinstance(item, dict) and item["kind"] == kind]
    return {item["ifname"]: item for item in items}


def samples(bench: Bench, name: str) -> dict[tuple[str, str], float]:
    return {(item[0], item[1]): item[2] for item in collected(bench, name) if isinstance(item, list)}


def looked(bench: Bench, script: str, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(bench.python(LOOK % (script, kind), timeout_s=300))
    return found


def links(bench: Bench) -> dict[str, dict[str, Any]]:
    """What `ip` says, by name."""
    return {link["ifname"]: link for link in json.loads(bench.guest.run("ip -d -j link"))}


def test_two_ends_of_a_lacp_bond(server: Bench) -> None:
    server.guest.run(PARTNERS)
    mac = json.loads(server.guest.run("ip -n partner -j link show bond8"))[0]["address"]
    wait_for(lambda: facts(server, "bond", "bond")["bond9"].get("partner_mac") == mac, "the partner answers")
    bits = ["activity", "timeout", "aggregation", "synchronization", "collecting", "distributing"]
    wait_for(
        lambda: all(one["partner"]["state"] == bits for one in facts(server, "bond", "bond")["bond9"]["ports"]),
        "both ports are in",
    )
    found, said = facts(server, "bond", "bond")["bond9"], links(server)["bond9"]["linkinfo"]["info_data"]
    for ours, name in (("mode", "mode"), ("miimon_ms", "miimon"), ("xmit_hash", "xmit_hash_policy")):
        assert found[ours] == said[name]
    assert (found["lacp_rate"], found["ad_select"]) == (said["ad_lacp_rate"], said["ad_select"])
    info = said["ad_info"]
    assert [found[name] for name in ("aggregator", "aggregator_ports", "actor_key", "partner_key")] == [
        info["aggregator"],
        info["num_ports"],
        info["actor_key"],
        info["partner_key"],
    ]
    for port in found["ports"]:
        slave = links(server)[port["ifname"]]["linkinfo"]["info_slave_data"]
        assert (port["state"], port["link"]) == (slave["state"].lower(), slave["mii_status"].lower())
        assert port["aggregator"] == slave["ad_aggregator_id"]
        assert port["partner"]["system"] == mac
        assert port["actor"]["state"] == bits
        assert port["actor"]["system"] == links(server)["bond9"]["address"]
    assert samples(server, "bond")["bond.ports_up", "bond9"] == 2

    (down,) = looked(server, "ip -n partner link set vb1 down", "bond.port_down")
    assert (down["kind"], down["text"]) == ("bond.port_down", "bond9: va1 is down, 1 of 2 ports up")
    end = "ip -n partner link set bond8 down; ip -n partner link set vb0 nomaster; ip -n partner link set vb0 up"
    lost = looked(server, end, "bond.partner_lost")
    assert mac in next(one["text"] for one in lost if one["kind"] == "bond.partner_lost")
    wait_for(
        lambda: facts(server, "bond", "bond")["bond9"]["ports"][0]["link"] == "up", "the other end is a plain port"
    )
    assert samples(server, "bond")["bond.link_failures", "va1"] == 1
    once = json.loads(server.guest.run(f"{AGENT} once -o json", timeout_s=600))
    rules = {one["rule"] for one in once["findings"] if one["key"] == "bond9"}
    assert {"lacp_partner_missing", "bond_degraded"} <= rules


def bonds(bench: Bench) -> list[dict[str, Any]]:
    """Those that the inventory has."""
    return [one for one in bench.facts() if one["kind"] == "bond"]


def open_rules(bench: Bench) -> set[str]:
    """What is found to be wrong with bond0."""
    return {one["rule"] for one in bench.lab.ask("findings") or [] if one["key"] == "bond0"}


def test_a_real_port_fails_and_the_inventory_knows(loop: Bench) -> None:
    ports = [loop.nic(at) for at in range(2)]
    loop.guest.run(
        "ip link add bond0 type bond mode active-backup miimon 100;"
        + "".join(f"ip link set {port} down; ip link set {port} master bond0;" for port in ports)
        + f"ip link set bond0 up; echo {ports[0]} > /sys/class/net/bond0/bonding/active_slave"
    )
    wait_for(lambda: [one.get("active") for one in bonds(loop)] == [ports[0]], "the bond in the inventory")
    (found,) = bonds(loop)
    assert [(one["ifname"], one["key"], one["link"]) for one in found["ports"]] == [
        (ports[at], loop.vm.server.mac(at), "up") for at in range(2)
    ]
    faults.pull_cable(loop.lab, loop.vm, 0)
    wait_for(lambda: "bond.port_down" in loop.events(), "told: the port is down")
    wait_for(lambda: "bond.failover" in loop.events(), "told: the other one took over")
    wait_for(lambda: [one["active"] for one in bonds(loop)] == [ports[1]], "the fact follows")
    wait_for(lambda: "bond_degraded" in open_rules(loop), "found: one port is left")
    faults.put_cable(loop.lab, loop.vm, 0)
    wait_for(lambda: "bond.port_up" in loop.events(), "told: it is up again")
    wait_for(lambda: "bond_degraded" not in open_rules(loop), "the finding is closed")


def test_bridges_vlans_and_teams_are_as_ip_says(server: Bench) -> None:
    server.guest.run(
        """set -e
        ip link add br7 type bridge stp_state 1 vlan_filtering 1 vlan_protocol 802.1ad ageing_time 6000
        ip link add d0 type dummy; ip link add d1 type dummy
        ip link set d0 master br7; ip link set d1 master br7; ip link set d1 type bridge_slave isolated on cost 77
        ip link add link d0 name d0.5 type vlan id 5
        ip link add link d0 name d0.6 type vlan protocol 802.1ad id 6 gvrp on loose_binding on reorder_hdr off
        for name in br7 d0 d1 d0.5 d0.6; do ip link set $name up; done"""
    )
    said, bridge = links(server), facts(server, "bond", "bridge")["br7"]
    info = said["br7"]["linkinfo"]["info_data"]
    assert (bridge["stp"], bridge["vlan_filtering"]) == ("kernel", bool(info["vlan_filtering"]))
    assert (bridge["vlan_protocol"], bridge["ageing_s"]) == (info["vlan_protocol"], 60.0)
    assert [(one["ifname"], one["cost"], one.get("isolated", False)) for one in bridge["ports"]] == [
        (name, said[name]["linkinfo"]["info_slave_data"]["cost"], name == "d1") for name in ("d0", "d1")
    ]
    vlans = facts(server, "bond", "vlan")
    assert [(one["vlan_id"], one["protocol"], one["parent"]) for one in vlans.values()] == [
        (5, "802.1Q", "d0"),
        (6, "802.1ad", "d0"),
    ]
    for name, one in vlans.items():
        flags = said[name]["linkinfo"]["info_data"]["flags"]
        words = {"REORDER_HDR": "reorder_hdr", "GVRP": "gvrp", "LOOSE_BINDING": "loose_binding"}
        assert {word for word in words.values() if one.get(word)} == {words[flag] for flag in flags}

    server.guest.run("modprobe -a team team_mode_activebackup; ip link add t0 type team; ip link add d2 type dummy")
    server.guest.run("ip link set d2 down; ip link set d2 master t0; ip link set d2 up; ip link set t0 up")
    team = facts(server, "bond", "bond")["t0"]
    assert (team["driver"], [one["ifname"] for one in team["ports"]]) == ("team", ["d2"])
    assert team["ports"][0]["link"] == "up"


def test_virtual_functions_as_their_physical_one_keeps_them(server: Bench) -> None:
    guest, ifname = server.guest, server.nic(0)
    guest.run(f"ip link set {ifname} up; echo 2 > /sys/class/net/{ifname}/device/sriov_numvfs; udevadm settle")
    guest.run(f"ip link set {ifname} vf 0 mac 02:00:5e:00:00:07 vlan 100 qos 3")
    guest.run(f"ip link set {ifname} vf 1 spoofchk off; ip link set {ifname} vf 1 max_tx_rate 50")
    guest.run(f"ip link set {ifname} vf 1 trust on")
    place = [guest.run(f"basename $(readlink -f /sys/class/net/{ifname}/device/virtfn{at})").strip() for at in (0, 1)]
    guest.run(f"modprobe pci-stub; echo pci-stub > /sys/bus/pci/devices/{place[1]}/driver_override")
    guest.run(
        f"if [ -e /sys/bus/pci/devices/{place[1]}/driver ];"
        f" then echo {place[1]} > /sys/bus/pci/devices/{place[1]}/driver/unbind; fi;"
        f" echo {place[1]} > /sys/bus/pci/drivers_probe"
    )
    wait_for(lambda: facts(server, "virt", "virt")[ifname]["vfs"][0].get("ifname"), "the first function's interface")
    found = facts(server, "virt", "virt")[ifname]
    assert (found["key"], found["vfs_total"], found["autoprobe"]) == (server.vm.server.mac(0), 7, True)
    said = {one["vf"]: one for one in links(server)[ifname]["vfinfo_list"]}
    for one in found["vfs"]:
        theirs = said[one["index"]]
        assert one.get("mac", "00:00:00:00:00:00") == theirs["address"]
        assert (one["spoofchk"], one["trust"]) == (theirs["spoofchk"], theirs["trust"])
        assert one.get("max_tx_mbps", 0) == theirs["rate"]["max_tx"]
    assert (found["vfs"][0]["vlan_id"], found["vfs"][0]["vlan_qos"], found["vfs"][0]["owner"]) == (100, 3, "host")
    assert [one["address"] for one in found["vfs"]] == place
    assert (found["vfs"][1]["driver"], found["vfs"][1]["owner"]) == ("pci-stub", "reserved")


def diagnosed(bench: Bench, *words: str) -> tuple[int, str]:
    """Exit code and what `rackhand-agent diagnose` said."""
    done = bench.guest.attempt(f"{AGENT} diagnose {' '.join(words)} 2>&1", timeout_s=300)
    return done.returncode, done.stdout.decode().strip()


@pytest.mark.soak
def test_a_nic_blinks_and_tests_itself(server: Bench) -> None:
    ifname = server.nic(0)
    server.guest.run(f"ip link set {ifname} up")
    begun = time.monotonic()
    code, text = diagnosed(server, ifname, "identify", "--seconds", "2")
    assert (code, text) == (0, f"{ifname}: the LED blinked for 2 s")
    assert time.monotonic() - begun >= 2
    wait_for(lambda: server.guest.read(f"/sys/class/net/{ifname}/carrier").strip() == "1", "a carrier")
    code, text = diagnosed(server, ifname, "self-test")
    theirs = server.guest.attempt(f"ethtool -t {ifname} online").stdout.decode()
    assert text.splitlines()[0] == f"{ifname}: online self-test {'passed' if 'PASS' in theirs else 'FAILED'}"
    names = re.findall(r"^(\w.*?)\s+(\d+)$", theirs, re.MULTILINE)
    assert [line.rpartition(": ")[0] for line in text.splitlines()[1:]] == [" ".join(name.split()) for name, _ in names]
    for words in (["cable-test"], ["self-test", "--offline"]):
        code, text = diagnosed(server, ifname, *words, "--yes", "--observe")
        assert (code, text) == (1, "rackhand-agent: refused: the agent observes, and this disturbs traffic")
    assert diagnosed(server, "mgmt0", "cable-test", "--yes", "--no-observe") == (
        1,
        "rackhand-agent: refused: mgmt0 carries the default route",
    )
    code, text = diagnosed(server, ifname, "cable-test", "--yes", "--no-observe")
    assert (code, "Operation not supported" in text) == (1, True), "no PHY driver with a cable test is here"
    code, text = diagnosed(server, ifname, "self-test", "--offline", "--yes", "--no-observe")
    first = text.splitlines()[-1 if code else 0].removeprefix("rackhand-agent: ")
    assert first == f"{ifname}: offline self-test {'FAILED' if code else 'passed'}"


def test_the_memory_of_a_module(server: Bench) -> None:
    ifname, module = server.nic(0), build(Optic())
    cage.attach(server.guest, ifname)
    cage.insert(server.guest, ifname, module)
    space = b"".join([*(module.a0[at] for at in sorted(module.a0)), *(module.a2[at] for at in sorted(module.a2))])
    code, text = diagnosed(server, ifname, "module")
    first, *blocks = text.splitlines()
    assert (code, first) == (0, f"{ifname}: module, {len(space)} bytes")
    assert bytes.fromhex("".join(block.rpartition(" ")[2] for block in blocks)) == space
    cage.pull(server.guest, ifname)
    assert diagnosed(server, ifname, "module")[0] == 1


def test_a_question_of_the_inventory_is_answered(loop: Bench) -> None:
    ifname = loop.nic(0)
    told = loop.lab.ask("diagnose", loop.vm.server.name, ifname, "identify", "--seconds", "1")
    assert (told[0]["ok"], told[0]["text"]) == (True, f"{ifname}: the LED blinked for 1 s")


@pytest.mark.soak
def test_a_port_of_soft_roce(server: Bench) -> None:
    guest, ifname = server.guest, server.nic(0)
    guest.run(f"modprobe rdma_rxe; ip link set {ifname} up; ip addr add 192.0.2.1/24 dev {ifname}")
    guest.run(f"rdma link add rxe0 type rxe netdev {ifname}; udevadm settle")
    wait_for(lambda: guest.read("/sys/class/infiniband/rxe0/ports/1/state").startswith("4:"), "the port is active")
    items = collected(server, "rdma")
    (found,) = [item for item in items if isinstance(item, dict)]
    assert (found["key"], found["link_layer"], found["state"]) == ("rxe0/1", "Ethernet", "active")
    assert (found["ifnames"], found["nics"]) == ([ifname], [server.vm.server.mac(0)])
    assert {"gid": "::ffff:192.0.2.1", "type": "RoCE v2"}.items() <= found["gids"][-1].items()
    said = guest.run("rdma link show rxe0/1").split()
    words = dict(zip(said[2::2], said[3::2], strict=False))
    assert found["state"] == words["state"].lower()
    assert found["phys_state"] == words["physical_state"].replace("_", "").lower()
    assert words["netdev"] == ifname
    counters = {item[0] for item in items if isinstance(item, list) and item[1] == "rxe0/1"}
    assert {"rdma.driver_rx_packets", "rdma.driver_tx_packets", "rdma.duplicate_requests"} <= counters
