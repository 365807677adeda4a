"""Announcements of devices: bytes of the kernel, and bytes of anybody."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from machine import MachineError, asking
from machine.monitor import GROUPS, parse
from machine.uevents import MAX_PROPERTIES, MAX_TEXT, parse_uevent, read_names

PLUGGED = (
    b"add@/devices/pci0000:00/0000:00:05.0\0ACTION=add\0DEVPATH=/devices/pci0000:00/0000:00:05.0\0SUBSYSTEM=pci\0"
    b"PCI_CLASS=20000\0PCI_ID=8086:10C9\0PCI_SLOT_NAME=0000:00:05.0\0SEQNUM=1200\0"
)


def test_a_device_that_was_plugged() -> None:
    found = parse_uevent(PLUGGED)
    assert found
    assert (found.action, found.subsystem, found.name) == ("add", "pci", "0000:00:05.0")
    assert found.properties["PCI_ID"] == "8086:10C9"


def test_what_is_no_announcement_of_the_kernel() -> None:
    assert parse_uevent(b"libudev\0\xfe\xed\xca\xfe") is None
    assert parse_uevent(b"") is None
    assert parse_uevent(b"add@/devices/x\0ACTION=remove\0SUBSYSTEM=pci\0") is None
    assert parse_uevent(b"add@/devices/x\0ACTION=add\0") is None


def test_control_characters_and_lengths_do_not_get_through() -> None:
    found = parse_uevent(b"add@/devices/x\0ACTION=add\0SUBSYSTEM=usb\0PRODUCT=\x1b[2J\n" + b"x" * 9000 + b"\0")
    assert found
    assert found.properties["PRODUCT"].startswith("\ufffd[2J x")
    assert max(len(value) for value in found.properties.values()) <= MAX_TEXT


@given(st.binary(max_size=400) | st.binary(max_size=200).map(PLUGGED.__add__))
def test_any_bytes_are_an_announcement_or_none(datagram: bytes) -> None:
    found = parse_uevent(datagram)
    assert found is None or (len(found.properties) <= MAX_PROPERTIES and found.devpath.isprintable())


HEADERS = [struct.pack("=IHHII", 16 + 400, kind, 0, 0, 7) for kind in (16, 17, 20, 21, 24, 25, 40)]


@given(
    st.sampled_from(GROUPS), st.sampled_from(HEADERS), st.binary(min_size=400, max_size=400) | st.binary(max_size=90)
)
def test_any_datagram_is_notices_or_one_error(group: str, header: bytes, body: bytes) -> None:
    try:
        notices = parse(group, header + body)
    except MachineError:
        return
    assert all(notice.what for notice in notices)


def test_udev_knows_nothing_of_a_device_that_is_not_there() -> None:
    assert read_names("/devices/pci0000:00/0000:ff:1f.7") == {}


def test_ports_of_generic_netlink_sockets() -> None:
    text = (
        "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
        "0000000056c60e15 0   812        00000000 0        0        0     2        0        4\n"
        "0000000056c60e16 16  0          00000000 0        0        0     2        0        5\n"
        "0000000056c60e17 16  913        00000000 0        0        0     2        0        6\n"
        "0000000056c60e18 16  4117426411 00000002 0        0        0     2        0        7\n"
        "cut"
    )
    assert asking.parse_speakers(text) == {913, 4117426411}
    assert asking.process(4117426411) == ""
    assert asking.process(0) == ""
    assert asking.process(1)
