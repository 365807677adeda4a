"""The agent that stays: collects, keeps, sends, watches, and lets a transaction change what the inventory wants."""

import contextlib
import fcntl
import gc
import logging
import math
import os
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from agent import VERSION, identity, notify
from agent.adaptive import Adaptive
from agent.commands import Commands
from agent.config import Config
from agent.events import pipeline
from agent.events.watching import Watching
from agent.flow import Flow
from agent.link import Down, Link, Received, Up
from agent.pulse import Pulse
from agent.rows import Changes
from agent.schedule import Schedule
from agent.spool import Row, Spool, SpoolError, event_row
from agent.status import Running
from agent.tuning import Tuning
from collectors import registry
from machine import Machine, kept
from tuners import planner
from tuners.hostfacts import HostFacts
from tuners.registry import ALL as TUNERS
from wire.codec import encode
from wire.policy import Desired, Reported
from wire.report import Ack, Birth, Command, Event, Priority, Report, Result, Severity, State
from wire.topics import Channel

PLANNED_FROM = ("cpu", "numa", "nic", "ethtool", "irq", "queues", "softnet")  # collectors of whatever plan
RETRY_S = 5.0
BEAT_S = 10.0  # the heartbeat without which fans go to full speed and no watchdog is fed

log = logging.getLogger("rackhand")


class BusyError(Exception):
    """Another agent runs on this state directory."""


def lock(state: Path) -> IO[bytes]:
    """Hold the state directory for as long as the file is open; raises BusyError, OSError."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (state / "agent.lock").open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise BusyError(f"another agent runs on {state}") from None
    return file


def _sign(file: IO[bytes], running: Running) -> None:
    file.truncate(0)
    file.write(encode(running))
    file.flush()


class Resident:
    """Everything is decided on one thread: the network and the collectors have threads that only hand over."""

    def __init__(self, config: Config, machine: Machine) -> None:
        self.config = config
        self.machine = machine
        self.stopping = False
        self._lock = lock(config.state)
        _sign(self._lock, Running(os.getpid(), config.observe))
        self.fingerprint = identity.read_fingerprint(machine)
        self.host_id = identity.load(config.state, self.fingerprint).host_id
        self.start = os.urandom(8).hex()
        self.spool = Spool(config.state / "spool.db", config.spool.max_bytes, config.spool.max_age_s)
        self._epoch = self.spool.epoch
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.flow = Flow(config.replay)
        self.link = Link(config.broker, site=config.site, host_id=self.host_id, start=self.start, wake=self.wake)
        self.changes = Changes()
        self.schedule = Schedule(registry.ALL, machine, config.intervals, self.wake)
        self.tuning = Tuning(
            config.state,
            host_id=self.host_id,
            start=self.start,
            observe=config.observe,
            peers=[f"{config.broker.host}:{config.broker.port}"],
            tell=self.tell,
            publish=self._publish_reported,
            ended=self._reread,
        )
        self.adaptive = Adaptive(machine, config.state, self.tuning, facts=self._known, tell=self.tell)
        peers = [f"{config.broker.host}:{config.broker.port}"]
        self.commands = Commands(config.state, observe=config.observe, peers=peers)
        self.watching = Watching(
            machine,
            config.state,
            config.events.watch,
            pipeline=pipeline.configured(config.events),
            facts=lambda: self.changes.facts,
            keep=lambda events: self.store([event_row(*events)]),
            ask=self._look_again,
        )
        self.pulse = Pulse(machine, [config.broker.port])
        self._read_ms: dict[str, int] = {}
        self._storing = True
        self._lost_facts = 0
        self._fed_s = 0.0
        self._beat_s = 0.0

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until SIGTERM or SIGINT; a fault in one turn is told and the next turn comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._recover()
        self.tell(_event("agent.started", f"agent {VERSION}, process {self.start}"))
        notify.notify("READY=1")
        gc.collect()
        gc.freeze()  # what is there now stays: no collection walks it again
        faults = 0
        while not self.stopping:
            try:
                self.turn()
                self._wait(self._idle_s())
                faults = 0
            except Exception as error:
                faults = min(faults + 1, 6)
                log.exception("a turn failed")
                self.tell(_event("agent.fault", f"{type(error).__name__}: {error}", Severity.CRITICAL))
                time.sleep(min(2.0**faults, 60.0))
        self.close()

    def turn(self) -> None:
        """One round of everything; never blocks."""
        for outcome in self.link.step():
            self._heard(outcome)
        self.watching.step()
        if ran := self.schedule.tick():
            self.watching.compare(ran)
            self.store(self.changes.rows(ran))
            self._read_ms.update((name, at_ms) for name, at_ms, _ in ran)
            if any(name in self._planned_from() for name, _, _ in ran):
                self._compare()
        self.tuning.step()
        self.adaptive.step()
        for name, result in self.commands.step(self.tuning.undone):
            self._answer(name, result)
        self._send()
        self.pulse.step()
        if time.monotonic() - self._beat_s > BEAT_S / 2:
            self._beat_s = time.monotonic()
            kept.beat()
        if time.monotonic() - self._fed_s > notify.watchdog_s():
            self._fed_s = time.monotonic()
            notify.notify("WATCHDOG=1")

    def close(self) -> None:
        """Stop without undoing anything that was committed."""
        notify.notify("STOPPING=1")
        kept.beat(kept.STOPPED)
        self.tell(_event("agent.stopped", "the agent was told to stop"))
        self.tuning.close()
        self.watching.close()
        self.commands.close()
        self.schedule.close()
        self.link.close()
        self.spool.close()
        signal.set_wakeup_fd(-1)
        os.close(self._woken)
        self._lock.close()

    def wake(self) -> None:
        """End the present wait; may be called from any thread."""
        with contextlib.suppress(BlockingIOError):  # full: the wait ends anyway
            os.write(self._waker, b"\0")

    def _stop(self, _number: int, _frame: object) -> None:
        self.stopping = True

    def _idle_s(self) -> float:
        flow_s = self.flow.wait_s() if self.link.connected else 60.0
        busy_s = 0.2 if self.commands.busy() else 60.0
        own_s = min(self.link.wait_s(), self.schedule.wait_s(), self.watching.wait_s(), self.pulse.wait_s())
        return min(own_s, self.adaptive.wait_s(), flow_s, notify.watchdog_s(), busy_s, BEAT_S)

    def _wait(self, seconds: float) -> None:
        handles = [self._woken, self.tuning.fileno(), *self.watching.filenos()]
        poll = select.poll()
        for handle in handles:
            if handle is not None:
                poll.register(handle, select.POLLIN)
        poll.poll(math.ceil(max(0.0, seconds) * 1000))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                pass

    # -- what is kept --------------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Keep an event of the agent's own for the inventory."""
        self.watching.tell(event)

    def store(self, rows: Sequence[Row]) -> None:
        """Append to the spool; a failure is said once. What is lost is counted there, and lost facts go again."""
        try:
            self.spool.append(rows)
            self._storing = True
        except SpoolError as error:
            if self._storing:
                log.warning("not stored: %s", error)
            self._storing = False
        lost = self.spool.dropped[Priority.INVENTORY]
        if lost > self._lost_facts:
            self._lost_facts = lost
            self.changes.resend()

    def _send(self) -> None:
        if not self.link.connected:
            return
        if self.spool.epoch != self._epoch:
            self._epoch = self.spool.epoch
            self.flow.connected(0)
            self.rebirth()
        try:
            for seq in self.flow.due(self.spool):
                self._send_row(seq)
        except SpoolError as error:
            log.warning("%s", error)

    def _send_row(self, seq: int) -> None:
        body = self.spool.body(seq)
        if body is None:
            self.flow.in_flight.pop(seq, None)
            return
        report = Report(
            host_id=self.host_id, epoch=self.spool.epoch, seq=seq, floor=self.spool.floor(), start=self.start
        )
        head = encode(report)
        payload = head if body == b"{}" else head[:-1] + b"," + body[1:]
        channel = Channel.EVENT if b'"events":' in body[:10] else Channel.REPORT
        self.link.publish(channel, payload)

    # -- what is heard -------------------------------------------------------------------------------------------------

    def _heard(self, outcome: Up | Down | Received) -> None:
        if isinstance(outcome, Received):
            self._received(outcome)
            return
        what = "observing" if self.config.observe else "managing"
        why = f": {outcome.reason}" if isinstance(outcome, Down) else ""
        where = f"{'not ' if why else ''}connected to {self.config.broker.host}:{self.config.broker.port}"
        notify.notify(f"STATUS={what}, {where}{why}")
        if isinstance(outcome, Up):
            self.flow.connected(self.spool.count())
            self._announce()
            self.tuning.republish()

    def _received(self, received: Received) -> None:
        message = received.message
        if isinstance(message, Ack):
            if message.start not in ("", self.start):
                return  # for a clone of this machine, or for an earlier process: what is still held goes again
            self.spool.ack(message.epoch, message.seq)
            if message.epoch == self.spool.epoch:
                self.tuning.acknowledged(self.flow.acked(message.seq, self.spool.floor()))
        elif isinstance(message, Desired):
            self.tuning.offer(message)
            self._compare()
        else:
            self._command(received.name, message)

    def _command(self, name: str, command: Command) -> None:
        result = self.commands.take(self, name, command)
        if result is not None:
            self._answer(name, result)

    def rebirth(self) -> None:
        """Say again who this is, and send all facts with the next cycle, which begins now."""
        self.changes.resend()
        self.schedule.ask()
        self._announce()

    def collect(self) -> None:
        """Begin a cycle of all collectors now."""
        self.schedule.ask()

    def _announce(self) -> None:
        self.link.publish(Channel.BIRTH, encode(self.birth()), retain=True)
        state = State(host_id=self.host_id, start=self.start, online=True)
        self.link.publish(Channel.STATE, encode(state), retain=True)

    def birth(self) -> Birth:
        """Who this is, now."""
        return Birth(
            host_id=self.host_id,
            start=self.start,
            epoch=self.spool.epoch,
            hostname=identity.hostname(self.machine),
            at_ms=time.time_ns() // 1_000_000,
            agent_version=VERSION,
            boot_id=identity.boot_id(self.machine),
            fingerprint=self.fingerprint,
            labels=self.config.labels,
            collectors=[collector.NAME for collector in registry.ALL],
            tuners=[tuner.NAME for tuner in TUNERS],
            observe=self.config.observe,
            generation=self.tuning.documents.generation,
        )

    def _answer(self, name: str, result: Result) -> None:
        self.link.publish(Channel.RESULT, encode(result), name=name)

    def _publish_reported(self, reported: Reported) -> None:
        self.link.publish(Channel.REPORTED, encode(reported), retain=True)

    # -- what is compared ----------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        """Look for what differs from the desired document, on facts younger than the last change of ours."""
        self.tuning.retry()
        read_ms = min(self._read_ms.get(name, 0) for name in self._planned_from())
        if self.tuning.documents.desired is not None and read_ms > self.tuning.ended_ms:
            self.tuning.look(self._known(), connected=self.link.connected)

    def _planned_from(self) -> set[str]:
        """The collectors whose facts a plan of the present document is made from."""
        desired = self.tuning.documents.desired
        knobs = {setting.knob for setting in desired.settings} if desired is not None else set[str]()
        return {*PLANNED_FROM, *planner.collectors(knobs)}

    def _look_again(self, *collectors: str) -> None:
        """Something was announced: read what it made old, and with a NIC all that is planned from."""
        nics = "nic" in collectors and self.tuning.documents.desired is not None
        self.schedule.ask(*collectors, *(self._planned_from() if nics else ()))

    def _known(self) -> HostFacts:
        return HostFacts(fact for facts in self.changes.facts.values() for fact in facts)

    def _reread(self) -> None:
        self.schedule.ask(*self._planned_from())

    def _recover(self) -> None:
        """End what an earlier agent left in the middle."""
        from agent import deadman, journal  # noqa: PLC0415 - only at the start

        try:
            recovered = deadman.recover(self.config.state)
        except journal.JournalError as error:  # before a change it is tried again, and without it none is made
            log.warning("not recovered: %s", error)
            self.tell(_event("policy.recovered", f"not recovered: {error}", Severity.CRITICAL))
            return
        for played in recovered:
            text = f"transaction {played.tx}: {played.state}: {played.reason}"
            self.tell(_event("policy.recovered", text, Severity.WARNING))
            documents = self.tuning.documents
            if documents.desired is not None and documents.desired.generation == played.generation:
                self.tuning.undone(played.outcomes, played.tx, played.reason)


def _event(kind: str, text: str, severity: Severity = Severity.INFO) -> Event:
    return Event(at_ms=time.time_ns() // 1_000_000, kind=kind, severity=severity, text=text)
