"""Polling a BMC, whatever it speaks: one poll of each at a time, its past kept, a sick one left alone."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import msgspec

from pollers.bmc_job import ANSWER, Answer, Job
from pollers.bmc_workers import Workers
from pollers.target import DeviceError, Polled, Secret, Target
from wire.facts import Bmc, BmcSensor, Fact
from wire.report import Event, Severity

SICK_AFTER = 3  # failures in a row
FIRST_REST_S = 60.0  # of a sick BMC, doubled with each failure
LONGEST_REST_S = 1800.0


Check = Callable[[str, int, float], Awaitable[None]]  # raises DeviceError when nobody answers at all


class Memory:
    """One BMC between its polls."""

    def __init__(self) -> None:
        self.known = b""
        self.facts: list[Fact] = []
        self.failures = 0
        self.rests_until = 0.0
        self.flight: asyncio.Task[Polled] | None = None

    @property
    def sick(self) -> bool:
        """Whether it has not answered several times in a row."""
        return self.failures >= SICK_AFTER


class Bmcs:
    """The BMCs of one protocol and the workers that ask them."""

    def __init__(self, module: str, port: int, check: Check) -> None:
        self.workers = Workers(module)
        self.memories: dict[tuple[str, int], Memory] = {}
        self._port = port
        self._check = check

    async def poll(self, target: Target, secret: Secret) -> Polled:
        """One poll, or the one that is under way; raises DeviceError.

        At the failure that makes it sick the answer is what was known, marked so; until it has rested nobody asks it.
        """
        memory = self.memories.setdefault((target.address, target.port or self._port), Memory())
        if memory.flight is None:
            left_s = memory.rests_until - time.monotonic()
            if left_s > 0:
                raise DeviceError(f"sick: {memory.failures} polls in a row failed, the next is in {left_s:.0f} s")
            memory.flight = asyncio.create_task(self._fly(memory, target, secret))
            memory.flight.add_done_callback(lambda _: setattr(memory, "flight", None))
        return await asyncio.shield(memory.flight)

    async def ask(
        self,
        target: Target,
        secret: Secret,
        verb: str,
        argument: str = "",
        *,
        known: bytes = b"",
        suspect: bool = False,
    ) -> Answer:
        """One job by a worker, without memory; raises DeviceError."""
        port = target.port or self._port
        job = Job(
            address=target.address,
            port=port,
            tls=target.tls,
            username=secret.username,
            password=secret.password,
            deadline_s=target.deadline_s,
            now_ms=time.time_ns() // 1_000_000,
            verb=verb,
            argument=argument,
            known=known,
        )
        await self._check(target.address, port, target.deadline_s)
        return ANSWER.decode(await self.workers.run(msgspec.msgpack.encode(job), target.deadline_s, suspect=suspect))

    def close(self) -> None:
        """End the worker and forget every BMC."""
        self.workers.close()
        self.memories.clear()

    async def _fly(self, memory: Memory, target: Target, secret: Secret) -> Polled:
        try:
            answer = await self.ask(target, secret, "poll", known=memory.known, suspect=memory.failures > 0)
        except DeviceError as error:
            memory.failures += 1
            if not memory.sick:
                raise
            worse = memory.failures - SICK_AFTER
            memory.rests_until = time.monotonic() + min(FIRST_REST_S * 2.0 ** min(worse, 10), LONGEST_REST_S)
            if worse:
                raise
            return fell_sick(memory.facts, target.address, str(error))
        events = [*answer.events, *edges(memory.facts, answer.facts)]
        if memory.sick:
            events.append(Event(at_ms=0, kind="bmc.recovered", key="bmc", text="the BMC answers again"))
        memory.failures, memory.known, memory.facts = 0, answer.known, answer.facts
        return Polled(answer.facts, answer.samples, events)


def fell_sick(known: list[Fact], address: str, why: str) -> Polled:
    """What was known of a BMC that does not answer any more, marked as sick, with the event that says so."""
    facts: list[Fact] = [msgspec.structs.replace(fact, sick=True) if isinstance(fact, Bmc) else fact for fact in known]
    text = f"the BMC is sick: {why}"
    event = Event(at_ms=0, kind="bmc.sick", key="bmc", severity=Severity.WARNING, text=text)
    return Polled(facts or [Bmc(address=address, sick=True)], [], [event])


_SEVERITY = {"warning": Severity.WARNING, "critical": Severity.CRITICAL}


def edges(before: list[Fact], after: list[Fact]) -> Iterator[Event]:
    """What changed in a way that somebody should hear of: power, intrusion, a sensor's status. None at a first poll."""
    old = {(type(fact), fact.key): fact for fact in before}
    for fact in after:
        was = old.get((type(fact), fact.key))
        if isinstance(fact, Bmc) and isinstance(was, Bmc):
            yield from _bmc_edges(was, fact)
        elif isinstance(fact, BmcSensor) and isinstance(was, BmcSensor) and fact.status != was.status:
            yield from _sensor_edge(was, fact)


def _bmc_edges(was: Bmc, bmc: Bmc) -> Iterator[Event]:
    if bmc.power and was.power and bmc.power != was.power:
        yield Event(at_ms=0, kind="bmc.power", key=bmc.key, text=f"power is {bmc.power}, was {was.power}")
    if bmc.intrusion and was.intrusion is False:
        severity = Severity.CRITICAL
        yield Event(at_ms=0, kind="bmc.intrusion", key=bmc.key, severity=severity, text="the chassis was opened")


def _sensor_edge(was: BmcSensor, sensor: BmcSensor) -> Iterator[Event]:
    named = sensor.name or sensor.key
    said = f" ({', '.join(sensor.states)})" if sensor.states else ""
    if sensor.status in _SEVERITY:
        text = f"{named} is {sensor.status}{said}"
        yield Event(at_ms=0, kind="sensor.alarm", key=sensor.key, severity=_SEVERITY[sensor.status], text=text)
    elif was.status in _SEVERITY:
        ended = f"{named} is {sensor.status or 'silent'}, was {was.status}"
        yield Event(at_ms=0, kind="sensor.cleared", key=sensor.key, text=ended)
