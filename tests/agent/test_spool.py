"""The spool keeps what it said it kept: killed, damaged, too full, on a full disk."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.spool import Body, Row, Spool, SpoolError, event_row
from wire.codec import raw
from wire.report import EVENT, Event, Priority, Run

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


def row(priority: Priority, size: int = 10) -> Row:
    return Row(priority, Body(runs=[Run(collector="load", at_ms=1, reason="x" * size)]))


def open_spool(folder: Path, max_bytes: int = MIB, max_age_s: float = 1e9, now: Any = None) -> Spool:
    return Spool(folder / "spool.db", max_bytes, max_age_s, now or Clock())


def events(spool: Spool) -> list[Event]:
    bodies = [msgspec.json.decode(spool.body(one.seq) or b"{}", type=Body) for one in spool.pending(100_000)]
    return [EVENT.decode(item) for body in bodies for item in body.events]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path)
    yield opened
    opened.close()


def test_numbers_count_from_one_and_go_on_after_a_restart(tmp_path: Path) -> None:
    first = open_spool(tmp_path)
    assert first.append([row(Priority.TELEMETRY)] * 3) == [1, 2, 3]
    first.ack(first.epoch, 3)
    first.close()
    second = open_spool(tmp_path)
    assert (second.epoch, second.floor(), second.count()) == (first.epoch, 4, 0)
    assert second.append([row(Priority.EVENT)]) == [4]
    second.close()


def test_pending_by_priority_then_number_or_by_number(spool: Spool) -> None:
    spool.append([row(Priority.TELEMETRY), row(Priority.INVENTORY), row(Priority.EVENT), row(Priority.EVENT)])
    assert [one.seq for one in spool.pending(10)] == [3, 4, 2, 1]
    assert [one.seq for one in spool.pending(2, oldest=True)] == [1, 2]
    assert spool.pending(1)[0].priority is Priority.EVENT


def test_only_a_cumulative_ack_of_this_epoch_trims(spool: Spool) -> None:
    spool.append([row(Priority.TELEMETRY)] * 5)
    assert spool.ack("another", 5) == 0
    assert spool.ack(spool.epoch, 3) == 3
    assert spool.ack(spool.epoch, 2) == 0
    assert ([one.seq for one in spool.pending(9)], spool.floor()) == ([4, 5], 4)
    assert spool.body(3) is None
    assert spool.body(4) is not None
    assert spool.ack(spool.epoch, 5) == 2
    assert (spool.bytes, spool.floor()) == (0, 6)


def test_full_drops_telemetry_first_oldest_first_and_events_last(tmp_path: Path) -> None:
    size = len(msgspec.json.encode(row(Priority.EVENT, 1000).body))
    spool = open_spool(tmp_path, max_bytes=4 * size + 400)
    spool.append([row(Priority.TELEMETRY, 1000), row(Priority.EVENT, 1000), row(Priority.INVENTORY, 1000)])
    spool.append([row(Priority.TELEMETRY, 1000)])
    assert spool.count() == 4
    spool.append([row(Priority.EVENT, 1000)])
    assert {1}.isdisjoint(one.seq for one in spool.pending(99))
    spool.append([row(Priority.EVENT, 1000)])
    spool.append([row(Priority.EVENT, 1000)])
    held = spool.pending(99)
    assert {one.priority for one in held} == {Priority.EVENT}
    assert (spool.dropped[Priority.TELEMETRY], spool.dropped[Priority.INVENTORY]) == (2, 1)
    assert spool.bytes <= 4 * size + 400 + 600
    spool.close()


def test_what_was_dropped_is_told_as_a_gap_and_not_with_every_row(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, max_bytes=6000, now=clock)
    for _ in range(20):
        spool.append([row(Priority.TELEMETRY, 1000)])
        clock.seconds += 10
    gaps = [event for event in events(spool) if event.kind == "spool.gap"]
    assert len(gaps) == 1
    assert gaps[0].data == {"from_seq": 1, "to_seq": 1, "count": 1, "reason": "spool full", "priority": "telemetry"}
    clock.seconds += 600
    spool.append([row(Priority.EVENT)])
    told = [event for event in events(spool) if event.kind == "spool.gap"]
    assert sum(int(event.data["count"] or 0) for event in told) == spool.dropped[Priority.TELEMETRY]
    spool.close()


def test_a_gap_not_told_yet_survives_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, max_bytes=3000, now=clock)
    for _ in range(6):
        spool.append([row(Priority.TELEMETRY, 1000)])
    lost = spool.dropped.total()
    spool.close()
    again = open_spool(tmp_path, max_bytes=30_000, now=clock)
    again.append([row(Priority.EVENT)])
    assert sum(int(event.data["count"] or 0) for event in events(again) if event.kind == "spool.gap") == lost > 1
    again.close()


def test_too_old_goes_and_is_told(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, max_age_s=100, now=clock)
    spool.append([row(Priority.EVENT), row(Priority.TELEMETRY)])
    clock.seconds += 101
    assert spool.append([row(Priority.TELEMETRY)]) == [3]
    assert [event.data["reason"] for event in events(spool)] == ["too old", "too old"]
    assert spool.floor() == 3
    spool.close()


def test_a_row_that_never_fits_is_told_and_costs_no_other(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=20_000)
    spool.append([row(Priority.TELEMETRY)])
    spool.append([row(Priority.INVENTORY, 30_000)])
    assert [event.data["reason"] for event in events(spool)] == ["too large"]
    assert 1 in [one.seq for one in spool.pending(9)]
    spool.close()


DAMAGE: dict[str, bytes] = {"not a database": b"no database at all" * 100, "cut": b"", "zeros inside": b"\0"}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_is_moved_aside_and_told(tmp_path: Path, damage: str) -> None:
    before = open_spool(tmp_path)
    before.append([row(Priority.EVENT, 3000)] * 50)
    before.close()
    path = tmp_path / "spool.db"
    content = path.read_bytes()
    broken = {"cut": content[:5000], "zeros inside": content[:100] + b"\0" * 12_000 + content[12_100:]}
    path.write_bytes(broken.get(damage, DAMAGE[damage]))
    after = open_spool(tmp_path)
    assert after.epoch != before.epoch
    (event,) = events(after)
    assert event.kind == "spool.corrupt"
    assert Path(str(event.data["file"])).read_bytes() == broken.get(damage, DAMAGE[damage])
    assert after.append([row(Priority.TELEMETRY)]) == [2]
    after.close()


def test_damage_while_open_loses_no_new_row(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([row(Priority.EVENT, 3000)] * 50)
    epoch = spool.epoch
    spool._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    spool._db.execute("PRAGMA shrink_memory")
    numbers = spool.append([row(Priority.EVENT)])
    assert spool.epoch != epoch
    assert spool.body(numbers[0]) is not None
    assert [event.kind for event in events(spool)][:1] == ["spool.corrupt"]
    spool.close()


def test_a_spool_of_another_version_is_kept_aside(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "spool.db")
    database.execute("PRAGMA user_version=99")
    database.execute("CREATE TABLE other (x)")
    database.close()
    spool = open_spool(tmp_path)
    assert "version" in events(spool)[0].text
    spool.close()


def test_damaged_files_are_not_kept_for_ever(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(6):
        (tmp_path / "spool.db").write_bytes(b"x" * 5000)
        clock.seconds += 1
        open_spool(tmp_path, now=clock).close()
    assert len(list(tmp_path.glob("spool.db.corrupt-*"))) == 3


def test_an_older_copy_of_the_file_begins_a_new_epoch(spool: Spool) -> None:
    """A disk image restored: the inventory has numbers that this file has yet to give."""
    spool.append([row(Priority.EVENT)] * 2)
    epoch = spool.epoch
    spool.ack(epoch, 40)
    assert spool.epoch != epoch
    assert spool.count() == 3
    assert events(spool)[-1].kind == "spool.rewound"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def append_for_ever(spool: Spool) -> None:
    while True:
        spool.append([row(Priority.TELEMETRY, 4000), row(Priority.EVENT, 4000)])


@pytest.mark.root
def test_full_disk_is_one_error_and_the_gap_is_told_afterwards(small_disk: Path) -> None:
    spool = open_spool(small_disk)
    stored = spool.append([row(Priority.EVENT)])
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    with pytest.raises(SpoolError, match="full"):
        append_for_ever(spool)
    lost = spool.dropped.total()
    assert lost == 2
    assert spool.body(stored[0]) is not None
    ballast.unlink()
    spool.append([row(Priority.EVENT)])
    gaps = [event for event in events(spool) if event.kind == "spool.gap"]
    assert sum(int(event.data["count"] or 0) for event in gaps) == lost
    assert "full" in str(gaps[0].data["reason"])
    spool.close()


@pytest.mark.root
def test_spool_that_cannot_be_begun_is_one_error(small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    with pytest.raises(SpoolError, match=r"spool\.db"):
        open_spool(small_disk)


APPENDER = """
import sys
from pathlib import Path
from agent.spool import Body, Row, Spool
from wire.report import Priority, Run
spool = Spool(Path(sys.argv[1]), 64 << 20, 1e9)
while True:
    row = Row(Priority.TELEMETRY, Body(runs=[Run(collector="load", at_ms=1, reason="x" * 2000)]))
    print(*spool.append([row, row, row]), flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 40, 163])
def test_every_append_that_returned_survives_kill_9(tmp_path: Path, root: Path, after: int) -> None:
    argv = [sys.executable, "-c", APPENDER, str(tmp_path / "spool.db")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=root) as child:
        assert child.stdout is not None
        told = [int(number) for _ in range(after) for number in child.stdout.readline().split()]
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().rpartition(b"\n")[0]
        told += [int(number) for number in rest.split()]
    spool = open_spool(tmp_path)
    held = [one.seq for one in spool.pending(1_000_000, oldest=True)]
    assert set(told) <= set(held)
    assert held == list(range(1, len(held) + 1))
    assert len(held) - len(told) in (0, 3)
    assert spool.append([row(Priority.EVENT)]) == [len(held) + 1]
    spool.close()


STEP = st.one_of(
    st.tuples(st.just("append"), st.lists(st.sampled_from(list(Priority)), min_size=1, max_size=4)),
    st.tuples(st.just("ack"), st.integers(0, 40)),
    st.tuples(st.just("restart"), st.none()),
)


@given(steps=st.lists(STEP, max_size=25))
@settings(max_examples=30, deadline=None)
def test_holds_exactly_what_was_appended_and_not_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = open_spool(folder)
    given_out, acked = 0, 0
    for what, argument in steps:
        if what == "append":
            numbers = spool.append([row(priority) for priority in argument])
            assert numbers == list(range(given_out + 1, given_out + 1 + len(argument)))
            given_out += len(argument)
        elif what == "ack" and argument <= given_out:
            spool.ack(spool.epoch, argument)
            acked = max(acked, argument)
        elif what == "restart":
            spool.close()
            spool = open_spool(folder)
    assert [one.seq for one in spool.pending(999, oldest=True)] == list(range(acked + 1, given_out + 1))
    assert spool.floor() == acked + 1
    spool.close()


def test_event_row_carries_its_events(spool: Spool) -> None:
    event = Event(at_ms=1, kind="link.down", text="eth0 lost its carrier")
    spool.append([event_row(event)])
    assert events(spool) == [event]
    assert raw(event) == event_row(event).body.events[0]
