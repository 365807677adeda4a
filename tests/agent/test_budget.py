"""A collector that takes too much runs less often, and as often as before once it takes less."""

import time
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from agent.budget import MOST, SHARE, Budget
from agent.schedule import Ran, Schedule
from collectors.about import About
from machine import Machine
from machine.live import Live
from tests.agent.brokers import wait_for
from wire.report import Sample


def test_what_takes_its_share_is_left_alone() -> None:
    budget = Budget(10.0)
    assert not any(budget.took(10.0 * SHARE) for _ in range(100))
    assert budget.factor == 1


@given(st.floats(0.6, 30.0))
def test_what_takes_more_waits_until_it_is_within_its_share_or_at_the_end(cpu_s: float) -> None:
    budget = Budget(10.0)
    changes = sum(budget.took(cpu_s) for _ in range(200))
    assert changes > 0
    assert cpu_s / (10.0 * budget.factor) <= SHARE or budget.factor == MOST
    for _ in range(200):
        budget.took(0.001)
    assert budget.factor == 1


class Busy:
    """Burns CPU for a tenth of a second a run, with an interval that allows it 5 ms."""

    NAME, EVERY_S, DEADLINE_S, ABOUT = "busy", 0.1, 5.0, About("nothing", "a test")

    def collect(self, machine: Machine) -> Iterator[Sample]:  # noqa: ARG002
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass
        yield Sample("busy.runs", "", 1.0)


def test_the_schedule_slows_it_and_says_so() -> None:
    schedule = Schedule([Busy()], Live())
    ran: list[Ran] = []

    def paced() -> list[str]:
        ran.extend(schedule.tick())
        return [event.text for one in ran for event in one.result.events if event.kind == "collector.paced"]

    try:
        first = wait_for(paced)
    finally:
        schedule.close()
    assert first[0].startswith("collector busy takes ")
    assert first[0].endswith(": every 0.2 s")
