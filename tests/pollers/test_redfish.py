"""Redfish: every resource of real BMCs through the parsers, every tree through a whole poll, and what goes wrong."""

import asyncio
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_lab import redfish as lab
from hardware_lab.redfish import ROOT, Server, Service
from pollers import redfish, redfish_parse
from pollers.bmc_sensor import LIMITS
from pollers.redfish_parse import Reading
from pollers.target import DeviceError, Polled, Secret, Target
from wire.facts import Bmc, BmcFirmware, BmcSensor, Fru
from wire.report import Severity

SECRET = Secret(username="admin", password="labpass")
SENSORS = {
    "thermal": redfish_parse.parse_thermal,
    "power": redfish_parse.parse_power,
    "sensor": redfish_parse.parse_sensor,
    "thermalmetrics": redfish_parse.parse_thermal_metrics,
    "fan": redfish_parse.parse_fan,
    "powersupplymetrics": redfish_parse.parse_supply_metrics,
}


class Bench(NamedTuple):
    """A running service and how it is polled."""

    server: Server
    target: Target

    def poll(self, times: int = 1) -> list[Polled]:
        return polls(self.target, SECRET, times)


def polls(target: Target, secret: Secret, times: int = 1) -> list[Polled]:
    async def run() -> list[Polled]:
        return [await redfish.poll(target, secret) for _ in range(times)]

    try:
        return asyncio.run(run())
    finally:
        redfish.BMCS.close()


def serve(path: Path) -> Iterator[Bench]:
    server = Server(Service(lab.read_mockup(path)))
    server.start()
    port = int(server.url.rpartition(":")[2])
    try:
        yield Bench(server, Target(name="b", protocol="redfish", address="127.0.0.1", port=port, tls="none"))
    finally:
        server.stop()


def trees(data: Path) -> list[Path]:
    """Every tree: packed ones, and the folder of single files that say where they belong."""
    return [*sorted((data / "redfish").glob("**/*.tar.gz")), data / "redfish/sushy"]


@pytest.fixture
def dl325(data: Path) -> Iterator[Bench]:
    yield from serve(data / "redfish/cray-hpe-mockups/DL325.tar.gz")


@pytest.fixture
def sushy(data: Path) -> Iterator[Bench]:
    yield from serve(data / "redfish/sushy")


def resources(data: Path) -> Iterator[tuple[str, Any]]:
    """Every JSON document of the folder, also those in archives; None for what is none."""
    for path in sorted((data / "redfish").rglob("*")):
        if path.name.endswith(".json"):
            yield path.name, decoded(path.read_bytes())
        elif path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.name.endswith(".json") else None
                    if content:
                        yield member.name, decoded(content.read())


def decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def check(reading: Reading) -> None:
    """What holds for every sensor of every machine."""
    sensor = reading.sensor
    limits = [value for name in (*reversed(LIMITS[:3]), *LIMITS[3:]) if (value := getattr(sensor, name)) is not None]
    assert limits == sorted(limits)
    assert sensor.key
    assert all(text.isprintable() for text in (sensor.key, sensor.name, sensor.type, sensor.entity, sensor.unit))
    assert reading.value is None or sensor.status != "absent"


def test_every_resource_of_every_real_machine_has_sensors_that_make_sense(data: Path) -> None:
    seen = dict.fromkeys(SENSORS, 0)
    for name, document in resources(data):
        kind = (
            str(document.get("@odata.type", "") if isinstance(document, dict) else "")
            .lstrip("#")
            .partition(".")[0]
            .lower()
        )
        for parse in SENSORS.values():  # also those it is not: services mistake them
            for reading in parse(f"{ROOT}/Chassis/{name}", document):
                check(reading)
        if kind in SENSORS:
            found = list(SENSORS[kind](f"{ROOT}/Chassis/x", document))
            keys = [reading.sensor.key for reading in found]
            assert len(set(keys)) == len(keys), (name, keys)
            seen[kind] += len(found)
    assert seen["thermal"] > 0
    assert seen["power"] > 0
    assert seen["sensor"] > 0


def test_every_document_is_taken_by_every_parser(data: Path) -> None:
    count = 0
    for name, document in resources(data):
        bmc = Bmc()
        redfish_parse.parse_system(document, bmc)
        redfish_parse.parse_manager(document, bmc)
        redfish_parse.parse_interface(document, bmc)
        redfish_parse.parse_intrusion(document)
        redfish_parse.parse_part(name, document)
        redfish_parse.parse_firmware(name, document)
        redfish_parse.parse_entry(document)
        list(redfish_parse.parse_supplies(name, document))
        assert bmc.power in ("", "on", "off", "poweringon", "poweringoff")
        count += 1
    assert count > 0


def find(data: Path, name: str) -> Any:
    return decoded((data / "redfish" / name).read_bytes())


def test_an_absent_sensor_has_no_reading(dl325: Bench) -> None:
    (polled,) = dl325.poll()
    absent = {fact.key for fact in polled.facts if isinstance(fact, BmcSensor) and fact.status == "absent"}
    assert absent
    assert absent.isdisjoint(sample.key for sample in polled.samples)
    assert not [sample for sample in polled.samples if sample.metric == "redfish.temp_celsius" and sample.value == 0]


def test_the_traps_of_real_machines(data: Path) -> None:
    cisco = find(
        data, "linuxfabrik/redfish-sensors/cisco-powercontrol-power.json"
    )  # an object where an array should be
    (control,) = redfish_parse.parse_power(f"{ROOT}/Chassis/1/Power", cisco)
    assert (control.value, control.sensor.unit, control.sensor.key) == (287, "W", "1/Power/PowerControl/0")
    zero = find(data, "linuxfabrik/redfish-sensors/zero-range-chassis-sensor-0.json")  # thresholds without readings
    (usage,) = redfish_parse.parse_sensor(f"{ROOT}/Chassis/1/Sensors/61L1", zero)
    assert (usage.value, usage.sensor.unit, usage.sensor.upper_critical) == (1, "%", None)
    old = find(data, "telegraf-hp/hp_thermal_ilo4.json")  # FanName, CurrentReading, Units
    fan = next(reading for reading in redfish_parse.parse_thermal("/x", old) if reading.sensor.type == "Fan")
    assert (fan.sensor.name, fan.sensor.unit, fan.value) == ("Fan 1", "%", 17)
    assert find(data, "telegraf-hp/hp_thermalinvalid.json") is None
    assert list(redfish_parse.parse_thermal("/x", None)) == []
    supply = find(data, "telegraf-hp/power_subsys/hp_power_subsys_metrics.json")
    found = {
        reading.sensor.key.rpartition("/")[2]: reading.value
        for reading in redfish_parse.parse_supply_metrics("/m", supply)
    }
    assert found["InputVoltage"] == 230.2
    assert found["InputPowerWatts"] == 937.4


def test_names_that_repeat_have_keys_of_their_own(data: Path) -> None:
    with tarfile.open(data / "redfish/cray-hpe-mockups/EX235a.tar.gz") as archive:
        names = [member.name for member in archive if member.name.endswith(".json") and "/Sensors/" in member.name]
        documents = [decoded(archive.extractfile(name).read()) for name in names]  # type: ignore[union-attr]
    found = [
        reading.sensor for one in documents for reading in redfish_parse.parse_sensor(one.get("@odata.id", "?"), one)
    ]
    assert len({sensor.name for sensor in found}) < len({sensor.key for sensor in found})


def test_log_entries_are_events(data: Path) -> None:
    entries = find(data, "linuxfabrik/redfish-logservices/sel-entries-sel.json")["Members"]
    events = [redfish_parse.parse_entry(entry) for entry in entries]
    assert [event.severity for event in events[:2]] == [Severity.CRITICAL, Severity.WARNING]
    assert events[0].text == "CPU temperature is critical"
    assert events[0].data["bmc_time"] == "2021-08-01T10:00:00+00:00"


def test_every_tree_is_polled_twice_in_one_session(data: Path) -> None:
    for path in trees(data):
        for bench in serve(path):
            first, second = bench.poll(2)
            assert first.facts == second.facts, path
            assert first.samples == second.samples
            assert (first.events, second.events) == ([], [])
            keys = [(type(fact), fact.key) for fact in first.facts]
            assert len(set(keys)) == len(keys)
            known = {fact.key for fact in first.facts}
            assert {sample.key for sample in first.samples} <= known
            assert bench.server.service._sessions == 1


def test_a_server_says_who_it_is(dl325: Bench) -> None:
    (polled,) = dl325.poll()
    (bmc,) = (fact for fact in polled.facts if isinstance(fact, Bmc))
    assert (bmc.power, bmc.health, bmc.identify) == ("on", "ok", "off")
    system = dl325.server.service.resource(f"{ROOT}/Systems/1")
    assert (bmc.system_uuid, bmc.system_serial) == (system["UUID"].lower(), system["SerialNumber"])
    assert any(isinstance(fact, Fru) and fact.product_name == system["Model"] for fact in polled.facts)
    assert any(isinstance(fact, BmcFirmware) and fact.version for fact in polled.facts)


def test_what_changes_is_told_once(sushy: Bench) -> None:
    async def run() -> list[list[str]]:
        kinds: list[list[str]] = []
        for change in (False, True, False):
            if change:
                opened()
            kinds.append([event.kind for event in (await redfish.poll(sushy.target, SECRET)).events])
        return kinds

    def opened() -> None:
        service = sushy.server.service
        chassis = service.resource(f"{ROOT}/Chassis/Blade1")
        chassis["PhysicalSecurity"]["IntrusionSensor"] = "HardwareIntrusion"
        service.resource(f"{ROOT}/Systems/437XR1138R2")["PowerState"] = "Off"
        thermal = service.resource(f"{ROOT}/Chassis/Blade1/Thermal")
        thermal["Temperatures"][0]["Status"] = {"State": "Enabled", "Health": "Critical"}

    try:
        assert asyncio.run(run()) == [[], ["bmc.power", "bmc.intrusion", "sensor.alarm"], []]
    finally:
        redfish.BMCS.close()


def test_a_session_that_the_service_forgot_is_begun_again(dl325: Bench) -> None:
    async def run() -> tuple[Polled, Polled]:
        first = await redfish.poll(dl325.target, SECRET)
        dl325.server.service._tokens.clear()
        return first, await redfish.poll(dl325.target, SECRET)

    try:
        first, second = asyncio.run(run())
    finally:
        redfish.BMCS.close()
    assert first.facts == second.facts
    assert dl325.server.service._sessions == 2


def test_power_boot_and_led_are_told_and_the_session_ended(sushy: Bench) -> None:
    async def run() -> list[str]:
        told = [("power", "off"), ("power", "status"), ("bootdev", "pxe once"), ("identify", "on"), ("power", "on")]
        return [(await redfish.command(sushy.target, SECRET, verb, word)).text for verb, word in told]

    try:
        assert asyncio.run(run()) == ["off", "off", "pxe", "on", "on"]
    finally:
        redfish.BMCS.close()
    system = sushy.server.service.resource(f"{ROOT}/Systems/437XR1138R2")
    assert [reset.kind for reset in sushy.server.service.resets] == ["ForceOff", "On"]
    assert (system["Boot"]["BootSourceOverrideTarget"], system["Boot"]["BootSourceOverrideEnabled"]) == ("Pxe", "Once")
    assert sushy.server.service._tokens == {}


@pytest.mark.parametrize(
    ("verb", "word", "said"),
    [
        ("power", "explode", "power 'explode': on, off"),
        ("bootdev", "floppy", "boot device 'floppy': none, pxe"),
        ("identify", "maybe", "on or off"),
        ("dance", "", "does not do 'dance'"),
    ],
)
def test_what_it_does_not_do_is_one_line(sushy: Bench, verb: str, word: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        tell(sushy.target, SECRET, verb, word)


def tell(target: Target, secret: Secret, verb: str, word: str) -> None:
    try:
        asyncio.run(redfish.command(target, secret, verb, word))
    finally:
        redfish.BMCS.close()


def test_a_wrong_password_is_one_line_without_it(dl325: Bench) -> None:
    with pytest.raises(DeviceError, match=r"^cannot log in: the user name or password is wrong$"):
        polls(dl325.target, Secret(username="admin", password="sesame-sesame"))


def test_a_wrong_port_and_a_service_that_is_none_are_one_line(dl325: Bench) -> None:
    dl325.server.stop()
    with pytest.raises(DeviceError, match=r"^127\.0\.0\.1 port \d+: Connection refused$"):
        dl325.poll()


@pytest.mark.parametrize(
    "path",
    [
        "http://192.0.2.1/redfish/v1/x",
        "//192.0.2.1/redfish",
        "/etc/passwd",
        "/redfish/a b",
        "/redfish/\r\nX: y",
        7,
        None,
    ],
)
def test_a_link_never_leads_out_of_the_service(path: object) -> None:
    assert redfish_parse.link({"Thermal": {"@odata.id": path}}, "Thermal") == ""


NAMES = st.sampled_from(
    [
        *("Temperatures", "Fans", "PowerControl", "PowerSupplies", "Voltages", "Status", "State", "Health", "Name"),
        *("MemberId", "Reading", "ReadingCelsius", "ReadingVolts", "ReadingUnits", "PowerConsumedWatts", "Thresholds"),
        *("UpperCaution", "LowerCritical", "UpperThresholdCritical", "SpeedPercent", "SpeedRPM", "InputVoltage"),
        *("IPv4Addresses", "IPv6Addresses", "Address", "VLAN", "VLANId", "Members", "@odata.id", "PhysicalSecurity"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=30,
)


@settings(max_examples=200)
@given(JSON)
def test_whatever_a_service_answers_there_are_facts_or_none(document: Any) -> None:
    for parse in SENSORS.values():
        for reading in parse(f"{ROOT}/Chassis/1", document):
            check(reading)
            assert all(abs(sample.value) < 1e13 for sample in reading.samples())
    bmc = Bmc()
    redfish_parse.parse_system(document, bmc)
    redfish_parse.parse_manager(document, bmc)
    redfish_parse.parse_interface(document, bmc)
    redfish_parse.parse_entry(document)
    assert redfish_parse.parse_intrusion(document) in (None, True, False)
    assert all(fru.name.isprintable() for fru in redfish_parse.parse_supplies("/redfish/v1/Chassis/1/Power", document))
