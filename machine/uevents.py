"""What the kernel tells udev of devices: hot-plug, drivers that bind, errors that are recovered from; and udev's names.

The kernel's own announcements are read, not udevd's: those do not come where udevd does not run. What udev knows of a
device (names from its hardware database) is asked for through libudev when a device came, and not before: pyudev takes
1.2 MB of memory.
"""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from wire.text import clean

MAX_TEXT = 255  # characters of a value
MAX_PATH = 1024
MAX_PROPERTIES = 64
_NAMES = ("ID_VENDOR_FROM_DATABASE", "ID_MODEL_FROM_DATABASE", "ID_VENDOR", "ID_MODEL", "ID_SERIAL_SHORT")


class Uevent(NamedTuple):
    """One announcement of lib/kobject_uevent.c."""

    action: str  # "add", "remove", "change", "bind", "unbind", "online", "offline", "move"
    devpath: str  # below /sys: "/devices/pci0000:00/0000:00:04.0"
    subsystem: str
    properties: Mapping[str, str]

    @property
    def name(self) -> str:
        """The device's own name: "0000:00:04.0", "nvme0n1"."""
        return self.devpath.rpartition("/")[2]


def parse_uevent(datagram: bytes) -> Uevent | None:
    """`add@/devices/...` and NUL-ended KEY=VALUE; None for anything else, such as udevd's own format."""
    head, _, rest = datagram.partition(b"\0")
    action, at, devpath = clean(head, MAX_PATH).partition("@")
    if not at or not devpath.startswith("/"):
        return None
    pairs = (part.partition("=") for part in map(clean, rest.split(b"\0", MAX_PROPERTIES)[:MAX_PROPERTIES]))
    properties = {key: value for key, equals, value in pairs if equals}
    if properties.get("ACTION") != action or not properties.get("SUBSYSTEM"):
        return None
    return Uevent(action, devpath, properties["SUBSYSTEM"], properties)


def read_names(devpath: str) -> dict[str, str]:
    """What udev's database calls the device (`ID_MODEL`, ...); empty where it knows nothing, or libudev is missing."""
    try:
        pyudev: Any = importlib.import_module("pyudev")  # ctypes and libudev, only where something was plugged
    except ImportError:
        return {}
    try:
        properties = pyudev.Devices.from_sys_path(pyudev.Context(), f"/sys{devpath}").properties
        found = {name: properties.get(name) for name in _NAMES}
    except (pyudev.DeviceNotFoundError, OSError):
        return {}
    return {name: clean(str(value), MAX_TEXT) for name, value in found.items() if value}
