"""An NVMe drive that is plugged in while the server runs: what sysfs says of it, and what it says itself when asked."""

import pytest

from collectors.registry import by_name
from collectors.run import run
from machine import nvme
from machine.capture import Captured
from tests.lab.collecting import Watch, seen
from tests.lab.conftest import Bench, wait_for
from wire.facts import DriveHealth, Nvme

pytestmark = [pytest.mark.lab, pytest.mark.root]
RECORD = """
from collectors.registry import by_name
from collectors.run import run
from machine.capture import Recording
from machine.live import Live
recording = Recording(Live())
for name in ("storage", "smart"):
    run(by_name(name), recording, 1)
print(recording.dump())
"""
REFUSED = """
from machine import MachineError, nvme
from machine.live import Live
for opcode, cdw10 in ((0x80, 0), (0x0d, 0), (0x05, 0), (0x09, 2), (0x02, 0x07), (0x02, 0x7f0002)):
    try:
        Live().nvme_admin("nvme0", opcode, 1, cdw10, 512)
        print("accepted", opcode)
    except MachineError as error:
        assert "none of those that only read" in str(error), error
identity = nvme.read_identity(Live(), "nvme0")
print(identity[4:24].decode().strip(), len(nvme.read_log(Live(), "nvme0", nvme.FIRMWARE_LOG, 512)))
try:
    nvme.read_log(Live(), "nvme0", nvme.SELF_TEST_LOG, 32)
except MachineError as error:
    print(error)
"""


@pytest.fixture
def drive(server: Bench) -> Bench:
    """The server with its drive in."""
    server.vm.plug_nvme()
    wait_for(lambda: "live" in server.guest.run("cat /sys/class/nvme/nvme0/state 2>/dev/null || true"), "the drive")
    wait_for(lambda: not server.guest.attempt("test -e /sys/block/nvme0n1/queue").returncode, "its namespace")
    return server


def critical(bench: Bench, warning: int) -> None:
    """Set the critical warning bits of the drive's health log."""
    with bench.monitor() as monitor:
        monitor.run("qom-set", path="/machine/peripheral/nvme0", property="smart_critical_warning", value=warning)


def test_a_drive_is_what_was_plugged_in(drive: Bench) -> None:
    built = drive.vm.server.machine.nvme[0]
    serial = drive.vm.server.nvme_serial(0)
    (storage,) = seen(drive, "storage")
    assert (storage.status, storage.reason) == ("ok", "")
    controller = storage.one("nvme")
    assert (controller["key"], controller["serial"], controller["transport"]) == (serial, serial, "pcie")
    assert (controller["state"], controller["numa_node"]) == ("live", built.node)
    assert controller["namespaces"] == ["nvme0n1"]
    disks = {fact["name"]: fact for fact in storage.facts if fact["kind"] == "disk"}
    disk = disks["nvme0n1"]
    assert (disk["transport"], disk["serial"], disk["size_bytes"]) == ("nvme", serial, built.size_mib << 20)
    assert (disk["numa_node"], disk["address"]) == (built.node, controller["address"])
    assert disk["logical_block_bytes"] == int(drive.guest.read("/sys/block/nvme0n1/queue/logical_block_size"))
    offered = drive.guest.run("cat /sys/block/nvme0n1/queue/scheduler 2>/dev/null || true")  # a multipath head has none
    assert disk.get("scheduler", "") == offered.partition("[")[2].partition("]")[0]
    assert disks["vda"]["transport"] == "virtio"
    (function,) = [fact for fact in storage.facts if fact.get("type") == "nvme"]
    assert (function["key"], function["driver"], function["disks"]) == (controller["address"], "nvme", ["nvme0n1"])


def test_a_drive_says_how_it_is_by_its_own_log(drive: Bench) -> None:
    assert drive.guest.attempt("command -v smartctl").returncode, "the image has smartctl now: test it here as well"
    (told,) = seen(drive, "smart")
    assert told.status == "ok"
    health = told.one("drive_health")
    serial = drive.vm.server.nvme_serial(0)
    assert (health["key"], health["name"], health["source"], health["verdict"]) == (serial, "nvme0", "nvme", "ok")
    assert (health["serial"], health["passed"], health["media_errors"]) == (serial, True, 0)
    assert told.samples["smart.temperature_celsius", serial] == 50  # 323 K
    assert ("smart.spare_percent", serial) not in told.samples, "QEMU counts no spare: 0 of at least 0"
    reads = told.samples["smart.read_commands", serial]
    drive.guest.run("dd if=/dev/nvme0n1 of=/dev/null bs=64k count=64 iflag=direct status=none")
    (again,) = seen(drive, "smart")
    assert again.samples["smart.read_commands", serial] >= reads + 64

    critical(drive, 0x04)
    (failing,) = seen(drive, "smart")
    health = failing.one("drive_health")
    assert (health["verdict"], health["warnings"]) == ("failing", ["reliability"])
    assert health["reason"] == "its reliability is degraded"
    critical(drive, 0x10)
    (warned,) = seen(drive, "smart")
    assert (warned.one("drive_health")["verdict"], warned.one("drive_health")["warnings"]) == ("warning", ["backup"])


def test_a_drive_that_turns_bad_is_an_event(drive: Bench) -> None:
    watch = Watch(drive, "smart")
    critical(drive, 0x01)
    event = watch.wait("storage.health")
    assert event["severity"] == "critical"
    assert "is failing: its spare is below the threshold" in event["text"]
    assert event["key"] == drive.vm.server.nvme_serial(0)


def test_a_drive_is_asked_for_nothing_but_reads(drive: Bench) -> None:
    first, complaint = drive.python(REFUSED).splitlines()
    assert first == f"{drive.vm.server.nvme_serial(0)} 512"
    assert "the drive answers with status" in complaint


def test_a_capture_of_a_drive_has_its_health_and_not_its_serial_number(drive: Bench) -> None:
    text = drive.python(RECORD)
    serial = drive.vm.server.nvme_serial(0)
    assert serial not in text
    assert serial.encode().hex() not in text
    machine = Captured(text)
    (health,) = [fact for fact in run(by_name("smart"), machine, 1).facts if isinstance(fact, DriveHealth)]
    (controller,) = [fact for fact in run(by_name("storage"), machine, 1).facts if isinstance(fact, Nvme)]
    assert health.key == controller.key
    assert nvme.read_identity(machine, "nvme0")[4:24].decode().strip() == controller.key


def test_a_drive_that_is_pulled_is_gone(drive: Bench) -> None:
    with drive.monitor() as monitor:
        monitor.run("device_del", id="nvme0")
    wait_for(lambda: drive.guest.attempt("test -e /sys/class/nvme/nvme0").returncode, "the drive pulled")
    storage, told = seen(drive, "storage", "smart")
    assert [fact["name"] for fact in storage.facts if fact["kind"] == "disk"] == ["vda"]
    assert told.status == "absent"
