"""Which rows of the spool go out now: two lanes, a window, a rate, and patience with a silent inventory."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.config import Replay
from agent.spool import Pending

PATIENCE_DOUBLES = 5  # times at most


class Held(Protocol):
    """What keeps rows until they are acknowledged: the agent's spool, a poller's outbox."""

    @property
    def bytes(self) -> int:
        """What its rows take; 0 when there are none."""
        ...

    def pending(self, limit: int, *, oldest: bool = False) -> list[Pending]:
        """The first rows by priority and number, or by number alone."""
        ...


@dataclass(slots=True)
class Sent:
    """A row on its way; times are monotonic seconds."""

    first_s: float
    last_s: float
    tries: int
    oldest: bool  # which lane


class Flow:
    """The rows in flight on this connection.

    Rows go by priority, but a quarter of the window is for the lowest numbers: the inventory's ack is cumulative, so it
    moves only when those arrive, whatever else was sent first.
    """

    def __init__(self, replay: Replay, now: Callable[[], float] = time.monotonic) -> None:
        self.replay = replay
        self.in_flight: dict[int, Sent] = {}
        self._now = now
        self._hold_until = 0.0
        self._refilled_at = now()
        self._tokens = self._burst()

    def connected(self, backlog: int) -> None:
        """A new connection: nothing is in flight; a backlog waits a random time, as a whole fleet may come back."""
        self.in_flight.clear()
        wait_s = random.uniform(0, self.replay.jitter_s) if backlog > self._burst() else 0.0  # noqa: S311 - no secret
        self._hold_until = self._now() + wait_s

    def due(self, spool: Held) -> list[int]:
        """Numbers to send now, counted as sent; raises SpoolError."""
        now = self._now()
        if now < self._hold_until:
            return []
        self._refill(now)
        numbers = self._overdue(now)
        if len(self.in_flight) < self.replay.window:
            quarter = max(1, self.replay.window // 4)
            numbers += self._fresh(spool, quarter, now, oldest=True)
            numbers += self._fresh(spool, self.replay.window - quarter, now, oldest=False)
        return numbers

    def wait_s(self) -> float:
        """Seconds until `due` may have something, given that it had no more just now."""
        now = self._now()
        if self._hold_until > now:
            return self._hold_until - now
        times = [sent.last_s + self._patience_s(sent) for sent in self.in_flight.values()]
        if self._tokens < 1:
            times.append(now + 1 / self.replay.rows_per_s)
        return max(0.0, min(times, default=now + 60.0) - now)

    def acked(self, seq: int, floor: int) -> float:
        """Forget rows up to `seq`; returns when the youngest of them was first sent (-inf for none).

        When rows above `seq` were dropped, the inventory waits for what will never come until it sees the new floor:
        the lowest row goes again at once to tell it.
        """
        gone = [self.in_flight.pop(number) for number in list(self.in_flight) if number <= seq]
        if floor > seq + 1 and floor in self.in_flight:
            self.in_flight[floor].last_s = float("-inf")
        return max((sent.first_s for sent in gone), default=float("-inf"))

    def _burst(self) -> float:
        return max(1.0, min(self.replay.rows_per_s, self.replay.window))

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst(), self._tokens + (now - self._refilled_at) * self.replay.rows_per_s)
        self._refilled_at = now

    def _patience_s(self, sent: Sent) -> float:
        return self.replay.resend_s * float(1 << min(sent.tries - 1, PATIENCE_DOUBLES))

    def _overdue(self, now: float) -> list[int]:
        late = [n for n, sent in self.in_flight.items() if now - sent.last_s >= self._patience_s(sent)]
        chosen = sorted(late)[: int(self._tokens)]
        for number in chosen:
            sent = self.in_flight[number]
            sent.last_s = now
            sent.tries += 1
        self._tokens -= len(chosen)
        return chosen

    def _fresh(self, spool: Held, lane: int, now: float, *, oldest: bool) -> list[int]:
        taken = sum(1 for sent in self.in_flight.values() if sent.oldest is oldest)
        room = min(lane - taken, int(self._tokens))
        if room <= 0 or not spool.bytes:
            return []
        waiting: list[Pending] = spool.pending(room + len(self.in_flight), oldest=oldest)
        chosen = [row.seq for row in waiting if row.seq not in self.in_flight][:room]
        self.in_flight.update((number, Sent(now, now, 1, oldest)) for number in chosen)
        self._tokens -= len(chosen)
        return chosen
