"""Processes that outlive the command that started them: found again, never mistaken, always ended."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware_lab import daemon
from hardware_lab.failure import LabError

NAME = "sleeper"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose process is ended after the test."""
    yield tmp_path
    daemon.stop(tmp_path, NAME)


def test_a_process_is_found_by_its_folder_and_ended(folder: Path) -> None:
    daemon.start(["sleep", "1000"], folder, NAME)
    pid = daemon.find(folder, NAME)
    assert pid
    assert os.getsid(pid) == pid
    daemon.stop(folder, NAME)
    assert daemon.find(folder, NAME) is None
    assert not Path(f"/proc/{pid}").exists()
    daemon.stop(folder, NAME)


def test_a_hanging_process_is_ended_too(folder: Path) -> None:
    daemon.start(["sleep", "1000"], folder, NAME)
    daemon.send(folder, NAME, signal.SIGSTOP)
    daemon.stop(folder, NAME)
    assert daemon.find(folder, NAME) is None


def test_one_that_will_not_end_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "GRACE_S", 0.1)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); open('deaf', 'w').close(); time.sleep(1000)"
    daemon.start([sys.executable, "-c", code], folder, NAME)
    assert daemon.await_((folder / "deaf").exists, 60)
    pid = daemon.find(folder, NAME)
    assert pid
    daemon.stop(folder, NAME)
    assert not Path(f"/proc/{pid}/cwd").is_symlink()


def test_one_that_ended_is_not_found(folder: Path) -> None:
    daemon.start(["true"], folder, NAME)
    assert daemon.await_(lambda: daemon.find(folder, NAME) is None, 60)


@pytest.mark.parametrize("text", [f"{os.getpid()}\n", "0\n", "999999999\n", "no number\n", ""])
def test_a_number_that_is_not_its_own_is_never_taken_for_it(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{NAME}.pid").write_text(text)
    assert daemon.find(tmp_path, NAME) is None
    with pytest.raises(LabError, match="does not run"):
        daemon.send(tmp_path, NAME, signal.SIGTERM)


def test_a_missing_program_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^no-such-program: No such file or directory; `rackhand-lab setup`"):
        daemon.start(["no-such-program"], tmp_path, NAME)


def test_one_that_ends_at_once_says_why(tmp_path: Path) -> None:
    daemon.start(["sh", "-c", "echo first; echo the reason >&2; exit 3"], tmp_path, NAME)
    with pytest.raises(LabError, match=r"the reason, status 3$"):
        daemon.await_ready(tmp_path, NAME, lambda: False)
