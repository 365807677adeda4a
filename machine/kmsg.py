"""The kernel's log as it is written, from /dev/kmsg (Documentation/ABI/testing/dev-kmsg); only what is new is read."""

import os

from machine import failure

PATH = "/dev/kmsg"
_MESSAGE = 8192  # bytes at most
MOST = 1000  # messages of one read: the log is a ring, and reading it must not keep anybody busy for ever


class KernelLog:
    """Open at its end; used by one thread. Raises NotPresentError without one, DeniedError without CAP_SYSLOG."""

    def __init__(self, path: str = PATH) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise failure(error.errno or 0, path) from None
        os.lseek(self._handle, 0, os.SEEK_END)

    def lines(self) -> list[str]:
        """The texts of messages since the last time, at most `MOST`; never waits. Raises MachineError."""
        lines: list[str] = []
        while len(lines) < MOST:
            try:
                lines.append(_text(os.read(self._handle, _MESSAGE)))
            except BlockingIOError:
                break
            except BrokenPipeError:  # overwritten before it was read: the next read goes on with the oldest there is
                continue
            except OSError as error:
                raise failure(error.errno or 0, self.path) from None
        return lines

    def fileno(self) -> int:
        """To wait on."""
        return self._handle

    def close(self) -> None:
        """Stop reading."""
        os.close(self._handle)


def _text(message: bytes) -> str:
    """Without the prefix (priority, number, time, flags) and the lines of key and value that follow."""
    return message.partition(b";")[2].partition(b"\n")[0].decode(errors="replace")
