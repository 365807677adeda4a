"""Settings of NICs that somebody else changed with ethtool, as events: what they were and what they are.

What a transaction of ours does, or its undoing, is in its journal before it is done: settings of those NICs are ours as
long as the journal is open, and for a moment after.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from agent import journal
from agent.journal import JournalError
from machine import Machine, MachineError, ethtool
from machine.monitor import Notice, Settings
from wire.facts import Ethtool
from wire.policy import FileWrite, Request
from wire.report import Event, Severity

OURS_S = 2.0  # after the last record of a journal
_MOST_TOLD = 6  # settings in a text

_READ: Mapping[str, Callable[[Machine, int], Settings]] = {  # what an announcement tells without names
    "features": lambda machine, ifindex: ethtool.read_features(machine, ifindex).active,
    "fec": lambda machine, ifindex: _fec(ethtool.read_fec(machine, ifindex).modes),
}
_FACTS: Mapping[str, Callable[[Ethtool], Settings]] = {
    "rings": lambda fact: fact.rings,
    "channels": lambda fact: fact.channels,
    "coalesce": lambda fact: fact.coalesce,
    "features": lambda fact: fact.features,
    "pause": lambda fact: fact.pause,
    "fec": lambda fact: _fec(fact.fec),
}


class Knobs:
    """Knows the settings as last announced; used by one thread."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._last: dict[tuple[int, str], Settings] = {}

    def events(self, notice: Notice, fact: Ethtool | None, key: str, mine: set[int], at_ms: int) -> list[Event]:
        """What this announcement tells: nothing about an interface that is `mine`, or when all is as before."""
        now = self._read(notice)
        before = self._last.get((notice.ifindex, notice.what)) or _before(notice.what, fact)
        if now:
            self._last[notice.ifindex, notice.what] = now
        changed = {name: value for name, value in now.items() if before.get(name, value) != value}
        if notice.ifindex in mine or (before and now and not changed):
            return []
        return [_event(notice, key, before, changed, at_ms)]

    def forget(self) -> None:
        """Facts were read: they are younger than what was announced before."""
        self._last.clear()

    def _read(self, notice: Notice) -> Settings:
        if notice.settings or notice.what not in _READ:
            return notice.settings
        try:
            return _READ[notice.what](self._machine, notice.ifindex)
        except MachineError:
            return {}


def ours(state: Path) -> set[int]:
    """Interfaces that our newest transaction is changing, or has just changed."""
    paths = journal.paths(state)
    try:
        if not paths:
            return set()
        story = journal.read(paths[-1])
        young = time.time() - paths[-1].stat().st_mtime < OURS_S
    except (JournalError, OSError):
        return set()
    if story is None or not (young or story.state in journal.UNFINISHED):
        return set()
    ops = [change.op for stage in story.stages for change in stage.changes]
    return {op.ifindex for op in ops if isinstance(op, Request | FileWrite)}


def _fec(modes: list[str]) -> Settings:
    return {"modes": " ".join(sorted(modes))}


def _before(what: str, fact: Ethtool | None) -> Settings:
    return _FACTS[what](fact) if fact is not None and what in _FACTS else {}


def _event(notice: Notice, key: str, before: Settings, changed: Settings, at_ms: int) -> Event:
    told = [f"{name} {_word(before[name])} → {_word(value)}" for name, value in changed.items() if name in before]
    more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    what = f": {', '.join(told[:_MOST_TOLD])}{more}" if told else ""
    by = f" (perhaps by {notice.by})" if notice.by else ""
    return Event(
        at_ms=at_ms,
        kind="knob.changed",
        key=key,
        severity=Severity.WARNING,
        text=f"somebody changed {notice.what} of {notice.ifname}{by}{what}",
        data={
            "ifname": notice.ifname,
            "knob": notice.what,
            **({"by": notice.by} if notice.by else {}),
            **dict(list(changed.items())[:32]),
        },
    )


def _word(value: str | int | bool) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
