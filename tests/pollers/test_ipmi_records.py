"""IPMI's records: the simulator's own, those that ipmitool printed of real machines, and any bytes."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_lab import bmc_records as records
from hardware_lab.machine import Machine, Server
from pollers import ipmi_fru, ipmi_sdr, ipmi_sel
from pollers.bmc_sensor import LIMITS, consistent
from pollers.ipmi_read import parse_chassis, parse_guid, parse_watts, system_uuid
from pollers.ipmi_sdr import Formula, FruLocator, Sensor, parse_reading, parse_record
from pollers.ipmi_sel import Clock
from wire.facts import Bmc, Fru

SERVER = Server("srv", 3, Machine())
NOW_MS = 1_700_000_000_000
CLOCK = Clock(NOW_MS // 1000, NOW_MS)
THERE = 0xC0  # scanning, events
HOSTILE = b"\x1b]0;owned\x07FAN\x00\xff\xc3\x28"


def texts(data: Path, *patterns: str) -> list[Path]:
    found = [path for pattern in patterns for path in sorted((data / "ipmi").glob(pattern))]
    assert found
    return found


def one(record: bytes) -> Sensor:
    (sensor,) = parse_record(record)
    assert isinstance(sensor, Sensor)
    return sensor


# -- sensor data records -----------------------------------------------------------------------------------------------


def test_every_sensor_of_the_lab_is_read_as_it_was_declared() -> None:
    for number, declared in records.sensors(SERVER).items():
        sensor = one(records.sensor_record(number, declared))
        assert (sensor.number, sensor.name, sensor.key) == (number, declared.name, f"20.0.{number:02x}")
        if isinstance(declared, records.Discrete):
            value, fact = parse_reading(sensor, bytes([0, THERE]) + struct.pack("<H", records.mask(declared.on)))
            assert (value, len(fact.states)) == (None, len(declared.on))
            continue
        value, fact = parse_reading(sensor, bytes([declared.raw(declared.value), THERE, 0]))
        assert value == pytest.approx(declared.value)
        assert fact.status == "ok"
        limits = dict(
            zip(
                (*LIMITS[:3][: len(declared.low)], *LIMITS[3:][: len(declared.high)]),
                (*declared.low, *declared.high),
                strict=True,
            )
        )
        assert {name: getattr(fact, name) for name in LIMITS if getattr(fact, name) is not None} == pytest.approx(
            limits
        )


def test_locators_name_frus() -> None:
    found = [parse_record(records.fru_record(at, fru)) for at, fru in enumerate(records.frus(SERVER))]
    assert found == [[FruLocator(at, fru.name)] for at, fru in enumerate(records.frus(SERVER))]


@pytest.mark.parametrize(
    ("formula", "raw", "value"),
    [
        (Formula(m=6, exponent=-2), 201, 12.06),
        (Formula(m=1, b=-4, b_exponent=1), 0, -40),
        (Formula(m=100), 255, 25500),
        (Formula(linearization=7), 4, 0.25),
        (Formula(linearization=7), 0, None),
        (Formula(linearization=1), 0, None),
        (Formula(linearization=8), 12, 144),
        (Formula(linearization=11), 27, 3),
        (Formula(m=511, exponent=7, linearization=4), 255, None),
    ],
)
def test_formulas(formula: Formula, raw: int, value: float | None) -> None:
    assert formula.value(raw) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(("format_", "raw", "value"), [(0, 0xF0, 240), (1, 0xFE, -1), (2, 0xF0, -16), (3, 7, None)])
def test_numbers_have_signs_as_the_record_says(format_: int, raw: int, value: float | None) -> None:
    assert ipmi_sdr.number(Sensor(0x20, 0, 1, "x", 1, 1, format=format_), raw) == value


def test_a_record_that_several_sensors_share_is_all_of_them() -> None:
    record = bytearray(records.sensor_record(5, records.Discrete("Drive ", records.Entity(4), records.DRIVE, (0, 1))))
    record[23], record[24] = 0x03, 0x81
    found = parse_record(bytes(record))
    assert [(each.number, each.name, each.instance) for each in found if isinstance(each, Sensor)] == [
        (5, "Drive1", 1),
        (6, "Drive2", 2),
        (7, "Drive3", 3),
    ]


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (0xC4, b"FAN1", "FAN1"),
        (0x04, "CPU°".encode()[:5], "CPU"),
        (0x42, b"\x12\x3a", "123"),
        (0x83, bytes((0x29, 0xDC, 0xA6)), "IPMI"),
        (0xC8, HOSTILE, None),
        (0xC0, b"", ""),
    ],
)
def test_names(kind: int, data: bytes, text: str | None) -> None:
    said = ipmi_sdr.parse_text(kind, data)
    assert said.isprintable()
    if text is not None:
        assert said.rstrip("\N{REPLACEMENT CHARACTER}") == text


def test_a_sensor_without_a_reading_has_none() -> None:
    sensor = one(records.sensor_record(1, next(iter(records.sensors(SERVER).values()))))
    for data in (b"", b"\x30", b"\x30\xe0\xc0", b"\x30\x00\xc0"):
        value, fact = parse_reading(sensor, data)
        assert (value, fact.status) == (None, "absent")


@pytest.mark.parametrize(
    ("bits", "status"), [(0, "ok"), (8, "warning"), (0x18, "critical"), (1, "warning"), (0x20, "critical")]
)
def test_a_threshold_sensor_says_how_bad_it_is(bits: int, status: str) -> None:
    sensor = one(records.sensor_record(1, next(iter(records.sensors(SERVER).values()))))
    assert parse_reading(sensor, bytes([50, THERE, bits]))[1].status == status


def cells(path: Path) -> Iterator[list[str]]:
    for line in path.read_text().splitlines():
        row = [cell.strip() for cell in line.split("|")]
        if len(row) > 2:
            yield row


def test_limits_of_real_machines_are_kept_where_they_make_sense(data: Path) -> None:
    seen = 0
    for path in texts(data, "linuxfabrik/sensor-*"):
        for row in cells(path):
            order = (*reversed(LIMITS[:3]), *LIMITS[3:])
            found = {name: float(cell) for name, cell in zip(order, row[4:10], strict=True) if cell not in ("na", "")}
            kept = consistent(found)
            values = [kept[name] for name in order if name in kept]
            assert values == sorted(values)
            assert kept in (found, {})
            seen += bool(kept)
    assert seen


def test_a_real_sensor_comes_back_from_its_record(data: Path) -> None:
    """Every number of `ipmitool sensor` that fits a byte, with its thresholds, through a record and a reading."""
    units = {"degrees C": (1, "°C"), "Volts": (4, "V"), "Watts": (6, "W"), "RPM": (18, "rpm"), "Amps": (5, "A")}
    seen: list[str] = []
    for path in texts(data, "linuxfabrik/sensor-*"):
        for number, (name, said, unit, _, lnr, lcr, lnc, unc, ucr, unr) in enumerate(cells(path)):
            if unit not in units:
                continue
            limits = [float(cell) if cell != "na" else None for cell in (lnc, lcr, lnr, unc, ucr, unr)]
            values = [value for value in (*limits, None if said == "na" else float(said or 0)) if value is not None]
            step = next(
                (e for e in range(-3, 4) if all(abs(v / 10**e) <= 127 and abs(v / 10**e % 1) < 1e-9 for v in values)),
                None,
            )
            if step is None:
                continue
            raw = [0 if limit is None else round(limit / 10**step) & 0xFF for limit in limits]
            mask = sum(1 << bit for bit, limit in enumerate(limits) if limit is not None)
            body = struct.pack("<HHBB", 0, 0, mask, 0) + bytes(
                [0x80, units[unit][0], 0, 0, 1, 0, 0, 0, 0, (step & 15) << 4]
            )
            body += bytes([0] * 6) + bytes(raw[at] for at in (5, 4, 3, 2, 1, 0)) + bytes(5)
            text = name.encode()[:16]
            record = (
                bytes([0, 0, 0x51, 1, 0, 0x20, 0, number, 3, 1, 0x7F, 0x68, 1, 1])
                + body
                + bytes([0xC0 | len(text)])
                + text
            )
            reading = b"" if said == "na" else bytes([round(float(said) / 10**step) & 0xFF, THERE, 0])
            value, fact = parse_reading(one(record), reading)
            assert (fact.name, fact.unit) == (name[:16].strip(), units[unit][1])
            assert value == (None if said == "na" else pytest.approx(float(said)))
            for limit_name, limit in consistent(
                {n: v for n, v in zip(LIMITS, limits, strict=True) if v is not None}
            ).items():
                assert getattr(fact, limit_name) == pytest.approx(limit)
            seen.append(name)
    assert seen


def test_entities_and_types_are_called_as_ipmitool_calls_them(data: Path) -> None:
    seen = set[str]()
    for path in texts(data, "ceilometer/*"):
        for block in path.read_text().split("\n\n"):
            entity = re.search(r"Entity ID +: (\d+)\.\d+ \(([^)]+)\)", block)
            kind = re.search(r"Sensor Type \((?:Analog|Threshold)\) +: (\w+)", block)
            if entity and kind:
                ours = ipmi_sdr.ENTITIES[int(entity[1])].lower()
                assert entity[2].lower().split()[0][:4] in ours or entity[2] in ("Front Panel Board",)
                assert kind[1] in ipmi_sdr.TYPES.values()
                seen.add(kind[1])
    assert seen


def test_units_of_real_machines_have_metrics(data: Path) -> None:
    words = {"degrees C": "°C", "RPM": "rpm", "Volts": "V", "Amps": "A", "Watts": "W"}
    found = {
        unit for path in texts(data, "telegraf/*", "linuxfabrik/sensor-*") for unit in words if unit in path.read_text()
    }
    assert found
    assert {words[unit] for unit in found} <= set(ipmi_sdr.UNITS.values())


def emulated(path: Path) -> Iterator[tuple[str, bytes]]:
    """Records and FRU images in a command file of OpenIPMI's simulator."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in text.splitlines():
        words = [word for word in line.split() if word != "data"]
        if words[:1] == ["main_sdr_add"]:
            yield "sdr", bytes(ord(word[1]) if word[0] == "'" else int(word, 16) for word in words[2:])
        elif words[:1] == ["mc_add_fru_data"] and words[4:5] != ["file"]:
            yield "fru", bytes(ord(word[1]) if word[0] == "'" else int(word, 16) for word in words[4:])


def test_records_and_frus_of_the_simulators_own_machines(data: Path) -> None:
    frus: list[Fru] = []
    count = 0
    for path in texts(data, "openipmi/*.emu"):
        for kind, content in emulated(path):
            count += 1
            if kind == "sdr":
                parse_record(content)
                continue
            fru = Fru(key="fru0")
            ipmi_fru.parse_fru(content, fru)
            frus.append(fru)
    assert count
    assert any(fru.board_manufacturer for fru in frus)


# -- identity ----------------------------------------------------------------------------------------------------------


def test_a_guid_is_the_hosts_uuid_in_whatever_order_it_comes() -> None:
    uuid = UUID(SERVER.uuid)
    for spelled in (uuid.bytes_le, uuid.bytes, uuid.bytes[::-1]):
        found = system_uuid(parse_guid(spelled))
        assert found == str(uuid) or spelled != uuid.bytes_le  # ambiguous ones are read as SMBIOS has them
    assert system_uuid(parse_guid(uuid.bytes_le)) == str(uuid)
    assert parse_guid(bytes(16)) == parse_guid(b"\xff" * 16) == parse_guid(b"short") == b""


@given(st.binary(max_size=80))
def test_whatever_the_bytes_are_there_are_records_or_none(data: bytes) -> None:
    for kind in (1, 2, 3, 0x11):
        for found in parse_record(bytes([0, 0, 0x51, kind]) + data):
            assert found.name.isprintable()
            if isinstance(found, Sensor):
                _, fact = parse_reading(found, data[:4])
                limits = [
                    value for name in (*reversed(LIMITS[:3]), *LIMITS[3:]) if (value := getattr(fact, name)) is not None
                ]
                assert limits == sorted(limits)
    parse_chassis(data, Bmc())
    parse_watts(data)
    system_uuid(parse_guid(data))
    ipmi_sel.parse_info(data)
    if len(data) >= 6:
        ipmi_sdr.parse_formula(data)
