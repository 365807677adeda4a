"""Clocks: sources, synchronisation, PTP hardware clocks, and how NICs stamp frames."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import clock
from collectors.run import run
from machine import ethtool, nla, timex
from machine.capture import Captured, Recording
from machine.live import Live
from tests.collectors.conftest import write
from wire.facts import Clock, PtpClock, Timestamping
from wire.report import Status

PTP = "sys/class/ptp"
SOURCE = "sys/devices/system/clocksource/clocksource0"


def bitset(*names: str) -> bytes:
    bits = [nla.nest(1, nla.u32(1, at), nla.text(2, name)) for at, name in enumerate(names)]
    return nla.attr(1, b"") + nla.nest(3, *bits)


def test_node_exporters_clock_and_ptp_hardware_clock(exporter: Live, tmp_path: Path) -> None:
    assert Clock(source="tsc", available=["tsc", "hpet", "acpi_pm"]) in run(clock, exporter, 0).facts
    device = "sys/devices/pci0000:40/0000:40:01.3/0000:45:00.0"
    (tmp_path / device).mkdir(parents=True)
    (tmp_path / PTP).mkdir(parents=True)
    subprocess.run(["cp", "-a", f"{exporter.root}/{device}/ptp", str(tmp_path / device)], check=True)
    (tmp_path / PTP / "ptp0").symlink_to(f"../../../{device}/ptp/ptp0")  # the tree lacks the class
    assert run(clock, Live(str(tmp_path)), 0).facts == [
        PtpClock(
            key="0000:45:00.0",
            index=0,
            name="6805caf0cb12",
            max_adjustment_ppb=62499999,
            alarms=0,
            external_timestamps=2,
            periodic_outputs=2,
            pins=["SDP0", "SDP1", "SDP2", "SDP3"],
            pps=False,
            vclocks=0,
        )
    ]


def test_two_clocks_of_one_device_and_one_of_none(tmp_path: Path) -> None:
    for index in (0, 1, 10):
        folder = (
            f"sys/devices/pci0000:00/0000:00:03.0/ptp/ptp{index}" if index < 10 else "sys/devices/virtual/ptp/ptp10"
        )
        write(tmp_path, {f"{folder}/clock_name": ("igb", "igb", "ptp_mock")[index % 8] + "\n"})
        if index < 10:
            (tmp_path / folder / "device").symlink_to("../../../0000:00:03.0")
        (tmp_path / PTP).mkdir(parents=True, exist_ok=True)
        (tmp_path / PTP / f"ptp{index}").symlink_to(f"../../../{folder}")
    found = [fact for fact in run(clock, Live(str(tmp_path)), 0).facts if isinstance(fact, PtpClock)]
    assert [(fact.key, fact.index) for fact in found] == [("0000:00:03.0", 0), ("0000:00:03.0#2", 1), ("ptp_mock", 10)]


def test_a_machine_with_neither_is_absent(tmp_path: Path) -> None:
    assert run(clock, Live(str(tmp_path)), 0).status is Status.ABSENT


def test_here_the_kernel_tells_its_source_and_whether_it_is_synchronised() -> None:
    with Live() as machine:
        (found,) = [fact for fact in run(clock, machine, 0).facts if isinstance(fact, Clock)]
    path = Path("/") / SOURCE
    assert found.source == ((path / "current_clocksource").read_text().strip() if path.exists() else "")
    assert isinstance(found.synchronised, bool)
    assert -60 < (found.tai_offset_s or 0) < 60


def test_asking_for_the_clocks_state_changes_nothing_and_it_can_be_captured() -> None:
    recording = Recording(Live())
    before = recording.timex()
    assert set(before) == {"offset", "frequency", "max_error_us", "estimated_error_us", "status", "tai"}
    assert Captured(recording.dump()).timex() == before
    assert {name: timex.read()[name] for name in ("status", "frequency", "tai")} == {
        name: before[name] for name in ("status", "frequency", "tai")
    }


def test_loopback_stamps_by_software_here() -> None:
    with Live() as machine:
        said = ethtool.read_all_tsinfo(machine)
        assert {"software-receive", "software-system-clock"} <= set(said[1].capabilities)
        assert said[1].phc is None
        assert ethtool.read_tsinfo(machine, 1) == said[1]


def test_a_nic_with_a_hardware_clock() -> None:
    reply = {
        2: bitset("hardware-transmit", "hardware-receive", "hardware-raw-clock"),
        3: bitset("off", "on"),
        4: bitset("none", "all"),
        5: (3).to_bytes(4, "little"),
    }
    assert ethtool.parse_tsinfo(reply) == ethtool.Timestamps(
        ["hardware-transmit", "hardware-receive", "hardware-raw-clock"], ["off", "on"], ["none", "all"], 3
    )
    assert ethtool.parse_tsinfo({}).phc is None
    assert ethtool.parse_tsinfo({5: b"\xff\xff\xff\xff"}).phc is None


def test_nics_with_hardware_alone_have_a_row() -> None:
    with Live() as machine:
        rows = [fact for fact in run(clock, machine, 0).facts if isinstance(fact, Timestamping)]
    assert all((Path("/sys/class/net") / row.ifname / "device").exists() for row in rows)


@pytest.mark.parametrize(("status", "synchronised"), [(0x40, False), (0x2001, True), (0x2041, False)])
def test_the_bit_says_unsynchronised(tmp_path: Path, status: int, synchronised: bool) -> None:
    class Kept(Live):
        def timex(self) -> dict[str, int]:
            return {"status": status, "tai": 37}

    (found,) = run(clock, Kept(str(tmp_path)), 0).facts
    assert isinstance(found, Clock)
    assert (found.synchronised, found.tai_offset_s, found.pps) == (synchronised, 37, False)


@given(st.binary(min_size=208, max_size=208))
def test_any_bytes_are_a_state(raw: bytes) -> None:
    assert -(1 << 31) <= timex.parse(raw)["tai"] < 1 << 31
