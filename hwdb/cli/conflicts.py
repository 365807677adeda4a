"""The verbs `conflicts list`, `accept` and `reject`."""

import time

from hwdb import store_conflicts
from hwdb.cli.ask import confirm
from hwdb.cli.events import moment
from hwdb.cli.output import Format, columns, emit
from hwdb.db import open_engine, reading, writing
from hwdb.store_conflicts import ConflictEntry

CONFLICTS = columns(
    ConflictEntry,
    [
        ("no", lambda conflict: conflict.id),
        ("host", lambda conflict: conflict.birth.hostname),
        ("since", lambda conflict: moment(conflict.at_ms)),
        ("why", lambda conflict: conflict.reason),
    ],
    [
        ("state", lambda conflict: conflict.state),
        ("host id", lambda conflict: conflict.host_id),
        ("other id", lambda conflict: conflict.other_id),
        ("site", lambda conflict: conflict.site),
    ],
)


def listing(url: str, form: Format) -> None:
    """Those that wait."""
    with reading(url) as conn:
        found = store_conflicts.conflicts(conn)
    emit(found, CONFLICTS, form, empty="no conflict waits")


def resolve(url: str, number: int, form: Format, *, accept: bool, yes: bool) -> None:
    """Take the machine for the host, or keep it out."""
    with reading(url) as conn:
        waiting = {conflict.id: conflict for conflict in store_conflicts.conflicts(conn)}
    if number not in waiting:
        raise store_conflicts.UnknownConflictError(f"no conflict {number} waits")
    conflict = waiting[number]
    question = (
        f"Take this machine for host {conflict.host_id} ({conflict.reason})? The other one's reports are refused then."
        if accept
        else f"Keep this machine out as a clone of host {conflict.host_id}? Nothing it reports is taken then."
    )
    confirm(question, yes=yes)
    decide = store_conflicts.accept if accept else store_conflicts.reject
    engine = open_engine(url)
    with writing(engine) as conn:
        done = decide(conn, number, time.time_ns() // 1_000_000)
        after = [one for one in store_conflicts.conflicts(conn, "") if one.id == done.id]
    engine.dispose()
    emit(after, [*CONFLICTS[:4], CONFLICTS[4]._replace(wide=False), *CONFLICTS[5:]], form)
