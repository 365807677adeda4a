"""Births and states: who is there, and whether a start of the agent is admitted."""

import msgspec
from msgspec.structs import asdict

from hwdb import models
from hwdb.identity import FORGOTTEN_MS, SILENT_MS, Verdict, compare, difference, identifiers
from hwdb.ingest_batch import Batch, Conflict
from hwdb.ingest_facts import record
from hwdb.ingest_messages import clean
from hwdb.ingest_rows import ComponentRow, HostRow, StartRow
from wire.report import Birth, Fingerprint, State

FINGERPRINT = msgspec.json.Decoder(Fingerprint)


def birth(batch: Batch, site: str, born: Birth, at_ms: int) -> None:
    """Admit this start of the agent, or queue it as a conflict (once); a start that is known is only refreshed."""
    start = batch.start(born.host_id, born.start)
    if not start.admission:
        objection = _objection(batch, site, born, at_ms)
        start.admission = _enter(batch, born, objection, at_ms) if objection else "admitted"
        start.at_ms = at_ms
        batch.starts.put((start.host_id, start.start), start)
    if start.admission == "admitted":
        _welcome(batch, site, born, start, at_ms)
        batch.result.births.append((site, born))


def state(batch: Batch, told: State, at_ms: int) -> None:
    """Remember what this start says; it counts for the host when it is the newest start."""
    start = batch.start(told.host_id, told.start)
    start.online, start.at_ms = told.online, at_ms
    batch.starts.put((start.host_id, start.start), start)
    host = batch.hosts.get(told.host_id)
    if host and host.start == told.start:
        host.online = told.online
        host.last_ms = max(host.last_ms, at_ms)
        batch.hosts.put(host.host_id, host)


def _objection(batch: Batch, site: str, born: Birth, at_ms: int) -> Conflict | None:
    """Why this birth is not simply admitted; None when it is."""
    host = batch.hosts.get(born.host_id)
    if host is None:
        return _double(batch, site, born, at_ms)
    old = FINGERPRINT.decode(host.fingerprint)
    verdict, changed = compare(old, born.fingerprint)
    silent = not host.online and at_ms - host.last_ms > SILENT_MS
    if verdict is Verdict.OTHER or (verdict is Verdict.DOUBTFUL and not silent):
        reason = f"another machine with this host_id: {difference(old, born.fingerprint, changed)}"
        return Conflict(site, born.host_id, born.start, clean(reason))
    return None


def _double(batch: Batch, site: str, born: Birth, at_ms: int) -> Conflict | None:
    """A host_id that is new, on hardware that is not."""
    same = [
        other
        for other in batch.same_hardware(born)
        if compare(FINGERPRINT.decode(other.fingerprint), born.fingerprint).verdict is not Verdict.OTHER
    ]
    for other in same:
        if other.online or at_ms - other.last_ms <= FORGOTTEN_MS:
            reason = f"the hardware of host {other.host_id} under a new host_id"
            return Conflict(site, born.host_id, born.start, reason, other.host_id)
    for other in same:
        batch.note(born.host_id, at_ms, "host.enrolled_again", f"same hardware as silent host {other.host_id}")
    return None


def _enter(batch: Batch, born: Birth, conflict: Conflict, at_ms: int) -> str:
    """Queue the conflict and return "conflict"; "rejected" when people rejected this very machine before."""
    if batch.was_rejected(born):
        return "rejected"
    host = batch.hosts.get(born.host_id)
    row = {
        **conflict._asdict(),
        "old": host.fingerprint if host else "{}",
        "birth": msgspec.json.encode(born).decode(),
        "state": "queued",
        "at_ms": at_ms,
    }
    batch.insert(models.conflict, row)
    batch.result.conflicts.append(conflict)
    return "conflict"


def _welcome(batch: Batch, site: str, born: Birth, start: StartRow, at_ms: int) -> None:
    host = batch.hosts.get(born.host_id)
    if host is None:
        host = HostRow(born.host_id, first_ms=at_ms)
    elif born.at_ms < host.birth_ms and (born.start == host.start or start.at_ms < at_ms):
        return  # an older copy of this birth, or the birth of an earlier start once more
    old = FINGERPRINT.decode(host.fingerprint)
    if host.start and old != born.fingerprint:
        changed = compare(old, born.fingerprint).changed
        record(
            batch,
            ComponentRow(born.host_id, "fingerprint", "", "", ""),
            born.at_ms,
            asdict(old),
            asdict(born.fingerprint),
        )
        batch.note(born.host_id, at_ms, "host.changed", difference(old, born.fingerprint, changed))
    if host.start != born.start:
        host.online = start.online is None or bool(start.online)
    fill(host, site, born)
    host.last_ms = max(host.last_ms, at_ms)
    batch.hosts.put(host.host_id, host)
    batch.identify(born.host_id, identifiers(born.fingerprint))


def fill(host: HostRow, site: str, born: Birth) -> None:
    """Take over what the birth says."""
    encode = msgspec.json.encode
    host.site, host.hostname, host.start, host.epoch = site, born.hostname, born.start, born.epoch
    host.boot_id, host.agent_version, host.observe = born.boot_id, born.agent_version, born.observe
    host.birth_ms, host.generation = born.at_ms, born.generation
    host.labels = encode(born.labels, order="sorted").decode()
    host.collectors, host.tuners = encode(born.collectors).decode(), encode(born.tuners).decode()
    host.fingerprint = encode(born.fingerprint).decode()
