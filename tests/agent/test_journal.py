"""The journal: what is recorded is there after a crash, and what is damaged is never guessed from."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import journal
from agent.journal import BusyError, CorruptError, Deadline, Journal, JournalError, Marked, Staged, State, Undone
from wire.facts import Nic, Queues
from wire.policy import Change, FileWrite, Outcome, OutcomeStatus

CHANGE = Change(knob="rps", target="va rx-0", op=FileWrite("/sys/x", "0", "3", 7), nic="va")
STAGED = Staged(
    changes=[CHANGE],
    before=[Nic(key="va", ifname="va", ifindex=7), Queues(key="va", ifname="va", ifindex=7, rps_cpus=["", "0-1"])],
    reshaped=["va"],
)
OUTCOME = Outcome(knob="rps", nic="va", status=OutcomeStatus.APPLIED, changes=[CHANGE])


def begin(state: Path) -> Journal:
    return journal.create(state, journal.opened(state, 60, generation=3))


def whole(state: Path) -> Path:
    with begin(state) as log:
        log.append(STAGED)
        log.append(Undone(0))
        log.mark(State.COMMITTED, "good", [OUTCOME])
        return log.path


def test_every_record_is_read_back(tmp_path: Path) -> None:
    story = journal.read(whole(tmp_path))
    assert story
    assert (story.opened.generation, story.opened.pid, story.opened.netns) == (3, os.getpid(), journal.netns())
    assert story.stages == [STAGED]
    assert story.undone == {0}
    assert (story.state, story.reason) == (State.COMMITTED, "good")
    assert story.outcomes == [OUTCOME], "its changes are stored once, with the stage"


def test_a_reader_sees_records_while_the_writer_holds_the_lock(tmp_path: Path) -> None:
    with begin(tmp_path) as log:
        story = journal.read(log.path)
        assert story
        assert story.state is State.OPEN
        at = story.deadline_ns
        log.append(Deadline(at + 5))
        later = journal.read(log.path)
        assert later
        assert later.deadline_ns == at + 5


def test_a_closed_journal_takes_no_more_room_than_its_records(tmp_path: Path) -> None:
    path = whole(tmp_path)
    assert b"\0" not in path.read_bytes()


def test_a_torn_last_record_is_ignored_and_written_over(tmp_path: Path) -> None:
    path = whole(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines[-1])):
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][:-cut] + bytes(100))
        story = journal.read(path)
        assert story
        assert story.state is State.OPEN
    with journal.resume(path) as log:
        log.mark(State.REVERTED)
    story = journal.read(path)
    assert story
    assert story.state is State.REVERTED


def test_a_journal_torn_in_its_first_record_says_nothing(tmp_path: Path) -> None:
    path = whole(tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    assert journal.read(path) is None
    with journal.resume(path) as log:
        assert log.blank
        with pytest.raises(JournalError, match="nothing is recorded"):
            _ = log.story


@settings(deadline=None, max_examples=60)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_guessed_from(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    path = whole(tmp_path_factory.mktemp("journal"))
    data = bytearray(path.read_bytes())
    true = journal.read(path)
    at %= len(data)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    try:
        story = journal.read(path)
    except CorruptError as error:
        assert "\n" not in str(error)
    else:  # the end of the last line was hit: that record is torn
        assert at == len(data) - 1
        assert true
        assert story
        assert story.state is State.OPEN


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([Undone(0)], "record 1 does not begin a transaction"),
        ([journal.opened(Path("/nowhere"), 1), journal.opened(Path("/nowhere"), 1)], "begins twice"),
    ],
)
def test_records_out_of_order_are_corruption(tmp_path: Path, records: list[journal.Record], reason: str) -> None:
    path = tmp_path / "00000001-aaaaaa.journal"
    path.write_bytes(b"".join(map(journal.encode, records)))
    with pytest.raises(CorruptError, match=reason):
        journal.read(path)
    with pytest.raises(CorruptError, match=reason):
        journal.resume(path)


def test_numbers_rise_and_old_closed_journals_go(tmp_path: Path) -> None:
    with begin(tmp_path) as log:
        unfinished = log.path
    paths = [whole(tmp_path) for _ in range(5)]
    assert [path.name[:8] for path in [unfinished, *paths]] == [f"{n:08d}" for n in range(1, 7)]
    journal.prune(tmp_path, keep=2)
    assert journal.paths(tmp_path) == [unfinished, *paths[-2:]]


def test_a_corrupt_journal_is_kept_under_another_name(tmp_path: Path) -> None:
    path = whole(tmp_path)
    data = path.read_bytes()
    aside = journal.set_aside(path)
    assert aside.read_bytes() == data
    assert journal.paths(tmp_path) == []
    with begin(tmp_path) as log:
        assert log.path.name.startswith("00000002-"), "its number is not used again"


def test_one_transaction_at_a_time(tmp_path: Path) -> None:
    handle = journal.lock(tmp_path)
    with pytest.raises(BusyError, match="another transaction is at work"):
        journal.lock(tmp_path)
    os.close(handle)
    os.close(journal.lock(tmp_path))


def test_a_zombie_is_no_process() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert journal.started(child.pid) is None
    child.wait()
    assert journal.started(os.getpid()) is not None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    point = tmp_path / "disk"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "rackhand-test", str(point)], check=True)
    yield point
    subprocess.run(["umount", str(point)], check=True)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@pytest.mark.root
def test_a_full_disk_begins_nothing(small_disk: Path) -> None:
    (small_disk / "journal").mkdir()
    fill(small_disk)
    with pytest.raises(JournalError, match="No space left on device"):
        begin(small_disk)
    assert journal.paths(small_disk) == []


@pytest.mark.root
def test_a_disk_that_fills_up_later_still_takes_the_closing_record(small_disk: Path) -> None:
    with begin(small_disk) as log:
        log.append(STAGED)
        fill(small_disk)
        with pytest.raises(JournalError, match="No space left on device"):
            log.append(Staged(changes=[CHANGE] * 2000))
        assert log.story.stages == [STAGED], "what could not be recorded is not there"
        log.mark(State.COMMITTED, outcomes=[OUTCOME])
        story = journal.read(log.path)
    assert story
    assert story.state is State.COMMITTED


def test_marked_states_are_the_only_steps() -> None:
    assert {State.OPEN, State.REVERTING} == set(journal.UNFINISHED)
    assert Marked(state=State.OPEN).outcomes == []
