"""Addresses and routes that come and go, as events."""

from collections.abc import Callable, Sequence

from machine import Machine, rtnl
from machine.monitor import Notice
from machine.rtnl import Address, Route
from wire.report import Event, Severity

_LOCAL_SCOPES = (253, 254, 255)  # RT_SCOPE_LINK, _HOST, _NOWHERE: they come and go with their link
_MAIN = 254  # RT_TABLE_MAIN

Data = dict[str, str | int | float | bool | None]
Where = Callable[[int], tuple[str, str]]  # ifindex -> (key of the NIC, ifname)


class Network:
    """Knows the addresses as last seen; of routes there may be a million, and an announcement tells all. One thread."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._addresses = self._read()

    def events(self, notices: Sequence[Notice], where: Where, at_ms: int) -> list[Event]:
        """What these announcements tell. Raises MachineError only where addresses can be read no more."""
        found: list[Event] = []
        for notice in notices:
            if notice.what == "resync" and notice.ifname == "address":
                found += self._resync(where, at_ms)
            elif isinstance(notice.about, Address) and notice.about.scope not in _LOCAL_SCOPES:
                found += self._address(notice, notice.about, where, at_ms)
            elif isinstance(notice.about, Route) and notice.about.table == _MAIN:
                found.append(_route(notice, notice.about, where, at_ms))
        return found

    def _read(self) -> set[Address]:
        return {one for one in rtnl.read_addresses(self._machine) if one.scope not in _LOCAL_SCOPES}

    def _resync(self, where: Where, at_ms: int) -> list[Event]:
        before, self._addresses = self._addresses, self._read()
        gone = [_told(one, where, at_ms, come=False) for one in sorted(before - self._addresses, key=str)]
        return gone + [_told(one, where, at_ms, come=True) for one in sorted(self._addresses - before, key=str)]

    def _address(self, notice: Notice, address: Address, where: Where, at_ms: int) -> list[Event]:
        come = notice.what == "address"
        if come == (address in self._addresses):
            return []  # its lifetime was set anew
        (self._addresses.add if come else self._addresses.discard)(address)
        return [_told(address, where, at_ms, come=come, notice=notice)]


def _told(address: Address, where: Where, at_ms: int, *, come: bool, notice: Notice | None = None) -> Event:
    key, ifname = where(address.ifindex)
    name = ifname or f"interface {address.ifindex}"
    what = f"{address.address}/{address.prefixlen}"
    return Event(
        at_ms=at_ms,
        kind=f"address.{'added' if come else 'removed'}",
        key=key,
        severity=Severity.INFO if come else Severity.WARNING,
        text=f"{name} {'has' if come else 'has no longer'} address {what}{_by(notice)}",
        data={"ifname": ifname, "address": what, **_asked(notice)},
    )


def _route(notice: Notice, route: Route, where: Where, at_ms: int) -> Event:
    come = notice.what == "route"
    key, ifname = where(route.oif)
    what = f"{route.dst}/{route.prefixlen}" if route.dst else f"default ({'IPv6' if route.family == 10 else 'IPv4'})"
    way = (f" via {route.gateway}" if route.gateway else "") + (f" on {ifname}" if ifname else "")
    return Event(
        at_ms=at_ms,
        kind=f"route.{'added' if come else 'removed'}",
        key=key,
        severity=Severity.WARNING if not come and not route.dst else Severity.INFO,
        text=f"{'new' if come else 'no longer a'} route {what}{way}{_by(notice)}",
        data={"ifname": ifname, "route": what, "gateway": route.gateway, "metric": route.priority, **_asked(notice)},
    )


def _by(notice: Notice | None) -> str:
    return f", by {notice.by}" if notice and notice.by else ""


def _asked(notice: Notice | None) -> Data:
    if notice is None or not notice.port:
        return {}
    return {"by_port": notice.port, "by": notice.by} if notice.by else {"by_port": notice.port}
