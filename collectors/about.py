"""What a collector says about itself: its row in the README, what it costs, and what it must be allowed to read."""

import enum
from collections.abc import Mapping
from typing import NamedTuple


class Cost(enum.StrEnum):
    """What a run costs the machine; it says how often a collector may run by itself."""

    CHEAP = "cheap"  # a few milliseconds
    SLOW = "slow"  # hundreds of files, or hardware that answers slowly
    PERTURBING = "perturbing"  # disturbs the hardware or shares a narrow bus with others: rare


LEAST_S = {Cost.CHEAP: 1.0, Cost.SLOW: 10.0, Cost.PERTURBING: 300.0}  # no collector's own interval is below


class About(NamedTuple):
    """One row of the table of collectors."""

    what: str  # what it sees
    source: str  # which kernel interfaces and files
    cost: Cost = Cost.CHEAP
    privileges: str = "none"  # for people: "root for serial numbers"
    needs: tuple[str, ...] = ()  # paths that must be readable where they exist, glob patterns allowed: `doctor` looks
    metrics: Mapping[str, float] = {}  # name -> dead-band: a sample that moved no further is not sent; 0: any change


MOST_METRICS = 8  # of one collector in its row


def row(name: str, every_s: float, about: About) -> str:
    """A collector's line of the README's table."""
    metrics = [f"`{metric}`" for metric in about.metrics]
    more = f" and {len(metrics) - MOST_METRICS} more" if len(metrics) > MOST_METRICS else ""
    shown = ", ".join(metrics[:MOST_METRICS]) + more
    cells = (f"`{name}`", about.what, about.source, about.cost, about.privileges, f"{every_s:g} s", shown or "none")
    return f"| {' | '.join(cells)} |"
