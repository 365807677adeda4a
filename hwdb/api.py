"""The inventory over HTTP, on loopback: hosts, findings, health, and its own counters for Prometheus."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import uvicorn
from litestar import Litestar, MediaType, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from hwdb import store, store_events
from hwdb.broker import LOOPBACK, Address
from hwdb.db import reading, rows
from hwdb.facts import HostPage, page

if TYPE_CHECKING:
    from hwdb.loop import Counters

START_S = 20.0

# name, type, help, what of the counters
METRICS: tuple[tuple[str, str, str, str], ...] = (
    ("rackhand_ingest_messages_total", "counter", "MQTT messages taken.", "messages"),
    ("rackhand_ingest_batches_total", "counter", "Transactions they were taken in.", "batches"),
    ("rackhand_ingest_rows_total", "counter", "Samples, events and changed facts written.", "rows"),
    ("rackhand_ingest_dead_letters_total", "counter", "Messages that could not be taken.", "dead"),
    ("rackhand_ingest_failures_total", "counter", "Turns of the loop that failed and were tried again.", "failures"),
    ("rackhand_acks_total", "counter", "Acks sent to hosts.", "acks"),
    ("rackhand_births_total", "counter", "Births answered.", "births"),
    ("rackhand_rebirths_total", "counter", "Births asked for.", "rebirths"),
    ("rackhand_commands_total", "counter", "Commands of people that were sent.", "commands"),
    ("rackhand_desired_published_total", "counter", "Desired documents published.", "published"),
    ("rackhand_broker_connects_total", "counter", "Connections made to the broker.", "connects"),
    ("rackhand_broker_connected", "gauge", "Whether the broker is connected.", "connected"),
)
# name, help, SQL of one number
GAUGES: tuple[tuple[str, str, str], ...] = (
    ("rackhand_hosts", "Hosts known.", "SELECT count(*) FROM host"),
    ("rackhand_hosts_online", "Hosts whose agent is connected.", "SELECT count(*) FROM host WHERE online"),
    ("rackhand_findings_open", "Findings open.", "SELECT count(*) FROM finding WHERE closed_ms IS NULL"),
    ("rackhand_conflicts", "Conflicts that wait for people.", "SELECT count(*) FROM conflict WHERE state = 'queued'"),
    ("rackhand_dead_letters", "Dead letters kept.", "SELECT count(*) FROM dead_letter"),
)


def application(url: str, counters: "Callable[[], Counters]") -> Litestar:
    """The routes, over the database at `url` and the loop's counters."""

    @get("/api/v1/hosts", sync_to_thread=True)
    def hosts() -> list[store.HostEntry]:
        with reading(url) as conn:
            return store.hosts(conn)

    @get("/api/v1/hosts/{host_id:str}", sync_to_thread=True)
    def host(host_id: FromPath[str]) -> HostPage:
        with reading(url) as conn:
            try:
                return page(conn, store.resolve(conn, host_id))
            except store.StoreError as error:
                raise NotFoundException(str(error)) from None

    @get("/api/v1/findings", sync_to_thread=True)
    def findings() -> list[store_events.FindingEntry]:
        with reading(url) as conn:
            return store_events.findings(conn)

    @get("/health", sync_to_thread=False)
    def health() -> Response[dict[str, Any]]:
        now = counters()
        well = now.connected and not now.error
        return Response({"ok": well, "error": now.error}, status_code=200 if well else 503)

    @get("/metrics", media_type=MediaType.TEXT, sync_to_thread=True)
    def metrics() -> Response[str]:
        return Response(exposition(url, counters()), headers={"content-type": "text/plain; version=0.0.4"})

    return Litestar([hosts, host, findings, health, metrics], openapi_config=None)


def exposition(url: str, counters: "Counters") -> str:
    """Prometheus text format, version 0.0.4."""
    lines: list[str] = []
    for name, kind, text, field in METRICS:
        lines += _metric(name, kind, text, float(getattr(counters, field)))
    with reading(url) as conn:
        for name, text, sql in GAUGES:
            lines += _metric(name, "gauge", text, float(rows(conn, sql)[0][0]))
    return "\n".join([*lines, ""])


def _metric(name: str, kind: str, text: str, value: float) -> Sequence[str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value:.17g}"


class Api:
    """uvicorn in a thread, on a loopback port that is taken before the start."""

    def __init__(self, url: str, port: int, counters: "Callable[[], Counters]") -> None:
        config = uvicorn.Config(application(url, counters), log_level="critical", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._port = port
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="api", daemon=True)

    @property
    def address(self) -> Address:
        """Where it listens, after the start."""
        return Address(LOOPBACK, int(self._socket.getsockname()[1]))

    def start(self) -> None:
        """Return when it answers; raises OSError with one clear line for a port in use."""
        try:
            self._socket.bind((LOOPBACK, self._port))
        except OSError as error:
            raise OSError(f"the API cannot listen on {LOOPBACK}:{self._port}: {error.strerror}") from None
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        """End it and wait for that."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(START_S)
        self._socket.close()
