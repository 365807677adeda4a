"""Fans: their speed, limits and alarms, and the PWM output that drives them. Those in power supplies are `psu`'s."""

from collections.abc import Iterator, Mapping

from collectors import sysfs
from collectors.about import About, Cost
from collectors.blockdevices import unique
from collectors.chips import ALARMS, CLASS, Chip, owned, parse_value, read_channel, read_chips, scaled
from machine import Machine, MachineError, NotPresentError, kept, smbios
from machine.kept import Curve, Kept
from machine.smbios import Structure
from wire.facts import Fan
from wire.report import Sample
from wire.text import clean

NAME = "fans"
EVERY_S = 10.0
DEADLINE_S = 10.0

_MOST_PWM = 255
_NO_SPEED = 0x8000
_CONTROL = {"0": "full", "1": "manual"}  # Documentation/hwmon/sysfs-interface: 2 and above are the chip's own ways
# SMBIOS 7.28.1: the upper bits of type and status; 1 and 2 are other and unknown.
STATUSES = {3: "ok", 4: "non-critical", 5: "critical", 6: "non-recoverable"}
_FANS = range(3, 8)  # fan, centrifugal blower, chip, cabinet and power supply fan; not heat pipes and the like

ABOUT = About(
    what="fans: speed, limits, alarms, PWM and who sets it; those that SMBIOS lists",
    source="`/sys/class/hwmon`, SMBIOS type 27",
    cost=Cost.SLOW,
    privileges="root for SMBIOS",
    metrics={"fans.rpm": 50, "fans.pwm_percent": 2.0},
)


def collect(machine: Machine) -> Iterator[Fan | Sample]:
    """One `Fan` per channel and cooling device; raises NotPresentError where nothing is known of fans."""
    curves = kept.read_kept(machine)
    found = [pair for chip in read_chips(machine) for pair in read_fans(machine, chip, curves)]
    listed = read_listed(machine)
    if not found and not listed:
        raise NotPresentError(f"no fan in {CLASS} and {smbios.TABLE}")
    for fan, numbers in found:
        yield fan
        yield from (Sample(metric, fan.key, value) for metric, value in numbers.items())
    yield from listed


def read_fans(machine: Machine, chip: Chip, curves: Kept) -> Iterator[tuple[Fan, dict[str, float]]]:
    """The fans of one chip with their numbers by metric, and PWM outputs whose fans nobody counts."""
    counted = owned(chip, NAME)
    outputs = [channel for channel in chip.channels if channel.startswith("pwm") and not chip.role]
    for channel in counted:
        attributes = read_channel(machine, chip, channel, ("target",))
        output = f"pwm{channel.removeprefix('fan')}"
        control = read_output(machine, chip, output) if output in outputs else {}
        fan, numbers = parse_fan(chip, channel, attributes, control)
        yield _under(machine, chip, output, fan, curves) if output in outputs else fan, numbers
    for output in outputs:
        if f"fan{output.removeprefix('pwm')}" not in counted and {"", "enable"} & set(chip.channels[output]):
            fan, numbers = parse_fan(chip, output, {}, read_output(machine, chip, output))
            yield _under(machine, chip, output, fan, curves), numbers


def _under(machine: Machine, chip: Chip, output: str, fan: Fan, curves: Kept) -> Fan:
    """The fan with what sets its output: a curve, a person, or the chip."""
    control = read_output(machine, chip, output)
    path = sysfs.resolve(machine, chip.channels[output].get("", ""))
    curve = curves.fans.get(path, Curve("", ""))
    enable, value = control.get("enable", ""), sysfs.parse_number(control.get("", ""))
    fan.output, fan.enable, fan.curve, fan.sensors = path, enable, curve.points, curve.sensors
    fan.duty = value if enable in kept.BY_HAND and not curve.points else None
    return fan


def read_output(machine: Machine, chip: Chip, output: str) -> dict[str, str]:
    """A PWM output: its duty cycle under "" and who sets it under "enable"."""
    files = chip.channels[output]
    return {name: sysfs.text(machine, files[name]) for name in ("", "enable") if name in files}


def parse_fan(
    chip: Chip, channel: str, attributes: Mapping[str, str], output: Mapping[str, str]
) -> tuple[Fan, dict[str, float]]:
    """One fan and its numbers; the alarm of one whose lowest speed may be set, and is 0, is noise."""
    counted = channel.startswith("fan")
    low, high, target = (scaled("fan1", attributes.get(name, "")) for name in ("min", "max", "target"))
    value = parse_value(channel, attributes) if counted else None
    rings = any(attributes.get(name) == "1" for name in ALARMS)
    duty = sysfs.parse_number(output.get("", ""))
    numbers = {} if value is None else {"fans.rpm": value}
    if duty is not None and 0 <= duty <= _MOST_PWM:
        numbers["fans.pwm_percent"] = round(100 * duty / _MOST_PWM, 1)
    enable = output.get("enable", "")
    fan = Fan(
        key=f"{chip.key}/{channel}",
        chip=chip.name,
        channel=channel,
        label=clean(attributes.get("label", "")),
        min_rpm=low or None,
        max_rpm=high or None,
        target_rpm=target or None,
        pwm=_CONTROL.get(enable, "automatic" if enable.isdecimal() else ""),
        alarm=rings and bool("min" not in attributes or low or high),
        fault=attributes.get("fault") == "1",
    )
    return fan, numbers


def read_listed(machine: Machine) -> list[Fan]:
    """The cooling devices of SMBIOS; none without the table or the right to read it."""
    try:
        return parse_cooling_devices(machine.read_bytes(smbios.TABLE))
    except MachineError:
        return []


def parse_cooling_devices(table: bytes) -> list[Fan]:
    """The fans among the cooling devices of a table; raises MachineError for a damaged one."""
    listed = [one for one in smbios.structures(table) if one.kind == smbios.COOLING_DEVICE]
    fans = [parse_cooling_device(one) for one in listed if one.number(0x06, 1) & 0x1F in _FANS]
    for fan, key in zip(fans, unique(f"smbios/{fan.label or 'fan'}" for fan in fans), strict=True):
        fan.key = key
    return fans


def parse_cooling_device(device: Structure) -> Fan:
    """One cooling device (SMBIOS 7.28); it is listed whether it is there or not, so `present` is not told."""
    speed = device.number(0x0C, 2)
    return Fan(
        key="",
        source="smbios",
        label=clean(device.text(0x0E)),
        nominal_rpm=float(speed) if 0 < speed < _NO_SPEED else None,
        status=STATUSES.get(device.number(0x06, 1) >> 5, ""),
    )
