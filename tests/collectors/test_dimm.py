"""Memory modules: real firmware's tables against what other readers say of them, and the standard's rules."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import dimm
from collectors.dimm import parse_dimms, parse_size, parse_speed, unique_keys
from collectors.run import run
from machine import DeniedError, MachineError, NotPresentError, smbios
from machine.capture import Captured, Recording
from machine.live import Live
from machine.smbios import said
from tests.collectors.conftest import write
from wire.facts import Dimm
from wire.report import Status

END = bytes((127, 4, 0xFF, 0xFE, 0, 0))
TEXTS = ("glpi-dmidecode/*", "linuxhw-DMI/*", "netbox-agent/*", "u-root-smbios/*.txt", "ironlib/asrr/*/dmidecode*")


def device(*strings: str, size: int = 0x5C, **fields: int) -> bytes:
    """A memory device: locator, bank, vendor, serial, part in this order, numbers in fields named after their place."""
    body = bytearray(0x64)
    body[0] = smbios.MEMORY_DEVICE
    body[1] = size
    for number, at in zip(range(1, len(strings) + 1), (0x10, 0x11, 0x17, 0x18, 0x1A), strict=False):
        body[at] = number
    widths = {0x0C: 2, 0x15: 2, 0x1C: 4, 0x20: 2, 0x54: 4, 0x58: 4}
    for name, value in fields.items():
        at = int(name.removeprefix("at_"), 16)
        body[at : at + widths.get(at, 1)] = value.to_bytes(widths.get(at, 1), "little")
    return bytes(body[:size]) + b"\0".join(text.encode() for text in strings) + b"\0\0"


def dump(data: Path, name: str) -> bytes:
    """A real table; one of `dmidecode --dump-bin` begins with 32 bytes of entry point."""
    return (data / "dmi-lshw-lspci" / name).read_bytes()[32 if name.endswith(".bin") else 0 :]


def blocks(path: Path) -> Iterator[dict[str, str]]:
    """The memory devices in a text of dmidecode."""
    text = path.read_text(errors="replace").replace("\r", "")
    for block in re.split(r"\n(?=Handle 0x)", text):
        found: dict[str, str] = dict(re.findall(r"^\s+([A-Z][^:\n]*): *(.*?) *$", block, re.MULTILINE))
        if re.search(r"DMI type 17\b", block) and "Locator" in found:
            yield found


def texts(data: Path) -> list[list[dict[str, str]]]:
    found = [list(blocks(path)) for glob in TEXTS for path in sorted((data / "dmi-lshw-lspci").glob(glob))]
    return [each for each in found if each]


def number(text: str) -> int | None:
    """What dmidecode writes as `16 GB`, `1333 MT/s`, `2`; None for `Unknown`, `No Module Installed`."""
    match = re.match(r"(\d+)(?: (GB))?", text)
    return int(match[1]) * (1024 if match[2] else 1) if match else None


# Real tables.


@pytest.mark.parametrize("name", ["SuperMicro-X9DBL", "Gigabyte-GA-MA74GMT-S2"])
def test_a_real_table_says_what_dmidecode_says_of_it(name: str, data: Path) -> None:
    theirs = list(blocks(data / f"dmi-lshw-lspci/u-root-smbios/{name}.orig.txt"))
    ours = parse_dimms(dump(data, f"u-root-smbios/{name}.bin"))
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert (one.locator, one.bank) == (other["Locator"], other["Bank Locator"])
        assert one.size_mib == number(other["Size"])
        assert one.populated == (other["Size"] != "No Module Installed")
        assert (one.type, one.form_factor) == (other["Type"].replace("Unknown", ""), other["Form Factor"])
        assert one.speed_mts == number(other.get("Speed", ""))
        assert one.configured_mts == number(other.get("Configured Memory Speed", ""))
        assert one.ranks == number(other.get("Rank", ""))
        assert one.vendor == other["Manufacturer"].strip().replace("Undefined", "")
        assert (one.serial, one.part) == (other["Serial Number"].strip(), other["Part Number"].strip())


@pytest.mark.parametrize("name", ["Dell-PowerEdge-R630-Dual-Xeon", "SuperMicro-Dual-Xeon", "ASRock-Single-Ryzen"])
def test_a_real_table_says_what_another_decoder_says_of_it(name: str, data: Path) -> None:
    theirs = json.loads((data / f"dmi-lshw-lspci/go-smbios/{name}.json").read_text())["MemoryDevices"]
    ours = parse_dimms(dump(data, f"go-smbios/{name}.dmi"))
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert (one.locator, one.bank) == (other["DeviceLocator"], other["BankLocator"])
        size = other["ExtendedSize"] if other["Size"] == 0x7FFF else other["Size"]
        assert (one.size_mib or 0, one.populated) == (size, size != 0)
        assert (one.type, one.form_factor) == ({24: "DDR3", 26: "DDR4"}.get(other["MemoryType"], ""), form(other))
        assert (one.speed_mts or 0, one.configured_mts or 0) == (other["Speed"], other["ConfiguredMemorySpeed"])
        assert (one.ranks or 0) == other["Attributes"] & 0xF
        strings = [other[name].strip() for name in ("Manufacturer", "SerialNumber", "PartNumber")]
        assert [one.vendor, one.serial, one.part] == [text.replace("Unknown", "") for text in strings]


def form(device: dict[str, int]) -> str:
    return {9: "DIMM"}.get(device["FormFactor"], "")


def test_slots_of_a_real_board_with_one_locator_per_channel_have_keys_of_their_own(data: Path) -> None:
    keys = [one.key for one in parse_dimms(dump(data, "go-smbios/ASRock-Single-Ryzen.dmi"))]
    assert keys == [f"P0 CHANNEL {channel} DIMM {slot}" for channel in "AB" for slot in (0, 1)]


def test_every_word_of_dmidecode_for_real_memory_is_in_the_tables(data: Path) -> None:
    found = texts(data)
    assert len(found) >= 25
    devices = [device for one in found for device in one]
    assert {one["Type"] for one in devices} - {"Unknown", "<OUT OF SPEC>"} <= set(dimm.TYPES.values())
    assert {one["Form Factor"] for one in devices} - {"Unknown"} <= set(dimm.FORM_FACTORS.values())
    assert {"DDR2", "DDR3", "DDR4", "DDR5"} <= {one["Type"] for one in devices}


def test_an_empty_slot_of_a_real_machine_names_no_module(data: Path) -> None:
    empty = [one for each in texts(data) for one in each if one["Size"] == "No Module Installed"]
    assert len(empty) > 250
    wrong = {
        one[name]
        for one in empty
        for name in ("Manufacturer", "Part Number", "Serial Number")
        if said(one.get(name, "").encode()) and one[name] != "4242"  # what the corpus put in a serial number's place
    }
    assert wrong == set()


def test_real_locators_give_keys_of_their_own_and_stay_as_they_are_where_they_can(data: Path) -> None:
    for devices in texts(data):
        places = [(said(one["Bank Locator"].encode()), said(one["Locator"].encode())) for one in devices]
        keys = unique_keys(places)
        assert len(set(keys)) == len(keys)
        locators = [locator for _, locator in places]
        for (_, locator), key in zip(places, keys, strict=True):
            assert (key == locator) == (locators.count(locator) == 1 and locator != "")
            assert "#" not in key or not locator or key == locator  # some are called "RAM slot #0"


# The decoding rules.


@pytest.mark.parametrize(
    ("size", "extended", "mib"),
    [
        *[(0, 0, None), (0, 99, None), (0xFFFF, 0, None), (0xFFFF, 4096, None), (16384, 0, 16384), (0x7FFE, 1, 0x7FFE)],
        *[(0x7FFF, 32768, 32768), (0x7FFF, 0x80000000 | 131072, 131072)],
        *[(0x8000 | 2048, 0, 2), (0x8000 | 512, 0, 0)],
    ],
)
def test_sizes(size: int, extended: int, mib: int | None) -> None:
    assert parse_size(size, extended) == mib


@pytest.mark.parametrize(
    ("speed", "extended", "mts"),
    [
        (0, 0, None),
        (0, 8000, None),
        (5600, 0, 5600),
        (0xFFFF, 70000, 70000),
        (0xFFFF, 0, None),
        (0xFFFF, 1 << 31, None),
    ],
)
def test_speeds(speed: int, extended: int, mts: int | None) -> None:
    assert parse_speed(speed, extended) == mts


def test_every_field_of_a_new_module() -> None:
    strings = ("DIMM_A1", "P0_Node0_Channel0_Dimm0", "Samsung  ", "80CE0123", " M321R8GA0BB0-CQKZJ ")
    numbers = {"at_0c": 0x7FFF, "at_1c": 65536, "at_0e": 9, "at_12": 34, "at_15": 5600, "at_20": 4800, "at_1b": 0xF2}
    assert parse_dimms(device(*strings, **numbers) + END) == [
        Dimm(
            key="DIMM_A1",
            locator="DIMM_A1",
            bank="P0_Node0_Channel0_Dimm0",
            populated=True,
            size_mib=65536,
            type="DDR5",
            form_factor="DIMM",
            speed_mts=5600,
            configured_mts=4800,
            vendor="Samsung",
            part="M321R8GA0BB0-CQKZJ",
            serial="80CE0123",
            ranks=2,
        )
    ]


def test_fast_modules_use_the_extended_speeds() -> None:
    (one,) = parse_dimms(device("A", size=0x64, at_0c=1, at_15=0xFFFF, at_54=70000, at_20=0xFFFF, at_58=68000))
    assert (one.speed_mts, one.configured_mts) == (70000, 68000)


def test_a_table_of_smbios_2_1_lacks_the_later_fields() -> None:
    (one,) = parse_dimms(device("A0", "Bank0/1", size=0x15, at_0c=512, at_12=15, at_0e=9))
    assert one == Dimm(
        key="A0", locator="A0", bank="Bank0/1", populated=True, size_mib=512, type="SDRAM", form_factor="DIMM"
    )


def test_a_module_of_unknown_size_is_there_all_the_same() -> None:
    (unknown, empty) = parse_dimms(device("A1", at_0c=0xFFFF) + device("A2"))
    assert (unknown.populated, unknown.size_mib) == (True, None)
    assert empty == Dimm(key="A2", locator="A2")


@pytest.mark.parametrize(("code", "word"), [(0, ""), (1, ""), (2, ""), (26, "DDR4"), (34, "DDR5"), (0x7F, "0x7f")])
def test_codes_that_the_table_does_not_have_are_reported_as_they_are(code: int, word: str) -> None:
    assert parse_dimms(device("A1", at_0c=1, at_12=code))[0].type == word


def test_the_tables_are_those_of_the_standard() -> None:
    assert set(dimm.TYPES) == {*range(3, 21), *range(24, 37)}
    assert (dimm.TYPES[3], dimm.TYPES[15], dimm.TYPES[18], dimm.TYPES[25]) == ("DRAM", "SDRAM", "DDR", "FBD2")
    assert (dimm.TYPES[30], dimm.TYPES[33], dimm.TYPES[36]) == ("LPDDR4", "HBM2", "HBM3")
    assert set(dimm.FORM_FACTORS) == {*range(3, 18)}
    assert (dimm.FORM_FACTORS[13], dimm.FORM_FACTORS[15], dimm.FORM_FACTORS[17]) == ("SODIMM", "FB-DIMM", "CAMM")


@pytest.mark.parametrize(
    ("places", "keys"),
    [
        ([("b", "A1"), ("b", "A2")], ["A1", "A2"]),
        ([("CPU 1", "DIMM 1"), ("CPU 2", "DIMM 1"), ("", "X")], ["CPU 1 DIMM 1", "CPU 2 DIMM 1", "X"]),
        ([("", "DIMM 0"), ("", "DIMM 0"), ("", "DIMM 0#2")], ["DIMM 0", "DIMM 0#3", "DIMM 0#2"]),
        ([("", ""), ("", ""), ("BANK 2", "")], ["slot", "slot#2", "BANK 2"]),
        ([("B", "A"), ("B", "A"), ("", "B A")], ["B A", "B A#2", "B A#3"]),
        ([], []),
    ],
)
def test_keys(places: list[tuple[str, str]], keys: list[str]) -> None:
    assert unique_keys(places) == keys


WORDS = st.sampled_from(["", "A", "B", "A#2", "slot", "A A", "A B#2", "B#3"])


@given(st.lists(st.tuples(WORDS, WORDS), max_size=12))
def test_keys_are_unique_whatever_firmware_calls_its_slots(places: list[tuple[str, str]]) -> None:
    keys = unique_keys(places)
    assert len(set(keys)) == len(keys) == len(places)
    assert "" not in keys


@given(st.binary(max_size=120) | st.binary(max_size=100).map(lambda tail: b"\x11\x1b" + tail + b"\0\0"))
def test_whatever_the_bytes_are_there_are_modules_or_one_error(table: bytes) -> None:
    try:
        found = parse_dimms(table)
    except MachineError:
        return
    assert len({one.key for one in found}) == len(found)


# A machine.


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A root with two slots and nothing of EDAC."""
    table = device("DIMM_A1", "Node0", at_0c=1024, at_12=26) + device("DIMM_B1", "Node1") + END
    write(tmp_path, {smbios.TABLE: table})
    return tmp_path


def test_without_edac_there_are_facts_alone(server: Path) -> None:
    result = run(dimm, Live(str(server)), 0)
    assert (result.status, result.samples) == (Status.OK, [])
    assert result.facts == parse_dimms((server / smbios.TABLE.lstrip("/")).read_bytes())


def test_a_machine_without_a_table_has_none(tmp_path: Path) -> None:
    with pytest.raises(NotPresentError, match=r"^no memory device in /sys/firmware/dmi/tables/DMI$"):
        list(dimm.collect(Live(str(tmp_path))))
    write(tmp_path, {smbios.TABLE: b"\1\4\0\0\0\0" + END})
    assert run(dimm, Live(str(tmp_path)), 0).status is Status.ABSENT


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeniedError(f"{smbios.TABLE}: Permission denied"), "DeniedError: .*DMI: Permission denied"),
        (None, ".* damaged"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_failure_with_its_reason(error: MachineError | None, reason: str) -> None:
    recording = Recording(Live())
    recording.tape["file", smbios.TABLE] = error or b"\1\2\3"
    result = run(dimm, Captured(recording.dump(redact=False)), 0)
    assert (result.status, result.facts) == (Status.FAILED, [])
    assert re.match(reason, result.reason)


def test_a_redacted_capture_of_a_real_machine_tells_the_same_modules_but_their_serial_numbers(data: Path) -> None:
    recording = Recording(Live())
    recording.tape["file", smbios.TABLE] = dump(data, "go-smbios/SuperMicro-Dual-Xeon.dmi")
    before = run(dimm, Captured(recording.dump(redact=False)), 0).facts
    after = run(dimm, Captured(recording.dump()), 0).facts
    assert len(before) == len(after) == 16
    for one, other in zip(before, after, strict=True):
        assert isinstance(one, Dimm)
        assert isinstance(other, Dimm)
        assert len(one.serial) == len(other.serial) == 8
        assert one.serial != other.serial
        other.serial = one.serial
        assert one == other
