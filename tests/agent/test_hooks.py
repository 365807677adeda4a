"""Hooks as processes: what they are told, what is refused, and that nothing of them stays."""

import json
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events import hooks
from agent.events.hooks import Hooks, RefusedError, check, environment, safe
from agent.journal import started
from tests.agent.brokers import wait_for
from wire.report import Event, Severity

EVENT = Event(
    at_ms=7, kind="link.down", key="52:54:00:12:34:56", severity=Severity.WARNING, text="eth0", data={"ifname": "eth0"}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "hooks.d"
    made.mkdir(mode=0o755)
    return made


@pytest.fixture
def running(folder: Path) -> Iterator[Hooks]:
    made = Hooks(folder, timeout_s=60)
    yield made
    made.close()


def script(folder: Path, name: str, text: str, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def until_done(hooks_: Hooks) -> list[Event]:
    """All that failed, once nothing runs or waits."""
    failed = hooks_.step()
    while hooks_.busy():
        select.select(hooks_.filenos(), [], [], min(30.0, hooks_.wait_s()))
        failed += hooks_.step()
    return failed + hooks_.step()


def test_a_hook_gets_the_event_on_stdin_and_in_its_environment(folder: Path, running: Hooks) -> None:
    script(folder, "note", f"cat > {folder}/got; env | grep ^RACKHAND | sort > {folder}/env; umask > {folder}/umask")
    running.ask("note", EVENT)
    assert until_done(running) == []
    assert json.loads((folder / "got").read_text())["kind"] == "link.down"
    said = dict(line.split("=", 1) for line in (folder / "env").read_text().splitlines())
    assert said["RACKHAND_EVENT_KEY"] == "52:54:00:12:34:56"
    assert (said["RACKHAND_EVENT_IFNAME"], said["RACKHAND_EVENT_SIMULATED"]) == ("eth0", "0")
    assert (folder / "umask").read_text().strip() == "0077"


def test_one_that_fails_is_an_event_with_its_last_words(folder: Path, running: Hooks) -> None:
    script(folder, "bad", "echo 'no route to \033[31mpager'; exit 3")
    running.ask("bad", EVENT)
    (failed,) = until_done(running)
    assert (failed.kind, failed.key, failed.data["code"]) == ("hook.failed", "bad", 3)
    assert failed.text == "hook bad: ended with 3: no route to __31mpager"


def test_one_that_hangs_is_killed_with_its_children(folder: Path) -> None:
    script(folder, "hang", f"sleep 600 & echo $! > {folder}/child; wait")
    hasty = Hooks(folder, timeout_s=0.5)
    hasty.ask("hang", EVENT)
    (failed,) = until_done(hasty)
    assert "killed: ran for 0.5 s" in failed.text
    wait_gone(int((folder / "child").read_text()))


def test_children_of_one_that_ended_are_killed(folder: Path, running: Hooks) -> None:
    script(folder, "leaver", f"sleep 600 >/dev/null 2>&1 & echo $! > {folder}/child")
    running.ask("leaver", EVENT)
    assert until_done(running) == []
    wait_gone(int((folder / "child").read_text()))


def test_one_that_writes_without_end_is_killed(folder: Path, running: Hooks) -> None:
    script(folder, "loud", "exec yes")
    running.ask("loud", EVENT)
    (failed,) = until_done(running)
    assert "wrote more than" in failed.text


def test_one_that_closes_its_output_does_not_keep_the_agent_awake(folder: Path, running: Hooks) -> None:
    for name in ("closed", "go"):
        os.mkfifo(folder / name)
    script(folder, "mute", f"exec >&- 2>&-; echo closed > {folder}/closed; read line < {folder}/go")
    running.ask("mute", EVENT)
    running.step()
    with (folder / "closed").open("rb", buffering=0) as told, (folder / "go").open("r+b", buffering=0) as gate:
        assert told.readline() == b"closed\n"
        running.step()
        assert select.select(running.filenos(), [], [], 0) == ([], [], [])
        gate.write(b"\n")
        assert until_done(running) == []


def test_one_that_reads_nothing_is_no_failure(folder: Path, running: Hooks) -> None:
    script(folder, "deaf", "exec <&-; exit 0")
    running.ask("deaf", EVENT)
    assert until_done(running) == []


def test_no_more_than_two_run_and_what_finds_no_room_is_counted(folder: Path, running: Hooks) -> None:
    os.mkfifo(folder / "go")
    script(folder, "slow", f"echo x >> {folder}/ran; read line < {folder}/go")
    for _ in range(hooks.MOST_WAITING + 10):
        running.ask("slow", EVENT)
    assert running.step() == []
    assert len(running.filenos()) == 2 * hooks.MOST_RUNNING
    with (folder / "go").open("r+b", buffering=0) as gate:
        gate.write(b"\n" * 100)
        (left_out,) = until_done(running)
    assert left_out.data["count"] == 10
    assert len((folder / "ran").read_text().split()) == hooks.MOST_WAITING


def test_what_is_refused(folder: Path, tmp_path: Path, running: Hooks) -> None:
    script(folder, "open", "true", 0o777)
    script(folder, "plain", "true", 0o644)
    script(folder, "theirs", "true")
    script(tmp_path, "outside", "true")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "sub").mkdir()
    wrong = {
        "open": "may be written by others (mode 777)",
        "plain": "is not executable",
        "link": "is not a file",
        "sub": "is not a file",
        "none": "No such file or directory",
        "../outside": "is not the name of a script",
        "": "is not the name of a script",
    }
    if os.geteuid() == 0:
        os.chown(folder / "theirs", 12345, 0)
        wrong["theirs"] = "belongs to user 12345"
    for name, why in wrong.items():
        with pytest.raises(RefusedError) as refused:
            check(folder, name)
        assert why in str(refused.value)
        running.ask(name, EVENT)
        (failed,) = until_done(running)
        assert why in failed.text


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_may_write_is_refused(folder: Path, mode: int) -> None:
    script(folder, "good", "true")
    assert check(folder, "good")
    folder.chmod(mode)
    with pytest.raises(RefusedError, match="may be written by others"):
        check(folder, "good")


def test_a_folder_above_that_others_may_write_is_refused(folder: Path, tmp_path: Path) -> None:
    script(folder, "good", "true")
    tmp_path.chmod(0o777)
    with pytest.raises(RefusedError, match="may be written by others"):
        check(folder, "good")


@given(st.text())
def test_no_text_means_anything_to_a_shell(text: str) -> None:
    made = safe(text)
    assert not set(made) & set("`$;&|<>(){}[]*?!~#'\"\\\n\t\0^")
    assert not made.startswith("-")
    assert made.isascii()
    assert len(made) <= 256


@given(st.dictionaries(st.text(max_size=80), st.text(max_size=300) | st.none() | st.booleans() | st.integers()))
def test_any_data_makes_an_environment(data: dict[str, str | int | float | bool | None]) -> None:
    made = environment(Event(at_ms=1, kind="x.y", text="", data=data))
    assert all(name.isascii() and name.replace("_", "A").isalnum() for name in made)
    assert made["RACKHAND_EVENT_KIND"] == "x.y"
    assert len(made) < 48


def wait_gone(pid: int) -> None:
    """Until the process is no more, or a zombie that its parent has yet to look at."""
    wait_for(lambda: started(pid) is None)
