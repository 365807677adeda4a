"""Clocks: the kernel's source of time, whether it is synchronised, PTP hardware clocks, and how NICs stamp frames."""

import re
from collections.abc import Iterator

from collectors import sysfs
from collectors.about import About
from collectors.links import poll, read_own_ports
from machine import Machine, MachineError, NotPresentError, ethtool, hwtstamp, timex
from wire.facts import Clock, PtpClock, Timestamping
from wire.text import clean

NAME = "clock"
EVERY_S = 60.0
DEADLINE_S = 5.0

_SOURCE = "/sys/devices/system/clocksource/clocksource0"
_PTP = "/sys/class/ptp"
_PTP_NAME = re.compile(r"ptp(\d+)")

ABOUT = About(
    what="clock source, synchronisation; PTP hardware clocks; timestamping of every NIC",
    source="`/sys/devices/system/clocksource`, adjtimex, `/sys/class/ptp`, ethtool TSINFO_GET, SIOCGHWTSTAMP",
)


def collect(machine: Machine) -> Iterator[Clock | PtpClock | Timestamping]:
    """One `Clock`, one `PtpClock` each, one `Timestamping` per NIC; raises NotPresentError where there are none."""
    clocks, hardware, nics = list(read_clock(machine)), read_ptp_clocks(machine), read_timestamping(machine)
    if not (clocks or hardware or nics):
        raise NotPresentError(f"neither {_SOURCE} nor {_PTP} nor a NIC that stamps")
    yield from clocks
    yield from hardware
    yield from nics


def read_clock(machine: Machine) -> Iterator[Clock]:
    """The system's clock, where its source or its state is told."""
    source = clean(sysfs.text(machine, f"{_SOURCE}/current_clocksource"), 32)
    available = sysfs.text(machine, f"{_SOURCE}/available_clocksource").split()
    kept = read_kept(machine)
    if source or kept:
        status = kept.get("status")
        yield Clock(
            source=source,
            available=available,
            synchronised=None if status is None else not status & timex.UNSYNC,
            pps=None if status is None else bool(status & timex.PPS_SIGNAL),
            tai_offset_s=kept.get("tai"),
        )


def read_kept(machine: Machine) -> dict[str, int]:
    """The state of the kernel's clock, empty where it cannot be asked."""
    try:
        return machine.timex()
    except MachineError:
        return {}


def read_ptp_clocks(machine: Machine) -> list[PtpClock]:
    """PTP hardware clocks by index; two of one device are told apart by "#2"."""
    indexes = sorted(int(match[1]) for name in sysfs.names(machine, _PTP) if (match := _PTP_NAME.fullmatch(name)))
    found = [read_ptp_clock(machine, index) for index in indexes]
    keys = [clock.key for clock in found]
    for at, clock in enumerate(found):
        if earlier := keys[:at].count(clock.key):
            clock.key = f"{clock.key}#{earlier + 1}"
    return found


def read_ptp_clock(machine: Machine, index: int) -> PtpClock:
    """One PTP hardware clock; its name may hold a MAC, so that the key is its device's address."""
    folder = f"{_PTP}/ptp{index}"
    name = clean(sysfs.text(machine, f"{folder}/clock_name"), 64)
    device = sysfs.pci_addresses(sysfs.resolve(machine, f"{folder}/device"))
    pps = sysfs.number(machine, f"{folder}/pps_available")
    return PtpClock(
        key=device[-1] if device else name or f"ptp{index}",
        index=index,
        name=name,
        max_adjustment_ppb=sysfs.number(machine, f"{folder}/max_adjustment"),
        alarms=sysfs.number(machine, f"{folder}/n_alarms"),
        external_timestamps=sysfs.number(machine, f"{folder}/n_external_timestamps"),
        periodic_outputs=sysfs.number(machine, f"{folder}/n_periodic_outputs"),
        pins=[clean(pin, 64) for pin in sysfs.names(machine, f"{folder}/pins")],
        pps=None if pps is None else bool(pps),
        vclocks=sysfs.number(machine, f"{folder}/n_vclocks"),
    )


def read_timestamping(machine: Machine) -> list[Timestamping]:
    """What every NIC with hardware says; none where the kernel or its driver says nothing."""
    try:
        ports = read_own_ports(machine)
    except MachineError:
        return []
    said = poll(machine, ethtool.read_all_tsinfo, ethtool.read_tsinfo, ports)
    hardware = [port for port in ports if port.device and port.link.ifindex in said]
    owners = read_owners(machine) if hardware else {}
    now = {port.link.ifindex: read_config(machine, port.link.ifname) for port in hardware}
    return [
        Timestamping(
            key=port.key,
            ifname=port.link.ifname,
            phc=found.phc,
            capabilities=sorted(found.capabilities),
            tx=sorted(found.tx),
            rx=sorted(found.rx),
            tx_type=now[port.link.ifindex][0],
            rx_filter=now[port.link.ifindex][1],
            owner=owners.get(found.phc, "") if found.phc is not None else "",
        )
        for port in hardware
        for found in [said[port.link.ifindex]]
    ]


def read_owners(machine: Machine) -> dict[int, str]:
    """Who steers which PTP clock; nobody where processes cannot be seen."""
    try:
        return hwtstamp.clock_owners(machine)
    except MachineError:
        return {}


def read_config(machine: Machine, ifname: str) -> tuple[str, str]:
    """What is sent and received with a stamp, "" where the driver does not say."""
    try:
        return hwtstamp.read(machine, ifname)
    except MachineError:
        return "", ""
