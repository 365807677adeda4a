"""An RSS indirection table as a short text: "0-3 over 128", "0*96,1*32 over 128"."""

from collections.abc import Sequence
from itertools import groupby

MAX_SIZE = 1 << 16
MAX_QUEUE = 1 << 14


def spread(queues: Sequence[int], size: int) -> list[int]:
    """Hash buckets to these queues in turn, as the kernel's own default does; none for no queue."""
    return [queues[at % len(queues)] for at in range(size)] if queues else []


def is_default(table: Sequence[int], queues: int) -> bool:
    """True for a table that nobody chose: all queues in turn as the kernel has it, or each in one piece as igb has."""
    size = len(table)
    return list(table) in (spread(range(queues), size), [at * queues // size for at in range(size)])


def weighted(weights: Sequence[int], size: int) -> list[int]:
    """Hash buckets to queues in proportion to their weights, each queue's in one piece, as `ethtool -X weight`."""
    total, queue, shared = sum(weights), -1, 0
    found: list[int] = []
    for at in range(size if total > 0 else 0):
        while at * total >= size * shared:
            queue += 1
            shared += weights[queue]
        found.append(queue)
    return found


def format_table(table: Sequence[int]) -> str:
    """Its shortest period, runs joined, and its size; "" for no table."""
    if not table:
        return ""
    period = next(n for n in range(1, len(table) + 1) if all(table[at] == table[at - n] for at in range(n, len(table))))
    return f"{_runs(table[:period])} over {len(table)}"


def parse_table(text: str) -> list[int]:
    """The queue of each hash bucket; raises ValueError for what is no table."""
    if not text:
        return []
    runs, _, size = text.partition(" over ")
    period: list[int] = []
    for run in runs.split(","):
        span, _, times = run.partition("*")
        first, _, last = span.partition("-")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high < MAX_QUEUE or not 0 < int(times or 1) <= MAX_SIZE:
            raise ValueError(f"bad indirection table {text[:80]!r}")
        period += list(range(low, high + 1)) if not times else [low] * int(times)
    if not 0 < len(period) <= int(size) <= MAX_SIZE:
        raise ValueError(f"bad indirection table {text[:80]!r}")
    return spread(period, int(size))


def _runs(period: Sequence[int]) -> str:
    """Equal neighbours as "queue*count", ascending ones as "first-last"."""
    parts: list[str] = []
    rising: list[int] = []
    for queue, group in groupby(period):
        count = len(list(group))
        if count > 1 or (rising and queue != rising[-1] + 1):
            parts += _rising(rising)
            rising = []
        if count > 1:
            parts.append(f"{queue}*{count}")
        else:
            rising.append(queue)
    return ",".join([*parts, *_rising(rising)])


def _rising(queues: Sequence[int]) -> list[str]:
    if not queues:
        return []
    return [str(queues[0])] if len(queues) == 1 else [f"{queues[0]}-{queues[-1]}"]
