"""The dead-man: outside the agent, it plays a transaction's journal back when the transaction dies or hangs.

It watches the process by pidfd and the clock by CLOCK_BOOTTIME, and ends silently once the journal is closed. Where
systemd runs it is a transient service of its own (stopping or killing the agent's service leaves it alone, and systemd
starts it again if it is killed); else a process in a session of its own. Playing back can be killed and repeated.
"""

import argparse
import contextlib
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from agent import blast, journal, outcomes
from agent.journal import BusyError, CorruptError, Journal, JournalError, State, Story
from wire.facts import Irq, Nic
from wire.policy import Outcome, OutcomeStatus

if TYPE_CHECKING:
    from machine import Writer
    from tuners.engine import Made

READY_S = 20.0
POLL_S = 1.0
PATIENCE_S = 60.0  # of who recovers, with a write that hangs in the kernel; a dead-man waits for ever
SETTLE_S = 10.0
SYSTEMD = Path("/run/systemd/system")
_ROOT = str(Path(__file__).resolve().parents[1])


class DeadManError(Exception):
    """No dead-man could be armed: nothing may be applied."""


class Played(msgspec.Struct, kw_only=True):
    """What came of one journal."""

    tx: str
    state: State
    reason: str = ""
    generation: int = 0
    hash: str = ""
    outcomes: list[Outcome] = []


def arm(path: Path) -> str:
    """Start the dead-man for a journal and wait until it watches; how it runs. Raises DeadManError."""
    if by_systemd() and _by_service(path):
        return "systemd"
    try:
        return _detached(path)
    except OSError as error:
        raise DeadManError(f"the dead-man of {path.stem} could not be started: {error}") from None


def _by_service(path: Path) -> bool:
    """True once the service says READY; a second watcher beside a late one does no harm, the lock keeps them apart."""
    try:
        done = subprocess.run(systemd_argv(path), check=False, capture_output=True, timeout=READY_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def by_systemd() -> bool:
    """True where systemd runs and has our network namespace; a unit of its would be in another one otherwise."""
    try:
        return SYSTEMD.is_dir() and journal.netns() == str(Path("/proc/1/ns/net").readlink())
    except OSError:
        return False


def systemd_argv(path: Path) -> list[str]:
    """The command that starts the dead-man as a transient service; it returns when the service says READY."""
    properties = ("Type=notify", "NotifyAccess=main", "Restart=on-failure", "RestartSec=1", "KillMode=process")
    return [
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit=rackhand-deadman-{path.stem}",
        *(f"--property={text}" for text in properties),
        f"--setenv=PYTHONPATH={_ROOT}",
        *_watch_argv(path),
    ]


def _watch_argv(path: Path) -> list[str]:
    return [sys.executable, "-m", "agent.deadman", "watch", str(path.resolve())]


def _detached(path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))}
    with (
        Path(os.devnull).open("rb") as nothing,
        (path.parent / "deadman.err").open("ab") as errors,
        subprocess.Popen(
            [*_watch_argv(path), "--detach"],
            stdin=nothing,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            cwd="/",
            env=environment,
        ) as first,
    ):
        if not _says_ready(first.stdout):
            first.kill()
            raise DeadManError(f"the dead-man of {path.stem} did not start, see {path.parent / 'deadman.err'}")
    return "detached"


def _says_ready(stdout: IO[bytes] | None) -> bool:
    if stdout is None or not select.select([stdout], [], [], READY_S)[0]:
        return False
    return stdout.readline() == b"ready\n"


def watch(path: Path, *, detach: bool) -> Played | None:
    """Wait until the journal is closed, its process is gone or its time is up; in the last two cases play it back."""
    if detach and os.fork():
        os._exit(0)
    story = journal.read(path)
    if story is None:
        return None
    handle = _pidfd(story)
    _ready(detach=detach)
    while story is not None and story.state is State.OPEN and handle is not None:
        left = (story.deadline_ns - journal.now_ns()) / 1e9
        if left <= 0 or _dead(handle, min(left, POLL_S)):
            break
        story = journal.read(path)
    return finish(path)


def _ready(*, detach: bool) -> None:
    if detach:
        os.write(1, b"ready\n")
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 1)
        os.close(quiet)
    elif address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.send(b"READY=1")


def _pidfd(story: Story) -> int | None:
    """The transaction's process, None when it is gone."""
    try:
        handle = os.pidfd_open(story.opened.pid)
    except ProcessLookupError:
        return None
    if journal.started(story.opened.pid) == story.opened.started:
        return handle
    os.close(handle)
    return None


def _dead(handle: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(int(seconds * 1000) + 1))


def finish(path: Path, patience_s: float = math.inf) -> Played | None:
    """End an unfinished transaction: kill what is left of its process, then play its journal back.

    A write that hangs in the kernel is waited for, for so long; then BusyError is raised.
    None when there is nothing to do: it is closed, or it is younger than its deadline and its process lives.
    """
    story = journal.read(path)
    if story is None or story.state not in journal.UNFINISHED:
        return None
    ours = story.opened.boot_id == journal.boot_id() and story.opened.netns == journal.netns()
    if ours and story.state is State.OPEN and (handle := _pidfd(story)) is not None:
        try:
            if story.deadline_ns > journal.now_ns() and not _dead(handle, 0):
                return None
            _kill(handle, path, patience_s)
        finally:
            os.close(handle)
    return play_back(path, patience_s)


def _kill(handle: int, path: Path, patience_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    until = time.monotonic() + patience_s
    while not _dead(handle, POLL_S):  # in an uninterruptible read: the kernel has to let go of it first
        if time.monotonic() >= until:
            raise BusyError(f"{path.name}: its process hangs in the kernel")


def play_back(path: Path, patience_s: float = math.inf) -> Played:
    """Bring the machine back to before the transaction, however far that or an earlier playback came.

    Waits so long for the journal's lock. A journal that was closed meanwhile, or that belongs to another boot or
    another network namespace, changes nothing. Raises JournalError.
    """
    with journal.resume(path, patience_s) as log:
        if log.blank or log.story.state not in journal.UNFINISHED:
            return _told(log)
        opened = log.story.opened
        if opened.boot_id != journal.boot_id():
            log.mark(
                State.VOID, "; ".join(["the machine has booted since, its settings went with that", *_outlive(log)])
            )
        elif opened.netns != journal.netns():
            return _told(log, f"it belongs to another network namespace, {opened.netns}")
        else:
            _play(log)
        return _told(log)


def _outlive(log: Journal) -> list[str]:
    """What a boot does not undo, and nobody here can on what may be other devices by now."""
    changes = [change for stage in log.story.stages for change in stage.changes if blast.NEEDS[change.blast].boots]
    return [f"{change.knob} of {change.target} may have stayed" for change in changes]


def _play(log: Journal) -> None:
    from machine.change import LiveWriter  # noqa: PLC0415 - the watcher stays small until it has to act

    rolled_back = log.story.state is State.REVERTING
    with contextlib.closing(LiveWriter()) as writer:
        revert(log, writer, "rolled back" if rolled_back else "the transaction ended without a commit")


def _told(log: Journal, reason: str = "") -> Played:
    if log.blank:
        return Played(tx=log.path.stem, state=State.VOID, reason="it ended before anything was recorded")
    story = log.story
    return Played(
        tx=story.opened.tx,
        state=story.state,
        reason=reason or story.reason,
        generation=story.opened.generation,
        hash=story.opened.hash,
        outcomes=story.outcomes,
    )


def revert(log: Journal, writer: "Writer", reason: str) -> None:
    """Undo every stage of a journal, last first, then restore the steering of recreated queues, and close it."""
    from collectors.run import collect_facts  # noqa: PLC0415
    from tuners import engine  # noqa: PLC0415

    def irqs() -> list[Irq]:
        return [fact for fact in collect_facts(writer, ["irq"]) if isinstance(fact, Irq)]

    made: list[Made] = []
    stages = log.story.stages
    for number, stage in reversed(list(enumerate(stages))):
        if number not in log.story.undone:
            undone = engine.undo(writer, stage.changes, engine.key_by(stage.before), irqs())
            log.append(journal.Undone(number))
            made += undone
            if any(one.status is OutcomeStatus.REVERTED for one in undone):
                _settle(writer, stage, stages[:number])
    nics = {key: nic for stage in stages for key, nic in engine.key_by(stage.before).items()}
    made = [engine.again(writer, one, nics) for one in made]  # what it depends on may be in an earlier stage
    for stage in reversed(stages):
        if stage.reshaped:
            made += engine.restore(writer, stage.before, stage.reshaped, irqs())
    results = outcomes.undone([change for stage in stages for change in stage.changes], made, reason)
    failed = [one.reason for one in results if one.status is OutcomeStatus.FAILED]
    log.mark(State.FAILED if failed else State.REVERTED, "; ".join([reason, *failed]), results)


def _settle(writer: "Writer", stage: journal.Staged, left: Sequence[journal.Staged]) -> None:
    """Between two NICs whose link an undoing may drop: wait, not for ever, until the first has its carrier again."""
    from agent import legs  # noqa: PLC0415

    if not left or not all(any(blast.NEEDS[one.blast].alone for one in part.changes) for part in (stage, left[-1])):
        return
    nics = [fact for fact in stage.before if isinstance(fact, Nic) and fact.carrier]
    legs.settled(writer, {nic.ifindex: legs.Health(carrier=True) for nic in nics}, SETTLE_S)


def recover(state: Path, patience_s: float = PATIENCE_S) -> list[Played]:
    """At the agent's start: end what an earlier transaction left unfinished, and say what came of it.

    A corrupt journal is renamed and reported as failed: what it would have undone is not known.
    """
    played: list[Played] = []
    for path in journal.paths(state):
        try:
            told = finish(path, patience_s)
        except CorruptError as error:
            aside = journal.set_aside(path)
            told = Played(
                tx=path.stem, state=State.FAILED, reason=f"journal {path.name}: {error}; kept as {aside.name}"
            )
        if told:
            played.append(told)
    journal.prune(state)
    return played


def rollback(state: Path, told: Callable[[Played], object] = bool) -> Played:
    """Undo the last committed transaction; raises JournalError when there is none, or another is at work.

    `told` hears what came of it before another transaction may begin. When the last journal is found corrupt nothing is
    undone, and when one was left unfinished only that one is: a second call undoes the one before.
    """
    handle = journal.lock(state)
    try:
        recovered = recover(state)
        if failed := [one.reason for one in recovered if one.state is State.FAILED]:
            raise JournalError(f"nothing was rolled back: {'; '.join(failed)}")
        for played in recovered:
            if played.state is State.REVERTED:
                told(played)
                return played
        for path in reversed(journal.paths(state)):
            story = journal.read(path)
            if story and story.state is State.COMMITTED:
                with journal.resume(path) as log:
                    log.mark(State.REVERTING)
                played = play_back(path)
                told(played)
                return played
    finally:
        os.close(handle)
    raise JournalError("there is no committed transaction to roll back")


def main(argv: list[str] | None = None) -> int:
    """`watch JOURNAL`, `recover STATE` or `rollback STATE`; the last two print a `Played` per line as JSON."""
    parser = argparse.ArgumentParser(prog="agent.deadman")
    parser.add_argument("verb", choices=("watch", "recover", "rollback"))
    parser.add_argument("path", type=Path)
    parser.add_argument("--detach", action="store_true", help="leave the parent, and say ready on stdout")
    options = parser.parse_args(argv)
    try:
        if options.verb == "watch":
            watch(options.path, detach=options.detach)
            return 0
        played = recover(options.path) if options.verb == "recover" else [rollback(options.path)]
    except JournalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for one in played:
        sys.stdout.write(msgspec.json.encode(one).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
