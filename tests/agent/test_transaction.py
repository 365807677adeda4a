"""A transaction from end to end, as a process of its own on real interfaces."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import journal
from tests.agent.space import NIC, ROOT, WANTED, Run, Space, desired, status, wait_for
from wire.policy import Blast, Mode, Reported, Request, Setting

pytestmark = pytest.mark.root
APPLIED = dict.fromkeys(("channels", "offloads", "rps", "xps"), "applied")
UNCHANGED = dict.fromkeys(APPLIED, "unchanged")


def begun(space: Space, *arguments: str) -> Run:
    space.want(desired(WANTED))
    return space.start(*arguments)


def announced(space: Space) -> bool:
    """True once a stage stands in the newest journal."""
    paths = journal.paths(space.state)
    story = journal.read(paths[-1]) if paths else None
    return bool(story and story.stages)


def test_applied_verified_drifted_applied_again_rolled_back(space: Space) -> None:
    before = space.snapshot()
    final = space.apply()
    assert (final["status"], status(final)) == ("applied", APPLIED)
    after = space.snapshot()
    assert after[0]["channels"]["rx"] == 2
    assert status(space.apply()) == UNCHANGED

    space.shell("cd /sys/class/net/va; echo 1 > queues/rx-1/rps_cpus")
    space.run(lambda writer: writer.request(Request("channels", {}, {"rx": 3, "tx": 4}, space.ifindex())))
    assert space.snapshot() != after
    again = space.apply()
    assert (again["status"], status(again)["channels"], status(again)["rps"]) == ("applied", "applied", "applied")
    assert space.snapshot() == after

    assert space.deadman("rollback")[0]["state"] == "reverted"
    assert space.snapshot()[0]["channels"] == {"rx": 3, "tx": 4, "rx_max": 4, "tx_max": 4}
    assert space.deadman("rollback")[0]["state"] == "reverted"
    assert space.snapshot() == before


def test_it_waits_for_the_agents_commit(space: Space) -> None:
    run = begun(space, "--start", "agent-7")
    verified = run.phase("verified")
    assert status(verified["reported"]) == APPLIED
    run.say("commit")
    final = run.phase("final")
    assert (final["tx"], final["reported"]["start"], final["reported"]["status"]) == (
        verified["tx"],
        "agent-7",
        "applied",
    )
    assert run.end() == 0
    assert msgspec.convert(final["reported"], Reported).outcomes


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda run: run.say("revert"), "the agent said revert"),
        (lambda run: run.hang_up(), "the agent is gone"),
        (lambda run: run.kill(signal.SIGTERM), "told to stop"),
    ],
)
def test_without_a_commit_it_reverts(space: Space, end: Any, reason: str) -> None:
    before = space.snapshot()
    run = begun(space)
    run.phase("verified")
    assert space.snapshot() != before
    end(run)
    final = run.phase("final")["reported"]
    assert (final["status"], final["reason"]) == ("reverted", reason)
    assert set(status(final).values()) == {"reverted"}
    assert run.end() == 0
    assert space.snapshot() == before


def test_without_a_word_it_reverts_in_time(space: Space) -> None:
    before = space.snapshot()
    run = begun(space, "--confirm-within", "1")
    assert run.phase("final")["reported"]["reason"] == "not confirmed in time"
    assert run.end() == 0
    assert space.snapshot() == before


def test_nothing_to_do_leaves_no_journal(space: Space) -> None:
    space.want(desired([Setting(knob="xps", nic=NIC, values={"mode": "off"})]))
    run = space.start()
    assert status(run.phase("final")["reported"]) == {"xps": "unchanged"}
    assert run.end() == 3
    assert journal.paths(space.state) == []


def test_an_impossible_value_is_one_clear_failure_and_the_rest_is_applied(space: Space) -> None:
    final = space.apply(settings=[Setting(knob="channels", nic=NIC, values={"rx": 99}), *WANTED[1:]])
    assert final["status"] == "failed"
    assert status(final) == {**APPLIED, "channels": "failed"}
    (outcome,) = [outcome for outcome in final["outcomes"] if outcome["knob"] == "channels"]
    assert "99" in outcome["reason"]


def test_warn_reports_and_never_writes(space: Space) -> None:
    before = space.snapshot()
    warned = [msgspec.structs.replace(setting, mode=Mode.WARN) for setting in WANTED]
    space.want(desired(warned))
    run = space.start("--confirm", "self")
    final = run.phase("final")["reported"]
    assert (run.end(), final["status"], status(final)["channels"]) == (3, "drifted", "warned")
    assert space.snapshot() == before


def test_yield_leaves_what_somebody_else_changed(space: Space) -> None:
    settings = [Setting(knob="channels", nic=NIC, values={"rx": 2, "tx": 2}, mode=Mode.YIELD)]
    final = space.apply(settings=settings)
    assert status(final) == {"channels": "applied"}
    (space.state / "reported.json").write_bytes(msgspec.json.encode(final))
    space.run(lambda writer: writer.request(Request("channels", {}, {"rx": 1}, space.ifindex())))
    theirs = space.snapshot()
    run = space.start("--confirm", "self")
    assert status(run.phase("final")["reported"]) == {"channels": "yielded"}
    assert space.snapshot() == theirs


def test_the_management_path_is_not_cut_without_allowance(space: Space) -> None:
    space.ip("addr add 10.9.0.1/24 dev va")
    space.ip("route add default via 10.9.0.2 dev va")
    final = space.apply()
    assert (final["status"], status(final)["channels"], status(final)["offloads"]) == ("failed", "refused", "refused")
    assert status(final)["rps"] == "applied"
    (outcome,) = [outcome for outcome in final["outcomes"] if outcome["knob"] == "channels"]
    assert outcome["reason"] == "va carries the default route; needs allow: [link]"
    assert space.snapshot()[0]["channels"]["rx"] == 4
    allowed = [msgspec.structs.replace(setting, allow=[Blast.LINK]) for setting in WANTED]
    assert space.apply(settings=allowed, generation=2)["status"] == "applied"
    assert space.snapshot()[0]["channels"]["rx"] == 2


def test_a_broker_that_is_lost_reverts(space: Space) -> None:
    before = space.snapshot()
    listener = _listener(space)
    port = listener.getsockname()[1]
    run = begun(space, "--confirm", "self", "--confirm-within", "4", "--broker", f"127.0.0.1:{port}")
    wait_for(lambda: announced(space), "the first stage")
    listener.close()
    final = run.phase("final")["reported"]
    assert (final["status"], final["reason"]) == (
        "reverted",
        f"worked before and does not now: broker 127.0.0.1:{port} answers",
    )
    assert space.snapshot() == before


def _listener(space: Space) -> socket.socket:
    space.ip("link set lo up")
    return space.run(lambda _: socket.create_server(("127.0.0.1", 0), backlog=64))


def test_renamed_in_the_middle_it_works_or_fails_cleanly(space: Space) -> None:
    before = space.snapshot()
    run = begun(space, "--confirm", "self")
    wait_for(lambda: announced(space), "the first stage")
    space.ip("link set va name vz")
    final = run.phase("final")["reported"]
    assert run.end() == 0
    wait_for(lambda: not _unfinished(space), "a closed journal")
    space.ip("link set vz name va")
    now = space.snapshot()
    assert (now == before) == (final["status"] != "applied"), final


def test_a_rollback_finds_a_renamed_nic(space: Space) -> None:
    before = space.snapshot()
    space.apply()
    space.ip("link set va name vz")
    assert space.deadman("rollback")[0]["state"] == "reverted"
    space.ip("link set vz name va")
    assert space.snapshot() == before


@pytest.mark.parametrize("moment", ["announced", "verified"])
def test_removed_in_the_middle_it_fails_cleanly(space: Space, moment: str) -> None:
    run = begun(space)
    wait_for(lambda: announced(space), "the first stage")
    if moment == "verified":
        run.phase("verified")
    space.ip("link del va")
    if run.process.poll() is None:
        run.say("revert")
    final = run.phase("final")["reported"]
    assert final["status"] in ("reverted", "failed")
    assert "\n" not in final["reason"]
    assert run.end() == 0
    assert not _unfinished(space)


def _unfinished(space: Space) -> bool:
    stories = [journal.read(path) for path in journal.paths(space.state)]
    return any(story is None or story.state in journal.UNFINISHED for story in stories)


def test_one_at_a_time(space: Space) -> None:
    first = begun(space)
    first.phase("verified")
    second = space.start()
    assert second.end() == 4
    first.say("commit")
    assert first.phase("final")["reported"]["status"] == "applied"


@pytest.mark.parametrize("text", ["", "{", '{"host_id": 1}', "[" * 100_000, "\xff"])
def test_a_document_that_is_none_changes_nothing(space: Space, text: str) -> None:
    space.state.mkdir()
    (space.state / "desired.json").write_bytes(text.encode("latin-1"))
    run = space.start()
    assert run.end() == 2
    assert run.process.stderr
    assert len(run.process.stderr.read().splitlines()) == 1
    assert journal.paths(space.state) == []


def test_a_corrupt_journal_is_reported_and_stands_in_nobodys_way(space: Space) -> None:
    space.apply()
    (path,) = journal.paths(space.state)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    space.shell("echo 1 > /sys/class/net/va/queues/rx-1/rps_cpus")
    run = space.start("--confirm", "self")
    played = run.phase("recovered")["played"]
    assert played["state"] == "failed"
    assert "does not match its checksum; kept as" in played["reason"]
    assert run.phase("final")["reported"]["status"] == "applied"
    assert [file.read_bytes() for file in path.parent.glob("*.corrupt-*")] == [bytes(data)]


@pytest.fixture
def full(space: Space) -> Iterator[Path]:
    """The state directory on a file system that has no room left."""
    space.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "rackhand-test", str(space.state)], check=True)
    space.want(desired(WANTED))
    (space.state / "journal").mkdir()
    os.close(os.open(space.state / "transaction.lock", os.O_CREAT))
    with (space.state / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    yield space.state
    subprocess.run(["umount", "-l", str(space.state)], check=True)


def test_a_full_disk_applies_nothing(space: Space, full: Path) -> None:
    before = space.snapshot()
    run = space.start("--confirm", "self")
    assert run.end() == 1
    assert run.process.stderr
    assert b"No space left on device" in run.process.stderr.read()
    assert space.snapshot() == before
    (full / "ballast").unlink()
    again = space.start("--confirm", "self")
    assert again.phase("final")["reported"]["status"] == "applied"
    again.end()


def test_without_a_dead_man_nothing_is_applied(space: Space) -> None:
    before = space.snapshot()
    space.want(desired(WANTED))
    (space.state / "journal").mkdir()
    (space.state / "journal" / "deadman.err").mkdir()
    run = space.start("--confirm", "self")
    assert run.end() == 1
    assert space.snapshot() == before


def test_the_process_runs_from_anywhere(space: Space, tmp_path: Path) -> None:
    space.want(desired(WANTED))
    run = space.start("--confirm", "self", command=("env", "-C", str(tmp_path), f"PYTHONPATH={ROOT}"))
    assert run.phase("final")["reported"]["status"] == "applied"
