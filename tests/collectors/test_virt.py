"""Who has a machine's devices, on trees laid out as sysfs lays them out, and switches by their ports' names."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import virt
from collectors.links import Port
from machine import NotPresentError
from machine.linkinfo import SwitchPort, Vf
from machine.live import Live
from machine.rtnl import Link
from tests.collectors.conftest import write
from wire.facts import Passthrough, Representor, Virt, VirtFunction
from wire.report import Sample

PF, VF0, VF1, GPU, NVME = "0000:4b:00.0", "0000:4b:01.0", "0000:4b:01.1", "0000:81:00.0", "0000:82:00.0"
DEVICES = "/sys/bus/pci/devices"
UUID = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"


def link(root: Path, name: str, target: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(root / target.lstrip("/"), path.parent))


def vf(number: int, **fields: Any) -> Vf:
    made = Vf(number, "52:54:00:9a:8b:7c", 100, 5, "802.1Q", 0, 2500, True, False, "auto", {})
    return made._replace(**fields)


def nic(name: str, ifindex: int, address: str = "") -> Port:
    return Port(f"k-{name}", Link(ifindex, name), "/sys/devices/x" if address else "", address)


@pytest.fixture
def machine(tmp_path: Path) -> Live:
    """A NIC with two functions, one of them with VFIO; a GPU given away with its sound; a mediated device."""
    write(
        tmp_path,
        {
            f"{DEVICES}/{PF}/sriov_totalvfs": "64\n",
            f"{DEVICES}/{PF}/sriov_drivers_autoprobe": "0\n",
            f"{DEVICES}/{PF}/driver_override": "(null)\n",
            f"{DEVICES}/{VF0}/driver_override": "(null)\n",
            f"{DEVICES}/{VF1}/driver_override": "vfio-pci\n",
            f"{DEVICES}/{GPU}/driver_override": "vfio-pci\n",
            f"{DEVICES}/{NVME}/driver_override": "(null)\n",
        },
    )
    for function, number, driver in ((VF0, 0, "iavf"), (VF1, 1, "vfio-pci")):
        link(tmp_path, f"{DEVICES}/{PF}/virtfn{number}", f"{DEVICES}/{function}")
        link(tmp_path, f"{DEVICES}/{function}/physfn", f"{DEVICES}/{PF}")
        link(tmp_path, f"{DEVICES}/{function}/driver", f"/sys/bus/pci/drivers/{driver}")
        link(tmp_path, f"{DEVICES}/{function}/iommu_group", f"/sys/kernel/iommu_groups/{20 + number}")
    link(tmp_path, f"{DEVICES}/{GPU}/driver", "/sys/bus/pci/drivers/vfio-pci")
    link(tmp_path, f"{DEVICES}/{GPU}/iommu_group", "/sys/kernel/iommu_groups/7")
    for member in (GPU, "0000:81:00.1"):
        write(tmp_path, {f"/sys/kernel/iommu_groups/7/devices/{member}": ""})
    link(tmp_path, f"{DEVICES}/{NVME}/driver", "/sys/bus/pci/drivers/nvme")
    real = f"/sys/devices/pci0000:00/0000:00:02.0/{UUID}"
    write(tmp_path, {f"{real}/uevent": ""})
    link(tmp_path, f"/sys/bus/mdev/devices/{UUID}", real)
    link(tmp_path, f"{real}/mdev_type", "/sys/devices/pci0000:00/0000:00:02.0/mdev_supported_types/i915-GVTg_V5_4")
    link(tmp_path, f"{real}/driver", "/sys/bus/mdev/drivers/vfio_mdev")
    return Live(str(tmp_path))


def test_functions_and_devices_that_are_given_away(machine: Live) -> None:
    assert list(virt.collect(machine)) == [
        Virt(
            key=PF,
            ifname="",
            address=PF,
            vfs_total=64,
            autoprobe=False,
            vfs=[
                VirtFunction(index=0, address=VF0, driver="iavf", owner="host", iommu_group=20),
                VirtFunction(
                    index=1,
                    address=VF1,
                    driver="vfio-pci",
                    owner="vfio",
                    driver_override="vfio-pci",
                    iommu_group=21,
                ),
            ],
        ),
        Passthrough(
            key=GPU,
            type="pci",
            driver="vfio-pci",
            driver_override="vfio-pci",
            owner="vfio",
            iommu_group=7,
            group=["0000:81:00.1"],
        ),
        Passthrough(
            key=UUID,
            type="mdev",
            driver="vfio_mdev",
            owner="vfio",
            parent="0000:00:02.0",
            mdev_type="i915-GVTg_V5_4",
        ),
    ]


def test_what_the_physical_function_keeps_of_a_virtual_one(machine: Live) -> None:
    port = nic("ens1f0", 3, PF)
    fact = virt.read_physical(machine, PF, port, [port, nic("ens1f0v0", 4, VF0)], [vf(0), vf(1, trust=None)])
    assert fact.key == "k-ens1f0"
    assert fact.vfs[0] == VirtFunction(
        index=0,
        address=VF0,
        ifname="ens1f0v0",
        key="k-ens1f0v0",
        mac="52:54:00:9a:8b:7c",
        vlan_id=100,
        vlan_qos=5,
        vlan_protocol="802.1Q",
        max_tx_mbps=2500,
        spoofchk=True,
        trust=False,
        link_state="auto",
        driver="iavf",
        owner="host",
        iommu_group=20,
    )
    assert (fact.vfs[1].ifname, fact.vfs[1].trust, fact.vfs[1].owner) == ("", None, "vfio")


def test_traffic_of_functions_is_counted_where_the_driver_counts(machine: Live) -> None:
    port = nic("ens1f0", 3, PF)
    told = [vf(0, stats={"rx_bytes": 7, "tx_bytes": 0, "broadcast": 9}), vf(1, stats={"rx_bytes": 0, "tx_bytes": 0})]
    fact = virt.read_physical(machine, PF, port, [port], told)
    found = list(virt.samples(fact, told))
    assert Sample("virt.rx_bytes", VF0, 7) in found
    assert {sample.key for sample in found} == {VF0}
    assert {sample.metric for sample in found} == set(virt.ABOUT.metrics)


@pytest.mark.parametrize(
    ("driver", "owner"),
    [
        ("", ""),
        ("ice", "host"),
        ("vfio-pci", "vfio"),
        ("mlx5_vfio_pci", "vfio"),
        ("pci-stub", "reserved"),
        ("pciback", "guest"),
    ],
)
def test_who_holds_a_device(driver: str, owner: str) -> None:
    assert virt.parse_owner(driver) == owner


def test_representors_stand_with_the_uplink_of_their_function() -> None:
    names = {
        "p0": ("p0", "0000:4b:00.0"),
        "p1": ("p1", "0000:4b:00.1"),
        "p0_0": ("pf0vf0", ""),
        "p0_1": ("c1pf0vf1", ""),
        "p1_0": ("pf1vf0", ""),
        "sf": ("pf1sf88", ""),
    }
    ports = [nic(name, at, address) for at, (name, (_, address)) in enumerate(names.items(), start=1)]
    found = {at: SwitchPort("aabb", name) for at, (name, _) in enumerate(names.values(), start=1)}
    known = Virt(key="k-p0", ifname="p0", address="0000:4b:00.0", vfs_total=8)
    first, second = virt.parse_switches(found, [*ports, nic("lo", 99)], [known])
    assert (first.vfs_total, first.switch_id, first.port) == (8, "aabb", "p0")
    assert [(one.ifname, one.port) for one in first.representors] == [("p0_0", "pf0vf0"), ("p0_1", "c1pf0vf1")]
    assert (second.key, second.address, second.vfs_total) == ("k-p1", "0000:4b:00.1", 0)
    assert second.representors == [
        Representor(ifname="p1_0", key="k-p1_0", port="pf1vf0"),
        Representor(ifname="sf", key="k-sf", port="pf1sf88"),
    ]


def test_without_anything_of_the_kind_it_is_absent(tmp_path: Path) -> None:
    with pytest.raises(NotPresentError):
        list(virt.collect(Live(str(tmp_path))))


@given(st.lists(st.tuples(st.text(max_size=12), st.sampled_from(["", "aa", "bb"])), max_size=6))
def test_ports_of_any_name_are_uplinks_or_stand_for_somebody(names: list[tuple[str, str]]) -> None:
    ports = [nic(f"if{at}", at) for at in range(len(names))]
    found = {at: SwitchPort(switch, name) for at, (name, switch) in enumerate(names) if switch}
    for fact in virt.parse_switches(found, ports, []):
        assert fact.switch_id
        assert fact.ifname not in {one.ifname for one in fact.representors}
