"""A write that may hang in the kernel, made by a process of its own, so that a limit of time is one.

A write to sysfs that waits for a driver cannot be interrupted, not even by SIGKILL: whoever made it hangs with it.
"""

import contextlib
import os
import select
import signal
import struct
from collections.abc import Callable

from machine import MachineError, failure

_HEAD = struct.Struct("=i")
_MOST = 4096  # bytes of a message
_DONE = b"\1"


def bounded(action: Callable[[], None], seconds: float, what: str) -> None:
    """Run `action` in a child process for at most `seconds`; raises the MachineError it raised, with its errno.

    Past that the child is killed as soon as the kernel lets go of it, which nobody waits for.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        os.close(reader)
        _child(action, writer)
    os.close(writer)
    try:
        said = _hear(reader, seconds)
    finally:
        os.close(reader)
    if said is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)
        raise MachineError(f"{what}: the kernel did not come back within {seconds:g} s")
    os.waitpid(pid, 0)
    if said != _DONE:
        _tell(said, what)


def _child(action: Callable[[], None], writer: int) -> None:
    said = _DONE
    try:
        action()
    except MachineError as error:
        said = _HEAD.pack(error.code) + str(error).encode()[:_MOST]
    except BaseException as error:  # noqa: BLE001 - nothing may leave a forked child but its word
        said = _HEAD.pack(0) + f"{type(error).__name__}: {error}".encode()[:_MOST]
    finally:
        os.write(writer, said)
        os._exit(0)


def _hear(reader: int, seconds: float) -> bytes | None:
    """What the child said, in one write below the size of a pipe; None when it did not in time."""
    ready, _, _ = select.select([reader], [], [], seconds)
    return os.read(reader, _HEAD.size + _MOST) if ready else None


def _tell(said: bytes, what: str) -> None:
    if len(said) < _HEAD.size:
        raise MachineError(f"{what}: the process that wrote it died")
    (code,), text = _HEAD.unpack_from(said), said[_HEAD.size :].decode(errors="replace")
    error = failure(code, what) if code else MachineError(text)
    error.args = (text,)
    raise error
