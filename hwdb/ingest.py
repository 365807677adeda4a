"""MQTT messages into SQL: one transaction per batch, idempotent on (host, epoch, seq), and no message stops it.

An ack promises that the rows survive power loss: SQLite commits with `synchronous=FULL`, PostgreSQL with its default
`synchronous_commit=on`. A message that cannot be taken is kept in `dead_letter`; when its envelope can be read and its
start is admitted its row is acked all the same, as it would come back for ever.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, ProgrammingError

from hwdb import ingest_births, ingest_findings, ingest_reports, ingest_samples, models
from hwdb.db import writing
from hwdb.ingest_batch import Batch, BatchResult, Conflict
from hwdb.ingest_messages import MAX_DEAD, Dead, Incoming, Message, Report, clean, parse
from hwdb.ingest_pipe import writing_all
from wire.policy import Reported
from wire.report import Ack, Birth, Result, State

__all__ = ["BatchResult", "Conflict", "Incoming", "Ingest"]

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
            return self._batch([parse(one) for one in incoming])

    def _batch(self, parsed: list[Message | Dead]) -> BatchResult:
        try:
            with writing(self._engine) as conn:
                result = self._take(conn, parsed)
        except REFUSED:
            with writing(self._engine) as conn:
                result = self._take_one_by_one(conn, parsed)
        else:
            self._series.keep()
        return result

    def _take(self, conn: Connection, parsed: list[Message | Dead]) -> BatchResult:
        self._series.forget()
        batch = _open(conn, parsed)
        for message in sorted(parsed, key=_order):
            _dispatch(batch, message)
        with writing_all(conn, batch.statements()):
            ready = ingest_samples.prepare(conn, self._series, batch.samples)
        batch.flush()
        batch.result.rows += ingest_samples.write(conn, self._series, batch.samples, ready)
        ingest_findings.derive(batch, max((one.incoming.at_ms for one in parsed), default=0))
        return _finish(batch)

    def _take_one_by_one(self, conn: Connection, parsed: list[Message | Dead]) -> BatchResult:
        total = BatchResult()
        for message in sorted(parsed, key=_order):
            try:
                with conn.begin_nested():
                    part = self._take(conn, [message])
            except REFUSED as error:
                part = self._take(conn, [_refused(message, error)])
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


def _order(message: Message | Dead) -> bool:
    """Births and states first: what they admit may stand in the same batch before them."""
    return not (isinstance(message, Message) and isinstance(message.body, Birth | State))


def _open(conn: Connection, parsed: list[Message | Dead]) -> Batch:
    """Read and lock what the batch is about."""
    messages = [one for one in parsed if isinstance(one, Message)]
    if conn.dialect.name == "postgresql" and any(isinstance(one.body, Birth) for one in messages):
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({BIRTHS_LOCK})")
    hosts = sorted({one.topic.host_id for one in parsed if one.topic})
    reports = [one.body for one in messages if isinstance(one.body, Report)]
    with_facts = sorted({told.host_id for told in reports if any(run.facts is not None for run in told.runs)})
    return Batch(conn, hosts, sorted({start for one in parsed if (start := _start(one))}), with_facts)


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


def _refused(message: Message | Dead, error: Exception) -> Dead:
    told = message.body if isinstance(message, Message) and isinstance(message.body, Report) else None
    return Dead(message.incoming, f"the database refused it: {str(error)[:400]}", message.topic, told)


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
