"""Module images: known bytes of built ones, real ones against what the standards make of them, and changes."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_lab import cage, eeprom
from hardware_lab.eeprom import Form, Lane, Module, Monitor, Optic, build, measured, peek, place, poke, with_monitor
from hardware_lab.failure import LabError

FORMS: tuple[Form, ...] = ("sfp", "qsfp28", "qsfp-dd")
# Address, offset, and the bytes there: SFF-8472, SFF-8636 and CMIS as their tables have them.
GOLDEN: dict[Form, dict[tuple[eeprom.Address, int], str]] = {
    "sfp": {
        ("a0", 0): "03 04 07 10",
        ("a0", 20): "4c 41 42 4f 50 54 49 43 20 20 20 20 20 20 20 20",  # LABOPTIC
        ("a0", 60): "03 52",  # 850 nm
        ("a0", 68): "53 4e 37 20",
        ("a2", 0): "4b 00 fb 00 46 00 00 00",  # 75, -5, 70, 0 °C
        ("a2", 8): "8d cc 74 04 87 5a 7a 76",  # 3.63, 2.97, 3.465, 3.135 V
        ("a2", 96): "f5 c0 81 4c 0c b2 17 70 00 0a",  # -10.25 °C, 3.31 V, 6.5 mA, 0.6 mW, 0.001 mW
        ("a2", 112): "40 40 00 00 40 40",  # temperature and Rx power: low alarms, low warnings
    },
    "qsfp28": {
        ("a0", 0): "11 08 00",
        ("a0", 6): "50 00 00 55 55",  # temperature low; Rx power low on lanes 1 to 4, the first in the high nibbles
        ("a0", 22): "f5 c0",
        ("a0", 26): "81 4c",
        ("a0", 34): "00 0a 00 0a 00 0a 00 0a 0c b2",
        ("a0", 148): "4c 41 42 4f 50 54 49 43 20",
        ("a0", 196): "53 4e 37 20",
        ("a0", place(3, 128)): "4b 00 fb 00 46 00 00 00",
        ("a0", place(3, 176)): "3a 98 00 c8 2e e0 01 f4",  # 1.5, 0.02, 1.2, 0.05 mW
    },
    "qsfp-dd": {
        ("a0", 0): "18 50 00 07",
        ("a0", 9): "0a",  # temperature: low alarm, low warning
        ("a0", 14): "f5 c0 81 4c",
        ("a0", place(0, 128)): "18 4c 41 42 4f 50 54 49 43 20",
        ("a0", place(0, 166)): "53 4e 37 20",
        ("a0", place(2, 128)): "4b 00 fb 00 46 00 00 00",
        ("a0", place(0x11, 149)): "00 ff 00 ff",  # Rx power of eight lanes: low alarm, low warning
        ("a0", place(0x11, 154)): "17 70 17 70",
        ("a0", place(0x11, 184)): "0c b2 00 0a",
    },
}
# First and last byte summed, and where the sum is: page, byte.
SUMS: dict[Form, list[tuple[eeprom.Address, int, int, int, int]]] = {
    "sfp": [("a0", 0, 0, 62, 63), ("a0", 0, 64, 94, 95), ("a2", 0, 0, 94, 95)],
    "qsfp28": [("a0", 0, 128, 190, 191), ("a0", 0, 192, 222, 223)],
    "qsfp-dd": [("a0", 0, 128, 221, 222), ("a0", 1, 130, 254, 255), ("a0", 2, 128, 254, 255)],
}
WORDS: dict[Monitor, str] = {"bias_ma": "tx_bias_ma", "tx_mw": "tx_mw", "rx_mw": "rx_mw"}


def sums_ok(module: Module, form: Form) -> list[bool]:
    return [
        sum(peek(module, address, place(page, first), last - first + 1)) & 0xFF
        == peek(module, address, place(page, at), 1)[0]
        for address, page, first, last, at in SUMS[form]
    ]


def dumps(data: Path) -> list[Path]:
    return sorted(path for path in (data / "sfp").glob("*/*.bin") if path.parent.name != "expected")


@pytest.mark.parametrize("form", FORMS)
def test_a_built_module_has_its_bytes_where_the_standard_says(form: Form) -> None:
    module = build(Optic(form=form, serial="SN7", temperature_c=-10.25, vcc_v=3.31, lanes=(Lane(rx_mw=0.001),)))
    found = {at: peek(module, *at, len(bytes.fromhex(text))).hex(" ") for at, text in GOLDEN[form].items()}
    assert found == GOLDEN[form]
    assert sums_ok(module, form) == [True] * len(SUMS[form])


@pytest.mark.parametrize("form", FORMS)
def test_every_lane_has_its_own_values(form: Form) -> None:
    lanes = tuple(Lane(bias_ma=5 + at / 2, tx_mw=0.5 + at / 16, rx_mw=0.25 + at / 16) for at in range(8))
    module = build(Optic(form=form, lanes=lanes))
    for at in range(eeprom.LANES[form]):
        for monitor in WORDS:
            assert measured(module, monitor, at) == pytest.approx(getattr(lanes[at], monitor))
    with pytest.raises(LabError, match="is not there"):
        measured(module, "rx_mw", 32)


@given(form=st.sampled_from(FORMS), lane=st.integers(0, 7), mw=st.floats(0, 6.5), celsius=st.floats(-127, 127))
def test_what_is_set_is_measured_and_breaks_no_sum(form: Form, lane: int, mw: float, celsius: float) -> None:
    lane %= eeprom.LANES[form]
    module = with_monitor(build(Optic(form=form)), "rx_mw", mw, lane)
    module = with_monitor(module, "temperature_c", celsius)
    assert measured(module, "rx_mw", lane) == pytest.approx(mw, abs=0.00006)
    assert measured(module, "temperature_c") == pytest.approx(celsius, abs=0.002)
    assert all(sums_ok(module, form))


LOUD: tuple[tuple[Monitor, float, float], ...] = (
    ("temperature_c", -20, 90),
    ("vcc_v", 2, 4),
    ("rx_mw", 0, 3),
    ("bias_ma", 0, 20),
)


def flips(before: Module, after: Module) -> int:
    """Bits that differ."""
    runs = cage.differences(before, after)
    old = b"".join(peek(before, run.address, run.offset, len(run.data)) for run in runs)
    new = b"".join(run.data for run in runs)
    return (int.from_bytes(old, "big") ^ int.from_bytes(new, "big")).bit_count()


@pytest.mark.parametrize("form", FORMS)
def test_flags_follow_the_thresholds_and_clear_again(form: Form) -> None:
    calm, last = build(Optic(form=form)), eeprom.LANES[form] - 1
    for monitor, *values in LOUD:
        usual = measured(calm, monitor, last)
        row = eeprom._row(calm, monitor, last)
        for value in values:
            loud = with_monitor(calm, monitor, value, last)
            flags_only = poke(loud, row.address, row.value, peek(calm, row.address, row.value, 2))
            assert flips(calm, flags_only) == 2, "an alarm and a warning"
            assert with_monitor(loud, monitor, usual, last) == calm


def test_thresholds_that_are_not_set_raise_no_flags() -> None:
    module = build(Optic(levels={}))
    assert peek(with_monitor(module, "temperature_c", 100), "a2", 112, 6) == bytes(6)


@pytest.mark.parametrize("form", FORMS)
def test_a_corrupt_module_always_has_a_wrong_sum(form: Form) -> None:
    for vendor in ("LABOPTIC", "", "~~~~~", "A" * 16):
        module = build(Optic(form=form, vendor=vendor))
        assert not sums_ok(eeprom.corrupted(module), form)[0]
        assert eeprom.corrupted(eeprom.corrupted(module)) == module


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: build(Optic(vendor="V" * 17)), "at most 16 printable"),
        (lambda: build(Optic(serial="Zürich")), "at most 16 printable"),
        (lambda: build(Optic(vcc_v=7)), "does not fit"),
        (lambda: build(Optic(lanes=(Lane(rx_mw=-1),))), "does not fit"),
        (lambda: build(Optic(temperature_c=math.nan)), "does not fit"),
        (lambda: with_monitor(build(Optic()), "rx_mw", 1, 1), "lane 1 is not there"),
        (lambda: with_monitor(build(Optic(form="qsfp28")), "rx_mw", 1, -1), "lane -1 is not there"),
        (lambda: with_monitor(Module(), "rx_mw", 1), "identifier 0x00"),
        (lambda: with_monitor(poke(build(Optic()), "a0", 92, b"\x50"), "rx_mw", 1), "externally calibrated"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(build_it: Any, message: str) -> None:
    with pytest.raises(LabError, match=message):
        build_it()


def test_every_real_image_loads_into_the_place_of_its_pages(data: Path) -> None:
    found = dumps(data)
    assert found
    for path in found:
        module, dump = eeprom.load(path), path.read_bytes()
        for segment in json.loads(path.with_suffix(".json").read_text())["segments"]:
            at = place(segment["page"], segment["offset"], segment["bank"])
            expected = dump[segment["file_offset"] : segment["file_offset"] + segment["length"]]
            assert peek(module, "a2" if segment["i2c"] == "0x51" else "a0", at, segment["length"]) == expected, path
        assert {len(block) for space in (module.a0, module.a2) for block in space.values()} <= {eeprom.BLOCK}


def test_real_modules_measure_what_the_standards_make_of_them(data: Path) -> None:
    compared = 0
    for path in dumps(data):
        module = eeprom.load(path)
        spec = json.loads((data / "sfp/expected/spec" / f"{path.stem}.json").read_text())
        values = spec.get("dom")
        if not values or spec.get("ddm", {}).get("external") or peek(module, "a0", 0, 1)[0] not in eeprom._FORMS:
            continue
        assert measured(module, "temperature_c") == pytest.approx(values["temp_c"]), path
        assert measured(module, "vcc_v") == pytest.approx(values["vcc_v"]), path
        compared += 2
        for at, lane in enumerate(values["lanes"]):
            for monitor, word in WORDS.items():
                if lane.get(word) is not None:
                    assert measured(module, monitor, at) == pytest.approx(lane[word]), (path, monitor, at)
                    compared += 1
    assert compared > 500


@pytest.mark.parametrize("name", ["sff8472/intel_ftlx8574_e810", "sff8636/oom_qsfp28", "cmis/juniper_1g1_dr8"])
def test_flags_of_real_modules_are_what_we_would_set(data: Path, name: str) -> None:
    module = eeprom.load(data / "sfp" / f"{name}.bin")
    for lane in range(eeprom.LANES[eeprom.form_of(module)]):
        for monitor in eeprom.LEVELS:
            at = lane if monitor in WORDS else 0
            assert with_monitor(module, monitor, measured(module, monitor, at), at) == module, (monitor, at)


def test_a_dump_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with pytest.raises(LabError, match=r"x\.json: No such file"):
        eeprom.load(path)
    path.with_suffix(".json").write_text('{"segments": 3}')
    path.write_bytes(bytes(100))
    with pytest.raises(LabError, match=r"x\.json: Expected `array`"):
        eeprom.load(path)
    segment = {"i2c": "0x50", "bank": 0, "page": 0, "offset": 0, "length": 128, "file_offset": 0}
    path.with_suffix(".json").write_text(json.dumps({"segments": [segment]}))
    with pytest.raises(LabError, match="lies beyond its end"):
        eeprom.load(path)


def test_only_what_differs_is_written_each_run_at_once() -> None:
    before = build(Optic())
    after = with_monitor(with_monitor(before, "temperature_c", 52.5), "rx_mw", 0.25)
    assert cage.differences(before, after) == [
        cage.Write("a2", 96, b"\x34\x80"),
        cage.Write("a2", 104, b"\x09\xc4"),
    ]
    assert cage.differences(before, before) == []
