"""QEMU's monitor: commands over a unix socket, one JSON object a line (QMP)."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hardware_lab.failure import LabError

ANSWER_S = 60.0


class Monitor:
    """One connection to one QEMU; a command waits for its answer, events that came meanwhile are kept."""

    def __init__(self, path: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise LabError(f"no machine answers at {path}: {error.strerror}") from None
        self._said = b""  # what came and has not been read as a line
        self._next()  # the greeting
        self.run("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; QEMU goes on."""
        self._socket.close()

    def run(self, command: str, **arguments: Any) -> Any:
        """What a command returns; raises LabError with QEMU's own words when it refuses."""
        try:
            self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        except OSError as error:
            raise LabError(f"QEMU does not answer: {error.strerror}") from None
        while True:
            message = self._next()
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise LabError(f"QEMU refuses {command}: {message['error']['desc']}")
            else:
                return message["return"]

    def human(self, line: str) -> str:
        """What the human monitor prints for a line; raises LabError when it prints an error."""
        said: str = self.run("human-monitor-command", **{"command-line": line}).strip()
        if said.startswith(("Error", "unknown command")):
            raise LabError(f"QEMU refuses {line!r}: {said}")
        return said

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """The first event that is wanted, those that came before included; raises LabError when none comes."""
        until = time.monotonic() + timeout_s
        while True:
            for at, event in enumerate(self.events):
                if wanted(event):
                    return self.events.pop(at)
            message = self._next(until - time.monotonic())
            if "event" in message:
                self.events.append(message)

    def _next(self, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        while b"\n" not in self._said:
            try:
                self._socket.settimeout(max(timeout_s, 0.001))
                part = self._socket.recv(65536)
            except TimeoutError:
                raise LabError("QEMU did not say within its time what was waited for") from None
            except OSError as error:
                raise LabError(f"QEMU does not answer: {error.strerror}") from None
            if not part:
                raise LabError("QEMU has ended")
            self._said += part
        line, _, self._said = self._said.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message
