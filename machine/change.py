"""The writes to this machine: kernel files, requests to its subsystems, irqbalance's list of banned IRQs."""

import errno
import os

from machine import MachineError, UnsupportedError, failure, irqbalance, requests
from machine.live import Live
from wire.policy import Request

_MANAGED = (errno.EIO, errno.EPERM)  # of a write below /proc/irq: before kernel 6.12, and since


class LiveWriter(Live):
    """This machine, writable; with another root only the files below it."""

    def write(self, path: str, text: str) -> None:
        """Write a kernel file in one write(2). Raises MachineError; OSError kinds are told apart by class.

        UnsupportedError also for an IRQ that the kernel places itself (managed or per CPU).
        """
        payload = text.encode()
        try:
            handle = os.open(self.path(path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise failure(error.errno or 0, path) from None
        try:
            written = os.write(handle, payload)
        except OSError as error:
            raise _write_failure(error, path, text) from None
        finally:
            os.close(handle)
        if written != len(payload):
            raise MachineError(f"{path}: the kernel took {written} of {len(payload)} bytes")

    def request(self, op: Request) -> None:
        """Bring what the request is about to `after`; `requests.KINDS` says how. Raises MachineError."""
        kind = requests.kind(op)
        if not kind.anywhere:
            self.only_live(op.message)
        kind.write(self, op)

    def irqbalance_ban(self, irqs: list[int]) -> None:
        """Make this the full set of IRQs that a running irqbalance keeps its hands off.

        It answers nothing, so its set-up is read back; raises MachineError when it did not follow.
        """
        self.irqbalance(irqbalance.ban_request(irqs))
        banned = irqbalance.parse_setup(self.irqbalance("setup")).banned_irqs
        if banned != sorted(set(irqs)):
            raise MachineError(f"irqbalance: asked to ban {sorted(set(irqs))}, it bans {banned}")


def _write_failure(error: OSError, path: str, text: str) -> MachineError:
    code = error.errno or 0
    if code in _MANAGED and path.startswith("/proc/irq/"):
        refused = UnsupportedError(f"{path}: the kernel places this interrupt itself")
        refused.code = code
        return refused
    return failure(code, f"{path}: write {text.strip()[:80]!r}")
