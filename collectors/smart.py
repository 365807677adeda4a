"""The health of every drive, by its own word. Asking disturbs it: this is rare, and no part of `storage`."""

import time
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from collectors import nvmelog, smartjson, sysfs
from collectors.about import About, Cost
from collectors.blockdevices import BLOCK, NVME, read_disks, read_nvmes, unique
from collectors.chips import scaled
from collectors.smartjson import Reading, parse_scan, parse_smartctl
from machine import Machine, MachineError, NotPresentError, nvme
from wire.facts import DriveHealth
from wire.report import Event, Sample, Severity

NAME = "smart"
EVERY_S = 300.0
DEADLINE_S = 55.0

_PCI, _RAID = "/sys/bus/pci/devices", "0x0104"
PATIENCE_S = 25.0  # then no further drive is asked: smartctl itself is given 20 s
_ASKED = ("", "sata", "sas", "scsi", "ide")  # transports of disks that smartctl knows how to ask
_WORN = 90  # percent of the rated endurance
_FAILING = {
    "spare": "its spare is below the threshold",
    "reliability": "its reliability is degraded",
    "read_only": "it has gone read-only",
}
_WARNING = {
    "temperature": "its temperature is out of bounds",
    "backup": "its power-loss backup has failed",
    "persistent_memory": "its persistent memory is unreliable",
}
_SEVERITIES = {"failing": Severity.CRITICAL, "warning": Severity.WARNING}

# A metric's name without `smart.`, and what it must have moved by to be sent.
METRICS = {
    "smart.temperature_celsius": 1.0,
    "smart.sensor_celsius": 1.0,
    "smart.percentage_used": 0,
    "smart.spare_percent": 0,
    "smart.media_errors": 0,
    "smart.reallocated_sectors": 0,
    "smart.pending_sectors": 0,
    "smart.uncorrectable_sectors": 0,
    "smart.crc_errors": 0,
    "smart.unsafe_shutdowns": 0,
    "smart.error_log_entries": 0,
    "smart.power_on_hours": 0,
    "smart.power_cycles": 0,
    "smart.read_bytes": 0,
    "smart.written_bytes": 0,
    "smart.read_commands": 0,
    "smart.write_commands": 0,
    "smart.busy_minutes": 0,
    "smart.warning_minutes": 0,
    "smart.critical_minutes": 0,
    "smart.throttled_seconds": 0,
}

ABOUT = About(
    what="health of drives: verdict, wear, spare, errors, temperature; sleeping disks are not woken",
    source="NVMe admin commands (Identify, log pages), else `smartctl --json`",
    cost=Cost.PERTURBING,
    privileges="root; smartctl for SATA and SAS",
    needs=("/dev/nvme[0-9]",),
    metrics=METRICS,
)
_last: "WeakKeyDictionary[Machine, dict[str, DriveHealth]]" = WeakKeyDictionary()


class Drive(NamedTuple):
    """One drive to ask: its key, its name, and how smartctl is told of it."""

    key: str
    name: str
    device: str = ""  # /dev/sda
    type: str = ""  # -d megaraid,8


def collect(machine: Machine) -> Iterator[DriveHealth | Sample | Event]:
    """Ask each drive; raises NotPresentError where there is none, or nothing to ask it with."""
    drives = read_drives(machine)
    if not drives:
        raise NotPresentError(f"no drive in {BLOCK} and {NVME}")
    last = _last.setdefault(machine, {})
    # What did not answer last time is asked last: it may take all the patience there is.
    drives.sort(key=lambda drive: last[drive.key].verdict == "unknown" if drive.key in last else False)
    begun = time.monotonic()
    told: dict[str, DriveHealth] = {}
    for drive in drives:
        before = last.get(drive.key)
        if time.monotonic() - begun > PATIENCE_S and before:
            told[drive.key] = before
            continue
        try:
            reading = ask(machine, drive)
        except MachineError as error:
            if not drive.device and isinstance(error, NotPresentError):
                continue  # it has just been pulled
            numbers = read_drivetemp(machine, drive.name) if isinstance(error, NotPresentError) else {}
            reading = Reading(DriveHealth(key="", name="", reason=str(error)[:300]), numbers, {})
        if reading.supported:
            told[drive.key] = remember(drive, reading, before)
            yield from samples(drive, reading)
            yield from edges(told[drive.key], before)
    if not told:
        raise NotPresentError("no drive has SMART")
    _last[machine] = told
    yield from (told[drive.key] for drive in sorted(drives) if drive.key in told)


def read_drives(machine: Machine) -> list[Drive]:
    """NVMe controllers that are alive, disks that smartctl can ask, and those behind RAID controllers."""
    found = [
        Drive(one.key, one.name)
        for one in read_nvmes(machine)
        if one.transport in ("", "pcie") and one.state in ("", "live") and awake(machine, f"{NVME}/{one.name}/device")
    ]
    disks = [disk for disk in read_disks(machine) if disk.transport in _ASKED and not disk.place.startswith("virtio")]
    found += [Drive(disk.key, disk.name, f"/dev/{disk.name}") for disk in disks]
    if any(sysfs.text(machine, f"{_PCI}/{name}/class").startswith(_RAID) for name in sysfs.names(machine, _PCI)):
        found += hidden(machine)
    keys = unique(drive.key for drive in found)
    return [drive._replace(key=key) for drive, key in zip(found, keys, strict=True)]


def hidden(machine: Machine) -> list[Drive]:
    """Drives that a RAID controller keeps to itself; they have no key but their place."""
    try:
        found = parse_scan(machine.command("smartctl", "--json=c", "--scan"))
    except MachineError:
        return []
    return [Drive(f"{name.removeprefix('/dev/')}/{kind}", kind, name, kind) for name, kind in found]


def awake(machine: Machine, device: str) -> bool:
    """False for a device that is powered down to save power, which asking would wake."""
    return sysfs.text(machine, f"{device}/power/runtime_status") not in ("suspended", "suspending")


def ask(machine: Machine, drive: Drive) -> Reading:
    """What the drive says, judged; raises MachineError."""
    if drive.device:
        words = ["-d", drive.type] if drive.type else []
        reading = parse_smartctl(machine.command("smartctl", "--json=c", "-n", "standby", "-a", *words, drive.device))
    else:
        reading = ask_nvme(machine, drive.name)
    judge(reading)
    return reading


def read_drivetemp(machine: Machine, name: str) -> dict[str, float]:
    """What the kernel's own driver says of a disk that there is no smartctl to ask."""
    folder = f"{BLOCK}/{name}/device/hwmon"
    texts = (sysfs.text(machine, f"{folder}/{entry}/temp1_input") for entry in sysfs.names(machine, folder))
    found = [celsius for text in texts if (celsius := scaled("temp1", text)) is not None]
    return {"temperature_celsius": found[0]} if found else {}


def ask_nvme(machine: Machine, name: str) -> Reading:
    """Identify Controller, the health log, and the error and self-test logs where they can tell something."""
    identity = nvmelog.parse_identity(nvme.read_identity(machine, name))
    log = nvmelog.parse_health(nvme.read_log(machine, name, nvme.HEALTH_LOG, nvme.HEALTH_BYTES))
    health = DriveHealth(
        key="",
        name=name,
        source="nvme",
        model=identity.model,
        serial=identity.serial,
        firmware=identity.firmware,
        passed=not log.warnings,
        warnings=log.warnings,
        percentage_used=log.percentage_used,
        spare_percent=log.spare_percent,
        spare_threshold_percent=log.spare_threshold_percent,
        media_errors=log.counters["media_errors"],
        temperature_warning_c=identity.warning_c,
        temperature_critical_c=identity.critical_c,
    )
    if log.counters["error_log_entries"]:
        size = min(identity.error_entries, 16) * nvme.ERROR_BYTES
        health.last_error = nvmelog.parse_errors(_page(machine, name, nvme.ERROR_LOG, size))
    if identity.self_tests:
        health.self_test = nvmelog.parse_self_tests(_page(machine, name, nvme.SELF_TEST_LOG, 32))
    numbers: dict[str, float] = {**log.counters, "percentage_used": log.percentage_used}
    numbers |= {"warning_minutes": log.warning_minutes, "critical_minutes": log.critical_minutes}
    numbers["throttled_seconds"] = log.throttled_s
    if log.temperature_c is not None:
        numbers["temperature_celsius"] = log.temperature_c
    if log.spare_percent is not None:
        numbers["spare_percent"] = log.spare_percent
    return Reading(health, numbers, log.sensors_c, spins=False)


def _page(machine: Machine, name: str, page: int, size: int) -> bytes:
    try:
        return nvme.read_log(machine, name, page, size)
    except MachineError:
        return b""


def judge(reading: Reading) -> None:
    """Set the verdict and its reasons, the worst first."""
    health = reading.health
    if reading.asleep:
        health.verdict, health.reason = "asleep", f"in {reading.asleep} mode, not woken"
        return
    failing = [text for word, text in _FAILING.items() if word in health.warnings]
    failed = health.passed is False and not health.warnings
    if failed or (reading.exit_status & smartjson.FAILING and not health.warnings):
        failing.append("its own verdict is that it fails")
    if reading.exit_status & smartjson.PREFAIL:
        failing.append("an attribute that foretells failure is past its threshold")
    warning = [text for word, text in _WARNING.items() if word in health.warnings]
    warning += [f"critical warning {word}" for word in health.warnings if word not in _FAILING | _WARNING]
    warning += wear(health, spins=reading.spins)
    if reading.exit_status & smartjson.SELF_TEST_LOG or health.self_test in ("fatal error", "failed"):
        warning.append("a self-test has failed")
    silent = health.passed is None and not reading.numbers
    health.verdict = "failing" if failing else "warning" if warning else "unknown" if silent else "ok"
    health.reason = "; ".join([*failing, *warning])


def wear(health: DriveHealth, *, spins: bool | None) -> Iterator[str]:
    """What counters warn of; a solid-state drive retires blocks all its life."""
    if health.percentage_used is not None and health.percentage_used >= _WORN:
        yield f"{health.percentage_used} % of its endurance is used"
    for count, what in (
        (health.media_errors, "media errors"),
        (health.pending_sectors, "pending sectors"),
        (health.uncorrectable_sectors, "uncorrectable sectors"),
        (health.reallocated_sectors if spins else None, "reallocated sectors"),
    ):
        if count:
            yield f"{count} {what}"


def remember(drive: Drive, reading: Reading, before: DriveHealth | None) -> DriveHealth:
    """The fact; of a drive that sleeps or did not answer, what it said when it last did."""
    health = reading.health
    health.key, health.name = drive.key, drive.name
    if before and before.verdict != "unknown" and health.verdict == "asleep":
        return before
    if before and before.model and health.verdict == "unknown" and not health.model:
        return msgspec.structs.replace(before, verdict="unknown", reason=health.reason)
    return health


def samples(drive: Drive, reading: Reading) -> Iterator[Sample]:
    """The numbers of one drive."""
    for name, value in reading.numbers.items():
        yield Sample(f"{NAME}.{name}", drive.key, value)
    for number, celsius in reading.sensors_c.items():
        yield Sample("smart.sensor_celsius", f"{drive.key}/{number}", celsius)


def edges(health: DriveHealth, before: DriveHealth | None) -> Iterator[Event]:
    """An event when the verdict is another one; waking up and falling asleep is none."""
    verdicts = {health.verdict, before.verdict if before else health.verdict}
    if len(verdicts) == 2 and "asleep" not in verdicts:
        text = f"{health.name} {health.model} is {health.verdict}" + (f": {health.reason}" if health.reason else "")
        severity = _SEVERITIES.get(health.verdict, Severity.INFO)
        yield Event(at_ms=0, kind="storage.health", key=health.key, severity=severity, text=text)
