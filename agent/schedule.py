"""When collectors run: in cycles, on one worker thread; one that hangs keeps its thread and delays no other."""

import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.budget import Budget
from agent.config import ConfigError
from collectors.registry import Collector
from collectors.run import Result, run
from machine import Machine
from wire.report import Event, Severity, Status

MAX_STUCK = 4  # threads that hang in the kernel; beyond that nothing is run until one returns
BACKOFF_MAX_S = 3600.0
SLACK_S = 0.5  # what is due that soon joins the cycle


class Ran(NamedTuple):
    """One run; `at_ms` is when it began (UTC)."""

    name: str
    at_ms: int
    result: Result


@dataclass(slots=True, eq=False)
class _Job:
    collector: Collector
    at_ms: int = 0  # both 0 until it begins
    begun_s: float = 0.0


@dataclass(slots=True)
class _Entry:
    collector: Collector
    every_s: float
    due_s: float
    budget: Budget
    hangs: int = 0
    stuck: _Job | None = None


def _entry(collector: Collector, every_s: float, due_s: float) -> _Entry:
    return _Entry(collector, every_s, due_s, Budget(every_s))


def _slowed(entry: _Entry, at_ms: int) -> Event:
    """Says how often a collector runs now, and what it took."""
    name, budget = entry.collector.NAME, entry.budget
    text = f"collector {name} takes {budget.average_ms:.0f} ms of CPU a run: every {entry.every_s * budget.factor:g} s"
    severity = Severity.WARNING if budget.factor > 1 else Severity.INFO
    return Event(at_ms=at_ms, kind="collector.paced", key=name, severity=severity, text=text)


class _Worker:
    """One thread that runs the jobs of a cycle and wakes the schedule once; an abandoned one ends with its job."""

    def __init__(self, machine: Machine, done: Callable[[_Job, Result], None], wake: Callable[[], None]) -> None:
        self._cycles: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._machine = machine
        self._done = done
        self._wake = wake
        self._lock = threading.Lock()
        self._at: _Job | None = None
        self._abandoned = False
        threading.Thread(target=self._work, name="rackhand-collect", daemon=True).start()

    def give(self, jobs: list[_Job]) -> None:
        """Run these next."""
        self._cycles.put(jobs)

    def end(self) -> None:
        """End the thread when it has nothing to do."""
        self._cycles.put(None)

    def abandon(self, job: _Job) -> bool:
        """Leave the thread alone with the job it is at; False when it went on to the next in this moment."""
        with self._lock:
            if self._at is not job:
                return False
            self._abandoned = True
        self.end()
        return True

    def _work(self) -> None:
        while not self._abandoned and (jobs := self._cycles.get()) is not None:
            for job in jobs:
                if not self._begin(job):
                    break
                self._done(job, run(job.collector, self._machine, job.at_ms))
            self._wake()

    def _begin(self, job: _Job) -> bool:
        with self._lock:
            if not self._abandoned:
                self._at = job
                job.at_ms = time.time_ns() // 1_000_000
                job.begun_s = time.monotonic()
            return not self._abandoned


class Schedule:
    """Hands a cycle's runs over when the last of them is done or given up; used by one thread.

    The first cycle begins at once, the second after a random part of the interval, so that hosts that booted together
    do not report together for ever.
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
        machine: Machine,
        intervals: Mapping[str, float] = {},
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        unknown = sorted(set(intervals) - {collector.NAME for collector in collectors})
        if unknown:
            raise ConfigError(f"intervals: no collector {unknown[0]!r}")
        now = time.monotonic()
        self._machine = machine
        self._wake = wake
        self._entries = {c.NAME: _entry(c, intervals.get(c.NAME, c.EVERY_S), now) for c in collectors}
        self._results: queue.SimpleQueue[tuple[_Job, Result]] = queue.SimpleQueue()
        self._phase: float | None = random.random()  # noqa: S311 - no secret
        self._todo: deque[_Entry] = deque()
        self._running: deque[_Job] = deque()
        self._ran: list[Ran] = []
        self._worker: _Worker | None = None

    def tick(self) -> list[Ran]:
        """Go on with what is due; the runs of a cycle that just ended, else none. Never blocks."""
        now = time.monotonic()
        self._gather(now)
        self._give_up(now)
        if not self._todo and not self._running and not self._ran:
            self._begin(now)
        self._dispatch(now)
        if self._todo or self._running:
            return []
        ran, self._ran = self._ran, []
        return ran

    def wait_s(self) -> float:
        """Seconds until `tick` has something to do by itself."""
        now = time.monotonic()
        if self._running:
            job = self._running[0]
            return max(0.0, (job.begun_s or now) + job.collector.DEADLINE_S - now)
        return max(0.0, min(entry.due_s for entry in self._entries.values()) - now)

    def ask(self, *names: str) -> None:
        """Make the named collectors due now, or all; one that is stuck stays so."""
        for name, entry in self._entries.items():
            if entry.stuck is None and (not names or name in names):
                entry.due_s = time.monotonic()

    def stuck(self) -> list[str]:
        """Names of the collectors whose thread has not returned."""
        return [name for name, entry in self._entries.items() if entry.stuck]

    def close(self) -> None:
        """Let the worker end; a stuck thread is a daemon and ends with the process."""
        if self._worker is not None:
            self._worker.end()

    def _begin(self, now: float) -> None:
        if all(entry.due_s > now for entry in self._entries.values()):
            return
        for entry in self._entries.values():
            if entry.due_s <= now + SLACK_S:
                self._todo.append(entry)
                entry.due_s = now + entry.every_s * entry.budget.factor * self._first_part()
        if self._phase is not None and self._todo:
            self._phase = None

    def _first_part(self) -> float:
        """A share of the first interval, the same for every collector, so that they stay in one cycle."""
        return 1.0 if self._phase is None else self._phase

    def _dispatch(self, now: float) -> None:
        if self._running:
            return
        at_ms = time.time_ns() // 1_000_000
        while self._todo:
            entry = self._todo.popleft()
            if entry.stuck is not None:
                self._note(entry, at_ms, Status.HUNG, f"has not returned for {now - entry.stuck.begun_s:.0f} s", now)
            elif len(self.stuck()) >= MAX_STUCK:
                self._note(entry, at_ms, Status.FAILED, f"not run: {', '.join(self.stuck())} hang", now)
            else:
                self._running.append(_Job(entry.collector))
        if self._running:
            self._worker = self._worker or _Worker(self._machine, self._finished, self._wake)
            self._worker.give(list(self._running))

    def _finished(self, job: _Job, result: Result) -> None:
        """On the worker's thread."""
        self._results.put((job, result))

    def _gather(self, now: float) -> None:
        while not self._results.empty():
            job, result = self._results.get()
            entry = self._entries[job.collector.NAME]
            if self._running and job is self._running[0]:
                self._running.popleft()
                entry.hangs = 0
                if entry.budget.took(result.cpu_s):
                    result.events.append(_slowed(entry, job.at_ms))
                    entry.due_s = now + entry.every_s * entry.budget.factor
                self._ran.append(Ran(job.collector.NAME, job.at_ms, result))
            elif job is entry.stuck:  # too late to count; its turn comes again, later each time it hangs
                entry.stuck = None
                entry.due_s = now + min(BACKOFF_MAX_S, entry.every_s * 2**entry.hangs)

    def _give_up(self, now: float) -> None:
        job = self._running[0] if self._running else None
        if job is None or self._worker is None or not job.begun_s or now - job.begun_s < job.collector.DEADLINE_S:
            return
        if not self._worker.abandon(job):
            return
        entry = self._entries[job.collector.NAME]
        entry.stuck = job
        entry.hangs = min(entry.hangs + 1, 20)
        self._running.popleft()
        self._todo.extend(self._entries[left.collector.NAME] for left in self._running)
        self._running.clear()
        self._worker = None
        self._note(entry, job.at_ms, Status.HUNG, f"over its deadline of {job.collector.DEADLINE_S:g} s", job.begun_s)

    def _note(self, entry: _Entry, at_ms: int, status: Status, reason: str, since_s: float) -> None:
        duration_ms = round((time.monotonic() - since_s) * 1000, 3)
        result = Result(status, [], [], [], reason, duration_ms)
        self._ran.append(Ran(entry.collector.NAME, at_ms, result))
