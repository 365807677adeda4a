"""Polling the lab's PDU and switch over v2c and v3, and devices that do not behave."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hardware_lab import snmp as lab
from pollers import snmp
from pollers.snmp import poll
from pollers.target import DeviceError, Polled, Secret, Target
from tests.pollers import walks
from wire.facts import Device, Lldp, Outlet, Port

V3 = Secret(
    username="lab", auth="SHA", auth_password="lab-auth-key", privacy="aes-128", privacy_password="lab-priv-key"
)


def ask(port: int, secret: Secret, deadline_s: float = 60) -> Polled:
    target = Target(name="it", protocol="snmp", address="localhost", port=port, deadline_s=deadline_s)
    return asyncio.run(poll(target, secret))


@pytest.fixture(scope="module")
def pdu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Device]:
    device = lab.pdu(tmp_path_factory.mktemp("pdu"))
    device.start()
    yield device
    device.stop()


@pytest.mark.parametrize("secret", [Secret(community="public"), V3], ids=["v2c", "v3"])
def test_the_labs_pdu(pdu: lab.Device, secret: Secret) -> None:
    polled = ask(pdu.port, secret)
    device = next(fact for fact in polled.facts if isinstance(fact, Device))
    assert (device.category, device.model, device.serial) == ("pdu", "LW-PDU8", "LWP0000001")
    assert (device.firmware, device.name, device.location) == ("2.4.1", "lab-pdu-1", "lab rack 1")
    assert bool(device.engine_id) == bool(secret.username)
    outlets = {fact.key: fact for fact in polled.facts if isinstance(fact, Outlet)}
    assert {key: fact.state == "on" for key, fact in outlets.items()} == {
        f"outlet:{number}": on for number, on in pdu.outlets().items()
    }
    values = {(sample.metric, sample.key): sample.value for sample in polled.samples}
    assert values["snmp.power_watts", "pdu:1"] == 640
    assert values["snmp.energy_kwh", "pdu:1"] == 1520.4
    assert values["snmp.power_watts", "outlet:1"] == 148
    assert values["snmp.voltage_volts", "phase:1"] == 230
    assert values["snmp.current_amps", "phase:1"] == 2.8


def test_an_outlet_that_is_switched_is_seen_by_the_next_poll(pdu: lab.Device) -> None:
    pdu.switch_outlet(2, on=False)
    try:
        polled = ask(pdu.port, Secret())
    finally:
        pdu.switch_outlet(2, on=True)
    [outlet] = [fact for fact in polled.facts if isinstance(fact, Outlet) and fact.key == "outlet:2"]
    assert outlet.state == "off"


def test_the_labs_switch_names_its_neighbours(tmp_path: Path) -> None:
    device = lab.Device(tmp_path, lab.switch({2: ("52:54:00:1a:01:01", "srv1"), 7: ("52:54:00:1a:02:01", "srv2")}))
    device.start()
    try:
        polled = ask(device.port, V3)
    finally:
        device.stop()
    found = {fact.port: fact for fact in polled.facts if isinstance(fact, Lldp)}
    assert {port: fact.system_name for port, fact in found.items()} == {"port2": "srv1", "port7": "srv2"}
    assert (found["port2"].port_subtype, found["port2"].port_id) == ("mac", "52:54:00:1a:01:01")
    assert found["port7"].capabilities == ["station"]
    ports = {fact.name: fact.oper for fact in polled.facts if isinstance(fact, Port)}
    assert ports["port2"] == "up"
    assert ports["port3"] == "down"


# -- devices that do not behave ----------------------------------------------------------------------------------------


def test_nobody_there_is_one_line() -> None:
    with pytest.raises(DeviceError, match=r"^no answer from localhost:\d+: [^\n]+$"):
        ask(walks.free_port(), Secret(), deadline_s=3)


def test_a_name_that_does_not_resolve_is_one_line() -> None:
    target = Target(name="it", protocol="snmp", address="no-such-host.invalid", deadline_s=20)
    with pytest.raises(DeviceError, match=r"^no-such-host\.invalid: "):
        asyncio.run(poll(target, Secret()))


def test_wrong_credentials_are_one_line_without_them(pdu: lab.Device) -> None:
    with pytest.raises(DeviceError, match="no answer") as raised:
        ask(pdu.port, Secret(community="hush-hush"), deadline_s=3)
    assert "hush" not in str(raised.value)
    wrong = [
        Secret(username="lab", auth="sha", auth_password="hush-hush-hush", privacy_password="lab-priv-key"),
        Secret(username="nobody", auth="sha", auth_password="hush-hush-hush"),
        Secret(username="lab", auth="sha", auth_password="lab-auth-key", privacy_password="hush-hush-hush"),
    ]
    for secret in wrong:
        with pytest.raises(DeviceError) as raised:
            ask(pdu.port, secret, deadline_s=6)
        assert "hush" not in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "secret", [Secret(username="x", auth="rot13", auth_password="12345678"), Secret(username="x", privacy_password="y")]
)
def test_credentials_that_cannot_be_used_say_so(secret: Secret) -> None:
    with pytest.raises(DeviceError, match=r"^SNMP v3: "):
        ask(9, secret)


@contextlib.contextmanager
def answering(answer: Callable[[bytes], bytes | None]) -> Iterator[int]:
    """A device that answers what it likes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.1)
        ending = threading.Event()

        def serve() -> None:
            while not ending.is_set():
                with contextlib.suppress(TimeoutError):
                    data, source = server.recvfrom(65535)
                    if (said := answer(data)) is not None:
                        server.sendto(said, source)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ending.set()
            thread.join()


def ber(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = bytes([len(body)]) if len(body) < 128 else b"\x82" + len(body).to_bytes(2)
    return bytes([tag]) + size + body


def oid(*numbers: int) -> bytes:
    coded = bytearray([numbers[0] * 40 + numbers[1]])
    for number in numbers[2:]:
        chunk = [number & 0x7F]
        while number := number >> 7:
            chunk.append(number & 0x7F | 0x80)
        coded += bytes(reversed(chunk))
    return ber(6, bytes(coded))


def request_id(data: bytes) -> bytes:
    """The INTEGER behind the PDU's header."""
    at = data.index(b"public") + len("public")
    at += 2 if data[at + 1] < 128 else 2 + (data[at + 1] & 0x7F)
    return data[at : at + 2 + data[at + 1]]


def response(data: bytes, *bindings: bytes) -> bytes:
    pdu = ber(0xA2, request_id(data), b"\x02\x01\x00\x02\x01\x00", ber(0x30, *bindings))
    return ber(0x30, b"\x02\x01\x01", ber(4, b"public"), pdu)


def endless(data: bytes) -> bytes:
    """Every column goes on for ever: the same instance again and again, or ever new ones."""
    endless.calls += 1  # type: ignore[attr-defined]
    start = endless.calls * 100  # type: ignore[attr-defined]
    base = (1, 3, 6, 1, 2, 1, 2, 2, 1, 10) if b"\xa5" in data else (1, 3, 6, 1, 2, 1, 1)
    if b"\xa5" not in data:
        return response(data, ber(0x30, oid(*base, 2, 0), oid(1, 3, 6, 1, 4, 1, 99999)))
    asked = _asked(data)
    return response(data, *(ber(0x30, oid(*asked[:10], start + n), b"\x02\x01\x07") for n in range(25)))


endless.calls = 0  # type: ignore[attr-defined]


TOO_BIG = b"\x02\x01\x01\x02\x01\x00"  # error status, error index


def _asked(data: bytes) -> tuple[int, ...]:
    """The OID of the first binding."""
    at = data.rindex(b"\x06", 0, len(data) - 2) if data.count(b"\x06") == 1 else data.index(b"\x06", 20)
    body, numbers, value = data[at + 2 : at + 2 + data[at + 1]], [1, 3], 0
    for byte in body[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    return tuple(numbers)


def test_a_walk_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snmp, "MOST_ROWS", 2000)
    with answering(endless) as port, pytest.raises(DeviceError, match=r"does not end: 2000 rows|does not advance"):
        ask(port, Secret(), deadline_s=60)


def test_a_walk_that_goes_round_is_cut() -> None:
    def round_and_round(data: bytes) -> bytes:
        if b"\xa5" not in data:
            return endless(data)
        column = _asked(data)[:10]
        return response(data, *(ber(0x30, oid(*column, number), b"\x02\x01\x07") for number in (1, 2, 1)))

    with (
        answering(round_and_round) as port,
        pytest.raises(DeviceError, match=r"does not advance|no SNMP"),
    ):
        ask(port, Secret(), deadline_s=10)


def test_an_agent_that_cannot_answer_for_many_is_asked_for_few() -> None:
    def one_by_one(data: bytes) -> bytes:
        if b"\xa5" in data:
            return response(data, ber(0x30, oid(1, 3, 9), b"\x82\x00"))
        if data.count(b"\x06\x08\x2b\x06\x01\x02\x01\x01") != 1:
            return ber(0x30, b"\x02\x01\x01", ber(4, b"public"), ber(0xA2, request_id(data), TOO_BIG, ber(0x30)))
        asked = _asked(data)
        return response(data, ber(0x30, oid(*asked), ber(4, b"said %d" % asked[7])))

    with answering(one_by_one) as port:
        [device] = [fact for fact in ask(port, Secret()).facts if isinstance(fact, Device)]
    assert (device.description, device.name, device.location) == ("said 1", "said 5", "said 6")


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x30",
        b"\x30\x82\xff\xff" + b"A" * 100,
        b"\x00" * 1400,
        b"\xff" * 65000,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ber(0x30, b"\x02\x01\x01", ber(4, b"public"), ber(0xA2, b"\x02\x01\x01")),
    ],
)
def test_garbage_is_one_line_within_the_deadline(garbage: bytes) -> None:
    with answering(lambda _: garbage) as port, pytest.raises(DeviceError, match=r"^[^\n]+$"):
        ask(port, Secret(), deadline_s=3)


def test_hostile_text_is_harmless() -> None:
    def say(data: bytes) -> bytes:
        text = ber(4, b"\x1b]0;owned\x07<script>\xff\xfe\r\nnext line" + b"A" * 600)
        if b"\xa5" in data:
            return response(data, ber(0x30, oid(1, 3, 9), b"\x82\x00"))
        return response(data, *(ber(0x30, oid(1, 3, 6, 1, 2, 1, 1, number, 0), text) for number in (1, 4, 5, 6)))

    with answering(say) as port:
        [device] = [fact for fact in ask(port, Secret()).facts if isinstance(fact, Device)]
    for text in (device.name, device.description, device.location, device.contact):
        assert text.isprintable()
        assert len(text) <= 255
    assert device.name.startswith("\N{REPLACEMENT CHARACTER}]0;owned")
