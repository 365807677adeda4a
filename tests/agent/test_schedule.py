"""A collector that hangs loses its turn; the others keep theirs."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from agent.config import ConfigError
from agent.rows import Changes
from agent.schedule import MAX_STUCK, Ran, Schedule
from collectors.about import About
from collectors.registry import Collector
from machine import Machine, NotPresentError
from machine.live import Live
from tests.agent.brokers import wait_for
from wire.facts import Fact, Memory
from wire.report import EVENT, Event, Priority, Sample, Status


class Subject:
    """A collector whose behaviour the test decides."""

    def __init__(self, name: str, every_s: float = 0.05, deadline_s: float = 5.0) -> None:
        self.NAME = name
        self.EVERY_S = every_s
        self.ABOUT = About("what a test decides", "a test")
        self.DEADLINE_S = deadline_s
        self.does: Callable[[], Iterable[Fact | Sample | Event]] = lambda: [Sample(f"{name}.x", "", 1.0)]
        self.calls = 0

    def collect(self, machine: Machine) -> Iterable[Fact | Sample | Event]:  # noqa: ARG002
        self.calls += 1
        return self.does()


class Hang:
    """Blocks until it is let go, as a read of a broken device does."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __call__(self) -> list[Fact | Sample | Event]:
        self.let_go.wait(60)
        return []


@pytest.fixture
def hang() -> Iterator[Hang]:
    made = Hang()
    yield made
    made.let_go.set()


def schedule(*subjects: Collector) -> Schedule:
    return Schedule(subjects, Live())


def cycle(made: Schedule) -> list[Ran]:
    found: list[Ran] = wait_for(made.tick)
    return found


def statuses(ran: Iterable[Ran]) -> dict[str, Status]:
    return {one.name: one.result.status for one in ran}


def test_a_cycle_runs_all_that_is_due_in_order() -> None:
    made = schedule(Subject("one"), Subject("two"), Subject("slow", every_s=3600))
    assert [one.name for one in cycle(made)] == ["one", "two", "slow"]
    assert {"one", "two"} <= {one.name for _ in range(3) for one in cycle(made)}
    made.close()


def test_intervals_of_the_configuration_count() -> None:
    subject = Subject("one", every_s=3600)
    made = Schedule([subject], Live(), {"one": 0.01})
    for _ in range(3):
        cycle(made)
    assert subject.calls == 3
    with pytest.raises(ConfigError, match="no collector 'two'"):
        Schedule([subject], Live(), {"two": 5.0})
    made.close()


def test_absent_and_failed_are_results() -> None:
    gone, broken = Subject("gone"), Subject("broken")

    def absent() -> Iterable[Fact | Sample | Event]:
        raise NotPresentError("no such thing")

    def fail() -> Iterable[Fact | Sample | Event]:
        raise ValueError("bad number")

    gone.does, broken.does = absent, fail
    made = schedule(gone, broken)
    ran = cycle(made)
    assert statuses(ran) == {"gone": Status.ABSENT, "broken": Status.FAILED}
    assert "bad number" in ran[1].result.reason
    made.close()


def test_hung_collector_is_quarantined_and_delays_nobody(hang: Hang) -> None:
    bad, good = Subject("bad", deadline_s=0.2), Subject("good")
    bad.does = hang
    made = schedule(bad, good)
    first = cycle(made)
    assert statuses(first) == {"bad": Status.HUNG, "good": Status.OK}
    assert "deadline" in first[0].result.reason
    for _ in range(5):
        begun = time.monotonic()
        ran = cycle(made)
        assert statuses(ran).get("good", Status.OK) is Status.OK
        assert time.monotonic() - begun < 10
    assert bad.calls == 1
    assert made.stuck() == ["bad"]
    assert good.calls >= 4
    made.close()


def test_hung_collector_runs_again_only_after_its_thread_returned(hang: Hang) -> None:
    bad = Subject("bad", deadline_s=0.2)
    bad.does = hang
    made = schedule(bad, Subject("good"))
    cycle(made)
    cycle(made)
    assert bad.calls == 1
    bad.does = list
    hang.let_go.set()
    wait_for(lambda: statuses(made.tick()).get("bad") is Status.OK)
    assert made.stuck() == []
    assert bad.calls == 2
    made.close()


def test_stuck_threads_are_bounded(hang: Hang) -> None:
    bad = [Subject(f"bad{number}", deadline_s=0.1) for number in range(MAX_STUCK + 2)]
    for subject in bad:
        subject.does = hang
    made = schedule(*bad, Subject("good"))
    ran = statuses(cycle(made))
    assert list(ran.values()).count(Status.HUNG) == MAX_STUCK
    assert ran["good"] is Status.FAILED
    assert sum(subject.calls for subject in bad) == MAX_STUCK
    hang.let_go.set()
    wait_for(lambda: statuses(made.tick()).get("good") is Status.OK)
    made.close()


def test_ask_makes_due_now() -> None:
    subject = Subject("one", every_s=3600)
    made = schedule(subject)
    cycle(made)
    assert made.tick() == []
    made.ask("one")
    cycle(made)
    assert subject.calls == 2
    made.close()


def facts_of(total_kb: int) -> Callable[[], Iterable[Fact | Sample | Event]]:
    return lambda: [Memory(total_kb=total_kb), Sample("memory.free_kb", "", 1.0)]


def test_facts_go_only_when_they_changed_or_are_asked_for() -> None:
    subject, changes = Subject("memory"), Changes()
    subject.does = facts_of(1)
    made = schedule(subject)

    def priorities() -> list[Priority]:
        return [row.priority for row in changes.rows(cycle(made))]

    assert priorities() == [Priority.INVENTORY]
    assert priorities() == [Priority.TELEMETRY]
    subject.does = facts_of(2)
    assert priorities() == [Priority.INVENTORY]
    changes.resend()
    assert priorities() == [Priority.INVENTORY]
    subject.does = list
    (row,) = changes.rows(cycle(made))
    assert row.body.runs[0].facts == []
    made.close()


def test_what_fails_says_nothing_of_its_facts_and_is_told_once() -> None:
    subject, changes = Subject("memory"), Changes()
    subject.does = facts_of(1)
    made = schedule(subject)
    digest = changes.rows(cycle(made))[0].body.runs[0].digest

    def fail() -> Iterable[Fact | Sample | Event]:
        raise ValueError("bad number")

    subject.does = fail
    told, row = changes.rows(cycle(made))
    assert EVENT.decode(told.body.events[0]).kind == "collector.failed"
    assert (row.body.runs[0].facts, row.body.runs[0].digest) == (None, "")
    assert [one.priority for one in changes.rows(cycle(made))] == [Priority.TELEMETRY]
    assert changes.facts["memory"] == [Memory(total_kb=1)]
    subject.does = facts_of(1)
    told, row = changes.rows(cycle(made))
    assert EVENT.decode(told.body.events[0]).kind == "collector.ok"
    assert (row.body.runs[0].facts, row.body.runs[0].digest) == (None, digest)
    made.close()
