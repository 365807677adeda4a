"""Programs of other projects that read hardware, and systemd's, by a table of those that may be run."""

import os
import signal
import subprocess

from machine import MachineError, NotPresentError, failure

TIMEOUT_S = 20.0
MAX_BYTES = 16 << 20
PROGRAMS = frozenset({"smartctl", "lldpcli", "systemctl"})
FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.pathsep.join(FOLDERS)}


def find(name: str) -> str:
    """Where a program of the table is installed; raises NotPresentError."""
    for folder in FOLDERS:
        path = f"{folder}/{name}"
        if name in PROGRAMS and os.access(path, os.X_OK):
            return path
    raise NotPresentError(f"{name} is not installed")


def run(name: str, *words: str, timeout_s: float = TIMEOUT_S) -> str:
    """What a program of the table printed, whatever its exit status; raises NotPresentError, MachineError.

    One that says nothing and fails, or takes longer, is an error; it is killed with everything it started.
    """
    argv = [find(name), *words]
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        raise failure(error.errno or 0, name) from None
    with process:
        try:
            said, complaint = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise MachineError(f"{name} did not end within {timeout_s:g} s") from None
    if process.returncode != 0 and not said.strip():
        lines = complaint.decode(errors="replace").strip().splitlines() or [f"status {process.returncode}"]
        raise MachineError(f"{name}: {lines[-1][:300]}")
    if len(said) > MAX_BYTES:
        raise MachineError(f"{name}: over {MAX_BYTES} bytes")
    return said.decode(errors="replace")
