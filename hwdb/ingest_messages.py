"""MQTT messages as typed, bounded structs: what passes here cannot make the database refuse it.

A report is decoded in one typed pass; only when that fails is it taken apart item by item, so that one bad sample or
event costs itself and not the report. JSON has no NaN, and msgspec refuses numbers that would be infinite.
"""

from functools import lru_cache
from typing import Annotated, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from wire.codec import DecodeError, Rejected, decode, too_deep
from wire.policy import REPORTED, Reported
from wire.report import BIRTH, RESULT, STATE, Birth, Fingerprint, Result, Severity, State, Status
from wire.topics import BadTopicError, Channel, Topic, parse_topic

MAX_KEY = 200
MAX_TEXT = 4000
MAX_DOCUMENT = 64 * 1024
MAX_MS = 253_402_300_799_999  # the year 9999
MAX_SEQ = 2**53
MAX_DEAD = 4000

T = TypeVar("T")

Key = Annotated[str, Meta(max_length=MAX_KEY)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_KEY)]
Ms = Annotated[int, Meta(ge=0, le=MAX_MS)]
Seq = Annotated[int, Meta(ge=1, le=MAX_SEQ)]
Numbers = list[tuple[Name, Key, float]]  # wire.report.Sample each


class Incoming(NamedTuple):
    """One MQTT message as it came; `at_ms` is our clock."""

    topic: str
    payload: bytes
    at_ms: int


class Run(msgspec.Struct, kw_only=True):
    """`wire.report.Run` within bounds, its samples as plain tuples."""

    collector: Name
    status: Status = Status.OK
    at_ms: Ms
    duration_ms: float = 0.0
    reason: str = ""
    digest: Key = ""
    facts: list[msgspec.Raw] | None = None
    samples: Numbers = []
    partial: bool = False


class BoundedEvent(msgspec.Struct, kw_only=True):
    """`wire.report.Event` within bounds."""

    at_ms: Ms
    kind: Name
    key: Key = ""
    severity: Severity = Severity.INFO
    text: str
    data: dict[str, str | int | float | bool | None] = {}


class Envelope(msgspec.Struct, kw_only=True):
    """What names a report, whatever is in it."""

    host_id: str
    epoch: Name
    seq: Seq
    floor: Seq
    start: Name


class Report(Envelope, kw_only=True):
    """`wire.report.Report` within bounds."""

    runs: list[Run] = []
    events: list[BoundedEvent] = []


class LooseRun(msgspec.Struct, kw_only=True):
    """A run whose samples are looked at one by one."""

    collector: Name
    status: str = "ok"
    at_ms: Ms
    duration_ms: float = 0.0
    reason: str = ""
    digest: Key = ""
    facts: list[msgspec.Raw] | None = None
    samples: list[msgspec.Raw] = []
    partial: bool = False


class LooseReport(Envelope, kw_only=True):
    """A report whose runs and events are looked at one by one."""

    runs: list[msgspec.Raw] = []
    events: list[msgspec.Raw] = []


class Unknown(NamedTuple):
    """An item that was put aside, and where it was."""

    collector: str
    item: Rejected


Body = Birth | State | Report | Reported | Result


class Message(NamedTuple):
    """One good message, and the items of it that are not."""

    incoming: Incoming
    topic: Topic
    body: Body
    unknown: list[Unknown]


class Dead(NamedTuple):
    """One bad message, why, and its envelope where that can be told."""

    incoming: Incoming
    reason: str
    topic: Topic | None = None
    envelope: Envelope | None = None


ENVELOPE = msgspec.json.Decoder(Envelope)
TYPED = msgspec.json.Decoder(Report)
LOOSE = msgspec.json.Decoder(LooseReport)
LOOSE_RUN = msgspec.json.Decoder(LooseRun)
NUMBER = msgspec.json.Decoder(tuple[Name, Key, float])
BOUNDED_EVENT = msgspec.json.Decoder(BoundedEvent)


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Text that every database takes: no NUL, not over `limit` characters."""
    return text.replace("\0", "\ufffd")[:limit]


def parse(incoming: Incoming) -> Message | Dead:
    """The message in its channel's struct, or why it cannot be one; never raises."""
    topic: Topic | None = None
    try:
        topic = _topic(incoming.topic)
        unknown: list[Unknown] = []
        body = _body(topic, incoming.payload, unknown)
        _check(topic, body)
    except (BadTopicError, DecodeError) as error:
        envelope = _envelope(incoming.payload) if topic and topic.channel in (Channel.REPORT, Channel.EVENT) else None
        if envelope and topic and envelope.host_id != topic.host_id:
            envelope = None
        return Dead(incoming, str(error), topic, envelope)
    return Message(incoming, topic, body, unknown)


_topic = lru_cache(100_000)(parse_topic)


def address(incoming: Incoming) -> Topic | None:
    """The topic, None for one that is none of ours."""
    try:
        return _topic(incoming.topic)
    except BadTopicError:
        return None


def _body(topic: Topic, payload: bytes, unknown: list[Unknown]) -> Body:
    match topic.channel:
        case Channel.REPORT | Channel.EVENT:
            return _report(payload, unknown)
        case Channel.BIRTH:
            return decode(BIRTH, payload, MAX_DOCUMENT)
        case Channel.STATE:
            return decode(STATE, payload, MAX_DOCUMENT)
        case Channel.REPORTED:
            return decode(REPORTED, payload)
        case Channel.RESULT:
            return decode(RESULT, payload)
        case _:
            raise BadTopicError(f"channel {topic.channel} does not come from hosts")


def _report(payload: bytes, unknown: list[Unknown]) -> Report:
    try:
        return decode(TYPED, payload)
    except DecodeError:
        loose = decode(LOOSE, payload)
    runs = [_run(raw, unknown) for raw in loose.runs]
    events = [_item(BOUNDED_EVENT, raw, "", unknown) for raw in loose.events]
    return Report(
        host_id=loose.host_id,
        epoch=loose.epoch,
        seq=loose.seq,
        floor=loose.floor,
        start=loose.start,
        runs=[run for run in runs if run is not None],
        events=[event for event in events if event is not None],
    )


def _run(raw: msgspec.Raw, unknown: list[Unknown]) -> Run | None:
    loose = _item(LOOSE_RUN, raw, "", unknown)
    if loose is None:
        return None
    numbers = [_item(NUMBER, sample, loose.collector, unknown) for sample in loose.samples]
    return Run(
        collector=loose.collector,
        status=Status(loose.status) if loose.status in set(Status) else Status.FAILED,
        at_ms=loose.at_ms,
        duration_ms=loose.duration_ms,
        reason=loose.reason,
        digest=loose.digest,
        facts=loose.facts,
        samples=[number for number in numbers if number is not None],
        partial=loose.partial,
    )


def _item(decoder: "msgspec.json.Decoder[T]", raw: msgspec.Raw, collector: str, unknown: list[Unknown]) -> T | None:
    text = bytes(raw)
    try:
        return decode(decoder, text)
    except DecodeError as error:
        kept = b"null" if too_deep(text) else text[:MAX_TEXT]
        unknown.append(Unknown(collector, Rejected(kept, str(error))))
        return None


def _check(topic: Topic, body: Body) -> None:
    """Bounds that the structs of the wire do not have; raises DecodeError."""
    if isinstance(body, Result):
        return
    if body.host_id != topic.host_id:
        raise DecodeError(f"payload is of host {body.host_id[:80]!r}, topic of {topic.host_id!r}")
    if not 1 <= len(body.start) <= MAX_KEY or "\0" in body.start:
        raise DecodeError("start is not a name of 1 to 200 characters")
    if isinstance(body, Report):
        _check_report(body)
    elif isinstance(body, Birth):
        _check_birth(body)
    elif isinstance(body, Reported) and not (0 <= body.generation <= MAX_SEQ and 0 <= body.at_ms <= MAX_MS):
        raise DecodeError("generation or at_ms is out of range")


def _check_report(report: Report) -> None:
    if report.floor > report.seq:
        raise DecodeError(f"floor {report.floor} is above seq {report.seq}")
    if "\0" in "".join([report.epoch, *[run.collector for run in report.runs]]):
        raise DecodeError("NUL in a name")


def _check_birth(birth: Birth) -> None:
    if not 1 <= len(birth.epoch) <= MAX_KEY or "\0" in birth.epoch:
        raise DecodeError("epoch is not a name of 1 to 200 characters")
    if not (0 <= birth.at_ms <= MAX_MS and 0 <= birth.generation <= MAX_SEQ):
        raise DecodeError("at_ms or generation is out of range")
    names = (birth.hostname, birth.agent_version, birth.boot_id, *_names(birth.fingerprint))
    if any(len(name) > MAX_KEY or "\0" in name for name in names):
        raise DecodeError("a name is over 200 characters or has a NUL")


def _names(fingerprint: Fingerprint) -> list[str]:
    ids = [fingerprint.dmi_uuid, fingerprint.product_serial, fingerprint.board_serial, fingerprint.machine_id]
    return ids + fingerprint.macs


def _envelope(payload: bytes) -> Envelope | None:
    try:
        envelope = decode(ENVELOPE, payload)
    except DecodeError:
        return None
    return envelope if envelope.floor <= envelope.seq and "\0" not in envelope.epoch + envelope.start else None
