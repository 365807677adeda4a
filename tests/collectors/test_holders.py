"""Who uses a function: libvirt's guests by their XML, processes that hold VFIO open, interfaces at work."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from collectors import holders
from collectors.links import Port
from machine import vfio
from machine.live import Live
from machine.rtnl import Link

DEVICES = "/sys/bus/pci/devices"
ONE = "0000:3b:02.1"
GUEST = """<domain type='kvm' id='3'><devices>
 <hostdev mode='subsystem' type='pci' managed='yes'><driver name='vfio'/>
  <source><address domain='0x0000' bus='0x3b' slot='0x02' function='0x1'/></source>
  <address type='pci' domain='0x0000' bus='0x07' slot='0x00' function='0x0'/></hostdev>
 <interface type='network'><address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></interface>
</devices></domain>"""


def test_a_guest_has_what_is_the_source_of_its_host_devices() -> None:
    assert holders.parse_guest(GUEST) == [ONE]


@given(text=st.text(max_size=200))
def test_any_text_is_a_guest_with_some_devices(text: str) -> None:
    assert holders.parse_guest(f"<hostdev><source>{text}") == []


def test_guests_that_run_and_that_are_defined_count(tmp_path: Path) -> None:
    folder = tmp_path / "etc/libvirt/qemu"
    folder.mkdir(parents=True)
    (folder / "web1.xml").write_text(GUEST)
    (folder / "notes.txt").write_text(GUEST)
    assert holders.read_guests(Live(str(tmp_path))) == {ONE: "web1"}


def test_a_process_with_the_group_open_holds_the_function(tmp_path: Path) -> None:
    function = tmp_path / f"{DEVICES[1:]}/{ONE}"
    function.mkdir(parents=True)
    (function / "iommu_group").symlink_to("/sys/kernel/iommu_groups/12")
    process = tmp_path / "proc/77/fd"
    process.mkdir(parents=True)
    (process.parent / "comm").write_text("qemu-system-x86\n")
    (process / "3").symlink_to("/dev/vfio/vfio")
    (process / "9").symlink_to("/dev/vfio/12")
    machine = Live(str(tmp_path))
    opened = vfio.read_open(machine)
    assert opened == {"/dev/vfio/12": "qemu-system-x86 (77)"}
    assert holders.why(machine, ONE, {}, {}, opened) == "held open by qemu-system-x86 (77)"
    assert holders.why(machine, ONE, {ONE: "web1"}, {}, {}) == "libvirt's guest web1 has it"


def test_interfaces_at_work_are_told_by_what_they_do(tmp_path: Path) -> None:
    links = [
        (Link(ifindex=4, ifname="eth4", master=9, up=True), ONE),
        (Link(ifindex=5, ifname="eth5", up=True), "0000:3b:02.2"),
        (Link(ifindex=6, ifname="eth6"), "0000:3b:02.3"),
        (Link(ifindex=9, ifname="br0", up=True), ""),
    ]
    ports = [Port(link.ifname, link, "", address) for link, address in links]
    assert holders.read_interfaces(Live(str(tmp_path)), ports) == {
        ONE: "eth4 is a port of br0",
        "0000:3b:02.2": "eth5 is up",
    }
