"""Disks, NVMe controllers and arrays on real machines' trees, and the oddities of /proc/mdstat."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import blockdevices, mdstat, storage
from collectors.run import run
from machine.live import Live
from tests.collectors.conftest import tarballs, unpacker, write
from wire.facts import Array, Disk, Nvme, StorageController
from wire.report import Event, Sample, Severity

DISK = "/sys/devices/pci0000:00/0000:00:1f.2/{ata}host0/target0:0:0/0:0:0:0"


@pytest.fixture(scope="session")
def drives(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Live]:
    """Block devices, NVMe and PCI functions of a tarball."""
    return unpacker(data, tmp_path_factory, r"(?:/|^)sys/(?:.*/)?(?:block|nvme|scsi_host|pci|bus|pmem)")


def test_disks_of_every_real_tree_are_there_once_and_nothing_else_is(data: Path, drives: Callable[[str], Live]) -> None:
    names = tarballs(data, r"(?:/|^)sys/(?:block/.|class/nvme/.)")
    assert names
    for name in names:
        machine = drives(name)
        found = blockdevices.read_disks(machine)
        keys = [disk.key for disk in found]
        assert len(set(keys)) == len(keys), name
        present = set(machine.names("/sys/block")) if Path(machine.root, "sys/block").is_dir() else set()
        told = {path for disk in found for path in disk.paths or [disk.name]}
        assert told <= present
        left = {re.sub(r"[\d_].*", "", disk) for disk in present - told}
        assert left <= {"loop", "ram", "zram", "dm-", "md", "sr", "fd", "pmem", "nvme"}, (name, left)
        for disk in found:
            sectors = Path(machine.root, f"sys/block/{disk.name}/size")
            size = int(sectors.read_text()) * 512 if sectors.exists() else None
            assert disk.size_bytes == size, (name, disk.name)


def test_drives_with_two_controllers_are_told_apart(drives: Callable[[str], Live], data: Path) -> None:
    name = "sysfs-procfs/nvme-sysfs/tree-pcie.tar.xz"
    if not (data / name).exists():
        pytest.skip(f"{name} is not among the captures")
    found = blockdevices.read_nvmes(drives(name))
    said = (data / name).with_name("tree-pcie.out").read_text()
    assert {(one.name, one.address) for one in found} == set(
        re.findall(r"ctrl (nvme\d+) transport=pcie traddr=(\S+)", said)
    )
    assert {one.nqn for one in found} == set(re.findall(r"subsystem \S+ (nqn\.\S+)", said))
    assert len({one.key for one in found}) == len(found)
    shared = [one for one in found if "nvme1n1" in one.namespaces]
    assert [one.key.partition("/")[0] for one in shared] == [shared[0].serial] * 2


def test_what_node_exporter_expects_of_its_drives(exporter: Live) -> None:
    result = run(storage, exporter, 1)
    disks = {fact.name: fact for fact in result.facts if isinstance(fact, Disk)}
    assert (disks["sda"].scheduler, disks["sda"].nr_requests, disks["sda"].rotational) == ("bfq", 64, True)
    assert disks["sdi"].multipath == "mpathA"
    assert disks["sdi"].paths == ["sdi", "sdj", "sdk", "sdl"]
    assert not {"sdj", "sdk", "sdl", "dm-5", "md0"} & set(disks)
    (nvme,) = [fact for fact in result.facts if isinstance(fact, Nvme)]
    assert (nvme.serial, nvme.model, nvme.firmware) == ("S680HF8N190894I", "Samsung SSD 970 PRO 512GB", "1B2QEXP7")
    assert (nvme.state, nvme.controller_id, nvme.namespaces) == ("live", 1997, ["nvme0n1"])
    arrays = {fact.name: fact for fact in result.facts if isinstance(fact, Array)}
    assert arrays["md6"].key == "5f529b25-6efd-46e4-99a2-31f6f597be6b"
    assert (arrays["md6"].working, arrays["md6"].wanted, arrays["md6"].health) == (1, 2, "degraded")


def counts(text: str, state: str) -> dict[str, int]:
    """node_exporter's expectation for one state of members, by array."""
    rows = re.findall(rf'^node_md_disks\{{device="(\w+)",state="{state}"\}} (\S+)$', text, re.MULTILINE)
    return {name: int(float(value)) for name, value in rows}


def test_arrays_are_what_node_exporter_expects(data: Path) -> None:
    folder = data / "sysfs-procfs/node_exporter"
    found = {name: array for name, (array, _) in mdstat.parse_mdstat((folder / "proc/mdstat").read_text()).items()}
    text = (folder / "e2e-output.txt").read_text()
    sizes = dict(re.findall(r'^node_md_blocks\{device="(\w+)"\} (\S+)$', text, re.MULTILINE))
    assert {name: float(size) for name, size in sizes.items()} == {name: array.size_kb for name, array in found.items()}
    for flag, state in (("faulty", "failed"), ("spare", "spare")):
        told = {name: sum(flag in member.flags for member in array.members) for name, array in found.items()}
        assert told == counts(text, state)
    active = counts(text, "active")
    counted = {name: array for name, array in found.items() if array.wanted is not None and array.state == "active"}
    assert {name: array.working for name, array in counted.items()} == {name: active[name] for name in counted}
    synced = dict(
        re.findall(r'^node_md_state\{device="(\w+)",state="(?:check|recovering|resync)"\} (1)$', text, re.MULTILINE)
    )
    assert {name for name, array in found.items() if array.action} == set(synced)


def mdstats(data: Path) -> list[Path]:
    return sorted([*data.glob("storage/insights-mdstat/*.txt"), *data.glob("hosts/*/proc/mdstat")])


def test_every_array_of_real_hosts_is_read_with_all_its_members(data: Path) -> None:
    assert mdstats(data)
    for path in mdstats(data):
        text = path.read_text()
        found = mdstat.parse_mdstat(text)
        heads = re.findall(r"^(\S+) : (?:inactive|active|broken).*$", text, re.MULTILINE)
        assert list(found) == heads, path.name
        for name, (array, _) in found.items():
            line = next(line for line in text.splitlines() if line.startswith(f"{name} : "))
            assert [member.name for member in array.members] == re.findall(r"(\S+)\[\d+\]", line), path.name
            assert array.health in ("ok", "degraded", "failed", "inactive")
            assert bool(array.reason) == (array.health != "ok")


@pytest.mark.parametrize(
    ("lines", "health", "working"),
    [
        (
            "md2 : active raid1 sdb3[1] sda3[0]\n 129 blocks [2/2] [U_]\n",
            "degraded",
            1,
        ),  # its counts contradict its map
        ("md0 : active raid1 sdb1[1](F) sda1[0]\n 167 blocks [2/2] [UU]\n", "degraded", 2),
        ("md0 : active raid5 sda1[0](F) sdb1[1](F)\n 167 blocks [3/0] [___]\n", "failed", 0),
        ("md4 : inactive raid1 sda3[0](F) sdb3[1](S)\n 4883648 blocks [2/2] [UU]\n", "inactive", 2),
        ("md219 : inactive sdb[2](S) sdc[1](S)\n 7932 blocks super external:imsm\n", "ok", None),  # a container
        ("md3 : broken raid0 sda1[0] sdb1[1]\n 314159265 blocks 64k chunks\n", "failed", None),
        ("md9 : inactive sda1[0]\n 12 blocks\n", "inactive", None),
        ("md10 : active raid0 sda1[0] sdb1[1]\n 314159265 blocks 64k chunks\n", "ok", None),
        ("md_d0 : active raid5 sde1[0] cciss/c0d0p1[6]\n 125 blocks level 5 [5/5] [UUUUUU]\n", "ok", 5),
    ],
)
def test_health_of_arrays(lines: str, health: str, working: int | None) -> None:
    ((array, _),) = mdstat.parse_mdstat(f"Personalities : [raid1]\n{lines}\nunused devices: <none>\n").values()
    assert (array.health, array.working) == (health, working)


def test_progress_and_flags() -> None:
    text = (
        "md11 : active (auto-read-only) raid1 sdb2[0] sdc3[2](F) hda[4](S)\n 41 blocks super 1.2 [2/2] [UU]\n"
        " resync=PENDING\n\nmd6 : active raid1 sdb2[2] sda2[0]\n 195 blocks [2/1] [U_]\n"
        " [=>....]  recovery =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec\n"
    )
    (waiting, none), (rebuilding, percent) = mdstat.parse_mdstat(text).values()
    assert (waiting.read_only, waiting.action, none) == (True, "resync", None)
    assert [member.flags for member in waiting.members] == [[], ["faulty"], ["spare"]]
    assert (rebuilding.action, percent, rebuilding.health) == ("recovery", 8.5, "degraded")


@given(st.text(st.sampled_from("md0: activein raid1[]()FSU_%=0123/\n \x1b"), max_size=200) | st.text(max_size=80))
def test_mdstat_takes_any_text(text: str) -> None:
    for array, progress in mdstat.parse_mdstat(text).values():
        assert array.name
        assert progress is None or progress >= 0


def tree(root: Path, name: str = "sda", ata: str = "ata1/", **files: str | bytes) -> Live:
    """A machine with one more disk: a link in /sys/block to where it is."""
    place = DISK.format(ata=ata) + f"/block/{name}"
    write(root, {f"{place}/{file.replace('__', '/')}": content for file, content in files.items()})
    block = root / "sys/block"
    block.mkdir(parents=True, exist_ok=True)
    (block / name).symlink_to(f"..{place.removeprefix('/sys')}")
    device = root / place.lstrip("/") / "device"
    if not device.exists():
        device.symlink_to("../..")
    return Live(str(root))


def test_a_sata_disk_has_everything_that_sysfs_says(tmp_path: Path) -> None:
    device = DISK.format(ata="ata1/")
    write(
        tmp_path,
        {
            f"{device}/vendor": "ATA     \n",
            f"{device}/model": "QEMU HARDDISK   \n",
            f"{device}/rev": "2.5+\n",
            f"{device}/wwid": "t10.ATA     QEMU HARDDISK                           QM00001             \n",
            f"{device}/vpd_pg80": b"\x00\x80\x00\x14   QM00001\x1b[2J        ",
            f"{device}/state": "running\n",
            f"{device}/ioerr_cnt": "0x1f\n",
            f"{device}/iotmo_cnt": "oops\n",
            "/sys/bus/pci/devices/0000:00:1f.2/class": "0x010601\n",
            "/sys/bus/pci/devices/0000:00:1f.2/numa_node": "1\n",
        },
    )
    machine = tree(
        tmp_path, size="2048\n", ro="1\n", queue__scheduler="none [mq-deadline] kyber\n", queue__rotational="1\n"
    )
    result = run(storage, machine, 1)
    (disk,) = [fact for fact in result.facts if isinstance(fact, Disk)]
    assert disk.key == disk.wwid == "t10.ATA_QEMU_HARDDISK_QM00001"
    assert (disk.transport, disk.vendor, disk.model, disk.firmware) == ("sata", "", "QEMU HARDDISK", "2.5+")
    assert disk.serial == "QM00001\N{REPLACEMENT CHARACTER}[2J"
    assert (disk.size_bytes, disk.read_only, disk.rotational, disk.scheduler) == (1 << 20, True, True, "mq-deadline")
    assert (disk.numa_node, disk.address, disk.place, disk.state) == (1, "0000:00:1f.2", "0:0:0:0", "running")
    (controller,) = [fact for fact in result.facts if isinstance(fact, StorageController)]
    assert (controller.type, controller.disks) == ("sata", ["sda"])
    assert result.samples == [Sample("storage.io_errors", disk.key, 31)]


def test_two_paths_are_one_disk_and_two_disks_with_one_name_are_two(tmp_path: Path) -> None:
    for name, wwid, size in (("sda", "naa.5000c500a1", 8), ("sdb", "naa.5000c500a1", 8), ("sdc", "naa.5000c500a1", 9)):
        tree(tmp_path, name, size=f"{size}\n", wwid=f"{wwid}\n")
    found = blockdevices.read_disks(Live(str(tmp_path)))
    assert [(disk.key, disk.paths) for disk in found] == [
        ("naa.5000c500a1", ["sda", "sdb"]),
        ("naa.5000c500a1#2", []),
    ]


def test_a_namespace_that_hangs_on_its_drive_as_a_whole_is_where_its_controllers_are(tmp_path: Path) -> None:
    for at, node in enumerate((0, 0)):
        folder = f"/sys/devices/pci0000:00/0000:0{at + 1}:00.0/nvme/nvme{at}"
        write(tmp_path, {f"{folder}/serial": "S1", f"{folder}/cntlid": f"{at}", f"{folder}/transport": "pcie"})
        write(tmp_path, {f"/sys/bus/pci/devices/0000:0{at + 1}:00.0/numa_node": f"{node}"})
        (tmp_path / "sys/class/nvme").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"sys/class/nvme/nvme{at}").symlink_to(f"../..{folder.removeprefix('/sys')}")
        (tmp_path / f"sys/class/nvme-subsystem/nvme-subsys0/nvme{at}").mkdir(parents=True)
    (tmp_path / "sys/class/nvme-subsystem/nvme-subsys0/nvme0n1").mkdir()
    write(
        tmp_path,
        {"/sys/block/nvme0n1/size": "8", "/sys/block/nvme0c0n1/hidden": "1", "/sys/block/nvme0n1/wwid": "eui.01"},
    )
    result = run(storage, Live(str(tmp_path)), 1)
    (disk,) = [fact for fact in result.facts if isinstance(fact, Disk)]
    assert (disk.key, disk.address, disk.place, disk.numa_node) == ("eui.01", "0000:01:00.0", "nvme0", 0)
    assert [fact.key for fact in result.facts if isinstance(fact, Nvme)] == ["S1/0", "S1/1"]


@pytest.mark.parametrize(
    ("path", "name", "vendor", "transport"),
    [
        ("/sys/devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0", "sda", "ATA", "sata"),
        ("/sys/devices/pci0/0000:03:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0", "sdb", "SEAGATE", "sas"),
        ("/sys/devices/pci0/0000:03:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0", "sdb", "ATA", "sata"),
        ("/sys/devices/pci0/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0", "sdc", "", "usb"),
        ("/sys/devices/platform/host3/session1/target3:0:0/3:0:0:1", "sdd", "", "iscsi"),
        ("/sys/devices/pci0/0000:05:00.0/host7/rport-7:0-2/target7:0:0/7:0:0:0", "sde", "", "fc"),
        ("/sys/devices/pci0/0000:00:04.0/virtio1", "vda", "", "virtio"),
        ("/sys/devices/virtual/nvme-subsystem/nvme-subsys0", "nvme0n1", "", "nvme"),
        ("", "sdz", "", ""),
    ],
)
def test_the_transport_is_in_the_path(path: str, name: str, vendor: str, transport: str) -> None:
    assert blockdevices.parse_transport(path, name, vendor) == transport


@given(st.binary(max_size=64))
def test_a_serial_number_page_takes_any_bytes(page: bytes) -> None:
    assert "\n" not in blockdevices.parse_unit_serial(page)


def test_an_array_that_degrades_and_recovers_is_an_event_each(tmp_path: Path) -> None:
    machine = Live(str(tmp_path))
    events: list[Event] = []
    for up in ("UU", "UU", "U_", "U_", "UU"):
        text = f"md0 : active raid1 sdb1[1] sda1[0]\n 167 blocks [2/{up.count('U')}] [{up}]\n"
        write(tmp_path, {"/proc/mdstat": f"Personalities : [raid1]\n{text}"})
        events += run(storage, machine, 1).events
    assert [(event.severity, event.text) for event in events] == [
        (Severity.WARNING, "md0 is degraded: 1 of 2 members work"),
        (Severity.INFO, "md0 is ok"),
    ]
