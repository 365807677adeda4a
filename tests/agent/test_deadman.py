"""The dead-man's own doings: how it is started, when it acts, and when it keeps its hands off."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from agent import deadman, journal
from agent.deadman import DeadManError
from agent.journal import JournalError, Staged, State, Story
from tests.agent.space import wait_for
from wire.policy import Change, FileWrite


@pytest.fixture
def knob(tmp_path: Path) -> Path:
    """A file to play back to."""
    path = tmp_path / "knob"
    path.write_text("after")
    return path


@pytest.fixture
def log(tmp_path: Path, knob: Path) -> Path:
    """An open journal of this process with one change announced."""
    with journal.create(tmp_path, journal.opened(tmp_path, 3600)) as made:
        made.append(Staged(changes=[change(knob)]))
        return made.path


def change(path: Path) -> Change:
    return Change(knob="rps", target=path.name, op=FileWrite(str(path), "before", "after"))


def read(log: Path) -> Story:
    story = journal.read(log)
    assert story
    return story


def state(log: Path) -> State:
    return read(log).state


def running(log: Path) -> bool:
    """True while a process watches the journal."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(log) in entry.read_bytes():
                return True
        except OSError:
            continue
    return False


def of_a_dead_process(log: Path) -> None:
    """Make the journal one whose process is gone."""
    child = subprocess.Popen(["true"])
    child.wait()
    rewrite(log, pid=child.pid, started=1)


def rewrite(log: Path, **fields: object) -> None:
    """Change fields of the first record."""
    story = read(log)
    records: list[journal.Record] = [structs.replace(story.opened, **fields), *story.stages]
    log.write_bytes(b"".join(map(journal.encode, records)))


def test_it_ends_silently_with_the_commit(log: Path, knob: Path) -> None:
    assert deadman.arm(log) == "detached"
    assert running(log)
    with journal.resume(log) as held:
        held.mark(State.COMMITTED)
    wait_for(lambda: not running(log), "its end")
    assert (state(log), knob.read_text()) == (State.COMMITTED, "after")


def test_it_waits_while_the_transaction_lives_and_has_time(log: Path, knob: Path) -> None:
    assert deadman.finish(log) is None
    assert (state(log), knob.read_text()) == (State.OPEN, "after")


def test_it_plays_back_what_a_dead_process_left(log: Path, knob: Path) -> None:
    of_a_dead_process(log)
    played = deadman.finish(log)
    assert played
    assert (played.state, knob.read_text()) == (State.REVERTED, "before")
    assert [(one.knob, one.status.value) for one in played.outcomes] == [("rps", "reverted")]
    knob.write_text("later")
    assert deadman.finish(log) is None
    assert deadman.play_back(log).state is State.REVERTED
    assert knob.read_text() == "later", "once is enough"


def test_another_process_with_the_same_pid_is_not_killed(log: Path, knob: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        rewrite(log, pid=other.pid, started=1, deadline_ns=0)
        played = deadman.finish(log)
        assert played
        assert played.state is State.REVERTED
        assert other.poll() is None
        other.kill()


def test_a_process_out_of_time_is_killed_first(log: Path, knob: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as late:
        rewrite(log, pid=late.pid, started=journal.started(late.pid), deadline_ns=journal.now_ns())
        played = deadman.finish(log)
        assert played
        assert (played.state, knob.read_text()) == (State.REVERTED, "before")
        assert late.wait(30) == -9


@pytest.mark.parametrize(
    ("fields", "left", "reason"),
    [
        ({"boot_id": "another"}, State.VOID, "the machine has booted since, its settings went with that"),
        ({"netns": "net:[1]"}, State.OPEN, "it belongs to another network namespace, net:[1]"),
    ],
)
def test_a_journal_from_elsewhere_changes_nothing(
    log: Path, knob: Path, fields: dict[str, str], left: State, reason: str
) -> None:
    rewrite(log, **fields, deadline_ns=0)
    played = deadman.finish(log)
    assert played
    assert (played.state, played.reason, knob.read_text()) == (left, reason, "after")


def test_a_file_that_is_gone_took_its_setting_with_it(log: Path, knob: Path) -> None:
    of_a_dead_process(log)
    knob.unlink()
    assert deadman.play_back(log).state is State.REVERTED


def test_what_cannot_be_undone_is_said_and_the_rest_is_undone(log: Path, knob: Path) -> None:
    of_a_dead_process(log)
    with journal.resume(log) as held:
        held.append(Staged(changes=[structs.replace(change(Path("/proc/sys/kernel/random/boot_id")), knob="xps")]))
    played = deadman.play_back(log)
    assert (played.state, knob.read_text()) == (State.FAILED, "before")
    assert {one.knob: one.status.value for one in played.outcomes} == {"rps": "reverted", "xps": "failed"}
    assert "boot_id: cannot be undone" in played.reason


def test_without_a_start_it_is_not_armed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DeadManError, match="did not start"):
        deadman.arm(log)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DeadManError, match="could not be started"):
        deadman.arm(log)


def test_systemd_gets_a_service_that_it_restarts(log: Path) -> None:
    argv = deadman.systemd_argv(log)
    assert argv[:4] == ["systemd-run", "--quiet", "--collect", f"--unit=rackhand-deadman-{log.stem}"]
    assert {"--property=Type=notify", "--property=Restart=on-failure"} <= set(argv)
    assert argv[-5:] == [sys.executable, "-m", "agent.deadman", "watch", str(log)]


def test_a_service_says_ready_when_it_watches(log: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(60)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with subprocess.Popen([sys.executable, "-m", "agent.deadman", "watch", str(log)], env=environment) as watcher:
            assert notify.recv(64) == b"READY=1"
            with journal.resume(log) as held:
                held.mark(State.COMMITTED)
            assert watcher.wait(60) == 0, "a clean exit: systemd does not start it again"


@pytest.mark.parametrize("script", ["exit 1", "exec sleep 600"])
def test_a_systemd_that_does_not_start_it_is_replaced(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    command = tmp_path / "systemd-run"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setattr(deadman, "by_systemd", lambda: True)
    argv = deadman.systemd_argv(log)
    monkeypatch.setattr(deadman, "systemd_argv", lambda _: [str(command), *argv[1:]])
    with monkeypatch.context() as patch:
        patch.setattr(deadman, "READY_S", 5.0)
        assert deadman.arm(log) == "detached"
    with journal.resume(log) as held:
        held.mark(State.COMMITTED)
    wait_for(lambda: not running(log), "its end")


def test_systemd_is_used_only_in_its_own_namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(deadman, "SYSTEMD", tmp_path / "none")
    assert not deadman.by_systemd()
    monkeypatch.setattr(deadman, "SYSTEMD", tmp_path)
    monkeypatch.setattr(journal, "netns", lambda: "net:[1]")
    assert not deadman.by_systemd()


def test_nothing_to_roll_back_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(JournalError, match="no committed transaction"):
        deadman.rollback(tmp_path)
    assert deadman.main(["rollback", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "there is no committed transaction to roll back\n"


def test_a_watcher_needs_no_netlink_library_until_it_acts() -> None:
    code = "import sys, agent.deadman; print(sorted({'pyroute2', 'tuners.engine', 'asyncio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
