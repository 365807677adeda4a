"""/proc/mdstat: arrays of Linux md, their members and what runs on them."""

import re
from collections.abc import Iterator

from wire.facts import Array, ArrayMember

_ARRAY = re.compile(r"(\S+) : (active|inactive|broken)((?: \([a-z-]+\))*)(?: (?!\S+\[)([a-z][a-z0-9]*))?((?: \S+)*)$")
_MEMBER = re.compile(r"(\S+?)\[(\d+)\]((?:\([A-Z]\))*)$")
_SIZE = re.compile(r"(\d+) blocks\b")
_COUNT = re.compile(r"\[(\d+)/(\d+)\]")
_MAP = re.compile(r"\[([U_]+)\]")
_PROGRESS = re.compile(r"\b(resync|recovery|check|repair|reshape)\s*=\s*(?:(\d+(?:\.\d+)?)%|DELAYED|PENDING|REMOTE)")
_FLAGS = {"F": "faulty", "S": "spare", "W": "write_mostly", "R": "replacement", "J": "journal"}
_WITHOUT_REDUNDANCY = ("raid0", "linear")


def parse_mdstat(text: str) -> dict[str, tuple[Array, float | None]]:
    """Name -> array and how far what runs on it has come, percent; lines that are none of an array's are left out."""
    return {found[0].name: found for block in _blocks(text) if (found := parse_array(block))}


def parse_array(lines: list[str]) -> tuple[Array, float | None] | None:
    """One array of its lines; None where the first one names none. Of counts that contradict each other, the least."""
    head = _ARRAY.match(lines[0])
    if not head:
        return None
    name, state, remarks, level, members = head.groups()
    rest = "\n".join(lines[1:])
    size, count, progress = _SIZE.search(rest), _COUNT.search(rest), _PROGRESS.search(rest)
    array = Array(
        key=name,
        name=name,
        level=level or "",
        state=state,
        read_only="read-only" in remarks,
        size_kb=int(size[1]) if size else None,
        members=[member for word in members.split() if (member := parse_member(word))],
        action=progress[1] if progress else "",
    )
    if count:
        up = _MAP.search(rest, count.end())
        array.wanted = int(count[1])
        array.working = min(int(count[2]), array.wanted, up[1].count("U") if up else array.wanted)
    return judged(array), float(progress[2]) if progress and progress[2] else None


def parse_member(word: str) -> ArrayMember | None:
    """`sdb1[2](F)(S)`; None for what is no member."""
    found = _MEMBER.match(word)
    if not found:
        return None
    flags = [_FLAGS.get(letter, letter) for letter in found[3] if letter not in "()"]
    return ArrayMember(name=found[1], slot=int(found[2]), flags=flags)


def judged(array: Array) -> Array:
    """The array with its health: failed without redundancy or with no member left, degraded, inactive, ok."""
    faulty = [member.name for member in array.members if "faulty" in member.flags]
    missing = (array.wanted or 0) - (array.working if array.working is not None else array.wanted or 0)
    container = not array.level and all("spare" in member.flags for member in array.members)
    if array.state in ("inactive", "clear"):
        array.health, array.reason = ("ok", "") if container and array.members else ("inactive", "not started")
    elif array.state == "broken":
        array.health, array.reason = "failed", "broken"
    elif missing and (array.working == 0 or array.level in _WITHOUT_REDUNDANCY):
        array.health, array.reason = "failed", f"{array.working} of {array.wanted} members work"
    elif missing:
        array.health, array.reason = "degraded", f"{array.working} of {array.wanted} members work"
    else:
        array.health, array.reason = "ok", ""
    if faulty and array.health == "ok":
        array.health = "degraded"
    if faulty:
        array.reason = ", ".join(filter(None, (array.reason, f"faulty: {' '.join(faulty)}")))
    return array


def _blocks(text: str) -> Iterator[list[str]]:
    """The lines of each array: the first is not indented."""
    block: list[str] = []
    for line in text.splitlines():
        if line[:1].strip():
            if block:
                yield block
            block = [line.rstrip()]
        elif block and line.strip():
            block.append(line.strip())
    if block:
        yield block
