"""Rows to people and programs: table, wide, json, yaml, csv.

Host-supplied text never reaches a terminal raw: control characters, escape sequences and direction overrides are taken
out of tables and CSV and escaped in JSON and YAML. CSV cells that a spreadsheet would run as a formula get a quote.
"""

import enum
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, cast

RICH_ROWS = 200  # above that, and where stdout is no terminal, rows are written plain

T = TypeVar("T")


class Format(enum.StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


class Column(NamedTuple, Generic[T]):
    """One column of a table: header, the value of an item, and whether only `wide` and `csv` show it."""

    header: str
    value: Callable[[T], object]
    wide: bool = False


Named = tuple[str, Callable[[T], object]]


def columns(of: type[T], narrow: Sequence[Named[T]], wide: Sequence[Named[T]] = ()) -> list[Column[T]]:  # noqa: ARG001
    """Columns over items of one type: those of every table, then those that only wide tables and CSV show."""
    return [Column(*each) for each in narrow] + [Column(*each, wide=True) for each in wide]


_UNPRINTABLE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    "|(?:\x1b\\]|\x9d)[^\x07\x1b]*(?:\x07|\x1b\\\\)?"  # OSC: titles, links, clipboard
    "|\x1b.?"
    "|[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]",
    re.DOTALL,
)
_FORMULA = tuple("=+-@|%")
_UNPRINTABLE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def clean(text: str) -> str:
    """The text without anything that a terminal would obey; line breaks and tabs become spaces."""
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub("", text.replace("\n", " ").replace("\t", " "))


def cell(value: object) -> str:
    """One value as people read it: "-" for none, yes/no, lists joined by commas."""
    if isinstance(value, str):
        return clean(value) or "-"
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(cell(item) for item in cast("list[object]", value)) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def csv_cell(value: object) -> object:
    """Numbers as they are; text that begins like a formula is prefixed with a quote."""
    if value is None:
        return ""
    if type(value) in (int, float):
        return value
    text = "" if value in ("", []) else cell(value)
    return f"'{text}" if text.lstrip()[:1] in _FORMULA else text


def emit(items: Sequence[T], columns: Sequence[Column[T]], form: Format, *, empty: str = "nothing to show") -> None:
    """Write all items in the asked form; an empty table says `empty` on stderr."""
    if form is Format.JSON or form is Format.YAML:
        document(items, form)
        return
    if form is Format.CSV:
        _csv(items, columns)
        return
    if not items:
        print(empty, file=sys.stderr)
        return
    shown = [column for column in columns if form is Format.WIDE or not column.wide]
    table([column.header for column in shown], [_cells(column, items) for column in shown])


def _cells(column: Column[T], items: Sequence[T]) -> list[str]:
    """The column of every item; most cells are plain text, and those take no call."""
    values = map(column.value, items)
    return [value if type(value) is str and value and value.isprintable() else cell(value) for value in values]


def document(value: Any, form: Format) -> None:
    """Write one value, whole, as JSON or YAML."""
    import msgspec  # noqa: PLC0415 - not paid for by tables

    if form is Format.JSON:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        write([_escaped(text), "\n"])
        return
    write(_yaml(msgspec.to_builtins(value), "") or ["[]\n" if value == [] else "{}\n"])


_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./()-]*(?: [A-Za-z0-9_./()-]+)*")
_RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def _yaml(value: Any, indent: str) -> list[str]:
    """Lines of block style YAML; text that is not plain stands quoted as in JSON, which YAML reads the same."""
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value).items()
        return [line for name, inner in pairs for line in _entry(f"{indent}{_scalar(name)}:", inner, indent)]
    lines: list[str] = []
    for inner in value:
        made = _yaml(inner, f"{indent}  ") if isinstance(inner, dict | list) and inner else []
        lines += [f"{indent}- {made[0][len(indent) + 2 :]}", *made[1:]] if made else [f"{indent}- {_scalar(inner)}\n"]
    return lines


def _entry(name: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, dict | list) and value:
        return [f"{name}\n", *_yaml(value, f"{indent}  ")]
    return [f"{name} {_scalar(value)}\n"]


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _RESERVED
        return value if plain else _json_text(value)
    return _json_text(value)


def _json_text(value: Any) -> str:
    import msgspec  # noqa: PLC0415

    return _escaped(msgspec.json.encode(value).decode())


def _escaped(json: str) -> str:
    """JSON with what a terminal would obey as escapes; such characters stand inside strings only."""
    return _UNPRINTABLE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", json)


def table(headers: Sequence[str], columns: Sequence[Sequence[str]]) -> None:
    """Columns of clean cells: with rich for a screenful on a terminal, plain otherwise."""
    if len(columns[0]) <= RICH_ROWS and sys.stdout.isatty():
        _rich(headers, columns)
    else:
        _plain(headers, columns)


def write(parts: Iterable[str]) -> None:
    """To stdout in one go."""
    sys.stdout.write("".join(parts))


def _csv(items: Sequence[T], columns: Sequence[Column[T]]) -> None:
    import csv  # noqa: PLC0415

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([column.header for column in columns])
    cells = [[csv_cell(value) for value in map(column.value, items)] for column in columns]
    writer.writerows(zip(*cells, strict=True))


def _plain(headers: Sequence[str], columns: Sequence[Sequence[str]]) -> None:
    padded = [_padded([header.upper(), *column]) for header, column in zip(headers, columns, strict=True)]
    last = [headers[-1].upper(), *columns[-1]]
    write(["\n".join(map("".join, zip(*padded[:-1], last, strict=True))), "\n"])


def _padded(column: Sequence[str]) -> list[str]:
    if all(text.isascii() for text in column):
        width = max(map(len, column)) + 2
        return [text.ljust(width) for text in column]
    from rich.cells import cell_len  # noqa: PLC0415 - only where a character may be two cells wide

    width = max(map(cell_len, column)) + 2
    return [text + " " * (width - cell_len(text)) for text in column]


_STYLES = {
    "online": "green",
    "applied": "green",
    "ok": "green",
    "offline": "red",
    "failed": "red",
    "critical": "red",
    "drifted": "yellow",
    "warning": "yellow",
    "reverted": "yellow",
    "pending": "cyan",
}


def _rich(headers: Sequence[str], columns: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for header in headers:
        drawn.add_column(header, overflow="fold")
    for row in zip(*columns, strict=True):
        drawn.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in row))
    Console(highlight=False).print(drawn)
