"""How interfaces carry traffic, and which legs of a bond or team are healthy, from rtnetlink."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from machine import Machine, MachineError, linkinfo, nla, rtnl
from machine.linkinfo import LinkInfo
from machine.rtnl import Link

MASTERS = ("bond", "team")
LOOK_S = 0.1
_LACP = 4  # IFLA_BOND_MODE: 802.3ad
_CARRIES = 0x30  # LACP_STATE_COLLECTING, LACP_STATE_DISTRIBUTING
_UP, _ACTIVE = 0, 0  # BOND_LINK_UP, BOND_STATE_ACTIVE


class Health(NamedTuple):
    """What of an interface works; what it does not have, works."""

    carrier: bool
    link: bool = True  # as a leg: IFLA_BOND_SLAVE_MII_STATUS
    lacp: bool = True  # as a leg of 802.3ad: in the active aggregator, collecting and distributing

    @property
    def good(self) -> bool:
        """Whether it carries traffic."""
        return all(self)


class Leg(NamedTuple):
    """An interface that is a port of a bond or team."""

    master: str  # ifname
    health: Health
    active: bool  # carries traffic now, else stands by
    others: int  # healthy legs of the same master without this one

    @property
    def last(self) -> bool:
        """Whether without it nothing is left."""
        return self.health.good and not self.others


class State(NamedTuple):
    """How all interfaces are, by ifindex."""

    health: Mapping[int, Health]
    legs: Mapping[int, Leg]


def read(machine: Machine) -> State:
    """How all interfaces are now. Raises MachineError."""
    links = {link.ifindex: link for link in rtnl.read_links(machine)}
    infos = linkinfo.read_all(machine)
    health = {at: _health(link, infos.get(at), _master(link, links, infos)) for at, link in links.items()}
    return State(health, {at: _leg(link, links, infos, health) for at, link in links.items() if _is_leg(link, links)})


def worse(before: Mapping[int, Health], now: Mapping[int, Health]) -> list[str]:
    """What worked before and does not now, per interface of `before`, in words."""
    found: list[str] = []
    for ifindex, health in before.items():
        present = now.get(ifindex)
        if present is None:
            found.append(f"interface {ifindex} is gone")
            continue
        lost = [name for name, was, is_now in zip(Health._fields, health, present, strict=True) if was and not is_now]
        found += [f"interface {ifindex} has no {_WORDS[name]}" for name in lost]
    return found


_WORDS = {"carrier": "carrier", "link": "link as a leg of its bond", "lacp": "place in its bond's active aggregator"}


def settled(machine: Machine, before: Mapping[int, Health], seconds: float, stop: Callable[[], str] = str) -> list[str]:
    """Wait until the interfaces are as good as before, or until `stop()`; what is missing in the end."""
    until = time.monotonic() + seconds
    while before and (missing := worse(before, read_health(machine, set(before)))):
        if time.monotonic() >= until or stop():
            return missing
        time.sleep(LOOK_S)
    return []


def read_health(machine: Machine, ifindexes: set[int]) -> dict[int, Health]:
    """Of these interfaces, as far as they are there and can be read."""
    try:
        return {at: health for at, health in read(machine).health.items() if at in ifindexes}
    except MachineError:
        return {}


def _is_leg(link: Link, links: Mapping[int, Link]) -> bool:
    return link.master in links and links[link.master].kind in MASTERS


def _master(link: Link, links: Mapping[int, Link], infos: Mapping[int, LinkInfo]) -> LinkInfo | None:
    return infos.get(link.master) if _is_leg(link, links) else None


def _health(link: Link, info: LinkInfo | None, master: LinkInfo | None) -> Health:
    if info is None or master is None or info.port_kind != "bond":
        return Health(link.carrier)
    port = linkinfo.numbers(info.port, linkinfo.BOND_PORT)
    up = port.get("link", _UP) == _UP
    if linkinfo.numbers(master.data, linkinfo.BOND).get("mode") != _LACP:
        return Health(link.carrier, up)
    aggregate = linkinfo.numbers(nla.table(master.data.get(linkinfo.BOND_AD_INFO, b"")), linkinfo.AD_INFO)
    chosen = port.get("aggregator") == aggregate.get("aggregator")
    return Health(link.carrier, up, chosen and port.get("actor_state", 0) & _CARRIES == _CARRIES)


def _leg(link: Link, links: Mapping[int, Link], infos: Mapping[int, LinkInfo], health: Mapping[int, Health]) -> Leg:
    info = infos.get(link.ifindex)
    port = linkinfo.numbers(info.port, linkinfo.BOND_PORT) if info else {}
    others = [at for at, other in links.items() if other.master == link.master and at != link.ifindex]
    return Leg(
        master=links[link.master].ifname,
        health=health[link.ifindex],
        active=port.get("state", _ACTIVE) == _ACTIVE,
        others=sum(health[at].good for at in others),
    )
