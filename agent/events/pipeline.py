"""The way of an event: made harmless, judged by the rules, damped, handed to hooks; what is dropped is counted."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import structs

from agent import config
from agent.config import Rule
from agent.events.damping import UNLIMITED, Damping
from agent.events.hooks import Hooks
from agent.events.rules import judge
from wire.report import Event
from wire.text import clean

MAX_TEXT = 500  # characters
MAX_DATA = 64
DROPPED_EVERY_S = 3600.0


class Runs(Protocol):
    """What runs hooks, as `hooks.Hooks` does."""

    def ask(self, hook: str, event: Event) -> None:
        """Run it for this event when there is room."""
        ...

    def step(self) -> list[Event]:
        """Go on; what failed."""
        ...

    def filenos(self) -> list[int]:
        """To wait on."""
        ...

    def wait_s(self) -> float:
        """Seconds until `step` has something to do by itself."""
        ...

    def close(self) -> None:
        """Kill what runs."""
        ...


def configured(events: config.Events) -> "Pipeline":
    """With the rules and hooks of the configuration."""
    return Pipeline(events.rule, Hooks(Path(events.hooks_dir), events.hook_timeout_s))


def unlimited() -> "Pipeline":
    """Everything goes through, nothing is run."""
    return Pipeline([], damping=Damping(UNLIMITED, {}, UNLIMITED))


class Pipeline:
    """Takes events and a monotonic clock, gives those that are for the inventory; used by one thread.

    Hooks are asked for what goes through, and not for what is held back and counted.
    """

    def __init__(self, rules: Sequence[Rule], hooks: Runs | None = None, damping: Damping | None = None) -> None:
        self._rules = rules
        self._hooks = hooks
        self._damping = damping or Damping()
        self._dropped: Counter[str] = Counter()
        self._told_s: float | None = None  # when what was dropped is told next

    def offer(self, events: Iterable[Event], now_s: float) -> list[Event]:
        """What goes on at once."""
        found: list[Event] = []
        for raw in events:
            event = tidy(raw)
            verdict = judge(self._rules, event)
            if not verdict.keep:
                self._drop(event, now_s)
                self._hook(event)
            else:
                found += self._passed(self._damping.offer(event, now_s, verdict.budget))
        return found

    def due(self, now_s: float) -> list[Event]:
        """What time brings: counts, last events, failed hooks, and how many were dropped."""
        found = self._passed(self._damping.due(now_s))
        if self._hooks is not None:
            found += self._hooks.step()
        if self._told_s is not None and now_s >= self._told_s:
            found += self._drops()
        return found

    def wait_s(self, now_s: float) -> float:
        """Seconds until `due` has something by itself."""
        dropped_s = float("inf") if self._told_s is None else max(0.0, self._told_s - now_s)
        hooks_s = self._hooks.wait_s() if self._hooks is not None else float("inf")
        return min(self._damping.wait_s(now_s), dropped_s, hooks_s)

    def filenos(self) -> list[int]:
        """To wait on."""
        return self._hooks.filenos() if self._hooks is not None else []

    def close(self) -> None:
        """Kill the hooks that run."""
        if self._hooks is not None:
            self._hooks.close()

    def flush(self) -> list[Event]:
        """All that is held back: the end."""
        return [*self._damping.flush(), *self._drops()]

    def _passed(self, events: list[Event]) -> list[Event]:
        for event in events:
            self._hook(event)
        return events

    def _hook(self, event: Event) -> None:
        if self._hooks is not None:
            for hook in judge(self._rules, event).hooks:
                self._hooks.ask(hook, event)

    def _drop(self, event: Event, now_s: float) -> None:
        self._dropped[event.kind] += 1
        if self._told_s is None:
            self._told_s = now_s + DROPPED_EVERY_S

    def _drops(self) -> list[Event]:
        self._told_s = None
        if not self._dropped:
            return []
        shares = ", ".join(f"{kind} {count}" for kind, count in self._dropped.most_common(8))
        count = self._dropped.total()
        self._dropped.clear()
        text = f"rules dropped {count} events ({shares})"
        return [Event(at_ms=0, kind="events.dropped", text=text, data={"count": count})]


def tidy(event: Event) -> Event:
    """The event with texts of one printable line, bounded in all parts."""
    data = {
        clean(name, 64): clean(value) if isinstance(value, str) else value
        for name, value in list(event.data.items())[:MAX_DATA]
    }
    return structs.replace(event, key=clean(event.key), text=clean(event.text, MAX_TEXT), data=data)
