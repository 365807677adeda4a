"""`rackhand-agent optics decode`: a dump of a module, decoded where there is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent import cli, exits, optics
from hardware_lab import eeprom
from hardware_lab.eeprom import Optic


def flat(form: eeprom.Form) -> bytes:
    """A module as the ioctl lays it out."""
    module = eeprom.build(Optic(form=form, serial="SN4711"))
    if form == "sfp":
        return eeprom.peek(module, "a0", 0, 256) + eeprom.peek(module, "a2", 0, 256)
    return eeprom.peek(module, "a0", 0, 640)


def hexed(data: bytes) -> str:
    """As `ethtool -m IF hex on` prints it."""
    lines = [f"0x{at:04x}:\t\t{data[at : at + 16].hex(' ')}" for at in range(0, len(data), 16)]
    return "\n".join(["Offset\t\tValues", "------\t\t------", *lines]) + "\n"


def decode(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert cli.main(["optics", "decode", str(path), "-o", "json", *words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("form", list(eeprom.LANES))
def test_a_dump_as_the_ioctl_has_it(form: eeprom.Form, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dump"
    path.write_bytes(flat(form))
    found = decode(path, capsys)
    assert (found["fact"]["vendor"], found["fact"]["serial"]) == ("LABOPTIC", "SN4711")
    assert found["decoded"]["dom"]["temp_c"] == 38.0
    assert ["optics.temperature_celsius", "", 38.0] in found["samples"]
    if form != "qsfp-dd":  # its lanes are on pages that a flat dump has not
        assert ["optics.rx_power_dbm", "/lane1", -3.0103] in found["samples"]
    path.write_text(hexed(flat(form)))
    assert decode(path, capsys) == found


def test_a_layout_says_where_the_bytes_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = eeprom.build(Optic(form="qsfp-dd"))
    blocks = {block: data for block, data in module.a0.items() if block < 257}
    segments = [
        {
            "i2c": "0x50",
            "page": max(block - 1, 0),
            "offset": 128 if block else 0,
            "length": 128,
            "file_offset": 128 * at,
        }
        for at, block in enumerate(blocks)
    ]
    dump, layout = tmp_path / "module.bin", tmp_path / "where.json"
    dump.write_bytes(b"".join(blocks.values()))
    layout.write_text(json.dumps({"segments": segments, "note": "other fields do not matter"}))
    found = decode(dump, capsys, "--layout", str(layout))
    assert ["optics.rx_power_dbm", "/lane8", -3.0103] in found["samples"]
    assert "dropped" not in found["fact"]
    layout.rename(tmp_path / "module.json")
    assert decode(dump, capsys) == found, "the layout beside the dump is taken unasked"


def test_for_people_it_is_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dump"
    path.write_bytes(flat("sfp"))
    assert cli.main(["optics", "decode", str(path)]) == 0
    text = capsys.readouterr().out
    for line in ("vendor", "optics.rx_power_dbm", "temperature_celsius"):
        assert line in text
    assert "not decoded" not in text


def test_a_dump_that_is_cut_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dump"
    path.write_bytes(flat("sfp")[:200])
    found = decode(path, capsys)
    assert found["fact"]["serial"] == "SN4711"
    assert found["fact"]["dropped"] == [
        "the dump ends within a block, 200 bytes",
        "A2h has 0 bytes: no diagnostics, which A0h announces",
    ]
    assert found["samples"] == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "no byte of the module was read"),
        (b"\xff" * 512, "identifier ffh: erased or not ready, nothing is decoded"),
        (b"\x06\x01" * 200, "identifier 06h: of no standard that is known, nothing is decoded"),
        (b"\x03" * 20, "A0h has 20 bytes, identity needs 64"),
        (bytes(optics.MOST + 1), "over 4194304 bytes, no module has so many"),
    ],
)
def test_what_cannot_be_decoded_is_one_line(
    content: bytes, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dump"
    path.write_bytes(content)
    assert cli.main(["optics", "decode", str(path), "-o", "json"]) == exits.FAILED
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"rackhand-agent: {path}: {text}\n")


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("{", "not a layout: "),
        ('{"segments": 1}', "not a layout: "),
        ('{"segments": [{"offset": 200, "length": 100, "file_offset": 0}]}', "no such segment: "),
        ('{"segments": [{"offset": 0, "length": 1, "file_offset": -1}]}', "no such segment: "),
        ('{"segments": [{"offset": 0, "length": 1, "file_offset": 0, "i2c": "0x60"}]}', "no such segment: "),
        (None, "No such file or directory"),
    ],
)
def test_a_layout_that_cannot_be_is_one_line(
    layout: str | None, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump, where = tmp_path / "dump", tmp_path / "layout"
    dump.write_bytes(flat("sfp"))
    if layout is not None:
        where.write_text(layout)
    assert cli.main(["optics", "decode", str(dump), "--layout", str(where)]) == exits.FAILED
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_no_dump_is_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["optics", "decode", str(tmp_path)]) == exits.FAILED
    assert capsys.readouterr().err == f"rackhand-agent: {tmp_path}: Is a directory\n"


def test_what_is_no_hex_dump_stays_as_it_is() -> None:
    assert optics.unhexed(b"0x0000: 03 04\n") == b"\x03\x04"
    assert optics.unhexed(b"0x0010: 03 04\n") == b"0x0010: 03 04\n", "it does not begin at the beginning"
    assert optics.unhexed(b"\x03\x04\xff") == b"\x03\x04\xff"
