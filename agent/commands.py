"""What the inventory may ask for, once per id: a table from verb to what is done."""

import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from wire.policy import Outcome
from wire.report import Command, Result

if TYPE_CHECKING:
    import subprocess

    from agent.diagnose import Child

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
    """Takes commands; rollbacks and diagnoses run in processes of their own and are answered when those end."""

    def __init__(self, state: Path, *, observe: bool = True, peers: Sequence[str] = ()) -> None:
        self._state = state
        self._observe = observe
        self._peers = list(peers)
        self._done: OrderedDict[str, None] = OrderedDict()
        self._rollbacks: dict[str, subprocess.Popen[bytes]] = {}
        self._diagnoses: dict[str, Child] = {}

    def take(self, agent: Asked, name: str, command: Command) -> Result | None:
        """Do it; None when it is known already, or is answered later by `step`."""
        if name in self._done:
            return None
        self._done[name] = None
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        if command.verb not in VERBS:
            return Result(ok=False, text=f"unknown verb {command.verb[:64]!r}; there are: {', '.join(sorted(VERBS))}")
        return VERBS[command.verb](self, agent, name, command.args)

    def busy(self) -> bool:
        """True while a rollback or a diagnosis runs."""
        return bool(self._rollbacks or self._diagnoses)

    def step(self, undone: Undone) -> list[tuple[str, Result]]:
        """Answers of what ended; what rollbacks undid is handed to `undone`."""
        ended = [name for name, child in self._rollbacks.items() if child.poll() is not None]
        answers = [(name, self._ended(self._rollbacks.pop(name), undone)) for name in ended]
        for name, child in list(self._diagnoses.items()):
            if (result := child.step()) is not None:
                del self._diagnoses[name]
                answers.append((name, result))
        return answers

    def close(self) -> None:
        """End diagnoses; a rollback goes on by itself."""
        while self._diagnoses:
            self._diagnoses.popitem()[1].stop()

    def rebirth(self, agent: Asked, _name: str, _args: Mapping[str, str]) -> Result:
        """Say again who this is, and send all facts."""
        agent.rebirth()
        return Result(ok=True)

    def collect(self, agent: Asked, _name: str, _args: Mapping[str, str]) -> Result:
        """Begin a cycle of all collectors now."""
        agent.collect()
        return Result(ok=True)

    def diagnose(self, _agent: Asked, name: str, args: Mapping[str, str]) -> Result | None:
        """Ask a NIC to blink, to test itself or its cable, or for its module's memory; answered when that ended."""
        from agent import diagnose  # noqa: PLC0415 - only where somebody asks for it

        if self._diagnoses:
            return Result(ok=False, text="another diagnosis is at work")
        try:
            task = diagnose.Task(request=diagnose.parse(args), observe=self._observe, peers=self._peers)
            self._diagnoses[name] = diagnose.Child(task)
        except (diagnose.DiagnoseError, OSError) as error:
            return Result(ok=False, text=str(error))
        return None

    def rollback(self, _agent: Asked, name: str, _args: Mapping[str, str]) -> Result | None:
        """Undo the last transaction; answered when that ended."""
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


Do = Callable[[Commands, Asked, str, Mapping[str, str]], Result | None]

# Nothing else is done for the inventory, and arguments are typed where they are used: none reaches a shell.
VERBS: dict[str, Do] = {
    "collect": Commands.collect,
    "diagnose": Commands.diagnose,
    "rebirth": Commands.rebirth,
    "rollback": Commands.rollback,
}
