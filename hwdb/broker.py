"""The broker of `rackhand up`, on loopback: Mosquitto as a child where it is installed, else amqtt in this process."""

import enum
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hwdb import child

if TYPE_CHECKING:
    import asyncio
    import subprocess

LOOPBACK = "127.0.0.1"
START_S = 20.0
STOP_S = 2.0


class BrokerError(Exception):
    """The broker could not be started; the message says why in one line."""


class Address(NamedTuple):
    """Where an MQTT broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Broker(Protocol):
    """A broker that belongs to this process."""

    @property
    def name(self) -> str:
        """Of the software: mosquitto, amqtt."""
        ...

    @property
    def address(self) -> Address:
        """Where it listens; known before the start."""
        ...

    def start(self) -> None:
        """Return when it accepts connections; raises BrokerError."""
        ...

    def running(self) -> bool:
        """False once it has ended, for whatever reason."""
        ...

    def stop(self) -> None:
        """End it and wait for that; a second call does nothing."""
        ...


def mosquitto_path() -> str | None:
    """The installed mosquitto, also where sbin is not on the PATH of a plain user."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Kind(enum.StrEnum):
    """Which broker `up` starts."""

    AUTO = "auto"  # Mosquitto where it is installed, else amqtt
    MOSQUITTO = "mosquitto"
    AMQTT = "amqtt"


def choose(state_dir: Path, port: int = 0, kind: Kind = Kind.AUTO) -> "Broker":
    """A broker of that kind; `port` 0 takes a free one. Raises BrokerError for a port in use or a missing Mosquitto."""
    address = Address(LOOPBACK, claim_port(port))
    binary = None if kind is Kind.AMQTT else mosquitto_path()
    if kind is Kind.MOSQUITTO and binary is None:
        raise BrokerError("mosquitto is not installed; --broker amqtt needs nothing")
    return Mosquitto(binary, state_dir / "broker", address) if binary else Amqtt(address)


def claim_port(port: int) -> int:
    """`port` if it is free on loopback, a free one for 0; raises BrokerError when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a port number"
            raise BrokerError(f"the broker cannot listen on {LOOPBACK}:{port}: {reason}") from None
        return int(probe.getsockname()[1])


_MOSQUITTO_CONF = """\
listener {port} {host}
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 60
max_inflight_messages 500
max_queued_messages 20000
log_dest stderr
log_type error
log_type warning
{user}"""


class Mosquitto:
    """Mosquitto as a child process; its configuration, persistence and log live in `folder`."""

    name = "mosquitto"

    def __init__(self, binary: str, folder: Path, address: Address) -> None:
        self._binary = binary
        self._folder = folder.absolute()
        self._address = address
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._address

    def start(self) -> None:
        """Write its configuration, start it and wait for its port; raises BrokerError with its own last words."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "mosquitto.conf"
        # As root it would drop to user mosquitto, who may not be able to enter this folder, and then run on without
        # persistence. The change of user would also cancel the signal that ends it with us.
        user = "user root\n" if os.geteuid() == 0 else ""
        config.write_text(
            _MOSQUITTO_CONF.format(host=self._address.host, port=self._address.port, folder=self._folder, user=user)
        )
        log = self._folder / "mosquitto.log"
        self._process = child.spawn([self._binary, "-c", str(config)], log)
        if not _accepts(self._address, self.running):
            self.stop()
            reason = child.last_line(log) or "no reason given"
            raise BrokerError(f"mosquitto did not start on {self._address}: {reason}")

    def running(self) -> bool:
        """False once it has ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """SIGTERM, so that it saves its state, and wait."""
        if self._process is not None:
            child.stop(self._process)


class Amqtt:
    """amqtt in a thread of this process, with an event loop of its own; MQTT 3.1.1 only, nothing persists."""

    name = "amqtt"

    def __init__(self, address: Address) -> None:
        self._address = address
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up = threading.Event()
        self._end: asyncio.Event | None = None
        self._error = ""

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._address

    def start(self) -> None:
        """Run it in a thread and wait until it listens; raises BrokerError."""
        self._up.clear()
        self._error = ""
        self._thread = threading.Thread(target=self._run, name="amqtt", daemon=True)
        self._thread.start()
        if not self._up.wait(START_S) or self._error:
            raise BrokerError(f"amqtt did not start on {self._address}: {self._error or 'no answer in time'}")

    def running(self) -> bool:
        """False once its thread has ended."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Ask its event loop to end and join the thread."""
        if self._thread is None or self._loop is None or self._end is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(START_S)

    def _run(self) -> None:
        import asyncio  # noqa: PLC0415 - 10 MB that only this broker needs

        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._error = error.strerror or str(error)
        finally:
            self._up.set()

    async def _serve(self) -> None:
        """amqtt speaks the protocol; listening and hanging up are ours, as its own shutdown waits for its clients."""
        import asyncio  # noqa: PLC0415
        import contextlib  # noqa: PLC0415
        import logging  # noqa: PLC0415

        from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter  # noqa: PLC0415
        from amqtt.broker import Broker as Server  # noqa: PLC0415

        for noisy in ("amqtt", "transitions"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = Server(_AMQTT_CONFIG)
        await server.start()
        writers: set[asyncio.StreamWriter] = set()

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)
            try:
                await server.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), "default")
            finally:
                writers.discard(writer)
                writer.close()

        async with await asyncio.start_server(client, *self._address):
            self._up.set()
            await self._end.wait()
            for writer in writers:
                writer.transport.abort()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.shutdown(), STOP_S)


_AMQTT_CONFIG: dict[str, object] = {
    "listeners": {"default": {"type": "external"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


def _accepts(address: Address, running: "_Running") -> bool:
    deadline = time.monotonic() + START_S
    while running() and time.monotonic() < deadline:
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


class _Running(Protocol):
    def __call__(self) -> bool: ...
