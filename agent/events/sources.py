"""What is watched by itself: the kernel's announcements, turned into events by those who know what was before."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.events.hotplug import Hotplug
from agent.events.knobs import Knobs, ours
from agent.events.network import Network
from agent.events.stale import NIC, stale
from agent.watch import Watch
from machine import Machine, MachineError
from machine.monitor import RESYNC, Monitor, Notice
from machine.uevents import Uevent
from wire.facts import Ethtool, Fact, Nic
from wire.report import Event, Severity

AGAIN_S = 30.0  # until what could not be opened, or broke, is opened again
_OTHER = frozenset({"link", "link.gone", "address", "address.gone", "route", "route.gone", "device", "resync"})

log = logging.getLogger("rackhand.events")

Facts = Callable[[], Mapping[str, Sequence[Fact]]]


class Sources:
    """Opens the monitors of `groups` (those that the kernel has), and reads them; used by one thread."""

    def __init__(self, machine: Machine, state: Path, groups: Sequence[str], facts: Facts) -> None:
        self._machine = machine
        self._groups = groups
        self._facts = facts
        self._state = state
        self._knobs = Knobs(machine)
        self._hotplug = Hotplug()
        self._monitor: Monitor | None = None
        self._links: Watch | None = None
        self._network: Network | None = None
        self._open_s = 0.0

    def read(self) -> tuple[list[Event], set[str]]:
        """What happened, and which collectors are to run again for it; never waits."""
        now = time.monotonic()
        if self._monitor is None:
            if now >= self._open_s and self._groups:
                self._open_s = now + AGAIN_S
                return [*self._open(), *self._hotplug.due(now)], set()
            return self._hotplug.due(now), set()
        try:
            notices = self._monitor.read()
            events = self._noticed(notices, now) if notices else []
        except MachineError as error:
            log.warning("monitor: %s", error)
            self._close()  # what was known stays: compared when it is open again
            return [_lost("every", 0, f": {error}")], set(NIC)
        return [*events, *self._hotplug.due(now)], stale(notices, happened=bool(events))

    def forget(self) -> None:
        """Facts were read anew."""
        self._knobs.forget()

    def fileno(self) -> int | None:
        """To wait on; None while nothing is watched."""
        return self._monitor.fileno() if self._monitor else None

    def wait_s(self) -> float:
        """Seconds until `read` has something by itself."""
        now = time.monotonic()
        again_s = max(0.0, self._open_s - now) if self._monitor is None and self._groups else float("inf")
        return min(again_s, self._hotplug.wait_s(now))

    def close(self) -> list[Event]:
        """Stop watching; what had not settled yet."""
        self._close()
        return self._hotplug.flush()

    def _close(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
        self._monitor = None

    def _open(self) -> list[Event]:
        """Watch; opened again, what happened meanwhile to links and addresses."""
        try:
            self._monitor = open_monitor(self._groups)
            if self._links is not None and self._network is not None:
                return self._compared([RESYNC._replace(ifname=group) for group in ("link", "address")])
            self._links = Watch(self._machine)
            self._network = Network(self._machine)
        except MachineError as error:
            log.info("changes are not watched: %s", error)
            self._close()
        return []

    def _noticed(self, notices: Sequence[Notice], now: float) -> list[Event]:
        at_ms = time.time_ns() // 1_000_000
        found = [
            _lost(one.ifname, one.lost, ", all is read again" * (one.ifname in ("link", "address")))
            for one in notices
            if one.what == "resync"
        ]
        found += self._compared(notices)
        for notice in notices:
            if isinstance(notice.about, Uevent):
                found += self._hotplug.take(notice.about, at_ms, now)
        return found + self._changed([one for one in notices if one.what not in _OTHER], at_ms)

    def _compared(self, notices: Sequence[Notice]) -> list[Event]:
        """What became of links, addresses and routes."""
        links, network = self._links, self._network
        if links is None or network is None:
            return []
        keys = self._keys()
        names = {index: links.ifname(index) for index in {notice.ifindex for notice in notices}}  # of those now gone

        def where(ifindex: int) -> tuple[str, str]:
            ifname = links.ifname(ifindex) or names.get(ifindex, "")
            return keys.get(ifindex, ifname), ifname

        found = links.events(notices, keys)
        return found + network.events(notices, where, time.time_ns() // 1_000_000)

    def _keys(self) -> dict[int, str]:
        return {nic.ifindex: nic.key for nic in self._facts().get("nic", ()) if isinstance(nic, Nic)}

    def _changed(self, notices: Sequence[Notice], at_ms: int) -> list[Event]:
        """Settings that somebody changed with ethtool."""
        if not notices:
            return []
        keys = self._keys()
        mine = ours(self._state)
        facts = {one.ifindex: one for one in self._facts().get("ethtool", ()) if isinstance(one, Ethtool)}
        return [
            event
            for one in notices
            for event in self._knobs.events(one, facts.get(one.ifindex), keys.get(one.ifindex, one.ifname), mine, at_ms)
        ]


def open_monitor(groups: Sequence[str]) -> Monitor:
    """A monitor of those groups that this kernel has. Raises MachineError when it has none."""
    try:
        return Monitor(*groups)
    except MachineError:
        usable = [group for group in groups if _opens(group)]
        if not usable or len(usable) == len(groups):
            raise
        return Monitor(*usable)


def _opens(group: str) -> bool:
    try:
        Monitor(group).close()
    except MachineError as error:
        log.info("%s is not watched: %s", group, error)
        return False
    return True


def _lost(group: str, count: int, what: str) -> Event:
    many = str(count) if count else "some"
    return Event(
        at_ms=time.time_ns() // 1_000_000,
        kind="events.lost",
        severity=Severity.WARNING,
        text=f"{many} announcements of the kernel ({group}) came faster than they were read{what}",
        data={"source": group, "count": count or None},
    )
