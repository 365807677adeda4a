"""NVMe's log pages: byte by byte, with the values of real drives, and whatever the bytes are."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import nvmelog
from machine import MachineError
from tests.collectors.drive_pages import error, identity, page


def nvme_cli(data: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Health logs as nvme-cli writes them: numbers as text, as floats, warnings as an object, by its version."""
    for path in sorted((data / "storage").rglob("nvme-smart-log*.json")):
        said = json.loads(path.read_text())
        warning = said.pop("critical_warning")
        numbers = {name: int(float(value)) for name, value in said.items() if not isinstance(value, dict)}
        yield path.name, numbers | {"warning": int(warning["value"] if isinstance(warning, dict) else warning)}


def test_log_pages_with_the_values_of_real_drives_are_read_as_nvme_cli_reads_them(data: Path) -> None:
    logs = list(nvme_cli(data))
    assert logs
    for name, said in logs:
        log = page(
            warning=said["warning"],
            kelvin=said["temperature"],
            spare=said["avail_spare"],
            threshold=said["spare_thresh"],
            used=said["percent_used"],
            units_read=said["data_units_read"],
            units_written=said["data_units_written"],
            hours=said["power_on_hours"],
            errors=said["num_err_log_entries"],
            light_s=said["thm_temp1_total_time"],
            heavy_s=said["thm_temp2_total_time"],
        )
        health = nvmelog.parse_health(log)
        assert health.temperature_c == said["temperature"] - 273, name
        assert (health.percentage_used, health.spare_percent) == (said["percent_used"], said["avail_spare"]), name
        assert health.counters["power_on_hours"] == said["power_on_hours"], name
        assert health.counters["written_bytes"] == said["data_units_written"] * 512_000, name
        assert health.throttled_s == said["thm_temp1_total_time"] + said["thm_temp2_total_time"], name


def test_a_log_page_is_read_byte_by_byte() -> None:
    health = nvmelog.parse_health(page(warning=0b110101, sensor1=300, sensor8=310, media=1 << 100, warning_minutes=7))
    assert health.warnings == ["spare", "reliability", "backup", "persistent_memory"]
    assert health.sensors_c == {1: 27, 8: 37}
    assert health.counters["media_errors"] == 1 << 100
    assert (health.warning_minutes, health.critical_minutes) == (7, 0)
    assert nvmelog.parse_health(page(warning=0xC0)).warnings == ["bit 6", "bit 7"]


@pytest.mark.parametrize("kelvin", [0, 1, 217, 424, 0xFFFF])
def test_temperatures_that_no_drive_has_are_none(kelvin: int) -> None:
    health = nvmelog.parse_health(page(kelvin=kelvin, sensor2=kelvin))
    assert (health.temperature_c, health.sensors_c) == (None, {})
    assert nvmelog.parse_kelvin(kelvin) is None


@pytest.mark.parametrize(
    ("spare", "threshold", "warning", "told"),
    [(0, 0, 0, None), (0, 0, 1, 0), (0, 10, 0, 0), (100, 0, 0, 100), (255, 10, 0, None)],
)
def test_a_drive_that_counts_no_spare_has_none(spare: int, threshold: int, warning: int, told: int | None) -> None:
    assert nvmelog.parse_health(page(spare=spare, threshold=threshold, warning=warning)).spare_percent == told


def test_who_a_drive_is() -> None:
    told = nvmelog.parse_identity(identity(oacs=0x10))
    assert (told.serial, told.model, told.firmware) == ("S4EVNF0M123456", "SAMSUNG MZQLB1T9HAJR-00007", "EDA5502Q")
    assert (told.warning_c, told.critical_c, told.error_entries, told.self_tests) == (70, 80, 64, True)


def test_only_media_errors_say_something_of_the_drive() -> None:
    invalid = error(3, 0x4004)  # an invalid field in a command: tools that ask too much leave these by hundreds
    unread = error(2, (2 << 8 | 0x81) << 1, 4096)
    assert nvmelog.parse_errors(invalid + unread) == "unrecovered read error in namespace 1 at block 4096"
    assert nvmelog.parse_errors(invalid + bytes(64)) == ""
    assert nvmelog.parse_errors(error(1, (2 << 8 | 0x99) << 1)) == "media error 0x99 in namespace 1 at block 0"


@pytest.mark.parametrize(("first", "said"), [(0x10, "ok"), (0x27, "failed in a known segment"), (0x1F, ""), (0x00, "")])
def test_how_the_last_self_test_ended(first: int, said: str) -> None:
    assert nvmelog.parse_self_tests(bytes((0, 0, 0, 0, first)) + bytes(27)) == said


@given(st.binary(max_size=600) | st.binary(min_size=512, max_size=512))
def test_whatever_the_bytes_are_there_is_a_health_log_or_one_error(raw: bytes) -> None:
    nvmelog.parse_errors(raw)
    nvmelog.parse_self_tests(raw)
    try:
        health = nvmelog.parse_health(raw)
    except MachineError as refusal:
        assert "health log of" in str(refusal)
        return
    assert health.temperature_c is None or -55 <= health.temperature_c <= 150
    assert all(-55 <= celsius <= 150 for celsius in health.sensors_c.values())
    assert health.spare_percent is None or 0 <= health.spare_percent <= 100
    assert nvmelog.parse_identity(raw).serial.isprintable()
