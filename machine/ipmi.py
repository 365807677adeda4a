"""The BMC through the kernel's IPMI device: one request and its response, on the system interface (KCS, BT, SSIF)."""

import array
import fcntl
import os
import select
import struct
import time
from typing import TYPE_CHECKING

from machine import BusyError, MachineError, NotPresentError, failure

if TYPE_CHECKING:
    from machine.disguise import Disguise

DEVICES = ("/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0")
TIMEOUT_S = 15.0  # the driver itself gives up on a KCS request after 5 s, and asks four times
MAX_REPLY = 512
MAX_STRAYS = 16  # answers to a request of before, read and dropped
CHASSIS, APP, STORAGE, TRANSPORT, GROUP = 0x00, 0x06, 0x0A, 0x0C, 0x2C  # network functions
READS = frozenset(  # what may be asked: requests that change nothing
    {
        *((CHASSIS, 0x01), (APP, 0x01), (APP, 0x08), (APP, 0x37), (APP, 0x42)),  # status, device id, GUIDs, channel
        *((STORAGE, 0x40), (STORAGE, 0x48), (TRANSPORT, 0x02), (GROUP, 0x02)),  # SEL, its clock, LAN, DCMI power
    }
)
_SYSTEM_INTERFACE, _BMC_CHANNEL = 0x0C, 0x0F
_ADDRESS = struct.Struct("@ihB")  # struct ipmi_system_interface_addr
_REQUEST = struct.Struct("@PIlBBHP")  # struct ipmi_req: address, its length, msgid, and struct ipmi_msg
_REPLY = struct.Struct("@iPIlBBHP")  # struct ipmi_recv
_SENT = 2 << 30 | _REQUEST.size << 16 | ord("i") << 8 | 13  # _IOR: IPMICTL_SEND_COMMAND
_RECEIVED = 3 << 30 | _REPLY.size << 16 | ord("i") << 8 | 11  # _IOWR: IPMICTL_RECEIVE_MSG_TRUNC


def find() -> str:
    """The first IPMI device; raises NotPresentError."""
    for path in DEVICES:
        if os.path.exists(path):  # noqa: PTH110 - no Path for one question
            return path
    raise NotPresentError(f"no IPMI device: {', '.join(DEVICES)}")


def ask(path: str, netfn: int, command: int, data: bytes = b"", timeout_s: float = TIMEOUT_S) -> bytes:
    """Completion code and data of the BMC's response; raises NotPresentError without the device, BusyError when the
    BMC does not answer in time."""
    what = f"{path}: IPMI request {netfn:#04x} {command:#04x}"
    if (netfn, command) not in READS:
        raise MachineError(f"{what}: not one of those that only read")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise failure(error.errno or 0, path) from None
    try:
        _send(handle, netfn, command, data)
        return _receive(handle, what, time.monotonic() + timeout_s)
    except OSError as error:
        raise failure(error.errno or 0, what) from None
    finally:
        os.close(handle)


def _send(handle: int, netfn: int, command: int, data: bytes) -> None:
    address = array.array("B", _ADDRESS.pack(_SYSTEM_INTERFACE, _BMC_CHANNEL, 0).ljust(8, b"\0"))
    body = array.array("B", data or b"\0")
    where, size = address.buffer_info()
    request = _REQUEST.pack(where, size, 1, netfn, command, len(data), body.buffer_info()[0])
    fcntl.ioctl(handle, _SENT, request)


def _receive(handle: int, what: str, until: float) -> bytes:
    ready = select.poll()
    ready.register(handle, select.POLLIN)
    for _ in range(MAX_STRAYS):
        left = until - time.monotonic()
        if left <= 0 or not ready.poll(left * 1000):
            raise BusyError(f"{what}: the BMC does not answer")
        address = array.array("B", bytes(64))
        body = array.array("B", bytes(MAX_REPLY))
        frame = bytearray(_REPLY.pack(0, *address.buffer_info(), 0, 0, 0, MAX_REPLY, body.buffer_info()[0]))
        fcntl.ioctl(handle, _RECEIVED, frame)
        kind, _, _, _, _, _, size, _ = _REPLY.unpack(frame)
        if kind == 1:  # IPMI_RESPONSE_RECV_TYPE; events may come on the same handle
            return _checked(body.tobytes()[:size], what)
    raise MachineError(f"{what}: no response among {MAX_STRAYS} messages")


def _checked(reply: bytes, what: str) -> bytes:
    if not reply:
        raise MachineError(f"{what}: an empty response")
    return reply


_IPV4, _IPV6, _MAC = (3, 12, 14), (56, 59), (5, 13, 15)  # LAN parameters


def redact(call: tuple[str, ...], reply: bytes, disguise: "Disguise") -> bytes:
    """The response to a recorded call with stand-ins for the BMC's addresses and its GUIDs."""
    netfn, command = int(call[1], 16), int(call[2], 16)
    parameter = int(call[3][2:4] or "0", 16) if (netfn, command) == (TRANSPORT, 0x02) else -1
    if (netfn, command) in ((APP, 0x37), (APP, 0x08)):
        return reply[:1] + bytes.fromhex(disguise.word(reply[1:].hex()))
    if parameter in _IPV4 and len(reply) >= 6:
        return reply[:2] + disguise.ipv4(reply[2:6]) + reply[6:]
    if parameter in _IPV6 and len(reply) >= 20:
        return reply[:4] + disguise.ipv6(reply[4:20]) + reply[20:]
    return reply[:2] + disguise.mac(reply[2:8]) + reply[8:] if parameter in _MAC else reply
