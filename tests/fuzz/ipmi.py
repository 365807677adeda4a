"""Coverage-guided fuzzing of what a BMC can send: `python tests/fuzz/ipmi.py -runs=100000 [CORPUS]`.

The first byte chooses: a sensor's record with a reading, an entry of the event log, a FRU, what the server itself
reads, a Redfish document.
"""

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]
import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["collectors", "machine", "pollers", "wire"]):
    from collectors import bmc
    from hardware_lab import bmc_records as records
    from hardware_lab.machine import Machine, Server
    from machine import MachineError
    from pollers import ipmi_fru, ipmi_read, ipmi_sdr, ipmi_sel, redfish_parse
    from pollers.bmc_sensor import LIMITS
    from pollers.ipmi_sdr import Sensor
    from pollers.ipmi_sel import Clock
    from wire.facts import Bmc, BmcSensor, Fru

NOW_MS = 1_700_000_000_000
CLOCK = Clock(NOW_MS // 1000, NOW_MS)
DECLARED = records.sensors(Server("srv", 1, Machine()))
SENSORS = {
    found.key: found
    for number, sensor in DECLARED.items()
    for found in ipmi_sdr.parse_record(records.sensor_record(number, sensor))
    if isinstance(found, Sensor)
}


def fuzz_record(data: bytes) -> None:
    """Sensors and FRUs, or nothing; a reading of each."""
    for kind in (1, 2, 3, 0x11):
        for found in ipmi_sdr.parse_record(b"\0\0\x51" + bytes([kind]) + data):
            assert found.name.isprintable()
            if isinstance(found, Sensor):
                _, fact = ipmi_sdr.parse_reading(found, data[:5])
                check(fact)
                if len(data) >= 7:
                    found.limits = ipmi_sdr.parse_limits(found, data[0], dict(enumerate(data[1:7])))


def check(fact: BmcSensor) -> None:
    """Limits rise, texts are harmless."""
    values = [value for name in (*reversed(LIMITS[:3]), *LIMITS[3:]) if (value := getattr(fact, name)) is not None]
    assert values == sorted(values)
    assert all(text.isprintable() for text in (fact.key, fact.name, fact.type, fact.entity, fact.unit, *fact.states))


def fuzz_entry(data: bytes) -> None:
    """An event with one harmless line, or none."""
    event = ipmi_sel.parse_entry(data[:16].ljust(16, b"\0"), SENSORS, CLOCK)
    assert event
    assert event.text.isprintable()
    assert 0 <= event.at_ms <= NOW_MS
    ipmi_sel.parse_info(data)


def fuzz_fru(data: bytes) -> None:
    """Harmless texts."""
    for image in (data, b"\1\0\1\4\7\0\0\xf3" + data):
        fru = Fru(key="fru0")
        ipmi_fru.parse_fru(image, fru)
        found = msgspec.to_builtins(fru)
        assert all(value.isprintable() for value in found.values() if isinstance(value, str))
        assert all(value.isprintable() for value in fru.extra)


def fuzz_own(data: bytes) -> None:
    """Fields, or one error."""
    fact = Bmc()
    try:
        bmc.parse_device_id(data, fact)
    except MachineError:
        fact.version = ""
    for parse in (bmc.parse_guid, bmc.parse_chassis, bmc.parse_sel_info, ipmi_read.parse_chassis):
        parse(data, fact)
    bmc.parse_lan({number: data[number:] for number in (3, 4, 5, 6, 12, 20)}, fact)
    bmc.parse_address6(data)
    assert bmc.parse_watts(data) == ipmi_read.parse_watts(data)
    list(bmc.parse_sel_samples(data))
    ipmi_read.system_uuid(ipmi_read.parse_guid(data))


def fuzz_redfish(data: bytes) -> None:
    """Facts or none."""
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    path = f"{redfish_parse.ROOT}/Chassis/1"
    for parse in (redfish_parse.parse_thermal, redfish_parse.parse_power, redfish_parse.parse_sensor):
        for reading in parse(path, document):
            check(reading.sensor)
    redfish_parse.parse_system(document, Bmc())
    redfish_parse.parse_manager(document, Bmc())
    redfish_parse.parse_interface(document, Bmc())
    assert redfish_parse.parse_entry(document).text.isprintable()


KINDS = (fuzz_record, fuzz_entry, fuzz_fru, fuzz_own, fuzz_redfish)


def one_input(data: bytes) -> None:
    """What atheris calls; an exception is a finding."""
    if data:
        KINDS[data[0] % len(KINDS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
