"""The verbs `events` and `findings`."""

import sys
import time
from collections.abc import Sequence

from hwdb import store, store_events
from hwdb.cli.output import Format, cell, columns, csv_cell, emit, write
from hwdb.db import reading
from hwdb.store_events import EventEntry, FindingEntry

FOLLOW_S = 0.5


def moment(at_ms: int) -> str:
    """Local time to the second, as ISO 8601 has it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


EVENTS = columns(
    EventEntry,
    [
        ("time", lambda event: moment(event.at_ms)),
        ("host", lambda event: event.hostname),
        ("severity", lambda event: event.severity),
        ("kind", lambda event: event.kind),
        ("text", lambda event: event.text),
    ],
    [
        ("key", lambda event: event.key),
        ("host id", lambda event: event.host_id),
        ("id", lambda event: event.id),
    ],
)
FINDINGS = columns(
    FindingEntry,
    [
        ("host", lambda finding: finding.hostname),
        ("severity", lambda finding: finding.severity),
        ("target", lambda finding: finding.target),
        ("what", lambda finding: finding.text),
        ("remedy", lambda finding: finding.remedy),
    ],
    [
        ("rule", lambda finding: finding.rule),
        ("since", lambda finding: moment(finding.opened_ms)),
        ("host id", lambda finding: finding.host_id),
    ],
)


def events(url: str, host: str, limit: int, *, follow: bool, form: Format) -> None:
    """The newest events; with `follow`, those that come, until Ctrl-C."""
    with reading(url) as conn:
        host_id = store.resolve(conn, host) if host else ""
        found = store_events.events(conn, host_id, limit=limit)
    if not follow:
        emit(found, EVENTS, form, empty="no event yet")
        return
    after = 0
    while True:
        _stream(found, form)
        after = max([after, *(event.id for event in found)])
        time.sleep(FOLLOW_S)
        with reading(url) as conn:
            found = store_events.events(conn, host_id, after=after, limit=1000)


def _stream(found: Sequence[EventEntry], form: Format) -> None:
    """One line (YAML: one document) per event, written at once."""
    for event in found:
        if form is Format.JSON:
            import msgspec  # noqa: PLC0415

            write([msgspec.json.encode(event).decode(), "\n"])
        elif form is Format.YAML:
            write(["---\n"])
            emit([event], EVENTS, form)
        else:
            _line(event, form)
    sys.stdout.flush()


def _line(event: EventEntry, form: Format) -> None:
    shown = [column for column in EVENTS if form is not Format.TABLE or not column.wide]
    if form is Format.CSV:
        import csv  # noqa: PLC0415

        csv.writer(sys.stdout, lineterminator="\n").writerow([csv_cell(column.value(event)) for column in shown])
    else:
        write(["  ".join(cell(column.value(event)) for column in shown), "\n"])


def findings(url: str, host: str, form: Format) -> None:
    """Open findings, worst first."""
    with reading(url) as conn:
        found = store_events.findings(conn, store.resolve(conn, host) if host else "")
    emit(found, FINDINGS, form, empty="no finding is open")
