"""The hands of a transaction: a process of its own writes, so that what blocks in the kernel blocks nothing else.

It is forked with the first write and holds what the transaction held then: the lock of the journal and that of the
state directory. So nobody plays the journal back, and nobody begins another transaction, while a write is still in the
kernel: a dead-man waits for the lock. It ends with the process that decides, as far as the kernel lets it.
"""

import ctypes
import os
import select
import signal
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

import machine
from machine import MachineError
from machine.change import LiveWriter
from wire.policy import FileWrite, IrqBan, Op, Request

LOOK_S = 0.5  # how often a write that has not returned is asked about
_LENGTH = struct.Struct("=I")
_PR_SET_PDEATHSIG = 1
_CLASSES: dict[str, type[MachineError]] = {
    name: made for name, made in vars(machine).items() if isinstance(made, type) and issubclass(made, MachineError)
}

Patience = Callable[[float], bool]  # seconds in a write -> whether to go on waiting


class HungError(Exception):
    """A write has not returned from the kernel. Nothing may be written, and nothing undone, before it has."""


class Answer(msgspec.Struct):
    """What came of one write; all empty for a success."""

    error: str = ""  # the nearest class of `machine`'s errors
    text: str = ""
    code: int = 0


_ANSWER = msgspec.json.Decoder(Answer)
_OP: "msgspec.json.Decoder[Op]" = msgspec.json.Decoder(Op)


class _Child(NamedTuple):
    pid: int
    orders: int
    answers: int


class Hands(LiveWriter):
    """This machine: read here, written by a child. Raises HungError when `patience` ends before a write does."""

    def __init__(self, patience: Patience = lambda _: True) -> None:
        super().__init__()
        self.patience = patience
        self._child: _Child | None = None
        self._hung = ""

    def write(self, path: str, text: str) -> None:
        """Write a kernel file; raises MachineError as LiveWriter does, HungError."""
        self._do(FileWrite(path, "", text), f"write {text.strip()[:40]!r} to {path}")

    def request(self, op: Request) -> None:
        """Bring what the request is about to `after`; raises MachineError, HungError."""
        self._do(op, f"request {op.message} {op.ifname} {op.item}".rstrip())

    def irqbalance_ban(self, irqs: list[int]) -> None:
        """Make this the full set of IRQs that irqbalance keeps its hands off; raises MachineError, HungError."""
        self._do(IrqBan([], irqs), "irqbalance's ban")

    def close(self) -> None:
        """End the child, unless it is in a write, and close every socket."""
        super().close()
        child, self._child = self._child, None
        if child is not None:
            os.close(child.orders)
            os.close(child.answers)
            if self._hung:
                os.kill(child.pid, signal.SIGKILL)
            else:
                os.waitpid(child.pid, 0)

    def _do(self, op: Op, what: str) -> None:
        if self._hung:
            raise HungError(self._hung)
        self._child = self._child or _fork()
        payload = msgspec.json.encode(op)
        try:
            _send(self._child.orders, payload)
            answer = _ANSWER.decode(self._answer(self._child, what))
        except (BrokenPipeError, EOFError):
            pid = self._child.pid
            self._child = None
            _, status = os.waitpid(pid, 0)
            raise MachineError(f"{what}: the process that writes ended with {status}") from None
        if answer.error:
            error = _CLASSES[answer.error](answer.text)
            error.code = answer.code
            raise error

    def _answer(self, child: _Child, what: str) -> bytes:
        begun = time.monotonic()
        while not select.select([child.answers], [], [], LOOK_S)[0]:
            took_s = time.monotonic() - begun
            if not self.patience(took_s):
                self._hung = f"{what}: has not returned from the kernel for {took_s:.0f} s"
                raise HungError(self._hung)
        return _receive(child.answers)


def _fork() -> _Child:
    parent = os.getpid()
    theirs, orders = os.pipe2(os.O_CLOEXEC)
    answers, ours = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(theirs)
        os.close(ours)
        return _Child(pid, orders, answers)
    try:
        os.close(orders)
        os.close(answers)
        _alone(parent)
        _serve(theirs, ours)
    finally:
        os._exit(0)  # nothing of the parent's is cleaned up here


def _alone(parent: int) -> None:
    """Die with the parent and not before: a service manager's SIGTERM is the parent's to answer, with an undoing."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _heard)  # not ignored: what is started from here would ignore it, too
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):  # who reads our output to its end must not wait for this process
        os.dup2(nothing, handle)


def _heard(_number: int, _frame: object) -> None:
    """The parent has heard it as well."""


def _serve(orders: int, answers: int) -> None:
    with LiveWriter() as writer:
        while True:
            try:
                op = _OP.decode(_receive(orders))
            except EOFError:
                return
            _send(answers, msgspec.json.encode(_made(writer, op)))


def _made(writer: LiveWriter, op: Op) -> Answer:
    try:
        match op:
            case FileWrite():
                writer.write(op.path, op.after)
            case Request():
                writer.request(op)
            case IrqBan():
                writer.irqbalance_ban(op.after)
    except MachineError as error:
        nearest = next(made.__name__ for made in type(error).__mro__ if made.__name__ in _CLASSES)
        return Answer(nearest, str(error), error.code)
    except Exception as error:  # noqa: BLE001 - a fault in a request's code is undone as any failure
        return Answer("MachineError", f"{type(error).__name__}: {error}")
    return Answer()


def _send(handle: int, payload: bytes) -> None:
    data = _LENGTH.pack(len(payload)) + payload
    while data:
        data = data[os.write(handle, data) :]


def _receive(handle: int) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(handle, _LENGTH.size))
    return _exactly(handle, length)


def _exactly(handle: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = os.read(handle, count - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data
