"""Bonds, VLANs, bridges, MACVLANs and virtual functions on real drivers: as `ip` says, and on the management path."""

import json
from typing import Any

import pytest

from hardware_lab import faults
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.soak]
ADDRESS = "192.0.2.7"  # behind whatever route a test lays
# bond0 of both igb; on it a VLAN, and a bridge over another; a bridge port and a MACVLAN of other kinds beside them
STACK = """
set -e
ip link add bond0 type bond mode {mode} miimon 100
for port in {ports}; do ip link set $port down; ip link set $port master bond0; done
ip link set bond0 up
ip link add link bond0 name bond0.100 type vlan id 100
ip link add link bond0 name bond0.200 type vlan id 200
ip link add br0 type bridge
ip link add dummy0 type dummy
ip link add link {other} name mv0 type macvlan mode bridge
ip link set bond0.200 master br0
ip link set dummy0 master br0
for name in bond0.100 bond0.200 br0 dummy0 {other} mv0; do ip link set $name up; done
"""
GUARD = """
import json
from agent import guard
from collectors.run import collect_facts
from machine.live import Live
machine = Live()
nics = {fact.key: fact for fact in collect_facts(machine, ["nic"])}
found = guard.management(machine, nics, %r)
print(json.dumps({nics[key].ifname: why for key, why in found.items()}))
"""
FACTS = """
import msgspec
from collectors.run import collect_facts
from machine.live import Live
print(msgspec.json.encode(collect_facts(Live(), %r)).decode())
"""
PLAN = """
import msgspec
from collectors.run import collect_facts
from machine.live import Live
from tuners import planner
from tuners.hostfacts import HostFacts
from wire.policy import Setting
facts = HostFacts(collect_facts(Live()))
settings = msgspec.convert(%r, list[Setting])
print(msgspec.json.encode(planner.plan(settings, facts)).decode())
"""
FINGERPRINT = "from agent import identity; from machine.live import Live; print(identity.read_fingerprint(Live()))"
NAPIS = """
from machine import MachineError, netdev, rtnl
from machine.live import Live
machine = Live()
for link in rtnl.read_links(machine):
    napis, queues = netdev.read_napis(machine, link.ifindex), netdev.read_queues(machine, link.ifindex)
    linked = sum(napi.irq is not None for napi in napis), sum(queue.napi_id is not None for queue in queues)
    print(link.ifname, len(napis), "NAPIs", linked[0], "with an IRQ;", len(queues), "queues", linked[1], "with a NAPI")
"""
ONE_QUEUE = """
name: shrink
nics: ["ifname in {names}"]
knobs:
  channels: {{combined: 1{more}}}
confirm_within_s: 120
"""


def data_nics(bench: Bench) -> list[str]:
    """Their names; in a bond they have its MAC, so they are asked for before it is built."""
    return [bench.nic(at) for at in range(3)]


def build(bench: Bench, mode: str, names: list[str]) -> None:
    bench.guest.run(STACK.format(mode=mode, ports=" ".join(names[:2]), other=names[2]))


def links(bench: Bench) -> dict[str, dict[str, Any]]:
    """What `ip` says, by name."""
    return {link["ifname"]: link for link in json.loads(bench.guest.run("ip -d -j link"))}


def nics(bench: Bench) -> dict[str, dict[str, Any]]:
    """What the inventory says, by name."""
    return {fact["ifname"]: fact for fact in bench.facts() if fact["kind"] == "nic"}


def expected(link: dict[str, Any], all_links: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Fields of the fact as `ip` has them."""
    info = link.get("linkinfo", {})
    data = info.get("info_data", {})
    kind = "loopback" if link["link_type"] == "loopback" else info.get("info_kind", "")
    lower = [name for name, other in all_links.items() if other.get("master") == link["ifname"]]
    return {
        "type": "physical" if "parentbus" in link else kind,
        "mac": link["address"],
        "perm_mac": link.get("permaddr", link["address"] if "parentbus" in link else ""),
        "mtu": link["mtu"],
        "operstate": link["operstate"].lower(),
        "master": link.get("master", ""),
        "lower": sorted([*lower, link["link"]] if "link" in link else lower),
        "vlan_id": data.get("id") if kind == "vlan" else None,
        "bond_mode": data.get("mode", "") if kind == "bond" else "",
    }


def differences(bench: Bench) -> dict[str, Any]:
    """Fields that the inventory has otherwise than `ip`, by interface."""
    found, said = nics(bench), links(bench)
    differ: dict[str, Any] = dict.fromkeys(found.keys() ^ said.keys(), "only one has it")
    for name in found.keys() & said.keys():
        wanted = expected(said[name], said)
        fact = {**dict.fromkeys(wanted, ""), "lower": [], "vlan_id": None, **found[name]}
        fact["lower"] = sorted(fact["lower"])
        if wrong := {field: (fact[field], value) for field, value in wanted.items() if fact[field] != value}:
            differ[name] = wrong
    return differ


def wait_same(bench: Bench) -> None:
    wait_for(lambda: not differences(bench), "the inventory as `ip`")


def management(bench: Bench, *peers: str) -> dict[str, str]:
    """Names of the NICs on the management path, and why."""
    found: dict[str, str] = json.loads(bench.python(GUARD % (list(peers),)))
    return found


def facts_of(bench: Bench, *kinds: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(bench.python(FACTS % (list(kinds),)))
    return found


def plan(bench: Bench, *settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bench.python(PLAN % (list(settings),)))
    return found


def events(bench: Bench, kind: str) -> list[tuple[str, str]]:
    """(key, text) of the events of a kind."""
    told = bench.lab.ask("events", "-n", "1000") or []
    return [(event["key"], event["text"]) for event in told if event["kind"] == kind]


def test_the_inventory_has_bonds_and_what_stands_on_them(loop: Bench) -> None:
    names = data_nics(loop)
    build(loop, "active-backup", names)
    wait_same(loop)
    found, ports = nics(loop), names[:2]
    assert sorted(found["bond0"]["lower"]) == sorted(ports)
    assert (found["bond0"]["type"], found["bond0"]["bond_mode"]) == ("bond", "active-backup")
    assert (found["bond0.100"]["type"], found["bond0.100"]["vlan_id"]) == ("vlan", 100)
    assert sorted(found["br0"]["lower"]) == ["bond0.200", "dummy0"]
    assert (found["mv0"]["type"], found["mv0"]["lower"]) == ("macvlan", [names[2]])
    # both have the bond's MAC now, and are told apart by their own
    assert found[ports[0]]["mac"] == found[ports[1]]["mac"]
    assert [found[port]["key"] for port in ports] == [loop.vm.server.mac(0), loop.vm.server.mac(1)]

    loop.guest.run("ip link delete bond0; ip link delete br0; ip link delete dummy0; ip link delete mv0")
    build(loop, "802.3ad", names)
    wait_same(loop)
    assert nics(loop)["bond0"]["bond_mode"] == "802.3ad"
    assert ("bond0", "bond0 is gone") in events(loop, "link.removed")


def test_links_that_fall_and_names_that_change_are_told(loop: Bench) -> None:
    port, second, other = data_nics(loop)
    mac, key = loop.vm.server.mac(0), loop.vm.server.mac(2)
    build(loop, "active-backup", [port, second, other])
    wait_same(loop)
    wait_for(lambda: nics(loop)[port].get("carrier"), "the bond's port has a carrier")
    faults.pull_cable(loop.lab, loop.vm, 0)
    wait_for(lambda: (mac, f"{port} lost its carrier") in events(loop, "link.down"), "told: the port is down")
    wait_for(lambda: nics(loop)[port]["operstate"] == "down", "the fact follows")
    assert nics(loop)["bond0"]["carrier"], "the other port carries on"
    ups = len(events(loop, "link.up"))
    faults.put_cable(loop.lab, loop.vm, 0)
    wait_for(lambda: (mac, f"{port} is up") in events(loop, "link.up")[: -ups or None], "told: it is up again")
    wait_same(loop)

    loop.guest.run(f"ip link set {other} down; ip link set {other} name uplink; ip link set uplink up")
    wait_for(lambda: (key, f"{other} is now uplink") in events(loop, "link.renamed"), "told: renamed")
    wait_for(lambda: "uplink" in nics(loop), "the fact follows")
    assert nics(loop)["uplink"]["key"] == key
    assert other not in nics(loop)
    wait_same(loop)


def test_the_management_path_leads_to_the_ports(server: Bench) -> None:
    *ports, other = data_nics(server)
    build(server, "active-backup", [*ports, other])
    assert set(management(server)) == {"mgmt0"}

    server.guest.run("ip addr add 10.99.0.2/24 dev bond0.100; ip route add default via 10.99.0.1 metric 4000")
    found = management(server)
    assert set(found) == {"mgmt0", "bond0.100", "bond0", *ports}
    assert {found[port] for port in ports} == {"default route"}
    server.guest.run("ip route delete default metric 4000")
    assert set(management(server)) == {"mgmt0"}

    server.guest.run(f"ip addr add 10.98.0.2/24 dev br0; ip route add {ADDRESS} via 10.98.0.1")
    found = management(server, ADDRESS)
    assert set(found) == {"mgmt0", "br0", "dummy0", "bond0.200", "bond0", *ports}
    assert {found[port] for port in ports} == {f"route to {ADDRESS}"}

    server.guest.run(f"ip addr add 10.97.0.2/24 dev mv0; ip route replace {ADDRESS} via 10.97.0.1")
    assert set(management(server, ADDRESS)) == {"mgmt0", "mv0", other}


def test_a_bond_that_carries_the_default_route_keeps_its_ports(loop: Bench) -> None:
    port, second, other = data_nics(loop)
    build(loop, "802.3ad", [port, second, other])
    loop.guest.run("ip addr add 10.99.0.2/24 dev bond0.100; ip route add default via 10.99.0.1 metric 4000")
    before = combined(loop, port)
    loop.apply(ONE_QUEUE.format(names=f"{port},{other}", more=""))
    loop.wait_status("failed")
    outcomes = {one["nic"]: one for one in loop.outcomes()}
    refused = outcomes[loop.vm.server.mac(0)]
    assert (refused["status"], refused["reason"]) == (
        "refused",
        f"{port} carries the default route; needs allow: [link]",
    )
    assert outcomes[loop.vm.server.mac(2)]["status"] == "applied"
    assert (combined(loop, port), combined(loop, other)) == (before, 1)
    loop.apply(ONE_QUEUE.format(names=f"{port},{other}", more=", allow: [link]"))
    loop.wait_status("applied")
    assert combined(loop, port) == 1


def combined(bench: Bench, ifname: str) -> int:
    return int(bench.guest.run(f"ethtool -l {ifname} | awk '/Combined/{{n=$2}} END{{print n}}'"))


def irqs(bench: Bench, ifname: str) -> dict[str, Any]:
    """The collector's account of a NIC's interrupts, after a look that they are the kernel's own."""
    (found,) = [fact for fact in facts_of(bench, "irq") if fact["ifname"] == ifname]
    live = {line.split(":")[0].strip() for line in bench.guest.read("/proc/interrupts").splitlines()}
    assert {str(queue["irq"]) for queue in found["queues"]} <= live
    return found


def test_virtual_functions_rename_the_interrupts_and_leave_two_queues(server: Bench) -> None:
    ifname, key = server.nic(0), server.vm.server.mac(0)
    server.guest.run(f"ip link set {ifname} up")
    before = irqs(server, ifname)
    assert [queue.get("rx", queue.get("tx")) for queue in before["queues"][1:]] == [[0], [1], [2], [3]] * 2
    make_functions(server, ifname)

    after = irqs(server, ifname)
    assert (before["source"], after["source"]) == ("action-name", "action-name")
    assert [(queue["name"], queue.get("rx"), queue.get("tx")) for queue in after["queues"]] == [
        (ifname, None, None),
        (f"{ifname}-TxRx-0", [0], [0]),
        (f"{ifname}-rx-1", [1], None),
    ]
    assert [bool(queue.get("control")) for queue in after["queues"]] == [True, False, False]

    made = plan(
        server,
        {"knob": "channels", "nic": key, "values": {"combined": "auto"}},
        {"knob": "irq_affinity", "nic": key, "values": {"placement": "local"}},
        {"knob": "xps", "nic": key, "values": {"mode": "auto"}},
    )
    places = {change["target"]: change["op"]["after"] for change in made["changes"]}
    numbers = [queue["irq"] for queue in after["queues"]]
    assert places == {
        f"irq {numbers[1]} ({ifname} rx-0 tx-0)": "2",
        f"irq {numbers[2]} ({ifname} rx-1)": "3",
    }
    assert [skip["knob"] for skip in made["skips"]] == ["xps"]
    refused = plan(server, {"knob": "channels", "nic": key, "values": {"combined": 4}})
    assert refused["changes"] == []
    assert refused["skips"][0]["reason"] == "combined=4 is more than the 2 this driver offers"


def make_functions(bench: Bench, ifname: str) -> list[str]:
    """Two virtual functions of a NIC; their names."""
    bench.guest.run(f"echo 2 > /sys/class/net/{ifname}/device/sriov_numvfs; udevadm settle")
    found = f"cd /sys/class/net/{ifname}/device; ls -d virtfn0/net/* virtfn1/net/* 2>/dev/null || true"
    wait_for(lambda: bench.guest.run(found).split(), "the virtual functions' NICs")
    bench.guest.run("udevadm settle")
    return [path.rpartition("/")[2] for path in bench.guest.run(found).split()]


def test_a_virtual_function_is_its_place_and_leads_to_its_physical_one(server: Bench) -> None:
    ifname = server.nic(0)
    server.guest.run(f"ip link set {ifname} up")
    first, second = make_functions(server, ifname)
    place = server.guest.run(f"basename $(readlink -f /sys/class/net/{first}/device)").strip()
    before = function(server, first)
    assert (before["key"], before["driver"]) == (place, "igbvf")
    assert before["pf"] == server.guest.run(f"basename $(readlink -f /sys/class/net/{ifname}/device)").strip()
    assert before["perm_mac"] not in server.python(FINGERPRINT)

    driver = "/sys/bus/pci/drivers/igbvf"
    server.guest.run(f"echo {place} > {driver}/unbind; echo {place} > {driver}/bind; udevadm settle")
    after = function(server, first)
    assert after["perm_mac"] != before["perm_mac"], "the driver made one up anew"
    assert after["key"] == place

    server.guest.run(f"ip link set {first} up; ip addr add 10.96.0.2/24 dev {first}")
    server.guest.run(f"ip route add {ADDRESS} via 10.96.0.1")
    found = management(server, ADDRESS)
    assert set(found) == {"mgmt0", first, ifname}
    assert found[ifname] == f"route to {ADDRESS}, through a virtual function"
    server.guest.run(f"ip route delete {ADDRESS}; ip addr add 10.95.0.2/24 dev {ifname}")
    server.guest.run(f"ip route add {ADDRESS} via 10.95.0.1")
    assert set(management(server, ADDRESS)) == {"mgmt0", ifname}, f"{second} stands on it, and not it on that"


def function(bench: Bench, ifname: str) -> dict[str, Any]:
    (found,) = [fact for fact in facts_of(bench, "nic") if fact["ifname"] == ifname]
    return found


def test_queues_are_known_by_the_names_of_interrupts(server: Bench) -> None:
    """Linux 6.12 links no NAPI to an IRQ for these drivers: netdev-genl has queues, and `irq` has to read names."""
    mac = server.vm.server.mac(9)
    with server.monitor() as monitor:
        monitor.run("device_add", driver="e1000e", id="third", bus="spare", mac=mac, romfile="")
    wait_for(lambda: named(server, mac), "the e1000e NIC")
    names = [server.nic(0), server.nic(2), named(server, mac)]
    server.guest.run(f"udevadm settle; for name in {' '.join(names)}; do ip link set $name up; done")
    print(server.python(NAPIS))
    found = {fact["ifname"]: fact for fact in facts_of(server, "irq")}
    assert {fact["source"] for fact in found.values()} == {"action-name"}
    assert found.keys() == {"mgmt0", *names}
    drivers = {fact["ifname"]: fact["driver"] for fact in facts_of(server, "nic") if fact["ifname"] in names}
    assert list(map(drivers.get, names)) == ["igb", "virtio_net", "e1000e"]
    queues = [(queue.get("rx"), queue.get("tx")) for queue in found[names[2]]["queues"] if not queue.get("control")]
    assert ([0], None) in queues
    assert (None, [0]) in queues


def named(bench: Bench, mac: str) -> str:
    return bench.guest.run(f"grep -lx {mac} /sys/class/net/*/address | cut -d/ -f5").strip()
