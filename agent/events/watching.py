"""Everything that makes events here, and their way to where they are kept: the resident agent's, or a terminal's."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.events.checks import Checks
from agent.events.edges import Edges
from agent.events.pipeline import Pipeline
from agent.events.sources import Facts, Sources
from agent.schedule import Ran
from machine import Machine
from wire.report import Event

LOG = "log"  # the kernel's; everything else to watch is a group of netlink
Keep = Callable[[list[Event]], None]


class Watching:
    """Watches, compares and keeps; `keep` gets what goes through, `ask` the collectors to run again. One thread."""

    def __init__(
        self,
        machine: Machine,
        state: Path,
        watch: Sequence[str],
        *,
        pipeline: Pipeline,
        facts: Facts,
        keep: Keep,
        ask: Callable[..., None],
    ) -> None:
        self._keep = keep
        self._ask = ask
        self._sources = Sources(machine, state, [group for group in watch if group != LOG], facts)
        self._checks = Checks() if LOG in watch else None
        self._edges = Edges()
        self._pipeline = pipeline

    def step(self) -> None:
        """Read what was announced, and do what is due; never blocks."""
        now = time.monotonic()
        events, reread = self._sources.read()
        events += self._checks.read() if self._checks else []
        self._through([*self._pipeline.offer(events, now), *self._pipeline.due(now)])
        if reread:
            self._ask(*sorted(reread))

    def compare(self, cycle: Sequence[Ran]) -> None:
        """Take the events of a cycle's runs, and those that come of comparing it with the one before."""
        if any(ran.name == "ethtool" for ran in cycle):
            self._sources.forget()
        self.tell(*self._edges.compare(cycle))

    def tell(self, *events: Event) -> None:
        """Events of the agent's own."""
        self._through(self._pipeline.offer(events, time.monotonic()))

    def filenos(self) -> list[int]:
        """To wait on."""
        watched = self._sources.fileno()
        logged = self._checks.filenos() if self._checks else []
        return [*([] if watched is None else [watched]), *logged, *self._pipeline.filenos()]

    def wait_s(self) -> float:
        """Seconds until `step` has something to do by itself."""
        return min(self._sources.wait_s(), self._pipeline.wait_s(time.monotonic()))

    def close(self) -> None:
        """Tell what is held back, and end what runs."""
        now = time.monotonic()
        self._through([*self._pipeline.offer(self._sources.close(), now), *self._pipeline.flush()])
        self._pipeline.close()
        if self._checks:
            self._checks.close()

    def _through(self, events: list[Event]) -> None:
        if events:
            for event in events:
                event.at_ms = event.at_ms or time.time_ns() // 1_000_000
            self._keep(events)
