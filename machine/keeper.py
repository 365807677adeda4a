"""The keeper: a process beside the agent that drives fans along their curves and feeds watchdogs, or fails safe.

Agent silent: fans at full speed, no watchdog fed (the hardware resets the host when the agent does not come back in
time). A sensor lost: its fans at full speed. Agent stopped in order: fans at full speed, watchdogs disarmed. The keeper
dead or hung: its child, the guard, sets the fans to full speed; a watchdog's device closes without the magic word, and
the hardware resets the host. It ends when there is nothing to keep.
"""

import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import time
from pathlib import Path

from machine import kept
from machine.kept import Curve, Feed, Kept
from wire.curve import FULL, duty, parse_curve

PERIOD_S = 1.0
SILENCE_S = 10.0  # of the keeper, after which its guard acts
COOLER_C = 2.0  # a fan slows down only when it is this much colder
_MOST_HANDLES = 1024
_TIMEOUT = 0xC0045706  # WDIOC_SETTIMEOUT, linux/watchdog.h


def hottest(sensors: str) -> float | None:
    """°C of the hottest of these sensors; None when one of them cannot be read, is faulty or says nonsense."""
    found: list[float] = []
    for path in sensors.split():
        try:
            fault = Path(path.replace("_input", "_fault"))
            if fault.exists() and fault.read_text().strip() != "0":
                return None
            found.append(int(Path(path).read_text()) / 1000)
        except (OSError, ValueError):
            return None
    return max(found) if found and all(-40 <= one <= 150 for one in found) else None


def full_speed(outputs: list[str]) -> bool:
    """Every output at its highest, by hand; where that is refused the chip's own way for it. False when one is not."""
    done = True
    for output in outputs:
        try:
            _by_hand(output, FULL)
        except OSError:
            with contextlib.suppress(OSError):
                kept.put(f"{output}_enable", "0")
                continue
            done = False
    return done


def _by_hand(output: str, value: int) -> None:
    enable = Path(f"{output}_enable")
    if enable.exists() and enable.read_text().strip() != "1":
        kept.put(str(enable), "1")
    kept.put(output, str(value))


class Fan:
    """One output under a curve."""

    def __init__(self, output: str, curve: Curve) -> None:
        self.output = output
        self.curve = curve
        self._points = parse_curve(curve.points)
        self._last: int | None = None

    def step(self, *, well: bool) -> None:
        """Set what the temperature asks for; full speed without an agent, and without a temperature."""
        celsius = hottest(self.curve.sensors) if well else None
        wanted = FULL if celsius is None else duty(self._points, celsius)
        if celsius is not None and self._last is not None and wanted < self._last:
            wanted = min(self._last, duty(self._points, celsius + COOLER_C))
        try:
            _by_hand(self.output, wanted)
            self._last = None if celsius is None else wanted
        except OSError:
            self._last = None
            full_speed([self.output])


class Dog:
    """One watchdog's device, open while it is fed."""

    def __init__(self, name: str) -> None:
        self._path = f"/dev/{name}"
        self._handle: int | None = None

    def feed(self, timeout_s: int) -> None:
        """Open it, once, and feed it; raises OSError."""
        if self._handle is None:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            self._set(timeout_s)
        os.write(self._handle, b"\0")

    def stop(self, timeout_s: int = 0) -> None:
        """Give it that timeout and disarm it by the magic word; raises OSError."""
        if self._handle is None and timeout_s:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        if self._handle is not None:
            if timeout_s:
                self._set(timeout_s)
            os.write(self._handle, b"V")
            os.close(self._handle)
            self._handle = None

    def _set(self, timeout_s: int) -> None:
        if self._handle is not None:
            fcntl.ioctl(self._handle, _TIMEOUT, struct.pack("=i", timeout_s))


class Keeper:
    """Everything that is kept, and its guard."""

    def __init__(self) -> None:
        self._fans: dict[str, Fan] = {}
        self._dogs: dict[str, Dog] = {}
        self._guard = -1
        self._said: set[str] = set()
        self.stopping = False

    def round(self) -> bool:
        """Do all that is due; False when there is nothing to keep."""
        with kept.locked():
            wanted = kept.load()
            word = kept.heartbeat()
            self._drive(wanted, well=word == "well")
            for name, feed in list(wanted.watchdogs.items()):
                self._tend(name, feed, word, wanted)
        self._tell_guard()
        return bool(wanted.fans or wanted.watchdogs)

    def _drive(self, wanted: Kept, *, well: bool) -> None:
        for output, curve in wanted.fans.items():
            fan = self._fans.get(output)
            if fan is None or fan.curve != curve:
                fan = self._fans[output] = Fan(output, curve)
            fan.step(well=well)
        for output in self._fans.keys() - wanted.fans.keys():
            del self._fans[output]

    def _tend(self, name: str, feed: Feed, word: str, wanted: Kept) -> None:
        dog = self._dogs.setdefault(name, Dog(name))
        try:
            if not feed.feed:
                with contextlib.suppress(FileNotFoundError):  # gone, and its timer with it
                    dog.stop(feed.timeout_s)
                del wanted.watchdogs[name], self._dogs[name]
                kept.store(wanted)
            elif word == kept.STOPPED:
                dog.stop()
            elif word == "well":
                dog.feed(feed.timeout_s)
        except OSError as error:
            self._complain(f"{name}: {error}")

    def _complain(self, text: str) -> None:
        """Say what does not work once, not every second."""
        if text not in self._said:
            self._said.add(text)
            sys.stderr.write(f"{text}\n")

    def close(self) -> None:
        """Told to stop: fans at full speed, watchdogs disarmed."""
        full_speed(list(kept.load().fans))
        for dog in self._dogs.values():
            with contextlib.suppress(OSError):
                dog.stop()

    def _tell_guard(self) -> None:
        """A byte for the guard; another guard where it is gone."""
        try:
            if self._guard >= 0:
                os.write(self._guard, b".")
                return
        except BrokenPipeError:
            os.close(self._guard)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
        self._guard = self._fork_guard()

    def _fork_guard(self) -> int:
        read, write = os.pipe2(os.O_CLOEXEC)
        if os.fork():
            os.close(read)
            return write
        os.closerange(3, read)  # the keeper's death is to close devices and locks: the guard holds none of them
        os.closerange(read + 1, _MOST_HANDLES)
        guard(read)
        os._exit(0)


def guard(pipe: int) -> None:
    """Watch the keeper: when it says nothing for long, or is gone, every fan goes to full speed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([pipe], [], [], SILENCE_S)
        if ready and os.read(pipe, 512):
            continue
        for _ in range(3):
            if full_speed(list(kept.load().fans)):
                break
            time.sleep(PERIOD_S)
        if ready:
            return


def main() -> int:
    """Keep what there is to keep until there is nothing, or SIGTERM."""
    with kept.locked():
        pass  # makes the folder
    alone = os.open(kept.RUN / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _lock(alone):
        return 0  # one is at work
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    keeper = Keeper()
    signal.signal(signal.SIGTERM, lambda _number, _frame: setattr(keeper, "stopping", True))
    keeper.round()
    (kept.RUN / "keeper").write_text(f"{os.getpid()} {started}")
    while not keeper.stopping:
        if not keeper.round() and _leave(alone):
            return 0
        time.sleep(PERIOD_S)
    keeper.close()
    return 0


def _lock(handle: int) -> bool:
    """Whether this is the only keeper, once one that is leaving has left."""
    for _ in range(50):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.1)
    return False


def _leave(alone: int) -> bool:
    """Go, unless something to keep has come meanwhile."""
    with kept.locked():
        wanted = kept.load()
        if wanted.fans or wanted.watchdogs:
            return False
        (kept.RUN / "keeper").unlink(missing_ok=True)
        os.close(alone)
        return True


if __name__ == "__main__":
    sys.exit(main())
