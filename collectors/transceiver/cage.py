"""The cage of one NIC from poll to poll: what is in it, read whole once, and then its monitors alone.

Flags are latched and cleared by reading, so each is read once a poll: what another program reads is lost for us.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from collectors import sysfs
from collectors.links import Port
from collectors.transceiver import fact as facts
from collectors.transceiver import readings, reads
from collectors.transceiver.decode import decode
from collectors.transceiver.readings import Believed
from collectors.transceiver.says import Module
from machine import DeniedError, Machine, MachineError, NotPresentError
from machine.eeprom import Module as Memory
from machine.eeprom import Read
from wire.facts import Optics
from wire.report import Event, Sample, Severity

CHECK_EVERY = 10  # polls; a module that is swapped takes the carrier along, this is for links that had none
SMALL = 0.001

Flag = tuple[int, str]  # lane from 1, 0 for the module


@dataclass(slots=True)
class Held:
    """A module that was read whole."""

    module: Module
    trusted: Believed
    fact: Optics
    name: bytes  # what tells it from others
    runs: list[Read]
    last: Module  # of the last poll


@dataclass(slots=True)
class Cage:
    """What is known of one NIC's cage."""

    held: Held | None = None
    before: str = ""  # how it ended last time: "", "empty", "blank", "unreadable", "held"
    polls: int = 0
    carrier_changes: int | None = None
    flags: set[Flag] | None = None  # of the last poll; None before the first
    lost: Optics | None = None  # the identity of a module that stopped answering


def look(machine: Machine, port: Port, cage: Cage) -> Iterator[Optics | Sample | Event]:
    """One poll: the fact, samples, and events for what is different. Raises DeniedError."""
    changes = sysfs.number(machine, f"{port.folder}/carrier_changes")
    check = cage.polls % CHECK_EVERY == 0 or changes != cage.carrier_changes
    cage.polls, cage.carrier_changes = cage.polls + 1, changes
    read = Memory(machine, port.link.ifindex, port.link.ifname).read
    try:
        yield from _read(port, cage, read, check=check)
    except NotPresentError:
        yield from _gone(port, cage)
    except DeniedError:
        raise
    except MachineError as error:
        yield from _unreadable(port, cage, str(error))


def _read(port: Port, cage: Cage, read: reads.Reader, *, check: bool) -> Iterator[Optics | Sample | Event]:
    held = cage.held
    if held and check and reads.name_of(read, held.module.family) != held.name:
        held = None
    if held is None:
        yield from _whole(port, cage, read)
        return
    try:
        blocks = reads.read_monitors(read, held.runs)
    except NotPresentError:  # the monitors alone are gone, or the whole module
        yield from _whole(port, cage, read)
        return
    yield from _said(port, cage, held, reads.fresh(held.module, blocks) if held.runs else held.module)


def _whole(port: Port, cage: Cage, read: reads.Reader) -> Iterator[Optics | Sample | Event]:
    """Read all of the module; once more when a sum is wrong, which a race on the bus can be."""
    image = reads.read_image(read)
    if reads.is_blank(image):
        cage.held, cage.lost, cage.before = None, _known(cage), "blank"
        yield Optics(key=port.key, ifname=port.link.ifname, state="not ready", reason="the module says nothing yet")
        return
    module = decode(image)
    if not all(module.checksum.values()):
        image = reads.read_again(image, read, module.family)
        module = decode(image)
    trusted = readings.believed(module)
    fact = facts.optics(module, port.key, port.link.ifname, trusted)
    held = Held(module, trusted, fact, reads.name_in(image, module.family), reads.monitor_reads(module), module)
    if not trusted.monitors and module.family != "cmis":
        held.runs = []
    old = _known(cage)
    if cage.before and not _same(old, fact):
        cage.flags = set()
        if old:
            yield _event(port, "optics.removed", Severity.WARNING, f"{named(old)} removed", old)
        yield _event(port, "optics.inserted", Severity.INFO, f"{named(fact)} inserted", fact)
    cage.held = held
    yield from _said(port, cage, held, module)


def _known(cage: Cage) -> Optics | None:
    """The fact of the module that is or was last in the cage."""
    return cage.held.fact if cage.held else cage.lost


def _same(old: Optics | None, fact: Optics) -> bool:
    return old is not None and (old.vendor, old.part, old.serial) == (fact.vendor, fact.part, fact.serial)


def _said(port: Port, cage: Cage, held: Held, now: Module) -> Iterator[Optics | Sample | Event]:
    fact = held.fact if facts.is_same(held.last, now) else facts.with_state(held.fact, now, held.trusted)
    held.last = now
    held.fact = fact = (
        fact if fact.ifname == port.link.ifname else msgspec.structs.replace(fact, ifname=port.link.ifname)
    )
    cage.before, cage.lost = "held", None
    yield fact
    waiting = readings.live(now)
    if not waiting:
        yield from samples(port.key, now, held.trusted)
    if waiting in ("", facts.FAULT):  # of a module that is not ready nobody knows
        yield from _edges(port, cage, fact)


def samples(key: str, module: Module, trusted: Believed) -> Iterator[Sample]:
    """Readings of a module that is live; lanes have keys of their own."""
    if module.dom is None:
        return
    where = {0: key}
    for metric, lane, value in (*readings.readings(module.dom, trusted), *readings.observed(module)):
        if lane not in where:
            where[lane] = f"{key}/lane{lane}"
        plain = value == 0 or abs(value) >= SMALL  # four digits are the finest step of any register in these units
        yield Sample(f"optics.{metric}", where[lane], round(value, 4) if plain else float(f"{value:.6g}"))


def _edges(port: Port, cage: Cage, fact: Optics) -> Iterator[Event]:
    """What was raised and what was cleared since the last poll; the light of a port that is set down alarms nobody."""
    flags = {(0, flag) for flag in fact.flags}
    if port.link.up:
        flags |= {(lane.lane, flag) for lane in fact.lanes for flag in lane.flags}
    before, cage.flags = cage.flags, flags
    if before is None:
        return
    for lane, flag in sorted(flags - before):
        alarm = flag.endswith(("alarm", "fault"))
        severity = Severity.CRITICAL if alarm else Severity.WARNING
        yield _event(port, "optics.alarm" if alarm else "optics.warning", severity, flag, fact, lane=lane)
    for lane, flag in sorted(before - flags):
        yield _event(port, "optics.cleared", Severity.INFO, f"{flag} cleared", fact, lane=lane)


def _event(port: Port, kind: str, severity: Severity, what: str, fact: Optics, *, lane: int = 0) -> Event:
    where = f"{port.link.ifname} lane {lane}" if lane else port.link.ifname
    data: dict[str, str | int | float | bool | None] = {"serial": fact.serial}
    if lane:
        data["lane"] = lane
    if kind in ("optics.alarm", "optics.warning", "optics.cleared"):
        data["flag"] = what.removesuffix(" cleared")
    return Event(at_ms=0, kind=kind, key=port.key, severity=severity, text=f"{where}: {what}", data=data)


def named(fact: Optics) -> str:
    """`FINISAR CORP. FTLX8574D3BCL ABC123`, or what little there is."""
    return " ".join(text for text in (fact.vendor, fact.part, fact.serial) if text) or fact.form or "a module"


def _gone(port: Port, cage: Cage) -> Iterator[Event]:
    old = _known(cage)
    cage.held, cage.lost, cage.before, cage.flags = None, None, "empty", set()
    if old:
        yield _event(port, "optics.removed", Severity.WARNING, f"{named(old)} removed", old)


def _unreadable(port: Port, cage: Cage, reason: str) -> Iterator[Optics | Event]:
    """The identity that is known stays, the rest is not said; it is read whole when it answers again."""
    old = _known(cage)
    known = old or Optics(key=port.key, ifname=port.link.ifname)
    fact = msgspec.structs.replace(known, state="unreadable", reason=reason[:200], lanes=[], flags=[])
    first = cage.before not in ("", "unreadable")
    cage.held, cage.lost, cage.before = None, old, "unreadable"
    yield fact
    if first:
        yield _event(port, "optics.unreadable", Severity.WARNING, f"the module does not answer: {reason[:200]}", fact)
