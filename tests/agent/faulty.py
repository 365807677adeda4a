"""A writer of which any one write can be made to fail, with any error, before or after it took effect."""

import os
from collections.abc import Iterable
from typing import Any

from machine import failure
from wire.policy import FileWrite, IrqBan, Op, Request

CODES = (16, 5, 1, 28, 95, 22)  # EBUSY, EIO, EPERM, ENOSPC, EOPNOTSUPP, EINVAL


class Faulty:
    """Reads as `writer` does; the write of number `at` (from 0) fails with `code`, and so do all repetitions of it."""

    def __init__(self, writer: Any, at: int = -1, code: int = 0, *, late: bool = False) -> None:
        self._writer = writer
        self._at = at
        self._code = code
        self._late = late
        self.broken: Op | None = None
        self.writes: list[Op] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def write(self, path: str, text: str) -> None:
        """As the writer's."""
        self._do(FileWrite(path, "", text), lambda: self._writer.write(path, text))

    def request(self, op: Request) -> None:
        """As the writer's."""
        self._do(op, lambda: self._writer.request(op))

    def irqbalance_ban(self, irqs: Iterable[int]) -> None:
        """As the writer's."""
        self._do(IrqBan([], list(irqs)), lambda: self._writer.irqbalance_ban(list(irqs)))

    def _do(self, op: Op, action: Any) -> None:
        if self.broken is None:
            if len(self.writes) == self._at:
                self.broken = op
            self.writes.append(op)
        if op != self.broken:
            action()
            return
        if self._late:
            action()
        raise failure(self._code, f"write {self._at}: {os.strerror(self._code)}")
