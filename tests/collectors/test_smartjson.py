"""smartctl's JSON of real drives of every kind, and whatever the JSON is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import smart, smartjson
from machine import MachineError
from tests.collectors.drive_pages import ata, row

LOG = "nvme_smart_health_information_log"
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
        hours = said.get("power_on_time", {}).get("hours", (said.get(LOG) or {}).get("power_on_hours"))
        assert numbers.get("power_on_hours") == hours, name
        assert health.passed == said.get("smart_status", {}).get("passed"), name
        assert health.model == " ".join(said.get("model_name", said.get("scsi_model_name", "")).split()), name
        log = said.get(LOG)
        if log:
            assert health.warnings == [bit for at, bit in enumerate(BITS) if log["critical_warning"] >> at & 1], name
            spare = log["available_spare"] if log["available_spare"] or log.get("available_spare_threshold") else None
            assert (health.percentage_used, health.spare_percent) == (log["percentage_used"], spare), name
            assert numbers["written_bytes"] == log["data_units_written"] * 512_000, name
            assert numbers["unsafe_shutdowns"] == log["unsafe_shutdowns"], name
        if "scsi_grown_defect_list" in said:
            assert health.reallocated_sectors == said["scsi_grown_defect_list"], name
        for one in said.get("ata_smart_attributes", {}).get("table", []):
            if one["id"] == 5 and "Realloc" in one["name"] and one["raw"]["value"] < 1 << 24:
                assert health.reallocated_sectors == one["raw"]["value"], name
        if health.passed is False:
            assert health.verdict in ("failing", "warning"), name
        if health.verdict == "ok":
            assert not health.warnings, name
        assert bool(health.reason) == (health.verdict in ("failing", "warning", "asleep")), name
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
