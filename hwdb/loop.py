"""The inventory's broker loop: messages in batches into SQL, then acks, answers to births, and what hosts are to be.

One thread reads, stores and answers, so back pressure needs no queue: while the database is away nothing is read, the
batch in hand is tried again, nobody gets an ack, and hosts keep their rows and send them again. A long outage ends in
the broker dropping the connection; the next one starts with the retained births.
"""

import logging
import threading
import time
from collections.abc import Iterable

import msgspec
from sqlalchemy import Engine

from hwdb import assign, store_command
from hwdb.broker import Address
from hwdb.db import rows, writing
from hwdb.ingest import BatchResult, Incoming, Ingest
from hwdb.mqtt import Connection
from wire.codec import encode
from wire.policy import Desired
from wire.report import Ack, Command
from wire.topics import FROM_HOST, Channel, subscription, topic

log = logging.getLogger("rackhand.loop")

BATCH = 1000  # messages
LINGER_S = 0.005  # after the first message of a batch
IDLE_S = 0.25  # longest wait for one, and so the delay of a stop
REVIEW_S = 1.0  # how often a change of policies is looked for
COMMAND_MS = 60_000  # a command that could not be sent for so long is not sent any more
REBIRTH_S = 10.0  # a host is asked for its birth at most that often
RETRY_S = (0.2, 10.0)


class Counters(msgspec.Struct):
    """What the loop did since it started; read by /metrics and /health from other threads."""

    batches: int = 0
    messages: int = 0
    rows: int = 0
    acks: int = 0
    births: int = 0
    rebirths: int = 0
    commands: int = 0
    dead: int = 0
    conflicts: int = 0
    published: int = 0
    failures: int = 0  # turns that raised
    connects: int = 0
    connected: bool = False
    error: str = ""  # why the last turn failed; "" after one that did not


class Loop:
    """Runs until `stop` is set; the only thread that uses its connection to the broker."""

    def __init__(self, engine: Engine, address: Address, client_id: str = "") -> None:
        self._engine = engine
        self._ingest = Ingest(engine)
        self._connection = Connection(address, [subscription(channel) for channel in FROM_HOST], client_id)
        self._held: list[Incoming] = []
        self._published: dict[str, int] = {}  # host_id -> generation
        self._dirty: set[str] = set()  # born, or with new facts: to be compiled for
        self._owed: set[str] = set()  # born: to be answered, whatever was published before
        self._revision: object = None
        self._next_review = 0.0
        self._asked: dict[str, float] = {}
        self._wait_s = RETRY_S[0]
        self.counters = Counters()

    def run(self, stop: threading.Event) -> None:
        """Take turns until `stop`; what a turn raises is logged, and the turn is tried again with growing pauses."""
        while not stop.is_set():
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - the loop outlives whatever a message or the database does
                self._failed(error)
                stop.wait(self._wait_s)
                self._wait_s = min(self._wait_s * 2, RETRY_S[1])
            else:
                self._wait_s, self.counters.error = RETRY_S[0], self._connection.error
        self._connection.close()

    def _failed(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
        if reason != self.counters.error:
            log.warning("%s; %d messages are held and tried again", reason, len(self._held))
        self.counters.failures += 1
        self.counters.error = reason

    def _turn(self) -> None:
        if not self._held:
            self._held = self._connection.receive(BATCH, IDLE_S, LINGER_S)
        self.counters.connected, self.counters.connects = self._connection.connected, self._connection.connects
        if self._held:
            result = self._store(self._held)
            self._held = []
            self._answer(result)
        self._settle()
        self._review()

    def _store(self, batch: list[Incoming]) -> BatchResult:
        result = self._ingest.batch(batch)
        count = self.counters
        count.batches += 1
        count.messages += len(batch)
        count.rows += result.rows
        count.dead += result.dead
        count.conflicts += len(result.conflicts)
        return result

    def _answer(self, result: BatchResult) -> None:
        for site, ack in result.acks:
            self.counters.acks += self._ack(site, ack)
        self._rebirth(result.rebirth)
        born = [birth.host_id for _, birth in result.births]
        self.counters.births += len(born)
        self._owed.update(born)
        self._dirty.update(born, result.changed)

    def _ack(self, site: str, ack: Ack) -> bool:
        return self._connection.publish(topic(site, ack.host_id, Channel.ACK), encode(ack))

    def _rebirth(self, hosts: Iterable[tuple[str, str]]) -> None:
        now = time.monotonic()
        for site, host_id in hosts:
            if now - self._asked.get(host_id, -REBIRTH_S) < REBIRTH_S:
                continue
            self._asked[host_id] = now
            name = f"rebirth-{time.time_ns():x}"
            self._connection.publish(topic(site, host_id, Channel.CMD, name), encode(Command(verb="rebirth")))
            self.counters.rebirths += 1

    def _review(self) -> None:
        """Policies are changed through SQL by anybody: a new revision there means to compile for all hosts."""
        if time.monotonic() < self._next_review:
            return
        with self._engine.connect() as conn:
            revision = assign.revision(conn)
            waiting = store_command.due(conn, time.time_ns() // 1_000_000 - COMMAND_MS)
            accepted = rows(conn, "SELECT site, host_id FROM host WHERE birth_ms = 0")
        self._rebirth((site, host_id) for site, host_id in accepted)  # people took another machine for this host
        if waiting:
            self._command(waiting)
        if revision != self._revision:
            self._compile(None)
            self._revision = revision
        self._asked = {host: at for host, at in self._asked.items() if time.monotonic() - at < REBIRTH_S}
        self._next_review = time.monotonic() + REVIEW_S

    def _command(self, waiting: Iterable[store_command.CommandEntry]) -> None:
        """Publish what people ask hosts for; a host that gets one twice does it once, as its id is the same."""
        with writing(self._engine) as conn:
            for one in waiting:
                where = topic(one.site, one.host_id, Channel.CMD, one.id)
                if self._connection.publish(where, encode(Command(verb=one.verb, args=one.args))):
                    store_command.put_sent(conn, one.id, time.time_ns() // 1_000_000)
                    self.counters.commands += 1

    def _settle(self) -> None:
        """Compile for hosts that were born or changed; what cannot be published yet stays owed."""
        if self._connection.connected and (self._dirty or self._owed):
            self._compile(self._dirty | self._owed)
            self._dirty.clear()

    def _compile(self, host_ids: set[str] | None) -> None:
        """The documents of these hosts (None: all); those not yet published, and those owed in any case, go out."""
        with writing(self._engine) as conn:
            documents = assign.assign(conn, host_ids)
        for site, desired, _ in documents:
            if desired.host_id in self._owed or self._published.get(desired.host_id) != desired.generation:
                self._publish(site, desired)
        self._owed &= {one.desired.host_id for one in documents}  # for the others there is no document

    def _publish(self, site: str, desired: Desired) -> None:
        where = topic(site, desired.host_id, Channel.DESIRED)
        if self._connection.publish(where, encode(desired), retain=True):
            self._published[desired.host_id] = desired.generation
            self._owed.discard(desired.host_id)
            self.counters.published += 1
