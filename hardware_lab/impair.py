"""Bad cables: frames lost on a tap by an XDP program of six instructions, delayed by a filter of QEMU's."""

import ctypes
import os
import socket
import struct

from pyroute2 import IPRoute

from hardware_lab.failure import LabError
from hardware_lab.vm import Vm
from hardware_lab.wires import Wires, tap, within

_BPF, _PROG_LOAD, _TYPE_XDP = 321, 5, 6  # bpf(2) on x86-64
_XDP_DROP, _XDP_PASS = 1, 2
_RANDOM = 7  # BPF_FUNC_get_prandom_u32
_SKB_MODE = 2  # XDP_FLAGS_SKB_MODE


def lose(wires: Wires, server: int, nic: int, percent: float) -> None:
    """Drop that share of the frames that the server sends on this NIC; 0 ends it. Raises LabError."""
    if not 0 <= percent <= 100:
        raise LabError(f"loss is 0 to 100 percent, not {percent:g}")
    within(wires.namespace, lambda: _attach(tap(server, nic), percent))


def delay(vm: Vm, netdev: str, milliseconds: int) -> None:
    """Hold back frames of `w0`, ... or `wmgmt`, both ways, and let them go in bunches this far apart; 0 ends it.

    Raises LabError.
    """
    name = f"slow-{netdev}"
    with vm.monitor() as monitor:
        if name in {one["name"] for one in monitor.run("qom-list", path="/objects")}:
            monitor.run("object-del", id=name)
        if milliseconds:
            options = {"qom-type": "filter-buffer", "id": name, "netdev": netdev, "interval": milliseconds * 1000}
            monitor.run("object-add", **options)


def _attach(name: str, percent: float) -> None:
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        raise LabError(f"no tap {name}: is the server on?") from None
    with IPRoute() as routes:
        program = _load(_program(percent)) if percent else -1
        try:
            attributes = [("IFLA_XDP_FD", program), ("IFLA_XDP_FLAGS", _SKB_MODE)]
            routes.link("set", index=index, IFLA_XDP={"attrs": attributes})  # pyright: ignore[reportUnknownMemberType]
        finally:
            if program >= 0:
                os.close(program)


def _program(percent: float) -> bytes:
    """`return random() < share ? XDP_DROP : XDP_PASS`."""
    share = min(int(percent / 100 * 2**32), 2**32 - 1)
    return b"".join(
        [
            struct.pack("<BBhi", 0x85, 0, 0, _RANDOM),  # call
            struct.pack("<BBhI", 0xA6, 0, 2, share),  # if w0 < share skip two
            struct.pack("<BBhi", 0xB7, 0, 0, _XDP_PASS),
            struct.pack("<BBhi", 0x95, 0, 0, 0),  # exit
            struct.pack("<BBhi", 0xB7, 0, 0, _XDP_DROP),
            struct.pack("<BBhi", 0x95, 0, 0, 0),
        ]
    )


def _load(program: bytes) -> int:
    """A descriptor of the loaded program; raises LabError."""
    code, name = ctypes.create_string_buffer(program, len(program)), ctypes.create_string_buffer(b"GPL")
    head = (_TYPE_XDP, len(program) // 8, ctypes.addressof(code), ctypes.addressof(name))
    attributes = ctypes.create_string_buffer(struct.pack("<IIQQ", *head), 128)
    handle = ctypes.CDLL(None, use_errno=True).syscall(_BPF, _PROG_LOAD, attributes, 128)
    if handle < 0:
        raise LabError(f"the kernel takes no XDP program: {os.strerror(ctypes.get_errno())}")
    return int(handle)
