"""Devices that come, go and change, as events; network interfaces are told by rtnetlink and left out here.

A device that came is told a second later: then udev knows its name.
"""

import re
from collections import deque
from collections.abc import Callable, Mapping

from machine.uevents import Uevent, read_names
from wire.report import Event, Severity

SETTLE_S = 1.0
MOST_WAITING = 1024

SUBSYSTEMS = {  # subsystem -> what people call it
    "pci": "PCI device",
    "block": "disk",
    "nvme": "NVMe controller",
    "hwmon": "sensor chip",
    "thermal": "thermal zone",
    "tpm": "TPM",
    "usb": "USB device",
    "infiniband": "RDMA device",
    "ptp": "PTP clock",
    "watchdog": "watchdog",
    "power_supply": "power supply",
    "cpu": "CPU",
    "memory": "memory block",
    "ipmi": "BMC interface",
}
ACTIONS = {  # action -> kind, severity, words
    "add": ("added", Severity.INFO, "came"),
    "remove": ("removed", Severity.WARNING, "is gone"),
    "bind": ("bound", Severity.INFO, "is driven by"),
    "unbind": ("unbound", Severity.WARNING, "has no driver any more"),
    "online": ("online", Severity.INFO, "is online"),
    "offline": ("offline", Severity.WARNING, "is offline"),
}
_VIRTUAL_DISKS = "/devices/virtual/block/"  # loops, RAM disks, dm; an NVMe disk of several paths is in nvme-subsystem
_BINDS = ("pci",)  # of the rest, who drives it is of no interest
_RECOVERY = {  # pci_uevent_ers(): after an uncorrectable PCIe error
    "BEGIN_RECOVERY": (Severity.WARNING, "recovers from a PCIe error"),
    "SUCCESSFUL_RECOVERY": (Severity.INFO, "has recovered from a PCIe error"),
    "FAILED_RECOVERY": (Severity.CRITICAL, "did not recover from a PCIe error"),
}

_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")

Names = Callable[[str], Mapping[str, str]]


class Hotplug:
    """Takes announcements and gives events in their order; used by one thread."""

    def __init__(self, names: Names = read_names) -> None:
        self._names = names
        self._waiting: deque[tuple[float, int, Uevent]] = deque()

    def take(self, uevent: Uevent, at_ms: int, now_s: float) -> list[Event]:
        """Keep it until it has settled; what is too much to keep is told now, without a name."""
        if not is_told(uevent):
            return []
        self._waiting.append((now_s + SETTLE_S, at_ms, uevent))
        return [self._told(named=False)] if len(self._waiting) > MOST_WAITING else []

    def due(self, now_s: float) -> list[Event]:
        """What has settled."""
        found: list[Event] = []
        while self._waiting and self._waiting[0][0] <= now_s:
            found.append(self._told())
        return found

    def flush(self) -> list[Event]:
        """All that has not settled, told now: the end."""
        return [self._told(named=False) for _ in range(len(self._waiting))]

    def wait_s(self, now_s: float) -> float:
        """Seconds until `due` has something."""
        return max(0.0, self._waiting[0][0] - now_s) if self._waiting else float("inf")

    def _told(self, *, named: bool = True) -> Event:
        _, at_ms, uevent = self._waiting.popleft()
        return event(uevent, at_ms, self._names(uevent.devpath) if named and uevent.action == "add" else {})


def is_told(uevent: Uevent) -> bool:
    """Whether it is a device of the table that came, went or changed by itself, and neither virtual nor a part."""
    if uevent.subsystem not in SUBSYSTEMS or "SYNTH_UUID" in uevent.properties:  # that one: somebody wrote to `uevent`
        return False
    if uevent.subsystem == "block" and (
        uevent.properties.get("DEVTYPE") != "disk" or uevent.devpath.startswith(_VIRTUAL_DISKS)
    ):
        return False
    if uevent.subsystem == "usb" and uevent.properties.get("DEVTYPE") != "usb_device":
        return False
    if uevent.subsystem == "thermal" and not uevent.name.startswith("thermal_zone"):
        return False
    if uevent.action == "change":
        return _change(uevent) is not None
    return uevent.action in ACTIONS and ("bind" not in uevent.action or uevent.subsystem in _BINDS)


def event(uevent: Uevent, at_ms: int, names: Mapping[str, str]) -> Event:
    """The event of an announcement that `is_told`."""
    what = f"{SUBSYSTEMS[uevent.subsystem]} {uevent.name}"
    if (change := _change(uevent)) is not None:
        kind, severity, words = change
    else:
        kind, severity, words = ACTIONS[uevent.action]
        kind = f"{uevent.subsystem}.{kind}"
    if uevent.action == "bind":
        words += f" {uevent.properties.get('DRIVER', '?')}"
    name = " ".join(
        names.get(f"{part}_FROM_DATABASE") or names.get(part, "") for part in ("ID_VENDOR", "ID_MODEL")
    ).strip()
    data: dict[str, str | int | float | bool | None] = {"subsystem": uevent.subsystem, "device": uevent.name}
    if name:
        data["model"] = name
    if serial := names.get("ID_SERIAL_SHORT"):
        data["serial"] = serial
    for label in ("DRIVER", "PCI_ID", "PCI_CLASS", "DEVNAME", "PRODUCT"):
        if uevent.properties.get(label):
            data[label.lower()] = uevent.properties[label]
    if parent := _parent(uevent):
        data["pci"] = parent
    text = f"{what}{f' ({name})' if name else ''} {words}"
    return Event(at_ms=at_ms, kind=kind, key=uevent.name, severity=severity, text=text, data=data)


def _change(uevent: Uevent) -> tuple[str, Severity, str] | None:
    """Of a "change": kind, severity and words for what is worth telling."""
    said = uevent.properties
    if uevent.action != "change":
        return None
    if uevent.subsystem == "pci" and said.get("ERROR_EVENT") in _RECOVERY:
        return ("pcie.recovery", *_RECOVERY[said["ERROR_EVENT"]])
    if uevent.subsystem == "nvme" and "NVME_AEN" in said:
        return "nvme.notice", Severity.WARNING, f"sends notice {said['NVME_AEN']}"
    if uevent.subsystem == "block" and said.get("RESIZE") == "1":
        return "block.resized", Severity.INFO, "has another size"
    if uevent.subsystem == "block" and said.get("DISK_MEDIA_CHANGE") == "1":
        return "block.media", Severity.INFO, "has another medium"
    return None


def _parent(uevent: Uevent) -> str:
    """The PCI address that the device hangs on."""
    parts = [part for part in uevent.devpath.split("/")[:-1] if _ADDRESS.fullmatch(part)]
    return parts[-1] if parts and uevent.subsystem != "pci" else ""
