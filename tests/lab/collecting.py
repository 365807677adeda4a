"""Collectors run inside a guest by the agent's Python: once, or over and over while something is changed."""

import json
from typing import Any, NamedTuple

from tests.lab.conftest import Bench, wait_for

_ONCE = """
import json, msgspec
from collectors.registry import by_name
from collectors.run import run
from machine.live import Live
machine = Live()
for name in {names!r}:
    result = run(by_name(name), machine, 1)
    parts = [result.facts, result.samples, result.events]
    print(json.dumps([result.status, result.reason, *json.loads(msgspec.json.encode(parts))]))
"""
_WATCH = """
import json, msgspec, time
from collectors.registry import by_name
from collectors.run import run
from machine.live import Live
machine, until = Live(), time.monotonic() + 150
while time.monotonic() < until:
    result = run(by_name({name!r}), machine, 1)
    print(json.dumps([result.status, json.loads(msgspec.json.encode(result.events))]), flush=True)
    time.sleep(0.5)
"""
_LOG = "/tmp/watched"


class Seen(NamedTuple):
    """What one run of a collector said."""

    status: str
    reason: str
    facts: list[dict[str, Any]]
    samples: dict[tuple[str, str], float]

    def one(self, kind: str) -> dict[str, Any]:
        """The only fact of that kind."""
        (found,) = [fact for fact in self.facts if fact["kind"] == kind]
        return found


def seen(bench: Bench, *names: str) -> list[Seen]:
    """One run of each collector in the guest, in one process."""
    lines = [json.loads(line) for line in bench.python(_ONCE.format(names=names)).splitlines()]
    return [
        Seen(status, reason, facts, {(metric, key): value for metric, key, value in samples})
        for status, reason, facts, samples, _ in lines
    ]


class Watch:
    """A collector that runs in the guest until its time is over, and the events it has had so far."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        bench.guest.write("/tmp/watch.py", _WATCH.format(name=name))
        bench.guest.run(f"setsid /opt/rackhand/bin/python /tmp/watch.py >{_LOG} 2>&1 </dev/null &")
        wait_for(lambda: bench.guest.run(f"cat {_LOG}").count("\n") >= 2, "two runs of the collector")

    def events(self) -> list[dict[str, Any]]:
        """Every event up to now."""
        whole = self.bench.guest.run(f"cat {_LOG}").rpartition("\n")[0]
        return [event for line in whole.splitlines() for event in json.loads(line)[1]]

    def wait(self, kind: str) -> dict[str, Any]:
        """The first event of that kind, once it is there."""
        found: dict[str, Any] = wait_for(
            lambda: next((event for event in self.events() if event["kind"] == kind), None),
            f"{kind} among {self.events()}",
        )
        return found
