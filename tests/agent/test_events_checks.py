"""Machine checks from the kernel's log."""

import os
from pathlib import Path

import pytest

from agent.events import checks
from machine import NotPresentError
from machine.kmsg import PATH, KernelLog
from wire.report import Severity

CORRECTED = [
    "mce: [Hardware Error]: Machine check events logged",
    "mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 7: 9c00004000010091",
    "mce: [Hardware Error]: TSC 0 ADDR 12345678 MISC 8c ",
    "mce: [Hardware Error]: PROCESSOR 0:60fb1 TIME 1700000000 SOCKET 0 APIC 0 microcode 1000065",
]
FATAL = ["mce: [Hardware Error]: CPU 1: Machine Check Exception: 5 Bank 4: b200000000070f0f"]


def test_a_record_is_an_event_with_bank_address_and_what_failed() -> None:
    (event,) = checks.events(["usb 1-1: new device", *CORRECTED, "eth0: link up"])
    assert (event.kind, event.key, event.severity) == ("mce.record", "cpu3", Severity.WARNING)
    assert event.text == "CPU 3, bank 7: corrected memory read on channel 1 at 0x12345678"
    assert event.data == {"status": "0x9c00004000010091", "address": 0x12345678, "misc": 0x8C}


def test_an_uncorrected_one_is_critical() -> None:
    corrected, fatal = checks.events(CORRECTED + FATAL)
    assert (corrected.severity, fatal.severity) == (Severity.WARNING, Severity.CRITICAL)
    assert fatal.text.startswith("CPU 1, bank 4: uncorrected bus or interconnect")


@pytest.mark.root
def test_the_log_is_read_from_its_end_without_waiting() -> None:
    log = KernelLog()
    assert "rackhand test: first" not in log.lines()
    for word in ("first", "second"):
        Path(PATH).write_text(f"rackhand test: {word}\n")
    assert [line for line in log.lines() if line.startswith("rackhand test")] == [
        "rackhand test: first",
        "rackhand test: second",
    ]
    assert not [line for line in log.lines() if line.startswith("rackhand test")]
    log.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(log.fileno())


def test_without_a_log_nothing_is_watched() -> None:
    with pytest.raises(NotPresentError):
        KernelLog("/nonexistent/kmsg")
    watched = checks.Checks()
    watched.close()
    assert (watched.read(), watched.filenos()) == ([], [])
