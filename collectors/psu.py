"""Power supplies: what SMBIOS lists, what their PMBus chips measure, and the mains and UPSs of class power_supply."""

from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About, Cost
from collectors.blockdevices import unique
from collectors.chips import Chip, kind_of, owned, parse_value, read_channel, read_chips
from machine import Machine, MachineError, NotPresentError, smbios
from machine.smbios import Structure
from wire.facts import Psu
from wire.report import Sample
from wire.text import clean

NAME = "psu"
EVERY_S = 30.0
DEADLINE_S = 10.0

_CLASS = "/sys/class/power_supply"
_DEBUG = "/sys/kernel/debug/pmbus"
_MAINS = ("Mains", "UPS")  # the other types are batteries and USB ports
_UNKNOWN_WATTS = 0x8000
# SMBIOS 7.40.1
_TYPES = {3: "linear", 4: "switching", 5: "battery", 6: "UPS", 7: "converter", 8: "regulator"}
_STATUSES = {3: "ok", 4: "non-critical", 5: "critical"}
_HOT, _PRESENT, _UNPLUGGED = 1, 2, 4
METRICS = {
    "in": "psu.volts",
    "curr": "psu.amps",
    "power": "psu.watts",
    "temp": "psu.temp_celsius",
    "fan": "psu.fan_rpm",
}
ABOUT = About(
    what="power supplies: presence, model, serial number, capacity; input, output, temperature, fan, alarms",
    source="SMBIOS type 39, PMBus chips in `/sys/class/hwmon`, `/sys/class/power_supply`",
    cost=Cost.SLOW,
    privileges="root for SMBIOS and serial numbers",
    metrics={"psu.volts": 1.0, "psu.amps": 0.1, "psu.watts": 5.0, "psu.temp_celsius": 1.0, "psu.fan_rpm": 100},
)


def collect(machine: Machine) -> Iterator[Psu | Sample]:
    """One `Psu` per power supply; raises NotPresentError where nothing is known of any."""
    chips = [chip for chip in read_chips(machine) if chip.role == NAME]
    supplies, keys = join(read_listed(machine), [read_chip(machine, chip) for chip in chips])
    supplies += read_mains(machine)
    if not supplies:
        raise NotPresentError(f"no power supply in {smbios.TABLE}, hwmon and {_CLASS}")
    samples: list[Sample] = []
    for chip in chips:
        supply = next(one for one in supplies if one.key == keys[chip.key])
        found, supply.alarms = read_channels(machine, chip)
        samples += [Sample(metric, f"{supply.key}/{name}", value) for metric, name, value in found]
    yield from supplies
    yield from samples


def read_channels(machine: Machine, chip: Chip) -> tuple[list[tuple[str, str, float]], list[str]]:
    """(metric, label or channel, value) of what a power supply measures, and the alarms that it raises."""
    found: list[tuple[str, str, float]] = []
    alarms: list[str] = []
    labels: set[str] = set()
    for channel in owned(chip, NAME):
        if kind_of(channel) not in METRICS:
            continue
        attributes = read_channel(machine, chip, channel)
        alarms += [f"{channel}_{name}" for name, text in attributes.items() if name.endswith("alarm") and text == "1"]
        alarms += [f"{channel}_fault"] if attributes.get("fault") == "1" else []
        label = clean(attributes.get("label", ""))
        name = label if label and label not in labels else channel
        labels.add(name)
        value = parse_value(channel, attributes)
        if value is not None:
            found.append((METRICS[kind_of(channel)], name, value))
    return found, sorted(alarms)


def read_chip(machine: Machine, chip: Chip) -> Psu:
    """A power supply by its chip; who it is stands in debugfs, if anywhere."""

    def said(name: str) -> str:
        return clean(sysfs.text(machine, f"{_DEBUG}/{chip.hwmon}/{name}"))

    return Psu(
        key=chip.key,
        sources=["hwmon"],
        chip=chip.key,
        vendor=said("mfr_id"),
        model=said("mfr_model"),
        serial=said("mfr_serial"),
        revision=said("mfr_revision"),
        present=True,
    )


def join(listed: list[Psu], measured: list[Psu]) -> tuple[list[Psu], dict[str, str]]:
    """All power supplies, those with one serial number as one; and the key of each chip's."""
    supplies, keys = list(listed), dict[str, str]()
    for chip in measured:
        same = [one for one in listed if one.serial and one.serial == chip.serial]
        if len(same) == 1:
            same[0].sources, same[0].chip, same[0].present = [*same[0].sources, "hwmon"], chip.chip, True
            keys[chip.chip] = same[0].key
        else:
            supplies.append(chip)
            keys[chip.chip] = chip.key
    return supplies, keys


def read_listed(machine: Machine) -> list[Psu]:
    """The power supplies of SMBIOS; none without the table or the right to read it."""
    try:
        return parse_supplies(machine.read_bytes(smbios.TABLE))
    except MachineError:
        return []


def parse_supplies(table: bytes) -> list[Psu]:
    """The power supplies of a table, but templates that nobody filled in; raises MachineError for a damaged one."""
    listed = [parse_supply(one) for one in smbios.structures(table) if one.kind == smbios.POWER_SUPPLY]
    named = [one for one in listed if one.label or one.model or one.serial or one.max_watts]
    for supply, key in zip(named, unique(one.label or "PSU" for one in named), strict=True):
        supply.key = key
    return named


def parse_supply(supply: Structure) -> Psu:
    """One power supply (SMBIOS 7.40); fields that its version did not have are None or empty."""
    watts = supply.number(0x0C, 2)
    traits = supply.number(0x0E, 2) if len(supply.body) >= 0x10 else None
    return Psu(
        key="",
        sources=["smbios"],
        label=clean(supply.text(0x05) or supply.text(0x06)),
        vendor=clean(supply.text(0x07)),
        model=clean(supply.text(0x06)),
        serial=clean(supply.text(0x08)),
        part=clean(supply.text(0x0A)),
        revision=clean(supply.text(0x0B)),
        max_watts=float(watts) if 0 < watts < _UNKNOWN_WATTS else None,
        present=None if traits is None else bool(traits & _PRESENT),
        plugged=None if traits is None or not traits & _PRESENT else not traits & _UNPLUGGED,
        hot_replaceable=None if traits is None else bool(traits & _HOT),
        status="" if traits is None or not traits & _PRESENT else _STATUSES.get(traits >> 7 & 7, ""),
        type="" if traits is None else _TYPES.get(traits >> 10 & 0xF, ""),
    )


def read_mains(machine: Machine) -> list[Psu]:
    """Mains and UPSs of class power_supply."""
    found: list[Psu] = []
    for name in sysfs.names(machine, _CLASS):
        kind = sysfs.text(machine, f"{_CLASS}/{name}/type")
        online = sysfs.text(machine, f"{_CLASS}/{name}/online")
        if kind in _MAINS:
            found.append(
                Psu(
                    key=f"power_supply/{name}",
                    sources=["power_supply"],
                    label=clean(name),
                    vendor=clean(sysfs.text(machine, f"{_CLASS}/{name}/manufacturer")),
                    model=clean(sysfs.text(machine, f"{_CLASS}/{name}/model_name")),
                    serial=clean(sysfs.text(machine, f"{_CLASS}/{name}/serial_number")),
                    plugged={"0": False, "1": True, "2": True}.get(online),
                    type=kind,
                )
            )
    return found
