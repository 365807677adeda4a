"""Diagnostics: what may be asked for, what comes of it here, and what the kernel's bytes say."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import diagnose
from agent.diagnose import Child, DiagnoseError, Request, Task
from machine import MachineError, NotPresentError, Reply, UnsupportedError, diagnostics, nla
from machine.capture import Captured
from machine.diagnostics import Page, Pair, SelfTest
from machine.live import Live
from tests.agent.brokers import AgentProcess, BrokerProcess, Inventory, mosquitto, wait_for
from tests.agent.space import NIC, Space
from wire import codec
from wire.report import Command, Result
from wire.topics import Channel

# -- what may be asked for ---------------------------------------------------------------------------------------------


def test_arguments_come_as_text_and_are_typed() -> None:
    assert diagnose.parse({"test": "identify", "nic": "eth0", "seconds": "3"}) == Request(
        test="identify", nic="eth0", seconds=3
    )
    assert diagnose.parse({"test": "self-test", "nic": "eth0", "offline": "true"}).offline
    assert diagnose.parse({"test": "module", "nic": "52:54:00:00:00:01"}).seconds == 10


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"test": "identify"},
        {"nic": "eth0"},
        {"test": "reboot", "nic": "eth0"},
        {"test": "identify", "nic": ""},
        {"test": "identify", "nic": "x" * 201},
        {"test": "identify", "nic": "eth0", "seconds": "0"},
        {"test": "identify", "nic": "eth0", "seconds": "61"},
        {"test": "identify", "nic": "eth0", "seconds": "1; reboot"},
        {"test": "self-test", "nic": "eth0", "offline": "perhaps"},
        {"test": "identify", "nic": "eth0", "command": "reboot"},
    ],
)
def test_anything_else_is_refused_in_one_line(args: dict[str, str]) -> None:
    with pytest.raises(DiagnoseError) as refused:
        diagnose.parse(args)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@given(st.dictionaries(st.sampled_from(["test", "nic", "seconds", "offline", "x"]) | st.text(), st.text()))
def test_arguments_of_any_text_are_a_request_or_refused(args: dict[str, str]) -> None:
    try:
        request = diagnose.parse(args)
    except DiagnoseError:
        return
    assert request.test in diagnose.TESTS
    assert 1 <= request.seconds <= 60


def test_every_test_has_a_limit_and_only_two_disturb() -> None:
    assert all(0 < test.limit_s <= 180 for test in diagnose.TESTS.values())
    asked = [Request(test="cable-test", nic="a"), Request(test="self-test", nic="a", offline=True)]
    asked += [Request(test=name, nic="a") for name in ("identify", "self-test", "module")]
    assert [diagnose.disturbs(request) for request in asked] == [True, True, False, False, False]


# -- on machines -------------------------------------------------------------------------------------------------------


def captured(root: Path) -> Live:
    """A recorded machine; it has the reads that this needs."""
    return cast("Live", Captured(root / "tests/captures/lab-igb-sriov.txt"))


def test_a_nic_is_found_by_name_and_key_and_only_hardware(root: Path) -> None:
    machine = captured(root)
    port = diagnose.find(machine, "ens10")
    assert diagnose.find(machine, port.key) == port
    with pytest.raises(DiagnoseError, match=r"no interface 'nope'; there are: .*ens10"):
        diagnose.find(machine, "nope")
    with pytest.raises(DiagnoseError, match="lo has no hardware"):
        diagnose.find(machine, "lo")


def test_where_the_agent_observes_nothing_disturbs_traffic(root: Path) -> None:
    for request in (
        Request(test="cable-test", nic="ens10"),
        Request(test="self-test", nic="ens10", offline=True),
    ):
        told = diagnose.perform(captured(root), Task(request=request, observe=True))
        assert told == Result(ok=False, text="refused: the agent observes, and this disturbs traffic")


def test_what_the_driver_cannot_is_said_in_the_kernels_words(root: Path) -> None:
    told = diagnose.perform(captured(root), Task(request=Request(test="identify", nic="ens10")))
    assert not told.ok
    assert "not in the capture" in told.text, "it was not asked for anything else"


def test_a_process_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "START_S", -100.0)
    child = Child(Task(request=Request(test="module", nic="lo")))
    assert child.wait() == Result(ok=False, text="module of lo: not done within -70 s")
    child.stop()


def test_a_process_answers_for_this_machine() -> None:
    child = Child(Task(request=Request(test="module", nic="lo")))
    told = child.wait()
    assert not told.ok
    assert told.text.startswith("lo has no hardware; there are: ")


@pytest.mark.root
@pytest.mark.broker
def test_a_command_is_answered_when_it_ended(tmp_path: Path) -> None:
    space = Space(tmp_path / "state")
    space.ip("link set lo up")
    server = BrokerProcess("mosquitto" if mosquitto() else "amqtt", tmp_path, inside=space)
    agent = AgentProcess(space.state, server.port, inside=space)
    inventory: Inventory = space.run(lambda _: Inventory(server.port, agent.host_id))

    def ask(name: str, **args: str) -> Result:
        inventory.say(Channel.CMD, codec.encode(Command(verb="diagnose", args=args)), name=name)
        wait_for(lambda: name in inventory.names, 60)
        told: Result = inventory.seen[Channel.RESULT][inventory.names.index(name)]
        return told

    try:
        wait_for(lambda: inventory.seen[Channel.BIRTH])
        assert "Invalid enum value" in ask("d-1", test="reboot", nic=NIC).text
        assert ask("d-2", test="identify", nic=NIC, seconds="1").text.startswith(f"{NIC} has no hardware")
        assert ask("d-3", test="module", nic="nope").text.startswith("no interface 'nope'")
    finally:
        agent.kill()
        inventory.close()
        server.kill()
        space.close()


# -- what the kernel says ----------------------------------------------------------------------------------------------


def strings(*names: str) -> bytes:
    return struct.pack("=III", 0x1B, 0, len(names)) + b"".join(name.encode().ljust(32, b"\0") for name in names)


def outcome(flags: int, *values: int) -> bytes:
    return struct.pack(f"=IIII{len(values)}Q", 0x1A, flags, 0, len(values), *values)


def test_a_self_test_is_its_flag_and_its_values() -> None:
    names = strings("Register test  (offline)", "Link test   (on/offline)")
    assert diagnostics.parse_self_test(names, outcome(0, 0, 0)) == SelfTest(
        True, {"Register test (offline)": 0, "Link test (on/offline)": 0}
    )
    assert diagnostics.parse_self_test(names, outcome(2, 0, 1)) == SelfTest(
        False, {"Register test (offline)": 0, "Link test (on/offline)": 1}
    )
    assert diagnostics.parse_self_test(strings("\x1b[2J", ""), outcome(0, 5, 6)).values == {"\ufffd[2J": 5, "test 1": 6}
    assert diagnostics.parse_self_test(names, outcome(0, 7)[:-1] + b"\0").values == {"Register test (offline)": 7}


def announcement(ifindex: int, status: int, *results: bytes, command: int = diagnostics.CABLE_TEST_NTF) -> bytes:
    header = nla.nest(1, nla.u32(1, ifindex), nla.text(2, "eth0"))
    body = struct.pack("=BBH", command, 1, 0) + header + nla.u8(2, status) + (nla.nest(3, *results) if results else b"")
    return struct.pack("=IHHII", 16 + len(body), 0x15, 0, 0, 0) + body


def result(pair: int, code: int) -> bytes:
    return nla.nest(1, nla.u8(1, pair), nla.u8(2, code))


def fault(pair: int, centimetres: int) -> bytes:
    return nla.nest(2, nla.u8(1, pair), nla.u32(2, centimetres))


def test_a_cable_test_ends_with_its_pairs() -> None:
    end = announcement(3, 2, result(1, 2), result(0, 1), fault(1, 1250), result(4, 77))
    assert diagnostics.parse_announcements(end, 3) == [
        Pair("A", "ok", None),
        Pair("B", "open", 12.5),
        Pair("4", "code 77", None),
    ]
    assert diagnostics.parse_announcements(end, 4) is None, "of another interface"
    assert diagnostics.parse_announcements(announcement(3, 1), 3) is None, "it only began"
    assert diagnostics.parse_announcements(announcement(3, 2, command=17), 3) is None, "of other settings"


class Module:
    """A module's memory, as the driver gives it."""

    def __init__(self, pages: dict[tuple[int, int, int], bytes]) -> None:
        self.pages = pages

    def genl(self, _family: str, _command: int, payload: bytes, *, dump: bool = False) -> list[Reply]:
        assert not dump
        asked = {kind: nla.number(value) for kind, value in nla.items(payload) if kind > 1}
        place = (asked[6], asked[4], asked[2])
        if place not in self.pages:
            raise NotPresentError("no such page")
        assert asked[3] == 128
        return [Reply(31, nla.attr(7, self.pages[place]))]

    def ethtool_ioctl(self, _ifname: str, _request: bytes, _size: int) -> bytes:
        raise UnsupportedError("no ioctl")


def lower(identifier: int, **at: int) -> bytes:
    body = bytearray(128)
    body[0] = identifier
    for name, value in at.items():
        body[int(name[1:])] = value
    return bytes(body)


@pytest.mark.parametrize(
    ("first", "places"),
    [
        (lower(0x03), [(0x50, 0, 128)]),
        (lower(0x03, b92=0x68), [(0x50, 0, 128), (0x51, 0, 0), (0x51, 0, 128)]),
        (lower(0x11), [(0x50, 0, 128), (0x50, 1, 128), (0x50, 2, 128), (0x50, 3, 128)]),
        (lower(0x11, b2=0x04), [(0x50, 0, 128)]),
        (lower(0x18), [(0x50, page, 128) for page in (0, 1, 2, 0x10, 0x11)]),
        (lower(0x18, b2=0x80), [(0x50, 0, 128)]),
        (lower(0x99), [(0x50, 0, 128)]),
    ],
)
def test_a_module_is_read_as_far_as_its_kind_goes(first: bytes, places: list[tuple[int, int, int]]) -> None:
    memory = {place: bytes([number]) * 128 for number, place in enumerate(places)}
    found = diagnostics.read_module(cast("Live", Module({(0x50, 0, 0): first, **memory})), 3, "eth0")
    assert found == [Page(0x50, 0, 0, first), *(Page(*place, memory[place]) for place in places)]
    alone = diagnostics.read_module(cast("Live", Module({(0x50, 0, 0): first})), 3, "eth0")
    assert alone == [Page(0x50, 0, 0, first)], "a page that cannot be read is left out"
    with pytest.raises(NotPresentError):
        diagnostics.read_module(cast("Live", Module({})), 3, "eth0")


@pytest.mark.parametrize(
    "parse",
    [
        lambda body: diagnostics.parse_self_test(body, body),
        lambda body: diagnostics.parse_announcements(body, 3),
        diagnostics.parse_pairs,
        lambda body: list(diagnostics.pages(body)),
    ],
)
@given(st.binary(max_size=300))
def test_bytes_that_are_no_answer_are_an_error_or_nothing(parse: Callable[[bytes], object], body: bytes) -> None:
    try:
        parse(body)
    except MachineError as error:
        assert str(error)
