"""SMBIOS tables: real firmware's dumps, damage of every kind, and what a redacted capture keeps of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import MachineError, NotPresentError, redact, smbios
from machine.capture import Captured, Recording
from machine.disguise import Disguise
from machine.live import Live
from machine.smbios import Structure, devices_only, said, structures
from machine.tape import Tape

DUMPS = "dmi-lshw-lspci/*/*.*"
END = bytes((127, 4, 0xFF, 0xFE, 0, 0))
# Strings of the devices that a capture keeps: who made it and what it is; which one it is.
NAMES = {
    smbios.MEMORY_DEVICE: (0x10, 0x11, 0x17, 0x1A),
    smbios.COOLING_DEVICE: (0x0E,),
    smbios.POWER_SUPPLY: (5, 6, 7, 10),
}
SERIALS = {smbios.MEMORY_DEVICE: (0x18, 0x19), smbios.COOLING_DEVICE: (), smbios.POWER_SUPPLY: (8, 9)}


def dumps(data: Path) -> Iterator[bytes]:
    """Tables of real machines; those of `dmidecode --dump-bin` begin with 32 bytes of entry point."""
    for path in sorted(data.glob(DUMPS)):
        if path.suffix in (".dmi", ".bin"):
            yield path.read_bytes()[32 if path.suffix == ".bin" else 0 :]


def device(strings: list[bytes], size: int = 0x5C, **numbers: int) -> bytes:
    """A memory device whose string fields carry these numbers."""
    fields = bytearray(size)
    fields[0], fields[1] = smbios.MEMORY_DEVICE, len(fields)
    places = {
        "locator": 0x10,
        "bank": 0x11,
        "vendor": 0x17,
        "serial": 0x18,
        "tag": 0x19,
        "part": 0x1A,
        "firmware": 0x2B,
    }
    for name, number in numbers.items():
        fields[places[name]] = number
    return bytes(fields) + b"\0".join(strings) + b"\0\0"


def test_real_tables_are_read_to_their_end(data: Path) -> None:
    tables = list(dumps(data))
    assert len(tables) == 5
    for table in tables:
        found = list(structures(table))
        assert [one.kind for one in found].count(smbios.END_OF_TABLE) == 1
        assert found[-1].kind == smbios.END_OF_TABLE
        assert {0, 1, 16, 17} <= {one.kind for one in found}
        assert all(len(one.body) == one.body[1] for one in found)


def test_a_real_table_cut_anywhere_is_read_so_far_or_damaged(data: Path) -> None:
    table = next(dumps(data))
    whole = list(structures(table))
    for end in range(len(table)):
        try:
            found = list(structures(table[:end]))
        except MachineError as error:
            assert "damaged at byte" in str(error)
        else:
            assert found == whole[: len(found)]


@pytest.mark.parametrize("table", [b"\1", b"\1\2\3\4\0\0", b"\1\4\0\0no end", b"\0\3\0\0\0\0", b"\1\x40\0\0\0\0"])
def test_damage_is_one_clear_error(table: bytes) -> None:
    with pytest.raises(MachineError, match=rf"^SMBIOS table of {len(table)} bytes is damaged at byte 0$"):
        list(structures(table))


def test_a_table_may_be_padded_or_end_without_a_mark() -> None:
    one = b"\1\4\0\0a\0b\0\0"
    expected = [Structure(1, b"\1\4\0\0", [b"a", b"b"])]
    assert list(structures(b"")) == []
    assert list(structures(one)) == list(structures(one + bytes(500))) == expected
    assert list(structures(one + END + b"\1garbage")) == [*expected, Structure(127, END[:4], [b""])]


def test_what_an_older_structure_lacks_is_zero_and_no_text() -> None:
    (one,) = structures(device([b"A1"], 0x15, locator=1, bank=2))
    assert (one.number(0x0C, 2), one.number(0x14, 1), one.number(0x14, 2), one.number(0x54, 4)) == (0, 0, 0, 0)
    assert (one.text(0x10), one.text(0x11), one.text(0x12), one.text(0x17)) == ("A1", "", "", "")


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda tail: b"\x11\x1b" + tail + b"\0\0"))
def test_whatever_the_bytes_are_there_are_structures_or_one_error(table: bytes) -> None:
    try:
        found = list(structures(table))
    except MachineError:
        with pytest.raises(MachineError):
            devices_only(table, str)
        return
    assert sum(len(one.body) for one in found) <= len(table)
    kept = list(structures(devices_only(table, str)))
    assert kept[:-1] == [one for one in found if one.kind in NAMES]


@pytest.mark.parametrize(
    "text",
    [
        *("NO DIMM", "Not Specified", "NOT AVAILABLE", "Unknown", "UNKNOWN", "Undefined         ", "None", "N/A", " "),
        *("To Be Filled By O.E.M.", "Default string", "Module Not Present", "[Empty]", "Empty", "--", "(null)", ""),
        *("DIMM_A1_SN", "P1-DIMMA1_PN", "Dimm0_SerNum", "SerNum03", "PartNum7", "ModulePartNumber01", "Manufacturer00"),
        *("A1_Manufacturer0", "Array1_PartNumber2", "Dimm1_AssetTag", "DIMMA2_AssetTag(16/36)", "AssetTagNum11"),
        *("P1_DIMMA1_AssetTag (Date:17/11)", "00000000", "FFFFFFFF", "0x00000000", "XXXXXXXX", "0000 0000"),
    ],
)
def test_placeholders_say_nothing(text: str) -> None:
    assert said(text.encode()) == ""


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        *[
            (text.encode(), text)
            for text in ("346C4A12", "18KSF51272PZ-1G4K", "00CE00B300CE", "A0", "DIMM 0", "0", "FF")
        ],
        *[
            (text.encode(), text)
            for text in ("HP647647-071-HYE", "KF3200C16D4/32GX", "PROC  1 DIMM  1", "/SYS/MB/P0/D0")
        ],
        *[
            (text.encode(), text)
            for text in ("Noname", "Nanya", "SK Hynix", "Unknown Devices Inc", "BANK 0", "000DBEEF")
        ],
        (b" Micron \t  ", "Micron"),
        (b"A\x01B\x7f", "AB"),
        (b"Q\xff", "Q\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_what_means_something_stays(raw: bytes, text: str) -> None:
    assert said(raw) == text


def test_only_memory_devices_stay_and_only_their_public_strings() -> None:
    system = bytes((1, 0x1B, 0, 0, 1, 2, 3, 4)) + b"\x4c" * 16 + b"\1\0\0" + b"Dell\0R750\0v\0B5QN72X\0\0"
    strings = [b"A1", b"Bank", b"Samsung", b"SN346C4A12  ", b"TAG777", b"M393", b"1.0", b"MAC 0c42a1aabbcc"]
    fields = {"locator": 1, "bank": 2, "vendor": 3, "serial": 4, "tag": 5, "part": 6, "firmware": 7}
    kept = devices_only(system + device(strings, **fields) + END, Disguise(b"salt").word)
    (one, end) = structures(kept)
    assert end.kind == smbios.END_OF_TABLE
    assert one.strings[:3] + one.strings[5:7] == strings[:3] + strings[5:7]
    assert [len(text) for text in one.strings] == [len(text) for text in strings]
    for secret in (b"346C4A12", b"TAG777", b"0c42a1aabbcc", b"B5QN72X", b"R750", b"\x4c" * 4):
        assert secret not in kept


def test_a_string_that_is_a_serial_number_too_is_one_and_a_placeholder_is_none() -> None:
    table = device([b"A1", b"346C4A12", b"Unknown"], locator=1, part=2, serial=2, tag=3)
    table += device([b"A2", b"NO DIMM", b"\xe9\xff77"], locator=1, part=2, serial=2, tag=3)
    (one, two, _) = structures(devices_only(table, Disguise(b"salt").word))
    assert (one.text(0x10), one.strings[2]) == ("A1", b"Unknown")
    assert one.strings[1] != b"346C4A12"
    assert two.strings[:2] == [b"A2", b"NO DIMM"]
    assert two.strings[2][:2] == b"\xe9\xff"
    assert two.strings[2] != b"\xe9\xff77"


def test_no_serial_number_of_a_real_machine_survives_a_capture(data: Path) -> None:
    for table in dumps(data):
        devices = [one for one in structures(table) if one.kind in NAMES]
        serials = {one.text(at) for one in devices for at in SERIALS[one.kind]}
        tape: Tape = {("file", smbios.TABLE): table}
        machine = Captured(_text(tape))
        again = list(structures(machine.read_bytes(smbios.TABLE)))
        assert [one.body for one in again[:-1]] == [one.body for one in devices]
        assert not [serial for serial in serials if serial and serial.encode() in machine.read_bytes(smbios.TABLE)]
        names = [[one.text(at) for at in NAMES[one.kind]] for one in devices]
        assert [[one.text(at) for at in NAMES[one.kind]] for one in again[:-1]] == names


def _text(tape: Tape) -> str:
    recording = Recording(Live())
    recording.tape = tape
    return recording.dump()


def test_the_same_serial_number_has_the_same_stand_in_elsewhere() -> None:
    tape: Tape = {
        ("file", smbios.TABLE): device([b"A1", b"5CG0071XK9"], locator=1, serial=2) + END,
        ("file", "/sys/class/dmi/id/product_serial"): b"5CG0071XK9\n",
    }
    redacted = redact.redact(tape)
    (one, _) = structures(_bytes(redacted, smbios.TABLE))
    assert one.text(0x18) == _bytes(redacted, "/sys/class/dmi/id/product_serial").decode().strip() != "5CG0071XK9"


def _bytes(tape: Tape, path: str) -> bytes:
    body = tape["file", path]
    assert isinstance(body, bytes)
    return body


@pytest.mark.parametrize("path", ["/sys/firmware/dmi/tables/smbios_entry_point", "/sys/bus/pci/devices/x/vpd"])
def test_other_files_of_bytes_are_left_out(path: str) -> None:
    tape: Tape = {("file", path): device([b"A1", b"346C4A12"], locator=1) + END}
    with pytest.raises(NotPresentError, match="left out of a redacted capture"):
        Captured(_text(tape)).read_bytes(path)


def test_a_damaged_table_is_left_out_and_a_denied_one_stays_denied() -> None:
    damaged: Tape = {("file", smbios.TABLE): device([b"A1", b"346C4A12"], locator=1, serial=2) + b"\1\2rest"}
    with pytest.raises(NotPresentError, match="left out of a redacted capture"):
        Captured(_text(damaged)).read_bytes(smbios.TABLE)
    refused = MachineError(f"{smbios.TABLE}: Permission denied")
    with pytest.raises(MachineError, match="Permission denied"):
        Captured(_text({("file", smbios.TABLE): refused})).read_bytes(smbios.TABLE)
