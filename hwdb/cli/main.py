"""`rackhand`: the entry point. A failure is one line on stderr and an exit code of its own, never a traceback."""

import os
import sys
from collections.abc import Callable, Sequence

from hwdb.cli.failure import Exit, Failure
from hwdb.cli.output import Format, clean

_QUICK = {"-o": "output", "--output": "output", "--db": "db"}


def quick(arguments: Sequence[str]) -> bool:
    """Run a plain `hosts` without the parser, which takes longer to import than 10,000 hosts take to print.

    False, with nothing done, for all that is not exactly `hosts [-o FORMAT] [--db URL]`.
    """
    words = list(arguments[1:])
    given = {_QUICK.get(name, ""): value for name, value in zip(words[::2], words[1::2], strict=False)}
    plain = arguments[:1] == ["hosts"] and len(words) == 2 * len(given) and "" not in given
    if not plain or given.get("output", "table") not in list(Format):
        return False
    from hwdb.cli.hosts import hosts  # noqa: PLC0415
    from hwdb.place import default_url  # noqa: PLC0415

    url = given.get("db") or os.environ.get("RACKHAND_DB") or default_url()
    hosts(url, [], Format(given.get("output", "table")))
    return True


def _verb() -> None:
    if not quick(sys.argv[1:]):
        from hwdb.cli.verbs import app  # noqa: PLC0415 - typer and what it brings

        sys.exit(app(prog_name="rackhand", standalone_mode=False))


def main() -> None:
    """Run the verb that the command line names."""
    try:
        _verb()
    except Failure as failure:
        _end(str(failure), failure.code)
    except BrokenPipeError:  # `rackhand hosts | head`: nobody reads on
        sys.stderr.close()
        sys.exit(Exit.OK)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except ModuleNotFoundError as error:  # the wheel alone, as on a server
        _end(f"{error.name} is not installed here: pip install 'rackhand[inventory]'", Exit.FAILED)
    except Exception as error:
        code = _known(error)
        if code is None:
            raise
        _end(_line(error), code)


_KNOWN = {  # by name, so that the classes need not be imported
    "hwdb.db.DatabaseError": Exit.DATABASE,
    "hwdb.store.StoreError": Exit.NOT_FOUND,
    "hwdb.broker.BrokerError": Exit.BROKER,
    "sqlite3.DatabaseError": Exit.DATABASE,
    "psycopg.Error": Exit.DATABASE,
    "sqlalchemy.exc.SQLAlchemyError": Exit.DATABASE,
    "alembic.util.exc.CommandError": Exit.DATABASE,
    "typer.exceptions.TyperException": Exit.USAGE,
    "typer.exceptions.Abort": Exit.INTERRUPTED,
    "builtins.OSError": Exit.FAILED,
}


def _line(error: Exception) -> str:
    """Typer's errors know the option they are about; a verb that is missing is answered with the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error, file=sys.stderr)
        return "which verb?"
    told: Callable[[], str] = getattr(error, "format_message", lambda: str(error))
    return (told().splitlines() or [type(error).__name__])[0]


def _known(error: Exception) -> Exit | None:
    names = (f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__)
    return next((_KNOWN[name] for name in names if name in _KNOWN), None)


def _end(text: str, code: Exit) -> None:
    print(f"rackhand: {clean(text)}", file=sys.stderr)
    sys.exit(code)
