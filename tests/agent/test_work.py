"""What a transaction does about an irqbalance that moves interrupts until it is told to leave them alone."""

from pathlib import Path
from typing import Any, cast

import pytest

from agent import flows, guard, journal
from agent.work import Work
from machine import Writer
from tests.tuners.conftest import make_cpus, make_nic
from tuners.hostfacts import HostFacts
from wire.facts import Nic, Softnet
from wire.policy import Desired, Setting

FAR = "7"


class Host:
    """Two interrupts and an irqbalance that moves the first one in the moment before it takes the ban."""

    def __init__(self) -> None:
        self.cpus = {100: "1", 101: "0-7"}
        self.banned: list[int] = []

    def facts(self) -> HostFacts:
        nic = make_nic(cpus=[self.cpus[100], self.cpus[101]])
        return HostFacts([*make_cpus(), *nic, Softnet(irqbalance=True, banned_irqs=self.banned)])

    def read(self, path: str) -> str:
        return self.cpus[int(path.split("/")[3])]

    def write(self, path: str, text: str) -> None:
        self.cpus[int(path.split("/")[3])] = text

    def irqbalance(self, _request: str) -> str:
        return "SLEEP 10 " + "".join(f"IRQ {irq} LOAD 0 DIFF 0 CLASS 0 " for irq in self.banned) + "BANNED 0"

    def irqbalance_ban(self, irqs: list[int]) -> None:
        self.cpus[100] = FAR
        self.banned = irqs


def test_what_irqbalance_moved_before_it_was_told_is_placed_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = Host()
    monkeypatch.setattr(guard, "survey", lambda *_: guard.Path())
    monkeypatch.setattr(flows, "read", lambda *_: [])
    monkeypatch.setattr(Work, "read", lambda _: host.facts())
    (key,) = [fact.key for fact in make_nic() if isinstance(fact, Nic)]
    setting = Setting(knob="irq_affinity", nic=key, values={"placement": "local"})
    work = Work(cast("Writer", host), Desired(host_id="h", generation=1, hash="", settings=[setting]), [], None)
    wanted: dict[str, Any] = {change.target: change.op for change in work.pending}
    assert not any("irq 100" in target for target in wanted), "it is in its place when the plan is made"

    with journal.create(tmp_path, journal.opened(tmp_path, 60.0)) as log:
        work.apply(log, str)
        assert host.banned == [100, 101]
        assert FAR not in host.cpus.values()
        assert [len(stage.changes) for stage in log.story.stages] == [2, 1], "what was there before is on record"
    assert work.pending
