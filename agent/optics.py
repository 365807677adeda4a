"""A module's dump decoded where there is no module: what its bytes say, and what of that would be reported."""

import re
from pathlib import Path
from typing import Any

import msgspec

from agent.show import table
from collectors.transceiver import fact as facts
from collectors.transceiver import image as images
from collectors.transceiver import readings
from collectors.transceiver.cage import samples
from collectors.transceiver.decode import decode
from collectors.transceiver.image import Image, LayoutError
from collectors.transceiver.says import Module
from wire.facts import Optics
from wire.report import Sample

MOST = 4 * 1024 * 1024  # bytes of a dump or a layout; every page of every bank is an eighth of that
_HEX_LINE = re.compile(r"\s*(?:0x)?([0-9a-fA-F]{1,8}):?\s+((?:[0-9a-fA-F]{2}(?:\s+|$))+)")


class DumpError(Exception):
    """A dump that cannot be decoded at all: one line."""


class Dump(msgspec.Struct):
    """What a dump says, the fact it would be, and the samples."""

    decoded: Module
    fact: Optics
    samples: list[Sample]


def read(path: Path, layout: Path | None) -> Dump:
    """Decode a dump; without a layout the one beside it (NAME.json), else as the ioctl lays bytes out.

    Raises DumpError, with the file's name and what is wrong.
    """
    data = _bytes(path)
    beside = path.with_suffix(".json")
    described = layout or (beside if beside != path and beside.is_file() else None)
    try:
        return decoded(*(_arranged(data, described) if described else (images.flat(unhexed(data)), "")))
    except (LayoutError, DumpError) as error:
        raise DumpError(f"{path}: {error}") from None


def shown(path: Path, layout: Path | None, *, as_json: bool) -> str:
    """The dump as JSON or for people; raises DumpError."""
    dump = read(path, layout)
    return msgspec.json.encode(dump).decode() if as_json else text(dump)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST + 1)
    except OSError as error:
        raise DumpError(f"{path}: {error.strerror}") from None
    if len(data) > MOST:
        raise DumpError(f"{path}: over {MOST} bytes, no module has so many")
    return data


def _arranged(data: bytes, layout: Path) -> tuple[Image, str]:
    known = images.read_layout(_bytes(layout))
    return images.arrange(unhexed(data), known), known.family


def unhexed(data: bytes) -> bytes:
    """The bytes of a hex dump as `ethtool -m IF hex on` prints it; anything else as it is."""
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError:
        return data
    found = bytearray()
    for match in filter(None, map(_HEX_LINE.fullmatch, lines)):
        if int(match[1], 16) != len(found):
            return data
        found += bytes.fromhex(match[2])
    return bytes(found) or data


def decoded(image: Image, family: str = "") -> Dump:
    """The dump of an image; raises DumpError for one of which nothing can be decoded."""
    module = decode(image, family)
    if not module.family or (module.id is None and module.dom is None):
        raise DumpError(module.dropped[-1] if module.dropped else "nothing in it is decoded")
    trusted = readings.believed(module)
    fact = facts.optics(module, "", "", trusted)
    live = not readings.live(module)
    return Dump(module, fact, list(samples("", module, trusted)) if live else [])


def text(dump: Dump) -> str:
    """For people: the fact's fields that are set, the samples, the thresholds, what was dropped."""
    fact = dump.fact
    shown: dict[str, Any] = msgspec.to_builtins(fact)
    left_out = {"kind", "key", "ifname", "thresholds", "lanes", "applications", "dropped"}
    rows = [(name, _cell(value)) for name, value in shown.items() if name not in left_out and value not in ("", None)]
    parts = [table(("FIELD", "VALUE"), rows)]
    if dump.samples:
        measured = [(sample.metric, sample.key.lstrip("/") or "-", f"{sample.value:g}") for sample in dump.samples]
        parts.append(table(("MEASURED", "LANE", "VALUE"), measured))
    if fact.thresholds:
        levels = [(name, *map(_level, msgspec.structs.astuple(limits))) for name, limits in fact.thresholds.items()]
        parts.append(table(("THRESHOLD", "HIGH ALARM", "LOW ALARM", "HIGH WARNING", "LOW WARNING"), levels))
    flags = [("module", flag) for flag in fact.flags] + [(one.lane, flag) for one in fact.lanes for flag in one.flags]
    if flags:
        parts.append(table(("LANE", "FLAG"), flags))
    return "\n\n".join([*parts, *(f"not decoded: {reason}" for reason in fact.dropped)])


def _level(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        entries: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return ", ".join(f"{name} {_cell(held)}" for name, held in entries.items())
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return ", ".join(map(str, items))
    return {True: "right", False: "wrong"}[value] if isinstance(value, bool) else str(value)
