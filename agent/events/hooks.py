"""Scripts that run on events: named in the configuration, from one folder, checked at each run, bounded in everything.

A script gets the event as JSON on stdin and its parts as RACKHAND_EVENT_* in the environment, where every character
that a shell could take for anything but text is an underscore. Nothing from outside becomes a command line.
"""

import contextlib
import logging
import os
import re
import signal
import stat
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wire.codec import encode
from wire.report import Event, Severity

if TYPE_CHECKING:
    import subprocess

MOST_RUNNING = 2
MOST_WAITING = 32
MOST_OUTPUT = 1 << 16  # bytes; a script that writes more is killed
MOST_INPUT = 1 << 15  # what a pipe takes without a reader
_KEPT_OUTPUT = 400  # its end, in the event
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNSAFE = re.compile(r"[^\w .,:/@%+=-]", re.ASCII)
_MAX_VALUE = 256

log = logging.getLogger("rackhand.hooks")


class RefusedError(Exception):
    """The script may not be run; the message says why."""


@dataclass(slots=True, eq=False)
class _Run:
    hook: str
    event: Event
    process: "subprocess.Popen[bytes]"
    handle: int  # pidfd
    until_s: float
    output: bytes = b""
    silent: bool = False  # its output has ended


class Hooks:
    """Runs scripts of `folder`, two at once and each for `timeout_s` at most; used by one thread, never blocks."""

    def __init__(self, folder: Path, timeout_s: float) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._waiting: deque[tuple[str, Event]] = deque()
        self._running: list[_Run] = []
        self._failed: list[Event] = []
        self._left_out = 0

    def ask(self, hook: str, event: Event) -> None:
        """Run it as soon as there is room; what finds no room to wait is counted."""
        if len(self._waiting) >= MOST_WAITING:
            self._left_out += 1
        else:
            self._waiting.append((hook, event))

    def step(self) -> list[Event]:
        """Start what waits, end what is over; `hook.failed` for each that was not done."""
        now = time.monotonic()
        for run in tuple(self._running):
            self._look(run, now)
        while self._waiting and len(self._running) < MOST_RUNNING:
            self._start(*self._waiting.popleft(), now)
        if self._left_out and len(self._waiting) < MOST_WAITING // 2:
            self._fail("", f"{self._left_out} runs left out: too many waited", {"count": self._left_out})
            self._left_out = 0
        failed, self._failed = self._failed, []
        return failed

    def filenos(self) -> list[int]:
        """To wait on: ends and output of the scripts that run."""
        pipes = [run.process.stdout.fileno() for run in self._running if run.process.stdout and not run.silent]
        return [*pipes, *(run.handle for run in self._running)]

    def wait_s(self) -> float:
        """Seconds until the next one is out of time."""
        return max(0.0, min((run.until_s for run in self._running), default=float("inf")) - time.monotonic())

    def busy(self) -> bool:
        """True while something runs or waits."""
        return bool(self._running or self._waiting)

    def close(self) -> None:
        """Kill what runs."""
        for run in tuple(self._running):
            self._end(run)

    def _start(self, hook: str, event: Event, now: float) -> None:
        import subprocess  # noqa: PLC0415 - only where there are hooks

        body = encode(event)
        if len(body) > MOST_INPUT:
            self._fail(hook, f"the event has {len(body)} bytes", {})
            return
        try:
            path = check(self._folder, hook)
            process = subprocess.Popen(
                [str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment(event),
                bufsize=0,
                start_new_session=True,
                umask=0o077,
            )
        except (RefusedError, OSError) as error:
            self._fail(hook, str(error), {})
            return
        handle = os.pidfd_open(process.pid)
        if process.stdin and process.stdout:
            with contextlib.suppress(BrokenPipeError):  # it does not care for the event
                process.stdin.write(body)
            process.stdin.close()
            os.set_blocking(process.stdout.fileno(), False)
        self._running.append(_Run(hook, event, process, handle, now + self._timeout_s))

    def _look(self, run: _Run, now: float) -> None:
        """Read what it wrote; end it when it is out of time, wrote too much, or is done."""
        exited = os.waitid(os.P_PID, run.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        _drain(run)
        why = ""
        if len(run.output) > MOST_OUTPUT:
            why = f"killed: wrote more than {MOST_OUTPUT} bytes"
        elif not exited and now >= run.until_s:
            why = f"killed: ran for {self._timeout_s:g} s"
        if not exited and not why:
            return
        code = self._end(run)
        if why or code:
            said = _UNSAFE.sub("_", run.output[-_KEPT_OUTPUT:].decode(errors="replace").strip())
            text = why or (f"ended with {code}" if code > 0 else f"killed by signal {-code}")
            self._fail(run.hook, f"{text}{': ' if said else ''}{said}", {"code": code, "event": run.event.kind})
        else:
            log.info("hook %s done for %s %s", run.hook, run.event.kind, run.event.key)

    def _end(self, run: _Run) -> int:
        """Kill whatever is left of its process group, while its number is still taken; the exit code."""
        self._running.remove(run)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        code = run.process.wait()
        os.close(run.handle)
        if run.process.stdout:
            run.process.stdout.close()
        return code

    def _fail(self, hook: str, text: str, data: dict[str, str | int | float | bool | None]) -> None:
        what = f"hook {hook}: {text}" if hook else f"hooks: {text}"
        at_ms = time.time_ns() // 1_000_000
        self._failed.append(
            Event(at_ms=at_ms, kind="hook.failed", key=hook, severity=Severity.WARNING, text=what, data=data)
        )


def check(folder: Path, hook: str) -> Path:
    """The script, when it and all folders above it belong to root or to us and nobody else may write; RefusedError."""
    path = folder / hook
    if path.parent != folder or not hook or not folder.is_absolute():
        raise RefusedError(f"{hook!r} is not the name of a script in {folder}")
    for place in (*reversed(path.parents), path):
        try:
            found = place.lstat()
        except OSError as error:
            raise RefusedError(f"{place}: {error.strerror}") from None
        wanted = stat.S_ISREG if place is path else stat.S_ISDIR
        if not wanted(found.st_mode):
            raise RefusedError(f"{place} is not a {'file' if place is path else 'folder'}")
        if found.st_uid not in (0, os.geteuid()):
            raise RefusedError(f"{place} belongs to user {found.st_uid}")
        # In a folder as /tmp is, others can add, and not replace.
        sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX and place != folder
        if found.st_mode & 0o022 and not sticky:
            raise RefusedError(f"{place} may be written by others (mode {stat.S_IMODE(found.st_mode):o})")
    if not os.access(path, os.X_OK):
        raise RefusedError(f"{path} is not executable")
    return path


def environment(event: Event) -> dict[str, str]:
    """RACKHAND_EVENT_KIND, _KEY, _SEVERITY, _TEXT, _AT_MS and one for each of the event's data."""
    found = {
        "KIND": event.kind,
        "KEY": event.key,
        "SEVERITY": event.severity.value,
        "TEXT": event.text,
        "AT_MS": str(event.at_ms),
        "SIMULATED": str(int(event.data.get("simulated") is True)),
    }
    for name, value in list(event.data.items())[:32]:
        word = re.sub(r"[^A-Z0-9_]", "_", name.upper())[:48]
        found.setdefault(word, str(value).lower() if isinstance(value, bool) else "" if value is None else str(value))
    return {"PATH": _PATH, "LANG": "C.UTF-8"} | {f"RACKHAND_EVENT_{name}": safe(text) for name, text in found.items()}


def safe(text: str) -> str:
    """Letters, digits and ` .,:/@%+=_-`, no leading dash; everything else is an underscore."""
    cleaned = _UNSAFE.sub("_", text[:_MAX_VALUE])
    return f"_{cleaned[1:]}" if cleaned.startswith("-") else cleaned


def _drain(run: _Run) -> None:
    stdout = run.process.stdout
    try:
        while stdout and not run.silent and len(run.output) <= MOST_OUTPUT:
            chunk = os.read(stdout.fileno(), 8192)
            run.output += chunk
            run.silent = not chunk
    except BlockingIOError:
        pass
