"""`rackhand diagnose`: from the command line through SQL and a real broker to a host, and its answer back."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine

from hwdb import broker, store_command
from hwdb.cli.failure import Exit
from hwdb.db import rows, writing
from hwdb.store_command import CommandEntry
from tests.hwdb.cli.inventory import ENTRY, fails
from tests.hwdb.control.test_loop import MAC, NIC, FakeHost, count, joined, looping, settle
from wire.report import COMMAND, Command, Result, State
from wire.topics import Channel, parse_topic

pytestmark = pytest.mark.broker
Until = Callable[[Callable[[], object], str], None]
HOSTILE = "eth0: \x1b]0;owned\x07done"


class Answering(FakeHost):
    """A host that answers `diagnose` as it was told to."""

    def __init__(self, address: broker.Address, host_id: str) -> None:
        super().__init__(address, host_id)
        self.heard: list[Command] = []
        self.answer = Result(ok=True, text=HOSTILE)

    def hear(self) -> bool:
        for message in self.link.receive(1000, 0.01, 0):
            where = parse_topic(message.topic)
            if where.channel is Channel.CMD:
                command = COMMAND.decode(message.payload)
                if command.verb == "diagnose":
                    self.heard.append(command)
                    self.link.publish(str(where._replace(channel=Channel.RESULT)), json_of(self.answer))
            elif where.channel is Channel.ACK:
                self.unacked.clear()
        return True


def json_of(result: Result) -> bytes:
    return json.dumps({"ok": result.ok, "text": result.text}).encode()


@contextmanager
def listening(host: Answering) -> Iterator[None]:
    """The host hears and answers in a thread meanwhile."""
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            host.hear()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture
def host(mosquitto: broker.Broker, engine: Engine, until: Until) -> Iterator[Answering]:
    """A host with one NIC that the inventory knows, with the loop running."""
    with looping(engine, mosquitto.address):
        made = Answering(mosquitto.address, "a1")
        until(lambda: made.hear() and made.link.connected, "never connected")
        until(lambda: made.greet() and count(engine, "SELECT count(*) FROM host"), "never born")
        made.report(NIC)
        settle(until, made)
        yield made
        made.link.close()


def diagnose(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "RACKHAND_DB": url}
    argv = [*ENTRY, "diagnose", "host-a1", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, check=False, stdin=subprocess.DEVNULL)


def test_a_question_goes_to_the_host_and_its_answer_comes_back_harmless(
    host: Answering, url: str, engine: Engine
) -> None:
    with listening(host):
        done = diagnose(url, "eth0", "identify", "--seconds", "3")
        told = json.loads(diagnose(url, MAC, "module", "-o", "json").stdout)
        host.answer = Result(ok=False, text="refused: the agent observes, and this disturbs traffic")
        refused = diagnose(url, "eth0", "self-test", "--offline", "--yes")
    assert (done.returncode, done.stdout) == (0, "eth0: done\n")
    assert (told[0]["ok"], told[0]["nic"], told[0]["text"]) == (True, "eth0", HOSTILE)
    assert refused.returncode == Exit.FAILED
    assert refused.stderr == f"rackhand: {host.answer.text}\n"
    assert [command.args for command in host.heard] == [
        {"test": "identify", "nic": MAC, "seconds": "3"},
        {"test": "module", "nic": MAC},
        {"test": "self-test", "nic": MAC, "offline": "true"},
    ]
    sql = "SELECT verb, asked_by <> '', sent_ms >= asked_ms FROM command ORDER BY asked_ms"
    with engine.connect() as conn:
        assert [tuple(map(str, row[:1])) + tuple(map(bool, row[1:])) for row in rows(conn, sql)] == [
            ("diagnose", True, True)
        ] * 3


def test_what_takes_the_link_down_is_asked_first_and_what_is_not_there_is_said(
    host: Answering, url: str, engine: Engine, until: Until
) -> None:
    assert "say --yes" in fails(url, Exit.REFUSED, "diagnose", "host-a1", "eth0", "cable-test")
    assert "say --yes" in fails(url, Exit.REFUSED, "diagnose", "host-a1", "eth0", "self-test", "--offline")
    assert "there are: eth0" in fails(url, Exit.NOT_FOUND, "diagnose", "host-a1", "eth9", "identify")
    assert "no host" in fails(url, Exit.NOT_FOUND, "diagnose", "nobody", "eth0", "identify")
    assert "equal to 60" in fails(url, Exit.USAGE, "diagnose", "host-a1", "eth0", "identify", "--seconds", "61")
    host.say(Channel.STATE, State(host_id="a1", start=host.start, online=False), retain=True)
    until(lambda: host.hear() and not count(engine, "SELECT count(*) FROM host WHERE online"), "never offline")
    assert "offline" in fails(url, Exit.NO_REPORT, "diagnose", "host-a1", "eth0", "identify")
    assert count(engine, "SELECT count(*) FROM command") == 0


def test_what_waited_for_too_long_is_not_sent_any_more(host: Answering, engine: Engine, until: Until) -> None:
    now_ms = time.time_ns() // 1_000_000
    with writing(engine) as conn:
        for name, asked_ms in (("old", now_ms - 120_000), ("new", now_ms)):
            store_command.put_command(
                conn, CommandEntry(id=name, host_id="a1", verb="diagnose", args={"nic": name}, asked_ms=asked_ms)
            )
    until(lambda: host.hear() and host.heard, "the new one never came")
    until(lambda: count(engine, "SELECT count(*) FROM command WHERE sent_ms > 0"), "never marked as sent")
    assert [command.args for command in host.heard] == [{"nic": "new"}]
    with engine.connect() as conn:
        assert store_command.sent_ms(conn, "old") == 0
    until(lambda: host.hear() and count(engine, "SELECT count(*) FROM result"), "no result was kept")
    with engine.connect() as conn:
        told = store_command.answer(conn, "new", "a1")
    assert told is not None
    assert told.ok


def test_without_a_running_loop_it_says_so(mosquitto: broker.Broker, engine: Engine, url: str, until: Until) -> None:
    with looping(engine, mosquitto.address):
        made = joined(until, mosquitto.address, "a1")
        until(lambda: made.greet() and count(engine, "SELECT count(*) FROM host WHERE online"), "never born")
        made.report(NIC)
        settle(until, made)
        made.link.close()
    assert "is `rackhand up` running" in fails(url, Exit.NO_REPORT, "diagnose", "host-a1", "eth0", "identify")
