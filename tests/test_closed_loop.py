"""The whole product on real input: this machine's kernel, a broker, SQL, and a veth pair as the NIC that is tuned."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import journal
from tests.agent.space import NIC, ROOT, Space, wait_for

pytestmark = [pytest.mark.root, pytest.mark.broker]
BIN = Path(sys.executable).parent
POINTS = 20
POLICY = """
name: edge
nics: ["ifname={nic}"]
knobs:
  channels: {{rx: {rx}, tx: {tx}}}
  offloads: {{gro: true, tso: {tso}}}
  xps: {{mode: auto}}
  rps: {{mode: all}}
"""
FEW = POLICY.format(nic=NIC, rx=2, tx=2, tso="false")
ONE = POLICY.format(nic=NIC, rx=1, tx=1, tso="true")


class Loop:
    """`rackhand up` in a namespace of its own, and the commands a person would type beside it."""

    def __init__(self, space: Space, state: Path) -> None:
        self.space = space
        self.state = state
        self.home = state / "agent"  # the agent's own state
        self.db = f"sqlite:///{state / 'rackhand.db'}"
        self.children: list[subprocess.Popen[bytes]] = []
        space.ip("link set lo up")

    def start(self, *argv: str, env: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """A child in the namespace, in a process group of its own."""
        with (self.state.parent / f"{argv[0].rpartition('/')[2]}.log").open("ab") as log:
            child = subprocess.Popen(
                self.space.inside(*argv),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def up(self, *options: str) -> "subprocess.Popen[bytes]":
        return self.start(str(BIN / "rackhand"), "up", "--state", str(self.state), *options)

    def ask(self, *verb: str) -> Any:
        """What a verb of the inventory's command line says, as JSON; None while there is no answer."""
        done = subprocess.run(
            [str(BIN / "rackhand"), *verb, "--db", self.db, "-o", "json"], check=False, capture_output=True, text=True
        )
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else None

    def apply(self, text: str) -> None:
        path = self.state.parent / "policy.yaml"
        path.write_text(text)
        command = [str(BIN / "rackhand"), "policy", "apply", str(path), "--yes", "--db", self.db]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def status(self) -> str:
        """What `rackhand hosts` says of the policy on the one host."""
        hosts = self.ask("hosts") or [{"status": ""}]
        return str(hosts[0]["status"])

    def until(self, status: str, what: str) -> None:
        """Wait for that status; fails saying what there is instead."""
        try:
            wait_for(lambda: self.status() == status, what)
        except AssertionError as error:
            told = [(event["kind"], event["text"]) for event in self.ask("events", "-n", "1000") or []]
            raise AssertionError(f"{error}; it is {self.status()}, {told[-12:]}, {self.stories()[-2:]}") from None

    def channels(self) -> tuple[int, int]:
        """As the kernel says: rx, tx."""
        ethtool = self.space.snapshot()[0]
        return ethtool["channels"]["rx"], ethtool["channels"]["tx"]

    def events(self) -> list[str]:
        return [event["kind"] for event in self.ask("events", "-n", "1000") or []]

    def agent(self, port: int) -> "subprocess.Popen[bytes]":
        """The agent alone, allowed to change things, with a state directory of its own."""
        self.home = self.state.parent / "agent"
        env = {
            "RACKHAND_STATE_DIR": str(self.home),
            "RACKHAND_BROKER_HOST": "127.0.0.1",
            "RACKHAND_BROKER_PORT": str(port),
            "RACKHAND_OBSERVE": "false",
        }
        return self.start(str(BIN / "rackhand-agent"), "run", env=env)

    def kill(self, agent: "subprocess.Popen[bytes]", *, transaction: bool) -> None:
        """SIGKILL the agent, and its transaction at the same moment when asked: both are in its process group."""
        if transaction:
            os.killpg(agent.pid, signal.SIGKILL)
        else:
            agent.kill()
        agent.wait(60)

    def stories(self) -> list[journal.Story]:
        """What the agent's journals say, oldest first."""
        return [story for path in journal.paths(self.home) if (story := journal.read(path))]

    def decided(self) -> bool:
        """No journal of the agent's is open, but for one whose process died before it announced a write."""
        unfinished = [story for story in self.stories() if story.state in journal.UNFINISHED]
        return not any(story.stages or journal.started(story.opened.pid) for story in unfinished)

    def close(self) -> None:
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
        for child in self.children:
            child.wait(60)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    state = tmp_path / "up"
    state.mkdir()
    with contextlib.closing(Space(tmp_path / "unused")) as space, contextlib.closing(Loop(space, state)) as made:
        yield made


@pytest.mark.parametrize("broker", ["amqtt", "mosquitto"])
def test_applied_verified_drifted_applied_again_rolled_back(loop: Loop, broker: str) -> None:
    before = loop.space.snapshot()
    loop.up("--enforce", "--broker", broker)
    wait_for(lambda: loop.ask("hosts"), "this host in SQL")
    wait_for(lambda: loop.ask("nics", "-w", f"ifname={NIC}"), "its NIC in SQL")

    plan = loop.ask("policy", "plan", str(_written(loop, FEW)))
    assert {change["knob"] for change in plan[0]["plan"]["changes"]} == {"channels", "offloads"}
    assert loop.space.snapshot() == before

    loop.apply(FEW)
    loop.until("applied", "applied")
    assert loop.channels() == (2, 2)
    assert {"policy.received", "policy.verified", "policy.applied"} <= set(loop.events())

    loop.space.shell(f"echo 0 > /sys/class/net/{NIC}/queues/rx-0/rps_cpus; ethtool -L {NIC} rx 3")
    wait_for(lambda: "policy.drifted" in loop.events(), "drift noticed")
    wait_for(lambda: loop.channels() == (2, 2) and loop.status() == "applied", "applied again")
    assert loop.events().count("policy.applied") == 2

    agent = [str(BIN / "rackhand-agent"), "rollback", "--yes"]
    done = subprocess.run(
        loop.space.inside(*agent),
        env={**os.environ, "RACKHAND_STATE_DIR": str(loop.home), "RACKHAND_OBSERVE": "false"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loop.until("reverted", "rolled back, and told")
    assert loop.channels() == (3, 2)  # as before the last transaction: what somebody else had set


def test_observing_changes_nothing(loop: Loop) -> None:
    before = loop.space.snapshot()
    loop.up()
    wait_for(lambda: loop.ask("nics", "-w", f"ifname={NIC}"), "its NIC in SQL")
    loop.apply(FEW)
    wait_for(lambda: (loop.ask("policy", "show", "edge") or [{}])[0].get("status") == "drifted", "what would change")
    assert loop.space.snapshot() == before


def test_losing_the_broker_undoes_what_cannot_be_confirmed(loop: Loop) -> None:
    before = loop.space.snapshot()
    up = loop.up("--no-agent", "--port", "18830")
    agent = loop.agent(18830)
    wait_for(lambda: loop.ask("nics", "-w", f"ifname={NIC}"), "its NIC in SQL")
    loop.apply(FEW + "confirm_within_s: 5\n")
    wait_for(lambda: journal.paths(loop.home), "a transaction")
    os.killpg(up.pid, signal.SIGSTOP)  # broker and inventory go silent before the change can be confirmed
    wait_for(lambda: loop.stories()[0].state is journal.State.REVERTED, "the change undone")
    assert loop.space.snapshot() == before
    assert agent.poll() is None
    os.killpg(up.pid, signal.SIGCONT)
    wait_for(lambda: loop.status() == "reverted", "told when the inventory is back")


@pytest.mark.parametrize("seed", [int(os.environ.get("RACKHAND_SEED", random.randrange(1 << 32)))])  # noqa: S311
def test_the_agent_killed_at_random_points_leaves_before_or_after(loop: Loop, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    loop.up("--no-agent", "--port", "18831")
    agent = loop.agent(18831)
    wait_for(lambda: loop.ask("nics", "-w", f"ifname={NIC}"), "its NIC in SQL")
    shapes: dict[str, Any] = {}
    for text in (FEW, ONE):
        loop.apply(text)
        loop.until("applied", "applied")
        shapes[text] = loop.space.snapshot()
    assert shapes[FEW] != shapes[ONE]
    after = 0
    for point in range(POINTS):
        target, other = (FEW, ONE) if point % 2 == 0 else (ONE, FEW)
        known = set(journal.paths(loop.home))
        loop.apply(target)
        wait_for(lambda known=known: set(journal.paths(loop.home)) - known, "a transaction")  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.7))
        loop.kill(agent, transaction=chance.random() < 0.5)
        wait_for(loop.decided, "the transaction's own decision, or its dead-man's")
        now = loop.space.snapshot()
        assert now in (shapes[other], shapes[target]), f"neither before nor after: seed {seed}, point {point}"
        after += now == shapes[target]
        agent = loop.agent(18831)
        loop.apply(target)
        wait_for(lambda target=target: loop.space.snapshot() == shapes[target], "applied after all")  # type: ignore[misc]
        wait_for(lambda: loop.status() == "applied", "and told")
    print(f"seed {seed}: {after} of {POINTS} fully after, the others fully before")


def _written(loop: Loop, text: str) -> Path:
    path = loop.state.parent / "preview.yaml"
    path.write_text(text)
    return path
