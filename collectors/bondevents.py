"""What happened to bonds between two looks at them: ports that fall and rise, partners that go and change."""

from collections.abc import Iterator, Mapping

from collectors.bonding import LACP
from wire.facts import Bond
from wire.report import Event, Severity


def edges(before: Mapping[str, Bond], after: Mapping[str, Bond]) -> Iterator[Event]:
    """What became of bonds that were there before; a bond that is new or gone is no edge."""
    for key in before.keys() & after.keys():
        was, now = before[key], after[key]
        yield from _port_edges(was, now)
        yield from _partner_edges(was, now)
        if was.active and now.active != was.active:
            text = f"{now.ifname}: {now.active or 'no port'} is active now, {was.active} was"
            yield _event(now, "bond.failover", text, Severity.WARNING, active=now.active, was=was.active)


def _port_edges(was: Bond, now: Bond) -> Iterator[Event]:
    links = {port.key: port.link for port in was.ports}
    up = sum(port.link == "up" for port in now.ports)
    left = f"{up} of {len(now.ports)} ports up"
    for port in now.ports:
        if port.key not in links:
            yield _event(now, "bond.port_joined", f"{now.ifname}: {port.ifname} joined, {left}", port=port.ifname)
        elif links[port.key] == "up" and port.link != "up":
            severity = Severity.WARNING if up else Severity.CRITICAL
            yield _event(now, "bond.port_down", f"{now.ifname}: {port.ifname} is down, {left}", severity, port=port.key)
        elif port.link == "up" and links[port.key] != "up":
            yield _event(now, "bond.port_up", f"{now.ifname}: {port.ifname} is up, {left}", port=port.key)
    for port in was.ports:
        if all(port.key != one.key for one in now.ports):
            text = f"{now.ifname}: {port.ifname} left, {left}"
            yield _event(now, "bond.port_left", text, Severity.WARNING, port=port.key)


def _partner_edges(was: Bond, now: Bond) -> Iterator[Event]:
    if was.partner_mac == now.partner_mac or now.mode != LACP:
        return
    kind = "found" if not was.partner_mac else "changed" if now.partner_mac else "lost"
    text = {
        "found": f"LACP partner {now.partner_mac} answers",
        "lost": f"LACP partner {was.partner_mac} does not answer any more",
        "changed": f"LACP partner is {now.partner_mac} now, {was.partner_mac} was: another switch or stack",
    }[kind]
    severity = Severity.INFO if kind == "found" else Severity.WARNING
    data = {"partner": now.partner_mac, "was": was.partner_mac}
    yield _event(now, f"bond.partner_{kind}", f"{now.ifname}: {text}", severity, **data)


def _event(bond: Bond, kind: str, text: str, severity: Severity = Severity.INFO, **data: str) -> Event:
    return Event(at_ms=0, kind=kind, key=bond.key, severity=severity, text=text, data={**data})
