"""Changes that have to prove themselves, on real queues: kept, undone, remembered, and never left half measured."""

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

_FLOOD = """
import socket, struct, sys, time
mac = open("/sys/class/net/va/address").read().replace(":", "").strip()
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("vb", 0))
head = bytes.fromhex(mac) + bytes.fromhex("020000000001") + b"\\x08\\x00"
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 48, 0, 0, 64, 17, 0, bytes([10, 9, 9, 9]), bytes([10, 7, 0, 1]))
frame = head + ip + struct.pack("!HHHH", 5, 9, 28, 0) + bytes(20)
while True:
    for _ in range(10):
        raw.send(frame)
    time.sleep(0.005)
"""


def steering(keep: Keep, window_s: int = 1, windows: int = 2) -> list[Setting]:
    rule = Measure(keep=keep, window_s=window_s, windows=windows)
    return [Setting(knob="rps", nic=NIC, values={"mode": "all"}, measure=rule)]


def effect(report: dict[str, Any]) -> Effect:
    found = [outcome["effect"] for outcome in report["outcomes"] if "effect" in outcome]
    assert len(found) == 1
    return msgspec.convert(found[0], Effect)


@pytest.fixture
def busy(space: Space) -> Iterator[Space]:
    """Some two thousand packets a second into the NIC."""
    process = space.python("-c", _FLOOD)
    received = f"cat /sys/class/net/{NIC}/statistics/rx_packets"
    wait_for(lambda: int(space.shell(received)) > 100, "packets arrive")
    yield space
    process.kill()
    process.wait()


def test_without_load_nothing_is_proven_and_what_has_to_be_better_goes(space: Space) -> None:
    before = space.snapshot()
    report = space.apply(settings=steering(Keep.BETTER))
    assert report["status"] == "reverted"
    assert effect(report).verdict is Verdict.UNPROVEN
    assert "no load" in report["reason"]
    assert space.snapshot() == before
    assert Memory(space.state).all() == [], "nothing was learnt"


def test_without_load_what_must_not_be_worse_stays_and_is_no_improvement(space: Space) -> None:
    rule = Measure(keep=Keep.NOT_WORSE, window_s=1, windows=2)
    report = space.apply(settings=[Setting(knob="channels", nic=NIC, values={"rx": 2}, measure=rule)])
    assert status(report) == {"channels": "applied"}
    assert effect(report).verdict is Verdict.UNPROVEN
    assert int(space.shell(f"ls -d /sys/class/net/{NIC}/queues/rx-* | wc -l")) == 2


def test_under_load_the_effect_is_told_and_remembered(busy: Space) -> None:
    report = busy.apply(settings=steering(Keep.ALWAYS))
    found = effect(report)
    assert status(report) == {"rps": "applied"}, "it was taken back and made again between the windows, and stands"
    assert set(busy.shell(f"cat /sys/class/net/{NIC}/queues/rx-*/rps_cpus").split()) != {"0"}
    assert found.verdict is not Verdict.UNPROVEN, found.reason
    assert found.windows == 2
    assert found.packets_per_s > 100
    assert found.before > 0
    assert found.after > 0
    assert found.changed == "rps mode=all"
    assert found.place.startswith("veth, Linux ")
    assert [known.effect for known in Memory(busy.state).all()] == [found]

    known = [Known(at_ms=time.time_ns() // 1_000_000, nic=NIC, effect=structs.replace(found, verdict=Verdict.WORSE))]
    (busy.state / "effects.json").write_bytes(msgspec.json.encode(known))
    busy.deadman("rollback")
    journals = len(list((busy.state / "journal").iterdir()))
    again = busy.apply(settings=steering(Keep.BETTER), generation=2)
    assert status(again) == {"rps": "reverted"}
    assert "measured before: rps mode=all: worse" in again["outcomes"][0]["reason"]
    assert len(list((busy.state / "journal").iterdir())) == journals, "nothing was begun"


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
