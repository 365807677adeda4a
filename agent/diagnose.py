"""Diagnostics on demand: what a NIC is asked to do, typed, bounded in time, in a process of its own.

`python -m agent.diagnose` reads a `Task` from its standard input and prints a `Result`. What disturbs traffic is
refused where the agent observes, and always on the management path.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from agent import guard
from collectors import nic
from collectors.links import Port, read_ports
from machine import MachineError, diagnostics
from machine.live import Live
from wire.codec import encode
from wire.report import RESULT, Result

_ROOT = str(Path(__file__).resolve().parents[1])
CABLE_S = 30.0
START_S = 20.0  # until it is at work, and from its answer to its end
MOST_TEXT = 3900  # of a result

Name = Literal["identify", "cable-test", "self-test", "module"]


class DiagnoseError(Exception):
    """It cannot be done, or may not; the message is one line."""


class Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is asked for."""

    test: Name
    nic: Annotated[str, Meta(min_length=1, max_length=200)]  # key or name of the interface
    seconds: Annotated[int, Meta(ge=1, le=60)] = 10  # to blink for
    offline: bool = False  # self-test: with the link down


class Task(msgspec.Struct, kw_only=True):
    """A request, and what the process has to know of the agent."""

    request: Request
    observe: bool = True
    peers: list[str] = []  # HOST:PORT that must stay reachable


class Test(NamedTuple):
    """One kind of diagnosis."""

    run: Callable[[Live, Port, Request], str]
    disturbs: Literal["never", "offline", "always"]
    limit_s: float


def parse(args: Mapping[str, str]) -> Request:
    """The arguments of a command as a request; raises DiagnoseError that names the one that is wrong."""
    try:
        return msgspec.convert(dict(args), Request, strict=False)
    except msgspec.ValidationError as error:
        raise DiagnoseError(f"diagnose: {str(error)[:300]}") from None


# -- the tests ---------------------------------------------------------------------------------------------------------


def _identify(machine: Live, port: Port, request: Request) -> str:
    diagnostics.identify(machine, port.link.ifname, request.seconds)
    return f"{port.link.ifname}: the LED blinked for {request.seconds} s"


def _cable_test(machine: Live, port: Port, _request: Request) -> str:
    pairs = diagnostics.cable_test(machine, port.link.ifindex, CABLE_S)
    lines = [f"{port.link.ifname}: cable test of {len(pairs)} pairs"]
    for pair in pairs:
        fault = "" if pair.fault_m is None else f", fault at {pair.fault_m:g} m"
        lines.append(f"pair {pair.pair}: {pair.code}{fault}")
    return "\n".join(lines)


def _self_test(machine: Live, port: Port, request: Request) -> str:
    found = diagnostics.self_test(machine, port.link.ifname, offline=request.offline)
    how = "offline" if request.offline else "online"
    lines = [f"{port.link.ifname}: {how} self-test {'passed' if found.passed else 'FAILED'}"]
    lines += [f"{name}: {value}" for name, value in found.values.items()]
    if not found.passed:
        raise DiagnoseError("\n".join(lines))
    return "\n".join(lines)


def _module(machine: Live, port: Port, _request: Request) -> str:
    pages = diagnostics.read_module(machine, port.link.ifindex, port.link.ifname)
    lines = [f"{port.link.ifname}: module, {sum(len(page.data) for page in pages)} bytes"]
    lines += [f"{page.address:02x}h page {page.page:02x}h from {page.offset}: {page.data.hex()}" for page in pages]
    return "\n".join(lines)


TESTS: dict[str, Test] = {
    "identify": Test(_identify, "never", 65.0),
    "cable-test": Test(_cable_test, "always", CABLE_S + 5.0),
    "self-test": Test(_self_test, "offline", 180.0),
    "module": Test(_module, "never", 30.0),
}


def disturbs(request: Request) -> bool:
    """Whether traffic stops meanwhile."""
    how = TESTS[request.test].disturbs
    return how == "always" or (how == "offline" and request.offline)


# -- in the process ----------------------------------------------------------------------------------------------------


def perform(machine: Live, task: Task) -> Result:
    """Do it and say what came of it; never raises for what a machine or a request can be."""
    try:
        port = find(machine, task.request.nic)
        if disturbs(task.request) and (why := refusal(machine, task, port)):
            return Result(ok=False, text=f"refused: {why}")
        return Result(ok=True, text=TESTS[task.request.test].run(machine, port, task.request)[:MOST_TEXT])
    except (MachineError, DiagnoseError) as error:
        return Result(ok=False, text=str(error)[:MOST_TEXT])


def find(machine: Live, name: str) -> Port:
    """The NIC with that key or name; raises DiagnoseError for none, and for an interface without hardware."""
    ports = read_ports(machine)
    found = next((port for port in ports if name in (port.key, port.link.ifname, *port.link.altnames)), None)
    if found is None:
        raise DiagnoseError(f"no interface {name!r}; there are: {_names(ports)}")
    if not found.device:
        raise DiagnoseError(f"{found.link.ifname} has no hardware; there are: {_names(ports)}")
    return found


def _names(ports: Sequence[Port]) -> str:
    return ", ".join(port.link.ifname for port in ports if port.device)[:200] or "none with hardware"


def refusal(machine: Live, task: Task, port: Port) -> str:
    """Why traffic on this port may not be disturbed, "" when it may."""
    if task.observe:
        return "the agent observes, and this disturbs traffic"
    nics = {fact.key: fact for fact in nic.collect(machine)}
    peers = [address for peer in task.peers for address in guard.addresses(*_host_port(peer))]
    path = guard.management(machine, nics, peers)
    return f"{port.link.ifname} carries the {path[port.key]}" if port.key in path else ""


def _host_port(peer: str) -> tuple[str, int]:
    host, _, port = peer.rpartition(":")
    return host, int(port)


# -- beside it ---------------------------------------------------------------------------------------------------------


class Child:
    """The process of one diagnosis; it is killed when its time is up."""

    def __init__(self, task: Task) -> None:
        request = task.request
        self._what = f"{request.test} of {request.nic}"
        self._limit_s = TESTS[request.test].limit_s + START_S
        self._until = time.monotonic() + self._limit_s
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agent.diagnose"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))},
        )
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        self._process.stdin.write(encode(task))  # far less than a pipe holds
        self._process.stdin.close()
        self._process.stdin = None

    def step(self) -> Result | None:
        """What came of it, None while it is at work."""
        if self._process.poll() is not None:
            return self._ended()
        if time.monotonic() < self._until:
            return None
        self._process.kill()  # one that sleeps in a driver ends when that lets it go
        return Result(ok=False, text=f"{self._what}: not done within {self._limit_s:g} s")

    def wait(self) -> Result:
        """What came of it, once it has."""
        while (result := self.step()) is None:
            time.sleep(0.05)
        return result

    def stop(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()

    def _ended(self) -> Result:
        told, errors = self._process.communicate()
        try:
            return RESULT.decode(told)
        except msgspec.DecodeError:
            lines = errors.decode(errors="replace").strip().splitlines()
            why = lines[-1][:300] if lines else f"status {self._process.returncode}"
            return Result(ok=False, text=f"{self._what}: {why}")


def main() -> None:
    """The process: one task in, one result out."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    with Live() as machine:
        result = perform(machine, task)
    sys.stdout.buffer.write(encode(result))


if __name__ == "__main__":
    main()
