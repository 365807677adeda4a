"""Child processes that never outlive the process that started them."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# The kernel clears the signal at a fork and keeps it over an exec, so this runs between the two. A preexec_fn would do
# the same, but it runs Python after a fork in a process with threads. The parent may be gone before the call: ask.
_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def spawn(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start `argv` (its first item a path) with output appended to `log`; it gets SIGTERM when this thread ends.

    The child leads a session of its own, so that Ctrl-C in a terminal reaches the parent only, which stops its children
    in order.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if env is None else dict(env),
            start_new_session=True,
        )


def stop(process: "subprocess.Popen[bytes]", grace_s: float = 10.0) -> None:
    """SIGTERM, then SIGKILL when it has not ended within `grace_s`; returns when it is reaped."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_line(log: Path) -> str:
    """The last line that is not blank of a log, at most 200 characters; "" without one."""
    try:
        text = log.read_bytes()[-4096:].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
