"""Reading a transceiver: requests as the kernel wants them, short answers, captures without serial numbers."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_lab import eeprom as lab
from hardware_lab.eeprom import Optic
from machine import (
    MachineError,
    NotPresentError,
    Reply,
    UnsupportedError,
    eeprom,
    eeprom_public,
    ethtool,
    failure,
    nla,
)
from machine.capture import Captured, Recording
from machine.disguise import Disguise
from machine.eeprom import A0, A2, LOWER, Flat, Read, place

SERIAL = "SN4711XYZ0815ABC"


class Driver:
    """Answers as a driver does: netlink where it has it, the ioctl else."""

    def __init__(self, module: lab.Module, *, netlink: bool, short: int = 0, errors: tuple[int, int] = (0, 0)) -> None:
        self.module = module
        self.short = short
        self.errors = errors if netlink else (errors[0] or 95, errors[1])
        self.ioctls = 0

    def genl(self, family: str, command: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        assert (family, command, dump) == ("ethtool", eeprom.GET, False)
        if self.errors[0]:
            raise failure(self.errors[0], "ethtool request 31")
        asked = nla.table(payload)
        offset, length, page, bank, address = (nla.number(asked[kind]) for kind in (2, 3, 4, 5, 6))
        data = lab.peek(self.module, "a2" if address == A2 else "a0", lab.place(page, offset, bank), length)
        return [Reply(32, ethtool.header(7) + nla.attr(7, data[: length - self.short]))]

    def ethtool_ioctl(self, ifname: str, request: bytes, size: int) -> bytes:
        self.ioctls += 1
        if self.errors[1]:
            raise failure(self.errors[1], f"{ifname}: ethtool ioctl")
        spaces = [lab.peek(self.module, "a0", 0, 256), lab.peek(self.module, "a2", 0, 256)]
        sfp = lab.form_of(self.module) == "sfp"
        flat = b"".join(spaces) if sfp else lab.peek(self.module, "a0", 0, 640)
        (command,) = struct.unpack_from("=I", request)
        if command == 0x42:
            return struct.pack("=III8I", command, 2 if sfp else 3, len(flat), *[0] * 8)[: size - self.short]
        offset, length = struct.unpack_from("=II", request, 8)
        assert size == 16 + length
        return (request + flat[offset : offset + length])[: size - self.short]


def module(form: lab.Form) -> lab.Module:
    return lab.build(Optic(form=form, serial=SERIAL))


@pytest.mark.parametrize("netlink", [True, False])
def test_both_ways_give_the_same_bytes(netlink: bool) -> None:
    for form in lab.LANES:
        there = module(form)
        read = eeprom.Module(Driver(there, netlink=netlink), 7, "eth0").read  # type: ignore[arg-type]
        assert read(Read(A0, 0, LOWER)) == there.a0[0]
        assert read(Read(A0, 0, 0, 56, 40)) == lab.peek(there, "a0", 128 + 56, 40)
        if form == "sfp":
            assert read(Read(A2, 0, LOWER, 96, 24)) == lab.peek(there, "a2", 96, 24)
        if form == "qsfp28":
            assert read(Read(A0, 0, 3)) == there.a0[4]


@pytest.mark.parametrize("netlink", [True, False])
def test_an_answer_that_is_too_short_is_an_error(netlink: bool) -> None:
    read = eeprom.Module(Driver(module("sfp"), netlink=netlink, short=1), 7, "eth0").read  # type: ignore[arg-type]
    with pytest.raises(MachineError, match=r"\d+ (of 128 )?bytes"):
        read(Read(A0, 0, LOWER))


def test_the_ioctl_has_what_it_has() -> None:
    assert place(Flat(sfp=True, size=512), Read(A2, 0, 0)) == 384
    assert place(Flat(sfp=True, size=256), Read(A2, 0, LOWER)) is None
    assert place(Flat(sfp=True, size=512), Read(A2, 0, 2)) is None
    assert place(Flat(sfp=False, size=640), Read(A0, 0, 3)) == 512
    assert place(Flat(sfp=False, size=640), Read(A0, 1, 0)) is None
    assert place(Flat(sfp=False, size=256), Read(A0, 0, 1)) is None
    read = eeprom.Module(Driver(module("qsfp-dd"), netlink=False), 7, "eth0").read  # type: ignore[arg-type]
    with pytest.raises(NotPresentError, match="page 11h is not in the 640 bytes"):
        read(Read(A0, 0, 0x11))


def test_an_empty_cage_is_not_asked_twice() -> None:
    driver = Driver(module("sfp"), netlink=True, errors=(19, 0))
    with pytest.raises(NotPresentError):
        eeprom.Module(driver, 7, "eth0").read(Read(A0, 0, LOWER))  # type: ignore[arg-type]
    assert driver.ioctls == 0


def test_a_driver_without_either_is_unsupported() -> None:
    driver = Driver(module("sfp"), netlink=False, errors=(0, 95))
    with pytest.raises(UnsupportedError):
        eeprom.Module(driver, 7, "eth0").read(Read(A0, 0, LOWER))  # type: ignore[arg-type]


@pytest.mark.parametrize("netlink", [True, False])
@pytest.mark.parametrize("form", list(lab.LANES))
def test_a_redacted_capture_has_another_serial_number_and_right_sums(form: lab.Form, netlink: bool) -> None:
    there = lab.poke(module(form), "a0", 100 if form == "sfp" else 230, b"SECRET")
    recording = Recording(Driver(there, netlink=netlink))  # type: ignore[arg-type]
    runs = [Read(A0, 0, LOWER), Read(A0, 0, 0), Read(A0, 0, 0, 56, 40), Read(A0, 0, 0, 32, 64)]
    for run in runs:
        eeprom.Module(recording, 7, "eth0").read(run)
    whole, text = recording.dump(redact=False), recording.dump()
    assert SERIAL.encode().hex() in whole
    for word in (SERIAL, SERIAL[:8], SERIAL[8:], "SECRET"):
        assert word.encode().hex() not in text
    read = eeprom.Module(Captured(text), 7, "eth0").read
    shown = lab.poke(there, "a0", 0, read(runs[0]) + read(runs[1]))
    assert lab.with_sums(shown).a0[0] == shown.a0[0]
    assert lab.with_sums(shown).a0[1] == shown.a0[1]
    assert b"LABOPTIC" in read(runs[0]) + read(runs[1])


RUNS = st.builds(
    Read,
    st.sampled_from([A0, A2, 0]),
    st.just(0),
    st.sampled_from([LOWER, 0, 3]),
    st.integers(0, 127),
    st.integers(1, 128),
)


@given(st.binary(max_size=200), RUNS)
def test_whatever_a_module_answered_keeps_its_length(data: bytes, run: Read) -> None:
    seen: list[tuple[str, ...]] = []
    word = Disguise(b"salt").word

    class Asked:
        def genl(self, family: str, command: int, payload: bytes) -> list[Reply]:
            seen.append(("genl", family, str(command), "get", payload.hex()))
            return []

    with pytest.raises(MachineError):
        eeprom.read(Asked(), 7, run)  # type: ignore[arg-type]
    (shown,) = eeprom_public.replies(seen[0], [Reply(32, ethtool.header(7) + nla.attr(7, data))], word)
    assert len(nla.table(shown.payload)[7]) == len(data)
    assert eeprom_public.replies(seen[0], [Reply(32, b"\xff" * 4 + data)], word) in (
        [],
        [Reply(32, b"\xff" * 4 + data)],
    )
    request = struct.pack("=IIII", 0x43, 0, 128 * run.page + 128, len(data))
    assert len(eeprom_public.flat(("ioctl", "eth0", "0", request.hex()), request + data, word)) == 16 + len(data)
