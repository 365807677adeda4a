"""Reports into facts, samples and events: once per (host, epoch, seq), and only of starts that are admitted."""

import msgspec

from hwdb import models
from hwdb.ingest_batch import Batch
from hwdb.ingest_messages import BoundedEvent, Envelope, Report, Run, clean
from hwdb.ingest_rows import CollectorRow
from hwdb.ingest_stream import Stream, accept
from wire.policy import Reported
from wire.report import Result

TOUCH_MS = 10_000
ERRORS = frozenset({"edac", "mce", "pcie"})  # collectors whose counters move only when something is wrong
MAX_MOVED = 60 * 14 - 1  # characters: sixty times of thirteen digits; an agent makes five such runs in a row


def report(batch: Batch, site: str, told: Report, at_ms: int) -> bool:
    """Take one report; False when it was in already or its start is not admitted."""
    if not take_row(batch, site, told, at_ms):
        return False
    for run in told.runs:
        _run(batch, told, run, at_ms)
    for event in told.events:
        _event(batch, told.host_id, event)
    return True


def take_row(batch: Batch, site: str, told: Envelope, at_ms: int) -> bool:
    """Whether this row of a spool is new and of an admitted start; it is acked with the batch if that start is."""
    if not _admitted(batch, site, told.host_id, told.start):
        return False
    key = (told.host_id, told.epoch)
    stream = batch.streams.get(key) or Stream(*key, acked=told.floor - 1)
    fresh = accept(stream, told.seq, told.floor)
    batch.streams.put(key, stream)
    batch.acks[told.host_id, told.epoch, told.start] = site
    _touch(batch, told.host_id, at_ms)
    return fresh


def _admitted(batch: Batch, site: str, host_id: str, start: str) -> bool:
    known = batch.starts.get((host_id, start))
    if known is None or not known.admission:
        batch.rebirth[host_id] = site
    return known is not None and known.admission == "admitted"


def _touch(batch: Batch, host_id: str, at_ms: int) -> None:
    host = batch.hosts.get(host_id)
    if host and at_ms - host.last_ms >= TOUCH_MS:
        host.last_ms = at_ms
        batch.hosts.put(host_id, host)


def _run(batch: Batch, told: Report, run: Run, at_ms: int) -> None:
    """A late row adds its samples, but changes nothing that a newer one said."""
    key = (told.host_id, run.collector)
    row = batch.collectors.get(key) or CollectorRow(*key)
    if _newer(batch, told, row.epoch, row.seq):
        row.epoch, row.seq, row.at_ms, row.status = told.epoch, told.seq, run.at_ms, run.status
        row.reason, row.duration_ms = clean(run.reason) if run.reason else "", run.duration_ms
    if run.samples:
        if run.collector in ERRORS:
            batch.counted.add(told.host_id)
        batch.put_samples((told.host_id, run.at_ms, run.samples, run.collector))
        if _newer(batch, told, row.samples_epoch, row.samples_seq):
            _newest(row, told, run)
    if run.facts is not None and _newer(batch, told, row.facts_epoch, row.facts_seq):
        row.facts_epoch, row.facts_seq, row.digest = told.epoch, told.seq, run.digest
        batch.facts.append((told.host_id, run, at_ms))
    batch.collectors.put(key, row)


def _newest(row: CollectorRow, told: Report, run: Run) -> None:
    """Where the newest value of each series is: in the last whole run, or in one of the partial runs since."""
    row.samples_epoch, row.samples_seq = told.epoch, told.seq
    if run.partial:
        row.moved_ms = f"{row.moved_ms} {run.at_ms}".strip()[-MAX_MOVED:]
    else:
        row.samples_ms, row.moved_ms = run.at_ms, ""


def _newer(batch: Batch, told: Report, epoch: str, seq: int) -> bool:
    """In one spool its sequence decides, whatever the clocks say; of two spools the one of the newest birth."""
    if epoch == told.epoch:
        return told.seq >= seq
    host = batch.hosts.get(told.host_id)
    return not epoch or (host is not None and host.epoch == told.epoch)


def _event(batch: Batch, host_id: str, event: BoundedEvent) -> None:
    row = {
        "host_id": host_id,
        "at_ms": event.at_ms,
        "kind": clean(event.kind),
        "key": clean(event.key),
        "severity": event.severity.value,
        "text": clean(event.text),
        "data": msgspec.json.encode(event.data).decode(),
    }
    batch.insert(models.event, row)


def reported(batch: Batch, site: str, told: Reported, at_ms: int) -> None:
    """Keep what came of a desired document; the newest generation wins, then the newest time."""
    if not _admitted(batch, site, told.host_id, told.start):
        return
    host = batch.hosts.get(told.host_id)
    last = batch.reported(told.host_id)
    if host is None or (told.generation, told.at_ms) < last:
        return
    batch.put_reported(told)
    host.reported_generation, host.reported_status = told.generation, told.status.value
    host.generation = max(host.generation, told.generation)
    host.last_ms = max(host.last_ms, at_ms)
    batch.hosts.put(host.host_id, host)


def result(batch: Batch, host_id: str, name: str, told: Result, at_ms: int) -> None:
    """Keep what came of a command."""
    batch.put_result((name, host_id, told.ok, clean(told.text), at_ms))
