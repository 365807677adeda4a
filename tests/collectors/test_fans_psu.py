"""Fans, power supplies and other sensors: every number of hwmon has one owner; SMBIOS of ninety real systems."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import chips, fans, hwmon, power, psu
from collectors.chips import Chip
from collectors.registry import Collector
from collectors.run import run
from machine import MachineError, smbios
from machine.live import Live
from machine.smbios import END_OF_TABLE
from tests.collectors.conftest import write
from wire.facts import Fan, Psu
from wire.report import Sample

END = bytes((END_OF_TABLE, 4, 0xFF, 0xFE, 0, 0))
SENSORS: tuple[Collector, ...] = (hwmon, fans, power, psu)
SCALES = {"temp": 1000, "in": 1000, "curr": 1000, "humidity": 1000, "power": 1_000_000, "fan": 1}


def samples(machine: Live, *collectors: Collector) -> dict[tuple[str, str], float]:
    found = [sample for collector in collectors for sample in run(collector, machine, 1).samples]
    return {(sample.metric, sample.key): sample.value for sample in found}


def chip(root: Path, number: int, name: str, device: str = "", **files: str) -> Live:
    """A machine with one more device of hwmon, below a device of its own if it is named."""
    folder = f"/sys/class/hwmon/hwmon{number}"
    write(root, {f"{folder}/name": f"{name}\n", **{f"{folder}/{file}": f"{text}\n" for file, text in files.items()}})
    if device:
        (root / f"sys/devices/platform/{device}").mkdir(parents=True, exist_ok=True)
        (root / folder.lstrip("/") / "device").symlink_to(f"../../../devices/platform/{device}")
    return Live(str(root))


# -- sensors of real machines, from what lm-sensors printed --


def told(path: Path) -> Iterator[tuple[str, str, dict[str, float]]]:
    """(chip, label, attribute -> value) of a file that `sensors -j` or `sensors -u` wrote."""
    text = path.read_text(errors="replace")
    if text.lstrip().startswith("{"):
        for name, features in json.loads(text).items():
            for label, values in features.items() if isinstance(features, dict) else ():
                if isinstance(values, dict):
                    yield name, label, {key: value for key, value in values.items() if isinstance(value, (int, float))}
        return
    name = label = ""
    numbers: dict[str, float] = {}
    for line in [*text.splitlines(), "", "end:"]:
        value = re.fullmatch(r"\s+(\w+): (-?[\d.]+)", line)
        if value:
            numbers[value[1]] = float(value[2])
        elif line.endswith(":") or not line:
            if numbers:
                yield name, label, numbers
            label, numbers = line.removesuffix(":").strip() or label, {}
        elif not line.startswith(" "):
            name = line.strip()


def raw(path: Path) -> bool:
    """Whether a file has names and numbers of attributes, and not what is for people to read."""
    return bool(re.search(r"\b(?:temp|fan|in)\d+_input", path.read_text(errors="replace")))


def test_sensors_of_real_machines_are_told_once_or_are_none(data: Path, tmp_path: Path) -> None:
    paths = [path for path in sorted((data / "sensors").rglob("*")) if path.is_file() and raw(path)]
    assert paths
    for at, path in enumerate(paths):
        root = tmp_path / str(at)
        numbers: dict[str, int] = {}
        wanted: dict[tuple[str, str], float] = {}
        dead: set[tuple[str, str]] = set()
        for name, label, values in told(path):
            number = numbers.setdefault(name, len(numbers))
            for attribute, value in values.items():
                channel, _, what = attribute.partition("_")
                scale = SCALES.get(chips.kind_of(channel))
                if scale is None:
                    continue
                measured = what in (*chips.READINGS, *chips.LIMITS)
                text = str(round(value * scale) if measured else int(value))
                chip(root, number, name.partition("-")[0], **{attribute: text, f"{channel}_label": label})
                place = f"hwmon{number}", channel
                if what == "input" or (what == "average" and f"{channel}_input" not in values):
                    wanted[place] = value
                if (what, value) in (("fault", 1), ("enable", 0)) or (label.startswith("PCH_") and value == 0):
                    dead.add(place)
        found = samples(Live(str(root)), *SENSORS)
        owned = {(one.hwmon, channel): one for one in chips.read_chips(Live(str(root))) for channel in one.channels}
        for (folder, channel), value in wanted.items():
            one = owned[folder, channel]
            mine = [reading for (_, key), reading in found.items() if key == f"{one.key}/{channel}"]
            low, high = chips.KINDS[chips.kind_of(channel)].plausible
            elsewhere = one.role in ("drive", "zone", "psu") or (channel.startswith("power") and value == 0)
            usable = low <= value <= high and not elsewhere and (folder, channel) not in dead
            assert mine == ([pytest.approx(value, abs=1e-3)] if usable else []), (path.name, channel, value)


def for_people(data: Path) -> Iterator[tuple[str, str, str, float, str, str]]:
    """(file, chip, label, value, unit, what follows) of lines that `sensors` printed for people."""
    line_of = re.compile(r"^([^:]+):\s+([+-]?\d+(?:\.\d+)?)\s*\W{0,2}(C|V|RPM|W|A)\b(.*)$")
    for path in sorted((data / "sensors").rglob("*.txt")):
        name = ""
        for line in path.read_text(errors="replace").splitlines():
            match = line_of.match(line)
            if match:
                yield path.name, name, match[1], float(match[2]), match[3], match[4]
            elif line and not line.startswith(("Adapter", " ")) and ":" not in line:
                name = line.strip()


def test_limits_that_real_machines_print_are_kept_or_cannot_be_meant(data: Path) -> None:
    seen = 0
    for file, name, label, value, unit, rest in for_people(data):
        channel = {"C": "temp1", "V": "in1", "RPM": "fan1", "W": "power1", "A": "curr1"}[unit]
        scale = SCALES[chips.kind_of(channel)]
        words = {"low": "min", "min": "min", "high": "max", "max": "max", "crit": "crit"}
        printed = {
            words[word]: float(number)
            for word, number in re.findall(r"\b(low|min|high|max|crit)\s*=\s*([+-]?[\d.]+)", rest)
        }
        attributes = {word: str(round(number * scale)) for word, number in printed.items()}
        limits = chips.parse_limits(channel, attributes)
        low, high = chips.KINDS[chips.kind_of(channel)].plausible
        kept = {word: limit for word, limit in limits.items() if limit is not None}
        assert all(low <= limit <= high for limit in kept.values()), (file, name, label)
        assert list(kept.values()) == sorted(kept.values()), (file, name, label)
        assert kept.items() <= printed.items(), (file, name, label)
        reading = chips.parse_value(channel, {"input": str(round(value * scale)), "label": label})
        assert reading is None or reading == pytest.approx(value, abs=0.01)
        seen += 1
    assert seen


def test_every_channel_has_one_owner(tmp_path: Path) -> None:
    chip(
        tmp_path,
        0,
        "nct6779",
        "nct6775.656",
        temp1_input="38000",
        fan2_input="1098",
        power1_input="5000000",
        in0_input="792",
    )
    chip(tmp_path, 1, "nvme", "nvme0", temp1_input="40850")
    chip(tmp_path, 2, "acpitz", "thermal_zone0", temp1_input="27800")
    chip(tmp_path, 3, "drivetemp", "ata1", temp1_input="31000")
    chip(
        tmp_path,
        4,
        "cffps2",
        "7-0068",
        temp1_input="30000",
        fan1_input="9600",
        power1_input="300000000",
        in1_input="229500",
    )
    machine = Live(str(tmp_path))
    assert samples(machine, *SENSORS) == {
        ("hwmon.temp_celsius", "nct6775.656/nct6779/temp1"): 38,
        ("hwmon.in_volts", "nct6775.656/nct6779/in0"): 0.792,
        ("fans.rpm", "nct6775.656/nct6779/fan2"): 1098,
        ("power.watts", "nct6775.656/nct6779/power1"): 5,
        ("psu.temp_celsius", "7-0068/cffps2/temp1"): 30,
        ("psu.fan_rpm", "7-0068/cffps2/fan1"): 9600,
        ("psu.watts", "7-0068/cffps2/power1"): 300,
        ("psu.volts", "7-0068/cffps2/in1"): 229.5,
    }
    owners = {chips.owner(one, channel) for one in chips.read_chips(machine) for channel in one.channels}
    assert owners == {"hwmon", "fans", "power", "psu", "smart", "thermal"}


def test_a_power_supply_is_told_from_a_regulator_by_its_fan(tmp_path: Path) -> None:
    wired = {"in1_input": "229500", "in1_label": "vin", "power1_input": "300000000"}
    chip(tmp_path, 0, "pmbus", "3-0058", **wired, fan1_input="9600")
    chip(tmp_path, 1, "pmbus", "3-0040", **wired)
    machine = Live(str(tmp_path))
    assert {one.device: one.role for one in chips.read_chips(machine)} == {"3-0058": "psu", "3-0040": ""}
    chip(tmp_path, 0, "pmbus", in1_input="0", in1_lcrit_alarm="1")  # the cord is pulled: it stays a power supply
    result = run(psu, machine, 1)
    (supply,) = [fact for fact in result.facts if isinstance(fact, Psu)]
    assert (supply.key, supply.alarms, supply.sources) == ("3-0058/pmbus", ["in1_lcrit_alarm"], ["hwmon"])
    assert Sample("psu.volts", "3-0058/pmbus/vin", 0) in result.samples


# -- fans --


@pytest.mark.parametrize(
    ("attributes", "output", "fan", "numbers"),
    [
        ({"input": "1200", "min": "600"}, {}, Fan(key="d/c/fan1", min_rpm=600), {"fans.rpm": 1200}),
        ({"input": "0", "min": "0", "alarm": "1"}, {}, Fan(key="d/c/fan1"), {"fans.rpm": 0}),
        ({"input": "0", "alarm": "1"}, {}, Fan(key="d/c/fan1", alarm=True), {"fans.rpm": 0}),  # PMBus has no limit
        (
            {"input": "900", "min": "1000", "min_alarm": "1"},
            {},
            Fan(key="d/c/fan1", min_rpm=1000, alarm=True),
            {"fans.rpm": 900},
        ),
        ({"input": "65535000"}, {}, Fan(key="d/c/fan1"), {}),
        ({"input": "0", "fault": "1"}, {}, Fan(key="d/c/fan1", fault=True), {}),
        ({"input": "0", "enable": "0"}, {}, Fan(key="d/c/fan1"), {}),
        (
            {"input": "1"},
            {"": "128", "enable": "1"},
            Fan(key="d/c/fan1", pwm="manual"),
            {"fans.rpm": 1, "fans.pwm_percent": 50.2},
        ),
        ({"input": "1"}, {"": "300", "enable": "0"}, Fan(key="d/c/fan1", pwm="full"), {"fans.rpm": 1}),
        ({"input": "1"}, {"": "", "enable": "5"}, Fan(key="d/c/fan1", pwm="automatic"), {"fans.rpm": 1}),
    ],
)
def test_a_fan(attributes: dict[str, str], output: dict[str, str], fan: Fan, numbers: dict[str, float]) -> None:
    fan.chip, fan.channel = "c", "fan1"
    assert fans.parse_fan(Chip("d", "c"), "fan1", attributes, output) == (fan, numbers)


def test_fans_that_begin_at_two_and_outputs_that_drive_none(exporter: Live) -> None:
    found = {fact.key: fact for fact in run(fans, exporter, 1).facts if isinstance(fact, Fan)}
    assert "virtual/nct6779/fan2" in found
    assert found["virtual/nct6779/pwm1"].pwm == "automatic"
    assert found["asus-nb-wmi/asus/pwm1"].channel == "pwm1"
    assert found["applesmc.768/applesmc/fan1"].label == "Left side"


# -- SMBIOS --


def block(kind: int, size: int, strings: dict[int, str], numbers: dict[int, tuple[int, int]]) -> bytes:
    """One structure: strings by the place of their number, numbers by place with their size."""
    body = bytearray(size)
    body[0], body[1] = kind, size
    for number, at in enumerate(strings, 1):
        body[at] = number
    for at, (value, width) in numbers.items():
        body[at : at + width] = value.to_bytes(width, "little")
    texts = b"".join(text.encode() + b"\0" for text in strings.values()) or b"\0"
    return bytes(body) + texts + b"\0"


def listed(data: Path, title: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(file, field -> text) of what dmidecode printed under a title, of every system."""
    for path in sorted((data / "dmi-lshw-lspci").rglob("*")):
        text = path.read_text(errors="replace") if path.is_file() else ""
        for part in re.findall(rf"^{title}\n((?:[ \t]+.*\n?)+)", text, re.MULTILINE):
            yield path.name, dict(re.findall(r"^\s+([^:\n]+):[ \t]*([^\n]*?)[ \t]*$", part, re.MULTILINE))


STRINGS = {0x05: "Location", 0x06: "Name", 0x07: "Manufacturer", 0x08: "Serial Number", 0x09: "Asset Tag"}
STRINGS |= {0x0A: "Model Part Number", 0x0B: "Revision"}
STATUSES = {"OK": 3, "Non-critical": 4, "Critical": 5, "Other": 1}
TYPES = {"Linear": 3, "Switching": 4, "Battery": 5, "UPS": 6, "Converter": 7, "Regulator": 8, "Other": 1}


def supply(fields: dict[str, str]) -> bytes:
    """The structure that dmidecode printed so."""
    watts = re.match(r"(\d+) W", fields.get("Max Power Capacity", ""))
    status = fields.get("Status", "")
    traits = (
        int(fields.get("Hot Replaceable") == "Yes")
        | 2 * status.startswith("Present")
        | 4 * (fields.get("Plugged") == "No")
    )
    traits |= STATUSES.get(status.partition(", ")[2], 2) << 7 | TYPES.get(fields.get("Type", ""), 2) << 10
    strings = {at: fields[name] for at, name in STRINGS.items() if fields.get(name)}
    return block(39, 0x16, strings, {0x0C: (int(watts[1]) if watts else 0x8000, 2), 0x0E: (traits, 2)})


def test_power_supplies_of_real_systems_are_what_dmidecode_said(data: Path) -> None:
    count = 0
    for file, fields in listed(data, "System Power Supply"):
        found = psu.parse_supplies(supply(fields) + END)
        placeholders = [smbios.said(fields.get(name, "").encode()) for name in STRINGS.values()]
        watts = re.match(r"(\d+) W", fields.get("Max Power Capacity", ""))
        if not found:
            assert not any(placeholders[at] for at in (0, 1, 3)) and not watts, file  # noqa: PT018 - one template
            continue
        (one,) = found
        assert one.label == " ".join((placeholders[0] or placeholders[1]).split()), file
        assert one.serial == " ".join(placeholders[3].split()), file
        assert one.max_watts == (float(watts[1]) or None if watts else None), file
        assert one.present == fields.get("Status", "").startswith("Present"), file
        present, _, said = fields.get("Status", "").partition(", ")
        assert one.status == (
            said.lower() if present == "Present" and said in ("OK", "Non-critical", "Critical") else ""
        ), file
        assert one.hot_replaceable == (fields.get("Hot Replaceable", "") == "Yes"), file
        assert (one.plugged is True) == (one.present and fields.get("Plugged", "") == "Yes"), file
        count += 1
    assert count


def test_fans_of_real_systems_are_what_dmidecode_said(data: Path) -> None:
    kinds = {"Fan": 3, "Centrifugal Blower": 4, "Chip Fan": 5, "Cabinet Fan": 6, "Power Supply Fan": 7}
    seen = 0
    for file, fields in listed(data, "Cooling Device"):
        status = {"OK": 3, "Non-critical": 4, "Critical": 5, "Non-recoverable": 6}.get(fields.get("Status", ""), 0)
        speed = re.match(r"(\d+) rpm", fields.get("Nominal Speed", ""))
        strings = {0x0E: fields["Description"]} if fields.get("Description") else {}
        numbers = {
            0x06: (status << 5 | kinds.get(fields.get("Type", ""), 0), 1),
            0x0C: (int(speed[1]) if speed else 0x8000, 2),
        }
        found = fans.parse_cooling_devices(block(27, 0x0F, strings, numbers) + END)
        seen += 1
        assert len(found) == (fields.get("Type", "") in kinds), file
        for one in found:
            assert (one.status, one.nominal_rpm) == (
                fields["Status"].lower() if status else "",
                float(speed[1]) if speed else None,
            ), file
            assert one.label == smbios.said(fields.get("Description", "").encode()), file
    assert seen


def tables(data: Path) -> Iterable[bytes]:
    for path in sorted((data / "dmi-lshw-lspci").rglob("*")):
        if path.suffix in (".dmi", ".bin") and path.is_file():
            yield path.read_bytes()[32 if path.suffix == ".bin" else 0 :]


def test_real_tables_are_read_or_damaged(data: Path) -> None:
    found = list(tables(data))
    assert found
    for table in found:
        kinds = [one.kind for one in smbios.structures(table)]
        assert len(psu.parse_supplies(table)) <= kinds.count(39)
        assert len(fans.parse_cooling_devices(table)) <= kinds.count(27)


@given(st.binary(max_size=120) | st.binary(max_size=40).map(lambda tail: b"\x27\x16" + tail + b"\0\0"))
def test_any_table_is_read_or_damaged(table: bytes) -> None:
    try:
        psu.parse_supplies(table)
        fans.parse_cooling_devices(table)
    except MachineError as error:
        assert "damaged" in str(error)


def test_the_same_location_twice_and_a_template_that_nobody_filled_in() -> None:
    blank = supply({"Location": "To Be Filled By O.E.M.", "Name": "Not Specified", "Max Power Capacity": "Unknown"})
    one = supply({"Location": "PSU1", "Serial Number": "AB12", "Max Power Capacity": "750 W", "Status": "Present, OK"})
    found = psu.parse_supplies(one + blank + one + END)
    assert [(supply.key, supply.max_watts, supply.plugged) for supply in found] == [
        ("PSU1", 750, True),
        ("PSU1#2", 750, True),
    ]


def test_a_chip_with_the_serial_number_of_a_listed_power_supply_is_that_one(tmp_path: Path) -> None:
    table = supply({"Location": "PSU1", "Serial Number": "AB12"}) + supply(
        {"Location": "PSU2", "Serial Number": "CD34"}
    )
    write(tmp_path, {smbios.TABLE: table + END})
    chip(tmp_path, 0, "cffps2", "7-0068", power1_input="300000000", power1_label="pin")
    chip(tmp_path, 1, "cffps2", "7-0069", power1_input="310000000", power1_label="pin")
    write(tmp_path, {"/sys/kernel/debug/pmbus/hwmon1/mfr_serial": "CD34\n"})
    result = run(psu, Live(str(tmp_path)), 1)
    found = {fact.key: fact for fact in result.facts if isinstance(fact, Psu)}
    assert {key: fact.sources for key, fact in found.items()} == {
        "PSU1": ["smbios"],
        "PSU2": ["smbios", "hwmon"],
        "7-0068/cffps2": ["hwmon"],
    }
    assert {sample.key: sample.value for sample in result.samples} == {"PSU2/pin": 310, "7-0068/cffps2/pin": 300}


def test_mains_and_ups_are_supplies_and_batteries_are_not(exporter: Live, tmp_path: Path) -> None:
    found = [fact for fact in run(psu, exporter, 1).facts if isinstance(fact, Psu)]
    assert [(fact.key, fact.plugged, fact.type) for fact in found] == [("power_supply/AC", False, "Mains")]
    supplies: dict[str, Any] = {"AC": ("Mains", "1"), "ups": ("UPS", "0"), "BAT0": ("Battery", ""), "usb": ("USB", "1")}
    for name, (kind, online) in supplies.items():
        folder = f"/sys/class/power_supply/{name}"
        write(tmp_path, {f"{folder}/type": kind, f"{folder}/online": online})
    told = [fact for fact in run(psu, Live(str(tmp_path)), 1).facts if isinstance(fact, Psu)]
    assert {fact.label: fact.plugged for fact in told} == {"AC": True, "ups": False}
