"""A machine reached by SSH: a guest of the lab, or real hardware; the same calls for both."""

import contextlib
import shlex
import subprocess
from pathlib import Path

from hardware_lab.failure import LabError

_OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    *("-o", "LogLevel=ERROR", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15"),
    *("-o", "ControlMaster=auto", "-o", "ControlPersist=600"),
)


class GuestError(LabError):
    """A command in the guest failed; the message has its exit code and the end of what it said."""


class Guest:
    """One machine, as root; every call is a command over one shared SSH connection."""

    def __init__(self, address: str, control: Path, *, port: int = 22, key: Path | None = None) -> None:
        self.address = address  # user@host
        self.control = control  # the shared connection's socket
        self.options = [*_OPTIONS, "-o", f"ControlPath={control}", "-p", str(port)]
        if key:
            self.options += ["-i", str(key), "-o", "IdentitiesOnly=yes"]

    @property
    def argv(self) -> list[str]:
        """The ssh command without what to run."""
        return ["ssh", *self.options, self.address]

    def run(self, command: str, *, timeout_s: float = 120, stdin: bytes | None = None) -> str:
        """Standard output of a shell command; raises GuestError when it fails or takes longer."""
        done = self.attempt(command, timeout_s=timeout_s, stdin=stdin)
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()[-2000:]
            raise GuestError(f"{shlex.quote(command[:200])} ended with {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")

    def attempt(
        self, command: str, *, timeout_s: float = 120, stdin: bytes | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        """The same with its exit code and both outputs; raises GuestError only when it takes longer."""
        try:
            return subprocess.run(
                [*self.argv, command], check=False, capture_output=True, timeout=timeout_s, input=stdin or b""
            )
        except subprocess.TimeoutExpired:
            raise GuestError(f"{shlex.quote(command[:200])} took longer than {timeout_s:g} s") from None

    def start(self, command: str) -> "subprocess.Popen[bytes]":
        """A command that goes on beside us, its output in pipes."""
        return subprocess.Popen(
            [*self.argv, command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def read(self, path: str) -> str:
        """Text of a file."""
        return self.run(f"cat {shlex.quote(path)}")

    def write(self, path: str, content: bytes | str) -> None:
        """Write a file, sysfs and debugfs too: one write from its start, without cutting it."""
        content = content.encode() if isinstance(content, str) else content
        self.run(f"dd of={shlex.quote(path)} bs=1M conv=notrunc status=none", stdin=content)

    def put(self, local: Path, remote: str) -> None:
        """Copy a file or a folder's content into a folder of the guest."""
        source = ["-C", str(local), "."] if local.is_dir() else ["-C", str(local.parent), local.name]
        packed = subprocess.run(["tar", "-c", *source], check=True, capture_output=True).stdout
        self.run(f"mkdir -p {shlex.quote(remote)} && tar -x -C {shlex.quote(remote)}", stdin=packed)

    def hang_up(self) -> None:
        """Close the shared connection; the next call opens another."""
        subprocess.run(["ssh", *self.options, "-O", "exit", self.address], check=False, capture_output=True)
        with contextlib.suppress(OSError):
            self.control.unlink(missing_ok=True)
