"""The collector against real lldpds and raw frames, over veth pairs between namespaces of the test's own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors import lldp
from collectors.run import run
from machine.capture import Captured
from tests.collectors.lldp_frames import HOSTILE, frame, tlv
from tests.collectors.lldp_space import ROOT, Collecting, end, ip, lldpd, mac, send
from wire.facts import Lldp

pytestmark = pytest.mark.root


@pytest.fixture
def other(namespace: str) -> Iterator[str]:
    """A second namespace, at the other end of ve0 - ve1 (both up)."""
    name = f"{namespace}b"
    subprocess.run(["ip", "netns", "add", name], check=True)
    ip(namespace, "link", "add", "ve0", "type", "veth", "peer", "name", "ve1", "netns", name)
    ip(namespace, "link", "set", "ve0", "up")
    ip(name, "link", "set", "ve1", "up")
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def collecting(namespace: str, other: str) -> Iterator[Collecting]:
    made = Collecting("ip", "netns", "exec", namespace)
    yield made
    end(made.process)


def test_the_agent_hears_an_lldpd_by_itself(namespace: str, other: str, collecting: Collecting, tmp_path: Path) -> None:
    status, reason, facts = collecting.run()
    assert (status, facts) == ("absent", [])
    assert "no neighbour heard yet" in reason
    settings = ["configure system hostname sw1", 'configure system description "LabWorks, 1.9"']
    with lldpd(["ip", "netns", "exec", other], tmp_path, *settings):
        (fact,) = collecting.until(lambda facts: [one.get("system_name") for one in facts] == ["sw1"])
        far = mac(other, "ve1")
        assert (fact["key"], fact["port"], fact["source"]) == ("ve0", "ve0", "frames")
        assert (fact["chassis_id"], fact["port_id"], fact["port_description"]) == (far, far, "ve1")
        assert (fact["local_mac"], fact["system_description"]) == (mac(namespace, "ve0"), "LabWorks, 1.9")
        assert collecting.run("captured")[2] == collecting.run()[2]
        (redacted,) = collecting.run("redacted")[2]
        assert {redacted["chassis_id"], redacted["port_id"]}.isdisjoint({mac(other, "ve1")})
        assert redacted["chassis_id"] == redacted["port_id"]
        assert redacted["system_name"] != "sw1"
    assert collecting.until(lambda facts: facts == []) == []  # it says goodbye when it ends


def test_what_lldpd_tells_is_what_the_frames_tell(namespace: str, other: str, tmp_path: Path) -> None:
    """An lldpd at either end; the one of the machine has the socket that lldpcli asks."""
    (tmp_path / "far").mkdir()
    own = "mount -t tmpfs none /run && mkdir /run/lldpd && exec setpriv --no-new-privs lldpd -d -O /dev/null -I 've*'"
    argv = ["ip", "netns", "exec", namespace, "unshare", "-m", "sh", "-c", own]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    heard: dict[str, dict[str, Any]] = {}
    probes: dict[str, Collecting] = {}
    try:
        probes["frames"] = Collecting("ip", "netns", "exec", namespace)
        settings = ["configure system hostname sw1", "configure med fast-start enable"]
        with lldpd(["ip", "netns", "exec", other], tmp_path / "far", *settings):
            probes["frames"].until(lambda facts: [one.get("system_name") for one in facts] == ["sw1"])
            probes["lldpd"] = Collecting("nsenter", "-t", str(process.pid), "-m", "-n")
            for source, probe in probes.items():
                (fact,) = probe.until(lambda facts: [one.get("system_name") for one in facts] == ["sw1"])
                heard[source] = fact
        assert {source: fact.pop("source") for source, fact in heard.items()} == {"frames": "frames", "lldpd": "lldpd"}
        assert heard["frames"].pop("lag") is False  # lldpd says of aggregation only where there is some
        assert heard["frames"]["mau"] == "10GbaseT"
        assert heard["lldpd"] == heard["frames"]
        assert heard["lldpd"]["ttl_s"] == 4
    finally:
        for probe in probes.values():
            end(probe.process)
        end(process)


def test_hostile_frames_do_no_harm_and_the_honest_neighbour_stays(other: str, collecting: Collecting) -> None:
    collecting.run()
    send(other, "ve1", frame(tlv(5, b"honest")))
    (before,) = collecting.until(lambda facts: len(facts) == 1)
    assert before["system_name"] == "honest"
    flood = [frame(tlv(5, b"flood"), chassis=b"\x07" + number.to_bytes(4, "big")) for number in range(1, 3000)]
    broken = [frame()[:size] for size in range(14, len(frame()) - 2)]  # none that has all it must have
    send(other, "ve1", *broken, frame(tlv(5, HOSTILE), tlv(6, HOSTILE), port=b"\x05" + HOSTILE), *flood)
    facts = collecting.until(lambda facts: len(facts) == 16)
    assert facts[0] == before
    assert [one["key"] for one in facts] == ["ve0", *(f"ve0#{number}" for number in range(2, 17))]
    assert {one.get("port_key", "ve0") for one in facts} == {"ve0"}
    hostile = facts[1]
    assert all(text.isprintable() for text in hostile.values() if isinstance(text, str))
    assert "owned" in hostile["system_name"]
    assert hostile["port_id"] == HOSTILE.hex()  # what is no text stands as it came


def test_a_neighbour_is_forgotten_when_its_time_ends_or_it_says_goodbye(other: str, collecting: Collecting) -> None:
    collecting.run()
    brief, long = b"\x07brief", b"\x07long"
    send(other, "ve1", frame(chassis=brief, ttl=b"\x00\x02"), frame(chassis=long))
    collecting.until(lambda facts: [one["chassis_id"] for one in facts] == ["brief", "long"])
    collecting.until(lambda facts: [one["chassis_id"] for one in facts] == ["long"])
    send(other, "ve1", frame(chassis=long, ttl=b"\0\0"))
    assert collecting.until(lambda facts: facts == []) == []


def test_a_port_without_carrier_has_no_neighbour(other: str, collecting: Collecting) -> None:
    collecting.run()
    send(other, "ve1", frame())
    collecting.until(lambda facts: len(facts) == 1)
    ip(other, "link", "set", "ve1", "down")
    collecting.until(lambda facts: facts == [])
    ip(other, "link", "set", "ve1", "up")
    collecting.until(lambda facts: len(facts) == 1)


@pytest.mark.parametrize("last", [0x0E, 0x03, 0x00])
def test_every_group_of_lldp_is_heard_behind_a_bridge(namespace: str, other: str, last: int) -> None:
    """A bridge's port hears for itself what no bridge passes on."""
    ip(namespace, "link", "add", "br0", "type", "bridge", "stp_state", "1")
    ip(namespace, "link", "set", "ve0", "master", "br0")
    ip(namespace, "link", "set", "br0", "up")
    probe = Collecting("ip", "netns", "exec", namespace)
    try:
        probe.run()
        raw = frame()
        send(other, "ve1", raw[:5] + bytes([last]) + raw[6:])
        (fact,) = probe.until(lambda facts: len(facts) == 1)
        assert fact["port"] == "ve0"
    finally:
        end(probe.process)


def test_a_capture_listens_as_long_as_it_is_told(namespace: str, other: str, tmp_path: Path) -> None:
    file = tmp_path / "machine.txt"
    capture = [sys.executable, "-m", "agent.cli", "capture", "--listen", "3", "-o", str(file)]
    with lldpd(["ip", "netns", "exec", other], tmp_path, "configure system hostname sw1"):
        subprocess.run(["ip", "netns", "exec", namespace, *capture], check=True, capture_output=True, cwd=ROOT)
    (fact,) = run(lldp, Captured(file), 0).facts
    assert isinstance(fact, Lldp)
    assert (fact.port, fact.source, fact.port_description) == ("ve0", "frames", "ve1")
    assert fact.chassis_id != mac(other, "ve1")
