"""Machine check records as text: of the kernel's log, of mcelog and mce-inject, of Xen; and what a status word means.

Intel SDM 3B, chapter 16: IA32_MCi_STATUS; the codes of its compound errors are architectural.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

MOST_RECORDS = 1024

_HEX = r"(?:0x)?([0-9a-fA-F]{1,16})"
_KERNEL = re.compile(rf"CPU (\d+): Machine Check(?: Exception)?: \w+ Bank (\d+): {_HEX}")
_XEN = re.compile(rf"\(XEN\) Bank (\d+): {_HEX}(?: at\s+{_HEX})?")
_XEN_CPU = re.compile(r"\(XEN\) MCE: .*\bCPU (\d+)")
_INJECT = re.compile(r"\s*CPU (\d+)(?: BANK)?(?: (\d+))?(?:\s.*)?")
_FIELD = re.compile(rf"\b(STATUS|ADDR|MISC)\s+{_HEX}\b")

_SIMPLE = {
    0: "no error",
    1: "unclassified",
    2: "microcode ROM parity",
    3: "external error",
    4: "functional redundancy check",
    5: "internal parity",
    6: "SMM handler code access violation",
    0x400: "internal timer",
    0xE0B: "I/O error",
}
_OPERATIONS = ("generic", "read", "write", "address or command", "scrubbing", "reserved", "reserved", "reserved")
_REQUESTS = (
    *("generic", "read", "write", "data read", "data write", "instruction fetch", "prefetch", "eviction", "snoop"),
)
_KINDS = ("instruction", "data", "generic", "unknown")
_LEVELS = ("level 0", "level 1", "level 2", "any level")


class Status(NamedTuple):
    """What a bank's status register says."""

    valid: bool
    overflow: bool  # another error came before this one was read
    uncorrected: bool
    context_corrupt: bool  # the processor cannot go on safely
    corrected: int  # errors counted, where the bank counts
    error: str  # what failed, in words


class Record(NamedTuple):
    """One bank's registers on one CPU; None where the text does not have them."""

    cpu: int
    bank: int | None
    status: int
    address: int | None
    misc: int | None


def parse_status(status: int) -> Status:
    """The bits and the error code of IA32_MCi_STATUS."""
    return Status(
        valid=bool(status >> 63 & 1),
        overflow=bool(status >> 62 & 1),
        uncorrected=bool(status >> 61 & 1),
        context_corrupt=bool(status >> 57 & 1),
        corrected=status >> 38 & 0x7FFF,
        error=parse_code(status & 0xFFFF),
    )


def parse_code(code: int) -> str:
    """Words for an error code; the bare number for one that is not architectural."""
    plain = code & ~0x1000  # form bit: corrected errors are filtered
    level = _LEVELS[plain & 3]
    if plain in _SIMPLE:
        return _SIMPLE[plain]
    if plain & 0xFF80 == 0x0080:
        channel = plain & 0xF
        return f"memory {_OPERATIONS[plain >> 4 & 7]}" + (f" on channel {channel}" if channel != 0xF else "")
    if plain & 0xFFF0 == 0x0010:
        return f"{_KINDS[plain >> 2 & 3]} TLB, {level}"
    if plain & 0xFF00 == 0x0100:
        return f"{_KINDS[plain >> 2 & 3]} cache {_request(plain)}, {level}"
    if plain & 0xF800 == 0x0800:
        return f"bus or interconnect {_request(plain)}, {level}"
    return "internal, unclassified" if plain & 0xFC00 == 0x0400 else f"unknown code 0x{code:04x}"


def _request(code: int) -> str:
    at = code >> 4 & 0xF
    return _REQUESTS[at] if at < len(_REQUESTS) else "unknown request"


def parse_records(text: str) -> list[Record]:
    """The records of a text in any of these forms, at most `MOST_RECORDS`; a record without a status is none."""
    found: list[Record] = []
    for block in _blocks(text):
        if len(found) == MOST_RECORDS:
            break
        status = block.get("STATUS")
        if status is not None:
            found.append(Record(block["cpu"] or 0, block.get("bank"), status, block.get("ADDR"), block.get("MISC")))
    return found


def _blocks(text: str) -> Iterator[dict[str, int | None]]:
    """Lines from one that names a CPU up to the next, as the numbers they hold."""
    block: dict[str, int | None] = {}
    for line in text.splitlines():
        if begins := _begin(line, block.get("cpu")):
            if block:
                yield block
            block = begins
        elif block:
            block |= {field: int(value, 16) for field, value in _FIELD.findall(line)}
    if block:
        yield block


def _begin(line: str, cpu: int | None) -> dict[str, int | None]:
    """What a line says that begins a record; empty for any other."""
    if match := _KERNEL.search(line):
        return {"cpu": int(match[1]), "bank": int(match[2]), "STATUS": int(match[3], 16)}
    if match := _XEN_CPU.search(line):
        return {"cpu": int(match[1])}
    if match := _XEN.search(line):
        return {
            "cpu": cpu,
            "bank": int(match[1]),
            "STATUS": int(match[2], 16),
            "ADDR": int(match[3], 16) if match[3] else None,
        }
    if match := _INJECT.fullmatch(line):
        return {"cpu": int(match[1]), "bank": int(match[2]) if match[2] else None}
    return {}
