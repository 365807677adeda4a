"""What drivers, firmware and kernels do differently: the rows of quirks.yaml, and which of them hold for a NIC."""

import functools
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec

from tuners.hostfacts import HostFacts
from wire.facts import Nic
from wire.policy import Change, Setting

PATH = Path(__file__).with_name("quirks.yaml")
Effect = Literal["refuse", "round", "cap", "settle_s", "note"]
_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_DOTTED = re.compile(r"\d+(?:\.\d+)+")
_LIMIT = re.compile(r"(>=|<=|<|>|==)(\d+(?:\.\d+)*)")


class Quirk(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One row; the head of quirks.yaml says what its fields mean."""

    knob: str
    effect: Effect
    note: str
    source: str
    drivers: list[str] = []
    unless: list[str] = []
    values: list[str] = []
    kernel: str = ""
    firmware: str = ""
    number: int = 0
    round: list[str] = []


@functools.cache
def rows() -> tuple[Quirk, ...]:
    """All rows in their order; read once."""
    import yaml  # noqa: PLC0415 - only a plan needs it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a fiftieth of the time, where libyaml is built in
    return tuple(msgspec.convert(yaml.load(PATH.read_text(encoding="utf-8"), Loader=loader), list[Quirk]))  # noqa: S506


@functools.cache
def _of(knob: str, effect: Effect) -> tuple[Quirk, ...]:
    return tuple(row for row in rows() if (row.knob, row.effect) == (knob, effect))


def holding(knob: str, effect: Effect, nic: Nic, facts: HostFacts) -> Iterator[Quirk]:
    """The rows of that knob and effect that hold for the NIC, as it is and on this kernel."""
    kernel = facts.dmi.kernel if facts.dmi else ""
    for row in _of(knob, effect):
        inside = _within(row.kernel, kernel) and _within(row.firmware, _dotted(nic.firmware))
        if inside and fits_driver(row, nic.driver):
            yield row


def fits_driver(row: Quirk, driver: str) -> bool:
    """Whether the row is about this driver."""
    named = not row.drivers or any(fnmatchcase(driver, pattern) for pattern in row.drivers)
    return named and not any(fnmatchcase(driver, pattern) for pattern in row.unless)


def refused(setting: Setting, facts: HostFacts) -> str:
    """Why this setting is not to be made on its NIC; "" when nothing speaks against it."""
    nic = facts.nics.get(setting.nic)
    if nic is None:
        return ""
    found = (row for row in holding(setting.knob, "refuse", nic, facts) if _asked(row, setting))
    return next((f"{nic.driver or 'no driver'}: {row.note}" for row in found), "")


def cap(knob: str, nic: Nic, facts: HostFacts, limit: int) -> int:
    """`limit`, or less where the hardware is known to reach less."""
    return min([limit, *(row.number for row in holding(knob, "cap", nic, facts))])


def settle_s(knob: str, nic: Nic, facts: HostFacts) -> int:
    """Seconds to wait after a change of that knob before what comes next."""
    return max([0, *(row.number for row in holding(knob, "settle_s", nic, facts))])


def settling_s(changes: Sequence[Change], facts: HostFacts) -> int:
    """The longest that any of these changes needs."""
    found = [settle_s(one.knob, facts.nics[one.nic], facts) for one in changes if one.nic in facts.nics]
    return max(found, default=0)


@functools.cache
def roundings(knob: str, driver: str) -> tuple[str, ...]:
    """How the driver rounds that knob's numbers: "up 8", "power down"; of a driver in no row, what any might do."""
    rows = _of(knob, "round")
    named = [row for row in rows if row.drivers and fits_driver(row, driver)]
    return tuple(way for row in named or [row for row in rows if not row.drivers] for way in row.round)


def column(knob: str) -> list[str]:
    """What the rows of a knob say, for the README's table."""
    found = [row for row in rows() if row.knob == knob]
    return [f"{', '.join(row.drivers)}: {row.note}" if row.drivers else row.note for row in found]


def _asked(row: Quirk, setting: Setting) -> bool:
    return not row.values or any(name in setting.values for name in row.values)


def _within(limits: str, version: str) -> bool:
    """Whether a version is inside ">=5.8 <5.8.1"; one that is not known is outside of every range."""
    if not limits:
        return True
    found = _NUMBER.match(version)
    return found is not None and all(
        _compare(sign, _parts(found[0]), _parts(bound)) for sign, bound in _LIMIT.findall(limits)
    )


def _compare(sign: str, version: list[int], bound: list[int]) -> bool:
    order = (version > bound) - (version < bound)
    return {">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0, "==": order == 0}[sign]


def _parts(text: str) -> list[int]:
    """5.8 is 5.8.0."""
    parts = [int(part) for part in text.split(".")]
    while parts and not parts[-1]:
        parts.pop()
    return parts


def _dotted(firmware: str) -> str:
    """The version in ethtool's text: "22.31.1014 (MT_0000000080)", "4.40 0x8001c967 1.3534.0"."""
    found = _DOTTED.search(firmware)
    return found[0] if found else ""
