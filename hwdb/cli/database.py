"""The verbs `db upgrade` and `db check`."""

import msgspec

from hwdb import migrate
from hwdb.cli.failure import Exit, Failure
from hwdb.cli.output import Format, columns, emit
from hwdb.place import shown


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
