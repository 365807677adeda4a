"""What has risen since a collector's last run on a machine: an error counter's edge is an event."""

from collections.abc import Mapping
from typing import TypeVar
from weakref import WeakKeyDictionary

from machine import Machine

_seen: "WeakKeyDictionary[Machine, dict[tuple[str, object], int]]" = WeakKeyDictionary()

K = TypeVar("K")


def rises(machine: Machine, subject: str, counts: Mapping[K, int]) -> dict[K, int]:
    """By how much each counter of `subject` has risen since it was last given; one that is new has not.

    A counter that fell was cleared and has counted what it shows since then.
    """
    seen = _seen.setdefault(machine, {})
    risen: dict[K, int] = {}
    for key, count in counts.items():
        before = seen.get((subject, key))
        seen[subject, key] = count
        if before is not None and count != before and count > 0:
            risen[key] = count - before if count > before else count
    return risen
