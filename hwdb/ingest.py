"""MQTT messages into SQL: one transaction per batch, idempotent on (host, epoch, seq), and no message stops it.

An ack promises that the rows survive power loss: SQLite commits with `synchronous=FULL`, PostgreSQL with its default
`synchronous_commit=on`. A message that cannot be taken is kept in `dead_letter`; when its envelope can be read and its
start is admitted its row is acked all the same, as it would come back for ever.
"""

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, ProgrammingError

from hwdb import ingest_births, ingest_facts, ingest_findings, ingest_reports, ingest_samples, models
from hwdb.db import writing
from hwdb.ingest_batch import Batch, BatchResult, Conflict
from hwdb.ingest_messages import MAX_DEAD, Dead, Incoming, Message, Report, address, clean, parse
from hwdb.ingest_pipe import write_all
from wire.policy import Reported
from wire.report import Ack, Birth, Result, State
from wire.topics import Channel

__all__ = ["BatchResult", "Conflict", "Incoming", "Ingest"]

Read = Callable[[Incoming], Message | Dead]
ADMITTING = (Channel.BIRTH, Channel.STATE)
BIRTHS_LOCK = 7_202_611_22  # pg_advisory_xact_lock key: one batch with births at a time
REFUSED = (DataError, IntegrityError, InterfaceError, ProgrammingError, OverflowError, UnicodeError)


class Ingest:
    """Takes batches; keeps series ids between them. One per thread; several processes may share a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._series = ingest_samples.Series()

    def batch(self, incoming: list[Incoming]) -> BatchResult:
        """Store these messages in one transaction; raises OperationalError when the database is away, locked or full.

        When the database refuses the rows of some message, each is done again under a savepoint of its own, and the
        refused ones become dead letters.
        """
        with _no_collection():
            return self._batch(sorted(incoming, key=_order))

    def _batch(self, incoming: list[Incoming]) -> BatchResult:
        try:
            with writing(self._engine) as conn:
                result = self._take(conn, incoming)
        except REFUSED:
            with writing(self._engine) as conn:
                result = self._take_one_by_one(conn, incoming)
        else:
            self._series.keep()
        return result

    def _take(self, conn: Connection, incoming: list[Incoming], read: Read = parse) -> BatchResult:
        """Births and states, then reports while their samples go, then what needs the database once more."""
        self._series.forget()
        batch = Batch(conn)
        _open(batch, incoming, read)
        with ingest_samples.sending(conn, self._series) as batch.send:
            waiting = _take_known(batch, incoming, read)
            statements = batch.statements()
        batch.send = ingest_samples.hold
        batch.load_starts(
            [(topic.host_id, start) for one in waiting if (topic := one.topic) and (start := _start(one))]
        )
        for message in waiting:
            _dispatch(batch, message)
        ingest_facts.take_all(batch)
        write_all(conn, statements + batch.statements())
        batch.flush()
        ingest_samples.write(conn, self._series, batch.samples)
        ingest_findings.derive(batch, max((one.at_ms for one in incoming), default=0))
        return _finish(batch)

    def _take_one_by_one(self, conn: Connection, incoming: list[Incoming]) -> BatchResult:
        total = BatchResult()
        for one in incoming:
            try:
                with conn.begin_nested():
                    part = self._take(conn, [one])
            except REFUSED as error:
                part = self._take(conn, [one], partial(_refused, error))
            _add(total, part)
        return total


@contextmanager
def _no_collection() -> Generator[None]:
    """A batch makes a hundred tuples for every report and no cycles; the garbage collector would scan them all."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _admits(incoming: Incoming) -> bool:
    topic = address(incoming)
    return topic is not None and topic.channel in ADMITTING


def _order(incoming: Incoming) -> bool:
    """Births and states first: what they admit may stand in the same batch before them."""
    return not _admits(incoming)


def _open(batch: Batch, incoming: list[Incoming], read: Read) -> None:
    """Read and lock what the batch is about, and take what says who is there."""
    first = [read(one) for one in incoming if _admits(one)]
    if batch.is_postgres and first:
        batch.conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({BIRTHS_LOCK})")
    hosts = {topic.host_id for one in incoming if (topic := address(one))}
    batch.load(sorted(hosts), sorted({start for one in first if (start := _start(one))}))
    for message in first:
        _dispatch(batch, message)


def _take_known(batch: Batch, incoming: list[Incoming], read: Read) -> list[Message | Dead]:
    """Take what needs nothing more from the database, which is busy with the samples; the others are returned."""
    waiting: list[Message | Dead] = []
    for one in incoming:
        if _admits(one):
            continue
        message = read(one)
        if _is_known(batch, message):
            _dispatch(batch, message)
        else:
            waiting.append(message)
    return waiting


def _is_known(batch: Batch, message: Message | Dead) -> bool:
    told = message.envelope if isinstance(message, Dead) else message.body
    if isinstance(told, Report):
        return batch.starts.get((told.host_id, told.start)) is not None
    return told is None or isinstance(told, Result)


def _start(one: Message | Dead) -> str:
    """The start that speaks in it, "" for none."""
    if isinstance(one, Dead):
        return one.envelope.start if one.envelope else ""
    return "" if isinstance(one.body, Result) else one.body.start


def _dispatch(batch: Batch, message: Message | Dead) -> None:
    if isinstance(message, Dead):
        _bury(batch, message)
        return
    site, host_id, name = message.topic.site, message.topic.host_id, message.topic.name
    at_ms = message.incoming.at_ms
    match message.body:
        case Birth() as born:
            ingest_births.birth(batch, site, born, at_ms)
        case State() as told:
            ingest_births.state(batch, told, at_ms)
        case Report() as told:
            if ingest_reports.report(batch, site, told, at_ms):
                for unknown in message.unknown:
                    batch.put_aside(host_id, unknown, at_ms)
        case Reported() as told:
            ingest_reports.reported(batch, site, told, at_ms)
        case Result() as told:
            ingest_reports.result(batch, host_id, name, told, at_ms)


def _bury(batch: Batch, dead: Dead) -> None:
    """Into the dead letters; its row of the spool is done with."""
    incoming = dead.incoming
    batch.result.dead += 1
    if dead.topic and dead.envelope:
        ingest_reports.take_row(batch, dead.topic.site, dead.envelope, incoming.at_ms)
    row = {
        "topic": clean(incoming.topic, 400),
        "payload": clean(incoming.payload[:MAX_DEAD].decode("utf-8", "backslashreplace")),
        "bytes": len(incoming.payload),
        "reason": clean(dead.reason),
        "at_ms": incoming.at_ms,
    }
    batch.insert(models.dead_letter, row)


def _refused(error: Exception, incoming: Incoming) -> Dead:
    message = parse(incoming)
    told = message.body if isinstance(message, Message) and isinstance(message.body, Report) else None
    return Dead(incoming, f"the database refused it: {str(error)[:400]}", message.topic, told)


def _finish(batch: Batch) -> BatchResult:
    result = batch.result
    result.acks = [
        (site, Ack(host_id=host_id, epoch=epoch, seq=stream.acked, start=start))
        for (host_id, epoch, start), site in batch.acks.items()
        if (stream := batch.streams.get((host_id, epoch)))
    ]
    result.changed = sorted(batch.stale)
    result.rebirth = [(site, host_id) for host_id, site in batch.rebirth.items()]
    return result


def _add(total: BatchResult, part: BatchResult) -> None:
    newest = {(site, ack.host_id, ack.epoch, ack.start): (site, ack) for site, ack in total.acks + part.acks}
    total.acks = list(newest.values())
    total.births += part.births
    total.rebirth = list(dict.fromkeys(total.rebirth + part.rebirth))
    total.changed = sorted({*total.changed, *part.changed})
    total.conflicts += part.conflicts
    total.dead += part.dead
    total.unknown += part.unknown
    total.rows += part.rows
