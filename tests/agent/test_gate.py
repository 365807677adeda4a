"""Changes that have to prove themselves, on real queues: kept, undone, remembered, and never left half measured."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from agent.effects import Known, Memory
from tests.agent.space import NIC, Space, desired, status, wait_for
from wire.measure import Effect, Keep, Measure, Objective, Verdict
from wire.policy import Setting

pytestmark = pytest.mark.root

# Some two thousand packets a second from the other end of the wire, for an address where nobody listens
_FLOOD = """
import socket, struct, sys, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("vb", 0))
head = bytes.fromhex(sys.argv[1].replace(":", "")) + bytes.fromhex("020000000001") + b"\\x08\\x00"
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 48, 0, 0, 64, 17, 0, bytes([10, 7, 0, 2]), bytes([10, 7, 0, 9]))
frame = head + ip + struct.pack("!HHHH", 5, 9, 28, 0) + bytes(20)
while True:
    for _ in range(10):
        raw.send(frame)
    time.sleep(0.005)
"""
# A wire that is slow (0.2 s for a ping) while the queues' CPUs are set, or while they are not
_PLANT = """
import subprocess, sys, time
was = None
while True:
    is_set = open("/sys/class/net/va/queues/rx-0/rps_cpus").read().strip() != "0"
    if (slow := is_set == (sys.argv[1] == "set")) != was:
        was = slow
        words = f"replace dev va root tbf rate {'4kbit' if slow else '1gbit'} burst 150 latency 2s"
        subprocess.run(["tc", "qdisc", *words.split()], check=True)
    time.sleep(0.005)
"""


def steering(keep: Keep, window_s: int = 1, windows: int = 3) -> list[Setting]:
    rule = Measure(keep=keep, window_s=window_s, windows=windows)
    return [Setting(knob="rps", nic=NIC, values={"mode": "all"}, measure=rule)]


def effect(report: dict[str, Any]) -> Effect:
    found = [outcome["effect"] for outcome in report["outcomes"] if "effect" in outcome]
    assert len(found) == 1
    return msgspec.convert(found[0], Effect)


@pytest.fixture
def busy(space: Space) -> Iterator[Space]:
    """A neighbour at 10.7.0.2 behind the NIC's wire, in a namespace of its own, that sends without an end."""
    peer = f"{space.name}-p"
    subprocess.run(["ip", "netns", "add", peer], check=True)
    try:
        space.ip(f"link set vb netns {peer}")
        space.ip(f"addr add 10.7.0.1/24 dev {NIC}")
        for words in ("addr add 10.7.0.2/24 dev vb", "link set vb up"):
            subprocess.run(["ip", "-n", peer, *words.split()], check=True)
        mac = space.shell(f"cat /sys/class/net/{NIC}/address").strip()
        with subprocess.Popen(["ip", "netns", "exec", peer, sys.executable, "-c", _FLOOD, mac]) as process:
            received = f"cat /sys/class/net/{NIC}/statistics/rx_packets"
            wait_for(lambda: int(space.shell(received)) > 100, "packets arrive")
            yield space
            process.kill()
    finally:
        subprocess.run(["ip", "netns", "del", peer], check=True)


def test_without_load_nothing_is_proven_and_what_has_to_be_better_goes(space: Space) -> None:
    before = space.snapshot()
    report = space.apply(settings=steering(Keep.BETTER))
    assert report["status"] == "reverted"
    assert effect(report).verdict is Verdict.UNPROVEN
    assert "no load" in report["reason"]
    assert space.snapshot() == before
    assert Memory(space.state).all() == [], "nothing was learnt"


def test_without_load_what_must_not_be_worse_stays_and_is_no_improvement(space: Space) -> None:
    rule = Measure(keep=Keep.NOT_WORSE, window_s=1, windows=3)
    report = space.apply(settings=[Setting(knob="channels", nic=NIC, values={"rx": 2}, measure=rule)])
    assert status(report) == {"channels": "applied"}
    assert effect(report).verdict is Verdict.UNPROVEN
    assert int(space.shell(f"ls -d /sys/class/net/{NIC}/queues/rx-* | wc -l")) == 2


def test_killed_in_the_middle_of_a_window_the_nic_is_as_before(space: Space) -> None:
    before = space.snapshot()
    space.want(desired(steering(Keep.ALWAYS, window_s=1, windows=20)))
    run = space.start("--confirm", "self")
    wait_for(lambda: space.snapshot() != before, "it is changed and being measured")
    run.kill()
    run.end()
    wait_for(lambda: space.snapshot() == before, "it is as it was")
    space.deadman("recover")
    assert space.snapshot() == before


def test_round_trips_are_those_of_the_wire(space: Space) -> None:
    space.ip("link set lo up")
    code = (
        "import socket\n"
        "from agent.meter import asker\n"
        "from tuners.measure import LOST_US\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "closed = socket.create_server(('127.0.0.1', 0)); port = closed.getsockname()[1]; closed.close()\n"
        "took = [asker(f'127.0.0.1:{listener.getsockname()[1]}')(), asker('127.0.0.1')()]\n"
        "assert all(0 < each < LOST_US for each in took), took\n"
        "assert asker(f'127.0.0.1:{port}')() == LOST_US\n"
        "assert asker('') is None\n"
        "print('good')"
    )
    assert space.output(code) == "good\n"


def test_what_was_measured_long_ago_counts_no_more(tmp_path: Path) -> None:
    old = Effect(verdict=Verdict.WORSE, objective=Objective.PPS, changed="rings rx=4096", place="igb")
    now_ms = time.time_ns() // 1_000_000
    for age_days, known in ((29, old), (31, None)):
        kept = [Known(at_ms=now_ms - age_days * 86_400_000, nic="a", effect=old)]
        (tmp_path / "effects.json").write_bytes(msgspec.json.encode(kept))
        assert Memory(tmp_path).did_not_help("igb", "rings rx=4096", Objective.PPS) == known
    memory = Memory(tmp_path)
    assert memory.did_not_help("ice", "rings rx=4096", Objective.PPS) is None
    memory.keep("b", structs.replace(old, verdict=Verdict.IMPROVED))
    assert memory.did_not_help("igb", "rings rx=4096", Objective.PPS) is None, "it helped the last time"
    assert len(Memory(tmp_path).all()) == 1, "what is too old is dropped"
    (tmp_path / "effects.json").write_text("damaged")
    assert Memory(tmp_path).all() == []


@pytest.mark.parametrize(("slow_while", "verdict"), [("set", Verdict.WORSE), ("clear", Verdict.IMPROVED)])
def test_what_makes_round_trips_shorter_is_kept_and_what_makes_them_longer_is_not(
    busy: Space, slow_while: str, verdict: Verdict
) -> None:
    before = busy.snapshot()
    plant = busy.python("-c", _PLANT, slow_while)
    try:
        rule = Measure(objective=Objective.LATENCY, probe="10.7.0.2", window_s=1)
        wanted = [Setting(knob="rps", nic=NIC, values={"mode": "all"}, measure=rule)]
        report = busy.apply(settings=wanted)
        found = effect(report)
        assert found.verdict is verdict, found
        assert found.windows == 3
        assert found.packets_per_s > 100
        assert found.changed == "rps mode=all"
        assert found.place.startswith("veth, Linux ")
        kept = verdict is Verdict.IMPROVED
        assert status(report) == {"rps": "applied" if kept else "reverted"}
        assert (busy.snapshot() == before) is not kept
        assert [known.effect for known in Memory(busy.state).all()] == [found]
        journals = len(list((busy.state / "journal").iterdir()))
        if not kept:
            again = busy.apply(settings=wanted, generation=2)
            assert "measured before: rps mode=all: worse" in again["outcomes"][0]["reason"]
            assert len(list((busy.state / "journal").iterdir())) == journals, "nothing was begun"
    finally:
        plant.kill()
        plant.wait()
