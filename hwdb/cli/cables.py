"""The verb `cables`."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hwdb import store
from hwdb.cables import CableEntry
from hwdb.cli.events import moment
from hwdb.cli.hosts import each_parsed
from hwdb.cli.output import Format, columns, emit
from hwdb.db import reading

if TYPE_CHECKING:
    from tuners.select import Condition

CABLES = columns(
    CableEntry,
    [
        ("host", lambda cable: cable.hostname),
        ("port", lambda cable: cable.port),
        ("other end", lambda cable: cable.peer),
        ("its port", lambda cable: cable.peer_port),
        ("verdict", lambda cable: cable.verdict),
        ("since", lambda cable: moment(cable.since_ms)),
        ("why", lambda cable: f"was {cable.before}" if cable.before else cable.reason),
    ],
    [
        ("seen by", lambda cable: cable.seen_by),
        ("remedy", lambda cable: cable.remedy),
        ("host id", lambda cable: cable.host_id),
        ("key", lambda cable: cable.port_key),
        ("other id", lambda cable: cable.peer_id),
        ("its key", lambda cable: cable.peer_port_key),
    ],
)
FIELDS = {"host": "hostname", **{name: name for name in CableEntry.__struct_fields__}}  # what a condition may name


def cables(url: str, host: str, where: Sequence[str], form: Format) -> None:
    """Every cable with a verdict, or those of a host, or for which every condition holds."""
    conditions = parsed(where)
    from hwdb.store_cables import all_cables  # noqa: PLC0415

    with reading(url) as conn:
        host_id = store.resolve(conn, host) if host else ""
        found = all_cables(conn, time.time_ns() // 1_000_000, host_id)
    emit(
        [cable for cable in found if fits(conditions, cable)],
        CABLES,
        form,
        empty="no cable fits the conditions" if where else "no LLDP neighbour has been reported yet",
    )


def parsed(where: Sequence[str]) -> "list[Condition]":
    """The conditions; raises Failure with the column of what is wrong."""
    if not where:
        return []
    from tuners.select import parse_field  # noqa: PLC0415

    return each_parsed(where, lambda text: parse_field(text, FIELDS))


def fits(conditions: "Sequence[Condition]", cable: CableEntry) -> bool:
    """True when every condition holds for the cable."""
    if not conditions:
        return True
    from tuners.select import holds  # noqa: PLC0415

    return all(holds(each, [getattr(cable, FIELDS[each.name])]) for each in conditions)
