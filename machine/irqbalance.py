"""irqbalance's control socket: ask what it does, and tell it which IRQs are not its own.

Protocol (`sock_handle` of irqbalance 1.2 to 1.9): one stream connection per request, credentials with the request, an
answer to "setup" and none to "settings ...". The daemon reads a request once, into 500 bytes.
"""

import os
import re
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from machine import MachineError, NotPresentError, UnsupportedError, failure

MAX_REQUEST = 499
TIMEOUT_S = 5
_SCM_CREDENTIALS = 2
_NAMELESS = "@" * 108  # an abstract name of zeros: 1.9 without its folder below /run
_SOCKET = re.compile(rf" (@?\S*irqbalance\d+\.sock|{_NAMELESS})@*$", re.MULTILINE)


class Setup(NamedTuple):
    """What a running irqbalance says of itself."""

    sleep_s: int
    banned_irqs: list[int]  # told by option or through the socket, not by its policy script
    banned_cpus: str  # hex mask


def find(sockets: str) -> str:
    """The address of its socket in /proc/net/unix ("@" leads an abstract one); raises NotPresentError."""
    found: list[str] = sorted(set(_SOCKET.findall(sockets)), key=lambda address: (address == _NAMELESS, address))
    if not found:
        raise NotPresentError("irqbalance: no control socket, it does not run")
    return found[0]


def ask(address: str, request: str) -> str:
    """Send one request and return the answer, "" when there is none. Raises MachineError."""
    payload = request.encode()
    if len(payload) > MAX_REQUEST:
        raise UnsupportedError(f"irqbalance: a request of {len(payload)} bytes is over its {MAX_REQUEST}")
    credentials = struct.pack("=iII", os.getpid(), os.geteuid(), os.getegid())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as peer:
            peer.settimeout(TIMEOUT_S)
            peer.connect(_path(address))
            peer.sendmsg([payload], [(socket.SOL_SOCKET, _SCM_CREDENTIALS, credentials)])
            return _answer(peer).decode(errors="replace")
    except TimeoutError:
        raise MachineError(f"irqbalance: no answer within {TIMEOUT_S} s") from None
    except OSError as error:
        raise failure(error.errno or 0, "irqbalance") from None


def _path(address: str) -> str:
    """What to connect to: /proc/net/unix shows zeros as "@"."""
    if address == _NAMELESS:
        return "\0" * len(address)
    return "\0" + address[1:] if address.startswith("@") else address


def _answer(peer: socket.socket) -> bytes:
    answer = b""
    while chunk := peer.recv(1 << 16):
        answer += chunk
        if len(answer) > 1 << 20:
            raise MachineError("irqbalance: answer is over 1 MiB")
    return answer


def parse_setup(answer: str) -> Setup:
    """The answer to "setup"; raises MachineError when it is not one."""
    words = answer.strip("\0 \n").split(" ")
    pairs = [(words[at], words[at + 1]) for at in range(0, len(words) - 1, 2)]
    try:
        sleep = next(int(value) for name, value in pairs if name == "SLEEP")
        irqs = sorted(int(value) for name, value in pairs if name == "IRQ")
    except (ValueError, StopIteration):
        raise MachineError(f"irqbalance: cannot read its answer {answer[:80]!r}") from None
    return Setup(sleep, irqs, next((value for name, value in pairs if name == "BANNED"), ""))


def ban_request(irqs: Iterable[int]) -> str:
    """The request that replaces its list of banned IRQs by `irqs`; raises MachineError for one it cannot ban."""
    wanted = sorted(set(irqs))
    if wanted and wanted[0] <= 0:
        raise MachineError(f"irqbalance: IRQ {wanted[0]} cannot be banned, its list ends at 0")
    return "settings ban irqs " + (" ".join(map(str, wanted)) or "NONE")
