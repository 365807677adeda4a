"""This machine: files under a root, netlink, ethtool's ioctl, psutil and irqbalance."""

import array
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self, TypeVar

from machine import MachineError, NotPresentError, Reply, failure, ipmi, lldp, netlink, nvme
from machine import irqbalance as balancer

MAX_FILE_BYTES = 64 << 20
MAX_LINKS = 40
_CHUNK = 1 << 14
_STRIPPED = " \t\r\n\0"
_SIOCETHTOOL, _SIOCGHWTSTAMP = 0x8946, 0x89B1
_HWTSTAMP_CONFIG = 12  # bytes

T = TypeVar("T")

PSUTIL = frozenset(
    {
        "boot_time",
        "cpu_count",
        "cpu_freq",
        "cpu_percent",
        "cpu_stats",
        "cpu_times",
        "cpu_times_percent",
        "disk_io_counters",
        "disk_partitions",
        "getloadavg",
        "net_if_addrs",
        "net_if_stats",
        "net_io_counters",
        "pids",
        "sensors_fans",
        "sensors_temperatures",
        "swap_memory",
        "virtual_memory",
    }
)


class Live:
    """The machine under `root`; netlink, ioctl, psutil and irqbalance only where the root is "/".

    Any thread may call it: each request takes a socket of its own from a pool. The sockets belong to the network
    namespace in which they were opened, so make a new Live after entering another one, or after fork.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.realpath(root)
        self._idle: dict[int, list[netlink.Channel]] = {netlink.ROUTE: [], netlink.GENERIC: []}
        self._families: dict[str, netlink.Family] = {"nlctrl": netlink.Family(netlink.CTRL, {})}
        self._controls: list[socket.socket] = []
        self._lldp: lldp.Listener | None = None
        self._lldp_lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket; later requests open new ones."""
        for channels in self._idle.values():
            while channels:
                channels.pop().close()
        while self._controls:
            self._controls.pop().close()
        with self._lldp_lock:
            if self._lldp is not None:
                self._lldp.close()
            self._lldp = None

    def path(self, path: str) -> str:
        """Where `path` is for the operating system; links are followed inside the root, never out of it."""
        if not path.startswith("/") or "\0" in path:
            raise MachineError(f"{path!r} is not an absolute path")
        return path if self.root == "/" else self.root + self.resolve(path).rstrip("/")

    def read(self, path: str) -> str:
        """The file's text, outer white space and NULs stripped. Raises MachineError."""
        return self.read_bytes(path).decode(errors="replace").strip(_STRIPPED)

    def read_bytes(self, path: str) -> bytes:
        """The file's bytes. Raises MachineError."""
        try:
            handle = os.open(self.path(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                return _read_all(handle, path)
            finally:
                os.close(handle)
        except OSError as error:
            raise failure(error.errno or 0, path) from None

    def names(self, path: str) -> list[str]:
        """Sorted names in a directory; raises NotPresentError when there is none."""
        try:
            with os.scandir(self.path(path)) as entries:
                return sorted(entry.name for entry in entries)
        except OSError as error:
            raise failure(error.errno or 0, path) from None

    def target(self, path: str) -> str:
        """What a symbolic link says, unresolved; raises NotPresentError."""
        folder, _, name = path.rstrip("/").rpartition("/")
        try:
            return os.readlink(self.path(folder or "/") + "/" + name)  # noqa: PTH115 - its exact words
        except OSError as error:
            what = NotPresentError(f"{path}: {'not a symbolic link' if error.errno == 22 else error.strerror}")
            raise what from None

    def resolve(self, path: str) -> str:
        """The absolute path with every symbolic link followed; raises NotPresentError."""
        try:
            if self.root == "/":
                return _resolve(path)
            return _resolve_inside(self.root, path)
        except OSError as error:
            raise failure(error.errno or 0, path) from None

    def rtnl(self, kind: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        """Send one rtnetlink request (header struct and attributes) and return its replies. Raises MachineError."""
        replies = self._request(netlink.ROUTE, kind, payload, f"rtnetlink request {kind}", dump=dump)
        return [Reply(reply.kind, reply.payload) for reply in replies]

    def genl(self, family: str, command: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        """Send one generic netlink request (attributes only) and return its replies. Raises MachineError."""
        header = struct.pack("=BBH", command, 1, 0)
        what = f"{family} request {command}"
        replies = self._request(netlink.GENERIC, self.family(family).id, header + payload, what, dump=dump)
        return [Reply(reply.payload[0], reply.payload[4:]) for reply in replies if len(reply.payload) >= 4]

    def family(self, name: str) -> netlink.Family:
        """A generic netlink family's numbers, asked once; raises NotPresentError when this kernel lacks it."""
        if name not in self._families:
            self._families[name] = self._with_channel(
                netlink.GENERIC, lambda channel: netlink.resolve_family(channel, name)
            )
        return self._families[name]

    def ethtool_ioctl(self, ifname: str, request: bytes, size: int) -> bytes:
        """SIOCETHTOOL with `request` in a buffer of `size` bytes; returns the buffer. Raises MachineError."""
        what = f"ethtool ioctl {request[0] if request else 0:#x}"
        return self._ioctl(_SIOCETHTOOL, ifname, request.ljust(size, b"\0"), what)

    def hwtstamp(self, ifname: str) -> bytes:
        """SIOCGHWTSTAMP: struct hwtstamp_config of an interface. Raises MachineError."""
        return self._ioctl(_SIOCGHWTSTAMP, ifname, bytes(_HWTSTAMP_CONFIG), "timestamping")

    def _ioctl(self, number: int, ifname: str, request: bytes, what: str) -> bytes:
        """An ioctl of an interface whose argument is a buffer, which comes back. Raises MachineError."""
        self.only_live("ioctl")
        buffer = array.array("B", request)
        name = ifname.encode()
        if not 0 < len(name) < 16:
            raise NotPresentError(f"{ifname!r} is not an interface name")
        argument = struct.pack("@16sP16x", name, buffer.buffer_info()[0])
        try:
            control = self._controls.pop()
        except IndexError:
            control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            fcntl.ioctl(control, number, argument)
        except OSError as error:
            raise failure(error.errno or 0, f"{ifname}: {what}") from None
        finally:
            self._controls.append(control)
        return buffer.tobytes()

    def ipmi(self, netfn: int, command: int, data: bytes = b"") -> bytes:
        """Completion code and data of the BMC's response to a request that only reads; raises MachineError."""
        self.only_live("ipmi")
        return ipmi.ask(ipmi.find(), netfn, command, data)

    def nvme_admin(self, device: str, opcode: int, nsid: int, cdw10: int, size: int) -> bytes:
        """Answer of "nvme0" to one of the admin commands that only read (`nvme.check`). Raises MachineError."""
        self.only_live("NVMe")
        nvme.check(device, opcode, cdw10, size)
        return nvme.admin(f"/dev/{device}", opcode, nsid, cdw10, size)

    def lldp_frames(self, ifindexes: Collection[int]) -> list[Reply]:
        """Newest LLDP frame of each neighbour heard since the first call, its interface as `kind`; never waits.

        The NICs in `ifindexes` take LLDP's multicast groups. Raises MachineError, DeniedError without CAP_NET_RAW.
        """
        self.only_live("lldp")
        with self._lldp_lock:
            self._lldp = self._lldp or lldp.Listener()
        return self._lldp.frames(ifindexes)

    def psutil(self, function: str) -> Any:
        """JSON-able result of one of the functions in `PSUTIL` (named tuples as dicts). Raises NotPresentError."""
        self.only_live("psutil")
        import psutil  # noqa: PLC0415 - a transaction and the readers of netlink do without its 4 MB

        call: Callable[[], Any] | None = getattr(psutil, function, None) if function in PSUTIL else None
        if call is None:
            raise NotPresentError(f"psutil has no {function}")
        try:
            return plain(call())
        except OSError as error:
            raise failure(error.errno or 0, f"psutil {function}") from None

    def timex(self) -> dict[str, int]:
        """How the kernel's clock is kept, as `timex.parse` names it. Raises MachineError."""
        self.only_live("timex")
        from machine import timex  # noqa: PLC0415 - ctypes is only for who asks

        return timex.read()

    def xdp(self, program: int) -> dict[str, Any]:
        """What an XDP program is, by its id, as `xdp.describe` has it; raises DeniedError without root."""
        self.only_live("xdp")
        from machine import xdp  # noqa: PLC0415 - only where there is such a program

        return xdp.describe(program)

    def irqbalance(self, request: str) -> str:
        """Ask a running irqbalance through its socket ("setup"); raises NotPresentError when none runs."""
        self.only_live("irqbalance")
        return balancer.ask(balancer.find(self.read("/proc/net/unix")), request)

    def command(self, name: str, *words: str) -> str:
        """What one of the programs in `programs.PROGRAMS` prints; raises NotPresentError when it is not installed."""
        self.only_live("command")
        from machine import programs  # noqa: PLC0415 - subprocess is only for who needs it

        return programs.run(name, *words)

    def only_live(self, what: str) -> None:
        """Raise NotPresentError for what only a running machine has."""
        if self.root != "/":
            raise NotPresentError(f"{what}: there is no running machine under {self.root}")

    def _request(self, protocol: int, kind: int, payload: bytes, what: str, *, dump: bool) -> list[netlink.Message]:
        self.only_live("netlink")
        return self._with_channel(protocol, lambda channel: channel.request(kind, payload, what, dump=dump))

    def _with_channel(self, protocol: int, use: Callable[[netlink.Channel], T]) -> T:
        """Run `use` with an idle socket; one whose request did not end is not used again."""
        idle = self._idle[protocol]
        try:
            channel = idle.pop()
        except IndexError:
            channel = netlink.Channel(protocol)
        try:
            return use(channel)
        finally:
            if channel.clean:
                idle.append(channel)
            else:
                channel.close()


def plain(value: Any) -> Any:
    """JSON-able: named tuples and dicts as dicts with text keys, other sequences as lists."""
    named: Callable[[], Any] | None = getattr(value, "_asdict", None)
    held: Any = named() if named else value
    if isinstance(held, dict):
        entries: dict[Any, Any] = held  # pyright: ignore[reportUnknownVariableType]
        return {str(key): plain(item) for key, item in entries.items()}
    if isinstance(held, (list, tuple)):
        items: list[Any] = list(held)  # pyright: ignore[reportUnknownArgumentType]
        return [plain(item) for item in items]
    if held is None or isinstance(held, (bool, str)):
        return held
    return float(held) if isinstance(held, float) else int(held)


def _read_all(handle: int, path: str) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := os.read(handle, _CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_FILE_BYTES:
            raise MachineError(f"{path}: over {MAX_FILE_BYTES} bytes")
    return b"".join(chunks)


def _resolve(path: str) -> str:
    """What the kernel calls it, in three system calls: following links by hand asks for every part. Raises OSError."""
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115 - no Path, this is called for every NIC
    finally:
        os.close(handle)
    if not found.startswith("/"):
        raise OSError(errno.ENOENT, "it has no path")  # a pipe or a socket
    return found


def _resolve_inside(root: str, path: str) -> str:
    """Follow `path` as a process would whose root is `root`: absolute links and ".." stay inside. Raises OSError."""
    todo = path.split("/")[::-1]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        here = Path("/".join((root, *done, part)))
        if here.is_symlink():
            links += 1
            if links > MAX_LINKS:
                raise OSError(40, "too many symbolic links")
            says = str(here.readlink())
            done = [] if says.startswith("/") else done
            todo += says.split("/")[::-1]
        else:
            done.append(part)
    os.lstat("/".join((root, *done)))
    return "/" + "/".join(done)
