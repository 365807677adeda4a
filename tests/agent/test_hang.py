"""A write that does not return from the kernel: who decides gives up in time, and nothing is undone before it returns.

The kernel file of one queue is a file on a file system that is frozen: reading works, and a write to it cannot even be
killed, until the file system is thawed.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import deadman, journal
from agent.journal import State
from agent.worker import Hands, HungError
from machine import BusyError, MachineError, NotPresentError, failure
from machine.change import LiveWriter
from tests.agent.space import NIC, Run, Space, desired, status, wait_for
from wire.policy import Request, Setting

QUEUE = f"/sys/class/net/{NIC}/queues/rx-2/rps_cpus"
WANTED = [
    Setting(knob="channels", nic=NIC, values={"tx": 2}),
    Setting(knob="rps", nic=NIC, values={"mode": "all"}),
]


class Frozen:
    """A file system with the one file, to be frozen and thawed."""

    def __init__(self, folder: Path) -> None:
        image = folder / "image"
        self.mount = folder / "frozen"
        self.file = self.mount / "rps_cpus"
        self.mount.mkdir()
        with image.open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(self.mount)], check=True)
        self.file.write_text("0\n")
        self.frozen = False

    def freeze(self, *, on: bool) -> None:
        """Hold all writes, or let them go."""
        if on is not self.frozen:
            subprocess.run(["fsfreeze", "--freeze" if on else "--unfreeze", str(self.mount)], check=True)
        self.frozen = on

    def close(self) -> None:
        """Let go and take it away."""
        self.freeze(on=False)
        subprocess.run(["umount", "-l", str(self.mount)], check=True)


@pytest.fixture
def frozen(space: Space, tmp_path: Path) -> Iterator[Frozen]:
    """Frozen, and the space's processes ended before it is taken away."""
    made = Frozen(tmp_path)
    made.freeze(on=True)
    yield made
    made.freeze(on=False)
    wait_for(lambda: states(space) <= {State.REVERTED, State.COMMITTED, State.FAILED}, "closed journals")
    for run in space.runs:
        run.process.kill()
        run.process.wait()
    made.close()


def states(space: Space) -> set[State]:
    """Of all journals."""
    stories = [journal.read(path) for path in journal.paths(space.state)]
    return {story.state for story in stories if story}


def begun(space: Space, frozen: Frozen, *arguments: str) -> Run:
    """A transaction that sees the frozen file in the place of the queue's."""
    space.want(desired(WANTED))
    script = f'mount --bind {frozen.file} {QUEUE}; exec "$@"'
    return space.start(*arguments, command=("sh", "-ec", script, "sh"))


@pytest.mark.root
def test_it_gives_up_in_time_and_the_dead_man_waits_for_the_kernel(space: Space, frozen: Frozen) -> None:
    before = space.snapshot()
    run = begun(space, frozen, "--confirm", "self", "--confirm-within", "2")
    final: dict[str, Any] = run.phase("final")["reported"]
    assert run.end() == 0, "who decides is not held"
    assert (final["status"], status(final)) == ("failed", {"channels": "reverted", "rps": "failed"})
    (rps,) = [one for one in final["outcomes"] if one["knob"] == "rps"]
    assert f"write '3' to {QUEUE}: has not returned from the kernel for " in rps["reason"]
    assert "the dead-man undoes all when the kernel lets go of it" in final["reason"]
    assert states(space) == {State.OPEN}, "nothing is undone while the write may still come to pass"
    other = space.start("--confirm", "self")
    assert other.end() == 4, "and nothing else is begun"
    assert space.snapshot() != before

    frozen.freeze(on=False)
    wait_for(lambda: states(space) == {State.REVERTED}, "the dead-man")
    assert space.snapshot() == before
    assert frozen.file.read_text().strip() in ("", "0"), "no CPU; opening it emptied it, which no kernel file does"


@pytest.mark.root
def test_a_write_that_only_takes_long_is_waited_for(space: Space, frozen: Frozen) -> None:
    run = begun(space, frozen, "--confirm", "self", "--confirm-within", "60")
    wait_for(lambda: stuck(run), "a process that hangs in a write")
    frozen.freeze(on=False)
    assert run.phase("final")["reported"]["status"] == "applied"
    assert frozen.file.read_text().strip() == "3"


def stuck(run: Run) -> bool:
    """Whether a child of the transaction waits in the kernel and cannot be interrupted."""
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    return any(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "D" for pid in children)


# -- what the process that writes tells --------------------------------------------------------------------------------


def test_errors_come_back_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {"busy": 16, "gone": 19, "full": 28, "fine": 0}

    def write(_self: LiveWriter, path: str, _text: str) -> None:
        if code := asked[path]:
            raise failure(code, path)

    def request(_self: LiveWriter, op: Request) -> None:
        raise KeyError(op.message)

    monkeypatch.setattr(LiveWriter, "write", write)
    monkeypatch.setattr(LiveWriter, "request", request)
    hands = Hands()
    hands.write("fine", "")
    for path, kind in (("busy", BusyError), ("gone", NotPresentError), ("full", MachineError)):
        with pytest.raises(MachineError) as caught:
            hands.write(path, "")
        assert (type(caught.value), caught.value.code, path in str(caught.value)) == (kind, asked[path], True)
    with pytest.raises(MachineError, match="KeyError: 'channels'"):
        hands.request(Request("channels", {}, {"rx": 1}))
    hands.close()


def test_once_it_hangs_nothing_more_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def write(_self: LiveWriter, path: str, _text: str) -> None:
        while path == "slow" and not gate.exists():
            pass
        (tmp_path / path).touch()

    monkeypatch.setattr(LiveWriter, "write", write)
    hands = Hands(patience=lambda _: False)
    with pytest.raises(HungError, match="write 'x' to slow: has not returned"):
        hands.write("slow", "x")
    with pytest.raises(HungError, match="slow"):
        hands.write("quick", "")
    hands.close()
    assert not (tmp_path / "quick").exists()


def test_a_child_that_dies_is_an_error_and_the_next_write_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_self: LiveWriter, path: str, _text: str) -> None:
        if path == "die":
            import os  # noqa: PLC0415

            os._exit(3)

    monkeypatch.setattr(LiveWriter, "write", write)
    hands = Hands()
    with pytest.raises(MachineError, match="the process that writes ended with 768"):
        hands.write("die", "")
    hands.write("fine", "")
    hands.close()


@pytest.mark.root
def test_who_recovers_does_not_wait_for_ever(space: Space, frozen: Frozen) -> None:
    begun(space, frozen, "--confirm", "self", "--confirm-within", "1").phase("final")
    with pytest.raises(journal.BusyError, match="by a write that hangs in the kernel"):
        deadman.recover(space.state, patience_s=0.2)
