"""Machine checks: set-up, counts and edges; records of mcelog's own tests, of the kernel's log and of Xen."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors import mce
from collectors.interrupts import parse_named
from collectors.mcerecord import MOST_RECORDS, Record, parse_code, parse_records, parse_status
from collectors.run import run
from machine.live import Live
from tests.collectors.conftest import write
from wire.facts import Mce
from wire.report import Sample, Severity, Status

SETUP = "sys/devices/system/machinecheck"
TABLE = """           CPU0       CPU2
  0:         45          0   IO-APIC   2-edge      timer
NMI:          1          2   Non-maskable interrupts
THR:          {thr}          0   Threshold APIC interrupts
DFR:          0          0   Deferred Error APIC interrupts
MCE:          0          {mce}   Machine check exceptions
MCP:        100        101   Machine check polls
ERR:          7
"""
LOG = """
[   61.1] mce: [Hardware Error]: Machine check events logged
[   61.1] [Hardware Error]: CPU 3: Machine Check: 0 Bank 7: dc00004000010091
[   61.1] [Hardware Error]: TSC 0 ADDR 12345678 MISC 8c
[   61.1] [Hardware Error]: PROCESSOR 0:50654 TIME 1700000000 SOCKET 0 APIC 0 microcode 2000065
[   62.0] mce: [Hardware Error]: CPU 1: Machine Check Exception: 5 Bank 0: be00000000800400
"""


def machine(root: Path, *, thr: int = 0, exceptions: int = 0) -> Live:
    write(root, {"proc/interrupts": TABLE.format(thr=thr, mce=exceptions)})
    return Live(str(root))


def test_the_set_up_of_the_first_cpu(tmp_path: Path) -> None:
    for cpu in (2, 10):
        banks: dict[str, str | bytes] = {
            f"{SETUP}/machinecheck{cpu}/bank{bank}": "ffffffffffffffff\n" for bank in range(11)
        }
        write(tmp_path, banks | {f"{SETUP}/machinecheck{cpu}/bank4": "0\n"})
    said = {"check_interval": "300", "ignore_ce": "0", "dont_log_ce": "1", "cmci_disabled": "0"}
    write(tmp_path, {f"{SETUP}/machinecheck2/{name}": f"{text}\n" for name, text in said.items()})
    result = run(mce, machine(tmp_path, thr=9), 0)
    assert result.facts == [
        Mce(banks=11, disabled_banks=[4], poll_s=300, ignore_corrected=False, hide_corrected=True, cmci_disabled=False)
    ]
    assert result.samples == [
        Sample("mce.exceptions", "", 0),
        Sample("mce.threshold_interrupts", "", 9),
        Sample("mce.deferred_interrupts", "", 0),
    ]


def test_rows_are_enough_and_a_machine_without_both_has_none(tmp_path: Path) -> None:
    assert run(mce, machine(tmp_path), 0).facts == [Mce()]
    write(tmp_path, {"proc/interrupts": "  CPU0\n 0: 1 x timer\nNMI: 3 Non-maskable\n"})
    assert run(mce, Live(str(tmp_path)), 0).status is Status.ABSENT


def test_what_rises_is_an_event_that_names_the_cpus(tmp_path: Path) -> None:
    live = machine(tmp_path, thr=4)
    assert run(mce, live, 0).events == []
    machine(tmp_path, thr=6, exceptions=1)
    found = {event.data["metric"]: event for event in run(mce, live, 0).events}
    assert set(found) == {"mce.exceptions", "mce.threshold_interrupts"}
    assert found["mce.exceptions"].severity is Severity.CRITICAL
    assert found["mce.exceptions"].text == "1 machine check exceptions on CPU 2"
    assert found["mce.threshold_interrupts"].data["errors"] == 2
    assert found["mce.threshold_interrupts"].data["cpus"] == "0"
    assert run(mce, live, 0).events == []


def test_named_rows_of_real_machines(data: Path) -> None:
    tables = [path.read_text(errors="replace") for path in sorted(data.glob("hosts/*/interrupts*")) if path.is_file()]
    checked = 0
    for rows in map(parse_named, tables):
        checked += "MCE" in rows
        assert "ERR" not in rows or len(next(iter(rows.values()))) == 1
        assert all(set(row) == set(next(iter(rows.values()))) for row in rows.values())
    assert checked, "no table with machine checks below hosts/"


@pytest.mark.parametrize(
    ("name", "records", "errors"),
    [
        ("dimm0", [Record(0, 2, 0x8800000000000080, None, 0)], ["memory generic on channel 0"]),
        ("iomca", [Record(0, 1, 0x9C00000000000E0B, 0xABCD, 0xABCDEF)], ["I/O error"]),
        ("unknown", [Record(0, 1, 0x9C0000000000040B, 0xABCD, 0xABCDEF)], ["internal, unclassified"]),
        ("simple1", [Record(0, 2, 0x1234, None, None)], ["unknown code 0x1234"]),
        ("skx_mirror1", [Record(0, 7, 0x8800000000000080, None, 1 << 63)], ["memory generic on channel 0"]),
        (
            "xen",
            [Record(1, 2, 0xD400008000040150, 0x182C480179CF0, None)],
            ["instruction cache instruction fetch, level 0"],
        ),
    ],
)
def test_records_of_mcelogs_tests(data: Path, name: str, records: list[Record], errors: list[str]) -> None:
    found = parse_records((data / "ras/mcelog" / name).read_text())
    assert found == records
    assert [parse_status(record.status).error for record in found] == errors


def test_records_in_the_kernels_log() -> None:
    first, second = parse_records(LOG)
    assert first == Record(3, 7, 0xDC00004000010091, 0x12345678, 0x8C)
    status = parse_status(first.status)
    assert (status.valid, status.overflow, status.uncorrected, status.corrected) == (True, True, False, 1)
    assert status.error == "memory read on channel 1"
    assert (second.cpu, second.bank) == (1, 0)
    assert parse_status(second.status).context_corrupt
    assert parse_status(second.status).error == "internal timer"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (0x0000, "no error"),
        (0x0005, "internal parity"),
        (0x0014, "data TLB, level 0"),
        (0x009F, "memory read"),
        (0x00C1, "memory scrubbing on channel 1"),
        (0x110A, "generic cache generic, level 2"),
        (0x017A, "generic cache eviction, level 2"),
        (0x0E0F, "bus or interconnect generic, any level"),
        (0x8000, "unknown code 0x8000"),
    ],
)
def test_codes_have_words(code: int, error: str) -> None:
    assert parse_code(code) == error


@given(st.integers(0, 2**64 - 1))
def test_any_status_has_a_meaning(status: int) -> None:
    said = parse_status(status)
    assert said.error.isprintable()
    assert said.corrected < 1 << 15


@given(st.lists(st.sampled_from([*LOG.splitlines(), "CPU 0 BANK", "STATUS 0xg", "(XEN) Bank 2: 1 at 2"]) | st.text()))
def test_any_text_is_records_or_none(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert all(0 <= record.status < 1 << 64 for record in parse_records(text))
    parse_named(text)


def test_a_flood_of_records_ends() -> None:
    assert len(parse_records(LOG * MOST_RECORDS)) == MOST_RECORDS
