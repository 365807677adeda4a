"""The process that asks BMCs: it imports a client once and forks a child for each job, which the kernel ends in time.

`python -m pollers.bmc_worker MODULE` takes jobs on the socket that is its stdin, until that is closed. A job is a
deadline and a socket, and on the socket what `MODULE.work` gets and answers. The libraries for BMCs keep state per
process, stall in threads and spin on what they do not expect: a child of its own has none of that from the job before.
"""

import contextlib
import fcntl
import gc
import importlib
import logging
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from pollers.target import DeviceError

DEADLINE = struct.Struct("=d")
SIZE = struct.Struct("=I")
DONE, REFUSED, BROKEN = 0, 1, 2  # an answer's first byte: there it is, a DeviceError's line, a fault of ours
MAX_ANSWER = 16 << 20
MEMORY = 1 << 30  # bytes of address space: what a BMC sends is bounded by it
Work = Callable[[bytes], bytes]


def receive(channel: socket.socket) -> bytes:
    """One message; raises EOFError when the other side is gone."""
    (size,) = SIZE.unpack(_exactly(channel, SIZE.size))
    return _exactly(channel, size)


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = channel.recv(min(size, 1 << 16))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def framed(message: bytes) -> bytes:
    """The message as it travels."""
    return SIZE.pack(len(message)) + message


def serve(control: socket.socket, work: Work) -> None:
    """Fork a child for each job until there can be no more; the kernel reaps them."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()  # what a child does not write to stays shared
    while True:
        message, handles, _, _ = socket.recv_fds(control, DEADLINE.size, 1)
        if not message:
            return
        (deadline_s,) = DEADLINE.unpack(message)
        if os.fork() == 0:
            control.close()
            _child(socket.socket(fileno=handles[0]), deadline_s, work)
        for handle in handles:
            os.close(handle)


def _child(channel: socket.socket, deadline_s: float, work: Work) -> NoReturn:
    """Do one job. SIGALRM ends it at its deadline, SIGIO when nobody waits for it any more: Python has no say."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, deadline_s)
    try:
        job = receive(channel)
        flags = fcntl.fcntl(channel, fcntl.F_GETFL)
        fcntl.fcntl(channel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(channel, fcntl.F_SETFL, flags | os.O_ASYNC)
        answer = _answer(work, job)
        fcntl.fcntl(channel, fcntl.F_SETFL, flags)  # room in the socket is a SIGIO too
        channel.sendall(framed(answer))
    except (EOFError, OSError):
        os._exit(1)
    os._exit(0)


def _answer(work: Work, job: bytes) -> bytes:
    try:
        answer = work(job)
    except DeviceError as error:
        return bytes([REFUSED]) + str(error).encode(errors="replace")
    except BaseException as error:  # noqa: BLE001 - any fault of a library becomes one line
        return bytes([BROKEN]) + _place(error).encode()
    if len(answer) > MAX_ANSWER:
        return bytes([REFUSED]) + f"an answer of {len(answer)} bytes is too large".encode()
    return bytes([DONE]) + answer


def _place(error: BaseException) -> str:
    """What kind of fault and where; its text could repeat a password."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""  # noqa: PTH119
    return type(error).__name__ + where


def main(arguments: list[str]) -> None:
    """Import the module and serve; everything that libraries log or warn of is dropped."""
    work: Work = importlib.import_module(arguments[0]).work
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold credentials
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with contextlib.suppress(KeyboardInterrupt), socket.socket(fileno=0) as control:
        serve(control, work)


if __name__ == "__main__":
    main(sys.argv[1:])
