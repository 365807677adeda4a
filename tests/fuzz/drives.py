"""Coverage-guided fuzzing of what drives and firmware say: `python tests/fuzz/drives.py -runs=100000 [CORPUS]`.

The first byte chooses: NVMe's log pages, smartctl's JSON, /proc/mdstat, SMBIOS, a unit's serial number, a sensor.
"""

import json
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["collectors", "machine", "wire"]):
    from collectors import blockdevices, chips, fans, mdstat, nvmelog, psu, smart, smartjson, thermal
    from machine import MachineError, nvme, smartctl
    from machine.disguise import Disguise

DISGUISE = Disguise(b"salt")
VERDICTS = {"ok", "warning", "failing", "asleep", "unknown"}


def harmless(text: str) -> bool:
    """Whether a text may go to a terminal and a log."""
    return text.isprintable() and len(text) <= 300


def fuzz_pages(raw: bytes) -> None:
    """A health log of possible numbers, or one error; the other pages always say something."""
    for page in (raw, raw.ljust(512, b"\0")):
        try:
            health = nvmelog.parse_health(page)
        except MachineError:
            continue
        assert all(-55 <= celsius <= 150 for celsius in health.sensors_c.values())
        assert all(count >= 0 for count in health.counters.values())
        identity = nvmelog.parse_identity(page)
        assert harmless(identity.serial) and harmless(identity.model) and harmless(identity.firmware)  # noqa: PT018
    assert harmless(nvmelog.parse_errors(raw)) and harmless(nvmelog.parse_self_tests(raw))  # noqa: PT018
    assert len(nvme.public(raw, nvme.IDENTIFY, DISGUISE.word)) == len(raw)


def fuzz_smartctl(text: str) -> None:
    """A verdict or one line of error, before and after redaction."""
    for said in (text, smartctl.public(text, DISGUISE.word)):
        try:
            reading = smartjson.parse_smartctl(said)
            behind = smartjson.parse_scan(said)
        except MachineError as error:
            assert "\n" not in str(error)
            continue
        smart.judge(reading)
        assert reading.health.verdict in VERDICTS
        assert -40 <= reading.numbers.get("temperature_celsius", 20) <= 150
        assert all(harmless(word) for word in (reading.health.model, reading.health.serial, reading.health.self_test))
        assert all(harmless(name) and " " not in kind for name, kind in behind)


def fuzz_smbios(raw: bytes) -> None:
    """Power supplies and fans, or a damaged table."""
    for table in (raw, b"\x27\x16\0\0" + raw + b"\0\0", b"\x1b\x0f\0\0" + raw + b"\0\0"):
        try:
            supplies, listed = psu.parse_supplies(table), fans.parse_cooling_devices(table)
        except MachineError:
            continue
        assert all(harmless(one.label) for one in supplies)
        assert all(harmless(one.label) for one in listed)


def fuzz_text(text: str) -> None:
    """Arrays, identifiers and temperatures of any text."""
    assert all(array.name for array, _ in mdstat.parse_mdstat(text).values())
    mdstat.parse_mdstat(f"md0 : active raid1 {text}\n 12 blocks {text}\n")
    blockdevices.parse_wwid(text)
    blockdevices.parse_scheduler(text)
    thermal.parse_celsius(text)
    chips.parse_limits("temp1", {"min": text, "max": text[1:], "crit": text[2:]})


def one_input(data: bytes) -> None:
    """What atheris calls; an exception is a finding."""
    kind, body = data[:1], data[1:]
    if kind < b"\x40":
        fuzz_pages(body)
    elif kind < b"\x80":
        text = body.decode(errors="replace")
        fuzz_smartctl(text)
        fuzz_smartctl(json.dumps({"smart_status": {"passed": True}, "model_name": text, "serial_number": text}))
    elif kind < b"\xc0":
        fuzz_smbios(body)
        assert harmless(blockdevices.parse_unit_serial(body))
    else:
        fuzz_text(body.decode(errors="replace"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
