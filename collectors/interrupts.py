"""/proc/interrupts as the kernel prints it on every architecture."""

import re
from typing import NamedTuple

_CPU = re.compile(r"CPU(\d+)")
# What stands between the counts and the action: a chip, then `2-edge`, `102236161-edge`, `81921 Edge`, `27 Level`,
# `-event`, a bare number, or (s390, chips that carry their trigger: `PCI-MSI-edge`) nothing.
_TAIL = re.compile(
    r"(?P<chip>\S+)(?:\s+(?P<hwirq>\d+(?:\s*-\w+|\s+(?:Edge|Level|None)\b)?(?=\s|$)|-\w+(?=\s|$)))?\s*(?P<actions>.*)"
)


class Vector(NamedTuple):
    """One numbered interrupt; `total` counts it over all CPUs since boot."""

    irq: int
    chip: str
    hwirq: str
    action: str  # several handlers of a shared line as the kernel joins them: "uhci_hcd:usb4, eth1"
    total: int

    @property
    def actions(self) -> list[str]:
        """The handlers' names."""
        return self.action.split(", ") if self.action else []


class Interrupts(NamedTuple):
    """The table's CPU columns, which are the online ones, and its numbered rows."""

    cpus: list[int]
    vectors: list[Vector]


def parse_interrupts(text: str) -> Interrupts:
    """The whole table; raises ValueError with the line's number for what is not one (no header, counts missing)."""
    lines = text.splitlines()
    head = lines[0].split() if lines else []
    columns = [_CPU.fullmatch(word) for word in head]
    if not columns or not all(columns):
        raise ValueError("interrupts: line 1 is no header of CPU columns")
    cpus = [int(column[1]) for column in columns if column]
    vectors: list[Vector] = []
    for number, line in enumerate(lines[1:], 2):
        label, colon, rest = line.partition(":")
        if colon and label.strip().isdecimal():
            vectors.append(_vector(int(label), rest, len(cpus), number))
    return Interrupts(cpus, vectors)


def parse_named(text: str) -> dict[str, dict[int, int]]:
    """Rows with a name (`MCE`, `TRM`, ...): name -> CPU -> count; those without all columns are left out."""
    lines = text.splitlines()
    columns = [_CPU.fullmatch(word) for word in lines[0].split()] if lines else []
    cpus = [int(column[1]) for column in columns if column]
    rows: dict[str, dict[int, int]] = {}
    for line in lines[1:] if len(cpus) == len(columns) else []:
        label, colon, rest = line.partition(":")
        counts = rest.split(None, len(cpus))[: len(cpus)]
        named = colon and not label.strip().isdecimal() and len(counts) == len(cpus)
        if named and all(count.isascii() and count.isdecimal() for count in counts):
            rows[label.strip()] = dict(zip(cpus, map(int, counts), strict=True))
    return rows


def _vector(irq: int, rest: str, width: int, number: int) -> Vector:
    words = rest.split(None, width)
    counts = words[:width]
    if len(counts) < width or not all(count.isdecimal() for count in counts):
        raise ValueError(f"interrupts: line {number} has no counts for {width} CPUs")
    tail = _TAIL.match(words[width].rstrip()) if len(words) > width else None
    total = sum(map(int, counts))
    return (
        Vector(irq, tail["chip"], tail["hwirq"] or "", tail["actions"], total)
        if tail
        else Vector(irq, "", "", "", total)
    )
