"""50 SNMP devices polled from one process, one of them slow: polls a second, and how late the others are for it.

snmpsim answers for the lab's PDU; what it once said to a question is said again by a relay with 50 ports, as fast as a
device of each port its own would be, so that the poller is what is measured. The slow device answers nothing, so that
each poll of it takes all its tries.
"""

import asyncio
import contextlib
import grp
import itertools
import multiprocessing
import multiprocessing.connection
import os
import pwd
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from hardware_lab import snmp as lab
from pollers import snmp
from pollers.schedule import Round, Schedule
from pollers.target import Secret, Target

DEVICES = 50
RUN_S = 30.0
EVERY_S = 2.0
WARM_S = 10.0  # the first poll of a device asks for all that profiles know
LOOPBACK = "127.0.0.1"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _simulator(folder: Path) -> Generator[int]:
    """The lab's PDU."""
    data, port = folder / "data", _free_port()
    data.mkdir(parents=True)
    rows = lab.read_recording(lab.RECORDINGS / "pdu.snmprec")
    rows.sort(key=lambda row: tuple(map(int, row.oid.split("."))))
    text = "".join(f"{row.oid}|{row.tag}|{row.value}\n" for row in rows)
    (data / "public.snmprec").write_text(text)
    argv = [
        *(sys.executable, "-P", "-W", "ignore", "-m", "snmpsim.commands.responder", "--log-level", "error"),
        *("--data-dir", str(data), "--cache-dir", str(folder / "cache")),
        *("--agent-udpv4-endpoint", f"{LOOPBACK}:{port}"),
        *("--process-user", pwd.getpwuid(os.geteuid()).pw_name),
        *("--process-group", grp.getgrgid(os.getegid()).gr_name),
    ]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def _relay(told: "multiprocessing.connection.Connection", simulator: int) -> None:
    """Ports of 50 devices; ends with the process that started it."""
    known: dict[bytes, bytes] = {}
    upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    upstream.connect((LOOPBACK, simulator))
    upstream.settimeout(5)
    ports = selectors.DefaultSelector()
    for _ in range(DEVICES):
        port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        port.bind((LOOPBACK, 0))
        ports.register(port, selectors.EVENT_READ)
    told.send([key.fileobj.getsockname()[1] for key in ports.get_map().values()])  # type: ignore[union-attr]
    while True:
        for key, _ in ports.select():
            port = key.fileobj  # type: ignore[assignment]
            question, source = port.recvfrom(65535)
            at, size = _request_id(question)
            number, asked = question[at : at + size], question[:at] + question[at + size :]
            if asked not in known:
                with contextlib.suppress(TimeoutError):
                    upstream.send(question)
                    known[asked] = upstream.recv(65535)
            if answer := known.get(asked):
                at, length = _request_id(answer)
                if length == size:
                    port.sendto(answer[:at] + number + answer[at + size :], source)
                else:
                    del known[asked]


def _request_id(message: bytes) -> tuple[int, int]:
    """Where the request's number stands in an SNMP v2c message, and how long it is (BER)."""
    at = _inside(message, 0)  # the message
    at = at + 2 + message[at + 1]  # version
    at = at + 2 + message[at + 1]  # community
    at = _inside(message, at)  # the PDU
    return at + 2, message[at + 1]


def _inside(message: bytes, at: int) -> int:
    return at + 2 + (message[at + 1] & 0x7F if message[at + 1] > 0x7F else 0)


def _target(name: str, port: int) -> tuple[Target, Secret]:
    target = Target(name=name, protocol="snmp", address=LOOPBACK, port=port, every_s=EVERY_S, deadline_s=EVERY_S)
    return target, Secret()


async def _measure(targets: dict[str, tuple[Target, Secret]]) -> tuple[list[Round], float]:
    """The polls of `RUN_S` after a warm-up, and the CPU time they took here."""
    ended: list[Round] = []
    running = asyncio.create_task(Schedule(targets, lambda _: snmp.poll, ended.append).run())
    await asyncio.sleep(WARM_S)
    ended.clear()
    before = time.process_time()
    await asyncio.sleep(RUN_S)
    cpu_s = time.process_time() - before
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return ended, cpu_s


def _late_s(ended: list[Round]) -> list[float]:
    """How much later than its interval each poll began, device by device."""
    begun: dict[str, list[int]] = {}
    for one in ended:
        begun.setdefault(one.target.name, []).append(one.at_ms)
    gaps = [(after - before) / 1000 for times in begun.values() for before, after in itertools.pairwise(times)]
    return [gap - EVERY_S for gap in gaps]


def _report(title: str, ended: list[Round], cpu_s: float) -> None:
    done = [one for one in ended if one.polled]
    took = sorted(one.health.seconds for one in done)
    late = sorted(_late_s(done))
    values = sum(len(one.polled.samples) + len(one.polled.facts) for one in done if one.polled)
    print(
        f"{title:34}{len(done) / RUN_S:7.1f} polls/s {values / RUN_S:9.0f} facts and samples/s"
        f"{cpu_s / len(done) * 1000:8.2f} ms CPU a poll"
        f"   poll p50 {statistics.median(took) * 1000:6.0f} ms, p99 {took[int(len(took) * 0.99)] * 1000:6.0f} ms"
        f"   begins late by p99 {late[int(len(late) * 0.99)] * 1000:6.0f} ms"
    )


def main() -> None:
    """Print both runs: all devices well, and one of them slow."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        simulator = stack.enter_context(_simulator(Path(folder)))
        ours, theirs = multiprocessing.Pipe()
        relay = multiprocessing.get_context("spawn").Process(target=_relay, args=(theirs, simulator), daemon=True)
        relay.start()
        stack.callback(relay.terminate)
        ports: list[int] = ours.recv()
        deaf = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        deaf.bind((LOOPBACK, 0))
        targets = {f"pdu{number}": _target(f"pdu{number}", ports[number]) for number in range(DEVICES)}
        time.sleep(3)  # snmpsim indexes its file
        asyncio.run(snmp.poll(*targets["pdu0"]))
        for title, slow in (("50 devices", False), ("49 devices beside one that is slow", True)):
            if slow:
                targets["pdu7"] = _target("pdu7", deaf.getsockname()[1])
            ended, cpu_s = asyncio.run(_measure(targets))
            _report(title, ended, cpu_s)
            if slow:
                failed = [one for one in ended if not one.polled]
                print(f"{'':34}the slow one: {len(failed)} polls, each given up after {failed[0].health.seconds:.1f} s")


if __name__ == "__main__":
    main()
