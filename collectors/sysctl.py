"""Network settings under /proc/sys, and which file of sysctl.d sets them at boot."""

import fnmatch
from collections.abc import Iterable, Iterator

from collectors import sysfs
from collectors.about import About
from machine import Machine, NotPresentError
from wire.facts import Sysctl, SysctlOwner
from wire.sysctls import AVAILABLE, KEYS, path
from wire.text import clean

NAME = "sysctl"
EVERY_S = 60.0
DEADLINE_S = 5.0

# sysctl.d(5): of files with one name the first folder's counts, then files go by name, and the last to set a key wins.
FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
_LAST = "/etc/sysctl.conf"  # read by `sysctl --system` after all others

ABOUT = About(
    what="network settings that can be tuned, and which file sets them at boot",
    source="`/proc/sys/net`, sysctl.d(5), `/etc/sysctl.conf`",
)


def collect(machine: Machine) -> Iterator[Sysctl]:
    """One `Sysctl`; raises NotPresentError where none of the settings is there."""
    texts = {name: sysfs.text(machine, path(name)) for name in (*KEYS, AVAILABLE)}
    values = {name: " ".join(text.split()) for name, text in texts.items() if text}
    if not values:
        raise NotPresentError("no network settings in /proc/sys")
    yield Sysctl(values=values, owners=read_owners(machine))


def read_owners(machine: Machine) -> dict[str, SysctlOwner]:
    """Who sets each key at boot."""
    owners: dict[str, SysctlOwner] = {}
    for file in files(machine):
        for pattern, value in parse(sysfs.text(machine, file)):
            for name in fnmatch.filter(KEYS, pattern):
                owners[name] = SysctlOwner(path=clean(file, 200), value=clean(value, 64))
    return owners


def files(machine: Machine) -> list[str]:
    """The files that set keys at boot, in the order in which they are read."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for name in sysfs.names(machine, folder):
            if name.endswith(".conf"):
                found.setdefault(name, f"{folder}/{name}")
    return [found[name] for name in sorted(found)] + [_LAST]


def parse(text: str) -> Iterable[tuple[str, str]]:
    """(key or pattern with dots, value with single spaces) of each line that sets something."""
    for line in map(str.strip, text.splitlines()):
        name, equals, value = line.removeprefix("-").partition("=")
        if equals and not line.startswith(("#", ";")):
            yield name.strip().replace("/", "."), " ".join(value.split())
