"""The only code that reads or writes a machine.

`Machine` is what collectors see: `live.Live` is this machine, `capture.Captured` a recorded one, `capture.Recording`
passes on and records. `Writer` adds the writes; `change.LiveWriter` is the one that makes them.
"""

import errno
import os
from collections.abc import Collection
from typing import Any, NamedTuple, Protocol

from wire.policy import Request


class MachineError(Exception):
    """The machine could not be read or written; the message is one line."""

    retry = False
    code = 0  # the errno behind it, 0 when there is none


class NotPresentError(MachineError):
    """The file, device or operation is not there: normal, a collector is then absent."""


class UnsupportedError(NotPresentError):
    """The kernel or driver does not do that (EOPNOTSUPP, ENOTTY)."""


class VanishedError(NotPresentError):
    """What a request is about is no longer there, and took its settings with it."""


class DeniedError(MachineError):
    """Not allowed (EPERM, EACCES)."""


class BusyError(MachineError):
    """In use just now (EBUSY, EAGAIN); a retry may help."""

    retry = True


_CLASSES: dict[int, type[MachineError]] = {
    errno.ENOENT: NotPresentError,
    errno.ENODEV: NotPresentError,
    errno.ENXIO: NotPresentError,
    errno.ENOTDIR: NotPresentError,
    errno.EISDIR: NotPresentError,
    errno.ELOOP: NotPresentError,
    errno.ESRCH: NotPresentError,
    errno.ENODATA: NotPresentError,
    errno.ECONNREFUSED: NotPresentError,
    errno.ENETUNREACH: NotPresentError,
    errno.EHOSTUNREACH: NotPresentError,
    errno.EOPNOTSUPP: UnsupportedError,
    errno.ENOTTY: UnsupportedError,
    errno.ENOSYS: UnsupportedError,
    errno.EPROTONOSUPPORT: UnsupportedError,
    errno.EAFNOSUPPORT: UnsupportedError,
    errno.EPERM: DeniedError,
    errno.EACCES: DeniedError,
    errno.EROFS: DeniedError,
    errno.EBUSY: BusyError,
    errno.EAGAIN: BusyError,
    errno.EINTR: BusyError,
    errno.ENOBUFS: BusyError,
}


def failure(code: int, what: str, why: str = "") -> MachineError:
    """The error for an errno: `what` failed, `why` in the kernel's own words (default: those of the errno)."""
    error = _CLASSES.get(code, MachineError)(f"{what}: {why or os.strerror(code)}")
    error.code = code
    return error


class Reply(NamedTuple):
    """One netlink message: its type (rtnl) or command (generic netlink), and what follows that header."""

    kind: int
    payload: bytes


class Machine(Protocol):
    """Reads. Paths are absolute ("/sys/class/net"); a machine under another root maps them itself."""

    def read(self, path: str) -> str:
        """The file's text, outer white space and NULs stripped. Raises MachineError."""
        ...

    def read_bytes(self, path: str) -> bytes:
        """The file's bytes. Raises MachineError."""
        ...

    def names(self, path: str) -> list[str]:
        """Sorted names in a directory; raises NotPresentError when there is none."""
        ...

    def target(self, path: str) -> str:
        """What a symbolic link says, unresolved; raises NotPresentError."""
        ...

    def resolve(self, path: str) -> str:
        """The absolute path with every symbolic link followed; raises NotPresentError."""
        ...

    def rtnl(self, kind: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        """Send one rtnetlink request (header struct and attributes) and return its replies. Raises MachineError."""
        ...

    def genl(self, family: str, command: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        """Send one generic netlink request (attributes only) and return its replies. Raises MachineError."""
        ...

    def ethtool_ioctl(self, ifname: str, request: bytes, size: int) -> bytes:
        """SIOCETHTOOL with `request` in a buffer of `size` bytes; returns the buffer. Raises MachineError."""
        ...

    def hwtstamp(self, ifname: str) -> bytes:
        """SIOCGHWTSTAMP: struct hwtstamp_config of an interface. Raises MachineError."""
        ...

    def ipmi(self, netfn: int, command: int, data: bytes = b"") -> bytes:
        """Completion code and data of the BMC's response to a request that only reads; raises MachineError.

        NotPresentError without an IPMI device, BusyError when the BMC does not answer in time.
        """
        ...

    def nvme_admin(self, device: str, opcode: int, nsid: int, cdw10: int, size: int) -> bytes:
        """Answer of "nvme0" to one of the admin commands that only read (`nvme.check`). Raises MachineError."""
        ...

    def lldp_frames(self, ifindexes: Collection[int]) -> list[Reply]:
        """Newest LLDP frame of each neighbour heard since the first call, its interface as `kind`; never waits.

        The NICs in `ifindexes` take LLDP's multicast groups. Raises MachineError, DeniedError without CAP_NET_RAW.
        """
        ...

    def psutil(self, function: str) -> Any:
        """JSON-able result of one of psutil's functions (named tuples as dicts). Raises NotPresentError."""
        ...

    def timex(self) -> dict[str, int]:
        """How the kernel's clock is kept, as `timex.parse` names it. Raises MachineError."""
        ...

    def xdp(self, program: int) -> dict[str, Any]:
        """What an XDP program is, by its id, as `xdp.describe` has it; raises DeniedError without root."""
        ...

    def irqbalance(self, request: str) -> str:
        """Ask a running irqbalance through its socket ("setup"); raises NotPresentError when none runs."""
        ...

    def command(self, name: str, *words: str) -> str:
        """What one of the programs in `programs.PROGRAMS` prints; raises NotPresentError when it is not installed."""
        ...


class Writer(Machine, Protocol):
    """Reads and writes; only the engine of a transaction holds one."""

    def write(self, path: str, text: str) -> None:
        """Write a kernel file in one write(2). Raises MachineError; OSError kinds are told apart by class."""
        ...

    def request(self, op: Request) -> None:
        """Bring what the request is about to `after`; `requests.KINDS` says how. Raises MachineError."""
        ...

    def irqbalance_ban(self, irqs: list[int]) -> None:
        """Make this the full set of IRQs that a running irqbalance keeps its hands off."""
        ...
