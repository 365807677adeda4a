"""The monitor of a real QEMU that has no machine in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware_lab import daemon
from hardware_lab.failure import LabError
from hardware_lab.monitor import Monitor

QEMU = ("qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none")
ARGV = (*QEMU, "-qmp", "unix:qmp.sock,server=on,wait=off")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Of a QEMU that runs."""
    daemon.start(ARGV, tmp_path, "qemu")
    try:
        daemon.await_ready(tmp_path, "qemu", (tmp_path / "qmp.sock").exists)
        yield tmp_path
    finally:
        daemon.stop(tmp_path, "qemu")


@pytest.fixture
def monitor(folder: Path) -> Iterator[Monitor]:
    with Monitor(folder / "qmp.sock") as monitor:
        yield monitor


def test_a_command_returns_what_qemu_says(monitor: Monitor) -> None:
    assert monitor.run("query-status") == {"running": True, "status": "running"}
    assert monitor.run("query-version")["qemu"]["major"] >= 7
    assert monitor.run("qom-list", path="/objects") == [{"name": "type", "type": "string"}]
    assert monitor.human("info status") == "VM status: running"


def test_a_refusal_is_one_line_in_qemus_words_and_the_next_command_works(monitor: Monitor) -> None:
    with pytest.raises(LabError, match=r"^QEMU refuses make-tea: The command make-tea has not been found$"):
        monitor.run("make-tea")
    with pytest.raises(LabError, match=r"^QEMU refuses device_del: Device 'nic9' not found$"):
        monitor.run("device_del", id="nic9")
    with pytest.raises(LabError, match=r"^QEMU refuses 'device_del nic9': Error: Device 'nic9' not found$"):
        monitor.human("device_del nic9")
    assert monitor.run("query-status")["running"]


def test_events_that_came_before_are_kept_until_they_are_wanted(monitor: Monitor) -> None:
    for command in ("stop", "cont", "stop"):
        monitor.run(command)
    monitor.run("query-status")
    assert [event["event"] for event in monitor.events] == ["STOP", "RESUME", "STOP"]
    assert monitor.wait_for(lambda event: event["event"] == "RESUME")["event"] == "RESUME"
    assert [event["event"] for event in monitor.events] == ["STOP", "STOP"]
    with pytest.raises(LabError, match="did not say within its time"):
        monitor.wait_for(lambda event: event["event"] == "RESUME", 0.05)
    monitor.run("cont")
    assert monitor.wait_for(lambda event: event["event"] == "RESUME")
    assert monitor.run("query-status")["running"]


def test_an_answer_longer_than_one_read_is_read_whole(monitor: Monitor) -> None:
    schema = monitor.run("query-qmp-schema")
    assert len(str(schema)) > 100_000
    assert monitor.run("query-status")["running"]


def test_one_hangs_up_and_the_next_is_heard(folder: Path) -> None:
    for _ in range(3):
        with Monitor(folder / "qmp.sock") as monitor:
            assert monitor.run("query-status")["running"]


def test_a_qemu_that_ends_is_one_line(monitor: Monitor, folder: Path) -> None:
    monitor.run("quit")
    with pytest.raises(LabError, match=r"^QEMU (has ended|does not answer: Connection reset by peer)$"):
        monitor.wait_for(lambda event: event["event"] == "NEVER")
    assert daemon.await_(lambda: daemon.find(folder, "qemu") is None, 60)
    with pytest.raises(LabError, match=r"^no machine answers at [^\n]*qmp\.sock: "):
        Monitor(folder / "qmp.sock")


def test_without_a_socket_it_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^no machine answers at [^\n]*: No such file or directory$"):
        Monitor(tmp_path / "qmp.sock")
