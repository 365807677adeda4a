"""Jobs for BMCs, a bounded number at once, each in a process that is ended at its deadline."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time

from pollers.bmc_worker import BROKEN, DEADLINE, DONE, MAX_ANSWER, SIZE, framed
from pollers.target import DeviceError

MOST = 32  # children at once; each has a BMC of its own
SUSPECTS = (
    4  # one in so many of these may be of a BMC that failed the last time: a rack that hangs leaves room for others
)
GRACE_S = 2.0  # after the kernel should have ended a child


class Workers:
    """The worker of one module and its children; belongs to the event loop that uses it first."""

    def __init__(self, module: str, most: int = MOST) -> None:
        self.module = module
        self._slots = asyncio.Semaphore(most)
        self._suspects = asyncio.Semaphore(max(1, most // SUSPECTS))
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Of the worker, None before its first job."""
        return self._process.pid if self._process else None

    async def run(self, job: bytes, deadline_s: float, *, suspect: bool = False) -> bytes:
        """What `work` answers; raises DeviceError with its line, or when the deadline passed. Waits for a free slot."""
        async with self._suspects if suspect else contextlib.nullcontext(), self._slots:
            ours = self._hand_out(deadline_s)
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_ANSWER + 64)
            begun = time.monotonic()
            try:
                async with asyncio.timeout(deadline_s + GRACE_S):
                    writer.write(framed(job))
                    (size,) = SIZE.unpack(await reader.readexactly(SIZE.size))
                    answer = await reader.readexactly(min(size, MAX_ANSWER + 1))
            except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
                raise DeviceError(_silence(time.monotonic() - begun, deadline_s)) from None
            finally:
                writer.close()  # a child that still runs gets SIGIO of it
        if answer[0] == DONE:
            return answer[1:]
        said = answer[1:].decode(errors="replace")
        raise DeviceError(f"fault while reading it: {said}" if answer[0] == BROKEN else said)

    def close(self) -> None:
        """End the worker and return when it is reaped; the next job starts another."""
        if self._control:
            self._control.close()
            self._control = None
        if self._process:
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _hand_out(self, deadline_s: float) -> socket.socket:
        """Our end of a new child's socket; a worker that has gone is started again, once."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            for again in (True, False):
                try:
                    socket.send_fds(self._started(), [DEADLINE.pack(deadline_s)], [theirs.fileno()])
                    return ours
                except OSError:
                    self.close()
                    if not again:
                        ours.close()
                        raise DeviceError("the worker process ended as soon as it was started") from None
        finally:
            theirs.close()
        return ours

    def _started(self) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "pollers.bmc_worker", self.module],  # nothing from where we stand
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    start_new_session=True,  # Ctrl-C reaches who started it
                )
        return self._control


def _silence(took_s: float, deadline_s: float) -> str:
    if took_s >= deadline_s * 0.95:
        return f"no answer within {deadline_s:g} s"
    return "the process that asked it ended without an answer"
