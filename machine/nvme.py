"""NVMe admin commands that only read: Identify Controller and the log pages that say how a drive is.

NVM Express Base Specification 2.0: 5.17 Identify, 5.16 Get Log Page. Log pages are asked for with "retain asynchronous
event", so that reading one takes no event from the kernel.
"""

import array
import fcntl
import os
import re
import struct
from collections.abc import Callable

from machine import Machine, MachineError, NotPresentError, failure

IDENTIFY, GET_LOG_PAGE = 0x06, 0x02
IDENTIFY_BYTES = 4096
# Log pages whose reading starts nothing and clears nothing: errors, SMART and health, firmware slots, self-tests.
ERROR_LOG, HEALTH_LOG, FIRMWARE_LOG, SELF_TEST_LOG = 0x01, 0x02, 0x03, 0x06
LOG_PAGES = frozenset({ERROR_LOG, HEALTH_LOG, FIRMWARE_LOG, SELF_TEST_LOG})
HEALTH_BYTES, ERROR_BYTES = 512, 64  # of an entry of the error log
ALL_NAMESPACES = 0xFFFFFFFF

_ADMIN_CMD = 0xC0484E41  # _IOWR('N', 0x41, struct nvme_passthru_cmd)
_PASSTHRU = struct.Struct("=BBHIIIQQIIIIIIIIII")
_TIMEOUT_MS = 5000
_MOST_BYTES = 4096
_CONTROLLER = 1  # CNS
_RETAIN_EVENT = 1 << 15
_DEVICE = re.compile(r"nvme\d+")
_IDENTIFYING = ((4, 24), (112, 128), (768, 1024), (3072, 4096))  # serial number, FGUID, NQN, vendor's own


def read_identity(machine: Machine, device: str) -> bytes:
    """Identify Controller of "nvme0", 4096 bytes; raises MachineError."""
    return machine.nvme_admin(device, IDENTIFY, 0, _CONTROLLER, IDENTIFY_BYTES)


def read_log(machine: Machine, device: str, page: int, size: int) -> bytes:
    """`size` bytes (a multiple of four) of a log page of `LOG_PAGES`, of the whole controller; raises MachineError."""
    return machine.nvme_admin(device, GET_LOG_PAGE, ALL_NAMESPACES, page | _RETAIN_EVENT | (size // 4 - 1) << 16, size)


def check(device: str, opcode: int, cdw10: int, size: int) -> None:
    """Raise MachineError for what is not one of the reads above."""
    log = opcode == GET_LOG_PAGE and cdw10 & 0xFF in LOG_PAGES and not cdw10 & 0x7F00 and cdw10 & _RETAIN_EVENT
    if not (log or (opcode == IDENTIFY and cdw10 == _CONTROLLER)):
        raise MachineError(f"{device}: NVMe command {opcode:#x} with {cdw10:#x} is none of those that only read")
    if not _DEVICE.fullmatch(device):
        raise NotPresentError(f"{device!r} is not an NVMe controller")
    if not 0 < size <= _MOST_BYTES or size % 4 or (log and (cdw10 >> 16) + 1 != size // 4):
        raise MachineError(f"{device}: {size} bytes do not fit NVMe command {opcode:#x} with {cdw10:#x}")


def admin(path: str, opcode: int, nsid: int, cdw10: int, size: int) -> bytes:
    """Send one command to /dev/nvmeN; raises MachineError, also for what the drive answers but success."""
    buffer = array.array("B", bytes(size))
    address = buffer.buffer_info()[0]
    command = array.array(
        "B", _PASSTHRU.pack(opcode, 0, 0, nsid, 0, 0, 0, address, 0, size, cdw10, 0, 0, 0, 0, 0, _TIMEOUT_MS, 0)
    )
    what = f"{path}: NVMe command {opcode:#x}"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = fcntl.ioctl(handle, _ADMIN_CMD, command, True)
        finally:
            os.close(handle)
    except OSError as error:
        raise failure(error.errno or 0, what) from None
    if status:
        raise MachineError(f"{what}: the drive answers with status {status:#x}")
    return buffer.tobytes()


def public(reply: bytes, opcode: int, stand_in: Callable[[str], str]) -> bytes:
    """A reply without what identifies the drive: the serial number disguised, other names and vendor's bytes zero.

    `stand_in` must keep a text's length.
    """
    if opcode != IDENTIFY:
        return reply
    serial = reply[4:24].decode("latin-1")
    bare = serial.strip(" \0")
    told = serial.replace(bare, stand_in(bare)) if bare else serial
    kept = bytearray(reply)
    for start, end in _IDENTIFYING:
        kept[start:end] = bytes(len(kept[start:end]))
    kept[4:24] = told.encode("latin-1")[: len(reply[4:24])]
    return bytes(kept)
