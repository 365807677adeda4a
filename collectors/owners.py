"""Who else sets what a policy may set: TuneD, NetworkManager, power-profiles-daemon, files of systemd, udev, sysctl."""

from collections.abc import Iterator

from collectors import ownerfiles, sysfs, tuned
from collectors.about import About, Cost
from collectors.links import read_ports
from machine import Machine, MachineError, NotPresentError
from wire.facts import Owner
from wire.facts.owners import Claim

NAME = "owners"
EVERY_S = 60.0
DEADLINE_S = 10.0

ABOUT = About(
    what="who else sets NICs, sysctls, frequencies and watchdogs, and to what",
    source="cgroups of services; `/etc/tuned`, sysctl.d, udev's rules, systemd's .link, NetworkManager's profiles",
    cost=Cost.SLOW,
    privileges="root for NetworkManager's profiles",
)

# A service that runs has a cgroup of its own: one listing instead of all processes.
_SERVICES = ("/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/systemd/system.slice")
_POWER = [Claim(what="cpu governor"), Claim(what="cpu epp")]


def collect(machine: Machine) -> Iterator[Owner]:
    """One `Owner` each; raises NotPresentError where nobody else sets anything."""
    found = [owner for owner in read_owners(machine) if owner.claims or owner.running]
    if not found:
        raise NotPresentError("nobody else is known to set anything here")
    yield from found


def read_owners(machine: Machine) -> Iterator[Owner]:
    """Every kind of owner, whether it is there or not."""
    devices = read_devices(machine)
    services = read_services(machine)
    profile = tuned.read_profile(machine)
    runs = "tuned.service" in services or _lives(machine, tuned.PID, "tuned")
    names = {device.ifname: device.key for device in devices}
    claims = tuned.read_claims(machine, profile, names) if runs else []
    yield Owner(key="tuned", name="TuneD", running=runs, profile=profile if runs else "", claims=claims)
    manages = "NetworkManager.service" in services
    claims = ownerfiles.profile_claims(machine, devices) if manages else []
    yield Owner(key="networkmanager", name="NetworkManager", running=manages, claims=claims)
    powers = "power-profiles-daemon.service" in services
    yield Owner(key="ppd", name="power-profiles-daemon", running=powers, claims=_POWER if powers else [])
    yield Owner(key="link", name="systemd's .link", claims=ownerfiles.link_claims(machine, devices))
    yield Owner(key="udev", name="a udev rule", claims=ownerfiles.udev_claims(machine, devices))
    yield Owner(key="sysctl", name="sysctl.d", claims=ownerfiles.sysctl_claims(machine))
    yield Owner(key="systemd", name="systemd", claims=ownerfiles.runtime_watchdog(machine))


def read_devices(machine: Machine) -> list[ownerfiles.Device]:
    """The interfaces with hardware; none where there are no interfaces to be seen."""
    try:
        return ownerfiles.read_devices(machine, read_ports(machine))
    except MachineError:
        return []


def read_services(machine: Machine) -> set[str]:
    """The units of the system slice that have processes."""
    return {name for folder in _SERVICES for name in sysfs.names(machine, folder)}


def _lives(machine: Machine, pid_file: str, name: str) -> bool:
    """Whether the process of a pid file is one of that name: tuned is a script, its name stands in its command line."""
    pid = sysfs.number(machine, pid_file)
    return pid is not None and name in sysfs.text(machine, f"/proc/{pid}/cmdline")
