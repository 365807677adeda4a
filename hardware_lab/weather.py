"""Sensors that move: temperatures, power and fan of a lab's servers go up and down as those of machines at work do."""

import math
import sys
import time
from pathlib import Path

import msgspec

from hardware_lab import daemon
from hardware_lab.acpi import Name, Readings, Values

NAME = "weather"
MOVING: tuple[Name, ...] = ("cpu_c", "board_c", "power_w", "fan_rpm")
EVERY_S = 2.0
PERIOD_S = 300.0


def readings(at_s: float, server: int) -> Readings:
    """What the sensors of a server (by its number) say at a moment; servers are out of step."""
    load = 0.5 + 0.4 * math.sin(2 * math.pi * at_s / PERIOD_S + server) + 0.1 * math.sin(at_s / 7)
    calm = Readings()
    return Readings(
        cpu_c=round(calm.cpu_c + 20 * load, 1),
        board_c=round(calm.board_c + 6 * load, 1),
        power_w=round(calm.power_w + 180 * load, 1),
        fan_rpm=round(calm.fan_rpm + 4000 * load),
    )


def start(lab: Path) -> None:
    """Let the sensors of every server of the lab in this folder move, until it is stopped."""
    daemon.start([sys.executable, "-m", "hardware_lab.weather", str(lab)], lab, NAME)


def stop(lab: Path) -> None:
    """Leave them as they are; a second call does nothing."""
    daemon.stop(lab, NAME)


def _blow(lab: Path) -> None:
    for number, memory in enumerate(sorted(lab.glob("*/mem0")), 1):
        now = msgspec.structs.asdict(readings(time.time(), number))
        with Values(memory) as values:
            for name in MOVING:
                values.set(name, now[name])


def main() -> None:
    """Until SIGTERM, for the lab in the folder that the command line names."""
    while True:
        _blow(Path(sys.argv[1]))
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()
