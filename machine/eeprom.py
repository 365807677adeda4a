"""Bytes of a NIC's transceiver: ethtool netlink MODULE_EEPROM_GET, else the two ioctls that older drivers have.

Reads on the module's bus are slow, about 0.1 ms per byte, and flags are cleared by them: ask for what is needed, once.
"""

import errno
import struct
from typing import NamedTuple

from machine import Machine, MachineError, NotPresentError, ethtool, nla

GET = 31  # ETHTOOL_MSG_MODULE_EEPROM_GET
_OFFSET, _LENGTH, _PAGE, _BANK, _ADDRESS, _DATA = 2, 3, 4, 5, 6, 7
_GMODULEINFO, _GMODULEEEPROM = 0x42, 0x43
_INFO = struct.Struct("=III8I")  # struct ethtool_modinfo
_REQUEST = struct.Struct("=IIII")  # struct ethtool_eeprom, without its data
_SFP_TYPES = frozenset({1, 2})  # ETH_MODULE_SFF_8079, ETH_MODULE_SFF_8472
BLOCK = 128
LOWER, A0, A2 = -1, 0x50, 0x51
MOST = 32 * 1024
EMPTY = frozenset({errno.ENODEV, errno.ENXIO})  # what a driver says that could read a module, were there one


class Flat(NamedTuple):
    """What the ioctl has of a module: one run of bytes."""

    sfp: bool  # A0h and then A2h; else the lower half and then page after page
    size: int


class Read(NamedTuple):
    """A run of bytes within one block; `offset` counts from the block's first byte."""

    address: int
    bank: int
    page: int  # LOWER for bytes 0 to 127
    offset: int = 0
    length: int = BLOCK


def read(machine: Machine, ifindex: int, run: Read) -> bytes:
    """Through netlink. Raises UnsupportedError where the driver has only the ioctl or nothing, NotPresentError for an
    empty cage, MachineError when the module does not answer."""
    upper = run.page != LOWER
    request = (
        ethtool.header(ifindex),
        nla.u32(_OFFSET, run.offset + (BLOCK if upper else 0)),
        nla.u32(_LENGTH, run.length),
        nla.u8(_PAGE, run.page if upper else 0),
        nla.u8(_BANK, run.bank),
        nla.u8(_ADDRESS, run.address),
    )
    for reply in machine.genl(ethtool.FAMILY, GET, b"".join(request)):
        data = nla.table(reply.payload).get(_DATA, b"")
        if len(data) != run.length:
            raise MachineError(f"module answers {len(data)} of {run.length} bytes")
        return data
    raise MachineError(f"module of interface {ifindex}: no answer")


def read_info(machine: Machine, ifname: str) -> Flat:
    """What the ioctl has of the module. Raises UnsupportedError, NotPresentError, MachineError as `read` does."""
    reply = machine.ethtool_ioctl(ifname, struct.pack("=I", _GMODULEINFO), _INFO.size)
    if len(reply) < _INFO.size:
        raise MachineError(f"{ifname}: module information of {len(reply)} bytes is too short")
    _, kind, size, *_ = _INFO.unpack_from(reply)
    return Flat(kind in _SFP_TYPES, min(size, MOST))


def read_flat(machine: Machine, ifname: str, flat: Flat, run: Read) -> bytes:
    """Through the ioctl; raises NotPresentError for bytes that the driver does not have."""
    at = place(flat, run)
    if at is None:
        raise NotPresentError(f"{ifname}: page {run.page:02x}h is not in the {flat.size} bytes of the ioctl")
    reply = machine.ethtool_ioctl(ifname, _REQUEST.pack(_GMODULEEEPROM, 0, at, run.length), _REQUEST.size + run.length)
    data = reply[_REQUEST.size : _REQUEST.size + run.length]
    if len(data) != run.length:
        raise MachineError(f"{ifname}: module answers {len(data)} of {run.length} bytes")
    return data


def place(flat: Flat, run: Read) -> int | None:
    """Where a run lies in the ioctl's bytes; None where it does not."""
    block = 0 if run.page == LOWER else run.page + 1
    if flat.sfp:
        if block > 1:
            return None
        block += 2 if run.address == A2 else 0
    elif run.address != A0 or run.bank:
        return None
    at = BLOCK * block + run.offset
    return at if at + run.length <= flat.size else None


class Module:
    """The module in one NIC's cage, by whichever way its driver has."""

    def __init__(self, machine: Machine, ifindex: int, ifname: str, flat: Flat | None = None) -> None:
        self._machine = machine
        self._ifindex = ifindex
        self._ifname = ifname
        self.flat = flat  # None: netlink

    def read(self, run: Read) -> bytes:
        """The bytes; the first read finds out which way there is. Raises as the two ways do."""
        if self.flat is not None:
            return read_flat(self._machine, self._ifname, self.flat, run)
        try:
            return read(self._machine, self._ifindex, run)
        except NotPresentError as error:
            if error.code in EMPTY:
                raise
            self.flat = read_info(self._machine, self._ifname)
            return read_flat(self._machine, self._ifname, self.flat, run)
