"""BMCs polled over IPMI: the simulator alone, what goes wrong with it, and a server's own in the lab."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil
import pytest

from hardware_lab import bmc_records as records
from hardware_lab.bmc import Bmc as Simulated
from hardware_lab.bmc import prepare
from hardware_lab.machine import Machine, Server
from pollers import ipmi
from pollers.bmc import SICK_AFTER
from pollers.bmc_sensor import LIMITS
from pollers.target import DeviceError, Polled, Secret, Target
from tests.lab.conftest import wait_for
from wire.facts import Bmc, BmcSensor, Fru
from wire.report import Severity

pytestmark = pytest.mark.lab
T = TypeVar("T")
SHORT_S = 4.0


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Simulated]:
    """A running BMC without a server."""
    made = prepare(Server("srv", 6, Machine()), tmp_path)
    made.start()
    yield made
    made.stop()


def target(bmc: Simulated, port: int = 0, deadline_s: float = 30.0) -> Target:
    return Target(name="b", protocol="ipmi", address="127.0.0.1", port=port or bmc.ports.lan, deadline_s=deadline_s)


def secret(bmc: Simulated) -> Secret:
    return Secret(username="admin", password=bmc.password)


def run(work: Coroutine[Any, Any, T]) -> T:
    """In an event loop, with the worker ended afterwards."""

    async def whole() -> T:
        try:
            return await work
        finally:
            ipmi.BMCS.close()

    return asyncio.run(whole())


def bmc_fact(polled: Polled) -> Bmc:
    (fact,) = (fact for fact in polled.facts if isinstance(fact, Bmc))
    return fact


class Relay:
    """UDP between one client and the BMC; it goes deaf after so many datagrams of the client."""

    def __init__(self, port: int, deaf_after: int = 1 << 30) -> None:
        self.deaf_after = deaf_after
        self.passed = 0
        self.loses = 1 << 30  # every so manyth datagram of the client
        self._bmc = port
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def _pass_on(self) -> None:
        sides: dict[tuple[str, int], socket.socket] = {}
        while True:
            try:
                data, client = self._socket.recvfrom(4096)
            except OSError:
                return
            self.passed += 1
            if self.passed > self.deaf_after or not data or self.passed % self.loses == 0:
                continue
            if client not in sides:
                sides[client] = socket.socket(type=socket.SOCK_DGRAM)
                sides[client].settimeout(2)
            with contextlib.suppress(TimeoutError):
                sides[client].sendto(data, ("127.0.0.1", self._bmc))
                self._socket.sendto(sides[client].recv(4096), client)

    def close(self) -> None:
        """The thread ends with its next datagram."""
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._socket.close()


@pytest.fixture
def relay(alone: Simulated) -> Iterator[Relay]:
    made = Relay(alone.ports.lan)
    yield made
    made.close()


# -- what it says ------------------------------------------------------------------------------------------------------


def test_a_poll_gives_what_was_declared(alone: Simulated) -> None:
    polled = run(ipmi.poll(target(alone), secret(alone)))
    fact = bmc_fact(polled)
    assert (fact.system_uuid, fact.mac) == (alone.server.uuid, "52:54:00:1b:06:00")
    assert (fact.system_serial, fact.power, fact.intrusion) == (alone.server.serial, "off", False)
    sensors = {fact.name: fact for fact in polled.facts if isinstance(fact, BmcSensor)}
    values = {sample.key: sample.value for sample in polled.samples}
    declared = records.sensors(alone.server)
    assert set(sensors) == {sensor.name for sensor in declared.values()}
    for sensor in declared.values():
        found = sensors[sensor.name]
        assert found.status == "ok"
        if isinstance(sensor, records.Discrete):
            assert len(found.states) == len(sensor.on)
            continue
        assert values[found.key] == pytest.approx(sensor.value)
        names = (*LIMITS[:3][: len(sensor.low)], *LIMITS[3:][: len(sensor.high)])
        limits = dict(zip(names, (*sensor.low, *sensor.high), strict=True))
        assert {name: getattr(found, name) for name in LIMITS if getattr(found, name) is not None} == pytest.approx(
            limits
        )
    frus = {fact.name: fact for fact in polled.facts if isinstance(fact, Fru)}
    assert set(frus) == {fru.name for fru in records.frus(alone.server)}
    assert frus["Builtin FRU"].board_manufacturer == alone.server.machine.board.vendor
    assert frus["PSU2 FRU"].product_serial == "PSU000062"


def test_entries_of_before_are_not_told_new_ones_once_and_a_cleared_log_is(alone: Simulated) -> None:
    def entries() -> int:
        return alone.run("sel", "elist").count("|") // 5

    async def texts() -> list[str]:
        return [event.text for event in (await ipmi.poll(target(alone), secret(alone))).events]

    async def story() -> list[list[str]]:
        told = [await texts()]
        alone.set("CPU0 Temp", 95)
        wait_for(lambda: entries() == 3, "two more entries")
        told += [await texts(), await texts()]
        alone.run("sel", "clear")
        wait_for(lambda: entries() == 0, "an empty log")
        alone.set("PSU1 Status", {0, 3})
        wait_for(lambda: entries() == 1, "one more")
        events = (await ipmi.poll(target(alone), secret(alone))).events
        return [*told, [event.kind for event in events]]

    alone.set("Drive 0", {0, 1})
    wait_for(lambda: entries() == 1, "an entry of before")
    first, second, third, fourth = run(story())
    assert first == third == []
    assert second == [
        "CPU0 Temp: Upper non-critical at 95 °C, threshold 80 °C",
        "CPU0 Temp: Upper critical at 95 °C, threshold 90 °C",
        "CPU0 Temp is critical",
    ]
    assert fourth == ["sel.cleared", "sel.entry", "sensor.alarm"]


def test_a_lost_sensor_has_no_sample(alone: Simulated) -> None:
    def absent() -> bool:
        polled = run(ipmi.poll(target(alone), secret(alone)))
        fan = next(fact for fact in polled.facts if isinstance(fact, BmcSensor) and fact.name == "FAN2")
        return fan.status == "absent" and fan.key not in {sample.key for sample in polled.samples}

    alone.lose("FAN2")
    wait_for(absent, "FAN2 to be gone")


def test_hostile_names_and_texts_are_harmless_lines(tmp_path: Path) -> None:
    made = prepare(Server("srv", 9, Machine()), tmp_path)
    evil = "\x1b]0;x\x07\x1b[2J\r\n\x00<b>"
    commands = (made.folder / "commands").read_text()
    named = " ".join(f"0x{byte:02x}" for byte in b"FAN1")
    assert named in commands
    (made.folder / "commands").write_text(commands.replace(named, "0x1b 0x5b 0x32 0x4a"))
    fru = records.Fru(name="x", entity=records.Entity(7), product=(evil, evil, evil, evil, evil, evil))
    (made.folder / "fru1.bin").write_bytes(records.fru_image(fru))
    made.start()
    try:
        polled = run(ipmi.poll(target(made), secret(made)))
    finally:
        made.stop()
    said = [value for fact in polled.facts for value in msgspec.to_builtins(fact).values() if isinstance(value, str)]
    assert any("\N{REPLACEMENT CHARACTER}[2J" in text for text in said)
    assert any("<b>" in text for text in said)
    assert all(text.isprintable() for text in said)


def test_sensors_of_another_controller_are_told_without_a_reading(tmp_path: Path) -> None:
    made = prepare(Server("srv", 9, Machine()), tmp_path)
    foreign = bytearray(records.sensor_record(1, records.Analog("ME Temp", records.Entity(3), 1, 1, 40)))
    foreign[5] = 0x2C
    line = "main_sdr_add 0x20 " + " ".join(f"0x{byte:02x}" for byte in foreign)
    commands = (made.folder / "commands").read_text()
    (made.folder / "commands").write_text(commands.replace("mc_enable 0x20", f"{line}\nmc_enable 0x20"))
    made.start()
    try:
        polled = run(ipmi.poll(target(made), secret(made)))
    finally:
        made.stop()
    sensors = {fact.name: fact for fact in polled.facts if isinstance(fact, BmcSensor)}
    assert (sensors["ME Temp"].key, sensors["ME Temp"].status) == ("2c.0.01", "")
    assert (sensors["CPU0 Temp"].key, sensors["CPU0 Temp"].status) == ("20.0.01", "ok")
    assert "2c.0.01" not in {sample.key for sample in polled.samples}


def test_boot_device_and_led_reach_the_bmc_and_its_log_is_read_whole(alone: Simulated) -> None:
    async def story() -> list[str]:
        told = [("bootdev", "pxe once"), ("identify", "on"), ("power", "status")]
        return [(await ipmi.command(target(alone), secret(alone), verb, word)).text for verb, word in told]

    assert run(story()) == ["pxe", "on", "off"]
    assert "Force PXE" in alone.run("chassis", "bootparam", "get", "5")
    alone.set("Chassis Intru", {0})
    log = wait_for(lambda: run(ipmi.command(target(alone), secret(alone), "sel")).events, "the entry")
    assert [(event.text, event.severity) for event in log] == [("Chassis Intru: Chassis intrusion", Severity.CRITICAL)]
    assert all(event.at_ms for event in log)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        ("admin", "sesame-sesame", "^cannot log in: Incorrect password provided$"),
        ("nobody", "sesame-sesame", "^cannot log in: Unauthorized name"),
        ("", "sesame-sesame", "^IPMI takes a user name of 1 to 16 bytes"),
        ("admin", "much-longer-than-twenty-bytes", "^IPMI takes"),
    ],
)
def test_wrong_credentials_are_one_line_without_them(alone: Simulated, user: str, password: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said) as caught:
        run(ipmi.poll(target(alone), Secret(username=user, password=password)))
    assert password not in str(caught.value)


def test_nobody_there_is_one_line(alone: Simulated) -> None:
    with pytest.raises(DeviceError, match=r"^127\.0\.0\.1 port \d+: no IPMI there: Connection refused$"):
        run(ipmi.poll(target(alone, alone.ports.console), secret(alone)))
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(DeviceError, match=r"^127\.0\.0\.1 port \d+: no answer$"):
            run(ipmi.poll(target(alone, silent.getsockname()[1], SHORT_S), secret(alone)))


def test_one_that_hangs_falls_sick_is_left_alone_and_recovers(alone: Simulated) -> None:
    async def story() -> list[str]:
        await ipmi.poll(target(alone), secret(alone))
        alone.hang()
        told: list[str] = []
        for _ in range(SICK_AFTER + 1):
            try:
                polled = await ipmi.poll(target(alone, deadline_s=SHORT_S), secret(alone))
                assert bmc_fact(polled).sick
                assert len(polled.facts) > 20  # what was known stands there
                told += [event.kind for event in polled.events]
            except DeviceError as error:
                told.append(str(error).partition(":")[0])
        alone.revive()
        for memory in ipmi.BMCS.memories.values():
            memory.rests_until = 0
        polled = await ipmi.poll(target(alone), secret(alone))
        assert not bmc_fact(polled).sick
        return [*told, *(event.kind for event in polled.events)]

    port = f"127.0.0.1 port {alone.ports.lan}"
    assert run(story()) == [port, port, "bmc.sick", "sick", "bmc.recovered"]


def children() -> list[psutil.Process]:
    worker = ipmi.BMCS.workers.pid
    return psutil.Process(worker).children(recursive=True) if worker else []


async def until(done: Callable[[], Any]) -> None:
    while not done():
        await asyncio.sleep(0.02)


def test_one_that_stops_in_the_middle_is_ended_and_nothing_is_left(alone: Simulated, relay: Relay) -> None:
    async def story() -> None:
        relay.deaf_after = 30
        with pytest.raises(DeviceError, match=f"^(no answer within {SHORT_S:g} s|stopped answering)"):
            await ipmi.poll(target(alone, relay.port, SHORT_S), secret(alone))
        await until(lambda: children() == [])
        relay.deaf_after = 1 << 30
        assert bmc_fact(await ipmi.poll(target(alone, relay.port), secret(alone))).power == "off"

    run(story())


def test_a_poll_that_nobody_waits_for_any_more_is_ended(alone: Simulated, relay: Relay) -> None:
    async def story() -> None:
        relay.deaf_after = 30
        job = asyncio.create_task(ipmi.command(target(alone, relay.port, 300), secret(alone), "sel"))
        await until(lambda: relay.passed > 30)
        (child,) = children()
        words = [*child.cmdline(), *(f"{name}={value}" for name, value in child.environ().items())]
        assert not any(alone.password in word for word in words)
        job.cancel()
        await until(lambda: children() == [])
        with pytest.raises(asyncio.CancelledError):
            await job

    run(story())


def test_requests_that_are_lost_are_sent_again(alone: Simulated, relay: Relay) -> None:
    relay.loses = 40
    polled = run(ipmi.poll(target(alone, relay.port, 120), secret(alone)))
    assert relay.passed > 40 * 3
    assert len(polled.facts) == 1 + len(records.frus(alone.server)) + len(records.sensors(alone.server))


def test_one_that_hangs_delays_no_other(alone: Simulated, relay: Relay, tmp_path: Path) -> None:
    async def story() -> None:
        relay.deaf_after = 30
        stuck = asyncio.create_task(ipmi.poll(target(alone, relay.port, 60), secret(alone)))
        await until(lambda: relay.passed > 30)
        twice = await asyncio.gather(*(ipmi.poll(target(other), secret(other)) for _ in range(2)))
        assert twice[0] is twice[1]
        assert not stuck.done()
        stuck.cancel()

    other = prepare(Server("other", 8, Machine()), tmp_path / "other")
    other.start()
    try:
        run(story())
    finally:
        other.stop()
