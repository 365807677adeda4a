"""What the inventory may ask for, once per id: a table from verb to what is done."""

import os
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from wire.policy import Outcome
from wire.report import Command, Result

if TYPE_CHECKING:
    import subprocess

REMEMBERED = 256  # ids of commands that were done: QoS 1 may bring one twice
_ROOT = str(Path(__file__).resolve().parents[1])

Undone = Callable[[list[Outcome], str, str], None]


class Asked(Protocol):
    """What a command may do with the agent."""

    def rebirth(self) -> None:
        """Say again who this is, and send all facts."""
        ...

    def collect(self) -> None:
        """Begin a cycle of all collectors now."""
        ...


class Played(msgspec.Struct, kw_only=True):
    """What `agent.deadman rollback` prints."""

    tx: str
    state: str
    reason: str = ""
    outcomes: list[Outcome] = []


class Commands:
    """Takes commands; a rollback runs in a process of its own and is answered when that ends."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._done: OrderedDict[str, None] = OrderedDict()
        self._rollbacks: dict[str, subprocess.Popen[bytes]] = {}

    def take(self, agent: Asked, name: str, command: Command) -> Result | None:
        """Do it; None when it is known already, or is answered later by `step`."""
        if name in self._done:
            return None
        self._done[name] = None
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        if command.verb == "rollback":
            return self._rollback(name)
        if command.verb == "rebirth":
            agent.rebirth()
        elif command.verb == "collect":
            agent.collect()
        else:
            return Result(ok=False, text=f"unknown verb {command.verb[:64]!r}; there are: collect, rebirth, rollback")
        return Result(ok=True)

    def busy(self) -> bool:
        """True while a rollback runs."""
        return bool(self._rollbacks)

    def step(self, undone: Undone) -> list[tuple[str, Result]]:
        """Answers of rollbacks that ended; what they undid is handed to `undone`."""
        ended = [name for name, child in self._rollbacks.items() if child.poll() is not None]
        return [(name, self._ended(self._rollbacks.pop(name), undone)) for name in ended]

    def _rollback(self, name: str) -> Result | None:
        import subprocess  # noqa: PLC0415 - only where something is undone

        if self._rollbacks:
            return Result(ok=False, text="a rollback is at work")
        argv = [sys.executable, "-m", "agent.deadman", "rollback", str(self._state)]
        path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        self._rollbacks[name] = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        return None

    @staticmethod
    def _ended(child: "subprocess.Popen[bytes]", undone: Undone) -> Result:
        told, errors = child.communicate()
        if child.returncode != 0:
            lines = errors.decode(errors="replace").strip().splitlines()
            return Result(ok=False, text=lines[-1][:500] if lines else f"ended with {child.returncode}")
        played = msgspec.json.decode(told, type=Played)
        undone(played.outcomes, played.tx, "rolled back on command")
        return Result(ok=played.state == "reverted", text=f"transaction {played.tx}: {played.state}")
