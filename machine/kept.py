"""What somebody has to keep doing: fan curves and fed watchdogs, and the heartbeat of the agent without which it stops.

`/run/rackhand` holds it, as the settings themselves live until the next boot: `kept.json` is what to keep, `heartbeat`
when the agent was last well, `keeper` the process that does the work (`machine.keeper`). Whoever changes `kept.json`,
or a PWM output under a curve, holds `lock`.
"""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec

from machine import Machine, MachineError, NotPresentError, failure
from wire.policy import Request, Values

RUN = Path(os.environ.get("RACKHAND_RUN", "/run/rackhand"))
STALE_S = 30.0  # after a heartbeat; the agent gives one every ten seconds
STARTED_S = 15.0  # for a keeper to be there, and to do what it is told
BY_CURVE = -1  # the duty of an output that somebody else sets: a curve, or the chip
STOPPED = "stopped"
_MANUAL = "1"
BY_HAND = ("", "0", _MANUAL)  # pwmN_enable where the duty stays as it was set; "" is a chip that has no other way
_ROOT = str(Path(__file__).resolve().parents[1])


class Curve(msgspec.Struct, frozen=True):
    """One PWM output and what it follows."""

    points: str  # "40:30 60:60 80:100", °C:%
    sensors: str  # paths of tempN_input, the hottest counts


class Feed(msgspec.Struct, frozen=True):
    """One watchdog; one that is not to be fed any more is stopped with this timeout, and forgotten."""

    timeout_s: int
    feed: bool = True


class Kept(msgspec.Struct):
    """All that is kept, by path of the PWM output and by name of the watchdog."""

    fans: dict[str, Curve] = {}
    watchdogs: dict[str, Feed] = {}


_KEPT = msgspec.json.Decoder(Kept)


def read_kept(machine: Machine) -> Kept:
    """What is kept on a machine; nothing where no keeper is alive to do it."""
    try:
        return _KEPT.decode(machine.read_bytes(f"{RUN}/kept.json")) if keeper_pid(machine) else Kept()
    except (MachineError, msgspec.DecodeError):
        return Kept()


def load() -> Kept:
    """What is to be kept here; an unreadable file is nothing."""
    try:
        return _KEPT.decode((RUN / "kept.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return Kept()


def store(kept: Kept) -> None:
    """Replace what is to be kept; raises OSError."""
    temporary = RUN / f".kept.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(kept))
    temporary.replace(RUN / "kept.json")


@contextlib.contextmanager
def locked() -> Generator[None]:
    """Alone with what is kept."""
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle = os.open(RUN / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


# -- heartbeat and keeper ----------------------------------------------------------------------------------------------


def beat(word: str = "") -> None:
    """The agent is well (or says that it stops); nothing where nothing was ever kept."""
    with contextlib.suppress(OSError):
        if RUN.is_dir():
            temporary = RUN / ".heartbeat"
            temporary.write_text(word or str(time.clock_gettime_ns(time.CLOCK_BOOTTIME)))
            temporary.replace(RUN / "heartbeat")


def heartbeat() -> str:
    """ "well", "stopped" (it said so) or "silent"."""
    try:
        text = (RUN / "heartbeat").read_text().strip()
    except OSError:
        return "silent"
    if text == STOPPED or not text.isdecimal():
        return STOPPED if text == STOPPED else "silent"
    return "well" if time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(text) < STALE_S * 1e9 else "silent"


def keeper_pid(machine: Machine) -> int:
    """The keeper's process, 0 when none lives: its file has the time of its start, which no later process shares."""
    try:
        pid, _, started = machine.read(f"{RUN}/keeper").partition(" ")
        stat = machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except MachineError:
        return 0
    return int(pid) if len(stat) > 19 and stat[0] not in "ZX" and stat[19] == started else 0


def _wait(done: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + STARTED_S
    while not done():
        if time.monotonic() > until:
            raise MachineError(what)
        time.sleep(0.1)


def _start(machine: Machine) -> None:
    """See to it that a keeper lives; raises MachineError."""
    import subprocess  # noqa: PLC0415 - the agent needs the heartbeat alone

    if keeper_pid(machine):
        return
    argv = [sys.executable, "-m", "machine.keeper"]
    if Path("/run/systemd/system").is_dir() and "RACKHAND_RUN" not in os.environ:
        properties = ("Restart=on-failure", "RestartSec=1", "KillMode=process")
        argv = [
            *("systemd-run", "--quiet", "--collect", "--unit=rackhand-keeper", f"--setenv=PYTHONPATH={_ROOT}"),
            *(f"--property={text}" for text in properties),
            *argv,
        ]
    paths = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    try:
        with (RUN / "keeper.err").open("ab") as errors:
            subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "PYTHONPATH": paths},
            )
    except OSError as error:
        raise failure(error.errno or 0, "the keeper could not be started") from None
    _wait(lambda: bool(keeper_pid(machine)), f"the keeper did not start, see {RUN / 'keeper.err'}")


def _agent_needed() -> None:
    """Wait for the agent to say that it is well: without one fans are at full speed and no watchdog is fed."""
    with locked():
        pass  # makes the folder, in which the agent finds that it is asked
    _wait(lambda: heartbeat() == "well", "no agent runs here that could see to it: start rackhand-agent first")


# -- requests ----------------------------------------------------------------------------------------------------------


def read_fan(machine: Machine, op: Request) -> Values:
    """What sets the PWM output of the request's item now."""
    return fan_values(machine, op.item)


def fan_values(machine: Machine, output: str) -> Values:
    """Curve and sensors, pwmN_enable ("" where the chip has none), and the duty where it was set by hand (0 to 255)."""
    curve = read_kept(machine).fans.get(output, Curve("", ""))
    try:
        enable = machine.read(f"{output}_enable")
    except NotPresentError:
        enable = ""
    by_hand = not curve.points and enable in BY_HAND
    duty = machine.read(output) if by_hand else ""
    return {
        "curve": curve.points,
        "sensors": curve.sensors,
        "enable": enable,
        "duty": int(duty) if duty.isdecimal() else BY_CURVE,
    }


def write_fan(machine: Machine, op: Request) -> None:
    """Put the output under a curve, or take it from one and set it as it was; raises MachineError."""
    points, enable, duty = str(op.after["curve"]), str(op.after["enable"]), int(op.after["duty"])
    if points:
        _agent_needed()
    with _told(), locked():
        kept = load()
        kept.fans.pop(op.item, None)
        if points:
            kept.fans[op.item] = Curve(points, str(op.after["sensors"]))
        store(kept)
        if not points and duty >= 0:
            if enable:
                put(f"{op.item}_enable", _MANUAL)
            put(op.item, str(duty))
        if enable:
            put(f"{op.item}_enable", enable)
    if points:
        _start(machine)


def read_watchdog(machine: Machine, op: Request) -> Values:
    """Whether the watchdog of the request's item (watchdog0) is fed by us, and its timeout."""
    timeout = machine.read(f"/sys/class/watchdog/{op.item}/timeout")
    feed = read_kept(machine).watchdogs.get(op.item)
    return {"feed": feed is not None and feed.feed, "timeout_s": int(timeout)}


def write_watchdog(machine: Machine, op: Request) -> None:
    """Have it fed with this timeout, or stopped with the one it had; returns when that is so. Raises MachineError."""
    feed, timeout_s = bool(op.after["feed"]), int(op.after["timeout_s"])
    if feed:
        _agent_needed()
    with _told(), locked():
        kept = load()
        kept.watchdogs[op.item] = Feed(timeout_s, feed)
        store(kept)
    _start(machine)
    state = "active" if feed else "inactive"
    folder = f"/sys/class/watchdog/{op.item}"
    try:
        _wait(
            lambda: machine.read(f"{folder}/state") == state and (feed or op.item not in load().watchdogs),
            f"{op.item} did not become {state}, see {RUN / 'keeper.err'}",
        )
    except MachineError:
        if feed:  # what never was fed is not to be fed later
            with locked():
                kept = load()
                kept.watchdogs.pop(op.item, None)
                store(kept)
        raise


@contextlib.contextmanager
def _told() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise failure(error.errno or 0, error.filename or str(RUN)) from None


def put(path: str, text: str) -> None:
    """Write one of the kernel's files; raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
