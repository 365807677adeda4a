"""Which facts an announcement of the kernel makes old: they are read again at once, and compared with what is wanted.

The collectors' own intervals are the poll behind it, for what nobody announces (interrupt affinity, sysctls, ...).
"""

from collections.abc import Iterable

from machine.monitor import Notice
from machine.uevents import Uevent

NIC = ("nic", "ethtool", "irq", "queues")
_UEVENTS: dict[str, tuple[str, ...]] = {  # subsystem -> collectors
    "cpu": ("cpu", "numa", "irq", "queues", "cpufreq"),
    "memory": ("memory", "numa"),
    "net": NIC,
    "queues": ("nic", "irq", "queues"),
    "module": NIC,
    "pci": ("pci", *NIC),
    "hwmon": ("hwmon", "fans"),
    "watchdog": ("watchdog",),
}
_ACTIONS = frozenset({"add", "remove", "move", "online", "offline", "bind", "unbind"})
_QUIET = frozenset({"link", "device", "log"})  # these alone tell nothing: of links the events do, of devices the table


def stale(notices: Iterable[Notice], *, happened: bool) -> set[str]:
    """Collectors to run again; `happened`: the notices came to events."""
    found: set[str] = set(NIC) if happened else set()
    for notice in notices:
        if isinstance(notice.about, Uevent):
            found.update(_UEVENTS.get(notice.about.subsystem, ()) if notice.about.action in _ACTIONS else ())
        elif notice.what not in _QUIET:
            found.update(NIC)
    return found
