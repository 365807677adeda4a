"""FRUs and event logs: those that ipmitool printed of real machines, and any bytes."""

import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_lab import bmc_records as records
from pollers import ipmi_fru, ipmi_sel
from pollers.ipmi_sel import Clock
from tests.pollers.test_ipmi_records import CLOCK, NOW_MS, SERVER, cells, one, texts
from wire.facts import Fru
from wire.report import Severity

# -- field replaceable units -------------------------------------------------------------------------------------------


def blocks(path: Path) -> Iterator[dict[str, str]]:
    for block in re.split(r"\n\n+", path.read_bytes().decode("latin-1")):
        said = dict(re.findall(r"^ (\S[^:\n]*?) *: ?(.*)$", block, re.MULTILINE))
        if any(name.startswith(("Board", "Product")) for name in said):
            yield said


def test_frus_of_real_machines_come_back(data: Path) -> None:
    names = {
        "Board Mfg": "board_manufacturer", "Board Product": "board_product", "Board Serial": "board_serial",
        "Board Part Number": "board_part", "Product Manufacturer": "product_manufacturer",
        "Product Name": "product_name", "Product Part Number": "product_part", "Product Version": "product_version",
        "Product Serial": "product_serial", "Product Asset Tag": "product_asset", "Chassis Part Number": "chassis_part",
        "Chassis Serial": "chassis_serial",
    }  # fmt: skip
    seen = 0
    for path in texts(data, "glpi-fru/*"):
        for said in blocks(path):
            get = said.get
            given = records.Fru(
                name="x",
                entity=records.Entity(7),
                chassis=(get("Chassis Part Number", ""), get("Chassis Serial", "")),
                board=tuple(get(f"Board {name}", "") for name in ("Mfg", "Product", "Serial", "Part Number")),
                product=tuple(
                    get(f"Product {name}", "")
                    for name in ("Manufacturer", "Name", "Part Number", "Version", "Serial", "Asset Tag")
                ),
            )
            fru = Fru(key="fru0")
            ipmi_fru.parse_fru(records.fru_image(given), fru)
            for theirs, ours in names.items():
                assert getattr(fru, ours) == " ".join(get(theirs, "").split()), (path.name, theirs)
            seen += 1
    assert seen


@pytest.mark.parametrize(
    ("coding", "data", "language", "text"),
    [
        (3, b"PWS-800  \0\0", 25, "PWS-800"),
        (3, b"PWS\xff\xff", 25, "PWS"),
        (3, "Größe".encode("utf-16-le"), 7, "Größe"),
        (3, b"A\xdcB", 0, "AÜB"),
        (2, bytes((0x29, 0xDC, 0xA6)), 25, "IPMI"),
        (1, b"\x12\x3b", 25, "123-"),
        (0, b"\0\0", 25, ""),
        (0, b"\x01\xfe", 25, "01fe"),
    ],
)
def test_texts_of_a_fru(coding: int, data: bytes, language: int, text: str) -> None:
    assert ipmi_fru.parse_field(coding, data, language) == text


def test_dates_of_a_fru() -> None:
    assert ipmi_fru.parse_date(bytes(3)) == ""  # the epoch is nobody's date
    assert ipmi_fru.parse_date((1440).to_bytes(3, "little")) == "1996-01-02T00:00"


# -- the event log -----------------------------------------------------------------------------------------------------

STATES = {"S0/G0: working": 0, "S4/S5: soft-off": 6}


def entry(number: int, stamp: int, kind: int, sensor: int, reading: int, *data: int, ended: bool = False) -> bytes:
    head = struct.pack("<HBI", number, 2, stamp) + bytes([0x20, 0, 4, kind, sensor, reading | ended << 7])
    return head + bytes([*data, 0xFF, 0xFF][:3])


def test_a_real_log_comes_back_whole(data: Path) -> None:
    rows = [row for path in texts(data, "linuxfabrik/sel-*") for row in cells(path)]
    kinds = {"System ACPI Power State": 0x22}
    seen = 0
    for row in rows:
        number, said = int(row[0], 16), " | ".join(row)
        kind = next((code for name, code in kinds.items() if name in said), None)
        state = next((offset for name, offset in STATES.items() if name in said), None)
        if kind is None or state is None:
            continue
        early = "Pre-Init" in said
        stamp = 85 if early else int(time.mktime(time.strptime(f"{row[1]} {row[2]} UTC", "%m/%d/%Y %H:%M:%S %Z")))
        event = ipmi_sel.parse_entry(entry(number, stamp, kind, 0x0A, 0x6F, state), {}, CLOCK)
        assert event is not None
        assert event.data["record"] == number
        assert event.at_ms == (0 if early else stamp * 1000)
        assert event.data["asserted"] is True
        assert event.data["offset"] == state
        seen += 1
    assert seen


def test_an_empty_log_has_no_entries(data: Path) -> None:
    (path,) = texts(data, "linuxfabrik/sel-empty*")
    assert list(cells(path)) == []
    info = ipmi_sel.parse_info(bytes([0x51, 0, 0, 0x80, 0x3E]) + b"\xff" * 8 + b"\x02")
    assert info
    assert (info.entries, info.free_bytes, info.overflow, ipmi_sel.shown_time(info.added)) == (0, 16000, False, "")


def test_a_threshold_event_says_what_was_read() -> None:
    declared = next(iter(records.sensors(SERVER).values()))
    sensors = {"20.0.01": one(records.sensor_record(1, declared))}
    event = ipmi_sel.parse_entry(entry(7, 1_699_999_990, 1, 1, 1, 0x59, 95, 90), sensors, CLOCK)
    assert event
    assert (event.text, event.severity) == ("CPU0 Temp: Upper critical at 95 °C, threshold 90 °C", Severity.CRITICAL)
    assert (event.key, event.at_ms) == ("20.0.01", NOW_MS - 10_000)
    ended = ipmi_sel.parse_entry(entry(8, 1_699_999_990, 1, 1, 1, 0x59, 85, 90, ended=True), sensors, CLOCK)
    assert ended
    assert (ended.severity, ended.data["asserted"]) == (Severity.INFO, False)


def test_records_of_makers_and_of_kernels() -> None:
    panic = ipmi_sel.parse_entry(struct.pack("<HB", 1, 0xF0) + b"\x20\0Oops: \x1b[2J\0", {}, CLOCK)
    assert panic
    assert panic.severity is Severity.CRITICAL
    assert panic.text.startswith("Linux kernel panic: Oops:")
    assert panic.text.isprintable()
    timed = ipmi_sel.parse_entry(struct.pack("<HBI", 2, 0xC1, 1_699_999_990) + bytes(range(9)), {}, CLOCK)
    assert timed
    assert (timed.at_ms, timed.text) == (NOW_MS - 10_000, "record of the maker's own, type 0xc1: 000102030405060708")
    assert ipmi_sel.parse_entry(b"\1\0\xe5" + bytes(13), {}, CLOCK)
    assert ipmi_sel.parse_entry(b"short", {}, CLOCK) is None


@pytest.mark.parametrize(
    ("bmc_s", "stamp", "at_ms"),
    [
        (1_700_000_000, 1_699_999_999, NOW_MS - 1000),
        (1_600_000_000, 1_599_999_999, NOW_MS - 1000),  # a clock that is wrong by years
        (1_700_000_000, 1_700_000_500, 0),  # its future
        (500, 490, NOW_MS - 10_000),  # both since its start
        (1_700_000_000, 490, 0),
        (1_700_000_000, 0xFFFFFFFF, 0),
    ],
)
def test_times_are_by_our_clock(bmc_s: int, stamp: int, at_ms: int) -> None:
    assert Clock(bmc_s, NOW_MS).at_ms(stamp) == at_ms


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**32 - 1))
def test_whatever_a_log_holds_is_one_harmless_line(record: bytes, bmc_s: int) -> None:
    sensors = {"20.0.01": one(records.sensor_record(1, next(iter(records.sensors(SERVER).values()))))}
    event = ipmi_sel.parse_entry(record, sensors, Clock(bmc_s, NOW_MS))
    assert event
    assert event.text.isprintable()
    assert 0 <= event.at_ms <= NOW_MS


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: b"\1\0\1\4\7\0\0\xf3" + tail))
def test_whatever_a_fru_holds_are_harmless_texts(image: bytes) -> None:
    fru = Fru(key="fru0")
    ipmi_fru.parse_fru(image, fru)
    texts = [fru.board_made, fru.chassis_part, fru.board_serial, fru.product_name, fru.product_asset, *fru.extra]
    assert all(text.isprintable() and len(text) <= ipmi_fru.MAX_TEXT * 4 for text in texts)
