"""Jobs in processes of their own: whatever a client does, there is an answer or one line, and nothing is left."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import psutil
import pytest

from pollers.bmc import FIRST_REST_S, LONGEST_REST_S, SICK_AFTER, Bmcs, edges, fell_sick
from pollers.bmc_job import Job
from pollers.bmc_workers import Workers
from pollers.target import DeviceError, Secret, Target
from tests.pollers.odd_worker import SECRET
from wire.facts import Bmc, BmcSensor, Fact

T = TypeVar("T")
MODULE = "tests.pollers.odd_worker"


def run(work: Callable[[Workers], Coroutine[Any, Any, T]], most: int = 4) -> T:
    async def whole() -> T:
        workers = Workers(MODULE, most)
        try:
            return await work(workers)
        finally:
            workers.close()
            assert workers.pid is None

    return asyncio.run(whole())


def left(workers: Workers) -> list[psutil.Process]:
    return psutil.Process(workers.pid).children(recursive=True)


async def until(done: Callable[[], Any]) -> None:
    while not done():
        await asyncio.sleep(0.01)


def test_each_job_has_a_process_of_its_own_and_none_is_left() -> None:
    async def story(workers: Workers) -> None:
        pids = {await workers.run(b"pid", 20) for _ in range(3)}
        assert len(pids) == 3
        assert str(workers.pid).encode() not in pids
        await until(lambda: left(workers) == [])

    run(story)


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("refuse", r"^it does not want to$"),
        ("break", r"^fault while reading it: KeyError in odd_worker\.py:\d+$"),
        ("spin", r"^no answer within 1 s$"),
        ("deaf", r"^no answer within 1 s$"),
        ("exit", r"^the process that asked it ended without an answer$"),
        ("eat", r"^fault while reading it: MemoryError in odd_worker\.py:\d+$"),
        ("large", r"^an answer of 17825792 bytes is too large$"),
    ],
)
def test_whatever_goes_wrong_is_one_line_without_a_secret(job: str, said: str) -> None:
    async def story(workers: Workers) -> None:
        with pytest.raises(DeviceError, match=said) as caught:
            await workers.run(job.encode(), 1.0 if job in ("spin", "deaf") else 30.0)
        assert SECRET not in str(caught.value)
        await until(lambda: left(workers) == [])
        assert await workers.run(b"echo", 20) == b"echo"

    run(story)


def test_a_large_answer_comes_whole() -> None:
    async def story(workers: Workers) -> int:
        return len(await workers.run(b"much", 30))

    assert run(story) == 9 << 20


def test_what_nobody_waits_for_is_ended() -> None:
    async def story(workers: Workers) -> None:
        job = asyncio.create_task(workers.run(b"spin", 3600))
        await until(lambda: workers.pid and left(workers))
        job.cancel()
        await until(lambda: left(workers) == [])

    run(story)


def test_no_more_run_at_once_than_there_are_slots_and_one_that_hangs_holds_one() -> None:
    async def story(workers: Workers) -> None:
        stuck = asyncio.create_task(workers.run(b"spin", 3600))
        await until(lambda: workers.pid and len(left(workers)) == 1)
        assert await asyncio.gather(*(workers.run(b"echo", 20) for _ in range(6))) == [b"echo"] * 6
        assert not stuck.done()
        also = asyncio.create_task(workers.run(b"spin", 3600))
        await until(lambda: len(left(workers)) == 2)
        waits = asyncio.create_task(workers.run(b"echo", 20))
        stuck.cancel()
        assert await waits == b"echo"
        also.cancel()

    run(story, most=2)


def test_those_that_failed_before_take_no_more_than_their_part_of_the_slots() -> None:
    async def story(workers: Workers) -> None:
        stuck = [asyncio.create_task(workers.run(b"spin", 3600, suspect=True)) for _ in range(4)]
        await until(lambda: workers.pid and len(left(workers)) == 1)
        assert await asyncio.gather(*(workers.run(b"echo", 20) for _ in range(6))) == [b"echo"] * 6
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()

    run(story, most=4)


def test_a_worker_that_was_killed_is_started_again() -> None:
    async def story(workers: Workers) -> None:
        assert await workers.run(b"echo", 20) == b"echo"
        first = workers.pid
        assert first
        os.kill(first, signal.SIGKILL)
        await until(lambda: psutil.Process(first).status() == psutil.STATUS_ZOMBIE)
        assert await workers.run(b"echo", 20) == b"echo"
        assert workers.pid != first
        assert not psutil.pid_exists(first)

    run(story)


def test_a_client_that_is_not_there_is_one_line() -> None:
    async def story() -> None:
        workers = Workers("tests.pollers.no_such_worker")
        try:
            with pytest.raises(DeviceError):
                await workers.run(b"echo", 20)
        finally:
            workers.close()

    asyncio.run(story())


def test_secrets_are_not_in_what_a_job_or_credentials_print() -> None:
    job = Job(address="a", port=1, tls="none", username="u", password=SECRET, deadline_s=1, now_ms=0)
    assert SECRET not in f"{job} {job!r} {Secret(username='u', password=SECRET)!r}"


# -- a BMC between its polls -------------------------------------------------------------------------------------------


def test_one_that_is_sick_rests_longer_and_longer() -> None:
    async def gone(address: str, port: int, deadline_s: float) -> None:
        raise DeviceError("nobody there")

    async def story() -> list[float]:
        bmcs = Bmcs(MODULE, 1, gone)
        rests: list[float] = []
        target, now = Target(name="b", protocol="ipmi", address="192.0.2.1"), asyncio.get_running_loop().time
        for number in range(1, SICK_AFTER + 9):
            if number == SICK_AFTER:
                assert [event.kind for event in (await bmcs.poll(target, Secret())).events] == ["bmc.sick"]
            else:
                with pytest.raises(DeviceError, match="nobody there"):
                    await bmcs.poll(target, Secret())
            (memory,) = bmcs.memories.values()
            rests.append(memory.rests_until - now())
            if memory.sick:
                with pytest.raises(DeviceError, match=r"^sick: "):
                    await bmcs.poll(target, Secret())
            memory.rests_until = 0
        return rests

    rests = asyncio.run(story())
    assert all(rest <= 0 for rest in rests[: SICK_AFTER - 1])
    assert [round(rest, -1) for rest in rests[SICK_AFTER - 1 :][:3]] == [FIRST_REST_S * 2**n for n in range(3)]
    assert round(rests[-1], -1) == LONGEST_REST_S


def test_edges_are_told_and_a_first_look_is_not() -> None:
    before: list[Fact] = [Bmc(power="on", intrusion=False), BmcSensor(key="a", name="FAN1", status="ok")]
    after: list[Fact] = [Bmc(power="off", intrusion=True), BmcSensor(key="a", name="FAN1", status="critical")]
    assert [event.kind for event in edges([], after)] == []
    assert [event.kind for event in edges(before, after)] == ["bmc.power", "bmc.intrusion", "sensor.alarm"]
    assert [event.kind for event in edges(after, before)] == ["bmc.power", "sensor.cleared"]
    assert [event.kind for event in edges(after, after)] == []
    assert [event.kind for event in edges([Bmc()], [Bmc(power="on", intrusion=True)])] == []


def test_one_that_fell_sick_before_it_was_ever_read_is_there_all_the_same() -> None:
    polled = fell_sick([], "192.0.2.1", "no answer")
    assert polled.facts == [Bmc(address="192.0.2.1", sick=True)]
    assert polled.events[0].text == "the BMC is sick: no answer"
