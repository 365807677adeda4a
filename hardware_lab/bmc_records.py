"""What a server's BMC has to tell: its sensors, its field replaceable units, and both as IPMI and FRU records."""

import struct
from typing import NamedTuple

import msgspec

from hardware_lab.failure import LabError
from hardware_lab.machine import Server

CELSIUS, VOLTS, WATTS, RPM = 1, 4, 6, 18  # IPMI 2.0 table 43-15
TEMPERATURE, VOLTAGE, FAN, INTRUSION, SUPPLY, OTHER_UNITS, MEMORY, DRIVE = 1, 2, 4, 5, 8, 0x0B, 0x0C, 0x0D  # table 42-3
CPU, BOARD, POWER_SUPPLY, CHASSIS, DRIVE_BAY, FAN_DEVICE, DIMM, IO_MODULE, INLET = 3, 7, 10, 23, 26, 29, 32, 44, 0x37
SUPPLIES = 2
_FRU_SIZE = 512


class Entity(NamedTuple):
    """What a record is about: table 43-13's number of its kind, and which one."""

    kind: int
    instance: int = 1


class Analog(msgspec.Struct, frozen=True):
    """A sensor with a number; `low` and `high` are its non-critical, critical and non-recoverable thresholds."""

    name: str
    entity: Entity
    kind: int
    unit: int
    value: float  # at the start, in `unit`
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    step: int = 1  # of the reading, times 10 to the power of `exponent`
    exponent: int = 0

    def raw(self, value: float) -> int:
        """The reading's byte; raises LabError for a value that no byte holds."""
        step = self.step * 10.0**self.exponent
        byte = round(value / step)
        if not 0 <= byte <= 255:
            raise LabError(f"{self.name}: {value:g} is beyond 0 to {255 * step:g}")
        return byte

    @property
    def thresholds(self) -> dict[int, int]:
        """Bytes by number: 0 to 2 lower, 3 to 5 upper, each from non-critical to non-recoverable."""
        return {
            3 * side + at: self.raw(value)
            for side, values in enumerate((self.low, self.high))
            for at, value in enumerate(values)
        }

    @property
    def events(self) -> int:
        """Which threshold events it sends: lower going low, upper going high."""
        return sum(1 << (2 * at if at < 3 else 2 * at + 1) for at in self.thresholds)


class Discrete(msgspec.Struct, frozen=True):
    """A sensor with states; `offsets` are those of table 42-3 it knows, `on` those at the start."""

    name: str
    entity: Entity
    kind: int
    offsets: tuple[int, ...]
    on: tuple[int, ...] = ()

    def raw(self, states: "tuple[int, ...]") -> int:
        """The states' bits; raises LabError for one it does not know."""
        if unknown := set(states) - set(self.offsets):
            raise LabError(f"{self.name} has states {self.offsets}, not {sorted(unknown)}")
        return mask(states)

    @property
    def events(self) -> int:
        """Which state changes it sends."""
        return mask(self.offsets)


Sensor = Analog | Discrete


class Fru(msgspec.Struct, frozen=True, kw_only=True):
    """A field replaceable unit: chassis (part, serial), board and product (maker, name, ...) in the FRU's own order."""

    name: str
    entity: Entity
    chassis: tuple[str, ...] = ()
    board: tuple[str, ...] = ()  # maker, product, serial, part
    product: tuple[str, ...] = ()  # maker, product, part, version, serial, asset


def mask(bits: tuple[int, ...]) -> int:
    """A number with these bits."""
    return sum(1 << bit for bit in set(bits))


def sensors(server: Server) -> dict[int, Sensor]:
    """All sensors by number, from what the machine has: NUMA nodes, NICs, drives."""
    machine = server.machine
    nodes = range(1, len(machine.nodes) + 1)
    made: list[Sensor] = [
        *(Analog(f"CPU{n - 1} Temp", Entity(CPU, n), TEMPERATURE, CELSIUS, 47 + n, (), (80, 90, 100)) for n in nodes),
        *(Analog(f"DIMM {_bank(n)} Temp", Entity(DIMM, n), TEMPERATURE, CELSIUS, 38, (), (80, 85)) for n in nodes),
        Analog("Inlet Temp", Entity(INLET), TEMPERATURE, CELSIUS, 23, (5,), (35, 42, 47)),
        *(
            Analog(f"NIC{at} Temp", Entity(IO_MODULE, at + 1), TEMPERATURE, CELSIUS, 55, (), (95, 105))
            for at, nic in enumerate(machine.nics)
            if nic.model != "virtio-net"
        ),
        *(
            Analog(f"FAN{n}", Entity(FAN_DEVICE, n), FAN, RPM, 7200, (2000, 1000), step=100)
            for n in range(1, 2 * len(nodes) + 1)
        ),
        Analog("12V", Entity(BOARD), VOLTAGE, VOLTS, 12.06, (10.8, 10.2), (13.2, 13.8), step=6, exponent=-2),
    ]
    for n in range(1, SUPPLIES + 1):
        made.append(
            Analog(f"PSU{n} Power", Entity(POWER_SUPPLY, n), OTHER_UNITS, WATTS, 216 - 4 * n, (), (800, 880), step=4)
        )
        made.append(Discrete(f"PSU{n} Status", Entity(POWER_SUPPLY, n), SUPPLY, (0, 1, 2, 3), on=(0,)))
    made.append(Discrete("Chassis Intru", Entity(CHASSIS), INTRUSION, (0,)))
    made += [
        Discrete(f"Drive {at}", Entity(DRIVE_BAY, at + 1), DRIVE, (0, 1), on=(0,)) for at in range(len(machine.nvme))
    ]
    made += [Discrete(f"DIMM {_bank(n)} ECC", Entity(DIMM, n), MEMORY, (0, 1, 5)) for n in nodes]
    return dict(enumerate(made, start=1))


def frus(server: Server) -> list[Fru]:
    """All field replaceable units, in order of their numbers; serial numbers are those of SMBIOS where it has them."""
    board = server.machine.board
    builtin = Fru(
        name="Builtin FRU",
        entity=Entity(BOARD),
        chassis=("LAB-CH-1U", f"CH{server.number:07d}"),
        board=(board.vendor, board.board, f"BD{server.number:07d}", "BPN-1"),
        product=(board.vendor, board.product, "LS1000", "A1", server.serial, f"ASSET-{server.number}"),
    )
    supplies = [
        Fru(
            name=f"PSU{n} FRU",
            entity=Entity(POWER_SUPPLY, n),
            product=("LabPower", "PWS-800", "PWS-800-1", "1.0", f"PSU{server.number:05d}{n}", ""),
        )
        for n in range(1, SUPPLIES + 1)
    ]
    return [builtin, *supplies]


def _bank(node: int) -> str:
    return f"{chr(ord('A') + node - 1)}1"


def sensor_record(number: int, sensor: Sensor) -> bytes:
    """The sensor's SDR: type 1 with thresholds, or type 2 (IPMI 2.0 chapter 43)."""
    capable = 0x68 if isinstance(sensor, Analog) else 0x40  # re-arms itself; hysteresis and thresholds can be set
    reading = 0x01 if isinstance(sensor, Analog) else 0x6F
    head = bytes([0x20, 0, number, *sensor.entity, 0x7F, capable, sensor.kind, reading])
    if isinstance(sensor, Discrete):
        body = struct.pack("<HHH", *[sensor.events] * 3) + bytes([0xC0, 0, 0, 1, *[0] * 7])
        return _record(2, head + body + _text(sensor.name[:16]))
    limits = sensor.thresholds
    present = mask(tuple(limits))
    body = struct.pack("<HHBB", sensor.events, sensor.events, present, present)
    body += bytes([0, sensor.unit, 0, 0, sensor.step, 0, 0, 0, 0, (sensor.exponent & 15) << 4, 0, 0, 0, 0, 255, 0])
    body += bytes([*(limits.get(at, 0) for at in (5, 4, 3, 2, 1, 0)), 2, 2, 0, 0, 0])
    return _record(1, head + body + _text(sensor.name[:16]))


def fru_record(number: int, fru: Fru) -> bytes:
    """The SDR that says a FRU is there: type 0x11."""
    return _record(0x11, bytes([0x20, number, 0x80, 0, 0, 0x10, 0, *fru.entity, 0]) + _text(fru.name[:16]))


def controller_record(name: str) -> bytes:
    """The SDR of the BMC itself: type 0x12."""
    return _record(0x12, bytes([0x20, 0, 0, 0xBF, 0, 0, 0, BOARD, 1, 0]) + _text(name[:16]))


def fru_image(fru: Fru) -> bytes:
    """The FRU's memory (Platform Management FRU Information Storage Definition 1.0), 512 bytes."""
    areas = (
        _area(b"\x17", fru.chassis),  # a rack-mount chassis
        _area(b"\x19\0\0\0", (*fru.board, "")),  # English; made at an unknown time
        _area(b"\x19", (*fru.product, "")),
    )
    offsets: list[int] = []
    end = 8
    for area in areas:
        offsets.append(end // 8 if area else 0)
        end += len(area)
    if end > _FRU_SIZE:
        raise LabError(f"{fru.name} needs {end} bytes, a FRU has {_FRU_SIZE}: shorten the board's names")
    return (_sealed(bytes([1, 0, *offsets, 0, 0])) + b"".join(areas)).ljust(_FRU_SIZE, b"\0")


def _record(kind: int, body: bytes) -> bytes:
    return bytes([0, 0, 0x51, kind, len(body)]) + body


def _text(text: str) -> bytes:
    content = text.encode("latin-1", "replace")[:63]
    if len(content) == 1:  # its length byte would be the mark that ends the fields
        content += b" "
    return bytes([0xC0 | len(content)]) + content


def _area(head: bytes, fields: tuple[str, ...]) -> bytes:
    if not any(fields):
        return b""
    body = head + b"".join(_text(field) for field in fields) + b"\xc1"
    length = -(-(len(body) + 3) // 8) * 8
    return _sealed((bytes([1, length // 8]) + body).ljust(length - 1, b"\0"))


def _sealed(content: bytes) -> bytes:
    return content + bytes([-sum(content) & 255])
