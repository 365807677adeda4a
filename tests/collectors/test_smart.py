"""What drives say of their health: NVMe log pages, smartctl's JSON of a hundred drives, and the verdict on each."""

import json
import os
from pathlib import Path

import pytest

from collectors import smart, smartjson
from collectors.run import Result, run
from machine import NotPresentError, nvme
from machine.live import Live
from tests.collectors.conftest import write
from tests.collectors.drive_pages import ata, error, identity, page, row
from wire.facts import DriveHealth
from wire.report import Sample, Severity, Status


@pytest.mark.parametrize(
    ("status", "passed", "verdict"),
    [
        (0, True, "ok"),
        (64, True, "ok"),  # old errors in the drive's log
        (4, True, "ok"),  # a log it does not have
        (8, False, "failing"),
        (16, True, "failing"),
        (32, True, "ok"),
        (128, True, "warning"),
        (216, False, "failing"),
        (0, None, "unknown"),
    ],
)
def test_the_exit_status_is_a_mask_beside_whole_json(status: int, passed: bool | None, verdict: str) -> None:
    reading = smartjson.parse_smartctl(ata(smartctl={"exit_status": status}, smart_status={"passed": passed}))
    smart.judge(reading)
    assert reading.health.verdict == verdict


def test_a_failed_check_from_a_warning_bit_is_as_bad_as_the_bit() -> None:
    log = {"critical_warning": 16, "percentage_used": 0, "available_spare": 100, "temperature": 40}
    said = {"smart_status": {"passed": False}, "smartctl": {"exit_status": 8}, "nvme_smart_health_information_log": log}
    reading = smartjson.parse_smartctl(json.dumps(said))
    smart.judge(reading)
    assert (reading.health.verdict, reading.health.reason) == ("warning", "its power-loss backup has failed")


@pytest.mark.parametrize(
    ("health", "spins", "reason"),
    [
        (DriveHealth(key="", name="", passed=True, percentage_used=89), False, ""),
        (DriveHealth(key="", name="", passed=True, percentage_used=103), False, "103 % of its endurance is used"),
        (DriveHealth(key="", name="", passed=True, reallocated_sectors=12), True, "12 reallocated sectors"),
        (DriveHealth(key="", name="", passed=True, reallocated_sectors=12), False, ""),
        (
            DriveHealth(key="", name="", passed=True, media_errors=2, pending_sectors=1),
            None,
            "2 media errors; 1 pending sectors",
        ),
    ],
)
def test_counters_warn(health: DriveHealth, spins: bool | None, reason: str) -> None:
    smart.judge(reading := smartjson.Reading(health, {}, {}, spins=spins))
    assert (reading.health.verdict, reading.health.reason) == ("warning" if reason else "ok", reason)


ASLEEP = json.dumps(
    {
        "json_format_version": [1, 0],
        "smartctl": {
            "exit_status": 2,
            "messages": [{"string": "Device is in STANDBY mode, exit(2)", "severity": "information"}],
        },
        "device": {"name": "/dev/sda"},
    }
)
REFUSED = json.dumps(
    {"smartctl": {"exit_status": 2, "messages": [{"string": "Smartctl open device: /dev/sda failed: No such device"}]}}
)


class Server(Live):
    """A tree with drives that answer what they are told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.answers: dict[str, str] = {}
        self.log = page()
        self.asked: list[tuple[str, ...]] = []

    def command(self, name: str, *words: str) -> str:
        self.asked.append((name, *words))
        if words[-1] not in self.answers:
            raise NotPresentError(f"{name} is not installed")
        return self.answers[words[-1]]

    def nvme_admin(self, device: str, opcode: int, nsid: int, cdw10: int, size: int) -> bytes:  # noqa: ARG002
        nvme.check(device, opcode, cdw10, size)
        self.asked.append((device, f"{opcode:#x}", f"{cdw10 & 0xFF:#x}"))
        if opcode == nvme.IDENTIFY:
            return identity(oacs=0x10)
        return {nvme.HEALTH_LOG: self.log, nvme.ERROR_LOG: error(1, 0x502)}.get(cdw10 & 0xFF, bytes(size))[:size]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """One SATA disk, one NVMe drive."""
    disk = "/sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda"
    drive = "/sys/devices/pci0000:00/0000:01:00.0/nvme/nvme0"
    write(
        tmp_path,
        {
            f"{disk}/size": "2048\n",
            f"{disk}/device/wwid": "naa.5000c500a1\n",
            f"{drive}/serial": "S4EVNF0M123456      \n",
            f"{drive}/state": "live\n",
            f"{drive}/transport": "pcie\n",
            f"{drive}/device/power/runtime_status": "active\n",
        },
    )
    for name, place in (("block/sda", disk), ("class/nvme/nvme0", drive)):
        link = tmp_path / "sys" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(tmp_path / place.lstrip("/"), link.parent))
    return Server(tmp_path)


def healths(result: Result) -> dict[str, tuple[str, str]]:
    return {fact.name: (fact.verdict, fact.reason) for fact in result.facts if isinstance(fact, DriveHealth)}


def test_each_drive_is_asked_in_its_way(server: Server) -> None:
    server.answers["/dev/sda"] = ata(row(5, "Reallocated_Sector_Ct", 0), temperature={"current": 31})
    server.log = page(errors=3, kelvin=315, sensor1=320)
    result = run(smart, server, 1)
    assert result.status is Status.OK
    assert healths(result) == {"nvme0": ("ok", ""), "sda": ("ok", "")}
    assert ("smartctl", "--json=c", "-n", "standby", "-a", "/dev/sda") in server.asked
    assert [call[1:] for call in server.asked if call[0] == "nvme0"] == [
        ("0x6", "0x1"),
        ("0x2", "0x2"),
        ("0x2", "0x1"),
        ("0x2", "0x6"),
    ]
    samples = {(sample.metric, sample.key): sample.value for sample in result.samples}
    assert samples["smart.temperature_celsius", "S4EVNF0M123456"] == 42
    assert samples["smart.sensor_celsius", "S4EVNF0M123456/1"] == 47
    assert samples["smart.temperature_celsius", "naa.5000c500a1"] == 31
    (drive,) = [fact for fact in result.facts if isinstance(fact, DriveHealth) and fact.name == "nvme0"]
    assert (drive.temperature_warning_c, drive.temperature_critical_c) == (70, 80)
    assert drive.last_error == "unrecovered read error in namespace 1 at block 0"


def test_a_sleeping_disk_keeps_what_it_last_said_and_is_no_event(server: Server) -> None:
    verdicts: list[tuple[str, str]] = []
    events = 0
    failing = ata(smart_status={"passed": False})
    for answer in (ASLEEP, ata(), ASLEEP, failing, ASLEEP, failing):
        server.answers["/dev/sda"] = answer
        result = run(smart, server, 1)
        verdicts.append(healths(result)["sda"])
        events += len(result.events)
    failed = ("failing", "its own verdict is that it fails")
    assert verdicts == [("asleep", "in STANDBY mode, not woken"), ("ok", ""), ("ok", ""), failed, failed, failed]
    assert events == 1


def test_a_drive_that_does_not_answer_is_said_to_and_asked_last_and_the_others_are_told(server: Server) -> None:
    server.answers["/dev/sda"] = REFUSED
    server.log = bytes(512)
    result = run(smart, server, 1)
    assert healths(result) == {
        "nvme0": ("unknown", "NVMe health log of 512 bytes is empty"),
        "sda": ("unknown", "smartctl: Smartctl open device: /dev/sda failed: No such device"),
    }
    server.log = page()
    server.answers.clear()
    assert healths(run(smart, server, 1))["sda"] == ("unknown", "smartctl is not installed")
    server.asked.clear()
    run(smart, server, 1)
    assert server.asked[-1][0] == "smartctl"


def test_a_drive_that_turns_bad_is_an_event(server: Server) -> None:
    run(smart, server, 1)
    server.log = page(warning=0b1)
    (event,) = run(smart, server, 1).events
    assert (event.kind, event.severity, event.key) == ("storage.health", Severity.CRITICAL, "S4EVNF0M123456")
    assert event.text == "nvme0 SAMSUNG MZQLB1T9HAJR-00007 is failing: its spare is below the threshold"
    assert run(smart, server, 1).events == []


@pytest.mark.parametrize(("file", "content"), [("state", "resetting"), ("device/power/runtime_status", "suspended")])
def test_a_drive_that_is_not_up_is_left_alone(server: Server, file: str, content: str) -> None:
    Path(server.root, "sys/class/nvme/nvme0", file).write_text(content)
    run(smart, server, 1)
    assert not [call for call in server.asked if call[0] == "nvme0"]


def test_a_disk_that_nothing_can_ask_has_its_temperature_from_the_kernel(server: Server) -> None:
    write(Path(server.root), {"/sys/block/sda/device/hwmon/hwmon4/temp1_input": "31000\n"})
    result = run(smart, server, 1)
    assert healths(result)["sda"] == ("unknown", "smartctl is not installed")
    assert Sample("smart.temperature_celsius", "naa.5000c500a1", 31) in result.samples


def test_a_disk_without_smart_is_left_out(server: Server) -> None:
    server.answers["/dev/sda"] = json.dumps({"smart_support": {"available": False}, "temperature": {"current": 0}})
    assert set(healths(run(smart, server, 1))) == {"nvme0"}
