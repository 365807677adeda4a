"""A server's ACPI hardware: the table that declares it, and its values, which the host changes while the guest runs."""

import mmap
from pathlib import Path
from typing import Literal, NamedTuple, Self

import msgspec

from hardware_lab.command import run as run_command
from hardware_lab.failure import LabError

PAGE = 0x2000_0000  # in guest memory; the kernel's `memmap=64K$0x20000000` keeps it free
SOURCE = Path(__file__).parent / "acpi/server.asl"
# Bytes that keep what is written to them: the page registers of the ISA DMA controllers, which nothing here uses.
LATCHES = (0x81, 0x82, 0x83, 0x87, 0x89, 0x8A, 0x8B, 0x8F)

Name = Literal["cpu_c", "board_c", "power_w", "cap_w", "fan_level", "fan_rpm", "critical_c", "passive_c"]


class Field(NamedTuple):
    """A value of the page: 32 bits at `offset`, `per_unit` steps a unit, `zero` the step at 0."""

    offset: int
    per_unit: int = 1
    zero: int = 0


_KELVIN = 2732  # tenths, at 0 degrees Celsius
FIELDS: dict[Name, Field] = {  # server.asl has the same offsets
    "cpu_c": Field(0x00, 10, _KELVIN),
    "board_c": Field(0x04, 10, _KELVIN),
    "power_w": Field(0x08, 1000),
    "cap_w": Field(0x0C, 1000),
    "fan_level": Field(0x10),
    "fan_rpm": Field(0x14),
    "critical_c": Field(0x18, 10, _KELVIN),
    "passive_c": Field(0x1C, 10, _KELVIN),
}


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """All values: degrees Celsius, watts, percent and revolutions a minute; the defaults are a healthy server's."""

    cpu_c: float = 45.0
    board_c: float = 38.0
    power_w: float = 312.0
    cap_w: float = 500.0  # the guest sets it
    fan_level: float = 0  # the guest sets it
    fan_rpm: float = 5400
    critical_c: float = 105.0
    passive_c: float = 90.0


class Values:
    """The page of a server that has this file as memory of its node 0; raises LabError when the file is too small."""

    def __init__(self, memory: Path) -> None:
        try:
            with memory.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), mmap.PAGESIZE, offset=PAGE)
        except (OSError, ValueError) as error:
            raise LabError(f"{memory} holds no page of sensor values: {error}") from None
        self._page = memoryview(self._map).cast("I")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the memory; the values stay."""
        self._page.release()
        self._map.close()

    def get(self, name: Name) -> float:
        """A value in its unit, as the guest sees it or has set it."""
        field = FIELDS[name]
        return (self._page[field.offset // 4] - field.zero) / field.per_unit

    def set(self, name: Name, value: float) -> None:
        """Change a value; the guest's next look finds it. Raises LabError for one that 32 bits do not hold."""
        field = FIELDS[name]
        steps = round(value * field.per_unit) + field.zero
        if not 0 <= steps < 1 << 32:
            raise LabError(f"{name} cannot be {value:g}")
        self._page[field.offset // 4] = steps

    def fill(self, readings: Readings | None = None) -> None:
        """Set all values, as before a boot; without any, a healthy server's."""
        for name, value in msgspec.structs.asdict(readings or Readings()).items():
            self.set(name, value)  # type: ignore[arg-type]

    def all(self) -> Readings:
        """All values at this moment."""
        return Readings(**{name: self.get(name) for name in FIELDS})


def table(cpus: int) -> str:
    """The table's source for that many CPUs (ASL); pure. Raises LabError for CPUs ACPI has no names for."""
    if cpus > 0xFFF:
        raise LabError(f"{cpus} CPUs: at most 4095")
    names = [f"\\_SB.CPUS.C{number:03X}" for number in range(cpus)]
    share = -(-cpus // len(LATCHES))  # CPUs of one latch change speed together
    scopes = [_scope(name, at // share, min(share, cpus - at // share * share)) for at, name in enumerate(names)]
    parts = {
        "@EXTERNALS@": "\n    ".join(f"External ({name}, DeviceObj)" for name in names),
        "@PAGE@": f"0x{PAGE:08X}",
        "@COOLED@": ", ".join(names),
        "@CPUS@": "\n    ".join(scopes),
    }
    text = SOURCE.read_text()
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def _scope(cpu: str, domain: int, size: int) -> str:
    """P-states and C-states of one of the `size` CPUs of a domain."""
    latch = f"ResourceTemplate () {{ Register (SystemIO, 8, 0, 0x{LATCHES[domain]:02X}) }}"
    objects = [
        f"Name (_PCT, Package () {{ {latch}, {latch} }})",
        "Method (_PSS, 0) { Return (PSSP) }",
        "Method (_PPC, 0) { Return (0) }",
        "Method (_CST, 0) { Return (CSTP) }",
    ]
    if size > 1:  # 0xFC: the kernel sets all of them
        objects.append(f"Name (_PSD, Package () {{ Package () {{ 5, 0, {domain}, 0xFC, {size} }} }})")
    return f"Scope ({cpu}) {{\n        " + "\n        ".join(objects) + " }"


def prepare(run: Path, cpus: int, readings: Readings | None = None) -> None:
    """Before a boot: the compiled table `server.aml` of a run folder, and the first values in its `mem0`.

    Raises LabError with the compiler's words, or for a memory too small.
    """
    source = run / "server.asl"
    source.write_text(table(cpus))
    run_command(["iasl", "-vs", "-p", str(run / "server.aml"), str(source)])
    with Values(run / "mem0") as values:
        values.fill(readings)


def devices(run: Path) -> list[str]:
    """QEMU's arguments for the table of a run folder."""
    return ["-acpitable", f"file={run / 'server.aml'}"]


def watchdog() -> list[str]:
    """QEMU's arguments for an i6300ESB watchdog that really resets the machine."""
    return ["-device", "i6300esb,id=wdt,bus=pcie.0", "-action", "watchdog=reset"]
