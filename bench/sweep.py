"""One sweep of every collector over a recorded server with four NICs of 16 queues and four of fewer: CPU time.

The recording answers instead of the kernel, so this is what our own code costs; how many answers it took stands beside
it. The recorded chips are repeated until there are 200 sensors. Without a name, the capture of the lab's full server.
"""

import re
import statistics
import sys
from pathlib import Path

from collectors.registry import ALL
from collectors.run import run
from machine.capture import Captured, Recording
from machine.tape import Tape
from wire.report import Status

AIM_MS, SENSORS, ROUNDS = 50.0, 200, 15
CAPTURE = Path(__file__).parents[1] / "tests" / "captures" / "lab-full.txt"
_CHIP = re.compile(r"(/sys/class/hwmon/hwmon)(\d+)\b(.*)")
_READING = re.compile(r"/hwmon\d+/(temp|fan|in|curr|power)\d+_(input|average)$")


def with_sensors(tape: Tape, wanted: int) -> Tape:
    """The tape with its hwmon chips repeated under further numbers until so many channels can be read."""
    found = dict(tape)
    chips = sorted({match[2] for call in tape if (match := _CHIP.match(call[1] if len(call) > 1 else ""))}, key=int)
    number = 1000
    while chips and count(found) < wanted:
        for chip in chips:
            number += 1
            for call, body in tape.items():
                match = _CHIP.match(call[1]) if len(call) > 1 else None
                if match and match[2] == chip:
                    found[call[0], f"{match[1]}{number}{match[3]}", *call[2:]] = body
    names = sorted({match[2] for call in found if (match := _CHIP.match(call[1] if len(call) > 1 else ""))}, key=int)
    found["names", "/sys/class/hwmon"] = "\n".join(f"hwmon{name}" for name in names).encode()
    return found


def count(tape: Tape) -> int:
    """Channels of hwmon with a reading."""
    return sum(1 for call in tape if call[0] == "file" and _READING.search(call[1]))


def main() -> None:
    """Print what each collector takes and the whole beside the aim."""
    machine = Captured(sys.argv[1] if len(sys.argv) > 1 else CAPTURE)
    machine.tape = with_sensors(machine.tape, SENSORS)
    taken: dict[str, float] = {}
    samples = 0
    for collector in ALL:
        first = run(collector, machine, 0)
        samples += len(first.samples)
        if first.status is Status.OK:  # what it keeps from the first run is part of it
            runs = [run(collector, machine, 0).cpu_s for _ in range(ROUNDS)]
            taken[collector.NAME] = statistics.median(runs) * 1000
    for name, spent_ms in sorted(taken.items(), key=lambda item: -item[1])[:10]:
        print(f"  {name:<12} {spent_ms:7.2f} ms")
    whole = sum(taken.values())
    print(f"  {len(taken)} collectors, {count(machine.tape)} sensors, {answers(machine)} answers of the machine")
    print(f"  one sweep    {whole:7.2f} ms of CPU (aim {AIM_MS:g}, {whole / AIM_MS:.2f} of it)")
    print(f"  {samples} samples, {1000 * whole / samples:.1f} us of CPU each, all facts read again included")


def answers(machine: Captured) -> int:
    """How many different questions a sweep asks."""
    recording = Recording(machine)
    for collector in ALL:
        run(collector, recording, 0)
    return len(recording.tape)
