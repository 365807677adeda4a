"""NVMe admin commands: only those that read, what a capture keeps of them, and smartctl's JSON without serials."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine import MachineError, NotPresentError, nvme
from machine.capture import Captured, Recording
from machine.disguise import Disguise
from machine.live import Live
from machine.tape import Tape

RETAIN = 1 << 15
SERIAL = "S4EVNF0M123456"


def identity() -> bytes:
    """Identify Controller of a drive that says who it is wherever it can."""
    page = bytearray(4096)
    page[0:4] = b"\x4d\x14\x4d\x14"
    page[4:24] = SERIAL.encode().ljust(20)
    page[24:64] = b"SAMSUNG MZQLB1T9HAJR-00007".ljust(40)
    page[64:72] = b"EDA5502Q"
    page[112:128] = bytes(range(1, 17))
    page[266:270] = b"\x57\x01\x61\x01"
    page[768:1024] = f"nqn.2014.08.org.nvmexpress:144d144d{SERIAL}      MZQLB".encode().ljust(256, b"\0")
    page[3072:3086] = SERIAL.encode()
    return bytes(page)


class Drive(Live):
    """A machine with one drive, which answers as it is asked."""

    def nvme_admin(self, device: str, opcode: int, nsid: int, cdw10: int, size: int) -> bytes:  # noqa: ARG002
        nvme.check(device, opcode, cdw10, size)
        if device != "nvme0":
            raise NotPresentError(f"/dev/{device}: No such file or directory")
        return identity() if opcode == nvme.IDENTIFY else bytes((cdw10 & 0xFF,)) * size

    def read_bytes(self, path: str) -> bytes:  # noqa: ARG002
        return (SERIAL + "   \n").encode()


@pytest.mark.parametrize(
    ("opcode", "cdw10"),
    [
        *(
            (opcode, 1)
            for opcode in (0x00, 0x01, 0x05, 0x08, 0x09, 0x0C, 0x0D, 0x10, 0x11, 0x14, 0x80, 0x81, 0x84, 0xC0)
        ),
        *((0x02, page | RETAIN | 127 << 16) for page in (0x00, 0x05, 0x07, 0x08, 0x0D, 0x70, 0x80, 0x81, 0xC0, 0xCA)),
        (0x02, 2 | 127 << 16),  # would take the event from the kernel
        (0x02, 2 | RETAIN | 1 << 8 | 127 << 16),  # a log specific field
        (0x02, 2 | RETAIN | 126 << 16),  # not as long as the buffer
        (0x06, 0x00),
        (0x06, 0x02),
    ],
)
def test_nothing_but_a_read_gets_to_a_drive(opcode: int, cdw10: int) -> None:
    with pytest.raises(MachineError):
        Live().nvme_admin("nvme99", opcode, 0, cdw10, 512)


@pytest.mark.parametrize("device", ["", "nvme", "nvme0n1", "../sda", "nvme0/x", "null"])
def test_only_a_controller_is_asked(device: str) -> None:
    with pytest.raises(NotPresentError):
        nvme.read_identity(Live(), device)


def test_a_drive_that_is_not_there_is_not_present(tmp_path: Path) -> None:
    with pytest.raises(NotPresentError):
        nvme.read_log(Live(), "nvme9999", nvme.HEALTH_LOG, 512)
    with pytest.raises(NotPresentError, match="no running machine"):
        nvme.read_identity(Live(str(tmp_path)), "nvme0")


def test_what_is_no_nvme_device_is_unsupported(tmp_path: Path) -> None:
    plain = tmp_path / "nvme0"
    plain.write_text("")
    with pytest.raises(NotPresentError):
        nvme.admin(str(plain), nvme.IDENTIFY, 0, 1, 4096)


def test_a_capture_holds_the_replies_and_names_no_drive() -> None:
    recording = Recording(Drive())
    assert nvme.read_identity(recording, "nvme0")[4:24].decode().strip() == SERIAL
    assert nvme.read_log(recording, "nvme0", nvme.HEALTH_LOG, 512) == b"\2" * 512
    assert recording.read("/sys/class/nvme/nvme0/serial") == SERIAL
    with pytest.raises(NotPresentError):
        nvme.read_identity(recording, "nvme1")
    whole = Captured(recording.dump(redact=False))
    assert nvme.read_identity(whole, "nvme0") == identity()

    text = recording.dump()
    assert SERIAL not in text
    assert SERIAL.encode().hex() not in text
    again = Captured(text)
    page = nvme.read_identity(again, "nvme0")
    assert page[4:24].decode().strip() == again.read("/sys/class/nvme/nvme0/serial").strip() != SERIAL
    assert page[24:72] == identity()[24:72]
    assert page[266:270] == identity()[266:270]
    assert not any(page[112:128] + page[768:1024] + page[3072:])
    assert nvme.read_log(again, "nvme0", nvme.HEALTH_LOG, 512) == b"\2" * 512
    with pytest.raises(NotPresentError):
        nvme.read_identity(again, "nvme1")


@given(st.binary(max_size=4096))
def test_whatever_a_drive_answers_keeps_its_length(reply: bytes) -> None:
    public = nvme.public(reply, nvme.IDENTIFY, Disguise(b"salt").word)
    assert len(public) == len(reply)
    assert nvme.public(reply, nvme.GET_LOG_PAGE, Disguise(b"salt").word) == reply


def identifiers(said: object, name: str = "") -> set[str]:
    """Serial numbers and the drive's own part of world-wide names in smartctl's JSON."""
    if isinstance(said, dict):
        own = {str(said["id"])} if name == "wwn" and "id" in said else set()
        return own.union(*(identifiers(value, key) for key, value in said.items()))
    if isinstance(said, list):
        return set[str]().union(*(identifiers(value) for value in said))
    return {str(said)} if name in ("serial_number", "logical_unit_id") else set()


def test_no_serial_number_that_smartctl_told_survives_a_capture(data: Path) -> None:
    paths = sorted(
        path for folder in ("smartctl_exporter", "scrutiny") for path in (data / "storage" / folder).glob("*.json")
    )
    assert paths
    told: set[str] = set()
    for path in paths:
        recording = Recording(Live())
        recording.tape = {("command", "smartctl", "-a", "/dev/sda"): path.read_bytes()}
        text = recording.dump()
        was, is_now = json.loads(path.read_text()), json.loads(Captured(text).command("smartctl", "-a", "/dev/sda"))
        assert was.keys() == is_now.keys()
        secret = {word.strip() for word in identifiers(was) if len(word.strip()) > 4 and word.strip(" 0xX*-")}
        assert not identifiers(is_now) & secret, path.name
        told |= secret
    assert len(told) > 5


@pytest.mark.parametrize("text", ["", "Smartctl: Device Read Identity Failed S4EVNF0M123456", "[" * 100_000, "{"])
def test_what_is_no_json_is_left_out(text: str) -> None:
    tape: Tape = {("command", "smartctl", "-a", "/dev/sda"): text.encode()}
    recording = Recording(Live())
    recording.tape = tape
    assert Captured(recording.dump()).command("smartctl", "-a", "/dev/sda") == ""
