"""One cable from what is heard at its two ends, with a verdict: do both name each other, and is it as it was?"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from hwdb.cable_ends import End, Fleet
from wire.facts import Lldp

AGREE, ONE_SIDED, CROSSED, CHANGED, BLOCKED = VERDICTS = ("agree", "one-sided", "crossed", "changed", "blocked")
CHANGED_MS = 7 * 86_400_000  # how long a cable that moved is told as such
_REMEDIES = {
    CROSSED: "trace both ends: a fibre pair may be split over two ports, or a device between them passes LLDP on",
    CHANGED: "if nobody meant to move it, put it back",
}


class CableEntry(msgspec.Struct, kw_only=True):
    """One cable. The host's end is a server's where one is a server's; `peer_id` is "" for what the inventory lacks."""

    host_id: str
    hostname: str
    port: str
    port_key: str
    peer_id: str
    peer: str  # its host name, else what it calls itself; "" when nobody is known
    peer_port: str
    peer_port_key: str
    verdict: str  # agree | one-sided | crossed | changed | blocked
    seen_by: str  # both | host | peer, "" when nobody heard anybody
    since_ms: int  # the newest change of what either end hears, by its own clock
    before: str  # of "changed": what was at the other end until then
    reason: str
    remedy: str


class Heard(NamedTuple):
    """A neighbour as a machine reports it, and what the same port heard before."""

    host_id: str
    fact: Lldp
    first_ms: int
    changed_ms: int = 0  # when the neighbour became another one, or was heard no more; 0 for never
    before: Lldp | None = None  # who it was until then


class Sight(NamedTuple):
    """One end hears the other."""

    here: End
    there: End
    heard: Heard


class Moved(NamedTuple):
    """A cable that was plugged elsewhere until then."""

    at_ms: int
    was: End


class Ruling(NamedTuple):
    """What is said of a cable: as in `CableEntry`."""

    verdict: str
    seen_by: str
    since_ms: int
    reason: str
    before: str = ""


Place = tuple[str, str, str]


def place(end: End) -> Place:
    """What tells an end from all others: a known port by its key, another by the words for it."""
    known = bool(end.host_id and end.port_key)
    return (end.host_id, end.port_key, "") if known else (end.host_id, "", f"{end.hostname}\n{end.port}".lower())


def cables(fleet: Fleet, heard: Iterable[Heard], now_ms: int, gone: Iterable[Heard] = ()) -> list[CableEntry]:
    """Every cable of which an end hears something or is blocked, by host and port; `gone` is what is heard no more."""
    told = list(heard)
    blocked = {place(fleet.here(one.host_id, one.fact)): one for one in told if one.fact.state == "blocked"}
    sights = paired(sighted(fleet, told))
    judge = _Judge(fleet, sights, sighted(fleet, gone), blocked, now_ms)
    joined: dict[frozenset[Place], list[Sight]] = {}
    for sight in sights:
        joined.setdefault(frozenset((place(sight.here), place(sight.there))), []).append(sight)
    found = [judge.cable(both) for both in joined.values()]
    named = {end for ends in joined for end in ends}
    found += [judge.deaf(one) for end, one in blocked.items() if end not in named]
    return sorted(found, key=lambda one: (one.hostname, one.port, one.peer, one.peer_port))


def sighted(fleet: Fleet, heard: Iterable[Heard]) -> list[Sight]:
    """Who is heard where."""
    return [
        Sight(fleet.here(one.host_id, one.fact), fleet.there(one.fact), one)
        for one in heard
        if one.fact.state != "blocked"
    ]


def by_place(sights: Iterable[Sight], end: Callable[[Sight], End]) -> dict[Place, list[Sight]]:
    """The sights by one of their ends."""
    found: dict[Place, list[Sight]] = {}
    for sight in sights:
        found.setdefault(place(end(sight)), []).append(sight)
    return found


def paired(sights: Sequence[Sight]) -> list[Sight]:
    """The sights, a machine's port that could not be told filled in: it is the one that hears this port alone, or
    the only one of that machine that hears this machine and cannot tell its port either.
    """
    back: dict[tuple[str, Place], set[End]] = {}
    vague: dict[tuple[str, str], set[End]] = {}
    for sight in sights:
        back.setdefault((sight.here.host_id, place(sight.there)), set()).add(sight.here)
        if is_vague(sight):
            vague.setdefault((sight.here.host_id, sight.there.host_id), set()).add(sight.here)
    found: list[Sight] = []
    for sight in sights:
        here, there = sight.here.host_id, sight.there.host_id
        ends = back.get((there, place(sight.here)), set())
        if not ends and len(vague.get((here, there), ())) == 1:
            ends = vague.get((there, here), set())
        found.append(sight._replace(there=next(iter(ends))) if is_vague(sight) and len(ends) == 1 else sight)
    return found


def is_vague(sight: Sight) -> bool:
    """The machine at the other end is known, its port is not."""
    return bool(sight.there.host_id and not sight.there.port_key)


class _Judge:
    """Says of a cable what its two ends' words amount to."""

    def __init__(
        self,
        fleet: Fleet,
        sights: Sequence[Sight],
        gone: Sequence[Sight],
        blocked: Mapping[Place, Heard],
        now_ms: int,
    ) -> None:
        self.fleet = fleet
        self.by_end = by_place(sights, lambda sight: sight.here)
        self.gone = by_place(gone, lambda sight: sight.there)
        self.blocked = blocked
        self.now_ms = now_ms

    def cable(self, sights: Sequence[Sight]) -> CableEntry:
        """The cable of the sights between the same two ends."""
        host, peer = self.sides(sights[0].here, sights[0].there)
        seen = {place(sight.here) for sight in sights}
        both = len(seen) > 1 or place(host) == place(peer)
        seen_by = "both" if both else "host" if place(host) in seen else "peer"
        verdict, reason = (AGREE, "") if both else self.alone(sights[0])
        moved = self.moved(sights) if verdict in (AGREE, ONE_SIDED) else None
        since = max(max(sight.heard.first_ms, sight.heard.changed_ms) for sight in sights)
        if moved:
            verdict, since = CHANGED, moved.at_ms
        return entry(host, peer, Ruling(verdict, seen_by, since, reason, spoken(moved.was) if moved else ""))

    def sides(self, one: End, other: End) -> tuple[End, End]:
        """The server's end first; between equals the order of their names."""
        return (one, other) if self.rank(one) <= self.rank(other) else (other, one)

    def rank(self, end: End) -> tuple[int, str, str]:
        box = self.fleet.boxes.get(end.host_id)
        return (2 if box is None else 0 if box.server else 1, end.hostname, end.port)

    def alone(self, sight: Sight) -> tuple[str, str]:
        """The verdict, and why, of a cable that one end alone tells of."""
        far = place(sight.there)
        if far in self.blocked:
            return BLOCKED, self.blocked[far].fact.reason
        others = self.by_end.get(far, [])
        if agreed := [other for other in others if self.sees(other.there, far)]:
            others_end = spoken(agreed[0].there)
            return (
                ONE_SIDED,
                f"{spoken(sight.there)} and {others_end} agree: {sight.here.port} shares that port with it",
            )
        if sight.there.port_key and others:
            named = ", ".join(spoken(other.there) for other in others[:3])
            return CROSSED, f"{spoken(sight.here)} hears {spoken(sight.there)}, which hears {named}"
        if not sight.there.host_id:
            return ONE_SIDED, f"{sight.there.hostname} is not in the inventory"
        if sight.heard.fact.source == "frames":
            return ONE_SIDED, f"{sight.here.hostname} only listens: nothing on it speaks LLDP (lldpd)"
        return ONE_SIDED, f"{spoken(sight.there)} reports no neighbour"

    def sees(self, end: End, other: Place) -> bool:
        """Whether one end hears the other."""
        return any(place(sight.there) == other for sight in self.by_end.get(place(end), ()))

    def moved(self, sights: Sequence[Sight]) -> Moved | None:
        """The newest change of what is at the two ends."""
        found = [moved for sight in sights for moved in (*self.replaced(sight), *self.left(sight))]
        recent = [moved for moved in found if moved.at_ms >= self.now_ms - CHANGED_MS]
        return max(recent, key=lambda moved: moved.at_ms, default=None)

    def replaced(self, sight: Sight) -> Iterator[Moved]:
        """This end hears another than before, who is not only second on the port now."""
        before = sight.heard.before
        if before is not None and before.chassis_id:
            was = self.fleet.there(before)
            if place(was) not in {place(other.there) for other in self.by_end[place(sight.here)]}:
                yield Moved(sight.heard.changed_ms, was)

    def left(self, sight: Sight) -> Iterator[Moved]:
        """Another port heard one of the two ends, and does no more."""
        for end, other in ((sight.here, sight.there), (sight.there, sight.here)):
            for gone in self.gone.get(place(end), ()):
                elsewhere = place(gone.here) not in self.by_end and place(gone.here) != place(other)
                if end.port_key and elsewhere:
                    yield Moved(gone.heard.changed_ms, gone.here)

    def deaf(self, one: Heard) -> CableEntry:
        """A port whose NIC keeps what it hears, and which nobody names."""
        here = self.fleet.here(one.host_id, one.fact)
        return entry(here, End("", "", "", ""), Ruling(BLOCKED, "", one.first_ms, one.fact.reason))


def spoken(end: End) -> str:
    """`sw1 Ethernet3`."""
    return f"{end.hostname} {end.port}".strip()


def entry(host: End, peer: End, ruling: Ruling) -> CableEntry:
    """The row of a cable."""
    return CableEntry(
        host_id=host.host_id,
        hostname=host.hostname,
        port=host.port,
        port_key=host.port_key,
        peer_id=peer.host_id,
        peer=peer.hostname,
        peer_port=peer.port,
        peer_port_key=peer.port_key,
        verdict=ruling.verdict,
        seen_by=ruling.seen_by,
        since_ms=ruling.since_ms,
        before=ruling.before,
        reason=ruling.reason,
        remedy=_REMEDIES.get(ruling.verdict, ""),
    )
