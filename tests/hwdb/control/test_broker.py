"""The broker that belongs to `up`: both kinds speak, refuse a taken port in one line, and never stay behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwdb import broker, child
from hwdb.ingest import Incoming
from hwdb.mqtt import Connection

pytestmark = pytest.mark.broker
Until = Callable[[Callable[[], object], str], None]
Make = Callable[[str, Path], broker.Broker]


def received(until: Until, connection: Connection) -> list[Incoming]:
    got: list[Incoming] = []

    def came() -> bool:
        got.extend(connection.receive(10, 0.1, 0))
        return bool(got)

    until(came, "nothing came")
    return got


def connected(until: Until, address: broker.Address, name: str) -> Connection:
    connection = Connection(address, ["a/+"], name)
    until(lambda: connection.receive(1, 0.05, 0) == [] and connection.connected, "never connected")
    return connection


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture(params=["mosquitto", "amqtt"])
def running(request: pytest.FixtureRequest, tmp_path: Path, make_broker: Make) -> Iterator[broker.Broker]:
    started = make_broker(request.param, tmp_path / "broker")
    started.start()
    yield started
    started.stop()
    assert not started.running()


def test_a_message_comes_back_and_retained_ones_stay(running: broker.Broker, until: Until) -> None:
    one = connected(until, running.address, "one")
    assert one.publish("a/kept", b"x" * 100_000, retain=True)
    got = received(until, one)
    other = Connection(running.address, ["a/+"], "other")
    late = received(until, other)
    assert [(item.topic, len(item.payload)) for item in got + late] == [("a/kept", 100_000)] * 2
    one.close()
    other.close()


def test_it_listens_on_loopback_only(running: broker.Broker) -> None:
    wanted = f"{running.address.port:04X}"
    lines = [
        line.split()[1] for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    assert [local for local in lines if local.endswith(f":{wanted}")] != []
    assert {local.partition(":")[0] for local in lines if local.endswith(f":{wanted}")} == {"0100007F"}


def test_a_taken_port_is_one_clear_error(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind((broker.LOOPBACK, 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(broker.BrokerError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            broker.choose(tmp_path, port)
    with pytest.raises(broker.BrokerError, match="not a port number"):
        broker.choose(tmp_path, 99999)


def test_mosquitto_that_cannot_start_says_why(tmp_path: Path) -> None:
    refusing = tmp_path / "mosquitto"
    refusing.write_text("#!/bin/sh\necho 'Error: no licence to listen' >&2\nexit 3\n")
    refusing.chmod(0o755)
    address = broker.Address(broker.LOOPBACK, broker.claim_port(0))
    with pytest.raises(broker.BrokerError, match="no licence to listen"):
        broker.Mosquitto(str(refusing), tmp_path / "broker", address).start()


def test_mosquitto_keeps_retained_messages_over_a_restart(tmp_path: Path, make_broker: Make, until: Until) -> None:
    first = make_broker("mosquitto", tmp_path / "broker")
    first.start()
    writer = connected(until, first.address, "writer")
    writer.publish("a/kept", b"still here", retain=True)
    received(until, writer)
    writer.close()
    first.stop()
    second = make_broker("mosquitto", tmp_path / "broker")
    second.start()
    try:
        reader = Connection(second.address, ["a/+"], "reader")
        assert received(until, reader)[0].payload == b"still here"
        reader.close()
    finally:
        second.stop()


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path, until: Until) -> None:
    code = (
        "import sys, time; from pathlib import Path; from hwdb import child;"
        "p = child.spawn(['/bin/sleep', '600'], Path(sys.argv[1])); print(p.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    until(lambda: Path(f"/proc/{pid}/comm").read_text().strip() == "sleep", "the child never started")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: gone(pid), "the child outlived its parent")


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, until: Until) -> None:
    stubborn = tmp_path / "stubborn"
    stubborn.write_text("#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 1; done\n")
    stubborn.chmod(0o755)
    process = child.spawn([str(stubborn)], tmp_path / "log")
    until(lambda: "ready" in (tmp_path / "log").read_text(), "never ready")
    child.stop(process, grace_s=0.2)
    assert process.returncode == -signal.SIGKILL
    assert gone(process.pid)


def test_the_launcher_refuses_when_its_parent_is_already_gone(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    argv = [sys.executable, "-I", "-S", "-c", child._LAUNCH, str(os.getpid() + 1), "/usr/bin/touch", str(marker)]
    assert subprocess.run(argv, check=False).returncode == 1
    assert not marker.exists()
