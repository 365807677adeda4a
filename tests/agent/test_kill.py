"""Killed, hung, or its dead-man killed too: the NIC ends up fully before or fully after, never between."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from agent import journal
from agent.journal import State
from tests.agent.space import NIC, WANTED, Run, Space, desired, wait_for
from wire.policy import Setting

pytestmark = pytest.mark.root
POINTS = 12
MANY = 200
EVERYTHING = [
    *WANTED,
    Setting(knob="link", nic=NIC, values={"mtu": 1400}),
    Setting(knob="napi", nic=NIC, values={"threaded": True, "defer_hard_irqs": 10, "gro_flush_timeout_ns": 20000}),
    Setting(knob="qdisc", nic=NIC, values={"discipline": "pfifo_fast", "txqueuelen": 2000}),
]
SEEN = "nic,ethtool,queues,qdisc"  # and who polls, which has other numbers after each change
NAPI = "cd /sys/class/net/va; cat threaded napi_defer_hard_irqs gro_flush_timeout"


def watchers(state: Path) -> list[int]:
    """Processes that watch a journal of this state directory."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"agent.deadman" in argv and any(os.fsencode(state) in part for part in argv):
                found.append(int(entry.name))
    return found


def states(state: Path) -> list[str]:
    """Of every journal; "bare" for an open one that had announced no write yet."""
    found: list[str] = []
    for path in journal.paths(state):
        story = journal.read(path)
        bare = story is None or (story.state is State.OPEN and not story.stages)
        found.append("bare" if bare or not story else story.state.value)
    return found


def settled(state: Path) -> bool:
    return not {"open", "reverting"} & set(states(state))


@pytest.fixture
def before(space: Space) -> Any:
    """The NIC with steering of its own on the queues that a plan takes away."""
    space.shell(
        "cd /sys/class/net/va/queues; echo 2 > tx-3/xps_cpus; echo 1 > tx-0/xps_cpus;"
        "echo 1 > rx-3/rps_cpus; echo 64 > rx-2/rps_flow_cnt; echo 2 > rx-0/rps_cpus"
    )
    return look(space)


def look(space: Space) -> Any:
    """All that is changed here."""
    return [space.snapshot(collectors=SEEN), space.shell(NAPI)]


def begun(space: Space, *arguments: str) -> Run:
    """A transaction whose journal has just appeared."""
    space.want(desired(EVERYTHING))
    known = len(journal.paths(space.state))
    run = space.start(*arguments)
    wait_for(lambda: len(journal.paths(space.state)) > known or run.process.poll() is not None, "a journal", 60)
    return run


def duration(space: Space, before: Any) -> tuple[float, Any]:
    """How long an apply takes from its journal's appearance, and the NIC after it."""
    run = begun(space, "--confirm", "self")
    at = time.monotonic()
    assert run.phase("final")["reported"]["status"] == "applied"
    took = time.monotonic() - at
    run.end()
    after = look(space)
    assert after != before
    assert [played["state"] for played in space.deadman("rollback")] == ["reverted"]
    assert look(space) == before
    return took, after


@pytest.mark.parametrize("points", [POINTS, pytest.param(MANY, marks=pytest.mark.soak)])
def test_killed_at_random_points(space: Space, before: Any, points: int) -> None:
    took, after = duration(space, before)
    seed = int(os.environ.get("RACKHAND_SEED", str(random.randrange(1 << 32))))  # noqa: S311
    print(f"RACKHAND_SEED={seed}, {took * 1000:.0f} ms")
    delays = random.Random(seed)  # noqa: S311
    ends: list[str] = []
    for point in range(points):
        run = begun(space, "--confirm", "self")
        time.sleep(delays.uniform(0, 1.1 * took))
        run.kill()
        run.end()
        wait_for(lambda: settled(space.state), "the dead-man")
        now, end = look(space), states(space.state)[-1]
        ends.append(end)
        assert now == (after if end == "committed" else before), f"point {point}, seed {seed}, {ends}"
        if end == "committed":
            space.deadman("rollback")
            assert look(space) == before
        space.deadman("recover")
    print(ends)
    assert {"reverted"} <= set(ends), f"no point fell between the first write and the commit: {ends}"


def test_a_hung_transaction_is_killed_and_undone(space: Space, before: Any) -> None:
    run = begun(space, "--confirm-within", "4")
    run.phase("verified")
    run.kill(signal.SIGSTOP)
    wait_for(lambda: settled(space.state), "the dead-man")
    assert run.end() == -signal.SIGKILL
    assert states(space.state) == ["reverted"]
    assert look(space) == before
    wait_for(lambda: not watchers(space.state), "the dead-man's end")


def abandoned(space: Space) -> None:
    """A transaction that was verified, killed, and its dead-man before it."""
    run = begun(space)
    run.phase("verified")
    (watcher,) = watchers(space.state)
    os.kill(watcher, signal.SIGKILL)
    run.kill()
    run.end()


def test_with_the_dead_man_killed_too_the_next_start_recovers(space: Space, before: Any) -> None:
    abandoned(space)
    assert look(space) != before
    (played,) = space.deadman("recover")
    assert (played["state"], played["generation"]) == ("reverted", 1)
    assert {outcome["status"] for outcome in played["outcomes"]} == {"reverted"}
    assert look(space) == before
    assert space.deadman("recover") == []


def test_the_next_transaction_recovers_first(space: Space, before: Any) -> None:
    abandoned(space)
    again = space.start("--confirm", "self")
    assert again.phase("recovered")["played"]["state"] == "reverted"
    assert again.phase("final")["reported"]["status"] == "applied"
    assert states(space.state) == ["reverted", "committed"]


def test_playing_back_can_be_killed_and_repeated(space: Space, before: Any) -> None:
    space.apply()
    for delay in (0.15, 0.2, 0.25, 0.3):
        rollback = space.python("-m", "agent.deadman", "rollback", str(space.state))
        time.sleep(delay)
        rollback.kill()
        rollback.wait()
    space.deadman("recover")
    if states(space.state) == ["committed"]:  # every kill came before the first record
        space.deadman("rollback")
    assert states(space.state) == ["reverted"]
    assert look(space) == before


def test_the_dead_man_ends_with_the_commit_and_nothing_is_undone_after_it(space: Space, before: Any) -> None:
    run = begun(space, "--confirm-within", "4")
    run.phase("verified")
    after = look(space)
    assert len(watchers(space.state)) == 1
    run.say("commit")
    run.hang_up()
    assert run.phase("final")["reported"]["status"] == "applied"
    assert run.end() == 0
    wait_for(lambda: not watchers(space.state), "the dead-man's end")
    assert space.deadman("recover") == []
    assert look(space) == after != before
    assert not (space.state / "journal" / "deadman.err").read_bytes()


def test_a_journal_of_another_boot_is_void(space: Space, before: Any) -> None:
    abandoned(space)
    (path,) = journal.paths(space.state)
    _, *rest = path.read_bytes().rstrip(b"\0").splitlines(keepends=True)
    story = journal.read(path)
    assert story
    elsewhere = structs.replace(story.opened, boot_id="another")
    path.write_bytes(journal.encode(elsewhere) + b"".join(rest))
    now = look(space)
    (played,) = space.deadman("recover")
    assert played["state"] == "void"
    assert look(space) == now
