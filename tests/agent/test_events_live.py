"""Events of a real namespace: on a terminal without a broker, and from the resident agent to the inventory."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import doctor
from agent.config import Config, Events, Rule
from agent.events import pipeline
from agent.events.sources import Sources, open_monitor
from agent.events.stale import NIC as NIC_FACTS
from agent.events.watching import Watching
from machine import DeniedError, NotPresentError
from machine.live import Live
from machine.monitor import GROUPS, Monitor
from tests.agent.brokers import wait_for
from tests.agent.space import NIC, WANTED, Space, desired
from wire.report import Event

pytestmark = pytest.mark.root
ROOT = Path(__file__).resolve().parents[2]
# Sets receive channels and keeps its socket until its stdin ends; its name is the first argument.
CHANGER = """
import sys
from pathlib import Path
from machine import ethtool, nla
from machine.live import Live
live = Live()
Path("/proc/self/comm").write_text(sys.argv[1])
live.genl("ethtool", ethtool.CHANNELS_SET, ethtool.header(int(sys.argv[2])) + nla.u32(6, int(sys.argv[3])))
sys.stdin.read()
"""


class Follow:
    """`rackhand-agent events --follow -o json` in the namespace; its lines arrive in `seen`."""

    def __init__(self, space: Space, *arguments: str) -> None:
        argv = ["-m", "agent.cli", "events", "--follow", "-o", "json", "--state", str(space.state), *arguments]
        self.process = subprocess.Popen(space.inside(sys.executable, *argv), cwd=ROOT, stdout=subprocess.PIPE)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.decode())

    def events(self, kind: str, ifname: str = "") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in tuple(self.lines)]
        return [one for one in found if one["kind"] == kind and one["data"].get("ifname", "") in (ifname, ifname or "")]

    def close(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        self._reader.join(60)
        assert self.process.stdout
        self.process.stdout.close()
        return code


@pytest.fixture
def follow(space: Space) -> Iterator[Callable[..., Follow]]:
    made: list[Follow] = []

    def begin(*arguments: str) -> Follow:
        one = Follow(space, *arguments)
        made.append(one)
        numbers = iter(range(10_000))

        def watches() -> bool:  # the monitor is open when something that is done now is seen
            name = f"probe{next(numbers)}"
            space.ip(f"link add {name} type bridge")
            space.ip(f"link del {name}")
            return bool(one.lines)

        wait_for(watches, 60)
        return one

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.close()


def test_what_happens_is_followed_without_a_broker_and_replayed(
    space: Space, follow: Callable[..., Follow], tmp_path: Path
) -> None:
    watching = follow("--raw")
    with subprocess.Popen(
        space.inside(sys.executable, "-c", CHANGER, "tuner", str(space.ifindex()), "2"), cwd=ROOT, stdin=subprocess.PIPE
    ):
        (knob,) = wait_for(lambda: watching.events("knob.changed", NIC))
    assert (knob["data"]["knob"], knob["data"]["by"]) == ("channels", "tuner")
    assert knob["text"].startswith(f"somebody changed channels of {NIC} (perhaps by tuner)")
    space.shell(f"ethtool -K {NIC} tso off")
    assert wait_for(lambda: [one for one in watching.events("knob.changed", NIC) if one["data"]["knob"] == "features"])
    space.ip(f"addr add 192.0.2.1/24 dev {NIC}")
    assert wait_for(lambda: watching.events("address.added", NIC))[0]["data"]["address"] == "192.0.2.1/24"
    space.ip("route add default via 192.0.2.254")
    assert wait_for(lambda: watching.events("route.added", NIC))[0]["data"]["gateway"] == "192.0.2.254"
    for _ in range(10):
        space.ip("link set vb down")
        space.ip("link set vb up")
    wait_for(lambda: len(watching.events("link.up", NIC)) >= 10)
    assert watching.close() == 0

    recording = tmp_path / "recorded"
    recording.write_text("".join(watching.lines))
    config = tmp_path / "agent.toml"
    config.write_text('[[events.rule]]\nkind = "route.*"\naction = "drop"\n')
    told = [json.loads(line) for line in agent("events", "replay", str(recording), "-o", "json", config=config)]
    of_nic = [(one["verdict"], one["event"]["kind"]) for one in told if one["event"]["data"].get("ifname") == NIC]
    assert ("dropped", "route.added") in of_nic
    assert of_nic.count(("kept", "link.down")) == 2
    (flapping,) = [
        one["event"] for one in told if one["event"]["kind"] == "link.flapping" and one["event"]["key"] == NIC
    ]
    assert flapping["data"]["count"] == of_nic.count(("held", "link.down")) + of_nic.count(("held", "link.up")) - 1
    assert ("made", "link.up") in of_nic


def agent(*arguments: str, config: Path, code: int = 0) -> list[str]:
    argv = [sys.executable, "-m", "agent.cli", *arguments, "--config", str(config)]
    if "replay" in arguments or "simulate" in arguments:  # options of `events` itself stand before its own verb
        argv = [*argv[:4], "--config", str(config), *arguments[1:]]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines()


def test_one_that_did_not_happen_goes_through_rules_and_hooks(tmp_path: Path) -> None:
    folder = tmp_path / "hooks.d"
    folder.mkdir()
    script = folder / "page"
    script.write_text(f"#!/bin/sh\necho $RACKHAND_EVENT_SIMULATED $RACKHAND_EVENT_IFNAME > {tmp_path}/paged\n")
    script.chmod(0o755)
    config = tmp_path / "agent.toml"
    rules = '[[events.rule]]\nkind="link.*"\naction="hook"\nhook="{}"\n[[events.rule]]\nifname="tap*"\naction="drop"\n'
    config.write_text(f'[events]\nhooks_dir = "{folder}"\n{rules.format("page")}')
    (told,) = agent("events", "simulate", "link.down", "--data", "ifname=eth0; reboot", "-o", "json", config=config)
    assert json.loads(told)["hooks"] == ["page"]
    assert json.loads(told)["event"]["data"]["simulated"] is True
    assert (tmp_path / "paged").read_text() == "1 eth0_ reboot\n"
    (told,) = agent("events", "simulate", "pci.added", "--data", "ifname=tap0", "-o", "json", config=config)
    assert json.loads(told)["verdict"] == "dropped"
    script.chmod(0o777)
    _, failed = agent("events", "simulate", "link.down", "-o", "json", config=config, code=1)
    assert "may be written by others" in json.loads(failed)["event"]["text"]


def test_what_cannot_be_simulated_or_replayed(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[[events.rule]]\naction = "hook"\nhook = "../sh"\n')
    agent("events", "simulate", "link.down", config=config, code=2)
    config.write_text("")
    for wrong in (["simulate", "down"], ["simulate", "a.b", "--data", "x"], ["replay", str(tmp_path / "none")]):
        agent("events", *wrong, config=config, code=2)
    recording = tmp_path / "recorded"
    recording.write_text('{"at_ms": 1, "kind": "a.b", "text": ""}\n{"at_ms"')
    agent("events", "replay", str(recording), config=config, code=2)
    recording.write_text('[{"at_ms": 1, "kind": "a.b", "text": "", "host_id": "h", "id": 7}]')
    (line,) = agent("events", "replay", str(recording), config=config)
    assert line.startswith("kept     1970-01-01T00:00:00.001Z info     a.b")


def watched(space: Space, events: list[Event]) -> Callable[[], Watching]:
    """Made in a thread that entered the namespace, whose sockets stay there."""

    def begin() -> Watching:
        config = Config()
        one = Watching(
            Live(),
            space.state,
            config.events.watch,
            pipeline=pipeline.unlimited(),
            facts=dict,
            keep=events.extend,
            ask=lambda *_: None,
        )
        one.step()
        return one

    return begin


def test_a_transaction_of_ours_is_nobody_elses_change(space: Space) -> None:
    events: list[Event] = []

    def inside(_: Any) -> None:
        watching = watched(space, events)()
        final = space.apply(settings=WANTED)
        assert final["status"] == "applied"
        watching.step()
        assert [event for event in events if event.kind == "knob.changed"] == []
        for journal in (space.state / "journal").glob("*.journal"):
            os.utime(journal, (0, 0))  # committed a while ago
        space.shell(f"ethtool -K {NIC} tso on")
        watching.step()
        watching.close()

    space.run(inside)
    knobs = [event for event in events if event.kind == "knob.changed"]
    assert {event.data["knob"] for event in knobs} == {"features"}


def test_an_open_transaction_is_ours_until_it_is_decided(space: Space) -> None:
    events: list[Event] = []

    def inside(_: Any) -> None:
        watching = watched(space, events)()
        space.want(desired(WANTED))
        run = space.start("--confirm", "agent")
        run.phase("verified")
        for journal in (space.state / "journal").glob("*.journal"):
            os.utime(journal, (0, 0))
        watching.step()
        run.say("revert")
        run.end()
        watching.step()
        watching.close()

    space.run(inside)
    assert [event for event in events if event.kind == "knob.changed"] == []


def test_what_the_kernel_lost_is_counted_and_links_are_read_again(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.events.sources.Monitor", lambda *groups: Monitor(*groups, receive_buffer=4096))

    def inside(writer: Any) -> list[Event]:
        sources = Sources(writer, space.state, GROUPS, dict)
        sources.read()
        for at in range(150):
            space.ip(f"link add o{at} type veth peer name p{at}")
        found: list[Event] = []
        while more := sources.read()[0]:
            found += more
        return found + sources.close()

    found = space.run(inside)
    lost = [event for event in found if event.kind == "events.lost" and event.data["source"] == "link"]
    assert lost
    assert int(lost[0].data["count"] or 0) > 0
    added = {event.data["ifname"] for event in found if event.kind == "link.added"}
    assert {f"{end}{at}" for end in "op" for at in range(150)} <= added


def test_what_happened_while_nothing_could_be_watched_is_found_out(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.events.sources.AGAIN_S", 0.0)

    def breaks(_: Monitor) -> list[Any]:
        raise DeniedError("monitor: broken")

    def inside(writer: Any) -> list[Event]:
        sources = Sources(writer, space.state, GROUPS, dict)
        assert sources.read()[0] == []
        with monkeypatch.context() as broken:
            broken.setattr(Monitor, "read", breaks)
            (lost,), reread = sources.read()
        assert (lost.kind, lost.data["source"], reread) == ("events.lost", "every", set(NIC_FACTS))
        assert sources.fileno() is None
        space.ip(f"link set {NIC} down")
        space.ip("addr add 192.0.2.7/24 dev vb")
        found = sources.read()[0]
        assert sources.fileno() is not None
        return found + sources.close()

    kinds = {(event.kind, event.data["ifname"]) for event in space.run(inside)}
    assert kinds == {("link.down", NIC), ("link.down", "vb"), ("address.added", "vb")}


def test_the_doctor_looks_at_what_is_watched_and_at_hooks(tmp_path: Path) -> None:
    rule = Rule(action="hook", hook="page")
    config = Config(events=Events(hooks_dir=str(tmp_path), rule=[rule, rule]))
    found = {check.name: check for check in doctor.examine(config, Live()) if check.name.startswith(("watch", "hook"))}
    assert {name: str(check.verdict) for name, check in found.items()} == {
        **{f"watch {group}": "ok" for group in (*GROUPS, "log")},
        "hook page": "failed",
    }
    assert "No such file" in found["hook page"].text


def test_a_group_that_this_kernel_lacks_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_monitor(["link", "nothing"]) as monitor:
        assert monitor.read() == []
    with pytest.raises(NotPresentError):
        open_monitor(["nothing"])
