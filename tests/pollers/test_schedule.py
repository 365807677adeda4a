"""Many devices on one loop: each by itself, whatever the others do."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from pollers import schedule
from pollers.schedule import Round, Schedule
from pollers.target import DeviceError, Poll, Polled, Secret, Target
from wire.facts import Bmc
from wire.report import Event

NOTHING = Polled([], [], [])


def devices(*names: str, every_s: float = 0.01, deadline_s: float = 5) -> dict[str, tuple[Target, Secret]]:
    return {
        name: (Target(name=name, protocol="snmp", address=name, every_s=every_s, deadline_s=deadline_s), Secret())
        for name in names
    }


def run(
    watched: dict[str, tuple[Target, Secret]], poll: Poll, until: Callable[[list[Round]], bool]
) -> tuple[Schedule, list[Round]]:
    ended: list[Round] = []

    async def main() -> Schedule:
        enough = asyncio.Event()

        def done(one: Round) -> None:
            ended.append(one)
            if until(ended):
                enough.set()

        made = Schedule(watched, lambda _: poll, done)
        running = asyncio.create_task(made.run())
        async with asyncio.timeout(60):
            await enough.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return made

    return asyncio.run(main()), ended


def test_one_that_hangs_delays_no_other_and_is_polled_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "SPREAD_S", 0.0)
    running: Counter[str] = Counter()

    async def poll(target: Target, _secret: Secret) -> Polled:
        running[target.name] += 1
        assert running[target.name] == 1
        try:
            if target.name == "slow":
                await asyncio.Event().wait()
            return NOTHING
        finally:
            running[target.name] -= 1

    names = [f"d{number}" for number in range(50)]
    made, ended = run(devices("slow", *names), poll, lambda ended: all(made_of(ended)[name] >= 3 for name in names))
    assert "slow" not in made_of(ended)
    assert made.health["slow"].polls == 0


def made_of(ended: list[Round]) -> Counter[str]:
    return Counter(one.target.name for one in ended)


def test_a_poll_that_ignores_its_deadline_is_left() -> None:
    async def poll(_target: Target, _secret: Secret) -> Polled:
        await asyncio.Event().wait()
        return NOTHING

    _, ended = run(devices("hung", deadline_s=0.05), poll, lambda ended: len(ended) == 2)
    assert ended[0].polled is None
    assert ended[0].health.reason.startswith("hangs: no end after 0.2 s")


def test_failures_make_it_sick_with_a_reason_and_an_answer_makes_it_well() -> None:
    states: list[tuple[str, str]] = []
    calls = iter([*[DeviceError("no answer\n\x1b[2J")] * 3, KeyError("fault of ours"), None, None])

    async def poll(_target: Target, _secret: Secret) -> Polled:
        if (error := next(calls, None)) is not None:
            raise error
        return NOTHING

    def until(ended: list[Round]) -> bool:
        states.append((ended[-1].health.state, ended[-1].health.reason))
        return len(ended) == 6

    made, _ = run(devices("pdu", every_s=0.001), poll, until)
    assert [state for state, _ in states] == ["failing", "failing", "sick", "sick", "ok", "ok"]
    assert states[0][1] == "no answer \N{REPLACEMENT CHARACTER}[2J"
    assert states[3][1] == "fault: KeyError: 'fault of ours'"
    health = made.health["pdu"]
    assert (health.polls, health.failed, health.in_a_row) == (6, 4, 0)


def test_what_a_client_knew_of_a_sick_device_is_no_answer() -> None:
    event = Event(at_ms=0, kind="bmc.sick", text="the BMC is sick: no answer")

    async def poll(_target: Target, _secret: Secret) -> Polled:
        return Polled([Bmc(sick=True)], [], [event])

    _, ended = run(devices("bmc"), poll, lambda ended: len(ended) == 3)
    assert ended[-1].polled is not None
    assert (ended[-1].health.state, ended[-1].health.reason) == ("sick", event.text)


def test_a_failing_device_is_asked_less_and_less_often_within_bounds() -> None:
    made = Schedule(devices("pdu", every_s=60), lambda _: None, lambda _: None)  # type: ignore[arg-type, return-value]
    waits: list[float] = []
    for failures in (0, 1, 2, 3, 4, 20):
        made.health["pdu"].in_a_row = failures
        waits.append(made.interval_s("pdu"))
    for wait_s, wanted in zip(waits, (60, 60, 120, 240, 480, 900), strict=True):
        assert 0.94 * wanted <= wait_s <= 1.06 * wanted


def test_who_asks_is_polled_at_once() -> None:
    polls = 0
    asked: list[Schedule] = []

    async def poll(_target: Target, _secret: Secret) -> Polled:
        nonlocal polls
        polls += 1
        return NOTHING

    async def main() -> None:
        second = asyncio.Event()
        made = Schedule(devices("pdu", every_s=3600), lambda _: poll, lambda _: second.set() if polls == 2 else None)
        asked.append(made)
        running = asyncio.create_task(made.run())
        async with asyncio.timeout(60):
            while polls < 1:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            made.ask("pdu")
            await second.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    assert polls == 2
