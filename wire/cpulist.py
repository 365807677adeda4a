"""Kernel CPU lists and masks, in Python ints, never by string tricks."""

from collections.abc import Iterable

MAX_CPU = 8192


def parse_cpulist(text: str) -> list[int]:
    """Sorted ids of "0-3,8,10-14:2"; a NUL end and "(null)" are empty. Raises ValueError for anything else."""
    text = text.strip(" \t\n\0")
    if not text or text == "(null)":
        return []
    ids: set[int] = set()
    for part in text.split(","):
        span, _, stride = part.strip().partition(":")
        first, _, last = span.partition("-")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high < MAX_CPU:
            raise ValueError(f"bad CPU list {text[:80]!r}")
        ids.update(range(low, high + 1, int(stride or 1)))
    return sorted(ids)


def format_cpulist(ids: Iterable[int]) -> str:
    """The kernel's own spelling: ranges joined, sorted, "" for none."""
    spans: list[list[int]] = []
    for cpu in sorted(set(ids)):
        if spans and cpu == spans[-1][1] + 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def parse_cpumask(text: str) -> list[int]:
    """Sorted ids of a hex mask such as "ff,00000001" (groups of 32 bits, high first)."""
    digits = text.strip(" \t\n\0").replace(",", "")
    mask = int(digits or "0", 16)
    return [cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1]


def format_cpumask(ids: Iterable[int]) -> str:
    """Hex groups of 32 bits joined by commas, as /sys takes them: [0, 32] -> "1,00000001"."""
    mask = 0
    for cpu in ids:
        mask |= 1 << cpu
    groups = [f"{mask & 0xFFFFFFFF:08x}"]
    while mask := mask >> 32:
        groups.insert(0, f"{mask & 0xFFFFFFFF:08x}")
    return ",".join(groups).lstrip("0,") or "0"
