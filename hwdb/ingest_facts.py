"""Facts into components, with a history of what changed, appeared and disappeared."""

from collections.abc import Iterator
from typing import Any

import msgspec

from hwdb import models
from hwdb.ingest_batch import Batch
from hwdb.ingest_messages import MAX_KEY, MAX_TEXT, Run, Unknown, clean
from hwdb.ingest_rows import ComponentRow
from wire.codec import DecodeError, Rejected, decode, too_deep
from wire.facts import FACT, Fact


class _Name(msgspec.Struct):
    kind: str
    key: str


NAME = msgspec.json.Decoder(_Name)


def take_all(batch: Batch) -> None:
    """Take the facts of this batch, in the order in which they were told."""
    batch.load_components(sorted({host_id for host_id, _, _ in batch.facts} | batch.counted))
    for host_id, run, at_ms in batch.facts:
        _take(batch, host_id, run, at_ms)


def _take(batch: Batch, host_id: str, run: Run, at_ms: int) -> None:
    """Make these facts the whole truth of their collector on this host."""
    known = batch.components[host_id]
    seen: set[tuple[str, str]] = set()
    whole = True
    for raw in run.facts or ():
        text = bytes(raw)
        try:
            fact = _fact(text)
        except DecodeError as error:
            batch.put_aside(host_id, Unknown(run.collector, _rejected(text, error)), at_ms)
            name = _name(text)
            whole = whole and name is not None
            seen |= {name} if name else set()
            continue
        name = (_kind(fact), fact.key)
        seen.add(name)
        _present(batch, host_id, run, name, text.decode())
    gone = [row for name, row in known.items() if row.collector == run.collector and name not in seen]
    for row in gone if whole else ():
        _removed(batch, row, run.at_ms)


def _fact(text: bytes) -> Fact:
    fact = decode(FACT, text)
    if not 1 <= len(fact.key) <= MAX_KEY or "\0" in fact.key:
        raise DecodeError("key is not a name of 1 to 200 characters")
    try:
        text.decode()
    except UnicodeDecodeError:
        raise DecodeError("not UTF-8") from None
    return fact


def _kind(fact: Fact) -> str:
    return str(fact.__struct_config__.tag)


def _rejected(text: bytes, error: DecodeError) -> Rejected:
    return Rejected(b"null" if too_deep(text) else text[:MAX_TEXT], str(error))


def _name(text: bytes) -> tuple[str, str] | None:
    """What the item is about, even where the rest of it is not understood."""
    try:
        name = NAME.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return name.kind, name.key


def _present(batch: Batch, host_id: str, run: Run, name: tuple[str, str], text: str) -> None:
    known = batch.components[host_id]
    row = known.get(name)
    if row is None:
        row = known[name] = ComponentRow(host_id, *name, run.collector, "{}", first_ms=run.at_ms)
        _history(batch, row, run.at_ms, "appeared")
    elif row.removed_ms is not None:
        _history(batch, row, run.at_ms, "appeared")
        record(batch, row, run.at_ms, msgspec.json.decode(row.data), msgspec.json.decode(text))
    elif row.data == text:
        return
    else:
        record(batch, row, run.at_ms, msgspec.json.decode(row.data), msgspec.json.decode(text))
    row.collector, row.data, row.changed_ms, row.removed_ms = run.collector, text, run.at_ms, None
    _changed(batch, row)


def _removed(batch: Batch, row: ComponentRow, at_ms: int) -> None:
    if row.removed_ms is None:
        row.removed_ms = at_ms
        _history(batch, row, at_ms, "removed")
        _changed(batch, row)


def _changed(batch: Batch, row: ComponentRow) -> None:
    batch.changed_facts[row.host_id, row.kind, row.key] = row
    batch.stale.add(row.host_id)


def record(batch: Batch, row: ComponentRow, at_ms: int, before: Any, after: Any) -> None:
    """One row of history for every field that differs."""
    encode = msgspec.json.encode
    for path, old, new in differences(before, after):
        _history(batch, row, at_ms, "changed", (clean(path), encode(old).decode(), encode(new).decode()))


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, before, after) of the leaves that differ; a list is a leaf, None stands for a field that is not there."""
    if isinstance(before, dict) and isinstance(after, dict):
        names: list[str] = sorted({*before, *after})  # pyright: ignore[reportUnknownArgumentType]
        for name in names:
            yield from differences(before.get(name), after.get(name), f"{path}.{name}" if path else name)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    elif before != after:
        yield path, before, after


def _history(
    batch: Batch,
    row: ComponentRow,
    at_ms: int,
    change: str,
    field: tuple[str, str | None, str | None] = ("", None, None),
) -> None:
    path, before, after = field
    names = {"host_id": row.host_id, "kind": row.kind, "key": row.key, "at_ms": at_ms}
    batch.insert(models.history, {**names, "change": change, "path": path, "before": before, "after": after})
