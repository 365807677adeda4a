"""The verbs `db upgrade`, `db check` and `db prune`."""

import time

import msgspec

from hwdb import migrate, retention
from hwdb.cli.ask import confirm
from hwdb.cli.failure import Exit, Failure
from hwdb.cli.output import Format, columns, emit
from hwdb.db import open_engine
from hwdb.place import shown
from hwdb.retention import Days


class Line(msgspec.Struct):
    """One line about the schema."""

    database: str
    text: str


LINES = columns(Line, [("database", lambda line: line.database), ("schema", lambda line: line.text)])


def upgrade(url: str, form: Format) -> None:
    """Bring it to this release's schema."""
    migrate.upgrade(url)
    emit([Line(shown(url), "up to date")], LINES, form)


def check(url: str, form: Format) -> None:
    """Say what differs; raises Failure when anything does."""
    problems = migrate.check(url)
    emit([Line(shown(url), text) for text in problems or ["up to date"]], LINES, form)
    if problems:
        raise Failure(Exit.DATABASE, "the schema is not this release's: `rackhand db upgrade` brings it there")


def prune(url: str, days: Days, form: Format, *, yes: bool) -> None:
    """Delete what is older; asks first, as nothing brings it back."""
    kept = [f"{what} of the last {age} days" for what, age in days._asdict().items() if age]
    if not kept:
        raise Failure(Exit.USAGE, "nothing to delete: both are kept for ever")
    confirm(f"this keeps {' and '.join(kept)} in {shown(url)} and deletes the older ones. Go on?", yes=yes)
    engine = open_engine(url)
    deleted = retention.prune(engine, days, time.time_ns() // 1_000_000)
    engine.dispose()
    emit([Line(shown(url), f"{count} of {table} deleted") for table, count in deleted.items()], LINES, form)
