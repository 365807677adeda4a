"""Redfish resources as facts: whatever a service leaves out, misspells or invents costs its own field."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from pollers.bmc_sensor import LIMITS, METRICS, consistent
from wire.facts import Bmc, BmcFirmware, BmcSensor, Fru
from wire.report import Event, Sample, Severity
from wire.text import clean

Document = dict[str, Any]

ROOT = "/redfish/v1"
MAX_ITEMS = 512  # of one array
MAX_KEY = 160
MOST_READING = 1e12
UNITS = {
    **{"cel": "°C", "celsius": "°C", "degc": "°C", "rpm": "rpm", "{rev}/min": "rpm", "v": "V", "volts": "V"},
    **{"a": "A", "amps": "A", "w": "W", "watts": "W", "%": "%", "percent": "%", "hz": "Hz", "j": "J", "kpa": "kPa"},
}
_HEALTH = {"ok": "ok", "warning": "warning", "critical": "critical"}
_GONE = ("absent", "unavailableoffline", "disabled")  # Status.State
_OLD_LIMITS = dict(
    zip(
        LIMITS,
        [f"{side}Threshold{word}" for side in ("Lower", "Upper") for word in ("NonCritical", "Critical", "Fatal")],
        strict=True,
    )
)
_NEW_LIMITS = dict(
    zip(
        LIMITS,
        [f"{side}{word}" for side in ("Lower", "Upper") for word in ("Caution", "Critical", "Fatal")],
        strict=True,
    )
)
_SEVERITIES = {"warning": Severity.WARNING, "critical": Severity.CRITICAL}


class Reading(NamedTuple):
    """A sensor, and its number if it has one now."""

    sensor: BmcSensor
    value: float | None

    def samples(self) -> Iterator[Sample]:
        """None for a unit without a metric."""
        metric = METRICS.get(self.sensor.unit)
        if metric and self.value is not None:
            yield Sample(f"redfish.{metric}", self.sensor.key, self.value)


# -- the tree ----------------------------------------------------------------------------------------------------------


def at(document: object, *names: str) -> object:
    """What stands below these names; None where the way is not there."""
    for name in names:
        document = cast("Document", document).get(name) if isinstance(document, dict) else None
    return document


def text(document: object, *names: str) -> str:
    """A text as one harmless line; "" for anything else."""
    found = at(document, *names)
    return clean(found, 128) if isinstance(found, str) else ""


def number(document: object, *names: str) -> float | None:
    """A finite number; some services write them as texts."""
    found = at(document, *names)
    if isinstance(found, str) and re.fullmatch(r"-?\d{1,12}(\.\d{1,9})?", found):
        found = float(found)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) < MOST_READING:
        return None
    return float(f"{found:.6g}") if math.isfinite(found) else None


def documents(document: object, *names: str) -> list[Document]:
    """The objects of an array; an object that stands alone where an array should be is one."""
    found = at(document, *names)
    items = cast("list[object]", found) if isinstance(found, list) else [found]
    return [cast("Document", each) for each in items[:MAX_ITEMS] if isinstance(each, dict)]


def link(document: object, *names: str) -> str:
    """The path a reference leads to; "" for one that leads out of the service."""
    found = at(document, *names, "@odata.id")
    if not isinstance(found, str) or not re.fullmatch(r"/redfish/[!-~]{1,400}", found) or "://" in found:
        return ""
    return found.partition("#")[0].rstrip("/")


def links(document: object, *names: str) -> list[str]:
    """The paths that an array of references leads to, each once."""
    return list(dict.fromkeys(path for each in documents(document, *names) if (path := link(each))))


def key_of(path: str, *more: str) -> str:
    """A resource's key: its path below the kind of its collection."""
    below = path.removeprefix(ROOT).strip("/")
    first, _, rest = below.partition("/")
    return clean("/".join(filter(None, (rest if first == "Chassis" else below, *more))), MAX_KEY)


def status(document: object) -> str:
    """Health where the part is there, "absent" where it is not."""
    if text(document, "Status", "State").lower() in _GONE:
        return "absent"
    return _HEALTH.get((text(document, "Status", "Health") or text(document, "Status", "HealthRollup")).lower(), "")


# -- sensors -----------------------------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """An array of a Thermal or Power resource: its name, its readings' names, and what they are."""

    array: str
    type: str
    readings: tuple[str, ...]
    unit: str = ""  # else as the item says


_THERMAL = (
    _Kind("Temperatures", "Temperature", ("ReadingCelsius",), "°C"),
    _Kind("Fans", "Fan", ("Reading", "CurrentReading", "ReadingRPM")),
)
_POWER = (
    _Kind("Voltages", "Voltage", ("ReadingVolts",), "V"),
    _Kind("PowerControl", "Power", ("PowerConsumedWatts",), "W"),
)
_SUPPLY = (
    ("LineInputVoltage", "Voltage", "V"),
    ("PowerInputWatts", "Power", "W"),
    ("PowerOutputWatts", "Power", "W"),
    ("LastPowerOutputWatts", "Power", "W"),
)


def parse_thermal(path: str, document: object) -> Iterator[Reading]:
    """Temperatures and fans of a Thermal resource."""
    for kind in _THERMAL:
        yield from _array(path, document, kind)


def parse_power(path: str, document: object) -> Iterator[Reading]:
    """Voltages, consumption and what power supplies measure, of a Power resource."""
    for kind in _POWER:
        yield from _array(path, document, kind)
    supplies = documents(document, "PowerSupplies")
    for supply, member in zip(supplies, _members(supplies), strict=True):
        name = text(supply, "Name") or f"Power Supply {member}"
        for field, what, unit in _SUPPLY:
            if field in supply:
                key = key_of(path, "PowerSupplies", member, field)
                yield _reading(supply, BmcSensor(key=key, name=f"{name} {field}", type=what, unit=unit), (field,))


def _array(path: str, document: object, kind: _Kind) -> Iterator[Reading]:
    items = documents(document, kind.array)
    for item, member in zip(items, _members(items), strict=True):
        unit = kind.unit or parse_unit(text(item, "ReadingUnits") or text(item, "Units") or "RPM")
        name = text(item, "Name") or text(item, "FanName")
        sensor = BmcSensor(key=key_of(path, kind.array, member), name=name, type=kind.type, unit=unit)
        sensor.entity = text(item, "PhysicalContext")
        yield _reading(item, sensor, kind.readings, _OLD_LIMITS)


def _members(items: list[Document]) -> list[str]:
    """MemberIds where they tell the items apart, else their places."""
    ids = [text(item, "MemberId") for item in items]
    counts = Counter(ids)
    return [each if each and counts[each] == 1 else f"#{place}" for place, each in enumerate(ids)]


def _reading(
    item: Document, sensor: BmcSensor, names: tuple[str, ...], limits: dict[str, str] | None = None
) -> Reading:
    found = {ours: value for ours, theirs in (limits or {}).items() if (value := number(item, theirs)) is not None}
    for name, value in consistent(found).items():
        setattr(sensor, name, value)
    sensor.status = status(item)
    value = next((said for name in names if (said := number(item, name)) is not None), None)
    if value is None and sensor.status in ("", "ok"):
        sensor.status = "absent"
    return Reading(sensor, None if sensor.status == "absent" else value)


def parse_unit(said: str) -> str:
    """Redfish's and UCUM's words; what is not in the table as it is."""
    return UNITS.get(said.lower(), said[:16])


def parse_sensor(path: str, document: object) -> Iterator[Reading]:
    """One Sensor resource, its limits the newer way."""
    if not isinstance(document, dict):
        return
    item = cast("Document", document)
    sensor = BmcSensor(key=key_of(path), name=text(item, "Name"), type=text(item, "ReadingType"))
    sensor.unit, sensor.entity = parse_unit(text(item, "ReadingUnits")), text(item, "PhysicalContext")
    flat = {theirs: at(item, "Thresholds", theirs, "Reading") for theirs in _NEW_LIMITS.values()}
    yield _reading({**item, **flat}, sensor, ("Reading",), _NEW_LIMITS)


def parse_thermal_metrics(path: str, document: object) -> Iterator[Reading]:
    """Temperatures of a ThermalMetrics resource; names are all they have."""
    for place, item in enumerate(documents(document, "TemperatureReadingsCelsius")):
        name = text(item, "DeviceName")
        sensor = BmcSensor(key=key_of(path, f"#{place}"), name=name, type="Temperature", unit="°C")
        sensor.entity = text(item, "PhysicalContext")
        yield _reading(item, sensor, ("Reading",))


def parse_fan(path: str, document: object) -> Iterator[Reading]:
    """A Fan resource: rotation where it says it, else percent."""
    if not isinstance(document, dict):
        return
    item = cast("Document", document)
    rpm = number(item, "SpeedPercent", "SpeedRPM")
    unit, value = ("rpm", rpm) if rpm is not None else ("%", number(item, "SpeedPercent", "Reading"))
    sensor = BmcSensor(key=key_of(path), name=text(item, "Name"), type="Fan", unit=unit)
    sensor.entity = text(item, "PhysicalContext")
    yield _reading({**item, "_": value}, sensor, ("_",))


_SUPPLY_METRICS = {
    "InputVoltage": ("Voltage", "V"),
    "InputCurrentAmps": ("Current", "A"),
    "InputPowerWatts": ("Power", "W"),
    "OutputPowerWatts": ("Power", "W"),
    "TemperatureCelsius": ("Temperature", "°C"),
    "FanSpeedPercent": ("Fan", "%"),
}


def parse_supply_metrics(path: str, document: object) -> Iterator[Reading]:
    """What a power supply measures, of a PowerSupplyMetrics resource."""
    for field, (what, unit) in _SUPPLY_METRICS.items():
        for item in documents(document, field):
            sensor = BmcSensor(key=key_of(path, field), name=f"{text(document, 'Name')} {field}", type=what, unit=unit)
            yield _reading(item, sensor, ("Reading", "SpeedRPM"))


# -- who it is ---------------------------------------------------------------------------------------------------------


def parse_system(document: object, bmc: Bmc) -> None:
    """A ComputerSystem."""
    bmc.power = text(document, "PowerState").lower()
    bmc.system_uuid = text(document, "UUID").lower()
    bmc.hostname = text(document, "HostName")
    bmc.system_serial = text(document, "SerialNumber")
    rollup = text(document, "Status", "HealthRollup") or text(document, "Status", "Health")
    bmc.health = _HEALTH.get(rollup.lower(), "")
    bmc.identify = parse_identify(document)


def parse_identify(document: object) -> str:
    """The LED by its newer or its older name."""
    active = at(document, "LocationIndicatorActive")
    if isinstance(active, bool):
        return "on" if active else "off"
    return {"lit": "on", "blinking": "on", "off": "off"}.get(text(document, "IndicatorLED").lower(), "")


def parse_manager(document: object, bmc: Bmc) -> None:
    """The Manager that is the BMC."""
    bmc.version = text(document, "FirmwareVersion")
    bmc.model = text(document, "Model")
    bmc.manufacturer = text(document, "Manufacturer")
    bmc.guid = text(document, "UUID").lower().replace("-", "")


def parse_interface(document: object, bmc: Bmc) -> bool:
    """An EthernetInterface of the manager; whether it is one that is used."""
    address = [*documents(document, "IPv4Addresses"), {}][0]
    six = [text(each, "Address") for each in documents(document, "IPv6Addresses")]
    six = [each for each in six if each.strip(":0")]
    if not text(address, "Address").strip(".0") and not six:
        return False
    bmc.mac = (text(document, "MACAddress") or text(document, "PermanentMACAddress")).lower()
    bmc.address_source = text(address, "AddressOrigin").lower()
    bmc.netmask, bmc.gateway = text(address, "SubnetMask"), text(address, "Gateway")
    bmc.addresses6 = six[:8]
    vlan = number(document, "VLAN", "VLANId")
    bmc.vlan_id = int(vlan) if vlan is not None and at(document, "VLAN", "VLANEnable") is True else None
    return True


def parse_intrusion(chassis: object) -> bool | None:
    """A chassis' intrusion sensor."""
    said = text(chassis, "PhysicalSecurity", "IntrusionSensor").lower()
    return None if not said else said != "normal"


def parse_part(path: str, document: object) -> Fru | None:
    """A chassis, system or power supply as a field replaceable unit; None for one that names nothing."""
    fru = Fru(key=key_of(path), name=text(document, "Name"), status=status(document))
    fru.product_manufacturer, fru.product_name = text(document, "Manufacturer"), text(document, "Model")
    fru.product_part, fru.product_serial = text(document, "PartNumber"), text(document, "SerialNumber")
    fru.product_asset = text(document, "AssetTag")
    fru.product_version = text(document, "FirmwareVersion") or text(document, "Version")
    named = fru.product_name or fru.product_part or fru.product_serial or fru.product_manufacturer
    return fru if named else None


def parse_supplies(path: str, power: object) -> Iterator[Fru]:
    """The power supplies of a Power resource."""
    supplies = documents(power, "PowerSupplies")
    for supply, member in zip(supplies, _members(supplies), strict=True):
        fru = parse_part(f"{path}/PowerSupplies/{member}", supply)
        if fru:
            yield fru


def parse_firmware(path: str, document: object) -> BmcFirmware | None:
    """A SoftwareInventory; None without a version."""
    version, updateable = text(document, "Version"), at(document, "Updateable")
    key = text(document, "Id") or key_of(path)
    said = updateable if isinstance(updateable, bool) else None
    return BmcFirmware(key=key, name=text(document, "Name"), version=version, updateable=said) if version else None


def parse_entry(document: object) -> Event:
    """A LogEntry as an event."""
    said = text(document, "Severity").lower() or text(document, "MessageSeverity").lower()
    message = at(document, "Message")
    event = Event(at_ms=0, kind="sel.entry", text=clean(message, 400) if isinstance(message, str) else "")
    event.severity = _SEVERITIES.get(said, Severity.INFO)
    names = {"id": "Id", "bmc_time": "Created", "message_id": "MessageId", "sensor": "SensorType", "code": "EntryCode"}
    event.data = {ours: found for ours, theirs in names.items() if (found := text(document, theirs))}
    event.text = event.text or text(document, "MessageId") or "an entry without a text"
    return event
