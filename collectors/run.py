"""Run collectors: whatever one does, the answer is a result."""

import time
from collections.abc import Iterable
from typing import NamedTuple

from collectors.registry import ALL, Collector, by_name
from machine import Machine, NotPresentError
from wire.facts import Fact
from wire.report import Event, Sample, Status


class Result(NamedTuple):
    """One run. Facts are the whole truth only when `status` is OK; they and the samples are empty otherwise."""

    status: Status
    facts: list[Fact]
    samples: list[Sample]
    events: list[Event]
    reason: str
    duration_ms: float
    cpu_s: float = 0.0  # of the thread that ran it


def run(collector: Collector, machine: Machine, now_ms: int) -> Result:
    """Run one collector now and never raise; `now_ms` (UTC) dates events that carry no time of their own."""
    begun, cpu_s = time.monotonic(), time.thread_time()
    facts: list[Fact] = []
    samples: list[Sample] = []
    events: list[Event] = []
    try:
        for item in collector.collect(machine):
            if isinstance(item, Sample):
                samples.append(item)
            elif isinstance(item, Event):
                item.at_ms = item.at_ms or now_ms
                events.append(item)
            else:
                facts.append(item)
    except NotPresentError as absent:
        return Result(Status.ABSENT, [], [], [], str(absent), _ms_since(begun), time.thread_time() - cpu_s)
    except Exception as error:  # noqa: BLE001 - one collector's fault must not stop the others
        reason = f"{type(error).__name__}: {error}"
        return Result(Status.FAILED, [], [], [], reason, _ms_since(begun), time.thread_time() - cpu_s)
    return Result(Status.OK, facts, samples, events, "", _ms_since(begun), time.thread_time() - cpu_s)


def collect_facts(machine: Machine, names: Iterable[str] | None = None) -> list[Fact]:
    """The facts of all collectors, or of those named, in the registry's order; absent and failed ones give none."""
    chosen = ALL if names is None else [by_name(name) for name in names]
    now_ms = time.time_ns() // 1_000_000
    return [fact for collector in chosen for fact in run(collector, machine, now_ms).facts]


def _ms_since(begun: float) -> float:
    return round((time.monotonic() - begun) * 1000, 3)
