"""What journals that cannot be used cost: a clear word, and nothing else."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from agent import deadman, journal
from agent.journal import CorruptError, JournalError, Staged, State
from tests.agent.brokers import AgentProcess, Inventory, wait_for
from tests.agent.brokers import BrokerProcess as Broker
from wire.policy import Change, FileWrite

ROOMY = [Change(knob="rps", target="t" * 100, op=FileWrite("/x", "a" * 80, "b" * 80))] * 30  # over a page


def committed(state: Path, knob: Path, before: str) -> Path:
    """A closed journal of a change to a file."""
    with journal.create(state, journal.opened(state, 60)) as log:
        log.append(Staged(changes=[Change(knob="rps", target="knob", op=FileWrite(str(knob), before, "after"))]))
        log.mark(State.COMMITTED)
        return log.path


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_record_seen_half_written_is_no_corruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel copies by pages: a reader without the lock may see the second one before the first."""
    with journal.create(tmp_path, journal.opened(tmp_path, 60)) as log:
        size = log.path.read_bytes().rstrip(b"\0").__len__()
        log.append(Staged(changes=ROOMY))
        whole = log.path.read_bytes()
    views = [whole[:size] + bytes(100) + whole[size + 100 :]] * 2
    monkeypatch.setattr(Path, "read_bytes", lambda _: views.pop() if views else whole)
    story = journal.read(log.path)
    assert story is not None
    assert story.stages == [Staged(changes=ROOMY)]
    views = [b"damaged\n"] * 100
    with pytest.raises(CorruptError, match="record 1"):
        journal.read(log.path)


def test_readers_beside_a_writer_see_no_corruption(tmp_path: Path) -> None:
    opened = journal.opened(tmp_path, 60)
    path = tmp_path / journal.FOLDER / (opened.tx + journal.SUFFIX)
    failed: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                journal.read(path)
            except BaseException as error:  # noqa: BLE001 - handed to the test's thread
                failed.append(error)
                return

    with journal.create(tmp_path, opened) as log:
        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(60):
            log.append(Staged(changes=ROOMY))
        done.set()
        reader.join()
    assert failed == []


def test_a_rollback_that_finds_the_last_journal_corrupt_says_so_and_undoes_nothing(tmp_path: Path) -> None:
    knob = tmp_path / "knob"
    knob.write_text("after")
    committed(tmp_path, knob, "first")
    last = committed(tmp_path, knob, "second")
    damage(last)
    with pytest.raises(JournalError, match=f"nothing was rolled back: journal {last.name}: .*kept as"):
        deadman.rollback(tmp_path)
    assert knob.read_text() == "after"
    assert deadman.rollback(tmp_path).state is State.REVERTED
    assert knob.read_text() == "first"


@pytest.mark.parametrize("left", [State.OPEN, State.REVERTING])
def test_a_rollback_ends_what_was_left_unfinished_and_undoes_no_second_one(tmp_path: Path, left: State) -> None:
    knob = tmp_path / "knob"
    knob.write_text("after")
    committed(tmp_path, knob, "first")
    dead = subprocess.Popen(["true"])
    dead.wait()
    opened = structs.replace(journal.opened(tmp_path, 60), pid=dead.pid, started=1)
    with journal.create(tmp_path, opened) as log:
        log.append(Staged(changes=[Change(knob="rps", target="knob", op=FileWrite(str(knob), "second", "after"))]))
        if left is State.REVERTING:
            log.mark(State.COMMITTED)
            log.mark(State.REVERTING)
    told: list[str] = []
    assert deadman.rollback(tmp_path, lambda played: told.append(played.tx)).tx == opened.tx
    assert (knob.read_text(), told) == ("second", [opened.tx])
    deadman.rollback(tmp_path)
    assert knob.read_text() == "first"


def test_a_rollback_by_hand_of_a_corrupt_journal_is_one_line(root: Path, tmp_path: Path) -> None:
    knob = tmp_path / "knob"
    knob.write_text("after")
    damage(committed(tmp_path, knob, "before"))
    argv = [sys.executable, "-m", "agent.cli", "rollback", "--yes", "--state", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=root, env={**os.environ})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "does not match its checksum; kept as" in line
    assert knob.read_text() == "after"


@pytest.mark.broker
def test_an_agent_whose_journal_cannot_be_read_still_reports(broker: Broker, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / journal.FOLDER / ("00000001-aaaaaa" + journal.SUFFIX)).mkdir(parents=True)
    agent = AgentProcess(state, broker.port)
    try:
        inventory = Inventory(broker.port, agent.host_id)
        told: list[Any] = wait_for(lambda: inventory.events("policy.recovered"))
        assert "Is a directory" in told[0]["text"]
        wait_for(lambda: any(run.collector == "nic" for row in inventory.rows() for run in row.runs))
        inventory.close()
    finally:
        agent.kill()
