"""Programs of ours on a NIC through whole transactions, with real packets: what they stop, and when they let go."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from agent import pulse
from machine import MachineError, bpf, xdp_attach, xdp_load
from machine.change import LiveWriter
from tests.agent.space import NIC, status, wait_for
from tests.agent.xdp_space import DENIED, FAR, HERE, OTHER, XdpSpace
from tuners import engine
from wire.policy import Blast, Change, OutcomeStatus, Request, Setting, Value
from wire.xdp import canonical

pytestmark = pytest.mark.root
LONG = 3600


@pytest.fixture
def space(tmp_path: Path) -> Iterator[XdpSpace]:
    made = XdpSpace(tmp_path / "state")
    yield made
    made.close()


def want(space: XdpSpace, *, generation: int = 1, **values: Value) -> dict[str, Any]:
    """The report of a transaction that wants these values."""
    given: dict[str, Value] = {"stale_s": LONG, **values}
    return space.apply(settings=[Setting(knob="xdp", nic=NIC, values=given)], generation=generation)


def reason(report: dict[str, Any]) -> str:
    (outcome,) = report["outcomes"]
    return str(outcome.get("reason", ""))


def test_a_chain_is_applied_seen_counted_replaced_and_rolled_back(space: XdpSpace) -> None:
    before = space.fact()
    assert status(want(space, programs="count, acl", acl="deny 10.8.0.64/26, allow 10.8.0.70/32")) == {"xdp": "applied"}
    first = space.on()
    assert (first["mode"], first["prog"]["name"]) == (1, "rh_root")
    assert [space.pings(source) for source in (FAR, DENIED, OTHER)] == [True, False, True]
    samples = space.collected()
    assert samples["xdp.acl_denied_packets"] == 1
    assert samples["xdp.acl_allowed_packets"] >= 2
    assert samples["xdp.icmp_packets"] >= 3
    assert samples["xdp.icmp_bytes"] == samples["xdp.icmp_packets"] * 98

    assert status(want(space, generation=2, programs="acl, count", acl="deny 10.8.0.70/32")) == {"xdp": "applied"}
    assert [space.pings(source) for source in (FAR, DENIED, OTHER)] == [True, True, False]
    assert space.on()["prog"]["id"] != first["prog"]["id"]
    assert space.collected()["xdp.acl_denied_packets"] == 2, "counters go on"
    assert len(space.pins()) == 2
    assert want(space, generation=2, programs="acl, count", acl="deny 10.8.0.70/32")["outcomes"][0]["status"] == (
        OutcomeStatus.UNCHANGED
    )

    assert space.deadman("rollback")[0]["state"] == "reverted"
    assert [space.pings(source) for source in (DENIED, OTHER)] == [False, True], "the former rules are back, alive"
    assert space.deadman("rollback")[0]["state"] == "reverted"
    assert (space.on(), space.pins(), space.fact()) == ({}, [], before)
    assert space.pings(DENIED)


def test_everything_passes_when_the_heartbeat_stops_and_no_more_when_it_is_back(space: XdpSpace) -> None:
    assert status(want(space, programs="acl", acl_default="deny", stale_s=3)) == {"xdp": "applied"}
    assert not space.pings(FAR)
    wait_for(lambda: space.pings(FAR), "the kill switch")
    assert space.collected()["xdp.stale_packets"] >= 1
    space.call(pulse.feed)
    assert not space.pings(FAR)
    assert space.on()["prog"]["name"] == "rh_root"


def test_the_keeper_finds_new_roots_and_keeps_the_broker(space: XdpSpace) -> None:
    broker = space.piped(
        [
            "ip",
            "netns",
            "exec",
            space.far,
            "python3",
            "-uc",
            "import socket\ns = socket.create_server(('', 1883))\n"
            "print('up')\nc, _ = s.accept()\nprint(c.recv(9))\nc.sendall(b'ack')\nprint(c.recv(9))",
        ]
    )
    assert broker.stdout
    assert broker.stdout.readline() == "up\n"

    keeper = space.piped(space.inside(sys.executable, "-uc", KEEPER))
    assert keeper.stdin
    assert keeper.stdout
    assert keeper.stdout.readline() == "up\n"
    space.put(alive=False, programs="acl", acl_default="deny")
    assert space.pings(FAR), "nobody keeps it yet"
    said, _ = keeper.communicate("go\n", timeout=60)
    assert said == "b'ack'\n"
    assert not space.pings(FAR)
    assert space.collected()["xdp.acl_kept_packets"] >= 2


KEEPER = f"""
import socket, sys, time
from agent import pulse
from machine.live import Live
keeper = pulse.Pulse(Live(), [1883])
keeper.step()
broker = socket.create_connection(('{FAR}', 1883), 5)
print('up')
sys.stdin.readline()
while not keeper._roots:
    keeper.step()
    time.sleep(0.01)
broker.sendall(b'hello')
print(broker.recv(9))
"""


def test_access_lists_know_tcp_and_udp_ports_of_both_families(space: XdpSpace) -> None:
    rules = "deny 10.8.0.0/24 tcp/8000-8099, allow 10.8.0.0/24 tcp/8080, deny fd08::/64 udp/53, allow 10.8.0.70/32"
    space.put(programs="acl", acl=rules, acl_default="allow")
    serve = "import http.server as h, sys; h.ThreadingHTTPServer(('', int(sys.argv[1])), h.SimpleHTTPRequestHandler)"
    for port in ("8080", "8081", "8100"):
        space.holding(f"{serve}.serve_forever()", port)

    def connects(port: int, source: str = FAR) -> bool:
        code = (
            f"import socket\ntry:\n  socket.create_connection(('{HERE}', {port}), 0.4, ('{source}', 0)).close()\n"
            "  print(1)\nexcept TimeoutError: print(0)\nexcept ConnectionRefusedError: print(2)"
        )
        return space.far_python(code).strip() == "1"

    for open_port in (8080, 8100):
        wait_for(lambda port=open_port: connects(port), f"port {open_port}")  # type: ignore[misc]
    assert [connects(8081), connects(8081, OTHER)] == [False, True]
    ask = (
        "import socket\ns = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\ns.settimeout(0.4)\n"
        "s.connect(('fd08::1', {port}))\ns.send(b'x')\n"
        "try: s.recv(9)\nexcept TimeoutError: print(0)\nexcept ConnectionRefusedError: print(1)"
    )
    assert [space.far_python(ask.format(port=port)).strip() for port in (53, 54)] == ["0", "1"]


def test_a_source_has_its_rate_and_its_burst_and_the_others_theirs(space: XdpSpace) -> None:
    space.put(programs="ratelimit", rate_pps=5, rate_burst=20)
    send = (
        "import socket, sys\nfor source in sys.argv[1:]:\n"
        "  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n  s.bind((source, 0))\n"
        f"  for _ in range(300): s.sendto(b'x', ('{HERE}', 9))"
    )
    before = space.collected()
    space.there("python3", "-c", send, DENIED, OTHER)
    after = space.collected()
    passed, dropped = (
        after[f"xdp.rate_{word}_packets"] - before.get(f"xdp.rate_{word}_packets", 0) for word in ("passed", "dropped")
    )
    assert passed + dropped >= 600
    assert 40 <= passed <= 60, "two bursts, and a few more for the time it took"


def test_no_packet_is_lost_while_programs_are_replaced(space: XdpSpace) -> None:
    space.put(programs="count")
    receive = (
        "import socket, sys\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)\n"
        f"s.bind(('{HERE}', 9999))\nprint('ready', flush=True)\nfound = 0\n"
        "while s.recv(9) != b'end': found += 1\nprint(found)"
    )
    send = (
        "import socket, sys, threading, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"s.connect(('{HERE}', 9999))\nsent = 0\nstop = threading.Event()\n"
        "threading.Thread(target=lambda: (sys.stdin.read(), stop.set())).start()\n"
        "while not stop.is_set():\n    s.send(b'x')\n    sent += 1\n    time.sleep(0.0002)\n"
        "s.send(b'end')\nprint(sent)"
    )
    receiver = space.piped(space.inside("python3", "-uc", receive))
    assert receiver.stdout
    assert receiver.stdout.readline() == "ready\n"
    sender = space.piped(["ip", "netns", "exec", space.far, "python3", "-c", send])
    for turn in range(20):
        space.put(programs="count,acl" if turn % 2 else "count", acl_default="allow")
    sent, _ = sender.communicate(timeout=60)
    received, _ = receiver.communicate(timeout=60)
    assert int(sent) > 100
    assert int(received) == int(sent)
    assert space.collected()["xdp.udp_packets"] >= int(sent)


def test_somebody_elses_program_is_named_and_left_alone(space: XdpSpace) -> None:
    def put(writer: LiveWriter, name: str) -> None:
        code = bytes.fromhex("b7000000020000009500000000000000")  # return XDP_PASS
        xdp_attach._set(writer, space.ifindex(), bpf.load(code, name, "GPL"), 4)

    for name, words in (("xdp_dispatcher", "xdp_dispatcher of libxdp"), ("mine", "mine of somebody else")):
        space.call(lambda writer, name=name: put(writer, name))  # type: ignore[misc]
        there = space.on()
        report = want(space, programs="acl", acl_default="deny")
        assert status(report) == {"xdp": "unsupported"}
        assert words in reason(report)
        with pytest.raises(MachineError, match=f"has the program {name}"):
            space.put(programs="count")
        space.put(programs="none", mode="", stale_s=0)
        assert space.on() == there
        space.ip(f"link set {NIC} xdpdrv off")


def test_a_canary_that_a_dead_process_left_is_ours_to_replace_and_to_take_off(space: XdpSpace) -> None:
    def leave(writer: LiveWriter) -> None:
        xdp_attach.mount()
        with xdp_load.Loaded() as made:
            xdp_attach.attach(writer, space.ifindex(), made.load(xdp_load.CANARY), "native")

    for programs, left in (("none", {}), ("count", {"programs": "count"})):
        space.call(leave)
        assert space.on()["prog"]["name"] == "rh_pass"
        assert status(want(space, programs=programs)) == {"xdp": "applied"}
        assert {name: value for name, value in space.fact().settings.items() if name == "programs"} == left
    space.put(programs="none", mode="", stale_s=0)
    assert (space.on(), space.pins()) == ({}, [])


def test_what_the_verifier_rejects_leaves_the_machine_as_it_was(
    space: XdpSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.put(programs="count")
    there, pins = space.on(), space.pins()
    made = xdp_load.artifact()
    bad = structs.replace(made.programs["rh_acl"], code="9500000000000000", maps=[])
    broken = structs.replace(made, programs={**made.programs, "rh_acl": bad})
    monkeypatch.setattr(xdp_load, "artifact", lambda: broken)
    before = dict(space.fact().settings)
    after = canonical({**before, "programs": "count,acl", "acl_default": "deny"})
    op = Request("xdp", before, after, space.ifindex(), NIC)
    (outcome,) = space.call(lambda writer: engine.apply(writer, [Change(knob="xdp", target=NIC, op=op)], {}))
    assert outcome.status is OutcomeStatus.FAILED
    assert "va: bpf: the verifier rejects rh_acl: " in outcome.reason
    assert "R0 !read_ok" in outcome.reason
    assert (space.on(), space.pins()) == (there, pins)


def test_generic_is_only_where_it_is_allowed_and_native_is_not_there(space: XdpSpace) -> None:
    space.ip("link add du type bridge")
    space.ip("link set du up")
    wanted: dict[str, Value] = {"programs": "count", "stale_s": LONG}
    refused = space.apply(settings=[Setting(knob="xdp", nic="du", values=wanted)])
    assert status(refused) == {"xdp": "unsupported"}
    assert "generic: true" in reason(refused)
    wanted["generic"] = True
    assert status(space.apply(settings=[Setting(knob="xdp", nic="du", values=wanted)])) == {"xdp": "applied"}
    found = json.loads(space.ip("-d -j link show du"))[0]["xdp"]
    assert (found["mode"], found["prog"]["name"]) == (2, "rh_root")
    assert space.deadman("rollback")[0]["state"] == "reverted"
    assert "xdp" not in json.loads(space.ip("-d -j link show du"))[0]


def test_ssh_and_the_broker_are_never_dropped(space: XdpSpace) -> None:
    listen = (
        "import socket\ns = socket.create_server(('', 22))\n"
        "while True:\n  c, _ = s.accept()\n  c.sendall(c.recv(9))\n  c.sendall(c.recv(9))"
    )
    space.holding(listen)
    talk = (
        "import socket, sys\nwhile True:\n"
        "  try: s = socket.create_connection(('10.8.0.1', 22), 5)\n  except OSError: continue\n  break\n"
        "s.sendall(b'a'); assert s.recv(9) == b'a'\nprint('up', flush=True)\nsys.stdin.readline()\n"
        "s.sendall(b'b'); print(s.recv(9))"
    )
    session = space.piped(["ip", "netns", "exec", space.far, "python3", "-c", talk])
    assert session.stdout
    assert session.stdin
    assert session.stdout.readline() == "up\n"
    allowed = Setting(
        knob="xdp", nic=NIC, values={"programs": "acl", "acl_default": "deny", "stale_s": LONG}, allow=[Blast.BLACKHOLE]
    )
    assert status(space.apply(settings=[allowed])) == {"xdp": "applied"}
    assert not space.pings(FAR)
    said, _ = session.communicate("go\n", timeout=30)
    assert said == "b'b'\n"
    assert space.collected()["xdp.acl_kept_packets"] >= 1


RECEIVE = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('{HERE}', 4433))
s.connect(('{FAR}', 5555))
print('ready', flush=True)
while True:
    on = set()
    for _ in range(20):
        assert s.recv(99)[4:5] == b'W'
        on.add(s.getsockopt(socket.SOL_SOCKET, 49))  # SO_INCOMING_CPU
    print(*sorted(on), flush=True)
"""
SEND = f"""
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('{FAR}', 5555))
for _ in range(20): s.sendto(bytes.fromhex(sys.argv[1]), ('{HERE}', 4433))
"""


def test_quic_goes_to_the_worker_in_its_connection_id(space: XdpSpace) -> None:
    values: dict[str, Any] = {"quic_cpus": "0-1", "quic_port": 4433, "quic_cid_len": 8, "quic_cid_byte": 4}
    space.put(programs="quic-steer", quic_to="cpu", **values)
    space.there("ethtool", "-K", "vb", "tx", "off")  # on veth sums left to do are lost on the way to another CPU
    receiver = space.piped(space.inside("python3", "-uc", RECEIVE))
    assert receiver.stdout
    assert receiver.stdout.readline() == "ready\n"
    for worker in (0, 1, 0, 3):
        short = bytes([0x40, 7, 7, 7, ord("W"), worker, 1, 2, 3]) + bytes(30)
        space.there("python3", "-c", SEND, short.hex())
        assert receiver.stdout.readline().split() == [str(worker % 2)]
    assert space.collected()["xdp.quic_cpu_packets"] == 80


def test_a_socket_takes_the_quic_of_its_queue(space: XdpSpace) -> None:
    values: dict[str, Any] = {"quic_to": "socket", "quic_port": 4433}
    space.put(programs="quic-steer", **values)
    taker = space.piped(space.inside(sys.executable, str(Path(__file__).with_name("xsk.py")), NIC, "4"))
    assert taker.stdout
    said = taker.stdout.readline()
    assert said == "ready\n", said or taker.communicate()[1]
    short = bytes([0x40, 7, 7, 7, ord("W"), 1, 1, 2, 3]) + bytes(30)
    space.there("python3", "-c", SEND, short.hex())
    assert short.hex() in taker.stdout.readline()
    assert space.collected()["xdp.quic_socket_packets"] >= 20
