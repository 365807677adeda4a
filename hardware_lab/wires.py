"""The wires between guests: a network namespace of the lab's own with one bridge a wire and one tap a NIC.

Nothing leads out of it. It takes root; without, the NICs of the servers have carriers and no far end.
"""

import ctypes
import fcntl
import os
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from hardware_lab.command import run
from hardware_lab.failure import LabError

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
_CLONE_NEWNET = 0x40000000


class Wires:
    """One lab's namespace; every call may be repeated."""

    def __init__(self, lab: str) -> None:
        self.namespace = f"rackhand-lab-{lab}"

    @property
    def exists(self) -> bool:
        """Whether the namespace is there."""
        return Path("/run/netns", self.namespace).exists()

    def lay(self) -> None:
        """Make the namespace; raises LabError without root."""
        if not possible():
            raise LabError("wires between guests take root and /dev/net/tun")
        if not self.exists:
            run(["ip", "netns", "add", self.namespace])
            self.ip("link set lo up")

    def remove(self) -> None:
        """Take the namespace away with all in it, and end what still runs inside."""
        if self.exists:
            for pid in run(["ip", "netns", "pids", self.namespace]).split():
                subprocess.run(["kill", pid], check=False, capture_output=True)
            run(["ip", "netns", "delete", self.namespace])

    def ip(self, words: str) -> str:
        """`ip WORDS` inside."""
        return run(["ip", "-n", self.namespace, *words.split()])

    def inside(self, *argv: str) -> list[str]:
        """A command that runs inside."""
        return ["ip", "netns", "exec", self.namespace, *argv]

    def plug(self, tap: str, wire: str, queues: int) -> list[int]:
        """Descriptors of a new tap, one a queue pair, for QEMU to inherit; on the wire's bridge unless it has no wire.

        The tap goes when the last of them is closed.
        """
        handles: list[int] = []
        try:
            within(self.namespace, lambda: handles.extend(_open(tap, queues) for _ in range(queues)))
        except OSError as error:
            for handle in handles:
                os.close(handle)
            raise LabError(f"tap {tap}: {error.strerror}") from None
        if wire:
            bridge = self.bridge(wire)
            self.ip(f"link set {tap} master {bridge}")
        self.ip(f"link set {tap} up")
        return handles

    def bridge(self, wire: str) -> str:
        """The wire's bridge, made when it is not there."""
        name = f"w-{wire}"
        if f" {name}:" not in self.ip("-o link show"):
            self.ip(f"link add {name} type bridge stp_state 0 mcast_snooping 0")
            self.ip(f"link set {name} up")
        return name

    def address(self, wire: str, address: str) -> None:
        """Give our end of a wire an address, such as 10.77.0.1/24."""
        self.ip(f"addr replace {address} dev {self.bridge(wire)}")


def possible() -> bool:
    """Whether wires can be laid here."""
    return os.geteuid() == 0 and Path("/dev/net/tun").exists()


def tap(server: int, nic: int) -> str:
    """The tap's name: the lab's end of this NIC's cable."""
    return f"s{server}n{nic}"


def within(namespace: str, call: Callable[[], object]) -> None:
    """Make a call in a thread that is in the namespace; ours stays where it is. Raises what the call does."""
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            _enter(namespace)
            call()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def _enter(namespace: str) -> None:
    with Path("/run/netns", namespace).open("rb") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _open(name: str, queues: int) -> int:
    """One queue of a tap; every call with the same name adds one where it has several."""
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return handle
