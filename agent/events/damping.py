"""Too much of the same: the first ones go through, the rest is counted and told together, and the last one is told.

Each component has a lane per family of events ("link" of a NIC); each family has one for all its components. A lane
holds tokens that come back with time. An event of a component without a token is held back: `link.flapping` tells how
many were, and when it has come to rest the last one goes through, so that what was told last is what is true. What the
family's lane has no token for is counted alone (`events.limited`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from wire.report import Event, Severity

QUIET_S = 5.0  # without an event of the component: it has come to rest
TELL_S = (10.0, 300.0)  # between two counts while it goes on; doubles
MOST_LANES = 4096

NEVER_HELD = frozenset({"agent", "policy", "spool", "hook", "events"})  # families of what the agent itself does
RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class Budget(NamedTuple):
    """Events at once, and how many a second come back."""

    burst: float
    per_s: float


COMPONENT = Budget(8, 0.2)
COMPONENTS: dict[str, Budget] = {  # of one component
    "link": Budget(4, 0.1),
    "sensor": Budget(4, 0.05),
    "route": Budget(16, 0.5),
    "pcie": Budget(4, 0.05),
    "memory": Budget(4, 0.05),
}
FAMILY = Budget(100, 2.0)
UNLIMITED = Budget(1e18, 0.0)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float

    def take(self, budget: Budget, now_s: float) -> bool:
        self.tokens = min(budget.burst, self.tokens + max(0.0, now_s - self.at_s) * budget.per_s)
        self.at_s = now_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class _Tally:
    """What was held back and will not be told one by one."""

    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter[str])
    keys: set[str] = field(default_factory=set[str])
    worst: Severity = Severity.INFO
    first_ms: int = 0
    last_ms: int = 0

    def add(self, event: Event) -> None:
        self.first_ms = self.first_ms if self.count else event.at_ms
        self.count += 1
        self.last_ms = event.at_ms
        self.kinds[event.kind] += 1
        if len(self.keys) < MOST_LANES:
            self.keys.add(event.key)
        self.worst = max(self.worst, event.severity, key=RANK.__getitem__)

    def told(self, kind: str, key: str, what: str, like: Event | None = None) -> Event:
        shares = ", ".join(f"{name} {count}" for name, count in self.kinds.most_common(4))
        ifname = like.data.get("ifname") if like else None
        return Event(
            at_ms=self.last_ms,
            kind=kind,
            key=key,
            severity=self.worst,
            text=f"{what}: {self.count} more within {max(0, self.last_ms - self.first_ms) / 1000:.1f} s ({shares})",
            data={
                "count": self.count,
                "first_ms": self.first_ms,
                "components": len(self.keys),
                **({"ifname": ifname} if ifname else {}),
            },
        )


@dataclass(slots=True)
class _Lane:
    """One component, or a whole family: `last` is the held event that is told at rest, none of a family."""

    bucket: _Bucket
    tally: _Tally = field(default_factory=_Tally)
    last: Event | None = None
    last_s: float = 0.0
    every_s: float = TELL_S[0]
    tell_s: float = float("inf")

    def held(self) -> bool:
        return self.last is not None or self.tally.count > 0

    def note(self, now_s: float) -> None:
        """Something is held back at this time."""
        if self.tell_s == float("inf"):
            self.every_s = TELL_S[0]
            self.tell_s = now_s + self.every_s
        self.last_s = now_s

    def due_s(self) -> float:
        return min(self.tell_s, self.last_s + QUIET_S) if self.held() else float("inf")

    def rests(self, now_s: float) -> bool:
        return now_s >= self.last_s + QUIET_S

    def go_on(self, now_s: float) -> None:
        """It was told, and has not come to rest."""
        self.every_s = min(TELL_S[1], self.every_s * 2)
        self.tell_s = now_s + self.every_s


class Damping:
    """Takes events and a clock that never goes back; gives those that go on. Used by one thread."""

    def __init__(
        self,
        family: Budget = FAMILY,
        components: Mapping[str, Budget] = COMPONENTS,
        component: Budget = COMPONENT,
    ) -> None:
        self._family = family
        self._components = components
        self._component = component
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._families: dict[str, _Lane] = {}
        self._held: dict[tuple[str, str | None], _Lane] = {}  # those of both that hold something back

    def offer(self, event: Event, now_s: float, budget: Budget | None = None) -> list[Event]:
        """The event itself, or nothing while it is held back; `budget` is a rule's, else that of its family."""
        family = event.kind.partition(".")[0]
        if family in NEVER_HELD:
            return [event]
        allowed = budget or self._components.get(family, self._component)
        lane = self._lane((family, event.key), allowed, now_s)
        if lane is None or (lane.last is None and lane.bucket.take(allowed, now_s)):
            return self._through(event, family, now_s)
        if lane.last is not None:
            lane.tally.add(lane.last)
        lane.last = event
        lane.note(now_s)
        self._held[family, event.key] = lane
        return []

    def due(self, now_s: float) -> list[Event]:
        """Counts, and the last events of what has come to rest."""
        ripe = [item for item in self._held.items() if item[1].due_s() <= now_s]
        ripe.sort(key=lambda item: item[1].due_s())
        return [event for name, lane in ripe for event in self._told(name, lane, now_s)]

    def wait_s(self, now_s: float) -> float:
        """Seconds until `due` has something."""
        return max(0.0, min((lane.due_s() for lane in self._held.values()), default=float("inf")) - now_s)

    def flush(self) -> list[Event]:
        """All that is held back, told now: the end."""
        held = list(self._held.items())
        return [event for name, lane in held for event in self._told(name, lane, float("inf"))]

    def _through(self, event: Event, family: str, now_s: float) -> list[Event]:
        lane = self._families.setdefault(family, _Lane(_Bucket(self._family.burst, now_s)))
        if not lane.held() and lane.bucket.take(self._family, now_s):
            return [event]
        lane.tally.add(event)
        lane.note(now_s)
        self._held[family, None] = lane
        return []

    def _lane(self, name: tuple[str, str], budget: Budget, now_s: float) -> _Lane | None:
        """None when there are too many: then the family's lane alone decides."""
        if name not in self._lanes:
            if len(self._lanes) >= MOST_LANES:
                self._lanes = {name: lane for name, lane in self._lanes.items() if lane.held()}
            if len(self._lanes) >= MOST_LANES:
                return None
            self._lanes[name] = _Lane(_Bucket(budget.burst, now_s))
        return self._lanes[name]

    def _told(self, name: tuple[str, str | None], lane: _Lane, now_s: float) -> list[Event]:
        family, key = name
        told: list[Event] = []
        if lane.tally.count and key is None:
            told.append(lane.tally.told("events.limited", "", f"too many {family} events"))
        elif lane.tally.count:
            flaps = len(lane.tally.kinds) > 1 or family == "link"
            kind = f"{family}.{'flapping' if flaps else 'repeated'}"
            what = (lane.last.data.get("ifname") if lane.last else None) or key or family
            told.append(lane.tally.told(kind, key or "", f"{what} goes on", lane.last))
        lane.tally = _Tally()
        if lane.last is not None and not lane.rests(now_s):
            lane.go_on(now_s)
            return told
        lane.tell_s = float("inf")
        if lane.last is not None:
            told.append(lane.last)
            lane.last = None
        del self._held[name]
        return told
