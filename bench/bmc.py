"""BMCs polled over IPMI by one process: what a poll costs, and what one that hangs does to the others.

The BMCs are OpenIPMI's simulator on loopback, with 20 sensors and 3 FRUs each; they take their part of the CPUs.
"""

import asyncio
import contextlib
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec

from bench.bmc_child import Cost
from bench.procs import smaps_mib
from hardware_lab import bmc as simulated
from hardware_lab.machine import Machine, Server
from pollers import ipmi
from pollers.bmc import Bmcs
from pollers.bmc_workers import MOST
from pollers.target import DeviceError, Secret, Target

COUNT = 16
ROUNDS = 5
DEADLINE_S = 10.0
FLEET, EVERY_S = 200, 60.0
CHASSIS = '#!/bin/sh\nshift\nfor name; do echo "$name:0"; done\n'  # without a server to ask for
DEAF_AFTER = 30  # datagrams: logged in, in the middle of the sensors


class Polled(msgspec.Struct):
    """One poll: how long it took, what its child cost."""

    wall_s: float
    cost: Cost
    known: bytes


class DeafRelay(asyncio.DatagramProtocol):
    """Passes a client's datagrams to a BMC, until it has passed enough."""

    def __init__(self, bmc: int) -> None:
        self.bmc = bmc
        self.left = DEAF_AFTER
        self.transport: asyncio.DatagramTransport | None = None
        self.client: tuple[str, int] = ("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Its own door."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """From the BMC to the client that spoke last, from a client to the BMC."""
        assert self.transport
        if addr[1] == self.bmc:
            self.transport.sendto(data, self.client)
        elif self.left > 0:
            self.left -= 1
            self.client = addr
            self.transport.sendto(data, (simulated.LOOPBACK, self.bmc))


@contextlib.contextmanager
def running(count: int) -> Iterator[list[simulated.Bmc]]:
    """So many BMCs, without servers."""
    with tempfile.TemporaryDirectory(prefix="rackhand-bench-") as folder:
        made: list[simulated.Bmc] = []
        try:
            for number in range(1, count + 1):
                made.append(simulated.prepare(Server(f"b{number}", number, Machine()), Path(folder) / str(number)))
                (made[-1].folder / "chassis").write_text(CHASSIS)
                made[-1].start()
            yield made
        finally:
            for bmc in made:
                with contextlib.suppress(Exception):
                    bmc.stop()


def target(port: int) -> Target:
    """A BMC on loopback."""
    return Target(name="b", protocol="ipmi", address=simulated.LOOPBACK, port=port, deadline_s=DEADLINE_S)


async def poll(bmcs: Bmcs, bmc: simulated.Bmc, known: bytes = b"") -> Polled:
    """One poll of one BMC."""
    begun = time.monotonic()
    secret = Secret(username=simulated.USER, password=bmc.password)
    answer = await bmcs.ask(target(bmc.ports.lan), secret, "poll", known=known)
    return Polled(time.monotonic() - begun, msgspec.json.decode(answer.text, type=Cost), answer.known)


async def measure(made: list[simulated.Bmc]) -> None:
    """Print everything."""
    bmcs = Bmcs("bench.bmc_child", ipmi.PORT, ipmi.check)
    try:
        first = [await poll(bmcs, bmc) for bmc in made]
        known = [one.known for one in first]
        one_by_one = [await poll(bmcs, bmc, known[at]) for at, bmc in enumerate(made)]
        before = time.process_time()
        begun = time.monotonic()
        rounds = [await together(bmcs, made, known) for _ in range(ROUNDS)]
        took = time.monotonic() - begun
        own_ms = (time.process_time() - before) * 1000 / (ROUNDS * len(made))
        costs(first, one_by_one, own_ms, bmcs)
        print(f"{len(made)} BMCs at once, {ROUNDS} rounds: {ROUNDS * len(made) / took:.0f} polls a second")
        await hanging(bmcs, made, known, statistics.median(one.wall_s for each in rounds for one in each))
    finally:
        bmcs.close()


async def together(bmcs: Bmcs, made: list[simulated.Bmc], known: list[bytes]) -> list[Polled]:
    """All of them at once."""
    return list(await asyncio.gather(*(poll(bmcs, bmc, known[at]) for at, bmc in enumerate(made))))


def costs(first: list[Polled], later: list[Polled], own_ms: float, bmcs: Bmcs) -> None:
    """What one poll takes, and 200 BMCs by that."""
    assert bmcs.workers.pid
    cpu = statistics.median(one.cost.cpu_ms for one in later)
    wall = statistics.median(one.wall_s for one in later) * 1000
    private = max(one.cost.private_mib for one in [*first, *later])
    worker = smaps_mib(bmcs.workers.pid, "Pss")
    first_ms, first_cpu = _median([one.wall_s * 1000 for one in first]), _median([one.cost.cpu_ms for one in first])
    share = FLEET * (cpu + own_ms) / 1000 / EVERY_S * 100
    print(f"first poll (records, FRUs): {first_ms:.0f} ms, {first_cpu:.0f} ms of CPU")
    print(f"later polls: {wall:.0f} ms, {cpu:.1f} ms of CPU in the child, {own_ms:.1f} ms in the poller")
    print(f"memory: the worker {worker:.1f} MiB (PSS), each child {private:.1f} MiB of its own, at most {MOST} at once")
    most = worker + MOST * private
    print(f"{FLEET} of them every {EVERY_S:g} s, by that: {share:.1f} % of a core, {most:.0f} MiB at most")


def _median(numbers: list[float]) -> float:
    return statistics.median(numbers)


async def hanging(bmcs: Bmcs, made: list[simulated.Bmc], known: list[bytes], usual_s: float) -> None:
    """The same round while one BMC goes silent in the middle of its poll and another does not answer at all."""
    loop = asyncio.get_running_loop()
    frozen, *others = made
    door = socket.socket(type=socket.SOCK_DGRAM)
    door.bind((simulated.LOOPBACK, 0))
    port = int(door.getsockname()[1])
    transport, relay = await loop.create_datagram_endpoint(lambda: DeafRelay(others[0].ports.lan), sock=door)
    secret = Secret(username=simulated.USER, password=others[0].password)
    stuck = [asyncio.create_task(bmcs.ask(target(port), secret, "poll"))]
    while relay.left:
        await asyncio.sleep(0.01)
    frozen.hang()
    stuck.append(asyncio.create_task(bmcs.ask(target(frozen.ports.lan), secret, "poll")))
    begun = time.monotonic()
    walls = [one.wall_s for one in await together(bmcs, others, known[1:])]
    others_s = time.monotonic() - begun
    still = sum(not task.done() for task in stuck)
    ends = await asyncio.gather(*stuck, return_exceptions=True)
    transport.close()
    each_ms, said = _median(walls) * 1000, "; ".join(str(end) for end in ends if isinstance(end, DeviceError))
    print(f"one silent in its middle, one frozen, {still} of them waited for when the other {len(others)} were done:")
    print(f"these took {each_ms:.0f} ms each, {usual_s * 1000:.0f} ms without the two; all together {others_s:.2f} s")
    print(f"the two ended after {time.monotonic() - begun:.1f} s: {said}")
    frozen.revive()


def main() -> None:
    """Run it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with running(COUNT) as made:
        asyncio.run(measure(made))


if __name__ == "__main__":
    main()
