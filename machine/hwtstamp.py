"""Which frames a NIC stamps with the time of its own clock: struct hwtstamp_config (linux/net_tstamp.h)."""

import array
import contextlib
import errno
import fcntl
import socket
import struct

from machine import Machine, MachineError, NotPresentError, failure
from wire.policy import Request, Values

TX = ("off", "on", "onestep-sync", "onestep-p2p")
RX = (
    "none",
    "all",
    "some",
    "ptpv1-l4-event",
    "ptpv1-l4-sync",
    "ptpv1-l4-delay-req",
    "ptpv2-l4-event",
    "ptpv2-l4-sync",
    "ptpv2-l4-delay-req",
    "ptpv2-l2-event",
    "ptpv2-l2-sync",
    "ptpv2-l2-delay-req",
    "ptpv2-event",
    "ptpv2-sync",
    "ptpv2-delay-req",
    "ntp-all",
)
PROGRAMS = ("ptp4l", "phc2sys", "ts2phc", "timemaster", "chronyd", "sfptpd", "ptp-kvm")  # that steer PTP clocks
_CONFIG = struct.Struct("=iii")  # flags, tx_type, rx_filter
_SIOCSHWTSTAMP = 0x89B0


def read(machine: Machine, ifname: str) -> tuple[str, str]:
    """What is sent and what is received with a stamp: words of `TX` and `RX`. Raises MachineError."""
    config = machine.hwtstamp(ifname)
    if len(config) < _CONFIG.size:
        raise MachineError(f"{ifname}: timestamping of {len(config)} bytes is too short")
    _, tx, rx = _CONFIG.unpack_from(config)
    return _word(TX, tx), _word(RX, rx)


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else str(number)


def clock_owners(machine: Machine) -> dict[int, str]:
    """PTP clock by index -> the program that has it open, of those in `PROGRAMS`."""
    found: dict[int, str] = {}
    for pid in filter(str.isdigit, machine.names("/proc")):
        with contextlib.suppress(MachineError):  # it ended meanwhile, or is not ours to look into
            name = machine.read(f"/proc/{pid}/comm")
            if name in PROGRAMS:
                targets = (machine.target(f"/proc/{pid}/fd/{fd}") for fd in machine.names(f"/proc/{pid}/fd"))
                clocks = [text.removeprefix("/dev/ptp") for text in targets if text.startswith("/dev/ptp")]
                found |= {int(index): name for index in clocks if index.isdigit()}
    return found


def read_values(machine: Machine, op: Request) -> Values:
    """`tx` and `rx`. Raises MachineError."""
    tx, rx = read(machine, op.ifname)
    return {"tx": tx, "rx": rx}


def set_values(machine: Machine, op: Request) -> None:
    """Set what the request names, the rest stays; the driver may stamp more than was asked for. Raises MachineError."""
    wanted = {**read_values(machine, op), **op.after}
    if wanted["tx"] not in TX or wanted["rx"] not in RX:
        raise NotPresentError(f"{op.ifname}: no timestamping {wanted['tx']}, {wanted['rx']}")
    config = array.array("B", _CONFIG.pack(0, TX.index(str(wanted["tx"])), RX.index(str(wanted["rx"]))))
    argument = struct.pack("@16sP16x", op.ifname.encode(), config.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        try:
            fcntl.ioctl(control, _SIOCSHWTSTAMP, argument)
        except OSError as error:
            refused = error.errno == errno.ERANGE  # it has no such filter
            code = errno.EOPNOTSUPP if refused else error.errno or 0
            raise failure(code, f"{op.ifname}: timestamping", "the NIC cannot" if refused else "") from None
