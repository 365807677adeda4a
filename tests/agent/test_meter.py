"""What the gate counts, from the kernel's own texts."""

import pytest

from agent.meter import Meter, checksum, parse_busy, parse_tcp, parse_wakeups
from machine.live import Live

STAT = "cpu  100 20 300 4000 500 60 70 8 9 10\ncpu0 50 10 150 2000 250 30 35 4 4 5\nintr 5\n"
SOFTIRQS = (
    "                    CPU0       CPU1\n      NET_TX:         10          0\n      NET_RX:       5000        250\n"
)
SNMP = "Ip: Forwarding\nIp: 1\nTcp: RtoMin OutSegs RetransSegs\nTcp: 200 9000 12\n"


def test_a_cpu_is_busy_when_it_neither_idles_nor_waits_for_a_disk() -> None:
    assert parse_busy(STAT) == pytest.approx((100 + 20 + 300 + 60 + 70 + 8) / 100)


def test_what_a_kernel_does_not_have_is_none() -> None:
    assert parse_wakeups(SOFTIRQS) == 5250
    assert parse_tcp(SNMP) == (9000, 12)
    assert parse_wakeups("") == 0
    assert parse_tcp("") == (0, 0)


def test_a_checksum_verifies_itself() -> None:
    head = b"\x08\x00\x00\x00\x12\x34\x00\x01"
    whole = head[:2] + checksum(head).to_bytes(2, "big") + head[4:]
    assert checksum(whole) == 0


def test_counters_of_this_machine_only_grow() -> None:
    meter = Meter(Live(), [1])
    first, last = meter.window(0.05, str)
    assert last.at_s - first.at_s >= 0.05
    assert last.busy_s >= first.busy_s
    assert last.packets >= first.packets
    assert meter.window(60.0, lambda: "told to stop")[1].at_s < last.at_s + 30, "a reason to stop ends it"
