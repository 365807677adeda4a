"""What a simulated fleet is told, with its limits, and what it tells."""

from pathlib import Path

import msgspec

from hardware_lab import replay
from wire.topics import is_id


class Options(msgspec.Struct, kw_only=True):
    """What the fleet is told; `mistakes` knows the limits."""

    host: str
    port: int
    captures: list[Path]
    hosts: int = 100  # 1 to 20,000
    first: int = 1  # number of the first host: fleets beside each other must not overlap
    minutes: float = 5.0  # to 1,440
    reports: int = 0  # rows per host after which it is done, to 100,000; 0 for as long as `minutes` says
    per_s: float = 1000.0  # connects and messages of the whole fleet, 1 to 20,000
    speed: float = 1.0  # the collectors' intervals are divided by it, 0.1 to 100
    site: str = "default"


class Summary(msgspec.Struct):
    """What the fleet did so far."""

    hosts: int = 0
    connected: int = 0  # now
    births: int = 0
    messages: int = 0
    bytes: int = 0  # payloads and topics
    rows: int = 0
    acked: int = 0  # rows
    acks: int = 0  # messages
    resent: int = 0
    dropped: int = 0  # rows that were never acknowledged and went for newer ones
    unacked: int = 0  # rows held
    lost: int = 0  # connections
    bad: int = 0  # messages that could not be read
    seconds: float = 0.0

    @property
    def line(self) -> str:
        """For people."""
        rate = self.messages / self.seconds if self.seconds else 0.0
        return (
            f"{self.seconds:.0f} s: {self.connected} of {self.hosts} hosts connected, {self.births} births, "
            f"{self.messages} messages ({self.bytes / 1e6:.1f} MB, {rate:.0f}/s), "
            f"{self.acked} of {self.rows} rows acked by {self.acks} acks, {self.resent} sent again, "
            f"{self.dropped} dropped, {self.lost} connections lost"
        )


def mistakes(options: Options) -> list[str]:
    """What is out of its limits, in words."""
    limits: tuple[tuple[str, float, float], ...] = (
        ("hosts", 1, 20_000),
        ("first", 1, replay.MAX_NUMBER - 20_000),
        ("minutes", 0.01, 1440),
        ("reports", 0, 100_000),
        ("per_s", 1, 20_000),
        ("speed", 0.1, 100),
        ("port", 1, 65535),
    )
    wrong = [
        f"{name} must be {low:g} to {high:g}, not {getattr(options, name):g}"
        for name, low, high in limits
        if not low <= getattr(options, name) <= high
    ]
    if not options.captures:
        wrong.append("captures: at least one file")
    if not is_id(options.site):
        wrong.append(f"site: {options.site!r} is not a topic id")
    return wrong
