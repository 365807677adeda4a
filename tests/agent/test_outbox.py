"""The outbox of a polled device: bounded, and honest about what it lost."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.outbox import Outbox
from agent.spool import Body, Row, event_row
from wire.report import Event, Priority, Run

MANY = st.lists(st.tuples(st.sampled_from(Priority), st.integers(0, 400)), max_size=60)


def row(priority: Priority, size: int = 10) -> Row:
    return Row(priority, Body(runs=[Run(collector="x" * size, at_ms=0)]))


def told(box: Outbox) -> list[int]:
    """How many were lost, by the events that say so."""
    bodies = [box.body(pending.seq) or b"{}" for pending in box.pending(99) if pending.priority is Priority.EVENT]
    events = [event for body in bodies for event in msgspec.json.decode(body)["events"]]
    return [event["data"]["count"] for event in events if event["kind"] == "spool.gap"]


def test_rows_leave_by_ack_of_their_epoch_alone() -> None:
    box = Outbox()
    box.append([row(Priority.TELEMETRY), event_row(Event(at_ms=1, kind="k", text="t")), row(Priority.INVENTORY)])
    assert [pending.seq for pending in box.pending(9)] == [2, 3, 1]
    assert [pending.seq for pending in box.pending(2, oldest=True)] == [1, 2]
    assert box.ack("another", 3) == 0
    assert (box.ack(box.epoch, 2), box.floor(), box.count()) == (2, 3, 1)
    assert (box.ack(box.epoch, 3), box.floor(), box.count(), box.bytes) == (1, 4, 0, 0)


def test_a_full_box_loses_the_oldest_of_the_least_and_says_so() -> None:
    now = [0.0]
    box = Outbox(max_bytes=2000, now=lambda: now[0])
    for _ in range(100):
        box.append([row(Priority.TELEMETRY, 100)])
    assert box.dropped[Priority.TELEMETRY] > 70
    assert len(told(box)) == 1
    now[0] = 700.0
    box.append([row(Priority.TELEMETRY, 100)])
    counts = told(box)
    assert len(counts) == 2
    assert sum(counts) == box.dropped[Priority.TELEMETRY]


@given(MANY, st.integers(1000, 3000))
def test_it_never_holds_more_than_it_may_and_never_uses_a_number_twice(
    rows: list[tuple[Priority, int]], limit: int
) -> None:
    box = Outbox(max_bytes=limit)
    seen: set[int] = set()
    for priority, size in rows:
        box.append([row(priority, size)])
        numbers = {pending.seq for pending in box.pending(1000)}
        assert not {number for number in numbers - seen if seen and number <= max(seen)}
        seen |= numbers
        assert box.bytes == sum(len(box.body(number) or b"") for number in numbers)
        assert box.bytes <= limit + 400 or box.count() == 1  # the event that tells of the loss comes on top
        assert box.floor() == min(numbers, default=box.floor())
