"""Programs of other projects: only those of the table, bounded, killed with their children."""

import os
from pathlib import Path

import pytest

from machine import MachineError, NotPresentError, programs
from machine.capture import Captured, Recording
from machine.live import Live


@pytest.fixture
def smartctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, to be written by the test; the only one there is."""
    monkeypatch.setattr(programs, "FOLDERS", (str(tmp_path),))
    path = tmp_path / "smartctl"
    path.touch(mode=0o755)
    return path


def test_what_it_prints_counts_and_its_status_does_not(smartctl: Path) -> None:
    smartctl.write_text('#!/bin/sh\necho "{$LC_ALL:$*}"; exit 4\n')
    recording = Recording(Live())
    assert recording.command("smartctl", "-a", "/dev/sda") == "{C:-a /dev/sda}\n"
    assert Captured(recording.dump(redact=False)).command("smartctl", "-a", "/dev/sda") == "{C:-a /dev/sda}\n"


def test_one_that_fails_without_a_word_is_an_error_with_its_complaint(smartctl: Path) -> None:
    smartctl.write_text("#!/bin/sh\necho 'one' >&2; echo 'no such device' >&2; exit 2\n")
    with pytest.raises(MachineError, match=r"^smartctl: no such device$"):
        Live().command("smartctl")


def test_one_that_does_not_end_is_killed_with_its_children(smartctl: Path, tmp_path: Path) -> None:
    smartctl.write_text(f"#!/bin/sh\nsleep 600 & echo $! >{tmp_path}/child; wait\n")
    with pytest.raises(MachineError, match=r"did not end within 0\.5 s"):
        programs.run("smartctl", timeout_s=0.5)
    child = int((tmp_path / "child").read_text())
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_only_programs_of_the_table_run_and_only_where_they_are_installed(smartctl: Path) -> None:
    smartctl.unlink()
    for name in ("smartctl", "sh", "../bin/sh", os.fspath(smartctl)):
        with pytest.raises(NotPresentError, match="is not installed"):
            Live().command(name)
    with pytest.raises(NotPresentError, match="no running machine"):
        Live("/proc").command("smartctl")
