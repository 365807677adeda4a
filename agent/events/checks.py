"""Machine checks from the kernel's log: with bank, address and what failed, which no counter tells.

Corrected ones that the kernel finds by polling are in no counter at all.
"""

import logging

from collectors.mcerecord import Record, parse_records, parse_status
from machine import MachineError
from machine.kmsg import KernelLog
from wire.report import Event, Severity

log = logging.getLogger("rackhand.events")


class Checks:
    """Watches the log while it can be read; used by one thread."""

    def __init__(self) -> None:
        self._log: KernelLog | None = None
        try:
            self._log = KernelLog()
        except MachineError as error:
            log.info("machine checks are not watched: %s", error)

    def read(self) -> list[Event]:
        """Machine checks since the last time; never waits."""
        if self._log is None:
            return []
        try:
            return events(self._log.lines())
        except MachineError as error:
            log.warning("machine checks are no longer watched: %s", error)
            self.close()
            return []

    def filenos(self) -> list[int]:
        """To wait on."""
        return [] if self._log is None else [self._log.fileno()]

    def close(self) -> None:
        """Stop watching."""
        if self._log is not None:
            self._log.close()
        self._log = None


def events(lines: list[str]) -> list[Event]:
    """One event per record among these lines of the log."""
    return [_event(record) for record in parse_records("\n".join(lines))]


def _event(record: Record) -> Event:
    status = parse_status(record.status)
    how = "uncorrected" if status.uncorrected else "corrected"
    bank = "" if record.bank is None else f", bank {record.bank}"
    where = "" if record.address is None else f" at {record.address:#x}"
    return Event(
        at_ms=0,
        kind="mce.record",
        key=f"cpu{record.cpu}",
        severity=Severity.CRITICAL if status.uncorrected else Severity.WARNING,
        text=f"CPU {record.cpu}{bank}: {how} {status.error}{where}",
        data={"status": f"{record.status:#018x}", "address": record.address, "misc": record.misc},
    )
