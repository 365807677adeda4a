"""Coalescing of single queues (ethtool's ioctl PERQUEUE around struct ethtool_coalesce; linux/ethtool.h)."""

import struct

from machine import Machine, MachineError
from wire.policy import Request, Values

_PERQUEUE, _GET, _SET = 0x4B, 0x0E, 0x0F
_MASK_WORDS = 128  # of 32 queues
_HEAD = struct.Struct(f"=II{_MASK_WORDS}I")
MOST_QUEUES = 32 * _MASK_WORDS
# struct ethtool_coalesce, behind its command; names as in machine.ethtool.COALESCE
_FIELDS = (
    *("rx_usecs", "rx_max_frames", "rx_usecs_irq", "rx_max_frames_irq"),
    *("tx_usecs", "tx_max_frames", "tx_usecs_irq", "tx_max_frames_irq", "stats_block_usecs"),
    *("use_adaptive_rx", "use_adaptive_tx"),
    *("pkt_rate_low", "rx_usecs_low", "rx_max_frames_low", "tx_usecs_low", "tx_max_frames_low"),
    *("pkt_rate_high", "rx_usecs_high", "rx_max_frames_high", "tx_usecs_high", "tx_max_frames_high"),
    "rate_sample_interval",
)
_COALESCE = struct.Struct(f"=I{len(_FIELDS)}I")
SETTABLE = (*_FIELDS[:8], "use_adaptive_rx", "use_adaptive_tx")


def read(machine: Machine, ifname: str, queues: range) -> list[dict[str, int]]:
    """The settings of these queues, without those that are 0 everywhere. Raises UnsupportedError, MachineError."""
    found = [_values(raw) for raw in _read(machine, ifname, queues)]
    used = {name for values in found for name in values if values[name] and name in SETTABLE}
    return [{name: values[name] for name in SETTABLE if name in used} for values in found]


def _read(machine: Machine, ifname: str, queues: range) -> list[bytes]:
    if queues.stop > MOST_QUEUES:
        raise MachineError(f"{ifname}: {queues.stop} queues are over {MOST_QUEUES}")
    size = _HEAD.size + len(queues) * _COALESCE.size
    request = _HEAD.pack(_PERQUEUE, _GET, *_mask(queues))
    reply = machine.ethtool_ioctl(ifname, request, size).ljust(size, b"\0")
    return [reply[at : at + _COALESCE.size] for at in range(_HEAD.size, size, _COALESCE.size)]


def _mask(queues: range) -> list[int]:
    bits = sum(1 << queue for queue in queues)
    return [bits >> (32 * word) & 0xFFFFFFFF for word in range(_MASK_WORDS)]


def _values(raw: bytes) -> dict[str, int]:
    return dict(zip(_FIELDS, _COALESCE.unpack(raw)[1:], strict=True))


def _one(op: Request) -> range:
    return range(int(op.item), int(op.item) + 1)


def read_values(machine: Machine, op: Request) -> Values:
    """Of a request "coalesce_queue" whose item is a queue: its settings."""
    (raw,) = _read(machine, op.ifname, _one(op))
    return dict(_values(raw))


def set_values(machine: Machine, op: Request) -> None:
    """Set what is named of one queue; the rest of it stays. Raises MachineError."""
    (raw,) = _read(machine, op.ifname, _one(op))
    values = {**_values(raw), **{name: int(value) for name, value in op.after.items()}}
    request = _HEAD.pack(_PERQUEUE, _SET, *_mask(_one(op)))
    content = _COALESCE.pack(_SET, *(values[name] for name in _FIELDS))
    machine.ethtool_ioctl(op.ifname, request + content, len(request) + len(content))
