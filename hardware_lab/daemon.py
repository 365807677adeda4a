"""Processes that go on when the command that started them ends; a pid file in their folder is how others find them."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hardware_lab.failure import LabError

GRACE_S = 10.0
_children: "dict[int, subprocess.Popen[bytes]]" = {}  # of this very process: they are its to reap


def start(argv: Sequence[str], folder: Path, name: str, handles: Sequence[int] = ()) -> None:
    """Run `argv` in `folder`, in a session of its own; `NAME.pid` and `NAME.log` are written there. Raises LabError.

    It inherits these open `handles`.
    """
    with (folder / f"{name}.log").open("ab") as log:
        try:
            process = subprocess.Popen(
                argv,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=handles,
            )
        except OSError as error:
            raise LabError(f"{argv[0]}: {error.strerror}; `rackhand-lab setup` installs what the lab needs") from None
    _children[process.pid] = process
    (folder / f"{name}.pid").write_text(f"{process.pid}\n")


def find(folder: Path, name: str) -> int | None:
    """Its process number; None when it has ended, or the number now belongs to a process of another folder.

    It counts until the very end: a process that exits still holds files, ports and locks.
    """
    try:
        pid = int((folder / f"{name}.pid").read_text())
    except (OSError, ValueError):
        return None
    return pid if _lives(pid) and _folder(pid) in (folder.resolve(), None) else None


def _lives(pid: int) -> bool:
    if child := _children.get(pid):
        return child.poll() is None
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX" or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except OSError:
        return False


def _folder(pid: int) -> Path | None:
    """Where it runs; None once it has let go of that, which is early in its end."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except FileNotFoundError:
        return None
    except OSError:
        return Path()


def send(folder: Path, name: str, number: int) -> None:
    """A signal to it; raises LabError when it does not run."""
    pid = find(folder, name)
    if pid is None:
        raise LabError(f"{name} of {folder} does not run")
    os.kill(pid, number)


def stop(folder: Path, name: str) -> None:
    """SIGTERM, also when it is stopped; SIGKILL when that is not enough; a second call does nothing."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = find(folder, name)
        if pid is None:
            break
        with contextlib.suppress(ProcessLookupError):  # it may end before the second signal
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
        await_(lambda: find(folder, name) is None, GRACE_S)
    (folder / f"{name}.pid").unlink(missing_ok=True)


def await_(condition: Callable[[], bool], seconds: float) -> bool:
    """True as soon as the condition holds, False when it does not in that time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def await_ready(folder: Path, name: str, ready: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return when `ready`; raises LabError with the last line it said when it ended or is not in that time."""
    await_(lambda: ready() or find(folder, name) is None, seconds)
    if find(folder, name) is None or not ready():
        raise LabError(f"{name} did not start in {folder}: {last_words(folder, name)}")


def last_words(folder: Path, name: str) -> str:
    """The last line it said; and how it ended, when it was started by this very process and has ended."""
    try:
        said = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        child = _children.get(int((folder / f"{name}.pid").read_text()))
    except (OSError, ValueError):
        return "it left no word"
    status = child.poll() if child else None
    ended = [] if status is None else [f"signal {-status}" if status < 0 else f"status {status}"]
    return ", ".join([said[-1] if said else "it said nothing", *ended])
