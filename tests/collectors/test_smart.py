"""What drives say of their health: NVMe log pages, smartctl's JSON of a hundred drives, and the verdict on each."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import smart, smartjson
from collectors.run import Result, run
from machine import MachineError, NotPresentError, nvme
from machine.live import Live
from tests.collectors.conftest import write
from tests.collectors.drive_pages import error, identity, page
from wire.facts import DriveHealth
from wire.report import Severity, Status

BITS = ("spare", "temperature", "reliability", "read_only", "backup", "persistent_memory")


def jsons(data: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every file of smartctl's JSON that is about one drive."""
    for path in sorted((data / "storage").rglob("*.json")):
        try:
            said = json.loads(path.read_text())
        except ValueError:
            continue
        if isinstance(said, dict) and "json_format_version" in said and "device" in said:
            yield path.name, path.read_text(), said


def test_every_drive_that_smartctl_described_is_read(data: Path) -> None:
    count = 0
    for name, text, said in jsons(data):
        if not {"smart_status", "temperature", "power_on_time", "smart_support"} & set(said):
            continue
        count += 1
        reading = smartjson.parse_smartctl(text)
        smart.judge(reading)
        health, numbers = reading.health, reading.numbers
        assert {f"smart.{metric}" for metric in numbers} <= set(smart.METRICS), name
        celsius = said.get("temperature", {}).get("current")
        assert numbers.get("temperature_celsius") == (celsius if celsius and -40 <= celsius <= 150 else None), name
        assert numbers.get("power_on_hours") == said.get("power_on_time", {}).get("hours"), name
        assert health.passed == said.get("smart_status", {}).get("passed"), name
        assert health.model == " ".join(said.get("model_name", said.get("scsi_model_name", "")).split()), name
        log = said.get("nvme_smart_health_information_log")
        if log:
            assert health.warnings == [bit for at, bit in enumerate(BITS) if log["critical_warning"] >> at & 1], name
            assert (health.percentage_used, health.spare_percent) == (log["percentage_used"], log["available_spare"])
            assert numbers["written_bytes"] == log["data_units_written"] * 512_000, name
            assert numbers["unsafe_shutdowns"] == log["unsafe_shutdowns"], name
        if "scsi_grown_defect_list" in said:
            assert health.reallocated_sectors == said["scsi_grown_defect_list"], name
        for row in said.get("ata_smart_attributes", {}).get("table", []):
            if row["id"] == 5 and row["raw"]["value"] < 1 << 24:
                assert health.reallocated_sectors == row["raw"]["value"], name
        if health.passed is False:
            assert health.verdict in ("failing", "warning"), name
        if health.verdict == "ok":
            assert not health.warnings, name
        assert bool(health.reason) == (health.verdict in ("failing", "warning")), name
    assert count


def texts(data: Path) -> list[Path]:
    """What tools printed for people, and other tools' JSON: none of it is smartctl's JSON about a drive."""
    folders = ("telegraf-smart", "glpi", "linuxfabrik", "insights-mdstat", "ironic-python-agent", "netdata", "jc-mdadm")
    found = [path for folder in folders for path in (data / "storage" / folder).rglob("*") if path.is_file()]
    return sorted(path for path in found if path.suffix != ".tgz")


def test_what_is_no_json_of_smartctl_is_one_clear_error(data: Path) -> None:
    assert texts(data)
    for path in texts(data):
        text = path.read_text(errors="replace")
        if "json_format_version" in text:
            continue
        with pytest.raises(MachineError, match=r"^smartctl(?: printed no JSON)?: ") as error:
            smartjson.parse_smartctl(text)
        assert "\n" not in str(error.value)


def ata(*rows: dict[str, Any], **more: Any) -> str:
    said = {"json_format_version": [1, 0], "device": {"name": "/dev/sda"}, "smart_status": {"passed": True}}
    return json.dumps({**said, "ata_smart_attributes": {"table": list(rows)}, **more})


def row(number: int, name: str, raw: int, text: str = "", value: int = 100) -> dict[str, Any]:
    return {"id": number, "name": name, "value": value, "raw": {"value": raw, "string": text or str(raw)}}


def test_raw_values_that_hold_several_numbers_are_not_taken_whole() -> None:
    packed = row(194, "Temperature_Celsius", 176094511130, "26 (Min/Max 13/41)")
    hours = row(9, "Power_On_Hours", 115594749838557, "34013h+00m+00.000s")
    text = ata(packed, hours, temperature={"current": 26}, power_on_time={"hours": 34013})
    numbers = smartjson.parse_smartctl(text).numbers
    assert (numbers["temperature_celsius"], numbers["power_on_hours"]) == (26, 34013)
    counted = smartjson.parse_smartctl(ata(row(197, "Current_Pending_Sector", 281470681743361, "1 (65535 0)"))).health
    assert counted.pending_sectors == 1
    assert (
        smartjson.parse_smartctl(ata(row(198, "Offline_Uncorrectable", 4294967295))).health.uncorrectable_sectors
        is None
    )


@pytest.mark.parametrize("celsius", [0, 9223372036854775807, -9223372036854775808, 65261, -273, "26", None, True])
def test_temperatures_of_controllers_that_do_not_know_are_left_out(celsius: object) -> None:
    assert "temperature_celsius" not in smartjson.parse_smartctl(ata(temperature={"current": celsius})).numbers


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


def test_drives_behind_a_raid_controller_are_found_in_real_scans(data: Path) -> None:
    paths = [path for path in (data / "storage").rglob("*scan*.json") if "devices" in json.loads(path.read_text())]
    assert paths
    for path in paths:
        devices = json.loads(path.read_text())["devices"]
        behind = [(one["name"], one["type"]) for one in devices if re_raid(one["type"])]
        assert smartjson.parse_scan(path.read_text()) == behind


def re_raid(kind: str) -> bool:
    return kind.partition(",")[0].removeprefix("sat+") in ("megaraid", "cciss", "aacraid", "areca", "3ware", "hpt")


def test_nothing_but_a_device_and_its_type_comes_from_a_scan() -> None:
    devices = [{"name": "/dev/bus/0", "type": "megaraid,8;reboot"}, {"name": "-B/etc/x", "type": "megaraid,8"}, 7]
    assert smartjson.parse_scan(json.dumps({"devices": devices})) == []


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


def test_a_disk_without_smart_is_left_out(server: Server) -> None:
    server.answers["/dev/sda"] = json.dumps({"smart_support": {"available": False}, "temperature": {"current": 0}})
    assert set(healths(run(smart, server, 1))) == {"nvme0"}


NAMES = [
    *(
        "smart_status",
        "passed",
        "temperature",
        "current",
        "drive_trip",
        "power_on_time",
        "hours",
        "smartctl",
        "messages",
    ),
    *(
        "exit_status",
        "string",
        "smart_support",
        "available",
        "ata_smart_attributes",
        "table",
        "id",
        "name",
        "raw",
        "value",
    ),
    *(
        "nvme_smart_health_information_log",
        "critical_warning",
        "temperature_sensors",
        "percentage_used",
        "media_errors",
    ),
    *(
        "available_spare",
        "scsi_grown_defect_list",
        "scsi_error_counter_log",
        "read",
        "total_uncorrected_errors",
        "devices",
    ),
    *(
        "ata_smart_data",
        "self_test",
        "status",
        "rotation_rate",
        "model_name",
        "serial_number",
        "endurance_used",
        "type",
    ),
]
WORDS = st.sampled_from(["Reallocated_Sector_Ct", "SSD_Life_Left", "26 (Min/Max 13/41)", "/dev/bus/0", "megaraid,1"])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(max_size=20)
    | st.sampled_from([5, 197, 216])
)
ANYTHING = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=8),
    max_leaves=40,
)


@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING))
def test_whatever_the_json_is_there_is_a_verdict_or_one_line(said: dict[str, Any]) -> None:
    text = json.dumps(said)
    try:
        reading = smartjson.parse_smartctl(text)
    except MachineError as refusal:
        assert "\n" not in str(refusal)
        return
    smart.judge(reading)
    assert reading.health.verdict in ("ok", "warning", "failing", "asleep", "unknown")
    assert -40 <= reading.numbers.get("temperature_celsius", 20) <= 150
    assert {f"smart.{name}" for name in reading.numbers} <= set(smart.METRICS)
    assert reading.health.model.isprintable()
    assert smartjson.parse_scan(text) == [] or "devices" in said
