"""Virtual functions, drivers, switch modes and firmware in the lab: igb's own functions, netdevsim's switch, VFIO."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware_lab import install
from hardware_lab.lab import Lab
from hardware_lab.machine import Machine
from tests.lab.conftest import Bench

pytestmark = [pytest.mark.lab, pytest.mark.root]
AGENT = "RACKHAND_OBSERVE=false /opt/rackhand/bin/rackhand-agent"
LEDGER = "/run/rackhand/ledger.json"
FACTS = """
import json
import msgspec
from collectors.run import collect_facts
from machine.live import Live
wanted = ("virt", "ethtool", "queues")
facts = collect_facts(Live(), ("nic", *wanted))
print(json.dumps([json.loads(msgspec.json.encode(one)) for one in facts]))
"""


def facts(bench: Bench) -> list[dict[str, Any]]:
    """All that these knobs touch, as the collectors read it; what comes and goes with an interface is left out.

    So are the addresses of a function's interface: its driver makes some up each time it is bound.
    """
    found: list[dict[str, Any]] = json.loads(bench.python(FACTS))
    for fact in found:
        for name in ("ifindex", "firmware", "carrier", "operstate", "speed_mbps", "duplex"):
            fact.pop(name, None)
        for name in ("mac", "perm_mac") if fact.get("pf") else ():
            fact.pop(name, None)
    return found


def virt(bench: Bench, ifname: str) -> dict[str, Any]:
    return next(fact for fact in facts(bench) if fact["kind"] == "virt" and fact["ifname"] == ifname)


def apply(bench: Bench, ifname: str, knobs: str) -> str:
    """What the agent says when it applies a policy with these knobs."""
    nics = f'nics: ["ifname={ifname}"]\n' if ifname else ""
    policy = f"name: test\n{nics}knobs:\n{knobs}".encode()
    agent = f"{AGENT} apply /root/policy.yaml --yes 2>&1"
    return bench.guest.run(f"cat > /root/policy.yaml; {agent}; echo code $?", stdin=policy, timeout_s=300)


def rollback(bench: Bench) -> None:
    bench.guest.run(f"{AGENT} rollback --yes", timeout_s=300)


def shown(bench: Bench, ifname: str) -> list[dict[str, Any]]:
    """The functions as iproute2 shows them."""
    found: list[dict[str, Any]] = json.loads(bench.guest.run(f"ip -j link show {ifname}"))[0].get("vfinfo_list", [])
    return found


def test_functions_come_keep_their_settings_and_go(server: Bench) -> None:
    name, guest = server.nic(0), server.guest
    guest.run(f"ip link set {name} up")
    device = guest.run(f"readlink -f /sys/class/net/{name}/device").strip()
    before = facts(server)
    wanted = "0-1 vlan=100/3 trust=on spoofchk=off; 1 mac=02:00:00:00:00:21; 2 vlan=7/0/802.1ad"
    said = apply(server, name, f"  sriov: {{vfs: 3}}\n  vf: {{functions: '{wanted}'}}\n")
    assert "code 0" in said, said
    assert "vf 2" in said, "igb knows no 802.1ad, and the rest is made"
    assert guest.read(f"{device}/sriov_numvfs").strip() == "3"
    assert json.loads(guest.read(LEDGER))["pci/" + device.rpartition("/")[2]] == {"vfs": 3}
    check_settings(shown(server, name))
    with_three = facts(server)

    one = next(fact for fact in with_three if fact["kind"] == "virt" and fact["ifname"] == name)["vfs"][0]["ifname"]
    guest.run(f"ip link set {one} up")
    said = apply(server, name, "  sriov: {vfs: 2}\n")
    assert f"{one} is up" in said, said
    assert guest.read(f"{device}/sriov_numvfs").strip() == "3"
    guest.run(f"ip link set {one} down")
    said = apply(server, name, "  sriov: {vfs: 2}\n")
    assert "code 0" in said, said
    check_settings(shown(server, name))  # those that stay keep what they had

    rollback(server)
    assert different(with_three, facts(server)) == []
    rollback(server)
    assert different(before, facts(server)) == []
    assert guest.read(LEDGER).strip() == "{}"


def check_settings(vfs: list[dict[str, Any]]) -> None:
    """The first two functions have what the policy said of them, in iproute2's words."""
    assert [vf["vlan_list"][0] for vf in vfs[:2]] == [{"vlan": 100, "qos": 3}] * 2
    assert (vfs[1]["address"], vfs[1]["trust"], vfs[1]["spoofchk"]) == ("02:00:00:00:00:21", True, False)


@pytest.mark.soak
def test_what_somebody_else_made_stays(server: Bench) -> None:
    name, guest = server.nic(0), server.guest
    guest.write(f"/sys/class/net/{name}/device/sriov_numvfs", "3")
    said = apply(server, name, "  sriov: {vfs: 1}\n")
    assert "not the agent's" in said, said
    assert guest.read(f"/sys/class/net/{name}/device/sriov_numvfs").strip() == "3"


def different(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[str]:
    """Which fields are not as they were."""
    was, now = ({(fact["kind"], fact["key"]): fact for fact in each} for each in (old, new))
    found: list[str] = []
    for key in sorted(was.keys() | now.keys()):
        one, other = was.get(key, {}), now.get(key, {})
        fields = sorted(one.keys() | other.keys())
        found += [
            f"{key} {name}: {one.get(name)} is now {other.get(name)}"
            for name in fields
            if one.get(name) != other.get(name)
        ]
    return found


@pytest.mark.soak
def test_a_switch_changes_its_mode_and_firmware_that_does_not_change_is_told(server: Bench) -> None:
    folder, guest = "/sys/bus/netdevsim", server.guest
    guest.run(f"modprobe netdevsim; echo '7 1' > {folder}/new_device; udevadm settle")
    (name,) = guest.run(f"ls {folder}/devices/netdevsim7/net").split()
    before = facts(server)

    said = apply(server, name, "  sriov: {vfs: 3}\n")
    assert "code 0" in said, said
    assert guest.read(f"{folder}/devices/netdevsim7/sriov_numvfs").strip() == "3"

    wanted = "0 vlan=7/1/802.1ad min_tx=10 max_tx=100; 1-2 link=disable trust=on"
    said = apply(server, name, f"  vf: {{functions: '{wanted}'}}\n")
    assert "code 0" in said, said
    vfs = shown(server, name)
    print(json.dumps(vfs))
    assert vfs[0]["vlan_list"][0] == {"vlan": 7, "qos": 1, "protocol": "802.1ad"}
    assert vfs[0]["rate"] == {"max_tx": 100, "min_tx": 10}
    assert [vf["link_state"] for vf in vfs] == ["auto", "disable", "disable"]
    with_settings = facts(server)
    said = apply(server, name, "  sriov: {vfs: 3, eswitch: switchdev}\n")
    assert "code 0" in said, said
    assert "switchdev" in guest.run("devlink dev eswitch show netdevsim/netdevsim7")
    said = apply(server, name, "  vf: {functions: '0 max_tx=50'}\n")
    assert "unsupported" in said, said
    rollback(server)
    assert different(with_settings, facts(server)) == []
    rollback(server)
    rollback(server)
    assert different(before, facts(server)) == []

    image, old = b"new firmware", b"old firmware"
    guest.write("/root/new.bin", image.decode())
    guest.write("/root/old.bin", old.decode())
    known = {name: hashlib.sha256(data).hexdigest() for name, data in (("sha256", image), ("former_sha256", old))}
    policy = (
        "  firmware: {file: /root/new.bin, former: /root/old.bin, former_version: '10.20.30', version: '10.20.31', "
        f"part: fw.mgmt, sha256: {known['sha256']}, former_sha256: {known['former_sha256']}}}\n"
    )
    said = apply(server, name, policy)
    assert "leaves everything as it was" in said, said
    assert guest.run("ls /lib/firmware/rackhand").split() == []


@pytest.mark.soak
def test_a_driver_is_taken_and_given_back_and_without_an_iommu_vfio_gets_nothing(server: Bench) -> None:
    """pci-stub needs no IOMMU: whatever holds a device for somebody else is bound alike."""
    name, guest = server.nic(0), server.guest
    guest.run("modprobe pci-stub; modprobe vfio-pci")
    before = facts(server)
    assert "code 0" in apply(server, name, "  sriov: {vfs: 2}\n")
    with_two = facts(server)
    said = apply(server, name, "  vf: {functions: '1 driver=vfio-pci'}\n")
    assert "no IOMMU group" in said, said
    said = apply(server, name, "  vf: {functions: '1 driver=vfio-pci', unsafe_noiommu: true}\n")
    assert "without an IOMMU" in said, said
    assert different(with_two, facts(server)) == [], "what VFIO could not take is where it was"
    said = apply(server, name, "  vf: {functions: '1 driver=pci-stub'}\n")
    assert "code 0" in said, said
    assert [one["driver"] for one in virt(server, name)["vfs"]] == ["igbvf", "pci-stub"]
    rollback(server)
    assert different(with_two, facts(server)) == []
    rollback(server)

    other = server.nic(1)
    address = guest.run(f"basename $(readlink -f /sys/class/net/{other}/device)").strip()
    guest.run(f"ip link set {other} up")
    knob = f"  passthrough: {{devices: '{address}', driver: pci-stub}}\n"
    assert f"{other} is up" in apply(server, "", knob)
    guest.run(f"ip link set {other} down")
    assert different(before, facts(server)) == []
    said = apply(server, "", knob)
    assert "code 0" in said, said
    assert guest.run(f"basename $(readlink -f /sys/bus/pci/devices/{address}/driver)").strip() == "pci-stub"
    rollback(server)
    assert different(before, facts(server)) == []


@pytest.fixture
def confined(server: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A server with an IOMMU: the lab's where it has one, else one more."""
    if server.guest.run("ls /sys/kernel/iommu_groups").split():
        yield server
        return
    made = Lab.create(f"iommu{os.getpid()}")
    try:
        vm = made.add(Machine(iommu=True, nvme=(), tpm=False), server.vm.image)
        vm.start(nvme=False)
        made.install(vm, install.build(tmp_path))
        yield Bench(made, vm)
    finally:
        made.down()


@pytest.mark.soak
def test_vfio_has_a_whole_group_and_what_it_holds_open_stays(confined: Bench) -> None:
    name, guest = confined.nic(0), confined.guest
    groups = guest.run("ls /sys/kernel/iommu_groups").split()
    assert groups
    assert "code 0" in apply(confined, name, "  sriov: {vfs: 2}\n")
    before = facts(confined)
    said = apply(confined, name, "  vf: {functions: '0-1 driver=vfio-pci'}\n")
    print(said)
    vfs = virt(confined, name)["vfs"]
    assert [one["driver"] for one in vfs] == ["vfio-pci", "vfio-pci"], said
    group = vfs[1]["iommu_group"]
    guest.run(f"setsid sleep 900 <>/dev/vfio/{group} >/dev/null 2>&1 & sleep 0.2; ls -l /dev/vfio")
    assert "held open by sleep" in apply(confined, name, "  sriov: {vfs: 1}\n")
    assert "held open by sleep" in apply(confined, name, "  vf: {functions: '1 driver=host'}\n")
    guest.run("pkill -x sleep")
    rollback(confined)
    assert different(before, facts(confined)) == []
