"""Link changes as events: the kernel's announcements against the links that were there before."""

import time
from collections.abc import Iterable, Mapping

from machine import Machine, MachineError, NotPresentError, rtnl
from machine.monitor import Notice
from machine.rtnl import Link
from wire.report import Event, Severity


class Watch:
    """Knows the links as last seen. Raises MachineError only where links can be read no more."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._links = {link.ifindex: link for link in rtnl.read_links(machine)}

    def events(self, notices: Iterable[Notice], keys: Mapping[int, str]) -> list[Event]:
        """What these announcements tell; `keys` are the NICs' keys by ifindex."""
        found: list[Event] = []
        for notice in notices:
            if notice.what == "resync" and notice.ifname in ("link", ""):
                found += self._resync(keys)
            elif notice.what == "link.gone" and not self._is_there(notice.ifindex):
                found += self._gone(notice.ifindex, keys)
            elif notice.what == "link" and notice.link is not None:
                found += self._seen(notice.link, keys)
        return found

    def ifname(self, ifindex: int) -> str:
        """The name as last seen, "" for an interface that is not there."""
        link = self._links.get(ifindex)
        return link.ifname if link else ""

    def _resync(self, keys: Mapping[int, str]) -> list[Event]:
        links = rtnl.read_links(self._machine)
        missing = sorted(set(self._links) - {link.ifindex for link in links})
        found = [event for ifindex in missing for event in self._gone(ifindex, keys)]
        return found + [event for link in links for event in self._seen(link, keys)]

    def _is_there(self, ifindex: int) -> bool:
        """A bridge port that leaves its bridge is announced as gone, too, and is still there."""
        try:
            rtnl.read_link(self._machine, ifindex)
        except NotPresentError:
            return False
        except MachineError:
            return True
        return True

    def _gone(self, ifindex: int, keys: Mapping[int, str]) -> list[Event]:
        link = self._links.pop(ifindex, None)
        return [_event("removed", link, keys, Severity.WARNING, f"{link.ifname} is gone")] if link else []

    def _seen(self, link: Link, keys: Mapping[int, str]) -> list[Event]:
        before = self._links.get(link.ifindex)
        self._links[link.ifindex] = link
        if before is None:
            return [_event("added", link, keys, Severity.INFO, f"{link.ifname} is new")]
        found: list[Event] = []
        if before.ifname != link.ifname:
            found.append(_event("renamed", link, keys, Severity.INFO, f"{before.ifname} is now {link.ifname}"))
        if _works(before) and not _works(link):
            why = "lost its carrier" if link.up else "was set down"
            found.append(_event("down", link, keys, Severity.WARNING, f"{link.ifname} {why}"))
        elif _works(link) and not _works(before):
            found.append(_event("up", link, keys, Severity.INFO, f"{link.ifname} is up"))
        return found


def _works(link: Link) -> bool:
    return link.up and bool(link.carrier)


def _event(what: str, link: Link, keys: Mapping[int, str], severity: Severity, text: str) -> Event:
    return Event(
        at_ms=time.time_ns() // 1_000_000,
        kind=f"link.{what}",
        key=keys.get(link.ifindex, link.ifname),
        severity=severity,
        text=text,
        data={"ifname": link.ifname, "ifindex": link.ifindex, "operstate": str(link.operstate)},
    )
