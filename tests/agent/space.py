"""A network namespace with a veth pair of four queues, and transactions that run in it as the agent runs them."""

import contextlib
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent.work import FACTS
from collectors.run import collect_facts
from machine.change import LiveWriter
from tuners.hostfacts import HostFacts
from wire.policy import Desired, Setting, content_hash

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
NIC = "va"
T = TypeVar("T")
_numbers = itertools.count()

_SNAPSHOT = """
import msgspec, sys
from collectors.run import collect_facts
from machine.live import Live
facts = collect_facts(Live(), sys.argv[2].split(","))
sys.stdout.buffer.write(msgspec.json.encode([fact for fact in facts if fact.key == sys.argv[1]]))
"""

_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWNET = 0x200, 0x20000, 0x40000000
_MS_REC_PRIVATE = 0x4000 | 0x40000


def _enter(name: str) -> None:
    """Give this thread the network namespace, and a mount namespace whose /sys shows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{name}").open() as handle:
        steps: tuple[Callable[[], int], ...] = (
            lambda: libc.unshare(_CLONE_FS | _CLONE_NEWNS),
            lambda: libc.setns(handle.fileno(), _CLONE_NEWNET),
            lambda: libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None),
            lambda: libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None),
        )
        for step in steps:
            if step():
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def wait_for(condition: Callable[[], object], what: str, seconds: float = DEADLINE_S) -> None:
    """Return when `condition` holds; fails the test when it does not in a generous time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s for: {what}"
        time.sleep(0.01)


def desired(settings: list[Setting], generation: int = 1, confirm_s: int = 60) -> Desired:
    """A document of these settings."""
    return Desired(
        host_id="host-1", generation=generation, hash=content_hash(settings), settings=settings, confirm_s=confirm_s
    )


WANTED = [
    Setting(knob="channels", nic=NIC, values={"rx": 2, "tx": 2}),
    Setting(knob="offloads", nic=NIC, values={"gro": True, "tso": False}),
    Setting(knob="xps", nic=NIC, values={"mode": "auto"}),
    Setting(knob="rps", nic=NIC, values={"mode": "all"}),
]


class Run:
    """One transaction process; its phases arrive in `phases`."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.phases: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.phases.append(json.loads(line))

    def phase(self, name: str) -> dict[str, Any]:
        """The phase of that name, once it is there."""
        wait_for(lambda: self._found(name) or self.process.poll() is not None, f"phase {name}")
        self._reader.join(0 if self._found(name) else DEADLINE_S)
        found = self._found(name)
        assert found, f"no phase {name} in {self.phases}, exit {self.process.poll()}, {self._errors()}"
        return found[-1]

    def _found(self, name: str) -> list[dict[str, Any]]:
        return [phase for phase in self.phases if phase["phase"] == name]

    def _errors(self) -> str:
        assert self.process.stderr
        return self.process.stderr.read().decode() if self.process.poll() is not None else ""

    def say(self, word: str) -> None:
        """A line on the transaction's stdin."""
        assert self.process.stdin
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def hang_up(self) -> None:
        """The end of the transaction's stdin, as when the agent dies."""
        assert self.process.stdin
        self.process.stdin.close()

    def end(self) -> int:
        """The exit code."""
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def close(self) -> None:
        """End it if it still runs, and give its pipes back."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()


class Space:
    """The namespace, its state directory, and what is done in them."""

    def __init__(self, state: Path) -> None:
        self.name = f"rha-{os.getpid()}-{next(_numbers)}"
        self.state = state
        self.runs: list[Run] = []
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.ip(f"link add {NIC} numtxqueues 4 numrxqueues 4 type veth peer name vb numtxqueues 4 numrxqueues 4")
        self.ip(f"link set {NIC} up")
        self.ip("link set vb up")

    def close(self) -> None:
        """End every process of its own and remove it."""
        for run in self.runs:
            run.close()
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def ip(self, arguments: str) -> str:
        command = ["ip", "-n", self.name, *arguments.split()]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def shell(self, script: str) -> str:
        """Run a shell script inside; /sys is the namespace's own there."""
        done = subprocess.run(self.inside("sh", "-ec", script), check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, function: Callable[[LiveWriter], T]) -> T:
        """Call `function` with a writer, in a thread that entered the namespace and has its /sys."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                _enter(self.name)
                with contextlib.closing(LiveWriter()) as writer:
                    results.append(function(writer))
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def ifindex(self, name: str = NIC) -> int:
        """The interface's index."""
        return int(json.loads(self.ip(f"-j link show {name}"))[0]["ifindex"])

    def facts(self) -> HostFacts:
        """What the planners see."""
        return self.run(lambda writer: HostFacts(collect_facts(writer, FACTS)))

    def output(self, code: str) -> str:
        """What Python code prints in a process inside."""
        return self._python("-c", code)

    def _python(self, *arguments: str) -> str:
        done = subprocess.run(
            self.inside(sys.executable, *arguments), check=False, capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """A Python process inside, not waited for."""
        return subprocess.Popen(self.inside(sys.executable, *arguments), cwd=ROOT, stdout=subprocess.DEVNULL)

    def snapshot(self, nic: str = NIC, collectors: str = "ethtool,queues") -> Any:
        """What can be tuned of the NIC: channels, features, and steering of every queue; or what else is read."""
        return json.loads(self._python("-c", _SNAPSHOT, nic, collectors))

    def want(self, document: Desired) -> None:
        self.state.mkdir(exist_ok=True)
        (self.state / "desired.json").write_bytes(msgspec.json.encode(document))

    def start(self, *arguments: str, command: tuple[str, ...] = ()) -> Run:
        """A transaction process inside."""
        argv = self.inside(*command, sys.executable, "-m", "agent.transaction", "--state", str(self.state), *arguments)
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        self.runs.append(Run(process))
        return self.runs[-1]

    def apply(self, *arguments: str, settings: list[Setting] | None = None, generation: int = 1) -> dict[str, Any]:
        """A whole transaction that confirms itself: its final report."""
        self.want(desired(WANTED if settings is None else settings, generation))
        run = self.start("--confirm", "self", *arguments)
        final: dict[str, Any] = run.phase("final")["reported"]
        run.end()
        return final

    def deadman(self, verb: str) -> list[dict[str, Any]]:
        """`recover` or `rollback`, as the agent calls them."""
        lines = self._python("-m", "agent.deadman", verb, str(self.state)).splitlines()
        return [json.loads(line) for line in lines]


def status(report: dict[str, Any]) -> dict[str, str]:
    """Outcome status by knob."""
    return {outcome["knob"]: outcome["status"] for outcome in report["outcomes"]}
