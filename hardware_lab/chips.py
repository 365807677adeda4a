"""Sensor and fan chips of a guest on a bus of `i2c-stub`, under the kernel's own drivers: values, alarms, PWM, gone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from hardware_lab.failure import LabError
from hardware_lab.guest import Guest

Width = Literal["b", "w"]  # byte or word, as i2cset has it

_FUNCTIONS = 0xFFFF0008  # SMBus with block transfers, which PMBus identifies itself by, and PEC
_BUS = (
    'b=$(grep -l "SMBus stub" /sys/bus/i2c/devices/i2c-*/name | head -n1); b=${b##*/i2c-}; b=${b%/name}; '
    '[ "$b" ] || { echo "i2c-stub is not loaded" >&2; exit 1; }'
)


class Bits(NamedTuple):
    """Bits of a register."""

    register: int
    mask: int
    width: Width = "b"


class Value(NamedTuple):
    """A measured value: its registers, low byte first, and what they hold for it."""

    registers: tuple[int, ...]
    encode: Callable[[float], int]
    width: Width = "b"
    mask: int = 0xFFFF


class Chip(msgspec.Struct, frozen=True, kw_only=True):
    """A chip with what it holds at first and where hwmon's attributes come from."""

    driver: str
    address: int
    swapped: bool = False  # it sends a word's high byte first
    registers: Mapping[int, int] = {}
    words: Mapping[int, int] = {}
    blocks: Mapping[int, str] = {}
    start: Mapping[str, float] = {}  # of the values
    values: Mapping[str, Value] = {}  # temp1 in °C, fan1 in rpm, in1 in V, curr1 in A, power1 in W
    alarms: Mapping[str, tuple[Bits, ...]] = {}
    pwms: Mapping[str, int] = {}  # register


def linear11(value: float) -> int:
    """PMBus LINEAR11: an exponent of 5 bits, a mantissa of 11, both signed."""
    for exponent in range(-16, 16):
        mantissa = round(value / 2.0**exponent)
        if -1024 <= mantissa <= 1023:
            return (exponent & 0x1F) << 11 | mantissa & 0x7FF
    raise LabError(f"{value} does not fit into LINEAR11")


def _fixed(scale: int, bits: int = 8) -> Callable[[float], int]:
    def encode(value: float) -> int:
        raw = round(value * scale)
        if not -(1 << bits - 1) <= raw < 1 << bits - 1:
            raise LabError(f"{value} does not fit: {bits} bits of 1/{scale}")
        return raw & (1 << bits) - 1

    return encode


def _periods(per_minute: int, slowest: int) -> Callable[[float], int]:
    """What a fan's counter shows for a speed, rpm; a fan that stands shows the highest count."""
    return lambda rpm: min(round(per_minute / rpm), slowest) if rpm > 0 else slowest


def _max6639_temperature(celsius: float) -> int:
    if not 0 <= celsius < 256:
        raise LabError(f"{celsius} does not fit: max6639 has 0 to 255.875 °C")
    return int(celsius * 8) << 5  # eighths in the highest bits of a register of their own


LM75 = Chip(
    driver="lm75",
    address=0x48,
    swapped=True,
    words={2: 75 << 8, 3: 80 << 8},
    start={"temp1": 34.5},
    values={"temp1": Value((0,), _fixed(256, 16), "w")},
)

_JC42 = Value((5,), _fixed(16, 13), "w", 0x1FFF)
JC42 = Chip(
    driver="jc42",
    address=0x18,
    swapped=True,
    words={0: 0x00FF, 2: 85 * 16, 3: 0, 4: 95 * 16, 6: 0x00B3, 7: 0x2912},  # IDT TS3000
    start={"temp1": 38.0},
    values={"temp1": _JC42},
    alarms={
        "temp1_crit_alarm": (Bits(5, 0x8000, "w"),),
        "temp1_max_alarm": (Bits(5, 0x4000, "w"),),
        "temp1_min_alarm": (Bits(5, 0x2000, "w"),),
    },
)

MAX6639 = Chip(
    driver="max6639",
    address=0x2F,
    registers={0x02: 0, 0x3D: 0x58, 0x3E: 0x4D},
    start={"temp1": 55, "temp2": 47, "fan1": 1250, "fan2": 1070},
    values={
        "temp1": Value((0x05, 0x00), _max6639_temperature),
        "temp2": Value((0x06, 0x01), _max6639_temperature),
        "fan1": Value((0x20,), _periods(4000 * 30, 255)),  # the driver's range of 4000 rpm
        "fan2": Value((0x21,), _periods(4000 * 30, 255)),
    },
    alarms={
        "temp1_crit_alarm": (Bits(0x02, 0x80),),
        "temp2_crit_alarm": (Bits(0x02, 0x40),),
        "temp1_emergency_alarm": (Bits(0x02, 0x20),),
        "temp2_emergency_alarm": (Bits(0x02, 0x10),),
        "temp1_max_alarm": (Bits(0x02, 0x08),),
        "temp2_max_alarm": (Bits(0x02, 0x04),),
        "fan1_fault": (Bits(0x02, 0x02),),
        "fan2_fault": (Bits(0x02, 0x01),),
    },
    pwms={"pwm1": 0x26, "pwm2": 0x27},
)

ADT7475 = Chip(
    driver="adt7475",
    address=0x2E,
    registers={
        **{0x3D: 0x75, 0x3E: 0x41, 0x3F: 0x69},  # who it is
        **{0x40: 0x05, 0x7C: 0x01},  # running; temperatures in two's complement
        **dict.fromkeys((0x4E, 0x50, 0x52), 0),  # lowest
        **dict.fromkeys((0x4F, 0x51, 0x53), 100),  # and highest temperatures
        **dict.fromkeys((0x6A, 0x6B, 0x6C), 110),  # critical ones
        **dict.fromkeys((0x5C, 0x5D, 0x5E), 0xE2),  # PWM by hand
        **dict.fromkeys((0x30, 0x31, 0x32), 128),
    },
    start={"temp1": 40, "temp2": 35, "temp3": 60, "fan1": 5400, "fan2": 5400, "fan3": 5400, "fan4": 5400},
    values={
        **{f"temp{at + 1}": Value((0x25 + at,), _fixed(1)) for at in range(3)},
        **{f"fan{at + 1}": Value((0x28 + 2 * at, 0x29 + 2 * at), _periods(90_000 * 60, 0xFFFF)) for at in range(4)},
    },
    alarms={
        **{f"temp{at + 1}_alarm": (Bits(0x41, 0x10 << at),) for at in range(3)},
        **{f"fan{at + 1}_alarm": (Bits(0x42, 0x04 << at),) for at in range(4)},
    },
    pwms={"pwm1": 0x30, "pwm2": 0x31, "pwm3": 0x32},
)

# The generic `pmbus` would see 32 pages: the stub answers everything. Alarms of a temperature (max 75, crit 85 °C) show
# only while it is above its limit as well.
DPS800 = Chip(
    driver="dps800",
    address=0x58,
    registers={0x19: 0x20, 0x20: 0x17, 0x3A: 0x90, 0x98: 0x22},  # capability, VOUT_MODE 2^-9, fan, revision
    words={0x79: 0, 0x4F: linear11(85), 0x51: linear11(75)},
    blocks={0x99: "LABPSU", 0x9A: "LAB-800"},
    start={
        **{"in1": 229.5, "in3": 12.2, "curr1": 1.32, "curr2": 22.1, "power1": 300, "power2": 270},
        **{"temp1": 39, "temp2": 44, "fan1": 9600},
    },
    values={
        "in1": Value((0x88,), linear11, "w"),
        "curr1": Value((0x89,), linear11, "w"),
        "in3": Value((0x8B,), _fixed(512, 16), "w"),
        "curr2": Value((0x8C,), linear11, "w"),
        "temp1": Value((0x8D,), linear11, "w"),
        "temp2": Value((0x8E,), linear11, "w"),
        "fan1": Value((0x90,), linear11, "w"),
        "power2": Value((0x96,), linear11, "w"),
        "power1": Value((0x97,), linear11, "w"),
    },
    alarms={
        "in1_lcrit_alarm": (Bits(0x7C, 0x10), Bits(0x79, 0x2008, "w")),
        "temp1_crit_alarm": (Bits(0x7D, 0x80), Bits(0x79, 0x0004, "w")),
        "temp1_max_alarm": (Bits(0x7D, 0x40), Bits(0x79, 0x0004, "w")),
    },
)

CHIPS = (LM75, JC42, MAX6639, ADT7475, DPS800)


def load(guest: Guest, chips: Sequence[Chip] = CHIPS) -> None:
    """Make the bus with room for these chips, at most ten, and plug them in; raises GuestError."""
    addresses = ",".join(f"{chip.address:#04x}" for chip in chips)
    guest.run(f"modprobe i2c-dev && modprobe i2c-stub chip_addr={addresses} functionality={_FUNCTIONS:#x}")
    plug(guest, *chips)


def plug(guest: Guest, *chips: Chip) -> None:
    """Set every register to what it is at first and let the drivers find the chips; raises GuestError."""
    lines: list[str] = []
    for chip in chips:
        lines += [_put(chip, Bits(register, 0xFF), value) for register, value in chip.registers.items()]
        lines += [_put(chip, Bits(register, 0xFFFF, "w"), value) for register, value in chip.words.items()]
        lines += [_put(chip, bits, 0) for bits in _own_registers(chip)]
        lines += [line for name, value in chip.start.items() for line in _values(chip, name, value)]
        for register, text in chip.blocks.items():
            content = " ".join(f"{byte:#04x}" for byte in text.encode())
            lines.append(f"i2cset -f -y $b {chip.address:#04x} {register:#04x} {content} s")
        lines.append(f'echo {chip.driver} {chip.address:#04x} > "/sys/bus/i2c/devices/i2c-$b/new_device"')
    _run(guest, lines)


def unplug(guest: Guest, chip: Chip) -> None:
    """The sensor is gone: its driver lets go of it, and its hwmon folder disappears; raises GuestError."""
    _run(guest, [f'echo {chip.address:#04x} > "/sys/bus/i2c/devices/i2c-$b/delete_device"'])


def set_value(guest: Guest, chip: Chip, name: str, value: float) -> None:
    """Let the chip measure this (°C, rpm, V, A, W); raises LabError for a name or value it does not have."""
    _run(guest, _values(chip, name, value))


def set_alarm(guest: Guest, chip: Chip, name: str, *, on: bool = True) -> None:
    """Raise or clear an alarm by the name of hwmon's attribute; raises LabError for one it does not have."""
    if name not in chip.alarms:
        raise LabError(f"{chip.driver} has no {name}; it has {', '.join(chip.alarms) or 'none'}")
    _run(guest, [_put(chip, bits, bits.mask if on else 0) for bits in chip.alarms[name]])


def pwm(guest: Guest, chip: Chip, name: str) -> int:
    """What the driver wrote into the chip's PWM register, 0 to 255 (max6639: 0 to 120); raises LabError."""
    if name not in chip.pwms:
        raise LabError(f"{chip.driver} has no {name}; it has {', '.join(chip.pwms) or 'none'}")
    return int(_run(guest, [f"i2cget -f -y $b {chip.address:#04x} {chip.pwms[name]:#04x} b"]), 16)


def folder(guest: Guest, chip: Chip) -> str:
    """The chip's hwmon folder; raises GuestError when it has none."""
    return _run(guest, [f'ls -d "/sys/bus/i2c/devices/$b-{chip.address:04x}/hwmon/"hwmon*']).strip()


def _run(guest: Guest, lines: list[str]) -> str:
    return guest.run("\n".join(["set -e", _BUS, *lines]))


def _own_registers(chip: Chip) -> list[Bits]:
    """Registers that only alarms lie in, whole."""
    known = {*chip.registers, *chip.words} | {at for value in chip.values.values() for at in value.registers}
    found = {bits.register: bits for alarm in chip.alarms.values() for bits in alarm if bits.register not in known}
    return [bits._replace(mask=0xFF if bits.width == "b" else 0xFFFF) for bits in found.values()]


def _values(chip: Chip, name: str, value: float) -> list[str]:
    if name not in chip.values:
        raise LabError(f"{chip.driver} has no {name}; it has {', '.join(chip.values)}")
    registers, encode, width, mask = chip.values[name]
    raw = encode(value)
    if width == "w":
        return [_put(chip, Bits(registers[0], mask, "w"), raw)]
    return [_put(chip, Bits(register, 0xFF), raw >> 8 * at & 0xFF) for at, register in enumerate(registers)]


def _put(chip: Chip, bits: Bits, value: int) -> str:
    mask = bits.mask
    if bits.width == "w" and chip.swapped:
        value, mask = (int.from_bytes(word.to_bytes(2, "little"), "big") for word in (value, mask))
    whole = mask == (0xFF if bits.width == "b" else 0xFFFF)
    masked = "" if whole else f"-m {mask:#x} "
    return f"i2cset -f -y {masked}$b {chip.address:#04x} {bits.register:#04x} {value:#x} {bits.width}"
