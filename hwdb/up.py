"""`rackhand up`: broker, database, ingest, API and the agent of this host, in one process and its children."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hwdb import broker, child, migrate, retention
from hwdb.broker import Kind
from hwdb.cli.failure import Exit, Failure
from hwdb.cli.output import Format
from hwdb.db import open_engine, reading, rows
from hwdb.front import Front, collect, show
from hwdb.place import shown
from hwdb.retention import Days

if TYPE_CHECKING:
    from hwdb.loop import Loop

REPORT_S = 60.0  # the first report of every collector is there by then
RESTART_S = (1.0, 60.0)  # pause before a child that ended is started again: first, longest
TURN_S = 0.2


class Options(NamedTuple):
    """What the command line says."""

    state: Path
    url: str
    port: int = 0
    api_port: int = 0
    once: bool = False
    agent: bool = True
    enforce: bool = False
    form: Format = Format.TABLE
    broker: Kind = Kind.AUTO
    keep: Days = Days()


def run(options: Options) -> None:
    """Start everything, print the screen, stay until Ctrl-C or SIGTERM (unless once); all is stopped on the way out."""
    _end_by_signal()
    try:
        with ExitStack() as stack:
            stack.enter_context(only_one(options.state))
            try:
                _start(options, stack)
            finally:
                _ignore_signals()
    except KeyboardInterrupt:
        if options.once:
            raise
        _say(options, "stopped")


def _start(options: Options, stack: ExitStack) -> None:
    _say(options, f"database  {shown(options.url)}")
    migrate.upgrade(options.url)
    own = broker.choose(options.state, options.port, options.broker)
    own.start()
    stack.callback(own.stop)
    _say(options, f"broker    {own.name} on {own.address}")
    loop = stack.enter_context(_ingesting(options, own.address))
    api = stack.enter_context(_serving(options, loop))
    agent = _Agent(options, own.address)
    stack.callback(agent.stop)
    if options.agent:
        agent.start()
        _say(options, "agent     of this host, " + ("enforcing" if options.enforce else "observing"))
        _wait_for_report(options, agent)
    show(_front(options, own, str(api), agent.host_id() if options.agent else ""), options.form)
    if not options.once:
        _stay(own, agent)


def _say(options: Options, text: str) -> None:
    """A line of progress for people; nothing where a program reads."""
    if options.form is Format.TABLE and sys.stderr.isatty():
        sys.stderr.write(f"  {text}\n")


def _end_by_signal() -> None:
    """SIGTERM ends it as Ctrl-C does: by KeyboardInterrupt in the main thread."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def _ignore_signals() -> None:
    """While all is being stopped, a second Ctrl-C must not leave a child behind."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def only_one(state: Path) -> Generator[None]:
    """Hold the state directory; raises Failure when another `up` has it, or when it cannot be made."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = os.open(state / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(Exit.FAILED, f"cannot use the state directory {state}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(held, 20).decode("ascii", "replace").strip() or "unknown"
            raise Failure(Exit.RUNNING, f"another `rackhand up` (pid {pid}) runs in {state}") from None
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(held)


@contextmanager
def _ingesting(options: Options, address: broker.Address) -> "Generator[Loop]":
    """The broker loop in a thread, on an engine of its own; and what deletes old rows in another."""
    from hwdb.loop import Loop  # noqa: PLC0415 - after the schema is there

    engine = open_engine(options.url)
    loop, stop = Loop(engine, address), threading.Event()
    threads = [
        threading.Thread(target=loop.run, args=(stop,), name="ingest"),
        threading.Thread(target=retention.run, args=(engine, options.keep, stop), name="retention"),
    ]
    for thread in threads:
        thread.start()
    try:
        yield loop
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        engine.dispose()


@contextmanager
def _serving(options: Options, loop: "Loop") -> Generator[broker.Address]:
    from hwdb.api import Api  # noqa: PLC0415 - 180 ms that run beside the broker's start

    api = Api(options.url, options.api_port, lambda: loop.counters)
    try:
        api.start()
        yield api.address
    finally:
        api.stop()


class _Agent:
    """The agent of this host: a child with a state directory of its own, started again when it ends."""

    def __init__(self, options: Options, address: broker.Address) -> None:
        self.state = options.state / "agent"
        self.log = options.state / "agent.log"
        self._environment = {
            **os.environ,
            "RACKHAND_STATE_DIR": str(self.state.absolute()),
            "RACKHAND_BROKER_HOST": address.host,
            "RACKHAND_BROKER_PORT": str(address.port),
            "RACKHAND_OBSERVE": "false" if options.enforce else "true",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._pause_s = RESTART_S[0]
        self._started = 0.0
        self.started_ms = 0

    def start(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._started, self.started_ms = time.monotonic(), time.time_ns() // 1_000_000
        self._process = child.spawn([sys.executable, "-m", "agent.cli", "run"], self.log, self._environment)

    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def keep(self) -> None:
        """Start it again when it ended and its pause is over; the pause grows while it does not stay up."""
        if not self.ended() or time.monotonic() - self._started < self._pause_s:
            return
        stayed = time.monotonic() - self._started > RESTART_S[1]
        self._pause_s = RESTART_S[0] if stayed else min(self._pause_s * 2, RESTART_S[1])
        self.start()

    def host_id(self) -> str:
        """What it calls itself, "" before it has said so."""
        import msgspec  # noqa: PLC0415

        try:
            return str(msgspec.json.decode((self.state / "identity.json").read_bytes())["host_id"])
        except (OSError, msgspec.DecodeError, KeyError, TypeError):
            return ""

    def stop(self) -> None:
        if self._process is not None:
            child.stop(self._process)


def _wait_for_report(options: Options, agent: _Agent) -> None:
    """Until every collector of this host has reported; raises Failure when the agent ends or takes too long."""
    deadline = time.monotonic() + REPORT_S
    while not reported(options.url, agent.host_id(), agent.started_ms):
        if agent.ended():
            raise Failure(Exit.NO_REPORT, f"the agent of this host ended: {child.last_line(agent.log) or agent.log}")
        if time.monotonic() > deadline:
            raise Failure(Exit.NO_REPORT, f"no full report of this host within {REPORT_S:.0f} s; see {agent.log}")
        time.sleep(TURN_S / 2)


def reported(url: str, host_id: str, since_ms: int) -> bool:
    """Whether every collector that the newest birth names has reported a run since then."""
    if not host_id:
        return False
    import msgspec  # noqa: PLC0415

    sql = (
        "SELECT h.collectors, c.collector FROM host h JOIN collector_state c ON c.host_id = h.host_id"
        " WHERE h.host_id = :host_id AND c.at_ms >= :since_ms"
    )
    with reading(url) as conn:
        found = rows(conn, sql, {"host_id": host_id, "since_ms": since_ms})
    return bool(found) and {row[1] for row in found} >= set(msgspec.json.decode(found[0][0], type=list[str]))


def _front(options: Options, own: broker.Broker, api: str, host_id: str) -> Front:
    places = [
        ("API", f"http://{api}/api/v1/hosts"),
        ("metrics", f"http://{api}/metrics"),
        ("broker", f"mqtt://{own.address} ({own.name})"),
        ("database", shown(options.url)),
        ("logs", str(options.state)),
    ]
    return collect(options.url, host_id, places, enforcing=options.enforce, running=not options.once)


def _stay(own: broker.Broker, agent: _Agent) -> None:
    """Keep broker and agent alive until a signal."""
    while True:
        time.sleep(TURN_S)
        agent.keep()
        if not own.running():
            raise Failure(Exit.BROKER, f"the broker on {own.address} ended")
