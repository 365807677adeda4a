"""Lights that the kernel can switch: those of NICs, drives' bays and the chassis."""

from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from machine import Machine, NotPresentError
from wire.facts import Led

NAME = "led"
EVERY_S = 60.0
DEADLINE_S = 5.0

CLASS = "/sys/class/leds"
MOST = 256  # a disk shelf has two per bay
ABOUT = About(what="lights: brightness, what drives them and what could", source="`/sys/class/leds`")


def collect(machine: Machine) -> Iterator[Led]:
    """One `Led` per light; raises NotPresentError where there is none."""
    names = sysfs.names(machine, CLASS)[:MOST]
    if not names:
        raise NotPresentError(f"no light in {CLASS}")
    for name in names:
        yield read_led(machine, name)


def read_led(machine: Machine, name: str) -> Led:
    """One light; while something drives it its brightness is that one's and is not told."""
    folder = f"{CLASS}/{name}"
    words = sysfs.text(machine, f"{folder}/trigger").split()
    trigger = next((word[1:-1] for word in words if word.startswith("[") and word.endswith("]")), "")
    device = sysfs.resolve(machine, f"{folder}/device")
    addresses = sysfs.pci_addresses(device)
    return Led(
        key=name,
        device=addresses[-1] if addresses else device.rpartition("/")[2],
        brightness=sysfs.number(machine, f"{folder}/brightness") if trigger in ("", "none") else None,
        max_brightness=sysfs.number(machine, f"{folder}/max_brightness"),
        trigger=trigger,
        triggers=[word.strip("[]") for word in words],
    )
