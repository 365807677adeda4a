"""One transaction, a short-lived process: plan, guard, journal, dead-man, apply, verify, probe, commit or revert.

`python -m agent.transaction --state DIR [--desired FILE] [--confirm {agent,self}] [--broker HOST:PORT]`

It prints one JSON object per line: `recovered` (a journal that an earlier transaction left, with `played`), `verified`
(with `tx` and `reported`; with `--confirm agent` it now waits for "commit" or "revert" on stdin, whose end means
revert), and at last `final` with the `reported` that stands. Exit codes: 0 done (also when reverted), 1 nothing could
be begun (why is on stderr), 2 bad input, 3 nothing to do, 4 another transaction is at work. SIGTERM reverts. Once
committed, nothing here ever rolls back.
"""

import argparse
import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent import deadman, gate, guard, journal, outcomes, probes
from agent.deadman import DeadManError
from agent.journal import Journal, JournalError, State
from agent.work import FailedError, Work
from agent.worker import Hands, HungError
from machine import MachineError
from wire.codec import DecodeError, decode
from wire.policy import DESIRED, REPORTED, Desired, Outcome, Reported

DONE, FAILED, BAD_INPUT, NOTHING, BUSY = 0, 1, 2, 3, 4
AT_ONCE_S = 0.5  # a write that takes longer than this is left alone when the time is up
UNDO_S = 30.0  # and in undoing, longer than this
GRACE_S = 1.0  # the dead-man leaves the transaction this much time to revert by itself


class Orders:
    """What reaches a running transaction from outside: SIGTERM, the clock, and lines on stdin."""

    def __init__(self, seconds: float) -> None:
        self._terminated = False
        self._wakeup, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._terminate)
        self.extend(seconds)

    def extend(self, seconds: float) -> None:
        """Start the time anew."""
        self._until_ns = journal.now_ns() + int(seconds * 1e9)

    def _terminate(self, _number: int, _frame: object) -> None:
        self._terminated = True

    def stop(self) -> str:
        """Why to stop applying, "" to go on."""
        if self._terminated:
            return "told to stop"
        return "out of time" if self.left_s() <= 0 else ""

    def patient(self, took_s: float) -> bool:
        """Whether a write that has been in the kernel for so long is waited for."""
        return took_s < AT_ONCE_S or not self.stop()

    def left_s(self) -> float:
        """Seconds until it has to be decided."""
        return (self._until_ns - journal.now_ns()) / 1e9

    def verdict(self) -> str:
        """Wait for the agent's word: "" for a commit, else why to revert."""
        text = b""
        while b"\n" not in text:
            if reason := self.stop():
                return "not confirmed in time" if reason == "out of time" else reason
            ready, _, _ = select.select([0, self._wakeup], [], [], max(0.0, self.left_s()))
            if self._wakeup in ready:
                os.read(self._wakeup, 512)
            if 0 in ready:
                if not (chunk := os.read(0, 512)):
                    return "the agent is gone"
                text += chunk
        word = text.split(b"\n", 1)[0].strip()
        return "" if word == b"commit" else f"the agent said {word[:40].decode(errors='replace')}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one transaction; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        handle = journal.lock(options.state)
    except journal.BusyError as error:
        sys.stderr.write(f"{error}\n")
        return BUSY
    try:
        return _run(options)
    except DecodeError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    except (MachineError, JournalError) as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    finally:
        os.close(handle)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent.transaction")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--desired", type=Path, help="default: desired.json in the state directory")
    parser.add_argument("--confirm", choices=("agent", "self"), default="agent")
    parser.add_argument("--confirm-within", type=float, help="seconds, instead of the document's confirm_s")
    parser.add_argument(
        "--broker", type=_endpoint, action="append", default=[], help="HOST:PORT that must stay reachable"
    )
    parser.add_argument("--start", default="", help="id of the agent process, for the report")
    return parser


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _run(options: argparse.Namespace) -> int:
    for played in deadman.recover(options.state):
        emit("recovered", played=played)
    desired = _document(options.desired or options.state / "desired.json")
    with contextlib.closing(Hands()) as writer:
        peers = [address for host, port in options.broker for address in guard.addresses(host, port)]
        work = Work(writer, desired, peers, _earlier(options.state))
        session = Session(options, desired, work, writer)
        if work.pending:
            return session.transact()
        emit("final", reported=session.reported(work.results()))
        return NOTHING


def _document(path: Path) -> Desired:
    try:
        return decode(DESIRED, path.read_bytes())
    except OSError as error:
        raise DecodeError(f"{path}: {error.strerror}") from None


def _earlier(state: Path) -> Reported | None:
    """What was last reported, for settings that yield to others' changes."""
    try:
        return decode(REPORTED, (state / "reported.json").read_bytes())
    except (OSError, DecodeError):
        return None


class Session:
    """One transaction with something to do, from its journal to its final word."""

    def __init__(self, options: argparse.Namespace, desired: Desired, work: Work, writer: Hands) -> None:
        self._options = options
        self._desired = desired
        self._work = work
        self._writer = writer
        self._seconds = options.confirm_within or float(desired.confirm_s)
        work.settle_s = min(work.settle_s, self._seconds / 2)
        self._gate = gate.opened(desired.settings, work, options.state, options.broker)

    def transact(self) -> int:
        """Journal, arm, apply and decide; returns the exit code. Raises JournalError when nothing could be begun."""
        if self._gate and (known := self._gate.remembered()):
            emit("final", reported=self.reported(self._gate.not_again(known, self._work.results())))
            return NOTHING
        orders = Orders(self._seconds + (self._gate.seconds() if self._gate else 0.0))
        self._writer.patience = orders.patient
        if self._gate:
            self._gate.before(orders.stop)
            orders.extend(self._seconds)
        chosen = probes.choose(
            self._work.writer, self._options.broker, self._work.ifindexes(), min(5.0, self._seconds / 4)
        )
        with journal.create(self._options.state, self._opened()) as log:
            try:
                deadman.arm(log.path)
            except DeadManError as error:
                log.mark(State.FAILED, str(error))
                raise JournalError(str(error)) from None
            try:
                self._attempt(log, orders, chosen)
                reason, results = "", self._work.results()
            except HungError as error:
                reason, results = self._left(log, str(error))
            except (FailedError, MachineError, JournalError) as error:
                reason, results = str(error), self._revert(log, str(error))
            tx = log.story.opened.tx
        emit("final", tx=tx, reported=self.reported(results, tx, reason))
        return DONE

    def _opened(self) -> journal.Opened:
        return journal.opened(
            self._options.state,
            self._seconds + GRACE_S,
            host_id=self._desired.host_id,
            start=self._options.start,
            generation=self._desired.generation,
            hash=self._desired.hash,
        )

    def _attempt(self, log: Journal, orders: Orders, chosen: Sequence[probes.Probe]) -> None:
        """Apply, verify, probe, wait for the word, commit; raises FailedError when it has to be undone."""
        self._work.apply(log, orders.stop, chosen)
        within = max(0.0, min(orders.left_s(), self._seconds / 2))
        if missing := probes.failing(chosen, within, orders.stop):
            raise FailedError(f"worked before and does not now: {', '.join(missing)}")
        if self._gate:
            self._extend(log, orders, self._gate.seconds())
            if reason := self._gate.judge(orders.stop):
                raise FailedError(reason)
        if self._options.confirm == "agent":
            self._extend(log, orders, self._seconds)
            tx = log.story.opened.tx
            emit("verified", tx=tx, reported=self.reported(self._work.results(), tx))
            if reason := orders.verdict():
                raise FailedError(reason)
        elif reason := orders.stop():
            raise FailedError(reason)
        log.mark(State.COMMITTED, outcomes=self._work.results())

    def _extend(self, log: Journal, orders: Orders, seconds: float) -> None:
        orders.extend(seconds)
        log.append(journal.Deadline(journal.now_ns() + int((seconds + GRACE_S) * 1e9)))

    def _revert(self, log: Journal, reason: str) -> list[Outcome]:
        self._writer.patience = UNDO_S.__gt__
        try:
            deadman.revert(log, self._writer, reason)
        except HungError as error:
            return self._left(log, f"{reason}; {error}")[1]
        except JournalError:  # the disk fails now: the dead-man tries again, then the next start
            pass
        return self._work.results(undone=log.story.outcomes)

    def _left(self, log: Journal, reason: str) -> tuple[str, list[Outcome]]:
        """A write is still in the kernel: the journal stays open, its dead-man undoes it when that write is over."""
        reason = f"{reason}; the dead-man undoes all when the kernel lets go of it"
        changes = [change for stage in log.story.stages for change in stage.changes]
        return reason, self._work.results(undone=outcomes.undone(changes, [], reason))

    def reported(self, results: list[Outcome], tx: str = "", reason: str = "") -> Reported:
        """What is told about the desired document."""
        return Reported(
            host_id=self._desired.host_id,
            start=self._options.start,
            generation=self._desired.generation,
            hash=self._desired.hash,
            status=outcomes.worst(results),
            at_ms=time.time_ns() // 1_000_000,
            tx=tx,
            reason=reason,
            outcomes=self._gate.told(results) if self._gate else results,
        )


def emit(phase: str, **parts: Any) -> None:
    """One line of JSON; a reader that is gone is noticed on stdin, not here."""
    line = msgspec.json.encode({"phase": phase, **parts}) + b"\n"
    with contextlib.suppress(BrokenPipeError):
        while line:
            line = line[os.write(1, line) :]


if __name__ == "__main__":
    sys.exit(main())
