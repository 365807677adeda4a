"""Many devices in one process: each polled by itself, one poll at a time, within a deadline, seldom while it fails."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from pollers.target import DeviceError, Poll, Polled, Secret, Target
from wire.text import clean

SICK_AFTER = 3  # polls that failed in a row
SLOWEST_S = 900.0  # a sick device is asked at least that often
SPREAD_S = 0.05  # between the first polls of two devices
LAST_RESORT = 4.0  # times the deadline: beyond that a poll that ignores its own is left
MOST_REASON = 300


class Health(msgspec.Struct):
    """What became of a device's polls; `state` is "new", "ok", "failing" or "sick"."""

    state: str = "new"
    reason: str = ""  # of the last poll, "" when it was done
    polls: int = 0
    failed: int = 0
    in_a_row: int = 0  # failures
    late: int = 0  # polls that took longer than the interval
    seconds: float = 0.0  # of the last poll


class Round(NamedTuple):
    """One poll that ended. It failed when `health` has a reason; what is known all the same stands in `polled`."""

    target: Target
    at_ms: int  # when it began, UTC
    polled: Polled | None
    health: Health


class Schedule:
    """One task per device. `done` is called after each poll, on the loop; `run` returns when it is cancelled."""

    def __init__(
        self,
        devices: Mapping[str, tuple[Target, Secret]],
        poll: Callable[[Target], Poll],
        done: Callable[[Round], None],
    ) -> None:
        self.health = {name: Health() for name in devices}
        self._devices = devices
        self._poll = poll
        self._done = done
        self._asked = {name: asyncio.Event() for name in devices}

    def ask(self, name: str) -> None:
        """Poll this device now, or once more after the poll that is under way."""
        self._asked[name].set()

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for at, name in enumerate(self._devices):
                group.create_task(self._attend(name, at * SPREAD_S), name=f"poll {name}")

    async def _attend(self, name: str, wait_s: float) -> None:
        while True:
            await self._rest(name, wait_s)
            begun = time.monotonic()
            await self._once(name)
            taken_s = time.monotonic() - begun
            wait_s = max(0.0, self.interval_s(name) - taken_s)

    async def _rest(self, name: str, wait_s: float) -> None:
        asked = self._asked[name]
        try:
            async with asyncio.timeout(wait_s):
                await asked.wait()
        except TimeoutError:
            return
        finally:
            asked.clear()

    def interval_s(self, name: str) -> float:
        """Until the next poll begins: longer and longer while the device fails, never two devices in step."""
        every_s, failures = self._devices[name][0].every_s, self.health[name].in_a_row
        grown_s = min(every_s * 2.0 ** min(failures - 1, 10), max(SLOWEST_S, every_s)) if failures else every_s
        return grown_s * random.uniform(0.95, 1.05)  # noqa: S311 - no secret

    async def _once(self, name: str) -> None:
        target, secret = self._devices[name]
        at_ms, begun = time.time_ns() // 1_000_000, time.monotonic()
        polled, reason = None, ""
        try:
            async with asyncio.timeout(target.deadline_s * LAST_RESORT):
                polled = await self._poll(target)(target, secret)
            reason = _sickness(polled)
        except DeviceError as error:
            reason = str(error)
        except TimeoutError:
            reason = f"hangs: no end after {target.deadline_s * LAST_RESORT:g} s"
        except Exception as error:  # noqa: BLE001 - a fault in one device's poll must not end the others'
            reason = f"fault: {type(error).__name__}: {error}"
        seconds = time.monotonic() - begun
        health = self._note(name, clean(reason, MOST_REASON), seconds, late=seconds > target.every_s)
        self._done(Round(target, at_ms, polled, health))

    def _note(self, name: str, reason: str, seconds: float, *, late: bool) -> Health:
        health = self.health[name]
        health.polls += 1
        health.late += late
        health.reason, health.seconds = reason, seconds
        health.in_a_row = health.in_a_row + 1 if reason else 0
        health.failed += bool(reason)
        health.state = "ok" if not reason else "sick" if health.in_a_row >= SICK_AFTER else "failing"
        return health


def _sickness(polled: Polled) -> str:
    """Why what was polled is old, "" when it is not: a client may say what it knew of a device that is silent."""
    if not any(getattr(fact, "sick", False) for fact in polled.facts):
        return ""
    return next((event.text for event in polled.events), "sick")
