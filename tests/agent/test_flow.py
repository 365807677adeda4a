"""Which rows go out, when, and again."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import Replay
from agent.flow import Flow
from agent.spool import Body, Row, Spool
from wire.report import Priority, Run


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool.db", 1 << 20, 1e9)
    yield opened
    opened.close()


def fill(spool: Spool, *priorities: Priority) -> None:
    spool.append([Row(priority, Body(runs=[Run(collector="x", at_ms=1)])) for priority in priorities])


def flow(clock: Clock, window: int = 8, rows_per_s: float = 1000.0, jitter_s: float = 0.0) -> Flow:
    return Flow(Replay(window=window, rows_per_s=rows_per_s, jitter_s=jitter_s, resend_s=10.0), clock)


def test_events_first_and_a_quarter_for_the_lowest_numbers(spool: Spool, clock: Clock) -> None:
    fill(spool, *[Priority.TELEMETRY] * 20, *[Priority.EVENT] * 20)
    made = flow(clock)
    assert made.due(spool) == [1, 2, 21, 22, 23, 24, 25, 26]
    assert made.due(spool) == []


def test_window_moves_with_the_ack_even_under_a_storm_of_events(spool: Spool, clock: Clock) -> None:
    """The ack is cumulative: a window full of late events must not keep the early rows back for ever."""
    fill(spool, *[Priority.TELEMETRY] * 30, *[Priority.EVENT] * 30)
    made = flow(clock)
    arrived: set[int] = set()
    upto = 0
    for _ in range(100):
        arrived.update(made.due(spool))
        while upto + 1 in arrived:
            upto += 1
        spool.ack(spool.epoch, upto)
        made.acked(upto, spool.floor())
        clock.seconds += 1
    assert (upto, spool.count(), made.in_flight) == (60, 0, {})


def test_rate_is_bounded(spool: Spool, clock: Clock) -> None:
    fill(spool, *[Priority.TELEMETRY] * 500)
    made = flow(clock, window=500, rows_per_s=10.0)
    first = len(made.due(spool))
    clock.seconds += 1
    assert (first, len(made.due(spool))) == (10, 10)


def test_unacknowledged_rows_go_again_later_each_time(spool: Spool, clock: Clock) -> None:
    fill(spool, Priority.EVENT)
    made = flow(clock)
    sent_at: list[float] = []
    for _ in range(200):
        sent_at += [clock.seconds] * len(made.due(spool))
        clock.seconds += 1
    assert [later - earlier for earlier, later in itertools.pairwise(sent_at)] == [10, 20, 40, 80]


def test_new_connection_sends_all_again_and_a_backlog_waits(spool: Spool, clock: Clock) -> None:
    fill(spool, *[Priority.TELEMETRY] * 20)
    made = flow(clock, jitter_s=100.0)
    assert made.due(spool)
    made.connected(spool.count())
    waits = made.wait_s()
    assert made.due(spool) == []
    assert 0 < waits <= 100
    clock.seconds += waits
    assert len(made.due(spool)) == 8
    made.connected(3)
    clock.seconds += 1
    assert len(made.due(spool)) == 8


def test_ack_tells_when_the_youngest_row_was_first_sent(spool: Spool, clock: Clock) -> None:
    fill(spool, Priority.TELEMETRY)
    made = flow(clock)
    made.due(spool)
    clock.seconds += 5
    fill(spool, Priority.TELEMETRY)
    made.due(spool)
    clock.seconds += 60
    assert made.due(spool) == [1, 2]
    assert made.acked(1, 2) == 1000.0
    assert made.acked(2, 3) == 1005.0
    assert made.acked(2, 3) == float("-inf")


def test_hole_after_the_ack_is_told_by_sending_the_lowest_row_again(spool: Spool, clock: Clock) -> None:
    fill(spool, *[Priority.EVENT] * 6)
    made = flow(clock)
    made.due(spool)
    made.acked(2, floor=5)
    assert 5 in made.due(spool)
