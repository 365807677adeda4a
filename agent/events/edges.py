"""What became of levels and counters between two cycles, by one table: alarms that rose, errors that were counted.

A collector's first run, and a component's first fact, are where comparing begins: what stood then is in the facts. A
counter that a collector begins to send later started at 0, one that fell began anew. Collectors that tell of their own
edges (PCIe and memory errors, machine checks, heat, modules, bonds, arrays, drives) are not in the tables.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from agent.schedule import Ran
from wire.facts import Bmc, Clock, Fact, Fan, Firmware, Hwmon, Lldp, Nvme, Pci, PowerMeter, Psu, Rdma, Trust
from wire.report import Event, Severity, Status

_MOST_WORDS = 8  # in a text

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Level(Generic[F]):
    """What a fact says is wrong, as words: one that is new is an event, and one that is gone."""

    fact: type[F]
    words: Callable[[F], Iterable[str]]
    raised: str  # kind
    cleared: str
    severity: Severity
    text: str  # of the event, with {name} and {words}


@dataclass(frozen=True, slots=True)
class Turn(Generic[F]):
    """A value of a fact that is another one now; "" is for unknown and never compared."""

    fact: type[F]
    value: Callable[[F], str]
    kind: str
    severity: Severity
    text: str  # with {name}, {was} and {now}


class Rise(NamedTuple):
    """A cumulative counter among the samples."""

    kind: str
    severity: Severity
    text: str  # with {key}, {by} and {total}


def _fan_words(fact: Fan) -> list[str]:
    raised = [word for word, stands in (("fault", fact.fault), ("alarm", fact.alarm)) if stands]
    return raised + ([fact.status] if fact.status not in ("", "ok") else [])


LEVELS = (
    Level(Hwmon, lambda f: ["alarm"] if f.alarm else [], "sensor.alarm", "sensor.cleared", Severity.WARNING,
          "{name}: {words}"),
    Level(PowerMeter, lambda f: ["alarm"] if f.alarm else [], "sensor.alarm", "sensor.cleared", Severity.WARNING,
          "{name}: {words}"),
    Level(Fan, _fan_words, "fan.fault", "fan.ok", Severity.WARNING, "fan {name}: {words}"),
    Level(Psu, lambda f: f.alarms, "psu.alarm", "psu.cleared", Severity.WARNING, "power supply {name}: {words}"),
    Level(Psu, lambda f: _when("unplugged", f.plugged), "psu.power_lost", "psu.power_back", Severity.CRITICAL,
          "power supply {name} is {words}"),
    Level(Psu, lambda f: _when("absent", f.present), "psu.removed", "psu.inserted", Severity.WARNING,
          "power supply {name} is {words}"),
    Level(Bmc, lambda f: f.faults, "bmc.fault", "bmc.fault_cleared", Severity.CRITICAL, "chassis: {words}"),
    Level(Bmc, lambda f: ["open"] if f.intrusion else [], "bmc.intrusion", "bmc.closed", Severity.WARNING,
          "the chassis is {words}"),
    Level(Bmc, lambda f: ["full"] if f.sel_overflow else [], "sel.overflow", "sel.room", Severity.WARNING,
          "the BMC's event log is {words}"),
    Level(Nvme, lambda f: [] if f.state in ("live", "") else [f.state], "nvme.trouble", "nvme.live",
          Severity.WARNING, "NVMe controller {name} is {words}"),
    Level(Rdma, lambda f: [] if f.state in ("active", "") else [f.state], "rdma.down", "rdma.up", Severity.WARNING,
          "RDMA port {name} is {words}"),
    Level(Clock, lambda f: _when("unsynchronised", f.synchronised), "clock.unsynchronised", "clock.synchronised",
          Severity.WARNING, "the clock is {words}"),
    Level(Trust, lambda f: f.taint, "kernel.tainted", "kernel.untainted", Severity.INFO, "the kernel: {words}"),
    Level(Pci, lambda f: [f"x{f.width} of x{f.max_width}"] if 0 < (f.width or 0) < (f.max_width or 0) else [],
          "pcie.narrow", "pcie.wide", Severity.WARNING, "link of {name}: {words}"),
)  # fmt: skip

TURNS = (
    Turn(Lldp, lambda f: " ".join(filter(None, (f.system_name or f.chassis_id, f.port_id))), "cable.moved",
         Severity.WARNING, "the neighbour of {name} is {now}, {was} was"),
    Turn(Firmware, lambda f: f.running, "firmware.changed", Severity.INFO, "firmware {name} is {now}, {was} was"),
)  # fmt: skip

RISES: Mapping[str, Rise] = {
    "bmc.sel_entries": Rise("sel.entries", Severity.WARNING, "{by} new entries in the BMC's event log, {total} now"),
    "storage.io_errors": Rise("storage.io_error", Severity.WARNING, "{by} I/O errors of {key}, {total} so far"),
    "storage.io_timeouts": Rise("storage.io_timeout", Severity.WARNING, "{by} I/O timeouts of {key}, {total} so far"),
}


def _when(word: str, fine: bool | None) -> list[str]:
    return [word] if fine is False else []


class Edges:
    """Compares each run with the one before of the same collector; a run that failed is none. Used by one thread."""

    def __init__(self) -> None:
        self._facts: dict[str, dict[tuple[type[Any], str], Fact]] = {}
        self._counts: dict[str, dict[tuple[str, str], float]] = {}

    def compare(self, cycle: Sequence[Ran]) -> list[Event]:
        """What happened since, and the events that the collectors told themselves; those are taken out of the runs."""
        found: list[Event] = []
        for ran in cycle:
            found += ran.result.events
            ran.result.events.clear()
            if ran.result.status is Status.OK:
                found += self._compare(ran)
        return found

    def _compare(self, ran: Ran) -> Iterator[Event]:
        facts = {(type(fact), fact.key): fact for fact in ran.result.facts if type(fact) in _WATCHED}
        before = self._facts.get(ran.name)
        self._facts[ran.name] = facts
        counts = {(one.metric, one.key): one.value for one in ran.result.samples if one.metric in RISES}
        counted = self._counts.get(ran.name)
        self._counts[ran.name] = (counted or {}) | counts
        if before is not None and before != facts:
            yield from _changed(before, facts, ran.at_ms)
        if counted is not None:
            yield from _risen(counted, counts, ran.at_ms)


Facts = Mapping[tuple[type[Any], str], Fact]
Data = dict[str, str | int | float | bool | None]
_LEVELS_OF: dict[type[Any], list[Level[Any]]] = {}
_TURNS_OF: dict[type[Any], list[Turn[Any]]] = {}
for _level in LEVELS:
    _LEVELS_OF.setdefault(_level.fact, []).append(_level)
for _turn in TURNS:
    _TURNS_OF.setdefault(_turn.fact, []).append(_turn)
_WATCHED = frozenset({*_LEVELS_OF, *_TURNS_OF})


def _changed(before: Facts, after: Facts, at_ms: int) -> Iterator[Event]:
    for (kind, key), fact in after.items():
        was = before.get((kind, key))
        if was != fact:
            yield from _levels(kind, was, fact, at_ms)
            yield from _turns(kind, was, fact, at_ms)


def _levels(kind: type[Any], was: Fact | None, fact: Fact, at_ms: int) -> Iterator[Event]:
    for row in _LEVELS_OF.get(kind, ()):
        old, new = (dict.fromkeys(row.words(one)) if one is not None else {} for one in (was, fact))
        for words, event, severity in (
            ([word for word in new if word not in old], row.raised, row.severity),
            ([word for word in old if word not in new], row.cleared, Severity.INFO),
        ):
            if words:
                more = f" and {len(words) - _MOST_WORDS} more" if len(words) > _MOST_WORDS else ""
                said = ", ".join(words[:_MOST_WORDS]) + more
                text = row.text.format(name=_name(fact), words=said)
                text += ": no more" if event == row.cleared else ""
                yield _event(at_ms, event, fact, severity, text, words=said)


def _turns(kind: type[Any], was: Fact | None, fact: Fact, at_ms: int) -> Iterator[Event]:
    for row in _TURNS_OF.get(kind, ()):
        if was is not None:
            old, new = row.value(was), row.value(fact)
            if old and new and old != new:
                text = row.text.format(name=_name(fact), was=old, now=new)
                yield _event(at_ms, row.kind, fact, row.severity, text, was=old, now=new)


def _risen(
    before: Mapping[tuple[str, str], float], after: Mapping[tuple[str, str], float], at_ms: int
) -> Iterator[Event]:
    for (metric, key), total in after.items():
        was = before.get((metric, key), 0.0)
        by = total - was if total >= was else total
        if by > 0:
            row = RISES[metric]
            text = row.text.format(key=key, by=f"{by:g}", total=f"{total:g}")
            data: Data = {"metric": metric, "count": by, "total": total}
            yield Event(at_ms=at_ms, kind=row.kind, key=key, severity=row.severity, text=text, data=data)


def _name(fact: Fact) -> str:
    """What people call it: its label or name beside the key."""
    label = next((text for name in ("label", "ifname", "name", "port") if (text := getattr(fact, name, ""))), "")
    return f"{label} ({fact.key})" if label and label != fact.key else fact.key


def _event(at_ms: int, kind: str, fact: Fact, severity: Severity, text: str, **data: str) -> Event:
    ifname = getattr(fact, "ifname", "")
    named = {"ifname": ifname} if ifname else {}
    return Event(at_ms=at_ms, kind=kind, key=fact.key, severity=severity, text=text, data={**named, **data})
